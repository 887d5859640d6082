"""From raw readings to every dependent figure, and the proof that late data changes all of them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import psycopg
import pytest
from psycopg.types.json import Jsonb

from accounting import passes, service
from accounting.energy import calendar_of
from accounting.passes import run_pass
from accounting.verify import verify
from park.errors import InputError

Conn = psycopg.Connection[Any]
Feed = Callable[..., None]
MIDNIGHT = datetime(2026, 5, 10, 16, tzinfo=UTC)          # 2026-05-11 00:00 in Shanghai
DAY = date(2026, 5, 11)
QUARTER = timedelta(minutes=15)


def quarters(first: datetime, n: int) -> list[datetime]:
    return [first + i * QUARTER for i in range(n)]


def grow(feed: Feed, point: str, per_slot: float, days: int = 1, first: datetime = MIDNIGHT, start: float = 1000.0) -> None:
    """A counter that grows evenly over whole days, read at each quarter."""
    n = 96 * days + 1
    feed(point, quarters(first, n), start + per_slot * np.arange(n))


def one(conn: Conn, query: str, *params: Any) -> Any:
    row = conn.execute(query, params).fetchone()
    assert row is not None, query
    return row if len(row) > 1 else row[0]


def total(conn: Conn, carrier: str, column: str, enterprise: str | None = None, day: date = DAY) -> Any:
    return one(conn, f"""SELECT {column} FROM energy_total_1d t LEFT JOIN enterprise e USING (base_id, enterprise_id)
        WHERE carrier = %s AND e.code IS NOT DISTINCT FROM %s AND day = %s""", carrier, enterprise, day)


def test_one_day_of_the_park_by_hand(park: Conn, feed: Feed) -> None:
    """Base: incomer 1,000 kWh and PV 200 kWh; gas 480 Nm3 and water 96 m3 only at the enterprise's gate."""
    grow(feed, "park.kwh", 1000 / 96)
    grow(feed, "e1.main.kwh", 700 / 96)
    grow(feed, "e2.main.kwh", 290 / 96)
    grow(feed, "e2.pv.kwh", 200 / 96)
    grow(feed, "e1.furnace.kwh", 400 / 96)
    grow(feed, "e1.gas", 5)
    grow(feed, "e1.water", 1)
    run_pass(park, MIDNIGHT + timedelta(days=1, hours=1))

    assert total(park, "electricity", "amount") == pytest.approx(1200)           # bought 1,000 and made 200
    assert total(park, "electricity", "generation") == pytest.approx(200)
    assert total(park, "electricity", "tce_calorific") == pytest.approx(1200 * 0.1229 / 1000)
    assert total(park, "electricity", "tce_equivalent") == pytest.approx(1200 * 0.31 / 1000)
    assert total(park, "electricity", "co2_kg") == pytest.approx(1000 * 0.5500)   # 华东 2023; PV emits nothing
    assert total(park, "electricity", "cost") == pytest.approx(1000 * 0.65)
    assert total(park, "electricity", "n_expected, n_known, n_good") == (192, 192, 192)
    gas_m3 = 480 * 293.15 / 273.15                                                # the factor is per m3 at 20 °C
    assert total(park, "natural_gas", "tce_calorific") == pytest.approx(gas_m3 * 1.33 / 1000)
    assert total(park, "natural_gas", "co2_kg") == pytest.approx(480 * 2.165)
    assert total(park, "natural_gas", "cost") == pytest.approx(480 * 3.6)
    assert total(park, "water", "tce_calorific") == pytest.approx(96 * 0.2571 / 1000)
    assert total(park, "electricity", "amount", "e1") == pytest.approx(700)
    assert total(park, "electricity", "amount", "e2") == pytest.approx(290)       # its PV counts at the base's boundary
    sources = one(park, "SELECT array_agg(source ORDER BY source) FROM factor WHERE factor_id = ANY (%s)",
                  total(park, "electricity", "factor_ids"))
    assert any("2025年第47号 (区域)" in s for s in sources) and len(sources) == 3

    parent, children, unaccounted = one(park, """SELECT parent_amount, children_amount, unaccounted FROM balance_1d b
        JOIN point p ON p.point_id = b.parent_id WHERE p.code = 'park.kwh' AND day = %s""", DAY)
    assert (parent, children, unaccounted) == (pytest.approx(1000), pytest.approx(990), pytest.approx(10))
    assert one(park, "SELECT amount FROM energy_1d JOIN point p USING (point_id) WHERE p.code = 'e1.furnace.kwh' AND day = %s",
               DAY) == pytest.approx(400)
    gate = "JOIN point p USING (point_id) WHERE p.code = 'park.kwh'"
    assert one(park, f"SELECT sum(amount), count(*) FROM interval_1h {gate}") == (pytest.approx(1000), 24)
    assert one(park, f"SELECT amount, n_known, ts FROM interval_1mo {gate}") == (
        pytest.approx(1000), 96, datetime(2026, 4, 30, 16, tzinfo=UTC))


