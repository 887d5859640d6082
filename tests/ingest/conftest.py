"""A stream with a known answer, for tests of faults: what was sent, and whether the database holds just that.

The sender does what a collector does: it keeps each batch until ingest says that it is committed, and sends it again
when that does not come. Whatever is killed meanwhile, every reading must be in the table once at the end.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any, Protocol
from uuid import uuid4

import msgspec
import psutil
import psycopg
import pytest

from ingest.replay import replay
from ingest.verify import verify
from park.broker import Broker, free_port
from park.catalogue import read_catalogue
from park.catalogue_store import apply
from park.database import connect as open_database
from park.database import migrate
from park.embedded import Postgres
from park.mqtt import connect, new_client
from park.wire import Batch, encode_batch

ROOT = Path(__file__).parents[2]
MINI = ROOT / "tests" / "data" / "mini.yaml"
SIZE = 50           # readings a message
RESEND_S = 2.5
RESEND_MOST_S = 60.0        # later each time: what nobody answers must not fill the broker
WINDOW = 2_000      # batches sent and not confirmed; what is more waits at the sender, as in a spool

OFF_CLOCK = """
import pathlib, sys, time
real, off = time.time_ns, pathlib.Path(sys.argv.pop(1))
time.time_ns = lambda: real() + int(off.read_text()) * 1_000_000_000
from park.cli import main
main()
"""


def wait_for(reached: Callable[[], bool], timeout_s: float = 20.0, what: str = "it") -> None:
    deadline = time.monotonic() + timeout_s
    while not reached():
        assert time.monotonic() < deadline, f"{what} was not reached in {timeout_s:.0f} s"
        time.sleep(0.05)


class Server(Protocol):
    """What may be killed: the embedded PostgreSQL or broker."""

    @property
    def pid(self) -> int | None: ...
    def start(self) -> Any: ...


class Ingest:
    """`park ingest` as a process of its own, started again whenever it is asked."""

    def __init__(self, database_url: str, mqtt_url: str, log: Path, *options: str, clock: Path | None = None) -> None:
        self._environment = os.environ | {"PARK_DATABASE_URL": database_url, "PARK_MQTT_URL": mqtt_url}
        self._log = log
        self._options = options or ("--client-id", f"ingest-{uuid4().hex[:8]}")
        # with `clock`, the process's clock is off by the seconds that this file holds
        self._program = ["-c", OFF_CLOCK, str(clock)] if clock else ["-m", "park.cli"]
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process else None

    def start(self) -> Ingest:
        if self.process is not None:
            self.process.wait()
        with self._log.open("ab") as log:
            self.process = subprocess.Popen([sys.executable, *self._program, "ingest", *self._options], cwd=ROOT,
                                            env=self._environment, stderr=log)
        return self

    def rss_mb(self) -> float:
        return psutil.Process(self.pid).memory_info().rss / 1e6 if self.process and self.process.poll() is None else 0.0

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


class Sender:
    """Sends `points` points a tick at `rate` readings a second until stopped; `settle` waits for the last confirmation.

    Tick t of point p is the instant `first_ms + 1000 t` and the value of `value_sql`. Now and then a batch is sent
    twice, or long after those behind it.
    """

    def __init__(self, url: str, base: str, codes: list[str], *, rate: int, first_ms: int) -> None:
        self.codes, self.rate, self.first_ms = codes, rate, first_ms
        self.ticks = 0
        self.resent = 0
        self._base, self._url = base, url
        self._parts = len(codes) // SIZE
        self._kept: dict[int, tuple[int, int]] = {}     # seq -> tick, part: everything that is not confirmed
        self._waiting: deque[int] = deque()
        self._flying: dict[int, float] = {}             # seq -> when it is due again
        self._tries: dict[int, int] = {}
        self._stop, self._lock = Event(), Lock()
        self._client = new_client(url, f"sender-{uuid4().hex[:8]}")
        self._client.reconnect_delay_set(1, 1)
        self._client.on_message = self._confirmed
        self._client.on_connect = lambda client, *_: client.subscribe(f"park/v1/{base}/soak/committed", 1)
        connect(self._client, url)
        self._client.loop_start()
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def sent(self) -> int:
        return self.ticks * self._parts * SIZE

    @property
    def batches(self) -> int:
        return self.ticks * self._parts

    @property
    def unconfirmed(self) -> int:
        return len(self._kept)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def settle(self, timeout_s: float) -> None:
        """Send what is left until every batch is confirmed."""
        self.stop()
        deadline = time.monotonic() + timeout_s
        while self._kept:
            assert time.monotonic() < deadline, f"{len(self._kept)} batches were not confirmed in {timeout_s:.0f} s"
            self._send()
            time.sleep(0.02)

    def close(self) -> None:
        self._stop.set()
        self._client.disconnect()
        self._client.loop_stop()

    def _run(self) -> None:
        began, a_tick_s = time.monotonic(), self._parts * SIZE / self.rate
        while not self._stop.is_set():
            while self.ticks * a_tick_s <= time.monotonic() - began and not self._stop.is_set():
                for part in range(self._parts):
                    seq = self.ticks * self._parts + part
                    self._kept[seq] = self.ticks, part
                    if seq % 50 != 49:                      # this one comes late: with the resends
                        self._waiting.append(seq)
                    else:
                        self._flying[seq] = time.monotonic() + RESEND_S
                    if seq % 37 == 0:
                        self._waiting.append(seq)
                self.ticks += 1
                self._send()
            self._send()
            time.sleep(0.01)

    def _send(self) -> None:
        now = time.monotonic()
        with self._lock:
            late = [seq for seq, due in self._flying.items() if now > due]
            self.resent += len(late)
            seqs = late + [self._waiting.popleft() for _ in range(min(len(self._waiting), max(0, WINDOW - len(self._flying))))]
            for seq in seqs:
                if seq in self._kept:
                    tries = self._tries[seq] = self._tries.get(seq, -1) + 1
                    self._flying[seq] = now + min(RESEND_S * 2.0**tries, RESEND_MOST_S)
        for seq in seqs:
            if seq in self._kept:
                self._client.publish(f"park/v1/{self._base}/soak/readings", self._payload(seq), qos=1)

    def _payload(self, seq: int) -> bytes:
        tick, part = self._kept.get(seq, (seq // self._parts, seq % self._parts))
        points = range(part * SIZE, part * SIZE + SIZE)
        return encode_batch(Batch(seq, [self.codes[p] for p in points], [self.first_ms + 1000 * tick] * SIZE,
                                  [float(tick * (p % 7) + p) for p in points], None))

    def _confirmed(self, _: Any, __: Any, message: Any) -> None:
        with self._lock:
            for seq in msgspec.json.decode(message.payload)["seq"]:
                self._kept.pop(seq, None)
                self._flying.pop(seq, None)
                self._tries.pop(seq, None)


class Stream:
    """A database of its own with 1,000 points, a broker, ingest, and a sender on it."""

    def __init__(self, folder: Path, *, rate: int, points: int = 1000, data_dir: Path | None = None,
                 options: tuple[str, ...] = (), clock: Path | None = None, ago_s: int = 86_400, **config: str) -> None:
        self.postgres = Postgres(data_dir or folder / "pg", config={"shared_buffers": "128MB"} | config).start()
        self.url = self.postgres.url()
        migrate(self.url)
        with open_database(self.url, autocommit=True) as db:
            apply(db, read_catalogue([MINI]))
            db.execute("""INSERT INTO point (base_id, code, name_zh, name_en, quantity, unit, kind)
                SELECT 1, 'soak.' || i, 'p', 'p', 'active_energy', 'kWh', CASE WHEN i %% 3 = 0 THEN 'counter' ELSE 'gauge' END
                FROM generate_series(0, %s) i""", (points - 1,))
        self.broker = Broker(folder / "broker", free_port()).start()
        self.ingests = [Ingest(self.url, self.broker.url, folder / "ingest.log", *options, clock=clock).start()]
        self.log = folder / "ingest.log"
        # the session begins with the first subscription: the sender's resends cover what comes before it
        self.sender = Sender(self.broker.url, "mini", [f"soak.{i}" for i in range(points)], rate=rate,
                             first_ms=int(time.time() - ago_s) * 1000)

    @property
    def ingest(self) -> Ingest:
        return self.ingests[0]

    def db(self) -> psycopg.Connection[Any]:
        return open_database(self.url, autocommit=True)

    def stored(self) -> int:
        with self.db() as db:
            row = db.execute("SELECT coalesce(sum(n), 0) FROM ingest_counter WHERE outcome = 'stored'").fetchone()
        return int(row[0]) if row else 0

    def check(self, timeout_s: float = 60.0, *, replayed: bool = False) -> str:
        """End the stream and compare: nothing missing, nothing double or different, rollups equal a recompute.

        With `replayed`, what was set aside for its time is replayed first."""
        began = time.monotonic()
        self.sender.settle(timeout_s)
        if replayed:
            assert replay(self.url, ["bad_time"]).left == 0
        settled_s = time.monotonic() - began
        n = self.sender.sent
        with self.db() as db:
            assert db.execute("SELECT count(*) FROM reading").fetchone() == (n,)
            wrong = db.execute("""SELECT count(*) FROM (SELECT value, substr(code, 6)::integer AS i,
                    ((extract(epoch FROM ts) * 1000)::bigint - %s) / 1000 AS tick
                FROM reading JOIN point USING (base_id, point_id)) r WHERE value <> tick * (i %% 7) + i""",
                (self.sender.first_ms,)).fetchone()
            assert wrong == (0,)
            counts = dict(db.execute("SELECT outcome, sum(n) FROM ingest_counter GROUP BY outcome").fetchall())
            assert counts.pop("stored") == n
            assert counts.pop("dead:bad_time", 0) == counts.pop("replayed", 0)
            assert not counts.keys() - {"duplicate", "late"}, counts
            assert db.execute("SELECT count(*), sum(n_readings) FROM ingest_batch").fetchone() == (self.sender.batches, n)
            assert db.execute("SELECT (SELECT count(*) FROM dead_letter WHERE replayed_at IS NULL), "
                              "(SELECT count(*) FROM reading_revision)").fetchone() == (0, 0)
        assert verify(self.url) == []
        return f"{n:,} readings, 0 missing, 0 double; {self.sender.resent} batches resent; settled in {settled_s:.1f} s"

    def close(self) -> None:
        self.sender.close()
        for ingest in self.ingests:
            ingest.stop()
        self.broker.stop()
        self.postgres.stop()


@pytest.fixture
def stream(tmp_path: Path) -> Iterator[Callable[..., Stream]]:
    """Makes streams; whatever is left of them ends with the test."""
    opened: list[Stream] = []

    def open_stream(rate: int, **options: Any) -> Stream:
        opened.append(Stream(tmp_path, rate=rate, **options))
        return opened[-1]

    yield open_stream
    for one in opened:
        one.close()
