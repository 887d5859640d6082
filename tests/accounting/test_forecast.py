"""Year ends: exact where nothing is uncertain, and as often inside the interval as the interval promises."""

from __future__ import annotations

import numpy as np
import pytest

from accounting.forecast import DRAWS, year_ends

DAYS = 365


def year(rng: np.random.Generator, level: float, noise: float) -> np.ndarray:
    """Daily energy with seasons, weekends and weeks that hang together."""
    day = np.arange(DAYS)
    season = 1 + 0.25 * np.cos((day - 15) / DAYS * 2 * np.pi)
    weekly = np.empty(53)
    weekly[0] = rng.normal()
    for i in range(1, 53):
        weekly[i] = 0.4 * weekly[i - 1] + np.sqrt(1 - 0.16) * rng.normal()
    return level * season * np.where(day % 7 < 5, 1.0, 0.6) * (1 + noise * (weekly[day // 7] + rng.normal(size=DAYS)))


def test_a_year_without_noise_ends_where_the_former_says() -> None:
    former = year(np.random.default_rng(1), 100, 0.0)
    whole = 1.1 * former
    known = np.where(np.arange(DAYS) < 200, whole, np.nan)
    known[50:60] = np.nan                                    # days that nobody knows are forecast, and not zero
    end = year_ends({"a": known}, {"a": former}, DAYS)["a"]
    assert end.seasonal and end.point == pytest.approx(whole.sum(), rel=2e-3)
    assert np.ptp(end.draws) < 0.01 * whole.sum()


def test_without_a_year_before_it_is_the_level_of_the_last_quarter() -> None:
    known = np.where(np.arange(DAYS) < 210, 10.0, np.nan)
    end = year_ends({"a": known}, {}, DAYS)["a"]
    assert not end.seasonal and end.point == pytest.approx(3650)
    assert year_ends({"a": np.where(np.arange(DAYS) < 20, 10.0, np.nan)}, {}, DAYS) == {}


@pytest.mark.parametrize("until", [90, 200, 300])
def test_the_interval_holds_as_often_as_it_says(until: int) -> None:
    rng = np.random.default_rng(until)
    inside, n = 0, 300
    for _ in range(n):
        former, whole = year(rng, 100, 0.06), year(rng, 100 * rng.uniform(0.8, 1.2), 0.06)
        end = year_ends({"a": np.where(np.arange(DAYS) < until, whole, np.nan)}, {"a": former}, DAYS)["a"]
        low, high = np.quantile(end.draws, [0.05, 0.95])
        inside += bool(low <= whole.sum() <= high)
    assert 0.8 <= inside / n <= 0.97, inside / n


def test_figures_that_hang_together_are_simulated_together() -> None:
    rng = np.random.default_rng(5)
    former, whole = year(rng, 100, 0.1), year(rng, 100, 0.1)
    known = np.where(np.arange(DAYS) < 150, whole, np.nan)
    ends = year_ends({"kwh": known, "tce": 0.1229 * known}, {"kwh": former, "tce": 0.1229 * former}, DAYS)
    assert ends["kwh"].draws.shape == (DRAWS,)
    np.testing.assert_allclose(ends["tce"].draws / ends["kwh"].draws, 0.1229)
