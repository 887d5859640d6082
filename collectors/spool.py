"""The durable spool between collectors and broker: SQLite in WAL mode, synchronous FULL, one blob a batch.

`seq` is the row's number. It never repeats for a source: the table is AUTOINCREMENT, and each opening moves the
number to the present epoch milliseconds at least, so that a lost or restored file does not reuse numbers that ingest
has already seen. The size is bounded: when it is full the oldest batches go or no new ones are taken, as declared
(`full`); either way counted and logged. A disk that is full takes no more readings, but what is delivered can still be
forgotten: `disk_reserve`.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import sqlite3
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal, Protocol, TypeVar

from collectors.disk_reserve import RESERVE_BYTES, DiskReserve
from park.clock import Clock, utc_now
from park.errors import SetupError, StorageError

log = logging.getLogger(__name__)
T = TypeVar("T")

SHRINK_FROM_PAGES = 16384
"""An empty spool gives unused pages back to the disk from this number on (64 MiB); from a 256th of it on a full disk."""

SAID_EVERY_S = 60.0

_SCHEMA = """
CREATE TABLE IF NOT EXISTS batch (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    topic TEXT NOT NULL,
    n INTEGER NOT NULL,
    payload BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
"""


class Spoolable(Protocol):
    """What a spool takes: it has a number of readings, a topic, and a payload under a batch number."""

    def __len__(self) -> int: ...

    def topic(self, source: str) -> str:
        """Where it goes."""

    def encode(self, seq: int) -> bytes:
        """Its bytes under the number `seq`."""


class SpoolFull(StorageError):
    """The spool is full and keeps what it has (`full="newest"`): nothing of the append was taken."""


@dataclass(frozen=True)
class Spooled:
    """One batch as it will be published."""

    seq: int
    topic: str
    n: int
    payload: bytes


@dataclass(frozen=True)
class SpoolSize:
    """What waits in the spool, and what it ever had to drop because it was full."""

    batches: int
    bytes: int
    dropped_batches: int
    dropped_readings: int
    max_bytes: int = 0

    @property
    def share(self) -> float:
        """How full it is, 0 to 1."""
        return self.bytes / self.max_bytes if self.max_bytes else 0.0


class Spool:
    """One file for one source. Appends and deletes may come from different threads."""

    def __init__(self, path: Path, source: str, *, max_bytes: int = 2 << 30,
                 full: Literal["oldest", "newest"] = "oldest", clock: Clock = utc_now,
                 reserve_bytes: int = RESERVE_BYTES) -> None:
        self.path = path
        self.source = source
        self.max_bytes = max_bytes
        self.full = full
        self.dropped_at: float | None = None
        self._clock = clock
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock_file = _exclusive(path.with_suffix(".lock"))
        self._lock = threading.Lock()
        self._db = self._open()
        self._reserve = DiskReserve(path.with_suffix(".reserve"), min(reserve_bytes, max(1, max_bytes // 8)))
        self._said_at = 0.0
        rows = self._db.execute("SELECT count(*), coalesce(sum(length(payload)), 0) FROM batch").fetchone()
        self._batches, self._bytes = int(rows[0]), int(rows[1])
        counters = dict(self._db.execute("SELECT name, value FROM counter").fetchall())
        self._dropped_batches = int(counters.get("dropped_batches", 0))
        self._dropped_readings = int(counters.get("dropped_readings", 0))
        last = self._db.execute("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'batch'").fetchone()[0]
        self._next_seq = max(int(last) + 1, int(clock().timestamp() * 1000))

    def _open(self) -> sqlite3.Connection:
        try:
            return _connect(self.path)
        except sqlite3.DatabaseError as exc:
            if isinstance(exc, sqlite3.OperationalError):
                raise StorageError(f"the spool {self.path} cannot be opened: {exc}") from exc
            broken = self.path.with_name(f"{self.path.name}.broken-{self.path.stat().st_mtime_ns}")
            log.error("spool %s is damaged (%s): kept as %s, a new one begins", self.path, exc, broken.name)
            self.path.rename(broken)
            for suffix in ("-wal", "-shm"):
                beside = self.path.with_name(self.path.name + suffix)
                if beside.exists():
                    beside.rename(broken.with_name(broken.name + suffix))
            return _connect(self.path)

    def append(self, items: Sequence[Spoolable]) -> None:
        """Write items in one durable transaction; StorageError (and nothing written) when the disk refuses, SpoolFull
        when the spool is full and keeps what it has."""
        with self._lock:
            rows = [(seq, item.topic(self.source), len(item), item.encode(seq))
                    for seq, item in enumerate(items, self._next_seq)]
            size = sum(len(r[3]) for r in rows)
            if self.full == "newest" and self._bytes + size > self.max_bytes:
                raise SpoolFull(f"the spool {self.path} is full ({self.max_bytes} bytes): {len(rows)} batches are not taken")
            if not self._has_room(size):
                raise StorageError(f"the spool {self.path} did not take {len(rows)} batches: the disk is full")
            try:
                with self._db:
                    self._db.execute("BEGIN IMMEDIATE")
                    dropped = self._make_room(size)
                    self._db.executemany("INSERT INTO batch (seq, topic, n, payload) VALUES (?, ?, ?, ?)", rows)
                    if dropped.batches:
                        self._keep_dropped(dropped.batches, dropped.dropped_readings)
            except sqlite3.Error as exc:
                self._checkpoint()
                raise StorageError(f"the spool {self.path} did not take {len(rows)} batches: {exc}") from exc
            self._next_seq += len(rows)
            self._batches += len(rows) - dropped.batches
            self._bytes += size - dropped.bytes
            if dropped.batches:
                self._note_dropped(dropped.batches, dropped.dropped_readings)

    def _has_room(self, size: int) -> bool:
        """While the reserve is given up only room that draining does not need is written into: SQLite's unused pages, or a
        disk that has space again."""
        if self._reserve.held:
            return True
        free = self._reserve.free_bytes()
        if free >= self._reserve.size // 2:
            return True
        unused = int(self._db.execute("PRAGMA freelist_count").fetchone()[0]) * 4096
        return free >= self._reserve.size // 8 and unused >= 2 * size + (1 << 18)

    def _make_room(self, size: int) -> SpoolSize:
        """Delete the oldest batches until `size` more bytes fit; inside the caller's transaction."""
        over = self._bytes + size - self.max_bytes
        if over <= 0:
            return SpoolSize(0, 0, 0, 0)
        seqs, freed, readings = [], 0, 0
        for seq, n, length in self._db.execute("SELECT seq, n, length(payload) FROM batch ORDER BY seq"):
            if freed >= over:
                break
            seqs.append((seq,))
            freed += length
            readings += n
        self._db.executemany("DELETE FROM batch WHERE seq = ?", seqs)
        return SpoolSize(len(seqs), freed, len(seqs), readings)

    def _note_dropped(self, batches: int, readings: int) -> None:
        self._dropped_batches += batches
        self._dropped_readings += readings
        now = self._clock().timestamp()
        self.dropped_at = now
        if abs(now - self._said_at) >= SAID_EVERY_S:
            self._said_at = now
            log.error("spool %s is full (%d bytes), the %s are dropped: %d batches with %d readings so far", self.path,
                      self.max_bytes, "oldest" if self.full == "oldest" else "newest", self._dropped_batches,
                      self._dropped_readings)

    def _keep_dropped(self, batches: int, readings: int) -> None:
        """Write the counters with so much added; as totals, because an earlier write may have failed."""
        totals = {"dropped_batches": self._dropped_batches + batches, "dropped_readings": self._dropped_readings + readings}
        self._db.executemany("INSERT INTO counter VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                             totals.items())

    def count_dropped(self, batches: int, readings: int) -> None:
        """Count what the caller gives up after SpoolFull; a disk that does not take the count is told it with the next one."""
        with self._lock:
            try:
                with self._db:
                    self._db.execute("BEGIN IMMEDIATE")
                    self._keep_dropped(batches, readings)
            except sqlite3.Error as exc:
                log.error("spool %s: the count of dropped readings is not on disk: %s", self.path, exc)
            self._note_dropped(batches, readings)

    def after(self, seq: int, limit: int, *, upto: int = 2**63 - 1) -> list[Spooled]:
        """Up to `limit` batches behind `seq` and not behind `upto`, in order."""
        with self._lock:
            rows = self._db.execute("SELECT seq, topic, n, payload FROM batch WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?",
                                    (seq, upto, limit)).fetchall()
        return [Spooled(*row) for row in rows]

    def some(self, seqs: Iterable[int]) -> list[Spooled]:
        """Those of the batches that are still here."""
        with self._lock:
            rows = [self._db.execute("SELECT seq, topic, n, payload FROM batch WHERE seq = ?", (seq,)).fetchone()
                    for seq in seqs]
        return [Spooled(*row) for row in rows if row is not None]

    def mark(self, name: str) -> None:
        """Remember a fact about this source for ever; StorageError as `delete`."""
        with self._lock:
            self._surely(lambda: self._db.execute("INSERT INTO counter VALUES (?, 1) ON CONFLICT (name) DO NOTHING", (name,)))

    def is_marked(self, name: str) -> bool:
        """Whether `mark` was ever called with this name."""
        with self._lock:
            return self._db.execute("SELECT 1 FROM counter WHERE name = ?", (name,)).fetchone() is not None

    def delete(self, seqs: Iterable[int]) -> tuple[int, int]:
        """Forget batches that are delivered; how many (batches, readings) of them were here. StorageError (and nothing
        forgotten) when a full disk does not even take that with the reserve given up."""
        wanted = list(seqs)
        with self._lock:
            batches, readings, freed = self._surely(lambda: self._delete(wanted))
            self._batches -= batches
            self._bytes -= freed
            if self._batches == 0:
                self._shrink()
            self._reserve.hold()
        return batches, readings

    def _surely(self, write: Callable[[], T]) -> T:
        """Write what needs little room, if need be in that of the reserve."""
        try:
            return write()
        except sqlite3.OperationalError:
            self._reserve.release()
            self._checkpoint()
        try:
            return write()
        except sqlite3.Error as exc:
            raise StorageError(f"the spool {self.path} cannot forget what is delivered: {exc}") from exc

    def _checkpoint(self) -> None:
        """Move the log into the file, so that its room is used again."""
        with contextlib.suppress(sqlite3.Error):
            self._db.execute("PRAGMA wal_checkpoint(RESTART)")

    def _delete(self, seqs: Sequence[int]) -> tuple[int, int, int]:
        """(batches, readings, bytes) that went, in one transaction."""
        batches = readings = freed = 0
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            for seq in seqs:
                row = self._db.execute("DELETE FROM batch WHERE seq = ? RETURNING length(payload), n",
                                       (seq,)).fetchone()
                if row is not None:
                    batches, readings, freed = batches + 1, readings + int(row[1]), freed + int(row[0])
        return batches, readings, freed

    def _shrink(self) -> None:
        """Give the disk back what a long outage took; the spool is empty, so that little is moved."""
        from_pages = SHRINK_FROM_PAGES if self._reserve.held else SHRINK_FROM_PAGES // 256
        if self._db.execute("PRAGMA freelist_count").fetchone()[0] >= from_pages:
            with contextlib.suppress(sqlite3.Error):  # it stays large: no reading depends on it
                self._db.execute("VACUUM")
                self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    @property
    def newest(self) -> int:
        """Number of the newest batch that was ever appended; cheap, for a look without a query."""
        return self._next_seq - 1

    def size(self) -> SpoolSize:
        """Present size and what was dropped for want of room."""
        with self._lock:
            return SpoolSize(self._batches, self._bytes, self._dropped_batches, self._dropped_readings, self.max_bytes)

    def close(self) -> None:
        """Close the file and give it free for another process."""
        with self._lock:
            self._db.close()
        self._lock_file.close()


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=10)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA journal_size_limit = 67108864")
        db.executescript(_SCHEMA)
        db.execute("SELECT count(*) FROM batch").fetchone()
    except sqlite3.DatabaseError:
        db.close()
        raise
    return db


def _exclusive(path: Path) -> IO[str]:
    file = path.open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        with contextlib.suppress(OSError):
            file.close()
        raise SetupError(f"another collector holds the spool {path.with_suffix('.sqlite')}; "
                         "give this one another --source, or end the other") from exc
    return file
