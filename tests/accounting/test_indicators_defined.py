"""Indicators that rows define: the shipped sets over a park's figures, what is withheld and why, forecasts of a year's end."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from accounting.indicators import INTENSITIES, Figure, ValueAdded, _intensities
from accounting.passes import run_pass
from park.catalogue import check_files, read_catalogue
from park.catalogue_store import apply, export
from tests.accounting.conftest import Conn

TABLE = Path(__file__).parents[2] / "park" / "tables" / "indicators.yaml"
HEAD = "base: {code: mini, name: {zh: 微型示范基地, en: Mini base}, region: 华东, plan: {2026: {tce_equivalent: 20000}}}\n"
NOW = datetime(2026, 9, 1, 3, tzinfo=UTC)


def totals(conn: Conn, first: date, last: date, scale: float, seed: int) -> None:
    """Daily totals of a base as the pass leaves them: electricity with PV, fresh and reclaimed water."""
    rng = np.random.default_rng(seed)
    n = (last - first).days + 1
    kwh = 1e6 * scale * (1 + 0.05 * rng.normal(size=n))
    for carrier, unit, amount, generation, tce, co2 in (
            ("electricity", "kWh", kwh, 0.3 * kwh, kwh * 0.31e-3, kwh * 0.7 * 0.55),
            ("water", "m3", kwh / 1e3, None, None, None), ("reclaimed_water", "m3", kwh / 250, None, None, None)):
        conn.execute("""INSERT INTO energy_total (base_id, day, carrier, unit, amount, generation, n_expected, n_known, n_good,
                tce_calorific, tce_equivalent, co2_kg)
            SELECT 1, %s::date + (i - 1)::integer, %s, %s, a, g, 96, 96, 96, t, t, c
            FROM unnest(%s::float8[], %s::float8[], %s::float8[], %s::float8[]) WITH ORDINALITY AS x (a, g, t, c, i)""",
                     (first, carrier, unit, list(amount), [None] * n if generation is None else list(generation),
                      [None] * n if tce is None else list(tce), [None] * n if co2 is None else list(co2)))


def book(conn: Conn, kind: str, value: float, unit: str, first: str, last: str, action: str = "", item: str = "") -> None:
    conn.execute("""INSERT INTO ledger (base_id, kind, action, item, first_day, last_day, value, unit, recorded_by)
        VALUES (1, %s, %s, %s, %s, %s, %s, %s, 'x')""", (kind, action, item, first, last, value, unit))


@pytest.fixture
def measured(park: Conn) -> Conn:
    """Two years of totals, a ledger, and the shipped sets."""
    park.execute("DELETE FROM ledger")
    totals(park, date(2025, 1, 1), date(2025, 12, 31), 1.0, 1)
    totals(park, date(2026, 1, 1), date(2026, 8, 31), 1.1, 2)
    book(park, "value_added", 400_000, "万元", "2025-01-01", "2025-12-31")
    for month in range(1, 9):
        last = (date(2026, month % 12 + 1, 1) - timedelta(days=1)).isoformat()
        book(park, "value_added", 4 + 0.02 * month, "亿元", f"2026-{month:02d}-01", last)
    book(park, "solid_waste", 8000, "t", "2026-01-01", "2026-12-31", "generated", "slag")
    book(park, "solid_waste", 7000, "t", "2026-01-01", "2026-12-31", "used", "slag")
    book(park, "land", 4500, "亩", "2026-01-01", "2026-12-31", item="industrial")
    apply(park, read_catalogue([TABLE]))
    run_pass(park, NOW)
    return park


def value(conn: Conn, code: str, period: str = "2026") -> tuple[Any, ...]:
    row = conn.execute("SELECT value, unit, coverage, grade, inputs FROM indicator_value WHERE indicator = %s AND period = %s",
                       (code, period)).fetchone()
    assert row is not None, code
    return row


def test_the_shipped_tables_are_read_without_a_mistake_and_say_what_is_not_verified() -> None:
    assert check_files([TABLE]) == []
    rows = read_catalogue([TABLE]).indicators
    assert {r.set_code for r in rows} == {"zero_carbon_park", "eco_park"}
    assert all(r.source and not r.verified for r in rows)          # formulas are ours: no annex with the method was read
    assert "no official indicator table" in TABLE.read_text(encoding="utf-8")


def test_the_zero_carbon_set_by_hand(measured: Conn) -> None:
    carbon, unit, coverage, grade, inputs = value(measured, "zc.carbon_per_energy")
    assert (carbon, unit, grade) == (pytest.approx(0.7 * 0.55 / 0.31), "t/tce", "A") and coverage == pytest.approx(1, abs=0.01)
    assert inputs["threshold"] is None                              # 0.08 Mtce a year: the notice names no threshold below 0.2
    clean = value(measured, "zc.clean_energy_share")
    assert clean[0] == pytest.approx(30.0) and clean[4]["threshold"] == 90 and clean[4]["kept"] is False
    waste = value(measured, "zc.solid_waste_use")
    assert waste[0] == pytest.approx(87.5) and waste[3] == "B" and waste[4]["kept"] is True
    reuse = value(measured, "zc.water_reuse")
    assert reuse[0] is None and reuse[4]["withheld"].endswith("nothing of ledger.water_recirculated in the ledger")
    fresh = measured.execute("SELECT sum(amount) FROM energy_total WHERE carrier = 'water' AND day >= '2026-01-01'").fetchone()
    assert fresh is not None
    book(measured, "water_recirculated", 15 * fresh[0], "m3", "2026-01-01", "2026-08-31")
    run_pass(measured, NOW)
    reuse = value(measured, "zc.water_reuse")               # fresh 1, reclaimed 4, used again in the works 15
    assert reuse[0] == pytest.approx(95.0) and reuse[3] == "B" and reuse[4]["kept"] is True
    heat = value(measured, "zc.waste_heat_use")
    assert heat[0] is None and heat[4]["withheld"] == "ledger.waste_heat.used: nothing of ledger.waste_heat.used in the ledger"


def test_the_eco_park_set_by_hand(measured: Conn) -> None:
    added = sum(40_000 + 200 * m for m in range(1, 9))              # 10,000 CNY, until the end of August
    tce = measured.execute("""SELECT sum(tce_equivalent) FROM energy_total WHERE day >= '2026-01-01'""").fetchone()
    assert tce is not None
    energy = value(measured, "eco.energy_per_value_added")
    assert energy[0] == pytest.approx(tce[0] / added) and energy[4]["until"] == "2026-08-31" and energy[3] == "B"
    assert energy[4]["ledger"] and energy[4]["figures"]["ledger.value_added"]["unit"] == "亿元"
    before = value(measured, "eco.energy_per_value_added", "2025")
    assert value(measured, "eco.co2_cut")[0] == pytest.approx(100 * (1 - energy[0] / before[0]))
    land = value(measured, "eco.value_added_per_land")
    assert land[0] == pytest.approx(added / 1e4 / 3.0)              # 4,500 亩 are 3 km2; an area does not add up over days
    assert value(measured, "eco.solid_waste_per_value_added", "2025")[4]["withheld"]


def test_the_base_s_own_row_wins_and_a_wrong_one_is_named(measured: Conn, tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text(HEAD + """indicators:
  - {set: plan, code: zc.water_reuse, name: 回用率, formula: water_reuse_rate * 0.5, unit: '%', source: 自定}
  - {set: plan, code: own.broken, name: x, formula: energy.electricity + energy.water, unit: kWh}
  - {set: plan, code: own.unknown, name: x, formula: nothing_like_it * 2, unit: kWh}
