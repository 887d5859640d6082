"""The electricity bill: the table of (83)215 cell by cell, two-part tariff, additions, and the bill of the database."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from math import sqrt
from typing import Any

import numpy as np
import psycopg
import pytest

from accounting import billing
from accounting.bill import Month, Terms, adjustment_percent, bill, cents, line, power_factor, rules
from accounting.bills import month_demand
from accounting.columns import to_us
from accounting.localday import local_days
from accounting.passes import run_pass
from accounting.tariffs import Tariff, price_slots
from accounting.verify import verify
from park.clock import local_midnight
from park.errors import InputError, NotFound
from park.holidays import last_year
from tests.accounting.conftest import every

Conn = psycopg.Connection[Any]
Feed = Callable[..., None]
TERMS: dict[str, Any] = {
    "prices": {"peak": 1.0, "flat": 0.6, "valley": 0.3},
    "demand": {"price_kw": 40.0, "price_kva": 25.0, "contracts": {"e1": {"capacity_kva": 1000, "basis": "actual_demand"}}},
    "power_factor": {"standard": 0.9},
    "additions": [{"code": "system", "price": 0.03}, {"code": "funds", "price": 0.02, "surcharge": True}]}
MONTH = Month(date(2026, 3, 1), "e1", {(7, "peak"): 60_000.0, (7, "flat"): 90_000.0, (7, "valley"): 50_000.0}, 0.0, 2976, 2976,
              96_864.42, 480.0, datetime(2026, 3, 9, 2, tzinfo=UTC))


def terms(**changes: Any) -> Terms:
    return Terms({7: TERMS | changes}, 7, {7: ("test", True)})


def amounts(month: Month = MONTH, given: Terms | None = None) -> dict[str, float]:
    made = bill(month, given or terms())
    assert made.total == cents(sum(x.amount for x in made.lines))
    return {x.item: x.amount for x in made.lines}


@pytest.mark.parametrize(("factor", "by_90", "by_85", "by_80"), [
    (1.00, -0.75, -1.10, -1.30), (0.95, -0.75, -1.10, -1.30), (0.94, -0.60, -1.10, -1.30), (0.93, -0.45, -0.95, -1.30),
    (0.92, -0.30, -0.80, -1.30), (0.91, -0.15, -0.65, -1.15), (0.90, 0.0, -0.50, -1.00), (0.89, 0.5, -0.40, -0.90),
    (0.86, 2.0, -0.10, -0.60), (0.85, 2.5, 0.0, -0.50), (0.84, 3.0, 0.5, -0.40), (0.81, 4.5, 2.0, -0.10), (0.80, 5.0, 2.5, 0.0),
    (0.79, 5.5, 3.0, 0.5), (0.70, 10.0, 7.5, 5.0), (0.69, 11.0, 8.0, 5.5), (0.66, 14.0, 9.5, 7.0), (0.65, 15.0, 10.0, 7.5),
    (0.64, 17.0, 11.0, 8.0), (0.60, 25.0, 15.0, 10.0), (0.59, 27.0, 17.0, 11.0), (0.55, 35.0, 25.0, 15.0),
    (0.54, 37.0, 27.0, 17.0), (0.50, 45.0, 35.0, 25.0)])
def test_the_table_of_power_factors(factor: float, by_90: float, by_85: float, by_80: float) -> None:
    assert [adjustment_percent(s, factor) for s in (0.90, 0.85, 0.80)] == pytest.approx([by_90, by_85, by_80])


@pytest.mark.parametrize("standard", [0.90, 0.85, 0.80])
def test_the_bands_of_a_standard_touch_and_rise_as_the_power_factor_falls(standard: float) -> None:
    cells = [adjustment_percent(standard, f / 100) for f in range(100, -1, -1)]
    assert cells == sorted(cells)
    bands = rules()["power_factor"]["standards"][standard]
    assert [round(a["low"] * 100) - 1 for a in bands[:-1]] == [round(b["high"] * 100) for b in bands[1:]]


@pytest.mark.parametrize(("ratio", "factor"), [(0.1003, 1.00), (0.1004, 0.99), (0.3105, 0.96), (0.3106, 0.95), (0.3461, 0.95),
                                               (0.3462, 0.94), (0.3793, 0.94), (0.3794, 0.93)])
def test_the_edges_of_the_ratio_table_are_those_of_rounding_half_up(ratio: float, factor: float) -> None:
    assert power_factor(100_000, 100_000 * ratio) == factor


def test_a_power_factor_needs_both_registers() -> None:
    assert power_factor(1000, None) is None and power_factor(0, 10) is None
    with pytest.raises(InputError, match=r"0\.90, 0\.85 or 0\.80"):
        adjustment_percent(0.88, 0.9)


def test_a_bill_line_by_line() -> None:
    """200,000 kWh on 1,000 kVA: 200 kWh per kVA, full demand price; PF 0.90 has no adjustment."""
    made = bill(MONTH, terms())
    assert (made.power_factor, made.kwh_per_kva, made.notes) == (0.90, 200.0, ())
    assert amounts() == {"energy.peak": 60_000.0, "energy.flat": 54_000.0, "energy.valley": 15_000.0, "demand": 19_200.0,
                         "addition.system": 6_000.0, "addition.funds": 4_000.0, "power_factor": 0.0}
    assert made.complete and made.total == 158_200.0
    assert all(x.amount == cents(x.quantity * x.price * x.factor) for x in made.lines)


@pytest.mark.parametrize(("kwh", "factor"), [(259_999.0, 1.0), (260_000.0, 0.9), (400_000.0, 0.9)])
def test_from_260_kwh_per_kva_the_demand_costs_nine_tenths(kwh: float, factor: float) -> None:
    made = bill(replace(MONTH, energy_kwh={(7, "flat"): kwh}), terms())
    demand = next(x for x in made.lines if x.item == "demand")
    assert (demand.factor, demand.amount) == (factor, cents(480 * 40 * factor))


def test_the_rule_is_unverified_after_the_third_period() -> None:
    big = {(7, "flat"): 300_000.0}
    told = [next(x.verified for x in bill(replace(MONTH, month=m, energy_kwh=big), terms()).lines if x.item == "demand")
            for m in (date(2026, 5, 1), date(2026, 6, 1))]
    assert told == [True, False]


def test_surcharges_enter_the_base_only_where_the_province_says_so() -> None:
    """PF 0.85 against 0.90: +2.5 % of 154,200, or of 158,200 with the funds in the base."""
    low = replace(MONTH, reactive_kvarh=200_000 * sqrt(1 / 0.85 ** 2 - 1))
    assert amounts(low)["power_factor"] == 3_855.0
    assert amounts(low, terms(power_factor={"standard": 0.9, "surcharges_in_base": True}))["power_factor"] == 3_955.0
    assert amounts(low, terms(power_factor={"standard": 0.9, "standards": {"e1": 0.85}}))["power_factor"] == 0.0


def test_capacity_and_contract_demand() -> None:
    def by(**contract: Any) -> dict[str, float]:
        return amounts(given=terms(demand=TERMS["demand"] | {"contracts": {"e1": {"capacity_kva": 1000} | contract}}))
    assert by(basis="capacity")["capacity"] == 25_000.0
    assert by(basis="contract_demand", contract_kw=470)["demand"] == 18_800.0
    assert by(basis="contract_demand", contract_kw=300)["demand"] == 16_000.0              # 40 % of the capacity at least
    excess = by(basis="contract_demand", contract_kw=400)
    assert (excess["demand"], excess["demand.excess"]) == (16_000.0, (480 - 420) * 40.0 * 2)
    for wrong in ({"basis": "guess"}, {"basis": "capacity", "capacity_kva": 0}, {"basis": "contract_demand"}):
        with pytest.raises(InputError, match="contract of e1"):
            by(**wrong)


def test_what_is_missing_is_said_and_never_counted_as_zero() -> None:
    made = bill(replace(MONTH, n_known=2900, estimated_kwh=12.0, reactive_kvarh=None, demand_is_lower_bound=True,
                        is_over=False), terms())
    assert not made.complete and "power_factor" not in {x.item for x in made.lines}
    text = " / ".join(made.notes)
    for part in ("not over", "76 of 2976 slots", "split over time", "may still fall to 90%", "demand is a lower bound",
                 "no reactive counter"):
        assert part in text
    assert "demand charge is missing" in " ".join(bill(replace(MONTH, demand_kw=None), terms()).notes)


def test_a_line_reproduces_from_what_is_printed() -> None:
    x = line("energy.peak", 1234.56789, "kWh", 0.61235, 7)
    assert (x.quantity, x.amount) == (1234.57, 755.99)
    assert cents(2.675) == 2.68 and cents(-1.005) == -1.01


def test_demand_is_a_lower_bound_only_when_a_slot_near_the_peak_is_missing() -> None:
    n = 96 * 10
    kwh = np.where((np.arange(n) % 96 >= 36) & (np.arange(n) % 96 < 68), 100.0, 10.0)
    kwh[96 * 4 + 40] = 120.0
    due, measured = np.ones(n, bool), np.ones(n, bool)
    whole = month_demand(kwh, measured, due)
    assert whole is not None and (whole.kw, whole.slot, whole.is_lower_bound) == (480.0, 96 * 4 + 40, False)
    night, noon, later = measured.copy(), measured.copy(), due.copy()
    night[96 * 6 + 8] = noon[96 * 6 + 44] = later[96 * 9:] = False
    kwh[96 * 6 + 44] = np.nan
    found = [month_demand(kwh, m, due) for m in (night, noon)]
    assert [f is not None and f.is_lower_bound for f in found] == [False, True]
    assert month_demand(kwh, np.zeros(n, bool), due) is None
    kwh[96 * 6 + 44] = 100.0
    today = month_demand(kwh, measured & later, later)          # slots still to come are not missing
    assert today is not None and not today.is_lower_bound


@pytest.fixture
def priced(park: Conn) -> Conn:
    park.execute("UPDATE tariff SET terms = %s WHERE code = 'grid'", (json.dumps(TERMS | {"hours": [
        {"period": "peak", "from": "08:00", "to": "12:00"}, {"period": "valley", "from": "00:00", "to": "08:00"}]}),))
    park.execute("""INSERT INTO point (base_id, code, name_zh, name_en, quantity, unit, kind, unit_id)
        SELECT base_id, 'e1.main.kvarh', '', '', 'reactive_energy', 'kvarh', 'counter', unit_id FROM unit
        WHERE code = 'e1.site'""")
    return park


def test_the_bill_of_a_month_agrees_with_the_costs_and_heals(priced: Conn, feed: Feed, database_url: str,
                                                            capsys: pytest.CaptureFixture[str]) -> None:
    first = datetime(2026, 2, 27, 16, tzinfo=UTC)
    at = [first + timedelta(minutes=15) * i for i in range(96 * 33 + 1)]
    hour = np.array([(t + timedelta(hours=8)).hour for t in at])
    kwh = np.cumsum(np.where((hour >= 8) & (hour < 20), 100.0, 20.0))
    hole = 96 * 12 + 40
    feed("e1.main.kwh", at[:hole] + at[hole + 12:], np.delete(kwh, slice(hole, hole + 12)))
    feed("e1.main.kvarh", at, 0.4 * kwh)
    now = first + timedelta(days=40)
    run_pass(priced, now)
    key = "FROM bill JOIN enterprise USING (base_id, enterprise_id) WHERE code = 'e1' AND month = '2026-03-01'"
    [(energy, demand, bound, complete)] = priced.execute(
        f"SELECT energy_kwh, demand_kw, demand_is_lower_bound, complete {key}").fetchall()
    assert (demand, bound, complete) == (400.0, True, False)
    assert energy == pytest.approx(31 * (48 * 100 + 48 * 20), rel=1e-3)
    lines = dict(priced.execute("""SELECT item, amount FROM bill_line JOIN enterprise USING (base_id, enterprise_id)
        WHERE code = 'e1' AND month = '2026-03-01'""").fetchall())
    costs = dict(priced.execute("""SELECT period, sum(cost) FROM cost_1d JOIN point USING (base_id, point_id)
        WHERE code = 'e1.main.kwh' AND day BETWEEN '2026-03-01' AND '2026-03-31' GROUP BY 1""").fetchall())
    assert {f"energy.{k}": v for k, v in costs.items()} == pytest.approx(
        {k: v for k, v in lines.items() if k.startswith("energy.")}, abs=0.011)
    assert verify(priced, 1, now) == []
    # the readings of the hole were only late: the bill heals
    feed("e1.main.kwh", at[hole:hole + 12], kwh[hole:hole + 12])
    run_pass(priced, now)
    assert priced.execute(f"SELECT energy_kwh, demand_is_lower_bound, complete, power_factor {key}").fetchone() == (
        31 * (48 * 100 + 48 * 20), False, True, 0.93)
    assert verify(priced, 1, now) == []
    billing.print_bill(database_url, "mini", "2026-03", "e1", "json", clock=lambda: now)
    told = json.loads(capsys.readouterr().out)
    stored = priced.execute(f"SELECT total {key}").fetchone()
    assert stored == (told["total"],) and told["total"] == cents(sum(x["amount"] for x in told["lines"]))
    billing.print_bill(database_url, "mini", "2026-03", "e1", "table", clock=lambda: now)
    assert "power_factor" in capsys.readouterr().out
    with pytest.raises(NotFound, match=r"nothing known of park.kwh \(never\); .*there are bills of: e1"):
        billing.print_bill(database_url, "mini", "2026-03", None, "table", clock=lambda: now)
    with pytest.raises(InputError, match="2026-10"):
        billing.print_bill(database_url, "mini", "March", None, "table")


def test_holidays_that_nobody_has_arranged_are_said_and_priced_once_the_base_lists_them(priced: Conn, feed: Feed) -> None:
    """A Wednesday of a year to come, at the price of holidays once it is known to be one; a shutdown says nothing of it."""
    day = next(d for d in (date(last_year() + 1, 2, n) for n in range(8, 15)) if d.weekday() == 2)
    priced.execute("UPDATE tariff SET terms = %s WHERE code = 'grid'", (json.dumps({"prices": TERMS["prices"], "hours": [
        {"period": "valley", "days": ["holiday"], "from": "00:00", "to": "24:00"}]}),))
    first = local_midnight(day, "Asia/Shanghai")
    feed("e1.main.kwh", every(900, first, 97), np.arange(97) * 10.0)
    said = []
    for days in ({}, {day + timedelta(days=1): "shutdown"}, {day: "holiday"}):
        for one, what in days.items():
            priced.execute("INSERT INTO calendar (base_id, code, day, class) VALUES (1, 'own', %s, %s)", (one, what))
        run_pass(priced, first + timedelta(days=2))
        said.append(priced.execute("""SELECT array_to_string(notes, ' ') LIKE '%%public holidays of%%', item, quantity
            FROM bill JOIN bill_line USING (base_id, month) WHERE quantity > 0""").fetchall())
    assert said == [[(True, "energy.flat", 960.0)], [(True, "energy.flat", 960.0)], [(False, "energy.valley", 960.0)]]


def test_a_tariff_that_cannot_be_read_leaves_no_bill_and_stops_nothing(priced: Conn, feed: Feed) -> None:
    first = datetime(2026, 3, 1, 16, tzinfo=UTC)
    feed("e1.main.kwh", [first + timedelta(minutes=15) * i for i in range(97)], np.arange(97) * 10.0)
    run_pass(priced, first + timedelta(days=2))
    assert priced.execute("SELECT count(*) FROM bill").fetchone() == (1,)
    wrong = json.dumps({"demand": {"contracts": {"e1": {"capacity_kva": -1}}}})
    priced.execute("UPDATE tariff SET terms = terms || %s::jsonb WHERE code = 'grid'", (wrong,))
    run_pass(priced, first + timedelta(days=2))
    assert priced.execute("SELECT (SELECT count(*) FROM bill), (SELECT count(*) FROM bill_line)").fetchone() == (0, 0)
    why = priced.execute("""SELECT e.code, m.cause, m.detail ->> 'reason', m.detail #>> '{points,0,point}', m.detail ->> 'from'
        FROM bill_missing m LEFT JOIN enterprise e USING (base_id, enterprise_id) WHERE month = '2026-03-01'
        ORDER BY 1 NULLS FIRST""")
    assert why.fetchall() == [
        (None, "no_readings", None, "park.kwh", None),
        ("e1", "tariff_unreadable", "contract of e1: expected a basis of capacity, actual_demand, contract_demand and a "
                                    "capacity_kva above 0, got {'capacity_kva': -1}", None, "2020-01-01"),
        ("e2", "no_readings", None, "e2.main.kwh", None)]
    priced.execute("UPDATE tariff SET terms = terms - 'demand', valid_to = '2026-03-01' WHERE code = 'grid'")
    run_pass(priced, first + timedelta(days=2))
    why = priced.execute("SELECT cause, detail #>> '{tariffs,0,to}' FROM bill_missing WHERE month = '2026-03-01' ORDER BY 1, 2")
    assert why.fetchall() == [("no_readings", None), ("no_readings", None), ("no_tariff", "2026-03-01")]
    priced.execute("UPDATE tariff SET valid_to = NULL WHERE code = 'grid'")
    run_pass(priced, first + timedelta(days=2))
    assert priced.execute("SELECT count(*) FROM bill_missing WHERE month = '2026-03-01'").fetchone() == (2,)
    assert (priced.execute("SELECT sum(cost) FROM cost_1d").fetchone() or (None,))[0] is not None


@pytest.mark.parametrize(("start", "hourly"), [("08:00", True), ("08:30", False), ("08:15", False)])
def test_costs_by_the_hour_and_by_the_slot_are_the_same(park: Conn, feed: Feed, start: str, hourly: bool) -> None:
    """A price that changes within an hour is priced by slots; either way the cost is what the slots give."""
    told: dict[str, Any] = {"prices": {"flat": 0.5, "peak": 1.0}, "hours": [{"period": "peak", "from": start, "to": "12:00"}]}
    park.execute("UPDATE tariff SET terms = %s WHERE code = 'grid'", (json.dumps(told),))
    first = datetime(2026, 3, 1, 16, tzinfo=UTC)
    feed("e1.main.kwh", [first + timedelta(minutes=15) * i for i in range(97)], np.cumsum(np.arange(97.0)))
    run_pass(park, first + timedelta(days=1))
    days = local_days(to_us(first), to_us(first) + 1, "Asia/Shanghai")
    priced = price_slots(Tariff(1, told, date(2020, 1, 1), None), days, {days.dates[0]: "working"})
    assert priced is not None and priced.is_hourly == hourly
    expected = {p: sum((i + 1) * price for i in range(96) if priced.period[i] == p) for p, price in told["prices"].items()}
    assert dict(park.execute("SELECT period, sum(cost) FROM cost_1d GROUP BY 1").fetchall()) == pytest.approx(expected)
