"""The report's parts on resources and accounts: stores, exchanges, water, land, bills, both kinds of CO2, uncertainty."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import psycopg
import pytest

from reports.model import Cell, Table, Text
from reports.store import draft
from reports.write import write_files
from tests.reports.conftest import AFTER

Conn = psycopg.Connection[Any]
SEED = """
DELETE FROM ledger WHERE kind IN ('solid_waste', 'hazardous_waste', 'exchange');
INSERT INTO ledger (base_id, kind, enterprise_id, counterparty_id, item, action, first_day, last_day, value, unit, status,
recorded_by, recorded_at)
SELECT e.base_id, v.kind, e.enterprise_id, o.enterprise_id, v.item, v.action, v.first::date, v.last::date, v.value, v.unit,
v.status, 'x', '2026-12-31Z'
FROM (VALUES ('solid_waste', 'e1', NULL, '炉渣', 'opening', '2025-12-31', '2025-12-31', 12, 't', 'final'),
             ('solid_waste', 'e1', NULL, '炉渣', 'generated', '2026-01-01', '2026-03-31', 300, 't', 'final'),
             ('solid_waste', 'e1', NULL, '炉渣', 'used', '2026-01-01', '2026-03-31', 250, 't', 'final'),
             ('solid_waste', 'e1', 'e2', '炉渣', 'moved', '2026-01-01', '2026-03-31', 40, 't', 'preliminary'),
             ('hazardous_waste', 'e1', NULL, '废矿物油', 'generated', '2026-01-01', '2026-03-31', 900, 'kg', 'final'),
             ('hazardous_waste', 'e1', NULL, '废矿物油', 'disposed', '2026-02-01', '2026-02-28', 1.2, 't', 'final'),
             ('exchange', 'e1', 'e2', '废钢渣粉', '', '2026-01-01', '2026-06-30', 40, 't', 'final'),
             ('exchange', 'e2', 'e1', '废钢渣粉', 'received', '2026-01-01', '2026-06-30', 39, 't', 'final'),
             ('land', 'e1', NULL, '工业用地', '', '2026-01-01', '2026-12-31', 300, '亩', 'final'),
             ('waste_heat', 'e1', NULL, '', 'available', '2026-01-01', '2026-12-31', 1000, 'GJ', 'final'),
             ('waste_heat', 'e1', NULL, '', 'used', '2026-01-01', '2026-12-31', 620, 'GJ', 'final'),
             ('water_recirculated', 'e1', NULL, '', '', '2026-01-01', '2026-12-31', 365000, 'm3', 'final'))
     AS v (kind, code, other, item, action, first, last, value, unit, status)