def test_the_parts_of_the_enterprises_are_the_base_where_it_has_no_gate_meter(park: Conn, feed: Feed) -> None:
    grow(feed, "e1.gas", 3.5, days=2)
    grow(feed, "e1.water", 0.25, days=2)
    run_pass(park, MIDNIGHT + timedelta(days=3))
    for carrier in ("natural_gas", "water"):
        for day in (DAY, DAY + timedelta(days=1)):
            for column in ("amount", "tce_calorific", "co2_kg", "cost"):
                assert total(park, carrier, column, None, day) == total(park, carrier, column, "e1", day)


def test_what_tenants_sell_each_other_does_not_count_for_the_base(park: Conn, feed: Feed) -> None:
    park.execute("""INSERT INTO point
            (base_id, code, name_zh, name_en, quantity, unit, kind, unit_id, carrier, direction, boundary)
        SELECT u.base_id, v.code, v.code, v.code, 'steam_mass', 't', 'counter', u.unit_id, 'steam', v.direction, 'enterprise'
        FROM (VALUES ('s.sold', 'e1.site', 'export'), ('s.bought', 'e2.site', 'import')) v (code, unit, direction)
        JOIN unit u ON u.code = v.unit""")
    park.execute("""INSERT INTO flow (base_id, carrier, kind, parent_id, child_id)
        SELECT a.base_id, 'steam', 'exchange', a.point_id, b.point_id FROM point a, point b
        WHERE a.code = 's.sold' AND b.code = 's.bought'""")
    grow(feed, "s.sold", 1.0)
    grow(feed, "s.bought", 0.9)
    grow(feed, "e1.gas", 100)
    run_pass(park, MIDNIGHT + timedelta(days=2))
    assert total(park, "steam", "amount", "e1") == pytest.approx(-96)
    assert total(park, "steam", "amount", "e2") == pytest.approx(86.4)
    assert one(park, "SELECT count(*) FROM energy_total_1d WHERE carrier = 'steam' AND enterprise_id IS NULL") == 0
    assert total(park, "natural_gas", "amount") == pytest.approx(9600)      # the gas that made the steam counts once


def test_a_megawatt_hour_meter_adds_to_kilowatt_hours(park: Conn, feed: Feed) -> None:
    park.execute("UPDATE point SET unit = 'MWh' WHERE code = 'park.kwh'")
    grow(feed, "park.kwh", 0.01)
    run_pass(park, MIDNIGHT + timedelta(days=2))
    assert total(park, "electricity", "amount, unit") == (pytest.approx(960), "kWh")
    assert total(park, "electricity", "cost") == pytest.approx(960 * 0.65)


def test_a_silent_meter_is_unknown_and_counts_as_expected(park: Conn, feed: Feed) -> None:
    grow(feed, "park.kwh", 10)
    grow(feed, "e1.gas", 1)
    now = MIDNIGHT + timedelta(days=4, hours=2, minutes=7)
    run_pass(park, now)
    silent = DAY + timedelta(days=2)
    assert total(park, "electricity", "amount, n_expected, n_known", None, silent) == (None, 2 * 96, 0)   # with the PV meter
    assert total(park, "natural_gas", "amount, n_expected, n_known", None, DAY + timedelta(days=4)) == (None, 8, 0)
    year, coverage, inputs = one(park, """SELECT value, coverage, inputs FROM indicator_value
        WHERE indicator = 'electricity_kwh' AND period = '2026'""")
    assert year is None and coverage < 0.9 and inputs["partial"] == pytest.approx(960)


