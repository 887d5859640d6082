"""The yardstick itself: what counts as found, as false, as chance, and what a budget is worth on a series left out."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from alerts import evaluate, ramps
from alerts.calibrate import MONTH_S
from alerts.evaluate import Labelled
from alerts.rolling import Floats
from alerts.sound import CHINA, SUMMER_TIME, Calendar

HOUR = 3600.0


def labelled(name: str, values: Floats, *faults: tuple[str, int, int], judged_from: int = 0) -> Labelled:
    return Labelled(name, values, HOUR, faults, judged_from)


def test_an_onset_counts_inside_the_fault_only_and_once() -> None:
    s = labelled("m", np.zeros(2000), ("spike", 100, 110), ("stuck", 500, 520), ("early", 5, 20), judged_from=50)
    r = evaluate.evaluate([s], {"m": [10, 104, 108, 110, 499, 1500]})
    assert r.hits == (("spike", True, 4), ("stuck", False, -1))
    assert (r.false_alarms, r.recall) == (3, 0.5) and r.months == pytest.approx(1950 * HOUR / MONTH_S)
    assert r.f1 == pytest.approx(2 * 1 / (1 + 3 + 2))


def test_chance_finds_as_much_as_the_faults_are_long() -> None:
    s = labelled("m", np.zeros(10_000), *(("level", a, a + 100) for a in range(0, 10_000, 1000)))
    found = [evaluate.control([s], 3.0, seed) for seed in range(40)]
    assert np.mean([r.recall for r in found]) == pytest.approx(1 - np.exp(-3.0 * 100 * HOUR / MONTH_S), abs=0.08)
    assert np.mean([r.a_month for r in found]) == pytest.approx(3.0 * 0.9, rel=0.1)


def restless(seed: int, surges: int) -> Floats:
    """Four weeks of hours in which some single hours stand out that nobody has labelled."""
    rng = np.random.default_rng(seed)
    x = rng.gamma(4, 5, 28 * 24)
    x[200 + np.arange(surges) * 60] = 300.0
    return x


def test_a_series_left_out_is_judged_by_the_thresholds_of_the_others() -> None:
    calm = [labelled(f"calm {i}", restless(i, 0)) for i in range(2)]
    wild = labelled("wild", restless(9, 6))
    assert evaluate.left_out([*calm, wild], 0.3).false_alarms >= 2         # the calm ones know nothing of surges
    both = [*calm, wild, labelled("as wild", restless(10, 6))]
    frozen = evaluate.ours(both, [0.3])[0.3]
    assert evaluate.left_out(both, 0.3).false_alarms < frozen.false_alarms      # either makes the other's thresholds high


def test_a_ramp_begins_far_from_faults_and_gaps() -> None:
    x = np.full(80 * ramps.WEEK, 100.0)
    x[50 * ramps.WEEK] = np.nan
    s = labelled("m", x, ("stuck", 65 * ramps.WEEK, 65 * ramps.WEEK + 20), judged_from=ramps.AHEAD)
    places = ramps.places(s, 1)
    assert len(places) == ramps.PLACES
    for at in places:
        assert at >= ramps.AHEAD and not np.isnan(x[at - ramps.WEEK:at + ramps.LONG]).any()
        assert at + ramps.LONG <= 65 * ramps.WEEK or at - ramps.CLEAR >= 65 * ramps.WEEK + 20


def test_a_steeper_ramp_is_found_sooner() -> None:
    rng = np.random.default_rng(4)
    n = ramps.AHEAD + ramps.LONG
    t = np.arange(n)
    x = 100 + 40 * np.sin(t / 24 * 2 * np.pi) + rng.normal(0, 4, n) + np.repeat(rng.normal(0, 3, n // 24), 24)
    grown = np.maximum(t - ramps.AHEAD, 0) / ramps.WEEK
    days = np.array([ramps.delays(x * (1 + size * grown), ramps.AHEAD) for size in (0.0, 0.1, 0.4)])
    assert np.isinf(days[0, 1]) and days[2, 1] <= days[1, 1] and days[2, 1] < 8
    assert ramps.noise(x) == pytest.approx(0.03 / np.sqrt(7), rel=0.8)


def test_made_up_days_are_those_of_the_calendar_and_the_hour_moves_with_summer_time() -> None:
    rng = np.random.default_rng(1)
    park = Calendar(rng, 60 * 24, 3600.0, datetime(2025, 9, 15, 16, tzinfo=UTC), CHINA)      # midnight of Tuesday in China
    assert park.hour[0] == 0 and park.day[0] == 1
    golden = slice(15 * 24, 23 * 24)                                                        # 1 to 8 October
    assert park.holiday[golden].all() and not park.work[golden].any()
    assert park.work[12 * 24:13 * 24].all()                                                 # 28 September, a Sunday
    berlin = Calendar(rng, 48, 3600.0, datetime(2025, 3, 29, 23, tzinfo=UTC), SUMMER_TIME)
    assert berlin.hour[:4].tolist() == [0, 1, 3, 4] and not berlin.holiday.any()
