"""Accounting: meter-years per second, a first pass over a year of the simulated park, repair of a late day, an aggregate.

The readings are shaped like a park's (registers that grow by a daily profile, stacks and outlets with plausible
concentrations) but made here: the simulator's own history is measured by `bench.demo`.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import psutil
import psycopg

from accounting.columns import to_us, write_columns
from accounting.intervals import SLOT_US, intervals
from accounting.passes import recompute, run_pass
from park.catalogue import read_catalogue
from park.catalogue_store import apply
from park.database import connect, migrate
from park.embedded import Postgres

ROOT = Path(__file__).parent.parent
CATALOGUE = sorted((ROOT / "simulators" / "catalogue" / "lvyuan").glob("*.yaml"))
FACTORS = ROOT / "park" / "tables" / "factors.yaml"
END = datetime(2026, 11, 1, tzinfo=UTC)
READING = "COPY reading (ts, value, point_id, base_id, quality) FROM STDIN (FORMAT binary)"
KINDS = {"ts": "ts", "value": "f8", "point_id": "i4", "base_id": "i2", "quality": "i2"}
Row = tuple[str, str, str]


def run(days: int = 365) -> list[Row]:
    """Rows (name, figure, goal)."""
    rows = [_pure()]
    with TemporaryDirectory() as folder, Postgres(Path(folder) / "data", config={"shared_buffers": "512MB"}).start() as server:
        migrate(server.url())
        with connect(server.url(), autocommit=True) as conn:
            n_counters = load(conn, days)
            rows += _passes(conn, days, n_counters)
            rows.append(_aggregate(conn))
    return rows


def _pure() -> Row:
    """Registers of a year into slots, no database."""
    n = 365 * 96
    slots = np.arange(n, dtype=np.int64) * SLOT_US
    rng = np.random.default_rng(1)
    ts = np.append(slots, n * SLOT_US)
    quality = np.zeros(n + 1, np.int16)
    registers = [np.concatenate([[0], np.cumsum(rng.uniform(5, 20, n))]) % 1e6 for _ in range(40)]
    began = time.perf_counter()
    for register in registers:
        intervals(ts, register, quality, slots, rollover=1e6)
    per_s = len(registers) / (time.perf_counter() - began)
    return ("intervals from registers, 15-min readings, no database", f"{per_s:,.0f} meter-years/s", "≥ 50 meter-years/s")


def load(conn: psycopg.Connection[Any], days: int) -> int:
    """The simulated park's catalogue with `days` of made readings every 15 minutes; the number of its counters."""
    apply(conn, read_catalogue([FACTORS]))
    apply(conn, read_catalogue(CATALOGUE))
    # the points that figures are made from; the others' gauges would only fill the disk
    points = conn.execute("""SELECT point_id, kind, quantity, high FROM point LEFT JOIN unit u USING (base_id, unit_id)
        WHERE kind = 'counter' OR u.role = 'outlet'
           OR u.role IN ('production', 'treatment') AND quantity IN ('active_power', 'state') ORDER BY point_id""").fetchall()
    start = END - timedelta(days=days)
    conn.execute("SELECT ensure_reading_partitions(%s, %s)", (start - timedelta(days=8), END))
    n = days * 96
    ts = to_us(start) + np.arange(n, dtype=np.int64) * SLOT_US
    rng = np.random.default_rng(2)
    for i in range(0, len(points), 40):
        part = points[i:i + 40]
        values = np.concatenate([_values(kind, quantity, high, n, rng) for _, kind, quantity, high in part])
        write_columns(conn, READING, KINDS, {
            "ts": np.tile(ts, len(part)), "value": values, "point_id": np.repeat([p[0] for p in part], n),
            "base_id": np.ones(len(values), np.int16), "quality": np.zeros(len(values), np.int16)})
    conn.execute("""INSERT INTO reading_1d (bucket, min, max, sum, n, n_good, n_usable, point_id, base_id)
        SELECT d, 0, 100, 4800, 96, 96, 96, point_id, 1 FROM point,
               generate_series(%s::timestamptz, %s, interval '1 day') d""",
                 (start - timedelta(hours=8), END - timedelta(hours=8)))
    conn.execute("INSERT INTO dirty_account (base_id, point_id, bucket) SELECT 1, point_id, h FROM point, "
                 "generate_series(%s::timestamptz, %s, interval '1 hour') h", (start, END - timedelta(hours=1)))
    conn.execute("ANALYZE")
    return sum(kind == "counter" for _, kind, _, _ in points)


