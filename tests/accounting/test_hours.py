"""Validity of emission hours, conversion, mass, substitution: rules as tables, figures by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from accounting.columns import to_us
from accounting.hours import Hours, Minutes, State, air_hours, minutes, prevailing_step, to_dry_standard, water_hours
from accounting.localday import Days, local_days
from accounting.substitution import RULES, capture_rate, substitute_air, substitute_water
from park.quality import Quality

MIDNIGHT = datetime(2026, 5, 10, 16, tzinfo=UTC)


def a_day() -> Days:
    return local_days(to_us(MIDNIGHT), to_us(MIDNIGHT) + 1, "Asia/Shanghai")


def an_hour(value: float, n_valid: int, rest: Quality | None = None) -> Minutes:
    """One hour of minutes: some valid, the others with another quality or none."""
    good = np.arange(60) < n_valid
    return Minutes(np.where(good, value, np.nan), ~good & (rest == Quality.STOPPED), good | (rest is not None))


def flow_of(value: float, n_valid: int = 60) -> Minutes:
    return an_hour(value, n_valid)


@pytest.mark.parametrize("n_valid, rest, state", [
    (60, None, State.VALID), (45, None, State.VALID), (45, Quality.CALIBRATION, State.VALID),
    (44, None, State.INSUFFICIENT), (44, Quality.MAINTENANCE, State.INSUFFICIENT), (0, Quality.FAULT, State.INSUFFICIENT),
    (0, None, State.MISSING), (0, Quality.STOPPED, State.STOPPED), (20, Quality.STOPPED, State.STOPPED),
    (50, Quality.STOPPED, State.VALID)])
def test_an_hour_is_valid_with_45_valid_minutes_and_else_says_why_not(n_valid: int, rest: Quality | None, state: State) -> None:
    got = air_hours(an_hour(30, n_valid, rest), None, flow_of(1e4), None)
    assert got.state[0] == state and got.n_valid[0] == n_valid


def test_conversion_to_reference_oxygen_and_mass_from_the_measured_value() -> None:
    """20 mg/m3 at 12 % O2 and 8 % reference: 20 x 13 / 9; mass 20 mg/m3 x 50,000 Nm3/h = 1 kg."""
    got = air_hours(an_hour(20, 60), an_hour(12, 60), flow_of(50_000), 8.0)
    assert got.converted[0] == pytest.approx(20 * 13 / 9)
    assert (got.measured[0], got.mass_kg[0], got.oxygen[0]) == (pytest.approx(20), pytest.approx(1.0), pytest.approx(12))


def minute(value: float) -> Minutes:
    return Minutes(np.full(60, value), np.zeros(60, bool), np.ones(60, bool))


@pytest.mark.parametrize(("basis", "flow", "expected"), [
    ("wet", False, 100 / 0.9), ("wet", True, 90.0),
    ("actual", False, 100 * 101.325 / 100.0 * 423.15 / 273.15), ("actual", True, 100 / (101.325 / 100.0 * 423.15 / 273.15)),
    ("actual_wet", True, 100 * 0.9 / (101.325 / 100.0 * 423.15 / 273.15)),
])
def test_a_duct_s_state_becomes_dry_and_standard(basis: str, flow: bool, expected: float) -> None:
    got = to_dry_standard(minute(100.0), basis, flow, minute(150.0), minute(-1.0), minute(10.0), 101.0)
    assert got.value[0] == pytest.approx(expected)
    unknown = to_dry_standard(minute(100.0), basis, flow, None, None, None, 101.0)
    assert np.isnan(unknown.value).all()             # no guess: what is not measured leaves the minute without a value


def test_the_converted_minutes_are_averaged_not_the_averages_converted() -> None:
    pollutant = Minutes(np.tile([10.0, 30.0], 30), np.zeros(60, bool), np.ones(60, bool))
    oxygen = Minutes(np.tile([5.0, 15.0], 30), np.zeros(60, bool), np.ones(60, bool))
    got = air_hours(pollutant, oxygen, None, 8.0)
    assert got.converted[0] == pytest.approx((10 * 13 / 16 + 30 * 13 / 6) / 2)


@pytest.mark.parametrize("oxygen, valid_oxygen, state", [
    (19.9, 60, State.VALID), (20.0, 60, State.EXEMPT), (20.9, 60, State.EXEMPT), (9.0, 44, State.INSUFFICIENT)])
def test_near_air_there_is_nothing_to_convert_and_without_oxygen_nothing_to_judge(oxygen: float, valid_oxygen: int,
                                                                                 state: State) -> None:
    got = air_hours(an_hour(5, 60), an_hour(oxygen, valid_oxygen), flow_of(1000), 8.0)
    assert got.state[0] == state
    assert np.isnan(got.converted[0]) == (state != State.VALID)
    assert got.mass_kg[0] == pytest.approx(5 * 1000e-6)               # the mass needs no oxygen


def test_mass_needs_45_minutes_of_flow_and_a_stopped_source_has_none() -> None:
    assert np.isnan(air_hours(an_hour(5, 60), None, flow_of(1000, 44), None).mass_kg[0])
    assert air_hours(an_hour(5, 0, Quality.STOPPED), None, flow_of(0), None).mass_kg[0] == 0


@pytest.mark.parametrize("flow, state, mass", [(100.0, State.VALID, 5.0), (0.0, State.STOPPED, 0.0)])
def test_water_without_discharge_is_stopped_and_load_is_concentration_times_flow(flow: float, state: State,
                                                                                 mass: float) -> None:
    got = water_hours(an_hour(50, 60), flow_of(flow), has_mass=True)
    assert (got.state[0], got.mass_kg[0]) == (state, pytest.approx(mass))


def test_a_negative_flow_is_no_reading() -> None:
    got = water_hours(an_hour(50, 60), flow_of(-3.0), has_mass=True)
    assert got.state[0] == State.INSUFFICIENT and np.isnan(got.mass_kg[0])


def hours_of(step_s: float, expected_s: float, lose: int = 0) -> Hours:
    """A day of readings of a slow instrument; in the third hour the first `lose` are lost."""
    days = a_day()
    ts = np.arange(int(days.borders[0]), int(days.borders[1]), int(step_s * 1e6), dtype=np.int64)
    first = int(days.borders[0]) + 2 * 3_600_000_000
    gone = (ts >= first) & (ts < first + 3_600_000_000)
    gone[gone] = np.arange(gone.sum()) < lose
    ts = ts[~gone]
    return air_hours(minutes(ts, np.full(len(ts), 7.0), np.zeros(len(ts), np.int16), days, expected_s), None, None, None)


@pytest.mark.parametrize("step_s, expected_s, lose, valid", [
    (60, 60, 15, True), (60, 60, 16, False), (5, 5, 179, True), (5, 5, 192, False), (900, 60, 1, True), (900, 60, 2, False),
    (900, 900, 1, True), (300, 60, 3, True), (300, 300, 4, False), (3600, 3600, 0, True), (3600, 3600, 1, False)])
def test_a_slow_instrument_needs_three_quarters_of_its_own_readings(step_s: float, expected_s: float, lose: int,
                                                                    valid: bool) -> None:
    got = hours_of(step_s, expected_s, lose)
    assert (got.state[2] == State.VALID) == valid
    assert (np.delete(got.state, 2) == State.VALID).all()


def test_readings_without_a_regular_step_stand_for_no_more_than_they_should() -> None:
    """An instrument of one minute that says something now and then is not a slow instrument."""
    rng = np.random.default_rng(0)
    days = a_day()
    ts = np.sort(rng.integers(days.borders[0], days.borders[1], 24 * 6))
    got = air_hours(minutes(ts, np.full(len(ts), 7.0), np.zeros(len(ts), np.int16), days, 60), None, None, None)
    assert (got.state == State.INSUFFICIENT).all()
    assert prevailing_step(np.arange(0, 24, dtype=np.int64) * 7_200_000_000, 60) == 3600     # never more than an hour


def test_flagged_readings_are_not_values_even_when_they_have_one() -> None:
    days = a_day()
    ts = np.arange(int(days.borders[0]), int(days.borders[1]), 60_000_000, dtype=np.int64)
    quality = np.where(np.arange(len(ts)) % 60 < 20, Quality.CALIBRATION, Quality.GOOD).astype(np.int16)
    value = np.where(quality == Quality.CALIBRATION, 999.0, 7.0)
    got = air_hours(minutes(ts, value, quality, days, 60), None, None, None)
    assert (got.n_valid == 40).all() and (got.measured == 7).all() and (got.state == State.INSUFFICIENT).all()


def test_a_day_of_23_hours_has_23_hours() -> None:
    start = datetime(2026, 3, 8, 5, tzinfo=UTC)
    days = local_days(to_us(start), to_us(start + timedelta(hours=22)), "America/New_York")
    assert len(days.dates) == 1 and (days.borders[1] - days.borders[0]) == 23 * 3_600_000_000


def series(n: int, holes: list[range], value: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """States and masses of n hours; hour i weighs value + i / 10,000."""
    state, mass = np.zeros(n, np.int16), value + np.arange(n) / 1e4
    for hole in holes:
        state[list(hole)], mass[list(hole)] = State.INSUFFICIENT, np.nan
    return state, mass


@pytest.mark.parametrize("n, hole, rule, window", [
    (2160, range(1000, 1024), 1, 180),            # 24 hours, well captured
    (2160, range(1000, 1025), 2, 720),            # 25 hours
    (2160, range(1800, 2100), 3, 2160),           # 14 % of the quarter lost
])
def test_hj75_takes_the_largest_of_the_valid_hours_before(n: int, hole: range, rule: int, window: int) -> None:
    state, mass = series(n, [hole])
    mass[hole.start - 150] = 3.0
    mass[hole.start - 600] = 5.0
    if rule == 3:
        mass[10] = 9.0
    got = substitute_air(state, mass, np.zeros(n, np.int64))
    expected = {180: 3.0, 720: 5.0, 2160: 9.0}[window]
    assert (got.mass_kg[list(hole)] == expected).all() and set(got.rule[list(hole)]) == {rule}
    assert f"{window} valid" in RULES[rule]
    outside = np.delete(np.arange(n), list(hole))
    assert (got.mass_kg[outside] == mass[outside]).all() and not got.rule[outside].any()


def test_below_75_percent_capture_nothing_is_filled_in() -> None:
    state, mass = series(1000, [range(300, 600)])
    got = substitute_air(state, mass, np.zeros(1000, np.int64))
    assert np.isnan(got.mass_kg[300:600]).all() and "not covered" in RULES[got.rule[400]]


def test_a_stopped_source_lowers_neither_capture_nor_the_window() -> None:
    state, mass = series(1000, [range(500, 510)])
    state[100:400], mass[100:400] = State.STOPPED, 0.0
    assert capture_rate(state, np.zeros(1000, np.int64))[0] == pytest.approx(690 / 700)
    assert substitute_air(state, mass, np.zeros(1000, np.int64)).mass_kg[505] == pytest.approx(mass[499])


def test_water_fills_holes_of_a_valid_day_by_its_mean_and_a_lost_day_by_the_largest_of_thirty() -> None:
    day = np.repeat(np.arange(40), 24)
    mass = np.repeat(np.where(np.arange(40) == 2, 90.0, np.where(np.arange(40) == 20, 5.0, 1.0)), 24)
    state = np.zeros(len(day), np.int16)
    state[24 * 10:24 * 10 + 6], mass[24 * 10:24 * 10 + 6] = State.INSUFFICIENT, np.nan       # 18 of 24: valid
    state[24 * 35:24 * 35 + 7], mass[24 * 35:24 * 35 + 7] = State.MISSING, np.nan            # 17 of 24: not
    got = substitute_water(state, mass, day)
    assert (got.mass_kg[240:246] == 1.0).all() and set(got.rule[240:246]) == {6} and not got.rule[246:264].any()
    assert got.mass_kg[24 * 35:24 * 36].sum() == pytest.approx(24 * 5.0)      # day 20; day 2 is too far back
    assert set(got.rule[24 * 35:24 * 36]) == {5}
    half = 24 * 35 + 12                                                       # all that are not marked: its mean is valid
    state[half - 12:half + 12], mass[half - 12:half + 12] = State.VALID, 2.0
    state[half - 12:half] = State.EXEMPT
    got = substitute_water(state, mass, day)
    assert (got.mass_kg[half - 12:half + 12] == 2.0).all() and set(got.rule[half - 12:half]) == {6}
    assert not got.rule[half:half + 12].any()
