"""What only Citus does: readings and rollups lie by base, together; the pass and the weeks work on them; what is refused."""

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
from park.engine import CITUS, advice, engine_of, fit
from park.errors import SetupError
from park.wire import Batch as Columns

Db = psycopg.Connection[Any]
MONDAY = datetime(2026, 7, 6, tzinfo=UTC)
DISTRIBUTED = ("reading", "reading_15m", "reading_1d", "reading_1h", "reading_1m", "reading_1mo")


@pytest.fixture(autouse=True)
def only_here(databases: Any) -> None:
    if databases.engine != CITUS:
        pytest.skip("about Citus alone: PARK_TEST_CITUS_URL names no server that has it loaded")


@pytest.fixture
def three(mini: Db) -> Db:
    """mini and two bases more, each with points c1 (counter) and g1 (gauge)."""
    mini.execute("INSERT INTO base (base_id, code, name_zh, name_en) VALUES (2, 'b2', 'x', 'x'), (3, 'b3', 'x', 'x')")
    mini.execute("""INSERT INTO point (base_id, code, name_zh, name_en, quantity, unit, kind)
        SELECT b, k || '1', 'p', 'p', 'active_energy', 'kWh', CASE k WHEN 'c' THEN 'counter' ELSE 'gauge' END
        FROM unnest(ARRAY[1, 2, 3]) b, unnest(ARRAY['c', 'g']) k""")
    return mini


def fill(db: Db, n: int = 300) -> None:
    """n readings a minute apart of each of those points, with their rollups."""
    ids = db.execute("SELECT base_id, point_id FROM point WHERE code IN ('c1', 'g1') ORDER BY 1, 2").fetchall()
    ts = int(MONDAY.timestamp()) * 1_000_000 + np.arange(n, dtype=np.int64) * 60_000_000
    total = n * len(ids)
    bases = np.repeat(np.array([b for b, _ in ids], np.int16), n)
    points = np.repeat(np.array([p for _, p in ids], np.int32), n)
    readings = Readings(bases, points,
                        np.tile(ts, len(ids)), np.tile(np.arange(n, dtype=np.float64), len(ids)), np.zeros(total, np.int16),
                        np.zeros(total, np.int32))
    store = Store(db, future_after_s=600, late_after_s=900)
    with db.transaction(), db.cursor() as cur:
        store.write_readings(cur, readings, ["test"])
    prepare(db)
    roll_up_all(db)


def test_readings_and_rollups_are_distributed_by_base_and_lie_together(db: Db) -> None:
    found = db.execute("""SELECT table_name::text, distribution_column, colocation_id FROM citus_tables
        WHERE citus_table_type = 'distributed' AND NOT EXISTS (SELECT FROM pg_inherits WHERE inhrelid = table_name)
        ORDER BY 1""").fetchall()
    assert tuple(name for name, _, _ in found) == DISTRIBUTED
    assert {column for _, column, _ in found} == {"base_id"} and len({together for *_, together in found}) == 1
    assert engine_of(db) == CITUS and advice(db) == []


def test_a_week_is_a_distributed_partition(db: Db) -> None:
    assert db.execute("SELECT ensure_reading_partitions(%s, %s)", (MONDAY, MONDAY)).fetchone() == (3,)
    assert db.execute("SELECT ensure_reading_partitions(%s, %s)", (MONDAY, MONDAY)).fetchone() == (0,)
    kind = db.execute("SELECT citus_table_type FROM citus_tables WHERE table_name = 'reading_w202628'::regclass").fetchone()
    assert kind == ("distributed",)
    assert db.execute("SELECT monday FROM reading_weeks()").fetchall() == [(MONDAY,)]


