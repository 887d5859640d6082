"""What tries to break the alert core: the catalogue changes under it, clocks are set, memory is lost, receivers are away."""

from __future__ import annotations

import threading
import time
from datetime import UTC, date, datetime, timedelta
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from alerts import context, notify, roster, routes, service, store
from park import catalogue_store
from park.catalogue import read_catalogue
from tests.alerts.test_routes import Robot, add, go, happen, robot
from tests.alerts.test_service import add_rule, bases_held, log_of, read, until

__all__ = ["robot"]
Db = psycopg.Connection[Any]
MINI = Path(__file__).parent.parent / "data" / "mini.yaml"
T0 = datetime.now(UTC).replace(microsecond=0)


def feed(db: Db, e: service.Evaluator, minute: float, **values: float) -> None:
    """Readings of points (`__` stands for a dot) at a minute, and the tick that sees them."""
    now = T0 + timedelta(minutes=minute)
    for code, value in values.items():
        read(db, code.replace("__", "."), value, now)
    service.step(db, e, now)


def changes(db: Db) -> list[str]:
    return [c for _, c in log_of(db)]


def test_a_flat_run_that_goes_on_does_not_allow_itself(mini: Db) -> None:
    """Read again every hour, it would always allow half as much again as it has lasted."""
    now = T0.replace(minute=0, second=0)
    mini.execute("""INSERT INTO reading_1h (bucket, min, max, sum, n, n_good, n_usable, point_id, base_id)
        SELECT %s - make_interval(hours => 100 - h), 5 + CASE WHEN h BETWEEN 40 AND 44 OR h > 92 THEN 0 ELSE h END, 5, 300,
               60, 60, 60, point_id, base_id FROM point, generate_series(1, 99) h WHERE code = 'e1.stack.so2'""", (now,))
    add_rule(mini, "stuck", "stuck", {"quantity": "so2"}, {})
    c = context.load(mini, now)
    assert c.plan.high[[p.rule.code for p in c.pairs].index("stuck")] == 1.5 * 5 * 3600     # of the five hours that are over


@pytest.mark.parametrize("change", ["UPDATE point SET removed_at = now() WHERE code = 'e1.stack.so2'",
                                    "UPDATE rule SET scope = '{\"quantity\": \"nox\"}'", "UPDATE rule SET enabled = false"])
@pytest.mark.parametrize("kind", ["limit", "emission_limit"])
def test_an_active_alert_whose_rule_or_point_goes_returns_and_can_be_closed(mini: Db, kind: str, change: str) -> None:
    mini.execute("UPDATE rule SET kind = %s, params = %s", (kind, Jsonb({"high": 35} if kind == "limit" else {})))
    mini.execute("""INSERT INTO alert (base_id, rule_id, point_id, severity, opened_at)
        SELECT r.base_id, rule_id, point_id, 'high', now() FROM rule r, point p WHERE p.code = 'e1.stack.so2'""")
    e = service.start(mini, T0)
    assert changes(mini) == []
    mini.execute(change)
    service.step(mini, service.reload(mini, e, T0), T0)
    assert changes(mini) == ["return"]
    mini.execute("SELECT alert_step(base_id, alert_id, 'ack', 'wang') FROM alert")
    assert mini.execute("SELECT closed_at IS NOT NULL FROM alert").fetchone() == (True,)


def test_a_point_that_moves_to_another_unit_keeps_its_alert(mini: Db) -> None:
    mini.execute("UPDATE rule SET params = '{\"high\": 35}'")
    e = service.start(mini, T0)
    feed(mini, e, 0, e1__stack__so2=50.0)
    mini.execute("UPDATE point SET unit_id = (SELECT unit_id FROM unit WHERE code = 'e2.outlet') WHERE code = 'e1.stack.so2'")
    e = service.reload(mini, e, T0 + timedelta(minutes=1))
    feed(mini, e, 1, e1__stack__so2=50.0)
    assert changes(mini) == ["raise"]
    feed(mini, e, 2, e1__stack__so2=20.0)
    assert changes(mini) == ["raise", "return"]


@pytest.mark.parametrize("again", ["reload", "restart"])
def test_a_hold_of_hours_outlasts_catalogues_and_restarts(mini: Db, again: str) -> None:
    """The catalogue is read again every hour: a longer hold must not begin anew each time."""
    add_rule(mini, "bypass", "linkage", {}, {"production_on_kw": 100, "treatment_off_kw": 10, "hold_s": 7200, "fresh_s": 9000})
    e = service.start(mini, T0)
    for minute in range(0, 125, 5):
        feed(mini, e, minute, e1__furnace__kw=500.0, e1__filter__kw=0.1)
        if minute % 30 == 0:
            now = T0 + timedelta(minutes=minute)
            service.commit_snapshot(mini, e)
            mini.execute("UPDATE evaluator_snapshot SET at = %s", (now,))
            e = service.reload(mini, e, now) if again == "reload" else service.start(mini, now)
    assert log_of(mini) == [("bypass", "raise")]


