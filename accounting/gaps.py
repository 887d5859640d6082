"""Gaps: which steps between readings are one, and the split of a long one over its slots: the total is exact, the shape comes
from the week before. Pure numpy.

A gap shorter than `LINEAR_US` is split evenly in time (a missing reading says little about the shape); a longer one follows
the measured slots of the seven days before it, at the same time of day and week. Nothing after the gap and nothing that
is itself estimated enters, so that a split can be told from the readings up to the gap's end alone.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SLOT_US = 900_000_000
LEAST = 0.01                             # of the mean: what flowed in a gap is shown as zero in no part of it
LINEAR_US = 2 * 3600 * 1_000_000
PROFILE_DAYS = 7
JITTER_S = 1200.0                        # a step up to this long may straddle a border closely, whatever the point promises
CLOSE_S = 90.0                           # and one up to this long always does
_DAY, _WEEK = 96, 96 * PROFILE_DAYS      # slots


def gaps_in(length_us: NDArray[np.int64], expected_s: float | NDArray[np.float64], apart: NDArray[np.bool_] | None = None
            ) -> NDArray[np.bool_]:
    """Steps (of n lengths, in order) in which readings are missing.

    Longer than 1.5 times the pace: what the point promises, or the shorter of the steps beside it where readings come more
    slowly than that; but never one up to `CLOSE_S`, always one longer than `JITTER_S` and 1.5 times what the point promises.
    `apart` says which steps are none, between the readings of two counters.
    """
    real = length_us > 0 if apart is None else (length_us > 0) & ~apart
    beside = np.where(real, length_us / 1e6, np.inf)
    beside = np.minimum(np.append(np.inf, beside[:-1]), np.append(beside[1:], np.inf))
    close = np.maximum(1.5 * np.maximum(expected_s, beside), CLOSE_S)
    gap: NDArray[np.bool_] = length_us > np.minimum(close, np.maximum(JITTER_S, 1.5 * np.asarray(expected_s))) * 1e6
    return gap


def shape_gaps(at: NDArray[np.int64], step: NDArray[np.float64], gap: NDArray[np.bool_], slots: NDArray[np.int64],
               amount: NDArray[np.float64], measured: NDArray[np.bool_]) -> NDArray[np.float64]:
    """`amount` with each long gap's linear split replaced by the profile; totals per gap stay what they were.

    at: n reading times; step: n - 1 amounts; gap: which steps; slots, amount, measured: one entry a slot.
    """
    for i in np.flatnonzero(gap & (np.diff(at) > LINEAR_US) & (step > 0)):
        low = int((at[i] - slots[0]) // SLOT_US)
        high = int(-((slots[0] - at[i + 1]) // SLOT_US))
        if high <= 0 or low >= len(slots):
            continue
        inside = np.arange(low, high)
        starts = slots[0] + inside * SLOT_US
        covered = (np.minimum(starts + SLOT_US, at[i + 1]) - np.maximum(starts, at[i])) / SLOT_US
        profile = _profile(amount, measured, low, inside)
        if not (profile * covered).sum() > 0:
            continue
        weight = np.maximum(profile, LEAST * profile.mean()) * covered
        linear = step[i] * covered * SLOT_US / (at[i + 1] - at[i])
        here = (inside >= 0) & (inside < len(slots))
        amount[inside[here]] += (step[i] * weight / weight.sum() - linear)[here]
    return amount


def _profile(amount: NDArray[np.float64], measured: NDArray[np.bool_], low: int, inside: NDArray[np.int64]
             ) -> NDArray[np.float64]:
    """Expected amount of each slot of the gap that begins in slot `low`: a week earlier, else the day's mean, else the mean."""
    back = np.arange(low - _WEEK, low)
    there = (back >= 0) & (back < len(amount))
    week = np.full(_WEEK, np.nan)
    week[there] = np.where(measured[back[there]], np.maximum(amount[back[there]], 0.0), np.nan)
    seen = np.isfinite(week)
    if seen.sum() < _DAY // 4:
        return np.ones(len(inside))
    by_day = np.where(seen, week, 0.0).reshape(PROFILE_DAYS, _DAY)
    count = seen.reshape(PROFILE_DAYS, _DAY).sum(axis=0)
    mean = np.where(count > 0, by_day.sum(axis=0) / np.maximum(count, 1), week[seen].mean())
    filled = np.where(seen, week, np.tile(mean, PROFILE_DAYS))
    return filled[(inside - low) % _WEEK]
