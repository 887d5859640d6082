"""What a pass leaves as it was, computes ahead and finds by its key: the same figures with less work."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import numpy as np
import psycopg
import pytest

from accounting import counters
from accounting.columns import from_us, instants, read_columns
from accounting.hours import prevailing_step, prevailing_steps
from accounting.passes import recompute, run_pass
from accounting.verify import verify
from park.errors import StorageError

Conn = psycopg.Connection[Any]
Feed = Callable[..., None]
MIDNIGHT = datetime(2026, 5, 10, 16, tzinfo=UTC)          # 2026-05-11 00:00 in Shanghai
QUARTER = timedelta(minutes=15)
NOW = MIDNIGHT + timedelta(days=3)


def grow(feed: Feed, point: str, per_slot: float, days: int = 2) -> None:
    n = 96 * days + 1
    feed(point, [MIDNIGHT + i * QUARTER for i in range(n)], 1000.0 + per_slot * np.arange(n))


@pytest.fixture
def metered(park: Conn, feed: Feed) -> Conn:
    for point, per_slot in (("park.kwh", 10.0), ("e1.main.kwh", 6.0), ("e2.main.kwh", 3.5), ("e1.gas", 5.0), ("e1.water", 1.0)):
        grow(feed, point, per_slot)
    return park


def test_a_late_day_of_gas_leaves_the_totals_of_electricity_and_water_as_they_were(metered: Conn, feed: Feed) -> None:
    run_pass(metered, NOW)
    query = "SELECT carrier, day, enterprise_id, recorded_at FROM energy_total WHERE carrier <> 'natural_gas' ORDER BY 1, 2, 3"
    before = metered.execute(query).fetchall()
    metered.execute("TRUNCATE energy_total_history")
    grow(feed, "e1.gas", 5.5)
    run_pass(metered, NOW)
    assert metered.execute(query).fetchall() == before and before
    kept = metered.execute("SELECT DISTINCT carrier, amount FROM energy_total_history").fetchall()
    assert kept == [("natural_gas", pytest.approx(480.0))]
    now = metered.execute("SELECT DISTINCT amount FROM energy_total WHERE carrier = 'natural_gas' AND n_known > 0").fetchall()
    assert now == [(pytest.approx(528.0),)]


def test_a_total_that_nothing_counts_for_any_more_is_gone_and_its_last_version_is_kept(metered: Conn) -> None:
    run_pass(metered, NOW)
    metered.execute("UPDATE point SET boundary = 'none' WHERE code = 'e1.water'")
    run_pass(metered, NOW)
    assert metered.execute("SELECT count(*) FROM energy_total WHERE carrier = 'water'").fetchone() == (0,)
    rows = metered.execute("""SELECT day, enterprise_id, amount FROM energy_total_history
        WHERE carrier = 'water' AND reason = 'catalogue changed' AND amount IS NOT NULL""").fetchall()
    assert len(rows) == 4 and all(amount == pytest.approx(96.0) for _, _, amount in rows)


@pytest.mark.parametrize("table", ["cost_1d", "energy_total"])
def test_rows_deleted_and_written_back_in_one_transaction_are_no_versions(metered: Conn, table: str) -> None:
    """With a key that holds no NULL, and with one that may (the base's own total has no enterprise)."""
    run_pass(metered, NOW)
    before = metered.execute(f"SELECT * FROM {table} ORDER BY {table}::text").fetchall()
    metered.execute(f"TRUNCATE {table}_history")
    with metered.transaction():
        metered.execute(f"CREATE TEMP TABLE aside ON COMMIT DROP AS SELECT * FROM {table}")
        metered.execute("ALTER TABLE aside DROP COLUMN recorded_at")
        metered.execute(f"DELETE FROM {table}")
        names = ", ".join(c.name for c in metered.execute("SELECT * FROM aside LIMIT 0").description or ())
        metered.execute(f"INSERT INTO {table} ({names}) SELECT * FROM aside")
    assert metered.execute(f"SELECT * FROM {table} ORDER BY {table}::text").fetchall() == before and before
    assert metered.execute(f"SELECT count(*) FROM {table}_history").fetchone() == (0,)


def test_a_second_session_that_reads_ahead_changes_no_figure(metered: Conn, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Conn | None] = []
    beside = counters._beside

    def noted(conn: Conn) -> Conn | None:
        opened.append(beside(conn))
        return opened[-1]

    monkeypatch.setattr(counters, "BATCH_READINGS", 1)             # a batch a counter
    monkeypatch.setattr(counters, "_beside", noted)
    done = run_pass(metered, NOW)
    assert done.slots == 5 * 2 * 96 and opened and all(c is not None and c.closed for c in opened)
    recompute(metered, 1, MIDNIGHT, NOW)
    assert run_pass(metered, NOW).slots == 0
    assert verify(metered, 1, NOW) == []


def test_where_the_server_takes_no_more_sessions_the_pass_reads_by_itself(metered: Conn,
                                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise psycopg.OperationalError("FATAL:  sorry, too many clients already")

    monkeypatch.setattr(counters, "BATCH_READINGS", 1)
    monkeypatch.setattr("accounting.counters.psycopg.connect", refused)
    assert run_pass(metered, NOW).slots == 5 * 2 * 96
    assert verify(metered, 1, NOW) == []


def test_a_fault_of_the_session_that_reads_ahead_ends_the_pass_and_leaves_the_work_on_the_list(
        metered: Conn, monkeypatch: pytest.MonkeyPatch) -> None:
    compute, calls = counters._compute, []

    def fails(conn: Conn, base_id: int, windows: list[counters.Window]) -> counters.Computed:
        calls.append(windows)
        if len(calls) == 3:
            conn.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        return compute(conn, base_id, windows)

    monkeypatch.setattr(counters, "BATCH_READINGS", 1)
    monkeypatch.setattr(counters, "_compute", fails)
    with pytest.raises(psycopg.OperationalError):
        run_pass(metered, NOW)
    assert metered.execute("SELECT count(*) FROM interval_15m").fetchone() == (0,)
    monkeypatch.undo()
    assert run_pass(metered, NOW).slots == 5 * 2 * 96


def test_a_day_before_the_first_factor_has_an_amount_and_no_coal_equivalent(metered: Conn) -> None:
    run_pass(metered, NOW)
    metered.execute("""INSERT INTO interval_1d (ts, amount, point_id, n_expected, n_known, n_good, base_id)
        SELECT '1960-01-01 00:00+08', 7, point_id, 96, 96, 96, base_id FROM point WHERE code IN ('e1.main.kwh', 'e1.gas')""")
    rows = metered.execute("""SELECT amount IS NOT NULL, tce_calorific, tce_equivalent, co2_kg, factor_ids FROM energy_1d
        WHERE day < '1970-01-01'""").fetchall()
    assert rows == [(True, None, None, None, [])] * 2
    known = metered.execute("""SELECT DISTINCT tce_calorific > 0 FROM energy_1d
        WHERE day > '1970-01-01' AND amount > 0""").fetchall()
    assert known == [(True,)]


def test_each_day_of_a_counter_has_one_row_whatever_its_factors_do(metered: Conn) -> None:
    run_pass(metered, NOW)
    metered.execute("""INSERT INTO factor (base_id, carrier, kind, value, unit, valid_from, source)
        SELECT NULL, 'electricity', 'tce_equivalent', 0.1 * n, 'kgce/kWh', '2026-05-01'::date + 5 * n, 'test'
        FROM generate_series(1, 4) n""")
    got = metered.execute("SELECT count(*), count(DISTINCT (point_id, day)) FROM energy_1d").fetchone()
    stored = metered.execute("""SELECT count(*) FROM interval_1d JOIN point p USING (base_id, point_id)
        WHERE p.carrier IS NOT NULL""").fetchone()
    assert got is not None and stored is not None and got[0] == got[1] == stored[0]
    gaps = metered.execute("""SELECT count(*) FROM (
        SELECT ends, lead(begins) OVER (PARTITION BY base_id, point_id ORDER BY begins) AS next FROM counter_factor) s
        WHERE next IS NOT NULL AND ends <> next""").fetchone()
    assert gaps == (0,)


def test_steps_of_many_days_are_those_of_each_day_by_itself() -> None:
    rng = np.random.default_rng(5)
    for _ in range(200):
        edges = np.concatenate([[0], np.cumsum(rng.integers(0, rng.choice([3, 6, 100]), rng.integers(1, 9)))])
        step_us = int(rng.choice([5, 60, 900])) * 1_000_000
        odd = rng.random(edges[-1] + 1) < rng.choice([0.0, 0.1, 0.3])
        ts = np.cumsum(np.where(odd, rng.integers(0, 5 * step_us, edges[-1] + 1), step_us))[:edges[-1]]
        each = [prevailing_step(ts[a:b], 60) for a, b in pairwise(edges)]
        assert prevailing_steps(ts, edges, 60).tolist() == each


def test_arrays_come_as_they_were_written_and_a_null_in_one_is_refused(db: Conn) -> None:
    at = [0, 1, 830_000_000_123_456]
    assert db.execute("SELECT %s::timestamptz[]", (instants(at),)).fetchone() == ([from_us(t) for t in at],)
    assert db.execute("SELECT %s::timestamptz[]", (instants([]),)).fetchone() == ([],)
    query = """COPY (SELECT ARRAY[p], v FROM (VALUES (1, ARRAY[2.5, 3.5]::float8[]), (2, ARRAY[4.5]), (3, ARRAY[5.5, 6.5]))
        AS t (p, v)) TO STDOUT (FORMAT binary)"""
    got = read_columns(db, query, (), {"p": "i4", "v": "f8"})
    assert got["p"].tolist() == [1, 1, 2, 3, 3] and got["v"].tolist() == [2.5, 3.5, 4.5, 5.5, 6.5]
    for bad in ("ARRAY[1, NULL]::float8[]", "ARRAY[]::float8[]", "ARRAY[1]::integer[]"):
        with pytest.raises(StorageError):
            read_columns(db, f"COPY (SELECT {bad}) TO STDOUT (FORMAT binary)", (), {"v": "f8"})
    with pytest.raises(StorageError):
        read_columns(db, "COPY (SELECT ARRAY[1, 2], ARRAY[1, 2, 3]) TO STDOUT (FORMAT binary)", (), {"a": "i4", "b": "i4"})
