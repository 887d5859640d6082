"""Meters of DL/T 645-2007 behind transparent serial servers: one TCP listener a line, several meters on it.

Written for this simulator from the standard's frame; nothing of the collectors' code is used. Which identifier brings which
digits is read from the template as data, as for Modbus. A meter that is offline keeps silent, like one that is addressed wrong.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from park.catalogue import Device, Point
from park.errors import InputError
from park.quantities import conversion, quantities
from simulators.registers import TEMPLATES, read_template

log = logging.getLogger(__name__)

START, END, PLUS = 0x68, 0x16, 0x33
READ, FOLLOW, REPLY, ERROR, MORE = 0x11, 0x12, 0x80, 0x40, 0x20
NO_SUCH_DATA = 0x02
PART = 200
"""Bytes of data that a reply holds at most (L of a read's answer); the rest follows on request."""

ANY = b"\xaa" * 6
_LONGEST = 300


@dataclass(frozen=True)
class Digits:
    """A field: how many BCD bytes, and what makes them of a value in the point's unit (or the usual one of its quantity)."""

    key: str
    type: str
    length: int
    signed: bool
    factor: float
    column: int | None

    def encode(self, value: float | None) -> bytes:
        """Low byte first; all FFH where there is no value or no room for it."""
        if value is None or not np.isfinite(value):
            return b"\xff" * self.length
        whole = round(abs(value) * self.factor)
        if whole >= 10 ** (2 * self.length) * (0.8 if self.signed else 1):
            if self.key.startswith(("active_energy", "reactive_energy")):
                whole %= 10 ** (2 * self.length)  # a register rolls over
            else:
                return b"\xff" * self.length
        data = bytearray(bytes.fromhex(f"{whole:0{2 * self.length}d}")[::-1])
        if value < 0 and self.signed:
            data[-1] |= 0x80
        return bytes(data)


@dataclass
class Meter:
    """One meter: what it shows now, by key; `moments` are times that some of its fields name."""

    device: str
    address: bytes
    fields: dict[str, Digits]
    items: dict[str, tuple[str, ...]]
    values: dict[str, float | None] = field(default_factory=dict)
    moments: dict[str, datetime] = field(default_factory=dict)
    silent: bool = False

    def data(self, di: str) -> bytes | None:
        """What stands behind an identifier; None when the meter does not know it."""
        if di not in self.items:
            return None
        return b"".join(self._part(self.fields[key]) for key in self.items[di])

    def _part(self, f: Digits) -> bytes:
        if f.type == "time":
            at = self.moments.get(f.key)
            text = f"{at:%y%m%d%H%M}" if at is not None else "00" * f.length
            return bytes.fromhex(text)[::-1]
        return f.encode(self.values.get(f.key)) if f.type == "bcd" else bytes(f.length)


def meter_of(device: Device, points: Mapping[str, tuple[int, Point]], folder: Path = TEMPLATES) -> Meter:
    """The meter of a catalogue's device; `points`: its points by key with their column. InputError for a key it lacks."""
    template = read_template(str(device.template), folder)
    if template.get("edition") != "2007":
        raise InputError(f"{device.code}: the simulated line speaks DL/T 645-2007, not {device.template}")
    fields = {row["key"]: _digits(row, template, device, points.get(row["key"])) for row in template["fields"]}
    if unknown := sorted(set(points) - set(fields)):
        raise InputError(f"{device.code}: the template {device.template} has no {', '.join(unknown)}")
    address = bytes.fromhex(str(device.attributes["address"]).zfill(12))[::-1]
    return Meter(device.code, address, fields, {i["di"]: tuple(i["keys"]) for i in template["items"]})


def _digits(row: Mapping[str, Any], template: Mapping[str, Any], device: Device, taken: tuple[int, Point] | None) -> Digits:
    scale = 10.0 ** -int(row.get("decimals", 0))
    for ratio in row.get("multiply_by", []):
        default = template.get("parameters", {}).get(ratio, {}).get("default", 1)
        scale *= device.parameters.get(ratio, default)
    unit = taken[1].unit if taken is not None else quantities()[row["quantity"]].unit if "quantity" in row else None
    to_unit = conversion(unit, row.get("unit", "1"))[0] if unit else 1.0
    return Digits(row["key"], row.get("type", "bcd"), int(row["bytes"]), bool(row.get("signed")), to_unit / scale,
                  taken[0] if taken is not None else None)


def pack(address: bytes, control: int, data: bytes) -> bytes:
    """A frame; the address as it stands on the line."""
    body = bytes([START]) + address + bytes([START, control, len(data)]) + bytes((b + PLUS) % 256 for b in data)
    return body + bytes([sum(body) % 256, END])


def take(buffer: bytes) -> tuple[tuple[bytes, int, bytes] | None, bytes]:
    """((address, control, data) of the first whole frame or None, what is left of the bytes)."""
    for i in range(len(buffer) - 11):
        if buffer[i] != START or buffer[i + 7] != START:
            continue
        end = i + 12 + buffer[i + 9]
        if len(buffer) >= end and buffer[end - 1] == END and sum(buffer[i:end - 2]) % 256 == buffer[end - 2]:
            data = bytes((b - PLUS) % 256 for b in buffer[i + 10:end - 2])
            return (buffer[i + 1:i + 7], buffer[i + 8], data), buffer[end:]
    return None, buffer[-_LONGEST:]


def respond(address: bytes, control: int, data: bytes, meters: Mapping[bytes, Meter]) -> bytes | None:
    """The reply to a request; None where every meter keeps silent."""
    meter = next(iter(meters.values())) if address == ANY and len(meters) == 1 else meters.get(address)
    if meter is None or meter.silent or control not in (READ, FOLLOW) or len(data) < 4:
        return None
    content = meter.data(data[3::-1].hex().upper())
    number = data[4] if control == FOLLOW and len(data) > 4 else 0
    if content is None or number * PART > len(content):
        return pack(meter.address, control | REPLY | ERROR, bytes([NO_SUCH_DATA]))
    part = content[number * PART:(number + 1) * PART]
    more = MORE if (number + 1) * PART < len(content) else 0
    tail = bytes([number]) if control == FOLLOW else b""
    return pack(meter.address, control | REPLY | more, data[:4] + part + tail)


class Line(asyncio.Protocol):
    """One connection to a line of meters."""

    def __init__(self, meters: Mapping[bytes, Meter]) -> None:
        self._meters, self._buffer = meters, b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while True:
            frame, self._buffer = take(self._buffer)
            if frame is None:
                return
            answer = respond(*frame, self._meters)
            if answer is not None and self._transport is not None:
                self._transport.write(b"\xfe" * 4 + answer)


async def start_line(host: str, port: int, meters: Mapping[bytes, Meter]) -> asyncio.Server:
    """A listening line; OSError when the port is taken."""
    line: Callable[[], asyncio.Protocol] = lambda: Line(meters)  # noqa: E731
    server = await asyncio.get_running_loop().create_server(line, host, port)
    log.info("dl/t 645 line on %s:%d with %d meters", host, port, len(meters))
    return server
