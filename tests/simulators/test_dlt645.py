"""The DL/T 645 meters of the simulated park, asked with bytes by hand and read with the platform's own command."""

from __future__ import annotations

import json
import signal
import socket
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from park.broker import free_port
from park.catalogue import Catalogue, Device, read_catalogue
from park.errors import InputError
from simulators.catalogue import catalogue_files
from simulators.dlt645_server import ANY, MORE, PART, Meter, meter_of, pack, respond, take
from simulators.field import Field
from simulators.model import Park
from simulators.scenario import read_scenario
from tests.command import park
from tests.simulators.test_service import ask, free_ports, simulator, wait_for

ZONE = ZoneInfo("Asia/Shanghai")
NOW = datetime(2026, 11, 23, 10, 20, tzinfo=ZONE).timestamp()
DEVICE = Device(code="d", protocol="dlt645", template="dlt645.2007", connection="tcp://127.0.0.1:1",
                attributes={"address": "12345678"}, parameters={"ct_ratio": 40})
ADDRESS = bytes.fromhex("785634120000")


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return read_catalogue(catalogue_files())


@pytest.fixture
def field(catalogue: Catalogue) -> Field:
    found = Field(Park(catalogue, read_scenario("lvyuan"), 1, NOW - 7 * 86400))
    found.refresh(NOW)
    return found


def _meter(**values: float | None) -> Meter:
    meter = meter_of(DEVICE, {})
    meter.values |= values
    return meter


def _ask(meter: Meter, di: str, control: int = 0x11, tail: bytes = b"") -> tuple[int, bytes]:
    """(control, data) of the reply."""
    answer = respond(ADDRESS, control, bytes.fromhex(di)[::-1] + tail, {meter.address: meter})
    assert answer is not None
    frame, rest = take(b"\xfe\xfe" + answer)
    assert frame is not None and rest == b"" and frame[0] == ADDRESS
    return frame[1], frame[2]


def test_a_request_of_the_standard_is_answered_byte_by_byte() -> None:
    meter = _meter(active_energy_import=12345678.0 * 0.4, voltage_l1=230.1)
    frame, _ = take(bytes.fromhex("FEFEFEFE 68 785634120000 68 1104 33333433 C6 16".replace(" ", "")))
    assert frame == (ADDRESS, 0x11, bytes.fromhex("00000100"))
    answer = respond(*frame, {meter.address: meter})
    assert answer is not None
    # 123456.78 kWh on the meter's own side: 78 56 34 12, each byte raised by 33H
    assert answer.hex(" ") == "68 78 56 34 12 00 00 68 91 08 33 33 34 33 ab 89 67 45 2a 16"
    assert _ask(meter, "02010100") == (0x91, bytes.fromhex("00010102" + "0123"))


def test_what_a_meter_does_not_know_and_what_has_no_value_are_told_apart() -> None:
    meter = _meter(active_power=-1.25 * 40, voltage_l1=None)
    assert _ask(meter, "0A0B0C0D") == (0xD1, b"\x02")
    assert _ask(meter, "02010100")[1][4:] == b"\xff\xff"
    assert _ask(meter, "02030000")[1][4:] == bytes.fromhex("002581"), "the top bit is the sign"
    assert _ask(meter, "02030000")[1][:4] == bytes.fromhex("00000302")
    meter.values["active_power"] = 80.0 * 40
    assert _ask(meter, "02030000")[1][4:] == b"\xff\xff\xff", "no room for the digits is no value, and not a cut one"
    meter.values["active_energy_import"] = 40 * 1_000_000.5
    assert _ask(meter, "00010000")[1][4:] == bytes.fromhex("50000000"), "a register rolls over"


def test_long_data_follow_in_parts() -> None:
    meter = _meter()
    meter.items["0001FF00"] = ("active_energy_import",) * 70
    control, data = _ask(meter, "0001FF00")
    assert control == 0x91 | MORE and len(data) == 4 + PART
    control, data = _ask(meter, "0001FF00", 0x12, b"\x01")
    assert control == 0x92 and data[:4] == bytes.fromhex("00FF0100") and data[-1] == 1 and len(data) == 4 + 80 + 1
    assert _ask(meter, "0001FF00", 0x12, b"\x02")[0] == 0xD2


