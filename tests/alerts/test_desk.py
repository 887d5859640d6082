"""Out of service, duty and escalation, first-out, floods of critical alerts, cases: what operators' orders do to alerts."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from alerts import notify, routes, service
from alerts.cases import STATES, STEPS, Case, next_state
from park.errors import Conflict, InputError
from tests.alerts.test_routes import Robot, robot  # noqa: F401 (the robot of the routes' tests)
from tests.alerts.test_service import add_rule, log_of, read

Db = psycopg.Connection[Any]
T0 = datetime.now(UTC).replace(microsecond=0)


def feed(db: Db, e: service.Evaluator, seconds: float, **values: float) -> None:
    now = T0 + timedelta(seconds=seconds)
    for code, value in values.items():
        read(db, f"e1.stack.{code}", value, now)
    service.step(db, e, now)


def order(db: Db, **about: str) -> None:
    """Take a point, a rule, a unit or a device out of service for a day."""
    (what, code), = about.items()
    db.execute(f"""INSERT INTO out_of_service (base_id, {what}_id, until, reason, actor)
        SELECT base_id, {what}_id, now() + interval '1 day', 'repair', 'wang' FROM {what} WHERE code = %s""", (code,))


@pytest.mark.parametrize("about", [{"point": "e1.stack.so2"}, {"rule": "stack-so2"}, {"unit": "e1.stack"},
                                   {"device": "d.e1.cems"}])
def test_what_is_out_of_service_is_kept_underneath_and_told_to_nobody_until_it_is_back(
        mini: Db, robot: Robot, about: dict[str, str]) -> None:  # noqa: F811
    mini.execute("INSERT INTO route (base_id, name, kind, target) SELECT base_id, 'r', 'wecom', %s FROM base", (robot.url,))
    (route,) = routes.read(mini)
    notify.enrol(mini, route.channel)
    order(mini, **about)
    e = service.start(mini, T0)
    feed(mini, e, 0, so2=50)
    feed(mini, e, 70, so2=50)
    assert [c for _, c in log_of(mini)] == ["raise", "out_of_service"]
    row = mini.execute("SELECT note, detail->>'by' FROM transition WHERE change = 'out_of_service'").fetchone()
    assert row == ("repair", "wang")
    assert routes.deliver(mini, route, notify.Pace(), 0.0) == 0
    mini.execute("UPDATE out_of_service SET ended_at = now(), ended_by = 'li'")
    feed(mini, e, 80, so2=50)
    assert [c for _, c in log_of(mini)] == ["raise", "out_of_service", "in_service"]
    assert routes.deliver(mini, route, notify.Pace(), 0.0) == 1         # its raise, which nobody had heard of
    mini.execute("INSERT INTO out_of_service (base_id, rule_id, since, until, reason, actor) SELECT base_id, rule_id, "
                 "now() - interval '2 hours', now() - interval '1 hour', 'over', 'wang' FROM rule")
    feed(mini, e, 90, so2=50)
    assert len(log_of(mini)) == 3                                       # an order whose time is over binds nothing


def test_a_gateway_that_goes_is_one_alert_and_its_devices_are_none(mini: Db) -> None:
    mini.execute("UPDATE rule SET enabled = false")
    points = ["e1.main.kw", "e1.stack.so2", "e2.cod"]
    add_rule(mini, "silent", "stale", {"points": points}, {"after_s": 180, "auto_close": True})
    mini.execute("UPDATE device SET settings = settings || '{\"connection\": \"tcp://user:pw@10.0.0.5:502\"}'")
    mini.execute("UPDATE point SET device_id = (SELECT device_id FROM device WHERE code = 'd.e2.mqtt') WHERE code = 'e2.cod'")
    e = service.start(mini, T0)
    for i in range(12):
        now = T0 + timedelta(seconds=60 * i)
        read(mini, "e2.ph", 7, now)                                     # something else is heard all the time
        for k, code in enumerate(points):
            if i < 3 or i > 9:
                read(mini, code, 10 + i, now - timedelta(seconds=5 * k))
        service.step(mini, e, now)
    assert log_of(mini) == [("silent", "raise"), ("silent", "return")]
    row = mini.execute("SELECT channel, explanation->>'en', explanation->>'zh' FROM alert").fetchone()
    assert row is not None and row[0] == "gateway_offline" and "3 devices and 8 points" in row[1]
    assert "pw" not in row[1] + row[2]


def duty(db: Db, person: str, after_s: int, from_h: float = -1, to_h: float = 7) -> None:
    db.execute("""INSERT INTO duty (base_id, person, starts_at, ends_at, after_s, recorded_by)
        SELECT base_id, %s, now() + make_interval(secs => %s), now() + make_interval(secs => %s), %s, 'test' FROM base""",
               (person, from_h * 3600, to_h * 3600, after_s))


def test_who_is_on_duty_is_told_at_once_and_the_next_one_when_nobody_acknowledges(mini: Db, robot: Robot) -> None:  # noqa: F811
    for person in ("wang", "li", "zhao"):
        mini.execute("""INSERT INTO route (base_id, name, kind, target, person, on_duty, language)
            SELECT base_id, %s, 'wecom', %s, %s, true, 'en' FROM base""", (person, f"{robot.url}?{person}", person))
    known = {r.person: r for r in routes.read(mini)}
    for r in known.values():
        notify.enrol(mini, r.channel)
    duty(mini, "wang", 0)
    duty(mini, "li", 600)
    duty(mini, "zhao", 0, 10, 18)                       # the next shift
    e = service.start(mini, T0)
    feed(mini, e, 0, so2=50)
    feed(mini, e, 70, so2=50)

    def told() -> dict[str, int]:
        return {name: routes.deliver(mini, r, notify.Pace(), 0.0) for name, r in known.items()}

    assert told() == {"wang": 1, "li": 0, "zhao": 0}
    feed(mini, e, 80, so2=50)
    assert "escalate" not in [c for _, c in log_of(mini)]
    mini.execute("UPDATE transition SET at = at - interval '11 minutes'")
    feed(mini, e, 90, so2=50)
    feed(mini, e, 100, so2=50)
    assert [c for _, c in log_of(mini)] == ["raise", "escalate"]      # once
    assert told() == {"wang": 0, "li": 1, "zhao": 0}
    assert "not acknowledged" in robot.got[-1][1]["markdown"]["content"]
    mini.execute("SELECT alert_step(base_id, alert_id, 'ack', 'wang') FROM alert")
    feed(mini, e, 110, so2=20)
    feed(mini, e, 120, so2=20)
    assert told() == {"wang": 1, "li": 1, "zhao": 0}                    # both hear that it returned


def test_what_a_clock_that_was_ahead_raised_escalates_once_the_clock_is_right_and_not_when_its_time_has_come(mini: Db) -> None:
    duty(mini, "wang", 0)
    duty(mini, "li", 600)
    e = service.start(mini, T0)
    feed(mini, e, 0, so2=50)
    feed(mini, e, 70, so2=50)
    mini.execute("UPDATE transition SET at = at + interval '3 hours'")
    for second in (80, 90, 100):
        feed(mini, e, second, so2=50)
    to = mini.execute("SELECT note FROM transition WHERE change = 'escalate' ORDER BY note").fetchall()
    assert to == [("li",), ("wang",)], "each once: since when it stands nobody knows, and whom it was told by that time neither"
    for second, so2 in ((110, 20), (180, 20), (190, 50), (260, 50), (270, 50)):
        feed(mini, e, second, so2=so2)
    assert [c for _, c in log_of(mini)] == ["raise", "escalate", "escalate", "return", "reraise"], "by the right time again"


def test_an_acknowledged_or_shelved_alert_is_not_escalated(mini: Db) -> None:
    duty(mini, "li", 600)
    e = service.start(mini, T0)
    feed(mini, e, 0, so2=50)
    feed(mini, e, 70, so2=50)
    mini.execute("SELECT alert_step(base_id, alert_id, 'shelve', 'wang', 'x', '{\"minutes\": 60}') FROM alert")
    mini.execute("UPDATE transition SET at = at - interval '11 minutes'")
    feed(mini, e, 90, so2=50)
    mini.execute("SELECT alert_step(base_id, alert_id, 'unshelve', 'wang') FROM alert")
    feed(mini, e, 100, so2=50)
    assert "escalate" not in [c for _, c in log_of(mini)]               # its time begins anew
    mini.execute("SELECT alert_step(base_id, alert_id, 'ack', 'wang') FROM alert")
    mini.execute("UPDATE transition SET at = at - interval '11 minutes'")
    feed(mini, e, 110, so2=50)
    assert "escalate" not in [c for _, c in log_of(mini)]


def test_a_flood_is_led_by_what_came_first_and_told_in_two_lines(mini: Db, robot: Robot) -> None:  # noqa: F811
    mini.execute("DELETE FROM rule")
    for code in ("so2", "nox", "dust", "o2"):
        add_rule(mini, f"high-{code}", "limit", {"quantity": code}, {"high": 35})
    add_rule(mini, "elsewhere", "limit", {"quantity": "cod"}, {"high": 35})
    mini.execute("""INSERT INTO route (base_id, name, kind, target, language)
        SELECT base_id, 'r', 'wecom', %s, 'en' FROM base""", (robot.url,))
    (route,) = routes.read(mini)
    notify.enrol(mini, route.channel)
    e = service.start(mini, T0)
    now = T0 + timedelta(seconds=30)
    for code, lag in (("dust", 3), ("so2", 20), ("nox", 2)):            # SO2 came first by its own clock
        read(mini, f"e1.stack.{code}", 50, now - timedelta(seconds=lag))
    read(mini, "e2.cod", 50, now)
    service.step(mini, e, now)
    feed(mini, e, 40, o2=50)                                            # joins the flood
    rows = mini.execute("""SELECT r.code, f.code FROM alert a JOIN rule r USING (base_id, rule_id)
        LEFT JOIN alert h ON h.alert_id = a.first_out LEFT JOIN rule f ON f.rule_id = h.rule_id ORDER BY r.code""").fetchall()
    assert rows == [("elsewhere", None), *((f"high-{c}", "high-so2") for c in ("dust", "nox", "o2", "so2"))]
    assert routes.deliver(mini, replace(route, console="https://park.example/"), notify.Pace(), 0.0) == 5
    text = robot.got[-1][1]["markdown"]["content"]
    assert "SO2 is 50" in text and "(came first)" in text and "https://park.example/?base=mini&alert=" in text
    assert "3 more followed: high-" in text and text.count("\n") == 3


def floods(db: Db) -> dict[str, str | None]:
    """The alert that leads each alert's flood, by rules."""
    return dict(db.execute("""SELECT r.code, f.code FROM alert a JOIN rule r USING (base_id, rule_id)
        LEFT JOIN alert h ON h.alert_id = a.first_out LEFT JOIN rule f ON f.rule_id = h.rule_id ORDER BY r.code""").fetchall())


