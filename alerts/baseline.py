"""Hourly load away from its time of week: level removed, robust, with holidays of its own kind.

Usual is the median of the same hour of up to eight like days (`daytype.like`); the level is the median departure of the day
before from its own usual, and is taken off. All points of a rule at once.
From `reading_1h`: mean of a gauge, increment of a counter where no gap lies at the hour's edges (`hour_values`): after one the
first reading carries all that came meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
from psycopg.types.json import Jsonb

from alerts import excess
from alerts.context import Context
from alerts.daytype import SHUTDOWN, day_type, like
from alerts.discovery import discoveries
from alerts.excess import Price
from alerts.explain import clock_of, figure, name_en, name_zh
from alerts.finding import Finding
from alerts.rolling import Floats, quantile0
from alerts.rules import Point, Rule, covers
from alerts.store import Connection, Q

SETTLE = timedelta(seconds=150)     # readings of an hour are in the rollup by then
LIKE_DAYS = 8
LEAST_SIZE = 2.6    # 99th percentile of a bell curve in deviations: no point is steadier
HOUR = timedelta(hours=1)
Flags = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass
class Memory:
    """The hour that each rule has judged, when the rules over days were judged last, hours whose late readings are told."""

    judged: dict[tuple[int, int], datetime] = field(default_factory=dict)
    days_at: datetime | None = None
    late: dict[tuple[int, datetime], tuple[int, float, float, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Hours:
    """(P,) of one hour: value, expected, usual deviation, and how many like days were known."""

    value: Floats
    expected: Floats
    scale: Floats
    known: np.ndarray[Any, np.dtype[np.intp]]
    size: Floats        # 99th percentile of the deviations of all hours of the like days: what this point does by itself

    @property
    def z(self) -> Floats:
        out: Floats = (self.value - self.expected) / self.scale
        return out


def judge(conn: Connection, context: Context, memory: Memory, now: datetime) -> list[Finding]:
    """Findings of every baseline rule, once an hour."""
    hour = (now - SETTLE).replace(minute=0, second=0, microsecond=0) - HOUR
    out: list[Finding] = []
    for rule in context.of_kind("baseline"):
        key = (rule.base_id, rule.rule_id)
        if memory.judged.get(key) == hour:
            continue
        points = [p for p in context.points if covers(rule, p) and p.kind != "state"]
        out += _judge_rule(conn, context, rule, points, hour, now)
        memory.judged[key] = hour
    return out


def _judge_rule(conn: Connection, context: Context, rule: Rule, points: Sequence[Point], hour: datetime,
                now: datetime) -> list[Finding]:
    zone = context.zones[rule.base_id]
    own = dict(conn.execute(Q["calendar"], {"base": rule.base_id}).fetchall())
    if not points or day_type(hour.astimezone(ZoneInfo(zone)).date(), own) == SHUTDOWN:
        return []
    run = [compare(conn, rule.base_id, points, hour - k * HOUR, zone, own) for k in range(run_of(rule))]
    newest = run[0]
    present, gone = verdict(rule, run)
    prices = excess.prices(conn, rule.base_id, points)
    raised, returned = np.flatnonzero(present).tolist(), np.flatnonzero(gone).tolist()
    more = np.nansum(np.stack([h.value - h.expected for h in run]), axis=0)
    told = [_told(context, points, newest, i, float(more[i]), hour, prices) for i in raised]
    _add_excess(conn, rule, points, newest, hour, prices)
    return [finding(rule, points[i], newest, i, hour, zone, now, len(run), extra)
            for i, extra in zip(raised, told, strict=True)] + [
        Finding(rule, False, now, point_id=points[i].point_id, value=float(newest.value[i])) for i in returned]


def run_of(rule: Rule) -> int:
    """Consecutive hours that the rule wants beyond."""
    return max(1, round(rule.number("hours")))


def verdict(rule: Rule, run: Sequence[Hours]) -> tuple[Flags, Flags]:
    """((P,) beyond, (P,) usual again) from the newest hour and those before it, newest first; neither: not known."""
    newest = run[0]
    least_known = min(LIKE_DAYS, max(2, round(rule.number("min_weeks"))))
    usable = (newest.known >= least_known) & ~np.isnan(newest.z)
    away = np.abs(newest.value - newest.expected) >= rule.number("min_share") * np.abs(newest.expected)
    beyond = np.stack([np.nan_to_num(h.z) for h in run])
    believed = discoveries(np.where(usable, np.abs(beyond).min(axis=0), np.nan), newest.size, rule.number("false_share"))
    present = believed & away & ((beyond > rule.number("z")).all(axis=0) | (beyond < -rule.number("z")).all(axis=0))
    return present, usable & (np.abs(np.nan_to_num(newest.z)) < rule.number("clear_z"))


def compare(conn: Connection, base: int, points: Sequence[Point], hour: datetime, zone: str,
            own: Mapping[date, str]) -> Hours:
    """The hour of each point beside its like hours; NaN where something is not known."""
    days = like(hour.astimezone(ZoneInfo(zone)).date(), own, LIKE_DAYS)
    wanted = [h - k * HOUR for h in same_hours(hour, zone, days) for k in range(25)]
    return compared(_table(conn, base, points, wanted).reshape(-1, 25, len(points)))


def same_hours(hour: datetime, zone: str, days: Sequence[date]) -> list[datetime]:
    """The hour, and the same hour by the zone's clock of each of some days."""
    local = hour.astimezone(ZoneInfo(zone))
    return [hour, *(local.replace(year=d.year, month=d.month, day=d.day).astimezone(UTC) for d in days)]


