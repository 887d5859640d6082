"""Rules over hours: emission means with warning, forecast and late hours; baseline with holidays; balance."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import psycopg
import pytest
from psycopg.types.json import Jsonb
from scipy import signal

from alerts import demand, service
from alerts.backtest import backtest
from alerts.daytype import RESTING, WORKING, day_type, like

Db = psycopg.Connection[Any]
HOUR = timedelta(hours=1)
NOW = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)


def add_rule(db: Db, code: str, kind: str, scope: dict[str, Any], params: dict[str, Any], severity: str = "medium") -> None:
    db.execute("DELETE FROM rule WHERE code = %s", (code,))
    db.execute("""INSERT INTO rule (base_id, code, name_zh, name_en, kind, severity, scope, params, recorded_at)
        SELECT base_id, %s, %s, %s, %s, %s, %s, %s, %s FROM base""",
               (code, code, code, kind, severity, Jsonb(scope), Jsonb(params), NOW - timedelta(days=30)))


def hour(db: Db, at: datetime, converted: float | None, state: str = "valid", limit: float = 35.0) -> None:
    db.execute("""INSERT INTO emission_1h (base_id, unit_id, quantity, ts, n_valid, state, converted, limit_value, exceeded)
        SELECT base_id, unit_id, 'so2', %s, 60, %s, %s, %s, %s FROM unit WHERE code = 'e1.stack'""",
               (at, state, converted, limit, converted > limit if converted is not None and state == "valid" else None))


def evaluate(db: Db, now: datetime) -> list[tuple[Any, ...]]:
    e = service.start(db, now)
    service.step(db, e, now)
    return db.execute("""SELECT t.change, a.channel, a.severity, a.late FROM transition t JOIN alert a USING (base_id, alert_id)
        ORDER BY transition_id""").fetchall()


def test_an_hour_over_its_limit_is_an_alert_and_one_near_it_a_warning_that_grows(mini: Db) -> None:
    add_rule(mini, "emission", "emission_limit", {"role": "outlet"}, {"warn_at": 0.9}, "critical")
    hour(mini, NOW - 3 * HOUR, 20)
    assert evaluate(mini, NOW - 2 * HOUR) == []
    hour(mini, NOW - 2 * HOUR, 33)
    assert evaluate(mini, NOW - HOUR) == [("raise", "hour_warning", "high", False)]
    hour(mini, NOW - HOUR, 41)
    assert evaluate(mini, NOW) == [(c, "hour_exceeded", "critical", False) for c in ("raise", "reraise")]
    text = mini.execute("SELECT explanation->>'zh', explanation->>'en', value, high FROM alert").fetchone()
    assert text is not None and "小时均值 41 mg/m3,超过限值 35 mg/m3" in text[0] and "above the limit of 35 mg/m3" in text[1]
    assert text[2:] == (41, 35)


def test_an_hour_that_is_not_valid_says_nothing_and_a_stopped_one_ends_it(mini: Db) -> None:
    add_rule(mini, "emission", "emission_limit", {"role": "outlet"}, {}, "critical")
    hour(mini, NOW - 3 * HOUR, 60)
    evaluate(mini, NOW - 2 * HOUR)
    hour(mini, NOW - 2 * HOUR, 10, "insufficient")
    assert [r[0] for r in evaluate(mini, NOW - HOUR)] == ["raise"]
    hour(mini, NOW - HOUR, None, "stopped")
    assert [r[0] for r in evaluate(mini, NOW)] == ["raise", "return"]


def test_an_hour_that_became_known_late_opens_an_alert_marked_late_once_and_reopens_nothing(mini: Db) -> None:
    add_rule(mini, "emission", "emission_limit", {"role": "outlet"}, {}, "critical")
    hour(mini, NOW - HOUR, 10)
    assert evaluate(mini, NOW) == []
    hour(mini, NOW - 30 * HOUR, 80)
    late = [("raise", "hour_exceeded", "critical", True)]
    assert evaluate(mini, NOW) == late
    assert evaluate(mini, NOW) == late
    row = mini.execute("SELECT active, opened_at, returned_at FROM alert").fetchone()
    assert row == (False, NOW - 29 * HOUR, NOW - 29 * HOUR)
    mini.execute("SELECT alert_step(base_id, alert_id, 'ack', 'wang') FROM alert")
    assert mini.execute("SELECT count(*) FROM alert WHERE closed_at IS NULL").fetchone() == (0,)
    assert [r[0] for r in evaluate(mini, NOW)] == ["raise", "ack"]


def test_the_running_hour_on_its_way_over_the_limit_warns_at_reference_oxygen(mini: Db) -> None:
    add_rule(mini, "emission", "emission_limit", {"role": "outlet"}, {"min_minutes": 15}, "critical")
    hour(mini, NOW - HOUR, 10)
    for minute in range(20):     # 30 mg/m3 at 14 % oxygen is 55.7 at the 8 % of the stack: (21 - 8) / (21 - 14)
        mini.execute("SELECT ensure_reading_partitions(%s, %s)", (NOW, NOW + HOUR))
        mini.execute("""INSERT INTO reading_1m (bucket, min, max, sum, first, last, point_id, n, n_good, n_usable, base_id)
            SELECT %s, v, v, v, v, v, point_id, 1, 1, 1, base_id FROM point
            JOIN (VALUES ('e1.stack.so2', 30.0), ('e1.stack.o2', 14.0)) x(code, v) USING (code)""",
                     (NOW + timedelta(minutes=minute),))
    assert evaluate(mini, NOW + timedelta(minutes=20)) == [("raise", "hour_forecast", "high", False)]
    value = mini.execute("SELECT value FROM alert").fetchone()
    assert value is not None and value[0] == pytest.approx(30 * 13 / 7)


def load_hours(db: Db, code: str, values: dict[datetime, float]) -> None:
    with db.cursor() as cur:
        cur.executemany(f"""INSERT INTO reading_1h (bucket, min, max, sum, first, last, point_id, n, n_good, n_usable, base_id)
            SELECT %s, %s, %s, 60 * %s, %s, %s, point_id, 60, 60, 60, base_id FROM point WHERE code = '{code}'""",
                        [(h, v, v, v, v, v) for h, v in values.items()])


def usual_load(last: datetime, days: int, seed: int = 0) -> dict[datetime, float]:
    rng = np.random.default_rng(seed)
    out = {}
    for k in range(days * 24):
        at = last - k * HOUR
        local = at.astimezone(ZoneInfo("Asia/Shanghai"))
        works = day_type(local.date(), {}) == WORKING and 8 <= local.hour < 20
        out[at] = (500.0 if works else 100.0) + float(rng.normal(0, 5))
    return out


def test_a_load_away_from_its_time_of_week_is_an_alert_with_its_cost_and_returns(mini: Db) -> None:
    add_rule(mini, "baseline", "baseline", {"points": ["e1.main.kw"]}, {"hours": 2})
    last = datetime(2026, 6, 11, 18, tzinfo=UTC)        # Friday 02:00 in Shanghai: the night's 100 kW
    load = usual_load(last, 60)
    load[last] = load[last - HOUR] = 400.0
    load_hours(mini, "e1.main.kw", load)
    assert evaluate(mini, last + HOUR + timedelta(minutes=3)) == [("raise", "high", "medium", False)]
    row = mini.execute("SELECT value, expected, low, high, explanation FROM alert").fetchone()
    assert row is not None and row[0] == 400 and row[1] == pytest.approx(100, abs=15) and row[2] < row[1] < row[3] < 400
    assert row[4]["excess"]["amount"] == pytest.approx(600, abs=30) and row[4]["cost"] == pytest.approx(390, abs=20)
    load_hours(mini, "e1.main.kw", {last + HOUR: 101.0})
    assert [r[0] for r in evaluate(mini, last + 2 * HOUR + timedelta(minutes=3))] == ["raise", "return"]


def test_a_holiday_is_compared_with_days_off_and_not_with_working_days(mini: Db) -> None:
    add_rule(mini, "baseline", "baseline", {"points": ["e1.main.kw"]}, {"hours": 1})
    last = datetime(2026, 6, 19, 3, tzinfo=UTC)         # Dragon Boat Festival, a Friday, 11:00 in Shanghai
    assert day_type(last.date(), {}) == RESTING
    load_hours(mini, "e1.main.kw", usual_load(last, 60))
    assert evaluate(mini, last + HOUR + timedelta(minutes=3)) == []
    mini.execute("UPDATE reading_1h SET sum = 60 * 500.0 WHERE bucket = %s", (last,))    # it worked as on a working day
    assert [r[:2] for r in evaluate(mini, last + HOUR + timedelta(minutes=3))] == [("raise", "high")]


def test_days_are_compared_with_their_like() -> None:
    assert day_type(date(2026, 2, 17), {}) == RESTING and day_type(date(2026, 2, 17), {date(2026, 2, 17): "working"}) == WORKING
    assert [d.weekday() for d in like(date(2026, 6, 12), {}, 8)] == [4] * 8
    assert {day_type(d, {}) for d in like(date(2026, 6, 19), {}, 8)} == {RESTING}
    assert day_type(date(2031, 10, 2), {}) == RESTING and day_type(date(2031, 6, 4), {}) == WORKING


def test_what_is_not_accounted_for_below_a_meter_is_an_alert_and_a_day_with_gaps_says_nothing(mini: Db) -> None:
    add_rule(mini, "balance", "balance", {"carrier": "electricity"}, {"high": 0.05})
    zone = ZoneInfo("Asia/Shanghai")
    yesterday = datetime.now(zone).date() - timedelta(days=1)

    def day(on: date, parent: float, first: float, second: float, known: int = 96) -> None:
        for code, amount in (("park.kwh", parent), ("e1.main.kwh", first), ("e2.main.kwh", second)):
            mini.execute("""INSERT INTO interval_1d (ts, amount, point_id, n_expected, n_known, n_good, base_id)
                SELECT %s, %s, point_id, 96, %s, %s, base_id FROM point WHERE code = %s""",
                         (datetime(on.year, on.month, on.day, tzinfo=zone), amount, known, known, code))

    day(yesterday, 1000, 500, 480)
    assert evaluate(mini, datetime.now(UTC)) == []
    mini.execute("UPDATE interval_1d SET amount = 1200 WHERE amount = 1000")
    assert evaluate(mini, datetime.now(UTC)) == [("raise", "balance", "medium", False)]
    row = mini.execute("SELECT value, explanation->>'en' FROM alert").fetchone()
    assert row is not None and row[0] == pytest.approx(100 * 220 / 1200) and "220 kWh (18.3%)" in row[1]
    mini.execute("UPDATE interval_1d SET amount = 5000, n_known = 50 WHERE amount = 1200")
    assert [r[0] for r in evaluate(mini, datetime.now(UTC))] == ["raise"]


def test_the_probability_of_exceeding_the_demand_comes_true_as_often_as_it_says(mini: Db) -> None:
    """Minutes of a load that wanders and jumps; the last day is judged by the two weeks before it."""
    rng = np.random.default_rng(5)
    n = 15 * 1440
    load = 900 + signal.lfilter([12.0], [1.0, -0.97], rng.standard_normal(n)) + 60 * (rng.random(n) < 0.03)
    end = NOW.replace(hour=0, minute=0, second=0, microsecond=0)
    (point,) = mini.execute("SELECT point_id FROM point WHERE code = 'e1.main.kw'").fetchone() or (0,)
    table = "reading_1m (base_id, point_id, bucket, n, n_good, n_usable, min, max, sum)"
    with mini.cursor().copy(f"COPY {table} FROM STDIN") as copy:
        for i, v in enumerate(load.tolist()):
            copy.write_row((1, point, end - timedelta(minutes=n - i), 1, 1, 1, v, v, v))
    said, came = [], []
    for slot in range(96):
        first = n - 1440 + 15 * slot
        minutes, limit = (3, 6, 10)[slot % 3], 900 + (-30, 0, 30, 60)[slot % 4]
        past = load[first:first + minutes]
        margin = limit - demand.expected_kw(float(past.mean()), float(past[-1]), 60.0 * minutes)
        missed = demand.misses(mini, 1, point, end - timedelta(minutes=n - first), 60.0 * minutes)
        chance = demand.p_exceed(missed, margin)
        assert chance is not None
        said.append(chance)
        came.append(load[first:first + 15].mean() > limit)
    told, true = np.array(said), np.array(came, float)
    assert abs(told.mean() - true.mean()) < 0.06
    assert np.mean((told - true) ** 2) < 0.4 * true.mean() * (1 - true.mean()), "much sharper than the share that exceeds"
    assert true[told > 0.8].mean() > 0.8 and true[told < 0.2].mean() < 0.2
    assert demand.p_exceed(np.zeros(95), 0.0) is None, "nothing is told before a day of quarter-hours is known"
    add_rule(mini, "demand", "demand", {"points": ["e1.main.kw"]}, {"limit_kw": 1000})
    mini.execute("SELECT ensure_reading_partitions(%s, %s)", (NOW, NOW + HOUR))
    mini.execute("""INSERT INTO reading (base_id, point_id, ts, value, quality)
        SELECT 1, %s, %s::timestamptz + make_interval(mins => m), 1100, 0 FROM generate_series(0, 9) m""", (point, NOW))
    assert evaluate(mini, NOW + timedelta(minutes=9)) == [("raise", "demand_forecast", "medium", False)]
    row = mini.execute("SELECT (explanation->>'p_exceed')::float8, explanation->>'en' FROM alert").fetchone()
    assert row is not None and row[0] > 0.95 and "with a probability of" in row[1]


def test_the_running_quarter_on_its_way_over_the_contracted_demand_warns_and_a_new_one_starts_afresh(mini: Db) -> None:
    add_rule(mini, "demand", "demand", {"points": ["e1.main.kw"]}, {"limit_kw": 1000, "warn_at": 0.95}, "high")
    mini.execute("SELECT ensure_reading_partitions(%s, %s)", (NOW, NOW + HOUR))

    def read(minute: int, kw: float) -> None:
        mini.execute("""INSERT INTO reading (base_id, point_id, ts, value, quality)
            SELECT base_id, point_id, %s, %s, 0 FROM point WHERE code = 'e1.main.kw'""", (NOW + timedelta(minutes=minute), kw))

    for minute in range(5):
        read(minute, 800)
    assert evaluate(mini, NOW + timedelta(minutes=4)) == []
    for minute in range(5, 10):
        read(minute, 1300)
    assert evaluate(mini, NOW + timedelta(minutes=9)) == [("raise", "demand_forecast", "high", False)]
    value = mini.execute("SELECT value FROM alert").fetchone()
    assert value is not None and value[0] == pytest.approx((1050 * 9 + 1300 * 6) / 15)
    for minute in range(15, 20):
        read(minute, 700)
    assert [r[0] for r in evaluate(mini, NOW + timedelta(minutes=16))] == ["raise"]     # too young to say
    assert [r[0] for r in evaluate(mini, NOW + timedelta(minutes=19))] == ["raise", "return"]


def test_a_day_mean_over_its_limit_is_an_alert_of_its_own(mini: Db) -> None:
    add_rule(mini, "emission", "emission_limit", {"role": "outlet"}, {}, "critical")
    zone = ZoneInfo("Asia/Shanghai")
    midnight = datetime.now(zone).replace(hour=0, minute=0, second=0, microsecond=0)
    for k in range(24):         # mg/L, the limit of the day is 50
        mini.execute("""INSERT INTO emission_1h (base_id, unit_id, quantity, ts, n_valid, state, measured, converted, flow)
            SELECT base_id, unit_id, 'cod', %s, 60, 'valid', 60, 60, 10 FROM unit WHERE code = 'e2.outlet'""",
                     (midnight - timedelta(hours=24 - k),))
    assert evaluate(mini, datetime.now(UTC)) == [("raise", "day_exceeded", "critical", False)]
    row = mini.execute("""SELECT value, high, point_id IS NOT NULL, unit_id IS NOT NULL, explanation->>'en'
        FROM alert""").fetchone()
    assert row is not None and row[:4] == (60, 50, True, True) and "daily mean" in row[4]


def test_a_rule_that_is_judged_in_passes_holds_before_it_raises_and_before_it_returns(mini: Db) -> None:
    add_rule(mini, "demand", "demand", {"points": ["e1.main.kw"]},
             {"limit_kw": 1000, "min_s": 60, "hold_s": 120, "clear_hold_s": 60}, "high")
    mini.execute("SELECT ensure_reading_partitions(%s, %s)", (NOW, NOW + HOUR))
    e = service.start(mini, NOW)
    changes = []
    for half in range(24):
        now = NOW + timedelta(seconds=60 + 30 * half)
        kw = 3000.0 if half < 8 else -1500.0            # the forecast falls below at once
        mini.execute("""INSERT INTO reading (base_id, point_id, ts, value, quality)
            SELECT base_id, point_id, %s, %s, 0 FROM point WHERE code = 'e1.main.kw'""", (now, kw))
        service.step(mini, e, now + timedelta(seconds=1))
        (n,) = mini.execute("SELECT count(*) FROM transition").fetchone() or (0,)
        changes.append(int(n))
    assert changes.index(1) == 4 and changes.index(2) == 8 + 2          # 120 s after the first pass, 60 s after the eighth
    outcome = backtest(mini, "mini", NOW, NOW + HOUR, "demand")
    (episode,) = outcome.episodes
    assert episode.raised_at == (NOW + timedelta(seconds=60 + 30 * 4)).timestamp()
    assert episode.returned_at == (NOW + timedelta(seconds=60 + 30 * 10)).timestamp()
