"""The anomaly core: causal, explained, and found again in series whose faults are known; a file's mistakes have their line."""

from __future__ import annotations

import csv
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from alerts import calibrate, group
from alerts.channels import channels
from alerts.detect import SCORE_COLUMNS, detect
from alerts.rolling import Floats
from alerts.series import Series, instant, read_series
from park.errors import CatalogueError, InputError
from park.holidays import public_day
from tests.command import park

HOUR = 3600.0
START = datetime(2025, 1, 6, tzinfo=UTC)


def office(weeks: int = 20, seed: int = 3) -> Floats:
    """Hourly load of a building that works on weekdays, with weather-like drift and noise."""
    rng = np.random.default_rng(seed)
    t = np.arange(weeks * 168)
    work = ((t % 24 >= 8) & (t % 24 < 18) & (t // 24 % 7 < 5)).astype(float)
    drift = np.cumsum(rng.normal(0, 0.15, len(t))) * 0.3
    return 100 + 60 * work + drift + rng.normal(0, 2.5, len(t))


def series(values: Floats, step_s: float = HOUR, name: str = "") -> Series:
    return Series(name, START.timestamp(), step_s, values, True)


def faulty(kind: str, at: int = 15 * 168 + 34) -> tuple[Floats, int, int]:
    x = office()
    if kind == "spike":
        x[at] *= 3
        return x, at, at + 1
    if kind == "drop":
        x[at:at + 10] = 0.0
        return x, at, at + 10
    if kind == "stuck":
        x[at:at + 40] = x[at]
        return x, at, at + 40
    if kind == "scale":
        x[at:at + 72] *= 10
        return x, at, at + 72
    if kind == "level":
        x[at:at + 400] *= 1.4
        return x, at, at + 400
    x[at:at + 240] = np.roll(x, 5)[at:at + 240]      # clock five hours off
    return x, at, at + 240


@pytest.mark.parametrize(("kind", "words"), [
    ("spike", {"high_value", "jump_up"}), ("drop", {"drop", "scale_down"}), ("stuck", {"stuck"}),
    ("scale", {"high_value", "jump_up", "scale_up"}), ("level", {"level_up", "drift_up", "jump_up", "scale_up"}),
    ("clock", {"clock_shift", "scale_up", "scale_down"}),
])
def test_a_fault_is_found_inside_it_and_named(kind: str, words: set[str]) -> None:
    x, first, end = faulty(kind)
    found = detect([series(x)], 0.3)[0].onsets
    inside = [o for o in found if first <= o["_start"] < end]
    assert inside and inside[0]["kind"] in words, found
    assert kind != "clock" or "clock_shift" in {o["kind"] for o in inside}
    if kind in ("spike", "drop", "scale"):
        assert inside[0]["_start"] - first <= 1


def test_a_weekend_copied_from_friday_is_found_by_its_repetition() -> None:
    x = office()
    saturday = 15 * 168 + 5 * 24
    x[saturday:saturday + 24] = x[saturday - 24:saturday]
    found = detect([series(x)], 0.1)[0].onsets
    assert [(o["kind"], saturday <= o["_start"] < saturday + 12) for o in found] == [("copied", True)]


def test_a_load_left_on_over_night_is_found_before_the_next_noon() -> None:
    x = office()
    evening = 15 * 168 + 2 * 24 + 17
    x[evening:evening + 40] = np.maximum(x[evening:evening + 40], 150.0)
    score = channels(x, HOUR).scores["left_on"]
    assert score[:evening].max() < 1.3 and score[evening + 19] > 1.75
    y = office(6)
    y[:] = np.where(np.arange(len(y)) % 24 // 2 == 5, 3.0, 0.0)        # a valve, two hours a day, then left open
    y[900:960] = 3.0 + 0.1 * np.sin(np.arange(60))
    assert "left_on" in {o["kind"] for o in detect([series(y)], 0.3)[0].onsets if 900 <= o["_start"] < 960}


def test_one_long_standstill_of_the_past_does_not_hide_the_next() -> None:
    x = office()
    x[10 * 168:10 * 168 + 60] = x[10 * 168]
    x[15 * 168:15 * 168 + 14] = x[15 * 168]
    found = [o for o in detect([series(x)], 0.1)[0].onsets if o["kind"] == "stuck"]
    assert [o["_start"] // 168 for o in found] == [10, 15]


def test_in_a_young_series_a_great_surge_does_not_hide_the_next() -> None:
    rng = np.random.default_rng(2)
    x = rng.gamma(4, 5, 5 * 168)
    x[400:406] = 3000
    x[700:704] = 400
    starts = [o["_start"] for o in detect([series(x)], 0.3)[0].onsets]
    assert any(400 <= s < 406 for s in starts) and any(700 <= s < 704 for s in starts), starts


def test_sound_series_keep_within_the_alarm_budget() -> None:
    months = n = 0.0
    for seed in range(5):
        x = office(26, seed)
        n += len(detect([series(x)], 0.3)[0].onsets)
        months += len(x) / 730.5
    assert n / months <= 0.6


def test_holidays_and_the_sundays_worked_for_them_are_no_alarms_when_they_are_known(tmp_path: Path) -> None:
    start, days = datetime(2025, 1, 6, tzinfo=UTC), 52 * 7
    rng = np.random.default_rng(5)
    dates = [(start + timedelta(days=i)).date() for i in range(days)]
    kinds = [public_day(d) for d in dates]
    work = np.repeat([kind == "working" for kind in kinds], 24) & (np.arange(24 * days) % 24 // 10 == 1)
    x = (100 + 60 * work) * rng.normal(1, 0.02, len(work))
    golden = dates.index(date(2025, 10, 1)) * 24
    own = tmp_path / "days.txt"
    own.write_text("\n".join(str(d) for d, k in zip(dates, kinds, strict=True)
                             if k == "holiday" or (k == "working" and d.weekday() > 4)))
    plain = Series("", start.timestamp(), HOUR, x, False)
    assert len(detect([plain])[0].onsets) >= 5
    for given in ("cn", str(own)):
        assert len(detect([plain], holidays=given)[0].onsets) <= 1
    zoned = Series("", start.timestamp() - 8 * HOUR, HOUR, x, True)
    assert len(detect([zoned], holidays="cn")[0].onsets) <= 1
    x[golden + 30] *= 6                                     # a spike in the holidays, twice the load after them
    x[golden + 12 * 24:golden + 16 * 24] *= 2
    found = [o["_start"] for o in detect([plain], holidays="cn")[0].onsets]
    assert golden + 30 in found and any(golden + 288 <= s < golden + 384 for s in found)
    own.write_text("2026-01-01\n1 January\n")
    with pytest.raises(CatalogueError, match=r"days\.txt:2"):
        detect([plain], holidays=str(own))
    with pytest.raises(InputError, match="expected cn"):
        detect([plain], holidays="de")


@pytest.mark.parametrize("step_s", [300.0, HOUR])
def test_no_score_changes_when_the_future_is_cut_off(step_s: float) -> None:
    x = office(12)
    x[1500:1503] *= 4
    x[1700:1730] = x[1700]
    x[400] = np.nan
    whole = channels(x, step_s).scores
    verdict = calibrate.judge(whole, step_s, 0.3)
    for cut in (300, 777, 1501, 1710, 1999):
        part = channels(x[:cut], step_s).scores
        for name in whole:
            assert np.array_equal(part[name], whole[name][:cut], equal_nan=True), (name, cut)
        assert np.array_equal(calibrate.judge(part, step_s, 0.3).strength, verdict.strength[:cut])


def test_no_score_of_a_group_changes_when_the_future_is_cut_off() -> None:
    rng = np.random.default_rng(0)
    common = rng.normal(0, 1, 1200)
    x = np.stack([common + rng.normal(0, 0.3, 1200) for _ in range(5)])
    x[2, 900:] += 6
    whole = group.judge(x, 0.3)
    for cut in (60, 130, 250, 430, 950):
        part = group.judge(x[:, :cut], 0.3)
        assert np.allclose(part.strength, whole.strength[:cut], rtol=1e-12)
        assert np.isfinite(part.strength).all() and np.isfinite(part.expected).all()
    assert not whole.hot[:group.STAGES[0]].any() and np.abs(part.strength[120:200]).all()
    assert not whole.hot[:900].any() and whole.hot[910:].all()
    assert set(whole.contributor[920:]) == {2}


def test_a_sensor_of_a_group_that_grows_restless_is_found_and_one_that_stands_still_hides_nothing() -> None:
    rng = np.random.default_rng(4)
    x = rng.normal(0, 1, (1, 1200)) + rng.normal(0, 0.5, (6, 1200))
    x[5] = 40.0
    noisy, wide = x.copy(), x.copy()
    noisy[1:3, 800:] += rng.normal(0, 5.0, (2, 400))
    wide[1:3, 800:] += 3.0
    for changed in (noisy, wide):
        g = group.judge(changed, 0.3)
        assert g.hot[:800].mean() < 0.02 and g.hot[830:].mean() > 0.7
        assert np.isin(g.contributor[840:], (1, 2)).mean() > 0.8
    wide[1:3, 150:] += 6.0
    assert not group.judge(x[:, :200], 1.0).hot.any() and group.judge(wide[:, :200], 0.3).hot[165:].all()


def test_a_lower_budget_never_alarms_more() -> None:
    x, _, _ = faulty("scale")
    scores = channels(x, HOUR).scores
    hot = [calibrate.judge(scores, HOUR, b).hot.sum() for b in (0.05, 0.1, 0.2, 0.3, 0.6, 1.0)]
    assert hot == sorted(hot)


def test_temperature_explains_what_it_can() -> None:
    rng = np.random.default_rng(5)
    x = office(30)
    n = len(x)
    cold = 10 + 8 * np.sin(np.arange(n) / 8760 * 2 * np.pi) + np.repeat(rng.normal(0, 4, n // 24), 24)
    x = x + 4 * np.maximum(16 - cold, 0)
    plain = detect([series(x)], 1.0)[0]
    told = detect([series(x)], 1.0, weather=series(cold))[0]
    late = slice(12 * 168, None)
    width = [np.nanmedian((s.high - s.low)[late]) for s in (plain, told)]
    error = [np.nanmedian(np.abs(x - s.expected)[late]) for s in (plain, told)]
    assert width[1] < 0.9 * width[0] and error[1] < 0.9 * error[0]


def write(path: Path, rows: list[str], header: str = "time,value") -> Path:
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(("rows", "header", "text"), [
    (["2026-01-01,1"], "when,value",
     "f.csv:1: expected the header time,value or time,series,value (one row a time and series), got when,value"),
    (["2026-01-01 00:00,1", "yesterday,2"], "time,value",
     "f.csv:3: time: expected an instant such as 2026-11-23T03:00:00Z, 2026/11/23 3:00 or seconds since 1970, got 'yesterday'"),
    (["2026-01-01 00:00,1", "2026-01-01 01:00,1;2"], "time,value", "f.csv:3: value: expected a number or nothing, got '1;2'"),
    (["2026-01-01 00:00,1", "2026-01-01 01:00"], "time,value", "f.csv:3: row: expected 2 columns, got 1"),
    (["05/01/2026 00:00,1"], "time,value", "or seconds since 1970, got '05/01/2026 00:00'"),
    (["46027.04,1"], "time,value", "or seconds since 1970, got '46027.04'"),
    (["2026-01-01 00:00,inf"], "time,value", "f.csv:2: value: expected a finite number of at most 1e+100, got 'inf'"),
    ([], "time,value", "f.csv: expected rows below the header, got none"),
    (["2026-01-01 00:00,1"], "time,value", "expected at least three instants, got 1"),
])
def test_a_mistake_in_a_file_is_told_with_its_line(tmp_path: Path, rows: list[str], header: str, text: str) -> None:
    with pytest.raises((InputError, CatalogueError)) as caught:
        read_series(write(tmp_path / "f.csv", rows, header))
    assert text in str(caught.value)


AT = datetime(2026, 1, 5, tzinfo=UTC).timestamp()


@pytest.mark.parametrize("text", [
    "2026-01-05", "20260105", "2026/1/5 0:00", "2026/01/05 00:00:00.000", "2026.1.5", "2026年1月5日 00:00", "20260105000000",
    "202601050000", "2026-01-05T08:00+08:00", "2026/1/5 8:00 +08:00", f"{AT:.0f}", f"{AT:.0f}000", f"{AT:.0f}000000",
    f"{AT:.0f}000000000",
])
def test_an_instant_is_read_as_strangers_write_it(text: str) -> None:
    assert instant(text)[0] == AT


@pytest.mark.parametrize(("header", "separator", "encoding", "end", "values"), [
    ("time,value", ",", "utf-8-sig", "\r\n", "7.5,,nan,-"), ("time;value", ";", "utf-8", "\n", "7,5;;NULL;--"),
    ("Timestamp\tValue", "\t", "utf-16", "\n", "7.5\t\tN/A\t#N/A"), ("时间,数值,", ",", "gb18030", "\r\n", "7.5,,none,\\N"),
    (",at,value", ",", "utf-8", "\n", "7.5,,nan,-"),
])
def test_separators_encodings_and_names_of_other_programs_are_understood(
        tmp_path: Path, header: str, separator: str, encoding: str, end: str, values: str) -> None:
    rows = [separator.join((f"2026-01-05 {h:02d}:00", v)) for h, v in enumerate(values.split(separator))]
    rows = [f"{i}{separator}{row}" if header.startswith(",") else row for i, row in enumerate(rows)]
    (tmp_path / "f.csv").write_bytes((end.join([header, *rows, ""]) + end).encode(encoding))
    s = read_series(tmp_path / "f.csv")[0]
    assert (s.start, s.step_s) == (AT, HOUR) and np.array_equal(s.values, [7.5, np.nan, np.nan, np.nan], equal_nan=True)


def test_a_register_is_told_from_a_load() -> None:
    register = np.cumsum(np.abs(office())) % 2e5        # rolls over now and then
    assert series(register).is_register and not series(office()).is_register
    assert not series(np.full(100, 7.0)).is_register and not series(np.arange(40.0)).is_register


def test_unsorted_and_doubled_rows_make_one_grid(tmp_path: Path) -> None:
    rows = [f"2026-01-05 {h:02d}:00,{v}" for h, v in ((2, 4), (0, 1), (1, 2), (1, 4), (3, 5))]
    s = read_series(write(tmp_path / "f.csv", rows))[0]
    assert s.values.tolist() == [1, 3, 4, 5]


def test_rows_that_tremble_make_a_grid_of_the_round_step(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    at = AT + 300 * np.arange(600) + rng.uniform(-40, 40, 600)
    s = read_series(write(tmp_path / "f.csv", [f"{t:.0f},{i}" for i, t in enumerate(at)]))[0]
    assert s.step_s == 300.0 and len(s.values) == 600


def test_what_is_no_series_is_told_as_such(tmp_path: Path) -> None:
    hours = [f"2026-01-05 {h:02d}:00,1" for h in range(20)]
    with pytest.raises(InputError, match=r"between 2026-01-05T19.* and 2126-01-01T00.*; a clock must be wrong"):
        read_series(write(tmp_path / "f.csv", [*hours, "2126-01-01,1"]))
    (tmp_path / "f.xlsx").write_bytes(b"PK\x03\x04")
    with pytest.raises(InputError, match="got a workbook or archive"):
        read_series(tmp_path / "f.xlsx")
    (tmp_path / "f.csv.gz").write_bytes(b"time,value")
    with pytest.raises(InputError, match="cannot be read"):
        read_series(tmp_path / "f.csv.gz")
    with pytest.raises(InputError, match="there is no file"):
        read_series(tmp_path)


@pytest.mark.parametrize("step_s", [7.0, 60.0, 300.0, 900.0, 1800.0, HOUR, 86400.0, 604800.0])
@pytest.mark.parametrize("n", [1, 2, 9, 200])
def test_a_series_of_any_step_and_length_gets_a_score(step_s: float, n: int) -> None:
    shapes: list[Floats] = [(np.arange(n) % 7).astype(np.float64), np.full(n, np.nan), np.full(n, -3.0)]
    for x in shapes:
        s = detect([series(x, step_s)], 0.3)[0]
        assert len(s.score) == n and np.isfinite(s.score).all() and not s.hot[:max(1, round(86400 / step_s))].any()


@pytest.mark.parametrize("value", [0.0, 5.0])
def test_what_has_never_moved_is_not_stuck_until_it_has(value: float) -> None:
    x = np.full(40 * 168, value)
    assert detect([series(x)], 1.0)[0].onsets == []
    x[6000:6010] = value + np.arange(10.0)
    assert [o["_start"] >= 6000 for o in detect([series(x)], 1.0)[0].onsets].count(False) == 0


def test_a_machine_that_goes_on_and_off_is_not_stuck() -> None:
    x = (np.arange(12 * 168) // 37 % 2).astype(np.float64)
    assert not [o for o in detect([series(x)], 1.0)[0].onsets if o["kind"] == "stuck"]
    x[1500:1800] = 0.0
    assert [o["_start"] // 100 for o in detect([series(x)], 1.0)[0].onsets if o["kind"] == "stuck"] == [15]


def test_surges_on_two_days_make_the_third_less_remarkable() -> None:
    rng = np.random.default_rng(2)
    x = rng.gamma(4, 5, 5 * 168)
    x[700:702] = 200
    alone = channels(x, HOUR).scores["surge"][700]
    x[400:402], x[500:502] = 2000, 2000
    assert 0 < channels(x, HOUR).scores["surge"][700] < 0.7 * alone


def test_gaps_stay_unknown_and_rows_off_the_step_are_counted(tmp_path: Path) -> None:
    rows = [f"2026-01-01T{h:02d}:00:00+08:00,{h}" for h in (0, 1, 2, 5)]
    rows += ["2026-01-01T06:10:00+08:00,", "2026-01-01T07:05:00+08:00,7"]
    s = read_series(write(tmp_path / "f.csv", rows))[0]
    assert np.array_equal(s.values, [0, 1, 2, np.nan, np.nan, 5, np.nan, 7], equal_nan=True)
    assert (s.n_moved, s.time_of(0)) == (2, "2025-12-31T16:00:00Z")


def test_the_command_reads_standard_input_and_writes_onsets_and_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    x, first, end = faulty("scale")
    rows = [f"{(START + timedelta(hours=i)).isoformat()},{name},{v:.3f}"
            for name, values in (("m1", x), ("m2", office())) for i, v in enumerate(values)]
    with write(tmp_path / "f.csv", rows, "time,series,value").open(encoding="utf-8") as piped:
        monkeypatch.setattr("sys.stdin", piped)
        done = park("detect", "-", "-o", "o.csv", "--scores", "s.csv")
    assert done.returncode == 0, done.stderr
    assert "2 series" in done.stderr
    with (tmp_path / "o.csv").open() as f:
        found = list(csv.DictReader(f))
    assert list(found[0]) == ["series", "start", "end", "kind", "channel", "score", "p_value", "expected", "low", "high"]
    at = [(datetime.fromisoformat(o["start"]) - START) / timedelta(hours=1) for o in found]
    hit = [o for o, i in zip(found, at, strict=True) if o["series"] == "m1" and first <= i < end]
    assert hit and float(hit[0]["score"]) >= 1
    assert all(float(o["p_value"]) <= 0.3 / 730 for o in found), "no alarm is likelier by chance than its budget allows"
    with (tmp_path / "s.csv").open() as f:
        scores = list(csv.DictReader(f))
    assert len(scores) == 2 * len(x) and list(scores[0]) == list(SCORE_COLUMNS)
    bad = park("detect", "nothing.csv")
    assert bad.returncode == 1 and "there is no file nothing.csv" in bad.stderr
