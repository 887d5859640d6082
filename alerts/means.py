"""Limits on means: of a whole hour, or of a base-local day, each with its validity (rules `limit` with `mean: hour` or `day`).

From `reading_1h`. An hour counts when `valid_share` of its expected readings are good and none in the mean is estimated or
doubtful; a day when `valid_hours` of its hours count (20 of 24 by default, HJ 75-2017). What does not count says nothing. The
legal means of an outlet (converted, flow-weighted) are judged by `emission_limit`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np

from alerts.baseline import HOUR, SETTLE, Memory
from alerts.context import Context
from alerts.evaluator import Flags, Floats, Ints, limit_band
from alerts.explain import clock_of, figure, name_en, name_zh
from alerts.finding import Finding
from alerts.rules import Point, Rule, covers
from alerts.store import Connection, Q

Band = tuple[float, float]


def judge(conn: Connection, context: Context, memory: Memory, now: datetime) -> list[Finding]:
    """Findings of every mean rule about the newest whole hour or day, once each."""
    out: list[Finding] = []
    for rule in context.of_kind("limit"):
        if rule.instant:
            continue
        start, end = newest_slot(rule.params["mean"], now - SETTLE, context.zones[rule.base_id])
        key = (rule.base_id, rule.rule_id)
        if memory.judged.get(key) == start:
            continue
        points = [p for p in context.points if p.kind == "gauge" and covers(rule, p)
                  and limit_band(rule, p, context.limits) is not None]
        out += _judge_rule(conn, context, rule, points, start, end, now) if points else []
        memory.judged[key] = start
    return out


def newest_slot(mean: str, now: datetime, zone: str) -> tuple[datetime, datetime]:
    """[start, end) of the newest hour or base-local day that is over."""
    if mean == "hour":
        end = now.replace(minute=0, second=0, microsecond=0)
        return end - HOUR, end
    local = now.astimezone(ZoneInfo(zone)).replace(hour=0, minute=0, second=0, microsecond=0)
    before = (local - timedelta(hours=12)).replace(hour=0)
    return before.astimezone(UTC), local.astimezone(UTC)


def _judge_rule(conn: Connection, context: Context, rule: Rule, points: Sequence[Point], start: datetime, end: datetime,
                now: datetime) -> list[Finding]:
    rows = conn.execute(Q["hour_means"], {"base": rule.base_id, "points": [p.point_id for p in points], "start": start,
                                          "end": end}).fetchall()
    table = np.array(rows, float).reshape(-1, 4)
    place = {p.point_id: i for i, p in enumerate(points)}
    where = np.array([place[int(r)] for r in table[:, 0]], np.intp)
    due = np.array([max(1.0, 3600.0 / p.expected_s) for p in points])
    means, n_valid = valid_means(where, table[:, 1], table[:, 2], table[:, 3] > 0, due, rule.number("valid_share"))
    least = 1.0 if rule.params["mean"] == "hour" else rule.number("valid_hours")
    bands = np.array([limit_band(rule, p, context.limits) for p in points], float).reshape(-1, 2)
    margin = rule.number("hysteresis")
    known = n_valid >= least
    outside = known & ((means < bands[:, 0]) | (means > bands[:, 1]))
    inside = known & (means >= bands[:, 0] + margin) & (means <= bands[:, 1] - margin)
    zone = context.zones[rule.base_id]
    return [finding(rule, points[i], float(means[i]), (bands[i, 0], bands[i, 1]), start, int(n_valid[i]), zone, now)
            for i in np.flatnonzero(outside).tolist()] + [
        Finding(rule, False, now, point_id=points[i].point_id, value=float(means[i])) for i in np.flatnonzero(inside).tolist()]


def valid_means(where: Ints, value: Floats, n_good: Floats, clean: Flags, due: Floats,
                valid_share: float) -> tuple[Floats, Floats]:
    """((P,) mean of the valid hours, (P,) how many they are) from hours (H,) with the index of their point; `clean`: nothing
    estimated or doubtful is in the hour's mean, `due` (P,) readings that an hour should have."""
    ok = clean & (n_good >= valid_share * np.floor(due[where]))
    n = np.bincount(where[ok], minlength=len(due)).astype(float)
    total = np.bincount(where[ok], value[ok], minlength=len(due))
    with np.errstate(invalid="ignore", divide="ignore"):
        return total / n, n


def finding(rule: Rule, p: Point, mean: float, band: Band, start: datetime, n_valid: int, zone: str, now: datetime) -> Finding:
    """A mean outside its band, found `now`; `start` is that of the hour or day."""
    low, high = (float(v) if np.isfinite(v) else None for v in band)
    above = high is not None and mean > high
    bound, day = high if above else low, rule.params["mean"] == "day"
    at = clock_of(start, zone)[:5 if day else -3]
    zh = (f"{name_zh(p)} {at} {'日' if day else '小时'}均值 {figure(mean)} {p.unit},"
          f"{'高于上限' if above else '低于下限'} {figure(bound)} {p.unit}")
    en = (f"{name_en(p)}: {'daily' if day else 'hourly'} mean of {at} is {figure(mean)} {p.unit}, "
          f"{'above' if above else 'below'} its limit of {figure(bound)} {p.unit}")
    if day:
        zh, en = f"{zh}(有效 {n_valid} 小时)", f"{en} ({n_valid} valid hours)"
    text = {"zh": f"{zh}。", "en": f"{en}.", "since": start.astimezone(UTC).isoformat(), "point": p.code}
    return Finding(rule, True, now, point_id=p.point_id, value=mean, low=low, high=high, unit=p.unit,
                   channel=f"{rule.params['mean']}_mean", explanation=text)
