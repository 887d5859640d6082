"""Months of counters are the sums of their days at every commit, and sums over periods made of them equal those of the days."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import psycopg
import pytest

from accounting.passes import run_pass
from accounting.verify import verify
from park.database import connect
from tests.accounting.conftest import store

Conn = psycopg.Connection[Any]
Feed = Callable[..., None]
FIRST = datetime(2026, 2, 26, 16, tzinfo=UTC)              # 2026-02-27 00:00 in Shanghai
NOW = datetime(2026, 5, 2, 3, tzinfo=UTC)
COUNTERS = ("park.kwh", "e1.main.kwh", "e1.furnace.kwh", "e1.gas", "e1.water", "e2.main.kwh", "e2.pv.kwh")
PERIODS = [(date(2026, 1, 1), date(2026, 12, 31)), (date(2026, 3, 1), date(2026, 3, 31)), (date(2026, 3, 5), date(2026, 4, 30)),
           (date(2026, 2, 27), date(2026, 5, 1)), (date(2026, 4, 3), date(2026, 4, 9)), (date(2026, 3, 31), date(2026, 5, 1))]

# what a sum over days is, row by row: the plain way that needs no months
BY_DAYS = """
SELECT p.code, e.carrier, e.direction, e.enterprise_id, e.unit_id, e.unit, sum(e.amount), sum(e.estimated),
       sum(e.n_expected)::bigint, sum(e.n_known)::bigint, sum(e.n_good)::bigint,
       sum(e.tce_calorific), sum(e.tce_equivalent), sum(e.co2_kg), sum(c.cost),
       bool_and(e.amount IS NULL OR e.tce_calorific IS NOT NULL), bool_and(e.amount IS NULL OR e.co2_kg IS NOT NULL),
       bool_and(e.amount IS NULL OR c.cost IS NOT NULL), count(DISTINCT e.day)::bigint,
       (SELECT array_agg(DISTINCT id ORDER BY id) FROM energy_1d x CROSS JOIN unnest(x.factor_ids) id
        WHERE x.point_id = min(e.point_id) AND x.day BETWEEN %(first)s AND %(last)s)
FROM energy_1d e JOIN point_known p USING (base_id, point_id)
LEFT JOIN (SELECT point_id, day, sum(cost) AS cost FROM cost_1d_known GROUP BY 1, 2) c USING (point_id, day)
WHERE e.day BETWEEN %(first)s AND %(last)s GROUP BY 1, 2, 3, 4, 5, 6 ORDER BY 1"""
BY_MONTHS = """
SELECT p.code, e.carrier, e.direction, e.enterprise_id, e.unit_id, e.unit, sum(e.amount), sum(e.estimated),
       sum(e.n_expected)::bigint, sum(e.n_known)::bigint, sum(e.n_good)::bigint,
       sum(e.tce_calorific), sum(e.tce_equivalent), sum(e.co2_kg), sum(e.cost),
       bool_and(e.has_tce_calorific), bool_and(e.has_co2_kg), bool_and(e.has_cost), sum(bit_count(e.days::bit(31)))::bigint,
       (SELECT array_agg(DISTINCT id ORDER BY id) FROM energy_between(1::smallint, %(first)s, %(last)s) x
        CROSS JOIN unnest(x.factor_ids) id WHERE x.point_id = min(e.point_id))
