"""How far a value lies outside all that four weeks have seen, without sorting four weeks at every hour.

A value inside the past scores 0 whatever the exact edges are. So the edges (0.1 and 99.9 % quantiles) are worked out only
for hours in which a value lies beyond a bound that is cheap: the k-th greatest of the past is at least the k-th greatest of
the maxima of its blocks.

How far outside means little where the tail is heavy: the next peak of a concentration is often twice the last. So what lies
above also gets its rarity, after a generalised Pareto tail laid through three upper quantiles of the same four weeks.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import as_strided

from alerts.rolling import Floats, Ints

WEEKS_D = 28
EDGE = 0.001
UPPER = (0.01, 0.05, 0.25)      # shares of the past above the three quantiles that the tail goes through
INDEX = (0.02, 0.8)             # of the tail: from all but exponential to so heavy that the mean hardly exists
RARE, STEEP = 5.0, 4            # rare is exp(5) times rarer than the first quantile, one in 15,000; less counts by its power


def out_of_range(m: Floats, hour: int, day: int) -> tuple[Floats, Floats]:
    """(T,) width-fold distance of m outside the quantiles of the 28 days before its hour, less with few of them known, NaN
    before there is enough past; (T,) 0 to 1, how rare it is above, 1 wherever it is not above."""
    n_hours = max(0, -(-len(m) // hour))
    width = WEEKS_D * day
    total = np.concatenate([[0], np.cumsum(~np.isnan(m))])
    start = np.arange(n_hours) * hour
    known = total[start] - total[np.maximum(start - width, 0)]
    enough = known >= max(24, day // 2)
    enough[:1] = False
    score = np.where(np.repeat(enough, hour)[:len(m)] & ~np.isnan(m), 0.0, np.nan)
    rarity = np.ones(len(m))
    near = np.flatnonzero(enough & _beyond(m, hour, width, n_hours))
    most = max(1, 2_000_000 // max(width, 1))
    for i in range(0, len(near), most):
        _score(score, rarity, m, near[i:i + most] * hour, hour, width)
    return score, rarity


def _beyond(m: Floats, hour: int, width: int, n_hours: int) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """(hours,) whether a value of the hour may lie outside the quantiles of its past: a bound, never too narrow."""
    deep = int(np.floor(EDGE * (width - 1))) + 2        # at most so many values lie at or beyond the edge
    block = max(1, min(hour * 24, width // (4 * deep)))
    n = -(-len(m) // block)
    blocks = np.concatenate([m, np.full(n * block - len(m), np.nan)]).reshape(n, block)
    inner = width // block - 1                          # whole blocks that lie in every window
    first = np.arange(n_hours) * hour
    last = first // block                               # blocks before this one are over
    hours = np.concatenate([m, np.full(n_hours * hour - len(m), np.nan)]).reshape(n_hours, hour)
    out = np.zeros(n_hours, bool)
    for sign in (1.0, -1.0):
        with np.errstate(invalid="ignore"):
            tops = np.fmax.reduce(sign * blocks, axis=1)
            now = np.fmax.reduce(sign * hours, axis=1)
        padded = np.concatenate([np.full(inner, -np.inf), np.where(np.isnan(tops), -np.inf, tops)])
        stride = padded.strides[0]
        past = as_strided(padded, (n + 1, inner), (stride, stride), writeable=False)
        bound = np.sort(past, axis=1)[:, inner - deep] if inner >= deep else np.full(n + 1, -np.inf)
        out |= now > bound[last]
    return out


def _score(score: Floats, rarity: Floats, m: Floats, starts: Ints, hour: int, width: int) -> None:
    """Exact scores and rarities of the hours that begin at `starts`, written into `score` and `rarity`."""
    padded = np.concatenate([np.full(width, np.nan), m, np.full(hour, np.nan)])
    stride = padded.strides[0]
    windows = as_strided(padded, (len(m) + 1, width), (stride, stride), writeable=False)[starts]
    ordered = np.sort(windows, axis=1)
    n = width - np.count_nonzero(np.isnan(ordered), axis=1)
    low, middle, high = (_quantile(ordered, n, q) for q in (EDGE, 0.5, 1 - EDGE))
    spread = np.maximum(np.maximum(high - low, 0.02 * np.abs(middle)), 1e-9)[:, None]
    at = starts[:, None] + np.arange(hour)
    now = padded[width:][at]
    over, under = (now - high[:, None]) / spread, (low[:, None] - now) / spread
    known = (n / (n + width / WEEKS_D))[:, None]        # in days, one more: the first days are often beyond those before
    value = known * np.where(over >= under, np.maximum(over, 0.0), -np.maximum(under, 0.0))
    rare = np.where(over > 0, _rarity(now, [_quantile(ordered, n, 1 - q)[:, None] for q in UPPER], spread), 1.0)
    inside = at < len(m)
    score[at[inside]] = value[inside]
    rarity[at[inside]] = rare[inside]


def _rarity(now: Floats, upper: list[Floats], spread: Floats) -> Floats:
    """0 to 1, from the logarithm of how much rarer `now` is than the first quantile."""
    first, second, third = upper
    fold = UPPER[1] / UPPER[0]
    outer = np.maximum(first - second, 0.03 * spread)
    index = np.clip(np.log(outer / np.maximum(second - third, 0.01 * outer)) / np.log(fold), *INDEX)
    beyond = np.maximum((now - first) / outer, 0.0)
    return np.asarray(np.minimum(1.0, np.log1p(beyond * (1 - fold ** -index)) / index / RARE) ** STEEP)


def _quantile(ordered: Floats, n: Ints, q: float) -> Floats:
    """Linear quantile of the first n values of each sorted row."""
    at = q * (n - 1)
    low = np.floor(at).astype(np.intp)
    row = np.arange(len(n))
    a, b = ordered[row, low], ordered[row, np.minimum(low + 1, n - 1)]
    share = at - low
    return np.asarray(np.where(share >= 0.5, b - (b - a) * (1 - share), a + (b - a) * share))
