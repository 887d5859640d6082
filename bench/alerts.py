"""The alert core: 100,000 (rule, point) limits a tick and a backtest of limits, each beside a plain Python loop over the same
readings, and full scoring."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from alerts.calibrate import judge
from alerts.channels import channels
from alerts.discovery import discoveries
from alerts.evaluator import Plan, State, fresh, tick
from alerts.history import Band, events
from alerts.rolling import Floats

N = 100_000
Row = tuple[str, str, str]


def run() -> list[Row]:
    """Rows (name, figure, goal); each figure is taken here, now."""
    plan = _plan(N)
    frames = _frames(N, 220)
    ours = _times(lambda state, i: tick(state, frames[i], _QUALITY, _AGES, 1000.0 + i)[0], fresh(plan), len(frames))
    loop = _plain_loop(plan, frames[:4])
    return [
        ("100k limits with hysteresis and hold, a tick, median", f"{np.median(ours):.2f} ms", "goal 0.6 ms"),
        ("the same, 99th percentile", f"{np.quantile(ours, 0.99):.2f} ms", "goal 1 ms"),
        ("plain Python loop over the same 100k, a tick", f"{loop:.0f} ms", "limit of row by row"),
        ("100k deviations scored with false-discovery control, median", f"{_discovery():.2f} ms", "goal 3 ms"),
        ("all detectors with calibration over 24 hourly series of a year", f"{_scoring():.2f} M points/s", "goal 1 M points/s"),
        *_backtest(),
    ]


def _backtest() -> list[Row]:
    """Limits with hysteresis and hold over a month of minutes of a hundred points, whole series at once; a few readings a
    month and point lie outside. Times are of the judging; reading from the database comes on top."""
    rng = np.random.default_rng(4)
    at: Floats = 1.79e9 + 60.0 * np.arange(30 * 1440, dtype=np.float64)
    day = np.sin(np.arange(len(at)) / 1440 * 2 * np.pi)
    series: list[Floats] = [100 + 30 * day + rng.normal(0, 3, len(at)) for _ in range(100)]
    band = Band(62.0, 135.0, 64.0, 132.0, 60.0, 0.0)
    events(at, series[0], band)
    began = time.perf_counter()
    raises = sum(len(events(at, m, band)[0]) for m in series)
    ours = len(series) * len(at) / (time.perf_counter() - began) / 1e6
    began = time.perf_counter()
    plain = sum(_plain_series(at.tolist(), m.tolist(), band) for m in series[:3])
    loop = 3 * len(at) / (time.perf_counter() - began) / 1e6
    same = plain == sum(len(events(at, m, band)[0]) for m in series[:3])
    return [("backtest of two-sided limits with hysteresis and hold", f"{ours:.0f} M points/s ({raises} raises)",
             "goal 20 M points/s"),
            ("plain Python loop over the same series", f"{loop:.1f} M points/s", "the same raises" if same else "OTHER RAISES")]


def _plain_series(at: list[float], series: list[float], band: Band) -> int:
    """Raises of one series, reading by reading."""
    active, since, raises = False, 0.0, 0
    for t, v in zip(at, series, strict=True):
        low, high = (band.low_clear, band.high_clear) if active else (band.low, band.high)
        outside = v > high or v < low
        if outside == active:
            since = 0.0
            continue
        since = since or t
        if t - since >= (band.clear_hold_s if active else band.hold_s):
            active, since = outside, 0.0
            raises += outside
    return raises


_QUALITY = np.zeros(N, np.int16)
_AGES = np.zeros(N)


def _plan(n: int) -> Plan:
    high = np.random.default_rng(1).uniform(2.5, 4.0, n)
    low = np.full(n, -np.inf)
    hold = np.where(np.arange(n) % 2 == 0, 0.0, 2.0)
    return Plan(n, 0, np.full(n, -1), np.full(n, np.inf), np.arange(n), np.zeros(n, bool), low, high, low, high - 0.3, hold,
                np.zeros(n), True)


def _frames(n: int, count: int) -> list[Floats]:
    """Values that wander: about one in a hundred points is near its limit."""
    rng = np.random.default_rng(2)
    level = rng.normal(0, 1, n)
    out = []
    for _ in range(count):
        level = 0.98 * level + rng.normal(0, 0.2, n)
        out.append(level.copy())
    return out


def _times(step: Callable[[State, int], State], state: State, n: int) -> Floats:
    out = np.empty(n)
    for i in range(n):
        began = time.perf_counter()
        state = step(state, i)
        out[i] = (time.perf_counter() - began) * 1e3
    return out[20:]


def _plain_loop(plan: Plan, frames: list[Floats]) -> float:
    """Median milliseconds of a tick that looks at each row in Python, with the same rule."""
    high, clear, hold = plan.high.tolist(), plan.high_clear.tolist(), plan.hold_s.tolist()
    active, since = [False] * len(high), [0.0] * len(high)
    taken = []
    for now, frame in enumerate(frames):
        values = frame.tolist()
        began = time.perf_counter()
        for i, value in enumerate(values):
            outside = value > (clear[i] if active[i] else high[i])
            if outside == active[i]:
                since[i] = 0.0
                continue
            since[i] = since[i] or now + 1.0
            if now + 1.0 - since[i] >= (hold[i] if outside else 0.0):
                active[i], since[i] = outside, 0.0
        taken.append((time.perf_counter() - began) * 1e3)
    return float(np.median(taken))


def _discovery() -> float:
    """Median milliseconds of one pass over N series: deviation from the expectation, tail, who is believed."""
    rng = np.random.default_rng(4)
    expected, scale, size = rng.normal(100, 20, N), rng.uniform(1, 5, N), np.full(N, 4.6)     # 99 % of |t| with 4 degrees
    taken = []
    for _ in range(40):
        value = expected + scale * rng.standard_t(4, N)
        value[:20] += 400 * scale[:20]
        began = time.perf_counter()
        believed = discoveries((value - expected) / scale, size, 0.2)
        taken.append((time.perf_counter() - began) * 1e3)
        assert believed[:20].all() and believed.sum() < 40
    return float(np.median(taken))


def _scoring() -> float:
    rng = np.random.default_rng(3)
    t = np.arange(8760)
    series = [100 + 30 * np.sin(t / 24 * 2 * np.pi) + rng.normal(0, 3, len(t)) for _ in range(24)]
    judge(channels(series[0], 3600.0).scores, 3600.0, 0.3)
    began = time.perf_counter()
    for x in series:
        judge(channels(x, 3600.0).scores, 3600.0, 0.3)
    return len(series) * len(t) / (time.perf_counter() - began) / 1e6
