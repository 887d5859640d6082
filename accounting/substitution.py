"""Mass of hours without valid data, replaced upward by rule; never a concentration, never a judgement. Pure numpy.

Air, HJ 75-2017: by the capture rate of the quarter and the length of the invalid run, the largest valid hourly mass of the
180, 720 or 2,160 valid hours before the run; below 75 % the automatic data may not be used and nothing is filled in.
Water, HJ 356-2019: a day without a valid daily mean takes the largest of the 30 valid daily loads before it; in a valid day
an hour without a valid concentration or flow takes the day's mean of the valid hours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from accounting.hours import State

Floats = NDArray[np.float64]
LOOK_BACK_DAYS = 366


@dataclass(frozen=True)
class Substituted:
    """mass in kg with the replaced hours filled (NaN: no rule covers it), and per hour 0 (own data) or an index into RULES."""

    mass_kg: Floats
    rule: NDArray[np.int16]


RULES = ("", "HJ 75-2017: max of 180 valid hours", "HJ 75-2017: max of 720 valid hours", "HJ 75-2017: max of 2160 valid hours",
         "HJ 75-2017: capture below 75 %, not covered", "HJ 356-2019: max of 30 valid daily loads",
         "HJ 356-2019: mean of the valid hours of the day", "no valid hour before")
AIR_RULES = {1: 180, 2: 720, 3: 2160}
NOT_COVERED, DAILY_MAX, DAY_MEAN, NO_HISTORY = 4, 5, 6, 7


def capture_rate(state: NDArray[np.int16], quarter: NDArray[np.int64]) -> Floats:
    """(hours - invalid - stopped) / (hours - stopped) of the quarter each hour lies in; an exempt hour has data."""
    due = np.bincount(quarter, weights=(state != State.STOPPED).astype(float))
    good = np.bincount(quarter, weights=np.isin(state, (State.VALID, State.EXEMPT)).astype(float))
    with np.errstate(invalid="ignore", divide="ignore"):
        rate: Floats = np.where(due > 0, good / due, 1.0)[quarter]
    return rate


def substitute_air(state: NDArray[np.int16], mass_kg: Floats, quarter: NDArray[np.int64]) -> Substituted:
    """Hours in order without holes; mass NaN where it has to be replaced; quarter: a number per calendar quarter."""
    needed = np.isnan(mass_kg)
    filled, rule = mass_kg.copy(), np.zeros(len(mass_kg), np.int16)
    if not needed.any():
        return Substituted(filled, rule)
    rate = capture_rate(state, quarter)
    valid = np.flatnonzero(np.isin(state, (State.VALID, State.EXEMPT)) & ~needed)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], needed.astype(np.int8), [0]])))
    for first, end in zip(edges[::2], edges[1::2], strict=True):
        before = mass_kg[valid[:np.searchsorted(valid, first)]]
        for kind in np.unique(_air_rule(rate[first:end], int(end - first))):
            here = np.arange(first, end)[_air_rule(rate[first:end], int(end - first)) == kind]
            rule[here] = kind if kind == NOT_COVERED or len(before) else NO_HISTORY
            if kind != NOT_COVERED and len(before):
                filled[here] = before[-AIR_RULES[int(kind)]:].max()
    return Substituted(filled, rule)


def _air_rule(rate: Floats, run_hours: int) -> NDArray[np.int16]:
    """The rule's number for each hour of a run."""
    well = 1 if run_hours <= 24 else 2
    return np.where(rate >= 0.9, well, np.where(rate >= 0.75, 3, NOT_COVERED)).astype(np.int16)


def substitute_water(state: NDArray[np.int16], mass_kg: Floats, day: NDArray[np.int64]) -> Substituted:
    """Hours in order; day: a number per local day, rising from 0. A day is valid as its mean is (view emission_1d): with 75 %
    of the hours that discharge and are not marked; a marked hour of it takes the day's mean."""
    filled, rule = mass_kg.copy(), np.zeros(len(mass_kg), np.int16)
    stopped = state == State.STOPPED
    due = np.bincount(day, weights=~stopped)
    judged = np.bincount(day, weights=~stopped & (state != State.EXEMPT))
    known = ~stopped & (state == State.VALID) & np.isfinite(mass_kg)
    n_known = np.bincount(day, weights=known)
    load = np.bincount(day, weights=np.where(known, mass_kg, 0.0))
    valid_day = (n_known > 0) & (n_known >= 0.75 * judged)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(n_known > 0, load / n_known, np.nan)
    total = mean * due
    hole = ~stopped & ~known
    mend = hole & valid_day[day]
    filled[mend], rule[mend] = mean[day[mend]], DAY_MEAN
    good_days = np.flatnonzero(valid_day)
    for d in np.flatnonzero((due > 0) & ~valid_day):
        before = total[good_days[:np.searchsorted(good_days, d)]][-30:]
        here = (day == d) & ~stopped
        rule[here] = DAILY_MAX if len(before) else NO_HISTORY
        filled[here] = before.max() / here.sum() if len(before) else np.nan
    return Substituted(filled, rule)
