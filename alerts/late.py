"""Limits over readings that came late: an exceedance that nobody saw when it was is an alert marked late, already over.

Every five minutes the hours of the last days whose extremes lie outside a limit, and which no alert covers, are run again
with their readings as the live rule would have (`history.events`: same hysteresis, same hold), where it was in force by what
is known of plant and calendar today. What of that no alert overlaps is new. An alert that is closed stays so. One alert a rule
and point tells of all that came late, and is acknowledged like any other. An hour is looked at again when more of its readings,
or of its plant's, have come.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from alerts import explain, facility
from alerts.context import Context
from alerts.evaluator import VALUE, Flags, Floats, Pair, compile_rules
from alerts.finding import Finding
from alerts.history import Band, events
from alerts.store import Connection, Q
from park.quality import LAST_USABLE

LATE_S = 900.0          # what came within this is the live alert's
LATE_DAYS = 7
MOST_HOURS = 12         # a pass; the rest waits for the next
MARGIN = timedelta(minutes=10)
HOUR = timedelta(hours=1)
Mark = tuple[int, float, float, int]        # readings, extremes, readings of the plant that the rule is bound to
Learned = Mapping[tuple[int, int], float]
Hour = tuple[int, datetime]


@dataclass(frozen=True)
class Stretch:
    """Marked hours of a base that follow each other, [start, end), and the points marked in them (`late_marks`)."""

    base_id: int
    start: datetime
    end: datetime
    points: frozenset[int]


@dataclass(frozen=True)
class Excursion:
    """From raise to return by the readings' own clock (epochs), and the worst value in between."""

    start: float
    end: float
    worst: float


