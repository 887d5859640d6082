"""Energy and carbon: what counts once, what is deducted by which setting, CO2 by location and by market, grades by source."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from accounting.passes import run_pass
from accounting.verify import verify
from park.catalogue import read_catalogue
from park.catalogue_store import apply
from tests.accounting.conftest import every

Conn = psycopg.Connection[Any]
Feed = Callable[..., None]
MINI = Path(__file__).parents[1] / "data" / "mini.yaml"
START = datetime(2026, 3, 1, 16, tzinfo=UTC)  # 2 March, base-local midnight
NOW = START + timedelta(days=1, minutes=1)
RESIDUAL, LOCATION = 0.6096, 0.55  # 公告2025年第47号; 华东


@pytest.fixture
def day(park: Conn, feed: Feed) -> Callable[[str, float], None]:
    """day(point, amount): a counter that runs evenly through 2 March."""

    def store(point: str, amount: float) -> None:
        at = every(900, START, 97)
        feed(point, at, [100.0 + amount / 96 * i for i in range(97)])

    return store


def add(park: Conn, tmp_path: Path, text: str) -> None:
    """Add rows to the mini park."""
    file = tmp_path / f"more{len(list(tmp_path.iterdir()))}.yaml"
    file.write_text(text, encoding="utf-8")
    apply(park, read_catalogue([MINI, file]))


def total(park: Conn, carrier: str, *columns: str, enterprise: str | None = None, day: str = "2026-03-02") -> tuple[Any, ...]:
    found = park.execute(
        f"""SELECT {", ".join(columns)} FROM energy_total t LEFT JOIN enterprise e USING (base_id, enterprise_id)
        WHERE t.day = %s AND t.carrier = %s AND e.code IS NOT DISTINCT FROM %s""",
        (day, carrier, enterprise),
    ).fetchone()
    assert found is not None, f"no total of {carrier} for {enterprise or 'the base'}"
    return found


def booked(
    park: Conn,
    kind: str,
    value: float,
    unit: str,
    item: str = "",
    enterprise: str | None = None,
    first: str = "2026-03-01",
    last: str = "2026-03-31",
    supersedes: int | None = None,
) -> int:
    row = park.execute(
        """INSERT INTO ledger (base_id, kind, enterprise_id, item, first_day, last_day, value, unit, recorded_by, supersedes)
        SELECT b.base_id, %s, e.enterprise_id, %s, %s, %s, %s, %s, 'test', %s FROM base b LEFT JOIN enterprise e ON e.code = %s
        RETURNING entry_id""",
        (kind, item, first, last, value, unit, supersedes, enterprise),
    ).fetchone()
    assert row is not None
    return int(row[0])


def test_co2_by_location_and_by_market_stand_side_by_side(park: Conn, day: Callable[[str, float], None]) -> None:
    """960 kWh bought, PV 96: the location's factor on what is bought; green power at zero and the rest at the residual
    factor."""
    day("park.kwh", 960.0)
    day("e2.pv.kwh", 96.0)
    day("e1.gas", 96.0)
    green = booked(park, "green_power", 9.3, "MWh")  # 31 days: 300 kWh a day
    run_pass(park, NOW)
    amount, generation, co2, market, used, entries = total(
        park, "electricity", "amount", "generation", "co2_kg", "co2_market_kg", "green", "ledger_ids"
    )
    assert (amount, generation, used) == pytest.approx((1056, 96, 300))
    assert (co2, market) == pytest.approx((960 * LOCATION, 660 * RESIDUAL))
    assert entries == [green]
    scopes = dict(
        park.execute("SELECT carrier, scope FROM energy_total_1d WHERE day = '2026-03-02' AND enterprise_id IS NULL").fetchall()
    )
    assert scopes == {"electricity": 2, "natural_gas": 1, "water": None}
    assert total(park, "natural_gas", "co2_kg", "co2_market_kg") == pytest.approx((96 * 2.165,) * 2)
    factors = park.execute(
        "SELECT kind, source FROM factor WHERE factor_id = ANY (%s)", (total(park, "electricity", "market_factor_ids")[0],)
    ).fetchall()
    assert [f[0] for f in factors] == ["co2_residual"] and "47" in factors[0][1]
    assert verify(park, 1, NOW) == []


def test_deductions_are_switches_and_figures_name_them(park: Conn, day: Callable[[str, float], None], tmp_path: Path) -> None:
    day("park.kwh", 960.0)
    day("e2.pv.kwh", 96.0)
    booked(park, "green_power", 9300, "kWh")
    booked(park, "feedstock", 3100, "Nm3", item="natural_gas", enterprise="e1")
    day("e1.gas", 480.0)
    run_pass(park, NOW)
    plain = total(park, "electricity", "tce_equivalent", "tce_equivalent_assessed", "setting_ids")
    assert plain == (pytest.approx(1056 * 0.31e-3), pytest.approx(1056 * 0.31e-3), [])
    assert total(park, "natural_gas", "feedstock") == (pytest.approx(100),)
    add(
        park,
        tmp_path,
        """settings:
  - {name: deduct_green_power, value: true, from: 2026-01-01, source: test}
  - {name: deduct_feedstock, value: true, from: 2026-01-01, source: test}
  - {name: residual_factor, value: false, from: 2026-01-01, source: test}
