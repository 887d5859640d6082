"""The rollup pass: touched quarters of an hour from raw, then hours, days and months from the next finer grain.

Runs beside the writers every two seconds. One transaction consumes the dirty log, recomputes what it names, hands
the touched hours to accounting (`dirty_account`) and tells `park_rollup`; a pass that dies leaves its log as it was.
Recomputing whole quarters makes the pass blind to order, repetition and lateness: the result is what a full
recompute would give. The points are in two parts by their number: two sessions can share the work.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg import Connection, sql

from ingest import slices
from ingest.condense import MINUTE_US, QUARTER_US, Buckets, Series, condense, increments
from ingest.directory import QUERIES
from ingest.packing import Column, array_of, copy_into

# where each grain is read
GRAINS = {"1m": "reading_by_minute", "15m": "reading_15m", "1h": "reading_1h", "1d": "reading_1d", "1mo": "reading_1mo"}
_COARSER = (("reading_1h", "touched_hour", "reading_15m", False), ("reading_1d", "touched_day", "reading_1h", False),
            ("reading_1d", "touched_day", "reading_15m", True), ("reading_1mo", "touched_month", "reading_1d", False))


PARTS = (0, 1)


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


def roll_up(conn: Connection[Any], *, limit: int = 200_000, parts: Sequence[int] = PARTS) -> Pass:
    """One pass over at most `limit` rows of the dirty log, in a transaction of its own; `parts` of the points.

    NOTHING when the log is empty or another session holds the pass.
    """
    of_points = {"parts": list(parts)}
    with conn.transaction(), conn.cursor() as cur:
        held = cur.execute(QUERIES["lock_rollup"], of_points).fetchone()
        if held is None or not held[0]:
            return NOTHING
        cur.execute(QUERIES["prefer_index"])
        quarters = cur.execute(QUERIES["take_dirty"], {"limit": limit, **of_points}).rowcount
        if quarters == 0:
            return NOTHING
        cur.execute(QUERIES["spare_closed"])
        cur.execute(QUERIES["join_runs"])
        distributed = slices.is_distributed(cur)
        if distributed:
            slices.pull_next(cur)
        if cur.execute(QUERIES["touch_successors"]).rowcount:
            cur.execute(QUERIES["join_runs"])
        cur.execute(QUERIES["analyze_touched"])
        if distributed:
            slices.pull(cur)
        n, doomed = _roll_raw(conn, cur)
        for name in ("touch_hours", "touch_days", "touch_months"):
            cur.execute(QUERIES[name])
        for coarse, periods, fine, by_quarter in _COARSER:
            for name in ("coarsen", "forget_periods") if doomed else ("coarsen",):
                cur.execute(_named(name, coarse=coarse, periods=periods, fine=fine), {"by_quarter": by_quarter})
        if distributed:
            slices.push(cur, doomed=doomed)
        cur.execute(QUERIES["tell_accounting"])
        cur.execute(QUERIES["notify_rollup"])
        more = cur.execute(QUERIES["more_dirty"], of_points).fetchone()
    return Pass(quarters, n, bool(more and more[0]))


def roll_up_all(conn: Connection[Any], told: Callable[[Pass], None] = lambda _: None, *, parts: Sequence[int] = PARTS) -> int:
    """Passes until the log is empty; the number of readings that were rolled up."""
    total = 0
    while True:
        done = roll_up(conn, parts=parts)
        told(done)
        total += done.readings
        if not done.more:
            return total


def drain(conn: Connection[Any]) -> None:
    """Return when what is in the log now is rolled up, by this session or another."""
    row = conn.execute(QUERIES["newest_dirty"]).fetchone()
    while row and row[0] is not None:
        if sum(roll_up(conn, parts=(part,)).quarters for part in PARTS) == 0:
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
    minutes, alone = split_minutes(condense(series, increment, MINUTE_US), quarters)
    where = np.array([k[0] for k in ids], np.int16), np.array([k[1] for k in ids], np.int32)
    stored, doomed = _stored(conn, ids), False
    fresh = [(table, buckets, ~np.isin(_keys(buckets.series, buckets.bucket_us), stored), marks) for table, buckets, marks in
             (("reading_15m", quarters, [("alone", alone)]), ("reading_1m", minutes, []))]
    if len(stored):
        for (_, buckets, new, marks), stage in zip(fresh, ("rolled", "rolled_minute"), strict=True):
            _copy(cur, stage, buckets, ~new, marks, where)
        doomed = cur.execute(QUERIES["find_doomed"]).rowcount > 0
        for name in (("forget_quarters", "forget_minutes") if doomed else ()) + ("write_quarters", "write_minutes"):
            cur.execute(QUERIES[name])
    for table, buckets, new, marks in fresh:  # no other session writes buckets that have no row: plain COPY is enough
        _copy(cur, table, buckets, new, marks, where)
    return n, doomed


def _copy(cur: psycopg.Cursor[Any], table: str, buckets: Buckets, rows: NDArray[np.bool_],
          marks: list[tuple[str, NDArray[np.bool_]]], where: tuple[NDArray[np.int16], NDArray[np.int32]]) -> None:
    columns = (buckets if rows.all() else buckets.take(rows)).columns(*where)
    copy_into(cur, table, columns + [Column(name, "bool", mark[rows]) for name, mark in marks])


def split_minutes(minutes: Buckets, quarters: Buckets) -> tuple[Buckets, NDArray[np.bool_]]:
    """Minutes worth a row, and which quarters say the same as their only minute (see docs/decisions/020)."""
    if len(minutes.series) == 0:
        return minutes, np.zeros(0, np.bool_)
    starts = np.r_[True, (minutes.series[1:] != minutes.series[:-1]) |
                   (minutes.bucket_us[1:] // QUARTER_US != minutes.bucket_us[:-1] // QUARTER_US)]
    alone = (quarters.n == 1) & (minutes.bucket_us[starts] == quarters.bucket_us)
    return minutes.take(~alone[np.cumsum(starts) - 1]), alone


def _keys(series: NDArray[np.int64], ts_us: NDArray[np.int64]) -> NDArray[np.int64]:
    """A number for each quarter of each series; years 1970 to 2089 in 22 bits."""
    return (series << 22) + ts_us // QUARTER_US


def _stored(conn: Connection[Any], ids: list[tuple[int, int]]) -> NDArray[np.int64]:
    """Keys of the touched quarters that have a row; -1 stands for one whose readings are all gone."""
    place = {key: i for i, key in enumerate(ids)}
    with conn.cursor(binary=True) as cur:
        cur.execute(QUERIES["touched_stored"])
        found = [_keys(np.full(1, place.get(key, -1)), ts) for key, (ts,) in _points(cur, ("timestamptz",))]
    return np.concatenate(found) if found else np.empty(0, np.int64)


def _points(cur: psycopg.Cursor[Any], kinds: Sequence[str]) -> Iterator[tuple[tuple[int, int], list[NDArray[Any]]]]:
    """Rows of a binary result (base_id, point_id, arrays ...): the key, and the arrays of these types."""
    result = cur.pgresult
    for i in range(result.ntuples if result else 0):
        assert result is not None
        base_id, point_id, *arrays = (result.get_value(i, k) or b"" for k in range(result.nfields))
        key = int.from_bytes(base_id, "big", signed=True), int.from_bytes(point_id, "big", signed=True)
        yield key, [array_of(raw, kind) for raw, kind in zip(arrays, kinds, strict=True)]


def _fetch(conn: Connection[Any]) -> tuple[list[tuple[int, int]], Series, int]:
    """Readings of the touched quarters with, for counters, the reading before each run of quarters as context."""
    ids: dict[tuple[int, int], int] = {}
    parts: list[tuple[NDArray[Any], ...]] = []
    n = 0
    with conn.cursor(binary=True) as cur:
        for name, kinds in (("touched_raw", ("timestamptz", "float8", "int2")), ("touched_before", ("timestamptz", "float8")),
                            ("touched_closed", ("timestamptz", "float8"))):
            cur.execute(QUERIES[name])
            context = name != "touched_raw"
            for key, (ts, value, *quality) in _points(cur, kinds):
                n += 0 if context else len(ts)
                parts.append((np.full(len(ts), ids.setdefault(key, len(ids))), ts, value,
                              quality[0] if quality else np.zeros(len(ts), np.int16), np.full(len(ts), context)))
    empty = (np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0), np.empty(0, np.int16), np.empty(0, np.bool_))
    columns: list[NDArray[Any]] = [np.concatenate(c) for c in zip(*parts, strict=True)] if parts else list(empty)
    order = np.lexsort((columns[4], columns[1], columns[0]))
    return list(ids), Series(*(c[order] for c in columns)), n
