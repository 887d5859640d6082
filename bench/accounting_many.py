"""Accounting of 5,000 counters in one base: a full recompute, one late day, and a report's sums over a year.

The recompute runs over a week of 15-minute readings (96 meter-years) and is given as meter-years a second; a year of raw
readings would be 14 GB and say the same. The sums run over a whole year of daily figures.
"""

from __future__ import annotations

import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import psycopg

from accounting.columns import to_us, write_columns
from accounting.counters import BATCH_READINGS
from accounting.intervals import SLOT_US
from accounting.passes import recompute, run_pass
from accounting.plain import Asked, Readings, plain_slots
from bench.accounting import FACTORS, KINDS, READING, Row, _cpu_s
from park.catalogue import read_catalogue
from park.catalogue_store import apply
from park.database import connect, migrate, queries
from park.embedded import Postgres

COUNTERS, ENTERPRISES, UNITS, DAYS = 5000, 20, 250, 7
END = datetime(2026, 10, 31, 16, tzinfo=UTC)     # midnight in Shanghai
START = END - timedelta(days=DAYS)
AGGREGATES = queries(Path(__file__).parent.parent / "api" / "queries.sql")


def run() -> list[Row]:
    """Rows (name, figure, goal)."""
    with TemporaryDirectory() as folder, Postgres(Path(folder) / "data").start() as server:
        migrate(server.url())
        with connect(server.url(), autocommit=True) as conn:
            apply(conn, read_catalogue([FACTORS]))
            _catalogue(conn)
            _readings(conn)
            return [_at_once(), *_recompute(conn), *_year(conn), _late_day(conn)]


def _at_once() -> Row:
    """Registers of a week into slots, as many counters at once as a batch of the pass has, no database."""
    n = DAYS * 96 + 1
    counters, batches = BATCH_READINGS // n, 20
    ts = np.tile(to_us(START) + np.arange(n, dtype=np.int64) * SLOT_US, counters)
    values = 1000 + np.cumsum(np.random.default_rng(4).uniform(1, 20, (counters, n)), axis=1).ravel()
    readings = Readings(ts, values, np.zeros(len(ts), np.int16), np.arange(counters + 1) * n)
    all_of = np.full(counters, to_us(START)), np.full(counters, to_us(END))
    asked = Asked(np.arange(counters), *all_of, np.ones(counters), np.full(counters, 900.0), np.ones(counters, bool))
    began = time.process_time()
    slots = sum(len(plain_slots(readings, asked).slots["ts"]) for _ in range(batches))
    per_s = batches * counters * DAYS / 365 / (time.process_time() - began)
    return (f"{counters} counters at once, {slots:,} slots in {batches} batches, no database",
            f"{per_s:,.0f} meter-years per core-second", "≥ 50 meter-years/s")


def _catalogue(conn: psycopg.Connection[Any]) -> None:
    """Meters of electricity: one at the gate, one of each enterprise, all others below units; one flat tariff."""
    conn.execute("INSERT INTO base (base_id, code, name_zh, name_en) VALUES (1, 'many', 'many', 'many')")
    conn.execute("""INSERT INTO enterprise (base_id, enterprise_id, code, name_zh, name_en)
        SELECT 1, i, 'e' || i, 'e', 'e' FROM generate_series(1, %s) i""", (ENTERPRISES,))
    conn.execute("""INSERT INTO unit (base_id, unit_id, code, enterprise_id, name_zh, name_en, role)
        SELECT 1, i, 'u' || i, i %% %s + 1, 'u', 'u', 'workshop' FROM generate_series(1, %s) i""", (ENTERPRISES, UNITS))
    conn.execute("""INSERT INTO point (base_id, point_id, code, name_zh, name_en, quantity, unit, kind, carrier, boundary,
                                       unit_id, rollover, expected_s)
        SELECT 1, i, 'm' || i, 'm', 'm', 'active_energy', 'kWh', 'counter', 'electricity',
               CASE WHEN i = 1 THEN 'base' WHEN i <= %(n)s + 1 THEN 'enterprise' ELSE 'unit' END, i %% %(units)s + 1, 1e6, 900
        FROM generate_series(1, %(counters)s) i""", {"n": ENTERPRISES, "units": UNITS, "counters": COUNTERS})
    conn.execute("""INSERT INTO tariff (base_id, code, carrier, unit, terms, valid_from, source)
        VALUES (1, 'flat', 'electricity', 'CNY/kWh', '{"flat": 0.6}', '2020-01-01', 'made for the benchmark')""")


