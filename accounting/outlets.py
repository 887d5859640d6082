"""Emission hours of outlets, from raw readings to `emission_1h`: whole base-local days at a time, only ended hours.

An outlet's hours hang on its own instruments and on whether the production before it runs (an hour without data is `stopped`
and not `missing` when every production facility before the outlet is known to stand still). Masses of hours without valid
data hang on the valid hours before them and on the quarter's capture rate: they are settled after the hours.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accounting import treatment
from accounting.columns import Columns, Connection, from_us, read_columns, to_us, write_columns
from accounting.counters import READING, SQL
from accounting.hours import (
    HOUR_US,
    VALID_MINUTES,
    Hours,
    Minutes,
    State,
    air_hours,
    minutes,
    to_dry_standard,
    water_hours,
)
from accounting.localday import Days, local_days
from accounting.marks import apply_marks, marks_of, out_of_control
from accounting.substitution import LOOK_BACK_DAYS, RULES, Substituted, substitute_air, substitute_water
from accounting.trace import FLOW, POLLUTANTS, WITHOUT_MASS, Facility, Trace, TracePoint, trace_of
from park.quantities import conversion, quantities

STAGE = {"unit_id": "i4", "quantity": "i2", "ts": "ts", "n_valid": "i2", "state": "i2", "measured": "f8", "converted": "f8",
         "oxygen": "f8", "flow": "f8", "mass_kg": "f8", "limit_id": "i4", "limit_value": "f8", "exceeded": "i2",
         "exempt_id": "i4"}
STORED = {"ts": "ts", "n_valid": "i2", "state": "i2", "measured": "f8", "flow": "f8", "mass_kg": "f8", "substituted": "i2"}
STATE_OF_GAS = ("flue_gas_temperature", "flue_gas_pressure", "flue_gas_humidity")
BASES = ("wet", "actual", "actual_wet")
Spans = list[tuple[int, datetime, datetime]]


@dataclass(frozen=True)
class LimitRow:
    """A limit on an outlet's hourly mean; later rows in the list win (permit over standard, newer over older)."""

    limit_id: int
    low: float | None
    high: float | None
    valid_from: date
    valid_to: date | None


def account(conn: Connection, base_id: int, zone: str, spans: Spans, now: datetime) -> tuple[int, set[str]]:
    """Hours that readings in the spans decide; the number of hours changed and the years and months they lie in."""
    trace = trace_of(conn, base_id)
    work: dict[int, list[tuple[datetime, datetime]]] = {}
    owners = _owners(trace)
    for point_id, low, high in spans:
        for unit_id in owners.get(point_id, ()):
            work.setdefault(unit_id, []).append((low, high))
    changed: list[tuple[int, str, datetime, datetime, int]] = []
    for unit_id, parts in work.items():
        low, high = min(p[0] for p in parts), max(p[1] for p in parts)
        changed += _account_outlet(conn, base_id, zone, trace, trace.facilities[unit_id], low, high, now)
    return _settle(conn, base_id, zone, trace, changed)


