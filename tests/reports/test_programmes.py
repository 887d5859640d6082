"""Sets of indicators in a report, and the forecast of the year's end with its interval beside the targets."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from park.catalogue import read_catalogue
from park.catalogue_store import apply
from reports.model import Table
from reports.store import draft

Db = psycopg.Connection[Any]
TABLES = Path(__file__).parents[2] / "park" / "tables"


@pytest.fixture
def measured(park_year: Db) -> Db:
    apply(park_year, read_catalogue([TABLES / "indicators.yaml"]))
    park_year.execute("""INSERT INTO indicator_value (base_id, indicator, period, value, unit, coverage, grade, inputs) VALUES
        (1, 'zc.clean_energy_share', '2026', 12.5, '%', 0.97, 'A', '{"threshold": 90, "kept": false, "factors": [1]}'),
        (1, 'zc.waste_heat_use', '2026', NULL, '%', NULL, 'A', '{"withheld": "nothing of it in the ledger"}')""")
    park_year.execute("""INSERT INTO indicator_forecast (base_id, indicator, year, until, value, low, high, unit, target_likely)
        VALUES (1, 'tce_equivalent', 2026, '2026-09-30', 17000, 16500, 17500, 'tce', 0.99)""")
    return park_year


def table(db: Db, at: datetime, name: str) -> Table:
    report = draft(db, "mini", "annual", 2026, at).report
    (found,) = [b for s in report.sections for b in s.blocks if isinstance(b, Table) and b.id == name]
    return found


def test_a_set_stands_with_threshold_result_and_what_is_not_checked(measured: Db) -> None:
    rows = table(measured, datetime(2027, 1, 15, tzinfo=UTC), "programme-2026-zero_carbon_park")
    clean = next(r for r in rows.rows if r[0].zh == "清洁能源消费占比（不低于）")         # type: ignore[union-attr]
    assert (clean[2].value, clean[3].value, clean[4].en) == (12.5, 90, "not kept")   # type: ignore[union-attr]
    heat = next(r for r in rows.rows if r[0].zh.startswith("余热"))               # type: ignore[union-attr]
    assert heat[2].value is None and "ledger" in heat[2].reason.en                # type: ignore[union-attr]
    assert "6 rows was not checked" in rows.notes[0].en


def test_an_open_year_is_told_by_its_forecast_and_interval(measured: Db) -> None:
    rows = table(measured, datetime(2026, 10, 1, 4, tzinfo=UTC), "targets-2026")
    energy = next(r for r in rows.rows if r[0].zh.startswith("综合能耗"))          # type: ignore[union-attr]
    assert energy[5].value == 17000 and "16,500" in energy[5].reason.en and "99%" in energy[5].reason.en  # type: ignore[union-attr]
