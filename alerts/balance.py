"""Parent minus children beyond what losses explain: a leak, a wrong ratio, a meter that is missing from the tree.

From `balance_1d` (accounting): the newest day whose slots are known, and days before it that became known late; a day with gaps
says nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from psycopg.rows import dict_row

from alerts import excess, facility
from alerts.context import Context
from alerts.explain import figure, name_en, name_zh
from alerts.finding import Finding
from alerts.late import said
from alerts.rules import Point, Rule, covers
from alerts.store import Connection, Q

Row = dict[str, Any]
LIVE_DAYS, LATE_DAYS = timedelta(days=4), timedelta(days=7)


def judge(conn: Connection, context: Context, now: datetime,
          learned: Mapping[tuple[int, int], float] | None = None) -> list[Finding]:
    """Findings of every balance rule about each parent meter in its scope: its newest day with known slots, and days before it
    that turned out to be out of balance only now, marked late. `learned`: power (kW) above which a meter's plant runs."""
    rules = context.of_kind("balance")
    if not rules:
        return []
    with conn.cursor(row_factory=dict_row) as cur:
        rows = cur.execute(Q["balance_days"], {"since": (now - LATE_DAYS).date()}).fetchall()
    return [f for rule in rules for f in _judge_rule(conn, context, rule, rows, now, learned or {})]


def _judge_rule(conn: Connection, context: Context, rule: Rule, rows: Sequence[Row], now: datetime,
                learned: Mapping[tuple[int, int], float]) -> Iterator[Finding]:
    days: dict[int, list[Row]] = defaultdict(list)
    for row in rows:        # in order of days
        known = row["n_known"] >= rule.number("coverage") * row["n_expected"]
        if row["base_id"] == rule.base_id and row["parent_amount"] and known:
            days[row["parent_id"]].append(row)
    for parent, of in days.items():
        i = context.index.get((rule.base_id, parent))
        p = None if i is None else context.points[i]
        if p is None or not covers(rule, p):
            continue
        if of[-1]["day"] >= (now - LIVE_DAYS).date():
            yield _finding(conn, rule, p, of.pop(), now)
        late = [r for r in of if _is_out(rule, r) and rule.rule_id not in r["told"] and r["ends"] > rule.recorded_at]
        at = np.array([r["ends"].timestamp() for r in late])
        late = [r for r, ok in zip(late, facility.was_in_force(conn, context, rule, p, None, at, learned), strict=True) if ok]
        if late:
            worst = max(late, key=lambda r: abs(float(r["unaccounted"] / r["parent_amount"])))
            found = _finding(conn, rule, p, worst, late[0]["ends"])
            yield replace(found, late=True, returned_at=late[-1]["ends"], explanation=said(found.explanation, len(late)))


def _is_out(rule: Rule, row: Row) -> bool:
    share = row["unaccounted"] / row["parent_amount"]
    return bool(abs(share) > rule.number("high") and abs(row["unaccounted"]) >= rule.number("min_amount"))


def _finding(conn: Connection, rule: Rule, p: Point, row: Row, at: datetime) -> Finding:
    share, amount, unit, high = row["unaccounted"] / row["parent_amount"], row["unaccounted"], row["unit"], rule.number("high")
    present, day = _is_out(rule, row), row["day"].isoformat()
    text: dict[str, Any] = {}
    if present:
        text = {"zh": f"{name_zh(p)} {day}:分表合计与总表相差 {figure(amount)} {unit}({share:.1%}),允许 {high:.0%}。",
                "en": f"{name_en(p)}, {day}: {figure(amount)} {unit} ({share:.1%}) are not accounted for "
                      f"below it, allowed {high:.0%}.",
                "since": row["begins"].astimezone(UTC).isoformat(), "day": day, "carrier": row["carrier"], "point": p.code}
        text |= excess.of_amount(row["carrier"], amount, unit, excess.prices(conn, rule.base_id, [p]))
    return Finding(rule, present, at, point_id=p.point_id, value=share * 100, expected=0.0, low=-high * 100, high=high * 100,
                   unit="%", channel="balance", explanation=text)
