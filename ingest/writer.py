"""A writer: commits what its gatherer has made ready, and only then lets it be acknowledged.

It survives the loss of the database by holding its batch and trying again; a batch that the database refuses is
halved until the one message is found that it refuses, which becomes a dead letter.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from threading import Event, Thread, current_thread
from typing import Any

import psycopg

from ingest.directory import QUERIES, Directory, load_directory
from ingest.gathering import Gathered, Gatherer, decode
from ingest.inbox import Inbox, Received
from ingest.metrics import Metrics
from ingest.store import Batch, Store
from ingest.validation import DeadLetter, Judged
from park.database import connect
from park.errors import StorageError
from park.settings import Settings
from park.wire import decode_batch, encode_batch

log = logging.getLogger("ingest.writer")
ASKED = 200     # unknown points of a batch that the catalogue is asked for
AWAY = (psycopg.OperationalError, psycopg.InterfaceError, psycopg.ProgrammingError, StorageError)
# what one message can bring about, whatever it holds: it must not stop those behind it
REFUSED = (psycopg.DataError, psycopg.IntegrityError, psycopg.InternalError, ValueError, TypeError, ArithmeticError,
           LookupError)


class Writer:
    """`run` writes until `stop` is set; `acknowledge` is told what was committed."""

    def __init__(self, settings: Settings, inbox: Inbox, acknowledge: Callable[[Sequence[Received]], None], stop: Event,
                 metrics: Metrics) -> None:
        self.settings = settings
        self.inbox = inbox
        self.acknowledge = acknowledge
        self.stop = stop
        self.metrics = metrics
        self.gatherer = Gatherer(settings, inbox, stop)
        self._held: Gathered | None = None
        self._directory: Directory | None = None

    def run(self) -> None:
        """Write until told to stop; reconnect with growing patience when the database is away."""
        Thread(target=self.gatherer.run, name=f"{current_thread().name}-gather", daemon=True).start()
        wait_s = 0.5
        while not self.stop.is_set():
            try:
                with connect(self.settings.database_url, autocommit=True, name="park ingest") as conn:
                    store = self._ready(conn)
                    wait_s = 0.5
                    while not self.stop.is_set():
                        self._step(store)
            except AWAY as exc:
                log.warning("the database does not take readings: %s; next try in %.1f s", _line(exc), wait_s)
                self.metrics.database_up.set(0)
                self.stop.wait(wait_s)
                wait_s = min(wait_s * 2, 15)
            except Exception:  # drops nothing: the batch stays unacknowledged, counted as held
                log.exception("unexpected; the batch is held and tried again")
                self.stop.wait(wait_s)
                wait_s = min(wait_s * 2, 15)

    def _ready(self, conn: psycopg.Connection[Any]) -> Store:
        conn.add_notify_handler(self._forget_directory)
        conn.execute("LISTEN park_catalogue")
        store = Store(conn, future_after_s=self.settings.future_after_s, late_after_s=self.settings.late_after_s)
        self._directory = None
        self.metrics.database_up.set(1)
        return store

    def _fresh_directory(self, conn: psycopg.Connection[Any]) -> Directory:
        """The catalogue as it is now: loaded again if a notification waits on the socket or came with a query."""
        conn.pgconn.consume_input()
        while conn.pgconn.notifies() is not None:
            self._directory = None
        if self._directory is None:
            self._directory = self.gatherer.directory = load_directory(conn)
        return self._directory

    def _forget_directory(self, _: psycopg.Notify) -> None:
        self._directory = None

    def _step(self, store: Store) -> None:
        """Commit one batch; what was held over a lost connection comes first."""
        self._fresh_directory(store.conn)
        self._held = held = self._held or self.gatherer.next(0.5)
        if held is None:
            return
        directory = self._fresh_directory(store.conn)
        if held.directory is directory and _was_news(store.conn, held.judged):
            self._directory = None
            directory = self._fresh_directory(store.conn)
        began = time.perf_counter()
        if held.directory is directory:
            self._write(store, held.batch, directory, held.judged)
        else:  # the catalogue changed since it was gathered
            self._write(store, decode(held.received, directory).batch, directory)
        self.metrics.write_seconds.observe(time.perf_counter() - began)
        self.acknowledge(held.received)
        self.inbox.release(held.received)
        self._held = None

    def _write(self, store: Store, batch: Batch, directory: Directory, judged: Judged | None = None) -> None:
        try:
            self.metrics.count(store.write(batch, directory, judged=judged))
        except REFUSED as exc:
            halves = _halves(batch)
            if halves is None:
                log.error("the database refuses a message: %s", _line(exc))
                self.metrics.count(store.write(_as_letter(batch, exc), directory))
                return
            for half in halves:
                self._write(store, half, directory)


def _was_news(conn: psycopg.Connection[Any], judged: Judged | None) -> bool:
    """Whether the catalogue knows by now a point that was judged unknown: a collector may hear of a new one before us, and what
    it sends at once would else lie in dead letters until somebody replays them."""
    letters = [x for x in (judged.letters if judged else ()) if x.reason == "unknown_point"][:ASKED]
    codes = list({(x.base_id, code) for x in letters for code in decode_batch(x.payload).point})[:ASKED]
    if not codes:
        return False
    row = conn.execute(QUERIES["is_any_known"], {"bases": [b for b, _ in codes], "codes": [c for _, c in codes]}).fetchone()
    return row is not None and bool(row[0])


def _halves(batch: Batch) -> tuple[Batch, Batch] | None:
    """The batch in two, or None when it is a single thing."""
    parts: list[Batch] = [Batch(messages=[m]) for m in batch.messages] + [Batch(letters=[x]) for x in batch.letters] + \
                         [Batch(states=[s]) for s in batch.states] + [Batch(spools=[s]) for s in batch.spools]
    if len(parts) < 2:
        return None
    middle = len(parts) // 2
    return _joined(parts[:middle]), _joined(parts[middle:])


def _joined(parts: list[Batch]) -> Batch:
    return Batch([m for p in parts for m in p.messages], [x for p in parts for x in p.letters],
                 [s for p in parts for s in p.states], [s for p in parts for s in p.spools])


def _as_letter(batch: Batch, exc: Exception) -> Batch:
    """The single thing of a batch as a dead letter `refused`."""
    detail = _line(exc)[:500]
    for m in batch.messages:
        return Batch(letters=[DeadLetter(m.base_id, m.topic, m.source, m.batch.seq, "refused", detail, encode_batch(m.batch),
                                         len(m.batch.point))])
    for x in batch.letters:
        return Batch(letters=[replace(x, base_id=None, topic="", source="", seq=None, reason="refused", detail=detail)])
    state = (batch.states + batch.spools)[0]
    return Batch(letters=[DeadLetter(state["base_id"], "", "health", None, "refused", detail, repr(state).encode())])


def _line(exc: BaseException) -> str:
    return " ".join(str(exc).split())
