"""The Modbus gateways, read back by clients that are not ours: pymodbus, pyModbusTCP, and bytes by hand."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pymodbus.client import ModbusTcpClient
from pyModbusTCP.client import ModbusClient

from park.broker import free_port
from park.catalogue import Device, Point
from park.errors import InputError, NotFound
from simulators.field import Field
from simulators.modbus_server import respond, start_gateway
from simulators.model import Park
from simulators.registers import bank_of, encode

NOW = datetime(2026, 11, 23, 8, 0, tzinfo=UTC).timestamp()


@dataclass
class Site:
    """A field whose gateway of the substation listens on `port`."""

    field: Field
    port: int


@pytest.fixture(scope="module")
def site(calm: Park) -> Iterator[Site]:
    field = Field(calm)
    field.refresh(NOW)
    port, loop = free_port(), asyncio.new_event_loop()
    first = [b for b in field.banks.values() if str(field.devices[b.device].connection).endswith(":15020")]
    water = [b for b in field.banks.values() if str(field.devices[b.device].connection).endswith(":15025")]
    server, connections = loop.run_until_complete(start_gateway("127.0.0.1", port, {b.unit_id: b for b in first} | {
        b.unit_id + 100: b for b in water}))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield Site(field, port)

    async def close() -> None:
        server.close()
        for transport in list(connections):
            transport.abort()
        await asyncio.sleep(0)
    asyncio.run_coroutine_threadsafe(close(), loop).result(5)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture
def client(site: Site) -> Iterator[ModbusTcpClient]:
    with ModbusTcpClient("127.0.0.1", port=site.port, timeout=1, retries=0) as found:
        assert found.connected
        yield found


def shown(site: Site, code: str) -> float:
    return float(site.field.value[site.field.park.column_of[code]])


def test_several_meters_answer_behind_one_gateway_with_their_own_values(site: Site, client: ModbusTcpClient) -> None:
    for unit, code in ((1, "park.in1.kw"), (2, "park.in2.kw"), (11, "e1.main.kw"), (16, "e6.main.kw")):
        words = client.read_holding_registers(3059, count=2, device_id=unit).registers
        power = client.convert_from_registers(words, client.DATATYPE.FLOAT32)
        assert power == pytest.approx(shown(site, code), rel=1e-6)


def test_a_meter_behind_transformers_gives_secondary_values_and_its_ratios(site: Site, client: ModbusTcpClient) -> None:
    pt, ct = client.read_holding_registers(141, count=2, device_id=41).registers
    assert (pt, ct) == (100, 180)
    high, low = client.read_holding_registers(40, count=2, device_id=41).registers
    assert (high << 16 | low) * 0.01 * pt * ct == pytest.approx(shown(site, "e1.main.kvarh"))


def test_bcd_counters_of_a_gas_meter_read_to_the_last_digit(site: Site, client: ModbusTcpClient) -> None:
    words = client.read_holding_registers(18, count=3, device_id=30).registers
    digits = "".join(f"{w:04x}" for w in words)
    assert digits.isdigit()
    assert int(digits) / 10_000 == pytest.approx(shown(site, "park.gas.nm3"), abs=1e-4)


def test_a_water_meter_gives_its_little_end_first(site: Site, client: ModbusTcpClient) -> None:
    words = client.read_holding_registers(0, count=2, device_id=101).registers
    on_the_wire = struct.pack(">HH", *words)
    assert struct.unpack("<f", on_the_wire)[0] == pytest.approx(shown(site, "park.water.m3"), rel=1e-6)


def test_another_clients_library_reads_the_same(site: Site) -> None:
    other = ModbusClient("127.0.0.1", site.port, unit_id=12, timeout=2)
    words = other.read_holding_registers(2699, 2)
    assert words is not None
    assert struct.unpack(">f", struct.pack(">HH", *words))[0] == pytest.approx(shown(site, "e2.main.kwh"), rel=1e-6)
    other.close()


@pytest.mark.parametrize(("unit", "address", "count", "code"), [
    (99, 0, 2, 11),        # no such unit behind the gateway
    (1, 60000, 2, 2),      # no such register
    (41, 0, 20, 3),        # more than this meter takes at once
])
def test_requests_that_a_meter_cannot_answer_get_an_exception(client: ModbusTcpClient, unit: int, address: int, count: int,
                                                              code: int) -> None:
    answer = client.read_holding_registers(address, count=count, device_id=unit)
    assert answer.isError() and answer.exception_code == code


def test_a_function_that_the_meter_does_not_know_gets_exception_one(client: ModbusTcpClient) -> None:
    assert client.write_register(0, 1, device_id=1).exception_code == 1
    assert client.read_input_registers(0, count=2, device_id=1).exception_code == 1


def test_requests_in_one_segment_and_in_pieces_are_answered_in_order(site: Site) -> None:
    one = struct.pack(">HHHBBHH", 7, 0, 6, 1, 3, 3059, 2)
    two = struct.pack(">HHHBBHH", 8, 0, 6, 2, 3, 3059, 2)
    with socket.create_connection(("127.0.0.1", site.port), 2) as s:
        s.sendall(one + two[:5])
        first = s.recv(64)
        s.sendall(two[5:])
        second = s.recv(64)
    assert (first[:2], second[:2]) == (b"\x00\x07", b"\x00\x08") and first[9:] != second[9:]


def test_bytes_that_are_not_modbus_end_the_connection(site: Site) -> None:
    with socket.create_connection(("127.0.0.1", site.port), 2) as s:
        s.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert s.recv(64) == b""


def test_a_value_that_is_set_shows_at_once_and_until_it_is_cleared(site: Site, client: ModbusTcpClient) -> None:
    site.field.set("d.e1.main", "active_power", 4321.0)

    def power() -> float:
        words = client.read_holding_registers(3059, count=2, device_id=11).registers
        return float(client.convert_from_registers(words, client.DATATYPE.FLOAT32))   # type: ignore[arg-type]
    assert power() == 4321.0
    site.field.refresh(NOW + 1)
    assert power() == 4321.0
    site.field.clear()
    assert power() != 4321.0


def test_a_unit_that_is_offline_keeps_silent_and_its_neighbour_answers(site: Site) -> None:
    request = struct.pack(">HHHBBHH", 1, 0, 6, 11, 3, 3059, 2)
    banks = {b.unit_id: b for b in site.field.banks.values()
             if str(site.field.devices[b.device].connection).endswith(":15020")}
    site.field.offline("d.e1.main", 60, NOW)
    assert respond(request, banks) is None
    assert respond(request[:6] + b"\x0c" + request[7:], banks) is not None
    site.field.refresh(NOW + 61)
    assert respond(request, banks) is not None
    site.field.clear()


def test_a_whole_number_register_without_a_value_answers_with_an_exception_not_zero() -> None:
    device = Device(code="d", protocol="modbus", template="acrel.dtsd1352", connection="tcp://127.0.0.1:1", unit_id=1)
    point = Point(code="p", quantity="active_energy", unit="MWh", kind="counter")
    bank = bank_of(device, {"active_energy_import": (0, point)})
    cell = next(c for c in bank.cells if c.key == "active_energy_import")
    bank.put(cell, 1.5)
    assert bank.read(3, 10, 2) == [2, 0x49F0]          # 1.5 MWh are 150,000 hundredths of a kWh
    bank.put(cell, None)
    assert bank.read(3, 10, 2) == 2


def test_floats_without_a_value_are_not_a_number() -> None:
    assert list(encode(float("nan"), "f32", "big", "big")) == [0x7FC0, 0]


def test_whole_numbers_keep_within_their_type() -> None:
    assert list(encode(-5, "u16", "big", "big")) == [0]
    assert list(encode(-2, "i32", "big", "big")) == [0xFFFF, 0xFFFE]
    assert list(encode(-2, "i32", "little", "big")) == [0xFFFE, 0xFFFF]
    assert list(encode(123456789012, "bcd48", "big", "big")) == [0x1234, 0x5678, 0x9012]


def test_a_key_that_the_template_does_not_have_is_named(calm: Park) -> None:
    device = Device(code="d.x", protocol="modbus", template="acrel.adl400", connection="tcp://127.0.0.1:1", unit_id=1)
    point = Point(code="p", quantity="active_power", unit="kW")
    with pytest.raises(InputError, match=r"d\.x: the template acrel\.adl400 has no flux"):
        bank_of(device, {"flux": (0, point)})
    with pytest.raises(InputError, match=r"there is no device template 'acme\.one'"):
        bank_of(device.model_copy(update={"template": "acme.one"}), {}, Path(__file__).parent)


def test_setting_something_that_is_not_there_says_what_is(site: Site) -> None:
    with pytest.raises(NotFound, match=r"there is no device 'd\.nobody'"):
        site.field.set("d.nobody", "active_power", 1.0)
    with pytest.raises(NotFound, match="active_power"):
        site.field.set("d.e1.main", "flux", 1.0)