def test_a_silent_meter_another_address_and_noise_get_no_answer() -> None:
    meter = _meter(frequency=50.0)
    di = bytes.fromhex("02800002")[::-1]
    assert respond(bytes(6), 0x11, di, {meter.address: meter}) is None
    assert respond(ANY, 0x11, di, {meter.address: meter}) is not None
    meter.silent = True
    assert respond(ADDRESS, 0x11, di, {meter.address: meter}) is None
    wrong = bytearray(pack(ADDRESS, 0x11, di))
    wrong[-2] ^= 1
    assert take(bytes(wrong))[0] is None and len(take(b"\x68" * 5000)[1]) <= 300


def test_a_meter_of_another_edition_or_a_key_it_lacks_is_told() -> None:
    with pytest.raises(InputError, match=r"speaks DL/T 645-2007, not dlt645\.1997"):
        meter_of(DEVICE.model_copy(update={"template": "dlt645.1997"}), {})
    with pytest.raises(InputError, match="has no flux"):
        meter_of(DEVICE, {"flux": None})  # type: ignore[dict-item]


def test_the_parks_meters_show_what_their_points_do_and_freeze_at_midnight(field: Field) -> None:
    assert len(field.meters) == 3 and len({m.address for m in field.meters.values()}) == 3
    for code, meter in field.meters.items():
        keys, value, _ = field.readings_of(code, [NOW])
        for i, key in enumerate(keys):
            assert meter.values[key] == value[0, i]
        assert meter.values["frequency"] == 50.0 and (meter.values["voltage_l1"] or 0) > 200
        midnight = datetime.fromtimestamp(NOW, ZONE).replace(hour=0, minute=0)
        frozen = field.readings_of(code, [midnight.timestamp()])[1][0, keys.index("active_energy_import")]
        assert meter.values["active_energy_import_day"] == frozen and meter.moments["freeze_day_time"] == midnight
        assert meter.moments["freeze_hour_time"].hour == 10
        assert 0 < (meter.values["active_energy_import"] or 0) - frozen < 3000
    field.offline("d.e6.uv", 60, NOW)
    assert field.meters["d.e6.uv"].silent
    field.refresh(NOW + 61)
    assert not field.meters["d.e6.uv"].silent


def test_the_platform_reads_a_simulated_meter_over_its_line(tmp_path: Path) -> None:
    modbus, control = free_ports(7), free_port()
    options = ("--modbus-port", str(modbus), "--control-port", str(control), "--data-dir", str(tmp_path))
    with simulator(tmp_path, *options) as process:
        with wait_for(control, process) as orders:
            assert ask(orders, "set d.e6.uv active_power 44.4") == "ok"
            assert ask(orders, "set d.e6.inlet active_energy_import 123456.7") == "ok"
            with socket.create_connection(("127.0.0.1", modbus + 6), 2) as line:
                line.sendall(pack(bytes.fromhex("202600000601")[::-1], 0x11, bytes.fromhex("00010000")[::-1]))
                frame = None
                data = b""
                while frame is None:
                    data += line.recv(100)
                    frame, _ = take(data)
            assert frame[2][4:] == bytes.fromhex("00112233")[::-1], "123456.7 / 110 = 1122.33"
            assert ask(orders, "set d.e6.uv power_factor_l1 0.5") == "ok", "a key that no point takes"
            done = park("device", "read", "dlt645.2007", "--connection", f"tcp://127.0.0.1:{modbus + 6}",
                        "--address", "202600000603", "--parameter", "ct_ratio=40", "--format", "json")
        process.send_signal(signal.SIGTERM)
        process.wait(10)
    values = {v["key"]: v for v in json.loads(done.stdout)["values"]}
    assert done.returncode == 0, done.stderr
    assert values["active_power"]["value"] == pytest.approx(44.4, abs=0.005)
    assert values["power_factor_l1"]["value"] == 0.5
    assert values["frequency"]["value"] == 50.0 and 200 < values["voltage_l1"]["value"] < 260
    assert values["active_energy_import_day"]["at"].endswith("T00:00+08:00")
    assert values["active_energy_import_day"]["value"] <= values["active_energy_import"]["value"]
    assert values["active_demand_max_import"]["value"] is None, "the simulated meter keeps no demand"
