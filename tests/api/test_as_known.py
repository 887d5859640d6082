"""Figures asked as of T are those that were shown at T, whatever came after: late and corrected readings, factors, tariffs,
meters, limits, marks, ledger entries."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from psycopg.rows import dict_row

from accounting.passes import run_pass
from api.store import SQL
from park.catalogue import read_catalogue
from park.catalogue_store import apply

FACTORS = Path(__file__).parents[2] / "park" / "tables" / "factors.yaml"
Conn = psycopg.Connection[Any]
FIRST = datetime(2026, 10, 12, 16, tzinfo=UTC)        # midnight in the base's zone
DAYS = 3
END = FIRST + timedelta(days=DAYS, hours=2)
PERIOD = {"first": date(2026, 10, 13), "last": date(2026, 10, 15), "start": FIRST, "end": FIRST + timedelta(days=DAYS)}
COUNTERS = {"park.kwh": 30.0, "e1.main.kwh": 20.0, "e1.furnace.kwh": 12.0, "e1.gas": 3.0, "e1.water": 1.0, "e2.pv.kwh": 2.0}
GAUGES = {"e1.stack.so2": 12.0, "e1.stack.o2": 9.0, "e1.stack.flow": 20000.0, "e2.cod": 20.0, "e2.flow": 40.0}


def store(db: Conn, point: str, at: list[datetime], values: list[float]) -> None:
    """Readings as ingest leaves them: a changed value leaves the former one in the revision layer."""
    (base, point_id), = db.execute("SELECT base_id, point_id FROM point WHERE code = %s", (point,)).fetchall()
    db.execute("""INSERT INTO reading_revision (base_id, point_id, ts, value, quality, by_source, reason)
        SELECT r.base_id, r.point_id, r.ts, r.value, r.quality, 'test', 'corrected' FROM reading r
        JOIN unnest(%s::timestamptz[], %s::float8[]) AS n (ts, v) ON n.ts = r.ts
        WHERE r.base_id = %s AND r.point_id = %s AND n.v <> r.value""", (at, values, base, point_id))
    db.execute("""INSERT INTO reading (ts, value, point_id, base_id)
        SELECT t, v, %s, %s FROM unnest(%s::timestamptz[], %s::float8[]) r (t, v)
        ON CONFLICT (base_id, point_id, ts) DO UPDATE SET value = excluded.value""", (point_id, base, at, values))
    db.execute("""INSERT INTO dirty_account (base_id, point_id, bucket)
        SELECT DISTINCT %s::smallint, %s::integer, date_trunc('hour', t) FROM unnest(%s::timestamptz[]) t""",
               (base, point_id, at))


def slots(day: int, n: int = 96) -> list[datetime]:
    return [FIRST + timedelta(days=day, minutes=15 * i) for i in range(n + 1)]


@pytest.fixture
def park(mini: Conn) -> Conn:
    apply(mini, read_catalogue([FACTORS]))
    mini.execute("SELECT ensure_reading_partitions(%s, %s)", (FIRST, END))
    return mini


def fill(db: Conn, rng: np.random.Generator, days: range) -> None:
    for point, step in COUNTERS.items():
        for day in days:
            start = 1000 + 96 * step * day
            store(db, point, slots(day), [start + step * i for i in range(97)])
    minutes = [FIRST + timedelta(days=d, minutes=i) for d in days for i in range(0, 1440)]
    for point, level in GAUGES.items():
        store(db, point, minutes, list(level * (1 + 0.2 * rng.random(len(minutes)))))


def late_hours(db: Conn, rng: np.random.Generator) -> None:
    day, point = int(rng.integers(0, DAYS)), str(rng.choice(list(COUNTERS)))
    at = slots(day)
    store(db, point, at, [1000 + 96 * COUNTERS[point] * day + COUNTERS[point] * i for i in range(97)])


def corrected(db: Conn, rng: np.random.Generator) -> None:
    day, point = int(rng.integers(0, DAYS)), str(rng.choice(list(COUNTERS)))
    i = int(rng.integers(20, 70))
    base = 1000 + 96 * COUNTERS[point] * day
    store(db, point, slots(day)[i:i + 9], [base + COUNTERS[point] * (j + 0.4) for j in range(i, i + 9)])


def hotter(db: Conn, rng: np.random.Generator) -> None:
    at = [FIRST + timedelta(days=int(rng.integers(0, DAYS)), minutes=480 + i) for i in range(120)]
    store(db, "e1.stack.so2", at, list(30 + 10 * rng.random(120)))


HEAD = """base: {code: mini, name: {zh: 微型示范基地, en: Mini base}, region: 华东, plan: {2026: {tce_equivalent: 20000}}}
"""
STACK = """enterprises: [{code: e1, name: {zh: 永固轧钢, en: Yonggu Re-rolling}, industry: steel}]
units:
  - {code: e1.site, name: {zh: 轧钢厂区, en: Steel site}, enterprise: e1}
  - {code: e1.furnace, name: {zh: 加热炉, en: Reheating furnace}, enterprise: e1, parent: e1.site, role: production}
  - {code: e1.filter, name: {zh: 除尘脱硫, en: Flue gas treatment}, enterprise: e1, parent: e1.site, role: treatment,
     treats: [e1.furnace]}
  - {code: e1.stack, name: {zh: 1号排气筒, en: Stack 1}, enterprise: e1, parent: e1.site, role: outlet, outlet_of: [e1.filter],
     medium: air, o2_reference: 8}
