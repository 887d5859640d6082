"""From the spool to the table with a real ingest and PostgreSQL while the broker is killed again and again."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from collectors.delivery import COMMITTED, Terms
from collectors.publish import Publisher
from collectors.readings import Readings
from collectors.spool import Spool
from park.broker import Broker, free_port

ROOT = Path(__file__).parents[2]
START_MS = int(datetime(2026, 11, 23, 3, tzinfo=UTC).timestamp() * 1000)


@pytest.fixture
def ingest(tmp_path: Path, database_url: str) -> Iterator[Any]:
    """`park ingest` as a process."""
    running: list[subprocess.Popen[bytes]] = []

    def start(mqtt_url: str) -> None:
        env = os.environ | {"PARK_DATABASE_URL": database_url, "PARK_MQTT_URL": mqtt_url}
        with (tmp_path / "ingest.log").open("ab") as log:
            running.append(subprocess.Popen([sys.executable, "-m", "park.cli", "ingest"], env=env, cwd=ROOT, stderr=log))

    yield start
    for process in running:
        process.kill()
        process.wait()


@pytest.mark.parametrize("kind", [None, "amqtt"], ids=["this machine's broker", "amqtt"])
def test_no_row_is_missing_or_doubled_while_the_broker_is_killed(
        kind: str | None, tmp_path: Path, mini: psycopg.Connection[Any], ingest: Any, until: Any) -> None:
    codes = [row[0] for row in mini.execute("SELECT p.code FROM point p ORDER BY p.code LIMIT 3").fetchall()]
    base = mini.execute("SELECT code FROM base").fetchone()[0]  # type: ignore[index]
    server = Broker(tmp_path / "broker", free_port(), kind=kind).start()
    spool = Spool(tmp_path / "s.sqlite", "col")
    publisher = Publisher(spool, server.url, retry_s=(0.05, 0.2), subscribe_grace_s=0.5, terms=Terms(resend_s=1.0))
    n = 0
    try:
        ingest(server.url)
        publisher.start()
        for _ in range(4):
            for _ in range(60):
                at = START_MS + 1000 * n
                spool.append([Readings(base, codes, [at] * 3, [float(n)] * 3, ["good"] * 3)])
                n += 1
            goal = spool.size().batches - 20
            until(lambda g=goal: spool.size().batches <= g, 30)  # in the middle of them
            server.kill()
            time.sleep(0.1)
            server.start()
        until(lambda: spool.size().batches == 0, 40)
        rows = mini.execute("SELECT count(*), count(DISTINCT ts), sum(value) FROM reading").fetchone()
        assert rows == (3 * n, n, 3.0 * sum(range(n))), "every reading is there, once"
        counts = dict(mini.execute("SELECT outcome, sum(n) FROM ingest_counter GROUP BY outcome").fetchall())
        assert counts["stored"] == 3 * n and not {"corrected", "not_taken"} & counts.keys()
        assert publisher.counters.confirmation == COMMITTED and publisher.counters.readings == 3 * n
    finally:
        publisher.stop(0)
        spool.close()
        server.stop()


@pytest.mark.soak
def test_half_an_hour_without_a_broker_at_2000_readings_a_second(
        tmp_path: Path, mini: psycopg.Connection[Any], ingest: Any, until: Any) -> None:
    """PARK_SOAK_MINUTES shortens it. Afterwards the newest readings are stored long before the backlog is."""
    minutes = float(os.environ.get("PARK_SOAK_MINUTES", "30"))
    codes = [row[0] for row in mini.execute("SELECT p.code FROM point p ORDER BY p.code LIMIT 4").fetchall()]
    base = mini.execute("SELECT code FROM base").fetchone()[0]  # type: ignore[index]
    server = Broker(tmp_path / "broker", free_port()).start()
    spool = Spool(tmp_path / "s.sqlite", "col")
    publisher = Publisher(spool, server.url)
    begin_ms, ticks = int(time.time() * 1000) - 60_000, 0

    def tick() -> None:
        """A quarter of a second: 500 readings in two batches."""
        nonlocal ticks
        at = [begin_ms + 250 * ticks + 2 * i for i in range(125)]
        for half in (codes[:2], codes[2:]):
            spool.append([Readings(base, [c for c in half for _ in at], at * 2, [float(ticks)] * 250, ["good"] * 250)])
        ticks += 1

    def stored(after_ms: int) -> int:
        row = mini.execute("SELECT count(*) FROM reading WHERE ts >= to_timestamp(%s / 1000.0)", (after_ms,)).fetchone()
        return int(row[0]) if row else 0

    try:
        ingest(server.url)
        publisher.start()
        tick()
        until(lambda: spool.size().batches == 0, 30)
        server.kill()
        began = time.monotonic()
        while time.monotonic() - began < 60 * minutes:
            tick()
            time.sleep(max(0.0, began + 0.25 * ticks - time.monotonic()))
        server.start()
        until(lambda: publisher.counters.connected, 30)
        mark, returned = begin_ms + 250 * ticks, time.monotonic()
        tick()
        until(lambda: stored(mark) == 500, 60)
        live_s = time.monotonic() - returned
        until(lambda: spool.size().batches == 0, 600)
        print(f"newest stored after {live_s:.1f} s, all {500 * ticks} readings after {time.monotonic() - returned:.1f} s")
        rows = mini.execute("SELECT count(*), count(DISTINCT (point_id, ts)) FROM reading").fetchone()
        assert rows == (500 * ticks, 500 * ticks)
    finally:
        publisher.stop(0)
        spool.close()
        server.stop()
