"""Treatment events: production runs while its treatment stands still. Three-valued: a meter that is offline is `unknown`.

Whether a facility runs in a minute is told by its power where that is known (above the learned band, or the unit's attribute
`on_above` in the point's unit), else by its `state` point. Learned bands are dated rows (`power_band`): once a facility has
three days of power, a fifth of the median daily peak; learned again when a month begins. An event is production on with
treatment off for at least `off_tolerance_min` minutes in a row (attribute of the treatment facility, else 10).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from psycopg.types.json import Jsonb

from accounting.columns import Columns, Connection, from_us, read_columns, to_us
from accounting.counters import READING, SQL
from accounting.hours import MINUTE_US, prevailing_step
from accounting.localday import Days, local_days
from accounting.trace import Facility, Trace, TracePoint, trace_of
from park.quality import LAST_USABLE, Quality

KIND = "production_on_treatment_off"
TOLERANCE_MIN = 10
ON, OFF, UNKNOWN = 1, 0, -1
_LEARN_DAYS, _BAND_SHARE = 3, 0.2
Spans = list[tuple[int, datetime, datetime]]
Bands = dict[int, list[tuple[date, float]]]


@dataclass(frozen=True)
class Event:
    """Minutes [first, end) of a run."""

    first: int
    end: int


def learn(conn: Connection, base_id: int, zone: str, points: list[int], now: datetime) -> Spans:
    """Learn bands that are missing or of an earlier month, for facilities among `points`; nothing to recompute is returned
    for a renewed band (it holds from this month on), a first one makes all of the point's history decidable."""
    trace = trace_of(conn, base_id)
    powers = {f.points["active_power"].point_id: f for f in trace.facilities.values()
              if f.role != "outlet" and "active_power" in f.points}
    due, bands = [], _bands(conn, base_id)
    learned = {row[0]: row[3] for row in conn.execute(SQL["bands"], {"base": base_id})}
    month = local_days(to_us(now), to_us(now) + 1, zone).dates[0].replace(day=1)
    for point_id in powers.keys() & set(points):
        if "on_above" not in powers[point_id].attributes and (point_id not in bands or learned[point_id] < month):
            due.append(point_id)
    if not due:
        return []
    again: Spans = []
    begun = dict(conn.execute(SQL["oldest_of_points"], {"base": base_id, "points": due}).fetchall())
    for point_id, n, peak in conn.execute(SQL["peaks"], {"base": base_id, "points": due}).fetchall():
        if n < _LEARN_DAYS:
            continue
        first = point_id not in bands
        conn.execute(SQL["learn_band"], {"base": base_id, "point": point_id, "from": date(1970, 1, 1) if first else month,
                                         "above": _BAND_SHARE * peak, "days": n, "now": now})
        if first and begun.get(point_id) is not None:
            again.append((point_id, begun[point_id], now))
    return again


def account(conn: Connection, base_id: int, zone: str, spans: Spans, now: datetime) -> int:
    """Events that readings in the spans decide, written anew; the number of events found."""
    trace = trace_of(conn, base_id)
    touched: dict[int, tuple[datetime, datetime]] = {}
    owners = {p.point_id: f.unit_id for f in trace.facilities.values() if f.role != "outlet" for p in f.points.values()
              if p.quantity in ("active_power", "state")}
    for point_id, low, high in spans:
        if point_id in owners:
            a, b = touched.get(owners[point_id], (low, high))
            touched[owners[point_id]] = (min(a, low), max(b, high))
    found = 0
    for production, treatment in trace.pairs:
        parts = [touched[f.unit_id] for f in (production, treatment) if f.unit_id in touched]
        if parts:
            low, high = min(p[0] for p in parts), max(p[1] for p in parts)
            found += _account_pair(conn, base_id, zone, trace, production, treatment, low, high)
    return found


def _account_pair(conn: Connection, base_id: int, zone: str, trace: Trace, production: Facility, treatment: Facility,
                  low: datetime, high: datetime) -> int:
    """Events of a pair that share time with [low, high)."""
    for kind, p, t, started, ended in conn.execute(SQL["events_over"], {"base": base_id, "low": low, "high": high}).fetchall():
        if (kind, p, t) == (KIND, production.unit_id, treatment.unit_id):
            low, high = min(low, started), max(high, ended or high)
    # a day to either side: a run that the window cuts is seen whole, and a longer one is joined by its stored beginning
    days = local_days(to_us(low - timedelta(days=1)), to_us(high + timedelta(days=1)), zone)
    runs = running(conn, base_id, [production, treatment], days)
    tolerance = int(treatment.attributes.get("off_tolerance_min", TOLERANCE_MIN))
    events = find_events(runs[production.unit_id], runs[treatment.unit_id], tolerance)
    known = np.flatnonzero((runs[production.unit_id] != UNKNOWN) | (runs[treatment.unit_id] != UNKNOWN))
    newest = int(known[-1]) if len(known) else 0
    start = int(days.borders[0])
    kept = []
    for e in events:
        first, end = (from_us(start + MINUTE_US * m) for m in (e.first, e.end))
        if end <= low or first >= high:
            continue
        kept.append(first)
        conn.execute(SQL["write_event"], {
            "base": base_id, "kind": KIND, "production": production.unit_id, "treatment": treatment.unit_id,
            "outlet": trace.outlet_after.get(treatment.unit_id), "started": first, "ended": None if e.end > newest else end,
            "detail": Jsonb({"minutes": e.end - e.first, "tolerance_min": tolerance})})
    conn.execute(SQL["forget_events"], {"base": base_id, "production": production.unit_id, "treatment": treatment.unit_id,
                                        "low": low - timedelta(minutes=tolerance), "high": high, "kept": kept})
    return len(kept)