def _values(kind: str, quantity: str, high: float | None, n: int, rng: np.random.Generator) -> np.ndarray:
    day = 1 + 0.6 * np.sin(np.arange(n) / 96 * 2 * np.pi) + rng.uniform(0, 0.2, n)
    if kind == "counter":
        return np.round(np.cumsum(day * rng.uniform(2, 80)), 2)
    if kind == "state":
        return (day > 0.7).astype(float)
    level = {"o2": 9.0, "ph": 7.2, "so2": 20.0, "nox": 90.0}.get(quantity, (high or 100.0) * 0.3)
    return level * (1 + 0.1 * (day - 1.1))


def _passes(conn: psycopg.Connection[Any], days: int, n_counters: int) -> list[Row]:
    cpu = _cpu_s(conn)
    began = time.perf_counter()
    done = run_pass(conn, END)
    first, cpu = time.perf_counter() - began, _cpu_s(conn) - cpu
    years = n_counters * days / 365
    recompute(conn, 1, END - timedelta(hours=1), END)
    began = time.perf_counter()
    run_pass(conn, END)
    steady = time.perf_counter() - began
    noon = END - timedelta(days=100)
    conn.execute("""UPDATE reading SET value = value + 3 WHERE base_id = 1 AND ts >= %s AND ts < %s
        AND point_id = (SELECT min(point_id) FROM point WHERE kind = 'counter' AND carrier = 'electricity')""",
                 (noon, noon + timedelta(days=1)))
    conn.execute("""INSERT INTO dirty_account (base_id, point_id, bucket) SELECT 1, min(point_id), h FROM point,
        generate_series(%s::timestamptz, %s, interval '1 hour') h
        WHERE kind = 'counter' AND carrier = 'electricity' GROUP BY h""",
                 (noon, noon + timedelta(hours=23)))
    began = time.perf_counter()
    run_pass(conn, END)
    repair = time.perf_counter() - began
    began = time.perf_counter()
    recompute(conn, 1, END - timedelta(days=days), END)
    run_pass(conn, END)
    again = time.perf_counter() - began
    return [
        (f"first pass, {days} days, {n_counters} counters, {done.slots:,} slots and {done.hours:,} emission hours written",
         f"{first:.1f} s, {cpu:.1f} s of one core, {years / cpu:.1f} meter-years per core-second with all tables", "≤ 30 s"),
        ("full recompute of the same, nothing to change", f"{again:.1f} s ({years / again:.1f} meter-years/s)", "-"),
        ("pass after new readings of every point", f"{steady:.2f} s", "≤ 2 s"),
        ("repair of one late day of one meter, every dependent figure", f"{repair:.2f} s", "≤ 2 s"),
    ]


def _cpu_s(conn: psycopg.Connection[Any]) -> float:
    """Seconds of a core that this process and the database server have used: with vacuum, and sessions that have ended since,
    as a pass may open a second one. A shared machine stretches wall time."""
    server = psutil.Process(conn.info.backend_pid).parent()
    assert server is not None
    mine, ended = psutil.Process().cpu_times(), server.cpu_times()
    return mine.user + mine.system + ended.children_user + ended.children_system + sum(
        t.user + t.system for t in (child.cpu_times() for child in server.children()))


def _aggregate(conn: psycopg.Connection[Any]) -> Row:
    began = time.perf_counter()
    conn.execute("""SELECT carrier, date_trunc('month', day::timestamp), sum(amount), sum(tce_equivalent), sum(co2_kg),
        sum(cost) FROM energy_total_1d WHERE enterprise_id IS NULL GROUP BY 1, 2""").fetchall()
    total = time.perf_counter() - began
    began = time.perf_counter()
    conn.execute("""SELECT unit_id, carrier, sum(amount), sum(tce_calorific), sum(co2_kg) FROM energy_1d
        GROUP BY 1, 2""").fetchall()
    unit = time.perf_counter() - began
    return ("year by carrier and month from totals / by unit from every counter",
            f"{total * 1000:.0f} ms / {unit * 1000:.0f} ms", "≤ 1,000 ms")
