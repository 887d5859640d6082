"""DL/T 645 and CJ/T 188 meters on lines written from the protocols' texts: polling, faults, serial ports, commands."""

from __future__ import annotations

import asyncio
import json
import os
import select
import threading
import tty
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import typer

from collectors import cjt188_frame
from collectors.collection import CollectOptions
from collectors.device_commands import device_check, device_read, device_show
from collectors.dlt645_frame import Frame, find, pack, split
from collectors.dlt645_link import MeterLink, MeterRefusal, address_of, parse_line
from collectors.dlt645_template import load_meter
from collectors.dlt645_unit import MeterUnit
from collectors.modbus_link import now_ms
from collectors.park_devices import FieldDevice, Target
from collectors.polled import polled_gateways
from collectors.run import apply_catalogue, close_collection, open_collection
from park.catalogue import Device
from park.errors import DeviceTimeout, InputError

ZONE = ZoneInfo("Asia/Shanghai")


@dataclass
class Line:
    """A transparent serial server with meters behind it, on a thread; answers as the standards' texts say."""

    data: dict[tuple[str, str], str] = field(default_factory=dict)  # (address, DI) -> data in hex, or error byte as "!02"
    part_size: int = 200
    old: bool = False  # 1997
    silent: set[str] = field(default_factory=set)
    before: list[bytes] = field(default_factory=list)  # sent before the next answer: noise, late replies
    questions: list[tuple[str, int, str]] = field(default_factory=list)
    port: int = 0
    _part: int = 0

    def start(self) -> Line:
        started = threading.Event()
        threading.Thread(target=lambda: asyncio.run(self._serve(started)), daemon=True).start()
        assert started.wait(10)
        return self

    async def _serve(self, started: threading.Event) -> None:
        self._loop, self._ending = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        started.set()
        await self._ending.wait()
        server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.sleep(0.01)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._ending.set)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        waiting = b""
        try:
            while chunk := await reader.read(256):
                waiting += chunk
                for found, reply in ((find, self._answer), (cjt188_frame.find, self._answer_cjt188)):
                    frames, rest = split(waiting, found)
                    for frame in frames:
                        waiting = rest
                        answer = reply(frame)
                        if answer:
                            writer.write(b"".join([*self.before, answer[:6]]))
                            await asyncio.sleep(0.005)
                            writer.write(answer[6:])
                            self.before.clear()
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()

    def _answer(self, frame: Frame) -> bytes | None:
        n = 2 if self.old else 4
        di = frame.data[:n][::-1].hex().upper()
        self.questions.append((frame.address, frame.control, di))
        if frame.address in self.silent:
            return None
        read, follow = (1, 2) if self.old else (0x11, 0x12)
        text = self.data.get((frame.address, di), "!02")
        if text.startswith("!"):
            return pack(frame.address, frame.control | 0xC0, bytes.fromhex(text[1:]))
        whole = bytes.fromhex(text)
        part = 0 if frame.control == read else self._part if self.old else frame.data[n]
        self._part = part + 1
        piece, last = whole[part * self.part_size:(part + 1) * self.part_size], (part + 1) * self.part_size >= len(whole)
        assert frame.control in (read, follow)
        tail = bytes([part]) if frame.control == follow and not self.old else b""
        return pack(frame.address, frame.control | 0x80 | (0 if last else 0x20), frame.data[:n] + piece + tail)

    def _answer_cjt188(self, frame: Frame) -> bytes | None:
        text = self.data.get((frame.address, frame.data[1::-1].hex().upper()))
        self.questions.append((frame.address, frame.control, frame.data[1::-1].hex().upper()))
        if text is None:
            return None
        return cjt188_frame.pack(frame.kind, frame.address, 0x81, frame.data[:3] + bytes.fromhex(text))


@pytest.fixture
def line() -> Iterator[Callable[..., Line]]:
    started: list[Line] = []

    def start(**options: Any) -> Line:
        started.append(Line(**options).start())
        return started[-1]
    yield start
    for one in started:
        one.stop()


A = "000012345678"


def _read(one: Line, di: str, template: str = "dlt645.2007", address: str = A, timeout_s: float = 0.3) -> bytes:
    async def run() -> bytes:
        link = MeterLink(parse_line(f"tcp://127.0.0.1:{one.port}"))
        try:
            return await link.read(address_of(load_meter(template), address), bytes.fromhex(di)[::-1], timeout_s)
        finally:
            link.close()
    return asyncio.run(run())


