"""Baseline rules over hours that came late: an hour away from its like hours, which the live judge did not have in its time.

The points that were marked are compared, and the share of chance is kept among their alarms. One alert tells of all hours of a
point, with their excess.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from alerts import baseline, excess, facility, replay_baseline
from alerts.baseline import SETTLE
from alerts.context import Context
from alerts.evaluator import Ints
from alerts.excess import Price
from alerts.finding import Finding
from alerts.late import Stretch, said
from alerts.late_means import TOLD_S
from alerts.late_rules import told_of
from alerts.replay_baseline import Judged
from alerts.rules import Point, Rule, covers
from alerts.store import Connection


def judge(conn: Connection, context: Context, stretch: Stretch, now: datetime,
          learned: Mapping[tuple[int, int], float]) -> list[Finding]:
    """A late finding for each marked point of a baseline rule with hours that nobody was told of."""
    out: list[Finding] = []
    for rule in context.of_kind("baseline"):
        points = [p for p in context.points if p.point_id in stretch.points and covers(rule, p) and p.kind != "state"]
        if rule.base_id == stretch.base_id and points:
            out += _judge_rule(conn, context, rule, points, stretch, now, learned)
    return out


def _judge_rule(conn: Connection, context: Context, rule: Rule, points: Sequence[Point], stretch: Stretch, now: datetime,
                learned: Mapping[tuple[int, int], float]) -> list[Finding]:
    zone, own = context.zones[rule.base_id], context.calendars.own.get(rule.base_id, {})
    end = min(stretch.end, (now - SETTLE).replace(minute=0, second=0, microsecond=0))
    j = replay_baseline.judge(conn, rule, points, stretch.start, end, zone, own)
    told = told_of(conn, stretch, [rule.rule_id])
    prices = excess.prices(conn, rule.base_id, points)
    out = []
    for i in np.flatnonzero(j.present.any(axis=0)).tolist():
        p = points[i]
        news = j.present[:, i] & (j.at > rule.recorded_at.timestamp())
        for a, b in told.get((rule.rule_id, p.point_id, None), ()):
            news &= ~((a - TOLD_S <= j.at) & (j.at <= b))
        where = np.flatnonzero(news)
        where = where[facility.was_in_force(conn, context, rule, p, None, j.at[where], learned)]
        if len(where):
            out.append(_finding(rule, p, j, i, where, zone, prices))
    return out


def _finding(rule: Rule, p: Point, j: Judged, i: int, where: Ints, zone: str, prices: Mapping[str, Price]) -> Finding:
    """One finding of the hours `where` of a point; it tells of the one farthest from its expectation."""
    expected, reach = (j.low[:, i] + j.high[:, i]) / 2, (j.high[:, i] - j.low[:, i]) / 2
    worst = int(where[int(np.argmax(np.abs(j.value[where, i] - expected[where]) / reach[where]))])
    scale = reach[[worst]] / rule.number("z")
    hours = baseline.Hours(j.value[[worst], i], expected[[worst]], scale, np.ones(1, np.intp), scale)
    ends = j.at[where[0]], j.at[where[-1]], j.at[worst] - 3600.0
    opened, over, hour = (datetime.fromtimestamp(float(t), UTC) for t in ends)
    extra: dict[str, Any] = excess.of_hours(p, float(np.sum(j.value[where, i] - expected[where])), prices)
    found = baseline.finding(rule, p, hours, 0, hour, zone, opened, baseline.run_of(rule), extra)
    return replace(found, late=True, returned_at=over, explanation=said(found.explanation, len(where)))
