"""The running 15 minutes against the contracted demand: mean so far, then as it is now until the end of the slot.

Demand is billed on the highest 15-minute mean (需量); a warning while the slot runs leaves time to shed load. How probable it
is that the contracted figure is exceeded is told by how wrong the same forecast was at this minute of two weeks' slots.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from alerts.context import Context
from alerts.evaluator import Floats
from alerts.explain import figure, name_en, name_zh
from alerts.finding import Finding
from alerts.rules import Point, Rule, covers
from alerts.store import Connection, Q
from park.quantities import conversion

SLOT_S = 900
KNOWN_SLOTS = 96        # a day of quarter-hours, before a probability is told


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
                p = points[point]
                margin = rule.number("limit_kw") / conversion(p.unit, "kW")[0] - expected_kw(mean, newest, elapsed_s)
                near = margin <= (1.0 - rule.number("warn_at")) * rule.number("limit_kw") / conversion(p.unit, "kW")[0]
                chance = p_exceed(misses(conn, rule.base_id, point, start, elapsed_s), margin) if near else None
                found = _finding(rule, p, mean, newest, elapsed_s, now, chance)
                more = contributor(conn, context, gauges, p, asked) if found.present else {}
                out.append(replace(found, explanation={**found.explanation, **more}))
    return out


def contributor(conn: Connection, context: Context, gauges: Sequence[Point], p: Point, slot: Mapping[str, Any],
                ) -> dict[str, Any]:
    """`contributor`, the power meter in a unit below that draws most now: where load can be shed. Nothing: none is known."""
    below = {q.point_id: q for q in gauges if q.base_id == p.base_id and context.is_below(q, p.unit_id)}
    rows = conn.execute(Q["running_slot"], {**slot, "points": list(below)}).fetchall() if below else []
    known = [(newest * conversion(below[point].unit, "kW")[0], below[point]) for point, _, newest, _ in rows]
    kw, most = max(known, key=lambda x: x[0], default=(0.0, p))
    told = {"point": most.code, "zh": name_zh(most), "en": name_en(most), "amount": round(kw, 3), "unit": "kW"}
    return {"contributor": told} if kw > 0 else {}


def misses(conn: Connection, base_id: int, point_id: int, start: datetime, elapsed_s: float) -> Floats:
    """What the forecast was wrong by at this minute of the quarter-hours of two weeks before `start`, in the point's unit."""
    minutes = min(max(int(elapsed_s // 60), 1), 14)
    asked = {"base": base_id, "point": point_id, "start": start, "minutes": minutes}
    return np.array([r[0] for r in conn.execute(Q["demand_misses"], asked).fetchall()], float)


def p_exceed(missed: Floats, margin: float) -> float | None:
    """The probability that the slot's mean exceeds the limit, which lies by `margin` above the forecast: how often the forecast
    was wrong by more; None where too few quarter-hours are known."""
    return None if len(missed) < KNOWN_SLOTS else float((np.count_nonzero(missed > margin) + 0.5) / (len(missed) + 1.0))


def expected_kw(mean: float, newest: float, elapsed_s: float) -> float:
    """The slot's mean when it goes on as it is."""
    return (mean * elapsed_s + newest * (SLOT_S - elapsed_s)) / SLOT_S


def _finding(rule: Rule, p: Point, mean: float, newest: float, elapsed_s: float, now: datetime,
             chance: float | None = None) -> Finding:
    kw = conversion(p.unit, "kW")[0]
    value, limit = expected_kw(mean * kw, newest * kw, elapsed_s), rule.number("limit_kw")
    present = value >= rule.number("warn_at") * limit
    text: dict[str, Any] = {} if not present else {
        "zh": f"{name_zh(p)} 本 15 分钟需量预计 {figure(value)} kW,合同需量 {figure(limit)} kW"
              f"(目前平均 {figure(mean * kw)} kW)。",
        "en": f"{name_en(p)}: the running 15 minutes are on their way to {figure(value)} kW, contracted {figure(limit)} kW "
              f"(mean so far {figure(mean * kw)} kW).",
        "since": (now - timedelta(seconds=elapsed_s)).isoformat(), "point": p.code}
    if text and chance is not None:
        text |= {"zh": f"{text['zh']}按过去两周的情形,超过的概率为 {100 * chance:.0f}%。", "p_exceed": round(chance, 3),
                 "en": f"{text['en']} By the last two weeks it exceeds it with a probability of {100 * chance:.0f} %."}
    return Finding(rule, present, now, point_id=p.point_id, value=value, high=limit, unit="kW", channel="demand_forecast",
                   explanation=text)
