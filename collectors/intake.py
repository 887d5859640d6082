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
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="spool")

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
        """Write what is pending; False when the disk refuses (added items stay pending, those of `store` are told)."""
        items, stores, rows = self._pending, self._stores, self._pending_rows
        if not items and not stores:
            return True
        self._pending, self._stores, self._pending_rows = [], [], 0
        waited_for = [item for some, _ in stores for item in some]
        batches = _merge([*items, *waited_for], self.batch_rows)
        refusal: StorageError | None = None
        try:
            if batches:
                await asyncio.get_running_loop().run_in_executor(self._thread, self.spool.append, batches)
            self.taken_readings += sum(map(len, waited_for))
        except SpoolFull as exc:  # what was asked to be stored is refused, the rest is given up: memory would fill next
            log.error("%s", exc)
            refusal = exc
            self.spool.count_dropped(len(items), sum(map(len, items)))
        except StorageError as exc:
            log.error("%s", exc)
            refusal = exc
            self._pending = items + self._pending
            self._pending_rows += rows
        for _, waiter in stores:
            if not waiter.done():
                waiter.set_result(None) if refusal is None else waiter.set_exception(StorageError(str(refusal)))
        return refusal is None

    async def stop(self) -> None:
        """Write the rest and end `run`."""
        self._stopping = True
        self._urgent.set()
        await self.flush()
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