def test_days_follow_the_zone_of_the_base_over_the_change_of_clocks(park: Conn, feed: Feed) -> None:
    park.execute("UPDATE base SET timezone = 'America/New_York'")
    first = datetime(2026, 3, 7, 5, tzinfo=UTC)              # midnight; on 8 March the day has 23 hours
    grow(feed, "park.kwh", 1, days=3, first=first)
    run_pass(park, first + timedelta(days=4))
    rows = park.execute("SELECT day, amount, n_expected, n_known FROM energy_1d JOIN point p USING (point_id) "
                        "WHERE p.code = 'park.kwh' ORDER BY day").fetchall()
    assert rows[:2] == [(date(2026, 3, 7), 96.0, 96, 96), (date(2026, 3, 8), 92.0, 92, 92)]
    assert verify(park, 1, first + timedelta(days=4)) == []


def test_a_late_day_changes_every_figure_that_hangs_on_it(park: Conn, feed: Feed) -> None:
    at = quarters(MIDNIGHT, 96 * 12 + 1)
    rng = np.random.default_rng(3)
    value = 500 + np.concatenate([[0], np.cumsum(rng.uniform(1, 9, 96 * 12))])
    late = np.zeros(len(at), bool)
    late[96 * 5 + 10:96 * 6 + 30] = True
    now = MIDNIGHT + timedelta(days=12, minutes=1)
    feed("park.kwh", [t for t, x in zip(at, late, strict=True) if not x], value[~late])
    feed("e1.main.kwh", at, value * 0.9)
    run_pass(park, now)
    gap_day = DAY + timedelta(days=5)
    amount, estimated, n_good = total(park, "electricity", "amount, estimated, n_good", None, gap_day)
    assert estimated > 0.8 * amount > 0 and n_good < 20
    assert verify(park, 1, now) == []
    co2 = "SELECT value FROM indicator_value WHERE indicator = 'co2_t' AND period = '2026-05'"
    before = one(park, co2)

    feed("park.kwh", [t for t, x in zip(at, late, strict=True) if x], value[late])
    run_pass(park, now)
    assert total(park, "electricity", "amount, estimated, n_good", None, gap_day) == (
        pytest.approx(value[96 * 6] - value[96 * 5]), 0, 96)
    assert verify(park, 1, now) == []
    assert one(park, co2) == pytest.approx(before)           # the total was exact all the time


def test_whatever_the_order_of_arrival_the_figures_are_those_of_a_full_computation(park: Conn, feed: Feed) -> None:
    """Three counters over 15 days with losses, spikes, a roll-over and a reset, arriving in shuffled pieces."""
    rng = np.random.default_rng(42)
    n = 96 * 15
    at = quarters(MIDNIGHT, n)
    pieces: list[tuple[str, list[datetime], np.ndarray]] = []
    for point in ("park.kwh", "e1.main.kwh", "e1.furnace.kwh"):
        value = 999_000 + np.cumsum(rng.uniform(0.5, 4, n))
        if point == "e1.furnace.kwh":
            value %= 1_000_000
        if point == "e1.main.kwh":
            value[700:] -= value[700]
        value[rng.integers(0, n, 5)] += rng.choice([-300.0, 4e5], 5)
        keep = rng.random(n) > 0.02
        keep[300:340] = keep[1000:1150] = False
        order = np.array_split(np.arange(n)[keep], 9)
        pieces += [(point, [at[i] for i in part], value[part]) for part in order]
    now = at[-1] + timedelta(minutes=1)
    for i in rng.permutation(len(pieces)):
        feed(*pieces[i])
        if rng.random() < 0.5:
            run_pass(park, now)
    run_pass(park, now)
    assert park.execute("SELECT count(*) FROM account_todo").fetchone() == (0,)
    assert verify(park, 1, now) == []
    # and a corrected value heals like a late one
    feed("park.kwh", [at[500]], [123.0], 17)
    run_pass(park, now)
    assert verify(park, 1, now) == []


