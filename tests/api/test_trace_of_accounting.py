"""The way back over what accounting really writes: every cell of the simulated park's aggregates adds up from its counters."""

from __future__ import annotations

from collections import Counter
from typing import Any

import httpx
import pytest

from accounting.passes import run_pass
from api.tokens import create_token
from bench.accounting import END, load
from ingest import rollup
from park.database import connect
from tests.api.conftest import Connection, serving


@pytest.fixture
def park(db: Connection) -> Connection:
    """Two days of the simulated park, accounted."""
    load(db, 2)
    run_pass(db, END)
    return db


def test_every_cell_of_the_simulated_park_adds_up_from_its_parts(park: Connection, database_url: str) -> None:
    row = park.execute("SELECT code FROM base").fetchone()
    assert row
    token = create_token(park, role="auditor", name="a")
    seen: Counter[str] = Counter()
    wrong: list[str] = []
    with serving(database_url) as (url, _), httpx.Client(base_url=f"{url}/api/v1", timeout=30,
                                                         headers={"Authorization": f"Bearer {token}"}) as client:
        for by in ("carrier", "carrier,enterprise", "enterprise"):
            body = client.get("/aggregates", params={"base": row[0], "period": "2026-10-31", "by": by}).json()
            for figure in [c["figure"] for r in body["rows"] for c in r["cells"].values() if c["value"] is not None]:
                told = client.get("/trace", params={"figure": figure}).json()
                seen[figure.rsplit("/", 1)[1]] += 1
                if told.get("agrees") is not True:
                    wrong.append(f"{figure}: {told}"[:500])
        outlets = client.get("/aggregates", params={"base": row[0], "period": "2026-10-31"}).json()["emission"]
        for figure in [r["mass"]["figure"] for r in outlets if r["mass"]["value"] is not None]:
            seen["mass"] += 1
            assert client.get("/trace", params={"figure": figure}).json()["agrees"] is True, figure
    assert not wrong, "\n".join(wrong)
    assert all(seen[m] >= 5 for m in ("energy", "tce_calorific", "tce_equivalent", "co2", "cost", "mass")), seen


def book(conn: Connection, kind: str, item: str, value: float, unit: str, enterprise: str | None = None,
         supersedes: int | None = None) -> int:
    row = conn.execute("""
        INSERT INTO ledger (base_id, kind, enterprise_id, item, first_day, last_day, value, unit, recorded_by, supersedes)
        SELECT b.base_id, %s, e.enterprise_id, %s, '2026-10-01', '2026-10-31', %s, %s, 'test', %s
        FROM base b LEFT JOIN enterprise e ON e.code = %s RETURNING entry_id""",
                       (kind, item, value, unit, supersedes, enterprise)).fetchone()
    assert row
    return int(row[0])


