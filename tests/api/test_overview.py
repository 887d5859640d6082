"""What the console's panels are told, checked against the rows that the stages would have written."""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from api import overview
from park.catalogue import read_catalogue
from park.catalogue_store import apply
from park.database import connect

HERE = Path(__file__).parent
NOW = datetime(2026, 3, 18, 8, 40, tzinfo=UTC)  # a Wednesday, 16:40 in the base
Panel = Callable[..., dict[str, Any]]
Conn = psycopg.Connection[Any]


@pytest.fixture(scope="module")
def template(databases: Any) -> Iterator[str]:
    """A database with the park of console_park.yaml as it stands at NOW, and mini beside it."""
    name: str = databases.copy(prefix="seed")
    with connect(databases.url(name), autocommit=True) as db:
        apply(db, read_catalogue([HERE.parent / "data" / "mini.yaml"]))
        apply(db, read_catalogue([HERE / "console_park.yaml"]))
        psycopg.ClientCursor(db).execute((HERE / "console_seed.sql").read_text(encoding="utf-8").encode(), {"now": NOW})
    yield name
    databases.drop(name)


@pytest.fixture
def park(db: Conn) -> Conn:
    """A connection to the copy."""
    return db


@pytest.fixture
def panel(park: Conn, database_url: str) -> Panel:
    """Ask for a panel of the base `green` at NOW, or later."""
    async def ask(name: str, now: datetime, enterprise: int | None) -> dict[str, Any]:
        conn = await psycopg.AsyncConnection.connect(database_url, autocommit=True)
        async with conn, conn.cursor(row_factory=dict_row) as cursor:
            return await overview.PANELS[name](cursor, await overview.scope_of(cursor, "green", now, enterprise))

    def panel_of(name: str, now: datetime = NOW, enterprise: int | None = None) -> dict[str, Any]:
        return asyncio.run(ask(name, now, enterprise))

    return panel_of


def carrier_of(answer: dict[str, Any], code: str) -> dict[str, Any]:
    return next(c for c in answer["carriers"] if c["carrier"] == code)


def pollutant_of(answer: dict[str, Any], outlet: str, quantity: str) -> dict[str, Any]:
    found = next(o for o in answer["outlets"] if o["code"] == outlet)
    return next(p for p in found["pollutants"] if p["quantity"] == quantity)


# --- energy

def test_expected_is_the_median_of_the_same_hour_on_the_same_weekday_of_six_weeks(panel: Panel, park: Conn) -> None:
    hour = carrier_of(panel("energy"), "electricity")["hours"][10]
    then = [hour["ts"] - timedelta(weeks=n) for n in range(1, 7)]
    sums = [row[0] for row in park.execute(
        "SELECT sum(amount) FROM interval_1h JOIN point USING (base_id, point_id) WHERE code IN ('grid.kwh', 'food.pv.kwh') "
        "AND ts = ANY (%s) GROUP BY ts", [then])]
    low, _, high = statistics.quantiles(sums, n=4, method="inclusive")
    assert hour["n_days"] == 6
    assert hour["expected"] == pytest.approx(statistics.median(sums))
    assert (hour["low"], hour["high"]) == (pytest.approx(low), pytest.approx(high))


def test_an_hour_that_was_estimated_says_nothing_of_what_is_usual(panel: Panel, park: Conn) -> None:
    hour = carrier_of(panel("energy"), "electricity")["hours"][10]
    park.execute("UPDATE interval_1h SET estimated = amount, n_good = 0 WHERE ts = %s", [hour["ts"] - timedelta(weeks=1)])
    park.execute("UPDATE interval_1h SET estimated = amount / 50, n_good = 3 WHERE ts = %s", [hour["ts"] - timedelta(weeks=2)])
    assert carrier_of(panel("energy"), "electricity")["hours"][10]["n_days"] == hour["n_days"] - 1


def test_an_hour_with_a_gap_says_so_and_is_left_out_of_the_comparison(panel: Panel) -> None:
    electricity = carrier_of(panel("energy"), "electricity")
    missing, half = electricity["hours"][3], electricity["hours"][5]
    assert (missing["n_known"], missing["n_expected"]) == (4, 8)
    assert (half["n_known"], half["n_expected"]) == (6, 8)
    whole = [h for h in electricity["hours"] if h["n_known"] == h["n_slots"]]
    assert electricity["to_date"]["compared_hours"] == len(whole) == 14
    assert electricity["to_date"]["expected"] == pytest.approx(sum(h["expected"] for h in whole))
    assert electricity["to_date"]["n_known"] < electricity["to_date"]["n_expected"]


