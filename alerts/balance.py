"""Parent minus children beyond what losses explain: a leak, a wrong ratio, a meter that is missing from the tree.

From `balance_1d` (accounting): the newest day whose slots are known; a day with gaps says nothing.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from psycopg.rows import dict_row

from alerts import excess
from alerts.context import Context
from alerts.explain import figure, name_en, name_zh
from alerts.finding import Finding
from alerts.rules import covers
from alerts.store import Connection, Q


def judge(conn: Connection, context: Context, now: datetime) -> list[Finding]:
    """Findings of every balance rule about each parent meter in its scope."""
    rules = context.of_kind("balance")
    if not rules:
        return []
    with conn.cursor(row_factory=dict_row) as cur:
        rows = cur.execute(Q["balance_days"], {"since": (now - timedelta(days=4)).date()}).fetchall()
    out = []
    for rule in rules:
        newest = {}
        for row in rows:        # in order of days
            if row["n_known"] >= rule.number("coverage") * row["n_expected"]:
                newest[row["base_id"], row["parent_id"]] = row
        for (base, parent), row in newest.items():
            p = context.points[context.index[base, parent]] if (base, parent) in context.index else None
            if p is None or not covers(rule, p) or not row["parent_amount"]:
                continue
            share, amount = row["unaccounted"] / row["parent_amount"], row["unaccounted"]
            high, unit = rule.number("high"), row["unit"]
            present = abs(share) > high and abs(amount) >= rule.number("min_amount")
            day = row["day"].isoformat()
            text: dict[str, Any] = {} if not present else {
                "zh": f"{name_zh(p)} {day}:分表合计与总表相差 {figure(amount)} {unit}({share:.1%}),允许 {high:.0%}。",
                "en": f"{name_en(p)}, {day}: {figure(amount)} {unit} ({share:.1%}) are not accounted for "
                      f"below it, allowed {high:.0%}.",
                "since": day, "excess": {"amount": amount, "unit": unit}, "carrier": row["carrier"]}
            if present:
                text |= excess.of_amount(row["carrier"], amount, unit, excess.prices(conn, base, [p]))
            out.append(Finding(rule, present, now, point_id=p.point_id, value=share * 100, expected=0.0, low=-high * 100,
                               high=high * 100, unit="%", channel="balance", explanation=text))
    return out
