"""The rollup pass: touched quarters of an hour from raw, then hours, days and months from the next finer grain.

Runs beside the writers every two seconds. One transaction consumes the dirty log, recomputes what it names, hands
the touched hours to accounting (`dirty_account`) and tells `park_rollup`; a pass that dies leaves its log as it was.
Recomputing whole quarters makes the pass blind to order, repetition and lateness: the result is what a full
recompute would give.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg import Connection, sql

from ingest.condense import MINUTE_US, QUARTER_US, Buckets, Series, condense, increments
from ingest.directory import QUERIES
from ingest.packing import array_of, copy_into

GRAINS = ("1m", "15m", "1h", "1d", "1mo")
_COARSER = (("reading_1h", "touched_hour", "reading_15m", False), ("reading_1d", "touched_day", "reading_1h", False),
            ("reading_1d", "touched_day", "reading_15m", True), ("reading_1mo", "touched_month", "reading_1d", False))


@dataclass(frozen=True)
class Pass:
    """What a pass did: log rows consumed are `taken` or more, `readings` were read, `quarters` written anew."""

    quarters: int
    readings: int
    more: bool


NOTHING = Pass(0, 0, False)


def prepare(conn: Connection[Any]) -> None:
    """Make the session's own tables; once for a connection."""
    conn.execute(QUERIES["rollup_tables"])


def roll_up(conn: Connection[Any], *, limit: int = 200_000) -> Pass:
    """One pass over at most `limit` rows of the dirty log, in a transaction of its own.

    NOTHING when the log is empty or another session holds the pass.
    """
    with conn.transaction(), conn.cursor() as cur:
        held = cur.execute(QUERIES["lock_rollup"]).fetchone()
        if held is None or not held[0]:
            return NOTHING
        cur.execute(QUERIES["prefer_index"])
        quarters = cur.execute(QUERIES["take_dirty"], {"limit": limit}).rowcount
        if quarters == 0:
            return NOTHING
        cur.execute(QUERIES["touch_successors"])
        cur.execute(QUERIES["analyze_touched"])
        n, doomed = _roll_raw(conn, cur)
        for name in ("touch_hours", "touch_days", "touch_months"):
            cur.execute(QUERIES[name])
        for coarse, periods, fine, by_quarter in _COARSER:
            for name in ("coarsen", "forget_periods") if doomed else ("coarsen",):
                cur.execute(_named(name, coarse=coarse, periods=periods, fine=fine), {"by_quarter": by_quarter})
        cur.execute(QUERIES["tell_accounting"])
        cur.execute(QUERIES["notify_rollup"])
        more = cur.execute(QUERIES["more_dirty"]).fetchone()
    return Pass(quarters, n, bool(more and more[0]))


def roll_up_all(conn: Connection[Any], told: Callable[[Pass], None] = lambda _: None) -> int:
    """Passes until the log is empty; the number of readings that were rolled up."""
    total = 0
    while True:
        done = roll_up(conn)
        told(done)
        total += done.readings
        if not done.more:
            return total


def drain(conn: Connection[Any]) -> None:
    """Return when what is in the log now is rolled up, by this session or another."""
    row = conn.execute(QUERIES["newest_dirty"]).fetchone()
    while row and row[0] is not None:
        if roll_up(conn).quarters == 0:
            time.sleep(0.1)
        left = conn.execute(QUERIES["dirty_up_to"], {"newest": row[0]}).fetchone()
        if not (left and left[0]):
            return


def _named(name: str, **tables: str) -> sql.Composed:
    return sql.SQL(QUERIES[name]).format(**{k: sql.Identifier(v) for k, v in tables.items()})  # type: ignore[arg-type]


def _roll_raw(conn: Connection[Any], cur: psycopg.Cursor[Any]) -> tuple[int, bool]:
    """Minutes and quarters of the touched set from raw; the number of readings, and whether buckets had to go."""
    ids, series, n = _fetch(conn)
    rollover = np.full(len(ids), np.nan)
    place = {key: i for i, key in enumerate(ids)}
    for base_id, point_id, top in cur.execute(QUERIES["touched_counters"]):
        if (base_id, point_id) in place:
            rollover[place[base_id, point_id]] = np.inf if np.isnan(top) else top
    increment = increments(series, rollover)
    quarters = condense(series, increment, QUARTER_US)
    minutes = dense_minutes(condense(series, increment, MINUTE_US), quarters)
    base_id = np.array([k[0] for k in ids], np.int16)
    point_id = np.array([k[1] for k in ids], np.int32)
    copy_into(cur, "rolled", quarters.columns(base_id, point_id))
    copy_into(cur, "rolled_minute", minutes.columns(base_id, point_id))
    doomed = cur.execute(QUERIES["find_doomed"]).rowcount > 0
    for name in (("forget_quarters", "forget_minutes") if doomed else ()) + ("write_quarters", "write_minutes"):
        cur.execute(QUERIES[name])
    return n, doomed


def dense_minutes(minutes: Buckets, quarters: Buckets) -> Buckets:
    """Minutes worth a row: those of quarters with more than one reading (see docs/decisions)."""
    starts = np.r_[True, (minutes.series[1:] != minutes.series[:-1]) |
                   (minutes.bucket_us[1:] // QUARTER_US != minutes.bucket_us[:-1] // QUARTER_US)]
    if len(minutes.series) == 0:
        return minutes
    return minutes.take(quarters.n[np.cumsum(starts) - 1] > 1)


def _fetch(conn: Connection[Any]) -> tuple[list[tuple[int, int]], Series, int]:
    """Readings of the touched quarters with, for counters, the reading before each run of quarters as context."""
    ids: dict[tuple[int, int], int] = {}
    parts: list[tuple[NDArray[Any], ...]] = []
    n = 0
    with conn.cursor(binary=True) as cur:
        for name, context in (("touched_raw", False), ("touched_before", True)):
            cur.execute(QUERIES[name])
            result = cur.pgresult
            for i in range(result.ntuples if result else 0):
                assert result is not None
                cells = [result.get_value(i, k) or b"" for k in range(result.nfields)]
                key = int.from_bytes(cells[0], "big", signed=True), int.from_bytes(cells[1], "big", signed=True)
                ts = array_of(cells[2], "timestamptz")
                quality = np.zeros(len(ts), np.int16) if context else array_of(cells[4], "int2")
                n += 0 if context else len(ts)
                parts.append((np.full(len(ts), ids.setdefault(key, len(ids))), ts, array_of(cells[3], "float8"), quality,
                              np.full(len(ts), context)))
    empty = (np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0), np.empty(0, np.int16), np.empty(0, np.bool_))
    columns: list[NDArray[Any]] = [np.concatenate(c) for c in zip(*parts, strict=True)] if parts else list(empty)
    order = np.lexsort((columns[4], columns[1], columns[0]))
    return list(ids), Series(*(c[order] for c in columns)), n

