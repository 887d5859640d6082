"""A lot of history at once: blocks of readings into indexed, rolled-up weeks, several at a time, resumable.

Used by `park demo --days N` and `park import`. A week is one transaction. Where its partition does not exist yet, the
partition is filled before it has a key and attached after (no index upkeep, and at `wal_level = minimal` no log
either); where it exists but the points have nothing in it, rows are added; where they have, readings are merged as if
they had come through the broker. Minutes, quarters, hours and the base-local days within the week are computed here;
months, the days and the increments at the week's borders by the rollup pass, for which every week marks each point's
first and last quarter.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from threading import local
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg import Connection, Cursor, sql

from ingest.condense import (
    HOUR_US,
    MINUTE_US,
    MONDAY_US,
    QUARTER_US,
    WEEK_US,
    Series,
    condense,
    condense_by,
    increments,
)
from ingest.directory import QUERIES, UNKNOWN, Directory, closed_weeks, load_directory
from ingest.packing import CONFLICTS, Column, copy_into
from ingest.rollup import drain, prepare, split_minutes
from ingest.store import Store, reading_columns
from ingest.validation import Readings
from park.catalogue_store import base_id_of
from park.clock import local_midnight
from park.database import connect
from park.engine import PLAIN, engine_of
from park.errors import InputError
from park.quality import LAST_USABLE, Quality
from park.settings import load_settings

WORKERS = 2
NO_READING = -1
DAY_US = 24 * HOUR_US
Block = tuple[Sequence[str], NDArray[np.int64], NDArray[np.float64], NDArray[np.int16]]
Progress = Callable[[int], None]


@dataclass(frozen=True)
class Week:
    """Readings of one base in one ISO week, ordered by point and time; `series` numbers their points from 0.

    `rollover` by series as for `increments`; `midnights_us` are the base's local midnights in and around the week;
    `repeated`: some instants stand twice, in order of arrival.
    """

    number: int
    readings: Readings
    series: NDArray[np.int64]
    rollover: NDArray[np.float64]
    midnights_us: NDArray[np.int64]
    repeated: bool = False

    @property
    def start(self) -> datetime:
        """Monday 00:00 UTC."""
        return datetime.fromtimestamp((self.number * WEEK_US + MONDAY_US) / 1e6, UTC)

    @property
    def partition(self) -> str:
        """What the week's partitions are called after their table's name."""
        year, week, _ = self.start.isocalendar()
        return f"_w{year}{week:02d}"

    def digest(self) -> int:
        """A number of 63 bits that names this content for ever: the week's `seq` in the ledger."""
        digest = hashlib.blake2b(digest_size=8)
        r = self.readings
        for column in (r.base_id[:1], r.point_id, r.ts_us, r.value, r.quality):
            digest.update(np.ascontiguousarray(column).tobytes())
        return int.from_bytes(digest.digest(), "big") >> 1


@dataclass(frozen=True)
class Target:
    """What loading into a base needs to know of it. `rollover` of its counters by point, infinite for none;
    `closed` numbers the weeks that take no more readings.
    """

    base_id: int
    timezone: str
    directory: Directory
    rollover: dict[int, float]
    closed: NDArray[np.int64]


def load_target(conn: Connection[Any], base_code: str) -> Target:
    """The base as the catalogue is now; NotFound when there is none of that code."""
    base_id = base_id_of(conn, base_code)
    row = conn.execute(QUERIES["timezone"], {"base_id": base_id}).fetchone()
    assert row is not None
    return Target(base_id, row[0], load_directory(conn),
                  dict(conn.execute(QUERIES["rollovers"], {"base_id": base_id}).fetchall()), closed_weeks(conn))


def load_blocks(url: str, base_code: str, blocks: Iterable[Block], progress: Progress = lambda _: None, *,
                source: str = "bulk") -> int:
    """Store the blocks (codes (P,), ts_ms (T,), value (P, T), quality (P, T) with -1 for no reading) and roll them up.

    Blocks of one week that follow each other are stored together; weeks may come in any order. Loading the same
    content again changes nothing. `progress` is told how many readings were done. Returns the readings that were new
    to the ledger. NotFound for an unknown base, InputError for unknown points.
    """
    with connect(url, autocommit=True, name="park bulk") as conn:
        target = load_target(conn, base_code)
    loaded = load_weeks(url, _weeks(blocks, target), progress, source=source)
    finish(url)
    return loaded


