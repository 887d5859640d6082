"""Meters on a serial line: pseudo-terminals with a slave written from the protocol's text at the other end."""

from __future__ import annotations

import asyncio
import json
import os
import select
import struct
import threading
import time
import tty
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import typer
from pyModbusTCP.server import ModbusServer

from collectors.device_commands import device_read, device_write
from collectors.modbus_link import ModbusLink, parse_connection
from collectors.park_devices import FieldDevice, Target
from collectors.polled import polled_gateways
from collectors.template import load_templates
from park.broker import free_port
from park.catalogue import Device
from park.errors import DeviceTimeout, InputError
from tests.collectors.conftest import crc_modbus


class Slave(threading.Thread):
    """Answers function 3 and 4 with register n = n + 100 * unit; `delays` holds back single answers."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.master, slave = os.openpty()
        tty.setraw(slave)
        self.path = os.ttyname(slave)
        self._slave = slave
        self._ending = threading.Event()
        self.delays: list[float] = []
        self.units = {1, 2}
        self.requests: list[tuple[int, int, int]] = []
        self.start()

    def run(self) -> None:
        waiting = b""
        while True:
            while not select.select([self.master], [], [], 0.01)[0]:
                if self._ending.is_set():
                    os.close(self._slave)
                    os.close(self.master)
                    return
            waiting += os.read(self.master, 256)
            while len(waiting) >= 8:
                frame, waiting = waiting[:8], waiting[8:]
                assert crc_modbus(frame[:6]) == frame[6:]
                unit, function, address, count = struct.unpack(">BBHH", frame[:6])
                self.requests.append((unit, address, count))
                if unit not in self.units:
                    continue
                body = struct.pack(f">BBB{count}H", unit, function, 2 * count,
                                   *(a + 100 * unit for a in range(address, address + count)))
                if self.delays:
                    time.sleep(self.delays.pop(0))
                os.write(self.master, body[:4])  # a line gives the bytes as they come
                time.sleep(0.005)
                os.write(self.master, body[4:] + crc_modbus(body))

    def unplug(self) -> None:
        self._ending.set()
        self.join(5)


@pytest.fixture
def slave() -> Iterator[Slave]:
    one = Slave()
    yield one
    one.unplug()


def test_registers_are_read_over_a_serial_port(slave: Slave) -> None:
    async def run() -> None:
        link = ModbusLink(parse_connection(f"rtu://{slave.path}?baud=19200&parity=N"))
        assert await link.read(1, 3, 10, 2) == struct.pack(">HH", 110, 111)
        assert await link.read(2, 4, 7, 1) == struct.pack(">H", 207)
        assert link.connects == 1
        link.close()
        assert await link.read(2, 4, 8, 1) == struct.pack(">H", 208)
        link.close()
    asyncio.run(run())


def test_a_late_answer_on_the_line_is_never_taken_for_the_next_register(slave: Slave) -> None:
    async def run() -> None:
        link = ModbusLink(parse_connection(f"rtu://{slave.path}"))
        for delay in (0.42, 0.5, 0.6):  # within twice the patience, with room for a busy machine
            slave.delays.append(delay)
            with pytest.raises(DeviceTimeout, match="no answer to function 3, registers 10"):
                await link.read(1, 3, 10, 1, 0.4)
            assert await link.read(1, 3, 20, 1, 0.4) == struct.pack(">H", 120)
        assert link.connects == 4
        link.close()
    asyncio.run(run())


def test_a_late_answer_of_one_unit_does_not_hold_up_its_neighbour(slave: Slave) -> None:
    async def run() -> float:
        link = ModbusLink(parse_connection(f"rtu://{slave.path}"))
        slave.units.discard(1)
        with pytest.raises(DeviceTimeout):
            await link.read(1, 3, 10, 1, 0.1)
        began = time.monotonic()
        assert await link.read(2, 3, 10, 1, 0.5) == struct.pack(">H", 210)
        link.close()
        return time.monotonic() - began
    assert asyncio.run(run()) < 0.09


def test_an_unplugged_port_is_a_time_out_and_a_missing_one_too(slave: Slave, tmp_path: Any) -> None:
    async def run() -> None:
        link = ModbusLink(parse_connection(f"rtu://{slave.path}"))
        await link.read(1, 3, 10, 1)
        slave.unplug()
        with pytest.raises(DeviceTimeout):
            await link.read(1, 3, 10, 1, 0.2)
        with pytest.raises(DeviceTimeout, match="no serial port"):
            await link.read(1, 3, 10, 1, 0.2)
        (tmp_path / "file").write_text("")
        with pytest.raises(DeviceTimeout, match="not a serial port"):
            await ModbusLink(parse_connection(f"rtu://{tmp_path}/file")).open()
    asyncio.run(run())


def test_a_serial_connection_of_the_catalogue_is_polled_like_any_other(slave: Slave, basket: Any, tmp_path: Any) -> None:
    file = tmp_path / "my.yaml"
    file.write_text("template: my.meter\nversion: 1\nvendor: M\nmodels: [O]\nkind: electricity_meter\nsource: [manual]\n"
                    "points: [{key: p, quantity: active_power, address: 10, type: u16, unit: W}]\n")
    rows = [Device(code=f"d{u}", protocol="modbus", template=str(file), connection=f"rtu://{slave.path}?baud=9600", unit_id=u)
            for u in (1, 2)]
    devices = [FieldDevice("b", "Asia/Shanghai", r, {"p": Target(f"kw{r.unit_id}", "kW", "gauge", 5)}) for r in rows]
    (gateway,), mistakes = polled_gateways(devices)
    assert mistakes == [] and len(gateway.units) == 2
    asyncio.run(gateway.poll_once(basket))
    assert {p: v for p, _, v, _ in basket.rows()} == {"kw1": 0.11, "kw2": 0.21}


MY = """\
template: my.meter
version: 1
vendor: Mine
models: [One]
kind: electricity_meter
source: [its manual]
points:
  - {key: p, quantity: active_power, address: 10, type: u16, unit: W, valid: [0, 1000]}
  - {key: limit, quantity: active_power, address: 20, type: i32, word_order: little, scale: 0.1, unit: kW, valid: [0, 500],
     writable: true}
