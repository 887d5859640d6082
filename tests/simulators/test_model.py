"""The load model: energy is conserved, time is random access, and the park behaves like one."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from park.quality import Quality
from simulators.model import NO_READING, Park
from simulators.scenario import Scenario

NOW = datetime(2026, 11, 23, 8, 0, tzinfo=UTC).timestamp()
DAY = 86_400.0


def test_a_counter_is_the_integral_of_its_rate(calm: Park) -> None:
    start = NOW - 3 * DAY + 137.0
    t = start + np.arange(0, 7200.5, 0.5)
    rate, total = calm.rates.at(t)
    integral = ((rate[:-1] + rate[1:]) / 2 * 0.5 / 3600).sum(axis=0)
    np.testing.assert_allclose(total[-1] - total[0], integral, rtol=1e-6, atol=1e-6)


def test_a_counter_is_the_integral_of_its_rate_through_faults_of_the_load(lvyuan: Park) -> None:
    lvyuan.readings(np.array([NOW]))
    fault = next(f for f in lvyuan.faults if f.kind == "treatment_off" and f.origin == "scripted")
    t = np.arange(fault.start - 600, fault.end + 600, 0.5)
    rate, total = lvyuan.rates.at(t)
    column = lvyuan.rates.index[fault.target]
    integral = ((rate[:-1, column] + rate[1:, column]) / 2 * 0.5 / 3600).sum()
    assert total[-1, column] - total[0, column] == pytest.approx(integral, rel=1e-3)
    assert rate[:, column].min() < 0.1 * rate[0, column]


def test_what_enters_the_park_is_what_its_meters_use_and_the_stated_losses(lvyuan: Park, scenario: Scenario) -> None:
    t = np.array([NOW - 300 * DAY, NOW - 7.3 * DAY, NOW - 11.0])
    lvyuan.readings(t)
    rate, total = lvyuan.rates.at(t)
    index = lvyuan.rates.index
    hours = (t[-1] - t[0]) / 3600
    for name, told in scenario.sums.items():
        i = index[name]
        used = sum(share * (total[-1, index[child]] - total[0, index[child]]) for child, share in told.of.items())
        assert total[-1, i] - total[0, i] == pytest.approx(used * (1 + told.loss) + told.base * hours, rel=1e-9)
    assert (rate[:, index["park.in1"]] > rate[:, index["e1.main"]]).all()


def test_meters_of_a_parent_and_its_children_agree_within_their_accuracy(calm: Park) -> None:
    value, _ = calm.readings(np.array([NOW - 8 * DAY, NOW - 1 * DAY]))
    moved = {c: value[1, i] - value[0, i] for i, c in enumerate(calm.codes)}
    children = sum(moved[f"{e}.main.kwh"] for e in ("op", "e1", "e2"))
    assert 1.0 < moved["park.in1.kwh"] / children < 1.02
    assert moved["e3.steam.t"] == moved["e2.steamsold.t"] > 0


def test_counters_never_fall_where_nothing_goes_wrong_and_none_rolls_over(calm: Park) -> None:
    t = np.arange(NOW - 20 * DAY, NOW, 900.0)
    value, _ = calm.readings(t)
    for c in calm.counters:
        steps = np.diff(value[:, c.column])
        assert ((steps >= 0) | (steps < -0.5 * c.rollover)).all(), calm.codes[c.column]


def test_counters_fall_only_where_the_ground_truth_says_so(lvyuan: Park) -> None:
    t = np.arange(NOW - 300 * DAY, NOW, 900.0)
    value, quality = (np.concatenate(x) for x in zip(*(lvyuan.readings(c) for c in np.array_split(t, 40)), strict=True))
    truth = lvyuan.ground_truth(NOW)
    told = {(r["target"], r["kind"]) for r in truth}
    clocks = [f for f in lvyuan.faults if f.kind == "wrong_clock"]
    fell = 0
    for c in lvyuan.counters:
        code = lvyuan.codes[c.column]
        seen = quality[:, c.column] != NO_READING
        falls = np.flatnonzero(np.diff(value[seen, c.column]) < 0)
        for at in t[seen][falls]:
            shifted = any(c.column in lvyuan.columns_of(f.target) and f.start - 900 <= at <= f.end for f in clocks)
            assert shifted or {(code, k) for k in ("reset", "swap", "rollover")} & told, code
            fell += 1
    assert fell >= 8


def test_a_value_does_not_depend_on_what_was_asked_before(lvyuan: Park, catalogue: object, scenario: Scenario) -> None:
    t = NOW - 50 * DAY + np.arange(0, 40 * 900.0, 900.0)
    together = lvyuan.readings(t)
    fresh = Park(lvyuan.catalogue, scenario, seed=1)
    fresh.readings(np.array([NOW - 400 * DAY]))
    one_by_one = [fresh.readings(np.array([at])) for at in t[::-1]][::-1]
    np.testing.assert_array_equal(together[1], np.concatenate([q for _, q in one_by_one]))
    np.testing.assert_allclose(together[0], np.concatenate([v for v, _ in one_by_one]), rtol=1e-9, atol=1e-9)


def test_another_seed_is_another_park(catalogue: object, lvyuan: Park, scenario: Scenario) -> None:
    t = np.array([NOW - 5 * DAY])
    other = Park(lvyuan.catalogue, scenario, seed=2)
    assert not np.allclose(lvyuan.readings(t)[0], other.readings(t)[0])


def test_values_are_not_a_number_where_a_device_gave_none(lvyuan: Park) -> None:
    lvyuan.readings(np.array([NOW]))
    fault = next(f for f in lvyuan.faults if f.kind == "offline" and f.origin == "scripted")
    at = np.array([int(fault.start) + 60]).astype("datetime64[s]")
    codes, values = lvyuan.values(at)
    column = codes.index("e2.lineb.kw")
    assert np.isnan(values[0, column])
    assert np.isfinite(values).sum() > 300


def local(day: str, hour: float) -> float:
    """UTC seconds of a base-local day and hour."""
    return float(np.datetime64(day, "s").astype(np.int64)) + hour * 3600 - 8 * 3600


def test_pv_gives_nothing_at_night_and_most_around_noon(calm: Park) -> None:
    pv = calm.column_of["pv.e4.kw"]
    night = calm.readings(local("2026-06-10", 0) + np.arange(0, 3 * 3600.0, 900))[0][:, pv]
    noon = calm.readings(np.array([local(f"2026-06-{d:02d}", 12) for d in range(1, 29)]))[0][:, pv]
    assert night.max() == 0
    assert noon.max() > 250


def test_food_lines_rest_at_night_on_weekends_and_on_national_day(calm: Park) -> None:
    line = calm.column_of["e3.line1.kw"]
    working = calm.readings(np.array([local("2026-09-22", h) for h in (8, 11, 15)]))[0][:, line].mean()
    night = calm.readings(np.array([local("2026-09-22", h) for h in (1, 2, 3)]))[0][:, line].mean()
    holiday = calm.readings(np.array([local("2026-10-04", h) for h in (8, 11, 15)]))[0][:, line].mean()
    made_up = calm.readings(np.array([local("2026-09-20", h) for h in (8, 11, 15)]))[0][:, line].mean()   # a working Sunday
    assert night < 0.25 * working
    assert holiday < 0.35 * working
    assert made_up > 0.8 * working


def test_cooling_follows_the_weather(calm: Park) -> None:
    chiller = calm.column_of["e5.chiller.kw"]
    july = calm.readings(np.array([local(f"2026-07-{d:02d}", 15) for d in range(1, 29)]))[0][:, chiller].mean()
    january = calm.readings(np.array([local(f"2026-01-{d:02d}", 15) for d in range(1, 29)]))[0][:, chiller].mean()
    assert july > 1.25 * january


def test_so2_climbs_within_minutes_when_the_treatment_stops_and_the_furnace_runs(lvyuan: Park) -> None:
    lvyuan.readings(np.array([NOW]))
    fault = next(f for f in lvyuan.faults if f.kind == "treatment_off" and f.target == "e1.filter" and f.origin == "scripted")
    value, quality = lvyuan.readings(np.array([fault.start - 60, fault.start + 900, fault.end + 3500]))
    so2, power = (value[:, lvyuan.column_of[c]] for c in ("e1.stack.so2", "e1.filter.kw"))
    assert so2[1] > 2.5 * so2[0] and so2[1] > 50 > so2[2]
    assert power[1] < 30 < power[2]
    assert (quality[:, lvyuan.column_of["e1.stack.so2"]] == Quality.GOOD).all()


def test_a_stack_whose_furnace_stands_still_is_flagged_stopped_not_clean(calm: Park) -> None:
    t = np.arange(NOW - 30 * DAY, NOW, 900.0)
    value, quality = calm.readings(t)
    stopped = quality[:, calm.column_of["e1.stack.so2"]] == Quality.STOPPED
    furnace = value[:, calm.column_of["e1.furnace.kw"]]
    assert stopped.sum() > 40
    assert furnace[stopped].max() < 0.2 * furnace.max()
    assert value[stopped, calm.column_of["e1.stack.o2"]].min() > 19