@pytest.mark.parametrize("whose", ["device", "server"])
def test_what_a_clock_says_that_is_ahead_is_judged_and_so_is_what_comes_when_it_is_right_again(mini: Db, whose: str) -> None:
    mini.execute("UPDATE rule SET params = '{\"high\": 35, \"hold_s\": 60, \"clear_hold_s\": 60}'")
    add_rule(mini, "jump", "rate", {"quantity": "o2"}, {"rise_per_min": 5})
    add_rule(mini, "silent", "stale", {"quantity": ["so2", "o2", "nox"]}, {"after_s": 300, "unseen": False})
    ahead = timedelta(hours=3)
    e = service.start(mini, T0 + ahead * (whose == "server"))
    for minute in range(12):
        now, says = T0 + timedelta(minutes=minute), T0 + timedelta(minutes=minute) + ahead * (minute < 4)
        clock = says if whose == "server" else now
        if minute == 4 and whose == "server":
            service.commit_snapshot(mini, e)
            mini.execute("UPDATE evaluator_snapshot SET at = %s", (now + ahead,))
            e = service.start(mini, clock)
        read(mini, "e1.stack.so2", 50.0 if minute in (2, 3, 6, 7) else 20.0, says)
        read(mini, "e1.stack.o2", 12.0 if minute < 9 else 19.0, says)
        if minute < 4:
            read(mini, "e1.stack.nox", 1.0 + minute, says)      # and then it is silent
        service.step(mini, e, clock)
    told = log_of(mini)
    assert [c for r, c in told if r == "stack-so2"] == ["raise", "return", "reraise", "return"]
    assert [c for r, c in told if r == "jump"] == ["raise", "return"]
    assert [c for r, c in told if r == "silent"] == ["raise"]


def test_a_clock_that_is_set_ahead_and_back_stops_nothing_and_makes_nobody_silent(mini: Db, database_url: str) -> None:
    mini.execute("UPDATE rule SET params = '{\"high\": 35}'")
    offset, stop = timedelta(0), threading.Event()
    seen: list[datetime] = []

    def clock() -> datetime:
        seen.append(datetime.now(UTC) + offset)
        return seen[-1]

    def saved() -> datetime | None:
        row = mini.execute("SELECT at FROM evaluator_snapshot WHERE shard = 'main'").fetchone()
        return row[0] if row else None

    mini.execute("""INSERT INTO alert (base_id, rule_id, point_id, severity, opened_at, shelved_until)
        SELECT r.base_id, rule_id, point_id, 'high', now(), now() + interval '1 hour' FROM rule r, point p
        WHERE p.code = 'e1.stack.nox'""")
    mini.execute("UPDATE rule SET scope = '{\"quantity\": [\"so2\", \"nox\"]}'")
    add_rule(mini, "silent", "stale", {"quantity": "o2"}, {"after_s": 300, "unseen": False})
    thread = threading.Thread(target=service.run, args=(database_url, stop, clock))
    thread.start()
    try:
        until(lambda: bool(bases_held(mini)))
        read(mini, "e1.stack.o2", 12.0, datetime.now(UTC))
        for ahead in (timedelta(0), timedelta(hours=1), timedelta(0)):
            offset = ahead
            seen.clear()
            until(lambda: len(seen) > 12)
        mini.execute("UPDATE alert SET shelved_until = now()")
        until(lambda: ("stack-so2", "unshelve") in log_of(mini))        # what is done with every save goes on
        assert "silent" not in {rule for rule, _ in log_of(mini)}
    finally:
        stop.set()
        thread.join(5)
    assert not thread.is_alive() and saved() is not None


@pytest.mark.parametrize("memory", [b"", b"nonsense", b"PK\x03\x04 half of it"])
def test_a_memory_that_cannot_be_read_is_begun_anew(mini: Db, memory: bytes) -> None:
    mini.execute("INSERT INTO evaluator_snapshot (shard, at, state) VALUES ('main', now(), %s)", (memory,))
    mini.execute("UPDATE rule SET params = '{\"high\": 35}'")
    feed(mini, service.start(mini, T0), 0, e1__stack__so2=50.0)
    assert changes(mini) == ["raise"]


