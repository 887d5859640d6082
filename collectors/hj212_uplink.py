"""Forwarding to a superior platform (a city's or a province's) in the form of HJ 212-2017 or 2025, with a spool of its own.

What a data logger sends is written anew under the MN and PW that the superior platform gave, with today's factor codes,
and kept on disk before the logger gets its 9014. A frame leaves the spool when the superior platform answers 9014 with
its QN. Where to forward stands with the logger's device:
`attributes: {uplink: {to: "10.0.0.9:9003", mn: ..., password: "${NAME}", edition: "2025", commands: ["2011", "2051"]}}`.

A frame that stays without 9014 while others get theirs would hold its place for ever: after `ROUNDS` times all repeats it
is set aside as a dead letter `uplink_rejected`, and counted.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from collectors.hj212_clock import local_now
from collectors.hj212_data import PERIODS, today_codes
from collectors.hj212_frame import PASSWORD, FrameReader, Message, build_frame, parse_message, qn_of
from collectors.hj212_logger import VERSION_BITS, Logger
from collectors.hj212_sm4 import Cipher, cipher_of, encrypted
from collectors.modbus_link import now_ms
from collectors.park_devices import secret
from collectors.readings import DeadLetter, Intake
from collectors.spool import Spool
from park.errors import FrameError, InputError, ParkError, StorageError

log = logging.getLogger(__name__)

WINDOW = 16
OVER_TIME_S = 10.0
REPEATS = 3
BACK_OFF_S = (1.0, 60.0)
REMEMBERED = 4096
ROUNDS = 3


@dataclass(frozen=True)
class Route:
    """Where one logger's messages go, and as whom."""

    to: str
    mn: str
    password: str
    edition: str = "2017"
    crc: str = "hj212"
    commands: tuple[str, ...] = tuple(PERIODS)
    cipher: Cipher | None = None
    base: str = ""
    heartbeat_s: float | None = None
    zone: ZoneInfo | None = None  # of the times in QN


@dataclass(frozen=True)
class Forward:
    """A message in its new form, as the spool takes it."""

    to: str
    data: bytes

    def __len__(self) -> int:
        return 1

    def topic(self, source: str) -> str:
        """The platform it goes to."""
        return f"{source} {self.to}"

    def encode(self, seq: int) -> bytes:
        """The frame; a number has no place in it."""
        return self.data


def route_of(logger: Logger) -> Route | None:
    """The route in a logger's attributes; InputError when it is not complete."""
    device = logger.station.device.device
    raw = device.attributes.get("uplink")
    if raw is None:
        return None
    if not isinstance(raw, Mapping) or not isinstance(raw.get("to"), str) or ":" not in raw["to"]:
        raise InputError(f"device {device.code}: expected uplink: {{to: HOST:PORT, ...}}, got {raw!r}")
    edition = str(raw.get("edition", "2017"))
    if edition not in ("2017", "2025"):
        raise InputError(f"device {device.code}: expected uplink edition 2017 or 2025, got {edition!r}")
    key = raw.get("sm4_key")
    return Route(raw["to"], str(raw.get("mn") or device.mn), secret(str(raw.get("password", logger.password or ""))) or "",
                 edition, str(raw.get("crc", "hj212")), tuple(map(str, raw.get("commands", PERIODS))),
                 cipher_of(raw, secret(str(key))) if key else None, logger.station.device.base, _seconds(raw, device.code),
                 logger.station.zone)


def _seconds(raw: Mapping[str, Any], device: str) -> float | None:
    """Of `heartbeat_s`: how long a connection may be silent before 9015 is sent."""
    given = raw.get("heartbeat_s")
    if given is not None and not (isinstance(given, int | float) and given >= 1):
        raise InputError(f"device {device}: expected uplink heartbeat_s as seconds, got {given!r}")
    return given