""")
    apply(measured, read_catalogue([file]))
    run_pass(measured, NOW)
    assert value(measured, "zc.water_reuse")[0] == pytest.approx(40.0)
    assert "cannot be added" in value(measured, "own.broken")[4]["withheld"]
    assert value(measured, "own.unknown")[4]["withheld"] == "there is no figure 'nothing_like_it'"
    assert export(measured, "mini")["indicators"][0]["set"] == "plan"
    measured.execute("UPDATE indicator_definition SET superseded_at = now() WHERE code LIKE 'own.%'")
    run_pass(measured, NOW)
    assert measured.execute("SELECT FROM indicator_value WHERE indicator LIKE 'own.%'").fetchall() == []
    file.write_text(HEAD + "indicators:\n  - {set: plan, code: a, name: x, formula: 'exec(1)', unit: kWh}\n")
    (mistake,) = check_files([file])
    assert mistake.startswith(f"{file}:3: ") and "can be called" in mistake


def test_a_figure_that_nobody_gives_is_named_before_its_unit_is_looked_at(measured: Conn, tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text(HEAD + """indicators:
  - {set: plan, code: own.steam, name: x, formula: energy.steam / ledger.value_added, unit: t/万元}
  - {set: plan, code: own.diff, name: x, formula: 1 - energy.steam / energy.steam, unit: '%'}
