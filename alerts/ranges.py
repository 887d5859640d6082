"""How far a value lies outside all that four weeks have seen, without sorting four weeks at every hour.

A value inside the past scores 0 whatever the exact edges are. So the edges (0.1 and 99.9 % quantiles) are worked out only
for hours in which a value lies beyond a bound that is cheap: the k-th greatest of the past is at least the k-th greatest of
the maxima of its blocks. An edge is looked for in the few hours with the greatest maxima alone, for its values lie there; the
whole past is put in order only for what is then found outside.

How far outside means little where the tail is heavy: the next peak of a concentration is often twice the last. So what lies
above also gets its rarity, after a generalised Pareto tail laid through three upper quantiles of the same four weeks.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import as_strided

from alerts.rolling import Floats, Ints, tops_of_blocks

WEEKS_D = 28
EDGE = 0.001
UPPER = (0.01, 0.05, 0.25)      # shares of the past above the three quantiles that the tail goes through
WINDOWS_AT_ONCE = 100_000       # values of windows that stay in the cache
MOST_AT_ONCE = 4_000_000        # candidates for the edges, by the memory they take
INDEX = (0.02, 0.8)             # of the tail: from all but exponential to so heavy that the mean hardly exists
RARE, STEEP = 5.0, 4            # rare is exp(5) times rarer than the first quantile, one in 15,000; less counts by its power


def out_of_range(m: Floats, hour: int, day: int, with_rarity: bool = False,
                 past: Floats | None = None) -> tuple[Floats, Floats]:
    """(T,) width-fold distance of m outside the quantiles of the 28 days before its hour, less with few of them known, NaN
    before there is enough past; (T,) 0 to 1, how rare it is above, 1 wherever it is not above or nobody asks.
    `past` is what m is compared with: m itself, or m without what does not count."""
    past = m if past is None else past
    n_hours = max(0, -(-len(m) // hour))
    width = WEEKS_D * day
    total = np.concatenate([[0], np.cumsum(~np.isnan(past))])
    start = np.arange(n_hours) * hour
    known = total[start] - total[np.maximum(start - width, 0)]
    enough = known >= max(24, day // 2)
    enough[:1] = False
    score = np.where(np.repeat(enough, hour)[:len(m)] & ~np.isnan(m), 0.0, np.nan)
    rarity = np.ones(len(m))
    near = np.flatnonzero(enough & _beyond(m, past, hour, width, n_hours))
    rest = np.full(n_hours * hour - len(m), np.nan)
    padded, now = np.concatenate([np.full(width, np.nan), past, rest]), np.concatenate([m, rest]).reshape(-1, hour)
    most = max(1, MOST_AT_ONCE // (width // hour + _deep(width) * hour))
    for i in range(0, len(near), most):
        here = near[i:i + most]
        _outside(score, rarity if with_rarity else None, padded, now[here], here, known[here], width)
    return score, rarity


def _beyond(m: Floats, past: Floats, hour: int, width: int, n_hours: int) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """(hours,) whether a value of the hour may lie outside the quantiles of its past: a bound, never too narrow."""
    deep = _deep(width)
    block = max(1, min(hour * 24, width // (4 * deep)))
    n = -(-len(m) // block)
    inner = width // block - 1                          # whole blocks that lie in every window
    last = np.arange(n_hours) * hour // block           # blocks before this one are over
    out = np.zeros(n_hours, bool)
    for signed, before in ((m, past), (-m, -past)):
        tops = _windows(np.concatenate([np.full(inner, -np.inf), tops_of_blocks(before, block)]), inner)
        bound = np.sort(tops, axis=1)[:, inner - deep] if inner >= deep else np.full(n + 1, -np.inf)
        out |= tops_of_blocks(signed, hour) > bound[last]
    return out


def _outside(score: Floats, rarity: Floats | None, padded: Floats, now: Floats, hours: Ints, n: Ints, width: int) -> None:
    """Scores of those of the hours, with values `now`, that lie outside the edges of the `n` known values before them."""
    hour = now.shape[1]
    low, high = _edges(padded, hours, n, hour, width)
    outside = np.flatnonzero(((now > high[:, None]) | (now < low[:, None])).any(axis=1))
    most = max(1, WINDOWS_AT_ONCE // width)
    for i in range(0, len(outside), most):
        part = outside[i:i + most]
        _score(score, rarity, padded, hours[part] * hour, n[part], now[part], low[part], high[part])


def _score(score: Floats, rarity: Floats | None, padded: Floats, starts: Ints, n: Ints, now: Floats, low: Floats,
           high: Floats) -> None:
    """Exact scores and rarities of the hours that begin at `starts` with values `now`, written into `score` and `rarity`."""
    hour = now.shape[1]
    width = len(padded) - -(-len(score) // hour) * hour
    low, high = low[:, None], high[:, None]
    spread = high - low
    if rarity is not None or (spread < 0.02 * np.maximum(np.abs(low), np.abs(high))).any():     # the middle lies between both
        ordered = np.sort(_windows(padded, width)[starts], axis=1)
        spread = np.maximum(spread, 0.02 * np.abs(_quantile(ordered, n, 0.5))[:, None])
    spread = np.maximum(spread, 1e-9)
    over, under = (now - high) / spread, (low - now) / spread
    known = (n / (n + width / WEEKS_D))[:, None]        # in days, one more: the first days are often beyond those before
    value = known * np.where(over >= under, np.maximum(over, 0.0), -np.maximum(under, 0.0))
    at = starts[:, None] + np.arange(hour)
    inside = at < len(score)
    score[at[inside]] = value[inside]
    if rarity is not None:
        rare = np.where(over > 0, _rarity(now, [_quantile(ordered, n, 1 - q)[:, None] for q in UPPER], spread), 1.0)
        rarity[at[inside]] = rare[inside]


def _edges(padded: Floats, hours: Ints, n: Ints, hour: int, width: int) -> tuple[Floats, Floats]:
    """(N,) the lower and the upper edge of what is known, `n` values, of the windows before the `hours`."""
    row, out = np.arange(len(n)), []
    if hour == 1:
        ordered = np.sort(_windows(padded, width)[hours], axis=1)
        return _quantile(ordered, n, EDGE), _quantile(ordered, n, 1 - EDGE)
    for sign, q in ((-1.0, EDGE), (1.0, 1 - EDGE)):
        at = q * (n - 1)
        low = np.floor(at).astype(np.intp)
        first, second = low, np.minimum(low + 1, n - 1)
        if sign > 0:
            first, second = n - 1 - first, n - 1 - second       # from the top
        few = _greatest(sign * padded, hours, hour, width)
        last = few.shape[1] - 1
        out.append(_between(sign * few[row, last - first], sign * few[row, last - second], at - low))
    return out[0], out[1]


def _greatest(padded: Floats, hours: Ints, hour: int, width: int) -> Floats:
    """(N, some) in ascending order, among them all that lie at or beyond the edge of the windows before the hours: the values
    of the hours with the greatest maxima, for those that only reach the least of these that alone, and what lies before the
    first whole hour."""
    rest, count = width % hour, width // hour
    values = np.where(np.isnan(padded), -np.inf, padded)
    past = _windows(tops_of_blocks(values[rest:], hour), count)[hours]
    take = min(_deep(width), count)
    floor = np.sort(past, axis=1)[:, count - take] if take < count else np.full(len(hours), -np.inf)
    row, hour_of = np.divmod(np.flatnonzero(past > floor[:, None]), count)
    best = np.repeat(floor[:, None], take * hour, axis=1).reshape(len(hours), take, hour)
    place = np.arange(len(row)) - np.searchsorted(row, row)
    best[row, place] = np.maximum(values[rest:].reshape(-1, hour)[hours[row] + hour_of], floor[row, None])
    few = best.reshape(len(hours), take * hour)
    if rest:
        few = np.concatenate([few, values[hours[:, None] * hour + np.arange(rest)]], axis=1)
    return np.sort(few, axis=1)


def _deep(width: int) -> int:
    """How many values of a window lie at or beyond its edge, at most."""
    return int(np.floor(EDGE * (width - 1))) + 2


def _windows(x: Floats, width: int) -> Floats:
    """(len(x) - width + 1, width) all windows, as a view."""
    stride = x.strides[0]
    return as_strided(x, (len(x) - width + 1, width), (stride, stride), writeable=False)


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
    return _between(ordered[row, low], ordered[row, np.minimum(low + 1, n - 1)], at - low)


def _between(a: Floats, b: Floats, share: Floats) -> Floats:
    return np.asarray(np.where(share >= 0.5, b - (b - a) * (1 - share), a + (b - a) * share))