def rewritten(message: Message, route: Route) -> bytes:
    """The message as a frame for the superior platform: its MN, PW and edition, today's factor codes, the same QN."""
    groups = ";".join(",".join(f"{_today(k)}={v}" for k, v in g.items()) for g in message.groups)
    split = message.pnum is not None and message.pno is not None
    flag = VERSION_BITS[route.edition] | (2 if split else 0) | 1
    parts = f"PNUM={message.pnum};PNO={message.pno};" if split else ""
    head = f"QN={message.qn};ST={message.st};CN={message.cn};PW={route.password};MN={route.mn};Flag={flag};{parts}"
    data = f"{head}CP=&&{groups}&&".encode("utf-8" if route.edition == "2025" else "gb18030")
    return build_frame(data, route.crc, on_line=encrypted(data, route.cipher) if route.cipher else None)


def heartbeat(route: Route, qn: str) -> bytes:
    """9015 of a route; no answer is waited for."""
    head = f"QN={qn};ST=91;CN=9015;PW={route.password};MN={route.mn};Flag={VERSION_BITS[route.edition]}"
    return build_frame(f"{head};CP=&&&&", route.crc)


def _today(name: str) -> str:
    factor, dash, statistic = name.rpartition("-")
    return f"{today_codes().get(factor, factor)}-{statistic}" if dash else name


@dataclass
class UplinkCounters:
    """What an uplink has done since its start."""

    sent: int = 0
    answered: int = 0
    repeated: int = 0
    rejected: int = 0
    heartbeats: int = 0
    connected: bool = False
    last_answer: float | None = None  # epoch seconds of the newest 9014
    errors: Counter[str] = field(default_factory=Counter)


@dataclass
class Flight:
    """A frame that waits for its 9014."""

    seq: int
    frame: bytes
    at: float
    first: float
    tries: int = 0


