"""What would become of messages of an MQTT device: values as they would be stored, and what would be left out and why.

Messages are taken in their order with one mapping, as the collector does: births of Sparkplug name what the data behind them
leave out.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from zoneinfo import ZoneInfo

import yaml

from collectors.mqtt_mapping import Keyed, Mapping_, keyed_values, mqtt_device, parse_mapping, ready_mappings, topic_pattern
from collectors.park_devices import FieldDevice, Target, field_devices
from park.catalogue import read_catalogue
from park.errors import InputError, NotFound, ReadingError

COUNTED = {
    "unknown_alias": "metrics with an alias that no birth has named (the edge node would be asked for a rebirth)",
    "no_plain_value": "metrics without a plain value (bytes, files, definitions of templates)",
    "historical_without_time": "historical metrics without a time of their own (an old value must not get the present time)",
    "seq_gap": "numbers missing before this message (the edge node would be asked for a rebirth)",
    "late_deaths": "last wills of an earlier session, told after the node was born again",
}
"""Counters of `sparkplug.EdgeNodes` in words."""


@dataclass(frozen=True)
class Message:
    """A message to try; `topic` may be empty for mappings without captures."""

    topic: str
    payload: bytes


@dataclass(frozen=True)
class Subject:
    """What is tried: a mapping with the base's zone, and the points that take its keys (None: no catalogue is given)."""

    mapping: Mapping_
    zone: ZoneInfo
    targets: dict[str, tuple[Target, float, float]] | None = None


@dataclass
class Trial:
    """What one message becomes."""

    values: list[Keyed] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    dead: str = ""  # why the whole message would be a dead letter
    unheard: str = ""  # why it would not be heard at all


def subject_of(text: str, catalogue: Sequence[Path], zone: ZoneInfo) -> Subject:
    """A mapping from a YAML file, YAML text, the name of a ready mapping, or a device's code when there is a catalogue."""
    if catalogue:
        found = {d.code: d for d in field_devices(read_catalogue(list(catalogue)))}
        if text not in found or found[text].device.protocol != "mqtt":
            known = ", ".join(c for c, d in found.items() if d.device.protocol == "mqtt")
            raise NotFound(f"there is no MQTT device {text!r} in the catalogue; known: {known}")
        return _of_device(found[text])
    if text in ready_mappings():
        return Subject(parse_mapping({"ready": text}), zone)
    raw = Path(text).read_text(encoding="utf-8") if text.endswith((".yaml", ".yml")) else text
    try:
        return Subject(parse_mapping(yaml.safe_load(raw)), zone)
    except yaml.YAMLError as exc:
        raise InputError(f"the mapping is not YAML: {exc}") from exc


def _of_device(device: FieldDevice) -> Subject:
    found = mqtt_device(device)
    return Subject(found.mapping, found.zone, found.targets)


def messages(payloads: Sequence[str], topics: Sequence[str], *, lines: bool) -> Iterator[Message]:
    """Messages of the command line: texts or files; with `lines` each line of a file, perhaps with its topic in front as
    `mosquitto_sub -v` writes it. One topic holds for all, or there is one for each."""
    if len(topics) > 1 and len(topics) != len(payloads):
        raise InputError(f"expected one --topic, or one for each of the {len(payloads)} messages, got {len(topics)}")
    for i, text in enumerate(payloads):
        topic = topics[i if len(topics) > 1 else 0] if topics else ""
        is_file = not text.lstrip().startswith(("{", "[")) and Path(text).is_file()
        raw = Path(text).read_bytes() if is_file else text.encode()
        for part in raw.splitlines() if lines else [raw]:
            if part.strip() or not lines:
                yield _with_topic(part, topic) if lines else Message(topic, part)


def _with_topic(line: bytes, topic: str) -> Message:
    """`TOPIC PAYLOAD` when the line begins with a word that has a slash and no topic is given."""
    found = None if topic else re.match(rb"([^\s{}\[\]\"]*/[^\s{}\[\]\"]*)\s+(.*)", line, re.DOTALL)
    return Message(found[1].decode("utf-8", errors="replace"), found[2]) if found else Message(topic, line)


def tried(subject: Subject, message: Message, arrived_ms: int) -> Trial:
    """One message through the mapping; never raises for what a device sends."""
    trial = Trial()
    pattern = topic_pattern(subject.mapping.topic)
    captures = pattern.match(message.topic) if message.topic else {}
    if captures is None:
        trial.unheard = f"the topic {message.topic!r} is not one of {subject.mapping.topic!r}: it would not be heard"
        trial.left_out.append(trial.unheard)
        return trial
    nodes = subject.mapping.edge_nodes
    before = Counter(nodes.counters)
    try:
        trial.values = list(keyed_values(subject.mapping, subject.zone, captures, message.payload, arrived_ms,
                                         trial.left_out.append))
    except ReadingError as exc:
        trial.dead = f"{exc.reason}: {exc}"
    for name, n in (nodes.counters - before).items():
        if name in COUNTED:
            trial.left_out.append(f"{n} {COUNTED[name]}")
    if not trial.values and not trial.left_out and not trial.dead:
        trial.left_out.append("the message carries no values")
    if subject.targets is not None and (nobody := [v.key for v in trial.values if v.key not in subject.targets]):
        trial.left_out.append(f"keys that no point of the catalogue takes: {', '.join(nobody)}")
    return trial


def why(value: Keyed) -> str:
    """Why a value is none, in words; empty when it is one."""
    if value.value is not None:
        return ""
    if value.quality == "missing":
        return "null" if value.raw is None else f"{value.raw!r} means no value"
    return f"{value.raw!r} is no finite number"
