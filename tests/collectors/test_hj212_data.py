"""HJ 212 data: factor codes old and new, statistics, flags to quality, times, repeats."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from collectors.hj212_clock import Watch, told_offset_ms
from collectors.hj212_data import Station, flag_rules, judge, normal_key, remember, station_of, to_readings, today_codes
from collectors.hj212_frame import Message, parse_message
from collectors.park_devices import FieldDevice, Target
from park.catalogue import Device
from park.errors import FrameError, InputError
from park.quality import WORDS

SHANGHAI = ZoneInfo("Asia/Shanghai")
NOW = int(datetime(2026, 11, 23, 11, 0, 5, tzinfo=SHANGHAI).timestamp() * 1000)


def _station(keys: dict[str, str], edition: str = "2017", unit: str = "mg/m3", **attributes: Any) -> Station:
    row = Device(code="d", protocol="hj212", mn="M1", edition=edition, attributes=attributes)  # type: ignore[arg-type]
    return station_of(FieldDevice("b", "Asia/Shanghai", row, {k: Target(p, unit, "gauge", 60) for k, p in keys.items()}))


def _message(cp: str, cn: str = "2011", qn: str = "20261123110000000") -> Any:
    return parse_message(f"QN={qn};ST=31;CN={cn};PW=1;MN=M1;Flag=5;CP=&&{cp}&&".encode())


def _rows(station: Station, message: Any, now: int = NOW) -> list[tuple[str, int, float | None, str]]:
    r = to_readings(message, station, now)
    return list(zip(r.point, r.at, r.value, r.quality, strict=True))


def test_a_real_time_value_is_a_reading_at_its_local_data_time() -> None:
    rows = _rows(_station({"a21026": "so2"}), _message("DataTime=20261123110000;a21026-Rtd=12.5,a21026-Flag=N"))
    assert rows == [("so2", int(datetime(2026, 11, 23, 3, 0, tzinfo=ZoneInfo("UTC")).timestamp() * 1000), 12.5, "good")]


@pytest.mark.parametrize(("cn", "key"), [
    ("2051", "a21026.avg.minute"), ("2061", "a21026.avg.hour"), ("2031", "a21026.avg.day")])
def test_a_statistic_has_its_own_key_and_lies_at_the_start_of_its_period(cn: str, key: str) -> None:
    station = _station({"a21026": "rtd", key: "avg", key.replace("avg", "zsavg"): "converted"})
    rows = _rows(station, _message("DataTime=20261123100000;a21026-Avg=7,a21026-ZsAvg=9,a21026-Flag=N", cn))
    assert [(p, v) for p, _, v, _ in rows] == [("avg", 7.0), ("converted", 9.0)]
    assert datetime.fromtimestamp(rows[0][1] / 1000, SHANGHAI).hour == 10


@pytest.mark.parametrize(("edition", "old", "new"), [
    ("2005", "02", "a21026"), ("2005", "011", "w01018"), ("2005", "S01", "a19001"),
    ("2005", "B02", "a00000"), ("2005", "060", "w21003")])
def test_old_and_new_factor_codes_are_the_same_key(edition: str, old: str, new: str) -> None:
    for key, sent in ((old, new), (new, old), (old, old), (new, new)):
        rows = _rows(_station({key: "p"}, edition), _message(f"DataTime=20261123110000;{sent}-Rtd=3,{sent}-Flag=N"))
        assert [(p, v) for p, _, v, _ in rows] == [("p", 3.0)], (key, sent)
    assert normal_key(f"{old}.Avg.Minute") == f"{new}.avg.minute"


@pytest.mark.parametrize(("flag", "value", "quality"), [
    ("N", 1.5, "good"), ("S", 1.5, "manual"), ("F", None, "stopped"), ("M", None, "maintenance"), ("C", None, "calibration"),
    ("D", None, "fault"), ("T", None, "over_range"), ("B", None, "link_fault"), ("X", 1.5, "uncertain"), ("n", 1.5, "good")])
def test_every_flag_of_2017_has_its_quality(flag: str, value: float | None, quality: str) -> None:
    assert judge("1.5", flag, flag_rules("2017", {})) == (value, quality)


def test_a_zero_that_is_flagged_as_a_fault_is_no_zero() -> None:
    rows = _rows(_station({"a21026": "so2"}), _message("DataTime=20261123110000;a21026-Rtd=0.0,a21026-Flag=D"))
    assert [(v, q) for _, _, v, q in rows] == [(None, "fault")]


@pytest.mark.parametrize(("text", "value", "quality"), [
    ("", None, "missing"), ("--", None, "missing"), ("NaN", None, "missing"),
    ("1e400", None, "bad"), ("abc", None, "bad"), ("-0.5", -0.5, "good")])
def test_what_is_no_number_is_no_value(text: str, value: float | None, quality: str) -> None:
    assert judge(text, "N", flag_rules("2017", {})) == (value, quality)


def test_a_device_may_have_its_own_meaning_of_a_flag() -> None:
    station = _station({"a21026": "so2"}, flags={"B": {"quality": "calibration", "keep": False}})
    rows = _rows(station, _message("DataTime=20261123110000;a21026-Rtd=1,a21026-Flag=B"))
    assert rows[0][3] == "calibration"
    with pytest.raises(FrameError, match="expected a quality word"):
        _station({"a21026": "so2"}, flags={"B": {"quality": "broken", "keep": False}})


def test_every_table_of_flags_uses_words_of_quality() -> None:
    for edition in ("2005", "2017", "2025"):
        for rule in flag_rules(edition, {}).values():
            assert rule.quality in WORDS
            assert rule.keep == (WORDS[rule.quality] < 10)


def test_units_that_a_logger_sends_are_converted() -> None:
    station = _station({"a00000": "flow", "a00000.avg.hour": "mean"}, unit="Nm3/h", units={"a00000": "Nm3/s"})
    assert _rows(station, _message("DataTime=20261123110000;a00000-Rtd=2,a00000-Flag=N"))[0][2] == 7200.0
    assert _rows(station, _message("DataTime=20261123100000;a00000-Avg=2,a00000-Flag=N", "2061"))[0][2] == 7200.0
    with pytest.raises(InputError, match="cannot turn kg"):
        _station({"a00000": "flow"}, unit="Nm3/h", units={"a00000": "kg"})


@pytest.mark.parametrize("text", ["", "2026112311", "20261323110000", "2026-11-23 11:00", "２０２６１１２３１１００００"])
def test_a_data_time_that_is_none_is_told(text: str) -> None:
    with pytest.raises(FrameError, match="expected DataTime such as") as caught:
        _rows(_station({"a21026": "so2"}), _message(f"DataTime={text};a21026-Rtd=1"))
    assert caught.value.reason == "bad_time"


@pytest.mark.parametrize(("qn", "cn", "time", "quality"), [
    ("20261123110000000", "2011", "20261123110000", "good"),
    ("20261123130000000", "2011", "20261123130000", "uncertain"),    # two hours ahead
    ("20261123100000000", "2011", "20261123100000", "uncertain"),    # an hour behind, in real time
    ("20261123110003000", "2051", "20261122110000", "good"),         # an old minute sent again with a right clock
    ("nonsense", "2011", "20261123110000", "good")])
def test_a_clock_that_is_far_off_makes_readings_uncertain(qn: str, cn: str, time: str, quality: str) -> None:
    station = _station({"a21026": "so2", "a21026.rtd.minute": "min"})
    rows = _rows(station, _message(f"DataTime={time};a21026-Rtd=1,a21026-Flag=N", cn, qn))
    assert [q for *_, q in rows] == [quality]


def test_a_message_that_is_sent_again_gives_its_readings_once_and_a_corrected_one_again() -> None:
    station = _station({"a21026": "so2"})
    first = _message("DataTime=20261123110000;a21026-Rtd=1,a21026-Flag=N")
    assert len(_rows(station, first)) == 1
    assert len(_rows(station, first)) == 1, "not yet durable: it must come again"
    remember(first, station, NOW)
    assert _rows(station, first) == [] and station.duplicates == 1
    corrected = _message("DataTime=20261123110000;a21026-Rtd=2,a21026-Flag=N")
    assert [v for _, _, v, _ in _rows(station, corrected)] == [2.0]


def test_factors_that_no_point_takes_are_named() -> None:
    station = _station({"a21026": "so2"})
    assert _rows(station, _message("DataTime=20261123110000;a34013-Rtd=1,a34013-Flag=N")) == []
    assert station.unmapped == {"a34013"}


def test_the_table_of_codes_is_one_to_one() -> None:
    codes = today_codes()
    assert len(set(codes.values())) == len(codes)
    assert not set(codes) & set(codes.values())


def _at(clock: str) -> int:
    return int(datetime.strptime(f"20261123{clock}", "%Y%m%d%H%M%S").replace(tzinfo=SHANGHAI).timestamp() * 1000)


def _real_time(clock: str, more: str = "") -> Message:
    return parse_message(f"QN=20261123{clock}000;ST=31;CN=2011;PW=1;MN=M1;Flag=5;{more}"
                         f"CP=&&DataTime=20261123{clock};a21026-Rtd={clock},a21026-Flag=N&&".encode())


def _quality(station: Station, clock: str, arrived: str, more: str = "") -> str:
    """The quality of a real-time value of a logger's clock that arrives then; durable afterwards."""
    message = _real_time(clock, more)
    readings = to_readings(message, station, _at(arrived))
    remember(message, station, _at(arrived))
    return readings.quality[0]


