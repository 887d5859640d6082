"""What a base is measured by over HTTP: indicators with targets and forecasts, marks that exempt hours, baselines."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from accounting import baselines
from accounting.passes import run_pass
from park.catalogue import read_catalogue
from park.catalogue_store import apply
from tests.api.conftest import Connection, Service

TABLES = Path(__file__).parents[2] / "park" / "tables"
NOW = datetime(2026, 9, 1, 3, tzinfo=UTC)


@pytest.fixture
def measured(mini: Connection) -> Connection:
    """Two years of electricity, the shipped indicators, one pass."""
    apply(mini, read_catalogue([TABLES / "indicators.yaml"]))
    mini.execute("""INSERT INTO energy_total (base_id, day, carrier, unit, amount, generation, n_expected, n_known, n_good,
            tce_calorific, tce_equivalent, co2_kg)
        SELECT 1, d, 'electricity', 'kWh', 1e6, 2e5, 96, 96, 96, 122.9, 310, 4e5
        FROM generate_series('2025-01-01'::date, '2026-08-31', '1 day') d""")
    run_pass(mini, NOW)
    return mini


def by_code(body: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["code"]: row for row in body["indicators"]}


def test_indicators_tell_value_threshold_target_responsible_and_forecast(operator: httpx.Client, measured: Connection) -> None:
    body = operator.get("/indicators?base=mini&period=2026&lang=zh").json()
    rows = by_code(body)
    assert "没有公布统一的指标表" in body["notice"]
    carbon = rows["zc.carbon_per_energy"]
    assert (carbon["set"], carbon["unit"], carbon["verified"]) == ("zero_carbon_park", "t/tce", False)
    assert carbon["value"] == pytest.approx(400 / 310) and carbon["formula"] == "co2_t / tce_equivalent" and carbon["source"]
    assert rows["zc.clean_energy_share"]["kept"] is False and rows["zc.clean_energy_share"]["threshold"] == 90
    assert rows["zc.waste_heat_use"]["value"] is None and "ledger" in rows["zc.waste_heat_use"]["withheld"]
    energy = rows["tce_equivalent"]
    assert (energy["set"], energy["target"]["value"], energy["target"]["responsible"]) == ("plan", 20000, "管委会")
    assert energy["value"] == pytest.approx(243 * 310) and energy["target"]["progress"] == pytest.approx(243 * 310 / 20000)
    assert energy["forecast"]["value"] == pytest.approx(365 * 310) and energy["forecast"]["target_likely"] == 0.0
    assert energy["forecast"]["low"] <= energy["forecast"]["value"] <= energy["forecast"]["high"]
    assert energy["forecast"]["until"] == "2026-08-31"
    only = operator.get("/indicators?base=mini&period=2026-08&set=eco_park").json()
    assert {r["set"] for r in only["indicators"]} == {"eco_park"} and all(r["forecast"] is None for r in only["indicators"])
    traced = operator.get("/trace", params={"figure": carbon["figure"]}).json()
    assert traced["inputs"]["figures"]["tce_equivalent"]["unit"] == "tce"
    assert operator.get("/indicators?base=mini&period=2026-Q3").status_code == 422


def test_indicators_as_known_before_a_definition_changed(operator: httpx.Client, measured: Connection) -> None:
    then = measured.execute("SELECT clock_timestamp()").fetchone()
    assert then is not None
    measured.execute("""UPDATE target SET superseded_at = now();
        INSERT INTO target (base_id, indicator, name_zh, name_en, year, value, unit)
        VALUES (1, 'tce_equivalent', 'a', 'a', 2026, 1, 'tce')""")
    measured.execute("UPDATE indicator_value SET value = value * 2 WHERE indicator = 'tce_equivalent'")
    now = by_code(operator.get("/indicators?base=mini&period=2026").json())["tce_equivalent"]
    was = by_code(operator.get("/indicators", params={
        "base": "mini", "period": "2026", "as_of": then[0].isoformat()}).json())["tce_equivalent"]
    assert (now["target"]["value"], was["target"]["value"]) == (1, 20000) and now["value"] == pytest.approx(2 * was["value"])


def test_a_mark_is_added_listed_and_ended_with_who_and_why(service: Service, operator: httpx.Client, mini: Connection) -> None:
    about = {"base": "mini", "outlet": "e1.stack", "start": "2026-11-01T00:00:00Z", "end": "2026-11-01T08:00:00Z",
             "kind": "maintenance", "reason": "更换采样探头", "evidence": "工单 17"}
    made = operator.post("/exemptions", json=about)
    assert made.status_code == 201 and made.json()["recorded_by"] and made.json()["quantity"] is None
    number = made.json()["id"]
    ended = operator.post(f"/exemptions/{number}/end",
                          json={"base": "mini", "reason": "提前完成", "at": "2026-11-01T05:00:00Z"})
    assert ended.json()["end"] == "2026-11-01T05:00:00Z" and ended.json()["id"] != number
    assert "提前完成" in ended.json()["reason"]
    (current,) = operator.get("/exemptions?base=mini").json()["exemptions"]
    assert current["id"] == ended.json()["id"]
    both = operator.get("/exemptions?base=mini&withdrawn=true&outlet=e1.stack").json()["exemptions"]
    assert [m["withdrawn_reason"] for m in both] == [None, "提前完成"]
    assert operator.post(f"/exemptions/{number}/end", json={"base": "mini", "reason": "x"}).status_code == 409
    assert operator.post("/exemptions/999/end", json={"base": "mini", "reason": "x"}).status_code == 404
    for wrong, status in (({"end": about["start"]}, 422), ({"outlet": "park"}, 404), ({"quantity": "cod"}, 404),
                          ({"reason": " "}, 422), ({"kind": "holiday"}, 422), ({"start": "2026-11-01T00:00:00"}, 422)):
        assert operator.post("/exemptions", json=about | wrong).status_code == status, wrong
    with service.client("auditor", "mini") as reader:
        assert reader.post("/exemptions", json=about).status_code == 403
        assert len(reader.get("/exemptions?base=mini").json()["exemptions"]) == 1


def test_baselines_tell_their_model_and_savings_by_month(operator: httpx.Client, mini: Connection) -> None:
    rng = np.random.default_rng(2)
    first = date(2026, 1, 1)
    days = [first + timedelta(days=i) for i in range(120)]
    made = rng.uniform(50, 100, 120)
    used = 1000 + 8 * made + rng.normal(0, 20, 120)
    used[90:] -= 100                                                 # April: something was saved
    for code, amounts in (("e1.furnace.kwh", used), ("e1.product", made)):
        mini.execute("""INSERT INTO interval_1d (ts, amount, point_id, n_expected, n_known, n_good, base_id)
            SELECT d::timestamp AT TIME ZONE 'Asia/Shanghai', a, p.point_id, 96, 96, 96, 1
            FROM unnest(%s::date[], %s::float8[]) AS x (d, a), point p WHERE p.code = %s""", (days, list(amounts), code))
    model = {"production": ["e1.product"], "temperature": None}
    baselines.fit(mini, 1, "e1.furnace.kwh", first, date(2026, 3, 31), reason="首次", **model)  # type: ignore[arg-type]
    baselines.follow(mini, 1, set(), date(2026, 5, 1))
    (row,) = operator.get("/baselines?base=mini").json()["baselines"]
    assert (row["point"], row["n"], row["reason"]) == ("e1.furnace.kwh", 90, "首次") and row["r2"] > 0.9
    savings = {s["period"]: s for s in row["savings"]}
    assert savings["2026-04"]["saving"] == pytest.approx(3000, abs=savings["2026-04"]["half_width"])
    assert savings["2026-04"]["saving"] > savings["2026-04"]["half_width"] and savings["2026-04"]["days"] == 30
    assert abs(savings["2026-02"]["saving"]) < savings["2026-02"]["half_width"] and savings["2026"]["days"] == 120
    baselines.fit(mini, 1, "e1.furnace.kwh", first, date(2026, 4, 28), reason="新工艺", **model)  # type: ignore[arg-type]
    both = operator.get("/baselines?base=mini&superseded=true").json()["baselines"]
    assert [b["reason"] for b in both] == ["新工艺", "首次"]


def test_an_hour_of_an_outlet_shows_its_layers(operator: httpx.Client, mini: Connection) -> None:
    start = datetime(2026, 5, 10, 16, tzinfo=UTC)
    mini.execute("SELECT ensure_reading_partitions(%s, %s)", (start, start + timedelta(days=1)))

    def send(point: str, values: list[float], quality: list[int]) -> None:
        mini.execute("""INSERT INTO reading (ts, value, point_id, base_id, quality)
            SELECT %s::timestamptz + (i - 1) * interval '1 minute', v, p.point_id, 1, q
            FROM unnest(%s::float8[], %s::smallint[]) WITH ORDINALITY AS x (v, q, i), point p WHERE p.code = %s
            ON CONFLICT (base_id, point_id, ts) DO UPDATE SET value = excluded.value, quality = excluded.quality""",
                     (start, values, quality, point))
        mini.execute("""INSERT INTO dirty_account (base_id, point_id, bucket)
            SELECT 1, point_id, %s FROM point WHERE code = %s""", (start, point))

    send("e1.stack.so2", [20.0] * 50 + [500.0] * 10, [0] * 50 + [12] * 10)      # ten minutes of calibration gas
    send("e1.stack.o2", [8.0] * 60, [0] * 60)
    run_pass(mini, start + timedelta(hours=1))
    mini.execute("""INSERT INTO reading_revision (base_id, point_id, ts, value, quality, by_source, reason)
        SELECT 1, point_id, %s, 20, 0, 'x', 'corrected' FROM point WHERE code = 'e1.stack.so2'""", (start,))
    send("e1.stack.so2", [26.0] * 50, [0] * 50)
    run_pass(mini, start + timedelta(hours=1))
    made = operator.post("/exemptions", json={
        "base": "mini", "outlet": "e1.stack", "start": "2026-05-10T16:00:00Z", "end": "2026-05-10T16:30:00Z",
        "kind": "start_up", "reason": "点火"}).json()
    mini.execute("""UPDATE unit SET attributes = attributes || '{"exempt_cap_h": {"start_up": 60}}' WHERE code = 'e1.stack'""")
    run_pass(mini, start + timedelta(hours=1))
    body = operator.get("/emissions?outlet=e1.stack&period=2026-05-11&quantity=so2&layers=true").json()
    (hour,) = body["pollutants"][0]["hours"]
    layers = hour["layers"]
    assert layers["raw"] == pytest.approx((50 * 26 + 10 * 500) / 60) and layers["flagged"] == {"good": 50, "calibration": 10}
    assert hour["measured"] == pytest.approx(26.0) and hour["state"] == "exempt"
    assert (layers["replaced"], layers["replaced_former"]) == (1, 20.0)
    assert layers["exempted"]["id"] == made["id"] and layers["exempted"]["reason"] == "点火"
    # the test's clock is months behind the database's: all versions were recorded after the hour
    assert [(r["measured"], r["state"]) for r in layers["revised"]] == [(20.0, "valid"), (26.0, "valid")]
    assert all(r["superseded_by"] == "park account" and r["reason"] for r in layers["revised"])
    assert body["exempt_year"] == [{"kind": "start_up", "hours": 0.5, "cap": 60.0}]
    assert body["exemptions"][0]["kind"] == "start_up" and body["pollutants"][0]["capture_rate"] == 1.0
    (quarter,) = body["pollutants"][0]["rates"]
    assert quarter["capture_rate"] == 1.0 and quarter["effective_rate"] is None and quarter["quarter"] == "2026-04-01"
    assert operator.get("/emissions?outlet=e1.stack&period=2026-05&layers=true").status_code == 422
    (month,) = operator.get("/emissions?outlet=e1.stack&period=2026-05").json()["pollutants"][0]["months"]
    assert (month["days_valid"], month["valid"]) == (0, False)
