"""Readings that come late: an exceedance that nobody saw is an alert of its own, and what is closed stays closed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest
from psycopg.types.json import Jsonb

from alerts import service

Db = psycopg.Connection[Any]
HOUR = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=5)
NOW = HOUR + timedelta(hours=5)


@pytest.fixture
def park(mini: Db) -> Db:
    """The small park with a limit of 35 mg/m3 held for a minute, in force for days."""
    mini.execute("UPDATE rule SET recorded_at = now() - interval '9 days', params = %s", (Jsonb({"high": 35, "hold_s": 60}),))
    mini.execute("SELECT ensure_reading_partitions(%s, %s)", (HOUR - timedelta(days=1), NOW))
    return mini


def arrive(db: Db, first: datetime, values: Sequence[float], quality: int = 0) -> None:
    """Readings, one each half minute, and the hour's rollup over all that is there, as ingest leaves them."""
    with db.cursor() as cur:
        cur.executemany("""INSERT INTO reading (ts, value, point_id, base_id, quality)
            SELECT %s, %s, point_id, base_id, %s FROM point WHERE code = 'e1.stack.so2'""",
                        [(first + timedelta(seconds=30 * i), v, quality) for i, v in enumerate(values)])
    db.execute("DELETE FROM reading_1h")
    db.execute("""INSERT INTO reading_1h (bucket, min, max, sum, n, n_good, n_usable, point_id, base_id)
        SELECT date_trunc('hour', ts), min(value) FILTER (WHERE quality < 10), max(value) FILTER (WHERE quality < 10),
               sum(value) FILTER (WHERE quality < 10), count(*), count(*) FILTER (WHERE quality < 2),
               count(*) FILTER (WHERE quality < 10), point_id, base_id FROM reading GROUP BY 1, point_id, base_id""")


def evaluate(db: Db, now: datetime = NOW) -> None:
    service.step(db, service.start(db, now), now)


def alerts(db: Db) -> list[tuple[Any, ...]]:
    return db.execute("""SELECT opened_at, returned_at, late, active, closed_at IS NOT NULL, value
        FROM alert ORDER BY 1""").fetchall()


def test_an_exceedance_in_late_readings_is_an_alert_marked_late_and_already_over(park: Db) -> None:
    arrive(park, HOUR, [20, 40, 44, 41, 20, 20])
    evaluate(park)
    evaluate(park)
    raised = HOUR + timedelta(seconds=90)       # 40 at 30 s and the hold of a minute
    assert alerts(park) == [(raised, HOUR + timedelta(seconds=120), True, False, False, 41)]
    text = park.execute("SELECT explanation->>'zh', explanation->>'en' FROM alert").fetchone()
    assert text is not None and "数据迟到" in text[0] and "in data that came late; 1 in all" in text[1]
    assert park.execute("SELECT change, detail->>'late' FROM transition").fetchall() == [("raise", "true")]


@pytest.mark.parametrize(("values", "quality"), [([20, 40, 40, 20], 0), ([20, 40, 44, 41, 40, 20], 11)])
def test_what_the_live_rule_would_not_have_raised_is_no_late_alert(park: Db, values: list[float], quality: int) -> None:
    arrive(park, HOUR, [20.0, 20.0])
    arrive(park, HOUR + timedelta(minutes=5), values, quality)
    evaluate(park)
    assert alerts(park) == []


def test_a_closed_alert_is_not_reopened_by_more_readings_of_its_time(park: Db) -> None:
    park.execute("""INSERT INTO alert (base_id, rule_id, point_id, severity, active, acknowledged, opened_at, returned_at,
            closed_at)
        SELECT p.base_id, rule_id, point_id, 'high', false, true, %s, %s, %s FROM point p, rule
        WHERE p.code = 'e1.stack.so2'""",
                 (HOUR + timedelta(minutes=2), HOUR + timedelta(minutes=6), HOUR + timedelta(minutes=7)))
    arrive(park, HOUR, [40.0] * 12)             # the time of the closed alert: told already
    evaluate(park)
    assert [a[2] for a in alerts(park)] == [False]
    arrive(park, HOUR + timedelta(hours=2), [40, 40, 40, 50, 20])       # another time: a new alert, the old one as it was
    evaluate(park)
    assert [(a[2], a[4]) for a in alerts(park)] == [(False, True), (True, False)]