""",
    )
    run_pass(park, NOW)
    gross, assessed, market, settings, factors = total(
        park, "electricity", "tce_equivalent", "tce_equivalent_assessed", "co2_market_kg", "setting_ids", "market_factor_ids"
    )
    assert (gross, assessed, market) == pytest.approx((1056 * 0.31e-3, 660 * 0.31e-3, 660 * LOCATION))
    assert len(settings) == 3 and factors == []
    per_m3 = 1.33e-3 * 293.15 / 273.15
    for owner in (None, "e1"):
        assert total(
            park, "natural_gas", "tce_calorific", "tce_calorific_assessed", "amount", enterprise=owner
        ) == pytest.approx((480 * per_m3, 380 * per_m3, 480))
    add(park, tmp_path, "settings:\n  - {name: deduct_green_power, value: false, from: 2026-03-02, source: later}\n")
    run_pass(park, NOW)
    assert total(park, "electricity", "tce_equivalent_assessed") == pytest.approx((1056 * 0.31e-3,))
    assert verify(park, 1, NOW) == []


def test_sold_energy_is_taken_off_unless_the_setting_says_otherwise(
    park: Conn, day: Callable[[str, float], None], tmp_path: Path
) -> None:
    add(
        park,
        tmp_path,
        """points:
  - {code: park.out, quantity: active_energy, unit: kWh, kind: counter, belongs_to: park, carrier: electricity, boundary:
      base, direction: export}
""",
    )
    for point, amount in (("park.kwh", 960.0), ("park.out", 192.0), ("e2.pv.kwh", 288.0)):
        day(point, amount)
    run_pass(park, NOW)
    columns = ("amount", "export", "tce_calorific", "tce_calorific_assessed", "co2_kg", "co2_market_kg")
    assert total(park, "electricity", *columns) == pytest.approx(
        (1056, 192, 1056 * 0.1229e-3, 1056 * 0.1229e-3, 768 * LOCATION, 768 * RESIDUAL)
    )
    add(park, tmp_path, "settings:\n  - {name: deduct_sold, value: false, source: test}\n")
    run_pass(park, NOW)
    assert total(park, "electricity", *columns) == pytest.approx(
        (1056, 192, 1056 * 0.1229e-3, 1248 * 0.1229e-3, 768 * LOCATION, 960 * RESIDUAL)
    )


BOILER = """points:
  - {code: e1.boiler.t, quantity: steam_mass, unit: t, kind: counter, belongs_to: e1.site, carrier: steam, direction:
      generation, made_from: natural_gas, boundary: enterprise}
  - {code: e1.sold.t, quantity: steam_mass, unit: t, kind: counter, belongs_to: e1.site, carrier: steam, direction: export,
      boundary: enterprise}
  - {code: e2.steam.t, quantity: steam_mass, unit: t, kind: counter, belongs_to: e2.site, carrier: steam, boundary: enterprise}
  - {code: e1.chp.kwh, quantity: active_energy, unit: kWh, kind: counter, belongs_to: e1.site, carrier: electricity,
      direction: generation, made_from: natural_gas, boundary: enterprise}
