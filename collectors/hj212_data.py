"""HJ 212 data messages into readings: factor codes, statistics, flags, times.

Keys of the catalogue (`source: {device:, key:}`):
`a21026` is Rtd of CN 2011; `a21026.avg.minute` is Avg of CN 2051 (`.hour` 2061, `.day` 2031; min, max, cou, zsavg ...);
`a21026.zsrtd` is another statistic of CN 2011. `SB1` is the running state of CN 2021. Old and new codes are the same key.
`v10101.raw` is Rtd of CN 2013 (raw measurements; `v10101.peakarea.raw` another item), `w01018.i13004` an Info of CN 3020.
ST 44 and 45 use CN 2011: `d20105`, `p99101` (a text such as St becomes the number of a state). Several systems of one
logger share its MN. DataTime is the start of the period, in the base's local time.

Cou is the amount in a period, in the unit of the amount (m3, kg): `attributes: {units: {w00000: L/s, w00000.cou: m3}}`. It
is no register: a point of kind counter cannot be fed by it.
"""

from __future__ import annotations

import math
import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import yaml

from collectors.hj212_clock import Watch, data_time, is_trusted, note_time
from collectors.hj212_frame import Message
from collectors.park_devices import FieldDevice, Target
from collectors.readings import Readings
from park.errors import FrameError, InputError
from park.quality import WORDS

TABLES = Path(__file__).parent / "tables"


@lru_cache(maxsize=1)
def _messages() -> dict[str, dict[str, dict[str, str]]]:
    raw: dict[str, dict[str, dict[str, str]]] = yaml.safe_load((TABLES / "hj212_messages.yaml").read_text(encoding="utf-8"))
    return raw


PERIODS: Mapping[str, str] = {cn: row.get("period", "") for cn, row in _messages()["data"].items()}
"""Data commands and the period in a point's key."""

PLAIN: Mapping[str, str] = {cn: row["plain"] for cn, row in _messages()["data"].items() if "plain" in row}
"""The statistic that a command's plain key means."""

NOTICES: Mapping[str, Mapping[str, str]] = _messages()["notices"]
"""Messages without readings: their names and the command that answers them."""

REMEMBERED = 4096
"""Values whose repetition is recognised, per station."""

UNMAPPED_SHOWN = 200
KEY_SHOWN, TEXT_SHOWN = 60, 40
"""Characters of a stranger's or an unmapped key, and of a value, that are kept: what is longer is neither."""


@lru_cache(maxsize=1)
def _codes() -> dict[str, dict[str, str]]:
    raw = yaml.safe_load((TABLES / "hj212_codes.yaml").read_text(encoding="utf-8"))
    return {name: {str(code): str(v) for code, v in raw[name].items()} for name in ("today", "units")}


def today_codes() -> dict[str, str]:
    """Today's factor code of each older one."""
    return _codes()["today"]


def standard_units() -> dict[str, str]:
    """The standard's unit of factors that many loggers send in another one."""
    return _codes()["units"]


@dataclass(frozen=True)
class FlagRule:
    """What a data flag does: the quality word, and whether the value is kept."""

    quality: str
    keep: bool


@lru_cache(maxsize=1)
def _flag_tables() -> dict[str, dict[str, FlagRule]]:
    raw = yaml.safe_load((TABLES / "hj212_flags.yaml").read_text(encoding="utf-8"))
    return {edition: {str(f): FlagRule(**rule) for f, rule in table["flags"].items()}
            for edition, table in raw["editions"].items()}


def flag_rules(edition: str, overrides: Mapping[str, Any]) -> dict[str, FlagRule]:
    """The flags of an edition with a device's own overrides."""
    own = {}
    for flag, rule in overrides.items():
        known = FlagRule(**rule)
        if known.quality not in WORDS:
            raise FrameError("flags", f"expected a quality word for flag {flag}, got {known.quality!r}")
        own[str(flag)] = known
    return _flag_tables()[edition] | own


def normal_key(key: str) -> str:
    """A catalogue key in its normal form: today's factor code, lower-case statistic and period."""
    factor, *rest = key.split(".")
    rest = [r.lower() for r in rest]
    if rest == ["rtd"]:
        rest = []
    return ".".join([today_codes().get(factor, factor), *rest])


@dataclass(frozen=True)
class Family:
    """Codes of one kind: electricity or condition, of production or treatment."""

    pattern: re.Pattern[str]
    system: str
    role: str
    zh: str
    en: str


@dataclass(frozen=True)
class ConditionCode:
    """What a code of ST 44 or 45 tells: role and number of the facility; quantity and unit where the item is known."""

    family: Family
    number: int
    quantity: str | None
    unit: str | None
    phase: str | None


@lru_cache(maxsize=1)
def _conditions() -> tuple[tuple[Family, ...], dict[str, dict[str, str]], dict[str, float]]:
    raw = yaml.safe_load((TABLES / "hj212_condition.yaml").read_text(encoding="utf-8"))
    families = tuple(Family(**row | {"pattern": re.compile(row["pattern"])}) for row in raw["families"])
    return families, raw["items"], {str(k): float(v) for k, v in raw["states"].items()}


def condition_code(code: str) -> ConditionCode | None:
    """A code of ST 44 or 45 taken apart; None for any other."""
    families, items, _ = _conditions()
    for family in families:
        match = family.pattern.fullmatch(code)
        if match:
            parts = match.groupdict()
            item = items.get(parts.get("item", ""), {})
            quantity = "state" if family.system == "45" else item.get("quantity")
            unit = "state" if family.system == "45" else item.get("unit")
            return ConditionCode(family, int(parts["n"]), quantity, unit, item.get("phase"))
    return None


