"""The inbox is bounded; dead letters come back when the catalogue learns. Faults under a stream: test_soak.py."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from ingest.directory import load_directory
from ingest.inbox import Inbox, Received
from ingest.replay import replay
from ingest.store import Batch, Store
from ingest.validation import Message
from park.errors import InputError
from park.wire import Batch as Columns

Db = psycopg.Connection[Any]
AT_MS = 1_793_491_200_000  # 2026-11-01


def test_the_inbox_holds_no_more_than_its_bound() -> None:
    inbox = Inbox(2, most_bytes=100)
    one = Received("t", b"x", 0, 1, 1, 1)
    assert inbox.put(one) and inbox.put(one)
    taken = inbox.take(10, 0)
    assert len(taken) == 2 and len(inbox) == 2, "taken is not released"
    inbox.release(taken)
    assert inbox.put(one)
    inbox.close()
    assert not inbox.put(one)


def test_dead_letters_become_readings_when_the_catalogue_knows_their_points(mini: Db, database_url: str) -> None:
    store = Store(mini, future_after_s=600, late_after_s=900)
    columns = Columns(5, ["e1.gas", "new.one", "new.two"], [AT_MS] * 3, [1.0, 2.0, 3.0], ["good", "manual", "good"])
    store.write(Batch([Message(1, "s1", "park/v1/mini/s1/readings", AT_MS * 1000, columns)]), load_directory(mini))
    assert (replay(database_url).letters, replay(database_url).left) == (0, 1)
    for code in ("new.one", "new.two"):
        mini.execute("""INSERT INTO point (base_id, code, name_zh, name_en, quantity, unit, kind)
            VALUES (1, %s, 'n', 'n', 'active_power', 'kW', 'gauge')""", (code,))
    done = replay(database_url)
    assert (done.letters, done.stored, done.left) == (1, 2, 0)
    assert mini.execute("""SELECT p.code, value, quality FROM reading JOIN point p USING (base_id, point_id)
        WHERE p.code LIKE 'new%' ORDER BY 1""").fetchall() == [("new.one", 2, 1), ("new.two", 3, 0)]
    assert replay(database_url).letters == 0


def test_what_is_known_of_a_letter_is_stored_and_the_rest_waits_on(mini: Db, database_url: str) -> None:
    store = Store(mini, future_after_s=600, late_after_s=900)
    columns = Columns(5, ["new.one", "new.two"], [AT_MS] * 2, [2.0, 3.0], None)
    store.write(Batch([Message(1, "s1", "park/v1/mini/s1/readings", AT_MS * 1000, columns)]), load_directory(mini))
    mini.execute("""INSERT INTO point (base_id, code, name_zh, name_en, quantity, unit, kind)
        VALUES (1, 'new.two', 'n', 'n', 'active_power', 'kW', 'gauge')""")
    done = replay(database_url)
    assert (done.letters, done.stored, done.left) == (1, 1, 1)
    assert mini.execute("SELECT detail FROM dead_letter WHERE replayed_at IS NULL").fetchall() == [("new.one",)]
    assert (replay(database_url).letters, replay(database_url).left) == (0, 1)
    counts = dict(mini.execute("SELECT outcome, n FROM ingest_counter").fetchall())
    del counts["late"]
    assert counts == {"dead:unknown_point": 3, "replayed": 2, "stored": 1}, "came in: stored + dead - replayed"


def test_a_time_that_was_judged_by_a_wrong_clock_is_replayed_on_request(mini: Db, database_url: str) -> None:
    store = Store(mini, future_after_s=600, late_after_s=900)
    columns = Columns(6, ["e1.gas"], [AT_MS], [2.0], None)
    behind_us = (AT_MS - 7_200_000) * 1000      # this machine's clock was two hours behind
    store.write(Batch([Message(1, "s1", "park/v1/mini/s1/readings", behind_us, columns)]), load_directory(mini))
    mini.execute("UPDATE dead_letter SET received_at = to_timestamp(%s / 1e6)", (behind_us,))
    assert replay(database_url).letters == 0
    assert replay(database_url, ["bad_time"]).stored == 1
    with pytest.raises(InputError, match="bad_message"):
        replay(database_url, ["bad_message"])