def at_once(db: Db, lags: dict[str, float]) -> None:
    """Readings over a limit of their own, each so many seconds ago by its own clock; a rule a point."""
    db.execute("DELETE FROM rule")
    for code in lags:
        add_rule(db, code, "limit", {"points": [code]}, {"high": 35})
    e, now = service.start(db, T0), T0 + timedelta(seconds=30)
    for code, lag in lags.items():
        read(db, code, 50, now - timedelta(seconds=lag))
    service.step(db, e, now)


def enterprises(db: Db, n: int) -> None:
    """n more enterprises, each with a meter below the park's incomer and a gauge `xN.kw`."""
    db.execute("""INSERT INTO enterprise (base_id, code, name_zh, name_en)
        SELECT base_id, 'x' || i, '', '' FROM base, generate_series(1, %s) i""", (n,))
    db.execute("""INSERT INTO unit (base_id, code, name_zh, name_en, enterprise_id, role)
        SELECT base_id, code || '.site', '', '', enterprise_id, 'site' FROM enterprise WHERE code LIKE 'x%'""")
    db.execute("""INSERT INTO point (base_id, code, name_zh, name_en, quantity, unit, kind, unit_id, expected_s)
        SELECT u.base_id, split_part(u.code, '.', 1) || s, '', '', q, m, k, u.unit_id, 60 FROM unit u,
            (VALUES ('.kwh', 'active_energy', 'kWh', 'counter'), ('.kw', 'active_power', 'kW', 'gauge')) x (s, q, m, k)
        WHERE u.code LIKE 'x%'""")
    db.execute("""INSERT INTO flow (base_id, carrier, parent_id, child_id)
        SELECT c.base_id, 'electricity', p.point_id, c.point_id FROM point p JOIN point c USING (base_id)
        WHERE p.code = 'park.kwh' AND c.code LIKE 'x%.kwh'""")


