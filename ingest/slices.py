"""The rollup pass where readings are distributed (Citus): over a slice of them in tables of its own session.

Between the dirty log and the distributed tables. Inside the pass's transaction temporary tables bear the names of readings
and rollups, so that every query of the pass means them. What the touched quarters need is pulled base by base (a query about
one base goes to the one worker that has it), and what the pass made of it is pushed back.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from park.database import queries

QUERIES = queries(Path(__file__).with_name("slices.sql"))
_PERIODS = {"reading_1h": "touched_hour", "reading_1d": "touched_day", "reading_1mo": "touched_month"}
Cursor = psycopg.Cursor[Any]


def is_distributed(cur: Cursor) -> bool:
    """Whether the readings of this database lie on several workers."""
    row = cur.execute(QUERIES["is_distributed"]).fetchone()
    return bool(row and row[0])


def pull_next(cur: Cursor) -> None:
    """Make the tables of the slice, with the reading after each touched quarter: its own quarter may be touched by it."""
    cur.execute(QUERIES["slice_tables"])
    _pull(cur, "slice_next")


def pull(cur: Cursor) -> None:
    """Readings and rollups of every quarter in `touched`, and of the hours, days and months that it lies in."""
    _pull(cur, "slice_readings", "slice_before", "slice_minutes", "slice_last")
    for grain, base_id, points, lows, highs in cur.execute(QUERIES["slice_spans"]).fetchall():
        cur.execute(_named("slice_rollup", table=grain), {"base_id": base_id, "points": points, "lows": lows, "highs": highs})


def push(cur: Cursor, *, doomed: bool) -> None:
    """Write the touched buckets back; with `doomed`, delete those that are gone."""
    cur.execute(QUERIES["push_minutes"])
    cur.execute(QUERIES["push_quarters"])
    for table, touched in _PERIODS.items():
        cur.execute(_named("push_periods", table=table, touched=touched))
    if not doomed:
        return
    _drop(cur, "reading_1m", cur.execute(QUERIES["gone_minutes"]).fetchall())
    for table, touched in {"reading_15m": "touched", **_PERIODS}.items():
        _drop(cur, table, cur.execute(_named("gone_buckets", table=table, touched=touched)).fetchall())


def _pull(cur: Cursor, *names: str) -> None:
    for base_id, points, lows, highs in cur.execute(QUERIES["slice_windows"]).fetchall():
        for name in names:
            cur.execute(QUERIES[name], {"base_id": base_id, "points": points, "lows": lows, "highs": highs})


def _drop(cur: Cursor, table: str, gone: list[tuple[Any, ...]]) -> None:
    for base_id, points, buckets in gone:
        cur.execute(_named("drop_buckets", table=table), {"base_id": base_id, "points": points, "buckets": buckets})


def _named(name: str, **tables: str) -> sql.Composed:
    return sql.SQL(QUERIES[name]).format(**{k: sql.Identifier(v) for k, v in tables.items()})  # type: ignore[arg-type]
