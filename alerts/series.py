"""Series from a CSV file onto a regular grid: `time,value` or `time,series,value`; mistakes are told with their line."""

from __future__ import annotations

import csv
import gzip
import io
import re
import sys
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from alerts.rolling import Floats
from park.errors import CatalogueError, InputError, Mistake

STDIN = Path("-")
GZIP = b"\x1f\x8b"
MISSING = frozenset({"", "nan", "null", "none", "na", "n/a", "#n/a", "-", "--", "\\n"})
COLUMNS = {"time": "time", "timestamp": "time", "datetime": "time", "at": "time", "时间": "time", "采集时间": "time",
           "value": "value", "数值": "value", "值": "value",
           "series": "series", "point": "series", "点位": "series", "测点": "series"}
WANTED = (["time", "value"], ["series", "time", "value"])
SEPARATORS = (",", ";", "\t")
YEAR_FIRST = re.compile(r"(\d{4})[-/.年](\d{1,2})[-/.月](\d{1,2})日?"
                        r"(?:[ T]+(\d{1,2}):(\d{2})(?::(\d{2})(\.\d+)?)?)? *(Z|[+-]\d\d:?\d\d)?")
COMPACT = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}
EPOCHS = ((0.0, 4e9, 1.0), (1e11, 4e12, 1e3), (1e14, 4e15, 1e6), (1e17, 4e18, 1e9))     # from, to, parts of a second
GREATEST = 1e100          # squares of values must stay numbers
LEAST_REGISTER = 48       # steps before a series is taken for a register
MOST_MISTAKES = 20
LONGEST = 20_000_000      # steps of a grid: a wrong clock must not fill the memory
ROUND_STEPS = (1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 30.0, 60.0, 120.0, 180.0, 300.0, 600.0, 900.0, 1200.0, 1800.0, 3600.0, 7200.0,
               10800.0, 14400.0, 21600.0, 28800.0, 43200.0, 86400.0, 604800.0)      # seconds
EMPTY = 50                # nor may all but one of so many steps be without a row, once there are ten thousand


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


    @property
    def is_register(self) -> bool:
        """Whether the values hardly ever fall and mostly rise, as a meter's register does: its increments are to be judged."""
        step = np.diff(self.values[~np.isnan(self.values)])
        return bool(len(step) >= LEAST_REGISTER and np.mean(step < 0) < 0.01 and np.mean(step > 0) > 0.5)


@dataclass
class _Rows:
    at: list[float]
    value: list[float]
    zoned: bool = False


def read_series(path: Path) -> list[Series]:
    """Every series of a file (`-`: standard input) in the order in which they appear; InputError or CatalogueError with the
    lines."""
    name = "standard input" if path == STDIN else path.name
    try:
        rows = _parse(_text(_bytes(path, name), name), name)
    except csv.Error as exc:
        raise InputError(f"{name}: expected a CSV: {exc}") from exc
    return [_grid(series, r, name) for series, r in rows.items()]


def _bytes(path: Path, name: str) -> bytes:
    """What the file holds, unpacked."""
    if path != STDIN and not path.is_file():
        raise InputError(f"there is no file {path}")
    try:
        raw = sys.stdin.buffer.read() if path == STDIN else path.read_bytes()
        return gzip.decompress(raw) if path.suffix == ".gz" or raw[:2] == GZIP else raw
    except (OSError, EOFError, zlib.error) as exc:
        raise InputError(f"{name}: cannot be read: {exc}") from exc


def _text(raw: bytes, name: str) -> str:
    """The file's text: UTF-8 with or without a mark, UTF-16 with one, else GB 18030, in which Chinese workbooks save CSV."""
    if raw[:2] == b"PK":
        raise InputError(f"{name}: expected a CSV, got a workbook or archive; save the sheet as CSV")
    marked = raw[:2] in (b"\xff\xfe", b"\xfe\xff")
    for encoding in ("utf-16",) if marked else ("utf-8-sig", "gb18030"):
        try:
            return raw.decode(encoding)
        except UnicodeDecodeError as exc:
            place = exc.start
    raise InputError(f"{name}: expected text in UTF-8 or GB 18030, got other bytes at {place}")


def _parse(text: str, file: str) -> dict[str, _Rows]:
    lines = io.StringIO(text, newline="")
    first = lines.readline()
    separator = max(SEPARATORS, key=first.count)
    place = _columns(next(csv.reader([first], delimiter=separator), []), file)
    width = max(place.values()) + 1
    reader = csv.reader(lines, delimiter=separator)
    out: dict[str, _Rows] = {}
    mistakes: list[Mistake] = []
    for row in reader:
        if not any(cell.strip() for cell in row):
            continue
        problem = _take(row, place, width, separator, out)
        if problem:
            mistakes.append(Mistake(file, 1 + reader.line_num, *problem))
            if len(mistakes) >= MOST_MISTAKES:
                break
    if mistakes:
        raise CatalogueError(mistakes)
    if not out:
        raise InputError(f"{file}: expected rows below the header, got none")
    return out


