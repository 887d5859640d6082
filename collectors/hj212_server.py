"""HJ 212 receiver: one TCP port for many data loggers.

A frame passes CRC, grammar, MN and PW; its readings go to the spool, and 9014 is sent only when they are on disk: a
logger that gets no 9014 sends again. What does not pass becomes a dead letter with its reason, without the password.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta

from collectors.hj212_command import Commander, Outcome
from collectors.hj212_data import PERIODS, clock_offset_ms, local_now, remember, to_readings
from collectors.hj212_frame import FrameReader, Message, RawFrame, crc_kinds, parse_message, qn_of
from collectors.hj212_logger import Hj212Counters, Logger, loggers_of
from collectors.hj212_sm4 import decrypt_frame
from collectors.hj212_strangers import Strangers
from collectors.hj212_uplink import Uplinks
from collectors.modbus_link import now_ms
from collectors.readings import DeadLetter, Intake, Readings
from park.errors import FrameError, NotFound, StorageError

__all__ = ["Hj212Server", "loggers_of"]

log = logging.getLogger(__name__)

IDLE_S = 3600.0
FIRST_FRAME_S = 120.0
MAX_CONNECTIONS = 10_000
UNKNOWN_LETTERS = 20
"""Dead letters kept for one unknown MN; more are counted only, or a stranger could fill the spool."""

_PASSWORD = re.compile(rb"PW=[^;]*")
_MN = re.compile(rb"(?:^|;)MN=([^;]*)")


class Hj212Server:
    """Receives from all loggers; `adopt` replaces the set of loggers without closing a connection."""

    def __init__(self, loggers: dict[str, Logger], intake: Intake, base: str, *, clock_ms: Callable[[], int] = now_ms,
                 idle_s: float = IDLE_S, first_frame_s: float = FIRST_FRAME_S, max_connections: int = MAX_CONNECTIONS,
                 uplinks: Uplinks | None = None) -> None:
        self.loggers = loggers
        self.base = base
        self.counters = Hj212Counters()
        self.strangers = Strangers()
        self.commander = Commander(clock_ms)
        self.uplinks = uplinks
        self._intake = intake
        self._clock_ms = clock_ms
        self._idle_s = idle_s
        self._first_frame_s = first_frame_s
        self._max_connections = max_connections
        self._connections: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port (useful when 0 was asked)."""
        self._server = await asyncio.start_server(self._serve, host, port, limit=1 << 16, backlog=1024)
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Stop listening and hang up."""
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
        self.loggers = dict(loggers)

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
        task = asyncio.current_task()
        if len(self._connections) >= self._max_connections or task is None:
            self.counters.refused_connections += 1
            writer.transport.abort()
            return
        self._connections.add(task)
        self.counters.connections += 1
        frames = FrameReader()
        patience = self._first_frame_s
        try:
            while True:
                async with asyncio.timeout(patience):
                    data = await reader.read(1 << 16)
                if not data:
                    break
                whole = frames.feed(data)
                if whole:
                    patience = self._idle_s
                    answers = await self._take(whole, writer)
                    if answers:
                        writer.write(b"".join(answers))
                        async with asyncio.timeout(30):
                            await writer.drain()
        except (TimeoutError, OSError, asyncio.CancelledError):
            pass  # silent too long, hung up, or we end
        except Exception:  # a bug met by one logger's bytes must not end the receiver
            log.exception("hj212: a connection met a surprise and is closed")
        finally:
            if frames.waiting:
                self._reject("truncated", b"")
            self.counters.garbage_bytes += frames.garbage_bytes
            self.counters.resyncs += frames.resyncs
            self._connections.discard(task)
            writer.transport.abort()

    async def _take(self, frames: Sequence[RawFrame], link: asyncio.StreamWriter) -> list[bytes]:
        """Make everything in the frames durable, then give the answers to send."""
        items: list[Readings | DeadLetter] = []
        taken: list[tuple[Logger, Message]] = []
        answers: list[bytes] = []
        for frame in frames:
            self.counters.frames += 1
            judged = self._judge(frame, link)
            if isinstance(judged, DeadLetter):
                items.append(judged)
            elif judged is not None:
                logger, message = judged
                logger.heard_on(link, message)
                is_answer = self.commander.heard(message)
                if is_answer and (message.cn not in PERIODS or message.field("DataTime") is None):
                    logger.health.answered(self._clock_ms())
                    continue
                got = self._read(logger, message)
                if got is None:
                    answers += self._answer_command(logger, message)
                    continue
                items.append(got)
                if isinstance(got, Readings):
                    taken.append((logger, message))
        try:
            await self._intake.store(items)
            if self.uplinks is not None and self.uplinks.routes:
                await self.uplinks.store(message for _, message in taken)
        except StorageError as exc:
            log.error("hj212: %s; the loggers get no answer and send again", exc)
            self.counters.rejected["not_stored"] += len(taken)
            return answers
        for logger, message in taken:
            remember(message, logger.station)
            if message.wants_answer:
                answers.append(self._answer(logger, message, "9014"))
        return answers

    # ---- decisions about one frame

    def _judge(self, frame: RawFrame, link: asyncio.StreamWriter) -> tuple[Logger, Message] | DeadLetter | None:
        try:
            message = parse_message(self._clear(frame.data))
        except FrameError as exc:
            return self._reject("bad_crc" if not frame.crc else exc.reason, frame.data, str(exc))
        logger = self.loggers.get(message.mn)
        if logger is None:
            return self._stranger(message, frame, link)
        wanted = logger.crc or frame.crc
        if logger.crc != "none" and (wanted is None or not frame.fits(wanted)):
            logger.health.errors["bad_crc"] += 1
            got = frame.crc_text.decode(errors="replace")
            fits = ", ".join(crc_kinds(frame.data, frame.crc_text)) or "none"
            return self._reject("bad_crc", frame.data, f"{logger.station.device.code}: expected CRC {logger.crc or 'any'},"
                                f" got {got!r} (fits: {fits})")
        logger.crc_seen["none" if logger.crc == "none" and frame.crc is None else str(wanted)] += 1
        if logger.password is not None and message.pw != logger.password:
            logger.health.errors["bad_password"] += 1
            return self._reject("bad_password", frame.data, f"{logger.station.device.code}: wrong PW")
        return logger, message

    def _clear(self, data: bytes) -> bytes:
        """The data with its area decrypted where the logger has a key in the catalogue: Flag alone decides nothing."""
        found = _MN.search(data)
        logger = self.loggers.get(found[1].decode("ascii", "replace").strip()) if found else None
        if logger is None or logger.cipher is None:
            return data
        try:
            clear, was_encrypted = decrypt_frame(data, logger.cipher)
        except FrameError:
            logger.health.errors["cipher"] += 1
            raise
        self.counters.decrypted += was_encrypted
        if not was_encrypted and b"CN=20" in data:
            logger.health.errors["not_encrypted"] += 1
        return clear

    def _stranger(self, message: Message, frame: RawFrame, link: asyncio.StreamWriter) -> DeadLetter | None:
        if not frame.crc:
            return self._reject("bad_crc", frame.data, f"MN {message.mn[:40]}, not in the catalogue")
        mn = message.mn[:40]
        peer = link.get_extra_info("peername")
        count = self.strangers.hear(message, frame.crc, str(peer[0]) if peer else "", self._clock_ms()).n
        if count == 1:
            log.warning("hj212: MN %s is not in the catalogue; its data become dead letters", mn)
        return self._reject("unknown_device", frame.data, f"MN {mn} is not in the catalogue", keep=count <= UNKNOWN_LETTERS)

    def _reject(self, reason: str, data: bytes, detail: str = "", *, keep: bool = True) -> DeadLetter | None:
        self.counters.rejected[reason] += 1
        if not data or not keep:
            return None
        return DeadLetter(self.base, reason, detail[:500], _PASSWORD.sub(b"PW=***", data))

    def _read(self, logger: Logger, message: Message) -> Readings | DeadLetter | None:
        """Readings of a data message, a dead letter for one without a time, None for another command."""
        if message.cn not in PERIODS:
            return None
        now = self._clock_ms()
        try:
            readings = to_readings(message, logger.station, now)
        except FrameError as exc:
            logger.health.errors[exc.reason] += 1
            return self._reject(exc.reason, message_bytes(message), f"{logger.station.device.code}: {exc}")
        offset = clock_offset_ms(message, logger.station.zone, now)
        logger.health.answered(now)
        logger.health.readings += len(readings)
        logger.health.notes |= {"crc": dict(logger.crc_seen), "duplicates": logger.station.duplicates,
                                "clock_offset_ms": offset, "resent": logger.station.resent,
                                "unmapped": sorted(logger.station.unmapped)[:20]}
        self.counters.readings += len(readings)
        return readings

    def _answer_command(self, logger: Logger, message: Message) -> list[bytes]:
        """Heartbeat and time calibration; answers to our own commands and unknown commands are counted."""
        now = self._clock_ms()
        logger.health.answered(now)
        if message.cn == "9015":
            return [self._answer(logger, message, "9014")] if message.wants_answer else []
        if message.cn == "1013":
            local = local_now(now, logger.station.zone)
            set_time = logger.frame(qn_of(local + timedelta(milliseconds=1)), message.st, "1012", message.pw, message.mn,
                                    message.flag & ~3 | 1,
                                    f"PolId={message.field('PolId') or ''};SystemTime={local:%Y%m%d%H%M%S}")
            first = [self._answer(logger, message, "9013")] if message.wants_answer else []
            return [*first, set_time]
        if message.cn in ("9011", "9012"):
            self.counters.rejected["unasked_answer"] += 1  # too late, or our own 1012 after a request for the time
        elif message.cn not in ("9013", "9014"):
            self.counters.rejected[f"cn_{message.cn[:6]}"] += 1
        return []

    def _answer(self, logger: Logger, message: Message, cn: str) -> bytes:
        """9013 or 9014 under the QN of the message; ST 91 is the system's own."""
        self.counters.answers += 1
        return logger.frame(message.qn, "91", cn, message.pw, message.mn, message.flag & ~3, "")


def message_bytes(message: Message) -> bytes:
    """A message as text for a dead letter, without its password."""
    groups = ";".join(",".join(f"{k}={v}" for k, v in g.items()) for g in message.groups)
    return f"QN={message.qn};ST={message.st};CN={message.cn};MN={message.mn};Flag={message.flag};CP=&&{groups}&&".encode()
