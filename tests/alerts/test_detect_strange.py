"""Series unlike those on which the thresholds were chosen: counts, shares with bounds, machines by order, heavy tails, noise at
fine steps. Nothing is wrong in them, so every alarm is a false one; and a fault put into them is still found."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import pytest

from alerts import calibrate
from alerts.calibrate import MONTH_S
from alerts.channels import channels
from alerts.rolling import Floats

HOUR, FINE = 3600.0, 300.0
Make = Callable[[np.random.Generator, int], Floats]


def smooth(rng: np.random.Generator, n: int, hours: float) -> Floats:
    """Normal noise of unit size that forgets in so many steps."""
    keep = np.exp(-1 / hours)
    out = rng.normal(0, np.sqrt(1 - keep**2), n)
    for i in range(1, n):
        out[i] += keep * out[i - 1]
    return out


def on_and_off(rng: np.random.Generator, n: int) -> Floats:
    lengths = rng.lognormal(np.log(15), 1.0, n).astype(int) + 1
    return np.repeat(np.arange(n) % 2, lengths)[:n] * (50 + rng.normal(0, 1, n))


def pulses(rng: np.random.Generator, n: int) -> Floats:
    """A valve that opens now and then, or rain: zero in nine steps of ten."""
    return (rng.random(n) < 0.08) * np.round(rng.gamma(2.0, 5.0, n), 1)


HOURLY: dict[str, Make] = {
    "pulses": pulses,
    "rare counts": lambda rng, n: rng.poisson(0.02, n).astype(float),
    "counts": lambda rng, n: rng.poisson(5, n).astype(float),
    "share": lambda rng, n: np.clip(np.round(55 + 35 * smooth(rng, n, 24)), 0, 100),
    "concentration": lambda rng, n: 30 * np.exp(0.9 * smooth(rng, n, 20)),
    "by order": on_and_off,
    "wandering": lambda rng, n: 1000 + np.cumsum(rng.normal(0, 1, n)),
    "gaps": lambda rng, n: np.where(rng.random(n) < 0.3, np.nan, 100 + 20 * np.sin(np.arange(n) / 4) + rng.normal(0, 3, n)),
}
FINE_STEPS: dict[str, Make] = {
    "pulses": pulses,
    "noise": lambda rng, n: 100 + rng.normal(0, 5, n),
    "around zero": lambda rng, n: rng.normal(0, 1, n),
    "counts": lambda rng, n: rng.poisson(0.3, n).astype(float),
    "wandering": lambda rng, n: 1000 + np.cumsum(rng.normal(0, 0.3, n)),
    "gaps": lambda rng, n: np.where(rng.random(n) < 0.3, np.nan, 100 + rng.normal(0, 3, n)),
}


def starts(x: Floats, step_s: float, budget: float) -> list[tuple[int, str]]:
    verdict = calibrate.judge(channels(x, step_s).scores, step_s, budget)
    return [(o[0], verdict.names[o[2]]) for o in calibrate.onsets(verdict, step_s)]


def a_month(series: Iterable[Floats], step_s: float, budget: float) -> float:
    found = [(len(starts(x, step_s, budget)), len(x) * step_s / MONTH_S) for x in series]
    return sum(n for n, _ in found) / sum(months for _, months in found)


@pytest.mark.parametrize(("makes", "step_s", "n", "copies"), [(HOURLY, HOUR, 30 * 168, 2), (HOURLY, HOUR, 5 * 168, 6),
                                                              (FINE_STEPS, FINE, 3 * 2016, 1)])
def test_what_was_never_seen_keeps_near_the_alarm_budget(makes: dict[str, Make], step_s: float, n: int, copies: int) -> None:
    for budget in (0.3, 1.0):
        rates = {name: a_month((make(np.random.default_rng([i, len(name)]), n) for i in range(copies)), step_s, budget)
                 for name, make in makes.items()}
        assert np.mean(list(rates.values())) <= 2 * budget, rates


@pytest.mark.parametrize("name", ["counts", "share", "concentration", "by order", "gaps"])
def test_a_scale_fault_and_a_standstill_are_found_in_them(name: str) -> None:
    x = HOURLY[name](np.random.default_rng(8), 30 * 168)
    at = 20 * 168 + int(np.argmax(x[20 * 168:] > np.nanmedian(x)))
    stuck, ten = x.copy(), x.copy()
    stuck[at:at + 60] = x[at]
    ten[at:at + 72] *= 10
    for faulty, end in ((stuck, at + 60), (ten, at + 72)):
        assert (name == "by order" and faulty is stuck) or any(at <= s < end for s, _ in starts(faulty, HOUR, 0.3))


def test_the_next_peak_of_a_heavy_tail_says_less_than_the_same_peak_above_a_plain_load() -> None:
    rng = np.random.default_rng(3)
    n = 12 * 168
    heavy = 10 * (1 + rng.pareto(2.0, n))
    plain = np.minimum(heavy, np.quantile(heavy, 0.9)) + rng.normal(0, 1, n)
    for x in (heavy, plain):
        x[11 * 168] = 1.6 * heavy[:11 * 168].max()
    jump = [channels(x, HOUR).scores["jump"][11 * 168] for x in (heavy, plain)]
    assert jump[0] < 0.2 * jump[1] and jump[1] > 1


def test_runs_at_full_scale_are_not_stuck_but_others_are() -> None:
    rng = np.random.default_rng(1)
    x = np.minimum(60 + 50 * np.sin(np.arange(8 * 168) / 24 * 2 * np.pi) + rng.normal(0, 4, 8 * 168), 100.0)
    assert "flat" not in {channel for _, channel in starts(x, HOUR, 1.0)}
    x[1000:1030] = 57.0
    assert (1000, "flat") in [(s // 20 * 20, channel) for s, channel in starts(x, HOUR, 1.0)]


@pytest.mark.parametrize(("step_s", "weeks"), [(HOUR, 3), (HOUR, 7), (HOUR, 30), (FINE, 3)])
def test_pulses_between_zeros_are_no_alarms_until_one_leads_all_before(step_s: float, weeks: int) -> None:
    n = int(weeks * 604800 / step_s)
    series = [pulses(np.random.default_rng([i, weeks]), n) for i in range(8)]
    assert a_month(series, step_s, 0.3) <= 1.0
    for x in series:
        at = int(0.9 * n)
        x[at] = 5 * x.max()
    assert np.mean([at in [s for s, _ in starts(x, step_s, 0.3)] for x in series]) >= 0.75
    whole = channels(x, step_s).scores
    part = channels(x[:at - 5], step_s).scores
    assert all(np.array_equal(part[k], v[:at - 5], equal_nan=True) for k, v in whole.items())


def test_the_first_monday_is_no_jump() -> None:
    rng = np.random.default_rng(2)
    t = np.arange(5 * 168)
    x = 20 + 200 * ((t // 24 % 7 >= 3) & (t % 24 >= 8) & (t % 24 < 18)) + rng.normal(0, 2, len(t))
    assert "jump" not in {channel for _, channel in starts(x[:168], HOUR, 1.0)}
    x[600] = 700
    assert 600 in [s for s, _ in starts(x, HOUR, 0.3)]


def test_hunting_at_fine_steps_is_found_and_called_restless() -> None:
    rng = np.random.default_rng(6)
    x = 100 + rng.normal(0, 2, 14 * 288)
    x[3000:3072] += 6 * (-1.0) ** np.arange(72)
    assert [(s, c) for s, c in starts(x, FINE, 0.3) if 3000 <= s < 3072 and c == "swing"]


def test_a_spike_of_one_step_of_five_minutes_is_found_though_the_mean_of_a_quarter_hour_hides_it() -> None:
    rng = np.random.default_rng(9)
    x = 100 + 60 * (np.arange(21 * 288) // 96 % 3 == 1) + rng.normal(0, 2, 21 * 288)
    for at in (11 * 288 + 140, 16 * 288 + 140, 19 * 288 + 140):
        x[at] += 60.0
        assert (at, "jump") in starts(x[:at + 300], FINE, 0.3)


def test_a_lost_base_load_is_found_at_once_though_the_days_peak_is_ten_times_as_high_and_it_was_lost_before() -> None:
    rng = np.random.default_rng(6)
    t = np.arange(12 * 168)
    x = (20 + 200 * ((t % 24 >= 8) & (t % 24 < 18))) * rng.normal(1, 0.03, len(t))
    for at in (30 * 24 + 1, 45 * 24 + 2, 70 * 24 + 3):
        x[at:at + 5] = 0.0
        assert (at, "jump") in starts(x, HOUR, 0.1)


def test_a_spike_of_last_week_does_not_hide_the_next_in_a_young_series() -> None:
    rng = np.random.default_rng(7)
    x = 100 + 30 * np.sin(np.arange(5 * 168) / 24 * 2 * np.pi) + rng.normal(0, 2, 5 * 168)
    x[450:453], x[700] = 900.0, 400.0
    whole = channels(x, HOUR).scores
    assert whole["jump"][700] > 1
    for cut in range(440, 740, 15):      # whatever is known of the fault then, it is known without the future
        part = channels(x[:cut], HOUR).scores
        assert all(np.array_equal(part[k], v[:cut], equal_nan=True) for k, v in whole.items()), cut
