"""Every kind of alert, raised by the real evaluator, tells what `explained.yaml` says that it tells, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest
import yaml
from psycopg.types.json import Jsonb

import alerts
from alerts import service
from alerts.rules import table
from tests.alerts.test_baseline import LAST
from tests.alerts.test_slow import HOUR, NOW, add_rule, evaluate, hour, load_hours, usual_load

Db = psycopg.Connection[Any]
TABLE = yaml.safe_load((Path(alerts.__file__).parent / "explained.yaml").read_text(encoding="utf-8"))
ROWS = {row["channel"]: row for row in TABLE["alerts"]}
MINUTE = timedelta(minutes=1)


def _read(db: Db, at: datetime, **values: float) -> None:
    for code, value in values.items():
        db.execute("""INSERT INTO latest (base_id, point_id, ts, value, quality, arrived_at)
            SELECT base_id, point_id, %s, %s, 0, clock_timestamp() FROM point WHERE code = %s
            ON CONFLICT (base_id, point_id) DO UPDATE SET ts = excluded.ts, value = excluded.value,
                arrived_at = excluded.arrived_at""", (at, value, code.replace("__", ".")))


def _ticks(db: Db, *readings: dict[str, float], step: timedelta = MINUTE) -> None:
    """A round of the evaluator for each set of readings."""
    e = service.start(db, NOW)
    for i, values in enumerate(readings):
        _read(db, NOW + i * step, **values)
        service.step(db, e, NOW + i * step)


def _limit(db: Db) -> None:
    add_rule(db, "r", "limit", {"quantity": "so2"}, {"high": 35})
    _ticks(db, {"e1__stack__so2": 40})


def _mean(db: Db, mean: str) -> None:
    add_rule(db, "r", "limit", {"quantity": "cod"}, {"high": 40, "mean": mean, "valid_hours": 1})
    midnight = datetime.now(ZoneInfo("Asia/Shanghai")).replace(hour=0, minute=0, second=0, microsecond=0)
    end = NOW if mean == "hour" else midnight
    load_hours(db, "e2.cod", {end - k * HOUR: 60.0 for k in range(1, 24)})
    evaluate(db, end + 3 * MINUTE)


def _rate(db: Db) -> None:
    add_rule(db, "r", "rate", {"quantity": "so2"}, {"rise_per_min": 5})
    _ticks(db, {"e1__stack__so2": 10}, {"e1__stack__so2": 30})


def _stuck(db: Db) -> None:
    add_rule(db, "r", "stuck", {"quantity": "so2"}, {"for_s": 100})
    _ticks(db, *[{"e1__stack__so2": 10.0}] * 3)


def _stale(db: Db) -> None:
    add_rule(db, "r", "stale", {"quantity": ["so2", "nox"]}, {"after_s": 100})
    _ticks(db, {"e1__stack__so2": 1, "e1__stack__nox": 1}, *[{"e1__stack__nox": float(i)} for i in range(4)])


def _device(db: Db) -> None:
    add_rule(db, "r", "stale", {"quantity": ["so2", "nox"]}, {"after_s": 100})
    _ticks(db, {"e1__stack__so2": 1, "e1__stack__nox": 1}, *[{"e2__cod": float(i)} for i in range(5)])


def _gateway(db: Db) -> None:
    db.execute("UPDATE device SET settings = settings || %s", (Jsonb({"connection": "tcp://10.0.0.9:502"}),))
    db.execute("""UPDATE point SET device_id = (SELECT device_id FROM device WHERE code = 'd.e2.mqtt') WHERE code = 'e1.gas'""")
    add_rule(db, "r", "stale", {"points": ["e1.stack.so2", "e1.main.kw", "e1.gas"]}, {"after_s": 100})
    _ticks(db, {"e1__stack__so2": 1, "e1__main__kw": 1, "e1__gas": 1}, *[{"e2__cod": float(i)} for i in range(5)])


def _nothing(db: Db) -> None:
    add_rule(db, "r", "stale", {"quantity": "so2"}, {"after_s": 100})
    _ticks(db, {"e1__stack__so2": 1}, {}, step=HOUR)


def _expression(db: Db) -> None:
    add_rule(db, "r", "expression", {"quantity": "so2"}, {"expr": "so2 + o2", "high": 5})
    _ticks(db, {"e1__stack__so2": 5, "e1__stack__o2": 9})


def _emission(db: Db, converted: float) -> None:
    add_rule(db, "r", "emission_limit", {"role": "outlet"}, {})
    hour(db, NOW - HOUR, converted)
    evaluate(db, NOW)


def _forecast(db: Db) -> None:
    add_rule(db, "r", "emission_limit", {"role": "outlet"}, {"min_minutes": 2})
    hour(db, NOW - HOUR, 10)
    db.execute("SELECT ensure_reading_partitions(%s, %s)", (NOW, NOW + HOUR))
    for minute in range(4):
        db.execute("""INSERT INTO reading_1m (bucket, min, max, sum, first, last, point_id, n, n_good, n_usable, base_id)
            SELECT %s, v, v, v, v, v, point_id, 1, 1, 1, base_id FROM point
            JOIN (VALUES ('e1.stack.so2', 60.0), ('e1.stack.o2', 8.0)) x(code, v) USING (code)""", (NOW + minute * MINUTE,))
    evaluate(db, NOW + 4 * MINUTE)


def _day(db: Db) -> None:
    add_rule(db, "r", "emission_limit", {"role": "outlet"}, {})
    midnight = datetime.now(ZoneInfo("Asia/Shanghai")).replace(hour=0, minute=0, second=0, microsecond=0)
    for k in range(1, 25):
        db.execute("""INSERT INTO emission_1h (base_id, unit_id, quantity, ts, n_valid, state, measured, converted, flow)
            SELECT base_id, unit_id, 'cod', %s, 60, 'valid', 60, 60, 10 FROM unit WHERE code = 'e2.outlet'""",
                   (midnight - k * HOUR,))
    evaluate(db, datetime.now(ZoneInfo("UTC")))


def _factor(db: Db) -> None:
    db.execute("""INSERT INTO factor (base_id, carrier, kind, value, unit, valid_from, source)
        SELECT base_id, 'electricity', 'co2', 0.5, 'kgCO2/kWh', '2020-01-01', 'test' FROM base""")


def _baseline(db: Db, now_kw: float) -> None:
    _factor(db)
    add_rule(db, "r", "baseline", {"quantity": "active_power"}, {"hours": 1})
    for code in ("e1.main.kw", "e1.furnace.kw"):
        load_hours(db, code, usual_load(LAST, 60, seed=len(code)) | {LAST: now_kw})
    evaluate(db, LAST + HOUR + 3 * MINUTE)


def _balance(db: Db) -> None:
    _factor(db)
    add_rule(db, "r", "balance", {"carrier": "electricity"}, {})
    day = datetime.now(ZoneInfo("Asia/Shanghai")).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1)
    for code, amount in (("park.kwh", 1200), ("e1.main.kwh", 500), ("e2.main.kwh", 480)):
        db.execute("""INSERT INTO interval_1d (ts, amount, point_id, n_expected, n_known, n_good, base_id)
            SELECT %s, %s, point_id, 96, 96, 96, base_id FROM point WHERE code = %s""", (day, amount, code))
    evaluate(db, datetime.now(ZoneInfo("UTC")))


def _demand(db: Db) -> None:
    add_rule(db, "r", "demand", {"points": ["e1.main.kw"]}, {"limit_kw": 1000})
    db.execute("SELECT ensure_reading_partitions(%s, %s)", (NOW, NOW + HOUR))
    db.execute("""INSERT INTO reading (base_id, point_id, ts, value, quality)
        SELECT base_id, point_id, %s::timestamptz + make_interval(mins => m), kw, 0 FROM point
        JOIN (VALUES ('e1.main.kw', 1200), ('e1.furnace.kw', 700), ('e1.filter.kw', 90)) x(code, kw) USING (code)
        CROSS JOIN generate_series(0, 5) m""", (NOW,))
    evaluate(db, NOW + 5 * MINUTE)


def _linkage(db: Db) -> None:
    add_rule(db, "r", "linkage", {}, {"production_on_kw": 100, "treatment_off_kw": 10, "hold_s": 60})
    _ticks(db, *[{"e1__furnace__kw": 500, "e1__filter__kw": 0.1}] * 3)


def _signal(db: Db) -> None:
    db.execute("""UPDATE point SET kind = 'state', unit_id = (SELECT unit_id FROM unit WHERE code = 'e1.filter')
                  WHERE code = 'e1.gas'""")
    add_rule(db, "r", "linkage", {}, {"production_on_kw": 100, "treatment_off_kw": 10, "hold_s": 60})
    _ticks(db, *[{"e1__furnace__kw": 1, "e1__filter__kw": 0.1, "e1__gas": 1}] * 3)


SCENES: dict[str, Callable[[Db], None]] = {
    "limit": _limit, "hour_mean": lambda db: _mean(db, "hour"), "day_mean": lambda db: _mean(db, "day"), "rate": _rate,
    "stuck": _stuck, "stale": _stale, "device_offline": _device, "gateway_offline": _gateway, "nothing_heard": _nothing,
    "expression": _expression, "hour_exceeded": lambda db: _emission(db, 41), "hour_warning": lambda db: _emission(db, 33),
    "hour_forecast": _forecast, "day_exceeded": _day, "high": lambda db: _baseline(db, 400.0),
    "low": lambda db: _baseline(db, 20.0), "balance": _balance, "demand_forecast": _demand,
    "production_on_treatment_off": _linkage, "signal_power_disagree": _signal}


def told(alert: dict[str, Any]) -> set[str]:
    """The fields of explanation that an alert carries."""
    text = alert["explanation"]
    known = {"value": alert["value"], "expected": alert["expected"], "chart": alert["point"] or text.get("chart"),
             "band": alert["low"] if alert["high"] is None else alert["high"],
             **{field: text.get(field) for field in ("contributor", "since", "excess", "cost", "co2_kg")}}
    assert set(known) == set(TABLE["fields"])
    return {name for name, value in known.items() if value is not None}


def test_the_table_has_every_kind_of_rule_and_there_is_a_scene_of_each_alert() -> None:
    assert {row["kind"] for row in TABLE["alerts"]} == set(table()["kinds"])
    assert set(ROWS) == set(SCENES) and len(ROWS) == len(TABLE["alerts"])


@pytest.mark.parametrize("channel", SCENES)
def test_an_alert_tells_what_its_kind_can_tell(mini: Db, channel: str) -> None:
    mini.execute("UPDATE rule SET enabled = false")
    SCENES[channel](mini)
    with mini.cursor(row_factory=psycopg.rows.dict_row) as cur:
        found = cur.execute("""SELECT a.value, a.expected, a.low, a.high, a.explanation, p.code AS point, r.kind FROM alert a
            JOIN rule r USING (base_id, rule_id) LEFT JOIN point p USING (base_id, point_id)
            WHERE a.channel = %s ORDER BY alert_id LIMIT 1""", (channel,)).fetchall()
    row = ROWS[channel]
    assert len(found) == 1 and found[0]["kind"] == row["kind"]
    assert told(found[0]) == {*row["told"], *row.get("where", [])}
    text = found[0]["explanation"]
    assert text["zh"] and text["en"] and "None" not in text["zh"] + text["en"]
    datetime.fromisoformat(text["since"])


def test_alerts_of_one_cause_name_the_one_that_came_first(mini: Db) -> None:
    mini.execute("UPDATE rule SET enabled = false")
    add_rule(mini, "r", "limit", {"quantity": ["so2", "nox", "dust"]}, {"high": 35})
    _ticks(mini, {"e1__stack__nox": 40, "e1__stack__so2": 1}, {"e1__stack__so2": 40, "e1__stack__dust": 40},
           step=timedelta(seconds=20))
    rows = mini.execute("""SELECT p.code, a.first_out = min(a.alert_id) OVER () FROM alert a
                           JOIN point p USING (base_id, point_id)""").fetchall()
    assert sorted(rows) == [("e1.stack.dust", True), ("e1.stack.nox", True), ("e1.stack.so2", True)]