def test_a_failure_of_the_supply_is_one_flood_over_the_enterprises_below_it(mini: Db) -> None:
    enterprises(mini, 1)
    mini.execute("""INSERT INTO point (base_id, code, name_zh, name_en, quantity, unit, kind, unit_id, expected_s)
        SELECT base_id, 'park.kw', '', '', 'active_power', 'kW', 'gauge', unit_id, 60 FROM unit WHERE code = 'park'""")
    at_once(mini, {"park.kw": 9, "e1.furnace.kw": 5, "e2.cod": 3, "x1.kw": 2})
    assert set(floods(mini).values()) == {"park.kw"}


def test_few_of_many_enterprises_are_no_flood_of_the_supply(mini: Db) -> None:
    enterprises(mini, 6)        # eight below one incomer: three of them at once are chance
    at_once(mini, {"e1.furnace.kw": 5, "x1.kw": 2, "x2.kw": 2})
    assert set(floods(mini).values()) == {None}


def test_units_of_several_enterprises_behind_one_gateway_are_one_flood(mini: Db) -> None:
    enterprises(mini, 9)
    mini.execute("""INSERT INTO device (base_id, code, protocol, settings)
        SELECT base_id, 'g' || i, 'modbus', '{"connection": "tcp://10.0.0.9:502"}' FROM base, generate_series(1, 3) i""")
    for i, code in enumerate(("e1.furnace.kw", "x1.kw", "x2.kw"), 1):
        mini.execute("UPDATE point SET device_id = d.device_id FROM device d WHERE d.code = %s AND point.code = %s",
                     (f"g{i}", code))
    at_once(mini, {"e1.furnace.kw": 5, "x1.kw": 8, "x2.kw": 2, "x3.kw": 9})
    assert floods(mini) == {"e1.furnace.kw": "x1.kw", "x1.kw": "x1.kw", "x2.kw": "x1.kw", "x3.kw": None}


