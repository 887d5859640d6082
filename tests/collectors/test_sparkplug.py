"""Sparkplug B messages, built here field by field, as readings."""

from __future__ import annotations

import asyncio
import struct
import threading
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.mqtt_devices import Arrival, MqttSubscriber, Router, listeners_of
from collectors.park_devices import FieldDevice, Target
from collectors.sparkplug import EdgeNodes, decode, rebirth_payload
from park.broker import Broker
from park.catalogue import Device
from park.errors import ReadingError
from park.mqtt import connect, new_client

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
               "double": 13, "bool": 14, "text": 15, "bytes": 16, "dataset": 17, "template": 18}
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


def _dataset(*rows: tuple[float, int], packed: bool = False) -> bytes:
    types = _field(3, bytes([10, 3])) if packed else _field(3, 10) + _field(3, 3)
    cells = b"".join(_field(4, _field(1, b"\x21" + struct.pack("<d", a)) + _field(1, _field(1, b))) for a, b in rows)
    return _field(1, 2) + _field(2, "level") + _field(2, "count") + types + cells


def test_cells_of_data_sets_and_members_of_templates_are_values_of_their_own() -> None:
    nodes = EdgeNodes()
    member = _field(1, "temp") + _field(4, 2) + _field(10, 0xFFFB)
    inner = _field(2, _field(1, "inner") + _field(18, _field(2, _field(1, "x") + _field(4, 10) + _field(13, 2.5))))
    birth = _payload(0, _metric(name="motor", type=19, template=_field(4, "Motor") + _field(2, member) + inner),
                     _metric(name="Motor", type=19, template=_field(5, 1) + _field(2, member)),
                     _metric(name="tank", type=16, dataset=_dataset((1.5, 0xFFFFFFFF))),
                     _metric(name="raw", type=17, bytes=b"xy"), at=T)
    ((at, values, _),) = nodes.take("spBv1.0/p/DBIRTH/e/d", birth)
    assert at == T and values == {"motor/temp": -5, "motor/inner/x": 2.5, "tank/level": 1.5, "tank/count": -1}
    assert nodes.counters["no_plain_value"] == 2, "the definition and the bytes"
    ((_, values, _),) = nodes.take("spBv1.0/p/DDATA/e/d", _payload(1, _metric(
        name="tank", dataset=_dataset((1.0, 1), (2.0, 2), packed=True)),
        _metric(name="motor", template=_field(2, _field(1, "temp") + _field(10, 0xFFFFFFFE)))))
    assert values == {"tank/0/level": 1.0, "tank/0/count": 1, "tank/1/level": 2.0, "tank/1/count": 2, "motor/temp": -2}
    (dead,) = nodes.take("spBv1.0/p/DDEATH/e/d", b"")
    assert set(dead[1]) == {"motor/temp", "motor/inner/x", "tank/level", "tank/count", "raw", "Motor"}


def test_templates_within_templates_without_end_cost_nothing() -> None:
    data = _field(1, "a")
    for _ in range(3000):
        data = _field(1, "a") + _field(18, _field(2, data))
    assert decode(_field(2, data)).metrics[0].parts == ()


def test_the_last_will_of_an_earlier_session_kills_no_newer_one() -> None:
    router = _router()
    _take(router, "NBIRTH", _payload(0, _metric(name="bdSeq", type=4, long=8)), "")
    _take(router, "DBIRTH", DBIRTH)
    assert _take(router, "NDEATH", _payload(None, _metric(name="bdSeq", type=4, long=7)), "") == []
    assert router.listeners[0].device.mapping.edge_nodes.counters["late_deaths"] == 1
    assert len(_take(router, "NDEATH", _payload(None, _metric(name="bdSeq", type=4, long=8)), "")) == 3


class EdgeNode:
    """An edge node on a real broker: last will, births, and a new birth when it is asked for one."""

    def __init__(self, url: str, session: int) -> None:
        self.session, self.seq, self.rebirths = session, 0, 0
        self.client = new_client(url, f"edge-{session}")
        will = _payload(None, _metric(name="bdSeq", type=4, long=session))
        self.client.will_set("spBv1.0/plant/NDEATH/e1", will, qos=1)
        self.client.on_message = self._asked
        connect(self.client, url)
        self.client.loop_start()
        self.client.subscribe("spBv1.0/plant/NCMD/e1", qos=1)

    def _asked(self, _client: Any, _user: Any, message: Any) -> None:
        (metric,) = decode(message.payload).metrics
        if (metric.name, metric.value) == ("Node Control/Rebirth", True):
            self.rebirths += 1
            self.born()

    def born(self) -> None:
        self.seq = 0
        self.send("NBIRTH", _metric(name="bdSeq", type=4, long=self.session),
                  _metric(name="Node Control/Rebirth", type=11, bool=0))
        self.send("DBIRTH", _metric(name="power", alias=5, type=10, double=1.0), device="/d7")

    def send(self, kind: str, *metrics: bytes, device: str = "") -> None:
        self.client.publish(f"spBv1.0/plant/{kind}/e1{device}", _payload(self.seq, *metrics))
        self.seq = (self.seq + 1) % 256

    def vanish(self) -> None:
        """Break the connection, so that the broker tells the last will."""
        self.client.loop_stop()
        self.client.socket().close()  # type: ignore[union-attr]


def test_an_edge_node_on_a_real_broker_is_born_asked_again_and_dies(broker: Broker, basket: Any, until: Any) -> None:
    router, loop = _router(), asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    subscriber = MqttSubscriber(router, broker.url, f"park-sparkplug-{time.monotonic_ns()}", basket, loop)
    subscriber.start()
    until(lambda: subscriber.connected and subscriber._subscribed)

    def last() -> tuple[Any, ...]:
        return basket.rows()[-1] if basket.rows() else ()
    try:
        node = EdgeNode(broker.url, 1)
        time.sleep(0.3)
        node.born()
        until(lambda: last() == ("power", T, 1.0, "good"))
        node.send("DDATA", _metric(alias=5, at=T + 1, double=2.0), device="/d7")
        until(lambda: last() == ("power", T + 1, 2.0, "good"))
        node.seq += 3  # messages that nobody got
        node.send("DDATA", _metric(alias=5, at=T + 2, double=3.0), device="/d7")
        until(lambda: node.rebirths == 1 and len([r for r in basket.rows() if r[2] == 1.0]) == 2)
        assert ("power", T + 2, 3.0, "good") in basket.rows()
        node.send("DDATA", _metric(alias=5, at=T - 60_000, historical=1, double=9.0), device="/d7")
        until(lambda: last() == ("power", T - 60_000, 9.0, "good"))
        node.vanish()
        until(lambda: last()[2:] == (None, "missing"))
        assert router.counters["rebirths"] == 1
        again = EdgeNode(broker.url, 2)
        time.sleep(0.3)
        again.born()
        until(lambda: last() == ("power", T, 1.0, "good"))
        again.vanish()
    finally:
        subscriber.stop()
        subscriber.join(5)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)
        loop.close()


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
