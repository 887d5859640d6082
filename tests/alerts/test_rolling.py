"""Windows sorted at once say what a plain loop over steps says, gaps and beginnings included."""

from __future__ import annotations

import numpy as np
import pytest

from alerts import calibrate, ranges, ranks, rolling
from alerts.rolling import Floats


def series(n: int = 900) -> Floats:
    rng = np.random.default_rng(4)
    x = 50 + 20 * np.sin(np.arange(n) / 24 * 2 * np.pi) + rng.standard_t(2, n)
    x[rng.integers(0, n, n // 20)] = np.nan
    x[300:340] = np.nan
    x[700] = 900.0
    return x


@pytest.mark.parametrize(("lags", "q", "least"), [([0, 1, 2, 3], 0.5, 2), (range(1, 25), 0.15, 6), ([5, 6, 7, 30, 31], 0.5, 3)])
def test_quantiles_over_lags(lags: list[int], q: float, least: int) -> None:
    x = series()
    out = rolling.quantile_of_lags(x, list(lags), q, least)
    for t in range(len(x)):
        known = sorted(x[t - k] for k in lags if t >= k and not np.isnan(x[t - k]))
        if len(known) < least:
            assert np.isnan(out[t])
            continue
        at = q * (len(known) - 1)
        assert out[t] == (known[int(np.floor(at))] + known[int(np.ceil(at))]) / 2


@pytest.mark.parametrize("days", [5, 20])       # windows that are sorted one by one, and those asked by rank
def test_means_and_scales(days: int) -> None:
    x = series()
    mean, scale = rolling.mean_of_last(x, 12, 4), ranks.blockwise_scale(x, 24, days, 30)
    for t in range(len(x)):
        last = x[max(0, t - 11):t + 1]
        last = last[~np.isnan(last)]
        assert np.isnan(mean[t]) if len(last) < 4 else np.isclose(mean[t], last.mean(), rtol=1e-12)
        block = t // 24 * 24
        past = np.abs(x[max(0, block - 24 * days):block])
        past = past[~np.isnan(past)]
        assert np.isnan(scale[t]) if len(past) < 30 else np.isclose(scale[t], 1.4826 * np.median(past), rtol=1e-12)


@pytest.mark.parametrize(("hour", "day"), [(1, 24), (12, 288)])
def test_distance_from_the_range_of_four_weeks(hour: int, day: int) -> None:
    x = series(6000 if hour > 1 else 1500)
    out, rarity = ranges.out_of_range(x, hour, day, with_rarity=True)
    for start in range(0, len(x), hour):
        past = x[max(0, start - 28 * day):start]
        past = past[~np.isnan(past)]
        now = x[start:start + hour]
        if start == 0 or len(past) < max(24, day // 2):
            assert np.isnan(out[start:start + hour]).all()
            continue
        low, middle, high = np.quantile(past, [0.001, 0.5, 0.999])
        spread = max(high - low, 0.02 * abs(middle), 1e-9)
        over = np.maximum(np.maximum(now - high, low - now) / spread, 0.0) * len(past) / (len(past) + day)
        assert np.allclose(np.abs(out[start:start + hour]), over, rtol=1e-9, equal_nan=True)
        first, second, third = np.quantile(past, [0.99, 0.95, 0.75])
        outer = max(first - second, 0.03 * spread)
        index = np.clip(np.log(outer / (second - third)) / np.log(5), 0.02, 0.8)
        with np.errstate(invalid="ignore"):
            log_rarer = np.log(1 + np.maximum(now - first, 0) / outer * (1 - 5 ** -index)) / index
        above = now > high
        assert np.allclose(rarity[start:start + hour][above], np.minimum(1, log_rarer[above] / 5) ** 4, rtol=1e-9)
        assert (rarity[start:start + hour][~above] == 1).all()


def test_the_usual_size_is_the_quantile_of_the_year_before() -> None:
    a = np.abs(series(3000))
    out = calibrate._high_quantile(a, 168, 2000)
    for i, found in enumerate(out):
        past = a[max(0, i * 168 - 2000):i * 168]
        past = past[~np.isnan(past)]
        assert np.isnan(found) if len(past) < 100 else np.isclose(found, np.quantile(past, 0.99), rtol=1e-12)
