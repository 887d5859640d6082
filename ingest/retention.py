"""Weeks of raw readings whose time is over: closed, archived where that is asked for, dropped; and taken back.

Part of ingest's hourly upkeep (`upkeep.py`), and `park retention`. Only raw readings go: rollups and every figure stay. A
week goes when its last instant is older than PARK_KEEP_READINGS_DAYS and nothing waits for its readings any more. How an
engine keeps a week is known to the functions of migration 017 alone.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from psycopg import Connection

from ingest.directory import QUERIES
from ingest.exporting import export_readings
from ingest.packing import Column, copy_into, null_nan
from park.catalogue_store import base_id_of
from park.errors import Conflict, InputError, NotFound
from park.quality import WORDS

log = logging.getLogger("ingest.retention")
LEAST_DAYS = 35     # the longest a late reading is commonly waited for, a month, and what is under way
REOPENED = timedelta(days=30)
STEP = timedelta(days=LEAST_DAYS)   # upkeep runs every hour: further apart, the clock may have jumped
TRIES = 10


@dataclass(frozen=True)
class Week:
    """A week of raw readings: `open`, `closed` (takes nothing more) or `dropped`; its size where it still has one."""

    monday: datetime
    state: str
    bytes: int
    archive: str
    reopened_at: datetime | None = None

    @property
    def name(self) -> str:
        """The ISO week, such as 2026-W40."""
        year, week, _ = self.monday.isocalendar()
        return f"{year}-W{week:02d}"


def parse_week(text: str) -> datetime:
    """Monday 00:00 UTC of an ISO week such as 2026-W40; InputError for anything else."""
    try:
        return datetime.strptime(f"{text}-1", "%G-W%V-%u").replace(tzinfo=UTC)
    except ValueError as exc:
        raise InputError(f"expected an ISO week such as 2026-W40, got {text!r}") from exc


def weeks(conn: Connection[Any]) -> list[Week]:
    """Every week that has raw readings or had them until retention took them, oldest first."""
    return [Week(*row) for row in conn.execute(QUERIES["weeks"])]


def is_due(week: Week, keep_days: int, now: datetime) -> bool:
    """Whether the readings of a week should go: over its time, and not taken back a short while ago."""
    return (week.state != "dropped" and week.monday + timedelta(days=7 + keep_days) <= now
            and (week.reopened_at is None or week.reopened_at + REOPENED <= now))


def clock_is_steady(conn: Connection[Any], now: datetime) -> bool:
    """Whether weeks may be dropped by this clock: a machine that wakes up in 2040 would find every week over its time. More
    than STEP after the last round it waits until somebody has looked and says `park retention run`."""
    row = conn.execute(QUERIES["upkeep_before"]).fetchone()
    last: datetime | None = row[0] if row else None
    if last is not None and now - last > STEP:
        log.error("retention waits: the last upkeep was %d days ago, or the clock is ahead; when it is right, say "
                  "`park retention run`", (now - last).days)
        return False
    conn.execute(QUERIES["note_upkeep"], {"now": now})
    return True


def retire(conn: Connection[Any], url: str, *, keep_days: int, archive: Path | None, now: datetime,
           pause: Callable[[float], object] = time.sleep) -> list[tuple[Week, str]]:
    """Retire every week that is due, oldest first; what became of each: `dropped`, or why it still waits.

    `conn` in autocommit. InputError when `keep_days` is shorter than LEAST_DAYS.
    """
    if keep_days < LEAST_DAYS:
        raise InputError(f"raw readings are kept for at least {LEAST_DAYS} days, got {keep_days}: late readings and figures "
                         "under way need them (0 in PARK_KEEP_READINGS_DAYS keeps them for ever)")
    done = []
    for week in weeks(conn):
        if is_due(week, keep_days, now):
            said = _retire(conn, url, week, archive, pause)
            log.info("week %s of raw readings: %s", week.name, said)
            done.append((week, said))
            if said == "busy":
                break
    return done


def _retire(conn: Connection[Any], url: str, week: Week, archive: Path | None, pause: Callable[[float], object]) -> str:
    said = _ask(conn, "close_week", week.monday, pause)
    if said != "closed":
        return said
    if archive is not None:
        n = archive_week(conn, url, week, archive)
        conn.execute(QUERIES["note_archive"], {"monday": week.monday, "archive": str(archive), "n": n})
    return _ask(conn, "drop_week", week.monday, pause)


def _ask(conn: Connection[Any], query: str, monday: datetime, pause: Callable[[float], object]) -> str:
    """The function's answer; a rollup pass or a long query that is in the way is waited for a little."""
    said = "busy"
    for k in range(TRIES):
        if k:
            pause(0.5)
        row = conn.execute(QUERIES[query], {"monday": monday}).fetchone()
        said = str(row[0]) if row else "busy"
        if said != "busy":
            break
    return said


