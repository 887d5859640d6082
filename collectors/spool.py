"""The durable spool between collectors and broker: SQLite in WAL mode, synchronous FULL, one blob a batch.

`seq` is the row's number. It never repeats for a source: the table is AUTOINCREMENT, and each opening moves the
number to the present epoch milliseconds at least, so that a lost or restored file does not reuse numbers that ingest
has already seen. The size is bounded: when it is full the oldest batches go or no new ones are taken, as declared
(`full`); either way counted and logged.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import sqlite3
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal, Protocol

from park.clock import Clock, utc_now
from park.errors import SetupError, StorageError

log = logging.getLogger(__name__)

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
                 full: Literal["oldest", "newest"] = "oldest", clock: Clock = utc_now) -> None:
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
            try:
                with self._db:
                    self._db.execute("BEGIN IMMEDIATE")
                    dropped = self._make_room(size)
                    self._db.executemany("INSERT INTO batch (seq, topic, n, payload) VALUES (?, ?, ?, ?)", rows)
            except sqlite3.Error as exc:
                raise StorageError(f"the spool {self.path} did not take {len(rows)} batches: {exc}") from exc
            self._next_seq += len(rows)
            self._batches += len(rows) - dropped.batches
            self._bytes += size - dropped.bytes
            self._dropped_batches += dropped.batches
            self._dropped_readings += dropped.dropped_readings

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
        self._count_dropped(len(seqs), readings)
        log.error("spool %s is full (%d bytes): the %d oldest batches with %d readings are dropped",
                  self.path, self.max_bytes, len(seqs), readings)
        return SpoolSize(len(seqs), freed, len(seqs), readings)

    def _count_dropped(self, batches: int, readings: int) -> None:
        self.dropped_at = self._clock().timestamp()
        for name, more in (("dropped_batches", batches), ("dropped_readings", readings)):
            self._db.execute("""INSERT INTO counter VALUES (?, ?)
                ON CONFLICT (name) DO UPDATE SET value = value + excluded.value""", (name, more))

    def count_dropped(self, batches: int, readings: int) -> None:
        """Count what the caller gives up after SpoolFull."""
        with self._lock, self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._count_dropped(batches, readings)
        self._dropped_batches += batches
        self._dropped_readings += readings

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
        """Remember a fact about this source for ever."""
        with self._lock:
            self._db.execute("INSERT INTO counter VALUES (?, 1) ON CONFLICT (name) DO NOTHING", (name,))

    def is_marked(self, name: str) -> bool:
        """Whether `mark` was ever called with this name."""
        with self._lock:
            return self._db.execute("SELECT 1 FROM counter WHERE name = ?", (name,)).fetchone() is not None

    def delete(self, seqs: Iterable[int]) -> tuple[int, int]:
        """Forget batches that are delivered; how many (batches, readings) of them were here."""
        batches = readings = 0
        with self._lock, self._db:
            self._db.execute("BEGIN IMMEDIATE")
            for seq in seqs:
                row = self._db.execute("DELETE FROM batch WHERE seq = ? RETURNING length(payload), n",
                                       (seq,)).fetchone()
                if row is not None:
                    self._batches -= 1
                    self._bytes -= int(row[0])
                    batches, readings = batches + 1, readings + int(row[1])
        return batches, readings

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
