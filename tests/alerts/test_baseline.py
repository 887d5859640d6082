"""What counts for a baseline: hours of good readings, minutes without a doubtful part; excess that grows; contributors."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from alerts.backtest import backtest
from alerts.excess import Price, of_hours
from alerts.rules import Point
from tests.alerts.test_slow import HOUR, NOW, add_rule, evaluate, hour, load_hours, usual_load

Db = psycopg.Connection[Any]
LAST = datetime(2026, 6, 11, 18, tzinfo=UTC)        # Friday 02:00 in Shanghai: the night's 100 kW


@pytest.mark.parametrize(("n", "n_good", "n_usable", "speaks"), [
    (60, 60, 60, True), (60, 45, 45, True),         # three quarters are good
    (60, 44, 44, False),                            # fewer
    (60, 50, 52, False),                            # two estimated or doubtful ones are in the mean
    (60, 0, 60, False),
])
def test_an_hour_counts_when_three_quarters_of_its_readings_are_good_and_nothing_doubtful_is_in_the_mean(
        mini: Db, n: int, n_good: int, n_usable: int, speaks: bool) -> None:
    add_rule(mini, "baseline", "baseline", {"points": ["e1.main.kw"]}, {"hours": 1})
    load = usual_load(LAST, 60)
    load[LAST] = 400.0
    load_hours(mini, "e1.main.kw", load)
    mini.execute("UPDATE reading_1h SET n = %s, n_good = %s, n_usable = %s, sum = 400.0 * %s WHERE bucket = %s",
                 (n, n_good, n_usable, n_usable, LAST))
    assert bool(evaluate(mini, LAST + HOUR + timedelta(minutes=3))) is speaks


@pytest.mark.parametrize(("n_good", "n_usable", "warns"), [(1, 1, True), (0, 1, False), (1, 2, False)])
def test_a_minute_of_the_running_hour_counts_only_when_nothing_in_it_is_estimated_or_doubtful(
        mini: Db, n_good: int, n_usable: int, warns: bool) -> None:
    add_rule(mini, "emission", "emission_limit", {"role": "outlet"}, {"min_minutes": 15}, "critical")
    hour(mini, NOW - HOUR, 10)
    mini.execute("SELECT ensure_reading_partitions(%s, %s)", (NOW, NOW + HOUR))
    for minute in range(20):
        mini.execute("""INSERT INTO reading_1m (bucket, min, max, sum, first, last, point_id, n, n_good, n_usable, base_id)
            SELECT %s, v, v, v * %s, v, v, point_id, %s, %s, %s, base_id FROM point
            JOIN (VALUES ('e1.stack.so2', 60.0), ('e1.stack.o2', 8.0)) x(code, v) USING (code)""",
                     (NOW + timedelta(minutes=minute), n_usable, n_usable, n_good, n_usable))
    assert bool(evaluate(mini, NOW + timedelta(minutes=20))) is warns


def test_the_excess_of_an_alert_that_goes_on_grows_by_each_hour_once_and_stops_when_it_has_returned(mini: Db) -> None:
    add_rule(mini, "baseline", "baseline", {"points": ["e1.main.kw"]}, {"hours": 2})
    load = usual_load(LAST, 60)
    load[LAST] = load[LAST - HOUR] = 400.0
    load_hours(mini, "e1.main.kw", load)

    def excess() -> tuple[float, float]:
        row = mini.execute("""SELECT (explanation #>> '{excess,amount}')::float8, (explanation ->> 'cost')::float8
            FROM alert""").fetchone()
        assert row is not None
        return row[0], row[1]

    evaluate(mini, LAST + HOUR + timedelta(minutes=3))
    assert excess() == (pytest.approx(600, abs=30), pytest.approx(390, abs=20))
    load_hours(mini, "e1.main.kw", {LAST + HOUR: 500.0})
    for _ in range(3):                                              # a restart counts no hour twice
        evaluate(mini, LAST + 2 * HOUR + timedelta(minutes=3))
    grown = excess()
    assert grown == (pytest.approx(1000, abs=45), pytest.approx(650, abs=30))
    load_hours(mini, "e1.main.kw", {LAST + 2 * HOUR: 101.0})
    evaluate(mini, LAST + 3 * HOUR + timedelta(minutes=3))
    assert excess()[0] == pytest.approx(grown[0], abs=15)
    load_hours(mini, "e1.main.kw", {LAST + 3 * HOUR: 130.0})        # over the expectation, but nothing is active
    before = excess()
    evaluate(mini, LAST + 4 * HOUR + timedelta(minutes=3))
    assert excess() == before


def test_a_tariff_by_the_time_of_day_counts_with_what_a_kwh_came_to(mini: Db) -> None:
    add_rule(mini, "baseline", "baseline", {"points": ["e1.main.kw"]}, {"hours": 1})
    mini.execute("""UPDATE tariff SET terms = '{"prices": {"peak": 1.2, "flat": 0.7, "valley": 0.3}}'
        WHERE carrier = 'electricity'""")
    mini.execute("""INSERT INTO energy_total (base_id, day, enterprise_id, carrier, unit, amount, n_expected, n_known, n_good,
            cost) SELECT base_id, current_date - 1, NULL, 'electricity', 'kWh', 1000, 96, 96, 96, 800 FROM base""")
    load = usual_load(LAST, 60)
    load[LAST] = 400.0
    load_hours(mini, "e1.main.kw", load)
    evaluate(mini, LAST + HOUR + timedelta(minutes=3))
    row = mini.execute("""SELECT (explanation ->> 'cost')::float8 / (explanation #>> '{excess,amount}')::float8
        FROM alert""").fetchone()
    assert row is not None and row[0] == pytest.approx(0.8, rel=0.01)


def test_the_point_below_that_departs_most_is_named_as_contributor(mini: Db) -> None:
    add_rule(mini, "baseline", "baseline", {"quantity": "active_power"}, {"hours": 1})
    for code, more in (("e1.main.kw", 300.0), ("e1.furnace.kw", 250.0), ("e1.filter.kw", 20.0)):
        load = usual_load(LAST, 60, seed=len(code))
        load[LAST] = 100.0 + more
        load_hours(mini, code, load)
    evaluate(mini, LAST + HOUR + timedelta(minutes=3))
    rows = dict(mini.execute("""SELECT p.code, a.explanation #>> '{contributor,point}' FROM alert a
        JOIN point p USING (base_id, point_id)""").fetchall())
    assert rows["e1.main.kw"] == "e1.furnace.kw" and rows["e1.furnace.kw"] is None


def test_a_meter_without_the_hour_does_not_silence_the_others(mini: Db) -> None:
    add_rule(mini, "baseline", "baseline", {"quantity": "active_power"}, {"hours": 1})
    for code in ("e1.main.kw", "e1.furnace.kw"):
        load = usual_load(LAST, 60, seed=len(code))
        load[LAST] = 400.0
        if code == "e1.furnace.kw":
            del load[LAST]
        load_hours(mini, code, load)
    assert [t[0] for t in evaluate(mini, LAST + HOUR + timedelta(minutes=3))] == ["raise"]
    assert mini.execute("SELECT p.code FROM alert JOIN point p USING (base_id, point_id)").fetchall() == [("e1.main.kw",)]


def as_counter(db: Db, quarters: int = 4, n: int = 15) -> None:
    """The hours that were loaded are a counter's: their increments, and the quarters of an hour with `n` readings each."""
    db.execute("UPDATE reading_1h SET increment = sum / 60, n = %(n)s, n_good = %(n)s, n_usable = %(n)s", {"n": n * quarters})
    db.execute("""INSERT INTO reading_15m (bucket, point_id, n, n_good, n_usable, base_id)
        SELECT bucket + interval '15 minutes' * k, point_id, %(n)s, %(n)s, %(n)s, base_id FROM reading_1h
        CROSS JOIN generate_series(0, %(k)s - 1) k""", {"k": quarters, "n": n})


@pytest.mark.parametrize(("gone_from", "gone_to", "hours", "raised"), [
    (None, None, 1, True),                  # 400 in an hour that was read throughout
    (-180, 0, 1, False),                    # silent for three hours: its first reading carries what came in all of them
    (-70, 40, 1, False),                    # from the middle of one hour into the middle of the next
    (15, 45, 1, True),                      # within the hour: its amount is exact all the same
    (30, 60, 1, False),                     # the hour's end is not known: a part of it alone
    (-240, -60, 1, True),                   # the gap was over an hour before
])
def test_an_hour_of_a_counter_beside_a_gap_is_not_judged_as_a_measured_one(
        mini: Db, gone_from: int | None, gone_to: int | None, hours: int, raised: bool) -> None:
    add_rule(mini, "baseline", "baseline", {"points": ["e1.gas"]}, {"hours": hours})
    load_hours(mini, "e1.gas", usual_load(LAST, 60) | {LAST: 400.0})
    as_counter(mini)
    if gone_from is not None and gone_to is not None:
        begin, end = (LAST + timedelta(minutes=m) for m in (gone_from, gone_to))
        mini.execute("DELETE FROM reading_15m WHERE bucket >= %s AND bucket < %s", (begin, end))
        mini.execute("""DELETE FROM reading_1h h WHERE NOT EXISTS (SELECT FROM reading_15m q WHERE q.base_id = h.base_id
            AND q.point_id = h.point_id AND q.bucket >= h.bucket AND q.bucket < h.bucket + interval '1 hour')""")
        mini.execute("""UPDATE reading_1h h SET n = 15 * q.n, n_good = 15 * q.n, n_usable = 15 * q.n FROM (
            SELECT base_id, point_id, date_trunc('hour', bucket) AS hour, count(*) AS n FROM reading_15m GROUP BY 1, 2, 3) q
            WHERE q.base_id = h.base_id AND q.point_id = h.point_id AND q.hour = h.bucket""")
    found = evaluate(mini, LAST + HOUR + timedelta(minutes=3))
    assert [f[:2] for f in found] == [("raise", "high")] * raised
    outcome = backtest(mini, "mini", LAST, LAST + HOUR, "baseline")
    assert len(outcome.episodes) == raised, "and a backtest sees the same"


def test_a_counter_that_is_read_once_an_hour_is_judged_and_the_hour_after_a_missed_reading_is_not(mini: Db) -> None:
    add_rule(mini, "baseline", "baseline", {"points": ["e1.gas"]}, {"hours": 1})
    load_hours(mini, "e1.gas", usual_load(LAST, 60) | {LAST: 400.0})
    as_counter(mini, quarters=1, n=1)
    assert [f[:2] for f in evaluate(mini, LAST + HOUR + timedelta(minutes=3))] == [("raise", "high")]
    mini.execute("DELETE FROM transition")
    mini.execute("DELETE FROM alert")
    for grain in ("1h", "15m"):
        mini.execute(f"DELETE FROM reading_{grain} WHERE bucket >= %s AND bucket < %s", (LAST - HOUR, LAST))
    assert evaluate(mini, LAST + HOUR + timedelta(minutes=3)) == []


def test_the_excess_of_gas_and_of_steam_is_told_in_its_own_carrier_with_its_price(mini: Db) -> None:
    add_rule(mini, "baseline", "baseline", {"points": ["e1.gas"]}, {"hours": 1})
    load = usual_load(LAST, 60)
    load[LAST] = 400.0
    load_hours(mini, "e1.gas", load)
    as_counter(mini)
    evaluate(mini, LAST + HOUR + timedelta(minutes=3))
    row = mini.execute("""SELECT (explanation #>> '{excess,amount}')::float8, explanation #>> '{excess,unit}',
        (explanation ->> 'cost')::float8 FROM alert""").fetchone()
    assert row is not None and row[:2] == (pytest.approx(300, abs=15), "Nm3")
    assert row[2] == pytest.approx(3.6 * row[0], abs=0.01)


def point(unit: str, kind: str = "gauge", carrier: str | None = None, quantity: str = "", direction: str = "import") -> Point:
    return Point(1, 1, "p", "", "", quantity, unit, kind, carrier, None, None, None, None, None, 60.0, direction=direction)


@pytest.mark.parametrize(("p", "amount", "expected"), [
    (point("kW", quantity="active_power"), 10.0,
     {"excess": {"amount": 10.0, "unit": "kWh"}, "cost": 6.5, "co2_kg": 5.0}),
    (point("MW", quantity="active_power"), 2.0,
     {"excess": {"amount": 2000.0, "unit": "kWh"}, "cost": 1300.0, "co2_kg": 1000.0}),
    (point("MJ", "counter", "heat"), 500.0, {"excess": {"amount": 0.5, "unit": "GJ"}}),      # neither price nor factor known
    (point("kW", quantity="active_power"), float("nan"), {}), (point("kW", quantity="active_power"), -1.0, {}),
    (point("degC", quantity="temperature"), 5.0, {}), (point("m3", "counter", "water"), 5.0, {}),   # no price of that
    (point("kWh", "counter", "electricity", direction="generation"), 5.0, {}),      # more sun costs nothing
])
def test_an_excess_is_an_amount_of_a_carrier_above_its_expectation(p: Point, amount: float, expected: dict[str, Any]) -> None:
    known = {"electricity": Price("kWh", 0.65, 0.5), "heat": Price("GJ", None, None)}
    assert of_hours(p, amount, known) == expected
