"""The running 15 minutes against the contracted demand: mean so far, then as it is now until the end of the slot.

Demand is billed on the highest 15-minute mean (需量); a warning while the slot runs leaves time to shed load.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from alerts.context import Context
from alerts.explain import figure, name_en, name_zh
from alerts.finding import Finding
from alerts.rules import Point, Rule, covers
from alerts.store import Connection, Q
from park.quantities import conversion

SLOT_S = 900


def judge(conn: Connection, context: Context, now: datetime) -> list[Finding]:
    """Findings of every demand rule over the power points in its scope; a silent meter says nothing."""
    start = now - timedelta(seconds=now.timestamp() % SLOT_S)
    out = []
    for rule in context.of_kind("demand"):
        gauges = [p for p in context.points if p.quantity == "active_power" and p.kind == "gauge"]
        points = {p.point_id: p for p in gauges if covers(rule, p)}
        asked = {"base": rule.base_id, "points": list(points), "start": start, "now": now}
        for point, mean, newest, at in conn.execute(Q["running_slot"], asked).fetchall():
            elapsed_s = (at - start).total_seconds()
            if elapsed_s >= rule.number("min_s"):
                out.append(_finding(rule, points[point], mean, newest, elapsed_s, now))
    return out


def expected_kw(mean: float, newest: float, elapsed_s: float) -> float:
    """The slot's mean when it goes on as it is."""
    return (mean * elapsed_s + newest * (SLOT_S - elapsed_s)) / SLOT_S


def _finding(rule: Rule, p: Point, mean: float, newest: float, elapsed_s: float, now: datetime) -> Finding:
    kw = conversion(p.unit, "kW")[0]
    value, limit = expected_kw(mean * kw, newest * kw, elapsed_s), rule.number("limit_kw")
    present = value >= rule.number("warn_at") * limit
    text = {} if not present else {
        "zh": f"{name_zh(p)} 本 15 分钟需量预计 {figure(value)} kW,合同需量 {figure(limit)} kW"
              f"(目前平均 {figure(mean * kw)} kW)。",
        "en": f"{name_en(p)}: the running 15 minutes are on their way to {figure(value)} kW, contracted {figure(limit)} kW "
              f"(mean so far {figure(mean * kw)} kW).",
        "since": (now - timedelta(seconds=elapsed_s)).isoformat(), "point": p.code}
    return Finding(rule, present, now, point_id=p.point_id, value=value, high=limit, unit="kW", channel="demand_forecast",
                   explanation=text)
