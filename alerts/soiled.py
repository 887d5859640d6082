"""Days of an earlier fault, which must not count among what a series usually does: else a spike hides the next for four weeks.

A day is soiled when its greatest or least value lies far beyond those of nearly all of the four weeks before, and when that was
over within a week. What lasts is a new order of things, and what comes back within four weeks is none of a fault.
It is known once the first sound day is over; until then the days count as they are. Causal.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alerts.rolling import Floats, lags_of

DAYS = 28
DEEP = 8            # so many of four weeks' days, the greatest, may lie beyond what bounds the usual
FAR = 2.0           # beyond it by so much of the usual range
LEAST = 9           # days behind a day that is judged
OFTEN = 1           # times within four weeks that a fault may have come


@dataclass(frozen=True)
class Soiled:
    """(days,) which days are soiled; in which days their four weeks are to be looked at without them."""

    days: NDArray[np.bool_]
    use: NDArray[np.bool_]


def soiled(top: Floats, bottom: Floats, days: int, often: int = OFTEN) -> Soiled | None:
    """From the greatest and the least value of each day, of the first of so many `days`; None where no day is soiled."""
    far = np.zeros(days, bool)
    far[:len(top)] = _far(top, bottom)
    if not far.any():
        return None
    edge = np.diff(far.astype(np.int8), prepend=0, append=0)
    starts, ends = np.flatnonzero(edge > 0), np.flatnonzero(edge < 0)
    found = np.zeros(days, bool)
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        before = np.count_nonzero((starts <= start) & (starts > start - DAYS))
        if end - start < min(start // 3, DEEP) and before <= often:
            found[start:end] = True
    n = np.concatenate([[0], np.cumsum(found)])
    at = np.arange(days)
    open_ = np.concatenate([[False], far[:-1]])
    return Soiled(found, (n[at] > n[np.maximum(at - DAYS, 0)]) & ~open_ & (at < len(top)))


def sound(x: Floats, past: Soiled, day: int) -> Floats:
    """(T,) x without the soiled days."""
    return np.where(np.repeat(past.days, day)[:len(x)], np.nan, x)


def before(figure: Floats, past: Soiled | None) -> Floats:
    """(days, 28) the same figure of each of four weeks' days before, without the soiled ones where they are not to count."""
    lags = range(1, DAYS + 1)
    if past is None:
        return lags_of(figure, lags)
    return np.where(past.use[:, None], lags_of(np.where(past.days, np.nan, figure), lags), lags_of(figure, lags))


def of_days(how: np.ufunc, x: Floats, day: int) -> Floats:
    """(days,) fmax or fmin of each day, NaN where nothing is known."""
    return np.asarray(how.reduce(_by_day(x, day), axis=1))


def mean_of_days(x: Floats, day: int) -> Floats:
    """(days,) mean of what is known of each day."""
    days = _by_day(x, day)
    known = ~np.isnan(days)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(known, days, 0.0).sum(axis=1) / known.sum(axis=1))


def _by_day(x: Floats, day: int) -> Floats:
    return np.concatenate([x, np.full(-len(x) % day, np.nan)]).reshape(-1, day)


def _far(top: Floats, bottom: Floats) -> NDArray[np.bool_]:
    """(days,) whether a day's greatest or least value lies far beyond those of the four weeks before but for the DEEP - 1
    outermost, of fewer days a third of them."""
    high, low = (-np.sort(-lags_of(v, range(1, DAYS + 1)), axis=1) for v in (top, -bottom))        # NaN goes last
    n = DAYS - np.count_nonzero(np.isnan(high), axis=1)
    at = np.maximum(np.minimum(n // 3, DEEP) - 1, 0)
    row = np.arange(len(top))
    high, low = high[row, at], -low[row, at]
    reach = FAR * np.maximum(high - low, 0.1 * np.maximum(np.abs(high), np.abs(low)))
    with np.errstate(invalid="ignore"):
        return np.asarray((n >= LEAST) & ((top > high + reach) | (bottom < low - reach)))