class Uplink:
    """The connection to one superior platform and the spool before it; `run` until cancelled."""

    def __init__(self, to: str, spool: Spool, *, over_time_s: float = OVER_TIME_S, repeats: int = REPEATS,
                 back_off_s: tuple[float, float] = BACK_OFF_S, set_aside: Callable[[bytes], None] = lambda _: None) -> None:
        self.to = to
        self.spool = spool
        self.counters = UplinkCounters()
        self.beats: list[Route] = []
        self._set_aside = set_aside
        self._rounds: Counter[int] = Counter()  # seq -> how often all repeats were in vain while others were answered
        self._heard_at = 0.0
        self._over_time_s, self._repeats, self._back_off_s = over_time_s, repeats, back_off_s
        self._flight: OrderedDict[tuple[str, str, str], Flight] = OrderedDict()
        self._wake = asyncio.Event()

    async def store(self, frames: Sequence[Forward]) -> None:
        """Return when the frames are on disk; StorageError when they cannot be."""
        await asyncio.to_thread(self.spool.append, frames)
        self._wake.set()

    async def run(self) -> None:
        """Connect, forward, and begin again after every loss."""
        wait_s = self._back_off_s[0]
        host, _, port = self.to.rpartition(":")
        while True:
            try:
                async with asyncio.timeout(10):
                    reader, writer = await asyncio.open_connection(host, int(port))
            except (OSError, TimeoutError, ValueError) as exc:
                self._note("connect", str(exc) or "no answer")
                await asyncio.sleep(wait_s)
                wait_s = min(2 * wait_s, self._back_off_s[1])
                continue
            before, self.counters.connected = self.counters.answered, True
            hear = asyncio.create_task(self._hear(reader, writer))
            try:
                await self._send(writer, hear)
            except (OSError, StorageError) as exc:
                self._note("lost", str(exc))
            except RuntimeError as exc:  # what uvloop says of a write on a connection that was closed this moment
                self._note("lost", str(exc))
            finally:
                self.counters.connected = False
                writer.transport.abort()  # before anything that waits: a cancellation may come there
                hear.cancel()
                self._flight.clear()
                await asyncio.gather(hear, return_exceptions=True)
            wait_s = self._back_off_s[0] if self.counters.answered > before else min(2 * wait_s, self._back_off_s[1])
            await asyncio.sleep(wait_s)

    def _note(self, kind: str, text: str) -> None:
        self.counters.errors[kind] += 1
        log.warning("uplink %s: %s: %s; %d frames wait", self.to, kind, text, self.spool.size().batches)

    async def _send(self, writer: asyncio.StreamWriter, hear: asyncio.Task[None]) -> None:
        """Keep a window of frames under way until the connection ends; frames of one QN go one after the other."""
        loop, cursor = asyncio.get_running_loop(), 0
        wrote_at = loop.time()
        while not hear.done():
            now = loop.time()
            if len(self._flight) < WINDOW and self.spool.newest > cursor:
                for row in await asyncio.to_thread(self.spool.after, cursor, WINDOW - len(self._flight)):
                    key = _key_of(row.payload)
                    if key in self._flight:
                        break
                    self._flight[key] = Flight(row.seq, row.payload, now, now)
                    writer.write(row.payload)
                    self.counters.sent += 1
                    cursor, wrote_at = row.seq, now
            if await self._repeat(writer, now):
                wrote_at = now
            wrote_at = self._beat(writer, wrote_at, now)
            await writer.drain()
            self._wake.clear()
            try:
                async with asyncio.timeout(min(1.0, self._over_time_s / 2)):  # wait_for of 3.11 can swallow a cancellation
                    await self._wake.wait()
            except TimeoutError:
                pass
        raise ConnectionError("the platform hung up")

    async def _repeat(self, writer: asyncio.StreamWriter, now: float) -> bool:
        """Send again what waits too long. When all repeats are in vain the connection is begun anew, or, where others were
        answered meanwhile, the frame begins a new round, until it is set aside."""
        late = [(key, f) for key, f in self._flight.items() if now - f.at > self._over_time_s]
        for key, flight in late:
            if flight.tries >= self._repeats:
                if self._heard_at <= flight.first:
                    raise ConnectionError(f"no 9014 after {1 + self._repeats} sendings")
                self._rounds[flight.seq] += 1
                if self._rounds[flight.seq] >= ROUNDS:
                    await self._reject(key)
                    continue
                flight.tries, flight.first = -1, now
            flight.tries, flight.at = flight.tries + 1, now
            writer.write(flight.frame)
            self.counters.repeated += 1
        return bool(late)

    async def _reject(self, key: tuple[str, str, str]) -> None:
        flight = self._flight.pop(key)
        del self._rounds[flight.seq]
        self.counters.rejected += 1
        log.error("uplink %s: the frame QN %s of MN %s got no 9014 in %d rounds while others did: set aside as a dead letter",
                  self.to, key[1], key[0], ROUNDS)
        self._set_aside(flight.frame)
        await asyncio.to_thread(self.spool.delete, [flight.seq])

    def _beat(self, writer: asyncio.StreamWriter, wrote_at: float, now: float) -> float:
        """9015 of every route whose connection was silent for long enough; when something was last written."""
        for route in self.beats:
            if route.heartbeat_s is not None and route.zone is not None and now - wrote_at >= route.heartbeat_s:
                writer.write(heartbeat(route, qn_of(local_now(now_ms(), route.zone))))
                self.counters.heartbeats += 1
                wrote_at = now
        return wrote_at

    async def _hear(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        frames = FrameReader()
        while data := await reader.read(1 << 16):
            done: list[int] = []
            for frame in frames.feed(data):
                try:
                    message = parse_message(frame.data)
                    if message.cn == "9014":
                        done += self._answered(message)
                    elif message.cn not in ("9011", "9012", "9013"):
                        writer.write(_refusal(message))
                        self.counters.errors["command_refused"] += 1
                except FrameError:
                    self.counters.errors["grammar"] += 1
            if done:
                await asyncio.to_thread(self.spool.delete, done)
                self._wake.set()
        self._wake.set()

    def _answered(self, message: Message) -> list[int]:
        """The frame that a 9014 is for: some platforms leave out MN, none leaves out QN; parts of one message go in order."""
        for key in list(self._flight):
            if key[1] == message.qn and message.mn in (key[0], ""):
                self.counters.answered += 1
                self.counters.last_answer = time.time()
                self._heard_at = asyncio.get_running_loop().time()
                seq = self._flight.pop(key).seq
                self._rounds.pop(seq, None)
                return [seq]
        if not self.beats:  # heartbeats are answered under their own QN
            self.counters.errors["unasked_9014"] += 1
        return []


def _key_of(frame: bytes) -> tuple[str, str, str]:
    """(MN, QN, PNO) of a frame of ours."""
    head = dict(p.split("=", 1) for p in frame[6:].partition(b"CP=&&")[0].decode("ascii", "replace").split(";") if "=" in p)
    return head.get("MN", ""), head.get("QN", ""), head.get("PNO", "")


def _refusal(message: Message) -> bytes:
    """9011 with "refused": commands of the superior platform are not passed on to the field."""
    return build_frame(f"QN={message.qn};ST=91;CN=9011;PW={message.pw};MN={message.mn};Flag={message.flag & ~3};CP=&&QnRtn=2&&")


class Uplinks:
    """All uplinks of a collector: `apply` follows the catalogue, `store` is called before a logger gets its 9014."""

    def __init__(self, folder: Path, source: str, intake: Intake | None = None, **options: Any) -> None:
        self.by_target: dict[str, tuple[Uplink, asyncio.Task[None]]] = {}
        self.routes: dict[str, Route] = {}
        self._folder, self._source, self._intake, self._options = folder, source, intake, options
        self._seen: OrderedDict[tuple[str, str, str, int | None], None] = OrderedDict()

    async def apply(self, loggers: Mapping[str, Logger]) -> list[str]:
        """Bring routes and connections to the catalogue; what is wrong with it. A target that is gone keeps its file."""
        mistakes: list[str] = []
        routes: dict[str, Route] = {}
        for mn, logger in loggers.items():
            try:
                if (route := route_of(logger)) is not None:
                    routes[mn] = route
            except ParkError as exc:
                mistakes.append(str(exc))
        wanted = {r.to for r in routes.values()}
        for to in wanted - set(self.by_target):
            name = f"uplink-{self._source}-{''.join(c if c.isalnum() or c in '.-' else '_' for c in to)}.sqlite"
            uplink = Uplink(to, Spool(self._folder / name, self._source, max_bytes=256 << 20), set_aside=self._set_aside,
                            **self._options)
            self.by_target[to] = uplink, asyncio.create_task(uplink.run(), name=f"uplink {to}")
        for to, (uplink, _) in self.by_target.items():
            uplink.beats = [r for r in routes.values() if r.to == to and r.heartbeat_s is not None]
        self.routes = routes  # between the new connections and the end of the old ones: `store` may run while this waits
        await self._end(set(self.by_target) - wanted)
        return mistakes

    async def store(self, messages: Iterable[Message]) -> None:
        """Keep what must be forwarded of these data messages; a repetition of one that was kept is left out."""
        frames: dict[str, list[Forward]] = {}
        keys = []
        for message in messages:
            route = self.routes.get(message.mn)
            key = (message.mn, message.qn, message.cn, message.pno)
            if route is None or message.cn not in route.commands or key in self._seen:
                continue
            keys.append(key)
            frames.setdefault(route.to, []).append(Forward(route.to, rewritten(message, route)))
        for to, some in frames.items():
            await self.by_target[to][0].store(some)
        self._seen.update(dict.fromkeys(keys))
        while len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)

    def _set_aside(self, frame: bytes) -> None:
        """A frame that its platform does not take, as a dead letter of the base it came from, without its password."""
        mn = _key_of(frame)[0]
        base = next((r.base for r in self.routes.values() if r.mn == mn), "")
        if self._intake is not None and base:
            self._intake.add(DeadLetter(base, "uplink_rejected", f"MN {mn}: no 9014", PASSWORD.sub(b"PW=***", frame)))

    async def close(self) -> None:
        """Hang up; what waits stays on disk."""
        await self._end(set(self.by_target))

    async def _end(self, targets: Iterable[str]) -> None:
        for to in targets:
            uplink, task = self.by_target.pop(to)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            uplink.spool.close()