def _readings(conn: psycopg.Connection[Any]) -> None:
    conn.execute("SELECT ensure_reading_partitions(%s, %s)", (START, END))
    n = DAYS * 96 + 1
    ts = to_us(START) + np.arange(n, dtype=np.int64) * SLOT_US
    rng = np.random.default_rng(3)
    for first in range(1, COUNTERS + 1, 500):
        part = np.arange(first, first + 500)
        values = np.round(np.cumsum(rng.uniform(1, 20, (500, n)), axis=1) + rng.uniform(0, 9e5, (500, 1)), 2) % 1e6
        write_columns(conn, READING, KINDS, {
            "ts": np.tile(ts, 500), "value": values.ravel(), "point_id": np.repeat(part, n),
            "base_id": np.ones(values.size, np.int16), "quality": np.zeros(values.size, np.int16)})
    conn.execute("""INSERT INTO dirty_account (base_id, point_id, bucket) SELECT 1, point_id, h FROM point,
        generate_series(%s::timestamptz, %s, interval '1 hour') h""", (START, END - timedelta(hours=1)))
    conn.execute("ANALYZE")


def _recompute(conn: psycopg.Connection[Any]) -> list[Row]:
    years, rows = COUNTERS * DAYS / 365, []
    for name in ("first pass", "full recompute, nothing to change"):
        cpu, began = _cpu_s(conn), time.perf_counter()
        done = run_pass(conn, END)
        took, cpu = time.perf_counter() - began, _cpu_s(conn) - cpu
        rows.append((f"{COUNTERS:,} counters, {DAYS} days: {name}, {done.slots:,} slots written",
                     f"{years / took:.1f} meter-years/s ({took:.1f} s, processor {cpu:.1f} s; "
                     f"a year would take {COUNTERS * took / years / 60:.0f} min)", "≥ 50 meter-years/s"))
        recompute(conn, 1, START, END)
    run_pass(conn, END)
    return rows


def _late_day(conn: psycopg.Connection[Any]) -> Row:
    noon = END - timedelta(days=3)
    conn.execute("UPDATE reading SET value = value + 3 WHERE base_id = 1 AND point_id = 4711 AND ts >= %s AND ts < %s",
                 (noon, noon + timedelta(days=1)))
    conn.execute("""INSERT INTO dirty_account (base_id, point_id, bucket)
        SELECT 1, 4711, h FROM generate_series(%s::timestamptz, %s, interval '1 hour') h""", (noon, noon + timedelta(hours=23)))
    began = time.perf_counter()
    done = run_pass(conn, END)
    return (f"repair of one late day of one meter among {COUNTERS:,}, {done.slots} slots changed",
            f"{time.perf_counter() - began:.2f} s", "≤ 2 s")


def _year(conn: psycopg.Connection[Any]) -> list[Row]:
    """Sums by unit, enterprise and carrier, as `GET /aggregates` asks for them, over a year of daily figures."""
    conn.execute("""INSERT INTO interval_1d (ts, amount, point_id, n_expected, n_known, n_good, base_id)
        SELECT d, 100 + point_id % 7, point_id, 96, 96, 96, 1
        FROM generate_series(%s::timestamptz, %s, interval '1 day') d, point
        ON CONFLICT DO NOTHING""".replace("% 7", "%% 7"), (END - timedelta(days=365), START - timedelta(days=1)))
    conn.execute("""SELECT roll_months(1::smallint, array_agg(point_id), array_agg(m::date)) FROM point,
        generate_series('2025-10-01'::timestamp, '2026-10-01', interval '1 month') m""")
    conn.execute("VACUUM ANALYZE interval_1d, interval_1mo")
    span = {"base": 1, "first": date(2025, 11, 1), "last": date(2026, 10, 31), "carrier": None, "own": None}
    rows: list[Row] = []
    for name, text, params in (
            ("by unit, with factors, cost and coverage (GET /aggregates?by=unit)", AGGREGATES["unit_rows"], span),
            ("the same over 363 days, the ends read by the day", AGGREGATES["unit_rows"], span | {
                "first": date(2025, 11, 3), "last": date(2026, 10, 31)}),
            ("by month and carrier from every counter", """SELECT carrier, month, sum(amount), sum(tce_calorific),
                sum(tce_equivalent), sum(co2_kg), sum(n_known), sum(n_expected)
                FROM energy_between(1::smallint, %(first)s, %(last)s) GROUP BY 1, 2""", span)):
        cpu, began = _cpu_s(conn), time.perf_counter()
        n = len(conn.execute(text, params).fetchall())
        took, cpu = time.perf_counter() - began, _cpu_s(conn) - cpu
        rows.append((f"a year of {COUNTERS:,} counters {name}, {n} rows", f"{took:.2f} s (processor {cpu:.2f} s)", "≤ 2 s"))
    return rows