def pass_time(conn: Connection, base_id: int, zone: str, now: datetime, *, hours_changed: bool) -> tuple[int, set[str]]:
    """Hours that ended since the last pass, with or without data; after a change also hours that nothing was ever read in."""
    trace = trace_of(conn, base_id)
    until = from_us(to_us(now) // HOUR_US * HOUR_US)
    newest: dict[int, datetime] = {}
    series = [(f.unit_id, q) for f in trace.outlets for q in POLLUTANTS if q in f.points]
    for unit_id, _, ts in conn.execute(SQL["newest_hours"], {
            "base": base_id, "units": [u for u, _ in series], "quantities": [q for _, q in series]}):
        newest[unit_id] = min(ts + timedelta(hours=1), newest.get(unit_id, ts + timedelta(hours=1)))
    changed: list[tuple[int, str, datetime, datetime, int]] = []
    for unit_id, low in newest.items():
        if low < until and unit_id in trace.facilities:
            changed += _account_outlet(conn, base_id, zone, trace, trace.facilities[unit_id], low, until, now)
    if changed or hours_changed:
        changed += [(u, q, ts, ts, 1) for u, q, ts in conn.execute(SQL["fill_hours"], {"base": base_id})]
    return _settle(conn, base_id, zone, trace, changed)


def _owners(trace: Trace) -> dict[int, set[int]]:
    """Outlets whose hours hang on each point."""
    owners: dict[int, set[int]] = {}
    for outlet in trace.outlets:
        for facility in [outlet, *trace.production_before.get(outlet.unit_id, [])]:
            for point in facility.points.values():
                owners.setdefault(point.point_id, set()).add(outlet.unit_id)
    return owners


def _account_outlet(conn: Connection, base_id: int, zone: str, trace: Trace, outlet: Facility, low: datetime, high: datetime,
                    now: datetime) -> list[tuple[int, str, datetime, datetime, int]]:
    """The outlet's hours of every local day that [low, high) touches; what changed, by pollutant."""
    pollutants = [outlet.points[q] for q in POLLUTANTS if q in outlet.points]
    if not pollutants:
        return []
    touched = local_days(to_us(low), to_us(high), zone)
    # a day more before it: a slow instrument's last reading of the day before stands for the first minutes of this one
    days = local_days(int(touched.borders[0]) - 1, int(touched.borders[-1]), zone)
    first_hour = int((touched.borders[0] - days.borders[0]) // HOUR_US)
    helpers = [outlet.points[q] for q in ("o2", FLOW[outlet.medium], *STATE_OF_GAS) if q in outlet.points]
    grids = _dry_standard(outlet, _grids(conn, base_id, [*pollutants, *helpers], days))
    starts = days.borders[0] + HOUR_US * np.arange(int(days.borders[-1] - days.borders[0]) // HOUR_US)
    begun = _first_readings(conn, base_id, pollutants)
    wanted = (np.arange(len(starts)) >= first_hour) & (starts + HOUR_US <= to_us(now))
    still: NDArray[np.bool_] | None = None
    rows: list[Columns] = []
    limits, marked = _limits(conn, base_id), marks_of(conn, base_id, outlet.unit_id, from_us(starts[0]), now)
    for point in pollutants:
        if point.point_id not in begun:
            continue
        got = _hours(outlet, point, grids)
        some = wanted & (starts >= begun[point.point_id] // HOUR_US * HOUR_US)
        silent = (got.state == State.MISSING) | (got.state == State.INSUFFICIENT)
        if (silent & some).any():
            still = treatment.standing_still(conn, base_id, trace, outlet, days) if still is None else still
            got.state[silent & still] = State.STOPPED
            got.mass_kg[silent & still] = 0.0
        _spoil(got, out_of_control(marked, point.quantity, starts))
        exempt = apply_marks(marked, point.quantity, starts, got.state)
        rows.append(_columns(outlet, point, got, starts, some, days, limits.get((outlet.unit_id, point.quantity), []),
                             exempt))
    return _merge(conn, base_id, rows)


def _spoil(got: Hours, invalid: NDArray[np.bool_]) -> None:
    """Take the data of hours in which the instrument was out of control, in place; a stopped source stays stopped."""
    gone = invalid & (got.state != State.STOPPED) & (got.state != State.MISSING)
    got.state[gone], got.n_valid[gone] = State.INSUFFICIENT, 0
    for column in (got.measured, got.converted, got.mass_kg):
        column[gone] = np.nan


def _hours(outlet: Facility, point: TracePoint, grids: dict[str, Minutes]) -> Hours:
    flow = grids.get(FLOW[outlet.medium])
    if outlet.medium == "water":
        return water_hours(grids[point.quantity], flow, has_mass=point.quantity not in WITHOUT_MASS)
    reference = outlet.attributes.get("o2_reference")
    return air_hours(grids[point.quantity], grids.get("o2"), flow, None if reference is None else float(reference))


def _grids(conn: Connection, base_id: int, points: list[TracePoint], days: Days) -> dict[str, Minutes]:
    """Minutes of each point in the unit of its quantity."""
    got = read_columns(conn, SQL["read_range"], {
        "base": base_id, "points": sorted({p.point_id for p in points}), "low": from_us(days.borders[0]),
        "high": from_us(days.borders[-1])}, READING)
    order = np.lexsort((got["ts"], got["point_id"]))
    got = {k: v[order] for k, v in got.items()}
    grids = {}
    for p in points:
        part = slice(*np.searchsorted(got["point_id"], [p.point_id, p.point_id + 1]))
        factor, offset = conversion(p.unit, quantities()[p.quantity].unit)
        value = got["value"][part] * factor + offset
        grids[p.quantity] = minutes(got["ts"][part], value, got["quality"][part], days, p.expected_s)
    return grids


def _dry_standard(outlet: Facility, grids: dict[str, Minutes]) -> dict[str, Minutes]:
    """Minutes of points whose attribute `basis` says that they are moist or in the state of the duct, made dry and standard."""
    flow = FLOW[outlet.medium]
    state = [grids.get(q) for q in STATE_OF_GAS]
    atmosphere = float(outlet.attributes.get("atmosphere_kpa", 101.325))
    return {q: to_dry_standard(m, str(basis), q == flow, state[0], state[1], state[2], atmosphere)
            if (basis := outlet.points[q].attributes.get("basis")) in BASES else m for q, m in grids.items()}


def _first_readings(conn: Connection, base_id: int, points: list[TracePoint]) -> dict[int, int]:
    rows = conn.execute(SQL["oldest_of_points"], {"base": base_id, "points": [p.point_id for p in points]})
    return {p: to_us(ts) for p, ts in rows if ts is not None}


def _limits(conn: Connection, base_id: int) -> dict[tuple[int, str], list[LimitRow]]:
    found: dict[tuple[int, str], list[LimitRow]] = {}
    for unit_id, quantity, *row in conn.execute(SQL["limits"], {"base": base_id}):
        found.setdefault((unit_id, quantity), []).append(LimitRow(*row))
    return found


def _columns(outlet: Facility, point: TracePoint, got: Hours, starts: NDArray[np.int64], some: NDArray[np.bool_], days: Days,
             limits: list[LimitRow], exempt: NDArray[np.int32]) -> Columns:
    """The wanted hours as rows of the stage, judged by the limit in force on their day."""
    n = len(starts)
    limit_id, low, high = np.full(n, -1, np.int32), np.full(n, np.nan), np.full(n, np.nan)
    day = days.index(starts)
    for row in limits:
        inside = np.array([row.valid_from <= d and (row.valid_to is None or d < row.valid_to) for d in days.dates])[day]
        limit_id[inside] = row.limit_id
        low[inside] = np.nan if row.low is None else row.low
        high[inside] = np.nan if row.high is None else row.high
    judged = (got.state == State.VALID) & np.isfinite(got.converted) & (limit_id >= 0)
    # a mean that stands at its limit does not exceed it by the last bit of its sum (emission_1d likewise)
    beyond = (got.converted > high + 1e-9 * np.abs(high)) | (got.converted < low - 1e-9 * np.abs(low))
    exceeded = np.where(judged, beyond.astype(np.int16), -1)
    columns = {"unit_id": np.full(n, outlet.unit_id), "quantity": np.full(n, POLLUTANTS.index(point.quantity) + 1),
               "ts": starts, "n_valid": got.n_valid, "state": got.state, "measured": got.measured, "converted": got.converted,
               "oxygen": got.oxygen, "flow": got.flow, "mass_kg": got.mass_kg, "limit_id": limit_id,
               "limit_value": np.where(np.isfinite(high), high, low), "exceeded": exceeded, "exempt_id": exempt}
    return {k: v[some] for k, v in columns.items()}


def _merge(conn: Connection, base_id: int, rows: list[Columns]) -> list[tuple[int, str, datetime, datetime, int]]:
    if not rows or not sum(len(r["ts"]) for r in rows):
        return []
    conn.execute(SQL["hour_stage"])
    conn.execute(SQL["clear_hours"])
    write_columns(conn, SQL["write_hours"], STAGE, {k: np.concatenate([r[k] for r in rows]) for k in STAGE})
    return conn.execute(SQL["merge_hours"], {"base": base_id, "quantities": list(POLLUTANTS),
                                             "states": [s.name.lower() for s in State]}).fetchall()


def _settle(conn: Connection, base_id: int, zone: str, trace: Trace, changed: list[tuple[int, str, datetime, datetime, int]]
            ) -> tuple[int, set[str]]:
    """Substituted masses after a change of hours: from the quarter's first hour on, to the end."""
    first: dict[tuple[int, str], datetime] = {}
    last: dict[tuple[int, str], datetime] = {}
    for unit_id, quantity, low, high, _ in changed:
        key = (unit_id, quantity)
        first[key], last[key] = min(low, first.get(key, low)), max(high, last.get(key, high))
    periods: set[str] = set()
    for (unit_id, quantity), low in first.items():
        highest = last[unit_id, quantity]
        if quantity not in WITHOUT_MASS:
            highest = max(highest, _settle_series(conn, base_id, zone, trace.facilities[unit_id], quantity, low))
        days = local_days(to_us(low), to_us(highest) + 1, zone).dates
        periods |= {f"{d:%Y}" for d in days} | {f"{d:%Y-%m}" for d in days}
    return sum(c[4] for c in changed), periods


def _settle_series(conn: Connection, base_id: int, zone: str, outlet: Facility, quantity: str, low: datetime) -> datetime:
    """Masses of one pollutant from the quarter of `low` on; the last hour at which one changed."""
    key: dict[str, Any] = {"base": base_id, "unit": outlet.unit_id, "quantity": quantity}
    got = read_columns(conn, SQL["read_hours"], {**key, "low": low - timedelta(days=LOOK_BACK_DAYS + 92)}, STORED)
    order = np.argsort(got["ts"])
    got = {k: v[order] for k, v in got.items()}
    if not len(got["ts"]):
        return low
    kg = 1e-3 if outlet.medium == "water" else 1e-6
    own = np.where(got["n_valid"] >= VALID_MINUTES, got["measured"] * got["flow"] * kg, np.nan)
    own = np.where(got["state"] == State.STOPPED, 0.0, own)
    days = local_days(int(got["ts"][0]), int(got["ts"][-1]) + 1, zone)
    day = days.index(got["ts"])
    quarter = np.array([d.year * 4 + (d.month - 1) // 3 for d in days.dates])[day]
    settled = (substitute_water(got["state"], own, day) if outlet.medium == "water"
               else substitute_air(got["state"], own, quarter - quarter[0]))
    from_quarter = quarter >= quarter[min(int(np.searchsorted(got["ts"], to_us(low))), len(quarter) - 1)]
    return _write_settled(conn, key, got, settled, from_quarter) or low


def _write_settled(conn: Connection, key: dict[str, Any], got: Columns, settled: Substituted, some: NDArray[np.bool_]
                   ) -> datetime | None:
    same = np.isclose(got["mass_kg"], settled.mass_kg, rtol=1e-12, atol=0, equal_nan=True)
    differs = some & (~same | (settled.rule > 0) | (got["substituted"] > 0))
    if not differs.any():
        return None
    conn.execute(SQL["settle_mass"], {**key, "ts": [from_us(t) for t in got["ts"][differs]],
                                      "mass": settled.mass_kg[differs].tolist(),
                                      "rule": [RULES[r] for r in settled.rule[differs]]})
    return from_us(got["ts"][differs][-1])
