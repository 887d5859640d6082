"""Availability from days that are counted once says what the hours say: over months and gaps, in zones, for removed points."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from accounting.passes import run_pass
from park.engine import CITUS, engine_of

Db = psycopg.Connection[Any]
HOURS = """SELECT point_id, date_trunc('month', day::timestamp)::date, sum(n_expected), sum(n), sum(n_good)
    FROM availability_1d WHERE base_id = 1 AND day BETWEEN %s AND %s GROUP BY 1, 2 ORDER BY 1, 2"""
DAYS = "SELECT point_id, month, n_expected, n, n_good FROM availability_between(1::smallint, %s, %s) ORDER BY 1, 2"
COUNT = "SELECT count_hours(1::smallint, array_agg(point_id), '1970-01-01', current_date, false) FROM point"


def hours_of_points(db: Db, zone: str) -> None:
    """100 days of hours up to now: gaps of days and hours, bad hours, a point that died, one removed, one without any."""
    db.execute("UPDATE base SET timezone = %s", (zone,))
    db.execute("""INSERT INTO reading_1h (bucket, n, n_good, n_usable, point_id, base_id)
        SELECT h, 4, CASE WHEN (extract(hour FROM h)::integer + point_id) % 5 = 0 THEN 0 ELSE 4 END, 4, point_id, base_id
        FROM point, generate_series(date_trunc('hour', now() - interval '100 days'), now(), interval '1 hour') h
        WHERE point_id <= 4 AND (extract(hour FROM h)::integer * 7 + extract(day FROM h)::integer) % 11 <> point_id
          AND (point_id <> 2 OR h < now() - interval '20 days')
          AND (point_id <> 3 OR extract(day FROM h) NOT BETWEEN 5 AND 9)""")
    db.execute("""INSERT INTO reading_1d (bucket, n, n_good, n_usable, point_id, base_id)
        SELECT date_trunc('day', h.bucket, b.timezone), sum(h.n), sum(h.n_good), sum(h.n_usable), h.point_id, h.base_id
        FROM reading_1h h JOIN base b USING (base_id) GROUP BY 1, h.point_id, h.base_id""")
    db.execute("UPDATE point SET removed_at = now() - interval '31 days 5 hours 20 minutes' WHERE point_id = 4")


def counted_ahead(db: Db) -> None:
    """Skip the rest on an engine that counts no days ahead."""
    if engine_of(db) == CITUS:
        pytest.skip("on Citus the hours themselves are summed, no days are counted ahead")


@pytest.mark.parametrize("zone", ["Asia/Shanghai", "America/New_York", "Asia/Kolkata"])
def test_counted_days_say_what_the_hours_say(mini: Db, zone: str) -> None:
    hours_of_points(mini, zone)
    now = datetime.now(UTC)
    spans = [((now - timedelta(days=a)).date(), (now - timedelta(days=b)).date()) for a, b in ((120, 2), (64, 33), (9, 0))]
    wanted = [mini.execute(HOURS, s).fetchall() for s in spans]
    assert len(wanted[0]) > 12
    assert [mini.execute(DAYS, s).fetchall() for s in spans] == wanted  # nothing counted yet
    counted_ahead(mini)
    mini.execute(COUNT)
    assert [mini.execute(DAYS, s).fetchall() for s in spans] == wanted
    mini.execute("DELETE FROM availability_day WHERE day = current_date - 40 AND point_id = 1")
    assert [mini.execute(DAYS, s).fetchall() for s in spans] == wanted  # a day lost: its month is counted from hours
    mini.execute(COUNT)
    mini.execute("DELETE FROM reading_1h WHERE point_id = 1")
    whole = mini.execute(DAYS, (spans[1][0], spans[1][1])).fetchall()
    assert [r for r in whole if r[0] == 1] == [r for r in wanted[1] if r[0] == 1]  # read from days alone


def test_a_pass_counts_the_days_that_ended_and_again_those_that_late_readings_touch(mini: Db) -> None:
    counted_ahead(mini)
    hours_of_points(mini, "Asia/Shanghai")
    now = datetime.now(UTC)
    run_pass(mini, now)
    span = ((now - timedelta(days=120)).date(), (now - timedelta(days=2)).date())
    silent = mini.execute("SELECT count(*) FROM availability_day WHERE point_id = 2 AND n = 0").fetchone()
    assert silent is not None
    assert silent[0] >= 18  # the point that died is counted as silent, day by day
    mini.execute("""INSERT INTO reading_1h (bucket, n, n_good, n_usable, point_id, base_id)
        SELECT date_trunc('hour', now()) - interval '12 days', 1, 1, 1, 2, 1""")
    mini.execute("""INSERT INTO dirty_account (base_id, point_id, bucket)
        SELECT 1, 2, date_trunc('hour', now()) - interval '12 days'""")
    run_pass(mini, now)
    assert mini.execute(DAYS, span).fetchall() == mini.execute(HOURS, span).fetchall()
    back = mini.execute("SELECT count(*) FROM availability_day WHERE point_id = 2 AND n = 1").fetchone()
    assert back == (1,)
