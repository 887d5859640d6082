"""Polling real sockets: pyModbusTCP's server as an independent device, and a gateway with faults."""

from __future__ import annotations

import asyncio
import itertools
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from pyModbusTCP.server import DataBank, ModbusServer

from collectors.gateway import Gateway, first_polls
from collectors.modbus_link import ModbusLink, ModbusRefusal, now_ms, parse_connection
from collectors.modbus_unit import ModbusUnit
from collectors.park_devices import FieldDevice, Target, field_devices
from collectors.polled import gateway_of, polled_gateways
from collectors.template import Template, load_template
from park.broker import free_port
from park.catalogue import Catalogue, Device
from park.errors import DeviceError, DeviceTimeout, InputError

QUICK = {"fast": 0.1, "slow": 0.2}


def _device(url: str, keys: dict[str, Target], *, code: str = "d.m", template: str = "eastron.sdm630", unit: int = 1,
            every: dict[str, float] | None = None, parameters: dict[str, float] | None = None) -> FieldDevice:
    row = Device(code=code, protocol="modbus", template=template, connection=url, unit_id=unit, every=every or QUICK,
                 parameters=parameters or {})
    return FieldDevice("b", "Asia/Shanghai", row, keys)


def _kw(code: str = "kw") -> Target:
    return Target(code, "kW", "gauge", 5)


def _kwh(code: str = "kwh") -> Target:
    return Target(code, "kWh", "counter", 60)


def _quick(name: str, timeout_ms: float = 150) -> Template:
    template = load_template(name)
    return template.model_copy(update={"limits": template.limits.model_copy(update={"timeout_ms": timeout_ms, "gap_ms": 0})})


def _run_for(seconds: float, gateway: Gateway, basket: Any) -> None:
    async def run() -> None:
        task = asyncio.create_task(gateway.run(basket))
        await asyncio.sleep(seconds)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    asyncio.run(run())


def _until_rows(gateway: Gateway, basket: Any, enough: Callable[[], bool], timeout_s: float = 10) -> None:
    async def run() -> None:
        task = asyncio.create_task(gateway.run(basket))
        deadline = time.monotonic() + timeout_s
        while not enough() and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        assert enough(), "the poller did not get there in time"
    asyncio.run(run())


@pytest.fixture
def independent_meter() -> Iterator[tuple[ModbusServer, str]]:
    server = ModbusServer("127.0.0.1", free_port(), no_block=True, data_bank=DataBank())
    server.start()
    yield server, f"tcp://127.0.0.1:{server.port}"
    server.stop()


def _put(server: ModbusServer, address: int, value: float) -> None:
    server.data_bank.set_input_registers(address, list(struct.unpack(">HH", struct.pack(">f", value))))


def test_an_independent_server_is_polled_and_converted_to_the_points_units(
        independent_meter: tuple[ModbusServer, str], basket: Any) -> None:
    server, url = independent_meter
    _put(server, 52, 125_000.0)
    _put(server, 72, 98765.5)
    device = _device(url, {"active_power": _kw(), "active_energy_import": _kwh(), "frequency": Target("hz", "Hz", "gauge", 5)})
    (gateway,), mistakes = polled_gateways([device])
    assert mistakes == []
    begin = now_ms()
    asyncio.run(gateway.poll_once(basket))
    rows = {p: (v, q) for p, _, v, q in basket.rows()}
    assert rows == {"kw": (125.0, "good"), "kwh": (98765.5, "good"), "hz": (0.0, "uncertain")}
    assert all(begin <= at <= now_ms() for _, at, _, _ in basket.rows())
    assert gateway.units[0].health.state(now_ms()) == "online"


def test_a_register_that_is_not_a_number_becomes_a_reading_without_value(
        independent_meter: tuple[ModbusServer, str], basket: Any) -> None:
    server, url = independent_meter
    _put(server, 52, float("nan"))
    _put(server, 70, 50.0)
    (gateway,), _ = polled_gateways([_device(url, {"active_power": _kw(), "frequency": Target("hz", "Hz", "gauge", 5)})])
    asyncio.run(gateway.poll_once(basket))
    assert {p: (v, q) for p, _, v, q in basket.rows()} == {"kw": (None, "bad"), "hz": (50.0, "good")}


