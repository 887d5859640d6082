"""Furnaces of waste incineration: five-minute means of the temperature below the limit in force, and how many of a day.

A mean is judged where the source is not marked as stopped, no mark (start-up, shut-down ...) takes its minutes out, and the
facilities before the outlet are not all known to stand still. The rule is a dated row of `tables/incineration.yaml`; a limit of
the outlet on `furnace_temperature` (statistic 5min; permit over standard) stands over the row's.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from accounting.columns import Connection
from accounting.hours import MINUTE_US, Minutes
from accounting.linkage import OFF, Found, States, runs_of
from accounting.localday import Days
from accounting.marks import Mark
from park.database import queries

SQL = queries(Path(__file__).with_name("furnace.sql"))
TABLE = Path(__file__).parent / "tables" / "incineration.yaml"
QUANTITY, COLD = "furnace_temperature", "furnace_below_limit"
STEP_MIN = 5


@dataclass(frozen=True)
class Rule:
    """What holds for a furnace on a day; `limit_id` None: the limit is that of the dated table."""

    low: float
    least_minutes: int
    most_a_day: int
    limit_id: int | None
    source: str
    verified: bool


@cache
def _table() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = yaml.safe_load(TABLE.read_text(encoding="utf-8"))["furnace"]
    return rows


def rules_on(conn: Connection, base_id: int, unit_id: int, dates: list[date]) -> dict[date, Rule]:
    """The rule of each day that has one."""
    limits = conn.execute(SQL["furnace_limits"], {"base": base_id, "unit": unit_id}).fetchall()
    found = {}
    for day in dates:
        row = next((r for r in _table() if r["from"] <= day and (r.get("to") is None or day < r["to"])), None)
        if row is None:
            continue
        rule = Rule(row["low"], row["least_minutes"], row["most_a_day"], None, row["source"], row["verified"])
        for limit_id, low, since, until, source, verified in limits:
            if since <= day and (until is None or day < until):
                rule = Rule(low, rule.least_minutes, rule.most_a_day, limit_id, source, verified)
        found[day] = rule
    return found


def cold_runs(grid: Minutes, production: States, marks: list[Mark], days: Days, rules: dict[date, Rule]) -> list[Found]:
    """Runs of five-minute means below the limit, none across midnight; `of_day`: such means of the day until its end."""
    start = int(days.borders[0])
    out = _marked(marks, start, len(grid.value)) | grid.stopped | (production == OFF)
    found: list[Found] = []
    for day, low, high in zip(days.dates, days.borders[:-1], days.borders[1:], strict=True):
        rule = rules.get(day)
        if rule is None:
            continue
        a, b = int(low - start) // MINUTE_US, int(high - start) // MINUTE_US
        value, judged = grid.value[a:b].reshape(-1, STEP_MIN), ~out[a:b].reshape(-1, STEP_MIN).any(axis=1)
        known = np.isfinite(value)
        judged &= known.sum(axis=1) >= rule.least_minutes
        mean = np.divide(np.where(known, value, 0).sum(axis=1), known.sum(axis=1), out=np.full(len(value), np.nan),
                         where=judged)
        cold = judged & (mean < rule.low)
        until = np.cumsum(cold)
        for i, j in runs_of(cold, 1):
            found.append(Found(COLD, a + STEP_MIN * i, a + STEP_MIN * j, {
                "minutes": STEP_MIN * (j - i), "means": j - i, "lowest": round(float(mean[i:j].min()), 2), "limit": rule.low,
                "of_day": int(until[j - 1]), "most_a_day": rule.most_a_day, "violated": bool(until[j - 1] > rule.most_a_day),
                "limit_id": rule.limit_id, "source": rule.source, "verified": rule.verified}))
    return found


def _marked(marks: list[Mark], start: int, n: int) -> NDArray[np.bool_]:
    """Minutes that a mark of the furnace or of the whole outlet takes out of judgement."""
    out = np.zeros(n, bool)
    for mark in marks:
        if mark.quantity in (None, QUANTITY):
            a, b = (mark.start_us - start) // MINUTE_US, -((start - mark.end_us) // MINUTE_US)
            out[max(a, 0):max(b, 0)] = True
    return out
