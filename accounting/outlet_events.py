"""Events of outlets: production while the outlet is marked stopped, outlet normal while treatment is off, readings that
repeat (frozen) or are those of an hour or a day before (copied). What they are is said in `linkage`; a furnace below its
temperature in `furnace`.

An outlet's attributes: `stopped_tolerance_min` (else 10), `frozen_min` (else 60).
"""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np

from accounting import furnace, treatment
from accounting.columns import Columns, Connection, from_us, read_columns, to_us
from accounting.counters import READING, SQL
from accounting.hours import MINUTE_US, Minutes, minutes, prevailing_step
from accounting.linkage import (
    COPIED,
    COPIED_MIN,
    FROZEN,
    FROZEN_MIN,
    OFF,
    ON,
    OUTLET_KINDS,
    UNKNOWN,
    Found,
    States,
    copied_runs,
    frozen_runs,
    stopped_runs,
    unmoved_runs,
)
from accounting.localday import Days, local_days
from accounting.marks import marks_of
from accounting.trace import POLLUTANTS, Facility, Trace, TracePoint, trace_of
from park.quality import VALID
from park.quantities import conversion

STOPPED_TOLERANCE_MIN = 10
KINDS = (*OUTLET_KINDS, furnace.COLD)
Spans = list[tuple[int, datetime, datetime]]


def account(conn: Connection, base_id: int, zone: str, spans: Spans) -> int:
    """Events of outlets that readings in the spans decide, written anew; the number of events found."""
    trace = trace_of(conn, base_id)
    found = 0
    for outlet in trace.outlets:
        mine = {p.point_id for f in [outlet, *_before(trace, outlet)] for p in f.points.values()}
        parts = [(low, high) for point_id, low, high in spans if point_id in mine]
        if parts:
            found += _account_outlet(conn, base_id, zone, trace, outlet, min(p[0] for p in parts), max(p[1] for p in parts))
    return found


def _before(trace: Trace, outlet: Facility) -> list[Facility]:
    """Production and treatment facilities before an outlet."""
    return [*trace.production_before.get(outlet.unit_id, []), *_treatments(trace, outlet)]


def _treatments(trace: Trace, outlet: Facility) -> list[Facility]:
    return [trace.facilities[t] for t, o in trace.outlet_after.items() if o == outlet.unit_id]


def _account_outlet(conn: Connection, base_id: int, zone: str, trace: Trace, outlet: Facility, low: datetime, high: datetime
                    ) -> int:
    """Events of an outlet that share time with [low, high); a reading decides what repeats it a day later too."""
    high += timedelta(days=1)
    for kind, _, _, unit_id, started, ended in conn.execute(SQL["events_over"], {"base": base_id, "low": low, "high": high}):
        if kind in KINDS and unit_id == outlet.unit_id:
            low, high = min(low, started), max(high, ended or high)
    days = local_days(to_us(low - timedelta(days=2)), to_us(high + timedelta(days=1)), zone)
    points = [outlet.points[q] for q in POLLUTANTS if q in outlet.points]
    hot = outlet.points.get(furnace.QUANTITY)
    parts = _readings(conn, base_id, [*points, *([hot] if hot else [])], days)
    runs = treatment.facts(conn, base_id, _before(trace, outlet), days)
    grids = {p.quantity: minutes(*_columns(parts[p.point_id]), days, p.expected_s) for p in points}
    production = any_of([runs[f.unit_id].on for f in trace.production_before.get(outlet.unit_id, [])], days)
    treated = any_of([runs[f.unit_id].on for f in _treatments(trace, outlet)], days)
    found = outlet_events(outlet, points, parts, grids, production, treated, int(days.borders[0]))
    if hot is not None:
        factor, offset = conversion(hot.unit, "degC")
        ts, value, quality = _columns(parts[hot.point_id])
        grids[furnace.QUANTITY] = grid = minutes(ts, value * factor + offset, quality, days, hot.expected_s)
        marks = marks_of(conn, base_id, outlet.unit_id, from_us(days.borders[0]), from_us(days.borders[-1]))
        rules = furnace.rules_on(conn, base_id, outlet.unit_id, days.dates)
        found += furnace.cold_runs(grid, production, marks, days, rules)
    known = [np.flatnonzero(g.any) for g in grids.values()] + [np.flatnonzero(r.on != UNKNOWN) for r in runs.values()]
    newest = max((int(k[-1]) for k in known if len(k)), default=0)
    return treatment.keep_events(conn, base_id, (None, None, outlet.unit_id), KINDS, found, int(days.borders[0]), newest,
                                 low - timedelta(minutes=STOPPED_TOLERANCE_MIN), high)