def test_an_item_is_read_and_parts_that_follow_are_joined(line: Callable[..., Line]) -> None:
    text = "".join(f"{n:02d}" for n in range(50))
    for old, template, di in ((False, "dlt645.2007", "0001FF00"), (True, "dlt645.1997", "901F")):
        one = line(data={(A, di): text}, part_size=20, old=old)
        assert _read(one, di, template).hex() == text
        assert [c for _, c, _ in one.questions] == ([1, 2, 2] if old else [0x11, 0x12, 0x12])


def test_noise_our_own_echo_and_the_answer_of_another_item_are_left_out(line: Callable[..., Line]) -> None:
    one = line(data={(A, "02010100"): "0123"})
    late = pack(A, 0x91, bytes.fromhex("00000100") + bytes.fromhex("99999999"))
    other = pack("000000000009", 0x91, bytes.fromhex("00010102") + b"\x99\x99")
    one.before += [b"\x68\x68\xfe\x16", pack(A, 0x11, bytes.fromhex("00010102")), late, other]
    assert _read(one, "02010100").hex() == "0123"


def test_error_replies_and_silence_are_told(line: Callable[..., Line]) -> None:
    one = line(data={(A, "02010100"): "!02", (A, "02010200"): "!04"})
    with pytest.raises(MeterRefusal, match=r"data 02010100: error 02 \(no such data\)") as no_data:
        _read(one, "02010100")
    assert no_data.value.no_such_data
    with pytest.raises(MeterRefusal, match="wrong password") as password:
        _read(one, "02010200")
    assert not password.value.no_such_data
    one.silent.add(A)
    with pytest.raises(DeviceTimeout, match="meter 000012345678, data 00010000: no answer"):
        _read(one, "00010000", timeout_s=0.1)


def _device(one: Line, keys: dict[str, Target], template: str = "dlt645.2007", address: str = A, **more: Any) -> FieldDevice:
    row = Device(code=f"d.{address}", protocol="dlt645", template=template,
                 connection=f"tcp://127.0.0.1:{one.port}?timeout_s=0.15", attributes={"address": address}, **more)
    return FieldDevice("b", "Asia/Shanghai", row, keys)


def _v(code: str) -> Target:
    return Target(code, "V", "gauge", 5)


KWH = Target("kwh", "kWh", "counter", 60)


def test_meters_on_a_line_are_polled_and_converted(line: Callable[..., Line], basket: Any) -> None:
    one = line(data={(A, "0201FF00"): "012399218023", (A, "00010000"): "78563412", (A, "02030000"): "452301",
                     ("00000000000002", "901F"): "785634002C005034002C153010231126200400"})
    devices = [_device(one, {"voltage_l1": _v("v1"), "voltage_l2": _v("v2"), "active_energy_import": KWH,
                             "active_power": Target("w", "W", "gauge", 5)}),
               _device(one, {"water_volume": Target("m3", "m3", "counter", 60)}, "cjt188.water", "2")]
    (gateway,), mistakes = polled_gateways(devices)
    assert mistakes == []
    began = now_ms()
    asyncio.run(gateway.poll_once(basket))
    assert {p: (v, q) for p, _, v, q in basket.rows()} == {
        "v1": (230.1, "good"), "v2": (219.9, "good"), "kwh": (123456.78, "good"), "w": (1234.5, "good"),
        "m3": (3456.78, "good")}
    assert all(began <= at <= now_ms() for _, at, _, _ in basket.rows())
    assert [u.health.state(now_ms()) for u in gateway.units] == ["online", "online"]


def test_a_refused_block_and_a_refused_item_cost_only_themselves_and_are_remembered(
        line: Callable[..., Line], basket: Any) -> None:
    one = line(data={(A, "02010100"): "0123", (A, "02010300"): "0223"})
    (gateway,), _ = polled_gateways([_device(one, {f"voltage_l{n}": _v(f"v{n}") for n in (1, 2, 3)})])
    for _ in range(2):
        asyncio.run(gateway.poll_once(basket))
    assert [(p, v) for p, _, v, _ in basket.rows()] == [("v1", 230.1), ("v3", 230.2)] * 2
    assert gateway.units[0].health.notes["refused"] == ["02010200", "0201FF00"]
    assert sum(di == "0201FF00" for _, _, di in one.questions) == 1
    assert gateway.units[0].health.state(now_ms()) == "online"