FROM energy_between(1::smallint, %(first)s, %(last)s) e JOIN point_known p ON p.base_id = 1 AND p.point_id = e.point_id
GROUP BY 1, 2, 3, 4, 5, 6 ORDER BY 1"""


@pytest.fixture(scope="module")
def template(databases: Any, park_template: str) -> Iterator[str]:
    """From the end of February to the morning of 2 May, accounted; gas is silent for the days around Easter."""
    name: str = databases.copy(park_template, "spring")
    n = int((NOW - FIRST) / timedelta(minutes=15))
    at = [FIRST + i * timedelta(minutes=15) for i in range(n)]
    rng = np.random.default_rng(9)
    with connect(databases.url(name), autocommit=True) as conn:
        for code in COUNTERS:
            register = 500 + np.cumsum(rng.uniform(0.5, 3, n)).round(2)
            some = [i for i in range(n) if code != "e1.gas" or not 3400 < i < 3900]
            store(conn, code, [at[i] for i in some], [float(register[i]) for i in some])
        run_pass(conn, NOW)
    yield name
    databases.drop(name)


@pytest.fixture
def spring(park: Conn) -> Conn:
    """A connection to a copy."""
    return park


def sums(conn: Conn, query: str, period: tuple[date, date], as_of: datetime | None = None) -> list[tuple[Any, ...]]:
    with conn.transaction():
        conn.execute("SELECT set_config('park.as_of', %s, true)", (as_of.isoformat() if as_of else "",))
        return conn.execute(query, {"first": period[0], "last": period[1]}).fetchall()


def assert_same(conn: Conn, as_of: datetime | None = None) -> None:
    for period in PERIODS:
        days, months = sums(conn, BY_DAYS, period, as_of), sums(conn, BY_MONTHS, period, as_of)
        assert len(days) == len(months) == len(COUNTERS), period
        for a, b in zip(days, months, strict=True):
            for x, y in zip(a, b, strict=True):
                assert x == y or (isinstance(x, float) and y == pytest.approx(x, rel=1e-12)), (period, a, b)


def clock(conn: Conn) -> datetime:
    row = conn.execute("SELECT clock_timestamp()").fetchone()
    assert row is not None
    return row[0]  # type: ignore[no-any-return]


def months_read(conn: Conn, period: tuple[date, date]) -> int:
    """Counters and months that a sum over the period takes from months instead of days."""
    row = conn.execute("SELECT count(*) FROM energy_1mo WHERE base_id = 1 AND month BETWEEN %s AND %s", period).fetchone()
    assert row is not None
    return int(row[0])


def test_sums_over_periods_equal_those_of_their_days(spring: Conn) -> None:
    assert months_read(spring, PERIODS[1]) == len(COUNTERS)
    assert_same(spring)


BALANCE = "SELECT * FROM balance_between(1::smallint, %(first)s, %(last)s)"
LATER = datetime(2100, 1, 1, tzinfo=UTC)


def assert_same_balance(conn: Conn) -> None:
    """Of an instant looked back to the days are asked; this one is after everything."""
    for period in PERIODS:
        days, months = sums(conn, BALANCE, period, LATER), sums(conn, BALANCE, period)
        assert len(days) == len(months) > 0, period
        for a, b in zip(days, months, strict=True):
            for x, y in zip(a, b, strict=True):
                assert x == y or (isinstance(x, float) and y == pytest.approx(x, rel=1e-9, abs=1e-9)), (period, a, b)


def test_a_balance_takes_whole_months_and_says_what_its_days_say(spring: Conn) -> None:
    march = sums(spring, BALANCE, PERIODS[1], LATER)
    assert all(row[3] == row[4] == 31 for row in march)                     # every day can be compared
    with spring.transaction(force_rollback=True):
        spring.execute("DELETE FROM interval_1d")
        assert [r[:5] for r in sums(spring, BALANCE, PERIODS[1])] == [r[:5] for r in march]     # no day was asked
    for change in ("SELECT 1",
                   """UPDATE interval_1d SET amount = NULL, n_known = 0 WHERE ts = '2026-03-09T16:00Z'
                        AND point_id = (SELECT point_id FROM point WHERE code = 'e2.main.kwh')""",
                   "UPDATE flow SET valid_to = '2026-04-11' FROM point WHERE point_id = child_id AND code = 'e2.main.kwh'",
                   "UPDATE point SET direction = 'export' WHERE code = 'e1.furnace.kwh'",
                   "UPDATE flow SET valid_from = '2026-03-20' FROM point WHERE point_id = child_id AND code ~ 'furnace.kwh'"):
        spring.execute(change)
        spring.execute("SELECT roll_months(1::smallint, array_agg(point_id), array_agg('2026-03-01'::date)) FROM point")
        assert_same_balance(spring)
    assert {r[4] for r in sums(spring, BALANCE, PERIODS[1])} != {31}


def test_late_readings_change_the_month_with_the_day(spring: Conn, feed: Feed) -> None:
    before, then = sums(spring, BY_MONTHS, PERIODS[1]), clock(spring)
    at = FIRST + timedelta(days=20)
    feed("e1.gas", [at + i * timedelta(minutes=15) for i in range(96 * 30)], 500 + np.arange(96 * 30) * 0.9)
    run_pass(spring, NOW)
    assert sums(spring, BY_MONTHS, PERIODS[1]) != before
    assert_same(spring)
    assert_same(spring, then)
    assert [r[6] for r in sums(spring, BY_MONTHS, PERIODS[1], then)] == pytest.approx([r[6] for r in before])
    assert verify(spring, 1, NOW) == []


def test_a_factor_that_changes_within_a_month_splits_that_month_only(spring: Conn) -> None:
    then, before = clock(spring), sums(spring, BY_MONTHS, PERIODS[0])
    spring.execute("""INSERT INTO factor (base_id, carrier, kind, region, value, unit, edition, valid_from, source)
        VALUES (1, 'electricity', 'co2', '', 0.9, 'kgCO2/kWh', 'new', '2026-03-12', 'made for the test')""")
    assert_same(spring)                                     # before any pass: a factor is not stored with a month
    run_pass(spring, NOW)
    assert_same(spring)
    assert months_read(spring, PERIODS[1]) == 2             # gas and water
    assert months_read(spring, (date(2026, 4, 1), date(2026, 4, 30))) == len(COUNTERS)
    assert [r[13] for r in sums(spring, BY_MONTHS, PERIODS[0])] != [r[13] for r in before]
    assert_same(spring, then)
    assert [r[13] for r in sums(spring, BY_MONTHS, PERIODS[0], then)] == pytest.approx([r[13] for r in before])


def test_changes_of_the_catalogue_reach_the_months(spring: Conn) -> None:
    for change in (
            "UPDATE tariff SET valid_to = '2026-04-10' WHERE code = 'grid'",                         # days without a price
            "UPDATE point SET ratio = 40 WHERE code = 'e1.main.kwh'",
            "UPDATE point SET unit = 'MWh' WHERE code = 'e1.furnace.kwh'",
            "UPDATE point SET direction = 'export' WHERE code = 'e2.pv.kwh'",
            "UPDATE unit SET enterprise_id = (SELECT max(enterprise_id) FROM enterprise) WHERE code = 'e1.furnace'",
            "DELETE FROM tariff WHERE code = 'gas'"):
        spring.execute(change)
        run_pass(spring, NOW)
        assert_same(spring)
    assert verify(spring, 1, NOW) == []


def test_verify_tells_a_month_that_is_not_the_sum_of_its_days(spring: Conn) -> None:
    spring.execute("UPDATE interval_1mo SET cost = cost + 1, days = 0 WHERE ts = '2026-02-28 16:00Z' AND point_id = "
                   "(SELECT point_id FROM point WHERE code = 'park.kwh')")
    (line,) = verify(spring, 1, NOW)
    assert line.startswith("interval_1mo") and "cost is stored" in line and "days is stored as 0" in line