def test_a_clock_that_was_half_a_year_ahead_leaves_no_figures_of_days_to_come(park: Conn, feed: Feed) -> None:
    grow(feed, "park.kwh", 10, days=2)
    for code in ("so2", "o2", "flow"):
        feed(f"e1.stack.{code}", quarters(MIDNIGHT, 193), [8.0] * 193)
    now = MIDNIGHT + timedelta(days=2)
    tables = ("interval_1d", "interval_1mo", "energy_total", "emission_1h", "emission_day", "availability_day",
              "indicator_value", "cost_1d", "bill")

    def stored() -> dict[str, list[Any]]:
        return {t: park.execute(f"""SELECT to_jsonb(x) - 'recorded_at' - 'computed_at' - 'inputs' FROM {t} x
            WHERE coalesce(to_jsonb(x)->>'period', '') <= '2026-12' ORDER BY 1""").fetchall() for t in tables}
    run_pass(park, now)
    before, last = stored(), one(park, "SELECT max(ts) FROM emission_1h")
    run_pass(park, now + timedelta(days=180))
    assert one(park, "SELECT max(ts) FROM emission_1h") > now + timedelta(days=179)
    run_pass(park, now + timedelta(minutes=1))
    assert stored() == before and one(park, "SELECT max(ts) FROM emission_1h") == last
    assert verify(park, 1, now + timedelta(minutes=1)) == []


def test_a_pass_that_breaks_off_leaves_its_work_on_the_list(park: Conn, feed: Feed) -> None:
    grow(feed, "park.kwh", 2, days=3)
    park.execute("""CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'disk full'; END $$;
        CREATE TRIGGER refuse BEFORE INSERT ON energy_total EXECUTE FUNCTION refuse()""")
    now = MIDNIGHT + timedelta(days=3, hours=1)
    with pytest.raises(psycopg.errors.RaiseException, match="disk full"):
        run_pass(park, now)
    assert one(park, "SELECT count(*) FROM interval_15m") == 0
    park.execute("DROP TRIGGER refuse ON energy_total")
    run_pass(park, now)
    assert total(park, "electricity", "amount") == pytest.approx(192)
    assert verify(park, 1, now) == []


def test_a_second_pass_changes_nothing(park: Conn, feed: Feed) -> None:
    grow(feed, "park.kwh", 2, days=2)
    now = MIDNIGHT + timedelta(days=2, hours=1)
    assert run_pass(park, now).slots == 192
    assert not run_pass(park, now).anything
    passes.recompute(park, 1, MIDNIGHT, MIDNIGHT + timedelta(days=2))
    assert run_pass(park, now).slots == 0


def test_a_release_that_cuts_readings_otherwise_makes_stored_slots_again_once(park: Conn, feed: Feed,
                                                                              monkeypatch: pytest.MonkeyPatch) -> None:
    grow(feed, "park.kwh", 2, days=1)
    now = MIDNIGHT + timedelta(days=1, hours=1)
    run_pass(park, now)
    park.execute("UPDATE interval_15m SET amount = NULL WHERE ts = %s", (MIDNIGHT + QUARTER,))   # as a former release left it
    assert not run_pass(park, now).anything
    monkeypatch.setattr(passes, "CUT", passes.CUT + 1)
    assert run_pass(park, now).anything and one(park, "SELECT count(*), min(amount) FROM interval_15m") == (96, 2)
    assert verify(park, 1, now) == [] and not run_pass(park, now).anything


def test_verify_names_a_cell_that_somebody_changed(park: Conn, feed: Feed, database_url: str) -> None:
    grow(feed, "park.kwh", 2, days=1)
    now = MIDNIGHT + timedelta(days=1, hours=1)
    run_pass(park, now)
    park.execute("UPDATE interval_1d SET amount = amount + 1")
    found = verify(park, 1, now)
    assert any(line.startswith("interval_1d") and "amount is stored as 193" in line for line in found)
    with pytest.raises(InputError, match="differ from a full computation"):
        service.verify_and_print(database_url, "mini", lambda: now)
    assert one(park, "SELECT max(amount) FROM interval_1d") == 193          # nothing was mended in silence
    service.recompute_between(database_url, "mini", None, None, lambda: now)


