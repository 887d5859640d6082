"""Hour and day means over readings that came late (rules `limit` with `mean`): what `means.judge` could not know in its time.

Every five minutes the hours of the last days are put together again, with the same validity. An hour or day outside its limit
that no alert of the rule covers, while the rule was in force, is an alert marked late, already over; one tells of all of a
point. The newest hour or day is the live judge's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import numpy as np

from alerts import facility, means
from alerts.baseline import SETTLE
from alerts.context import Context
from alerts.enabling import local_seconds
from alerts.evaluator import Flags, Floats, Ints, limit_band
from alerts.finding import Finding
from alerts.late import LATE_DAYS, said
from alerts.rules import Point, Rule, covers
from alerts.store import Connection, Q

TOLD_S = 3600.0     # a live judge opens its alert this long after an hour or day is over, at most


def judge(conn: Connection, context: Context, now: datetime, learned: Mapping[tuple[int, int], float]) -> list[Finding]:
    """A late finding for each point of a mean rule with hours or days that nobody was told of."""
    out: list[Finding] = []
    for rule in context.of_kind("limit"):
        points = [] if rule.instant else [p for p in context.points if p.kind == "gauge" and covers(rule, p)
                                          and limit_band(rule, p, context.limits) is not None]
        if points:
            out += _judge_rule(conn, context, rule, points, now, learned)
    return out


def _judge_rule(conn: Connection, context: Context, rule: Rule, points: Sequence[Point], now: datetime,
                learned: Mapping[tuple[int, int], float]) -> list[Finding]:
    zone = context.zones[rule.base_id]
    end = means.newest_slot(rule.params["mean"], now - SETTLE, zone)[0]
    start = means.newest_slot("day", end - timedelta(days=LATE_DAYS), zone)[1]
    ids = [p.point_id for p in points]
    told: dict[int, list[tuple[float, float]]] = defaultdict(list)
    asked = {"base": rule.base_id, "rule": rule.rule_id, "points": ids, "since": start}
    for point_id, a, b in conn.execute(Q["alerts_of_rule"], asked).fetchall():
        told[point_id].append((a, b))
    out = []
    key = {"base": rule.base_id, "points": ids, "start": start, "end": end}
    by_id = {p.point_id: p for p in points}
    for point_id, *columns in conn.execute(Q["mean_series"], key, binary=True).fetchall():
        p = by_id[point_id]
        at, mean, n_good, clean = (np.frombuffer(c, ">f8").astype(np.float64) for c in columns)
        starts, ends, value, n_valid = _slots(rule, p, zone, at, mean, n_good, clean > 0)
        low, high = limit_band(rule, p, context.limits) or (-np.inf, np.inf)
        outside = ((value < low) | (value > high)) & (ends > rule.recorded_at.timestamp())
        for a, b in told[point_id]:
            outside &= ~((a - TOLD_S <= ends) & (ends <= b))
        where = np.flatnonzero(outside)
        where = where[facility.was_in_force(conn, context, rule, p, None, ends[where], learned)]
        if len(where):
            out.append(_finding(context, rule, p, (low, high), where, (starts, ends, value, n_valid)))
    return out


def _slots(rule: Rule, p: Point, zone: str, at: Floats, mean: Floats, n_good: Floats,
           clean: Flags) -> tuple[Floats, Floats, Floats, Ints]:
    """(epochs at which each hour or day began, at which it was over, its mean or NaN, its valid hours)."""
    day = rule.params["mean"] == "day"
    slots, where = np.unique(local_seconds(at, zone) // 86400 if day else at // 3600, return_inverse=True)
    due = np.full(len(slots), max(1.0, 3600.0 / p.expected_s))
    value, n_valid = means.valid_means(where.astype(np.intp), mean, n_good, clean, due, rule.number("valid_share"))
    value = np.where(n_valid >= (rule.number("valid_hours") if day else 1.0), value, np.nan)
    if not day:
        return at, at + 3600.0, value, n_valid.astype(np.intp)
    edges = np.array([[_midnight(int(d) + k, zone) for k in (0, 1)] for d in slots]).reshape(-1, 2)
    return edges[:, 0], edges[:, 1], value, n_valid.astype(np.intp)


def _midnight(day: int, zone: str) -> float:
    """Epoch at which a local day begins, counted from 1970-01-01."""
    return datetime.combine(date(1970, 1, 1) + timedelta(days=day), time(), ZoneInfo(zone)).timestamp()


def _finding(context: Context, rule: Rule, p: Point, band: tuple[float, float], where: Ints,
             slots: tuple[Floats, Floats, Floats, Ints]) -> Finding:
    """One finding of all slots `where`, which names the worst."""
    starts, ends, value, n_valid = slots
    over = np.fmax(value[where] - band[1], band[0] - value[where])
    worst = int(where[int(np.argmax(over))])
    start, opened, over_at = (datetime.fromtimestamp(float(t), UTC) for t in (starts[worst], ends[where[0]], ends[where[-1]]))
    found = means.finding(rule, p, float(value[worst]), band, start, int(n_valid[worst]), context.zones[rule.base_id], opened)
    return replace(found, late=True, returned_at=over_at, explanation=said(found.explanation, len(where)))