def test_a_bad_register_costs_only_its_own_point_and_is_remembered(field_gateway: Callable[..., Any], basket: Any) -> None:
    field = field_gateway()
    for a, v in ((52, 1000.0), (56, 1100.0), (60, 300.0), (70, 50.0)):
        field.f32(1, a, v)
    field.refuses[1] = {60, 61}
    keys = {"active_power": _kw(), "apparent_power": Target("kva", "kVA", "gauge", 5),
            "reactive_power": Target("kvar", "kvar", "gauge", 5), "frequency": Target("hz", "Hz", "gauge", 5)}
    (gateway,), _ = polled_gateways([_device(f"tcp://127.0.0.1:{field.port}", keys)])
    unit = gateway.units[0]
    asyncio.run(gateway.poll_once(basket))
    assert {p: v for p, _, v, _ in basket.rows()} == {"kw": 1.0, "kva": 1.1, "hz": 50.0}
    assert unit.health.notes["bad_registers"] == ["reactive_power"]
    assert unit.health.state(now_ms()) == "online"
    before = len(field.requests)
    asyncio.run(gateway.poll_once(basket))
    again = field.requests[before:]
    assert all(not (a <= 60 < a + c) for _, _, a, c in again), "the refused register is not asked again"
    field.refuses.clear()
    assert isinstance(unit, ModbusUnit)
    unit._forget_bad_at = 0.0  # an hour later
    asyncio.run(gateway.poll_once(basket))
    assert basket.rows()[-1][0] == "kvar" or "kvar" in {p for p, *_ in basket.rows()}


def test_a_hole_that_the_device_refuses_is_read_around(field_gateway: Callable[..., Any], basket: Any) -> None:
    field = field_gateway()
    field.f32(1, 52, 1000.0)
    field.f32(1, 56, 1100.0)
    field.refuses[1] = {54, 55}
    (gateway,), _ = polled_gateways([_device(f"tcp://127.0.0.1:{field.port}", {
        "active_power": _kw(), "apparent_power": Target("kva", "kVA", "gauge", 5)})])
    asyncio.run(gateway.poll_once(basket))
    assert {p: v for p, _, v, _ in basket.rows()} == {"kw": 1.0, "kva": 1.1}
    assert [r[2:] for r in field.requests] == [(52, 6), (52, 2), (56, 2)]


def test_a_meter_that_stops_answering_goes_offline_and_its_neighbours_keep_their_period(
        field_gateway: Callable[..., Any], basket: Any) -> None:
    field = field_gateway()
    for unit in (1, 2, 3):
        field.f32(unit, 52, 1000.0 * unit)
    url = f"tcp://127.0.0.1:{field.port}"
    units = [ModbusUnit(_device(url, {"active_power": _kw(f"kw{n}")}, code=f"d{n}", unit=n), _quick("eastron.sdm630", 50))
             for n in (1, 2, 3)]
    gateway = gateway_of(url, units)
    field.silent.add(2)
    _run_for(3.0, gateway, basket)
    at: dict[str, list[int]] = {}
    for p, t, _, _ in basket.rows():
        at.setdefault(p, []).append(t)
    assert "kw2" not in at, "a silent meter gives no readings, neither zeros nor old values"
    assert units[1].health.state(now_ms()) == "offline"
    assert units[1].health.errors["timeout"] >= 2
    assert sum(r[0] == 2 for r in field.requests) <= 8, "back-off: a dead unit is asked ever more seldom"
    for point in ("kw1", "kw3"):
        assert len(at[point]) >= 20, f"{point} lost polls to its dead neighbour"
    assert [u.health.state(now_ms()) for u in (units[0], units[2])] == ["online", "online"]


def test_a_meter_that_answers_again_is_online_again(field_gateway: Callable[..., Any], basket: Any) -> None:
    field = field_gateway()
    field.f32(1, 52, 1000.0)
    field.silent.add(1)
    url = f"tcp://127.0.0.1:{field.port}"
    unit = ModbusUnit(_device(url, {"active_power": _kw()}), _quick("eastron.sdm630", 50))
    gateway = gateway_of(url, [unit])
    _run_for(0.5, gateway, basket)
    assert unit.health.state(now_ms()) == "offline"
    field.silent.clear()
    _until_rows(gateway, basket, lambda: len(basket.rows()) > 2)
    assert unit.health.state(now_ms()) == "online"


