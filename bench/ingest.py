"""Ingest: from the broker to committed rows beside raw COPY into the same table, rollups, import, late repair, storage.

Beside a rate stands the processor time (user and system, of this process and the server) that it took: it tells more
than the wall clock where others work on the same machine.

Everything runs in one database of its own with the embedded server's usual settings (durable commits) and a broker of
its own. Messages are queued at the broker first and then drained by a real `park ingest`, so that the sender costs nothing.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import numpy as np
import paho.mqtt.client as mqtt
import psycopg
from psycopg import sql

from bench import _compression as compression
from ingest.bulk import load_blocks
from ingest.directory import load_directory
from ingest.importing import import_file
from ingest.packing import copy_into
from ingest.rollup import PARTS, prepare, roll_up_all
from ingest.service import Service
from ingest.store import Batch, Store, reading_columns
from ingest.tightening import tighten
from ingest.validation import Message, Readings
from park.broker import Broker
from park.database import connect as open_database
from park.database import migrate
from park.embedded import Postgres
from park.engine import CITUS, TIMESCALEDB, engine_of
from park.mqtt import connect, new_client
from park.settings import Settings
from park.wire import Batch as Columns
from park.wire import encode_batch

Row = tuple[str, str, str]
Server = int  # process id of the database server
POINTS = 1000
CLIENT = "park-ingest-bench"
CLIENT_BARE = "park-ingest-bench-bare"
MONDAY = datetime(2026, 1, 5, tzinfo=UTC)


def run() -> list[Row]:
    """Rows of name, figure, limit or goal."""
    with tempfile.TemporaryDirectory(prefix="park-bench-") as folder, _database(Path(folder)) as (url, server), \
            _QueueingBroker(Path(folder) / "broker").start() as broker:
        settings = Settings(database_url=url, mqtt_url=broker.url)
        with open_database(url, autocommit=True) as db:
            _catalogue(db)
            rows = _from_broker(db, settings, server)
            rows += _rollups(db, server)
            storage = _storage(db)
            rows.append(_import(db, url, Path(folder), server))
            rows += _history(db, url, server)
            rows.append(storage)
            if engine_of(db) == TIMESCALEDB:
                rows += compression.measure(db)
        return rows


@contextmanager
def _database(folder: Path) -> Iterator[tuple[str, Server]]:
    """URL of an empty migrated database, and the server's process id (0: on another machine).

    On the embedded server, or on that of PARK_BENCH_DATABASE_URL, whose extension decides the engine.
    """
    elsewhere = os.environ.get("PARK_BENCH_DATABASE_URL")
    if elsewhere is None:
        with Postgres(folder / "pg").start() as postgres:
            migrate(postgres.url())
            yield postgres.url(), postgres.pid or 0
        return
    name = f"park_bench_{uuid4().hex[:8]}"
    with psycopg.connect(elsewhere, autocommit=True) as conn:
        conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        url = urlunsplit(urlsplit(elsewhere)._replace(path="/" + name))
        stat = Path(f"/proc/{conn.info.backend_pid}/stat")
        citus = conn.execute("SELECT FROM pg_settings WHERE name = 'citus.shard_count'").fetchone() is not None
        try:
            migrate(url, citus=citus)
            yield url, int(stat.read_text().rsplit(")", 1)[1].split()[1]) if stat.exists() else 0
        finally:
            conn.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


class _QueueingBroker(Broker):
    """The embedded broker without saving its whole store at every change: that costs the square of what is queued."""

    def _command(self) -> list[str]:
        command = super()._command()
        config = self.data_dir / "mosquitto.conf"
        if config.exists():
            config.write_text(config.read_text().replace("autosave_on_changes true", "autosave_on_changes false")
                              .replace("autosave_interval 1\n", "autosave_interval 600\n"))
        return command


class _Took:
    """Wall and processor seconds since it was made; the processor's of this process, the server and its sessions, and
    `others`."""

    def __init__(self, server: Server, *others: int) -> None:
        self.server = server
        self.others = others
        self._began = time.perf_counter(), self._processor_s()

    def _processor_s(self) -> float:
        ticks = 0
        for folder in Path("/proc").iterdir():
            try:
                fields = (folder / "stat").read_text().rsplit(")", 1)[1].split() if folder.name.isdigit() else []
            except (FileNotFoundError, ProcessLookupError):
                continue
            if fields and (int(folder.name) in (self.server, *self.others) or int(fields[1]) == self.server):
                ticks += sum(map(int, fields[11:15] if int(folder.name) == self.server else fields[11:13]))
        own = os.times()
        return own.user + own.system + ticks / os.sysconf("SC_CLK_TCK")

    def seconds(self) -> tuple[float, float]:
        """Wall, processor."""
        return time.perf_counter() - self._began[0], self._processor_s() - self._began[1]


@dataclass(frozen=True)
class Rate:
    """Readings a second, and what each cost of processor time, client and server together."""

    a_second: float
    each_us: float

    @staticmethod
    def of(n: int, took: _Took) -> Rate:
        wall_s, processor_s = took.seconds()
        return Rate(n / wall_s, processor_s / n * 1e6)

    def __str__(self) -> str:
        return f"{self.a_second:,.0f} (processor {self.each_us:.1f} µs each)"


def _catalogue(db: psycopg.Connection[Any]) -> None:
    db.execute("INSERT INTO base (base_id, code, name_zh, name_en) VALUES (1, 'bench', 'bench', 'bench')")
    db.execute("""INSERT INTO point (base_id, point_id, code, name_zh, name_en, quantity, unit, kind)
        SELECT 1, i, 'p' || i, 'p', 'p', 'active_energy', 'kWh', CASE WHEN i %% 3 = 0 THEN 'counter' ELSE 'gauge' END
        FROM generate_series(1, %s) i""", (POINTS,))


def _readings(first: datetime, points: int, n: int, step_s: int) -> Readings:
    """n readings of each of some points, ordered by time as a poll gives them."""
    ts = int(first.timestamp()) * 1_000_000 + np.arange(n, dtype=np.int64) * step_s * 1_000_000
    total = points * n
    return Readings(np.ones(total, np.int16), np.tile(np.arange(1, points + 1, dtype=np.int32), n), np.repeat(ts, points),
                    np.random.default_rng(1).uniform(0, 100, total), np.zeros(total, np.int16), np.zeros(total, np.int32))


def _raw_copy(db: psycopg.Connection[Any], server: Server, run_number: int, rows: int, *, ordered: bool) -> Rate:
    """Binary COPY alone over one connection into the table with its key: so many rows a transaction, as they arrive or
    ordered by point as ingest orders its batches."""
    first = MONDAY + timedelta(days=70, hours=12 * run_number + (6 if ordered else 0))
    db.execute("SELECT ensure_reading_partitions(%s, %s)", (first, first + timedelta(hours=6)))
    readings = _readings(first, POINTS, 500, 5)
    batches = [readings.take(np.arange(k, k + rows)) for k in range(0, len(readings), rows)]
    if ordered:
        batches = [batch.take(np.lexsort((batch.ts_us, batch.point_id))) for batch in batches]
    took = _Took(server)
    for batch in batches:
        with db.transaction(), db.cursor() as cur:
            copy_into(cur, "reading", reading_columns(batch))
    return Rate.of(len(readings), took)


def _from_broker(db: psycopg.Connection[Any], settings: Settings, server: Server) -> list[Row]:
    """Ingest with its rollups beside it, and in the same minute its two limits: COPY without MQTT, MQTT without storage."""
    rows = []
    for k, (size, messages) in enumerate(((1, 20_000), (10, 20_000), (50, 30_000))):
        for client_id in (CLIENT, CLIENT_BARE):
            _subscribe_once(settings, client_id)
        _publish(settings.mqtt_url, size, messages, k)
        copied = _raw_copy(db, server, k, 10_000, ordered=False)
        best = _raw_copy(db, server, k, 50_000, ordered=True)
        ours = _drain(db, settings, size * messages, server)
        bare = size * _paho_alone(settings.mqtt_url, messages)
        goal = "goal 150,000 and 0.6 of raw COPY; " if size == 50 else ""
        rows.append((f"MQTT to committed rows/s, {size} a message", f"{ours}, rollups included",
                     f"{goal}raw COPY, 10,000 a commit {copied} ({ours.a_second / copied.a_second:.2f} of it), 50,000 ordered "
                     f"{best} ({ours.a_second / best.a_second:.2f}); paho without storage {bare:,.0f} "
                     f"({ours.a_second / bare:.2f})"))
    return rows


def _subscribe_once(settings: Settings, client_id: str) -> None:
    """Let the session exist, so that the broker queues for it."""
    service = Service(settings, client_id=client_id).start()
    while not service.subscriber.connected:
        time.sleep(0.05)
    time.sleep(0.3)
    service.stop()


def _paho_alone(url: str, messages: int) -> float:
    """Messages a second that paho takes and acknowledges in a process of its own, from a queue like the one of ingest."""
    done = subprocess.run([sys.executable, "-m", "bench._paho", url, CLIENT_BARE, str(messages)], check=True,
                          capture_output=True, text=True, cwd=Path(__file__).parents[1])
    return float(done.stdout)


def _publish(url: str, size: int, messages: int, run_number: int) -> None:
    first_ms = int((MONDAY + timedelta(days=80 + 2 * run_number)).timestamp()) * 1000
    client = new_client(url, "bench-sender")
    client.max_inflight_messages_set(1000)
    connect(client, url)
    client.loop_start()
    last: mqtt.MQTTMessageInfo | None = None
    for seq in range(messages):
        place = (seq * size) % POINTS
        at = first_ms + (seq * size) // POINTS * 5000
        values = [float(seq + i) for i in range(size)]
        batch = Columns(seq, [f"p{place + i + 1}" for i in range(size)], [at] * size, values, None)
        last = client.publish(f"park/v1/bench/run{run_number}/readings", encode_batch(batch), qos=1)
        if seq % 1000 == 999:
            last.wait_for_publish(60)
    if last is not None:
        last.wait_for_publish(60)
    client.disconnect()
    client.loop_stop()


def _drain(db: psycopg.Connection[Any], settings: Settings, total: int, server: Server) -> Rate:
    before = _stored(db)
    with _process(settings) as pid:
        while _stored(db) == before:
            time.sleep(0.005)
        took, first = _Took(server, pid), _stored(db) - before
        while (there := _stored(db) - before) < total:
            time.sleep(0.02)
        return Rate.of(there - first, took)


@contextmanager
def _process(settings: Settings) -> Iterator[int]:
    env = os.environ | {"PARK_DATABASE_URL": settings.database_url, "PARK_MQTT_URL": settings.mqtt_url,
                        "PARK_LOG_LEVEL": "ERROR"}
    process = subprocess.Popen([sys.executable, "-m", "park.cli", "ingest", "--client-id", CLIENT], env=env,
                               cwd=Path(__file__).parents[1])
    try:
        yield process.pid
    finally:
        process.terminate()
        process.wait(10)


def _stored(db: psycopg.Connection[Any]) -> int:
    row = db.execute("SELECT coalesce(sum(n), 0) FROM ingest_counter WHERE outcome = 'stored'").fetchone()
    return int(row[0]) if row else 0


def _rollups(db: psycopg.Connection[Any], server: Server) -> list[Row]:
    """Forward pass over readings that came at once, at two rates of a point."""
    prepare(db)
    roll_up_all(db)
    rows = []
    store = Store(db, future_after_s=600, late_after_s=900)
    for day, step_s, points in ((100, 5, 1000), (110, 60, 1000)):
        readings = _readings(MONDAY + timedelta(days=day), points, 700_000 // points, step_s)
        order = np.lexsort((readings.ts_us, readings.point_id))
        with db.transaction(), db.cursor() as cur:
            store.write_readings(cur, readings.take(order), ["bench"])
        took = _Took(server)
        n = _roll_up_by_two(db.info.dsn)
        wall_s, processor_s = took.seconds()
        rows.append((f"rollup, raw rows/s, a reading every {step_s} s",
                     f"{n / wall_s:,.0f} (processor {processor_s:.1f} s of {wall_s:.1f} s)",
                     "goal 500,000; two sessions" + (", a minute's row for each reading" if step_s == 60 else "")))
    return rows


def _roll_up_by_two(dsn: str) -> int:
    """Roll up what is in the log over two sessions, as `park ingest --workers 2` does; the readings."""
    def one(part: int) -> int:
        with open_database(dsn, autocommit=True) as conn:
            prepare(conn)
            return roll_up_all(conn, parts=(part,))
    with ThreadPoolExecutor(len(PARTS)) as pool:
        return sum(pool.map(one, PARTS))


def _import(db: psycopg.Connection[Any], url: str, folder: Path, server: Server) -> Row:
    path = folder / "import.csv"
    n_points, n = 100, 10_000
    with path.open("w") as file:
        file.write("point,at,value,quality\n")
        for t in range(n):
            at = (MONDAY + timedelta(days=130, minutes=5 * t)).strftime("%Y-%m-%dT%H:%M:%SZ")
            file.write("".join(f"p{p},{at},{t + p / 7:.3f},good\n" for p in range(1, n_points + 1)))
    took = _Took(server)
    outcome = import_file(url, "bench", path, lambda _: None)
    wall_s, processor_s = took.seconds()
    return ("import of a CSV to committed, rolled-up rows/s",
            f"{outcome.rows / wall_s:,.0f} (processor {processor_s:.1f} s of {wall_s:.1f} s)", "goal 300,000")


def _history(db: psycopg.Connection[Any], url: str, server: Server) -> list[Row]:
    """A year of 15-minute readings of 300 points; then one late point-day into it."""
    codes, first = [f"p{i}" for i in range(1, 301)], MONDAY - timedelta(days=371)
    random = np.random.default_rng(1)
    weeks = []
    for k in range(52):
        ts = (int(first.timestamp()) + k * 604_800 + np.arange(672) * 900) * 1000
        weeks.append((codes, ts, random.uniform(0, 100, (300, 672)), np.zeros((300, 672), np.int16)))
    took = _Took(server)
    n = load_blocks(url, "bench", weeks)
    loaded_s, processor_s = took.seconds()
    at = int((first + timedelta(days=100)).timestamp()) * 1000
    late = Columns(1, ["p7"] * 1440, [at + 60_000 * i + 1 for i in range(1440)], [1.0] * 1440, None)
    store = Store(db, future_after_s=600, late_after_s=900)
    began = time.perf_counter()
    store.write(Batch([Message(1, "late", "", time.time_ns() // 1000, late)]), load_directory(db))
    roll_up_all(db)
    repaired_s = time.perf_counter() - began
    return [("a year of history, 300 points, committed and rolled up",
             f"{loaded_s:.1f} s ({n / loaded_s:,.0f} rows/s; processor {processor_s:.1f} s)",
             f"goal {45 * n / 13_500_000:.0f} s (45 s for 13.5 million)"),
            ("one late point-day (1,440 readings) stored and repaired", f"{repaired_s:.2f} s", "goal 0.5 s")]


def _storage(db: psycopg.Connection[Any]) -> Row:
    """Bytes of the weeks that came through ingest and COPY: as they are left, and after the upkeep of weeks that are over."""
    loose = _bytes_each(db)
    began = time.perf_counter()
    keys = tighten(db, MONDAY + timedelta(days=365))
    return ("storage a reading, with its key", f"{_bytes_each(db):.1f} B once its week is over, {loose:.1f} B before",
            f"goal 75 B; 52 of row and 28 of key is the least; {len(keys)} keys packed in {time.perf_counter() - began:.1f} s")


def _bytes_each(db: psycopg.Connection[Any]) -> float:
    low = MONDAY + timedelta(days=70)
    size = "citus_total_relation_size" if engine_of(db) == CITUS else "pg_total_relation_size"
    row = db.execute(sql.SQL("""SELECT sum({size}(inhrelid))::float8
            / (SELECT count(*) FROM reading WHERE ts >= %(low)s)
        FROM pg_inherits JOIN pg_class w ON w.oid = inhrelid WHERE inhparent = 'reading'::regclass
        AND to_date(right(w.relname, 6), 'IYYYIW') >= %(low)s::date""").format(size=sql.Identifier(size)),
                     {"low": low}).fetchone()
    return float(row[0]) if row else 0.0
