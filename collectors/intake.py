"""From the drivers' event loop into the spool: readings are gathered for a moment and written in one transaction.

`add` returns at once; `store` returns when its readings are on disk, which is what an HJ 212 acknowledgement waits for.
While the disk refuses, readings wait in memory up to a bound; beyond it they are dropped and counted. A spool that is full
and keeps what it has takes none: senders that wait for an answer keep theirs, all others are dropped and counted.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from collectors.readings import DeadLetter, Readings
from collectors.spool import Spool, SpoolFull
from park.errors import StorageError

log = logging.getLogger(__name__)

Item = Readings | DeadLetter

FLUSH_ROWS = 50_000
"""Readings written at a time. What has waited for a disk goes in pieces, smaller ones while it refuses: a disk with little room
takes a small transaction where it does not take a large one."""


class SpoolIntake:
    """Gathers readings of all drivers; `run` must be running for anything to become durable."""

    def __init__(self, spool: Spool, *, flush_s: float = 0.2, batch_rows: int = 500, max_pending: int = 500_000) -> None:
        self.spool = spool
        self.flush_s = flush_s
        self.batch_rows = batch_rows
        self.max_pending = max_pending
        self.taken_readings = 0
        self.dropped_readings = 0
        self._pending: list[Item] = []
        self._pending_rows = 0
        self._stores: list[tuple[Sequence[Item], asyncio.Future[None]]] = []
        self._urgent = asyncio.Event()
        self._stopping = False
        self._refused = False
        self._piece_rows = FLUSH_ROWS
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="spool")

    @property
    def pending_readings(self) -> int:
        """Readings in memory that are not on disk yet."""
        return sum(map(len, self._pending))

    @property
    def refused(self) -> bool:
        """Whether the disk refused at the last try."""
        return self._refused

    def add(self, item: Item) -> None:
        """Take an item; it is durable within the flush time, or counted as dropped when memory is full."""
        if self._pending_rows + len(item) > self.max_pending:
            self.dropped_readings += len(item)
            return
        self.taken_readings += len(item)
        self._pending.append(item)
        self._pending_rows += max(1, len(item))
        if self._pending_rows >= self.batch_rows:
            self._urgent.set()

    async def store(self, items: Sequence[Item]) -> None:
        """Wait until the items are on disk; StorageError when the spool does not take them. They are not kept then:
        whoever sent them was not answered and sends them again."""
        waiter = asyncio.get_running_loop().create_future()
        self._stores.append((items, waiter))
        self._urgent.set()
        await waiter

    async def run(self) -> None:
        """Write what has gathered, again and again, until `stop`."""
        while not self._stopping:
            try:
                await asyncio.wait_for(self._urgent.wait(), self.flush_s)
            except TimeoutError:
                pass
            self._urgent.clear()
            if not await self.flush():
                await asyncio.sleep(1.0)

    async def flush(self) -> bool:
        """Write a piece of what is pending; False when the disk refuses (added items stay, those of `store` are told)."""
        if not self._pending and not self._stores:
            return True
        items, rows = self._take()
        stores = self._take_stores()
        waited_for = [item for some, _ in stores for item in some]
        refusal: StorageError | None = None
        try:
            await self._write(_merge([*items, *waited_for], self.batch_rows))
            self.taken_readings += sum(map(len, waited_for))
        except SpoolFull as exc:  # what was asked to be stored is refused, the rest is given up: memory would fill next
            refusal = exc
            self.spool.count_dropped(len(items), sum(map(len, items)))
        except StorageError as exc:
            refusal = exc
            self._pending = items + self._pending
            self._pending_rows += rows
            self._piece_rows = max(self.batch_rows, self._piece_rows // 2)
        else:
            self._piece_rows = min(FLUSH_ROWS, 2 * self._piece_rows)
        self._tell(refusal)
        for _, waiter in stores:
            if not waiter.done():
                waiter.set_result(None) if refusal is None else waiter.set_exception(StorageError(str(refusal)))
        if refusal is None and (self._pending or self._stores):
            self._urgent.set()
        return refusal is None

    def _take(self) -> tuple[list[Item], int]:
        """The oldest pending items up to the present piece, and how many rows they count for."""
        n = rows = 0
        while n < len(self._pending) and rows < self._piece_rows:
            rows += max(1, len(self._pending[n]))
            n += 1
        items, self._pending = self._pending[:n], self._pending[n:]
        self._pending_rows -= rows
        return items, rows

    def _take_stores(self) -> list[tuple[Sequence[Item], asyncio.Future[None]]]:
        """Those who wait, as many as fit into the present piece and one at least."""
        n = rows = 0
        while n < len(self._stores) and (n == 0 or rows < self._piece_rows):
            rows += sum(max(1, len(item)) for item in self._stores[n][0])
            n += 1
        stores, self._stores = self._stores[:n], self._stores[n:]
        return stores

    async def _write(self, batches: list[Item]) -> None:
        if not batches:
            return
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._thread, self.spool.append, batches)
        except StorageError:
            raise
        except Exception:  # one batch that cannot be written must not hold up all others for ever
            log.exception("the spool meets a surprise; its batches are written one by one")
            for batch in batches:
                try:
                    await loop.run_in_executor(self._thread, self.spool.append, [batch])
                except StorageError:
                    raise
                except Exception:
                    self.dropped_readings += len(batch)
                    log.exception("a batch of %d readings cannot be written and is dropped", len(batch))

    def _tell(self, refusal: StorageError | None) -> None:
        """One line when the disk begins to refuse and when it takes again, not one a second."""
        text = "" if refusal is None else str(refusal)
        if refusal is not None and not self._refused:
            log.error("%s; %d readings wait in memory", text, self._pending_rows)
        elif refusal is None and self._refused:
            log.warning("the spool takes readings again; %d were dropped meanwhile or before", self.dropped_readings)
        self._refused = refusal is not None

    async def stop(self) -> None:
        """Write the rest and end `run`."""
        self._stopping = True
        self._urgent.set()
        while await self.flush() and (self._pending or self._stores):
            pass
        for _, waiter in self._stores:
            if not waiter.done():
                waiter.set_exception(StorageError("the collector ends"))
        self._thread.shutdown(wait=True)


def _merge(items: Sequence[Item], rows: int) -> list[Item]:
    """The items as batches of at most `rows` readings, readings of a base together and in order."""
    by_base: dict[str, Readings] = {}
    out: list[Item] = []
    for item in items:
        if isinstance(item, DeadLetter):
            out.append(item)
        elif len(item):
            by_base.setdefault(item.base, Readings(item.base)).extend(item)
    for readings in by_base.values():
        out += readings.chunks(rows)
    return out
