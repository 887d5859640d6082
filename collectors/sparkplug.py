"""Sparkplug B: the protobuf of its payloads, and what an edge node's birth tells that its data leave out.

A mapping takes it with `form: sparkplug` and a topic that hears the whole edge node, births and deaths too:
`topic: "spBv1.0/plant/{type}/edge1/#"`. Data carry aliases whose names only the birth tells; a number (`seq`) counts the
messages of the edge node. An unknown alias or a missing number asks the edge node for a new birth.

The decoder reads the fields of the Eclipse Sparkplug 3.0 payload definition that carry values. A template's members are metrics
called TEMPLATE/MEMBER; a data set's cells DATASET/COLUMN, or DATASET/ROW/COLUMN when it has several rows. Definitions of
templates, properties and bytes are left out and counted.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from park.errors import ReadingError

REBIRTH = "Node Control/Rebirth"
REBIRTH_PAUSE_S = 30.0
BIRTHS, DATA, DEATHS = ("NBIRTH", "DBIRTH"), ("NDATA", "DDATA"), ("NDEATH", "DDEATH")
_SIGNED_BITS = {1: 8, 2: 16, 3: 32, 4: 64}
ALIASES_KEPT = 50_000
ROWS_KEPT = 1000
MAX_DEPTH = 8

Value = float | int | bool | str | None
Part = tuple[str, Value, int | None]
"""Name, value and datatype of what stands in a template or data set."""


@dataclass(frozen=True)
class Metric:
    """One metric; name or alias, perhaps both; `at_ms` None: the payload's time holds."""

    name: str | None
    alias: int | None
    at_ms: int | None
    datatype: int | None
    historical: bool
    value: Value
    carries: bool  # whether it has a value that is a number, a text, a truth value or null
    parts: tuple[Part, ...] = ()  # of a template or data set


@dataclass(frozen=True)
class Payload:
    """A decoded payload."""

    at_ms: int | None
    seq: int | None
    metrics: tuple[Metric, ...]


def decode(data: bytes) -> Payload:
    """The payload; ReadingError `bad_payload` when it is no Sparkplug protobuf."""
    try:
        at, seq, metrics = None, None, []
        for number, value in _fields(data):
            if number == 1:
                at = _int(value)
            elif number == 2:
                metrics.append(_metric(_bytes(value)))
            elif number == 3:
                seq = _int(value)
        return Payload(at, seq, tuple(metrics))
    except (IndexError, ValueError, struct.error) as exc:
        raise ReadingError("bad_payload", f"not a Sparkplug B payload: {exc}") from exc


def _metric(data: bytes, depth: int = 0) -> Metric:
    found = dict(_fields(data))  # a repeated field: the last holds, as protobuf says
    null = bool(_int(found.get(7, 0)))
    datatype = _int(found[4]) if 4 in found else None
    name = _bytes(found[1]).decode("utf-8") if 1 in found else None
    value, carries = (None, True) if null else _value(found)
    parts: tuple[Part, ...] = ()
    if not null and 17 in found:
        parts = tuple(_dataset(_bytes(found[17])))
    elif not null and 18 in found and depth < MAX_DEPTH:
        parts = tuple(_template(_bytes(found[18]), depth + 1))
    return Metric(name or None, _int(found[2]) if 2 in found else None, _int(found[3]) if 3 in found else None, datatype,
                  bool(_int(found.get(5, 0))), value, carries, parts)


def _template(data: bytes, depth: int) -> Iterator[Part]:
    """Members of a template's instance; nothing for a definition. Templates may stand in templates."""
    found = list(_fields(data))
    if any(number == 5 and _int(value) for number, value in found):
        return
    for number, value in found:
        member = _metric(_bytes(value), depth) if number == 2 else None
        if member is None or member.name is None:
            continue
        if member.carries:
            yield member.name, member.value, member.datatype
        yield from ((f"{member.name}/{name}", v, t) for name, v, t in member.parts)


def _dataset(data: bytes) -> Iterator[Part]:
    """Cells of a data set, named by column, and by row where there are several."""
    columns: list[str] = []
    types: list[int] = []
    rows: list[list[tuple[Value, bool]]] = []
    for number, value in _fields(data):
        if number == 2:
            columns.append(_bytes(value).decode("utf-8", errors="replace"))
        elif number == 3:
            types += [value] if isinstance(value, int) else _packed(value)
        elif number == 4 and len(rows) < ROWS_KEPT:
            rows.append([_cell(_bytes(v)) for n, v in _fields(_bytes(value)) if n == 1])
    for i, row in enumerate(rows):
        for k, (cell, carries) in enumerate(row[:len(columns)]):
            if carries:
                yield columns[k] if len(rows) == 1 else f"{i}/{columns[k]}", cell, types[k] if k < len(types) else None


