"""Hours into which readings came late (table `late_hour`): what the live judges could not know of rate, expression, demand,
linkage and baseline rules there is an alert marked late, already over.

Ingest marks an hour when readings more than a quarter of an hour old come, the evaluator marks those in which none was at work.
A mark stays until nothing new is found in its hour, so a crash between finding and writing loses nothing, and what an open
alert of the same object keeps from being told is told once that is closed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from alerts import late_baseline, late_rules
from alerts.context import Context
from alerts.finding import Finding
from alerts.late import HOUR, Stretch
from alerts.store import Connection, Q

KINDS = frozenset({*late_rules.KINDS, "baseline"})
MOST_MARKS = 200                    # a pass: so many hours of points are a hundred thousand readings or so,
MOST_S = 0.5                        # and readings of the present wait no longer; the rest is for the next pass, 30 s later
AGAIN = timedelta(minutes=5)        # what was found is looked at again, until it is told
Mark = tuple[int, int, datetime, datetime]      # base, point, hour, due


def judge(conn: Connection, context: Context, now: datetime, learned: Mapping[tuple[int, int], float]) -> list[Finding]:
    """Late findings of the oldest marked hours; the marks of those in which nothing is found are taken away."""
    mine = sorted(context.zones)
    firsts: dict[int, datetime] = {}
    for rule in context.rules:
        if rule.kind in KINDS:
            firsts[rule.base_id] = min(rule.recorded_at, firsts.get(rule.base_id, rule.recorded_at))
    conn.execute(Q["forget_late"], {"bases": list(firsts), "firsts": list(firsts.values()), "mine": mine, "now": now})
    marks = conn.execute(Q["late_marks"], {"now": now, "bases": mine, "most": MOST_MARKS}).fetchall()
    out: list[Finding] = []
    cases: dict[int, list[late_rules.Case]] = {}
    began = time.monotonic()
    for stretch, some in stretches(marks):
        if stretch.base_id not in cases:
            marked = {point for base, point, _, _ in marks if base == stretch.base_id}
            cases[stretch.base_id] = list(late_rules.cases(context, stretch.base_id, marked))
        found = late_rules.judge(conn, context, cases[stretch.base_id], stretch, now, learned)
        found += late_baseline.judge(conn, context, stretch, now, learned)
        bases, points, hours, due = (list(column) for column in zip(*some, strict=True))
        conn.execute(Q["settle_late"], {"bases": bases, "points": points, "hours": hours, "due": due,
                                        "again": [bool(found)] * len(some), "next": now + AGAIN})
        out += found
        if time.monotonic() - began > MOST_S:
            break
    return out


def stretches(marks: Sequence[Mark]) -> Iterator[tuple[Stretch, list[Mark]]]:
    """Marks in order of base and hour as runs of neighbouring hours."""
    run: list[Mark] = []
    for mark in marks:
        if run and (run[-1][0] != mark[0] or mark[2] - run[-1][2] > HOUR):
            yield _stretch(run), run
            run = []
        run.append(mark)
    if run:
        yield _stretch(run), run


def _stretch(run: Sequence[Mark]) -> Stretch:
    return Stretch(run[0][0], run[0][2], run[-1][2] + HOUR, frozenset(point for _, point, _, _ in run))
