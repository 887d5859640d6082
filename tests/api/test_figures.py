"""Figures: aggregates, emissions, balance, infrastructure and the way back from a cell."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest

from api.figures import Figure, Part, cell, coverage_of, read_figure, read_span
from park.clock import parse_instant
from park.errors import InputError
from tests.api.conftest import Connection, Service, account_day, account_total, store_readings

NOW = parse_instant("2026-11-23T03:00:00Z")
WHAT = Figure("b", "2026-11", "base", "", "electricity", "energy")


@pytest.mark.parametrize(("parts", "days_due", "value", "coverage", "quality"), [
    ([], 1, None, None, "missing"),
    ([Part(None, 1, 96, 0, 0)], 1, None, 0.0, "missing"),
    ([Part(10.0, 1, 96, 96, 96, 0.0)], 1, 10.0, 1.0, "good"),
    ([Part(0.0, 1, 96, 96, 96, 0.0)], 1, 0.0, 1.0, "good"),
    ([Part(10.0, 1, 96, 96, 90, 2.0)], 1, 10.0, 1.0, "estimated"),
    ([Part(10.0, 1, 96, 80, 80, 0.0)], 1, 10.0, 80 / 96, "uncertain"),
    ([Part(10.0, 1, 96, 96, 96, 0.0)], 4, 10.0, 0.25, "uncertain"),           # three days are not there at all
    ([Part(10.0, 2, 192, 192, 192), Part(5.0, 1, 96, 96, 96)], 2, 15.0, 0.75, "uncertain"),
    ([Part(10.0, 1, 96, 96, 96), Part(None, 1, 96, 0, 0)], 1, 10.0, 0.5, "uncertain"),
    ([Part(10.0, 1, 96, 96, 96, complete=False)], 1, 10.0, 1.0, "uncertain")])
def test_a_cell_knows_what_it_does_not_know(parts: list[Part], days_due: int, value: float | None, coverage: float | None,
                                            quality: str) -> None:
    told = cell(WHAT, parts, "kWh", days_due)
    assert (told["value"], told["coverage"], told["quality"]) == (value, coverage, quality)
    assert told["figure"] == "b/2026-11/base/electricity/energy"


def test_coverage_is_never_more_than_all() -> None:
    assert coverage_of([Part(1.0, 5, 480, 500, 480)], 5) == 1.0
    assert coverage_of([Part(None, 0, 0, 0, 0)], 5) is None


@pytest.mark.parametrize(("text", "days"), [("2026-11-23", 1), ("2026-11", 23), ("2026-12", 0), ("2026-Q3", 92), ("2026", 327)])
def test_days_to_come_are_not_due(text: str, days: int) -> None:
    assert read_span(text, "Asia/Shanghai", NOW).days_due == days


@pytest.mark.parametrize("text", ["b/2026/base/electricity/energy", "b/2026-11-20/enterprise=e1/water/energy",
                                  "b/2026-Q3/unit=a.b-c/all/co2", "b/2026/outlet=s/so2/mass",
                                  "b/2026/point=p/electricity/cost"])
def test_a_figure_s_name_reads_back(text: str) -> None:
    assert str(read_figure(text)) == text


@pytest.mark.parametrize("text", ["", "b/2026", "b/2026/base/electricity/mass", "b/2026/outlet=s/so2/energy",
                                  "b/2026/base/electricity/price", "b/2026/town=x/electricity/energy",
                                  "b/2026/base/a b/energy"])
def test_a_name_that_is_no_figure_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="expected"):
        read_figure(text)


@pytest.fixture
def accounted(mini: Connection) -> Connection:
    """Three days of November as accounting leaves them; the third day of water is unknown."""
    row = mini.execute("INSERT INTO factor (carrier, kind, value, unit, valid_from, source) VALUES "
                       "('electricity', 'co2', 0.5306, 'kgCO2/kWh', '2020-01-01', '测试') RETURNING factor_id").fetchone()
    assert row
    for day in (20, 21, 22):
        text = f"2026-11-{day}"
        account_total(mini, "mini", text, "electricity", 1000.0, tce=0.1229, co2=530.6, cost=650.0, factors=(row[0],))
        account_total(mini, "mini", text, "water", None if day == 22 else 40.0, known=0 if day == 22 else 96)
        account_total(mini, "mini", text, "electricity", 600.0, enterprise="e1", tce=0.07, co2=318.0, cost=390.0)
        account_total(mini, "mini", text, "electricity", 300.0, enterprise="e2", tce=0.03, co2=159.0, estimated=30.0)
        account_day(mini, "park.kwh", text, 1000.0)
        account_day(mini, "e1.main.kwh", text, 600.0)
        account_day(mini, "e2.main.kwh", text, 300.0 if day < 22 else None, known=96 if day < 22 else 0)
        account_day(mini, "e1.furnace.kwh", text, 450.0)
    return mini


def cells(body: dict[str, Any], **which: str) -> dict[str, Any]:
    (row,) = [r for r in body["rows"] if all(r[k] == v for k, v in which.items())]
    found: dict[str, Any] = row["cells"]
    return found


def test_aggregates_by_carrier_have_every_measure_with_its_coverage(operator: httpx.Client, accounted: Connection) -> None:
    body = operator.get("/aggregates?base=mini&period=2026-11-21").json()
    power = cells(body, carrier="electricity")
    assert (power["energy"]["value"], power["energy"]["unit"], power["energy"]["coverage"], power["energy"]["quality"]) == (
        1000.0, "kWh", 1.0, "good")
    assert [power[m]["value"] for m in ("tce_calorific", "co2", "cost")] == [0.1229, 530.6, 650.0]
    assert power["tce_equivalent"]["unit"] == "tce"
    (factor,) = power["co2"]["factors"]
    assert [(f["id"], f["value"], f["source"]) for f in body["factors"]] == [(factor, 0.5306, "测试")]
    assert (body["start"], body["end"]) == ("2026-11-20T16:00:00Z", "2026-11-21T16:00:00Z")
    water = cells(body, carrier="water")
    assert water["energy"]["value"] == 40.0 and water["cost"]["value"] is None and water["cost"]["lacking"] == "tariff"
    assert body["totals"]["water"]["value"] == 40.0 and body["totals"]["co2"]["quality"] == "uncertain"


def test_a_gap_is_null_in_its_day_and_lowers_the_coverage_of_the_month(operator: httpx.Client, accounted: Connection) -> None:
    day = cells(operator.get("/aggregates?base=mini&period=2026-11-22").json(), carrier="water")["energy"]
    assert (day["value"], day["quality"], day["coverage"]) == (None, "missing", 0.0)
    body = operator.get("/aggregates?base=mini&period=2026-11").json()
    month = cells(body, carrier="water")["energy"]
    assert (month["value"], month["quality"]) == (80.0, "uncertain")
    assert month["coverage"] == pytest.approx(2 / body["days_due"])
    assert operator.get("/aggregates?base=mini&period=2025").json()["rows"] == []


def test_aggregates_by_enterprise_and_by_unit(operator: httpx.Client, accounted: Connection) -> None:
    by_enterprise = operator.get("/aggregates?base=mini&period=2026-11-21&by=carrier,enterprise").json()
    assert cells(by_enterprise, enterprise="e1")["energy"]["value"] == 600.0
    assert cells(by_enterprise, enterprise="e2")["energy"]["quality"] == "estimated"
    assert by_enterprise["totals"]["tce_calorific"]["value"] == 0.1229  # of the base, not the sum of enterprises
    over = operator.get("/aggregates?base=mini&period=2026-11-21&by=enterprise").json()
    assert "energy" not in cells(over, enterprise="e1") and cells(over, enterprise="e1")["co2"]["value"] == 318.0
    by_unit = operator.get("/aggregates?base=mini&period=2026-11-21&by=carrier,unit").json()
    assert cells(by_unit, unit="e1.furnace")["energy"]["value"] == 450.0
    assert cells(by_unit, unit="e1.furnace")["energy"]["figure"] == "mini/2026-11-21/unit=e1.furnace/electricity/energy"


def test_periods_that_cannot_be_are_problems_not_failures(operator: httpx.Client) -> None:
    for query, status in (("base=mini&period=2026-13", 422), ("base=mini&period=2026-11-21&by=colour", 422),
                          ("base=mini&period=2026&by=", 422), ("base=nowhere&period=2026", 404), ("period=2026", 422),
                          ("base=mini&period=0001", 422), ("base=mini&period=0000", 422), ("base=mini&period=9999", 422),
                          ("base=mini&period=2026&as_of=yesterday", 422)):
        assert operator.get(f"/aggregates?{query}").status_code == status, query


def test_figures_are_asked_as_known_at_an_instant(operator: httpx.Client, accounted: Connection) -> None:
    then = accounted.execute("SELECT clock_timestamp()").fetchone()
    assert then is not None
    when = then[0].isoformat().replace("+00:00", "Z")
    accounted.execute("""UPDATE energy_total SET amount = amount + 7, co2_kg = co2_kg + 1
        WHERE carrier = 'electricity' AND enterprise_id IS NULL AND day = '2026-11-21'""")
    now = operator.get("/aggregates?base=mini&period=2026-11-21").json()
    was = operator.get("/aggregates", params={"base": "mini", "period": "2026-11-21", "as_of": when}).json()
    assert (now["as_of"], cells(now, carrier="electricity")["energy"]["value"]) == (None, 1007.0)
    assert (was["as_of"], cells(was, carrier="electricity")["energy"]["value"]) == (when, 1000.0)
    assert cells(was, carrier="electricity")["co2"]["value"] == 530.6 and was["totals"]["co2"]["value"] == 530.6
    (former,) = operator.get("/trace?figure=mini/2026-11-21/base/electricity/energy").json()["revisions"]["totals"]
    assert former["amount"] == 1000.0 and former["recorded_at"] < when < former["superseded_at"] and former["superseded_by"]


def test_before_anything_was_known_there_are_no_figures_and_none_of_the_future(operator: httpx.Client,
                                                                             accounted: Connection) -> None:
    for query in ("aggregates?base=mini&period=2026-11-21", "aggregates?base=mini&period=2026-11-21&by=carrier,unit",
                  "aggregates?base=mini&period=2026-11-21&by=enterprise"):
        body = operator.get(f"/{query}&as_of=2001-01-01T10:00:00Z").json()
        assert (body["rows"], body["totals"], body["emission"], body["factors"]) == ([], {}, [], [])
        assert body["as_of"] == "2000-12-31T16:00:00Z"                 # the local midnight before: versions of old days
    assert operator.get("/aggregates?base=mini&period=2026&as_of=2126-01-01T00:00:00Z").status_code == 422
    assert operator.get("/trace?figure=mini/2026-11-21/base/electricity/energy&as_of=2001-01-01T00:00:00Z").status_code == 404


def test_a_cell_leads_back_to_its_counters_and_they_add_up(operator: httpx.Client, accounted: Connection) -> None:
    for scope, value, points in (("base", 1000.0, ["park.kwh"]), ("enterprise=e1", 600.0, ["e1.main.kwh"]),
                                 ("unit=e1.furnace", 450.0, ["e1.furnace.kwh"]),
                                 ("point=e1.furnace.kwh", 450.0, ["e1.furnace.kwh"])):
        body = operator.get("/trace", params={"figure": f"mini/2026-11-21/{scope}/electricity/energy"}).json()
        assert (body["value"], body["sum_of_parts"], body["agrees"]) == (value, value, True)
        assert [p["point"] for p in body["parts"]] == points
        assert [d["day"] for d in body["parts"][0]["days"]] == ["2026-11-21"]


def test_every_figure_of_an_aggregate_can_be_traced(operator: httpx.Client, accounted: Connection) -> None:
    for by in ("carrier", "carrier,enterprise", "carrier,unit", "enterprise"):
        body = operator.get(f"/aggregates?base=mini&period=2026-11-21&by={by}").json()
        names = [c["figure"] for row in body["rows"] for c in row["cells"].values() if c["value"] is not None]
        assert names
        for name in names:
            answer = operator.get("/trace", params={"figure": name})
            if "/water/" in name:
                assert answer.status_code == 404  # the fixture has no counter's day behind the water total
                continue
            assert answer.status_code == 200, (name, answer.text)


def test_a_traced_day_has_its_quarters_registers_meter_factors_and_the_way_to_the_samples(operator: httpx.Client,
                                                                                        accounted: Connection) -> None:
    store_readings(accounted, "e1.main.kwh", [("2026-11-20T15:59:00Z", 5000.0, 0), ("2026-11-20T20:00:00Z", 5100.0, 0),
                                              ("2026-11-21T15:58:00Z", 5600.0, 0), ("2026-11-21T16:01:00Z", 5601.0, 0)])
    accounted.execute("INSERT INTO interval_15m (ts, amount, point_id, base_id, quality, method) "
                      "SELECT '2026-11-20T16:00Z', 6.25, point_id, base_id, 2, 4 FROM point WHERE code = 'e1.main.kwh'")
    body = operator.get("/trace?figure=mini/2026-11-21/enterprise=e1/electricity/energy").json()
    (part,) = body["parts"]
    assert part["intervals"] == [{"at": "2026-11-20T16:00:00Z", "amount": 6.25, "quality": "estimated", "method": "gap_split"}]
    assert (part["registers"]["first_value"], part["registers"]["last_value"]) == (5000.0, 5600.0)
    assert part["meters"][0]["serial"] == "A1"
    samples = operator.get(part["samples"].removeprefix("/api/v1")).json()
    assert [row[1] for row in samples["series"][0]["rows"]] == [5100.0, 5600.0]


def test_a_trace_says_when_the_parts_do_not_add_up(operator: httpx.Client, accounted: Connection) -> None:
    accounted.execute("UPDATE interval_1d SET amount = amount + 1 FROM point p WHERE p.code = 'park.kwh' "
                      "AND interval_1d.point_id = p.point_id")
    assert operator.get("/trace?figure=mini/2026-11-21/base/electricity/energy").json()["agrees"] is False


def test_an_indicator_is_traced_to_its_inputs(operator: httpx.Client, mini: Connection) -> None:
    mini.execute("INSERT INTO indicator_value (base_id, indicator, period, value, unit, coverage, grade, inputs) "
                 "SELECT base_id, 'co2_t', '2026', 1.5, 't', 0.97, 'A', '{\"factors\": [1, 2]}' FROM base")
    body = operator.get("/trace?figure=mini/2026/indicator/co2_t").json()
    assert (body["value"], body["grade"], body["inputs"]) == (1.5, "A", {"factors": [1, 2]})
    assert operator.get("/trace?figure=mini/2026/indicator/none").status_code == 404


@pytest.fixture
def emitted(mini: Connection) -> Connection:
    """A day of SO2 at the stack: 20 valid hours of which two exceed, a stopped, an exempt and two missing, substituted ones."""
    mini.execute("""INSERT INTO emission_1h (base_id, unit_id, quantity, ts, n_valid, state, measured, converted, flow, mass_kg,
                                             substituted, substitution, limit_id, limit_value, exceeded)
        SELECT u.base_id, u.unit_id, 'so2', timestamptz '2026-11-20T16:00Z' + i * interval '1 hour', 60,
               CASE WHEN i < 20 THEN 'valid' WHEN i = 20 THEN 'stopped' WHEN i = 21 THEN 'exempt' ELSE 'missing' END,
               CASE WHEN i < 20 THEN 10 END, CASE WHEN i < 2 THEN 40 WHEN i < 20 THEN 12 END, 1000,
               CASE WHEN i < 20 THEN 0.5 WHEN i > 21 THEN 2 END, i > 21,
               CASE WHEN i > 21 THEN 'HJ 75' ELSE '' END, l.limit_id, 35, CASE WHEN i < 20 THEN i < 2 END
        FROM unit u JOIN limit_value l USING (base_id, unit_id) CROSS JOIN generate_series(0, 23) i
        WHERE u.code = 'e1.stack' AND l.quantity = 'so2'""")
    return mini


def test_emissions_tell_hours_means_exceedances_capture_and_mass(operator: httpx.Client, emitted: Connection) -> None:
    body = operator.get("/emissions?outlet=e1.stack&period=2026-11-21&lang=en").json()
    assert body["outlet"]["name"] == "Stack 1"
    (so2,) = body["pollutants"]
    assert (so2["hours_valid"], so2["hours_stopped"], so2["hours_exempt"], so2["hours_missing"]) == (20, 1, 1, 2)
    assert (so2["mean_measured"], so2["max_converted"], so2["hours_exceeded"], so2["hours_substituted"]) == (10.0, 40.0, 2, 2)
    assert so2["capture_rate"] == pytest.approx(21 / 23) and so2["unit"] == "mg/m3"
    assert (so2["mass"]["value"], so2["mass"]["unit"], so2["mass"]["quality"]) == (14.0, "kg", "estimated")
    assert len(so2["hours"]) == 24 and so2["hours"][23]["substitution"] == "HJ 75" and so2["days"][0]["valid"] is True
    assert [limit["high"] for limit in body["limits"] if limit["quantity"] == "so2"] == [35.0]
    traced = operator.get("/trace", params={"figure": so2["mass"]["figure"]}).json()
    assert (traced["value"], traced["sum_of_parts"], traced["agrees"]) == (14.0, 14.0, True)
    assert {p["quantity"] for p in traced["points"]} >= {"so2", "o2", "flue_gas_flow"}
    (row,) = operator.get("/aggregates?base=mini&period=2026-11").json()["emission"]
    assert row["mass"]["value"] == 14.0 and row["outlet"] == "e1.stack"


def test_emissions_of_what_is_not_there(operator: httpx.Client, emitted: Connection) -> None:
    assert operator.get("/emissions?outlet=e1.site&period=2026").status_code == 404  # a unit, not an outlet
    assert operator.get("/emissions?outlet=e1.stack&period=2024").json()["pollutants"] == []
    assert operator.get("/emissions?outlet=e1.stack&period=2026&quantity=nox").json()["pollutants"] == []


def test_the_balance_counts_only_days_on_which_everyone_is_known(operator: httpx.Client, accounted: Connection) -> None:
    body = operator.get("/balance?base=mini&period=2026-11&carrier=electricity").json()
    by_parent = {b["parent"]: b for b in body["balances"]}
    gate = by_parent["park.kwh"]
    assert (gate["parent_amount"], gate["unaccounted"], gate["days_balanced"]) == (3000.0, 200.0, 2)
    assert gate["share"] == pytest.approx(0.1)
    assert by_parent["e1.main.kwh"]["unaccounted"] == 450.0
    links = {(link["source"], link["target"]): link["value"] for link in body["links"]}
    assert links[("park.kwh", "e1.main.kwh")] == 1800.0 and links[("park.kwh", "unaccounted:park.kwh")] == 200.0
    ids = {node["id"] for node in body["nodes"]}
    assert all(source in ids and target in ids for source, target in links)
    unknown = operator.get("/balance?base=mini&period=2026-11-22").json()
    assert {b["parent"]: b["unaccounted"] for b in unknown["balances"]}["park.kwh"] is None
    assert {(link["source"], link["target"]): link["value"] for link in unknown["links"]}[("park.kwh", "e2.main.kwh")] is None


def test_the_monitoring_requirement_names_what_is_lacking(operator: httpx.Client, mini: Connection) -> None:
    mini.execute("UPDATE point SET removed_at = now() WHERE code IN ('e1.stack.nox', 'e1.filter.kw', 'e2.main.kwh')")
    mini.execute("INSERT INTO latest (base_id, point_id, ts, value, quality, arrived_at) SELECT base_id, point_id, "
                 "now() - interval '2 s', 1, 0, now() FROM point WHERE code IN ('e1.main.kw', 'e1.stack.so2')")
    body = operator.get("/infrastructure?base=mini&lang=en").json()
    lacking = {level["level"]: (level["needed"], level["lacking"]) for level in body["equipping"]}
    assert lacking == {"enterprise_gate": (4, ["e2 electricity"]), "facility": (2, ["e1.filter"]),
                       "outlet": (4, ["e1.stack nox"])}
    systems = {s["system"]: s for s in body["systems"]}
    assert {code: s["online"] for code, s in systems.items()} == {"energy": 1, "pollution": 1, "resource": 0}
    assert systems["energy"]["latency_p50_s"] == pytest.approx(2.0)
    assert systems["pollution"]["name"] == "whole-process management of pollution sources"
    assert systems["energy"]["counters_with_class"] == 0
    mini.execute("INSERT INTO accuracy (template, quantity, accuracy_class, source) VALUES ('eastron.sdm630', '', '1', 's')")
    mini.execute("UPDATE point SET accuracy_class = '0.5S' WHERE code = 'park.kwh'")
    systems = {s["system"]: s for s in operator.get("/infrastructure?base=mini").json()["systems"]}
    assert systems["energy"]["counters_with_class"] == 2  # its own, and that of its meter's template


def test_availability_counts_hours_however_many_readings_an_hour_has(operator: httpx.Client, mini: Connection) -> None:
    today = datetime.now(ZoneInfo("Asia/Shanghai")).date()
    mini.execute("""INSERT INTO reading_1d (bucket, n, n_good, n_usable, point_id, base_id)
        SELECT (%s::date - 2)::timestamp AT TIME ZONE 'Asia/Shanghai', 1, 0, 0, point_id, base_id
        FROM point WHERE code IN ('e1.main.kw', 'e1.furnace.kw')""", (today,))
    mini.execute("""INSERT INTO reading_1h (bucket, n, n_good, n_usable, point_id, base_id)
        SELECT (%s::date - 2)::timestamp AT TIME ZONE 'Asia/Shanghai' + h * interval '1 hour', 99999, 0, 0, point_id, base_id
        FROM point, generate_series(0, 5) h WHERE code = 'e1.main.kw'""", (today,))
    systems = {s["system"]: s for s in operator.get("/infrastructure?base=mini&days=3").json()["systems"]}
    assert systems["energy"]["hours_received"] == 6
    assert 0 < systems["energy"]["transmission_rate"] < 1 and systems["energy"]["effective_rate"] == 0.0


def test_metrics_and_probes_need_no_token_and_tell_nothing_of_a_base(service: Service) -> None:
    for path in ("/healthz", "/readyz", "/api/v1/healthz"):
        assert httpx.get(service.url + path).status_code == 200
    text = httpx.get(service.url + "/metrics").text
    assert 'park_api_requests_total{method="GET",route="/readyz",status="200"}' in text and "mini" not in text