def test_demand_and_freeze_carry_their_own_time_and_come_once(line: Callable[..., Line], basket: Any) -> None:
    one = line(data={(A, "01010000"): "005000 1510121126", (A, "05060001"): "0000231126", (A, "05060101"): "00010000" * 5,
                     (A, "01020000"): "000000 0000000000"})
    keys = {"active_demand_max_import": Target("dm", "kW", "gauge", 60),
            "active_energy_import_day": Target("day", "kWh", "counter", 60),
            "active_demand_max_export": Target("dx", "kW", "gauge", 60)}
    (gateway,), _ = polled_gateways([_device(one, keys)])
    for _ in range(2):
        asyncio.run(gateway.poll_once(basket))
    rows = {p: (datetime.fromtimestamp(at / 1000, ZONE).strftime("%m-%d %H:%M"), v, q) for p, at, v, q in basket.rows()}
    assert len(basket.rows()) == 3
    assert rows["dm"] == ("11-12 10:15", 0.5, "good") and rows["day"] == ("11-23 00:00", 1.0, "good")
    assert rows["dx"][1:] == (None, "missing"), "no demand yet is no zero at no time"


def test_a_silent_meter_is_left_alone_and_its_neighbour_is_not(line: Callable[..., Line], basket: Any) -> None:
    one = line(data={("000000000002", "02800002"): "0050"}, silent={A})
    hz = Target("hz", "Hz", "gauge", 5)
    (gateway,), _ = polled_gateways([_device(one, {"voltage_l1": _v("v")}), _device(one, {"frequency": hz}, address="2")])
    for _ in range(3):
        asyncio.run(gateway.poll_once(basket))
    assert [(p, v) for p, _, v, _ in basket.rows()] == [("hz", 50.0)] * 3
    assert sum(a == A for a, _, _ in one.questions) == 1
    assert gateway.units[0].health.errors == {"timeout": 1}


def test_a_lost_frame_is_asked_for_again(line: Callable[..., Line], basket: Any) -> None:
    one = line(data={(A, "02800002"): "0050"})
    device = _device(one, {"frequency": Target("hz", "Hz", "gauge", 5)})
    unit = MeterUnit(device, load_meter("dlt645.2007"))

    async def run() -> None:
        link = MeterLink(parse_line(device.device.connection or ""))
        for lost in (False, True):
            if lost:
                one.silent.add(A)
                asyncio.get_running_loop().call_later(0.1, one.silent.clear)
            readings = await unit.poll(link, unit.groups[0], 0.0, now_ms)
            assert readings is not None and readings.value == [50.0]
        link.close()
    asyncio.run(run())
    assert unit.health.errors == {"repeated": 1}


def test_wrong_meters_of_the_catalogue_are_told(line: Callable[..., Line]) -> None:
    one = line()
    good = _device(one, {"voltage_l1": _v("v")})
    wrong = [_device(one, {"nope": _v("v")}, address="3"), _device(one, {"voltage_l1": KWH}, address="4"),
             _device(one, {"voltage_l1": _v("v")}, address="12x"), _device(one, {"voltage_l1": _v("v")}, "eastron.sdm630", "5")]
    found, mistakes = polled_gateways([good, *wrong])
    assert [u.field.code for g in found for u in g.units] == [good.code]
    text = "\n".join(mistakes)
    for words in ("has no point 'nope'", "cannot turn V", "up to 12 digits", "is for modbus"):
        assert words in text
    for url in ("rtu:///dev/ttyUSB0", "tcp://h", "serial:///dev/x?baud=7"):
        with pytest.raises(InputError):
            parse_line(url)


