"""An `emission_limit` rule over history: hours and days as accounting judged them, warnings, and the forecast of an hour.

What `emission.judge` decides at each pass as levels over time: well, a warning (a share of the limit, or the running hour on
its way over it), exceeded. A warning that becomes an exceedance raises the alert again, and it stays one until all is well.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from alerts.context import Context
from alerts.emission import LIVE_HOURS
from alerts.evaluator import Floats
from alerts.loading import NOTHING, Readings
from alerts.rules import Point, Rule, covers

WELL, WARNING, FORECAST, EXCEEDED = 0.0, 1.0, 2.0, 3.0
CHANNELS = {WARNING: "hour_warning", FORECAST: "hour_forecast", EXCEEDED: "hour_exceeded"}
JUDGED = ("valid", "stopped", "exempt")
Row = tuple[Any, ...]


@dataclass(frozen=True)
class Means:
    """Hours (or days) of an outlet and quantity: (T,) epochs at which each is over, converted mean, limit, level (NaN: not
    known)."""

    at: Floats
    value: Floats
    limit: Floats
    level: Floats


@dataclass(frozen=True)
class Step:
    """A raise (or a raise again) with its channel, and when it was over or worse (NaN: not yet)."""

    raised_at: float
    returned_at: float
    channel: str


def means(context: Context, rule: Rule, rows: Sequence[Row], *, days: bool = False) -> Iterator[tuple[Point, Means]]:
    """Each point of a rule with the means of its outlet; rows as `emission_history` gives them. Days know no warning."""
    of: dict[tuple[int, str], list[Row]] = defaultdict(list)
    for _, unit, quantity, *_ in (found := list(rows)):
        of[unit, quantity] = []
    for row in found:
        of[row[1], row[2]].append(row)
    told: set[tuple[int, str]] = set()
    for p in context.points:
        key = (p.unit_id or 0, p.quantity)
        if p.base_id == rule.base_id and key in of and key not in told and covers(rule, p):
            told.add(key)
            at, value, limit = (np.array([r[i] for r in of[key]], float) for i in (0, 4, 5))
            share = np.inf if days or p.quantity == "ph" else rule.number("warn_at")
            level = [_level(r[3], v, m, r[6], share) for r, v, m in zip(of[key], value, limit, strict=True)]
            yield p, Means(at, value, limit, np.array(level))


def _level(state: str, value: float, limit: float, exceeded: bool | None, warn_at: float) -> float:
    if exceeded:
        return EXCEEDED
    if state == "valid" and value >= warn_at * limit:       # NaN is never so
        return WARNING
    return WELL if state in JUDGED else np.nan


def with_forecast(rule: Rule, p: Point, hours: Means, mine: Readings, o2: Readings,
                  reference: float | None) -> tuple[Floats, Floats]:
    """(epochs, level) of the hours and of every valid minute between them; without readings of minutes the hours alone."""
    if not rule.params["forecast"] or p.quantity == "ph" or not len(hours.at):
        return hours.at, hours.level
    at, mean, n = running(*converted(mine, o2, reference))
    of = np.searchsorted(hours.at, at, side="right") - 1
    ok = of >= 0
    at, mean, n, of = at[ok], mean[ok], n[ok], of[ok]
    held = at - hours.at[of] <= LIVE_HOURS * 3600.0
    over = held & (n >= rule.number("min_minutes")) & (mean > hours.limit[of]) & (hours.level[of] != EXCEEDED)
    level = np.where(over, FORECAST, np.where(held, hours.level[of], np.nan))
    every = np.concatenate([hours.at, at])
    order = np.argsort(every, kind="stable")
    return every[order], np.concatenate([hours.level, level])[order]


def converted(mine: Readings, o2: Readings, reference: float | None) -> tuple[Floats, Floats]:
    """(minutes since 1970, value at reference oxygen) of valid minutes: a good reading, no estimated or doubtful one; near 21 %
    oxygen is start or stop."""
    minute, value = _minutes(mine)
    if reference is None:
        return minute, value
    at, oxygen = _minutes(o2)
    both, i, j = np.intersect1d(minute, at, assume_unique=True, return_indices=True)
    low = oxygen[j] < 20
    return both[low], value[i][low] * (21 - reference) / (21 - oxygen[j][low])


def _minutes(r: Readings) -> tuple[Floats, Floats]:
    if not len(r.at):
        return np.empty(0), np.empty(0)
    minute, of = np.unique(np.floor(r.at / 60.0), return_inverse=True)
    usable = ~np.isnan(r.usable)
    n = np.bincount(of, weights=usable)
    good = np.bincount(of, weights=r.good)
    total = np.bincount(of, weights=np.nan_to_num(r.usable))
    ok = (good > 0) & (n == good)
    return minute[ok], total[ok] / n[ok]


def running(minute: Floats, value: Floats) -> tuple[Floats, Floats, Floats]:
    """(epoch at which each minute is over, mean that its hour is then on its way to, valid minutes of the hour so far): the
    minutes so far, then the mean of the last ten until the hour is over."""
    hour = np.floor(minute / 60.0)
    first = np.searchsorted(hour, hour, side="left")
    place = np.arange(len(minute))
    total = np.concatenate([[0.0], np.cumsum(value)])
    n = place - first + 1.0
    ten = np.maximum(first, place - 9)
    tail = (total[place + 1] - total[ten]) / (place - ten + 1)
    left = np.maximum(0.0, 59.0 - (minute - hour * 60.0))
    mean: Floats = (total[place + 1] - total[first] + left * tail) / (n + left)
    return (minute + 1) * 60.0, mean, n.astype(np.float64)


def held(at: Floats, level: Floats, hold_s: float, clear_hold_s: float) -> Floats:
    """Levels with those taken out that have not stood for their hold yet: bad ones, whatever their degree, and good ones."""
    if hold_s <= 0 and clear_hold_s <= 0:
        return level
    known = np.flatnonzero(~np.isnan(level))
    bad = level[known] > WELL
    first = np.concatenate([[True], bad[1:] != bad[:-1]]) if len(known) else np.empty(0, bool)
    began = at[known][np.maximum.accumulate(np.where(first, np.arange(len(known)), 0))]
    out = level.copy()
    out[known[at[known] - began < np.where(bad, hold_s, clear_hold_s)]] = np.nan
    return out


def steps(at: Floats, level: Floats, channels: Mapping[float, str] = CHANNELS) -> list[Step]:
    """Raises, raises again when worse, and returns, from levels in order of time; NaN says nothing."""
    known = ~np.isnan(level)
    at, level = at[known], level[known]
    changes = np.flatnonzero(np.diff(level, prepend=np.nan) != 0)
    out: list[Step] = []
    now, since, channel = WELL, np.nan, ""
    for i in changes:
        here, when = float(level[i]), float(at[i])
        worse = here > WELL and (now == WELL or (here == EXCEEDED) > (now == EXCEEDED))
        if now > WELL and (here == WELL or worse):
            out.append(Step(since, when, channel))
        if worse:
            now, since, channel = here, when, channels[here]
        elif here == WELL:
            now = WELL
    if now > WELL:
        out.append(Step(since, np.nan, channel))
    return out


def oxygen_of(context: Context, p: Point, readings: Mapping[int, Readings]) -> Readings:
    """Readings of the oxygen of a point's outlet."""
    key = (p.base_id, p.unit_id, "o2")
    return next((readings[q.point_id] for q in context.points if (q.base_id, q.unit_id, q.quantity) == key
                 and q.point_id in readings), NOTHING)
