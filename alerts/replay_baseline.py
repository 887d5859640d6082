"""A baseline rule over history: every hour beside its like hours as `baseline.judge` saw it then, a day of hours at a time.

From `reading_1h` of the stretch and of the ten weeks before it. What was not in the rollup when the hour was young, because it
came late, is there now: a backtest judges what is known today.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np

from alerts import baseline
from alerts.baseline import HOUR, LIKE_DAYS, Flags, Hours
from alerts.daytype import SHUTDOWN, day_type, like
from alerts.evaluator import Floats
from alerts.rules import Point, Rule
from alerts.store import Connection, Q

BEFORE = timedelta(days=72)     # like days reach 70 days back, and need the day before each


@dataclass(frozen=True)
class Judged:
    """Hours of a rule over its points: (T,) epochs at which each is over, (T, P) beyond, usual again, value and band."""

    at: Floats
    present: Flags
    gone: Flags
    value: Floats
    low: Floats
    high: Floats


def judge(conn: Connection, rule: Rule, points: Sequence[Point], start: datetime, end: datetime, zone: str,
          own: Mapping[date, str]) -> Judged:
    """What the rule would have said at the end of each whole hour of [start, end)."""
    first = (start - BEFORE).replace(minute=0, second=0, microsecond=0)
    table = hour_table(conn, rule.base_id, points, first, end)
    at: list[float] = []
    rows: list[tuple[Flags, Flags, Floats, Floats, Floats]] = []
    before: deque[Hours] = deque(maxlen=baseline.run_of(rule))
    for hour, hours in _compared(table, first, start - baseline.run_of(rule) * HOUR, end, zone, own):
        before.appendleft(hours)
        if hour < start or len(before) < baseline.run_of(rule):
            continue
        if day_type(hour.astimezone(ZoneInfo(zone)).date(), own) == SHUTDOWN:
            continue
        reach = rule.number("z") * hours.scale
        at.append(hour.timestamp() + 3600.0)
        rows.append((*baseline.verdict(rule, list(before)), hours.value, hours.expected - reach, hours.expected + reach))
    if not rows:
        nothing = np.empty((0, len(points)))
        return Judged(np.empty(0), nothing.astype(bool), nothing.astype(bool), nothing, nothing, nothing)
    present, gone, value, low, high = zip(*rows, strict=True)
    return Judged(np.array(at), np.stack(present), np.stack(gone), np.stack(value), np.stack(low), np.stack(high))


def hour_table(conn: Connection, base: int, points: Sequence[Point], start: datetime, end: datetime) -> Floats:
    """(hours from start to end, P) values of whole hours; NaN: not known, or not valid."""
    n = int((end - start) / HOUR)
    out = np.full((n, len(points)), np.nan)
    column = {p.point_id: i for i, p in enumerate(points)}
    key = {"base": base, "points": list(column), "start": start, "end": end}
    for point, at, value in conn.execute(Q["hour_series"], key, binary=True).fetchall():
        row = ((np.frombuffer(at, ">f8") - start.timestamp()) // 3600).astype(np.intp)
        inside = row < n
        out[row[inside], column[point]] = np.frombuffer(value, ">f8")[inside]
    return out


def _compared(table: Floats, first: datetime, start: datetime, end: datetime, zone: str,
              own: Mapping[date, str]) -> Iterator[tuple[datetime, Hours]]:
    """Each whole hour of [start, end) beside its like hours; the hours of a local day are worked out together."""
    hour = first + -(-(start - first) // HOUR) * HOUR
    n_points = table.shape[1]
    padded = np.vstack([table, np.full((1, n_points), np.nan)])     # the last row is what is not known
    while hour + HOUR <= end:
        day = hour.astimezone(ZoneInfo(zone)).date()
        hours = [hour]
        while (following := hours[-1] + HOUR) + HOUR <= end and following.astimezone(ZoneInfo(zone)).date() == day:
            hours.append(following)
        days = like(day, own, LIKE_DAYS)
        same = np.array([[(h - first) // HOUR for h in baseline.same_hours(x, zone, days)] for x in hours])
        rows = same[:, :, None] - np.arange(25)
        rows = np.where((rows >= 0) & (rows < len(table)), rows, len(table))
        block = padded[rows]                                        # (hours, 1 + like days, 25, P)
        wide = np.moveaxis(block, 0, 2).reshape(len(days) + 1, 25, len(hours) * n_points)
        all_of = baseline.compared(wide)
        for i, h in enumerate(hours):
            part = slice(i * n_points, (i + 1) * n_points)
            yield h, Hours(all_of.value[part], all_of.expected[part], all_of.scale[part], all_of.known[part], all_of.size[part])
        hour = hours[-1] + HOUR
