"""Hours that came late, for the rules that are no limit: rate, expression, demand, linkage, baseline, balance."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest

from alerts import service
from ingest import rollup
from tests.alerts.test_late import Db, alerts
from tests.alerts.test_service import read
from tests.alerts.test_slow import add_rule, load_hours, usual_load

HOUR = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=5)
NOW = HOUR + timedelta(hours=5)


@pytest.fixture
def park(mini: Db) -> Db:
    """The small park without rules, with room for readings of the last days."""
    mini.execute("DELETE FROM rule")
    mini.execute("SELECT ensure_reading_partitions(%s, %s)", (HOUR - timedelta(days=9), NOW))
    return mini


def arrive(db: Db, code: str, first: datetime, values: list[float], step_s: float = 60.0) -> None:
    """Readings that came just now, as ingest leaves them, and its rollup pass."""
    with db.cursor() as cur:
        cur.executemany("""INSERT INTO reading (ts, value, point_id, base_id, quality)
            SELECT %s, %s, point_id, base_id, 0 FROM point WHERE code = %s ON CONFLICT DO NOTHING""",
                        [(first + timedelta(seconds=step_s * i), v, code) for i, v in enumerate(values)])
    db.execute("""INSERT INTO dirty (base_id, point_id, bucket)
        SELECT DISTINCT base_id, point_id, date_bin('15 minutes', ts, '2000-01-01Z') FROM reading
        JOIN point USING (base_id, point_id) WHERE code = %s AND ts >= %s""", (code, first))
    rollup.prepare(db)
    rollup.roll_up_all(db)
    db.execute("UPDATE late_hour SET due_at = %s", (NOW,))       # the minute in which more of it may come is over


def evaluate(db: Db, now: datetime = NOW) -> list[tuple[Any, ...]]:
    service.step(db, service.start(db, now), now)
    return alerts(db)


def marks(db: Db) -> int:
    row = db.execute("SELECT count(*) FROM late_hour").fetchone()
    return int(row[0]) if row else 0


def said(db: Db) -> tuple[str, str]:
    row = db.execute("SELECT explanation ->> 'zh', explanation ->> 'en' FROM alert").fetchone()
    assert row is not None and "数据迟到" in row[0] and "in data that came late" in row[1]
    return row[0], row[1]


def test_a_jump_in_late_readings_is_an_alert_marked_late_once_over_restarts_and_reopens_nothing(park: Db) -> None:
    add_rule(park, "jump", "rate", {"quantity": "so2"}, {"rise_per_min": 10})
    arrive(park, "e1.stack.so2", HOUR, [20.0] * 10 + [50.0] * 10)
    once = [(HOUR + timedelta(minutes=10), HOUR + timedelta(minutes=11), True, False, False, 30)]
    assert evaluate(park) == once
    assert "每分钟上升 30 mg/m3,允许 10 mg/m3" in said(park)[0] and marks(park) == 1     # looked at again until it is told
    assert evaluate(park, NOW + timedelta(minutes=6)) == once and marks(park) == 0
    arrive(park, "e1.stack.so2", HOUR + timedelta(hours=2), [20.0, 80.0, 80.0])         # more, while the alert is open
    assert evaluate(park, NOW + timedelta(minutes=7)) == once and marks(park) == 1
    park.execute("SELECT alert_step(base_id, alert_id, 'ack', 'wang') FROM alert")
    evaluate(park, NOW + timedelta(minutes=13))
    assert [(a[0], a[2], a[4]) for a in alerts(park)] == [
        (HOUR + timedelta(minutes=10), True, True), (HOUR + timedelta(hours=2, minutes=1), True, False)]


def test_what_came_in_time_marks_nothing_and_what_was_before_the_rule_is_forgotten(park: Db) -> None:
    add_rule(park, "jump", "rate", {"quantity": "so2"}, {"rise_per_min": 10})
    now = datetime.now(UTC)
    arrive(park, "e1.stack.so2", now - timedelta(minutes=2), [20.0, 50.0])
    assert marks(park) == 0
    park.execute("UPDATE rule SET recorded_at = %s", (HOUR + timedelta(hours=2),))
    arrive(park, "e1.stack.so2", HOUR, [20.0] * 5 + [50.0] * 5)
    assert marks(park) == 1
    assert evaluate(park) == [] and marks(park) == 0


def test_an_expression_over_late_readings_of_two_points_tells_the_figures_of_both(park: Db) -> None:
    add_rule(park, "leak", "expression", {"role": "outlet"}, {"expr": "so2 < 5 and o2 > 18", "hold_s": 120})
    arrive(park, "e1.stack.so2", HOUR, [20.0] * 5 + [2.0] * 6 + [20.0] * 5)
    assert evaluate(park) == []                                     # what the oxygen was nobody knows
    arrive(park, "e1.stack.o2", HOUR, [19.0] * 16)
    assert [a[:4] for a in evaluate(park)] == [(HOUR + timedelta(minutes=7), HOUR + timedelta(minutes=11), True, False)]
    assert "so2 = 2 mg/m3, o2 = 19 %" in said(park)[1]


def test_of_late_demand_the_whole_quarter_of_an_hour_counts_and_no_forecast(park: Db) -> None:
    add_rule(park, "demand", "demand", {"points": ["e1.furnace.kw"]}, {"limit_kw": 1000})
    arrive(park, "e1.furnace.kw", HOUR, [1100.0] * 5 + [100.0] * 10 + [1050.0] * 15 + [1200.0] * 5 + [100.0] * 10)
    assert [(a[0], a[2], a[5]) for a in evaluate(park)] == [(HOUR + timedelta(minutes=30), True, 1050)]
    assert "的 15 分钟需量达 1,050 kW,超过合同需量 1,000 kW" in said(park)[0]


def test_production_without_treatment_that_became_known_late_is_a_late_alert_of_the_treatment(park: Db) -> None:
    params = {"production_on_kw": 100, "treatment_off_kw": 10, "hold_s": 120, "fresh_s": 90}
    add_rule(park, "bypass", "linkage", {}, params, "critical")
    arrive(park, "e1.furnace.kw", HOUR, [500.0] * 30)
    assert evaluate(park) == []                                     # unknown is not off
    arrive(park, "e1.filter.kw", HOUR, [50.0] * 10 + [0.0] * 10 + [50.0] * 10)
    assert [a[:4] for a in evaluate(park)] == [(HOUR + timedelta(minutes=12), HOUR + timedelta(minutes=20), True, False)]
    assert "而治理设施除尘脱硫停运" in said(park)[0]
    assert park.execute("SELECT u.code, severity FROM alert JOIN unit u USING (base_id, unit_id)").fetchall() == [
        ("e1.filter", "critical")]


def test_a_rate_rule_that_is_bound_to_the_calendar_tells_only_of_its_hours(park: Db) -> None:
    local = HOUR.astimezone(ZoneInfo("Asia/Shanghai"))
    between = f"{local + timedelta(minutes=30):%H:%M}-{local + timedelta(minutes=50):%H:%M}"
    add_rule(park, "jump", "rate", {"quantity": "so2"}, {"rise_per_min": 10, "between": between})
    arrive(park, "e1.stack.so2", HOUR, [20.0] * 10 + [50.0] * 25 + [90.0] * 25)
    assert [a[0] for a in evaluate(park)] == [HOUR + timedelta(minutes=35)]


def test_hours_in_which_no_evaluator_was_at_work_are_judged_when_one_is_again(park: Db) -> None:
    add_rule(park, "jump", "rate", {"quantity": "so2"}, {"rise_per_min": 10})
    service.step(park, service.start(park, NOW - timedelta(seconds=10)), NOW)
    arrive(park, "e1.stack.so2", HOUR, [20.0] * 10 + [50.0] * 10)
    park.execute("DELETE FROM late_hour")                           # they came in time, to an ingest that was at work
    park.execute("UPDATE evaluator_snapshot SET at = %s", (HOUR - timedelta(minutes=20),))
    assert [a[0] for a in evaluate(park)] == [HOUR + timedelta(minutes=10)]


def test_an_hour_of_load_that_became_known_late_is_compared_with_its_like_hours(park: Db) -> None:
    add_rule(park, "baseline", "baseline", {"points": ["e1.main.kw"]}, {"hours": 1})
    last = NOW - timedelta(hours=30)
    load = usual_load(last, 60)
    load[last] = 4000.0
    load_hours(park, "e1.main.kw", load)
    park.execute("INSERT INTO late_hour SELECT base_id, point_id, %s, %s FROM point WHERE code = 'e1.main.kw'", (last, NOW))
    over = last + timedelta(hours=1)
    assert evaluate(park) == evaluate(park) == [(over, over, True, False, False, 4000)]
    assert "高于预期" in said(park)[0]
    row = park.execute("SELECT explanation #>> '{excess,unit}', (explanation ->> 'cost')::float8 > 0 FROM alert").fetchone()
    assert row == ("kWh", True)


def test_a_day_out_of_balance_that_became_known_late_is_a_late_alert(park: Db) -> None:
    add_rule(park, "balance", "balance", {"carrier": "electricity"}, {"high": 0.05})
    zone, today = ZoneInfo("Asia/Shanghai"), datetime.now(ZoneInfo("Asia/Shanghai")).date()

    def day(back: int, children: float) -> None:
        begin = datetime.combine(today - timedelta(days=back), datetime.min.time(), zone)
        for code, amount in (("park.kwh", 960.0), ("e1.main.kwh", children), ("e2.main.kwh", 0.0)):
            park.execute("""INSERT INTO interval_1d (ts, amount, point_id, n_expected, n_known, n_good, base_id)
                SELECT %s, %s, point_id, 96, 96, 96, base_id FROM point WHERE code = %s""", (begin, amount, code))

    day(1, 955.0)
    assert evaluate(park) == []
    day(3, 600.0)
    ended = datetime.combine(today - timedelta(days=2), datetime.min.time(), zone)
    assert [a[:4] for a in evaluate(park)] == [(ended, ended, True, False)]
    assert len(evaluate(park)) == 1 and "37.5%" in said(park)[1]


@pytest.mark.parametrize(("kind", "params"), [("limit", {"high": 35}), ("rate", {"rise_per_min": 10})])
def test_a_point_whose_readings_always_come_an_hour_after_their_time_is_told_of_once(
        park: Db, kind: str, params: dict[str, Any]) -> None:
    add_rule(park, "slow", kind, {"quantity": "so2"}, params)
    e = service.start(park, NOW)
    for minute, value in enumerate([20.0, 50.0, 50.0]):         # a logger that sends what was an hour and a quarter ago
        at = NOW - timedelta(minutes=75 - minute)
        read(park, "e1.stack.so2", value, at)
        service.step(park, e, NOW + timedelta(minutes=minute))
    arrive(park, "e1.stack.so2", NOW - timedelta(minutes=75), [20.0, 50.0, 50.0])
    assert marks(park) == 1
    for minute in (10, 16, 22):
        service.step(park, e, NOW + timedelta(minutes=minute))
    assert [a[2] for a in alerts(park)] == [False] and marks(park) == 0


def test_a_crash_between_finding_and_writing_loses_no_late_alert(park: Db, monkeypatch: pytest.MonkeyPatch) -> None:
    add_rule(park, "jump", "rate", {"quantity": "so2"}, {"rise_per_min": 10})
    arrive(park, "e1.stack.so2", HOUR, [20.0] * 10 + [50.0] * 10)

    def die(*_: object) -> list[Any]:
        raise psycopg.OperationalError("killed")

    with monkeypatch.context() as patched:
        patched.setattr(service, "write", die)
        with pytest.raises(psycopg.OperationalError):
            evaluate(park)
    assert alerts(park) == [] and marks(park) == 1
    assert len(evaluate(park, NOW + timedelta(minutes=6))) == 1
    assert len(evaluate(park, NOW + timedelta(minutes=12))) == 1 and marks(park) == 0