def compared(table: Floats) -> Hours:
    """From (1 + like days, 25, P) values: the hour and its like hours, each with the 24 before it, newest first."""
    n_points = table.shape[2]
    if len(table) == 1:
        nothing = np.full(n_points, np.nan)
        return Hours(table[0, 0], nothing, nothing, np.zeros(n_points, np.intp), nothing)
    usual = quantile0(table[1:].reshape(len(table) - 1, -1), least=2).reshape(25, -1)
    away = table - usual                                        # of every hour from its like hours
    level = np.stack([quantile0(day[1:], least=12) for day in away])
    expected = usual[0] + level[0]
    u = away[1:, 0] - level[1:]
    spread = 1.4826 * quantile0(np.abs(u), least=2)
    known = np.count_nonzero(~np.isnan(u), axis=0)
    scale = np.maximum(spread, 0.03 * np.abs(expected) + 1e-9)
    every = np.abs(away[1:] - level[1:, None]).reshape(-1, n_points) / scale
    return Hours(table[0, 0], expected, scale, known, np.maximum(quantile0(every, 0.99, least=24), LEAST_SIZE))


def _table(conn: Connection, base: int, points: Sequence[Point], hours: Sequence[datetime]) -> Floats:
    """(len(hours), P) values of the hours asked for."""
    rows = conn.execute(Q["hour_values"], {"base": base, "points": [p.point_id for p in points], "hours": sorted(set(hours))})
    column = {p.point_id: i for i, p in enumerate(points)}
    known: dict[datetime, list[tuple[int, float]]] = {}
    for point, bucket, value in rows.fetchall():
        known.setdefault(bucket, []).append((column[point], value))
    out = np.full((len(hours), len(points)), np.nan)
    for i, h in enumerate(hours):
        for j, value in known.get(h, ()):
            out[i, j] = value
    return out


def finding(rule: Rule, p: Point, h: Hours, i: int, hour: datetime, zone: str, now: datetime, run: int,
            extra: Mapping[str, Any]) -> Finding:
    """Point i of an hour away from its expectation, found `now` after a `run` of such hours; `extra`: more to explain it."""
    value, expected, z = float(h.value[i]), float(h.expected[i]), float(h.z[i])
    low, high = expected - rule.number("z") * float(h.scale[i]), expected + rule.number("z") * float(h.scale[i])
    since = hour - (run - 1) * HOUR
    at, above = clock_of(since, zone)[:-3], value > expected
    unit = p.unit if p.kind == "gauge" else f"{p.unit}/h"
    text: dict[str, Any] = {
        "zh": f"{name_zh(p)} 小时值 {figure(value)} {unit},{'高' if above else '低'}于预期 {figure(expected)} {unit}"
              f"(正常范围 {figure(low)}–{figure(high)}),自 {at} 起连续 {run} 小时。",
        "en": f"{name_en(p)}: {figure(value)} {unit} in the hour, expected {figure(expected)} {unit} "
              f"({figure(low)}–{figure(high)}), for {run} hours since {at}.",
        "since": since.isoformat(), "z": round(z, 2), "point": p.code}
    text |= extra
    return Finding(rule, True, now, point_id=p.point_id, value=value, expected=expected, low=low, high=high, unit=unit,
                   channel="high" if above else "low", explanation=text)


def _told(context: Context, points: Sequence[Point], h: Hours, i: int, more: float, hour: datetime,
          prices: Mapping[str, Price]) -> dict[str, Any]:
    """Excess so far with cost and CO2, up to which hour it counts, and what contributes most."""
    out = excess.of_hours(points[i], more, prices)
    if out:
        out["excess_to"] = hour.isoformat()
    j = contributor(context, points, h.value - h.expected, i)
    if j is not None:
        out["contributor"] = {"point": points[j].code, "zh": name_zh(points[j]), "en": name_en(points[j]),
                              "amount": round(float(h.value[j] - h.expected[j]), 3), "unit": points[j].unit}
    return out


def contributor(context: Context, points: Sequence[Point], away: Floats, i: int) -> int | None:
    """The point of the same quantity in a unit below that departs most in the same direction, by a third of it at least."""
    p = points[i]
    below = [j for j, q in enumerate(points) if j != i and (q.base_id, q.quantity, q.unit) == (p.base_id, p.quantity, p.unit)
             and context.is_below(q, p.unit_id)]
    known = [j for j in below if away[j] * away[i] > 0 and abs(away[j]) >= abs(away[i]) / 3]
    return max(known, key=lambda j: abs(float(away[j])), default=None)


def _add_excess(conn: Connection, rule: Rule, points: Sequence[Point], h: Hours, hour: datetime,
                prices: Mapping[str, Price]) -> None:
    """Count a new hour of alerts that go on into their excess; an hour that is counted already is left alone."""
    more = zip(points, (h.value - h.expected).tolist(), strict=True)
    rows = [{"point_id": p.point_id, "amount": told["excess"]["amount"], "cost": told.get("cost"), "co2_kg": told.get("co2_kg")}
            for p, amount in more if (told := excess.of_hours(p, amount, prices))]
    if rows:
        conn.execute(Q["add_excess"], {"base": rule.base_id, "rule": rule.rule_id, "hour": hour, "rows": Jsonb(rows)})