def finish(url: str) -> None:
    """Wait until what was loaded is rolled up, helping with it."""
    with connect(url, autocommit=True, name="park bulk") as conn:
        prepare(conn)
        drain(conn)


def load_weeks(url: str, weeks: Iterable[Week], progress: Progress, *, source: str) -> int:
    """Store weeks over a few connections, a few ahead of their maker; the readings that were new to the ledger."""
    own = local()
    opened: list[Loader] = []

    def load(week: Week) -> tuple[int, int]:
        if not hasattr(own, "loader"):
            conn = connect(url, autocommit=True, name="park bulk")
            conn.execute(QUERIES["loader_session"])
            own.loader = Loader(conn, source)
            opened.append(own.loader)
        loader: Loader = own.loader
        return loader.load(week), len(week.readings)

    total = 0
    try:
        with ThreadPoolExecutor(WORKERS, "bulk") as pool:
            for new, n in _ahead(pool, load, weeks):
                total += new
                progress(n)
    finally:
        for loader in opened:
            loader.conn.close()
    return total


def _ahead(pool: ThreadPoolExecutor, load: Callable[[Week], tuple[int, int]],
           weeks: Iterable[Week]) -> Iterator[tuple[int, int]]:
    waiting: list[Future[tuple[int, int]]] = []
    under_way: list[int] = []  # parts of one week go one after the other: the later one wins
    try:
        for week in weeks:
            while week.number in under_way[-len(waiting):] and waiting:
                yield waiting.pop(0).result()
            waiting.append(pool.submit(load, week))
            under_way = [*under_way, week.number][-len(waiting):]
            if len(waiting) > WORKERS + 1:
                yield waiting.pop(0).result()
        while waiting:
            yield waiting.pop(0).result()
    finally:
        for future in waiting:
            future.cancel()