def test_several_late_exceedances_of_a_point_are_one_alert(park: Db) -> None:
    arrive(park, HOUR, [40, 40, 40, 20])
    arrive(park, HOUR + timedelta(hours=2), [40, 40, 60, 20])
    evaluate(park)
    row = alerts(park)
    assert len(row) == 1 and row[0][5] == 60
    assert row[0][:2] == (HOUR + timedelta(minutes=1), HOUR + timedelta(hours=2, seconds=90))
    park.execute("SELECT alert_step(base_id, alert_id, 'ack', 'wang') FROM alert")
    evaluate(park)
    assert len(alerts(park)) == 1


def test_history_before_the_rule_is_not_judged(park: Db) -> None:
    park.execute("UPDATE rule SET recorded_at = %s", (HOUR + timedelta(hours=1),))
    arrive(park, HOUR, [40, 40, 40, 40, 20])
    evaluate(park)
    assert alerts(park) == []


def furnace(db: Db, first: datetime, minutes: int, kw: float) -> None:
    """Power of the furnace, a reading a minute, and the rollup as ingest leaves it."""
    with db.cursor() as cur:
        cur.executemany("""INSERT INTO reading (ts, value, point_id, base_id, quality)
            SELECT %s, %s, point_id, base_id, 0 FROM point WHERE code = 'e1.furnace.kw'""",
                        [(first + timedelta(minutes=i), kw) for i in range(minutes)])
    arrive(db, HOUR, [])


@pytest.fixture
def bound(park: Db) -> Db:
    """The limit only while the furnace runs, above 100 kW as accounting learned it."""
    park.execute("UPDATE rule SET recorded_at = now() - interval '9 days', params = %s",
                 (Jsonb({"high": 35, "hold_s": 60, "plant": "running", "plant_unit": "e1.furnace"}),))
    park.execute("""INSERT INTO power_band (base_id, point_id, valid_from, on_above, learned_days)
        SELECT base_id, point_id, '2026-01-01', 100, 9 FROM point WHERE code = 'e1.furnace.kw'""")
    return park


def test_a_rule_bound_to_the_plant_opens_a_late_alert_about_the_time_in_which_the_plant_ran(bound: Db) -> None:
    furnace(bound, HOUR, 30, 0.0)
    furnace(bound, HOUR + timedelta(minutes=30), 30, 500.0)
    arrive(bound, HOUR + timedelta(minutes=10), [40] * 6 + [20])        # it stood
    evaluate(bound)
    assert alerts(bound) == []
    arrive(bound, HOUR + timedelta(minutes=40), [40] * 6 + [20])        # it ran
    evaluate(bound)
    evaluate(bound)
    assert alerts(bound) == [(HOUR + timedelta(minutes=41), HOUR + timedelta(minutes=43), True, False, False, 40)]


def test_what_the_plant_did_may_become_known_later_than_the_exceedance(bound: Db) -> None:
    arrive(bound, HOUR + timedelta(minutes=10), [40] * 6 + [20])
    e = service.start(bound, NOW)
    service.step(bound, e, NOW)
    assert alerts(bound) == []                  # nobody knows whether it ran
    furnace(bound, HOUR, 60, 500.0)
    service.step(bound, e, NOW + timedelta(minutes=6))
    assert [a[2] for a in alerts(bound)] == [True]


def test_a_calendar_rule_begins_its_late_alert_where_it_came_into_force(park: Db) -> None:
    zone = ZoneInfo("Asia/Shanghai")
    local = HOUR.astimezone(zone)
    begin, end = (local + timedelta(minutes=2)).strftime("%H:%M"), (local + timedelta(minutes=4)).strftime("%H:%M")
    params = {"high": 35, "hold_s": 0, "between": f"{begin}-{end}"}
    park.execute("UPDATE rule SET recorded_at = now() - interval '9 days', params = %s", (Jsonb(params),))
    arrive(park, HOUR, [40] * 6 + [20])
    evaluate(park)
    assert [a[:3] for a in alerts(park)] == [(HOUR + timedelta(minutes=2), HOUR + timedelta(minutes=3), True)]


def mean_rule(db: Db, params: dict[str, Any]) -> None:
    db.execute("UPDATE rule SET recorded_at = now() - interval '9 days', params = %s", (Jsonb(params),))


def hours(db: Db, means: dict[datetime, float], n_good: int = 60) -> None:
    with db.cursor() as cur:
        cur.executemany("""INSERT INTO reading_1h (bucket, min, max, sum, n, n_good, n_usable, point_id, base_id)
            SELECT %s, %s, %s, %s * %s::integer, %s, %s, %s, point_id, base_id FROM point WHERE code = 'e1.stack.so2'
            ON CONFLICT DO NOTHING""", [(h, v, v, v, n_good, n_good, n_good, n_good) for h, v in means.items()])