def test_criticals_of_ever_new_causes_never_exceed_what_a_robot_takes_and_routes_to_one_robot_share_it(
        mini: Db, robot: Robot) -> None:
    """Twenty messages a minute, then silence for ten minutes: DingTalk and WeCom."""
    one, two = add(mini, "wecom", robot.url), add(mini, "dingtalk", robot.url)
    pace = notify.Pace()
    times: list[int] = []
    for second in range(0, 120, 2):
        happen(mini, "critical")
        mini.execute("UPDATE alert SET first_out = alert_id WHERE first_out IS NULL")
        for route in (one, two):
            routes.deliver(mini, route, pace, float(second))
        times += [second] * (len(robot.got) - len(times))
        assert sum(second - t < 60 for t in times) <= 20
    assert len(times) >= 30         # as often as it takes them
    routes.deliver(mini, one, pace, 200.0)
    routes.deliver(mini, two, pace, 216.0)
    assert mini.execute("SELECT channel = %s, state, count(*) FROM delivery GROUP BY 1, 2 ORDER BY 1",
                        (one.channel,)).fetchall() == [(False, "sent", 60), (True, "sent", 60)]


def test_every_message_has_the_word_that_a_robot_with_keywords_asks_for(mini: Db, robot: Robot) -> None:
    for language, word in (("zh", "报警"), ("en", "alert")):
        route = add(mini, "wecom", robot.url, language=language, name=language)
        happen(mini)
        go(mini, route)
        routes.try_out(route)
        assert all(word in body["markdown"]["content"].splitlines()[0] for _, body in robot.got[-2:])


def test_a_receiver_that_is_away_for_hours_is_told_when_it_is_back() -> None:
    assert 6 * 3600 < sum(notify.wait_s(n) for n in range(1, notify.ATTEMPTS)) < 12 * 3600


@pytest.mark.parametrize(("mark", "back"), [("out_of_service", "in_service"), ("suppressed", "unsuppress")])
def test_what_nobody_could_be_told_of_for_weeks_is_told_when_it_comes_back(mini: Db, robot: Robot, mark: str,
                                                                           back: str) -> None:
    route = add(mini, "wecom", robot.url)
    mini.execute("UPDATE evaluator_snapshot SET at = now() - interval '30 days'")
    happen(mini, "high", datetime.now(UTC) - timedelta(days=12))
    mini.execute(f"UPDATE alert SET {mark} = true")
    assert go(mini, route) == 0
    mini.execute(f"UPDATE alert SET {mark} = false")
    mini.execute("""INSERT INTO transition (base_id, alert_id, change, actor)
        SELECT base_id, alert_id, %s, 'evaluator' FROM alert""", (back,))
    assert go(mini, route) == 1 and go(mini, route) == 0
    assert "1号排气筒二氧化硫高于上限" in robot.got[0][1]["markdown"]["content"]


def test_a_row_that_no_message_can_be_made_of_ends_no_thread(mini: Db, database_url: str, robot: Robot,
                                                            monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "AFTER_FAULT_S", 0.05)
    route = add(mini, "wecom", robot.url)
    happen(mini)
    mini.execute("UPDATE alert SET explanation = '[]'")
    stop = threading.Event()
    thread = threading.Thread(target=routes._serve, args=(database_url, route, notify.Pace(), stop, time.monotonic))
    thread.start()
    try:
        until(lambda: mini.execute("SELECT count(*) FROM delivery").fetchone() == (1,))
        mini.execute("UPDATE alert SET explanation = '{}'")
        until(lambda: len(robot.got) == 1)
    finally:
        stop.set()
        thread.join(5)
    assert not thread.is_alive()


def test_shifts_follow_each_other_on_the_night_when_the_clock_is_moved(mini: Db) -> None:
    mini.execute("UPDATE base SET timezone = 'Europe/Berlin'")
    shifts = [{"person": "a", "start": "08:00", "hours": 12}, {"person": "b", "start": "20:00", "hours": 12}]
    for day in (date(2026, 3, 28), date(2026, 10, 24)):     # 23 and 25 hours
        mini.execute("DELETE FROM duty")
        roster.fill(mini, "mini", shifts, datetime(day.year, day.month, day.day, 12, tzinfo=UTC), 3, "test")
        rows = mini.execute("SELECT starts_at, ends_at FROM duty ORDER BY 1").fetchall()
        assert len(rows) == 8 and all(a[1] == b[0] for a, b in pairwise(rows))


def test_two_evaluators_that_both_judge_a_base_write_each_transition_once(mini: Db) -> None:
    """The lock of the base keeps them apart; where it is lost for a moment the open alert does."""
    mini.execute("UPDATE rule SET params = '{\"high\": 35}'")
    both = [service.start(mini, T0), service.start(mini, T0)]
    for minute, value in enumerate([50.0, 20.0, 50.0, 20.0]):
        read(mini, "e1.stack.so2", value, T0 + timedelta(minutes=minute))
        for e in both:
            service.step(mini, e, T0 + timedelta(minutes=minute))
    assert changes(mini) == ["raise", "return", "reraise", "return"]