"""


@pytest.mark.parametrize(
    "flows",
    [
        "flows:\n  - {carrier: steam, kind: exchange, parent: e1.sold.t, children: [e2.steam.t]}\n",
        "flows:\n  - {carrier: steam, parent: e1.boiler.t, children: [e1.sold.t]}\n"
        "  - {carrier: steam, parent: e1.sold.t, children: [e2.steam.t]}\n",
    ],
    ids=["exchange", "below the boiler"],
)
def test_what_is_made_inside_counts_once(park: Conn, day: Callable[[str, float], None], tmp_path: Path, flows: str) -> None:
    """Gas makes steam and power at e1, steam goes to e2: the base has the gas, e1 the gas less the steam, e2 the steam."""
    add(park, tmp_path, BOILER + flows)
    for point, amount in (
        ("park.kwh", 960.0),
        ("e1.gas", 960.0),
        ("e1.boiler.t", 12.0),
        ("e1.sold.t", 9.6),
        ("e2.steam.t", 9.6),
        ("e1.main.kwh", 480.0),
        ("e1.chp.kwh", 96.0),
    ):
        day(point, amount)
    run_pass(park, NOW)
    base = {
        c: (t, co2)
        for c, t, co2 in park.execute(
            "SELECT carrier, tce_calorific, co2_kg FROM energy_total WHERE day = '2026-03-02' AND enterprise_id IS NULL"
        ).fetchall()
    }
    assert base["natural_gas"][1] == pytest.approx(960 * 2.165)
    assert base["electricity"][0] == pytest.approx(960 * 0.1229e-3)  # captive power is in the gas
    assert (base.get("steam", (0, 0))[0] or 0.0) == pytest.approx(0, abs=1e-12)
    assert total(park, "steam", "amount", "made_inside", enterprise="e1") == pytest.approx((-9.6, 12))
    assert total(park, "electricity", "amount", "generation", "made_inside", enterprise="e1") == (480, None, pytest.approx(96))
    enterprises = park.execute("""SELECT sum(tce_calorific) FROM energy_total WHERE day = '2026-03-02' AND enterprise_id IS
        NOT NULL
        AND carrier IN ('steam', 'natural_gas')""").fetchone()
    assert enterprises == pytest.approx((base["natural_gas"][0],))  # tenants and park tell the same sum
    assert verify(park, 1, NOW) == []


def test_own_pv_behind_a_tenant_s_gate_is_energy_of_the_base(
    park: Conn, day: Callable[[str, float], None], tmp_path: Path
) -> None:
    add(
        park,
        tmp_path,
        """points:
  - {code: e1.pv.kwh, quantity: active_energy, unit: kWh, kind: counter, belongs_to: e1.site, carrier: electricity, direction:
      generation, boundary: enterprise}
""",
    )
    for point, amount in (("park.kwh", 960.0), ("e1.main.kwh", 480.0), ("e1.pv.kwh", 48.0)):
        day(point, amount)
    run_pass(park, NOW)
    assert total(park, "electricity", "amount", "generation") == pytest.approx((1008, 48))
    assert total(park, "electricity", "amount", "co2_kg", enterprise="e1") == pytest.approx((528, 480 * LOCATION))


def test_a_bill_counts_where_no_meter_does_and_a_correction_heals(
    park: Conn, day: Callable[[str, float], None], tmp_path: Path
) -> None:
    """Diesel by bill: 3.1 t over March are 0.1 t a day for e1 and the base; metered gas keeps its meter's word."""
    day("park.kwh", 960.0)
    day("e1.gas", 96.0)
    entry = booked(park, "energy_bill", 3100, "kg", item="diesel", enterprise="e1")
    booked(park, "energy_bill", 99999, "Nm3", item="natural_gas", enterprise="e1")
    run_pass(park, NOW)
    for owner in (None, "e1"):
        found = total(park, "diesel", "amount", "billed", "n_known", "n_good", "ledger_ids", enterprise=owner)
        assert found == (pytest.approx(0.1), pytest.approx(0.1), 96, 0, [entry])
        assert total(park, "natural_gas", "amount", "billed", enterprise=owner) == (pytest.approx(96), 0)
    assert total(park, "diesel", "tce_calorific", "co2_kg") == pytest.approx((0.14571, 309.6))
    booked(park, "energy_bill", 6.2, "t", item="diesel", enterprise="e1", supersedes=entry)
    run_pass(park, NOW)
    assert total(park, "diesel", "amount") == pytest.approx((0.2,)) and verify(park, 1, NOW) == []
    booked(park, "energy_bill", 3100, "kg", item="diesel", enterprise="e1", first="2026-01-01", last="2026-01-31")
    run_pass(park, NOW)
    add(park, tmp_path, "factors:\n  - {carrier: diesel, kind: tce_calorific, value: 1.4, unit: kgce/kg, source: measured}\n")
    run_pass(park, NOW)  # days before the first meter, too, follow a new factor
    assert total(park, "diesel", "tce_calorific", day="2026-01-10") == pytest.approx((0.14,)) and verify(park, 1, NOW) == []