def _cell(data: bytes) -> tuple[Value, bool]:
    """A cell of a data set; its fields are numbered 1 to 6 where those of a metric are 10 to 15."""
    return _value({number + 9: value for number, value in _fields(data)})


def _packed(data: bytes) -> list[int]:
    out, i = [], 0
    while i < len(data):
        value, i = _varint(data, i)
        out.append(value)
    return out


def _value(found: Mapping[int, int | bytes]) -> tuple[Value, bool]:
    if 12 in found:
        return float(struct.unpack("<f", _bytes(found[12], 4))[0]), True
    if 13 in found:
        return float(struct.unpack("<d", _bytes(found[13], 8))[0]), True
    if 14 in found:
        return bool(_int(found[14])), True
    if 15 in found:
        return _bytes(found[15]).decode("utf-8", errors="replace"), True
    for number in (10, 11):
        if number in found:
            return _int(found[number]), True
    return None, False


def _signed(value: Value, datatype: int | None) -> Value:
    """Integers are sent as two's complement in unsigned fields; the datatype, which data may leave out, tells."""
    bits = _SIGNED_BITS.get(datatype or 0)
    if bits is None or isinstance(value, bool) or not isinstance(value, int):
        return value
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(field number, varint or bytes) of a protobuf message; ValueError or IndexError when it is none."""
    i = 0
    while i < len(data):
        key, i = _varint(data, i)
        wire = key & 7
        if wire == 0:
            value, i = _varint(data, i)
            yield key >> 3, value
            continue
        if wire == 2:
            length, i = _varint(data, i)
        elif wire in (1, 5):
            length = 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire}")
        if i + length > len(data):
            raise ValueError("cut short")
        yield key >> 3, data[i:i + length]
        i += length


def _varint(data: bytes, i: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[i]
        value |= (byte & 0x7F) << shift
        i += 1
        if not byte & 0x80:
            return value & (1 << 64) - 1, i
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than ten bytes")


def _int(value: int | bytes) -> int:
    if not isinstance(value, int):
        raise ValueError("expected a number")
    return value


def _bytes(value: int | bytes, length: int | None = None) -> bytes:
    if not isinstance(value, bytes) or (length is not None and len(value) != length):
        raise ValueError("expected bytes")
    return value


Values = tuple[int | None, dict[str, Any], dict[str, str]]
"""(epoch ms or None for arrival, names to values, captures)."""


@dataclass
class EdgeNodes:
    """What the births of the edge nodes of one mapping told."""

    names: dict[tuple[str, str, str], dict[int, tuple[str, int | None]]] = field(default_factory=dict)
    types: dict[tuple[str, str, str], dict[str, int | None]] = field(default_factory=dict)
    seq: dict[tuple[str, str], int] = field(default_factory=dict)
    sessions: dict[tuple[str, str], Value] = field(default_factory=dict)  # bdSeq of the present session
    counters: Counter[str] = field(default_factory=Counter)
    _wanted: set[tuple[str, str]] = field(default_factory=set)
    _asked_at: dict[tuple[str, str], float] = field(default_factory=dict)

    def take(self, topic: str, payload: bytes) -> list[Values]:
        """What a message says; [] for commands. ReadingError when it is no Sparkplug message."""
        levels = topic.split("/")
        if len(levels) not in (4, 5) or levels[0] != "spBv1.0":
            raise ReadingError("bad_payload", f"expected a topic such as spBv1.0/group/DDATA/edge/device, got {topic!r}")
        _, group, kind, edge = levels[:4]
        device = levels[4] if len(levels) == 5 else ""
        source, captures = (group, edge, device), {"group": group, "edge": edge, "device": device}
        if kind in DEATHS:
            if kind == "NDEATH" and self._of_another_session((group, edge), payload):
                return []
            return self._died(source, captures)
        if kind not in BIRTHS + DATA:
            return []
        message = decode(payload)
        self._count(kind, (group, edge), message.seq)
        if kind in BIRTHS:
            self._born(source, message)
        elif source not in self.types:
            self._wanted.add((group, edge))  # after a start of ours in the middle of its session
        by_time: dict[int | None, dict[str, Any]] = {}
        for m in message.metrics:
            values = self._named(source, m)
            if values:
                by_time.setdefault(m.at_ms if m.at_ms is not None else message.at_ms, {}).update(values)
        return [(at, values, captures) for at, values in by_time.items()]

    def _of_another_session(self, edge: tuple[str, str], payload: bytes) -> bool:
        """Whether a death was the last will of an earlier session, told after the node is born again."""
        born = self.sessions.get(edge)
        told = _session(decode(payload)) if payload else None
        late = born is not None and told is not None and born != told
        self.counters["late_deaths"] += late
        return late

    def _named(self, source: tuple[str, str, str], m: Metric) -> dict[str, Value]:
        """Names and values that a metric carries; empty, and counted, when there are none."""
        name, datatype = m.name, m.datatype
        if name is None:
            if m.alias not in self.names.get(source, {}):
                self.counters["unknown_alias"] += 1
                self._wanted.add(source[:2])
                return {}
            assert m.alias is not None
            name, known = self.names[source][m.alias]
            datatype = datatype if datatype is not None else known
        elif datatype is None:
            datatype = self.types.get(source, {}).get(name)
        if name.startswith(("Node Control/", "Device Control/")) or name == "bdSeq":
            return {}
        if not m.carries and not m.parts:
            self.counters["no_plain_value"] += 1
            return {}
        if m.historical:
            self.counters["historical"] += 1
            if m.at_ms is None:  # an old value must not get the present time
                self.counters["historical_without_time"] += 1
                return {}
        if m.parts:
            types = self.types.get(source, {})
            return {f"{name}/{part}": _signed(value, kind if kind is not None else types.get(f"{name}/{part}"))
                    for part, value, kind in m.parts}
        return {name: _signed(m.value, datatype)}

    def _born(self, source: tuple[str, str, str], message: Payload) -> None:
        if not source[2]:  # a node's birth ends what its devices told before
            for known in [s for s in self.types if s[:2] == source[:2]]:
                self.names.pop(known, None)
                del self.types[known]
        named = [m for m in message.metrics if m.name is not None][:ALIASES_KEPT]
        self.types[source] = {m.name: m.datatype for m in named if m.name is not None and not m.parts} | {
            f"{m.name}/{part}": kind for m in named for part, _, kind in m.parts}
        self.names[source] = {m.alias: (m.name, m.datatype) for m in named if m.alias is not None and m.name is not None}
        if not source[2]:
            self._wanted.discard(source[:2])
            self.sessions[source[:2]] = _session(message)

    def _died(self, source: tuple[str, str, str], captures: dict[str, str]) -> list[Values]:
        """A dead node or device has no values any more; nulls, not the last values, and not zeros."""
        gone = [s for s in self.types if s == source or (not source[2] and s[:2] == source[:2])]
        self.counters["deaths"] += 1
        return [(None, dict.fromkeys(n for n in self.types.pop(s) if not n.startswith("Node Control/") and n != "bdSeq"),
                 captures | {"device": s[2]}) for s in gone]

    def _count(self, kind: str, edge: tuple[str, str], seq: int | None) -> None:
        if seq is None:
            return
        last = self.seq.get(edge)
        if kind != "NBIRTH" and last is not None and seq not in ((last + 1) % 256, last):
            self.counters["seq_gap"] += 1
            self._wanted.add(edge)
        self.seq[edge] = seq

    def rebirths(self, now_s: float) -> list[tuple[str, bytes]]:
        """(topic, payload) of the requests for a new birth that are due; one edge node is asked once in 30 s."""
        out = []
        for edge in sorted(self._wanted):
            if now_s - self._asked_at.get(edge, -1e9) >= REBIRTH_PAUSE_S:
                self._asked_at[edge] = now_s
                self.counters["rebirths"] += 1
                out.append((f"spBv1.0/{edge[0]}/NCMD/{edge[1]}", rebirth_payload()))
        return out


def _session(message: Payload) -> Value:
    """The number of a session, in its birth and in its last will; None when a message tells none."""
    return next((m.value for m in message.metrics if m.name == "bdSeq"), None)


def rebirth_payload() -> bytes:
    """The command that asks an edge node for its birth: one boolean metric."""
    name = REBIRTH.encode()
    metric = b"\x0a" + bytes([len(name)]) + name + b"\x20\x0b" + b"\x70\x01"
    return b"\x12" + bytes([len(metric)]) + metric
