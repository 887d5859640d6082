"""Production, treatment, and who says so: power decides, a signal that contradicts it is told, unknown says nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import psycopg
import pytest
from psycopg.types.json import Jsonb

from alerts import service
from alerts.explain import name_en, name_zh
from alerts.linkage import RUNS, STANDS, UNKNOWN, Row, state_of
from alerts.rules import Point
from park.catalogue import read_catalogue
from park.quality import Quality
from simulators.catalogue import catalogue_files
from simulators.model import Park
from simulators.scenario import Faults, read_scenario

Db = psycopg.Connection[Any]
T0 = datetime.now(UTC).replace(microsecond=0)
BAND = (11.0, 10.0)
F = int(Quality.STOPPED)
NAN = float("nan")


def signal(value: float, quality: int = 0, age_s: float = 10) -> Row:
    return Row(True, value, quality, age_s, 1)


def power(kw: float, quality: int = 0, age_s: float = 10) -> Row:
    return Row(False, kw, quality, age_s, 2)


@pytest.mark.parametrize(("rows", "band", "before", "state", "contradiction"), [
    ([signal(1), power(50)], BAND, UNKNOWN, RUNS, False),
    ([signal(1), power(0.2)], BAND, UNKNOWN, STANDS, True),         # the fraud: it says on and draws nothing
    ([signal(0), power(50)], BAND, UNKNOWN, RUNS, True),
    ([signal(1), power(10.5)], BAND, STANDS, STANDS, None),         # between the thresholds: as before, and no contradiction
    ([signal(1), power(50, age_s=900)], BAND, RUNS, UNKNOWN, None), # a silent meter is unknown whatever the signal says
    ([signal(1), power(50, quality=13)], BAND, RUNS, UNKNOWN, None),
    ([signal(1), power(50)], None, UNKNOWN, RUNS, None),            # nobody knows yet what its power means
    ([signal(0)], BAND, UNKNOWN, STANDS, None),                     # there is no meter
    ([signal(1, age_s=900)], BAND, RUNS, UNKNOWN, None),
    ([signal(1, age_s=900), power(50)], BAND, UNKNOWN, RUNS, None),
    ([power(50)], BAND, UNKNOWN, RUNS, None),
    ([power(NAN, F)], BAND, RUNS, STANDS, False),                   # flag F with nothing shown: it stands
    ([power(NAN, F)], None, RUNS, STANDS, False),
    ([power(60, F)], BAND, RUNS, RUNS, True),                       # flag F over 60 kW
    ([signal(0, F), power(60)], BAND, RUNS, RUNS, True),
    ([], BAND, RUNS, UNKNOWN, None),
])
def test_power_decides_over_the_signal_and_unknown_stays_unknown(
        rows: list[Row], band: tuple[float, float] | None, before: int, state: int, contradiction: bool | None) -> None:
    judged = state_of(rows, band, 300, before)
    assert (judged.state, judged.contradiction) == (state, contradiction)


@pytest.fixture
def park(mini: Db) -> Db:
    """The small park with a run signal on its flue gas treatment and a linkage rule."""
    mini.execute("UPDATE rule SET enabled = false")
    mini.execute("""INSERT INTO point (base_id, code, name_zh, name_en, quantity, unit, kind, unit_id, expected_s)
        SELECT base_id, 'e1.filter.run', '除尘脱硫运行', 'Treatment runs', 'run_state', '1', 'state', unit_id, 60
        FROM unit WHERE code = 'e1.filter'""")
    mini.execute("""INSERT INTO rule (base_id, code, name_zh, name_en, kind, severity, scope, params)
        SELECT base_id, 'bypass', '', '', 'linkage', 'critical', '{}', %s FROM base""",
                 (Jsonb({"production_on_kw": 100, "treatment_off_kw": 10, "hold_s": 120, "fresh_s": 90}),))
    return mini


def feed(db: Db, e: service.Evaluator, minute: int, **values: float) -> None:
    now = T0 + timedelta(minutes=minute)
    for code, value in values.items():
        db.execute("""INSERT INTO latest (base_id, point_id, ts, value, quality, arrived_at)
            SELECT base_id, point_id, %s, %s, 0, clock_timestamp() FROM point WHERE code = %s
            ON CONFLICT (base_id, point_id) DO UPDATE SET ts = excluded.ts, value = excluded.value,
                arrived_at = excluded.arrived_at""", (now, value, code.replace("_", ".")))
    service.step(db, e, now)


def channels(db: Db) -> list[tuple[str, str]]:
    return [(a, b) for a, b in db.execute("""SELECT channel, change FROM transition JOIN alert USING (base_id, alert_id)
        ORDER BY channel, transition_id""").fetchall()]


def test_a_signal_that_says_on_does_not_hide_a_treatment_that_draws_nothing(park: Db) -> None:
    e = service.start(park, T0)
    for minute in range(2):
        feed(park, e, minute, e1_furnace_kw=500, e1_filter_kw=50, e1_filter_run=1)
    for minute in range(2, 6):
        feed(park, e, minute, e1_furnace_kw=500, e1_filter_kw=0.2, e1_filter_run=1)
    assert channels(park) == [("production_on_treatment_off", "raise"), ("signal_power_disagree", "raise")]
    texts = dict(park.execute("SELECT channel, explanation->>'zh' FROM alert").fetchall())
    assert "信号与功率不符" in texts["production_on_treatment_off"]
    assert "运行信号(e1.filter.run)显示运行,功率显示停运" in texts["signal_power_disagree"]
    for minute in range(6, 10):      # the meter is cut: nothing returns
        feed(park, e, minute, e1_furnace_kw=500, e1_filter_run=1)
    assert len(channels(park)) == 2
    for minute in range(10, 13):
        feed(park, e, minute, e1_furnace_kw=500, e1_filter_kw=50, e1_filter_run=1)
    assert [c for _, c in channels(park)] == ["raise", "return", "raise", "return"]


def test_a_signal_that_denies_what_runs_is_no_critical_alert(park: Db) -> None:
    e = service.start(park, T0)
    for minute in range(5):
        feed(park, e, minute, e1_furnace_kw=500, e1_filter_kw=50, e1_filter_run=0)
    assert park.execute("SELECT channel, severity FROM alert").fetchall() == [("signal_power_disagree", "medium")]


def test_a_signal_that_lags_for_less_than_the_hold_is_no_contradiction(park: Db) -> None:
    e = service.start(park, T0)
    for minute, (kw, run) in enumerate([(50, 1), (0.2, 1), (0.2, 1), (0.2, 0), (50, 0), (50, 1)]):
        feed(park, e, minute, e1_furnace_kw=5, e1_filter_kw=kw, e1_filter_run=run)
    assert channels(park) == []


@pytest.mark.parametrize(("place", "name", "zh"), [
    ("1号排气筒", "1号排气筒二氧化硫", "1号排气筒二氧化硫"), ("1号排气筒", "二氧化硫", "1号排气筒 二氧化硫"),
    ("", "二氧化硫", "二氧化硫"), ("1号排气筒", "", "1号排气筒 p.so2"),
])
def test_a_text_names_the_unit_once(place: str, name: str, zh: str) -> None:
    p = Point(1, 1, "p.so2", name, "", "so2", "mg/m3", "gauge", None, 1, "p", None, None, None, 60, (), {}, place, "Stack 1")
    assert name_zh(p) == zh
    assert name_en(p) == "Stack 1 p.so2"


def test_in_the_park_of_the_demo_power_says_what_the_signals_say_while_nothing_is_wrong() -> None:
    """Pumps that run on while a facility stands are no run of it: each night would have a false alert."""
    told = read_scenario("lvyuan").model_copy(update={"faults": Faults()})
    catalogue = read_catalogue(catalogue_files(told.catalogue))
    model = Park(catalogue, told)
    t = datetime(2026, 11, 16, tzinfo=UTC).timestamp() + np.arange(0, 7 * 86_400, 300.0)
    values, _ = model.readings(t)
    treats = {u.code: u.attributes.get("treats", []) for u in catalogue.units if u.role == "treatment"}
    for rule in [r for r in catalogue.rules if r.kind == "linkage"]:
        for unit in rule.scope["units"]:
            off = float(rule.params["treatment_off_kw" if unit in treats else "production_on_kw"])
            if f"{unit}.state" not in model.column_of:
                continue
            power, on = (values[:, model.column_of[f"{unit}.{key}"]] for key in ("kw", "state"))
            steady = np.r_[False, on[1:] == on[:-1]]
            disagree = steady & ((power > 1.1 * off) & (on == 0) | (power < off) & (on == 1))
            assert disagree.mean() < 0.005, (rule.code, unit, off, float(disagree.mean()))
