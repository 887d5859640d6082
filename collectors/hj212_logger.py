"""A data logger of the catalogue: what it may send, how it is answered, and the connection it was last heard on."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from collectors.health import DeviceHealth
from collectors.hj212_data import Station, station_of
from collectors.hj212_frame import Message, build_frame
from collectors.hj212_sm4 import Cipher, cipher_of, encrypted
from collectors.park_devices import FieldDevice, of_protocol, secret
from park.errors import FrameError, ParkError

VERSION_BITS = {"2005": 0, "2017": 4, "2025": 8}
ENCRYPTED = ("1014", "3020")
"""Commands of the platform whose data area is encrypted for a logger that encrypts."""


@dataclass
class Logger:
    """A data logger of the catalogue: its station, password, accepted CRC, cipher and health."""

    station: Station
    password: str | None
    crc: str | None
    health: DeviceHealth
    ciphers: tuple[Cipher, ...] = ()  # of the present key, and of the former one while it is being changed
    cipher: Cipher | None = None  # the one that last opened a frame
    crc_seen: Counter[str] = field(default_factory=Counter)
    times_asked: int = 0
    link: asyncio.StreamWriter | None = None
    last: Message | None = None
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)  # one command at a time

    def __post_init__(self) -> None:
        self.cipher = self.cipher or next(iter(self.ciphers), None)

    @property
    def code(self) -> str:
        """Code of the device."""
        return self.station.device.code

    def answer_crc(self) -> str:
        """The kind of CRC this logger understands: as configured, else the one it sends."""
        if self.crc not in (None, "none"):
            return str(self.crc)
        return self.crc_seen.most_common(1)[0][0] if self.crc_seen else "hj212"

    def heard_on(self, link: asyncio.StreamWriter | None, message: Message) -> None:
        """A good message came on a connection: commands go there from now on."""
        self.link, self.last = link, message

    def keep(self, old: Logger) -> None:
        """Take over what a former row of the same device has learnt."""
        self.health.last_answer, self.health.errors = old.health.last_answer, old.health.errors
        self.health.readings, self.health.notes = old.health.readings, old.health.notes
        self.health.clock = old.health.clock
        self.station.seen, self.station.watch, self.crc_seen = old.station.seen, old.station.watch, old.crc_seen
        self.link, self.last, self.turn = old.link, old.last, old.turn

    def command_frame(self, qn: str, cn: str, cp: str) -> bytes:
        """A command of the platform in the edition, system and password that the logger itself uses."""
        device, last = self.station.device.device, self.last
        flag = last.flag & ~3 if last else VERSION_BITS[device.edition or "2017"]
        password = self.password if self.password is not None else last.pw if last else ""
        return self.frame(qn, last.st if last else device.st or "", cn, password, device.mn or "", flag | 1, cp)

    def frame(self, qn: str, st: str, cn: str, pw: str, mn: str, flag: int, cp: str) -> bytes:
        """A whole frame to this logger."""
        data = f"QN={qn};ST={st};CN={cn};PW={pw};MN={mn};Flag={flag};CP=&&{cp}&&".encode(
            "utf-8" if flag >> 2 == 2 else "gb18030")
        on_line = encrypted(data, self.cipher) if self.cipher and cn in ENCRYPTED else None
        return build_frame(data, self.answer_crc(), on_line=on_line)


@dataclass
class Hj212Counters:
    """What the receiver has seen since its start."""

    frames: int = 0
    readings: int = 0
    answers: int = 0
    connections: int = 0
    garbage_bytes: int = 0
    resyncs: int = 0
    decrypted: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    notices: Counter[str] = field(default_factory=Counter)
    times_set: Counter[str] = field(default_factory=Counter)


def loggers_of(devices: Sequence[FieldDevice]) -> tuple[dict[str, Logger], list[str]]:
    """HJ 212 devices by MN, and what is wrong with those that cannot be received."""
    loggers: dict[str, Logger] = {}
    mistakes: list[str] = []
    for d in of_protocol(devices, "hj212"):
        mn = d.device.mn or ""
        try:
            if mn in loggers:
                raise FrameError("mn", f"the MN {mn} already belongs to {loggers[mn].station.device.code}")
            shortest = min((t.expected_s for t in d.targets.values()), default=60)
            health = DeviceHealth(d.base, d.code, silent_after_ms=1000 * (3 * shortest + 60))
            loggers[mn] = Logger(station_of(d), secret(d.device.password), d.device.crc, health, _ciphers_of(d))
        except (ParkError, KeyError, TypeError, ValueError) as exc:
            mistakes.append(f"device {d.code}: {exc}")
    return loggers, mistakes


def _ciphers_of(device: FieldDevice) -> tuple[Cipher, ...]:
    """Of the attributes `sm4_key` and `sm4_key_former`: keys are changed every 90 days, and not everywhere at one moment."""
    attributes = device.device.attributes
    keys = [secret(str(attributes[name])) for name in ("sm4_key", "sm4_key_former") if name in attributes]
    return tuple(c for key in keys if (c := cipher_of(attributes, key)) is not None)
