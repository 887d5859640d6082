"""Readings that come late: an exceedance that nobody saw is an alert of its own, and what is closed stays closed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

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


def arrive(db: Db, first: datetime, values: list[float], quality: int = 0) -> None:
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
