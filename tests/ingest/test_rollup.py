"""Rollups equal a full recompute, whatever came in whatever order."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from psycopg import sql

from ingest.directory import QUERIES, load_directory
from ingest.rollup import NOTHING, PARTS, prepare, roll_up, roll_up_all
from ingest.store import Batch, Store
from ingest.validation import Message
from ingest.verify import differences
from park.catalogue import read_catalogue
from park.catalogue_store import apply
from park.database import connect
from park.wire import Batch as Columns

Db = psycopg.Connection[Any]
NOW_US = int(datetime(2026, 11, 23, 8, 0, tzinfo=UTC).timestamp()) * 1_000_000
MONTH_END_MS = int(datetime(2026, 10, 31, 15, 0, tzinfo=UTC).timestamp()) * 1000  # 23:00 of the last of October in Shanghai


def message(seq: int, rows: list[tuple[str, int, float | None, str]]) -> Message:
    points, at, value, quality = zip(*rows, strict=True)
    return Message(1, "s", "", NOW_US, Columns(seq, points, at, value, quality))


def rollup(db: Db, grain: str, code: str) -> list[tuple[Any, ...]]:
    return db.execute(f"""SELECT to_char(bucket AT TIME ZONE 'UTC', 'DD HH24:MI'), n, n_good, min, max, sum,
            first, last, increment, n_usable FROM reading_{grain} JOIN point p USING (base_id, point_id)
        WHERE code = %s ORDER BY bucket""", (code,)).fetchall()


@pytest.fixture
def rolling(mini: Db) -> Db:
    prepare(mini)
    return mini


def put(db: Db, seq: int, rows: list[tuple[str, int, float | None, str]]) -> None:
    Store(db, future_after_s=600, late_after_s=900).write(Batch([message(seq, rows)]), load_directory(db))


def test_an_hour_knows_its_readings_and_the_increment_across_its_border(rolling: Db) -> None:
    h = MONTH_END_MS
    put(rolling, 1, [("e1.gas", h - 60_000, 100, "good"), ("e1.gas", h + 60_000, 103, "good"),
                     ("e1.gas", h + 120_000, None, "fault"),
                     ("e1.gas", h + 20 * 60_000, 110, "manual"), ("e1.gas", h + 30 * 60_000 + 59_000, 112, "estimated")])
    roll_up_all(rolling)
    assert rollup(rolling, "1h", "e1.gas") == [("31 14:00", 1, 1, 100, 100, 100, 100, 100, None, 1),
                                               ("31 15:00", 4, 2, 103, 112, 325, 103, 112, 12, 3)]
    # 15:30 is its quarter's only reading and in its first minute: the quarter's row is the minute's row
    assert [r[0] for r in rollup(rolling, "1m", "e1.gas")] == ["31 14:59", "31 15:01", "31 15:02", "31 15:20"]
    assert [(r[0], r[1]) for r in rollup(rolling, "1d", "e1.gas")] == [("30 16:00", 5)]
    minutes = [r[0] for r in rollup(rolling, "by_minute", "e1.gas")]
    assert minutes == ["31 14:59", "31 15:01", "31 15:02", "31 15:20", "31 15:30"]


def test_a_filter_on_the_minute_reaches_only_its_week_and_by_key(rolling: Db, databases: Any) -> None:
    if databases.engine == "citus":
        pytest.skip("on Citus the plan of the scan is the worker's")
    monday = datetime(2026, 9, 28, tzinfo=UTC)
    start_ms = int(monday.timestamp()) * 1000
    for k in range(4):
        put(rolling, k, [("e1.gas", start_ms + k * 7 * 86_400_000 + i * 60_000, float(i), "good") for i in range(60)])
    roll_up_all(rolling)
    week = monday + timedelta(days=14), monday + timedelta(days=20)    # of a whole chunk its bounds say enough
    with rolling.transaction():
        rolling.execute("SET LOCAL enable_seqscan = off")     # a few rows: the planner would not care for the key
        row = rolling.execute("""EXPLAIN (FORMAT JSON) SELECT bucket, sum / nullif(n_usable, 0) FROM reading_by_minute
            WHERE base_id = 1 AND point_id = 1 AND bucket >= %s AND bucket < %s ORDER BY bucket""", week).fetchone()
    # TimescaleDB tells of the hypertable above its chunks
    scans = [s for s in scanned(row[0][0]["Plan"]) if s["Relation Name"] != "reading_1m"] if row else []
    assert {s["Relation Name"] for s in scans} == {"reading_1m_w202642", "reading_15m_w202642"}
    assert all("bucket" in s["Index Cond"] for s in scans)


def test_a_week_whose_readings_were_dropped_keeps_its_rollups(rolling: Db) -> None:
    at = int(datetime(2026, 9, 30, tzinfo=UTC).timestamp()) * 1000
    put(rolling, 1, [("e1.gas", at + i * 60_000, float(i), "good") for i in range(40)])
    roll_up_all(rolling)
    before = [rollup(rolling, grain, "e1.gas") for grain in ("by_minute", "15m", "1h", "1d", "1mo")]
    rolling.execute("DROP TABLE reading_w202640")
    put(rolling, 2, [("e1.gas", at + 30_000, 7.0, "good"), ("e1.gas", MONTH_END_MS, 50.0, "good")])
    rolling.execute("INSERT INTO dirty (base_id, point_id, bucket) SELECT base_id, point_id, bucket FROM reading_15m")
    roll_up_all(rolling)
    after = [[row for row in rollup(rolling, grain, "e1.gas") if row[0] < "31"] for grain in ("by_minute", "15m", "1h", "1d")]
    assert after[:3] == [[row for row in rows if row[0] < "31"] for rows in before[:3]]
    assert rolling.execute("SELECT reason, detail FROM dead_letter").fetchall() == [
        ("too_late", "e1.gas at 2026-09-30T00:00:30Z")]
    counted = rolling.execute("SELECT n FROM ingest_counter WHERE outcome = 'dead:too_late'").fetchone()
    assert counted == (1,) and rolling.execute("SELECT count(*) FROM reading").fetchone() == (1,)


def scanned(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The nodes of a plan that read a table."""
    if "Relation Name" in plan:
        yield plan
    for part in plan.get("Plans", []):
        yield from scanned(part)


