"""The evaluator on a real database: readings in, alerts and transitions out; restarts; kill -9."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from alerts import service
from alerts.part import LOCK

Db = psycopg.Connection[Any]
T0 = datetime.now(UTC).replace(microsecond=0)


def read(db: Db, code: str, value: float | None, at: datetime, quality: int = 0) -> None:
    """A reading as ingest would leave it in `latest`."""
    db.execute("""INSERT INTO latest (base_id, point_id, ts, value, quality, arrived_at)
        SELECT base_id, point_id, %s, %s, %s, clock_timestamp() FROM point WHERE code = %s
        ON CONFLICT (base_id, point_id) DO UPDATE SET ts = excluded.ts, value = excluded.value, quality = excluded.quality,
            arrived_at = excluded.arrived_at""", (at, value, quality, code))


def add_rule(db: Db, code: str, kind: str, scope: dict[str, Any], params: dict[str, Any], severity: str = "medium") -> None:
    db.execute("""INSERT INTO rule (base_id, code, name_zh, name_en, kind, severity, scope, params)
        SELECT base_id, %s, %s, %s, %s, %s, %s, %s FROM base""",
               (code, code, code, kind, severity, Jsonb(scope), Jsonb(params)))


def log_of(db: Db) -> list[tuple[str, str]]:
    rows = db.execute("""SELECT r.code, t.change FROM transition t JOIN alert USING (base_id, alert_id)
        JOIN rule r USING (base_id, rule_id) ORDER BY transition_id""").fetchall()
    return [(a, b) for a, b in rows]


def bases_held(db: Db) -> int:
    """How many bases have an evaluator."""
    row = db.execute("""SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = %s AND granted
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())""", (LOCK,)).fetchone()
    return int(row[0]) if row else 0


def until(true: Callable[[], bool], seconds: float = 15.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "not within the deadline"
        time.sleep(0.02)


def test_a_reading_over_its_limit_becomes_an_alert_that_explains_itself_and_returns(mini: Db) -> None:
    e = service.start(mini, T0)
    for i, value in enumerate([30.0, 36.5, 36.5, 36.5, 34.0, 32.0]):
        now = T0 + timedelta(seconds=30 * i)
        read(mini, "e1.stack.so2", value, now)
        service.step(mini, e, now)
    assert log_of(mini) == [("stack-so2", "raise"), ("stack-so2", "return")]
    row = mini.execute("""SELECT active, acknowledged, value, high, unit, severity, channel, closed_at, explanation
        FROM alert""").fetchone()
    assert row is not None
    assert row[:8] == (False, False, 36.5, 35.0, "mg/m3", "high", "limit", None)
    assert "36.5 mg/m3,高于上限 35 mg/m3" in row[8]["zh"] and "above its limit of 35 mg/m3" in row[8]["en"]
    assert datetime.fromisoformat(row[8]["since"]) == T0 + timedelta(seconds=30)


def test_a_new_evaluator_goes_on_in_the_middle_of_a_hold_and_repeats_nothing(mini: Db) -> None:
    e = service.start(mini, T0)
    for i in range(6):
        now = T0 + timedelta(seconds=30 * i)
        read(mini, "e1.stack.so2", 40.0, now)
        service.step(mini, e, now)
        e = service.start(mini, now)     # a restart after every tick
        service.step(mini, e, now)
    assert log_of(mini) == [("stack-so2", "raise")]


def test_a_dead_device_is_one_alert_and_its_silent_points_are_suppressed(mini: Db) -> None:
    add_rule(mini, "silent", "stale", {"quantity": ["so2", "nox", "dust", "o2", "flue_gas_flow"]}, {"k": 3, "auto_close": True})
    points = ["e1.stack.so2", "e1.stack.nox", "e1.stack.dust", "e1.stack.o2", "e1.stack.flow"]
    e = service.start(mini, T0)
    for i in range(20):
        now = T0 + timedelta(seconds=60 * i)
        for code in points if i < 8 or i > 15 else []:
            if code != "e1.stack.nox" or i < 2 or i > 15:
                read(mini, code, 10.0 + i % 3, now)
        read(mini, "e2.cod", 20.0, now)     # something else is heard all the time
        service.step(mini, e, now)
    assert [c for _, c in log_of(mini)] == ["raise", "raise", "suppress", "return", "return"]
    rows = mini.execute("""SELECT device_id IS NOT NULL, active, closed_at IS NOT NULL, explanation->>'en'
        FROM alert ORDER BY 1""").fetchall()
    assert [r[:3] for r in rows] == [(False, False, True), (True, False, True)]
    assert "Device d.e1.cems is offline: none of its 5 points sends" in rows[1][3]


def test_that_the_platform_stood_is_no_silence_of_a_device_but_what_was_silent_stays_so(mini: Db) -> None:
    add_rule(mini, "silent", "stale", {"quantity": "so2"}, {"after_s": 100})
    read(mini, "e1.stack.so2", 10.0, T0)
    e = service.start(mini, T0 + timedelta(hours=5))       # five hours of outage
    for second in (0, 50, 100):
        read(mini, "e2.cod", 20.0, T0 + timedelta(hours=5, seconds=second))
        service.step(mini, e, T0 + timedelta(hours=5, seconds=second))
    assert log_of(mini) == []
    read(mini, "e2.cod", 20.0, T0 + timedelta(hours=5, seconds=101))
    service.step(mini, e, T0 + timedelta(hours=5, seconds=101))
    assert log_of(mini) == [("silent", "raise")]
    e = service.start(mini, T0 + timedelta(hours=6))
    service.step(mini, e, T0 + timedelta(hours=6))
    assert log_of(mini) == [("silent", "raise")]


def test_a_closed_alert_is_never_reopened_but_a_new_one_is_opened(mini: Db) -> None:
    e = service.start(mini, T0)

    def feed(minutes: float, value: float) -> None:
        read(mini, "e1.stack.so2", value, T0 + timedelta(minutes=minutes))
        service.step(mini, e, T0 + timedelta(minutes=minutes))

    for minute, value in enumerate([40, 40, 20]):
        feed(minute, value)
    first = mini.execute("SELECT alert_id FROM alert").fetchone()
    mini.execute("SELECT alert_step(1::smallint, %s, 'ack', 'wang')", first)
    feed(3, 40)
    feed(4, 40)
    assert log_of(mini) == [("stack-so2", c) for c in ("raise", "return", "ack", "raise")]
    assert mini.execute("SELECT count(*), count(closed_at) FROM alert").fetchone() == (2, 1)


def test_a_returned_alert_that_nobody_acknowledged_is_raised_again_and_needs_acknowledging_again(mini: Db) -> None:
    e = service.start(mini, T0)
    for minute, value in enumerate([40, 40, 20, 40, 40]):
        read(mini, "e1.stack.so2", value, T0 + timedelta(minutes=minute))
        service.step(mini, e, T0 + timedelta(minutes=minute))
    assert [c for _, c in log_of(mini)] == ["raise", "return", "reraise"]
    assert mini.execute("SELECT active, acknowledged, n_raised FROM alert").fetchall() == [(True, False, 2)]


def test_a_rule_that_goes_takes_its_active_alerts_along(mini: Db) -> None:
    e = service.start(mini, T0)
    for minute in range(2):
        read(mini, "e1.stack.so2", 40, T0 + timedelta(minutes=minute))
        service.step(mini, e, T0 + timedelta(minutes=minute))
    mini.execute("UPDATE rule SET enabled = false")
    service.start(mini, T0 + timedelta(minutes=3))
    assert [c for _, c in log_of(mini)] == ["raise", "return"]
    assert mini.execute("SELECT note FROM transition ORDER BY 1 DESC LIMIT 1").fetchone() == ("rule no longer covers it",)


def test_a_shelf_comes_back_by_itself_when_its_time_is_over(mini: Db) -> None:
    e = service.start(mini, T0)
    for minute in range(2):
        read(mini, "e1.stack.so2", 40, T0 + timedelta(minutes=minute))
        service.step(mini, e, T0 + timedelta(minutes=minute))
    mini.execute("SELECT alert_step(1::smallint, alert_id, 'shelve', 'wang', 'filter change', '{\"minutes\": 60}') FROM alert")
    mini.execute("UPDATE alert SET shelved_until = now() - interval '1 second'")
    service.step(mini, e, T0 + timedelta(minutes=5))
    assert log_of(mini)[-1] == ("stack-so2", "unshelve")
    assert mini.execute("SELECT shelved_until FROM alert").fetchone() == (None,)


def test_production_on_while_treatment_is_off_is_an_alert_and_a_silent_meter_is_unknown(mini: Db) -> None:
    params = {"production_on_kw": 100, "treatment_off_kw": 10, "hold_s": 120, "fresh_s": 90}
    add_rule(mini, "bypass", "linkage", {}, params, "critical")
    e = service.start(mini, T0)

    def feed(minute: int, furnace: float | None, treatment: float | None) -> None:
        now = T0 + timedelta(minutes=minute)
        for code, value in (("e1.furnace.kw", furnace), ("e1.filter.kw", treatment)):
            if value is not None:
                read(mini, code, value, now)
        service.step(mini, e, now)

    for minute in range(3):
        feed(minute, 500, 50)
    for minute in range(3, 8):
        feed(minute, 500, None)           # the filter's meter is silent: unknown, no alert
    assert log_of(mini) == []
    for minute in range(8, 12):
        feed(minute, 500, 0.2)
    assert log_of(mini) == [("bypass", "raise")]
    text = mini.execute("SELECT explanation, unit_id IS NOT NULL, severity FROM alert").fetchone()
    assert text is not None and text[1:] == (True, "critical")
    assert "加热炉正在生产,而治理设施除尘脱硫停运" in text[0]["zh"]
    assert text[0]["contributor"] == {"production": "e1.furnace", "treatment": "e1.filter"}
    for minute in range(12, 20):
        feed(minute, 500, None)           # silence does not return it either
    assert log_of(mini) == [("bypass", "raise")]
    feed(20, 5, 0.2)
    assert log_of(mini) == [("bypass", "raise"), ("bypass", "return")]


def test_a_rule_with_a_mistake_is_left_out_and_the_others_work(mini: Db, caplog: pytest.LogCaptureFixture) -> None:
    add_rule(mini, "wrong", "limit", {"quantity": "nox"}, {"hihg": 3})
    e = service.start(mini, T0)
    assert [r.code for r in e.context.rules] == ["stack-so2"]
    assert "rule wrong: params.hihg" in caplog.text


def test_the_service_sees_a_reading_within_two_seconds_and_stops_cleanly(mini: Db, database_url: str) -> None:
    mini.execute("UPDATE rule SET params = '{\"high\": 35}'")
    stop = threading.Event()
    thread = threading.Thread(target=service.run, args=(database_url, stop))
    thread.start()
    try:
        until(lambda: bases_held(mini) == 1)
        began = time.monotonic()
        read(mini, "e1.stack.so2", 50.0, datetime.now(UTC))
        until(lambda: log_of(mini) == [("stack-so2", "raise")])
        assert time.monotonic() - began < 2.0
    finally:
        stop.set()
        thread.join(5)
    assert not thread.is_alive()


def test_kill_9_at_any_instant_neither_loses_nor_repeats_a_transition(mini: Db, database_url: str) -> None:
    points = ["e1.stack.so2", "e1.stack.nox", "e1.stack.dust", "e1.stack.o2", "e1.stack.flow", "e2.cod", "e2.ammonia", "e2.ph",
              "e2.flow"]
    mini.execute("UPDATE rule SET params = '{\"high\": 35, \"auto_close\": true}', scope = %s", (Jsonb({"points": points}),))
    code = "import logging; from alerts.main import serve; serve()"
    env = os.environ | {"PARK_DATABASE_URL": database_url, "PARK_LOG_LEVEL": "WARNING"}

    def begin() -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", code], env=env, start_new_session=True)

    process, value, crossings, chance = begin(), 20.0, 0, random.Random(20261123)
    try:
        for kill in range(6):
            for _ in range(3):
                value = 70.0 - value       # 50, 20, 50 ...: each crosses the limit
                read(mini, points[crossings // 2], value, datetime.now(UTC))
                crossings += 1
                if _ == kill % 3:
                    time.sleep(chance.uniform(0.0, 0.6))    # anywhere in the two ticks or so after the reading
                    process.send_signal(signal.SIGKILL)
                    process.wait()
                    process = begin()
                want = ["raise" if i % 2 == 0 else "return" for i in range(crossings)]
                until(lambda want=want: [c for _, c in log_of(mini)] == want)  # type: ignore[misc]
        until(lambda: bases_held(mini) == 1)
    finally:
        process.terminate()
        assert process.wait(5) == 0
    assert mini.execute("SELECT count(*), count(closed_at) FROM alert").fetchone() == (crossings // 2, crossings // 2)


def test_a_latched_alert_stays_active_until_somebody_acknowledges_it(mini: Db) -> None:
    mini.execute("UPDATE rule SET params = '{\"high\": 35, \"latch\": true}'")
    e = service.start(mini, T0)
    for minute, value in enumerate([40, 20, 20]):
        read(mini, "e1.stack.so2", value, T0 + timedelta(minutes=minute))
        service.step(mini, e, T0 + timedelta(minutes=minute))
    assert log_of(mini) == [("stack-so2", "raise")]
    e = service.start(mini, T0 + timedelta(minutes=3))      # over a restart too
    service.step(mini, e, T0 + timedelta(minutes=3))
    read(mini, "e1.stack.so2", 20, T0 + timedelta(minutes=4))
    service.step(mini, e, T0 + timedelta(minutes=4))
    assert log_of(mini) == [("stack-so2", "raise")]
    mini.execute("SELECT alert_step(base_id, alert_id, 'ack', 'wang') FROM alert")
    service.step(mini, e, T0 + timedelta(minutes=5))
    assert [c for _, c in log_of(mini)] == ["raise", "ack", "return"]
    assert mini.execute("SELECT closed_at IS NOT NULL FROM alert").fetchone() == (True,)


def test_a_latched_condition_that_is_there_again_needs_no_return(mini: Db) -> None:
    mini.execute("UPDATE rule SET params = '{\"high\": 35, \"latch\": true}'")
    e = service.start(mini, T0)
    for minute, value in enumerate([40, 20, 40]):
        read(mini, "e1.stack.so2", value, T0 + timedelta(minutes=minute))
        service.step(mini, e, T0 + timedelta(minutes=minute))
    mini.execute("SELECT alert_step(base_id, alert_id, 'ack', 'wang') FROM alert")
    service.step(mini, e, T0 + timedelta(minutes=3))
    assert [c for _, c in log_of(mini)] == ["raise", "ack"]