"""


def yaml(db: Conn, text: str, tmp: Path) -> None:
    file = tmp / "change.yaml"
    file.write_text(HEAD + (STACK if "limits:" in text else "") + text, encoding="utf-8")
    apply(db, read_catalogue([file]), by="测试员", reason="随机变更")


def steps(tmp: Path) -> list[Callable[[Conn, np.random.Generator], None]]:
    def factor(db: Conn, rng: np.random.Generator) -> None:
        yaml(db, f"factors: [{{carrier: electricity, kind: co2, value: {0.4 + rng.random() / 5:.4f}, unit: kgCO2/kWh, "
                 "from: 2026-01-01, source: 测试}]\n", tmp)

    def tariff(db: Conn, rng: np.random.Generator) -> None:
        yaml(db, f"tariffs: [{{code: grid, carrier: electricity, unit: CNY/kWh, from: 2020-01-01, source: 测试, "
                 f"terms: {{flat: {0.5 + rng.random():.3f}}}}}]\n", tmp)

    def limit(db: Conn, rng: np.random.Generator) -> None:
        yaml(db, f"limits: [{{outlet: e1.stack, quantity: so2, high: {10 + 30 * rng.random():.1f}, unit: mg/m3, "
                 "statistic: hour, rank: permit, from: 2020-01-01, source: 测试}]\n", tmp)

    def ratio(db: Conn, rng: np.random.Generator) -> None:
        db.execute("UPDATE point SET ratio = %s WHERE code = 'e1.furnace.kwh'", (1 + int(rng.integers(1, 9)),))

    def mark(db: Conn, rng: np.random.Generator) -> None:
        at = FIRST + timedelta(hours=int(rng.integers(0, 60)))
        db.execute("""INSERT INTO exempt_period (base_id, unit_id, started_at, ended_at, kind, reason, recorded_by)
            SELECT base_id, unit_id, %s, %s, 'maintenance', 'x', 'y' FROM unit WHERE code = 'e1.stack'""",
                   (at, at + timedelta(hours=5)))

    def ledger(db: Conn, rng: np.random.Generator) -> None:
        db.execute("""INSERT INTO ledger (base_id, kind, first_day, last_day, value, unit, recorded_by)
            SELECT base_id, 'value_added', '2026-10-01', '2026-10-31', %s, '万元', 'x' FROM base""",
                   (float(rng.integers(1, 999)),))

    return [late_hours, corrected, hotter, factor, tariff, limit, ratio, mark, ledger]


def shown(db: Conn, at: datetime | None) -> dict[str, list[dict[str, Any]]]:
    """What the API's queries and the published views say, now or looking back to `at`."""
    out: dict[str, list[dict[str, Any]]] = {}
    with db.transaction(), db.cursor(row_factory=dict_row) as cur:
        if at is not None:
            taken = cur.execute(SQL["look_back"], {"as_of": at, "zone": "Asia/Shanghai"}).fetchone()
            assert taken is not None and taken["as_of"] == at
        about = PERIOD | {"base": 1, "own": None, "carrier": None, "outlet": None, "quantity": None, "unit": 5}
        for grouped in (False, True):
            out[f"energy {grouped}"] = cur.execute(SQL["energy_rows"], about | {"enterprises": grouped}).fetchall()
        out["units"] = cur.execute(SQL["unit_rows"], about).fetchall()
        out["emission"] = cur.execute(SQL["emission_rows"], about).fetchall()
        for outlet in ("e1.stack", "e2.outlet"):
            out[f"days {outlet}"] = cur.execute(SQL["emission_days"], about | {"outlet": outlet}).fetchall()
            out[f"hours {outlet}"] = cur.execute(SQL["emission_hours"], about | {"outlet": outlet}).fetchall()
        out["limits"] = cur.execute(SQL["limits_of_unit"], about).fetchall()
        for view in ("indicator_value_known", "cost_1d_known", "balance_1d", "bill_known", "capture_rate_1q",
                     "treatment_event_known", "ledger_known", "point_known"):
            out[view] = sorted(cur.execute(f"SELECT * FROM {view}").fetchall(), key=lambda row: str(list(row.values())))
    return out


def alike(a: Any, b: Any) -> bool:
    """Equal, but for the last digits of a sum whose parts lie in another order."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(alike(a[k], b[k]) for k in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(alike, a, b))
    return a == pytest.approx(b, rel=1e-9) if isinstance(a, float) and isinstance(b, float) else a == b


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_figures_asked_as_of_an_instant_are_those_that_were_shown_then(park: Conn, tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    moments: list[tuple[datetime, str, dict[str, list[dict[str, Any]]]]] = []

    def look(what: str) -> None:
        time.sleep(0.002)
        row = park.execute("SELECT clock_timestamp()").fetchone()
        assert row is not None
        time.sleep(0.002)
        moments.append((row[0], what, shown(park, None)))

    look("nothing")
    fill(park, rng, range(DAYS - 1))
    run_pass(park, END - timedelta(days=1, hours=14))           # in the middle of the second day's night
    look("two days")
    fill(park, rng, range(DAYS - 1, DAYS))
    run_pass(park, END)
    look("three days")
    choice = steps(tmp_path)
    for i in rng.permutation(len(choice))[:5]:
        choice[i](park, rng)
        look(f"{choice[i].__name__} before its pass")            # what the catalogue changes at once, figures follow
        run_pass(park, END)
        look(choice[i].__name__)
    changes = sum(a[2] != b[2] for a, b in pairwise(moments))
    assert changes >= 6, [m[1] for m in moments]
    for at, what, then in moments:
        told = shown(park, at)
        for name, rows in then.items():
            assert alike(told[name], rows), (seed, what, name, Counter(map(str, rows)) - Counter(map(str, told[name])))