def test_an_hour_without_any_known_part_is_null_and_not_zero(panel: Panel, park: Conn) -> None:
    park.execute("UPDATE interval_1h i SET amount = NULL, n_known = 0, n_good = 0 FROM point p "
                 "WHERE p.code IN ('steel.gas', 'chem.gas') AND i.point_id = p.point_id AND ts >= %s",
                 [NOW - timedelta(hours=3)])
    gas = carrier_of(panel("energy"), "natural_gas")["hours"]
    assert gas[14]["amount"] is None
    assert gas[14]["n_expected"] == 8


def test_hours_to_come_expect_nothing_and_are_not_gaps(panel: Panel) -> None:
    later = carrier_of(panel("energy"), "electricity")["hours"][20]
    assert (later["amount"], later["n_expected"]) == (None, 0)
    assert later["expected"] is not None


def test_a_holiday_is_compared_with_days_off_and_not_with_working_wednesdays(panel: Panel, park: Conn) -> None:
    park.execute("INSERT INTO calendar (base_id, code, day, class) SELECT base_id, 'cn', d, 'holiday' FROM base, "
                 "unnest('{2026-02-17,2026-02-18,2026-02-19,2026-03-18}'::date[]) AS d WHERE base.code = 'green'")
    hour = carrier_of(panel("energy"), "electricity")["hours"][10]
    assert hour["n_days"] == 3


def test_a_sum_names_the_carriers_that_lack_a_factor(panel: Panel) -> None:
    totals = panel("energy")["totals"]
    assert totals["co2_kg"]["value"] > 0
    assert totals["co2_kg"]["lacking"] == ["steam", "water"]
    assert totals["tce_equivalent"]["lacking"] == []


def test_an_enterprise_sees_its_own_gate_only(panel: Panel, park: Conn) -> None:
    row = park.execute("SELECT enterprise_id FROM enterprise WHERE code = 'food'").fetchone()
    assert row is not None
    answer = panel("energy", enterprise=row[0])
    assert [c["carrier"] for c in answer["carriers"]] == ["electricity", "steam", "water"]
    only = park.execute("SELECT sum(amount) FROM interval_1h i JOIN point p USING (base_id, point_id) "
                        "WHERE p.code = 'food.kwh' AND i.ts >= '2026-03-17 16:00Z'").fetchone()
    assert only is not None
    assert carrier_of(answer, "electricity")["to_date"]["amount"] == pytest.approx(only[0])


# --- pollutants

def test_the_hours_mean_is_converted_minute_by_minute_and_held_against_the_permit(panel: Panel, park: Conn) -> None:
    so2 = pollutant_of(panel("pollutants"), "steel.stack", "so2")
    rows = park.execute("""
        SELECT a.value, b.value FROM reading_shown a JOIN point p USING (base_id, point_id)
        JOIN point q ON q.code = 'steel.stack.o2'
        JOIN reading_shown b ON b.base_id = q.base_id AND b.point_id = q.point_id AND b.ts = a.ts
        WHERE p.code = 'steel.stack.so2' AND a.ts >= '2026-03-18 08:00Z'""").fetchall()
    expected = statistics.fmean(value * (21 - 8) / (21 - o2) for value, o2 in rows)
    assert so2["value"] == pytest.approx(expected)
    assert (so2["minutes"], so2["minutes_due"]) == (len(rows), 40)
    assert (so2["limit"]["high"], so2["limit"]["rank"]) == (35, "permit")
    assert so2["share"] == pytest.approx(expected / 35)


def test_near_the_oxygen_of_air_there_is_no_converted_value(panel: Panel, park: Conn) -> None:
    park.execute("UPDATE reading r SET value = 20.6 FROM point p WHERE p.code = 'steel.stack.o2' AND r.point_id = p.point_id")
    so2 = pollutant_of(panel("pollutants"), "steel.stack", "so2")
    assert (so2["value"], so2["share"], so2["state"]) == (None, None, "pending")


def test_in_the_first_minutes_of_an_hour_the_last_valid_hour_is_shown(panel: Panel, park: Conn) -> None:
    nox = pollutant_of(panel("pollutants", NOW.replace(minute=3)), "steel.stack", "nox")
    hour = park.execute("SELECT converted FROM emission_1h JOIN unit USING (base_id, unit_id) WHERE code = 'steel.stack' "
                        "AND quantity = 'nox' AND ts = '2026-03-18 07:00Z'").fetchone()
    assert hour is not None
    assert (nox["value"], nox["basis"], nox["minutes"]) == (pytest.approx(hour[0]), "last_hour", 4)