def test_a_new_factor_a_new_ratio_and_a_recorded_swap_change_the_past(park: Conn, feed: Feed) -> None:
    grow(feed, "park.kwh", 2, days=2)
    now = MIDNIGHT + timedelta(days=2, hours=1)
    run_pass(park, now)
    park.execute("""INSERT INTO factor (base_id, carrier, kind, value, unit, valid_from, source)
        VALUES (1, 'electricity', 'co2', 0.1, 'kgCO2/kWh', '2026-05-12', 'own contract')""")
    run_pass(park, now)
    assert total(park, "electricity", "co2_kg") == pytest.approx(192 * 0.55)
    assert total(park, "electricity", "co2_kg", None, DAY + timedelta(days=1)) == pytest.approx(192 * 0.1)
    park.execute("UPDATE point SET ratio = 40 WHERE code = 'park.kwh'")
    run_pass(park, now)
    assert total(park, "electricity", "amount") == pytest.approx(192 * 40)
    park.execute("""INSERT INTO meter (base_id, point_id, installed_at, removed_at, initial_register, final_register, ratio)
        SELECT 1, point_id, v.a, v.r, v.i, v.f, 1 FROM point, (VALUES
            ('2020-01-01Z'::timestamptz, %s::timestamptz, 0, 1100.0), (%s, NULL, 1090.0, NULL)) v (a, r, i, f)
        WHERE code = 'park.kwh'""",
                 (MIDNIGHT + 50 * QUARTER, MIDNIGHT + 50 * QUARTER))
    run_pass(park, now)
    assert total(park, "electricity", "amount") == pytest.approx((192 + 10) * 40)
    assert verify(park, 1, now) == []


def test_time_of_use_prices_by_slot_month_and_day_class(park: Conn, feed: Feed) -> None:
    park.execute("UPDATE tariff SET superseded_at = now() WHERE code = 'grid'")
    terms = {"prices": {"peak": 1.2, "flat": 0.7, "valley": 0.3, "deep_valley": 0.1},
             "hours": [{"period": "valley", "from": "22:00", "to": "06:00"},
                       {"months": [5], "period": "peak", "from": "08:00", "to": "11:30"},
                       {"days": ["weekend"], "period": "deep_valley", "from": "12:00", "to": "14:00"}]}
    park.execute("""INSERT INTO tariff (base_id, code, carrier, unit, terms, valid_from, source)
        VALUES (1, 'tou', 'electricity', 'CNY/kWh', %s, '2026-01-01', 'test')""", (Jsonb(terms),))
    grow(feed, "park.kwh", 1, days=7)
    run_pass(park, MIDNIGHT + timedelta(days=8))

    def day(d: int) -> dict[str, tuple[Any, Any]]:
        rows = park.execute("SELECT period, amount, cost FROM cost_1d WHERE day = %s", (DAY + timedelta(days=d),))
        return {period: (amount, pytest.approx(cost)) for period, amount, cost in rows}

    assert day(0) == {"valley": (32, 9.6), "peak": (14, 16.8), "flat": (50, 35)}      # Monday
    assert day(5) == {"valley": (32, 9.6), "peak": (14, 16.8), "flat": (42, 29.4), "deep_valley": (8, 0.8)}
    assert total(park, "electricity", "cost") == pytest.approx(61.4)


def test_a_day_that_the_base_does_not_list_is_what_the_state_council_says(park: Conn) -> None:
    park.execute("INSERT INTO calendar (base_id, code, day, class) VALUES (1, 'own', '2026-02-19', 'shutdown')")
    classes = calendar_of(park, 1, date(2026, 2, 14), date(2026, 2, 28))
    assert {d.day: kind for d, kind in classes.items() if d.day in (14, 17, 19, 26, 28)} == {
        14: "working", 17: "holiday", 19: "shutdown", 26: "working", 28: "working"}      # 14 and 28 are Saturdays worked for it


