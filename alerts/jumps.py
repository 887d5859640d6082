"""Channel jump: an unheard-of step out of all that four weeks have seen, or a base load that is gone at once."""

from __future__ import annotations

import numpy as np

from alerts.rolling import Floats, quantile_of_sorted
from alerts.soiled import Soiled, before, mean_of_days, of_days

NOTHING_LEFT = 0.12     # of what is expected: a lost signal, or a tenth of it
LOST = 2.2              # score of a lost base load
ALIKE = 0.25            # its third least day's lowest value is at least this share of the middle one,
MOVES_LESS = 0.5        # and of what the series moves by at a step


def jump(x: Floats, beyond: Floats, e: Floats, size: Floats, day: int, days: int, past: Soiled | None) -> Floats:
    """(T,) a step, against the third greatest of four weeks, times how far it leads `beyond` all that these have seen. Down it
    counts only where next to nothing is left of what is expected, `e`: less is what machines do that are switched off; there a
    base load that is gone counts by itself. Unknown until so many `days` are known."""
    step = np.diff(x, prepend=np.nan)
    greatest = np.sort(-before(of_days(np.fmax, np.abs(step), day), past), axis=1)        # NaN goes last
    third = np.where(np.isnan(greatest[:, days - 1]), np.nan, -greatest[:, 2])
    usual = np.maximum(np.repeat(third, day)[:len(x)], 0.005 * size + 1e-12)
    score = np.abs(step / usual * beyond)
    up, gone = (step > 0) & (beyond > 0), (step < 0) & (beyond < 0) & (x <= NOTHING_LEFT * e)
    down = np.maximum(np.where(gone, score, 0.0), _lost(x, step, e, day, days, past))
    return np.where(up, score, np.where(down > 0, -down, np.where(np.isnan(score), np.nan, 0.0)))


def _lost(x: Floats, step: Floats, e: Floats, day: int, days: int, past: Soiled | None) -> Floats:
    """A base load that is gone at once: next to nothing left of the third least of four weeks' lowest values of a day, which
    two days of an earlier fault do not move. By night it is small beside a day's range, and yet it was never so low. Only where
    these lowest values are much alike, and not less than what the series moves by in a step: a count comes to zero so."""
    least = np.sort(before(of_days(np.fmin, x, day), past), axis=1)
    known = np.count_nonzero(~np.isnan(least), axis=1)
    third = least[np.arange(len(least)), np.clip(known // 7 - 1, 0, 2)]       # of fewer weeks the second, of one the least
    middle = quantile_of_sorted(least, 0.5, least=days)
    moves = quantile_of_sorted(np.sort(before(mean_of_days(np.abs(step), day), past), axis=1), 0.5, least=days)
    alike = (third > 0) & (third >= ALIKE * middle) & (third >= MOVES_LESS * moves)
    low = np.repeat(np.where(alike, third, np.nan), day)[:len(x)]
    gone = np.flatnonzero((step <= -0.8 * low) & (x >= 0) & (x <= NOTHING_LEFT * np.minimum(low, e)))
    out = np.zeros(len(x))
    out[gone] = LOST * np.log(low[gone] / np.maximum(x[gone], 0.01 * low[gone])) / -np.log(NOTHING_LEFT)
    return out