class Loader:
    """Writes weeks over one connection in autocommit."""

    def __init__(self, conn: Connection[Any], source: str) -> None:
        settings = load_settings()
        self.conn = conn
        self.source = source
        self.partitioned = engine_of(conn) == PLAIN   # elsewhere the engine makes the parts of a table
        self.store = Store(conn, future_after_s=settings.future_after_s, late_after_s=settings.late_after_s)

    def load(self, week: Week) -> int:
        """Store a week by the fastest way that is right; the number of readings, 0 when it was there already."""
        for way in (self._merge,) if week.repeated else (self._build, self._add, self._merge):
            try:
                with self.conn.transaction(), self.conn.cursor() as cur:
                    if not self._book(cur, week):
                        return 0
                    if way(cur, week):
                        return len(week.readings)
                    raise psycopg.Rollback
            except (*CONFLICTS, psycopg.errors.DuplicateTable, psycopg.errors.InsufficientPrivilege,
                    psycopg.errors.CheckViolation, psycopg.errors.DeadlockDetected):
                if way == self._merge:
                    raise
        raise AssertionError("merging always applies")

    def _book(self, cur: Cursor[Any], week: Week) -> bool:
        ledger = {"base_ids": [int(week.readings.base_id[0])], "sources": [f"import:{self.source}"], "seqs": [week.digest()],
                  "sizes": [len(week.readings)]}
        return bool(cur.execute(QUERIES["insert_ledger"], ledger).fetchall())

    def _build(self, cur: Cursor[Any], week: Week) -> bool:
        """A partition that does not exist yet: filled, keyed, attached."""
        if not self.partitioned or _exists(cur, "reading" + week.partition):
            return False
        filled = []
        for table, columns in self._tables(week):
            name = table + week.partition
            if table in ("reading_1h", "reading_1d"):
                copy_into(cur, table, columns)
            elif _exists(cur, name):
                return False
            else:
                cur.execute(_named("make_week", name=name, table=table))
                copy_into(cur, name, columns, freeze=True)
                cur.execute(_named("key_week", name=name, time="ts" if table == "reading" else "bucket"))
                filled.append((table, name))
        for table, name in filled:
            low, high = (sql.Literal(_at(week.number + k).isoformat()) for k in (0, 1))
            cur.execute(sql.SQL(QUERIES["attach_week"]).format(  # type: ignore[arg-type]
                table=sql.Identifier(table), name=sql.Identifier(name), low=low, high=high))
        self._mark(cur, week)
        return True

    def _add(self, cur: Cursor[Any], week: Week) -> bool:
        """Points that have nothing in this week yet. The pass is kept out: it could write a bucket half seen."""
        cur.execute(QUERIES["share_rollup"])
        cur.execute(QUERIES["ensure_week"], {"at": week.start})
        points = np.unique(week.readings.point_id).tolist()
        cur.execute(QUERIES["prefer_index"])
        there = cur.execute(QUERIES["any_in_week"], {"base_id": int(week.readings.base_id[0]), "points": points,
                                                     "low": week.start, "high": _at(week.number + 1)}).fetchone()
        if there is None or there[0]:
            return False
        for table, columns in self._tables(week):
            copy_into(cur, table, columns)
        self._mark(cur, week)
        return True

    def _merge(self, cur: Cursor[Any], week: Week) -> bool:
        """Whatever is there: as readings of the broker are merged."""
        counts = self.store.write_readings(cur, week.readings, [f"import:{self.source}"])
        self.store.add_counts(cur, counts)
        return True

    def _tables(self, week: Week) -> list[tuple[str, list[Column]]]:
        """Rows of each table that a week fills."""
        r = week.readings
        series = Series(week.series, r.ts_us, r.value, r.quality)
        starts = np.flatnonzero(np.r_[True, week.series[1:] != week.series[:-1]])
        ids = r.base_id[starts], r.point_id[starts]
        increment = increments(series, week.rollover)
        quarters = condense(series, increment, QUARTER_US)
        tables = [("reading", reading_columns(r))]
        if len(quarters.n) == len(r) and (r.ts_us % QUARTER_US < MINUTE_US).all():
            alone = np.ones(len(r), np.bool_)
        else:
            minutes, alone = split_minutes(condense(series, increment, MINUTE_US), quarters)
            tables.append(("reading_1m", minutes.columns(*ids)))
        tables.append(("reading_15m", [*quarters.columns(*ids), Column("alone", "bool", alone)]))
        tables.append(("reading_1h", condense(series, increment, HOUR_US).columns(*ids)))
        day = np.searchsorted(week.midnights_us, r.ts_us, side="right")
        days = condense_by(series, increment, week.midnights_us[day - 1])
        start_us = week.number * WEEK_US + MONDAY_US
        ends = week.midnights_us[np.searchsorted(week.midnights_us, days.bucket_us, side="right")]
        within = days.take((days.bucket_us >= start_us) & (ends <= start_us + WEEK_US))
        tables.append(("reading_1d", within.columns(*ids)))
        return tables

    def _mark(self, cur: Cursor[Any], week: Week) -> None:
        """Newest readings; first and last quarters for the rollup pass; hours for accounting; counts.

        Accounting takes the span between the first and the last hour that a UTC day was marked with, so two rows a
        point and day say the same as 24.
        """
        self.store.write_newest(cur, week.readings)
        r = week.readings
        day = r.ts_us // DAY_US
        changed = week.series[1:] != week.series[:-1]
        self._log(cur, "dirty", r, np.r_[True, changed] | np.r_[changed, True], QUARTER_US)
        new_day = changed | (day[1:] != day[:-1])
        self._log(cur, "dirty_account", r, np.r_[True, new_day] | np.r_[new_day, True], HOUR_US)
        self.store.count_stored(cur, r)

    def _log(self, cur: Cursor[Any], table: str, r: Readings, mask: NDArray[np.bool_], width_us: int) -> None:
        rows = np.flatnonzero(mask)
        copy_into(cur, table, [Column("base_id", "int2", r.base_id[rows]), Column("point_id", "int4", r.point_id[rows]),
                               Column("bucket", "timestamptz", r.ts_us[rows] // width_us * width_us)])


def _at(week: int) -> datetime:
    return datetime.fromtimestamp((week * WEEK_US + MONDAY_US) / 1e6, UTC)


def _exists(cur: Cursor[Any], table: str) -> bool:
    row = cur.execute(QUERIES["table_exists"], {"name": table}).fetchone()
    return bool(row and row[0])


def _named(query: str, /, **tables: str) -> sql.Composed:
    return sql.SQL(QUERIES[query]).format(**{k: sql.Identifier(v) for k, v in tables.items()})  # type: ignore[arg-type]


def _weeks(blocks: Iterable[Block], target: Target) -> Iterator[Week]:
    """Blocks that follow each other in one week, joined."""
    known = target.directory.rows_of(target.base_id)
    waiting: list[tuple[NDArray[Any], ...]] = []
    number: int | None = None
    for codes, ts_ms, value, quality in blocks:
        rows = np.array([known[code] for code in codes], np.int64)
        if (rows == UNKNOWN).any():
            missing = [c for c, r in zip(codes, rows, strict=True) if r == UNKNOWN]
            raise InputError(f"the catalogue has no point {', '.join(missing[:5])}" + (" ..." if len(missing) > 5 else ""))
        ts_us = np.asarray(ts_ms, np.int64) * 1000
        week = (ts_us - MONDAY_US) // WEEK_US
        for k in np.unique(week).tolist():
            if k in target.closed:
                raise InputError(f"the readings of the week of {_at(k):%Y-%m-%d} were dropped: it takes no more")
            if number is not None and k != number:
                yield from _week(number, waiting, target)
                waiting = []
            number, at = k, np.flatnonzero(week == k)
            waiting.append((np.repeat(rows, len(at)), np.tile(ts_us[at], len(rows)), value[:, at].ravel(),
                            quality[:, at].ravel()))
    if number is not None:
        yield from _week(number, waiting, target)


def _week(number: int, parts: list[tuple[NDArray[Any], ...]], target: Target) -> Iterator[Week]:
    row, ts_us, value, quality = (np.concatenate(c) for c in zip(*parts, strict=True))
    kept = np.flatnonzero(quality != NO_READING)
    if len(kept):
        yield week_of(number, row[kept], ts_us[kept], value[kept], quality[kept].astype(np.int16), target)


def week_of(number: int, row: NDArray[np.int64], ts_us: NDArray[np.int64], value: NDArray[np.float64],
            quality: NDArray[np.int16], target: Target) -> Week:
    """A week from unordered columns by row of the directory."""
    order = np.lexsort((ts_us, row))
    row, ts_us, value, quality = row[order], ts_us[order], value[order], quality[order]
    value, quality = settle_quality(value, quality, row, target.directory)
    readings = Readings(target.directory.base_id[row], target.directory.point_id[row], ts_us, value, quality,
                        np.zeros(len(row), np.int32))
    new = np.r_[False, row[1:] != row[:-1]]
    points = readings.point_id[np.flatnonzero(new | (np.arange(len(row)) == 0))]
    tops = np.array([target.rollover.get(int(p), np.nan) for p in points], np.float64)
    monday = _at(number).date()
    midnights = [int(local_midnight(monday + timedelta(days=k), target.timezone).timestamp()) * 1_000_000 for k in range(-1, 9)]
    repeated = bool(((row[1:] == row[:-1]) & (ts_us[1:] == ts_us[:-1])).any())
    return Week(number, readings, np.cumsum(new), tops, np.array(midnights, np.int64), repeated)


def settle_quality(value: NDArray[np.float64], quality: NDArray[np.int16], row: NDArray[np.int64],
                   directory: Directory) -> tuple[NDArray[np.float64], NDArray[np.int16]]:
    """Value and quality as ingest stores them: no value, no number and out of range are told by the quality."""
    value, quality = value.copy(), quality.copy()
    claimed = ~np.isfinite(value) & (quality <= LAST_USABLE)
    quality[claimed] = np.where(np.isnan(value[claimed]), Quality.MISSING, Quality.BAD)
    value[np.isinf(value)] = np.nan
    directory.mark_implausible(row, value, quality)
    return value, quality