"""


def test_device_read_of_a_meter_on_a_serial_port(slave: Slave, tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "my.yaml").write_text(MY)
    with pytest.raises(typer.Exit):  # `limit` lies outside its range
        device_read(str(tmp_path / "my.yaml"), unit=2, connection=f"rtu://{slave.path}?baud=9600", format_="json")
    plain = json.loads(capsys.readouterr().out)
    assert plain["values"][0]["value"] == 210.0 and plain["requests"][0]["result"] == "ok"
    with pytest.raises(typer.BadParameter, match="either --host or --connection"):
        device_read("eastron.sdm120")


def test_a_point_is_written_only_when_declared_and_asked_for(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "my.yaml").write_text(MY)
    server = ModbusServer("127.0.0.1", free_port(), no_block=True)
    server.start()
    try:
        def write(key: str, value: float, *, send: bool = True) -> str:
            device_write(str(tmp_path / "my.yaml"), key, value, host="127.0.0.1", port=server.port, write=send)
            return capsys.readouterr().out
        assert "not sent: limit = 123.4 kW, registers 20+2: 04D2 0000" in write("limit", 123.4, send=False)
        assert server.data_bank.get_holding_registers(20, 2) == [0, 0]
        assert "written and read back" in write("limit", 123.4)
        assert server.data_bank.get_holding_registers(20, 2) == [1234, 0]
        for key, value, words in (("p", 5, "does not declare p as `writable"), ("limit", 501, "expected 0 to 500 kW")):
            with pytest.raises(InputError, match=words):
                write(key, value)
    finally:
        server.stop()


def test_no_template_of_the_platform_declares_a_writable_point() -> None:
    assert [t.template for t in load_templates() for p in t.points if p.writable] == []


@pytest.mark.parametrize(("url", "words"), [
    ("rtu:///dev/ttyUSB0?baud=1234", "expected baud of"), ("rtu://ttyUSB0", "three slashes"),
    ("rtu:///dev/ttyUSB0?parity=X", "expected parity N, E or O"), ("rtu+tcp:///dev/x", "expected a connection such as"),
    ("tcp://h:1?timeout_s=0", "expected timeout_s above 0")])
def test_a_wrong_connection_is_told_with_what_is_expected(url: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        parse_connection(url)


def test_rtu_over_tcp_takes_no_late_answer_for_the_next_register(field_gateway: Callable[..., Any]) -> None:
    field = field_gateway(rtu=True)
    field.units[1] = {n: n for n in range(100)}

    async def run() -> None:
        link = ModbusLink(parse_connection(f"rtu+tcp://127.0.0.1:{field.port}"))
        for n in range(5):
            field.delay_s[1] = 0.12
            with pytest.raises(DeviceTimeout):
                await link.read(1, 3, n, 1, 0.1)
            field.delay_s[1] = 0.0
            assert await link.read(1, 3, 50 + n, 1, 0.3) == struct.pack(">H", 50 + n)
        assert link.connects == 6
        link.close()
    asyncio.run(run())
