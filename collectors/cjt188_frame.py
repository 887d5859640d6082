"""Frames of CJ/T 188 (water, gas and heat meters): `68 T A0..A6 C L DATA CS 16`, data bytes as they are.

Seven address bytes, low first; T is the kind of meter (10H cold water, 20H heat, 30H gas). The checksum is that of DL/T 645.
"""

from __future__ import annotations

from collectors.dlt645_frame import END, PREAMBLE, START, Frame

ADDRESS_DIGITS = 14


def pack(kind: int, address: str, control: int, data: bytes) -> bytes:
    """A CJ/T 188 frame with its preamble."""
    body = bytes([START, kind]) + bytes.fromhex(address)[::-1] + bytes([control, len(data)]) + data
    return PREAMBLE + body + bytes([sum(body) & 0xFF, END])


def find(buffer: bytes, i: int) -> tuple[Frame | None, int]:
    """The CJ/T 188 frame that begins at `i`, and where it ends."""
    if len(buffer) < i + 13:
        return None, i
    end = i + 13 + buffer[i + 10]
    if len(buffer) < end or buffer[end - 1] != END or sum(buffer[i:end - 2]) & 0xFF != buffer[end - 2]:
        return None, i
    return Frame(buffer[i + 2:i + 9][::-1].hex().upper(), buffer[i + 9], buffer[i + 11:end - 2], buffer[i + 1]), end
