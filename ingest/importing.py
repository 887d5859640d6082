"""`park import`: a CSV or Parquet file of readings (point, at, value[, quality]) into the database by whole weeks.

Columns are read and judged in large pieces by Arrow; only a piece that holds a mistake is looked at row by row. Rows
that cannot be stored are written aside with their line and the reason; the others are stored. A file that is imported
again, whole or after an interruption, passes over what is there already.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ingest.bulk import Target, Week, finish, load_target, load_weeks, week_of
from ingest.condense import MONDAY_US, WEEK_US
from ingest.directory import UNKNOWN
from ingest.spreadsheet import encoding_of, heads_of, local_instant, ungrouped
from ingest.validation import EARLIEST_US
from park.clock import Clock, parse_instant, utc_now
from park.database import connect
from park.errors import InputError
from park.quality import WORDS
from park.settings import load_settings

COLUMNS = ("point", "at", "value", "quality")
PIECE_ROWS = 2_000_000
_BLOCK_BYTES = 4 * 1024 * 1024
_INSTANT = pa.timestamp("us", tz="UTC")


@dataclass
class Outcome:
    """What became of a file: rows read, readings new to the database, rows written aside."""

    rows: int = 0
    stored: int = 0
    rejected: int = 0
    aside: Path | None = None


@dataclass(frozen=True)
class Piece:
    """Rows of the file as Arrow columns, with the line each stands on (Parquet: the row, from 1)."""

    columns: dict[str, Any]
    lines: NDArray[np.int64]
    bad_lines: list[tuple[int, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Sound:
    """Rows (N,) that may be stored, by row of the directory."""

    row: NDArray[np.int64]
    ts_us: NDArray[np.int64]
    value: NDArray[np.float64]
    quality: NDArray[np.int16]

    def take(self, rows: NDArray[np.bool_]) -> Sound:
        """The rows of a mask."""
        return Sound(self.row[rows], self.ts_us[rows], self.value[rows], self.quality[rows])


def import_file(url: str, base_code: str, path: Path, told: Callable[[int], None], *, dry_run: bool = False,
                local_time: bool = False, clock: Clock = utc_now) -> Outcome:
    """Import a file; `told` hears of rows read; with `local_time` times without offset are the base's own. InputError when
    the file cannot be read or lacks a column."""
    with connect(url, autocommit=True, name="park import") as conn:
        target = load_target(conn, base_code)
    outcome = Outcome()
    latest_us = int((clock().timestamp() + load_settings().future_after_s) * 1e6)
    with _Aside(path, outcome) as aside:
        sound = _judged(read_pieces(path), target, latest_us, ZoneInfo(target.timezone) if local_time else None, aside, outcome,
                        told)
        if dry_run:
            for _ in sound:
                pass
            return outcome
        outcome.stored = load_weeks(url, _weeks(sound, target), lambda _: None, source=path.name)
    finish(url)
    return outcome


def read_pieces(path: Path) -> Iterator[Piece]:
    """The file in pieces; by its suffix .parquet or else CSV with a header."""
    try:
        yield from _read_parquet(path) if path.suffix == ".parquet" else _read_csv(path)
    except (pa.ArrowInvalid, OSError) as exc:
        raise InputError(f"{path}: cannot be read: {exc}") from exc


def _read_csv(path: Path) -> Iterator[Piece]:
    bad: list[tuple[int, str]] = []

    def note(row: Any) -> str:
        bad.append((row.number, f"expected {row.expected_columns} columns, got {row.actual_columns}: {row.text[:200]}"))
        return "skip"

    encoding = encoding_of(path)
    with path.open("rb") as file:
        header = file.readline().decode("utf-8-sig" if encoding == "utf-8" else encoding, "replace").strip()
    names = heads_of(header)
    _check_columns(path, names)
    reader = pacsv.open_csv(
        path, read_options=pacsv.ReadOptions(block_size=_BLOCK_BYTES, use_threads=False, skip_rows=1, column_names=names,
                                            encoding=encoding),
        parse_options=pacsv.ParseOptions(invalid_row_handler=note, ignore_empty_lines=False),
        convert_options=pacsv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), include_columns=_wanted(names),
                                             strings_can_be_null=False))
    line = 2
    for batch in reader:
        found, bad[:] = list(bad), []
        candidates = np.arange(line, line + len(batch) + len(found))
        skipped = np.array([n for n, _ in found], np.int64)
        lines = candidates[~np.isin(candidates, skipped)][:len(batch)]
        line = int(candidates[-1]) + 1 if len(candidates) else line
        yield Piece({n: batch.column(n) for n in batch.schema.names}, lines, found)
    if bad:
        yield Piece({n: pa.array([], pa.string()) for n in _wanted(names)}, np.empty(0, np.int64), bad)


def _read_parquet(path: Path) -> Iterator[Piece]:
    file = pq.ParquetFile(path)
    names = file.schema_arrow.names
    _check_columns(path, names)
    row = 1
    for batch in file.iter_batches(500_000, columns=_wanted(names)):
        yield Piece({n: batch.column(n) for n in batch.schema.names}, np.arange(row, row + len(batch)))
        row += len(batch)


def _check_columns(path: Path, names: list[str]) -> None:
    missing = [c for c in COLUMNS[:3] if c not in names]
    if missing:
        raise InputError(f"{path}: expected the columns point, at, value and perhaps quality; "
                         f"{', '.join(missing)} not among {', '.join(names)}")


def _wanted(names: list[str]) -> list[str]:
    return [c for c in COLUMNS if c in names]


def _judged(pieces: Iterator[Piece], target: Target, latest_us: int, zone: ZoneInfo | None, aside: _Aside, outcome: Outcome,
            told: Callable[[int], None]) -> Iterator[Sound]:
    known = target.directory.rows_of(target.base_id)
    expected = "2026-11-23T03:00:00Z or epoch milliseconds" + (
        "; times of the base without an offset need --local-time" if zone is None else ", or 2026/11/23 11:00 of the base")
    for piece in pieces:
        for line, reason in piece.bad_lines:
            aside.write(line, reason)
        columns = piece.columns
        row = _by_word(columns["point"], known, UNKNOWN)
        ts_us = _instants(columns["at"], zone)
        value, number = _values(columns["value"])
        words = WORDS | {"": 0}
        quality = _by_word(columns["quality"], words, UNKNOWN) if "quality" in columns else np.zeros(len(row), np.int64)
        reasons = ((row == UNKNOWN, "unknown point"), (ts_us == np.iinfo(np.int64).min, "at: expected an instant such as "
                    + expected), (ts_us < EARLIEST_US, "at: before 1990"),
                   (ts_us > latest_us, "at: in the future"),
                   (np.isin((ts_us - MONDAY_US) // WEEK_US, target.closed), "at: the readings of its week were dropped"),
                   (~number, "value: expected a number or nothing"),
                   (quality == UNKNOWN, "unknown quality"))
        blank = _blank(columns)
        bad = blank.copy()
        for mask, reason in reasons:
            for i in np.flatnonzero(mask & ~bad).tolist():
                aside.write(int(piece.lines[i]), reason, [str(columns[c][i].as_py() or "") for c in columns])
            bad |= mask
        good = np.flatnonzero(~bad)
        outcome.rows += len(row) - int(blank.sum()) + len(piece.bad_lines)
        told(len(row))
        yield Sound(row[good], ts_us[good], value[good], quality[good].astype(np.int16))


def _blank(columns: dict[str, Any]) -> NDArray[np.bool_]:
    """Rows of a CSV that are empty lines; they are no mistakes."""
    if not all(pa.types.is_string(columns[c].type) for c in ("point", "at")):
        return np.zeros(len(columns["point"]), np.bool_)
    return np.asarray(pc.and_(pc.equal(columns["point"], ""), pc.equal(columns["at"], "")))


def _by_word(column: Any, codes: Any, unknown: int) -> NDArray[np.int64]:
    """Codes of the words of a column, by its dictionary: each distinct word is looked up once."""
    encoded = column if isinstance(column.type, pa.DictionaryType) else pc.dictionary_encode(column, null_encoding="encode")
    words = [*(w if w is not None else "" for w in encoded.dictionary.to_pylist()), ""]   # the last one for nulls
    table: NDArray[np.int64] = np.array([codes.get(w, unknown) for w in words], np.int64)
    indices: NDArray[np.int64] = np.asarray(pc.fill_null(pc.cast(encoded.indices, pa.int64()), len(words) - 1))
    return table[indices]


def _instants(column: Any, zone: ZoneInfo | None) -> NDArray[np.int64]:
    """Epoch microseconds; the smallest int64 where the cell is no instant. Numbers are epoch milliseconds; what has no
    offset is of the zone, where one is given."""
    none = np.iinfo(np.int64).min
    if pa.types.is_timestamp(column.type):
        if column.type.tz is None:
            raise InputError("expected instants with a time zone in `at`, got timestamps without")
        return np.asarray(pc.fill_null(pc.cast(pc.cast(column, _INSTANT), pa.int64()), none))
    if pa.types.is_integer(column.type):
        return np.asarray(pc.fill_null(pc.cast(column, pa.int64()), none // 1000)) * 1000
    try:
        if len(column) and column[0].as_py().isdigit():
            return np.asarray(pc.cast(column, pa.int64())) * 1000
        return np.asarray(pc.cast(pc.cast(column, _INSTANT), pa.int64()))
    except (pa.ArrowInvalid, AttributeError):
        return np.fromiter((_instant(text, zone) for text in column.to_pylist()), np.int64, len(column))


def _instant(text: str | None, zone: ZoneInfo | None) -> int:
    local = local_instant(text, zone) if text and zone is not None else None
    if local is not None:
        return round(local.timestamp() * 1e6)
    try:
        return int(text) * 1000 if text and text.isdigit() else round(parse_instant(text or "").timestamp() * 1e6)
    except (InputError, OverflowError, ValueError):
        return int(np.iinfo(np.int64).min)


def _values(column: Any) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Values (NaN for none), and where the cell is a number or empty."""
    if not pa.types.is_string(column.type):
        return np.asarray(pc.fill_null(pc.cast(column, pa.float64()), np.nan)), np.ones(len(column), np.bool_)
    try:
        filled = pc.if_else(pc.equal(column, ""), pa.scalar("nan"), column)
        return np.asarray(pc.cast(filled, pa.float64())), np.ones(len(column), np.bool_)
    except pa.ArrowInvalid:
        pairs = [_number(text) for text in column.to_pylist()]
        return np.array([v for v, _ in pairs]), np.array([ok for _, ok in pairs])


