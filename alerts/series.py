"""Series from a CSV file onto a regular grid: `time,value` or `time,series,value`; mistakes are told with their line."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

import numpy as np

from alerts.rolling import Floats
from park.errors import CatalogueError, InputError, Mistake

MISSING = frozenset({"", "nan", "null", "none", "na", "n/a"})
MOST_MISTAKES = 20
LONGEST = 20_000_000      # steps of a grid: a wrong clock must not fill the memory


@dataclass(frozen=True)
class Series:
    """One series on its grid: value i is at `start + i * step_s` (epoch seconds, UTC or the file's own clock)."""

    name: str
    start: float
    step_s: float
    values: Floats
    zoned: bool             # whether the file's times carried an offset
    n_moved: int = 0        # rows that did not lie on the grid and were moved to it

    def time_of(self, i: int) -> str:
        """The instant of a step, written as the file writes its times."""
        at = datetime.fromtimestamp(self.start + i * self.step_s, UTC)
        text = at.isoformat(timespec="seconds" if at.microsecond == 0 else "milliseconds")
        return text.replace("+00:00", "Z") if self.zoned else text[:-6]


@dataclass
class _Rows:
    at: list[float]
    value: list[float]
    zoned: bool = False


def read_series(path: Path) -> list[Series]:
    """Every series of a file in the order in which they appear; InputError or CatalogueError with the lines."""
    if not path.exists():
        raise InputError(f"there is no file {path}")
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rt", encoding="utf-8-sig", newline="") as f:
            rows = _parse(f, path.name)
    except UnicodeDecodeError as exc:
        raise InputError(f"{path.name}: expected text in UTF-8, got other bytes at {exc.start}") from exc
    return [_grid(name, r, path.name) for name, r in rows.items()]


def _parse(f: TextIO, file: str) -> dict[str, _Rows]:
    reader = csv.reader(f)
    header = [c.strip().lower() for c in next(reader, [])]
    if sorted(header) not in (["time", "value"], ["series", "time", "value"]):
        raise InputError(f"{file}:1: expected the header time,value or time,series,value, got {','.join(header) or 'nothing'}")
    place = {name: i for i, name in enumerate(header)}
    out: dict[str, _Rows] = {}
    mistakes: list[Mistake] = []
    for row in reader:
        if not row:
            continue
        problem = _take(row, place, out)
        if problem:
            mistakes.append(Mistake(file, reader.line_num, *problem))
            if len(mistakes) >= MOST_MISTAKES:
                break
    if mistakes:
        raise CatalogueError(mistakes)
    if not out:
        raise InputError(f"{file}: expected rows below the header, got none")
    return out


def _take(row: list[str], place: dict[str, int], out: dict[str, _Rows]) -> tuple[str, str] | None:
    if len(row) != len(place):
        return "row", f"expected {len(place)} columns, got {len(row)}"
    try:
        at, zoned = instant(row[place["time"]].strip())
    except ValueError:
        return "time", f"expected an instant such as 2026-11-23T03:00:00Z, got {row[place['time']]!r}"
    text = row[place["value"]].strip()
    try:
        value = np.nan if text.lower() in MISSING else float(text)
    except ValueError:
        return "value", f"expected a number or nothing, got {text!r}"
    if np.isinf(value):
        return "value", f"expected a finite number, got {text!r}"
    series = out.setdefault(row[place["series"]].strip() if "series" in place else "", _Rows([], [], zoned))
    series.at.append(at)
    series.value.append(value)
    return None


def instant(text: str) -> tuple[float, bool]:
    """(epoch seconds, whether an offset was written) of ISO 8601 or of epoch seconds; a time without offset counts as UTC."""
    try:
        number = float(text)
    except ValueError:
        at = datetime.fromisoformat(text)
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp(), at.tzinfo is not None
    if not 0 < number < 4e9:
        raise ValueError(text)
    return number, True


def _grid(name: str, rows: _Rows, file: str) -> Series:
    """The rows on the grid of their usual step; several rows of one step are averaged, steps without a row are unknown."""
    order = np.argsort(np.array(rows.at), kind="stable")
    at, value = np.array(rows.at)[order], np.array(rows.value)[order]
    steps = np.diff(at)
    steps = steps[steps > 0]
    if len(steps) < 2:
        raise InputError(f"{file}: series {name or 'of the file'}: expected at least three instants, got {len(steps) + 1}")
    step = float(np.median(steps))
    index = np.round((at - at[0]) / step).astype(np.int64)
    n = int(index[-1]) + 1
    if n > LONGEST:
        raise InputError(f"{file}: series {name}: {n} steps of {step} s between its first and last time; a clock must be wrong")
    known = ~np.isnan(value)
    total = np.bincount(index[known], value[known], n)
    count = np.bincount(index[known], minlength=n)
    with np.errstate(invalid="ignore", divide="ignore"):
        values = np.where(count > 0, total / count, np.nan)
    moved = int(np.count_nonzero(np.abs(at - at[0] - index * step) > 0.02 * step))
    return Series(name, float(at[0]), step, values, rows.zoned, moved)


def on_grid_of(series: Series, other: Series) -> Floats:
    """(T,) the other's newest value at or before each step of `series`, no older than three of its own steps."""
    at = series.start + series.step_s * np.arange(len(series.values))
    i = np.floor((at - other.start) / other.step_s + 1e-9).astype(np.int64)
    out = np.full(len(at), np.nan)
    for back in range(3):
        j = i - back
        ok = np.isnan(out) & (j >= 0) & (j < len(other.values))
        out[ok] = other.values[j[ok]]
    return out


def rows_of(series: Series) -> Iterator[tuple[int, float]]:
    """(step, value) of the known steps."""
    for i in np.flatnonzero(~np.isnan(series.values)):
        yield int(i), float(series.values[i])