def test_ten_thousand_critical_raises_of_one_cause_are_at_most_ten_messages_and_none_is_lost(mini: Db, robot: Robot) -> None:  # noqa: F811
    mini.execute("UPDATE rule SET severity = 'critical'")
    mini.execute("INSERT INTO route (base_id, name, kind, target) SELECT base_id, 'r', 'wecom', %s FROM base", (robot.url,))
    (route,) = routes.read(mini)
    notify.enrol(mini, route.channel)
    e = service.start(mini, T0)
    feed(mini, e, 0, so2=50)
    feed(mini, e, 70, so2=50)
    pace = notify.Pace()
    assert routes.deliver(mini, route, pace, 0.0) == 1                  # the first one at once
    for i in range(60):
        if i < 20:
            mini.execute("""INSERT INTO transition (base_id, alert_id, change, actor)
                SELECT base_id, alert_id, 'reraise', 'evaluator' FROM alert, generate_series(1, 500)""")
        routes.deliver(mini, route, pace, 1.0 + i)
    assert len(robot.got) <= 10
    add_rule(mini, "other", "limit", {"quantity": "nox"}, {"high": 35}, "critical")
    e = service.start(mini, T0 + timedelta(seconds=80))
    feed(mini, e, 90, nox=50)
    before = len(robot.got)
    routes.deliver(mini, route, pace, 61.5)
    assert len(robot.got) == before + 1                                 # another cause does not wait
    for i in range(62, 90):
        routes.deliver(mini, route, pace, float(i))
    assert mini.execute("SELECT state, count(*) FROM delivery GROUP BY 1").fetchall() == [("sent", 10_002)]