def test_hourly_means_that_became_known_late_are_one_alert_marked_late(park: Db) -> None:
    park.execute("UPDATE point SET expected_s = 60")
    mean_rule(park, {"high": 35, "mean": "hour"})
    hours(park, {HOUR: 40.0, HOUR + timedelta(hours=1): 44.0, HOUR + timedelta(hours=2): 20.0})
    hours(park, {HOUR - timedelta(hours=3): 50.0}, n_good=40)           # not three quarters of an hour: says nothing
    evaluate(park)
    evaluate(park)
    first, last = HOUR + timedelta(hours=1), HOUR + timedelta(hours=2)
    assert alerts(park) == [(first, last, True, False, False, 44)]
    text = park.execute("SELECT explanation->>'en' FROM alert").fetchone()
    assert text is not None and "hourly mean of" in text[0] and "came late; 2 in all" in text[0]
    park.execute("SELECT alert_step(base_id, alert_id, 'ack', 'wang') FROM alert")
    evaluate(park)
    assert [a[4] for a in alerts(park)] == [True]                       # closed, and stays so
    hours(park, {HOUR - timedelta(hours=2): 60.0})                      # another hour comes: an alert of its own
    evaluate(park)
    assert [(a[2], a[4], a[5]) for a in alerts(park)] == [(True, False, 60), (True, True, 44)]


def test_a_daily_mean_that_became_known_late_is_an_alert_marked_late(park: Db) -> None:
    zone = ZoneInfo("Asia/Shanghai")
    midnight = (NOW.astimezone(zone) - timedelta(days=3)).replace(hour=0)
    park.execute("UPDATE point SET expected_s = 60")
    mean_rule(park, {"high": 35, "mean": "day"})
    hours(park, {midnight + timedelta(hours=h): 50.0 for h in range(19)})
    evaluate(park)
    assert alerts(park) == []                                           # 20 valid hours are a day
    hours(park, {midnight + timedelta(hours=h): 50.0 for h in range(19, 21)})
    evaluate(park)
    assert alerts(park) == [(midnight + timedelta(days=1), midnight + timedelta(days=1), True, False, False, 50)]


def test_an_emission_rule_bound_to_the_plant_tells_late_hours_in_which_it_ran_and_late_days(park: Db) -> None:
    park.execute("DELETE FROM rule")
    park.execute("""INSERT INTO rule (base_id, code, name_zh, name_en, kind, severity, scope, params, recorded_at)
        SELECT base_id, rule, rule, rule, 'emission_limit', 'critical', scope, params, now() - interval '30 days'
        FROM base, (VALUES ('so2', '{"quantity": "so2"}'::jsonb, '{"plant": "running", "plant_unit": "e1.furnace"}'::jsonb),
                           ('cod', '{"quantity": "cod"}', '{}')) x (rule, scope, params)""")
    park.execute("""INSERT INTO power_band (base_id, point_id, valid_from, on_above, learned_days)
        SELECT base_id, point_id, '2026-01-01', 100, 9 FROM point WHERE code = 'e1.furnace.kw'""")
    furnace(park, HOUR - timedelta(hours=9), 60, 0.0)
    furnace(park, HOUR - timedelta(hours=8), 61, 500.0)
    with park.cursor() as cur:
        cur.executemany("""INSERT INTO emission_1h (base_id, unit_id, quantity, ts, n_valid, state, converted, limit_value,
                exceeded) SELECT base_id, unit_id, 'so2', %s, 60, 'valid', %s, 35, %s > 35 FROM unit WHERE code = 'e1.stack'""",
                        [(HOUR + timedelta(hours=k), v, v) for k, v in ((-9, 60.0), (-8, 70.0), (4, 10.0))])
        day = (NOW.astimezone(ZoneInfo("Asia/Shanghai")) - timedelta(days=5)).replace(hour=0)
        cur.executemany("""INSERT INTO emission_1h (base_id, unit_id, quantity, ts, n_valid, state, measured, converted, flow)
            SELECT base_id, unit_id, 'cod', %s, 60, 'valid', 70, 70, 10 FROM unit WHERE code = 'e2.outlet'""",
                        [(day + timedelta(hours=k),) for k in range(24)])
    evaluate(park)
    evaluate(park)
    late = park.execute("SELECT channel, opened_at, late, active, value FROM alert ORDER BY opened_at").fetchall()
    assert late == [("day_exceeded", day + timedelta(days=1), True, False, 70),
                    ("hour_exceeded", HOUR - timedelta(hours=7), True, False, 70)]
