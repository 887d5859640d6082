"""HJ 212 on the wire: `##`, four digits of length, data, four hex digits of CRC, line end.

Frames are cut by the byte length and never by the line end: frames stick together, and line ends may be LF, or lacking.
After anything that is not a frame the reader looks for the next `##` and a length; what it left out is counted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from park.errors import FrameError

HEAD = 6
MAX_BAD_IN_ROW = 32
"""After so many false starts without a frame the buffer is dropped: hostile bytes must not cost unbounded CRC work."""
TAIL = 4
MAX_DATA = 9999
_LENGTH = re.compile(rb"##([0-9]{4})")
PASSWORD = re.compile(rb"PW=[^;]*")
"""What is blotted out of frames that are shown or kept."""

SHORT = 128
"""Bytes up to which a plain loop is the faster CRC."""


def crc_hj212(data: bytes) -> int:
    """CRC of HJ 212: the register is shifted before the byte goes in, so it is not the Modbus CRC."""
    crc = 0xFFFF
    for byte in data:
        crc = (crc >> 8) ^ byte
        for _ in range(8):
            crc = (crc >> 1) ^ 0xA001 if crc & 1 else crc >> 1
    return crc


def _crc_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = (crc >> 1) ^ 0xA001 if crc & 1 else crc >> 1
        table.append(crc)
    return tuple(table)


_TABLE = _crc_table()


def crc_modbus(data: bytes) -> int:
    """CRC-16/MODBUS, which some field senders put into HJ 212 frames."""
    if len(data) > SHORT:
        return _crc_of_places(data, is_modbus=True)
    crc = 0xFFFF
    for byte in data:
        crc = (crc >> 8) ^ _TABLE[(crc ^ byte) & 0xFF]
    return crc


def _crc_hj212_fast(data: bytes) -> int:
    """As `crc_hj212`, by table: only the high byte of the register survives a step, which is why there are 256 values."""
    if len(data) > SHORT:
        return _crc_of_places(data, is_modbus=False)
    crc = 0xFFFF
    for byte in data:
        crc = _TABLE[(crc >> 8) ^ byte]
    return crc


@lru_cache(maxsize=2)
def _places(is_modbus: bool) -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
    """(what a byte adds to the CRC by the number of bytes behind it and its value, what the start adds by the length)."""
    table = np.array(_TABLE, np.uint16)
    adds, start = np.empty((MAX_DATA, 256), np.uint16), np.empty(MAX_DATA + 1, np.uint16)
    row, begin = table, 0xFFFF
    for n in range(MAX_DATA):
        adds[n], start[n] = row, begin
        row = (row >> 8) ^ table[row & 0xFF] if is_modbus else table[row >> 8]
        begin = (begin >> 8) ^ _TABLE[begin & 0xFF] if is_modbus else _TABLE[begin >> 8]
    start[MAX_DATA] = begin
    return adds.ravel(), start


_PLACE = np.arange(MAX_DATA - 1, -1, -1, dtype=np.int32) * 256


def _crc_of_places(data: bytes, *, is_modbus: bool) -> int:
    """A CRC is linear: what each byte adds is looked up by its place, and all of it is put together at once."""
    adds, start = _places(is_modbus)
    there = _PLACE[MAX_DATA - len(data):] + np.frombuffer(data, np.uint8)
    return int(start[len(data)] ^ np.bitwise_xor.reduce(adds[there]))


def crc_fits(data: bytes, text: bytes, kind: str) -> bool:
    """Whether the four characters are the CRC of this kind for this data."""
    return kind in crc_kinds(data, text)


def crc_kinds(data: bytes, text: bytes) -> tuple[str, ...]:
    """All kinds of CRC that the four characters are for this data; empty when none fits."""
    return tuple(_kinds(data, text))


def first_kind(data: bytes, text: bytes) -> str | None:
    """The first kind that fits: nearly always the standard's own, so that the others cost nothing."""
    return next(_kinds(data, text), None)