""")
    apply(measured, read_catalogue([file]))
    run_pass(measured, NOW)
    for code in ("own.steam", "own.diff"):
        assert value(measured, code)[4]["withheld"] == "energy.steam: no counter or bill of steam"


def test_an_intensity_without_its_numerator_says_whose_value_is_missing() -> None:
    unknown = Figure("water_m3", "m3", None, None, inputs={"withheld": "no counter of this carrier counts for the base"})
    energy = {source: unknown for _, source, _ in INTENSITIES}
    for figure in _intensities(energy, ValueAdded(100.0, 1.0, NOW.date(), [1], False)):
        assert figure.value is None
        assert str(figure.inputs["withheld"]).endswith(": no counter of this carrier counts for the base")


def test_the_year_s_end_is_forecast_with_its_uncertainty_and_the_chance_of_the_target(measured: Conn) -> None:
    rows = {r[0]: r[1:] for r in measured.execute("""SELECT indicator, until, value, low, high, method, target_likely,
        threshold_likely, why FROM indicator_forecast WHERE year = 2026""").fetchall()}
    until, end, low, high, method, likely, _, _ = rows["tce_equivalent"]
    assert until == date(2026, 8, 31) and "year before" in method
    assert end == pytest.approx(365 * 1.1e6 * 0.31e-3, rel=0.01) and low < end < high and (high - low) / end < 0.05
    assert likely == 0.0                                            # 124,000 tce forecast, 20,000 allowed
    share = rows["renewable_share"]
    assert share[1] == pytest.approx(0.3) and share[3] - share[2] < 1e-9       # a fixed part of a sum is certain
    assert rows["zc.clean_energy_share"][6] == 0.0 and rows["zc.solid_waste_use"][7]
    assert rows["eco.energy_per_value_added"][1] == pytest.approx(value(measured, "eco.energy_per_value_added")[0], rel=0.05)
    former = measured.execute("SELECT value FROM indicator_forecast WHERE indicator = 'tce_equivalent'").fetchall()
    run_pass(measured, NOW)                                         # the same day: nothing is drawn again
    assert measured.execute("SELECT value FROM indicator_forecast WHERE indicator = 'tce_equivalent'").fetchall() == former


@pytest.mark.parametrize(("electricity", "matters"), [(200.0, True), (0.001, False)])
def test_a_carrier_that_matters_and_is_hardly_known_leaves_no_forecast_and_no_intensity(park: Conn, electricity: float,
                                                                                        matters: bool) -> None:
    """A base that began to measure its electricity last month and has diesel bills of a year: these are no total."""
    park.execute("DELETE FROM ledger")
    for carrier, first, tce in (("diesel", date(2026, 1, 1), 0.2), ("electricity", date(2026, 8, 1), electricity)):
        park.execute("""INSERT INTO energy_total (base_id, day, carrier, unit, amount, n_expected, n_known, n_good,
                tce_calorific, tce_equivalent, co2_kg)
            SELECT 1, d::date, c.carrier, c.unit, 1000, 96, 96, 96, %(tce)s, %(tce)s, 100 FROM carrier c,
                generate_series(%(first)s, '2026-08-31'::date, interval '1 day') AS d WHERE c.carrier = %(carrier)s""",
                     {"carrier": carrier, "first": first, "tce": tce})
    book(park, "value_added", 400_000, "万元", "2026-01-01", "2026-07-31")
    apply(park, read_catalogue([TABLE]))
    run_pass(park, NOW)
    forecast = park.execute("SELECT value, why FROM indicator_forecast WHERE indicator = 'tce_equivalent'").fetchone()
    intensity = value(park, "energy_per_value_added")
    if matters:
        assert forecast == (None, "tce_equivalent: no forecast, less than four weeks of it or less than half of the days "
                                  "so far are known")
        assert intensity[0] is None and "less than 90%" in intensity[4]["withheld"]
    else:
        assert forecast is not None and forecast[0] == pytest.approx(365 * 0.201)
        assert intensity[0] == pytest.approx(212 * 0.2 / 400_000)