def test_the_link_comes_back_after_the_gateway_was_away(field_gateway: Callable[..., Any], basket: Any) -> None:
    field = field_gateway()
    field.f32(1, 52, 1000.0)
    url = f"tcp://127.0.0.1:{field.port}"
    unit = ModbusUnit(_device(url, {"active_power": _kw()}), _quick("eastron.sdm630"))
    gateway = gateway_of(url, [unit])

    async def run() -> None:
        task = asyncio.create_task(gateway.run(basket))
        while len(basket.rows()) < 3:
            await asyncio.sleep(0.02)
        await asyncio.to_thread(field.stop)
        while unit.health.state(now_ms()) == "online":
            await asyncio.sleep(0.02)
        assert unit.health.errors["connect"] + unit.health.errors["timeout"] >= 2
        known = len(basket.rows())
        await asyncio.to_thread(field.start)
        while len(basket.rows()) < known + 3:
            await asyncio.sleep(0.02)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    asyncio.run(asyncio.wait_for(run(), 20))
    assert unit.health.state(now_ms()) == "online"


def test_a_half_open_connection_is_opened_anew(field_gateway: Callable[..., Any], basket: Any) -> None:
    field = field_gateway(mute_connections=1)
    field.f32(1, 52, 1000.0)
    url = f"tcp://127.0.0.1:{field.port}"
    gateway = gateway_of(url, [ModbusUnit(_device(url, {"active_power": _kw()}), _quick("eastron.sdm630", 50))])
    _until_rows(gateway, basket, lambda: len(basket.rows()) > 0)
    assert field.connections == 2


@pytest.mark.parametrize("scheme", ["tcp", "rtu+tcp"])
def test_a_late_answer_is_never_taken_for_the_next_registers(field_gateway: Callable[..., Any], scheme: str) -> None:
    field = field_gateway(rtu=scheme == "rtu+tcp")
    for n in range(20):
        field.f32(1, 2 * n, float(n))

    async def run() -> list[tuple[int, float]]:
        link, got = ModbusLink(parse_connection(f"{scheme}://127.0.0.1:{field.port}")), []
        for n in range(20):
            field.delay_s[1] = 0.12 if n % 4 == 0 else 0.0
            with suppress(DeviceTimeout):
                raw = await link.read(1, 4, 2 * n, 2, 0.08)
                got.append((n, struct.unpack(">f", raw)[0]))
            await asyncio.sleep(0.03)
        link.close()
        return got

    got = asyncio.run(run())
    assert len(got) >= 10
    assert [value for _, value in got] == [float(n) for n, _ in got]


def test_rtu_frames_over_tcp_are_read(field_gateway: Callable[..., Any], basket: Any) -> None:
    field = field_gateway(rtu=True)
    field.f32(5, 52, 4321.0)
    (gateway,), _ = polled_gateways([_device(f"rtu+tcp://127.0.0.1:{field.port}", {"active_power": _kw()}, unit=5)])
    asyncio.run(gateway.poll_once(basket))
    assert [(p, v) for p, _, v, _ in basket.rows()] == [("kw", 4.321)]


def test_ratios_that_live_in_the_device_are_read_from_it(field_gateway: Callable[..., Any], basket: Any) -> None:
    field = field_gateway()
    field.units[1] = {141: 10, 142: 40, 362: 0, 363: 1500, 10: 0, 11: 12345}
    keys = {"active_power": _kw(), "active_energy_import": _kwh()}
    url = f"tcp://127.0.0.1:{field.port}"
    unit = ModbusUnit(_device(url, keys, template="acrel.dtsd1352"), _quick("acrel.dtsd1352"))
    asyncio.run(gateway_of(url, [unit]).poll_once(basket))
    assert {p: v for p, _, v, _ in basket.rows()} == {"kw": 600.0, "kwh": pytest.approx(49380.0)}


def test_ratios_of_the_catalogue_win_and_are_not_asked_for(field_gateway: Callable[..., Any], basket: Any) -> None:
    field = field_gateway()
    field.units[1] = {141: 10, 142: 40, 362: 0, 363: 1500}
    url = f"tcp://127.0.0.1:{field.port}"
    device = _device(url, {"active_power": _kw()}, template="acrel.dtsd1352", parameters={"pt_ratio": 1, "ct_ratio": 200})
    asyncio.run(gateway_of(url, [ModbusUnit(device, _quick("acrel.dtsd1352"))]).poll_once(basket))
    assert {p: v for p, _, v, _ in basket.rows()} == {"kw": 300.0}
    assert all(a not in (141, 142) for _, _, a, _ in field.requests)