def _kinds(data: bytes, text: bytes) -> Iterator[str]:
    if len(text) != TAIL or not text.isalnum():
        return
    try:
        sent = int(text, 16)
    except ValueError:
        return
    if _crc_hj212_fast(data) == sent:
        yield "hj212"
    value = crc_modbus(data)
    if value == sent:
        yield "modbus"
    if (value & 0xFF) << 8 | value >> 8 == sent:
        yield "modbus_swapped"


@dataclass(frozen=True)
class RawFrame:
    """A frame cut from the stream: data between length and CRC, and the first kind of CRC that fits (None: damaged,
    without one, or encrypted: then the CRC is that of the clear text)."""

    data: bytes
    crc: str | None
    crc_text: bytes = b""

    def fits(self, kind: str) -> bool:
        """Whether the CRC is of that kind; a frame may fit two by chance."""
        return self.crc == kind or (self.crc is not None and crc_fits(self.data, self.crc_text, kind))


@dataclass
class FrameReader:
    """Cuts a byte stream into frames; memory is bounded by twice the largest frame."""

    garbage_bytes: int = 0
    resyncs: int = 0
    _buffer: bytearray = field(default_factory=bytearray)
    _bad_in_row: int = 0
    _looked: int = 0  # whole frames that end before this place were tried behind the unfinished one

    def feed(self, data: bytes) -> list[RawFrame]:
        """Frames that are complete with these bytes, in order."""
        frames: list[RawFrame] = []
        for i in range(0, len(data), MAX_DATA):
            self._buffer += data[i:i + MAX_DATA]
            while (frame := self._next()) is not None:
                frames.append(frame)
        return frames

    @property
    def waiting(self) -> int:
        """Bytes of an unfinished frame."""
        return len(self._buffer)

    def _next(self) -> RawFrame | None:
        while self._find_head():
            end = HEAD + int(self._buffer[2:HEAD]) + TAIL
            if len(self._buffer) < end:
                return self._overtaken()
            data, crc_text = bytes(self._buffer[HEAD:end - TAIL]), bytes(self._buffer[end - TAIL:end])
            kind = first_kind(data, crc_text)
            if kind is None and (inner := _LENGTH.search(bytes(self._buffer[:end]), 2)) is not None:
                self._leave_out(inner.start())  # the frame was cut short and another begins inside its length
                continue
            self._cut(end)
            self._bad_in_row = 0 if kind else self._bad_in_row + (not data.endswith(b"&&"))
            return RawFrame(data, kind, crc_text)
        return None

    def _find_head(self) -> bool:
        """Drop what stands before the next `##dddd`; False when there is none yet."""
        while True:
            start = self._buffer.find(b"##")
            if start < 0:
                keep = 1 if self._buffer.endswith(b"#") else 0
                self._drop_quiet(len(self._buffer) - keep)
                return False
            self._drop_quiet(start)
            digits = self._buffer[2:HEAD]
            if digits and not digits.isdigit():
                self._leave_out(1)
                continue
            return len(self._buffer) >= HEAD

    def _overtaken(self) -> RawFrame | None:
        """A later whole frame with a good CRC, while the first still waits for bytes that will never come."""
        there, budget = bytes(self._buffer), 2 * MAX_DATA
        looked, self._looked = self._looked, len(there)
        for match in _LENGTH.finditer(there, 2):
            start, length = match.start(), int(match[1])
            end = start + HEAD + length + TAIL
            if not looked < end <= len(there) or there[end - TAIL - 2:end - TAIL] != b"&&":
                continue
            budget -= length
            if budget < 0:
                break
            data, text = there[start + HEAD:end - TAIL], there[end - TAIL:end]
            kind = first_kind(data, text)
            if kind is not None:
                self.garbage_bytes += start
                self.resyncs += 1
                self._bad_in_row = 0
                self._cut(end)
                return RawFrame(data, kind, text)
        return None

    def _drop_quiet(self, n: int) -> None:
        """Drop bytes between frames; line ends and blanks are not garbage."""
        if n > 0:
            self.garbage_bytes += len(bytes(self._buffer[:n]).strip(b"\r\n\t \x00"))
            self._cut(n)

    def _leave_out(self, n: int) -> None:
        self.garbage_bytes += n
        self.resyncs += 1
        self._bad_in_row += 1
        if self._bad_in_row > MAX_BAD_IN_ROW:
            self.garbage_bytes += len(self._buffer) - n
            self._bad_in_row = 0
            n = len(self._buffer)
        self._cut(n)

    def _cut(self, n: int) -> None:
        del self._buffer[:n]
        self._looked = max(0, self._looked - n)


