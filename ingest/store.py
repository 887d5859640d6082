"""One batch, one transaction: ledger, readings, newest readings, dirty quarters, dead letters, counters.

Between validation and the database. The effect is exactly once whatever happens to the process or the connection:
a batch that is written again finds its (source, seq) in the ledger and adds nothing.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg import Connection
from psycopg.types.json import Jsonb

from ingest.condense import MONDAY_US, QUARTER_US, WEEK_US
from ingest.directory import QUERIES, Directory, closed_weeks
from ingest.packing import CONFLICTS, Column, copy_into, null_nan
from ingest.validation import DeadLetter, Judged, Message, Readings, judge
from park.quality import LAST_USABLE
from park.wire import encode_batch


@dataclass(frozen=True)
class Batch:
    """What one transaction writes: messages of readings, dead letters of others, words of devices and of collectors'
    spools about themselves."""

    messages: list[Message] = field(default_factory=list)
    letters: list[DeadLetter] = field(default_factory=list)
    states: list[dict[str, Any]] = field(default_factory=list)
    spools: list[dict[str, Any]] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Readings in the batch."""
        return sum(len(m.batch.point) for m in self.messages)


class Store:
    """The write path over one connection (autocommit); not thread-safe. A closed connection needs a new Store."""

    def __init__(self, conn: Connection[Any], *, future_after_s: float, late_after_s: float) -> None:
        self.conn = conn
        self.future_after_s = future_after_s
        self.late_after_s = late_after_s
        self._weeks: set[int] = set()
        self._closed = np.empty(0, np.int64)
        conn.execute(QUERIES["writer_tables"])

    def write(self, batch: Batch, directory: Directory, *, replay: bool = False,
              judged: Judged | None = None) -> Counter[tuple[int, str]]:
        """Commit the batch and return what became of it by (base_id, outcome).

        stored + duplicate + corrected + not_taken + dead:* are all its readings. `replay` passes the ledger by. `judged`
        is the outcome of all its messages where it is known already; it serves when none of them is a repetition.
        Raises psycopg errors with nothing written.
        """
        try:
            return self._write(batch, directory, replay, judged)
        except BaseException:
            self._weeks.clear()  # partitions made in a transaction that failed are not there
            raise

    def _write(self, batch: Batch, directory: Directory, replay: bool, ahead: Judged | None) -> Counter[tuple[int, str]]:
        with self.conn.transaction(), self.conn.cursor() as cur:
            counts: Counter[tuple[int, str]] = Counter()
            fresh, letters = (batch.messages, []) if replay else self._book(cur, batch.messages, counts)
            judged = self._judge(fresh, directory, ahead if fresh is batch.messages else None)
            counts.update(judged.counts)
            if batch.spools:
                cur.execute(QUERIES["upsert_spool"], {"spools": Jsonb(batch.spools)})
            _write_collector_letters(cur, [x for x in batch.letters if x.once], counts)
            letters += [x for x in batch.letters if not x.once] + self._states(cur, batch.states)
            for x in letters:
                counts[x.base_id or 0, f"dead:{x.reason}"] += max(x.n, 1)
            if len(judged.readings):
                counts.update(self.write_readings(cur, judged.readings, [m.source for m in fresh]))
            letters += judged.letters
            if letters:
                cur.executemany(QUERIES["insert_dead_letter"], [_letter_row(x) for x in letters])
            self.add_counts(cur, counts)
        return counts

    def _judge(self, messages: list[Message], directory: Directory, ahead: Judged | None) -> Judged:
        """Judged with the weeks closed as they are when a week is first met, which is after any failure too."""
        limits = {"future_after_s": self.future_after_s, "late_after_s": self.late_after_s}
        judged = ahead or judge(messages, directory, closed=self._closed, **limits)
        new = set(_weeks_of(judged.readings)) - self._weeks
        if new:
            self._closed = closed_weeks(self.conn)
            if not new.isdisjoint(self._closed.tolist()):
                judged = judge(messages, directory, closed=self._closed, **limits)
        return judged

    def write_readings(self, cur: psycopg.Cursor[Any], readings: Readings, sources: list[str]) -> Counter[tuple[int, str]]:
        """Insert or merge ordered readings, with newest readings and dirty quarters; counts of what became of them."""
        self._ensure_weeks(readings)
        winners = Winners.of(readings)
        counts: Counter[tuple[int, str]] = Counter()
        try:
            if len(winners.rows) < len(readings):
                raise psycopg.errors.UniqueViolation
            with self.conn.transaction():
                copy_into(cur, "reading", reading_columns(readings))
            counts.update(_by_base(readings.base_id, "stored"))
        except CONFLICTS:
            counts.update(self._merge(cur, readings, winners, sources))
        self.write_newest(cur, readings.take(winners.rows))
        _write_dirty(cur, readings)
        return counts

    def write_newest(self, cur: psycopg.Cursor[Any], winners: Readings) -> None:
        """The newest reading of each point, from readings ordered by point and time, one for an instant."""
        last = np.r_[_changes(winners)[1:], True]
        copy_into(cur, "newest", reading_columns(winners.take(np.flatnonzero(last))))
        cur.execute(QUERIES["upsert_latest"])

    def add_counts(self, cur: psycopg.Cursor[Any], counts: Counter[tuple[int, str]]) -> None:
        """Add to today's counters what became of readings."""
        kept = [(base_id, outcome, n) for (base_id, outcome), n in sorted(counts.items()) if n]
        if kept:
            cur.execute(QUERIES["add_counts"], {"base_ids": [k[0] for k in kept], "outcomes": [k[1] for k in kept],
                                                "ns": [k[2] for k in kept]})

    def count_stored(self, cur: psycopg.Cursor[Any], readings: Readings) -> None:
        """Count readings that were stored in another way than `write_readings`."""
        self.add_counts(cur, _by_base(readings.base_id, "stored"))

    def _book(self, cur: psycopg.Cursor[Any], messages: list[Message],
              counts: Counter[tuple[int, str]]) -> tuple[list[Message], list[DeadLetter]]:
        """Messages that the ledger does not hold yet, and dead letters of numbers that were used for other readings."""
        if not messages:
            return [], []
        first: dict[tuple[int, str, int], int] = {}
        for i, m in enumerate(messages):
            first.setdefault((m.base_id, m.source, m.batch.seq), i)
        chosen = list(first.values())
        asked = [messages[i] for i in chosen]
        arrays = {"base_ids": [m.base_id for m in asked], "sources": [m.source for m in asked],
                  "seqs": [m.batch.seq for m in asked], "sizes": [len(m.batch.point) for m in asked]}
        booked = {place for (place,) in cur.execute(QUERIES["insert_ledger"], arrays)}
        if len(booked) == len(messages):
            return messages, []
        repeated = [i for i in range(len(messages)) if i not in first.values()] + \
                   [chosen[k] for k in range(len(chosen)) if k not in booked]
        again = [messages[i] for i in sorted(repeated)]
        arrays = {"base_ids": [m.base_id for m in again], "sources": [m.source for m in again],
                  "seqs": [m.batch.seq for m in again]}
        letters = []
        for place, n in cur.execute(QUERIES["booked_sizes"], arrays):
            m = again[place]
            if n == len(m.batch.point):
                counts[m.base_id, "duplicate"] += n
            else:
                letters.append(DeadLetter(m.base_id, m.topic, m.source, m.batch.seq, "seq_reused",
                                          f"batch {m.batch.seq} of {m.source} was stored with {n} readings before",
                                          encode_batch(m.batch), len(m.batch.point)))
        return [asked[k] for k in sorted(booked)], letters

    def _merge(self, cur: psycopg.Cursor[Any], readings: Readings, winners: Winners,
               sources: list[str]) -> Counter[tuple[int, str]]:
        """The slow path: readings for instants that are in the table already, or twice in the batch."""
        counts = _by_base(readings.base_id, "duplicate")
        staged = np.flatnonzero(winners.loses != _SAME)
        base_ids, point_ids = np.unique(readings.base_id).tolist(), np.unique(readings.point_id).tolist()
        low, high = (datetime.fromtimestamp(us // 1_000_000, UTC) for us in
                     (int(readings.ts_us.min()), int(readings.ts_us.max()) + 999_999))
        cur.execute(QUERIES["lock_merge"], {"base_ids": base_ids})
        cur.execute(QUERIES["prefer_index"])
        copy_into(cur, "stage", [*reading_columns(readings.take(staged)), Column("origin", "int4", winners.origin[staged]),
                                 Column("loses", "int2", winners.loses[staged])])
        outcomes = [(base_id, "stored", n) for base_id, n in cur.execute(QUERIES["insert_stage"])]
        cur.execute(QUERIES["analyze_stage"])
        outcomes += cur.execute(QUERIES["correct_readings"], {
            "sources": sources, "base_ids": base_ids, "point_ids": point_ids, "low": low, "high": high}).fetchall()
        if len(winners.rows) < len(staged):
            outcomes += cur.execute(QUERIES["keep_losers"], {"sources": sources}).fetchall()
        for base_id, outcome, n in outcomes:
            counts[base_id, outcome] += n
            counts[base_id, "duplicate"] -= n
        return +counts

    def _ensure_weeks(self, readings: Readings) -> None:
        for week in _weeks_of(readings):
            if week not in self._weeks:
                monday = datetime.fromtimestamp((week * WEEK_US + MONDAY_US) / 1e6, UTC)
                self.conn.execute(QUERIES["ensure_week"], {"at": monday})
                self._weeks.add(week)

    def _states(self, cur: psycopg.Cursor[Any], states: list[dict[str, Any]]) -> list[DeadLetter]:
        if not states:
            return []
        known = set(cur.execute(QUERIES["upsert_device_state"], {"states": Jsonb(states)}).fetchall())
        strange = [s for s in states if (s["base_id"], s["device"]) not in known]
        return [DeadLetter(s["base_id"], "", "health", None, "unknown_device", s["device"][:200], repr(s).encode())
                for s in strange]


_WINS, _CORRECTED, _NOT_TAKEN, _SAME = 0, 1, 2, 3


@dataclass(frozen=True)
class Winners:
    """Which of several readings for one instant counts: the last usable one, or the last where none is usable.

    `rows`: the winners. For every reading `loses` is _WINS, _CORRECTED (another came after it), _NOT_TAKEN (unusable,
    after a usable one) or _SAME (says what the winner says); `origin` is the message to name in a revision.
    """

    rows: NDArray[np.intp]
    loses: NDArray[np.int16]
    origin: NDArray[np.int32]

    @staticmethod
    def of(r: Readings) -> Winners:
        new = _changes(r, r.ts_us)
        starts = np.flatnonzero(new)
        place, usable = np.arange(len(r)), r.quality <= LAST_USABLE
        if len(starts) == len(r):
            return Winners(starts, np.zeros(len(r), np.int16), r.origin)
        last_usable = np.maximum.reduceat(np.where(usable, place, -1), starts)
        rows = np.where(last_usable >= 0, last_usable, np.r_[starts[1:], len(r)] - 1)
        w = rows[np.cumsum(new) - 1]
        same = (r.quality == r.quality[w]) & ((r.value == r.value[w]) | (np.isnan(r.value) & np.isnan(r.value[w])))
        loses = np.where(place == w, _WINS, np.where(same, _SAME, np.where(usable | ~usable[w], _CORRECTED, _NOT_TAKEN)))
        return Winners(rows, loses.astype(np.int16), np.where(loses == _CORRECTED, r.origin[w], r.origin).astype(np.int32))


def reading_columns(r: Readings) -> list[Column]:
    return [Column("ts", "timestamptz", r.ts_us), null_nan("value", r.value), Column("point_id", "int4", r.point_id),
            Column("base_id", "int2", r.base_id), Column("quality", "int2", r.quality)]


def _weeks_of(r: Readings) -> list[int]:
    weeks: list[int] = np.unique((r.ts_us - MONDAY_US) // WEEK_US).tolist()
    return weeks


def _by_base(base_id: NDArray[np.int16], outcome: str) -> Counter[tuple[int, str]]:
    bases, ns = np.unique(base_id, return_counts=True)
    return Counter({(int(b), outcome): int(n) for b, n in zip(bases, ns, strict=True)})


def _write_dirty(cur: psycopg.Cursor[Any], readings: Readings) -> None:
    quarter = readings.ts_us // QUARTER_US
    rows = np.flatnonzero(_changes(readings, quarter))
    copy_into(cur, "dirty", [Column("base_id", "int2", readings.base_id[rows]),
                             Column("point_id", "int4", readings.point_id[rows]),
                             Column("bucket", "timestamptz", quarter[rows] * QUARTER_US)])


def _changes(r: Readings, column: NDArray[np.int64] | None = None) -> NDArray[np.bool_]:
    """Where ordered readings (N,) come to another point, or to another value of `column`."""
    new = (r.point_id[1:] != r.point_id[:-1]) | (r.base_id[1:] != r.base_id[:-1])
    if column is not None:
        new |= column[1:] != column[:-1]
    marks: NDArray[np.bool_] = np.r_[True, new]
    return marks


def _write_collector_letters(cur: psycopg.Cursor[Any], letters: list[DeadLetter], counts: Counter[tuple[int, str]]) -> None:
    """Each letter once: `duplicate` when its number is in the ledger, `repeated` when its content lies there already."""
    for x in letters:
        written = cur.execute(QUERIES["insert_letter_once"], _letter_row(x)).fetchone()
        outcome = "duplicate" if written is None else "repeated" if written[0] else f"dead:{x.reason}"
        counts[x.base_id or 0, outcome] += 1


def _letter_row(x: DeadLetter) -> dict[str, Any]:
    return {"base_id": x.base_id, "topic": x.topic, "source": x.source, "seq": x.seq, "reason": x.reason,
            "detail": x.detail.replace("\x00", ""), "payload": x.payload}
