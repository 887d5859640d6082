"""What HJ 212-2025 adds: electricity and conditions (ST 44, 45), raw data, device information, marks of resent data, UTF-8."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from collectors.hj212_data import Station, condition_code, station_of, to_readings, values_of
from collectors.hj212_frame import parse_message
from collectors.park_devices import FieldDevice, Target
from park.catalogue import Device
from park.errors import InputError

NOW = int(datetime(2026, 11, 23, 11, 0, 5, tzinfo=ZoneInfo("Asia/Shanghai")).timestamp() * 1000)


def _station(targets: dict[str, Target], **attributes: Any) -> Station:
    row = Device(code="d", protocol="hj212", mn="M1", edition="2025", attributes=attributes)
    return station_of(FieldDevice("b", "Asia/Shanghai", row, targets))


def _target(point: str, unit: str, kind: str = "gauge") -> Target:
    return Target(point, unit, kind, 60)


def _message(cp: str, cn: str = "2011", st: str = "44", more: str = "") -> Any:
    head = f"QN=20261123110000000;ST={st};CN={cn};PW=1;MN=M1;Flag=9;{more}"
    return parse_message(f"{head}CP=&&DataTime=20261123110000;{cp}&&".encode())


def _values(station: Station, message: Any) -> list[tuple[str, float | None, str]]:
    r = to_readings(message, station, NOW)
    return list(zip(r.point, r.value, r.quality, strict=True))


def test_electricity_of_production_and_treatment_facilities() -> None:
    station = _station({"d20105": _target("u", "V"), "d30406": _target("i", "A")})
    assert _values(station, _message("d20105-Rtd=220.20,d20105-Flag=N;d30406-Rtd=0.04,d30406-Flag=N")) == \
        [("u", 220.2, "good"), ("i", 0.04, "good")]


@pytest.mark.parametrize(("code", "told"), [
    ("d20105", ("production", 5, "voltage", "l1")), ("d30406", ("treatment", 6, "current", "l1")),
    ("d29901", ("production", 1, None, None)), ("p99103", ("production", 3, "state", None))])
def test_the_codes_of_44_and_45_tell_role_facility_and_quantity(code: str, told: tuple[Any, ...]) -> None:
    found = condition_code(code)
    assert found is not None and (found.family.role, found.number, found.quantity, found.phase) == told
    assert condition_code("a21026") is None


def test_the_text_of_a_condition_becomes_a_state_and_an_unknown_text_no_value() -> None:
    targets = {f"p9910{i}": _target(f"s{i}", "state", "state") for i in (1, 2, 3)}
    message = _message("p99101-Rtd=St,p99101-Flag=N;p99102-Rtd=N,p99102-Flag=N;p99103-Rtd=Zz,p99103-Flag=N", st="45")
    assert _values(_station(targets), message) == [("s1", 2.0, "good"), ("s2", 1.0, "good"), ("s3", None, "bad")]
    assert _values(_station(targets, states={"Zz": 7}), message)[2] == ("s3", 7.0, "good")


def test_raw_data_and_device_information_have_keys_of_their_own() -> None:
    station = _station({"v10101.raw": _target("ch4", "mg/m3"), "w01018.i13004": _target("slope", "1")})
    raw = _message("SampleType=1;v10101-Rtd=1.23,v10101-Flag=N,v10101-PeakArea=120034", "2013", "27")
    assert _values(station, raw) == [("ch4", 1.23, "good")] and "v10101.peakarea.raw" in station.unmapped
    for cp in ("PolId=w01018;i13004-Info=0.98;i12001-Info=1", "PolId=011,i13004-Info=0.97"):
        assert _values(station, _message(cp, "3020", "32"))[0][0] == "slope"
    assert values_of(_message("PolId=w01018;i12001-Info=//text//", "3020")) == [("w01018.i12001", "//text//")]


def test_an_amount_is_in_its_own_unit_and_feeds_no_counter() -> None:
    keys = {"w00000.cou.hour": _target("m3", "m3"), "w00000.avg.hour": _target("flow", "m3/h")}
    station = _station(keys, units={"w00000": "L/s", "w00000.cou": "L"})
    assert _values(station, _message("w00000-Cou=5000,w00000-Avg=2,w00000-Flag=N", "2061", "32")) == \
        [("m3", 5.0, "good"), ("flow", 7.2, "good")]
    with pytest.raises(InputError, match="amount in a period"):
        _station({"w00000.cou.day": _target("v", "m3", "counter")})


def test_resent_data_are_counted_and_chinese_in_utf8_or_gb18030_is_read() -> None:
    station = _station({"d20105": _target("u", "V")})
    to_readings(_message("d20105-Rtd=220,d20105-Flag=N", more="RF=1;"), station, NOW)
    assert station.resent == 1
    for encoding in ("utf-8", "gb18030"):
        message = parse_message("ST=31;CN=3020;PW=1;MN=M1;Flag=9;CP=&&PolId=w01018;i11001-Info=校准&&".encode(encoding))
        assert message.groups[1]["i11001-Info"] == "校准"