@dataclass(frozen=True)
class Message:
    """A parsed frame. `groups` are the comma-separated groups of CP in order, each a mapping of name to text."""

    qn: str
    st: str
    cn: str
    pw: str
    mn: str
    flag: int
    groups: tuple[dict[str, str], ...]
    pnum: int | None = None
    pno: int | None = None
    resent: bool = False

    @property
    def wants_answer(self) -> bool:
        """Bit 0 of Flag."""
        return bool(self.flag & 1)

    @property
    def edition(self) -> str:
        """Edition that the version bits of Flag name; stations set them loosely, so nothing but defaults hangs on it."""
        return {0: "2005", 1: "2017", 2: "2025"}.get(self.flag >> 2, "2017")

    def field(self, name: str) -> str | None:
        """A field of CP such as DataTime; the first group that has it."""
        for group in self.groups:
            if name in group:
                return group[name]
        return None


_CP = re.compile(r"(?:^|;)CP=&&(.*)&&", re.DOTALL)


def parse_message(data: bytes) -> Message:
    """The message of a frame's data; FrameError `grammar` when it is not one."""
    text = _text(data)
    match = _CP.search(text)
    if match is None:
        raise FrameError("grammar", f"expected CP=&&...&&, got {text[-60:]!r}")
    head = dict(part.split("=", 1) for part in text[:match.start()].split(";") if "=" in part)
    if "MN" not in head or "CN" not in head:
        raise FrameError("grammar", f"expected MN and CN before CP, got {sorted(head)}")
    groups = tuple(_group(g) for g in match[1].split(";") if g.strip())
    return Message(head.get("QN", ""), head.get("ST", ""), head["CN"].strip(), head.get("PW", ""), head["MN"].strip(),
                   _number(head.get("Flag")) or 0, groups, _number(head.get("PNUM")), _number(head.get("PNO")),
                   head.get("RF") == "1" or any(g.get("RF") == "1" for g in groups))


def _text(data: bytes) -> str:
    """2025 writes UTF-8, the older editions GB 18030. Chinese is three bytes a sign in UTF-8; pairs of GB 18030 can be valid
    UTF-8 only as signs of two bytes (Cyrillic, Hebrew ...), so those decide for GB 18030."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("gb18030", errors="replace")
    if len(text) == len(data):
        return text
    return data.decode("gb18030", errors="replace") if any("\x7f" < c < "\u0800" for c in text) else text


def _group(text: str) -> dict[str, str]:
    return {name.strip(): value.strip() for name, eq, value in (p.partition("=") for p in text.split(",")) if eq}


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 6 else None


def build_frame(data: str | bytes, crc: str = "hj212", *, on_line: bytes | None = None) -> bytes:
    """A whole frame around `data`, with the kind of CRC that the device expects (`none` sends the HJ 212 one). `on_line` is
    what is sent in its place when it is encrypted: the CRC stays that of the clear data."""
    body = data.encode("gb18030") if isinstance(data, str) else data
    sent = body if on_line is None else on_line
    if max(len(body), len(sent)) > MAX_DATA:
        raise FrameError("too_long", f"expected at most {MAX_DATA} bytes of data, got {max(len(body), len(sent))}")
    value = crc_modbus(body) if crc.startswith("modbus") else _crc_hj212_fast(body)
    if crc == "modbus_swapped":
        value = (value & 0xFF) << 8 | value >> 8
    return b"##%04d" % len(sent) + sent + b"%04X\r\n" % value


def qn_of(instant: datetime) -> str:
    """QN of an instant that is already in the base's local time: milliseconds, without offset."""
    return instant.strftime("%Y%m%d%H%M%S") + f"{instant.microsecond // 1000:03d}"
