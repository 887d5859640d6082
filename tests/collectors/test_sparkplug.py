"""Sparkplug B messages, built here field by field, as readings."""

from __future__ import annotations

import struct
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.mqtt_devices import Arrival, Router, listeners_of
from collectors.park_devices import FieldDevice, Target
from collectors.sparkplug import EdgeNodes, decode, rebirth_payload
from park.catalogue import Device
from park.errors import ReadingError

T = 1_795_428_000_000


def _varint(n: int) -> bytes:
    out = b""
    while n > 0x7F:
        out, n = out + bytes([n & 0x7F | 0x80]), n >> 7
    return out + bytes([n])


def _field(number: int, value: int | float | bytes | str) -> bytes:
    if isinstance(value, float):
        return _varint(number << 3 | 1) + struct.pack("<d", value) if number == 13 else (
            _varint(number << 3 | 5) + struct.pack("<f", value))
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _metric(**f: Any) -> bytes:
    numbers = {"name": 1, "alias": 2, "at": 3, "type": 4, "historical": 5, "null": 7, "int": 10, "long": 11, "float": 12,
               "double": 13, "bool": 14, "text": 15, "dataset": 17}
    return _field(2, b"".join(_field(numbers[k], v) for k, v in f.items()))


def _payload(seq: int | None, *metrics: bytes, at: int = T) -> bytes:
    return _field(1, at) + b"".join(metrics) + (b"" if seq is None else _field(3, seq))


NBIRTH = _payload(0, _metric(name="bdSeq", type=4, long=1), _metric(name="Node Control/Rebirth", type=11, bool=0))
DBIRTH = _payload(1, _metric(name="power", alias=5, type=10, double=1.5), _metric(name="temp", alias=6, type=2, int=0xFFFB),
                  _metric(name="on", alias=7, type=11, bool=1))


def _router(**mapping: Any) -> Router:
    row = Device(code="d.line", protocol="mqtt", mapping={"topic": "spBv1.0/plant/{type}/e1/#", "form": "sparkplug"} | mapping)
    targets = {k: Target(k, u, "gauge", 5) for k, u in (("power", "kW"), ("temp", "degC"), ("on", "state"))}
    listeners, mistakes = listeners_of([FieldDevice("b", "Asia/Shanghai", row, targets)])
    assert mistakes == []
    return Router(listeners, "b")


def _take(router: Router, kind: str, payload: bytes, device: str = "/d7") -> list[tuple[Any, ...]]:
    items: list[Any] = router.take(Arrival(f"spBv1.0/plant/{kind}/e1{device}", payload, False, T + 500))
    return [row for r in items for row in zip(r.point, r.at, r.value, r.quality, strict=True)]


def test_data_are_named_by_the_aliases_of_the_birth_and_signed_by_its_types() -> None:
    router = _router()
    assert _take(router, "NBIRTH", NBIRTH, "") == []
    assert _take(router, "DBIRTH", DBIRTH) == [("power", T, 1.5, "good"), ("temp", T, -5.0, "good"), ("on", T, 1.0, "good")]
    data = _payload(2, _metric(alias=5, at=T + 10, float=2.5), _metric(alias=6, int=0xFFFFFFFE), _metric(alias=7, null=1))
    assert _take(router, "DDATA", data) == [
        ("power", T + 10, 2.5, "good"), ("temp", T, -2.0, "good"), ("on", T, None, "missing")]
    assert router.requests() == []


def test_a_missing_number_and_an_unknown_alias_ask_for_a_new_birth_once() -> None:
    router = _router()
    _take(router, "NBIRTH", NBIRTH, "")
    _take(router, "DBIRTH", DBIRTH)
    assert _take(router, "DDATA", _payload(4, _metric(alias=5, double=3.0))) == [("power", T, 3.0, "good")]
    assert router.requests() == [("spBv1.0/plant/NCMD/e1", rebirth_payload())]
    assert _take(router, "DDATA", _payload(5, _metric(alias=99, double=3.0))) == []
    assert router.requests() == [], "once in half a minute"
    (asked,) = decode(rebirth_payload()).metrics
    assert (asked.name, asked.value) == ("Node Control/Rebirth", True)
    _take(router, "NBIRTH", NBIRTH, "")
    nodes = router.listeners[0].device.mapping.edge_nodes
    assert nodes.rebirths(time.monotonic() + 60) == []
    assert nodes.counters == {"seq_gap": 1, "unknown_alias": 1, "rebirths": 1}


def test_a_start_in_the_middle_of_a_session_asks_for_the_birth() -> None:
    router = _router()
    assert _take(router, "DDATA", _payload(77, _metric(alias=5, double=3.0))) == []
    assert [t for t, _ in router.requests()] == ["spBv1.0/plant/NCMD/e1"]


def test_the_number_wraps_at_256_and_a_repeated_message_is_no_gap() -> None:
    nodes = EdgeNodes()
    nodes.take("spBv1.0/p/NBIRTH/e", NBIRTH)
    for seq in (*range(1, 256), 0, 0, 1):
        nodes.take("spBv1.0/p/NDATA/e", _payload(seq))
    assert nodes.counters["seq_gap"] == 0


def test_historical_values_keep_their_own_time_or_are_left_out() -> None:
    router = _router()
    _take(router, "DBIRTH", DBIRTH)
    rows = _take(router, "DDATA", _payload(2, _metric(alias=5, at=T - 3_600_000, historical=1, double=9.0),
                                           _metric(alias=6, historical=1, int=4)))
    assert rows == [("power", T - 3_600_000, 9.0, "good")]
    assert router.listeners[0].device.mapping.edge_nodes.counters["historical_without_time"] == 1


def test_a_death_makes_the_values_missing_and_never_zero() -> None:
    router = _router()
    _take(router, "NBIRTH", NBIRTH, "")
    _take(router, "DBIRTH", DBIRTH)
    rows = _take(router, "NDEATH", _payload(None), "")
    assert {(p, v, q) for p, _, v, q in rows} == {(p, None, "missing") for p in ("power", "temp", "on")}
    assert {at for _, at, _, _ in rows} == {T + 500}


def test_devices_of_an_edge_node_are_told_apart() -> None:
    router = _router(where={"device": "d8"})
    _take(router, "DBIRTH", DBIRTH)
    assert _take(router, "DDATA", _payload(2, _metric(alias=5, double=3.0))) == []
    assert len(_take(router, "DBIRTH", _payload(3, _metric(name="power", alias=5, type=10, double=8.0)), "/d8")) == 1


def test_what_is_no_sparkplug_becomes_a_dead_letter() -> None:
    router = _router()
    (letter,) = router.take(Arrival("spBv1.0/plant/DDATA/e1/d7", b'{"power": 1}', False, T))
    assert letter.reason == "bad_payload"  # type: ignore[union-attr]


@given(st.binary(max_size=120))
def test_no_bytes_break_the_decoder(data: bytes) -> None:
    try:
        decode(data)
    except ReadingError as exc:
        assert exc.reason == "bad_payload"


@pytest.mark.parametrize("cut", range(1, len(DBIRTH), 7))
def test_a_payload_cut_short_never_gives_more_metrics(cut: int) -> None:
    try:
        assert len(decode(DBIRTH[:cut]).metrics) < 3 or cut > len(DBIRTH) - 4
    except ReadingError:
        pass