def test_a_late_reading_repairs_its_hour_and_the_next_increment(rolling: Db) -> None:
    h = MONTH_END_MS
    put(rolling, 1, [("e1.gas", h, 100, "good"), ("e1.gas", h + 5 * 3_600_000, 150, "good")])
    roll_up_all(rolling)
    put(rolling, 2, [("e1.gas", h + 2 * 3_600_000, 120, "good")])
    rolling.execute("DELETE FROM dirty_account")
    roll_up_all(rolling)
    assert [(r[0], r[8]) for r in rollup(rolling, "1h", "e1.gas")] == [("31 15:00", None), ("31 17:00", 20), ("31 20:00", 30)]
    hours = rolling.execute("SELECT to_char(bucket AT TIME ZONE 'UTC', 'HH24') FROM dirty_account ORDER BY 1").fetchall()
    assert hours == [("17",), ("20",)]


def test_a_counter_that_rolls_over_or_is_reset_keeps_counting(rolling: Db) -> None:
    put(rolling, 1, [("e1.furnace.kwh", MONTH_END_MS + i * 60_000, v, "good")
                     for i, v in enumerate([999_990.0, 999_999.0, 5.0, 400.0, 3.0])])
    roll_up_all(rolling)
    (row,) = rollup(rolling, "1h", "e1.furnace.kwh")
    assert row[8] == 9 + 6 + 395 + 3


def test_a_counter_that_steps_back_by_its_own_rounding_is_not_reset(rolling: Db) -> None:
    values = [554_458.0700000001, 554_458.07, 554_458.05, 554_458.07, 554_459.0]
    put(rolling, 1, [("e1.furnace.kwh", MONTH_END_MS + i * 60_000, v, "good") for i, v in enumerate(values)])
    roll_up_all(rolling)
    (row,) = rollup(rolling, "1h", "e1.furnace.kwh")
    assert row[8] == pytest.approx(values[-1] - values[0])
    assert differences(rolling) == []


def test_a_pass_tells_accounting_and_those_who_wait(rolling: Db, database_url: str) -> None:
    with connect(database_url, autocommit=True) as listener:
        listener.execute("LISTEN park_rollup")
        put(rolling, 1, [("e1.main.kw", MONTH_END_MS, 1, "good")])
        roll_up_all(rolling)
        assert [n.channel for n in listener.notifies(timeout=5, stop_after=1)] == ["park_rollup"]
    assert rolling.execute("SELECT count(*) FROM dirty_account").fetchone() == (1,)
    assert rolling.execute("SELECT count(*) FROM dirty").fetchone() == (0,)


def test_a_pass_that_dies_leaves_its_log(rolling: Db, database_url: str) -> None:
    put(rolling, 1, [("e1.main.kw", MONTH_END_MS, 1, "good")])
    with pytest.raises(ZeroDivisionError), rolling.transaction():
        roll_up(rolling)
        raise ZeroDivisionError
    assert rolling.execute("SELECT count(*) FROM dirty").fetchone() == (1,)
    roll_up_all(rolling)
    assert differences(rolling) == []


