"""What compression of TimescaleDB does to readings: bytes, scans and late rows, before and after, in the same table."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg

from ingest.directory import load_directory
from ingest.rollup import roll_up_all
from ingest.store import Batch, Store
from ingest.validation import Message
from park.wire import Batch as Columns

Row = tuple[str, str, str]
MONDAY = datetime(2026, 1, 5, tzinfo=UTC)
SCANS = (("a year of one point", "SELECT sum(value) FROM reading WHERE base_id = 1 AND point_id = 7"),
         ("every reading", "SELECT count(*), sum(value) FROM reading"))


def measure(db: psycopg.Connection[Any]) -> list[Row]:
    """Rows of name, figure, what stands beside it."""
    n = _one(db, "SELECT count(*) FROM reading")
    before, minutes = _one(db, "SELECT hypertable_size('reading')"), _one(db, "SELECT hypertable_size('reading_1m')")
    plain = [_seconds(db, query) for _, query in SCANS]
    began = time.perf_counter()
    db.execute("SELECT count(compress_chunk(c)) FROM show_chunks('reading') c")
    took_s = time.perf_counter() - began
    db.execute("SELECT count(compress_chunk(c)) FROM show_chunks('reading_1m') c")
    db.execute("VACUUM ANALYZE reading")
    after, minutes_after = _one(db, "SELECT hypertable_size('reading')"), _one(db, "SELECT hypertable_size('reading_1m')")
    rows = [("compressed: a reading, with its key", f"{after / n:.1f} B, {before / after:.1f} times smaller",
             f"plain {before / n:.0f} B"),
            ("compressed: minutes", f"{minutes / minutes_after:.1f} times smaller", f"plain {minutes / 1e6:.0f} MB"),
            ("compressing, readings/s", f"{n / took_s:,.0f}", "a job of the server, week by week")]
    for (name, query), plain_s in zip(SCANS, plain, strict=True):
        rows.append((f"compressed: scan of {name}", f"{_seconds(db, query) * 1000:.0f} ms", f"plain {plain_s * 1000:.0f} ms"))
    return [*rows, _late(db)]


def _late(db: psycopg.Connection[Any]) -> Row:
    """One late point-day into a compressed week, stored and rolled up."""
    at = int((MONDAY - timedelta(days=150)).timestamp()) * 1000
    late = Columns(1, ["p9"] * 1440, [at + 60_000 * i + 1 for i in range(1440)], [1.0] * 1440, None)
    store = Store(db, future_after_s=600, late_after_s=900)
    began = time.perf_counter()
    store.write(Batch([Message(1, "late-compressed", "", time.time_ns() // 1000, late)]), load_directory(db))
    roll_up_all(db)
    took_s = time.perf_counter() - began
    return ("one late point-day into a compressed week, stored and repaired", f"{took_s:.2f} s", "goal 0.5 s")


def _seconds(db: psycopg.Connection[Any], query: str) -> float:
    """The second of two runs."""
    for _ in range(2):
        began = time.perf_counter()
        db.execute(query).fetchall()
    return time.perf_counter() - began


def _one(db: psycopg.Connection[Any], query: str) -> int:
    row = db.execute(query).fetchone()
    return int(row[0]) if row else 0