def find_events(production: NDArray[np.int8], treatment: NDArray[np.int8], tolerance: int) -> list[Event]:
    """Runs of at least `tolerance` minutes with production on and treatment off."""
    both = ((production == ON) & (treatment == OFF)).astype(np.int8)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], both, [0]])))
    runs = zip(edges[::2], edges[1::2], strict=True)
    return [Event(int(a), int(b)) for a, b in runs if b - a >= tolerance]


def standing_still(conn: Connection, base_id: int, trace: Trace, outlet: Facility, days: Days) -> NDArray[np.bool_]:
    """Hours in which every production facility before the outlet is known to be off for 45 minutes."""
    before = trace.production_before.get(outlet.unit_id, [])
    hours = int(days.borders[-1] - days.borders[0]) // (60 * MINUTE_US)
    if not before:
        return np.zeros(hours, bool)
    runs = running(conn, base_id, before, days)
    off = np.all([r == OFF for r in runs.values()], axis=0)
    still: NDArray[np.bool_] = off.reshape(-1, 60).sum(axis=1) >= 45
    return still


def running(conn: Connection, base_id: int, facilities: list[Facility], days: Days) -> dict[int, NDArray[np.int8]]:
    """ON, OFF or UNKNOWN of each facility in each minute of the days."""
    points = {f.unit_id: [f.points[q] for q in ("state", "active_power") if q in f.points] for f in facilities}
    ids = sorted({p.point_id for ps in points.values() for p in ps})
    got = read_columns(conn, SQL["read_range"], {"base": base_id, "points": ids, "low": from_us(days.borders[0]),
                                                 "high": from_us(days.borders[-1])}, READING)
    order = np.lexsort((got["ts"], got["point_id"]))
    got = {k: v[order] for k, v in got.items()}
    bands = _bands(conn, base_id)
    out = {}
    for f in facilities:
        runs = np.full(int(days.borders[-1] - days.borders[0]) // MINUTE_US, UNKNOWN, np.int8)
        for p in points[f.unit_id]:          # power last: it wins where it is known
            part = {k: v[slice(*np.searchsorted(got["point_id"], [p.point_id, p.point_id + 1]))] for k, v in got.items()}
            said = _minutes_on(p, part, _thresholds(f, p, bands, days), days)
            runs = np.where(said != UNKNOWN, said, runs).astype(np.int8)
        out[f.unit_id] = runs
    return out


def _thresholds(f: Facility, p: TracePoint, bands: Bands, days: Days) -> NDArray[np.float64]:
    """Power above which the facility runs, for each day; NaN where nothing is learned yet."""
    if p.quantity == "state":
        return np.full(len(days.dates), 0.5)
    if "on_above" in f.attributes:
        return np.full(len(days.dates), float(f.attributes["on_above"]))
    rows = bands.get(p.point_id, [])
    return np.array([next((above for since, above in reversed(rows) if since <= d), np.nan) for d in days.dates])


def _minutes_on(p: TracePoint, part: Columns, threshold: NDArray[np.float64], days: Days) -> NDArray[np.int8]:
    """What readings of one point say of each minute: a reading stands until the next, at most twice the day's step."""
    start = int(days.borders[0])
    n = int(days.borders[-1] - start) // MINUTE_US
    out = np.full(n, UNKNOWN, np.int8)
    ts = part["ts"]
    if not len(ts):
        return out
    edges = np.searchsorted(ts, days.borders)
    longest = np.empty(len(ts))
    for a, b in pairwise(edges):
        longest[a:b] = np.ceil(2 * prevailing_step(ts[a:b], p.expected_s) / 60)
    minute = (ts - start) // MINUTE_US
    span = np.clip(np.append(np.diff(minute), longest[-1]), 1, np.maximum(longest, 1)).astype(np.int64)
    level = threshold[np.clip(days.index(ts), 0, len(days.dates) - 1)]
    usable = (part["quality"] <= LAST_USABLE) & np.isfinite(part["value"]) & np.isfinite(level)
    says = np.where(usable, np.where(part["value"] > level, ON, OFF), UNKNOWN).astype(np.int8)
    says[part["quality"] == Quality.STOPPED] = OFF
    who = np.repeat(np.arange(len(ts)), span)
    at = minute[who] + np.arange(len(who)) - np.repeat(np.cumsum(span) - span, span)
    who, at = who[at < n], at[at < n]
    out[at] = says[who]
    return out


def _bands(conn: Connection, base_id: int) -> Bands:
    bands: Bands = {}
    for point_id, since, above, _ in conn.execute(SQL["bands"], {"base": base_id}):
        bands.setdefault(point_id, []).append((since, above))
    return bands
