"""Declarative mappings: what a device publishes over MQTT, as data in the catalogue, turned into readings.

```yaml
mapping:
  ready: tasmota                       # fields of a ready mapping (tables/mqtt_mappings.yaml); the fields below go before them
  topic: "vendor/{site}/{device}/up"   # {name} and + take one level, # the rest
  form: flat                           # flat ts_values thingsboard neuron senml value sparkplug
  values: data                         # path of the object that holds the values (form's own default)
  time: ts                             # path of the time; time_unit: auto s ms us iso local none
  key: "{device}.{key}"                # how captures and the value's name make the key of a point; default "{key}"
  where: {device: D7}                  # only messages with these captures
  missing: [-9999, "n/a"]              # further texts or numbers that mean no value
  units: {P: W}                        # units that the device sends where they are not the point's
```
A capture called `device` picks the device whose code is it or ends in it (`d.e1.plc` for `plc`), when there is one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple
from zoneinfo import ZoneInfo

import msgspec
import yaml
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, field_validator, model_validator

from collectors.park_devices import FieldDevice, Target
from collectors.readings import Readings
from collectors.sparkplug import EdgeNodes
from park.errors import InputError, ReadingError
from park.wire import BOM

Form = Literal["flat", "ts_values", "thingsboard", "neuron", "senml", "value", "sparkplug"]
Unit = Literal["auto", "s", "ms", "us", "iso", "local", "none"]

TIME_NAMES = ("ts", "timestamp", "time", "Time", "datetime")
"""Where a flat message has its time when the mapping does not say; `t` is not among them, it is often a temperature."""

NO_VALUE = ("", "-", "--", "null", "none", "n/a", "nan", "unknown", "unavailable")
MAX_DEPTH = 8


READY = Path(__file__).parent / "tables" / "mqtt_mappings.yaml"


@cache
def ready_mappings() -> dict[str, dict[str, Any]]:
    """The ready mappings with what they are for and an example of each, by name."""
    found: dict[str, dict[str, Any]] = yaml.load(READY.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    return found


class Mapping_(BaseModel):
    """The `mapping` of a device in the catalogue."""

    model_config = ConfigDict(extra="forbid")

    ready: str | None = None
    topic: str = Field(min_length=1, max_length=500)
    form: Form = "flat"
    values: str | None = None
    time: str | None = None
    time_unit: Unit = "auto"
    key: str = "{key}"
    where: dict[str, str] = {}
    missing: list[float | str] = []
    units: dict[str, str] = {}

    _edge_nodes: EdgeNodes = PrivateAttr(default_factory=EdgeNodes)

    @model_validator(mode="before")
    @classmethod
    def _ready(cls, raw: object) -> object:
        if not isinstance(raw, dict) or raw.get("ready") is None:
            return raw
        known = ready_mappings()
        if raw["ready"] not in known:
            raise ValueError(f"there is no ready mapping {raw['ready']!r}; known: {', '.join(known)}")
        return {**known[raw["ready"]]["mapping"], **raw}

    @property
    def edge_nodes(self) -> EdgeNodes:
        """What Sparkplug births told; only `form: sparkplug` uses it."""
        return self._edge_nodes

    @field_validator("topic")
    @classmethod
    def _topic(cls, value: str) -> str:
        for level in value.split("/"):
            if ("+" in level or "#" in level) and level not in ("+", "#"):
                raise ValueError(f"expected + or # alone between slashes, got {level!r}")
            if "{" in level and not re.fullmatch(r"\{[A-Za-z_]\w*\}", level):
                raise ValueError(f"expected a capture such as {{device}} alone between slashes, got {level!r}")
        if "#" in value[:-1]:
            raise ValueError("expected # only at the end")
        return value


@dataclass(frozen=True)
class TopicPattern:
    """A topic with captures: what to subscribe to, and how to take the captures out."""

    subscription: str
    regex: re.Pattern[str]

    def match(self, topic: str) -> dict[str, str] | None:
        """Captures of a topic, or None."""
        found = self.regex.fullmatch(topic)
        return None if found is None else found.groupdict()


def topic_pattern(topic: str) -> TopicPattern:
    """Compile a topic such as `vendor/{site}/+/up`."""
    levels, parts = [], []
    for level in topic.split("/"):
        if level.startswith("{"):
            levels.append("+")
            parts.append(f"(?P<{level[1:-1]}>[^/]+)")
        else:
            levels.append(level)
            parts.append({"+": "[^/]+", "#": ".*"}.get(level, re.escape(level)))
    regex = "/".join(parts[:-1]) + "(?:/.*)?" if levels[-1] == "#" and len(levels) > 1 else "/".join(parts)
    if levels[0] == "spBv1.0":  # the words of the topic are part of such a message
        regex = f"(?P<topic>{regex})"
    return TopicPattern("/".join(levels), re.compile(regex))


@dataclass
class MqttDevice:
    """A device with its compiled mapping."""

    field: FieldDevice
    mapping: Mapping_
    pattern: TopicPattern
    zone: ZoneInfo
    targets: dict[str, tuple[Target, float, float]]


def parse_mapping(raw: object) -> Mapping_:
    """A mapping from plain data; InputError with every field that is wrong."""
    try:
        return Mapping_.model_validate(raw)
    except ValidationError as exc:
        wrong = "; ".join(f"{'.'.join(map(str, ('mapping', *e['loc'])))}: {str(e['msg']).removeprefix('Value error, ')}"
                          for e in exc.errors())
        raise InputError(wrong) from exc


def mqtt_device(device: FieldDevice) -> MqttDevice:
    """Compile a device's mapping; InputError with the field that is wrong."""
    mapping = parse_mapping(device.device.mapping)
    targets = {}
    for key, target in device.targets.items():
        sent_in = mapping.units.get(key)
        factor, offset = target.into(sent_in) if sent_in else (1.0, 0.0)
        targets[key] = (target, factor, offset)
    return MqttDevice(device, mapping, topic_pattern(mapping.topic), ZoneInfo(device.timezone), targets)


