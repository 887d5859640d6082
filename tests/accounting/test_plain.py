"""Counters taken many at once get the figures that they get one by one, and whatever raises a question is left to be judged."""

from __future__ import annotations

import numpy as np
import pytest

from accounting.intervals import ONE_METER, REACH, SLOT_US, intervals
from accounting.plain import Asked, Readings, plain_slots
from park.quality import Quality

BEGIN = 800_000_000 * 1_000_000 // SLOT_US * SLOT_US


def made(rng: np.random.Generator, n: int, step_s: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A register that grows, read at about every `step_s` from some instant on."""
    jitter = rng.uniform(-0.3, 0.3, n) if rng.random() < 0.5 else np.zeros(n)
    ts = BEGIN + int(rng.integers(0, 50)) * SLOT_US + ((np.arange(n) + jitter) * step_s * 1e6).astype(np.int64)
    value = float(10.0 ** rng.integers(2, 9)) + np.cumsum(np.where(rng.random(n) < 0.2, 0, rng.uniform(0, 15, n))).round(2)
    return ts, value, rng.choice([Quality.GOOD, Quality.UNCERTAIN], n).astype(np.int16)


def gathered(series: list[tuple[np.ndarray, np.ndarray, np.ndarray]], asked: Asked) -> Readings:
    ts, value, quality = (np.concatenate(column) for column in zip(*series, strict=True))
    assert len(asked.point_id) == len(series)
    return Readings(ts, value, quality, np.cumsum([0] + [len(s[0]) for s in series]))


def question(n: int, low: np.ndarray, high: np.ndarray, ratio: np.ndarray, expected_s: np.ndarray) -> Asked:
    return Asked(np.arange(1, n + 1), low, high, ratio, expected_s, np.ones(n, bool))


@pytest.mark.parametrize("seed", range(6))
def test_many_at_once_equal_one_by_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = 40
    expected_s = rng.choice([5.0, 60.0, 300.0, 900.0], n)
    series = [made(rng, int(rng.integers(2, 400)), s) for s in expected_s]
    low = np.array([ts[0] + int(rng.uniform(-0.5, 1) * (ts[-1] - ts[0])) for ts, _, _ in series])
    high = low + rng.integers(1, 200, n) * SLOT_US // 3
    ratio = rng.uniform(0.1, 100, n)
    asked = question(n, low, high, ratio, expected_s)
    got = plain_slots(gathered(series, asked), asked)
    assert got.which.sum() > n // 2
    for i in np.flatnonzero(got.which):
        ts, value, quality = series[i]
        slots = np.arange(ts[0] // SLOT_US * SLOT_US, ts[-1] // SLOT_US * SLOT_US, SLOT_US)
        one = intervals(ts, value, quality, slots, meters=ONE_METER, ratio=ratio[i], expected_s=expected_s[i])
        assert not one.method.any() and set(one.quality) <= {Quality.GOOD, Quality.MISSING}
        first, last = max(np.searchsorted(ts, low[i]) - REACH, 0), min(np.searchsorted(ts, high[i]) + REACH, len(ts) - 1)
        assert got.low[i] == min(low[i], ts[first]) // SLOT_US * SLOT_US
        assert got.high[i] == -(-max(high[i], ts[last]) // SLOT_US) * SLOT_US
        inside = (slots >= got.low[i]) & (slots < got.high[i])
        mine = got.slots["point_id"] == asked.point_id[i]
        assert np.array_equal(got.slots["ts"][mine], slots[inside])
        near = pytest.approx(one.amount[inside], rel=1e-9, abs=1e-9 * value[-1] * ratio[i], nan_ok=True)
        assert got.slots["amount"][mine] == near
        assert np.array_equal(got.slots["quality"][mine], one.quality[inside])
    assert set(got.slots["point_id"]) <= set(asked.point_id[got.which])


def test_what_raises_a_question_is_left() -> None:
    n = 100
    ts = BEGIN + np.arange(n) * SLOT_US
    value, quality = 1000 + np.arange(n) * 2.0, np.zeros(n, np.int16)
    falls, jumps, twice = value.copy(), value.copy(), ts.copy()
    falls[50] -= 5
    jumps[50:] += 500
    twice[51] = twice[50]
    gap = np.delete(np.arange(n), slice(40, 45))
    bad = np.where(np.arange(n) == 50, Quality.BAD, Quality.GOOD).astype(np.int16)
    series = [(ts, value, quality), (ts, falls, quality), (ts, jumps, quality), (twice, value, quality),
              (ts[gap], value[gap], quality[gap]), (ts[:1], value[:1], quality[:1]), (ts[:0], value[:0], quality[:0]),
              (ts, value, bad), (ts, np.where(bad > 0, np.nan, value), quality)]
    m = len(series)
    asked = question(m, np.full(m, ts[0]), np.full(m, ts[-1]), np.ones(m), np.full(m, 900.0))
    got = plain_slots(gathered(series, asked), asked)
    assert got.which.tolist() == [True] + [False] * (m - 1)                   # a bad reading leaves a gap of half an hour
    two = Asked(asked.point_id, asked.low, asked.high, asked.ratio, asked.expected_s, np.zeros(m, bool))
    assert not plain_slots(gathered(series, two), two).which.any()
    fast = Asked(asked.point_id, asked.low, asked.high, asked.ratio, np.full(m, 1300.0), asked.one_meter)
    assert plain_slots(gathered(series, fast), fast).which.tolist()[7:] == [True, True]    # a promise of 1,300 s makes it none
