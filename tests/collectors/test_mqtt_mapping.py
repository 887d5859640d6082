"""MQTT dialects as data: what a message of each form becomes."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collectors.health import health_message
from collectors.mqtt_devices import Arrival, Router, listeners_of
from collectors.mqtt_mapping import (
    MqttDevice,
    keyed_values,
    mqtt_device,
    parse_mapping,
    ready_mappings,
    to_readings,
    topic_pattern,
)
from collectors.park_devices import FieldDevice, Target
from collectors.spool import SpoolSize
from park.catalogue import Device
from park.errors import InputError, ReadingError

NOW = 1_795_400_000_000


def _field(mapping: dict[str, Any], keys: dict[str, str], code: str = "d.e1.plc", unit: str = "degC") -> FieldDevice:
    row = Device(code=code, protocol="mqtt", mapping={"topic": "v/{device}/up", **mapping})
    return FieldDevice("b", "Asia/Shanghai", row, {k: Target(p, unit, "gauge", 60) for k, p in keys.items()})


def _device(mapping: dict[str, Any], *keys: str, unit: str = "degC") -> MqttDevice:
    return mqtt_device(_field(mapping, {k: k for k in keys}, unit=unit))


def _rows(one: MqttDevice, payload: Any, **captures: str) -> list[tuple[str, int, float | None, str]]:
    raw = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    r, *_ = to_readings(one, captures, raw, NOW)
    return list(zip(r.point, r.at, r.value, r.quality, strict=True))


DIALECTS: list[tuple[str, dict[str, Any], Any, list[tuple[str, int, float | None, str]]]] = [
    ("flat in ms", {}, {"ts": NOW - 5, "a": 1.5, "b": "2.5"}, [("a", NOW - 5, 1.5, "good"), ("b", NOW - 5, 2.5, "good")]),
    ("flat in s", {"time": "t"}, {"t": 1_795_000_000, "a": 1}, [("a", 1_795_000_000_000, 1.0, "good")]),
    ("ts and values", {"form": "ts_values", "time": "ts", "time_unit": "ms", "values": "values"},
     {"ts": NOW, "values": {"a": True, "b": None}}, [("a", NOW, 1.0, "good"), ("b", NOW, None, "missing")]),
    ("ThingsBoard telemetry in a list", {"form": "ts_values"},
     [{"ts": NOW, "values": {"a": 1}}, {"ts": NOW + 1, "values": {"a": 2}}],
     [("a", NOW, 1.0, "good"), ("a", NOW + 1, 2.0, "good")]),
    ("ThingsBoard gateway", {"form": "thingsboard", "where": {"device": "D1"}},
     {"D1": [{"ts": NOW, "values": {"a": 1}}], "D2": [{"ts": NOW, "values": {"a": 9}}]}, [("a", NOW, 1.0, "good")]),
    ("ThingsBoard gateway, device in the key", {"form": "thingsboard", "key": "{device}.{key}"},
     {"D1": [{"ts": NOW, "values": {"t": 1}}]}, [("D1.t", NOW, 1.0, "good")]),
    ("Neuron", {"form": "neuron"}, {"node": "n", "group": "g", "timestamp": NOW, "values": {"a": 1}, "errors": {"b": 3002}},
     [("a", NOW, 1.0, "good"), ("b", NOW, None, "missing")]),
    ("Neuron tags", {"form": "neuron"}, {"timestamp": NOW, "tags": [{"name": "a", "value": 1}, {"name": "b", "error": 2014}]},
     [("a", NOW, 1.0, "good"), ("b", NOW, None, "missing")]),
    ("Tasmota", {"time": "Time", "time_unit": "local"}, {"Time": "2026-11-23T11:00:00", "ENERGY": {"Power": 800}},
     [("ENERGY.Power", int(datetime(2026, 11, 23, 11, tzinfo=ZoneInfo("Asia/Shanghai")).timestamp() * 1000), 800.0, "good")]),
    ("Shelly gen2", {"values": "params", "time": "params.ts"},
     {"src": "x", "params": {"ts": 1_795_000_000.25, "switch:0": {"apower": 9}}},
     [("switch:0.apower", 1_795_000_000_250, 9.0, "good")]),
    ("SenML", {"form": "senml"}, [{"bn": "s:", "bt": 1_795_000_000, "n": "a", "v": 1}, {"n": "b", "t": -2, "vb": True}],
     [("s:a", 1_795_000_000_000, 1.0, "good"), ("s:b", 1_794_999_998_000, 1.0, "good")]),
    ("a list of points", {"values": "data"}, {"time": "2026-11-23T03:00:00Z", "data": [{"x": 1}, {"x": 2}]},
     [("0.x", 1_795_402_800_000, 1.0, "good"), ("1.x", 1_795_402_800_000, 2.0, "good")]),
    ("no time", {"time_unit": "none"}, {"ts": 5, "a": 1}, [("a", NOW, 1.0, "good")]),
    ("words for no value", {"missing": [-9999, "ERR"]}, {"ts": NOW, "a": "--", "b": -9999, "c": "ERR", "d": "n/a"},
     [("a", NOW, None, "missing"), ("b", NOW, None, "missing"), ("c", NOW, None, "missing"), ("d", NOW, None, "missing")]),
    ("no numbers", {}, {"ts": NOW, "a": "NaN", "b": "hot", "c": "1e999"},
     [("a", NOW, None, "bad"), ("b", NOW, None, "bad"), ("c", NOW, None, "bad")]),
    ("bare NaN", {}, b'{"ts": 1795400000000, "a": NaN, "b": [1, -Infinity]}',
     [("a", NOW, None, "bad"), ("b.0", NOW, 1.0, "good"), ("b.1", NOW, None, "bad")]),
    ("a byte order mark", {}, b'\xef\xbb\xbf{"ts": 1795400000000, "a": 1}', [("a", NOW, 1.0, "good")]),
    ("a plain value behind a byte order mark", {"form": "value", "key": "{device}"}, b"\xef\xbb\xbf21.5",
     [("D9", NOW, 21.5, "good")]),
    ("a plain value", {"form": "value", "key": "{device}"}, b" 21.5\n", [("D9", NOW, 21.5, "good")]),
    ("on and off", {"form": "value", "key": "{device}"}, b"ON", [("D9", NOW, 1.0, "good")]),
]


@pytest.mark.parametrize("name", [n for n, found in ready_mappings().items() if "example" in found])
def test_a_ready_mapping_reads_its_own_example(name: str) -> None:
    found = ready_mappings()[name]
    assert found["source"] and found["about"]
    mapping, example = parse_mapping({"ready": name}), found["example"]
    captures = topic_pattern(mapping.topic).match(example["topic"])
    assert captures is not None
    values = keyed_values(mapping, ZoneInfo("Asia/Shanghai"), captures, example["payload"].encode(), NOW)
    assert [(v.key, v.at, v.value, v.quality) for v in values] == [
        (key, NOW if at == "arrival" else round(datetime.fromisoformat(at).timestamp() * 1000), value, quality)
        for key, at, value, quality in example["expect"]]


def test_fields_of_a_device_go_before_those_of_a_ready_mapping() -> None:
    assert set(ready_mappings()) >= {"flat_json", "ts_values", "thingsboard_gateway", "neuron", "tasmota", "shelly_gen2",
                                     "homie", "senml", "sparkplug"}
    one = parse_mapping({"ready": "tasmota", "topic": "home/{device}/tele", "units": {"a": "W"}})
    assert (one.topic, one.time, one.time_unit, one.units) == ("home/{device}/tele", "Time", "local", {"a": "W"})
    with pytest.raises(InputError, match="mapping: there is no ready mapping 'nope'; known: flat_json"):
        parse_mapping({"ready": "nope"})


@pytest.mark.parametrize(("mapping", "payload", "rows"), [d[1:] for d in DIALECTS], ids=[d[0] for d in DIALECTS])
def test_a_dialect_becomes_readings(mapping: dict[str, Any], payload: Any,
                                    rows: list[tuple[str, int, float | None, str]]) -> None:
    assert _rows(_device(mapping, *{r[0] for r in rows}), payload, device="D9") == rows


def test_units_that_a_device_sends_are_converted() -> None:
    device = _device({"units": {"P": "W"}}, "P", "Q", unit="kW")
    assert [v for _, _, v, _ in _rows(device, {"ts": NOW, "P": 1500, "Q": 2})] == [1.5, 2.0]


def test_a_partial_update_gives_only_what_it_has() -> None:
    device = _device({}, "a", "b")
    assert [p for p, *_ in _rows(device, {"ts": NOW, "b": 1})] == ["b"]


@pytest.mark.parametrize(("payload", "form"), [(b"not json", "flat"), (b"[1, 2]", "ts_values"), (b"5", "thingsboard"),
                                               (b'{"ts": 1}', "ts_values"), (b"\xff\xfe", "flat"), (b"", "senml")])
def test_a_payload_that_has_not_the_form_is_told(payload: bytes, form: str) -> None:
    with pytest.raises(ReadingError) as caught:
        _rows(_device({"form": form}, "a"), payload)
    assert caught.value.reason == "bad_payload"


@pytest.mark.parametrize("time", ["yesterday", {"a": 1}, 1e300, "2026-13-01T00:00:00Z", [1]])
def test_a_time_that_is_none_is_told(time: Any) -> None:
    device = _device({"time": "ts"}, "a")
    with pytest.raises(ReadingError) as caught:
        _rows(device, {"ts": time, "a": 1})
    assert caught.value.reason == "bad_time"


@given(st.binary(max_size=200), st.sampled_from(["flat", "ts_values", "thingsboard", "neuron", "senml", "value"]))
def test_no_payload_crashes_a_mapping(payload: bytes, form: str) -> None:
    try:
        to_readings(_device({"form": form}, "a"), {}, payload, NOW)
    except ReadingError as exc:
        assert exc.reason in ("bad_payload", "bad_time")


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
                    lambda x: st.lists(x, max_size=4) | st.dictionaries(
                        st.sampled_from(["ts", "values", "n", "v", "bn", "bt", "t", "a"]), x),
                    max_leaves=12)


@settings(max_examples=60)
@given(JSON, st.sampled_from(["flat", "ts_values", "thingsboard", "neuron", "senml"]))
def test_no_json_crashes_a_mapping(body: Any, form: str) -> None:
    try:
        to_readings(_device({"form": form}, "a"), {}, json.dumps(body).encode(), NOW)
    except ReadingError as exc:
        assert exc.reason in ("bad_payload", "bad_time")


@pytest.mark.parametrize(("topic", "subscription", "sample", "captures"), [
    ("v/{site}/+/up", "v/+/+/up", "v/e1/x/up", {"site": "e1"}),
    ("v/{device}/#", "v/+/#", "v/d/a/b", {"device": "d"}),
    ("a.b/+", "a.b/+", "a.b/c", {})])
def test_topics_with_captures(topic: str, subscription: str, sample: str, captures: dict[str, str]) -> None:
    pattern = topic_pattern(topic)
    assert pattern.subscription == subscription
    assert pattern.match(sample) == captures
    assert pattern.match("other/" + sample) is None


@pytest.mark.parametrize(("mapping", "message"), [
    ({"topic": "a/b+"}, r"expected \+ or # alone"), ({"topic": "a/#/b"}, "expected # only at the end"),
    ({"form": "xml"}, "mapping.form: Input should be"), ({"tiem": "ts"}, "mapping.tiem: Extra inputs"),
    ({"units": {"a": "kW"}}, "cannot turn kW")])
def test_a_wrong_mapping_is_told_with_its_field(mapping: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        _device(mapping, "a")


def _router(*fields: FieldDevice) -> Router:
    listeners, mistakes = listeners_of(fields)
    assert mistakes == []
    return Router(listeners, "b")


def test_a_capture_called_device_picks_the_device_that_bears_it() -> None:
    router = _router(_field({}, {"t": "plc.t"}, "d.e1.plc"), _field({}, {"t": "mes.t"}, "d.e1.mes"))
    payload = json.dumps({"ts": NOW, "t": 1}).encode()
    (readings,) = router.take(Arrival("v/mes/up", payload, False, NOW))
    assert readings.point == ["mes.t"]  # type: ignore[union-attr]
    assert len(router.take(Arrival("v/another/up", payload, False, NOW))) == 2


def test_what_is_no_message_of_a_device_becomes_a_dead_letter_and_an_error_of_its_health() -> None:
    router = _router(_field({}, {"t": "t"}))
    (letter,) = router.take(Arrival("v/plc/up", b"{oops", False, NOW))
    assert letter.reason == "bad_payload" and "d.e1.plc, v/plc/up" in letter.detail  # type: ignore[union-attr]
    assert router.listeners[0].health.errors == {"bad_payload": 1}
    assert router.take(Arrival("other/topic", b"{}", False, NOW)) == []


def test_a_retained_message_without_a_time_does_not_get_the_present_one() -> None:
    router = _router(_field({"time_unit": "none"}, {"t": "t"}))
    assert router.take(Arrival("v/plc/up", b'{"t": 1}', True, NOW)) == []
    assert len(router.take(Arrival("v/plc/up", b'{"t": 1}', False, NOW))) == 1


def test_the_clock_of_a_device_is_known_from_the_times_it_sends_and_not_from_delays() -> None:
    router = _router(_field({}, {"t": "t"}))
    health = router.listeners[0].health

    def hear(ahead_s: int, *, retained: bool = False, ts: bool = True) -> float | None:
        sent = {"t": 1} | ({"ts": NOW + 1000 * ahead_s} if ts else {})
        router.take(Arrival("v/plc/up", json.dumps(sent).encode(), retained, NOW))
        told = json.loads(health_message([health], SpoolSize(0, 0, 0, 0, 1), NOW))["devices"][0].get("clock_offset_ms")
        return None if told is None else told / 1000
    assert [hear(0, ts=False), hear(-86_400, retained=True)] == [None, None], "neither tells a clock"
    assert [hear(-3600), hear(-3599), hear(-2)] == [-3600, -3599, -2], "kept messages are late, those of now are not"
    assert [hear(300), *[hear(-2) for _ in range(5)]] == [300] * 5 + [-2], "an offset is gone when the clock is set"


def test_values_that_no_point_takes_are_named_in_health() -> None:
    router = _router(_field({}, {"t": "t"}))
    router.take(Arrival("v/plc/up", json.dumps({"ts": NOW, "t": 1, "extra": 2}).encode(), False, NOW))
    assert router.listeners[0].health.notes["unmapped"] == ["extra"]
