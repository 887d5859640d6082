"""Rules of outlets that hang on their kind: incineration judged by the day, months, instruments in the duct's own state."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest

from accounting.passes import run_pass
from tests.accounting.conftest import Conn, Feed
from tests.accounting.test_outlets import MIDNIGHT, day, hour, span, stack


def test_an_incinerator_is_judged_by_its_day_and_not_by_the_hour(park: Conn, feed: Feed) -> None:
    park.execute("""UPDATE unit SET attributes = attributes || '{"judged_by": "day", "o2_reference": 11}'
        WHERE code = 'e1.stack'""")
    park.execute("""INSERT INTO point (base_id, code, name_zh, name_en, quantity, unit, kind, unit_id)
        SELECT 1, 'e1.stack.hcl', 'x', 'x', 'hcl', 'mg/m3', 'gauge', unit_id FROM unit WHERE code = 'e1.stack'""")
    park.execute("""INSERT INTO limit_value (base_id, unit_id, quantity, statistic, high, unit, valid_from, source)
        SELECT 1, unit_id, q, s, h, 'mg/m3', '2020-01-01', 'GB 18485' FROM unit,
            (VALUES ('so2', 'day', 80.0), ('hcl', 'day', 50.0), ('hcl', 'hour', 60.0)) v (q, s, h) WHERE code = 'e1.stack'""")
    stack(feed, 24, o2=11.0)
    at = span(MIDNIGHT, 24)
    feed("e1.stack.hcl", at, np.where(np.arange(1440) < 120, 200.0, 40.0))        # two bad hours, a day within its limit
    run_pass(park, MIDNIGHT + timedelta(hours=24))
    assert hour(park, MIDNIGHT, "state, converted, exceeded, limit_value", "hcl") == ("valid", pytest.approx(200), None, None)
    assert hour(park, MIDNIGHT, "exceeded", "so2") == (None,)                      # although the permit has an hourly limit
    assert day(park, "mean_converted, limit_value, exceeded, hours_exceeded", "hcl") == (
        pytest.approx((2 * 200 + 22 * 40) / 24), 50, True, 0)
    feed("e1.stack.hcl", at[:120], np.full(120, 45.0))
    run_pass(park, MIDNIGHT + timedelta(hours=24))
    assert day(park, "exceeded", "hcl") == (False,)


def test_readings_of_a_moist_duct_become_dry_and_standard_before_anything_else(park: Conn, feed: Feed) -> None:
    park.execute("""UPDATE point SET attributes = '{"basis": "actual_wet"}' WHERE code = 'e1.stack.flow'""")
    park.execute("""UPDATE point SET attributes = '{"basis": "wet"}' WHERE code = 'e1.stack.so2'""")
    for code, quantity, unit in (("t", "flue_gas_temperature", "degC"), ("p", "flue_gas_pressure", "Pa"),
                                 ("x", "flue_gas_humidity", "%")):
        park.execute("""INSERT INTO point (base_id, code, name_zh, name_en, quantity, unit, kind, unit_id)
            SELECT 1, %s, 'x', 'x', %s, %s, 'gauge', unit_id FROM unit WHERE code = 'e1.stack'""",
                     (f"e1.stack.{code}", quantity, unit))
    at = span(MIDNIGHT, 2)
    stack(feed, 2, so2=18.0, flow=100_000.0)
    feed("e1.stack.t", at, np.full(120, 136.575))                                  # 1.5 times the standard temperature
    feed("e1.stack.p", at, np.zeros(120))
    feed("e1.stack.x", at[:60], np.full(60, 10.0))             # nobody knows the moisture of the second hour
    run_pass(park, MIDNIGHT + timedelta(hours=2))
    assert hour(park, MIDNIGHT, "state, measured, flow, mass_kg") == (
        "valid", pytest.approx(20.0), pytest.approx(60_000), pytest.approx(1.2))
    state, measured, flow = hour(park, MIDNIGHT + timedelta(hours=1), "state, measured, flow")
    assert (state, measured, flow) == ("insufficient", None, None)


@pytest.mark.parametrize(("month", "days", "valid"), [(date(2026, 3, 1), 25, True), (date(2026, 3, 1), 24, False),
                                                      (date(2026, 2, 1), 23, True), (date(2026, 2, 1), 22, False)])
def test_a_month_needs_25_valid_days_and_february_23(park: Conn, month: date, days: int, valid: bool) -> None:
    n = 28 if month.month == 2 else 31
    first = datetime(month.year, month.month, 1, tzinfo=UTC) - timedelta(hours=8)
    park.execute("""INSERT INTO emission_1h (base_id, unit_id, quantity, ts, n_valid, state, measured, converted, flow, mass_kg)
        SELECT 1, unit_id, 'so2', %s::timestamptz + i * interval '1 hour', 60,
               CASE WHEN i / 24 < %s THEN 'valid' ELSE 'missing' END, 10,
               CASE WHEN i / 24 < %s THEN 20 + i / 24 %% 2 END, 1000, 0.01
        FROM unit, generate_series(0, %s * 24 - 1) i WHERE code = 'e1.stack'""", (first, days, days, n))
    row = park.execute("""SELECT days, days_due, days_valid, valid, round(mean_converted::numeric, 3)::float8, mass_kg
        FROM emission_1mo WHERE month = %s""", (month,)).fetchone()
    mean = round(sum(20 + d % 2 for d in range(days)) / days, 3)
    assert row == (n, n, days, valid, mean, pytest.approx(n * 24 * 0.01))


def test_days_without_discharge_do_not_spoil_a_month(park: Conn) -> None:
    first = datetime(2026, 2, 28, 16, tzinfo=UTC)
    park.execute("""INSERT INTO emission_1h (base_id, unit_id, quantity, ts, n_valid, state, measured, converted, flow, mass_kg)
        SELECT 1, unit_id, 'so2', %s::timestamptz + i * interval '1 hour', 60,
               CASE WHEN i / 24 < 10 THEN 'stopped' ELSE 'valid' END, 10, 20, 1000, 0.01
        FROM unit, generate_series(0, 31 * 24 - 1) i WHERE code = 'e1.stack'""", (first,))
    assert park.execute("SELECT days, days_due, days_valid, valid FROM emission_1mo").fetchone() == (31, 21, 21, True)


def cold(park: Conn) -> list[tuple[str, str | None, dict[str, object]]]:
    """Events of a furnace below its temperature: base-local beginning and end, detail."""
    return park.execute("""SELECT to_char(started_at AT TIME ZONE 'Asia/Shanghai', 'HH24:MI'),
        to_char(ended_at AT TIME ZONE 'Asia/Shanghai', 'HH24:MI'), detail FROM treatment_event
        WHERE kind = 'furnace_below_limit' ORDER BY started_at""").fetchall()


def test_five_minute_means_of_a_furnace_below_850_are_events_and_six_a_day_a_violation(park: Conn, feed: Feed) -> None:
    """Six means below 850 degC by the dated table, in two runs; a start-up mark, a stopped source, a furnace that stands
    still and a mean of three minutes are out of judgement; a permit's limit stands over the table's."""
    park.execute("""INSERT INTO point (base_id, code, name_zh, name_en, quantity, unit, kind, unit_id)
        SELECT 1, 'e1.stack.t', 'x', 'x', 'furnace_temperature', 'degC', 'gauge', unit_id FROM unit WHERE code = 'e1.stack'""")
    park.execute("UPDATE unit SET attributes = attributes || '{\"on_above\": 10}' WHERE code = 'e1.furnace'")
    at = span(MIDNIGHT, 24)
    value = np.full(1440, 900.0)
    value[100:120] = 840.0                             # four means
    value[121] = 600.0                                 # one minute: the mean of its five is 840
    value[300:310] = [851, 848, 849, 850, 850, 849, 848, 851, 852, 850]       # 849.6 and 850.0: only the first is below
    value[600:660], value[700:720], value[900:960] = 500.0, 500.0, 300.0
    value[1000:1005] = [700, 700, 700, np.nan, np.nan]
    quality = np.zeros(1440, int)
    quality[1003:1005] = 14
    quality[700:720] = 11
    feed("e1.stack.t", at, value, quality)
    power = np.full(1440, 50.0)
    power[900:960] = 0.0
    feed("e1.furnace.kw", at, power)
    park.execute("""INSERT INTO exempt_period (base_id, unit_id, started_at, ended_at, kind, reason, recorded_by)
        SELECT 1, unit_id, %s, %s, 'start_up', 'kindled', 'test' FROM unit WHERE code = 'e1.stack'""",
                 (MIDNIGHT + timedelta(minutes=600), MIDNIGHT + timedelta(minutes=660)))
    run_pass(park, MIDNIGHT + timedelta(hours=24))
    first, second = cold(park)
    assert first[:2] == ("01:40", "02:05") and second[:2] == ("05:00", "05:05")
    assert {k: first[2][k] for k in ("means", "lowest", "limit", "of_day", "violated", "limit_id", "verified")} == {
        "means": 5, "lowest": 840, "limit": 850, "of_day": 5, "violated": False, "limit_id": None, "verified": False}
    assert (second[2]["lowest"], second[2]["of_day"], second[2]["violated"]) == (849.6, 6, True)
    assert "10号" in str(second[2]["source"])

    row = park.execute("""INSERT INTO limit_value (base_id, unit_id, quantity, statistic, low, unit, rank, valid_from, source)
        SELECT 1, unit_id, 'furnace_temperature', '5min', 1100, 'degC', 'permit', '2026-01-01', 'permit' FROM unit
        WHERE code = 'e1.stack' RETURNING limit_id""").fetchone()
    assert row is not None
    run_pass(park, MIDNIGHT + timedelta(hours=24))
    found = cold(park)
    assert {e[2]["limit_id"] for e in found} == {row[0]} and found[-1][2]["violated"] is True
    park.execute("UPDATE limit_value SET superseded_at = now() WHERE limit_id = %s", row)
    feed("e1.stack.t", at[100:125], np.full(25, 900.0))                            # corrected later
    run_pass(park, MIDNIGHT + timedelta(hours=24))
    assert [(e[0], e[2]["of_day"]) for e in cold(park)] == [("05:00", 1)]