def test_a_figure_over_carriers_has_the_grade_of_its_worst_carrier(
    park: Conn, day: Callable[[str, float], None], feed: Feed
) -> None:
    """A little diesel by bill makes B; a little gas that is mostly estimated makes C, and leaves electricity at A."""

    def grades() -> dict[str, str]:
        return dict(park.execute("SELECT indicator, grade FROM indicator_value WHERE period = '2026-03'").fetchall())

    day("park.kwh", 96_000.0)
    run_pass(park, NOW)
    metered = grades()
    assert (metered["tce_equivalent"], metered["co2_t"], metered["energy_per_value_added"]) == ("A", "A", "B")
    booked(park, "energy_bill", 3.1, "kg", item="diesel", enterprise="e1")
    run_pass(park, NOW)
    billed = grades()
    assert {billed[i] for i in ("tce_equivalent", "tce_calorific", "co2_t", "energy_per_value_added")} == {"B"}
    assert (billed["electricity_kwh"], billed["renewable_share"]) == ("A", "A")
    feed("e1.gas", [START, START + timedelta(days=1)], [100.0, 101.0])  # a day known by its ends, split by estimate
    run_pass(park, NOW)
    estimated = grades()
    assert {estimated[i] for i in ("tce_equivalent", "tce_calorific", "co2_t", "energy_per_value_added")} == {"C"}
    assert (estimated["electricity_kwh"], estimated["renewable_share"]) == ("A", "A")
    assert verify(park, 1, NOW) == []


def test_a_bill_whose_span_still_runs_has_a_new_day_each_day(park: Conn) -> None:
    """A base without a single counter: nothing but the clock brings its days."""
    booked(park, "energy_bill", 3100, "kg", item="diesel")
    for day, n in ((3, 3), (3, 3), (5, 5)):
        run_pass(park, datetime(2026, 3, day, 4, tzinfo=UTC))
        days = park.execute("SELECT count(*), sum(amount) FROM energy_total WHERE carrier = 'diesel' AND enterprise_id IS NULL")
        assert days.fetchone() == (n, pytest.approx(0.1 * n))
    month = park.execute("SELECT value FROM indicator_value WHERE indicator = 'tce_calorific' AND period = '2026-03'")
    assert month.fetchone() == (pytest.approx(5 * 0.14571),)


def test_every_fuel_of_the_standard_has_its_factors_and_counts_by_bill(park: Conn, day: Callable[[str, float], None]) -> None:
    """3.1 t (or 3,100 Nm3) of each over March: values as printed, NCV / 29,307.6 kJ where the standard gives an NCV."""
    kgce = {"washed_coal": 26377, "coke": 28470, "crude_oil": 41868, "fuel_oil": 41868, "gasoline": 43124, "kerosene": 43124,
            "lpg": 50242, "lng": 51498, "refinery_gas": 46055, "coke_oven_gas": 18003, "blast_furnace_gas": 3768}
    co2 = {"coke": 3.067, "fuel_oil": 3.171, "gasoline": 2.925, "lpg": 3.101, "lng": 3.183, "coke_oven_gas": 0.7636,
           "blast_furnace_gas": 0.8481}
    day("park.kwh", 960.0)
    for carrier in kgce:
        booked(park, "energy_bill", 3100, "Nm3" if carrier in ("coke_oven_gas", "blast_furnace_gas") else "kg",
               item=carrier, enterprise="e1")
    run_pass(park, NOW)
    for carrier, ncv in kgce.items():
        tce, same, kg = total(park, carrier, "tce_calorific", "tce_equivalent", "co2_kg")
        assert tce == pytest.approx(ncv / 29307.6 * 0.1, rel=3e-4) and same == tce, carrier
        assert kg == (pytest.approx(co2[carrier] * 100, rel=1e-6) if carrier in co2 else None), carrier
    assert verify(park, 1, NOW) == []


def test_a_bill_of_the_whole_base_stands_for_those_of_its_enterprises(park: Conn, day: Callable[[str, float], None]) -> None:
    day("park.kwh", 960.0)
    booked(park, "energy_bill", 3.1, "t", item="coal")
    booked(park, "energy_bill", 1.55, "t", item="coal", enterprise="e1")
    run_pass(park, NOW)
    assert total(park, "coal", "amount") == pytest.approx((0.1,))
    assert total(park, "coal", "amount", enterprise="e1") == pytest.approx((0.05,))