@dataclass
class Station:
    """One data logger: its device row, its flags, what it sent lately."""

    device: FieldDevice
    flags: dict[str, FlagRule]
    targets: dict[str, tuple[Target, float, float]]
    zone: ZoneInfo
    states: Mapping[str, float] = field(default_factory=dict)
    resent: int = 0
    seen: OrderedDict[tuple[str, int], tuple[str, str]] = field(default_factory=OrderedDict)
    duplicates: int = 0
    unmapped: set[str] = field(default_factory=set)
    watch: Watch = field(default_factory=Watch)


def station_of(device: FieldDevice) -> Station:
    """A station for a device of the catalogue; InputError when a unit or flag in its attributes is wrong."""
    units: Mapping[str, str] = device.device.attributes.get("units", {})
    units = {normal_key(k): v for k, v in units.items()}
    states = _conditions()[2] | {str(k): float(v) for k, v in device.device.attributes.get("states", {}).items()}
    targets: dict[str, tuple[Target, float, float]] = {}
    for key, target in device.targets.items():
        normal = normal_key(key)
        code, _, rest = normal.partition(".")
        is_amount = rest.split(".")[0] == "cou"
        if is_amount and target.kind == "counter":
            raise InputError(f"the point {target.point} is a counter, but {key} is the amount in a period: make it a gauge")
        sent_in = units.get(normal) or units.get(f"{code}.cou" if is_amount else code)
        factor, offset = target.into(sent_in) if sent_in else (1.0, 0.0)
        targets[normal] = (target, factor, offset)
    flags = flag_rules(device.device.edition or "2017", device.device.attributes.get("flags", {}))
    return Station(device, flags, targets, ZoneInfo(device.timezone), states)


def to_readings(message: Message, station: Station, arrived_ms: int) -> Readings:
    """Readings of a data message; values that were already taken with the same content are left out and counted."""
    at = data_time(message, station.zone)
    trusted = is_trusted(message, station.watch, station.zone, at, arrived_ms)
    readings = Readings(station.device.base)
    station.resent += message.resent
    for key, text, flag in _values(message):
        target = station.targets.get(key)
        if target is None:
            if len(station.unmapped) < UNMAPPED_SHOWN:
                station.unmapped.add(key[:KEY_SHOWN])
            continue
        if station.seen.get((key, at)) == (text[:TEXT_SHOWN], flag[:TEXT_SHOWN]):
            station.duplicates += 1
            continue
        value, quality = judge(text, flag, station.flags, station.states)
        point, scale, offset = target
        readings.add(point.point, at, None if value is None else value * scale + offset,
                     quality if trusted or quality != "good" else "uncertain")
    return readings


def remember(message: Message, station: Station, arrived_ms: int) -> None:
    """Mark the message's values as taken; called when they are durable, so that a refused message may come again."""
    at = data_time(message, station.zone)
    note_time(message, station.watch, station.zone, arrived_ms)
    for key, text, flag in _values(message):
        if key in station.targets:
            station.seen[key, at] = (text[:TEXT_SHOWN], flag[:TEXT_SHOWN])
    while len(station.seen) > REMEMBERED:
        station.seen.popitem(last=False)


@lru_cache(maxsize=8192)
def _name(cn: str, name: str) -> tuple[str, str | None] | None:
    """(today's factor code, key) of a name such as `a21026-Rtd` in a command's data; no key for a flag, None for DataTime
    and the like. The same names come with every message."""
    factor, dash, statistic = name.rpartition("-")
    if not dash:
        return None
    factor, statistic = today_codes().get(factor, factor), statistic.lower()
    if statistic == "flag":
        return factor, None
    parts = [factor] + ([] if statistic == PLAIN.get(cn) else [statistic]) + ([PERIODS[cn]] if PERIODS[cn] else [])
    return factor, ".".join(parts)


def _values(message: Message) -> Iterator[tuple[str, str, str]]:
    """(key, text, flag) of every value: today's factor code, lower-case statistic, period of the command."""
    cn, about = message.cn, ""
    for group in message.groups:
        if cn == "3020" and "PolId" in group:
            about = today_codes().get(group["PolId"], group["PolId"]) + "."
        flags: dict[str, str] = {}
        found: list[tuple[str, str, str]] = []
        for name, text in group.items():
            known = _name(cn, name) if len(name) <= KEY_SHOWN else _name.__wrapped__(cn, name)
            if known is None:
                continue
            factor, key = known
            if key is None:
                flags[factor] = text
            else:
                found.append((key, factor, text))
        for key, factor, text in found:
            yield about + key, text, flags.get(factor, "N")


def values_of(message: Message) -> list[tuple[str, str]]:
    """(key, text) of every value of a data message, as a catalogue would name them."""
    return [(key, text) for key, text, _ in _values(message)]


def judge(text: str, flag: str, rules: Mapping[str, FlagRule],
          states: Mapping[str, float] | None = None) -> tuple[float | None, str]:
    """Value and quality word of a text with its flag; an unknown flag makes the value uncertain, never good. `states` are the
    texts that mean the number of a state."""
    rule = rules.get(flag) or rules.get(flag.upper()) or FlagRule("uncertain", True)
    if not rule.keep:
        return None, rule.quality
    if text.strip() in ("", "-", "--", "null", "NULL", "NaN", "nan"):
        return None, "missing"
    if states and text in states:
        return states[text], rule.quality
    try:
        value = float(text)
    except ValueError:
        return None, "bad"
    return (value, rule.quality) if math.isfinite(value) else (None, "bad")