def _number(text: str | None) -> tuple[float, bool]:
    try:
        return float(ungrouped(text)) if text and text.strip() else np.nan, True
    except ValueError:
        return np.nan, False


def _weeks(pieces: Iterator[Sound], target: Target) -> Iterator[Week]:
    """Rows gathered to weeks; the order of the file is kept within a week.

    While the file is in order of time a week is ready when the next one begins; else rows are gathered to large pieces.
    """
    waiting: list[Sound] = []
    newest, in_order = np.iinfo(np.int64).min, True
    for piece in pieces:
        waiting.append(piece)
        if len(piece.row):
            in_order = in_order and bool(piece.ts_us[0] >= newest and (np.diff(piece.ts_us) >= 0).all())
            newest = int(piece.ts_us[-1])
        border = (newest - MONDAY_US) // WEEK_US * WEEK_US + MONDAY_US
        if in_order and any(len(p.row) and p.ts_us[0] < border for p in waiting):
            yield from _cut([p.take(p.ts_us < border) for p in waiting], target)
            waiting = [p.take(p.ts_us >= border) for p in waiting[-1:]]
        elif sum(len(p.row) for p in waiting) >= PIECE_ROWS:
            yield from _cut(waiting, target)
            waiting = []
    yield from _cut(waiting, target)


