"""HJ 212 receiver: one TCP port for many data loggers.

What `hj212_reception` makes of a frame goes to the spool, and 9014 is sent only when it is on disk: a logger that gets no
9014 sends again. `hj212_door` says who may stay connected.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from collectors.hj212_command import Commander, Outcome
from collectors.hj212_data import remember
from collectors.hj212_door import Door, Limits, Visitor, fitted
from collectors.hj212_frame import FrameReader, Message, RawFrame
from collectors.hj212_logger import Hj212Counters, Logger, loggers_of
from collectors.hj212_reception import Reception, is_data
from collectors.hj212_strangers import Strangers
from collectors.hj212_uplink import Uplinks
from collectors.modbus_link import now_ms
from collectors.readings import DeadLetter, Intake, Readings
from park.errors import NotFound, StorageError

__all__ = ["Hj212Server", "loggers_of"]

log = logging.getLogger(__name__)

CHUNK = 1 << 14
"""Bytes taken from a connection at a time: a frame is at most 10 kB, and the buffers of all connections must fit."""


@dataclass
class _Heard:
    """What a run of frames gives: what must become durable, the data messages among it, answers that wait for nothing."""

    items: list[Readings | DeadLetter] = field(default_factory=list)
    taken: list[tuple[Logger, Message]] = field(default_factory=list)
    answers: list[bytes] = field(default_factory=list)
    refused_bytes: int = 0


class Hj212Server:
    """Receives from all loggers; `adopt` replaces the set of loggers without closing a connection."""

    def __init__(self, loggers: Mapping[str, Logger], intake: Intake, base: str, *, clock_ms: Callable[[], int] = now_ms,
                 limits: Limits | None = None, commander: Commander | None = None, uplinks: Uplinks | None = None) -> None:
        self.commander = commander or Commander(clock_ms)
        self.reception = Reception(loggers, base, clock_ms, self.commander)
        self.door = Door(fitted(limits or Limits()))
        self.door.loggers = len(loggers)
        self.uplinks = uplinks
        self.base = base
        self._intake = intake
        self._clock_ms = clock_ms
        self._connections: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port (useful when 0 was asked)."""
        self._server = await asyncio.start_server(self._serve, host, port, limit=CHUNK, backlog=1024)
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Stop listening and hang up."""
        await self.reception.close()
        if self._server is not None:
            self._server.close()
            self._server = None
            for task in self._connections:
                task.cancel()
            await asyncio.gather(*self._connections, return_exceptions=True)

    def adopt(self, loggers: Mapping[str, Logger]) -> None:
        """Take a new catalogue; loggers that stay the same keep their counters."""
        for mn, logger in loggers.items():
            old = self.loggers.get(mn)
            if old is not None:
                logger.keep(old)
        self.reception.loggers = dict(loggers)
        self.door.loggers = len(loggers)

    @property
    def loggers(self) -> Mapping[str, Logger]:
        """Loggers of the catalogue by MN."""
        return self.reception.loggers

    @property
    def counters(self) -> Hj212Counters:
        """What has been received since the start."""
        return self.reception.counters

    @property
    def strangers(self) -> Strangers:
        """Loggers that the catalogue lacks."""
        return self.reception.strangers

    @property
    def unknown(self) -> dict[str, int]:
        """Messages of each MN that the catalogue lacks."""
        return self.strangers.counts()

    async def command(self, mn: str, cn: str, fields: Mapping[str, str]) -> Outcome:
        """Give a logger a command and wait for its result; NotFound for an MN that the catalogue lacks."""
        if mn not in self.loggers:
            raise NotFound(f"there is no data logger with MN {mn!r}; known: {', '.join(list(self.loggers)[:20]) or 'none'}")
        return await self.commander.send(self.loggers[mn], cn, fields)

    # ---- a connection

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        peer = writer.get_extra_info("peername")
        visitor = self.door.admit(str(peer[0]) if peer else "", writer.transport.abort, loop.time()) if task else None
        if task is None or visitor is None:
            writer.transport.abort()
            return
        self._connections.add(task)
        self.counters.connections += 1
        frames = FrameReader()
        try:
            while await self._hear(visitor, frames, reader, writer):
                pass
        except (OSError, asyncio.CancelledError):
            pass  # hung up, or we end
        except Exception:  # a bug met by one logger's bytes must not end the receiver
            log.exception("hj212: a connection met a surprise and is closed")
        finally:
            self.counters.rejected["truncated"] += bool(frames.waiting)
            self.counters.garbage_bytes += frames.garbage_bytes
            self.counters.resyncs += frames.resyncs
            self._connections.discard(task)
            self.door.leave(visitor)
            writer.transport.abort()

    async def _hear(self, visitor: Visitor, frames: FrameReader, reader: asyncio.StreamReader,
                    writer: asyncio.StreamWriter) -> bool:
        """Take what comes next; False at the end of the connection."""
        now = asyncio.get_running_loop().time
        until, why = visitor.deadline(self.door.limits)
        try:
            async with asyncio.timeout_at(until):
                data = await reader.read(CHUNK)
        except TimeoutError:
            self.door.close(visitor, why, now())
            return False
        if not data:
            return False
        began, garbage = time.perf_counter(), frames.garbage_bytes
        whole = frames.feed(data)
        if whole or not frames.waiting:
            visitor.unfinished_since = None
        if frames.waiting and visitor.unfinished_since is None:
            visitor.unfinished_since = now()
        heard = self._judged(whole, visitor, writer)
        cost_s, noise = time.perf_counter() - began, frames.garbage_bytes - garbage + heard.refused_bytes
        if whole and not await self._answer(heard, visitor, writer):
            return False
        if noise > len(data) // 2:
            wait_s = self.door.noise(visitor, noise, cost_s, now())
            if wait_s is None:
                return False
            await asyncio.sleep(wait_s)
        return True

    async def _answer(self, heard: _Heard, visitor: Visitor, writer: asyncio.StreamWriter) -> bool:
        """Make what was heard durable and send what is answered; False when nobody reads the answers."""
        answers = heard.answers + await self._stored(heard.items, heard.taken)
        if writer.is_closing():  # hung up meanwhile; what it sent is stored, and it will ask again for the answers
            return False
        if answers:
            writer.write(b"".join(answers))
            try:
                async with asyncio.timeout(self.door.limits.drain_s):
                    await writer.drain()
            except TimeoutError:
                self.door.close(visitor, "unread", asyncio.get_running_loop().time())
                return False
        return True

    def _judged(self, frames: Sequence[RawFrame], visitor: Visitor, link: asyncio.StreamWriter) -> _Heard:
        heard = _Heard()
        now = asyncio.get_running_loop().time()
        for frame in frames:
            self.counters.frames += 1
            judged = self.reception.judge(frame, visitor.address)
            if isinstance(judged, tuple):
                self.door.prove(visitor, judged[1].mn, now)
                self._heard_of(*judged, link, heard)
                continue
            heard.items += [] if judged is None else [judged]
            if frame.crc is None:
                heard.refused_bytes += len(frame.data)
            else:
                self.door.prove(visitor, None, now)
        return heard

    def _heard_of(self, logger: Logger, message: Message, link: asyncio.StreamWriter, heard: _Heard) -> None:
        """What a message of a known logger gives: readings, an answer to a command of ours, or something to answer."""
        logger.heard_on(link, message)
        is_answer = self.commander.heard(message)
        if is_answer and (not is_data(message) or message.field("DataTime") is None):
            logger.health.answered(self._clock_ms())
        elif is_data(message):
            got = self.reception.read(logger, message)
            heard.items += [] if got is None else [got]
            heard.taken += [(logger, message)] if isinstance(got, Readings) else []
        else:
            sent, letter = self.reception.respond(logger, message)
            heard.answers += sent
            heard.items += [] if letter is None else [letter]

    async def _stored(self, items: Sequence[Readings | DeadLetter], taken: Sequence[tuple[Logger, Message]]) -> list[bytes]:
        """9014 for messages that are on disk, and in the spools of their uplinks; none when a disk refuses."""
        try:
            if items:
                await self._intake.store(items)
            if self.uplinks is not None and self.uplinks.routes:
                await self.uplinks.store(message for _, message in taken)
        except StorageError as exc:
            log.error("hj212: %s; the loggers get no answer and send again", exc)
            self.counters.rejected["not_stored"] += len(taken)
            return []
        now = self._clock_ms()
        for logger, message in taken:
            remember(message, logger.station, now)
        return [self.reception.answer(logger, message, "9014") for logger, message in taken if message.wants_answer]
