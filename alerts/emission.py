"""Hour and day means of an outlet against the limit in force, a warning before it, and the running hour on its way there.

From `emission_1h` and `emission_1d` (accounting: valid hours only, HJ 76-2017; limit in force, permit before standard) and
the minutes of the running hour. An hour that is not valid says nothing; a stopped or exempt one ends the condition.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from psycopg.rows import dict_row

from alerts import facility
from alerts.context import Context
from alerts.explain import clock_of, figure, name_en, name_zh
from alerts.finding import Finding
from alerts.lifecycle import SEVERITIES
from alerts.rules import Point, Rule, covers
from alerts.store import Connection, Q

LIVE_HOURS = 3          # an hour older than this that turns out to exceed is late
LIVE_DAYS = timedelta(days=2)
LATE_DAYS = 7
Series = tuple[int, int, str]   # base, outlet, quantity


@dataclass(frozen=True)
class Forecast:
    """Mean that the running hour is on its way to, from the minutes so far and the last ten."""

    mean: float
    minutes: int


def judge(conn: Connection, context: Context, now: datetime, learned_kw: Mapping[tuple[int, int], float] | None = None, *,
          days: bool = True) -> list[Finding]:
    """Findings of every emission_limit rule, late hours and days included; day means only when `days`. A late one counts where
    the rule was in force then; `learned_kw`: power above which a meter's plant runs."""
    rules = context.of_kind("emission_limit")
    if not rules:
        return []
    with conn.cursor(row_factory=dict_row) as cur:
        hours = cur.execute(Q["emission_hours"], {"since": now - timedelta(days=LATE_DAYS)}).fetchall()
        means = cur.execute(Q["emission_days"], {"since": (now - timedelta(days=LATE_DAYS)).date()}).fetchall() if days else []
        minutes = cur.execute(Q["running_minutes"], {"hour": now.replace(minute=0, second=0, microsecond=0)}).fetchall()
    running = _running(context, minutes)
    out: list[Finding] = []
    for rule in rules:
        subject = {(p.base_id, p.unit_id, p.quantity): p for p in reversed(context.points) if p.unit_id and covers(rule, p)}
        found = _hours(context, rule, subject, hours, running, now) + _days(context, rule, subject, means, now)
        out += [f for f in found if not f.late or _was_in_force(conn, context, f, learned_kw or {})]
    return out


def _was_in_force(conn: Connection, context: Context, f: Finding, learned_kw: Mapping[tuple[int, int], float]) -> bool:
    point = context.points[context.index[f.rule.base_id, f.point_id or 0]]
    at = np.array([f.at.timestamp()])
    return bool(facility.was_in_force(conn, context, f.rule, point, None, at, learned_kw)[0])


def _hours(context: Context, rule: Rule, subject: Mapping[Any, Point], hours: list[dict[str, Any]],
           running: Mapping[Series, Forecast], now: datetime) -> list[Finding]:
    out: list[Finding] = []
    newest: dict[Series, dict[str, Any]] = {}
    for row in hours:       # in order of time
        newest[row["base_id"], row["unit_id"], row["quantity"]] = row
    for row in hours:
        key = (row["base_id"], row["unit_id"], row["quantity"])
        point = subject.get(key)
        if point is None:
            continue
        if row is newest[key] and row["ts"] >= now - timedelta(hours=LIVE_HOURS + 1):
            out += _newest(context, rule, point, row, running.get(key), now)
        elif row["exceeded"] and not row["told"] and row["ts"] + timedelta(hours=1) > rule.recorded_at:
            out.append(_late(context, rule, point, row))
    return out


def _newest(context: Context, rule: Rule, p: Point, row: dict[str, Any], forecast: Forecast | None,
            now: datetime) -> list[Finding]:
    limit = row["limit_value"]
    if row["exceeded"]:
        return [_present(context, rule, p, now, row, "hour_exceeded", row["converted"], rule.severity)]
    if limit is not None and p.quantity != "ph":
        due = rule.params["forecast"] and forecast is not None and forecast.minutes >= rule.number("min_minutes")
        if due and forecast is not None and forecast.mean > limit:
            return [_present(context, rule, p, now, row, "hour_forecast", forecast.mean, milder(rule.severity))]
        if row["state"] == "valid" and row["converted"] is not None and row["converted"] >= rule.number("warn_at") * limit:
            return [_present(context, rule, p, now, row, "hour_warning", row["converted"], milder(rule.severity))]
    known = row["state"] in ("valid", "stopped", "exempt")
    return [Finding(rule, False, now, point_id=p.point_id, value=row["converted"])] if known else []


def milder(severity: str) -> str:
    """A warning is one step milder than the exceedance; a later exceedance raises the alert again."""
    return SEVERITIES[min(SEVERITIES.index(severity) + 1, len(SEVERITIES) - 1)]