def _cut(pieces: list[Sound], target: Target) -> Iterator[Week]:
    if not sum(len(p.row) for p in pieces):
        return
    row, ts_us, value, quality = (np.concatenate([getattr(p, n) for p in pieces]) for n in ("row", "ts_us", "value", "quality"))
    week = (ts_us - MONDAY_US) // WEEK_US
    order = np.argsort(week, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(week[order]) > 0])
    for rows in np.split(order, starts[1:]):
        yield week_of(int(week[rows[0]]), row[rows], ts_us[rows], value[rows], quality[rows], target)


class _Aside:
    """FILE.rejected.csv, made when the first row is refused."""

    def __init__(self, path: Path, outcome: Outcome) -> None:
        self.path = path.with_name(path.name + ".rejected.csv")
        self.outcome = outcome
        self._file: TextIO | None = None

    def write(self, line: int, reason: str, cells: list[str] | None = None) -> None:
        """One refused row."""
        if self._file is None:
            self._file = self.path.open("w", newline="", encoding="utf-8")
            csv.writer(self._file).writerow(["line", "reason", *COLUMNS])
            self.outcome.aside = self.path
        csv.writer(self._file).writerow([line, reason, *(cells or []), *[""] * (len(COLUMNS) - len(cells or []))])
        self.outcome.rejected += 1

    def __enter__(self) -> _Aside:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