def test_rollups_of_several_bases_equal_a_recompute_with_late_corrected_and_deleted_readings(three: Db) -> None:
    fill(three)
    assert three.execute("SELECT count(DISTINCT base_id) FROM reading_1h").fetchone() == (3,)
    assert [week for week, size in three.execute("SELECT * FROM reading_weeks()") if size > 1_800 * 50] == [MONDAY]
    assert differences(three) == []
    store, directory = Store(three, future_after_s=600, late_after_s=900), load_directory(three)
    at = int((MONDAY + timedelta(minutes=100)).timestamp()) * 1000
    late = Columns(1, ["c1", "g1", "g1"], [at + 30_000, at, at + 30_000], [50.5, -9.0, 7.0], None)
    counts = store.write(Batch([Message(2, "late", "", time.time_ns() // 1000, late)]), directory)
    assert (counts[2, "stored"], counts[2, "corrected"]) == (2, 1)
    three.execute("""WITH gone AS (DELETE FROM reading WHERE base_id = 3 AND ts >= %(low)s AND ts < %(high)s RETURNING *)
        INSERT INTO dirty (base_id, point_id, bucket) SELECT base_id, point_id, ts FROM gone""",
                  {"low": MONDAY + timedelta(hours=1), "high": MONDAY + timedelta(hours=3)})
    roll_up_all(three)
    assert differences(three) == []
    assert three.execute("SELECT count(*) FROM reading_1h WHERE base_id = 3").fetchone() == (2 * 3,)


def test_repeated_corrected_and_late_readings_are_merged_where_a_worker_of_another_server_has_them(three: Db) -> None:
    """It reports a conflict of COPY without its code."""
    three.execute("SET citus.enable_local_execution = off")     # every part is reached as on another server
    fill(three)
    store, directory = Store(three, future_after_s=600, late_after_s=900), load_directory(three)
    at = int((MONDAY + timedelta(minutes=100)).timestamp()) * 1000
    rows = Columns(1, ["c1", "g1", "g1"], [at + 30_000, at, at + 60_000], [50.5, -9.0, 101.0], None)
    counts = store.write(Batch([Message(2, "late", "", time.time_ns() // 1000, rows)]), directory)
    assert {outcome: n for (_, outcome), n in counts.items()} == {"late": 3, "stored": 1, "corrected": 1, "duplicate": 1}
    roll_up_all(three)
    assert differences(three) == []
    assert three.execute("SELECT close_reading_week(%s)", (MONDAY,)).fetchone() == ("figures wait",)
    three.execute("DELETE FROM dirty_account")
    assert three.execute("SELECT close_reading_week(%s)", (MONDAY,)).fetchone() == ("closed",)
    later = Batch([Message(2, "late", "", time.time_ns() // 1000, Columns(2, ["g1"], [at + 1_000], [1.0], None))])
    with pytest.raises(psycopg.errors.CheckViolation):      # then as the writer does: the store looks again
        store.write(later, directory)
    assert store.write(later, directory) == {(2, "dead:too_late"): 1}


def test_a_dropped_week_keeps_its_rollups_and_takes_no_more(three: Db) -> None:
    fill(three)
    before = three.execute("SELECT count(*), sum(n) FROM reading_1h").fetchone()
    three.execute("DROP TABLE reading_w202628")
    assert (MONDAY,) in three.execute("SELECT low FROM closed_weeks() AS c (low)").fetchall()
    at = int(MONDAY.timestamp()) * 1000
    counts = Store(three, future_after_s=600, late_after_s=900).write(
        Batch([Message(1, "late", "", time.time_ns() // 1000, Columns(1, ["g1"], [at], [1.0], None))]), load_directory(three))
    assert counts[1, "dead:too_late"] == 1
    assert three.execute("SELECT count(*), sum(n) FROM reading_1h").fetchone() == before


def test_a_database_with_readings_is_not_distributed(databases: Any, three: Db) -> None:
    with databases.empty() as url:
        migrate(url)
        with psycopg.connect(url, autocommit=True) as full:
            full.execute("INSERT INTO base (base_id, code, name_zh, name_en) VALUES (1, 'b', 'x', 'x')")
            full.execute("SELECT ensure_reading_partitions(%s, %s)", (MONDAY, MONDAY))
            full.execute("INSERT INTO reading (ts, value, point_id, base_id) VALUES (%s, 1, 1, 1)", (MONDAY,))
        with pytest.raises(SetupError, match="park export"):
            migrate(url, citus=True)


@pytest.mark.parametrize("before", [20, len(migrations()) - 1])
def test_an_earlier_state_that_is_distributed_is_brought_up_to_date_with_its_rows(databases: Any, before: int) -> None:
    with databases.empty() as url:
        with connect(url) as conn:
            _lay_out(conn, before)
        newer = [file.stem for number, file in migrations() if number > before]
        assert migrate(url) == newer and migrate(url) == []
        with connect(url, autocommit=True) as conn:
            assert engine_of(conn) == CITUS
            for view in ("reading", "reading_shown", "reading_1h", "live_1h", "reading_1h_shown"):
                assert conn.execute(f"SELECT count(*) FROM {view}").fetchone() == (1,), view


def _lay_out(conn: Db, last: int) -> None:
    """The schema as it was at a migration, distributed, with a reading and its hour."""
    conn.execute("""CREATE EXTENSION citus;
        CREATE TABLE migration (number integer PRIMARY KEY, name text NOT NULL, at timestamptz NOT NULL DEFAULT now())""")
    conn.commit()
    for number, file in migrations()[:last]:
        conn.execute(file.read_bytes())
        conn.execute("INSERT INTO migration (number, name) VALUES (%s, %s)", (number, file.stem))
    conn.execute("SELECT keep_histories()")
    conn.commit()
    fit(conn, CITUS, again=True)
    conn.execute("SELECT secure_tables()")
    conn.commit()
    conn.execute("INSERT INTO base (base_id, code, name_zh, name_en) VALUES (1, 'b', 'x', 'x')")
    conn.execute("""INSERT INTO point (base_id, code, name_zh, name_en, quantity, unit, kind)
        VALUES (1, 'p', 'p', 'p', 'active_power', 'kW', 'gauge')""")
    conn.commit()
    conn.execute("SELECT ensure_reading_partitions(%s, %s)", (MONDAY, MONDAY))
    conn.commit()
    conn.execute("INSERT INTO reading (ts, value, point_id, base_id) SELECT %s, 1, point_id, 1 FROM point", (MONDAY,))
    conn.execute("""INSERT INTO reading_1h (bucket, min, max, sum, first, last, point_id, n, n_good, n_usable, base_id)
        SELECT %s, 1, 1, 1, 1, 1, point_id, 1, 1, 1, 1 FROM point""", (MONDAY,))


def test_a_role_sees_its_bases_alone_through_views_and_has_no_right_on_distributed_tables(three: Db) -> None:
    fill(three, 100)
    for role in ("park_operator", "park_contractor", "park_auditor", "park_admin"):
        with three.transaction(force_rollback=True):
            three.execute("SELECT set_config('park.bases', '{2}', true), set_config('role', %s, true)", (role,))
            for view in ("reading_shown", "reading_by_minute", "reading_1h_shown", "live_15m", "rolled_1h", "availability_1d"):
                assert three.execute(f"SELECT DISTINCT base_id FROM {view}").fetchall() == [(2,)], view
            for name in DISTRIBUTED:
                with pytest.raises(psycopg.errors.InsufficientPrivilege), three.transaction():
                    three.execute(f"SELECT 1 FROM {name} LIMIT 1")
            with pytest.raises(psycopg.errors.InsufficientPrivilege), three.transaction():
                three.execute("SELECT 1 FROM spread.reading LIMIT 1")


def test_an_enterprise_sees_the_readings_of_its_own_points(three: Db) -> None:
    fill(three, 30)                                     # points of no unit: of no enterprise
    row = three.execute("""SELECT p.point_id, u.enterprise_id FROM point p JOIN unit u USING (base_id, unit_id)
        WHERE u.enterprise_id IS NOT NULL ORDER BY 1 LIMIT 1""").fetchone()
    assert row is not None
    three.execute("INSERT INTO reading (ts, value, point_id, base_id) VALUES (%s, 1, %s, 1)", (MONDAY, row[0]))
    with three.transaction(force_rollback=True):
        three.execute("""SELECT set_config('park.bases', '{1}', true), set_config('park.enterprise', %s, true),
                                set_config('role', 'park_enterprise', true)""", (str(row[1]),))
        assert three.execute("SELECT DISTINCT point_id FROM reading_shown").fetchall() == [(row[0],)]
        assert three.execute("SELECT count(*) FROM reading_by_minute").fetchone() == (0,)


def test_availability_equals_a_look_for_each_day(three: Db) -> None:
    fill(three, 3000)
    hours = three.execute("""SELECT point_id, bucket AT TIME ZONE 'Asia/Shanghai', n_good FROM reading_1h
        WHERE base_id = 2""").fetchall()
    counted: dict[tuple[int, Any], list[int]] = {}
    for point_id, local, n_good in hours:
        of_day = counted.setdefault((point_id, local.date()), [0, 0])
        of_day[0] += 1
        of_day[1] += n_good > 0
    rows = three.execute("SELECT point_id, day, n_expected, n, n_good FROM availability_1d WHERE base_id = 2").fetchall()
    assert {(p, d): [n, good] for p, d, _, n, good in rows if n} == counted and len(counted) == 6
    assert all(n == 0 and good == 0 for p, d, _, n, good in rows if (p, d) not in counted)
    assert {e for _, d, e, *_ in rows if d <= (MONDAY + timedelta(days=2)).date()} == {24}
