"""Recounting: the slots of counters in a window, from raw readings to `interval_15m`. Only what changed is written.

A window is widened to what its readings can decide: `REACH` usable readings to either side, the whole of a gap, and the gaps
of the week after whose split leans on it. So the outcome does not depend on how the work was cut into passes.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray

from accounting import virtual
from accounting.columns import Columns, Connection, instants, read_columns, to_us
from accounting.gaps import LINEAR_US, PROFILE_DAYS
from accounting.intervals import FAR, ONE_METER, REACH, SLOT_US, Intervals, Meters, intervals
from accounting.plain import Asked, Readings, plain_slots
from accounting.slots import INTERVAL, NOTHING, SQL, Changed, replace
from park.quality import LAST_USABLE

__all__ = ["INTERVAL", "NOTHING", "SQL", "Changed", "Counter", "Window", "counters_of", "recount"]

READING = {"point_id": "i4", "ts": "ts", "value": "f8", "quality": "i2"}
BATCH_READINGS = 350_000     # of more the first batch is waited for longer; what is one batch needs no second session
log = logging.getLogger(__name__)
_PROFILE_US = (PROFILE_DAYS * 86_400 + 900) * 1_000_000


@dataclass(frozen=True)
class Counter:
    """What the intervals of a point need from the catalogue."""

    point_id: int
    ratio: float
    rollover: float | None
    expected_s: int
    meters: Meters


@dataclass(frozen=True)
class Window:
    """Readings of a counter in [low, high) changed."""

    counter: Counter
    low: int
    high: int


def counters_of(conn: Connection, base_id: int, points: list[int]) -> dict[int, Counter]:
    """The counters among some points, with their meters."""
    key = {"base": base_id, "points": points}
    rows: dict[int, list[tuple[Any, ...]]] = {}
    for point_id, *row in conn.execute(SQL["meters"], key):
        rows.setdefault(point_id, []).append(tuple(row))
    return {p: Counter(p, ratio, rollover, expected_s, _meters(rows.get(p, [])))
            for p, ratio, rollover, expected_s in conn.execute(SQL["counters"], key)}


def _meters(rows: list[tuple[Any, ...]]) -> Meters:
    if not rows:
        return ONE_METER
    installed = np.array([to_us(r[0]) for r in rows], np.int64)
    following = np.append(installed[1:], FAR)
    removed = np.array([to_us(r[1]) if r[1] is not None else after for r, after in zip(rows, following, strict=True)], np.int64)
    number = [np.array([np.nan if r[i] is None else r[i] for r in rows], float) for i in (2, 3, 4)]
    return Meters(installed, removed, number[0], number[1], number[2])


@dataclass(frozen=True)
class Computed:
    """The slots that some windows decide, in the reach [low, high) of each."""

    windows: list[Window]
    slots: Columns
    low: NDArray[np.int64]
    high: NDArray[np.int64]


def recount(conn: Connection, base_id: int, spans: list[tuple[int, datetime, datetime]], *, write: bool = True,
            ahead: bool = False) -> Changed:
    """Compute the slots that readings in [first, last) of each point decide, and write those that differ.

    spans: (point, first, last), only counters count. With `write` off nothing is written; the answer is the same. `ahead`:
    readings and slots are committed, so a second session may read and compute the next batch while this one compares and
    writes.
    """
    known = counters_of(conn, base_id, [p for p, _, _ in spans])
    windows = [Window(known[p], to_us(low), to_us(high)) for p, low, high in sorted(spans) if p in known]
    changed = NOTHING
    with closing(_computed(conn, base_id, list(_batches(windows)), ahead)) as batches:
        for done in batches:
            old = read_columns(conn, SQL["read_intervals"], {
                "base": base_id, "points": [w.counter.point_id for w in done.windows],
                "low": instants(done.low), "high": instants(done.high)}, INTERVAL)
            changed += replace(conn, base_id, old, done.slots, write)
    return changed + virtual.follow(conn, base_id, changed, spans, write)


def _batches(windows: list[Window]) -> Iterator[list[Window]]:
    """Windows in groups whose readings fit into memory."""
    batch: list[Window] = []
    size = 0.0
    for w in windows:
        expected = (w.high - w.low) / 1e6 / min(w.counter.expected_s, 900) + 100
        if batch and size + expected > BATCH_READINGS:
            yield batch
            batch, size = [], 0.0
        batch.append(w)
        size += expected
    if batch:
        yield batch


def _over_gaps(conn: Connection, base_id: int, windows: list[Window]) -> list[Window]:
    """Windows widened over the gaps after them whose split leans on readings inside."""
    if not windows:
        return windows
    ends = {p: to_us(high) for p, high in conn.execute(SQL["gaps_after"], {
        "base": base_id, "points": [w.counter.point_id for w in windows], "high": instants(w.high for w in windows)})}
    return [Window(w.counter, w.low, max(w.high, ends.get(w.counter.point_id, w.high))) for w in windows]


def _computed(conn: Connection, base_id: int, batches: list[list[Window]], ahead: bool
              ) -> Generator[Computed, None, None]:
    """Each batch computed; with `ahead` and several batches, the next one meanwhile, in a session that only reads."""
    reader = _beside(conn) if ahead and len(batches) > 1 else None
    if reader is None:
        yield from (_compute(conn, base_id, batch) for batch in batches)
        return
    with reader, ThreadPoolExecutor(1) as other:
        waiting = other.submit(_compute, reader, base_id, batches[0])
        for batch in batches[1:]:
            done = waiting.result()
            waiting = other.submit(_compute, reader, base_id, batch)
            yield done
        yield waiting.result()


def _beside(conn: Connection) -> Connection | None:
    """Another session like this one; None where the server takes no more."""
    try:
        return psycopg.connect(conn.info.dsn, password=conn.info.password or None, autocommit=True)
    except psycopg.OperationalError as exc:
        log.info("no second session to read ahead with: %s", str(exc).splitlines()[0])
        return None


def _compute(conn: Connection, base_id: int, windows: list[Window]) -> Computed:
    """The slots of some windows and of the gaps that lean on them, from their readings."""
    windows = _over_gaps(conn, base_id, windows)
    readings = _read(conn, base_id, windows)
    asked = _asked(windows)
    plain = plain_slots(readings, asked)
    fresh: list[Columns] = [plain.slots]
    low, high = _whole_slots(asked, readings, plain.low, plain.high)
    others = {int(i): readings.of(int(i)) for i in np.flatnonzero(~plain.which)}
    if again := [i for i, r in others.items() if _needs_profile(windows[i], r)]:
        wider = _read(conn, base_id, [
            Window(windows[i].counter, _profile_start(windows[i], others[i]), windows[i].high) for i in again])
        others |= {i: wider.of(k) for k, i in enumerate(again)}
    for i, r in others.items():
        columns, first, last = _count(windows[i], r)
        alone = Readings(r["ts"], r["value"], r["quality"], np.array([0, len(r["ts"])]))
        low[i:i + 1], high[i:i + 1] = _whole_slots(_asked([windows[i]]), alone, np.array([first]), np.array([last]))
        fresh.append(columns)
    new = {name: np.concatenate([c[name] for c in fresh]) for name in INTERVAL}
    whose = np.searchsorted(asked.point_id, new["point_id"])
    inside = (new["ts"] >= low[whose]) & (new["ts"] < high[whose])
    return Computed(windows, new if inside.all() else {name: column[inside] for name, column in new.items()}, low, high)


def _whole_slots(asked: Asked, readings: Readings, low: NDArray[np.int64], high: NDArray[np.int64]
                 ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The reaches without slots at their ends that lie only in part in the readings at hand while there are more of them."""
    n = len(low)
    good = (readings.quality <= LAST_USABLE) & np.isfinite(readings.value)
    at, who = readings.ts[good], np.repeat(np.arange(n), np.diff(readings.start))[good]
    count = np.bincount(who, minlength=n)
    end, at_or_none = np.cumsum(count), np.append(at, 0)
    more_before = np.bincount(who[at < (asked.low - SLOT_US)[who]], minlength=n) >= 2 * REACH
    more_after = np.bincount(who[at >= (asked.high + SLOT_US)[who]], minlength=n) >= 2 * REACH
    return (np.where(more_before, np.maximum(low, -(-at_or_none[end - count] // SLOT_US) * SLOT_US), low),
            np.where(more_after, np.minimum(high, at_or_none[end - 1] // SLOT_US * SLOT_US), high))


def _asked(windows: list[Window]) -> Asked:
    counters = [w.counter for w in windows]
    return Asked(np.array([c.point_id for c in counters], np.int64), np.array([w.low for w in windows], np.int64),
                 np.array([w.high for w in windows], np.int64), np.array([c.ratio * c.meters.ratio[0] for c in counters]),
                 np.array([c.expected_s for c in counters], float), np.array([len(c.meters.ratio) == 1 for c in counters]))


def _read(conn: Connection, base_id: int, windows: list[Window]) -> Readings:
    """Readings of each window and of a slot to either side, because REACH readings of a quick counter begin in the middle of
    one, with 2 x REACH usable ones around them, in the order of the windows."""
    got = read_columns(conn, SQL["read_window"], {
        "base": base_id, "points": [w.counter.point_id for w in windows], "low": instants(w.low - SLOT_US for w in windows),
        "high": instants(w.high + SLOT_US for w in windows), "reach": 2 * REACH}, READING)
    order = _order(got["point_id"].astype(np.int64), got["ts"])
    ids = np.array([w.counter.point_id for w in windows])      # windows come in the order of their points
    start = np.append(np.searchsorted(got["point_id"][order], ids), len(order))
    return Readings(got["ts"][order], got["value"][order], got["quality"][order], start)


def _order(point_id: NDArray[np.int64], ts: NDArray[np.int64]) -> NDArray[np.int64]:
    """By point and time; as one number where it fits, because readings come in long runs that are in order already."""
    span = int(ts.max() - ts.min()) + 1 if len(ts) else 1
    if len(ts) and (int(point_id.max()) + 1) * span < 2**62:
        return np.argsort(point_id * span + (ts - ts.min()), kind="stable")
    return np.lexsort((ts, point_id))


def _usable(readings: Columns) -> NDArray[np.int64]:
    return readings["ts"][(readings["quality"] <= LAST_USABLE) & np.isfinite(readings["value"])]


def _reach(w: Window, at: NDArray[np.int64]) -> tuple[int, int]:
    """First and last instant whose figures the window decides: REACH usable readings beyond it."""
    if not len(at):
        return w.low, w.high
    first = max(int(np.searchsorted(at, w.low)) - REACH, 0)
    last = min(int(np.searchsorted(at, w.high)) + REACH, len(at) - 1)
    return min(w.low, int(at[first])), max(w.high, int(at[last]))


def _long_gaps(w: Window, at: NDArray[np.int64]) -> NDArray[np.int64]:
    """Beginnings of the long gaps in the window's reach."""
    low, high = _reach(w, at)
    gap = (np.diff(at) > LINEAR_US) & (at[1:] > low) & (at[:-1] < high)
    return at[:-1][gap]


def _needs_profile(w: Window, readings: Columns) -> bool:
    begin = _long_gaps(w, _usable(readings))
    return len(begin) > 0 and int(begin[0]) - _PROFILE_US < w.low


def _profile_start(w: Window, readings: Columns) -> int:
    return int(_long_gaps(w, _usable(readings))[0]) - _PROFILE_US


def _count(w: Window, readings: Columns) -> tuple[Columns, int, int]:
    """The slots of the window's reach as columns, and that reach [low, high) in whole slots."""
    at = _usable(readings)
    low, high = _reach(w, at)
    low, high = low // SLOT_US * SLOT_US, -(-high // SLOT_US) * SLOT_US
    if not len(at):
        return {name: np.empty(0, np.int64) for name in INTERVAL}, low, high
    # from the first reading at hand, because a gap is split by the week before it
    slots = np.arange(at[0] // SLOT_US * SLOT_US, at[-1] // SLOT_US * SLOT_US, SLOT_US, dtype=np.int64)
    c = w.counter
    got = intervals(readings["ts"], readings["value"], readings["quality"], slots, rollover=c.rollover, meters=c.meters,
                    ratio=c.ratio, expected_s=c.expected_s)
    return _part(c.point_id, slots, got, (slots >= low) & (slots < high)), low, high


def _part(point_id: int, slots: NDArray[np.int64], got: Intervals, some: NDArray[np.bool_]) -> Columns:
    return {"point_id": np.full(int(some.sum()), point_id, np.int32), "ts": slots[some], "amount": got.amount[some],
            "quality": got.quality[some], "method": got.method[some]}