def test_a_test_message_is_sent_once_when_somebody_asks_and_says_what_became_of_it(mini: Db, robot: Robot) -> None:  # noqa: F811
    mini.execute("INSERT INTO route (base_id, name, kind, target) SELECT base_id, 'r', 'wecom', %s FROM base", (robot.url,))
    (route,) = routes.read(mini)
    assert not routes.answer_test(mini, route)
    mini.execute("UPDATE route SET test_asked_at = clock_timestamp()")
    assert routes.answer_test(mini, route) and not routes.answer_test(mini, route)
    assert mini.execute("SELECT test_error, tested_at >= test_asked_at FROM route").fetchone() == ("", True)
    robot.answer = {"errcode": 93000, "errmsg": "invalid webhook url"}
    mini.execute("UPDATE route SET test_asked_at = clock_timestamp()")
    assert routes.answer_test(mini, route)
    error = mini.execute("SELECT test_error FROM route").fetchone()
    assert error is not None and "invalid webhook url" in error[0]


def test_the_case_function_agrees_with_the_table_of_states(mini: Db) -> None:
    mini.execute("""INSERT INTO alert (base_id, rule_id, point_id, severity, opened_at, active)
        SELECT base_id, rule_id, point_id, 'high', now(), false FROM rule JOIN point USING (base_id) LIMIT 2""")
    alert, other = (r[0] for r in mini.execute("SELECT alert_id FROM alert ORDER BY 1").fetchall())
    mini.execute("UPDATE alert SET active = true WHERE alert_id = %s", (other,))
    compared = 0
    for before, step, actor, note, file, active in itertools.product(
            (*STATES, "none"), (*STEPS, "explode"), ("wang", "li"), ("", "done"), ("", "a.jpg"), (False, True)):
        compared += 1
        case = Case(before, frozenset({"wang"}), active)
        by_sql = _by_sql(mini, other if active else alert, case, step, actor, note, file)
        assert by_sql == _by_python(case, step, actor, note, file), (case, step, actor, note, file)
    assert compared > 500


def _by_python(case: Case, step: str, actor: str, note: str, file: str) -> str:
    try:
        return next_state(case, step, actor, note=note, attachment=file, handler="zhao").state
    except Conflict:
        return "PA409"
    except InputError:
        return "PA422"


def _by_sql(db: Db, alert: int, case: Case, step: str, actor: str, note: str, file: str) -> Any:
    try:
        with db.transaction(force_rollback=True):
            known = None
            if case.state != "none":
                row = db.execute("""INSERT INTO pollution_case (base_id, alert_id, state, handler, opened_by, closed_at)
                    VALUES (1, %s, %s, 'zhao', 'qian', CASE WHEN %s = 'closed' THEN now() END) RETURNING case_id""",
                                 (alert, case.state, case.state)).fetchone()
                assert row is not None
                known = row[0]
                db.execute("INSERT INTO case_step (base_id, case_id, step, actor) VALUES (1, %s, 'handle', 'wang')", (known,))
            told = db.execute("SELECT state FROM step_case(1::smallint, %s, %s, %s, %s, %s, 'zhao', NULL, %s, %s)",
                              (known, alert, step, actor, note, file, "ab" * 32 if file else "")).fetchone()
            return told[0] if told else None
    except psycopg.Error as exc:
        return exc.sqlstate