JOIN enterprise e ON e.code = v.code LEFT JOIN enterprise o ON o.base_id = e.base_id AND o.code = v.other;
INSERT INTO bill (base_id, month, total, energy_kwh, estimated_kwh, n_expected, n_known, power_factor, demand_kw, complete,
recorded_at)
SELECT 1, make_date(2026, m, 1), 2400000, 3600000, 0, 2976, 2976, 0.93, 5200, true, '2026-12-31Z' FROM generate_series(1, 12) m;
INSERT INTO bill_line (base_id, month, line, item, quantity, unit, price, amount, in_power_factor_base, tariff_id, recorded_at)
SELECT 1, make_date(2026, m, 1), l.line, l.item, 1, 'kWh', l.amount, l.amount, true, 1, '2026-12-31Z'
FROM generate_series(1, 12) m, (VALUES (1, 'energy.peak', 2200000), (2, 'demand', 210800), (3, 'power_factor', -10800)) AS l
(line, item, amount);
UPDATE energy_total SET co2_market_kg = co2_kg * 1.1, tce_calorific_assessed = tce_calorific, tce_equivalent_assessed =
tce_equivalent;
UPDATE point SET accuracy_class = '0.5S' WHERE carrier = 'electricity';
"""


@pytest.fixture
def tables(park_year: Conn, tmp_path: Path) -> dict[str, Table]:
    park_year.execute(SEED)
    made = draft(park_year, "mini", "annual", 2026, AFTER)
    if folder := os.environ.get("PARK_SCREENSHOTS"):
        for language in ("zh", "en"):
            write_files(made, language, ("pdf", "html", "docx"), Path(folder))  # type: ignore[arg-type]
    return {b.id: b for s in made.report.sections for b in s.blocks if isinstance(b, Table)}


def row(table: Table, *names: str) -> list[Cell | Text]:
    found = [r for r in table.rows if [x.zh for x in r[: len(names)] if isinstance(x, Text)] == list(names)]
    assert len(found) == 1, (names, [[x.zh for x in r if isinstance(x, Text)] for r in table.rows])
    return list(found[0][len(names) :])


def values(cells: list[Cell | Text]) -> list[Any]:
    return [c.value if isinstance(c, Cell) else c.zh for c in cells]


def test_stores_are_carried_moved_waste_is_in_one_store_and_a_negative_one_is_marked(tables: dict[str, Table]) -> None:
    waste = tables["waste"]
    assert values(row(waste, "一般工业固体废物：炉渣", "永固轧钢")) == [12, 300, None, 250, None, 40, 22, "—"]
    assert values(row(waste, "一般工业固体废物：炉渣", "清源污水")) == [None, None, 40, None, None, None, 40, "—"]
    oil = row(waste, "危险废物：废矿物油", "永固轧钢")
    assert values(oil)[-2:] == [-0.3, "2026-02-28 起库存为负，台账有误"]
    moved = row(waste, "一般工业固体废物：炉渣", "永固轧钢")[5]
    assert isinstance(moved, Cell) and (moved.grade, moved.quality) == ("B", "preliminary")


def test_an_exchange_that_both_booked_stands_once_with_the_difference(tables: dict[str, Table]) -> None:
    assert values(row(tables["exchange"], "废钢渣粉", "永固轧钢", "清源污水", "t")) == [40, "对方登记 39.00"]
    assert values(row(tables["exchange"], "炉渣", "永固轧钢", "清源污水", "t")) == [40, "仅一方登记"]


def test_the_water_balance_withholds_what_too_little_is_known_of(tables: dict[str, Table]) -> None:
    """Fresh water is unknown on 100 days: consumption and reuse need 90 %; discharge and recirculated water are told."""
    base = row(tables["water-balance"], "园区合计")
    fresh, _, recirculated, discharged, consumed, reuse = [c for c in base if isinstance(c, Cell)]
    assert fresh.coverage == pytest.approx(265 / 365) and recirculated.value == 365000 and (discharged.value or 0) > 0
    for cell, said in ((consumed, "排水多于取水"), (reuse, "覆盖率")):
        assert cell.value is None and cell.reason is not None and said in cell.reason.zh


def test_land_waste_heat_bills_and_both_kinds_of_co2(tables: dict[str, Table]) -> None:
    assert values(row(tables["land-heat"], "用地：工业用地", "永固轧钢", "ha")) == [20]
    assert values(row(tables["land-heat"], "余热利用率", "园区合计", "%")) == [62]
    assert values(row(tables["energy-bills"], "2026-03")) == [3600000, 2200000, 5200, 210800, 0.93, -10800, 2400000]
    account = row(tables["energy-account"], "电力", "范围2", "A")
    location, market = account[-2], account[-1]
    assert (
        isinstance(location, Cell) and isinstance(market, Cell) and market.value == pytest.approx(1.1 * (location.value or 0))
    )


def test_the_uncertainty_of_a_balance_stands_beside_its_share(tables: dict[str, Table]) -> None:
    balance = tables["balance"]
    gate = next(r for r in balance.rows if isinstance(r[0], Text) and "park.kwh" in r[0].zh)
    share, margin = gate[-2], gate[-1]
    assert isinstance(share, Cell) and isinstance(margin, Cell)
    assert share.value == pytest.approx(100 * 4 / 120, abs=0.01)
    assert margin.value == pytest.approx(100 * 2 / 3**0.5 * 0.005 * (120**2 + 80**2 + 36**2) ** 0.5 / 120, abs=0.01)