def test_two_sessions_share_the_work_by_points_and_a_loader_keeps_both_out(rolling: Db, database_url: str) -> None:
    codes = [c for (c,) in rolling.execute("SELECT code FROM point ORDER BY point_id")]
    put(rolling, 1, [(code, MONTH_END_MS, 1, "good") for code in codes])
    with connect(database_url, autocommit=True) as other:
        prepare(other)
        with rolling.transaction():
            first = roll_up(rolling, parts=(0,))
            assert roll_up(other) == roll_up(other, parts=(0,)) == NOTHING, "the part is held"
            second = roll_up(other, parts=(1,))
        assert first.quarters > 0 and second.quarters > 0 and first.quarters + second.quarters == len(codes)
        assert not first.more and not second.more
        put(rolling, 2, [(code, MONTH_END_MS + 1000, 2, "good") for code in codes])
        with rolling.transaction():
            rolling.execute(QUERIES["share_rollup"])
            assert [roll_up(other, parts=(part,)) for part in PARTS] == [NOTHING, NOTHING]
        assert sum(roll_up(other, parts=(part,)).quarters for part in PARTS) == len(codes)
    assert rolling.execute("SELECT count(*) FROM dirty").fetchone() == (0,)
    assert differences(rolling) == []


# ---- after any sequence of inserts, late rows, corrections, duplicates, deletions, passes and restarts

POINTS = ("e1.furnace.kwh", "e1.main.kw")
INSTANTS = [MONTH_END_MS + m * 60_000 for m in
            (-70, -61, -60, -31, -30, -15, -1, 0, 1, 14, 15, 16, 29, 30, 59, 60, 61, 90, 119, 120, 600)]
row = st.tuples(st.sampled_from(POINTS), st.sampled_from(INSTANTS),
                st.one_of(st.none(), st.sampled_from([0.0, 1.0, 7.5, 500.0, 950_000.0, 999_999.0])),
                st.sampled_from(["good", "good", "good", "fault", "manual", "estimated"]))
step = st.one_of(st.lists(row, min_size=1, max_size=6), st.sampled_from(["pass", "half", "restart", "again", "delete"]))


@pytest.fixture(scope="module")
def url(databases: Any) -> Iterator[str]:
    name = databases.copy(prefix="rollup")
    with connect(databases.url(name), autocommit=True) as db:
        apply(db, read_catalogue([Path(__file__).parent.parent / "data" / "mini.yaml"]))
    yield databases.url(name)
    databases.drop(name)


@settings(max_examples=40, derandomize=True, phases=(Phase.explicit, Phase.generate, Phase.shrink),
          suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(zone=st.sampled_from(["Asia/Shanghai", "America/New_York", "Asia/Kolkata"]),
       steps=st.lists(step, min_size=1, max_size=12))
def test_rollups_equal_a_recompute_after_any_sequence(url: str, zone: str, steps: list[Any]) -> None:
    db = connect(url, autocommit=True)
    try:
        # not TRUNCATE: on TimescaleDB that drops the chunks, and weeks without a chunk are closed
        for table in ("reading", "reading_1m", "reading_15m", "reading_1h", "reading_1d", "reading_1mo", "dirty",
                      "ingest_batch", "latest"):
            db.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(table)))
        db.execute("UPDATE base SET timezone = %s", (zone,))
        prepare(db)
        last: tuple[int, list[Any]] | None = None
        for seq, action in enumerate(steps):
            if isinstance(action, list):
                last = seq, action
                put(db, seq, action)
            elif action == "pass":
                roll_up(db)
            elif action == "half":
                roll_up(db, parts=PARTS[seq % 2:][:1])
            elif action == "restart":
                db.close()
                db = connect(url, autocommit=True)
                prepare(db)
            elif action == "again" and last is not None:
                put(db, *last)
            elif action == "delete":
                db.execute("""WITH gone AS (DELETE FROM reading WHERE ts >= to_timestamp(%s / 1000.0) RETURNING *)
                    INSERT INTO dirty (base_id, point_id, bucket) SELECT base_id, point_id, ts FROM gone""", (INSTANTS[10],))
        roll_up_all(db)
        assert differences(db) == []
        minutes = "SELECT base_id, point_id, bucket FROM reading_by_minute"
        assert db.execute(f"{minutes} GROUP BY 1, 2, 3 HAVING count(*) > 1").fetchall() == []
    finally:
        db.close()