def archive_week(conn: Connection[Any], url: str, week: Week, folder: Path) -> int:
    """The week's readings as BASE_2026-W40.parquet, a file a base, in the form `park import` reads; how many.

    A file stands under its name only when it is complete and on the disk.
    """
    folder.mkdir(parents=True, exist_ok=True)
    total = 0
    for (code,) in conn.execute(QUERIES["base_codes"]).fetchall():
        path = folder / f"{code}_{week.name}.parquet"
        part = path.with_name(path.name + ".part")
        n = export_readings(url, code, [], week.monday, week.monday + timedelta(days=7), part, "parquet")
        if n == 0:
            part.unlink()
            continue
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.rename(path)
        total += n
    stored = conn.execute(QUERIES["count_week"], {"low": week.monday, "high": week.monday + timedelta(days=7)}).fetchone()
    if stored is None or stored[0] != total:
        raise Conflict(f"{total} readings of {week.name} were written to {folder}, but the table has {stored and stored[0]}: "
                       "nothing is dropped")
    return total


def reopen(conn: Connection[Any], monday: datetime, files: dict[str, Path]) -> int:
    """Let a closed or dropped week take readings again, filled from its archive (base code: file); how many came back.

    Its rollups are computed again from them. Conflict when the week was not closed, or its readings are gone and a base
    that has rollups in it has no file.
    """
    week = next((w for w in weeks(conn) if w.monday == monday), None)
    if week is None or week.state == "open":
        raise Conflict("the week is not closed: it takes readings as it is")
    with conn.transaction(), conn.cursor() as cur:
        row = cur.execute(QUERIES["reopen_week"], {"monday": monday}).fetchone()
        if row and row[0]:
            return 0
        span = {"low": monday, "high": monday + timedelta(days=7)}
        rolled = {code for (code,) in cur.execute(QUERIES["bases_in_week"], span).fetchall()}
        if missing := sorted(rolled - files.keys()):
            raise Conflict(f"the readings of {week.name} are gone and there is no file for the base {', '.join(missing)}: "
                           "its rollups would be lost")
        total = 0
        for code, path in files.items():
            base_id = base_id_of(conn, code)
            total += sum(_copy_back(cur, base_id, batch, monday) for batch in _batches(path))
            cur.execute(QUERIES["mark_all_dirty"], {"base_id": base_id, **span})
    return total


def _batches(path: Path) -> Any:
    try:
        return pq.ParquetFile(path).iter_batches(500_000, columns=["point", "at", "value", "quality"])
    except (OSError, pa.ArrowInvalid) as exc:
        raise InputError(f"{path}: not an archive of readings: {exc}") from exc


def _copy_back(cur: Any, base_id: int, batch: Any, monday: datetime) -> int:
    ids = dict(cur.execute(QUERIES["point_ids"], {"base_id": base_id}).fetchall())
    point, quality = (pc.dictionary_encode(batch.column(c)) for c in ("point", "quality"))
    if unknown := [c for c in point.dictionary.to_pylist() if c not in ids]:
        raise NotFound(f"the catalogue has no point {', '.join(unknown[:5])}")
    ts_us = np.asarray(pc.cast(batch.column("at"), pa.int64()))
    low_us = int(monday.timestamp()) * 1_000_000
    if len(ts_us) and not (low_us <= ts_us.min() and ts_us.max() < low_us + 7 * 86_400 * 1_000_000):
        raise InputError("the file holds readings of another week")
    value = np.asarray(pc.fill_null(batch.column("value"), np.nan))
    point_id, code = (np.array([table[w] for w in words.dictionary.to_pylist()] or [0], kind)[words.indices.to_numpy()]
                      for words, table, kind in ((point, ids, np.int32), (quality, WORDS, np.int16)))
    return copy_into(cur, "reading", [
        Column("ts", "timestamptz", ts_us), null_nan("value", value), Column("point_id", "int4", point_id),
        Column("base_id", "int2", np.full(len(ts_us), base_id, np.int16)), Column("quality", "int2", code)])
