"""Which of many deviations at once are believed: tail probabilities calibrated on each series' own past, and their share of
false ones held by Benjamini and Hochberg's procedure. Thousands of series an hour reach any fixed threshold by chance alone.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from alerts.rolling import Floats

TAIL = 0.45         # index of the Pareto tail of robust deviations, of the development series
AT_SIZE = 0.01      # probability of reaching the usual size, which is a 99th percentile


def tail_p(score: Floats, size: Floats | float) -> Floats:
    """Probability of a score as great as this in a series whose 99th percentile is `size`; 1 where nothing is known."""
    with np.errstate(invalid="ignore", divide="ignore"):
        p = AT_SIZE * (np.abs(score) / size) ** (-1 / TAIL)
    return np.minimum(1.0, np.where(np.isnan(p), 1.0, p))


def score_of(p: float) -> float:
    """How many usual sizes a score has whose probability is p."""
    return float((p / AT_SIZE) ** -TAIL)


def discoveries(score: Floats, size: Floats | float, false_share: float) -> NDArray[np.bool_]:
    """(N,) whom to believe, so that at most `false_share` of them are expected to be chance (Benjamini-Hochberg over the N that
    are known). A power is taken only of the few that can be believed at all, which keeps 100,000 series under a few ms."""
    relative = np.abs(score) / size
    known = int(np.count_nonzero(~np.isnan(relative)))
    out = np.zeros(len(relative), bool)
    can = np.flatnonzero(relative >= score_of(min(1.0, false_share)))
    if not known or not len(can):
        return out
    p = tail_p(relative[can], 1.0)
    order = np.argsort(p)
    below = np.flatnonzero(p[order] <= false_share * np.arange(1, len(can) + 1) / known)
    out[can[order[:below[-1] + 1]] if len(below) else can[:0]] = True
    return out
