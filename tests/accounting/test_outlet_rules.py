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