def test_what_a_bill_cost_is_the_cost_and_a_part_without_a_price_makes_the_whole_unknown(
    park: Conn, day: Callable[[str, float], None]
) -> None:
    """3,100 yuan of diesel over March are 100 a day; with a second payer without a price the base's cost is unknown."""
    day("park.kwh", 960.0)
    booked(park, "energy_bill", 3.1, "t", item="diesel", enterprise="e1")
    run_pass(park, NOW)
    assert total(park, "diesel", "amount", "cost") == (pytest.approx(0.1), None)
    money = booked(park, "energy_cost", 0.31, "万元", item="diesel", enterprise="e1")
    booked(park, "energy_cost", 5000, "元", item="coal", enterprise="e1")  # money without coal is no energy
    run_pass(park, NOW)
    for owner in (None, "e1"):
        assert total(park, "diesel", "amount", "cost", "billed", enterprise=owner) == pytest.approx((0.1, 100, 0.1))
    (entries,) = total(park, "diesel", "ledger_ids")
    assert money in entries and verify(park, 1, NOW) == []
    assert park.execute("SELECT count(*) FROM energy_total WHERE carrier = 'coal'").fetchone() == (0,)
    booked(park, "energy_bill", 6.2, "t", item="diesel", enterprise="e2")
    run_pass(park, NOW)
    assert total(park, "diesel", "amount", "cost") == (pytest.approx(0.3), None)
    assert total(park, "diesel", "amount", "cost", enterprise="e1") == pytest.approx((0.1, 100))
    booked(park, "energy_cost", 6200, "CNY", item="diesel", enterprise="e2")
    run_pass(park, NOW)
    assert total(park, "diesel", "amount", "cost") == pytest.approx((0.3, 300)) and verify(park, 1, NOW) == []
    booked(park, "energy_bill", 3.1, "t", item="diesel", enterprise="e2")  # of the same payer and days: which one was priced?
    run_pass(park, NOW)
    assert total(park, "diesel", "amount", "cost") == (pytest.approx(0.4), None)
    booked(park, "energy_cost", 3100, "CNY", item="diesel", enterprise="e2")
    run_pass(park, NOW)
    assert total(park, "diesel", "amount", "cost") == pytest.approx((0.4, 400))


def test_entries_that_no_figure_could_use_are_mistakes_with_their_line(tmp_path: Path) -> None:
    from park.catalogue import check_files

    file = tmp_path / "ledger.yaml"
    file.write_text(
        """base: {code: b, name: B}
ledger:
  - {kind: energy_bill, item: petrol, first_day: 2026-01-01, last_day: 2026-01-31, value: 1, unit: t}
  - {kind: green_power, first_day: 2026-01-01, last_day: 2026-01-31, value: 1, unit: t}
  - {kind: solid_waste, item: slag, action: burnt, first_day: 2026-01-01, last_day: 2026-01-31, value: -1, unit: t}
""",
        encoding="utf-8",
    )
    found = check_files([file])
    assert [line.split(":")[1] for line in found] == ["3", "4", "5", "5"]
    for part, line in zip(
        ("expected a carrier", "kWh, MWh", "action of solid_waste", "expected 0 or more"), found, strict=True
    ):
        assert part in line


@pytest.mark.parametrize(
    ("days", "booked_value", "withheld"),
    [(31, True, None), (27, True, "less than 90% known"), (31, False, "no value added in the ledger for this period")],
)
def test_an_intensity_needs_nine_tenths_of_the_data_and_the_economic_figure(
    park: Conn, feed: Feed, days: int, booked_value: bool, withheld: str | None
) -> None:
    """March: 96 kWh a day over 12000 / 365 x 31 万元; 27 of 31 days are 87 %."""
    if not booked_value:
        park.execute("DELETE FROM ledger WHERE kind = 'value_added'")
    first = datetime(2026, 2, 28, 16, tzinfo=UTC)
    for point in ("park.kwh", "e1.gas", "e1.water"):
        feed(point, every(900, first, 96 * days + 1), [100.0 + i for i in range(96 * days + 1)])
    feed("e2.pv.kwh", every(900, first, 96 * days + 1), [5.0] * (96 * days + 1))  # no sun, and known to be none
    run_pass(park, first + timedelta(days=31, minutes=1))
    [(value, coverage, inputs)] = park.execute("""SELECT value, coverage, inputs FROM indicator_value
        WHERE indicator = 'energy_per_value_added' AND period = '2026-03'""").fetchall()
    assert inputs.get("withheld") == withheld
    if withheld is None:
        tce = 31 * 96 * (0.31e-3 + 1.33e-3 * 293.15 / 273.15 + 0.2571e-3)
        assert value == pytest.approx(tce / (12000 * 31 / 365)) and coverage == pytest.approx(1)
    else:
        assert value is None
    if days == 27:
        assert coverage == pytest.approx(27 / 31, abs=0.01)
