"""From the spool to the table with a real ingest and PostgreSQL while the broker is killed again and again."""

from __future__ import annotations

import time
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
