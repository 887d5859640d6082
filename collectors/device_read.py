"""Reading one meter by hand: every value of its template beside the plausible range, and the requests it took."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from collectors.modbus_link import ILLEGAL_ADDRESS, ILLEGAL_VALUE, ModbusLink, ModbusRefusal, parse_connection
from collectors.planner import Read, plan_reads, split_read
from collectors.registers import Decoder, encode, parameters_of
from collectors.template import Template, TemplatePoint
from park.errors import DeviceError, DeviceTimeout, InputError
from park.quality import word_of

TINY, HUGE = 1e-9, 1e15     # in a point's unit: no meter measures less or more, floats with words in another order read so


def is_absurd(point: TemplatePoint, value: float | None) -> bool:
    """Whether a floating-point value is no measurement, though it may lie in the range: 1e-30 V, 3e+23 kWh."""
    return value is not None and point.type in ("f32", "f64") and (0 < abs(value) < TINY or abs(value) > HUGE)


@dataclass(frozen=True)
class ValueRead:
    """One value: None with its quality when the device has none; `inside` tells whether it lies in its range, `doubt` what
    speaks against a value that no meter measures."""

    point: TemplatePoint
    value: float | None
    quality: str
    raw: str
    label: str | None

    @property
    def inside(self) -> bool | None:
        """Whether the value lies in its plausible range; None without value or range."""
        if self.value is None or self.point.valid is None:
            return None
        return self.point.valid[0] <= self.value <= self.point.valid[1]

    @property
    def doubt(self) -> str | None:
        """What to look at when the value is absurd."""
        return "no measured value: word or byte order?" if is_absurd(self.point, self.value) else None


@dataclass(frozen=True)
class Request:
    """A request that was sent and how it ended."""

    function: int
    address: int
    count: int
    ms: float
    result: str


@dataclass
class DeviceReading:
    """All that `park device read` shows."""

    template: Template
    connection: str
    unit: int
    parameters: dict[str, float]
    values: list[ValueRead] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    hint: str | None = None


async def read_device(template: Template, connection: str, unit: int,
                      given: Mapping[str, float] | None = None) -> DeviceReading:
    """Read every point once; DeviceTimeout when the device gives nothing at all, DeviceError when it refuses everything."""
    given = given or {}
    link = ModbusLink(parse_connection(connection), connect_delay_s=template.limits.connect_delay_ms / 1000)
    reading = DeviceReading(template, connection, unit, parameters_of(template, given))
    try:
        await link.open()
        await _read_parameters(link, reading, given)
        points = template.points
        waiting, done, answers = plan_reads(template, points), list[Read](), list[bytes | None]()
        while waiting:
            read = waiting.pop(0)
            try:
                answers.append(await _ask(link, reading, read))
                done.append(read)
            except ModbusRefusal as exc:
                if exc.code in (ILLEGAL_ADDRESS, ILLEGAL_VALUE):
                    waiting = split_read(template, points, read) + waiting
            except DeviceTimeout:
                if not done:
                    raise
            except DeviceError:
                continue
        _decode(reading, done, answers)
    except DeviceTimeout as exc:
        raise DeviceTimeout(f"{exc}; is it the port of a Modbus device (--port), its unit id (--unit), its --framing? "
                            f"A slow one is given time by --connection '{_patient(connection)}'") from exc
    finally:
        link.close()
    if not done:
        raise DeviceError(_refused(reading))
    return reading


def _refused(reading: DeviceReading) -> str:
    """What a device that refused every request most likely is."""
    said = sorted({r.result for r in reading.requests})
    hint = ("the gateway knows no such unit: try another --unit" if any("gateway" in text for text in said)
            else "it answers, but not to these registers: another model than the template's, or another unit id (--unit)")
    where = f"{reading.connection} unit {reading.unit}"
    return f"{where}: all {len(reading.requests)} requests were refused, {', '.join(said)}; {hint}"


async def _read_parameters(link: ModbusLink, reading: DeviceReading, given: Mapping[str, float]) -> None:
    for name, p in reading.template.parameters.items():
        if p.address is None or name in given:
            continue
        point = TemplatePoint(key=name, quantity="power_factor", address=p.address, type=p.type, unit="1", scale=p.scale,
                              function=p.function)
        read = plan_reads(reading.template, [point])[0]
        try:
            raw = await _ask(link, reading, read)
        except ModbusRefusal:
            continue
        reading.parameters[name] = float(Decoder(reading.template, [point], [read], {}).decode([raw]).value[0])


async def _ask(link: ModbusLink, reading: DeviceReading, read: Read) -> bytes:
    limits, begin, result = reading.template.limits, time.perf_counter(), "ok"
    try:
        return await link.read(reading.unit, read.function, read.address, read.count, limits.timeout_ms / 1000)
    except DeviceError as exc:
        result = str(exc).split(": ", 1)[-1]
        raise
    finally:
        reading.requests.append(Request(read.function, read.address, read.count, (time.perf_counter() - begin) * 1000, result))
        if limits.gap_ms:
            await asyncio.sleep(limits.gap_ms / 1000)


def _patient(connection: str) -> str:
    """The connection with more patience, as it stands in the catalogue, too."""
    return f"{connection.partition('?')[0]}?timeout_s=5"


def _decode(reading: DeviceReading, reads: list[Read], answers: list[bytes | None]) -> None:
    points = reading.template.points
    values = Decoder(reading.template, points, reads, reading.parameters).decode(answers)
    raw = {i: a[2 * (points[i].address - r.address):][:2 * points[i].words].hex(" ", 2)
           for r, a in zip(reads, answers, strict=True) if a is not None for i in r.points}
    for i, p in enumerate(points):
        value = None if np.isnan(values.value[i]) else float(values.value[i])
        quality = word_of(int(values.quality[i])) if values.present[i] else "link_fault"
        quality = "uncertain" if quality == "good" and is_absurd(p, value) else quality
        label = p.labels.get(int(value)) if value is not None and p.labels else None
        reading.values.append(ValueRead(p, value, quality, raw.get(i, ""), label))
    reading.hint = _other_order(reading, reads, answers)


def _other_order(reading: DeviceReading, reads: list[Read], answers: list[bytes | None]) -> str | None:
    """The order of words and bytes in which everything is plausible, when something is not as the template has it.

    Read the wrong way round most numbers are absurdly small rather than too large, so that zeros and ranges must agree:
    a value that counts is inside its range and not absurd.
    """
    def absurd(template: Template) -> int:
        values = Decoder(template, template.points, reads, reading.parameters).decode(answers)
        return sum(1 for p, v in zip(template.points, values.value, strict=True) if p.words > 1 and not np.isnan(v)
                   and (is_absurd(p, v) or (p.valid is not None and not p.valid[0] <= v <= p.valid[1])))
    if not absurd(reading.template):
        return None
    for word, byte in (("little", "big"), ("big", "big"), ("little", "little"), ("big", "little")):
        if absurd(reading.template.in_order(word, byte)) == 0:
            return (f"with word_order {word} and byte_order {byte} every value is plausible: try --word-order {word} "
                    f"--byte-order {byte}, and give the device `attributes: {{word_order: {word}, byte_order: {byte}}}`")
    return None


def as_plain(reading: DeviceReading) -> dict[str, object]:
    """The reading as JSON-ready data."""
    return {
        "template": reading.template.template, "version": reading.template.version,
        "confidence": reading.template.confidence, "connection": reading.connection, "unit": reading.unit,
        "parameters": {name: None if np.isnan(value) else value for name, value in reading.parameters.items()},
        "values": [{"key": v.point.key, "quantity": v.point.quantity, "value": v.value, "unit": v.point.unit,
                    "quality": v.quality, "valid": v.point.valid, "inside": v.inside, "doubt": v.doubt, "label": v.label,
                    "register": v.point.register_, "address": v.point.address, "raw": v.raw} for v in reading.values],
        "hint": reading.hint,
        "requests": [{"function": r.function, "address": r.address, "count": r.count, "ms": round(r.ms, 2), "result": r.result}
                     for r in reading.requests],
    }


async def write_point(template: Template, connection: str, unit: int, key: str, value: float, *, send: bool) -> str:
    """Write a point, read it back, and say what was done; InputError when the template does not declare it writable or the
    value lies outside its range, DeviceError when the device holds another value afterwards."""
    p = template.point(key)
    if not p.writable:
        raise InputError(f"the template {template.template} does not declare {key} as `writable: true`")
    if p.multiply_by:
        raise InputError(f"the point {key} depends on {', '.join(p.multiply_by)}; write the register that it stands in")
    if template.function_of(p) != 3:
        raise InputError(f"the point {key} is an input register, which cannot be written")
    if p.valid is not None and not p.valid[0] <= value <= p.valid[1]:
        raise InputError(f"expected {p.valid[0]:g} to {p.valid[1]:g} {p.unit} for {key}, got {value:g}")
    words = encode(template, p, value)
    what = f"{key} = {value:g} {p.unit}, registers {p.address}+{len(words)}: {' '.join(f'{w:04X}' for w in words)}"
    if not send:
        return f"not sent: {what}; give --write to send it"
    link, timeout_s = ModbusLink(parse_connection(connection)), template.limits.timeout_ms / 1000
    try:
        await link.write(unit, p.address, words, timeout_s)
        held = await link.read(unit, 3, p.address, len(words), timeout_s)
    finally:
        link.close()
    if held != b"".join(w.to_bytes(2, "big") for w in words):
        raise DeviceError(f"the device confirmed {what}, but holds {held.hex(' ', 2)}")
    return f"written and read back: {what}"
