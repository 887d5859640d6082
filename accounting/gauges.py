"""Virtual gauges: the values of a gauge that has a formula, step by step, as readings like those of a device.

A step is the point's `expected_s`. A gauge in the formula gives the mean of its usable readings in the step, a counter its
amount in the quarter-hour. The value stands at the step's beginning with the worst quality of what it was made from; where a
point has nothing in the step there is no reading, never a zero. What comes later or is corrected changes the value; the former
one is kept as a revision. Rollups, alerts, API and boards read it as they read any point.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from accounting.columns import Columns, Connection, from_us, instants, read_columns, to_us
from accounting.slots import INTERVAL, Changed
from accounting.slots import SQL as SLOTS
from accounting.virtual import Formula, in_order, read_formulas
from park.database import queries
from park.quality import LAST_USABLE, Quality, word_of

SQL = queries(Path(__file__).with_name("gauges.sql"))
SETTLE = timedelta(seconds=10)       # a step is computed when it has been over so long: its last readings are still under way
LONGEST = timedelta(days=31)         # time alone is followed so far back after a stop; what came meanwhile is on the list
_STEP = {"point_id": "i4", "ts": "ts", "mean": "f8", "quality": "i2"}
_WEEK_US = 7 * 86_400_000_000
Spans = list[tuple[int, datetime, datetime]]


@dataclass(frozen=True)
class Gauge(Formula):
    """A virtual gauge: its formula, step and plausible range."""

    code: str
    step_us: int
    low: float
    high: float


def gauges_of(conn: Connection, base_id: int) -> list[Gauge]:
    """The virtual gauges of a base, each after those it needs."""
    rows = {row[1]: row for row in conn.execute(SQL["gauge_formulas"], {"base": base_id})}
    found = read_formulas(conn, base_id, [row[:4] for row in rows.values()])
    return list(in_order({
        code: Gauge(f.point_id, f.formula, f.counters, f.gauges, code, rows[code][4] * 1_000_000, *rows[code][5:])
        for code, f in found.items()}))


def follow(conn: Connection, base_id: int, changed: Changed, spans: Spans, until: datetime) -> int:
    """Compute the steps that changed slots, points read in `spans`, or their own span ask for, and that are over at `until`.

    Gives the number of readings written."""
    made: dict[int, tuple[int, int]] = {}
    written = 0
    for g in gauges_of(conn, base_id):
        window = _window(g, changed, spans, made, until)
        if window is not None:
            written += _write(conn, base_id, g, *differences(conn, base_id, g, *window))
            made[g.point_id] = window
    return written


def pass_time(conn: Connection, base_id: int, since: datetime, now: datetime) -> int:
    """Compute the steps that ended between two passes."""
    low = max(since, now - LONGEST) - SETTLE
    gauges = gauges_of(conn, base_id)
    nothing = Changed(np.empty(0, np.int32), np.empty(0, np.int64), False)
    return follow(conn, base_id, nothing, [(g.point_id, low, now) for g in gauges], now - SETTLE) if gauges else 0


def verify(conn: Connection, base_id: int, low: datetime, high: datetime) -> list[str]:
    """A line for each stored value between two instants that the readings give otherwise."""
    lines = []
    for g in gauges_of(conn, base_id):
        first, last = to_us(low) // g.step_us * g.step_us, to_us(high) // g.step_us * g.step_us
        new, old = differences(conn, base_id, g, first, last)
        was = {int(t): (v, q) for t, v, q in zip(old["ts"], old["mean"], old["quality"], strict=True)}
        for t, value, quality in zip(new["ts"], new["mean"], new["quality"], strict=True):
            stored = was.get(int(t))
            said = "missing" if stored is None else f"stored as {stored[0]} {word_of(stored[1])}"
            lines.append(f"reading {g.code} {from_us(t).isoformat()}: is {said}, should be {value} {word_of(quality)}")
    return lines


def _window(g: Gauge, changed: Changed, spans: Spans, made: dict[int, tuple[int, int]], until: datetime
            ) -> tuple[int, int] | None:
    """From the first to the last step that may be other than stored."""
    edges: list[int] = []
    ts = changed.ts[np.isin(changed.point_id, list(g.counters.values()))]
    if len(ts):
        edges += [int(ts.min()), int(ts.max()) + g.step_us]
    asked = {*g.gauges.values(), g.point_id}
    edges += [edge for point_id, low, high in spans if point_id in asked for edge in (to_us(low), to_us(high))]
    edges += [edge for point_id, window in made.items() if point_id in asked for edge in window]
    if not edges:
        return None
    low, high = min(edges) // g.step_us * g.step_us, -(-max(edges) // g.step_us) * g.step_us
    high = min(high, to_us(until) // g.step_us * g.step_us)
    return (low, high) if low < high else None


def differences(conn: Connection, base_id: int, g: Gauge, low: int, high: int) -> tuple[Columns, Columns]:
    """(what should be stored and is not, with time, mean and quality; what is stored in those places)."""
    new = _values(conn, base_id, g, low, high)
    about = {"base": base_id, "points": [g.point_id], "low": from_us(low), "high": from_us(high)}
    old = read_columns(conn, SLOTS["read_range"], about, _STEP)
    order = np.argsort(old["ts"])
    old = {name: column[order] for name, column in old.items()}
    # a stored value that nothing gives any more loses it; one that has none already stays
    gone = ~np.isin(old["ts"], new["ts"]) & np.isfinite(old["mean"])
    new = {"ts": np.concatenate([new["ts"], old["ts"][gone]]),
           "mean": np.concatenate([new["mean"], np.full(gone.sum(), np.nan)]),
           "quality": np.concatenate([new["quality"], np.full(gone.sum(), Quality.MISSING, np.int16)])}
    at = np.minimum(np.searchsorted(old["ts"], new["ts"]), max(len(old["ts"]) - 1, 0))
    there = old["ts"][at] == new["ts"] if len(old["ts"]) else np.zeros(len(new["ts"]), bool)
    same = np.zeros(len(new["ts"]), bool)
    same[there] = (np.isclose(old["mean"][at[there]], new["mean"][there], rtol=1e-9, atol=1e-12, equal_nan=True)
                   & (old["quality"][at[there]] == new["quality"][there]))
    open_ = ~same & ~_closed(conn, new["ts"])
    return ({name: column[open_] for name, column in new.items()},
            {name: old[name][at[there & open_]] for name in ("ts", "mean", "quality")})


def _values(conn: Connection, base_id: int, g: Gauge, low: int, high: int) -> Columns:
    n = (high - low) // g.step_us
    values: dict[str, NDArray[np.float64]] = {}
    quality, present = np.zeros(n, np.int16), np.ones(n, bool)
    for name, read in _parts(conn, base_id, g, low, high):
        at = (read["ts"] - low) // g.step_us
        values[name] = np.full(n, np.nan)
        values[name][at] = read["mean"]
        worst = np.full(n, -1, np.int16)
        worst[at] = read["quality"]
        present &= worst >= 0
        quality = np.maximum(quality, worst)
    value = np.broadcast_to(g.formula.evaluate(values), (n,))
    known = np.isfinite(value)
    # a choice (`a if b else c`) may be known although a part is not: then it is an estimate
    usable = np.where(quality > LAST_USABLE, Quality.ESTIMATED, quality)
    usable = np.where((usable == Quality.GOOD) & ((value < g.low) | (value > g.high)), Quality.UNCERTAIN, usable)
    some = known | present
    why_not = np.where(quality > LAST_USABLE, quality, Quality.MISSING)
    return {"ts": low + g.step_us * np.flatnonzero(some), "mean": value[some],
            "quality": np.where(known, usable, why_not)[some].astype(np.int16)}


def _parts(conn: Connection, base_id: int, g: Gauge, low: int, high: int) -> Iterator[tuple[str, Columns]]:
    """Each name of the formula with its steps."""
    read = read_columns(conn, SQL["read_steps"], {
        "base": base_id, "points": list(g.gauges.values()), "low": from_us(low), "high": from_us(high),
        "step": timedelta(microseconds=g.step_us)}, _STEP) if g.gauges else {}
    for name, point_id in g.gauges.items():
        mine = read["point_id"] == point_id
        yield name, {k: v[mine] for k, v in read.items()}
    for name, point_id in g.counters.items():
        slots = read_columns(conn, SLOTS["read_intervals"], {
            "base": base_id, "points": [point_id], "low": [from_us(low)], "high": [from_us(high)]}, INTERVAL)
        yield name, {"ts": slots["ts"], "mean": slots["amount"], "quality": slots["quality"]}


def _closed(conn: Connection, ts: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which instants lie in weeks whose readings are gone: these keep the rollups they have."""
    out = np.zeros(len(ts), bool)
    for (monday,) in conn.execute(SQL["closed_weeks"]) if len(ts) else ():
        low = to_us(monday)
        out |= (ts >= low) & (ts < low + _WEEK_US)
    return out


def _write(conn: Connection, base_id: int, g: Gauge, new: Columns, old: Columns) -> int:
    """Store values; the number of them."""
    if not len(new["ts"]):
        return 0
    about = {"base": base_id, "point": g.point_id}
    conn.execute(SQL["ensure_weeks"], {"low": from_us(new["ts"].min()), "high": from_us(new["ts"].max())})
    for name, columns in (("keep_former", old), ("write_gauge", new)):
        if len(columns["ts"]):
            conn.execute(SQL[name], about | {"ts": instants(columns["ts"]), "value": columns["mean"].tolist(),
                                             "quality": columns["quality"].tolist()})
    return len(new["ts"])