def test_what_a_logger_kept_while_the_line_was_down_is_trusted() -> None:
    station = _station({"a21026": "so2"})
    assert _quality(station, "080000", "080002") == "good"
    kept = [f"09{m:02d}00" for m in range(0, 60, 5)]  # an hour of them comes within a minute at 10:00, oldest first
    assert [_quality(station, c, f"1000{n:02d}") for n, c in enumerate(kept)] == ["good"] * 12
    assert _quality(station, "100100", "100102") == "good"


def test_kept_data_between_new_ones_are_trusted_and_those_marked_as_sent_again() -> None:
    station = _station({"a21026": "so2"})
    assert _quality(station, "100000", "100002") == "good"
    assert _quality(station, "070000", "100030") == "good", "a message with the right time came just now"
    assert _quality(_station({"a21026": "so2"}), "070000", "100030", "RF=1;") == "good"


@pytest.mark.parametrize(("clock", "arrived", "more", "told"), [
    ("110000", "110002", "", -2000), ("130000", "110000", "", 7_200_000), ("105500", "110000", "", -300_000),
    ("105500", "110000", "RF=1;", None), ("080000", "110000", "", -10_800_000)])
def test_a_message_tells_how_far_its_loggers_clock_is_ahead(clock: str, arrived: str, more: str, told: int | None) -> None:
    assert told_offset_ms(_real_time(clock, more), Watch(), SHANGHAI, _at(arrived)) == told


def test_a_slow_clock_is_not_taken_for_kept_data() -> None:
    station = _station({"a21026": "so2"})
    assert _quality(station, "080000", "120000") == "uncertain", "nothing speaks for it"
    station = _station({"a21026": "so2"})
    assert _quality(station, "080000", "080002") == "good"
    # the line was down, and the clock lost an hour meanwhile: it goes on, but never catches up
    late, told = [], []
    for m in range(12):
        told.append(told_offset_ms(_real_time(f"09{m:02d}00"), station.watch, SHANGHAI, _at(f"10{m:02d}00")))
        late.append(_quality(station, f"09{m:02d}00", f"10{m:02d}00"))
    assert told[0] is None and told[3:] == [-3_600_000] * 9, "kept data tell nothing of a clock, a slow clock does"
    assert late[0] == "good" and late[3:] == ["uncertain"] * 9
    back = _station({"a21026": "so2"})
    assert [_quality(back, "120000", "120000"), _quality(back, "090000", "120400")] == ["good", "uncertain"], "it jumped back"