def test_device_read_shows_values_times_and_questions(line: Callable[..., Line], capsys: pytest.CaptureFixture[str]) -> None:
    one = line(data={(A, "00010000"): "78563412", (A, "0001FF00"): "78563412" + "00000100" * 4, (A, "02800002"): "0099",
                     (A, "01010000"): "0050001510121126"})
    url = f"tcp://127.0.0.1:{one.port}?timeout_s=0.3"
    with pytest.raises(typer.Exit):  # 99 Hz is outside its range
        device_read("dlt645.2007", connection=url, address="12345678", format_="json")
    plain = json.loads(capsys.readouterr().out)
    values = {v["key"]: v for v in plain["values"]}
    assert values["active_energy_import"]["value"] == 123456.78 and values["active_energy_import_t4"]["value"] == 100.0
    assert values["active_demand_max_import"]["at"] == "2026-11-12T10:15+08:00"
    assert values["frequency"]["inside"] is False and values["voltage_l1"]["value"] is None
    assert {q["result"] for q in plain["requests"]} == {"ok", "error 02 (no such data)"}
    with pytest.raises(typer.Exit):
        device_read("dlt645.2007", connection=url, address="12345678")
    assert "123456.78" in capsys.readouterr().out


def test_the_commands_show_and_check_these_templates_too(capsys: pytest.CaptureFixture[str]) -> None:
    device_show("dlt645.2007")
    assert "0001FF00" in capsys.readouterr().out
    device_check(["dlt645.2007", "cjt188.heat"])
    assert "2 templates, 9 tests, 0 wrong" in capsys.readouterr().out


def test_a_reload_keeps_the_line_of_unchanged_meters_open(line: Callable[..., Line], tmp_path: Any) -> None:
    one, other = line(data={(A, "02800002"): "0050"}), line(data={(A, "02800002"): "0050"})
    hz = {"frequency": Target("hz", "Hz", "gauge", 5)}
    first, second = (_device(x, hz, every={"fast": 0.1}) for x in (one, other))

    async def run() -> None:
        collection = open_collection(CollectOptions("s", "mqtt://127.0.0.1:1", tmp_path))
        try:
            await apply_catalogue(collection, [first])
            ((gateway, task),) = collection.polls.values()
            while gateway.units[0].health.last_answer is None:
                await asyncio.sleep(0.01)
            await apply_catalogue(collection, [first, second])
            assert len(collection.polls) == 2
            assert collection.polls[gateway.endpoint.url] == (gateway, task) and not task.done()
            assert gateway.link.is_open and gateway.link.connects == 1
            await apply_catalogue(collection, [second])
            assert task.cancelled() and list(collection.polls) == [second.device.connection]
            assert not gateway.link.is_open
        finally:
            await close_collection(collection)
    asyncio.run(asyncio.wait_for(run(), 20))


class SerialMeter(threading.Thread):
    """A meter on a pseudo terminal that answers as `Line` does, after its own echo of the question, as a two-wire bus gives."""

    def __init__(self, one: Line) -> None:
        super().__init__(daemon=True)
        self.line = one
        self.master, self._slave = os.openpty()
        tty.setraw(self.master)
        self.path = os.ttyname(self._slave)
        self._ending = threading.Event()
        self.start()

    def run(self) -> None:
        waiting = b""
        while not self._ending.is_set():
            if select.select([self.master], [], [], 0.02)[0]:
                chunk = os.read(self.master, 256)
                os.write(self.master, chunk)
                frames, waiting = split(waiting + chunk)
                for frame in frames:
                    os.write(self.master, self.line._answer(frame) or b"")

    def unplug(self) -> None:
        self._ending.set()
        self.join(5)
        os.close(self._slave)
        os.close(self.master)


def test_meters_are_read_over_a_serial_port(basket: Any) -> None:
    meter = SerialMeter(Line(data={(A, "0201FF00"): "012399218023", (A, "00010000"): "78563412"}))
    try:
        row = Device(code="d", protocol="dlt645", template="dlt645.2007", attributes={"address": A},
                     connection=f"serial://{meter.path}?baud=2400&parity=E&timeout_s=0.3")
        device = FieldDevice("b", "Asia/Shanghai", row, {"voltage_l1": _v("v1"), "voltage_l2": _v("v2"),
                                                         "active_energy_import": KWH})
        (gateway,), mistakes = polled_gateways([device])
        assert mistakes == []
        asyncio.run(gateway.poll_once(basket))
        assert {p: v for p, _, v, _ in basket.rows()} == {"v1": 230.1, "v2": 219.9, "kwh": 123456.78}
        assert gateway.link.strays > 0, "our own echo was left out"  # type: ignore[attr-defined]
    finally:
        meter.unplug()
