"""Frames of DL/T 645 (1997 and 2007): packing, and finding them in what a line gives.

`68 A0..A5 68 C L DATA CS 16`: address and data low byte first, every data byte raised by 33H, CS the sum of all bytes
from the first 68H modulo 256. Any number of FEH may stand in front. CJ/T 188 frames are a variation: `cjt188_frame`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from park.errors import InputError

PREAMBLE = b"\xfe\xfe\xfe\xfe"
START, END = 0x68, 0x16
ANY_ADDRESS = "AAAAAAAAAAAA"
LONGEST = 300
"""Bytes that an unfinished frame may take, with its preamble; older bytes are noise."""


@dataclass(frozen=True)
class Frame:
    """One frame: address as printed on the meter (high digit first), control byte, data without the 33H."""

    address: str
    control: int
    data: bytes
    kind: int = 0  # CJ/T 188 only: the type byte T


Find = Callable[[bytes, int], tuple[Frame | None, int]]
"""(bytes, place of a 68H) -> the frame that begins there and where it ends, or (None, place)."""


def meter_address(text: object, digits: int) -> str:
    """An address of the catalogue as `digits` digits, zeros in front; AA… asks the only meter on a line. InputError."""
    address = str(text).strip().upper()
    if address and set(address) == {"A"} and len(address) == digits:
        return address
    if not address.isdecimal() or len(address) > digits:
        raise InputError("expected attributes: {address: \"...\"} with up to "
                         f"{digits} digits as printed on the meter, got {text!r}")
    return address.zfill(digits)


def pack(address: str, control: int, data: bytes) -> bytes:
    """A DL/T 645 frame with its preamble."""
    body = bytes([START]) + bytes.fromhex(address)[::-1] + bytes([START, control, len(data)])
    body += bytes((b + 0x33) & 0xFF for b in data)
    return PREAMBLE + body + bytes([sum(body) & 0xFF, END])


def find(buffer: bytes, i: int) -> tuple[Frame | None, int]:
    """The DL/T 645 frame that begins at `i`."""
    if len(buffer) < i + 12 or buffer[i + 7] != START:
        return None, i
    end = i + 12 + buffer[i + 9]
    if len(buffer) < end or buffer[end - 1] != END or sum(buffer[i:end - 2]) & 0xFF != buffer[end - 2]:
        return None, i
    data = bytes((b - 0x33) & 0xFF for b in buffer[i + 10:end - 2])
    return Frame(buffer[i + 1:i + 7][::-1].hex().upper(), buffer[i + 8], data), end


def split(buffer: bytes, find_at: Find = find) -> tuple[list[Frame], bytes]:
    """Whole frames in the buffer, and the rest that may become one; what is neither is left out.

    A frame is taken wherever its start, length, checksum and end agree, so that a false start byte in noise does not hide
    the frame behind it.
    """
    frames: list[Frame] = []
    i = begin = 0
    while (i := buffer.find(START, i)) >= 0:
        frame, end = find_at(buffer, i)
        if frame is None:
            i += 1
            continue
        frames.append(frame)
        i = begin = end
    rest = buffer[begin:]
    first = rest.find(START)
    return frames, rest[first:][-LONGEST:] if first >= 0 else b""
