"""Meters on a serial line: pseudo-terminals with a slave written from the protocol's text at the other end."""

from __future__ import annotations

import asyncio
import os
import select
import struct
import threading
import time
import tty
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from collectors.modbus_link import ModbusLink, parse_connection
from collectors.modbus_poll import gateways
from collectors.park_devices import FieldDevice, Target
from park.catalogue import Device
from park.errors import DeviceTimeout, InputError


def _crc(data: bytes) -> bytes:
    crc = 0xFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ 0xA001 if crc & 1 else crc >> 1
    return struct.pack("<H", crc)


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
                assert _crc(frame[:6]) == frame[6:]
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
                os.write(self.master, body[4:] + _crc(body))

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
        for delay in (0.11, 0.15, 0.19):
            slave.delays.append(delay)
            with pytest.raises(DeviceTimeout, match="no answer to function 3, registers 10"):
                await link.read(1, 3, 10, 1, 0.1)
            assert await link.read(1, 3, 20, 1, 0.1) == struct.pack(">H", 120)
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
    (gateway,), mistakes = gateways(devices)
    assert mistakes == [] and len(gateway.units) == 2
    asyncio.run(gateway.poll_once(basket))
    assert {p: v for p, _, v, _ in basket.rows()} == {"kw1": 0.11, "kw2": 0.21}


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
