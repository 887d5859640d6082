"""Whole series at once say what the live tick says, reading by reading; silences, means, expressions, the plant's state."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from alerts import facility, replay
from alerts.evaluator import Flags, Floats, fresh, tick
from alerts.history import Band, device_silences, events, flat_runs, heard, newest, paced, rates, silences
from alerts.loading import Readings
from tests.alerts.test_evaluator import plan_of, point, rule

RNG = np.random.default_rng(5)


def ticked(rule_params: dict[str, Any], kind: str, at: Floats, value: Floats,
           in_force: Flags) -> tuple[list[float], list[float]]:
    """Raises and returns that the evaluator makes of a series, one tick a reading."""
    plan, _ = plan_of([rule(kind, **rule_params)], [point(1)])
    state, ups, downs = fresh(plan), [], []
    for t, x, ok in zip(at.tolist(), value.tolist(), in_force.tolist(), strict=True):
        state, raised, returned = tick(state, np.array([x]), np.array([0]), np.zeros(1), t, None, np.array([ok]))
        ups += [t] * len(raised)
        downs += [t] * len(returned)
    return ups, downs


@pytest.mark.parametrize("trial", range(60))
def test_a_limit_over_a_whole_series_says_what_tick_by_tick_says(trial: int) -> None:
    n = 400
    at = 1e9 + np.cumsum(RNG.choice([10, 60, 60, 300], n)).astype(np.float64)
    value = RNG.normal(0, 2, n) if trial % 3 == 0 else np.cumsum(RNG.normal(0, 1, n))
    value[RNG.random(n) < 0.1] = np.nan
    params = {"high": 1.5, "hysteresis": float(RNG.choice([0, 0.5])), "hold_s": float(RNG.choice([0, 60, 200])),
              "clear_hold_s": float(RNG.choice([0, 120]))} | ({"low": -1.5} if trial % 2 else {})
    in_force = RNG.random(n) < (0.7 if trial % 4 == 0 else 2)
    low = params.get("low", -np.inf)
    band = Band(low, 1.5, low + params["hysteresis"], 1.5 - params["hysteresis"], params["hold_s"], params["clear_hold_s"])
    raises, returns = events(at, value, band, in_force)
    ups, downs = ticked(params, "limit", at, value, in_force)
    assert raises.tolist() == ups and returns[~np.isnan(returns)].tolist() == downs


def test_chatter_is_held_over_a_whole_series_too() -> None:
    at = 1000.0 + 10.0 * np.arange(300, dtype=np.float64)
    value = np.where(np.arange(300) % 2 == 0, 36.0, 30.0)
    value[200:] = 30.0
    raises, returns = events(at, value, Band(-np.inf, 35, -np.inf, 35))
    ups, downs = ticked({"high": 35}, "limit", at, value, np.ones(300, bool))
    assert raises.tolist() == ups and returns[~np.isnan(returns)].tolist() == downs and len(raises) == 5


def test_rates_and_flat_runs_are_those_of_the_tick() -> None:
    at = 1000.0 + np.cumsum(RNG.choice([10, 30], 300)).astype(np.float64)
    value = np.round(np.cumsum(RNG.normal(0, 1, 300))).astype(np.float64)
    ups, downs = ticked({"rise_per_min": 4, "fall_per_min": 4}, "rate", at, value, np.ones(300, bool))
    raises, returns = events(at, rates(at, value), Band(-4, 4, -4, 4))
    assert raises.tolist() == ups and returns[~np.isnan(returns)].tolist() == downs and ups
    ups, downs = ticked({"for_s": 50}, "stuck", at, value, np.ones(300, bool))
    raises, returns = events(at, flat_runs(at, value, True), Band(-np.inf, 50, -np.inf, 50))
    assert raises.tolist() == ups and returns[~np.isnan(returns)].tolist() == downs and ups


def test_a_silence_is_the_point_s_beside_its_device_and_the_device_s_when_all_are_silent() -> None:
    lively = np.arange(0.0, 7200, 60)
    mute = lively[(lively < 1000) | (lively > 3000)]
    base = heard(lively, 90.0)
    raises, returns = silences(mute, [lively], 180.0, 0.0, 0.0, base)
    assert raises.tolist() == [1200.0] and returns.tolist() == [3060.0]     # the device's first word more than 180 s later
    raises, _ = device_silences([lively, mute], np.array([180.0, 180.0]), 0.0, 0.0, base)
    assert not len(raises)
    both = lively[(lively < 1000) | (lively > 3000)]
    other = np.arange(0.0, 7200, 30)                # another device goes on: the platform hears
    raises, returns = device_silences([both, mute], np.array([180.0, 180.0]), 0.0, 0.0, heard(np.union1d(other, both), 90.0))
    assert raises.tolist() == [np.nextafter(1140.0, 2000)] and returns.tolist() == [3060.0]
    raises, _ = device_silences([both, mute], np.array([180.0, 180.0]), 0.0, 0.0, heard(both, 90.0))
    assert not len(raises)                          # nothing at all was heard: the platform was deaf


def test_an_even_slow_pace_is_no_silence_an_irregular_or_longer_gap_is() -> None:
    fast = np.arange(0.0, 3600, 10)
    slow: Floats = np.arange(10800.0, 28800.0, 900.0)              # after two hours of nothing
    holes = np.concatenate([fast, np.delete(slow, [4, 9, 10])])     # stretches of three and four rows between holes
    raises, _ = silences(holes, [], 30.0, 0.0, 0.0, heard(np.arange(0.0, 28000, 10), 90.0))
    assert np.round(raises).tolist() == [3590 + 30, 10800 + 3 * 900 + 30, 10800 + 8 * 900 + 30]
    whole = np.concatenate([fast, slow])
    raises, _ = device_silences([whole, whole + 60], np.array([30.0, 30.0]), 0.0, 0.0, heard(np.arange(0.0, 28000, 10), 90.0))
    assert np.round(raises).tolist() == [3590 + 60 + 30]
    irregular = np.cumsum(np.tile([60.0, 200.0, 90.0], 10))
    assert not paced(irregular, 30.0, irregular[-1])[0].any() and not paced(slow[:8], 30.0, slow[7])[0].any()


def test_a_unit_runs_stands_or_is_unknown_over_time() -> None:
    at = np.arange(0.0, 600, 60)
    power = Readings(at, np.array([0, 0, 50, 90, 120, 95, 70, 0, 0, 0.0]), np.array([0] * 8 + [13, 0], np.int16))
    f = facility.Facility([(power, 1.0)], [], (100.0, 80.0))
    assert facility.states(f, at, 90.0).tolist() == [0, 0, 0, 0, 1, 1, 0, 0, -1, 0]
    assert facility.states(f, np.array([1000.0]), 90.0).tolist() == [-1]       # silent: unknown, never off
    signal = Readings(at, np.where(at < 300, 1.0, 0.0), np.zeros(10, np.int16))
    assert facility.states(facility.Facility([], [signal], None), at[[0, 9]], 90.0).tolist() == [1, 0]


def test_the_mean_of_an_hour_or_a_day_counts_only_when_it_is_valid() -> None:
    at = np.arange(0.0, 2 * 86400, 600)
    value = np.where(at < 86400, 10.0, 30.0)
    quality = np.zeros(len(at), np.int16)
    quality[(at >= 3600) & (at < 7200)] = 13                                   # an hour of faults
    quality[(at >= 86400) & (at < 86400 + 5 * 3600)] = 13                      # five hours: 19 valid ones left
    r = Readings(at, value, quality)
    p = point(1, expected_s=600)
    end, mean = replay.hour_or_day_means(rule("limit", high=20, mean="hour"), p, r, "UTC")
    assert (end[0], mean[0]) == (3600.0, 10.0) and np.isnan(mean[1]) and np.isnan(mean[24]) and mean[30] == 30.0
    _, mean = replay.hour_or_day_means(rule("limit", high=20, mean="day"), p, r, "UTC")
    assert mean[0] == 10.0 and np.isnan(mean[1])
    _, mean = replay.hour_or_day_means(rule("limit", high=20, mean="day", valid_hours=19), p, r, "UTC")
    assert mean[1] == 30.0


def test_the_forecast_of_a_slot_is_its_mean_when_it_goes_on_as_it_is() -> None:
    at = np.array([0.0, 300.0, 600.0, 899.0, 900.0, 1200.0])
    kw = np.array([100.0, 100.0, 400.0, 400.0, 50.0, 50.0])
    got = replay.slot_forecast(at, kw, 180.0)
    assert np.isnan(got[0]) and got[1] == 100.0 and got[2] == (200 * 600 + 400 * 300) / 900 and got[5] == 50.0


def test_the_newest_value_is_unknown_once_it_is_old() -> None:
    got = newest(np.array([10.0, 20.0]), np.array([1.0, 2.0]), np.array([5.0, 15.0, 20.0, 120.0, 121.0]), 100.0)
    assert np.isnan(got[[0, 4]]).all() and got[1:4].tolist() == [1.0, 2.0, 2.0]
