"""Data of DL/T 645 and CJ/T 188 into values: decimal digits, signs, times, unit codes. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from collectors.dlt645_template import Item, MeterPoint, MeterTemplate, MeterTest
from park.errors import InputError
from park.quantities import conversion

UNIT_CODES = {0x02: "Wh", 0x05: "kWh", 0x08: "MWh", 0x0B: "kJ", 0x0E: "MJ", 0x11: "GJ", 0x14: "W", 0x17: "kW", 0x1A: "MW",
              0x29: "L", 0x2C: "m3", 0x32: "L/h", 0x35: "m3/h"}
"""CJ/T 188-2004, table of unit codes (not verified against the printed standard)."""


@dataclass(frozen=True)
class MeterValue:
    """A value in the unit of its field (None: there is none) with its quality; `at_ms` when the meter names the instant."""

    value: float | None
    quality: str
    raw: str
    at_ms: int | None = None


def bcd(data: bytes, decimals: int, *, signed: bool) -> float | None:
    """Digits, low byte first; NaN when one is no digit, None when all bytes are FFH (the meter has no value)."""
    if data and set(data) == {0xFF}:
        return None
    top = data[-1]
    negative = signed and bool(top & 0x80)
    text = (data[:-1] + bytes([top & 0x7F if signed else top]))[::-1].hex()
    if not text.isdecimal():
        return math.nan
    value = float(int(text) / 10**decimals)
    return -value if negative else value


def moment_ms(data: bytes, zone: ZoneInfo) -> int | None:
    """Epoch milliseconds of a base-local time; None when it is no date (zeros: it has not happened yet).

    Five bytes: mm hh DD MM YY. Four (1997): mm hh DD MM, without a year, is never an instant. Six and seven: seconds first;
    in the seventh byte the century.
    """
    if len(data) == 4 or not data.hex().isdecimal():
        return None
    numbers = [int(f"{b:02x}") for b in data]
    second = numbers.pop(0) if len(numbers) >= 6 else 0
    minute, hour, day, month, year = numbers[:5]
    year += 100 * numbers[5] if len(numbers) == 6 else 2000
    try:
        return round(datetime(year, month, day, hour, minute, second, tzinfo=zone).timestamp() * 1000)
    except ValueError:
        return None


def decode_item(template: MeterTemplate, item: Item, data: bytes, parameters: Mapping[str, float], zone: ZoneInfo
                ) -> tuple[dict[str, MeterValue], dict[str, int | None]]:
    """(values by key, times by key) of an item's data. What the meter did not send is not there."""
    values: dict[str, MeterValue] = {}
    times: dict[str, int | None] = {}
    place = 0
    for key in item.keys:
        f = template.field(key)
        part, place = data[place:place + f.length], place + f.length
        if len(part) < f.length:
            break
        if f.type == "time":
            times[key] = moment_ms(part, zone)
        elif f.is_value:
            values[key] = _value(f, part, parameters)
    return values, times


def _value(f: MeterPoint, part: bytes, parameters: Mapping[str, float]) -> MeterValue:
    raw = part.hex(" ")
    digits = part[:f.bytes]
    number = float(int.from_bytes(digits, "little")) if f.type == "bits" else bcd(digits, f.decimals, signed=f.signed)
    if number is None:
        return MeterValue(None, "missing", raw)
    if f.unit_code:
        number = _in_unit(number, part[-1], f.unit)
    if not math.isfinite(number):
        return MeterValue(None, "bad", raw)
    number *= math.prod(parameters[m] for m in f.multiply_by)
    inside = f.valid is None or f.valid[0] <= number <= f.valid[1]
    return MeterValue(number, "good" if inside else "uncertain", raw)


def _in_unit(number: float, code: int, unit: str) -> float:
    """The number in the field's unit; NaN when the meter's unit code is unknown or measures something else."""
    sent = UNIT_CODES.get(code)
    try:
        factor, offset = conversion(sent or "", unit)
    except InputError:
        return math.nan
    return number * factor + offset


def dated(template: MeterTemplate, values: Mapping[str, MeterValue], times: Mapping[str, int | None]) -> dict[str, MeterValue]:
    """The values with the instants that they belong to; one whose instant has not come has no value (`missing`)."""
    out = {}
    for key, v in values.items():
        at = template.field(key).at
        if at is None:
            out[key] = v
        elif times.get(at) is not None:
            out[key] = MeterValue(v.value, v.quality, v.raw, times[at])
        else:
            out[key] = MeterValue(None, "missing", v.raw)
    return out


def run_meter_test(template: MeterTemplate, test: MeterTest) -> list[str]:
    """What a template's test finds wrong; empty when all is as expected."""
    item = next((i for i in template.items if i.di == test.di), None)
    if item is None:
        return [f"there is no item {test.di}"]
    parameters = {name: test.parameters.get(name, p.default or 1.0) for name, p in template.parameters.items()}
    values, _ = decode_item(template, item, bytes.fromhex(test.data), parameters, ZoneInfo("Asia/Shanghai"))
    wrong = []
    for key, expected in test.expect.items():
        got = values[key].value if key in values else None
        if (expected is None) != (got is None) or (
                expected is not None and got is not None and abs(got - expected) > 1e-6 * max(1.0, abs(expected))):
            wrong.append(f"{key}: expected {expected}, got {got}")
    return wrong