def test_a_ratio_of_zero_gives_an_error_and_no_readings(field_gateway: Callable[..., Any], basket: Any) -> None:
    field = field_gateway()
    field.units[1] = {141: 0, 142: 40, 362: 0, 363: 1500}
    url = f"tcp://127.0.0.1:{field.port}"
    unit = ModbusUnit(_device(url, {"active_power": _kw()}, template="acrel.dtsd1352"), _quick("acrel.dtsd1352"))
    gateway = gateway_of(url, [unit])
    asyncio.run(gateway.poll_once(basket))
    asyncio.run(gateway.poll_once(basket))
    assert basket.rows() == []
    assert unit.health.state(now_ms()) == "error"


def test_the_ratio_of_a_point_is_left_to_accounting() -> None:
    catalogue = Catalogue.model_validate({
        "base": {"code": "b", "name": "b"},
        "devices": [{"code": "d", "protocol": "modbus", "template": "eastron.sdm630", "connection": "tcp://h:1", "unit_id": 1}],
        "points": [{"code": "p", "quantity": "active_energy", "unit": "MWh", "kind": "counter", "ratio": 40,
                    "source": {"device": "d", "key": "active_energy_import"}}]})
    (device,) = field_devices(catalogue)
    assert device.targets["active_energy_import"].into("kWh") == (0.001, 0.0)


def test_many_units_behind_one_gateway_are_spread_over_the_period() -> None:
    units = [ModbusUnit(_device("tcp://h:1", {"active_power": _kw()}, unit=n, every={"fast": 10, "slow": 60}),
                        load_template("eastron.sdm630")) for n in range(1, 21)]
    due = sorted(job[0] for job in first_polls("tcp://h:1", units, 100.0))
    steps = [b - a for a, b in itertools.pairwise(due)]
    assert due[0] >= 100.0 and due[-1] < 110.0
    assert max(steps) < 1.1 and min(steps) > 0.3


def test_wrong_devices_are_told_and_the_others_are_polled() -> None:
    good = _device("tcp://127.0.0.1:1", {"active_power": _kw()}, code="good")
    found, mistakes = polled_gateways([
        good, _device("tcp://127.0.0.1:1", {"nope": _kw()}, code="key"),
        _device("udp://x:1", {"active_power": _kw()}, code="url"),
        _device("tcp://127.0.0.1:1", {"active_power": _kw()}, code="template", template="no.such"),
        _device("tcp://127.0.0.1:1", {"active_power": Target("v", "V", "gauge", 5)}, code="unit")])
    assert [u.field.code for g in found for u in g.units] == ["good"]
    text = "\n".join(mistakes)
    for words in ("device key: the template eastron.sdm630 has no point 'nope'", "device url: expected a connection such as tcp://",
                  "device template: there is no device template 'no.such'",
                  "device unit: the point v: cannot turn W (power) into V"):
        assert words in text


def test_an_exception_of_the_device_is_told_with_its_meaning(field_gateway: Callable[..., Any]) -> None:
    field = field_gateway()
    field.units[1] = {}
    field.refuses[1] = {0}

    async def run() -> None:
        link = ModbusLink(parse_connection(f"tcp://127.0.0.1:{field.port}"))
        try:
            await link.read(1, 3, 0, 2)
        finally:
            link.close()
    with pytest.raises(ModbusRefusal, match="exception 2 \\(illegal data address\\)"):
        asyncio.run(run())


def test_garbage_instead_of_an_answer_is_an_error_and_not_a_value() -> None:
    async def run(garbage: bytes) -> None:
        answered = asyncio.Event()

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = await reader.readexactly(12)
            writer.write(garbage.replace(b"TT", head[:2]))
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                await reader.read(100)
            writer.close()
            answered.set()
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        link = ModbusLink(parse_connection(f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}"))
        try:
            await link.read(1, 3, 0, 2, 0.1)
        finally:
            link.close()
            await answered.wait()
            server.close()
            await server.wait_closed()
    for garbage in (b"HTTP/1.1 400 Bad Request\r\n\r\n", b"TT\0\0\0\x05\x01\x03\x02\0\0", b"TT\0\0\0\x03\x01\x03\x04",
                    b"\xff" * 5000,
                    b"TT\0\0\0\x07\x01\x04\x04\0\0\0\0"):
        with pytest.raises(DeviceError):
            asyncio.run(run(garbage))


@pytest.mark.parametrize("url", ["", "127.0.0.1:502", "tcp://", "tcp://host:99999", "serial://x:1"])
def test_a_connection_that_is_none_is_told_with_the_forms_there_are(url: str) -> None:
    with pytest.raises(InputError, match="expected a connection such as"):
        parse_connection(url)
