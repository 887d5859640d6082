"""Several evaluators share the bases: each base is judged by one of them, and none while another holds it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest

from alerts import service
from alerts.part import LOCK, Part, part_of
from park.errors import InputError

Db = psycopg.Connection[Any]


def until(true: Callable[[], bool], seconds: float = 15.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "not within the deadline"
        time.sleep(0.02)


@pytest.fixture
def two_bases(mini: Db) -> Db:
    """mini, and a second base with a point and a rule of its own."""
    mini.execute("INSERT INTO base (base_id, code, name_zh, name_en) VALUES (2, 'two', 'x', 'x')")
    mini.execute("""INSERT INTO point (base_id, code, name_zh, name_en, quantity, unit, kind)
        VALUES (2, 'kw', 'p', 'p', 'active_power', 'kW', 'gauge')""")
    mini.execute("DELETE FROM rule")
    mini.execute("""INSERT INTO rule (base_id, code, name_zh, name_en, kind, scope, params) VALUES
        (1, 'one', 'o', 'o', 'limit', '{"points": ["e1.stack.so2"]}', '{"high": 35}'),
        (2, 'two', 't', 't', 'limit', '{"points": ["kw"]}', '{"high": 35}')""")
    return mini


def read(db: Db, code: str, value: float) -> None:
    db.execute("""INSERT INTO latest (base_id, point_id, ts, value, quality, arrived_at)
        SELECT base_id, point_id, %s, %s, 0, clock_timestamp() FROM point WHERE code = %s
        ON CONFLICT (base_id, point_id) DO UPDATE SET ts = excluded.ts, value = excluded.value,
            arrived_at = excluded.arrived_at""", (datetime.now(UTC), value, code))


def raised(db: Db) -> list[int]:
    return [b for (b,) in db.execute("SELECT base_id FROM transition WHERE change = 'raise' ORDER BY base_id").fetchall()]


def held(db: Db) -> list[int]:
    return [b for (b,) in db.execute("""SELECT objid::integer FROM pg_locks WHERE locktype = 'advisory' AND granted
        AND classid = %s AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) ORDER BY 1""",
                                     (LOCK,)).fetchall()]


def begin(url: str, part: Part) -> tuple[threading.Thread, threading.Event]:
    stop = threading.Event()
    thread = threading.Thread(target=service.run, args=(url, stop), kwargs={"part": part})
    thread.start()
    return thread, stop


def test_a_part_judges_its_own_bases_alone(two_bases: Db, database_url: str) -> None:
    parts = [begin(database_url, Part(1, 2))]
    try:
        until(lambda: held(two_bases) == [2])
        read(two_bases, "e1.stack.so2", 50.0)
        read(two_bases, "kw", 50.0)
        until(lambda: raised(two_bases) == [2])
        parts.append(begin(database_url, Part(2, 2)))
        until(lambda: held(two_bases) == [1, 2])
        until(lambda: raised(two_bases) == [1, 2])
    finally:
        for _, stop in parts:
            stop.set()
        for thread, _ in parts:
            thread.join(5)
    assert {s for (s,) in two_bases.execute("SELECT shard FROM evaluator_snapshot WHERE shard !~ 'channel'").fetchall()} == \
        {"1/2", "2/2"}


def test_an_evaluator_of_all_bases_stands_by_while_another_has_one_and_takes_over(two_bases: Db, database_url: str) -> None:
    first, first_stop = begin(database_url, Part(1, 2))
    second, second_stop = None, None
    try:
        until(lambda: held(two_bases) == [2])
        second, second_stop = begin(database_url, Part())
        time.sleep(1.5)
        assert held(two_bases) == [2]
        first_stop.set()
        until(lambda: held(two_bases) == [1, 2])
        read(two_bases, "e1.stack.so2", 50.0)
        until(lambda: raised(two_bases) == [1])
    finally:
        first_stop.set()
        first.join(5)
        if second is not None and second_stop is not None:
            second_stop.set()
            second.join(5)


@pytest.mark.parametrize("text", ["0/2", "3/2", "2", "1/0", "a/b", ""])
def test_a_part_that_is_none_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(InputError, match="2/4"):
        part_of(text)