def outlet_events(outlet: Facility, points: list[TracePoint], parts: dict[int, Columns], grids: dict[str, Minutes],
                  production: States, treated: States, start_us: int) -> list[Found]:
    """Every event of an outlet in a window of whole days; one event a kind and beginning, pollutants put together."""
    tolerance = int(outlet.attributes.get("stopped_tolerance_min", STOPPED_TOLERANCE_MIN))
    marked = np.any([g.stopped for g in grids.values()], axis=0) if grids else np.zeros(len(production), bool)
    found = stopped_runs(marked, production, tolerance)
    found += unmoved_runs(treated, production, {q: g.value for q, g in grids.items() if q != "ph"}, treatment.TOLERANCE_MIN)
    repeated: dict[tuple[str, int, int], list[str]] = {}
    least = int(outlet.attributes.get("frozen_min", FROZEN_MIN))
    for p in points:
        ts, value, quality = _columns(parts[p.point_id])
        good = np.isin(quality, VALID) & np.isfinite(value)
        step = prevailing_step(ts, p.expected_s) / 60
        for a, b in frozen_runs((ts[good] - start_us) // MINUTE_US, value[good], step, least):
            repeated.setdefault((FROZEN, a, b), []).append(p.quantity)
        for a, b in copied_runs(grids[p.quantity].value, max(COPIED_MIN, round(8 * step))):
            repeated.setdefault((COPIED, a, b), []).append(p.quantity)
    merged: dict[tuple[str, int], Found] = {}
    for (kind, a, b), names in sorted(repeated.items()):
        other = merged.get((kind, a))
        end = b if other is None else max(b, other.end)
        quantities = sorted({*names, *(other.detail["quantities"] if other else [])})
        merged[kind, a] = Found(kind, a, end, {"minutes": end - a, "quantities": quantities})
    return found + list(merged.values())


def any_of(states: list[States], days: Days) -> States:
    """On when any facility is known to be on, off when all are known to be off, else unknown; unknown without any."""
    if not states:
        return np.full(int(days.borders[-1] - days.borders[0]) // MINUTE_US, UNKNOWN, np.int8)
    on, off = np.any([s == ON for s in states], axis=0), np.all([s == OFF for s in states], axis=0)
    return np.where(on, ON, np.where(off, OFF, UNKNOWN)).astype(np.int8)


def _columns(part: Columns) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return part["ts"], part["value"], part["quality"]


def _readings(conn: Connection, base_id: int, points: list[TracePoint], days: Days) -> dict[int, Columns]:
    got = read_columns(conn, SQL["read_range"], {
        "base": base_id, "points": sorted(p.point_id for p in points), "low": from_us(days.borders[0]),
        "high": from_us(days.borders[-1])}, READING)
    order = np.lexsort((got["ts"], got["point_id"]))
    got = {k: v[order] for k, v in got.items()}
    edges = {p.point_id: np.searchsorted(got["point_id"], [p.point_id, p.point_id + 1]) for p in points}
    return {point_id: {k: v[a:b] for k, v in got.items()} for point_id, (a, b) in edges.items()}
