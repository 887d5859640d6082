"""The state table of an alert: the pure function and the SQL function say the same."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from alerts.lifecycle import CHANGES, Alert, Change, next_state
from park.errors import Conflict, InputError, ParkError

NOW = datetime.now(UTC)
LATER = NOW + timedelta(hours=2)

STATES = [
    Alert(active, acknowledged, shelved, suppressed, auto, closed)
    for active, acknowledged, shelved, suppressed, auto, closed in itertools.product(
        (True, False), (True, False), (None, LATER), (False, True), (False, True), (None, NOW))
]
STEPS = [Change(word, actor) for word in (*CHANGES, "explode") for actor in ("evaluator", "wang")] + [
    Change("shelve", "wang", "maintenance", until=LATER), Change("shelve", "wang", "", until=LATER),
    Change("shelve", "wang", "too long", until=NOW + timedelta(days=8)),
    Change("shelve", "wang", "past", until=NOW - timedelta(minutes=1)),
    Change("comment", "wang", "seen on site"), Change("assign", "wang", to="li"),
]


@pytest.mark.parametrize(("before", "change", "after"), [
    (Alert(), Change("ack", "wang"), Alert(acknowledged=True)),
    (Alert(), Change("return"), Alert(active=False)),
    (Alert(acknowledged=True), Change("return"), Alert(active=False, acknowledged=True, closed_at=NOW)),
    (Alert(auto_close=True), Change("return"), Alert(active=False, auto_close=True, closed_at=NOW)),
    (Alert(active=False), Change("ack", "wang"), Alert(active=False, acknowledged=True, closed_at=NOW)),
    (Alert(active=False), Change("reraise"), Alert(n_raised=2)),
    (Alert(), Change("shelve", "wang", "repair", until=LATER), Alert(shelved_until=LATER)),
    (Alert(active=False, shelved_until=LATER), Change("close", "wang"), Alert(active=False, closed_at=NOW)),
    (Alert(closed_at=NOW), Change("comment", "wang", "evidence"), Alert(closed_at=NOW)),
])
def test_a_step_leads_to_the_state_of_the_table(before: Alert, change: Change, after: Alert) -> None:
    assert next_state(before, change, NOW) == after


@pytest.mark.parametrize(("before", "change"), [
    (Alert(closed_at=NOW), Change("reraise")), (Alert(closed_at=NOW), Change("ack", "wang")),
    (Alert(), Change("close", "wang")), (Alert(acknowledged=True), Change("ack", "wang")),
    (Alert(), Change("return", "wang")), (Alert(), Change("unshelve", "wang")),
])
def test_a_step_that_the_state_forbids_is_a_conflict(before: Alert, change: Change) -> None:
    with pytest.raises(Conflict):
        next_state(before, change, NOW)


def test_the_sql_function_agrees_with_the_pure_one_over_every_state_and_step(mini: psycopg.Connection[Any]) -> None:
    base = mini.execute("SELECT base_id FROM base").fetchone()[0]  # type: ignore[index]
    rule = mini.execute("SELECT rule_id FROM rule").fetchone()[0]  # type: ignore[index]
    compared = 0
    with mini.transaction(force_rollback=True):
        for i, (before, change) in enumerate(itertools.product(STATES, STEPS)):
            compared += 1
            assert _by_sql(mini, base, rule, i, before, change) == _by_python(before, change), (before, change)
    assert compared == len(STATES) * len(STEPS) > 1500


def _by_python(before: Alert, change: Change) -> Any:
    try:
        a = next_state(before, change, NOW)
    except Conflict:
        return "PA409"
    except InputError:
        return "PA422"
    return a.active, a.acknowledged, a.shelved_until, a.suppressed, a.closed_at is not None, a.assigned_to, a.n_raised


def _by_sql(db: psycopg.Connection[Any], base: int, rule: int, alert: int, a: Alert, change: Change) -> Any:
    try:
        with db.transaction():
            db.execute("""INSERT INTO alert (base_id, alert_id, rule_id, device_id, severity, opened_at, active, acknowledged,
                shelved_until, suppressed, auto_close, closed_at) VALUES (%s, %s, %s, %s, 'low', %s, %s, %s, %s, %s, %s, %s)""",
                (base, alert, rule, alert, NOW, a.active, a.acknowledged, a.shelved_until, a.suppressed, a.auto_close,
                 a.closed_at))
            detail = {"until": change.until.isoformat()} if change.until else {"to": change.to} if change.to else {}
            told = db.execute("SELECT alert_step(%s::smallint, %s, %s, %s, %s, %s)",
                              (base, alert, change.word, change.actor, change.note, Jsonb(detail))).fetchone()
            assert told is not None
            logged = db.execute("SELECT change, actor FROM transition WHERE transition_id = %s", told).fetchone()
            assert logged == (change.word, change.actor)
            return db.execute("""SELECT active, acknowledged, shelved_until, suppressed, closed_at IS NOT NULL, assigned_to,
                n_raised FROM alert WHERE alert_id = %s""", (alert,)).fetchone()
    except psycopg.Error as exc:
        return exc.sqlstate


def test_a_step_on_an_alert_that_does_not_exist_is_told_as_such(mini: psycopg.Connection[Any]) -> None:
    with pytest.raises(psycopg.Error, match="no alert 12") as caught:
        mini.execute("SELECT alert_step(1::smallint, 12, 'ack', 'wang')")
    assert caught.value.sqlstate == "PA404"
    assert issubclass(Conflict, ParkError)