@dataclass(frozen=True)
class Record:
    """Values that share a time: `time` as it came (None: arrival), names to raw values, further captures."""

    time: Any
    values: Mapping[str, Any]
    captures: Mapping[str, str]


def parse_payload(mapping: Mapping_, payload: bytes, topic: str = "") -> list[Record]:
    """Records of a message; ReadingError `bad_payload` when the payload has not the form. A byte order mark is passed over."""
    if mapping.form == "sparkplug":
        return [Record(*values) for values in mapping.edge_nodes.take(topic, payload)]
    if mapping.form == "value":
        return [Record(None, {"value": payload.decode("utf-8-sig", errors="replace").strip()}, {})]
    try:
        body = msgspec.json.decode(_plain_json(payload.removeprefix(BOM)))
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise ReadingError("bad_payload", f"not JSON: {exc}") from exc
    try:
        return list(_FORMS[mapping.form](mapping, body))
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as exc:
        raise ReadingError("bad_payload", f"not of the form {mapping.form}: {exc!r}") from exc


_BARE = re.compile(rb"(?<=[\[:,\s])(-?Infinity|-?NaN|-?nan|-?inf)(?=\s*[,\]}])")


def _plain_json(payload: bytes) -> bytes:
    """Bare NaN and Infinity, which several devices write, become the text "nan"."""
    return _BARE.sub(b'"nan"', payload) if _BARE.search(payload) else payload


def _flat(mapping: Mapping_, body: Any) -> Iterator[Record]:
    for part in body if isinstance(body, list) else [body]:
        time_path = mapping.time or next((n for n in TIME_NAMES if n in part), "")
        flat = dict(_leaves(_at(part, mapping.values, required=True) if mapping.values else part))
        if not mapping.values:
            flat.pop(time_path, None)
        yield Record(_at(part, time_path) if time_path else None, flat, {})


def _ts_values(mapping: Mapping_, body: Any) -> Iterator[Record]:
    for part in body if isinstance(body, list) else [body]:
        yield Record(_at(part, mapping.time or "ts"), dict(_leaves(_at(part, mapping.values or "values", required=True))), {})


def _thingsboard(mapping: Mapping_, body: Any) -> Iterator[Record]:
    """Gateway telemetry: {"Device A": [{"ts": ms, "values": {...}}]}."""
    for device, parts in body.items():
        for record in _ts_values(mapping, parts):
            yield Record(record.time, record.values, {"device": device})


def _neuron(mapping: Mapping_, body: Any) -> Iterator[Record]:
    """Neuron: {"node", "group", "timestamp", "values": {...}, "errors": {name: code}}; a value in error is no value."""
    values = dict(_leaves(body.get("values", {}))) | dict.fromkeys(body.get("errors", {}))
    for tag in body.get("tags", []):
        values[tag["name"]] = None if tag.get("error") else tag.get("value")
    names = {"node": str(body.get("node", "")), "group": str(body.get("group", ""))}
    yield Record(_at(body, mapping.time or "timestamp"), values, names)


def _senml(mapping: Mapping_, body: Any) -> Iterator[Record]:
    """SenML (RFC 8428): base fields hold for the records behind them; a time below 2**28 is relative to now."""
    base_name, base_time, base_value = "", 0.0, 0.0
    for part in body:
        base_name, base_time = part.get("bn", base_name), float(part.get("bt", base_time))
        base_value = float(part.get("bv", base_value))
        plain = part.get("v", part.get("vb", part.get("vs", part.get("s"))))
        value = plain + base_value if "v" in part else plain
        time = base_time + float(part.get("t", 0))
        if base_name + part.get("n", "") and any(k in part for k in ("v", "vb", "vs", "s")):
            yield Record(time if time >= 1 << 28 else None, {base_name + part.get("n", ""): value}, {})


_FORMS: dict[str, Callable[[Mapping_, Any], Iterator[Record]]] = {
    "flat": _flat, "ts_values": _ts_values, "thingsboard": _thingsboard, "neuron": _neuron, "senml": _senml}


