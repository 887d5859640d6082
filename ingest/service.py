"""`park ingest`: the subscriber, its writers and the rollup pass in one process, until SIGTERM or SIGINT."""

from __future__ import annotations

import gc
import logging
import signal
import sys
import time
from collections.abc import Sequence
from threading import Event, Thread

import psycopg

from ingest import upkeep
from ingest.inbox import Inbox
from ingest.links import Teller
from ingest.metrics import Metrics
from ingest.rollup import PARTS, prepare, roll_up
from ingest.subscriber import Subscriber
from ingest.writer import Writer
from park.database import connect
from park.errors import StorageError
from park.settings import Settings

log = logging.getLogger("ingest")
ROLLUP_EVERY_S = 2.0


class Service:
    """The threads of ingest; `start`, then `stop` within 3 s. Nothing is lost by stopping: what is not committed is
    not acknowledged."""

    def __init__(self, settings: Settings, *, client_id: str = "park-ingest", workers: int = 1,
                 group: str = "", metrics: Metrics | None = None) -> None:
        self.metrics = metrics or Metrics()
        self._stop = Event()
        room = max(1, settings.queue_messages // workers)
        self.inboxes = [Inbox(room) for _ in range(workers)]
        self.subscriber = Subscriber(settings.mqtt_url, client_id, self.inboxes, self._stop, group)
        self.writers = [Writer(settings, i, self.subscriber.acknowledge, self._stop, self.metrics) for i in self.inboxes]
        parts = [[part] for part in PARTS] if workers > 1 else [PARTS]
        rollups = [Rollup(settings.database_url, self._stop, self.metrics, p) for p in parts]
        links = Teller(settings.database_url, client_id, lambda: self.subscriber.connected, self._stop)
        runs = [("subscriber", self.subscriber.run), ("gauges", self._watch),
                *((f"rollup-{k}", r.run) for k, r in enumerate(rollups)),
                ("upkeep", lambda: upkeep.run(settings, self._stop)), ("links", links.run),
                *((f"writer-{k}", w.run) for k, w in enumerate(self.writers))]
        self._threads = [Thread(target=run, name=f"ingest-{name}", daemon=True) for name, run in runs]

    def start(self) -> Service:
        """Run every thread."""
        for thread in self._threads:
            thread.start()
        return self

    def stop(self, timeout_s: float = 3.0) -> None:
        """End every thread, giving each batch under way its time."""
        self._stop.set()
        for inbox in self.inboxes:
            inbox.close()
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _watch(self) -> None:
        told = 0
        while not self._stop.wait(1):
            now = self.subscriber.n_received
            self.metrics.messages.inc(now - told)
            told = now
            self.metrics.held.set(sum(map(len, self.inboxes)))
            self.metrics.broker_up.set(self.subscriber.connected)


class Rollup:
    """The rollup pass over some parts of the points every two seconds, never more than half of the time."""

    def __init__(self, url: str, stop: Event, metrics: Metrics, parts: Sequence[int] = PARTS) -> None:
        self.parts = parts
        self.url = url
        self.stop = stop
        self.metrics = metrics

    def run(self) -> None:
        """Pass after pass until told to stop."""
        while not self.stop.is_set():
            try:
                with connect(self.url, autocommit=True, name="park rollup") as conn:
                    prepare(conn)
                    self._passes(conn)
            except (psycopg.Error, StorageError) as exc:
                log.warning("rollups wait: %s", " ".join(str(exc).split()))
                self.stop.wait(ROLLUP_EVERY_S)
            except Exception:  # drops nothing: the pass rolled back, and what it took is in the log of work again
                log.exception("unexpected; rollups start again")
                self.stop.wait(ROLLUP_EVERY_S)

    def _passes(self, conn: psycopg.Connection[tuple[object, ...]]) -> None:
        while not self.stop.is_set():
            began = time.monotonic()
            done = roll_up(conn, parts=self.parts)
            took_s = time.monotonic() - began
            if done.quarters:
                self.metrics.rollup_seconds.observe(took_s)
            self.metrics.rollup_at.set_to_current_time()
            self.stop.wait(took_s if done.more else max(ROLLUP_EVERY_S - took_s, took_s))


def serve(settings: Settings, *, client_id: str, workers: int, metrics_port: int | None, group: str = "") -> None:
    """Run until SIGTERM or SIGINT."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)  # batches come and go by the ten thousand objects and have no cycles
    sys.setswitchinterval(0.001)      # the thread at the database must not wait 5 ms for the one that decodes
    asked = Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: asked.set())
    service = Service(settings, client_id=client_id, workers=workers, group=group)
    if metrics_port is not None:
        service.metrics.serve(metrics_port)
    service.start()
    log.info("ingest runs with %d writer(s)", workers)
    while not asked.wait(1):
        pass
    log.info("stopping")
    service.stop()