def _present(context: Context, rule: Rule, p: Point, at: datetime, row: dict[str, Any], channel: str, value: float,
             severity: str, **more: Any) -> Finding:
    zh, en = _SENTENCES[channel]
    start = clock_of(row["ts"], context.zones[p.base_id])[:-3]
    words = {"place_zh": name_zh(p), "place_en": name_en(p), "hour": start,
             "value": f"{figure(value)} {p.unit}", "limit": f"{figure(row['limit_value'])} {p.unit}"}
    text = {"zh": zh.format(**words), "en": en.format(**words), "since": row["ts"].astimezone(UTC).isoformat(),
            "hour": row["ts"].astimezone(UTC).isoformat(), "limit_id": row.get("limit_id"), "outlet": row["unit_id"]}
    return Finding(rule, True, at, point_id=p.point_id, value=value, high=row["limit_value"], unit=p.unit, channel=channel,
                   severity=severity, explanation=text, **more)


_SENTENCES = {
    "hour_exceeded": ("{place_zh} {hour} 小时均值 {value},超过限值 {limit}。",
                      "{place_en}: hourly mean of {hour} is {value}, above the limit of {limit}."),
    "hour_warning": ("{place_zh} {hour} 小时均值 {value},接近限值 {limit}。",
                     "{place_en}: hourly mean of {hour} is {value}, close to the limit of {limit}."),
    "hour_forecast": ("{place_zh} 本小时均值预计 {value},将超过限值 {limit}。",
                      "{place_en}: the running hour is on its way to {value}, above the limit of {limit}."),
    "day_exceeded": ("{place_zh} {hour} 日均值 {value},超过限值 {limit}。",
                     "{place_en}: daily mean of {hour} is {value}, above the limit of {limit}."),
}


def _late(context: Context, rule: Rule, p: Point, row: dict[str, Any]) -> Finding:
    """An hour that was not known in time: an alert of its own, already over, marked late."""
    end = row["ts"] + timedelta(hours=1)
    return _present(context, rule, p, end, row, "hour_exceeded", row["converted"], rule.severity, late=True, returned_at=end)


def _days(context: Context, rule: Rule, subject: Mapping[Any, Point], days: list[dict[str, Any]],
          now: datetime) -> list[Finding]:
    """The newest finished day of each series, and older ones that turned out to exceed only now, marked late. A day's alert
    names the outlet too, so that it is not the hour's."""
    out = []
    newest = {(r["base_id"], r["unit_id"], r["quantity"]): r for r in days}
    for row in days:
        key = (row["base_id"], row["unit_id"], row["quantity"])
        p, live = subject.get(key), row is newest[key] and row["ts"] >= now - LIVE_DAYS
        if p is None or row["exceeded"] is None:
            continue
        if row["exceeded"] and (live or (not row["told"] and row["ends"] > rule.recorded_at)):
            late: dict[str, Any] = {} if live else {"late": True, "returned_at": row["ends"]}
            out.append(_present(context, rule, p, now if live else row["ends"], row, "day_exceeded", row["converted"],
                                rule.severity, unit_id=row["unit_id"], **late))
        elif live and not row["exceeded"]:
            out.append(Finding(rule, False, now, point_id=p.point_id, unit_id=row["unit_id"], value=row["converted"]))
    return out


def _running(context: Context, rows: list[dict[str, Any]]) -> dict[Series, Forecast]:
    """Forecast of the running hour of each outlet and quantity, at reference oxygen where there is one."""
    minutes: dict[tuple[int, int], dict[str, dict[int, float]]] = {}
    for r in rows:
        minutes.setdefault((r["base_id"], r["unit_id"]), {}).setdefault(r["quantity"], {})[r["minute"]] = r["mean"]
    out = {}
    for (base, unit), series in minutes.items():
        o2_reference = context.units[base, unit].attributes.get("o2_reference")
        for quantity, values in series.items():
            known = _converted(values, series.get("o2", {}), o2_reference)
            if known.size:
                tail = float(np.mean(known[-10:, 1]))
                left = max(0, 59 - int(known[-1, 0]))
                mean = (known[:, 1].sum() + left * tail) / (len(known) + left)
                out[base, unit, quantity] = Forecast(float(mean), len(known))
    return out


def _converted(values: Mapping[int, float], o2: Mapping[int, float], reference: float | None) -> np.ndarray[Any, Any]:
    """(minute, value) at reference oxygen: C (21 - O2ref) / (21 - O2); minutes near 21 % are start or stop, not judged."""
    if reference is None:
        return np.array(sorted(values.items()), float).reshape(-1, 2)
    rows = [(m, v * (21 - reference) / (21 - o2[m])) for m, v in sorted(values.items()) if m in o2 and o2[m] < 20]
    return np.array(rows, float).reshape(-1, 2)