def _at(body: Any, path: str, *, required: bool = False) -> Any:
    """The value at a dotted path such as `data.0.ts`; None when it is not there (KeyError when required)."""
    for step in path.split("."):
        if isinstance(body, dict) and step in body:
            body = body[step]
        elif isinstance(body, list) and step.isdigit() and int(step) < len(body):
            body = body[int(step)]
        elif required:
            raise KeyError(path)
        else:
            return None
    return body


def _leaves(body: Any, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Names of nested values joined by dots."""
    if depth > MAX_DEPTH:
        raise ValueError(f"more than {MAX_DEPTH} levels")
    pairs = body.items() if isinstance(body, dict) else ((str(i), v) for i, v in enumerate(body))
    for name, value in pairs:
        if isinstance(value, dict | list):
            yield from _leaves(value, f"{prefix}{name}.", depth + 1)
        else:
            yield f"{prefix}{name}", value


def number(raw: Any, missing: list[float | str]) -> tuple[float | None, str]:
    """Value and quality word of what a device sent: numbers, numbers as texts, booleans, null, "--", error codes."""
    if raw is None:
        return None, "missing"
    if isinstance(raw, bool):
        return float(raw), "good"
    if isinstance(raw, str):
        text = raw.strip()
        if text in missing or text.lower() in NO_VALUE:
            return None, "bad" if text.lower() == "nan" and text not in missing else "missing"
        if text.lower() in ("on", "true", "off", "false"):
            return float(text.lower() in ("on", "true")), "good"
        try:
            raw = float(text)
        except ValueError:
            return None, "bad"
    if not isinstance(raw, int | float) or not math.isfinite(raw):
        return None, "bad"
    return (None, "missing") if raw in missing else (float(raw), "good")


def instant_ms(raw: Any, unit: Unit, zone: ZoneInfo, arrived_ms: int) -> int:
    """Epoch milliseconds of a time as it came; ReadingError `bad_time` when it cannot be one.

    `auto` takes numbers as s, ms, us by their size and texts as ISO 8601, base-local when they have no offset.
    """
    if unit == "none" or raw is None:
        return arrived_ms
    try:
        if isinstance(raw, str) and not _is_number(raw):
            moment = datetime.fromisoformat(raw.strip().replace("/", "-"))
            return round((moment if moment.tzinfo else moment.replace(tzinfo=zone)).timestamp() * 1000)
        value = float(raw)
        per_ms = {"s": 1000.0, "ms": 1.0, "us": 0.001}.get(unit) or (1000.0 if value < 1e11 else 1.0 if value < 1e14 else 0.001)
        at = round(value * per_ms)
        datetime.fromtimestamp(at / 1000, UTC)
        return at
    except (ValueError, TypeError, OverflowError, OSError) as exc:
        raise ReadingError("bad_time", f"expected a time ({unit}), got {raw!r}") from exc


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


class Keyed(NamedTuple):
    """A value of a message under its key: time (epoch ms), value in the device's unit, quality, as it came, and whether the
    time is the device's own."""

    key: str
    at: int
    value: float | None
    quality: str
    raw: Any
    timed: bool


Told = Callable[[str], None]
"""Told in a sentence what is left out and why."""


def keyed_values(mapping: Mapping_, zone: ZoneInfo, captures: Mapping[str, str], payload: bytes, arrived_ms: int,
                 left_out: Told | None = None) -> Iterator[Keyed]:
    """Everything in a message; ReadingError when it is not of the form."""
    for record in parse_payload(mapping, payload, captures.get("topic", "")):
        names = {**captures, **record.captures}
        if any(names.get(k) != v for k, v in mapping.where.items()):
            if left_out is not None:
                seen = {k: names.get(k) for k in mapping.where}
                left_out(f"{len(record.values)} values: `where` wants {mapping.where}, these are of {seen}")
            continue
        at = instant_ms(record.time, mapping.time_unit, zone, arrived_ms)
        timed = record.time is not None and mapping.time_unit != "none"
        for name, raw in record.values.items():
            key = name if mapping.key == "{key}" else mapping.key.format_map(_Names(names, key=name))
            value, quality = number(raw, mapping.missing)
            yield Keyed(key, at, value, quality, raw, timed)


class _Names(dict[str, str]):
    """Captures for a key's pattern; one that the topic does not have stays visible as it is written."""

    def __missing__(self, name: str) -> str:
        return "{" + name + "}"


class Taken(NamedTuple):
    """What a message gives: readings, keys that no point takes, and the newest time that the device itself put to a value
    (epoch ms; None: it puts none)."""

    readings: Readings
    unmapped: list[str]
    newest: int | None


def to_readings(device: MqttDevice, captures: Mapping[str, str], payload: bytes, arrived_ms: int) -> Taken:
    """What becomes of a message; ReadingError when the payload is not of the form."""
    readings, unmapped, newest = Readings(device.field.base), [], None
    for key, at, value, quality, _, timed in keyed_values(device.mapping, device.zone, captures, payload, arrived_ms):
        if timed and (newest is None or at > newest):
            newest = at
        target = device.targets.get(key)
        if target is None:
            unmapped.append(key)
            continue
        point, factor, offset = target
        readings.add(point.point, at, None if value is None else value * factor + offset, quality)
    return Taken(readings, unmapped, newest)
