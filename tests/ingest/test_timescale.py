"""What only TimescaleDB does: chunks of ISO weeks, compression, late rows into it, policies, isolation without row security."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import psycopg
import pytest

from ingest.directory import load_directory
from ingest.rollup import prepare, roll_up_all
from ingest.store import Batch, Store
from ingest.validation import Message, Readings
from ingest.verify import differences
from park.database import connect, migrate, migrations
from park.engine import PLAIN, TIMESCALEDB, advice, engine_of, fit
from park.errors import SetupError
from park.wire import Batch as Columns

Db = psycopg.Connection[Any]
MONDAY = datetime(2026, 7, 6, tzinfo=UTC)


@pytest.fixture(autouse=True)
def only_here(databases: Any) -> None:
    if databases.engine != TIMESCALEDB:
        pytest.skip("about TimescaleDB alone: PARK_TEST_TIMESCALE_URL names no server that has it loaded")


def fill(db: Db, points: int, n: int, *, base_id: int = 1) -> None:
    """n readings a minute apart of as many points, from MONDAY, with their rollups."""
    db.execute("""INSERT INTO point (base_id, code, name_zh, name_en, quantity, unit, kind)
        SELECT %s, 'late.' || i, 'p', 'p', 'active_power', 'kW', 'gauge' FROM generate_series(1, %s) i""", (base_id, points))
    ids = np.array([i for (i,) in db.execute("SELECT point_id FROM point WHERE code LIKE 'late.%%' AND base_id = %s ORDER BY 1",
                                             (base_id,))], np.int32)
    ts = int(MONDAY.timestamp()) * 1_000_000 + np.arange(n, dtype=np.int64) * 60_000_000
    total = points * n
    readings = Readings(np.full(total, base_id, np.int16), np.repeat(ids, n), np.tile(ts, points),
                        np.arange(total, dtype=np.float64), np.zeros(total, np.int16), np.zeros(total, np.int32))
    store = Store(db, future_after_s=600, late_after_s=900)
    with db.transaction(), db.cursor() as cur:
        store.write_readings(cur, readings, ["test"])
    prepare(db)
    roll_up_all(db)


def compress(db: Db) -> int:
    """Compress every chunk, as the policy does when its time has come; how many there were."""
    rows = db.execute("""SELECT compress_chunk(c) FROM show_chunks('reading') c
        UNION ALL SELECT compress_chunk(c) FROM show_chunks('reading_1m') c""").fetchall()
    return len(rows)


def late(points: int, minute: int, value: float) -> Columns:
    at = int(MONDAY.timestamp() + 60 * minute) * 1000
    return Columns(1, [f"late.{i}" for i in range(1, points + 1)], [at] * points, [value] * points, None)


def test_readings_and_minutes_are_hypertables_and_the_other_rollups_are_not(db: Db) -> None:
    found = db.execute("""SELECT hypertable_name, compression_enabled FROM timescaledb_information.hypertables
        WHERE hypertable_schema = 'public' ORDER BY 1""").fetchall()
    assert found == [("reading", True), ("reading_1m", True)]
    settings = db.execute("""SELECT hypertable_name, attname, segmentby_column_index, orderby_column_index
        FROM timescaledb_information.compression_settings WHERE hypertable_name = 'reading' ORDER BY 3, 4""").fetchall()
    assert [s[1] for s in settings] == ["base_id", "point_id", "ts"] and settings[2][3] == 1
    jobs = db.execute("""SELECT hypertable_name, proc_name FROM timescaledb_information.jobs
        WHERE hypertable_name IS NOT NULL ORDER BY 1""").fetchall()
    assert jobs == [("reading", "policy_compression"), ("reading_1m", "policy_compression")]


def test_a_chunk_is_an_iso_week_and_is_called_like_the_partition(db: Db) -> None:
    assert db.execute("SELECT ensure_reading_partitions(%s, %s)", (MONDAY, MONDAY + timedelta(days=7))).fetchone() == (6,)
    assert db.execute("SELECT ensure_reading_partitions(%s, %s)", (MONDAY, MONDAY + timedelta(days=7))).fetchone() == (0,)
    chunks = db.execute("""SELECT chunk_schema, chunk_name, range_start, range_end FROM timescaledb_information.chunks
        WHERE hypertable_name = 'reading' ORDER BY 3""").fetchall()
    assert chunks == [("public", f"reading_w{w}", MONDAY + timedelta(days=7 * k), MONDAY + timedelta(days=7 * k + 7))
                      for k, w in ((0, 202628), (1, 202629))]
    assert db.execute("SELECT monday FROM reading_weeks()").fetchall() == [(MONDAY,), (MONDAY + timedelta(days=7),)]


def test_rows_that_somebody_wrote_past_the_weeks_are_kept_and_their_week_stays_open(mini: Db) -> None:
    mini.execute("INSERT INTO reading (ts, value, point_id, base_id) VALUES (%s, 1, 1, 1)", (MONDAY + timedelta(days=1),))
    mini.execute("SELECT ensure_reading_partitions(%s, %s)", (MONDAY, MONDAY))
    assert mini.execute("SELECT count(*) FROM reading").fetchone() == (1,)
    assert mini.execute("SELECT low FROM closed_weeks() AS c (low)").fetchall() == []


def test_late_rows_reach_400_compressed_segments_and_their_rollups(mini: Db, database_url: str) -> None:
    points = 450
    fill(mini, points, 1200)                            # 540,000 tuples lie in the segments that the late rows open
    before = mini.execute("SELECT count(*), sum(value) FROM reading").fetchone()
    assert before is not None and compress(mini) == 2
    store, directory = Store(mini, future_after_s=600, late_after_s=900), load_directory(mini)
    began = time.perf_counter()
    for seq, (minute, value) in enumerate(((600, -5.0), (601, 9.0), (1300, 7.0)), 1):    # two conflict, one is new
        batch = late(points, minute, value)
        counts = store.write(Batch([Message(1, f"late{seq}", "", time.time_ns() // 1000, batch)]), directory)
        assert counts[1, "corrected" if minute < 1200 else "stored"] == points
    roll_up_all(mini)
    assert time.perf_counter() - began < 60
    corrected = mini.execute("""SELECT count(*) FROM reading WHERE ts = %s AND value = -5""",
                             (MONDAY + timedelta(minutes=600),)).fetchone()
    assert corrected == (points,)
    assert mini.execute("SELECT count(*) FROM reading").fetchone() == (before[0] + points,)
    assert mini.execute("SELECT count(*) FROM reading_revision WHERE reason = 'corrected'").fetchone() == (2 * points,)
    assert differences(mini) == []
    assert store.write(Batch([Message(1, "late1", "", time.time_ns() // 1000, late(points, 600, -5.0))]), directory)[
        1, "duplicate"] == points


def test_the_same_rows_are_refused_at_the_default_limit(mini: Db, database_url: str) -> None:
    fill(mini, 450, 1200)
    compress(mini)
    with psycopg.connect(database_url, autocommit=True) as plain:
        plain.execute("SET timescaledb.max_tuples_decompressed_per_dml_transaction = 100000")
        with pytest.raises(psycopg.Error, match="decompression limit"):
            plain.execute("""INSERT INTO reading (ts, value, point_id, base_id)
                SELECT %s, 1, point_id, 1 FROM point WHERE code LIKE 'late.%%'
                ON CONFLICT (base_id, point_id, ts) DO UPDATE SET value = excluded.value""", (MONDAY + timedelta(minutes=600),))
    assert mini.execute("SHOW timescaledb.max_tuples_decompressed_per_dml_transaction").fetchone() == ("0",)


def test_compression_makes_readings_a_fraction_and_rollups_stay_readable(mini: Db) -> None:
    fill(mini, 20, 10_000)
    plain = mini.execute("SELECT hypertable_size('reading')").fetchone()
    before = mini.execute("SELECT count(*), sum(value), min(ts), max(ts) FROM reading").fetchone()
    compress(mini)
    small = mini.execute("SELECT hypertable_size('reading')").fetchone()
    assert plain is not None and small is not None and small[0] < plain[0] / 5
    assert mini.execute("SELECT count(*), sum(value), min(ts), max(ts) FROM reading").fetchone() == before
    assert differences(mini) == []


def test_a_dropped_week_keeps_its_rollups_and_is_closed(mini: Db) -> None:
    fill(mini, 3, 600)
    rollups = {t: mini.execute(f"SELECT count(*) FROM {t}").fetchone() for t in ("reading_1m", "reading_15m", "reading_1h")}
    compress(mini)
    mini.execute("SELECT drop_chunks('reading', older_than => %s::timestamptz)", (MONDAY + timedelta(days=7),))
    assert mini.execute("SELECT count(*) FROM reading").fetchone() == (0,)
    assert {t: mini.execute(f"SELECT count(*) FROM {t}").fetchone() for t in rollups} == rollups
    assert (MONDAY,) in mini.execute("SELECT low FROM closed_weeks() AS c (low)").fetchall()
    store = Store(mini, future_after_s=600, late_after_s=900)
    counts = store.write(Batch([Message(1, "late", "", time.time_ns() // 1000, late(3, 5, 1.0))]), load_directory(mini))
    assert counts[1, "dead:too_late"] == 3


def test_a_role_sees_its_base_alone_in_compressed_readings_and_minutes(mini: Db) -> None:
    mini.execute("INSERT INTO base (base_id, code, name_zh, name_en) VALUES (77, 'other', 'x', 'x')")
    fill(mini, 2, 100)
    fill(mini, 3, 100, base_id=77)
    compress(mini)
    for role in ("park_operator", "park_contractor", "park_auditor", "park_admin"):
        with mini.transaction(force_rollback=True):
            mini.execute("SELECT set_config('park.bases', '{77}', true), set_config('role', %s, true)", (role,))
            for view in ("reading_shown", "reading_by_minute"):
                assert mini.execute(f"SELECT DISTINCT base_id FROM {view}").fetchall() == [(77,)]
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                mini.execute("SELECT 1 FROM reading LIMIT 1")


@pytest.mark.parametrize("view", ["reading_shown", "reading_by_minute"])
def test_grafana_is_refused_readings_by_their_name(view: str, mini: Db) -> None:
    with mini.transaction(force_rollback=True):
        mini.execute("SELECT set_config('park.bases', '{1}', true), set_config('role', 'park_grafana', true)")
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match=f"for view {view}$"):
            mini.execute(f"SELECT count(*) FROM {view}")


def test_an_enterprise_sees_the_readings_of_its_own_points(mini: Db) -> None:
    fill(mini, 2, 30)                                   # points of no unit: of no enterprise
    row = mini.execute("""SELECT p.point_id, u.enterprise_id FROM point p JOIN unit u USING (base_id, unit_id)
        WHERE u.enterprise_id IS NOT NULL ORDER BY 1 LIMIT 1""").fetchone()
    assert row is not None
    mini.execute("INSERT INTO reading (ts, value, point_id, base_id) VALUES (%s, 1, %s, 1)", (MONDAY, row[0]))
    compress(mini)
    with mini.transaction(force_rollback=True):
        mini.execute("""SELECT set_config('park.bases', '{1}', true), set_config('park.enterprise', %s, true),
                               set_config('role', 'park_enterprise', true)""", (str(row[1]),))
        assert mini.execute("SELECT DISTINCT point_id FROM reading_shown").fetchall() == [(row[0],)]
        assert mini.execute("SELECT count(*) FROM reading_by_minute").fetchone() == (0,)


@pytest.fixture
def plain_url(databases: Any) -> Any:
    """A database of the plain layout with readings in it, on a server that has TimescaleDB: as one was before."""
    with databases.empty() as url:
        with connect(url, autocommit=True) as db:
            db.execute("""CREATE TABLE migration (
                number integer PRIMARY KEY, name text NOT NULL, at timestamptz NOT NULL DEFAULT now())""")
            for number, file in migrations():
                db.execute(file.read_bytes())
                db.execute("INSERT INTO migration (number, name) VALUES (%s, %s)", (number, file.stem))
            db.execute("INSERT INTO base (code, name_zh, name_en) VALUES ('mini', 'x', 'x')")
            fit(db, PLAIN, again=True)
            fill(db, 5, 500)
        yield url


def test_a_plain_database_with_readings_stays_plain_until_it_is_converted(plain_url: str) -> None:
    migrate(plain_url)
    with connect(plain_url, autocommit=True) as db:
        assert engine_of(db) == "postgresql"
        assert "park migrate --convert" in advice(db)[0]
        before = [db.execute(f"SELECT count(*), sum(n) FROM {t}").fetchone() for t in ("reading_by_minute", "reading_15m")]
        readings = db.execute("SELECT * FROM reading ORDER BY point_id, ts").fetchall()
    migrate(plain_url, convert=True)
    with connect(plain_url, autocommit=True) as db:
        assert engine_of(db) == TIMESCALEDB and advice(db) == []
        assert db.execute("SELECT * FROM reading ORDER BY point_id, ts").fetchall() == readings
        assert [db.execute(f"SELECT count(*), sum(n) FROM {t}").fetchone()
                for t in ("reading_by_minute", "reading_15m")] == before
        assert compress(db) == 2
        assert differences(db) == []
    assert migrate(plain_url) == []


def test_citus_is_refused_beside_timescaledb(database_url: str) -> None:
    with pytest.raises(SetupError, match="they cannot work together"):
        migrate(database_url, citus=True)


def test_a_correction_unpacks_its_own_segments_alone(mini: Db) -> None:
    """The statement names weeks and points as constants; without them every segment of every week would be unpacked."""
    fill(mini, 3, 11_000)                               # from one week into the next
    compress(mini)
    store = Store(mini, future_after_s=600, late_after_s=900)
    counts = store.write(Batch([Message(1, "late", "", time.time_ns() // 1000, late(1, 5, -1.0))]), load_directory(mini))
    assert counts[1, "corrected"] == 1
    unpacked = {week: mini.execute(f"SELECT DISTINCT point_id FROM ONLY reading_w{week}").fetchall()
                for week in (202628, 202629)}
    first = mini.execute("SELECT point_id FROM point WHERE code = 'late.1'").fetchone()
    assert unpacked == {202628: [first], 202629: []}
    roll_up_all(mini)
    assert differences(mini) == []
