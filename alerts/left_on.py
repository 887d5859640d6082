"""Channel left_on: a load that no longer comes down at night, a valve that stays open."""

from __future__ import annotations

import numpy as np

from alerts.resting import at_rest
from alerts.rolling import Floats, held, longest, mean_of_last, quantile_of_lags
from alerts.soiled import of_days

DAYS, LEAST = 28, 14        # days that say where the middle lies, and how many of them have to be known
FEW = 2.0                   # hours that the longest run of the past counts for more
MOST = 18.0                 # hours of that run beyond which the series does not come down every day


def left_on(x: Floats, hour: int, day: int, grown: int) -> Floats:
    """(T,) how many hours the series has been above the middle of its days' usual lows and highs, against the third longest
    such run of the past; 0 below it, before there were three, and where it does not come down every day. Once an hour. Before
    the step `grown` only where it stands at zero most of the time: a load has not yet shown all its weeks."""
    n = day // hour
    if n < 12:
        return np.full_like(x, np.nan)
    m = mean_of_last(x, hour)[hour - 1::hour]
    low, high = (quantile_of_lags(of_days(how, m, n), range(1, DAYS + 1), least=LEAST) for how in (np.fmin, np.fmax))
    with np.errstate(invalid="ignore"):
        on = m > np.repeat((low + high) / 2, n)[:len(m)]
    at = np.arange(len(m))
    run = (at - np.maximum.accumulate(np.where(on, -1, at))).astype(float)
    usual = longest(run, np.concatenate([[False], on[1:] & on[:-1]]))[2]
    on &= (usual > 0) & (usual <= MOST * n / 24)
    score = held(np.where(on, run / (usual + FEW * n / 24), 0.0), hour, len(x))
    score[:grown][~np.repeat(at_rest(x, day), day)[:min(grown, len(x))]] = 0.0
    return score