def test_stopped_is_not_missing_and_a_limit_without_a_point_is_shown(panel: Panel) -> None:
    answer = panel("pollutants")
    assert pollutant_of(answer, "chem.drain", "cod")["state"] == "stopped"
    assert pollutant_of(answer, "water.outlet", "total_nitrogen")["state"] == "unmeasured"
    assert pollutant_of(panel("pollutants", NOW + timedelta(minutes=15)), "steel.stack", "so2")["state"] == "missing"


def test_waste_water_is_the_flow_weighted_mean_of_todays_valid_hours(panel: Panel, park: Conn) -> None:
    park.execute("UPDATE emission_1h SET flow = 1000, converted = 45 WHERE quantity = 'cod' AND ts = '2026-03-18 05:00Z' "
                 "AND unit_id = (SELECT unit_id FROM unit WHERE code = 'water.outlet')")
    cod = pollutant_of(panel("pollutants"), "water.outlet", "cod")
    rows = park.execute("SELECT converted, flow FROM emission_1h JOIN unit USING (base_id, unit_id) "
                        "WHERE code = 'water.outlet' AND quantity = 'cod' "
                        "AND state = 'valid' AND ts >= '2026-03-17 16:00Z'").fetchall()
    assert cod["basis"] == "day_flow_weighted"
    assert cod["value"] == pytest.approx(sum(c * f for c, f in rows) / sum(f for _, f in rows))


def test_ph_is_the_latest_value_between_its_bounds(panel: Panel) -> None:
    ph = pollutant_of(panel("pollutants"), "water.outlet", "ph")
    assert (ph["basis"], ph["limit"]["low"], ph["limit"]["high"]) == ("latest", 6, 9)
    assert ph["share"] == pytest.approx(abs(ph["value"] - 7.5) / 1.5)


def test_a_missing_hour_is_null_in_the_last_day(panel: Panel) -> None:
    hours = pollutant_of(panel("pollutants"), "steel.stack", "nox")["hours"]
    assert {h["state"]: h["value"] for h in hours if h["state"] != "valid"} == {"missing": None, "stopped": None}
    assert len(hours) == 24


# --- health

def test_points_that_send_are_counted_by_system_and_freshness(panel: Panel, park: Conn) -> None:
    park.execute("""INSERT INTO point (base_id, code, name_zh, name_en, quantity, unit, kind, unit_id, attributes)
        SELECT base_id, 'computed', '', '', 'active_energy', 'kWh', 'counter', unit_id, '{"formula": "a - b"}' FROM unit
        WHERE code = 'grid'""")
    systems = {s.pop("system"): s for s in panel("health")["systems"]}
    assert systems["pollution"] == {"total": 18, "online": 17, "stale": 0, "offline": 1, "unusable": 1}
    assert systems["resource"] == {"total": 2, "online": 1, "stale": 0, "offline": 1, "unusable": 0}
    assert sum(s["total"] for s in systems.values()) == 38
    assert all(s["online"] + s["stale"] + s["offline"] == s["total"] for s in systems.values())


def test_what_needs_attention_comes_first_and_losses_have_their_reasons(panel: Panel) -> None:
    answer = panel("health")
    first = answer["devices"][0]
    assert (first["code"], first["state"], first["n_fresh"], first["n_points"]) == ("d.food", "offline", 0, 4)
    clocks = {d["code"]: d["clock_offset_s"] for d in answer["devices"]}
    second = answer["devices"][1]
    assert (second["code"], clocks.pop("d.outlet"), clocks.pop("d.cems1")) == ("d.outlet", -420, 2), "a slow clock"
    assert answer["clock_tolerance_s"] == 60 and set(clocks.values()) == {None}
    assert [(d["reason"], d["n"]) for d in answer["dead_letters"]] == [("unknown_point", 6), ("bad_time", 2)]
    assert answer["spools"] == []  # nobody told: not the same as an empty spool
    assert answer["lag"]["p50_s"] == pytest.approx(1.4, abs=0.7)


# --- linkage

def test_each_unit_is_on_off_or_unknown(panel: Panel) -> None:
    answer = panel("linkage")
    states = {u["code"]: u["state"] for u in answer["units"]}
    assert (states["chem.reactor"], states["chem.rto"]) == ("on", "off")
    assert (states["food.cooker"], states["food.wwt"]) == ("unknown", "unknown")
    assert (states["chem.wwt"], states["chem.drain"], states["steel.stack"]) == ("on", "off", "on")
    assert [e["kind"] for e in answer["events"]] == ["production_on_treatment_off"]