def judge(conn: Connection, context: Context, judged: dict[Hour, Mark], now: datetime, learned: Learned) -> list[Finding]:
    """A late finding for each (limit rule, point) with an exceedance that no alert overlaps; `judged` remembers the hours
    (pair, hour -> count and extremes) that hold nothing new. `learned`: power (kW) above which a meter's plant runs."""
    pairs = [(i, fixed(p, float(context.plan.low[i]), float(context.plan.high[i]))) for i, p in enumerate(context.pairs)
             if p.rule.kind == "limit" and p.point is not None and context.plan.slot[i] // context.plan.n_points == VALUE]
    if not pairs:
        return []
    out: list[Finding] = []
    left = MOST_HOURS
    for pair, hours in _suspects(conn, context, pairs, judged, now):
        if left <= 0:
            break
        left -= len(hours)
        news = _news(conn, context, pair, [h for h, _ in hours], learned)
        if news:
            out.append(_finding(context, pair, news))
        else:
            judged.update({(pair[0], h): mark for h, mark in hours})
    return out


def fixed(pair: Pair, low: float, high: float) -> Pair:
    """The pair with the figures of its limit in the rule itself, whatever they come from."""
    band = {"low": None if np.isinf(low) else low, "high": None if np.isinf(high) else high, "in_force": False}
    return replace(pair, rule=replace(pair.rule, params={**pair.rule.params, **band}))


def _suspects(conn: Connection, context: Context, pairs: list[tuple[int, Pair]], judged: dict[Hour, Mark],
              now: datetime) -> Iterator[tuple[tuple[int, Pair], list[tuple[datetime, Mark]]]]:
    """Hours outside the limit of each pair that are not known to be told."""
    plan, by_number = context.plan, dict(pairs)
    rows = conn.execute(Q["late_hours"], {
        "pairs": [i for i, _ in pairs], "bases": [p.rule.base_id for _, p in pairs],
        "rules": [p.rule.rule_id for _, p in pairs],
        "points": [p.point.point_id for _, p in pairs if p.point], "recorded": [p.rule.recorded_at for _, p in pairs],
        "lows": [float(plan.low[i]) for i, _ in pairs], "highs": [float(plan.high[i]) for i, _ in pairs],
        "since": now - timedelta(days=LATE_DAYS), "until": now - timedelta(seconds=LATE_S)}).fetchall()
    plants = _plant_counts(conn, context, by_number, {(i, hour) for i, hour, *_ in rows})
    found: dict[int, list[tuple[datetime, Mark]]] = defaultdict(list)
    for i, hour, n, least, greatest in rows:
        mark = (n, least, greatest, plants.get((i, hour), 0))
        if judged.get((i, hour)) != mark:
            found[i].append((hour, mark))
    for i, hours in found.items():
        yield (i, by_number[i]), hours[:MOST_HOURS]


def _plant_counts(conn: Connection, context: Context, pairs: dict[int, Pair], hours: set[Hour]) -> dict[Hour, int]:
    """Readings of the plant of each pair that is bound to one, in an hour and the one before it."""
    bound = {i: facility.points_of(context, facility.plant_of(context, pairs[i].rule, pairs[i].point, None))
             for i in {i for i, _ in hours} if pairs[i].rule.params["plant"] is not None}
    asked = [(i, hour, pairs[i].rule.base_id, point) for i, hour in sorted(hours) if i in bound for point in bound[i]]
    if not asked:
        return {}
    numbers, at, bases, points = (list(column) for column in zip(*asked, strict=True))
    rows = conn.execute(Q["plant_counts"], {"pairs": numbers, "hours": at, "bases": bases, "points": points}).fetchall()
    return {(i, hour): n for i, hour, n in rows}


def _news(conn: Connection, context: Context, numbered: tuple[int, Pair], hours: list[datetime],
          learned: Learned) -> list[Excursion]:
    pair = numbered[1]
    assert pair.point is not None
    key = {"base": pair.rule.base_id, "rule": pair.rule.rule_id, "point": pair.point.point_id}
    told = conn.execute(Q["alerts_of_point"], key | {"since": hours[0] - HOUR}).fetchall()
    out = []
    for start, end in _stretches(hours):
        rows = conn.execute(Q["readings_of"], key | {"start": start - MARGIN, "end": end + MARGIN}).fetchall()
        table = np.array(rows, float).reshape(-1, 3)
        in_force = facility.was_in_force(conn, context, pair.rule, pair.point, None, table[:, 0], learned)
        for e in excursions(pair, table, in_force):
            seen = any(a - LATE_S <= e.end and e.start <= b + LATE_S for a, b in told)
            if not seen and e.start >= pair.rule.recorded_at.timestamp():
                out.append(e)
    return out


def _stretches(hours: Iterable[datetime]) -> list[tuple[datetime, datetime]]:
    """[start, end) of the runs of neighbouring hours."""
    out: list[tuple[datetime, datetime]] = []
    for hour in hours:
        if out and out[-1][1] == hour:
            out[-1] = out[-1][0], hour + HOUR
        else:
            out.append((hour, hour + HOUR))
    return out


def excursions(pair: Pair, readings: Floats, in_force: Flags | None = None) -> list[Excursion]:
    """What the rule would have raised over readings (n, 3): epoch, value, quality, in order of time; `in_force` (n,)."""
    assert pair.point is not None
    plan, _ = compile_rules([pair.rule], [pair.point], [[0]])
    band = Band(*(float(a[0]) for a in (plan.low, plan.high, plan.low_clear, plan.high_clear, plan.hold_s, plan.clear_hold_s)))
    at = readings[:, 0]
    raised, returned = events(at, np.where(readings[:, 2] <= LAST_USABLE, readings[:, 1], np.nan), band, in_force)
    ends = np.where(np.isnan(returned), at[-1] if len(at) else np.nan, returned)
    return [Excursion(a, b, _worst(band.low, band.high, readings, a, b))
            for a, b in zip(raised.tolist(), ends.tolist(), strict=True)]


def _worst(low: float, high: float, readings: Floats, start: float, end: float) -> float:
    inside = readings[(readings[:, 0] >= start) & (readings[:, 0] <= end) & (readings[:, 2] < 10), 1]
    far = np.nan_to_num(np.fmax(inside - high, low - inside), nan=-np.inf)
    return float(inside[int(np.argmax(far))])


def _finding(context: Context, numbered: tuple[int, Pair], news: list[Excursion]) -> Finding:
    i, pair = numbered
    point, plan = pair.point, context.plan
    assert point is not None
    low, high = (float(v) if np.isfinite(v) else None for v in (plan.low[i], plan.high[i]))
    worst = max((e.worst for e in news), key=lambda v: max(v - (high if high is not None else np.inf),
                                                         (low if low is not None else -np.inf) - v))
    start, end = (datetime.fromtimestamp(t, UTC) for t in (news[0].start, news[-1].end))
    text: dict[str, Any] = explain.of_point(pair.rule, point, worst, low, high, start, context.zones[pair.rule.base_id])
    return Finding(pair.rule, True, start, point_id=point.point_id, value=worst, low=low, high=high, unit=point.unit, late=True,
                   returned_at=end, explanation=said(text, len(news)))


def said(text: Mapping[str, Any], times: int) -> dict[str, Any]:
    """An explanation that says that it was found in late data, and how often it happened."""
    return {**text, "zh": f"{text['zh']}数据迟到,事后判定,共 {times} 次。",
            "en": f"{text['en']} Found later, in data that came late; {times} in all.", "times": times}
