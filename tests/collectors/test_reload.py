"""A changed catalogue: devices that stay the same lose no poll, no message, and nothing they have learned."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from collectors.catalogue_source import DatabaseCatalogue, FileCatalogue, FilesAndDatabase, OwnPart, beside
from collectors.collection import Collection, CollectOptions
from collectors.health_readings import KEYS, health_mistakes
from collectors.park_devices import FieldDevice, Target
from collectors.polled import polled_gateways
from collectors.run import apply_catalogue, close_collection, open_collection
from park.broker import Broker
from park.catalogue import Catalogue, Device
from park.errors import InputError
from park.mqtt import connect, new_client
from park.wire import decode_batch
from tests.collectors.conftest import Collector


def _meter(port: int, unit: int, point: str, *, health: dict[str, Target] | None = None, **more: Any) -> FieldDevice:
    row = Device(code=f"m{unit}", protocol="modbus", template="eastron.sdm630", connection=f"tcp://127.0.0.1:{port}",
                 unit_id=unit, every={"fast": 0.2}, **more)
    return FieldDevice("b", "Asia/Shanghai", row, {"active_power": Target(point, "W", "gauge", 5)}, health or {})


async def _while_running(devices: list[FieldDevice], options: CollectOptions, script: Any) -> None:
    collection = open_collection(options)
    task = asyncio.create_task(collection.intake.run())
    try:
        await apply_catalogue(collection, devices)
        await script(collection)
    finally:
        await close_collection(collection)
        await task


def _holds(collection: Collection, value: float) -> bool:
    return any(p == "pc" and v == value for p, _, v in _rows(collection))


async def _soon(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


def _rows(collection: Collection) -> list[tuple[str, int, float]]:
    """(point, at, value) of all that is in the spool."""
    batches = [decode_batch(b.payload) for b in collection.spool.after(0, 10_000)]
    return [(str(p), int(a), float(v)) for b in batches
            for p, a, v in zip(b.point, b.at, b.value, strict=True) if v is not None]


def test_meters_behind_the_same_gateway_keep_their_polls_while_their_neighbours_change(
        field_gateway: Callable[..., Any], tmp_path: Path) -> None:
    field = field_gateway(counting=True, units={n: {} for n in range(1, 6)})

    async def script(collection: Collection) -> None:
        ((gateway, task),) = collection.polls.values()
        kept = gateway.units[0]
        await _soon(lambda: all(u.health.readings > 2 for u in gateway.units))
        for n in range(8):  # a neighbour is renamed, one comes, one goes, eight times
            await apply_catalogue(collection, [_meter(field.port, 1, "p1"), _meter(field.port, 2, f"p2.{n}"),
                                               *([_meter(field.port, 4 + n % 2, "p4")] if n % 3 else [])])
            await asyncio.sleep(0.25)
        await _soon(lambda: sum(p == "p2.7" for p, *_ in _rows(collection)) > 2)
        assert collection.polls[gateway.endpoint.url] == (gateway, task) and gateway.units[0] is kept
        assert [u.field.code for u in gateway.units] == ["m1", "m2", "m5"] and gateway.link.connects == 1
        assert kept.health.errors["overrun"] == 0, "no poll of the unchanged meter was left out"
        field.silent.update(field.units)
        await asyncio.sleep(0.5)
        given = [float(number) for unit, *_, number in field.served if unit == 1]
        mine = [(at, value) for point, at, value in _rows(collection) if point == "p1"]
        assert [value for _, value in mine] == given, "every answer of the unchanged meter is there"
        steps = [b[0] - a[0] for a, b in itertools.pairwise(mine)]
        assert max(steps) < 390 and abs(sum(steps) / len(steps) - 200) < 10, "the period was kept"
    asyncio.run(asyncio.wait_for(_while_running(
        [_meter(field.port, 1, "p1"), _meter(field.port, 2, "p2"), _meter(field.port, 3, "p3")],
        CollectOptions("s", "mqtt://127.0.0.1:1", tmp_path), script), 40))


def test_a_changed_template_or_ratio_makes_a_new_unit_and_an_unchanged_one_keeps_what_it_learned(
        field_gateway: Callable[..., Any], tmp_path: Path) -> None:
    field = field_gateway(units={1: {}, 2: {}})
    field.refuses[1] = {52, 53}

    async def script(collection: Collection) -> None:
        ((gateway, _),) = collection.polls.values()
        first, second = gateway.units
        await _soon(lambda: first.health.notes.get("bad_registers") and second.health.readings)
        await apply_catalogue(collection, [_meter(field.port, 1, "p1"), _meter(field.port, 2, "p2", parameters={"x": 2.0})])
        assert gateway.units[0] is first and first.health.notes["bad_registers"] == ["active_power"]
        assert gateway.units[1] is not second
    asyncio.run(asyncio.wait_for(_while_running([_meter(field.port, 1, "p1"), _meter(field.port, 2, "p2")],
                                                CollectOptions("s", "mqtt://127.0.0.1:1", tmp_path), script), 20))


def test_a_template_file_of_ones_own_is_watched_like_the_catalogue(tmp_path: Path) -> None:
    template, folder = tmp_path / "own.yaml", tmp_path / "catalogue"
    folder.mkdir()
    file = folder / "park.yaml"
    text = ("template: own.meter\nversion: 1\nvendor: O\nmodels: [O]\nkind: meter\nsource: [manual]\n"
            "points: [{key: p, quantity: active_power, address: 10, type: u16, unit: W}]\n")
    template.write_text(text)
    file.write_text("base: {code: b, name: B}\ndevices:\n  - {code: m, protocol: modbus, template: " + str(template)
                    + ', connection: "tcp://127.0.0.1:1", unit_id: 1}\n'
                    "points:\n  - {code: kw, quantity: active_power, unit: kW, source: {device: m, key: p}}\n")
    catalogue = FileCatalogue([folder], poll_s=0.01)
    (first,) = polled_gateways(catalogue.load())[0]
    assert not catalogue.wait_for_change(0.05)
    template.write_text(text.replace("address: 10", "address: 11"))
    assert catalogue.wait_for_change(1.0)
    known = {("b", "m"): first.units[0]}
    (second,) = polled_gateways(catalogue.load(), known=known)[0]
    assert second.units[0] is not first.units[0] and second.units[0].template.points[0].address == 11
    assert not catalogue.wait_for_change(0.05)
    (third,) = polled_gateways(catalogue.load(), known={("b", "m"): second.units[0]})[0]
    assert third.units[0] is second.units[0]
    file.write_text("base: {code: b")
    assert catalogue.wait_for_change(1.0)
    with pytest.raises(InputError):
        catalogue.load()
    assert not catalogue.wait_for_change(0.05), "a wrong catalogue is not read again and again"


def _plc(code: str, keys: dict[str, str]) -> FieldDevice:
    row = Device(code=code, protocol="mqtt", mapping={"topic": f"reload/{code}/up", "form": "flat", "time_unit": "none"})
    return FieldDevice("b", "Asia/Shanghai", row, {k: Target(p, "degC", "gauge", 5) for k, p in keys.items()})


def test_mqtt_devices_lose_no_message_while_others_come_and_go(broker: Broker, tmp_path: Path) -> None:
    client = new_client(broker.url, "reload-plc")
    connect(client, broker.url)
    client.loop_start()

    def publish(device: str, n: int) -> bool:
        client.publish(f"reload/{device}/up", json.dumps({"t": n}), qos=0).wait_for_publish(5)
        return False

    async def script(collection: Collection) -> None:
        assert collection.subscriber is not None and collection.router is not None
        await _soon(lambda: collection.router.counters["messages"] or publish("a", 0))  # type: ignore[union-attr]
        subscriber, listener = collection.subscriber, collection.router.listeners[0]
        for n in range(1, 101):
            publish("a", n)  # QoS 0: what nobody hears is gone
            if n % 10 == 0:
                others = [_plc(f"b{n}", {"t": f"pb{n}"})] if n % 20 else []
                await apply_catalogue(collection, [_plc("a", {"t": "pa"}), *others])
            await asyncio.sleep(0.005)
        await apply_catalogue(collection, [_plc("a", {"t": "pa"}), _plc("c", {"t": "pc"})])
        await _soon(lambda: any(p == "pc" for p, *_ in _rows(collection)) or publish("c", 7))
        assert collection.subscriber is subscriber and subscriber.connects == 1
        assert collection.router.listeners[0] is listener
        values = [v for p, _, v in _rows(collection) if p == "pa" and v > 0]
        assert values == [float(n) for n in range(1, 101)]
        await apply_catalogue(collection, [_plc("c", {"t": "pc"})])
        deadline, n, heard = time.monotonic() + 15, 1000, 1
        while heard and time.monotonic() < deadline:  # until the broker has taken the subscription back
            n += 1
            publish("a", n)
            publish("c", n)
            await _soon(partial(_holds, collection, n))
            heard = collection.router.counters["not_routed"]
            collection.router.counters["not_routed"] = 0
        assert not heard, "a device that is gone is not heard"
    try:
        options = CollectOptions("s", broker.url, tmp_path)
        asyncio.run(asyncio.wait_for(_while_running([_plc("a", {"t": "pa"})], options, script), 40))
    finally:
        client.disconnect()
        client.loop_stop()


def test_health_of_devices_and_connections_becomes_readings_and_metrics(
        broker: Broker, tmp_path: Path, field_gateway: Callable[..., Any], collect: Callable[..., Collector],
        ear: Callable[[str], Any], until: Any) -> None:
    field = field_gateway(units={1: {}})
    field.silent.add(2)
    points = {"online": ("state", "state"), "latency": ("latency", "s"), "silence": ("latency", "s"),
              "errors.timeout": ("count", "times"), "connection.online": ("state", "state"),
              "connection.requests": ("count", "times")}
    lines = ["base: {code: mini, name: Mini}", "devices:"]
    lines += [f'  - {{code: m{u}, protocol: modbus, template: eastron.sdm630, connection: "tcp://127.0.0.1:{field.port}?timeout_s=0.2",'
              f' unit_id: {u}, every: {{fast: 0.2}}}}' for u in (1, 2)]
    lines += ["points:"]
    lines += [f"  - {{code: m{u}.kw, quantity: active_power, unit: kW, source: {{device: m{u}, key: active_power}}}}"
              for u in (1, 2)]
    lines += [f"  - {{code: m{u}.{k}, quantity: {q}, unit: {unit}, source: {{device: m{u}, key: health.{k}}}}}"
              for u in (1, 2) for k, (q, unit) in points.items()]
    file = tmp_path / "mini.yaml"
    file.write_text("\n".join(lines), encoding="utf-8")
    listener = ear(broker.url)
    collector = collect(broker.url, file)
    until(lambda: any(p == "m2.online" and v == 0.0 for p, _, v in listener.rows()), 30)
    last = {p: v for p, _, v in listener.rows()}
    assert last["m1.online"] == 1.0 and 0 < last["m1.latency"] < 1 and 0 <= last["m1.silence"] < 5
    assert last["m2.errors.timeout"] >= 2 and last["m1.errors.timeout"] == 0
    assert last["m2.silence"] is None and last["m2.latency"] is None, "not known is no zero"
    assert last["m1.connection.online"] == 1.0 and last["m1.connection.requests"] > 2
    metrics = collector.metrics()
    url = f"tcp://127.0.0.1:{field.port}?timeout_s=0.2"
    assert f'park_connection_up{{connection="{url}",protocol="modbus"}} 1.0' in metrics
    assert 'park_device_up{base="mini",device="m2"} 0.0' in metrics
    assert 'park_device_errors_total{base="mini",device="m2",kind="timeout"}' in metrics
    (line,) = [c for c in listener.of("health")[-1]["connections"] if c["protocol"] == "modbus"]
    assert line["state"] == "online" and line["devices"] == 2 and line["connects"] == 1


@pytest.mark.parametrize(("key", "unit", "words"), [
    ("health.mood", "state", "there is no key 'health.mood'; known: health.online"),
    ("health.latency", "kW", "cannot turn ms")])
def test_a_wrong_key_of_health_is_a_mistake(key: str, unit: str, words: str) -> None:
    device = FieldDevice("b", "UTC", Device(code="d", protocol="manual"), {}, {key: Target("p", unit, "gauge", 60)})
    (mistake,) = health_mistakes([device])
    assert words in mistake
    good = {f"health.{k}": Target("p", u, "gauge", 60) for k, u in KEYS.items()} | {
        "health.errors.timeout": Target("p", "times", "gauge", 60)}
    assert health_mistakes([FieldDevice("b", "UTC", Device(code="d", protocol="manual"), {}, good)]) == []


def test_collectors_that_have_one_catalogue_share_its_devices(tmp_path: Path) -> None:
    file = tmp_path / "park.yaml"
    file.write_text("base: {code: b, name: B}\ndevices:\n" + "".join(
        f"  - {{code: {code}, protocol: mqtt, mapping: {{topic: t}}, attributes: {{{about}}}}}\n"
        for code, about in (("d.a", ""), ("d.b", "collector: hall-3"), ("d.c", "collector: hall-4"))))
    read = {name: [d.code for d in OwnPart(FileCatalogue([file]), name).load()] for name in ("collector", "hall-3", "hall-4")}
    assert read == {"collector": ["d.a"], "hall-3": ["d.b"], "hall-4": ["d.c"]}


def test_beside_the_files_stands_what_only_the_database_has_and_not_what_got_another_name(tmp_path: Path) -> None:
    def catalogue(*rows: tuple[str, str, str]) -> Catalogue:      # device, its MN, its point
        return Catalogue.model_validate({
            "base": {"code": "b", "name": "B"},
            "devices": [{"code": d, "protocol": "hj212", "mn": mn} for d, mn, _ in rows],
            "points": [{"code": p, "quantity": "so2", "unit": "mg/m3", "kind": "gauge", "source": {"device": d, "key": p}}
                       for d, _, p in rows if p]})
    own = catalogue(("one", "M1", "p1"), ("two.new", "M2", "p2"), ("three", "M3", "p3"))
    stored = catalogue(("one", "M1", "p1b"), ("two", "M9", "p2"), ("taken", "M3", "p9"),
                       ("adopted", "M4", "p4"), ("bare", "M5", ""))
    got = beside(own, stored)
    assert [d.code for d in got.devices] == ["one", "two.new", "three", "adopted", "bare"]
    assert {"p1", "p1b", "p4"} <= {p.code for p in got.points}
    file = tmp_path / "b.yaml"
    file.write_text("base: {code: b, name: B}\ndevices: [{code: one, protocol: hj212, mn: M1}]\n", encoding="utf-8")
    alone = FilesAndDatabase(FileCatalogue([file], poll_s=0.01), DatabaseCatalogue("postgresql://127.0.0.1:1/none"))
    assert [d.code for d in alone.load()] == ["one"], "the files serve while the database is away"
    assert not alone.wait_for_change(0.05)
    file.write_text("base: {code: b, name: B}\ndevices: []\n", encoding="utf-8")
    assert alone.wait_for_change(5.0)
