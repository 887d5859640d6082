"""Outlets and treatment in the database: hours, limits in force, days, masses, events, and their healing."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import psycopg
import pytest

from accounting.passes import run_pass
from accounting.verify import verify
from park.quality import Quality

Conn = psycopg.Connection[Any]
Feed = Callable[..., None]
MIDNIGHT = datetime(2026, 5, 10, 16, tzinfo=UTC)
DAY = date(2026, 5, 11)
MINUTE = timedelta(minutes=1)


def span(first: datetime, hours: float, step: timedelta = MINUTE) -> list[datetime]:
    return [first + i * step for i in range(round(hours * 3600 / step.total_seconds()))]


def stack(feed: Feed, hours: float, first: datetime = MIDNIGHT, so2: float = 20.0, o2: float = 12.0, flow: float = 50_000.0,
          step: timedelta = MINUTE) -> None:
    at = span(first, hours, step)
    for point, value in (("e1.stack.so2", so2), ("e1.stack.o2", o2), ("e1.stack.flow", flow)):
        feed(point, at, np.full(len(at), value))


def hour(conn: Conn, at: datetime, columns: str, quantity: str = "so2") -> tuple[Any, ...]:
    row = conn.execute(f"SELECT {columns} FROM emission_1h WHERE quantity = %s AND ts = %s", (quantity, at)).fetchone()
    assert row is not None
    return row


def day(conn: Conn, columns: str, quantity: str = "so2", on: date = DAY) -> tuple[Any, ...]:
    row = conn.execute(f"SELECT {columns} FROM emission_1d WHERE quantity = %s AND day = %s", (quantity, on)).fetchone()
    assert row is not None
    return row


def test_an_hour_against_the_permit_that_was_in_force(park: Conn, feed: Feed) -> None:
    """20 mg/m3 at 12 % O2 is 28.9 at 8 %: within the permit's 35, beyond the 25 that hold from the 12th."""
    park.execute("""INSERT INTO limit_value (base_id, unit_id, quantity, statistic, high, unit, rank, valid_from, source)
        SELECT 1, unit_id, 'so2', 'hour', v.high, 'mg/m3', v.rank, v.since::date, 'test' FROM unit,
            (VALUES (10.0, 'standard', '2026-05-01'), (5.0, 'internal', '2026-05-01'), (25.0, 'permit', '2026-05-12'))
            v (high, rank, since)
        WHERE code = 'e1.stack'""")
    stack(feed, 48)
    run_pass(park, MIDNIGHT + timedelta(hours=48))
    assert hour(park, MIDNIGHT, "state, n_valid, measured, converted, limit_value, exceeded, mass_kg, substituted") == (
        "valid", 60, pytest.approx(20), pytest.approx(20 * 13 / 9), 35, False, pytest.approx(1.0), False)
    assert hour(park, MIDNIGHT + timedelta(hours=24), "limit_value, exceeded") == (25, True)
    assert day(park, "hours_valid, mean_converted, mass_kg, hours_exceeded, valid") == (24, pytest.approx(28.889, abs=1e-3),
                                                                                      pytest.approx(24.0), 0, True)
    assert day(park, "hours_exceeded", on=DAY + timedelta(days=1)) == (24,)
    [(value, coverage, inputs)] = park.execute("""SELECT value, coverage, inputs FROM indicator_value
        WHERE indicator = 'so2_t' AND period = '2026-05'""").fetchall()
    assert value is None and inputs["partial"] == pytest.approx(0.048)       # ten days of May before the first reading
    assert coverage == pytest.approx(2 / 12, abs=0.01)


