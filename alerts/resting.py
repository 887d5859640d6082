"""Series that stand at zero most of the time, as valves, rain gauges and machines in campaigns do: beside the zeros any pulse
is unheard of. There a pulse counts only when it leads those of the days before on which there was one, and zero is nothing
that happens soon. A pulse of the usual size at an odd time is not told from an order.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from alerts.rolling import Floats, lags_of, mean_of_last
from alerts.soiled import DAYS, of_days

REST = 0.7          # of four weeks' known values that are zero
LEAD = 1.5          # times the pulses before; more with few of them known:
FEW_PULSES = 3.0    # so many days with a pulse double what is asked for beyond once
LEAST_PULSES = 3    # days with one, before which a pulse says nothing
PULSES, RANK = 28, 5        # so many of the last days with one are looked at; of all of them the fifth greatest is asked for
ZEROS = 0.5         # what a run of zero says there


def judge_at_rest(scores: dict[str, Floats], x: Floats, hour: int, day: int, fine: bool) -> None:
    """Takes out of the scores of x, where it stands at zero most of the time, what does not lead the pulses before."""
    rest = at_rest(x, day)
    if not rest.any():
        return
    pulse = of_days(np.fmax, np.abs(x), day) > 0
    moves = np.abs(np.diff(x, prepend=np.nan))
    for name, of, width in (("jump", x, 1), ("range", x, max(1, hour // 4)), ("surge", x, 3 * hour if fine else hour),
                            ("swing", moves, 3 * hour)):
        scores[name][((scores[name] > 0) | (x < 0)) & ~leads(np.abs(mean_of_last(of, width)), pulse, rest, day)] = 0.0
    scores["flat"][(x == 0) & np.repeat(rest, day)[:len(x)]] *= ZEROS


def at_rest(x: Floats, day: int) -> NDArray[np.bool_]:
    """(days,) whether the series stood at zero most of what is known of the four weeks before each day."""
    n = -(-len(x) // day)
    counts = np.zeros((2, n + 1))
    for row, what in zip(counts, (x == 0, ~np.isnan(x)), strict=True):
        row[1:] = np.add.reduceat(what.astype(float), np.arange(0, len(x), day)).cumsum()
    at = np.arange(n)
    zeros, known = counts[:, at] - counts[:, np.maximum(at - DAYS, 0)]
    return np.asarray((known > 0) & (zeros >= REST * known))


def leads(m: Floats, pulse: NDArray[np.bool_], rest: NDArray[np.bool_], day: int) -> NDArray[np.bool_]:
    """(T,) whether a figure leads those of the days before that had a `pulse`; true where the series is not at rest."""
    return np.asarray(m > np.repeat(np.where(rest, _asked(of_days(np.fmax, m, day), pulse), -1.0), day)[:len(m)])


def _asked(top: Floats, pulse: NDArray[np.bool_]) -> Floats:
    """(days,) what a pulse has to reach, from the greatest of each day; infinite before enough days had one. Of the last PULSES
    days with one, the greatest, and of every fourteen one further, to the RANK-th: no fault of the past hides the next."""
    n = np.concatenate([[0], np.cumsum(pulse)[:-1]])         # days with a pulse before
    last = -np.sort(-lags_of(np.append(top[pulse], 0.0), range(1, PULSES + 1)), axis=1)      # of the n-th such day: before it
    usual = np.nan_to_num(last[n, np.minimum(n // 14, RANK - 1)])
    return np.where(n >= LEAST_PULSES, usual * (1 + (LEAD - 1) * (1 + FEW_PULSES / np.maximum(n, 1))), np.inf)