def _columns(header: Sequence[str], file: str) -> dict[str, int]:
    """Where the columns are; one without a name (a row number, an end of line) is none."""
    named = {i: c.strip().lower() for i, c in enumerate(header) if c.strip()}
    place = {COLUMNS.get(name, name): i for i, name in named.items()}
    if sorted(place) not in WANTED or len(place) < len(named):
        raise InputError(f"{file}:1: expected the header time,value or time,series,value (one row a time and series), got "
                         f"{','.join(named.values()) or 'nothing'}")
    return place


def _take(row: list[str], place: dict[str, int], width: int, separator: str, out: dict[str, _Rows]) -> tuple[str, str] | None:
    if len(row) < width:
        return "row", f"expected {width} columns, got {len(row)}"
    try:
        at, zoned = instant(row[place["time"]].strip())
    except ValueError:
        return "time", (f"expected an instant such as 2026-11-23T03:00:00Z, 2026/11/23 3:00 or seconds since 1970, "
                        f"got {row[place['time']]!r}")
    text = row[place["value"]].strip()
    try:
        value = np.nan if text.lower() in MISSING else float(text if separator == "," else text.replace(",", "."))
    except ValueError:
        return "value", f"expected a number or nothing, got {text!r}"
    if abs(value) > GREATEST:
        return "value", f"expected a finite number of at most {GREATEST:g}, got {text!r}"
    series = out.setdefault(row[place["series"]].strip() if "series" in place else "", _Rows([], [], zoned))
    series.at.append(at)
    series.value.append(value)
    return None


def instant(text: str) -> tuple[float, bool]:
    """(epoch seconds, whether an offset was written) of ISO 8601, a date with the year first, digits alone (20261123080000),
    or seconds, milli-, micro- or nanoseconds since 1970; a time without offset counts as UTC. A date that begins with the day
    or the month cannot be told from the other: ValueError."""
    if text.replace(".", "", 1).isdigit():
        return _of_number(text)
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        found = YEAR_FIRST.fullmatch(text)
        if found is None:
            raise
        *date, hour, minute, second, fraction, zone = found.groups()
        at = datetime.fromisoformat("{}-{:0>2}-{:0>2}T{:0>2}:{}:{}{}".format(*date, hour or "0", minute or "00", second or "00",
                                                                            zone or ""))
        at += timedelta(seconds=float(fraction or 0))
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp(), at.tzinfo is not None


def _of_number(text: str) -> tuple[float, bool]:
    if text[:2] in ("19", "20") and len(text) in COMPACT and text.isdigit():
        return datetime.strptime(text, COMPACT[len(text)]).replace(tzinfo=UTC).timestamp(), False
    number = float(text)
    for low, high, parts in EPOCHS:
        if low <= number < high and (number >= 1e8 or number.is_integer()):     # a workbook's day number has a fraction
            return number / parts, True
    raise ValueError(text)


def _grid(name: str, rows: _Rows, file: str) -> Series:
    """The rows on the grid of their usual step; several rows of one step are averaged, steps without a row are unknown."""
    order = np.argsort(np.array(rows.at), kind="stable")
    at, value = np.array(rows.at)[order], np.array(rows.value)[order]
    steps = np.diff(at)
    steps = steps[steps > 0]
    if len(steps) < 2:
        raise InputError(f"{file}: series {name or 'of the file'}: expected at least three instants, got {len(steps) + 1}")
    step = _step(steps)
    index = np.round((at - at[0]) / step).astype(np.int64)
    n = int(index[-1]) + 1
    if n > LONGEST:
        raise InputError(f"{file}: series {name}: {n} steps of {step} s between its first and last time; a clock must be wrong")
    if n > 10_000 and n > EMPTY * len(at):
        widest = int(np.argmax(np.diff(at)))
        raise InputError(f"{file}: series {name or 'of the file'}: {len(at)} rows for {n} steps of {step:g} s, the widest gap "
                         f"between {_iso(at[widest])} and {_iso(at[widest + 1])}; a clock must be wrong")
    known = ~np.isnan(value)
    total = np.bincount(index[known], value[known], n)
    count = np.bincount(index[known], minlength=n)
    with np.errstate(invalid="ignore", divide="ignore"):
        values = np.where(count > 0, total / count, np.nan)
    moved = int(np.count_nonzero(np.abs(at - at[0] - index * step) > 0.02 * step))
    return Series(name, float(at[0]), step, values, rows.zoned, moved)


def _step(steps: Floats) -> float:
    """The usual distance of the rows; of rows that tremble, the round one close to it: a grid of 300.7 s would lose the day."""
    usual = float(np.median(steps))
    if np.mean(np.abs(steps - usual) < 1e-3 * usual) >= 0.5:
        return usual
    return next((s for s in ROUND_STEPS if abs(s - usual) <= 0.02 * s), usual)


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")


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
