"""Treatment events of pairs: production runs while its treatment stands still or idles. A meter offline is `unknown`.

Whether a facility runs in a minute is told by its power where that is known (above the learned band, or the unit's attribute
`on_above` in the point's unit), else by its `state` point. Learned bands are dated rows (`power_band`): once a facility has
three days of power, a fifth of the median daily peak; learned again when a month begins, and with it below which power the
treatment idles. What the events are is said in `linkage`; a treatment facility's attributes `off_tolerance_min` (else 10)
and `idle_tolerance_min` (else 30) say how long a run must last.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray
from psycopg.types.json import Jsonb

from accounting.columns import Columns, Connection, from_us, read_columns, to_us
from accounting.counters import READING, SQL
from accounting.hours import MINUTE_US, prevailing_steps
from accounting.linkage import IDLE_MIN, OFF, ON, PAIR_KINDS, UNKNOWN, Found, idle_runs, learn_floors, off_runs
from accounting.localday import Days, local_days
from accounting.trace import Facility, Trace, TracePoint, trace_of
from park.quality import LAST_USABLE, Quality

TOLERANCE_MIN = 10
_LEARN_DAYS, _BAND_SHARE = 3, 0.2
Spans = list[tuple[int, datetime, datetime]]
Bands = dict[int, list[tuple[date, float]]]


@dataclass(frozen=True)
class Run:
    """A facility in minutes: ON, OFF or UNKNOWN, its power (NaN: not known), and the minutes between its readings."""

    on: NDArray[np.int8]
    power: NDArray[np.float64]
    step: NDArray[np.float64]


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
    known = conn.execute(SQL["peaks"], {"base": base_id, "points": list(powers)}).fetchall()
    peaks = {point_id: peak for point_id, n, peak in known if n >= _LEARN_DAYS}
    for point_id, n, peak in [row for row in known if row[0] in due]:
        if n < _LEARN_DAYS:
            continue
        first = point_id not in bands
        idle = _learn_idle(conn, base_id, trace, powers[point_id], peaks | {point_id: peak})
        conn.execute(SQL["learn_band"], {"base": base_id, "point": point_id, "from": date(1970, 1, 1) if first else month,
                                         "above": _BAND_SHARE * peak, "days": n, "now": now, "idle": Jsonb(idle)})
        if first and begun.get(point_id) is not None:
            again.append((point_id, begun[point_id], now))
    return again


def _learn_idle(conn: Connection, base_id: int, trace: Trace, facility: Facility, peaks: dict[int, float]
                ) -> dict[str, Any] | None:
    """Below which power a treatment facility idles, from its 15-minute means and those of the production before it."""
    before = [p.points["active_power"].point_id for p, t in trace.pairs
              if t.unit_id == facility.unit_id and "active_power" in p.points]
    before = [p for p in before if peaks.get(p, 0) > 0]
    own = facility.points["active_power"].point_id
    if not before:
        return None
    rows = conn.execute(SQL["quarter_means"], {"base": base_id, "own": own, "before": before}).fetchall()
    power = np.array([r[0] for r in rows], float)
    shares = np.array([[np.nan if v is None else v for v in r[1]] for r in rows], float).reshape(len(rows), len(before))
    share = np.fmax.reduce(shares / np.array([peaks[p] for p in before]), axis=1)
    running = (power > _BAND_SHARE * peaks[own]) & (share > _BAND_SHARE)
    return {"peaks": {str(p): peaks[p] for p in before}, "floors": learn_floors(np.nan_to_num(share), power, running)}


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
    window = {"base": base_id, "low": low, "high": high}
    for kind, p, t, _, started, ended in conn.execute(SQL["events_over"], window).fetchall():
        if kind in PAIR_KINDS and (p, t) == (production.unit_id, treatment.unit_id):
            low, high = min(low, started), max(high, ended or high)
    # a day to either side: a run that the window cuts is seen whole, and a longer one is joined by its stored beginning
    days = local_days(to_us(low - timedelta(days=1)), to_us(high + timedelta(days=1)), zone)
    runs = facts(conn, base_id, [production, treatment], days)
    p, t = runs[production.unit_id], runs[treatment.unit_id]
    tolerance = int(treatment.attributes.get("off_tolerance_min", TOLERANCE_MIN))
    # one slow reading that saw the one switch and not the other is no evidence: two are
    step = np.maximum(p.step, t.step)
    found = [e for e in off_runs(p.on, t.on, tolerance) if e.end - e.first >= 1.5 * step[e.first]]
    least = int(treatment.attributes.get("idle_tolerance_min", IDLE_MIN))
    for band, inside in _idle_bands(conn, base_id, treatment, days):
        share = np.where(inside, _share(band, production, p), np.nan)
        found += idle_runs(p.on, t.on, share, t.power, band["floors"], least)
    known = np.flatnonzero((p.on != UNKNOWN) | (t.on != UNKNOWN))
    place = (production.unit_id, treatment.unit_id, trace.outlet_after.get(treatment.unit_id))
    return keep_events(conn, base_id, place, PAIR_KINDS, found, int(days.borders[0]), int(known[-1]) if len(known) else 0,
                       low - timedelta(minutes=tolerance), high)


def keep_events(conn: Connection, base_id: int, place: tuple[int | None, int | None, int | None], kinds: tuple[str, ...],
                found: list[Found], start_us: int, newest: int, low: datetime, high: datetime) -> int:
    """Write the events of a place (production, treatment, outlet) that share time with [low, high), forget those of the
    kinds that are no longer found there; an event that reaches the newest known minute is open."""
    kept: dict[str, list[datetime]] = {kind: [] for kind in kinds}
    for e in found:
        first, end = (from_us(start_us + MINUTE_US * m) for m in (e.first, e.end))
        if end <= low or first >= high:
            continue
        kept[e.kind].append(first)
        conn.execute(SQL["write_event"], {
            "base": base_id, "kind": e.kind, "production": place[0], "treatment": place[1], "outlet": place[2],
            "started": first, "ended": None if e.end > newest else end, "detail": Jsonb(e.detail)})
    for kind, starts in kept.items():
        conn.execute(SQL["forget_events"], {"base": base_id, "kind": kind, "production": place[0], "treatment": place[1],
                                            "outlet": place[2], "low": low, "high": high, "kept": starts})
    return sum(len(starts) for starts in kept.values())


def _idle_bands(conn: Connection, base_id: int, treatment: Facility, days: Days
                ) -> list[tuple[dict[str, Any], NDArray[np.bool_]]]:
    """Each learned idle band with the minutes of the days it judges; a band never judges days before it was known."""
    point = treatment.points.get("active_power")
    if point is None:
        return []
    rows = conn.execute(SQL["idle_bands"], {"base": base_id, "point": point.point_id}).fetchall()
    minute = np.repeat(np.arange(len(days.dates)), np.diff(days.borders) // MINUTE_US)
    found = []
    for i, (since, idle) in enumerate(rows):
        until = rows[i + 1][0] if i + 1 < len(rows) else date.max
        inside = np.array([since <= d < until for d in days.dates])[minute]
        if inside.any():
            found.append((idle, inside))
    return found


def _share(band: dict[str, Any], production: Facility, run: Run) -> NDArray[np.float64]:
    """Power of production as a share of its usual peak; NaN where it is not known."""
    point = production.points.get("active_power")
    peak = band["peaks"].get(str(point.point_id)) if point else None
    return run.power / peak if peak else np.full(len(run.power), np.nan)


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
    return {u: run.on for u, run in facts(conn, base_id, facilities, days).items()}


def facts(conn: Connection, base_id: int, facilities: list[Facility], days: Days) -> dict[int, Run]:
    """State and power of each facility in each minute of the days."""
    points = {f.unit_id: [f.points[q] for q in ("state", "active_power") if q in f.points] for f in facilities}
    ids = sorted({p.point_id for ps in points.values() for p in ps})
    got = read_columns(conn, SQL["read_range"], {"base": base_id, "points": ids, "low": from_us(days.borders[0]),
                                                 "high": from_us(days.borders[-1])}, READING)
    order = np.lexsort((got["ts"], got["point_id"]))
    got = {k: v[order] for k, v in got.items()}
    bands = _bands(conn, base_id)
    out = {}
    for f in facilities:
        n = int(days.borders[-1] - days.borders[0]) // MINUTE_US
        run = Run(np.full(n, UNKNOWN, np.int8), np.full(n, np.nan), np.zeros(n))
        for p in points[f.unit_id]:          # power last: it wins where it is known
            part = {k: v[slice(*np.searchsorted(got["point_id"], [p.point_id, p.point_id + 1]))] for k, v in got.items()}
            said, power, step = minutes_on(p, part, _thresholds(f, p, bands, days), days)
            run = Run(np.where(said != UNKNOWN, said, run.on).astype(np.int8), power, np.maximum(step, run.step))
        out[f.unit_id] = run
    return out


def _thresholds(f: Facility, p: TracePoint, bands: Bands, days: Days) -> NDArray[np.float64]:
    """Power above which the facility runs, for each day; NaN where nothing is learned yet."""
    if p.quantity == "state":
        return np.full(len(days.dates), 0.5)
    if "on_above" in f.attributes:
        return np.full(len(days.dates), float(f.attributes["on_above"]))
    rows = bands.get(p.point_id, [])
    return np.array([next((above for since, above in reversed(rows) if since <= d), np.nan) for d in days.dates])


def minutes_on(p: TracePoint, part: Columns, threshold: NDArray[np.float64], days: Days
               ) -> tuple[NDArray[np.int8], NDArray[np.float64], NDArray[np.float64]]:
    """What readings of one point say of each minute, their value, and the day's step in minutes: a reading stands until the
    next, at most twice the step."""
    start = int(days.borders[0])
    n = int(days.borders[-1] - start) // MINUTE_US
    out, power, step = np.full(n, UNKNOWN, np.int8), np.full(n, np.nan), np.zeros(n)
    ts = part["ts"]
    if not len(ts):
        return out, power, step
    edges = np.searchsorted(ts, days.borders)
    longest = np.repeat(np.ceil(2 * prevailing_steps(ts, edges, p.expected_s) / 60), np.diff(edges))
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
    power[at] = np.where(usable, part["value"], np.nan)[who]
    step[at] = 0.5 * longest[who]
    return out, power, step


def _bands(conn: Connection, base_id: int) -> Bands:
    bands: Bands = {}
    for point_id, since, above, _ in conn.execute(SQL["bands"], {"base": base_id}):
        bands.setdefault(point_id, []).append((since, above))
    return bands