def test_a_trace_lists_bills_with_their_cost_and_the_steps_to_what_is_assessed(park: Connection, database_url: str) -> None:
    """Diesel by bill for two enterprises, one bill corrected; green power and feedstock deducted by switches: every figure of
    the energy account adds up from counters, bills and steps, day by day and over the month."""
    base = park.execute("SELECT code FROM base").fetchone()
    assert base
    first = book(park, "energy_bill", "diesel", 9.3, "t", "op")
    bill = book(park, "energy_bill", "diesel", 3.1, "t", "op", supersedes=first)
    other = book(park, "energy_bill", "diesel", 620, "kg", "e6")
    costs = [book(park, "energy_cost", "diesel", 2.48, "万元", "op"), book(park, "energy_cost", "diesel", 4960, "元", "e6")]
    green = book(park, "green_power", "", 31, "MWh")
    book(park, "feedstock", "natural_gas", 310, "Nm3")
    park.execute("""INSERT INTO setting (base_id, name, value, source) SELECT base_id, n, v, 'test' FROM base,
        (VALUES ('deduct_feedstock', true), ('deduct_green_power', true), ('deduct_sold', false)) AS s (n, v)
        ON CONFLICT (base_id, name, valid_from) WHERE superseded_at IS NULL DO UPDATE SET value = excluded.value""")
    park.execute("""INSERT INTO point (base_id, code, name_zh, name_en, quantity, unit, kind, unit_id, carrier, attributes)
        SELECT base_id, 'rest.kwh', 'x', 'x', 'active_energy', 'kWh', 'counter', unit_id, 'electricity',
               '{"formula": "e1.main.kwh - e3.main.kwh * 0.5 + 0 * both.kw * value(1, ''h'')"}'
        FROM point WHERE code = 'e1.main.kwh'""")
    park.execute("""INSERT INTO point (base_id, code, name_zh, name_en, quantity, unit, kind, unit_id, expected_s, attributes)
        SELECT base_id, 'both.kw', 'x', 'x', 'active_power', 'kW', 'gauge', unit_id, 900,
               '{"formula": "e1.main.kwh / value(15, ''min'')"}'
        FROM point WHERE code = 'e1.main.kwh'""")
    run_pass(park, END)     # the gauge, then what waits for its quarters
    with connect(database_url, autocommit=True) as ingest:
        rollup.prepare(ingest)
        rollup.roll_up_all(ingest)
    run_pass(park, END)
    token = create_token(park, role="auditor", name="a")
    seen: Counter[str] = Counter()
    wrong: list[str] = []
    with serving(database_url) as (url, _), httpx.Client(base_url=f"{url}/api/v1", timeout=30,
                                                         headers={"Authorization": f"Bearer {token}"}) as client:
        def trace(figure: str) -> dict[str, Any]:
            found: dict[str, Any] = client.get("/trace", params={"figure": figure}).json()
            return found

        for period, by in (("2026-10-31", "carrier"), ("2026-10-31", "enterprise"), ("2026-10", "carrier")):
            body = client.get("/energy/account", params={"base": base[0], "period": period, "by": by}).json()
            for row in body["carriers"]:
                for field, figure in row["figures"].items():
                    if row[field] is None:
                        continue
                    told = trace(figure)
                    seen[figure.rsplit("/", 1)[1]] += 1
                    if told.get("agrees") is not True or abs(told["value"] - row[field]) > 1e-6 * max(1.0, abs(row[field])):
                        wrong.append(f"{figure} is {row[field]}: {told}"[:900])
            for total in body["totals"]:
                for field, figure in total["figures"].items():
                    if total[field] is not None and trace(figure).get("agrees") is not True:
                        wrong.append(figure)
        assert not wrong, "\n".join(wrong)
        assert all(seen[m] >= 8 for m in ("energy", "tce_calorific_assessed", "tce_equivalent_assessed", "co2_market")), seen

        diesel = trace(f"{base[0]}/2026-10-31/base/diesel/energy")
        bills = [b for b in diesel["bills"] if b["kind"] == "energy_bill"]
        assert [(b["id"], b["payer"]) for b in bills] == [(bill, "op"), (other, "e6")]
        assert [b["share"] for b in bills] == pytest.approx([0.1, 0.02])
        assert diesel["parts"] == [] and diesel["cell"]["grade"] == "B"
        assert {e["id"] for e in diesel["entries"]} == {first, bill, other, *costs}  # the superseded one among them
        paid = trace(f"{base[0]}/2026-10-31/base/diesel/cost")
        assert paid["value"] == pytest.approx(960) and paid["agrees"] is True and paid["cell"]["grade"] == "B"
        assert {b["id"]: b["share"] for b in paid["bills"] if b["share"] is not None} == {
            costs[0]: pytest.approx(800), costs[1]: pytest.approx(160)}
        power = trace(f"{base[0]}/2026-10-31/base/electricity/tce_calorific_assessed")
        assert {s["step"] for s in power["steps"]} >= {"used", "green_power", "own_generation"}
        assert [s["change"] for s in power["steps"] if s["step"] == "green_power"] == [pytest.approx(-1000 * 0.1229 / 1000)]
        assert {s["name"] for s in power["settings"]} >= {"deduct_green_power"} and green in {e["id"] for e in power["entries"]}
        market = trace(f"{base[0]}/2026-10-31/base/electricity/co2_market")
        assert {f["kind"] for f in market["factors"]} >= {"co2", "co2_residual"}
        assert "residual_factor" in {s["step"] for s in market["steps"]}
        assert client.get("/trace", params={"figure": f"{base[0]}/2026-10-31/unit=x/electricity/co2_market"}).status_code == 422

        walked: Counter[str] = Counter()
        for (indicator,) in park.execute("SELECT indicator FROM indicator_value WHERE period = '2026-10'").fetchall():
            for lead in trace(f"{base[0]}/2026-10/indicator/{indicator}")["leads_to"]:
                answer = client.get("/trace", params={"figure": lead})
                walked[indicator] += 1
                assert answer.status_code == 200, (indicator, lead, answer.text)
        assert {"tce_equivalent", "co2_t", "electricity_kwh", "energy_per_value_added", "so2_t", "cod_t"} <= set(walked), walked
        (part,) = trace(f"{base[0]}/2026-10-31/point=rest.kwh/electricity/energy")["parts"]
        *meters, gauge = part["made_of"]
        assert (gauge["point"], [m["point"] for m in gauge["made_of"]]) == ("both.kw", ["e1.main.kwh"]) and gauge["formula"]
        leads = [m["figure"] for m in meters]
        first_part, second_part = (trace(lead)["value"] for lead in leads)
        assert part["formula"] and part["share"] == pytest.approx(first_part - 0.5 * second_part)
        nodes = client.get("/balance", params={"base": base[0], "period": "2026-10-31"}).json()["nodes"]
        meters = [n for n in nodes if n["kind"] == "meter" and n["value"] is not None]
        assert meters and trace(meters[0]["figure"])["value"] == pytest.approx(meters[0]["value"])