def test_a_mean_that_stands_at_its_limit_does_not_exceed_it(park: Conn, feed: Feed) -> None:
    """By the last bit of their sums both are beyond it: an hour whose minutes have a mean of 35, a day of 50 mg/L."""
    stack(feed, 1, o2=13.9)
    feed("e1.stack.so2", span(MIDNIGHT, 1), 35 * (21 - 13.9) / 13 + np.resize([-1.3, 0, 1.3], 60))
    at = span(MIDNIGHT, 24)
    feed("e2.cod", at, np.full(len(at), 50.0))
    feed("e2.flow", at, 4.1 * (1 + np.arange(len(at)) // 60 % 13))
    run_pass(park, MIDNIGHT + timedelta(hours=24))
    assert hour(park, MIDNIGHT, "converted > 35, exceeded, limit_value") == (True, False, 35)
    assert day(park, "mean_converted > 50, exceeded, limit_value", "cod") == (True, False, 50)


def test_a_limit_that_is_entered_later_judges_the_past(park: Conn, feed: Feed) -> None:
    stack(feed, 24)
    now = MIDNIGHT + timedelta(hours=25)
    run_pass(park, now)
    assert day(park, "hours_exceeded") == (0,)
    park.execute("UPDATE limit_value SET superseded_at = now() WHERE quantity = 'so2'")
    park.execute("""INSERT INTO limit_value (base_id, unit_id, quantity, statistic, high, unit, rank, valid_from, source)
        SELECT 1, unit_id, 'so2', 'hour', 28, 'mg/m3', 'permit', '2026-05-01', 'new' FROM unit WHERE code = 'e1.stack'""")
    run_pass(park, now)
    assert day(park, "hours_exceeded") == (24,)
    assert verify(park, 1, now) == []


def test_a_day_needs_twenty_hours_and_lost_hours_weigh_upward(park: Conn, feed: Feed) -> None:
    stack(feed, 24 * 10, so2=20)
    stack(feed, 1, first=MIDNIGHT + timedelta(days=9), so2=40)                # the largest before the hole
    lost = MIDNIGHT + timedelta(days=9, hours=10)
    park.execute("UPDATE reading r SET quality = %s FROM point p WHERE p.point_id = r.point_id AND p.code = 'e1.stack.so2' "
                 "AND ts >= %s AND ts < %s", (Quality.FAULT, lost, lost + timedelta(hours=5)))
    now = MIDNIGHT + timedelta(days=10)
    run_pass(park, now)
    columns = "hours_valid, hours_missing, hours_substituted, valid, mass_kg"
    assert day(park, columns, on=DAY + timedelta(days=9)) == (19, 5, 5, False, pytest.approx(18 * 1.0 + 2.0 + 5 * 2.0))
    assert hour(park, lost, "state, measured, exceeded, substituted, substitution") == (
        "insufficient", None, None, True, "HJ 75-2017: max of 180 valid hours")
    assert verify(park, 1, now) == []
    # the readings were only late: the hours heal, and with them the substitution
    feed("e1.stack.so2", span(lost, 5), np.full(300, 20.0))
    run_pass(park, now)
    assert day(park, columns, on=DAY + timedelta(days=9)) == (24, 0, 0, True, pytest.approx(23 * 1.0 + 2.0))
    assert verify(park, 1, now) == []


def test_hours_without_any_reading_are_missing_and_without_production_stopped(park: Conn, feed: Feed) -> None:
    stack(feed, 24)
    stack(feed, 6, first=MIDNIGHT + timedelta(hours=36))
    at = span(MIDNIGHT, 24 * 4)
    power = np.where((np.array([t.timestamp() for t in at]) - MIDNIGHT.timestamp()) // 3600 % 48 < 32, 500.0, 1.0)
    feed("e1.furnace.kw", at, power)
    park.execute("UPDATE unit SET attributes = attributes || '{\"on_above\": 50}' WHERE code = 'e1.furnace'")
    now = MIDNIGHT + timedelta(hours=42, minutes=30)
    run_pass(park, now)
    states = [r[0] for r in park.execute("SELECT state FROM emission_1h WHERE quantity = 'so2' ORDER BY ts")]
    assert states == ["valid"] * 24 + ["missing"] * 8 + ["stopped"] * 4 + ["valid"] * 6
    assert day(park, "hours_missing, hours_stopped", on=DAY + timedelta(days=1)) == (8, 4)
    assert hour(park, MIDNIGHT + timedelta(hours=33), "mass_kg, substituted") == (0, False)
    # time goes on without a reading: the hours that ended are there, as missing
    run_pass(park, now + timedelta(hours=3))
    newest = park.execute("""SELECT max(ts), count(*) FILTER (WHERE state = 'stopped') FROM emission_1h
        WHERE quantity = 'so2'""").fetchone()
    assert newest == (MIDNIGHT + timedelta(hours=44), 4 + 3)
    assert verify(park, 1, now + timedelta(hours=3)) == []


def test_history_in_quarters_gives_valid_hours(park: Conn, feed: Feed) -> None:
    stack(feed, 48, step=timedelta(minutes=15))
    run_pass(park, MIDNIGHT + timedelta(hours=48))
    assert park.execute("SELECT state, count(*) FROM emission_1h GROUP BY 1").fetchall() == [("valid", 48)]


def test_a_water_day_is_weighted_by_flow_and_judged_by_its_daily_limit(park: Conn, feed: Feed) -> None:
    at = span(MIDNIGHT, 24)
    busy = np.arange(len(at)) < 60 * 8
    feed("e2.cod", at, np.where(busy, 60.0, 30.0))
    feed("e2.ph", at, np.full(len(at), 9.5))
    feed("e2.flow", at, np.where(busy, 100.0, np.where(np.arange(len(at)) < 60 * 20, 50.0, 0.0)))
    run_pass(park, MIDNIGHT + timedelta(hours=25))
    mean = (60 * 100 * 8 + 30 * 50 * 12) / (100 * 8 + 50 * 12)
    assert day(park, "hours_valid, hours_stopped, mean_measured, mass_kg, valid, limit_value, exceeded", "cod") == (
        20, 4, pytest.approx(mean), pytest.approx(mean * 1400 / 1000), True, 50, False)
    assert hour(park, MIDNIGHT, "exceeded, mass_kg, limit_value", "ph") == (True, None, 9)
    assert hour(park, MIDNIGHT, "exceeded, limit_id", "cod") == (None, None)         # its limit is on the day


def events(conn: Conn) -> list[tuple[Any, ...]]:
    return conn.execute("""SELECT kind, started_at, ended_at, detail->>'minutes' FROM treatment_event
        ORDER BY started_at""").fetchall()


def powers(feed: Feed, first: datetime, hours: float, furnace: float, filter_kw: float | None) -> None:
    at = span(first, hours)
    feed("e1.furnace.kw", at, np.full(len(at), furnace))
    if filter_kw is not None:
        feed("e1.filter.kw", at, np.full(len(at), filter_kw))


def test_production_on_while_treatment_off_is_an_event_and_offline_is_not(park: Conn, feed: Feed) -> None:
    for d in range(4):
        powers(feed, MIDNIGHT + timedelta(days=d), 24, 400, 90)
    park.execute("""INSERT INTO reading_1d (bucket, max, point_id, n, n_good, n_usable, base_id)
        SELECT %s::timestamptz + d * interval '1 day', CASE code WHEN 'e1.furnace.kw' THEN 400 ELSE 90 END,
            point_id, 1440, 1440, 1440, 1 FROM point, generate_series(0, 3) d
        WHERE code IN ('e1.furnace.kw', 'e1.filter.kw')""", (MIDNIGHT,))
    off = MIDNIGHT + timedelta(days=2, hours=5)
    powers(feed, off, 0.5, 400, 0.4)                                # thirty minutes: an event
    powers(feed, off + timedelta(hours=4), 0.15, 400, 0.4)          # nine minutes: not
    powers(feed, off + timedelta(hours=6), 1, 2.0, 0.4)             # both off: not
    quiet = off + timedelta(hours=8)
    park.execute("""DELETE FROM reading WHERE ts >= %s AND ts < %s
        AND point_id = (SELECT point_id FROM point WHERE code = 'e1.filter.kw')""",
                 (quiet, quiet + timedelta(hours=1)))               # meter offline: unknown
    now = MIDNIGHT + timedelta(days=4)
    run_pass(park, now)
    assert events(park) == [("production_on_treatment_off", off, off + timedelta(minutes=30), "30")]
    bands = dict(park.execute("SELECT p.code, on_above FROM power_band JOIN point p USING (base_id, point_id)").fetchall())
    assert bands == {"e1.furnace.kw": pytest.approx(80), "e1.filter.kw": pytest.approx(18)}
    # late readings say that the treatment ran for the first ten minutes, and was off for ten more at the end
    powers(feed, off, 10 / 60, 400, 90)
    powers(feed, off + timedelta(minutes=30), 10 / 60, 400, 0.4)
    run_pass(park, now)
    assert [e[1:] for e in events(park)] == [(off + timedelta(minutes=10), off + timedelta(minutes=40), "30")]
    assert verify(park, 1, now) == []


def test_an_event_that_lasts_is_open_and_ends_later(park: Conn, feed: Feed) -> None:
    park.execute("UPDATE unit SET attributes = attributes || '{\"on_above\": 20}' WHERE code IN ('e1.furnace', 'e1.filter')")
    powers(feed, MIDNIGHT, 2, 400, 0)
    run_pass(park, MIDNIGHT + timedelta(hours=2))
    assert events(park)[0][1:3] == (MIDNIGHT, None)
    powers(feed, MIDNIGHT + timedelta(hours=2), 1, 400, 0)
    powers(feed, MIDNIGHT + timedelta(hours=3), 1, 400, 90)
    run_pass(park, MIDNIGHT + timedelta(hours=4))
    assert [e[1:] for e in events(park)] == [(MIDNIGHT, MIDNIGHT + timedelta(hours=3), "180")]


def test_every_factor_of_the_tables_has_a_source_and_resolves(park: Conn) -> None:
    rows = park.execute("SELECT source, unit, verified FROM factor WHERE base_id IS NULL").fetchall()
    assert rows and all(source for source, _, _ in rows)
    got = {(c, d): v for c, d, v in park.execute(
        "SELECT carrier, valid_from, co2_kg FROM carrier_factor WHERE carrier = 'electricity' ORDER BY valid_from").fetchall()}
    assert got["electricity", date(2021, 1, 1)] == 0.5568              # no region in 2021: the national row
    assert got["electricity", date(2022, 1, 1)] == 0.5617 and got["electricity", date(2023, 1, 1)] == 0.55
    park.execute("UPDATE base SET region = '华东/浙江'")
    near = park.execute("""SELECT value FROM factor_effective WHERE carrier = 'electricity' AND kind = 'co2'
        ORDER BY valid_from""").fetchall()
    assert [v for (v,) in near] == [0.5568, 0.5617, 0.4974]            # the province where it is known, else the grid
    without = park.execute("""SELECT carrier, kind FROM factor f WHERE f.base_id IS NULL AND NOT EXISTS (
        SELECT FROM carrier_factor c WHERE c.carrier = f.carrier AND CASE f.kind WHEN 'co2' THEN c.co2_kg WHEN 'co2_residual'
        THEN c.co2_residual_kg WHEN 'tce_calorific' THEN c.tce_calorific ELSE c.tce_equivalent END IS NOT NULL)""").fetchall()
    assert without == []                                               # every unit of a factor can be turned into the carrier's


def kinds(conn: Conn) -> list[tuple[Any, ...]]:
    return conn.execute("""SELECT kind, started_at, ended_at, detail -> 'quantities' FROM treatment_event
        ORDER BY kind, started_at""").fetchall()


def test_a_wrong_mark_and_frozen_readings_are_events_and_heal(park: Conn, feed: Feed) -> None:
    at = span(MIDNIGHT, 24)
    rng = np.random.default_rng(5)
    so2 = rng.normal(20, 1, len(at))
    so2[600:720] = 21.0
    quality = np.zeros(len(at), int)
    quality[900:960] = Quality.STOPPED
    feed("e1.stack.so2", at, so2, quality.tolist())
    feed("e1.stack.dust", at, rng.normal(4, 0.1, len(at)))
    feed("e1.furnace.kw", at, np.full(len(at), 500.0))
    feed("e1.filter.kw", at, np.full(len(at), 300.0))
    park.execute("UPDATE unit SET attributes = attributes || '{\"on_above\": 50}' WHERE code IN ('e1.furnace', 'e1.filter')")
    now = MIDNIGHT + timedelta(hours=25)
    run_pass(park, now)
    assert kinds(park) == [("production_while_stopped", at[900], at[960], None),
                           ("readings_frozen", at[600], at[720], ["so2"])]
    assert verify(park, 1, now) == []
    feed("e1.stack.so2", at[600:960], rng.normal(20, 1, 360))
    run_pass(park, now)
    assert kinds(park) == []
    assert verify(park, 1, now) == []


def test_treatment_that_idles_below_its_learned_band_is_an_event(park: Conn, feed: Feed) -> None:
    at = span(MIDNIGHT, 24 * 5, timedelta(minutes=5))
    filter_kw = np.full(len(at), 300.0)
    filter_kw[1200:1224] = 130.0
    feed("e1.furnace.kw", at, np.full(len(at), 500.0))
    feed("e1.filter.kw", at, filter_kw)
    for name, step in (("15m", "15 minutes"), ("1d", "1 day")):
        park.execute(f"""INSERT INTO reading_{name} (bucket, point_id, base_id, min, max, sum, n, n_good, n_usable)
            SELECT date_bin(%s, ts, %s), point_id, base_id, min(value), max(value), sum(value), count(*), count(*), count(*)
            FROM reading GROUP BY 1, 2, 3""", (step, MIDNIGHT))
    now = MIDNIGHT + timedelta(days=5)
    run_pass(park, now)
    assert kinds(park) == [("treatment_idling", at[1200], at[1224], None)]
    assert verify(park, 1, now) == []


def test_one_slow_reading_between_two_switches_is_no_event_and_two_are(park: Conn, feed: Feed) -> None:
    at = span(MIDNIGHT, 24, timedelta(minutes=15))
    furnace, filter_kw = np.full(len(at), 500.0), np.full(len(at), 300.0)
    furnace[40:60] = filter_kw[39:60] = 1.0             # the filter's reading fell one step before the furnace's
    filter_kw[80:82] = 1.0
    feed("e1.furnace.kw", at, furnace)
    feed("e1.filter.kw", at, filter_kw)
    park.execute("UPDATE unit SET attributes = attributes || '{\"on_above\": 50}' WHERE code IN ('e1.furnace', 'e1.filter')")
    now = MIDNIGHT + timedelta(days=1)
    run_pass(park, now)
    assert kinds(park) == [("production_on_treatment_off", at[80], at[82], None)]
    assert verify(park, 1, now) == []