def test_sessions_that_the_database_ends_again_and_again_lose_and_repeat_nothing(mini: Db, database_url: str) -> None:
    mini.execute("UPDATE rule SET params = '{\"high\": 35}'")
    stop, want = threading.Event(), ["raise"]
    thread = threading.Thread(target=service.run, args=(database_url, stop))
    thread.start()
    try:
        for i in range(5):
            read(mini, "e1.stack.so2", 50.0 if i % 2 == 0 else 20.0, datetime.now(UTC))
            time.sleep(0.05 * i)                    # before, in and after the tick
            mini.execute("""SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                WHERE application_name = 'park alert' AND datname = current_database()""")
            until(partial(lambda want: changes(mini) == want, want))
            want = [*want, "return" if i % 2 == 0 else "reraise"]
    finally:
        stop.set()
        thread.join(8)
    assert not thread.is_alive()


def test_what_is_raised_while_nobody_is_on_duty_is_told_to_who_comes_next(mini: Db, robot: Robot) -> None:
    li = add(mini, "wecom", robot.url, person="李敏", on_duty=True)
    mini.execute("UPDATE evaluator_snapshot SET at = now() - interval '1 day'")
    mini.execute("""INSERT INTO duty (base_id, person, starts_at, ends_at, recorded_by)
        SELECT base_id, '李敏', now() - interval '10 minutes', now() + interval '8 hours', 'test' FROM base""")
    now = datetime.now(UTC)
    happen(mini, "high", now - timedelta(minutes=40))           # a gap in the roster
    happen(mini, "critical", now - timedelta(minutes=5))        # on his duty: told at once, and not a second time
    bases = {"bases": [1]}
    assert len(mini.execute(store.Q["escalate_due"], bases).fetchall()) == 1
    assert mini.execute(store.Q["escalate_due"], bases).fetchall() == []
    assert go(mini, li) == 2
    assert "[重要] 超时未确认" in robot.got[0][1]["markdown"]["content"]


def test_a_process_that_loses_its_lock_stops_its_routes_so_that_nobody_is_told_twice(
        mini: Db, database_url: str, robot: Robot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "LOOK_S", 0.05)
    add(mini, "wecom", robot.url)
    stops = [threading.Event(), threading.Event()]
    threads = [threading.Thread(target=routes.run, args=(database_url, stop, time.monotonic)) for stop in stops]

    def serving() -> int:
        row = mini.execute("""SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
            AND application_name LIKE 'park notify route:%'""").fetchone()
        return int(row[0]) if row else 0

    try:
        threads[0].start()
        until(lambda: serving() == 1)
        threads[1].start()
        until(lambda: mini.execute("""SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
            AND application_name = 'park notify routes'""").fetchone() == (2,))
        mini.execute("""SELECT pg_terminate_backend(pid) FROM pg_stat_activity a JOIN pg_locks l USING (pid)
            WHERE application_name = 'park notify routes' AND locktype = 'advisory' AND datname = current_database()""")
        time.sleep(2.5)             # the other one has the lock by now, and the first has looked again
        assert serving() == 1
    finally:
        for stop in stops:
            stop.set()
        for thread in threads:
            thread.join(5)
    assert not any(t.is_alive() for t in threads)


def test_a_rule_that_is_renamed_in_the_catalogue_returns_its_alert_and_raises_its_own(mini: Db, tmp_path: Path) -> None:
    def apply(code: str) -> list[str]:
        file = tmp_path / "c.yaml"
        text = MINI.read_text(encoding="utf-8").replace("stack-so2", code).replace(", hold_s: 60}", "}")
        file.write_text(text, encoding="utf-8")
        changes = catalogue_store.apply(mini, read_catalogue([file]), prune=True)
        return [str(change) for change in changes if "rules" in str(change)]

    apply("stack-so2")
    e = service.start(mini, T0)
    feed(mini, e, 0, e1__stack__so2=50.0)
    assert apply("so2") == ["+ rules so2", "- rules stack-so2"]
    e = service.reload(mini, e, T0 + timedelta(minutes=1))
    feed(mini, e, 1, e1__stack__so2=50.0)
    assert log_of(mini) == [("stack-so2", "raise"), ("stack-so2", "return"), ("so2", "raise")]
    assert [line[0] for line in apply("stack-so2")] == ["~", "-"]                 # and back again