def test_intensity_needs_the_economic_figure_and_carries_the_ledger_row(park: Conn, feed: Feed) -> None:
    park.execute("UPDATE ledger SET first_day = '2026-05-01', last_day = '2026-05-31', value = 310")
    first = datetime(2026, 4, 30, 16, tzinfo=UTC)
    for point in ("park.kwh", "e1.gas", "e1.water", "e2.pv.kwh"):
        grow(feed, point, 10, days=31, first=first)
    run_pass(park, first + timedelta(days=31, hours=1))

    def indicator(code: str, period: str) -> tuple[Any, ...]:
        row: tuple[Any, ...] = one(park, """SELECT value, coverage, grade, inputs FROM indicator_value
            WHERE indicator = %s AND period = %s""", code, period)
        return row

    kwh, gas, water = 2 * 29760, 29760 * 293.15 / 273.15, 29760
    tce = (kwh * 0.31 + gas * 1.33 + water * 0.2571) / 1000
    assert indicator("tce_equivalent", "2026-05")[:3] == (pytest.approx(tce), pytest.approx(1), "A")
    value, coverage, grade, inputs = indicator("energy_per_value_added", "2026-05")
    assert (value, coverage, grade) == (pytest.approx(tce / 310), pytest.approx(1), "B")
    assert inputs["ledger"] == [one(park, "SELECT entry_id FROM ledger")] and inputs["numerator"] == "tce_equivalent"
    assert indicator("energy_per_value_added", "2026")[0] is None           # one month of value added is not a year's
    assert indicator("renewable_share", "2026-05")[0] == pytest.approx(0.5)
    assert indicator("water_m3", "2026-05")[0] == pytest.approx(29760)
    assert indicator("water_reuse_rate", "2026-05")[0] is None
    factors = indicator("tce_calorific", "2026-05")[3]["factors"]
    assert len(factors) == 9 and set(factors) <= {r[0] for r in park.execute("SELECT factor_id FROM factor")}


def test_a_role_sees_only_the_bases_it_may(park: Conn, feed: Feed) -> None:
    grow(feed, "park.kwh", 2)
    run_pass(park, MIDNIGHT + timedelta(days=2))
    for bases, some in (("{1}", True), ("{7}", False)):
        with park.transaction():
            park.execute("SELECT set_config('park.bases', %s, true)", (bases,))
            park.execute("SET LOCAL ROLE park_auditor")
            for view in ("energy_1d", "energy_total_1d", "balance_1d", "availability_1d", "indicator_value", "emission_1d"):
                n = one(park, f"SELECT count(*) FROM {view}")
                assert (n > 0) == some or view == "emission_1d", view


@pytest.mark.parametrize("every_s", [1, 10, 20, 45])
def test_a_quick_counter_loses_no_quarter_at_an_hour_nor_beside_a_late_reading(park: Conn, feed: Feed, every_s: int) -> None:
    """Passes of a running platform: within the hour, at its border, and after a reading of the hour before came late."""
    first = MIDNIGHT + timedelta(hours=1, minutes=30)
    at = [first + timedelta(seconds=every_s * i) for i in range(6000 // every_s)]
    kwh = 1000 + 0.01 * every_s * np.arange(len(at))

    def pass_after(now: datetime) -> None:
        new = [i for i, t in enumerate(at) if seen[0] < t <= now]
        seen[0] = now
        feed("e1.main.kwh", [at[i] for i in new], kwh[new])
        run_pass(park, now)

    seen = [first - timedelta(seconds=1)]
    for minutes in (20, 29.98, 30.5, 31, 45.5, 61, 90.5):
        pass_after(first + timedelta(minutes=minutes))
    slots = "SELECT ts, amount FROM interval_15m JOIN point USING (base_id, point_id) WHERE code = 'e1.main.kwh' ORDER BY ts"
    assert [round(amount or 0.0, 3) for _, amount in park.execute(slots).fetchall()] == [9.0] * 6
    late = len(at) // 2 + 3
    feed("e1.main.kwh", [at[late] + timedelta(milliseconds=1)], [kwh[late] + 1e-4])
    run_pass(park, at[-1])
    assert [round(amount or 0.0, 2) for _, amount in park.execute(slots).fetchall()] == [9.0] * 6
    assert verify(park, 1, at[-1]) == []