def test_a_run_signal_that_its_power_contradicts_is_a_conflict_and_not_on(panel: Panel, park: Conn) -> None:
    park.execute("""
        WITH made AS (
            INSERT INTO point (base_id, code, name_zh, name_en, quantity, unit, kind, unit_id)
            SELECT base_id, 'chem.rto.run', '', '', 'state', 'state', 'state', unit_id FROM unit WHERE code = 'chem.rto'
            RETURNING base_id, point_id)
        INSERT INTO latest (base_id, point_id, ts, value, quality) SELECT base_id, point_id, %s, 1, 0 FROM made""", [NOW])
    rto = next(u for u in panel("linkage")["units"] if u["code"] == "chem.rto")
    assert (rto["state"], rto["conflict"]) == ("unknown", True)


@pytest.mark.parametrize(("change", "state"), [
    ({"fresh": False}, "unknown"), ({"quality": 10, "value": None}, "off"), ({"quality": 16, "value": None}, "unknown"),
    ({"quality": 13}, "unknown"), ({}, "on"), ({"value": 9.0}, "off"), ({"value": 0.0, "on_above": None}, "off"),
    ({"on_above": None}, "unknown"), ({"kind": "state", "value": 0.0}, "off"), ({"kind": "state", "value": 1.0}, "on")])
def test_a_point_says_on_off_or_nothing(change: dict[str, Any], state: str) -> None:
    row = {"fresh": True, "quality": 0, "value": 40.0, "kind": "gauge", "on_above": 20.0} | change
    assert overview.running(row) == state


# --- the route

def test_the_route_asks_for_a_token_and_knows_its_bases(service: Any) -> None:
    with service.client("operator") as client:
        assert client.get("/overview/energy", params={"base": "mini"}).status_code == 200
        assert client.get("/overview/energy", params={"base": "nowhere"}).status_code == 404
        assert client.get("/overview/weather", params={"base": "mini"}).status_code == 422
        client.headers.pop("Authorization")
        assert client.get("/overview/energy", params={"base": "mini"}).status_code == 401


def test_every_role_may_read_every_panel(service: Any) -> None:
    for role in ("enterprise", "auditor", "contractor"):
        with service.client(role, enterprise="e1" if role == "enterprise" else None) as client:
            for name in overview.PANELS:
                assert client.get(f"/overview/{name}", params={"base": "mini"}).status_code == 200, (role, name)


async def processor_s(database_url: str, name: str) -> float:
    """Processor time of a panel, here and in the database's own process: what others do on the machine is not in it."""
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as conn, \
            conn.cursor(row_factory=dict_row) as cursor:
        await cursor.execute("SET max_parallel_workers_per_gather = 0")     # their time would be missed
        stat = Path(f"/proc/{conn.info.backend_pid}/stat")

        def spent() -> float:
            if not stat.exists():       # a server elsewhere
                return time.perf_counter()
            ticks = stat.read_text().rpartition(")")[2].split()[11:13]
            return time.process_time() + sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")
        before = spent()
        await overview.PANELS[name](cursor, await overview.scope_of(cursor, "green", NOW, None))
        return spent() - before


def test_each_panel_answers_in_a_tenth_of_a_second_on_a_year_of_300_points(database_url: str, park: Conn) -> None:
    park.execute("""
        INSERT INTO point (base_id, code, name_zh, name_en, quantity, unit, kind, unit_id, carrier, boundary)
        SELECT u.base_id, 'bulk.' || n, '', '', 'active_energy', 'kWh', 'counter', u.unit_id, 'electricity', 'base'
        FROM unit u, generate_series(1, 60) AS n WHERE u.code = 'grid'
        UNION ALL
        SELECT u.base_id, 'gauge.' || n, '', '', 'active_power', 'kW', 'gauge', u.unit_id, NULL, 'none'
        FROM unit u, generate_series(1, 202) AS n WHERE u.code = 'grid'""")
    park.execute("""
        INSERT INTO interval_1h (base_id, point_id, ts, amount, n_expected, n_known, n_good)
        SELECT p.base_id, p.point_id, t.ts, 10, 4, 4, 4 FROM point p,
             generate_series(%(now)s::timestamptz - interval '365 days', %(now)s, interval '1 hour') AS t (ts)
        WHERE p.code LIKE 'bulk.%%'""", {"now": NOW.replace(minute=0)})
    park.execute("INSERT INTO latest (base_id, point_id, ts, value, quality, arrived_at) "
                 "SELECT base_id, point_id, %s, 1, 0, %s FROM point WHERE code LIKE 'gauge.%%'", [NOW, NOW])
    park.execute("ANALYZE interval_1h, latest, point")
    for name in overview.PANELS:
        took = [asyncio.run(processor_s(database_url, name)) for _ in range(5)]
        assert statistics.median(took) < 0.1, f"{name}: {took}"
