"""Raw readings of old weeks are dropped: every figure that was computed from them stays, whatever is computed again later."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import psycopg

from accounting.passes import run_pass
from ingest.bulk import load_blocks
from ingest.retention import retire
from ingest.rollup import prepare, roll_up_all
from park.database import connect

Db = psycopg.Connection[Any]
START = datetime(2026, 6, 1, tzinfo=UTC)
N_WEEKS = 5
TABLES = ("interval_15m", "interval_1h", "emission_1h", "treatment_event")


def account(url: str, now: datetime) -> None:
    with connect(url, autocommit=True) as db:
        run_pass(db, now)


def figures(db: Db, before: datetime) -> dict[str, list[str]]:
    """What each table says of the time before an instant, without the last bits of sums."""
    found = {}
    for table in TABLES:
        at = "started_at" if table == "treatment_event" else "ts"
        found[table] = [str({k: round(v, 9) if isinstance(v, float) else v for k, v in row.items()}) for (row,) in db.execute(
            f"SELECT to_jsonb(x) - 'event_id' - 'recorded_at' FROM {table} x WHERE {at} < %s ORDER BY x::text", (before,))]
    return found


def test_figures_of_dropped_weeks_outlive_a_change_of_the_catalogue(mini: Db, database_url: str) -> None:
    points = mini.execute("SELECT code, kind FROM point ORDER BY 1").fetchall()
    ts_ms = np.arange(0, N_WEEKS * 7 * 86_400, 1200, dtype=np.int64) * 1000 + int(START.timestamp()) * 1000 + 120_000
    value = np.random.default_rng(5).uniform(1, 20, (len(points), len(ts_ms)))
    for k, (_, kind) in enumerate(points):
        value[k] = value[k].cumsum() if kind == "counter" else value[k]
    load_blocks(database_url, "mini", [([c for c, _ in points], ts_ms, value, np.zeros(value.shape, np.int16))])
    prepare(mini)
    roll_up_all(mini)
    now = START + timedelta(days=7 * (N_WEEKS + 1), hours=1)
    account(database_url, now)
    dropped = retire(mini, database_url, keep_days=35, archive=None, now=now)
    assert [said for _, said in dropped] == ["dropped"]
    gone = START + timedelta(days=7)
    before = figures(mini, gone)
    assert all(len(before[table]) > 300 for table in TABLES[:3])
    after = mini.execute("SELECT sum(amount) FROM interval_15m WHERE ts >= %s", (gone,)).fetchone()
    mini.execute("UPDATE point SET ratio = ratio * 2 WHERE kind = 'counter'")
    account(database_url, now)
    kept = figures(mini, gone)
    for table in TABLES:
        assert sorted(set(before[table]) ^ set(kept[table])) == [], f"nobody can compute {table} again"
    doubled = mini.execute("SELECT sum(amount) FROM interval_15m WHERE ts >= %s", (gone,)).fetchone()
    assert after is not None and doubled is not None and 1.9 < doubled[0] / after[0] < 2.0001, "the others are"
