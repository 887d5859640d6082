"""The write path: what becomes of readings in one batch, across batches, and again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest

from ingest.directory import load_directory
from ingest.store import Batch, Store
from ingest.validation import Message
from park.wire import Batch as Columns
from park.wire import decode_batch

Db = psycopg.Connection[Any]
NOW = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
NOW_US = int(NOW.timestamp()) * 1_000_000
NOW_MS = NOW_US // 1000


def message(seq: int, point: Sequence[str], at: Sequence[Any], value: Sequence[float | None],
            quality: Sequence[str] | None = None, source: str = "s1") -> Message:
    return Message(1, source, f"park/v1/mini/{source}/readings", NOW_US, Columns(seq, point, at, value, quality))


@pytest.fixture
def store(mini: Db) -> Store:
    return Store(mini, future_after_s=600, late_after_s=900)


def write(store: Store, *messages: Message, **options: Any) -> dict[str, int]:
    counts: Counter[tuple[int, str]] = store.write(Batch(list(messages)), load_directory(store.conn), **options)
    return {outcome: n for (_, outcome), n in counts.items()}


def readings(db: Db) -> list[tuple[Any, ...]]:
    return db.execute("""SELECT p.code, (extract(epoch FROM ts) * 1000)::bigint - %s, value, quality
        FROM reading JOIN point p USING (base_id, point_id) ORDER BY 1, 2""", (NOW_MS,)).fetchall()


def test_readings_of_a_message_are_stored_with_their_quality(mini: Db, store: Store) -> None:
    counts = write(store, message(1, ["e1.main.kw"] * 5, [NOW_MS + i for i in range(5)], [1.5, None, float("nan"), 30000, 7],
                                  ["good", "good", "good", "good", "maintenance"]))
    assert readings(mini) == [("e1.main.kw", 0, 1.5, 0), ("e1.main.kw", 1, None, 16), ("e1.main.kw", 2, None, 17),
                              ("e1.main.kw", 3, 30000, 4), ("e1.main.kw", 4, 7, 11)]
    assert counts == {"stored": 5, "missing": 1, "bad": 1, "uncertain": 1}


def test_what_no_park_has_so_much_of_is_kept_as_it_came_and_enters_no_figure(mini: Db, store: Store) -> None:
    write(store, message(1, ["e1.furnace.kw"] * 3, [NOW_MS + i for i in range(3)], [3.4e38, -2e15, 1e9],
                         ["good", "uncertain", "good"]))
    assert [row[2:] for row in readings(mini)] == [(3.4e38, 17), (-2e15, 17), (1e9, 0)]


def test_bare_nan_and_infinity_in_json_are_missing_and_counted_so(mini: Db, store: Store) -> None:
    batch = decode_batch(b'{"seq": 1, "point": ["e1.main.kw", "e1.main.kw"], "at": [%d, %d], "value": [NaN, -Infinity]}'
                         % (NOW_MS, NOW_MS + 1))
    assert write(store, Message(1, "s1", "", NOW_US, batch)) == {"stored": 2, "missing": 2}
    assert [row[2:] for row in readings(mini)] == [(None, 16), (None, 16)]


def test_a_batch_that_comes_again_is_stored_once(mini: Db, store: Store) -> None:
    m = message(1, ["e1.main.kw"], [NOW_MS], [1.0])
    assert write(store, m, m) == {"stored": 1, "duplicate": 1}
    assert write(store, m) == {"duplicate": 1}
    assert len(readings(mini)) == 1
    assert mini.execute("SELECT outcome, n FROM ingest_counter ORDER BY 1").fetchall() == [("duplicate", 2), ("stored", 1)]


def test_a_batch_number_used_for_other_readings_becomes_a_dead_letter(mini: Db, store: Store) -> None:
    write(store, message(1, ["e1.main.kw"], [NOW_MS], [1.0]))
    assert write(store, message(1, ["e1.main.kw"] * 2, [NOW_MS + 1, NOW_MS + 2], [1.0, 2.0])) == {"dead:seq_reused": 2}
    assert mini.execute("SELECT reason, source, seq FROM dead_letter").fetchall() == [("seq_reused", "s1", 1)]


def test_a_later_value_replaces_and_the_former_is_kept(mini: Db, store: Store) -> None:
    write(store, message(1, ["e1.main.kw", "e1.gas"], [NOW_MS, NOW_MS], [1.0, 5.0]))
    counts = write(store, message(2, ["e1.main.kw", "e1.gas", "e1.water"], [NOW_MS] * 3, [2.0, 5.0, 9.0], source="s2"))
    assert counts == {"corrected": 1, "duplicate": 1, "stored": 1}
    assert readings(mini) == [("e1.gas", 0, 5, 0), ("e1.main.kw", 0, 2, 0), ("e1.water", 0, 9, 0)]
    revisions = mini.execute("SELECT value, quality, by_source, reason FROM reading_revision").fetchall()
    assert revisions == [(1, 0, "s2", "corrected")]
    newest = mini.execute("SELECT l.value FROM latest l JOIN point p USING (base_id, point_id) WHERE code = 'e1.main.kw'")
    assert newest.fetchone() == (2,)


def test_a_missing_value_never_replaces_a_usable_one(mini: Db, store: Store) -> None:
    write(store, message(1, ["e1.main.kw", "e1.gas"], [NOW_MS, NOW_MS], [1.0, None]))
    assert write(store, message(2, ["e1.main.kw", "e1.gas"], [NOW_MS] * 2, [None, 4.0])) == {
        "not_taken": 1, "corrected": 1, "missing": 1}
    assert readings(mini) == [("e1.gas", 0, 4, 0), ("e1.main.kw", 0, 1, 0)]
    assert mini.execute("SELECT value, quality, reason FROM reading_revision ORDER BY reason").fetchall() == [
        (None, 16, "corrected"), (None, 16, "not_taken")]


def test_several_values_for_an_instant_in_one_batch_leave_the_last_usable(mini: Db, store: Store) -> None:
    counts = write(store, message(1, ["e1.main.kw"] * 5, [NOW_MS] * 5, [1.0, 2.0, 2.0, None, 2.0]),
                   message(2, ["e1.main.kw"], [NOW_MS], [None]))
    assert readings(mini) == [("e1.main.kw", 0, 2, 0)]
    assert counts == {"stored": 1, "duplicate": 2, "corrected": 1, "not_taken": 2, "missing": 2}
    assert mini.execute("SELECT value FROM latest").fetchall() == [(2,)]


def test_what_cannot_be_stored_becomes_dead_letters_and_the_rest_is_kept(mini: Db, store: Store) -> None:
    far = int(datetime(2040, 1, 1, tzinfo=UTC).timestamp() * 1000)
    counts = write(store, message(7, ["e1.main.kw", "no.such", "e1.gas", "e1.gas", "e1.water", "e1.water"],
                                  [NOW_MS, NOW_MS, far, 1000, NOW_MS, "2026-11-23 08:00"], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
                                  ["good", "good", "good", "good", "splendid", "good"]))
    assert counts == {"stored": 1, "dead:unknown_point": 1, "dead:bad_time": 3, "dead:unknown_quality": 1}
    rows = mini.execute("SELECT reason, detail, source, seq, payload FROM dead_letter ORDER BY reason").fetchall()
    assert [r[:4] for r in rows] == [("bad_time", "e1.gas at 2040-01-01T00:00:00Z, e1.gas at 1970-01-01T00:00:01Z, "
                                      "e1.water at 2026-11-23 08:00", "s1", 7),
                                     ("unknown_point", "no.such", "s1", 7), ("unknown_quality", "splendid", "s1", 7)]
    assert b'"value":[3.0,4.0,6.0]' in rows[0][4]


def test_the_newest_reading_is_not_turned_back_by_a_late_one(mini: Db, store: Store) -> None:
    write(store, message(1, ["e1.main.kw"], [NOW_MS], [1.0]))
    assert write(store, message(2, ["e1.main.kw"], [NOW_MS - 3_600_000], [9.0])) == {"stored": 1, "late": 1}
    assert mini.execute("SELECT value FROM latest").fetchall() == [(1,)]


def test_readings_over_many_years_make_only_the_weeks_they_need(mini: Db, store: Store) -> None:
    write(store, message(1, ["e1.main.kw"] * 2, ["1995-06-01T00:00:00Z", "2026-11-23T15:59:00+08:00"], [1.0, 2.0]))
    weeks = mini.execute("SELECT count(*) FROM pg_inherits WHERE inhparent = 'reading'::regclass").fetchone()
    assert weeks == (2,)
    assert len(readings(mini)) == 2


def newest_of(db: Db) -> list[tuple[Any, ...]]:
    return db.execute("SELECT p.code, l.value FROM latest l JOIN point p USING (base_id, point_id) ORDER BY 1").fetchall()


def test_readings_of_a_clock_that_was_ahead_give_way_to_the_first_right_ones(mini: Db, store: Store) -> None:
    def come(seq: int, *rows: tuple[str, float, float]) -> None:
        now_ms = int(datetime.now(UTC).timestamp() * 1000)
        codes, after_s, values = zip(*rows, strict=True)
        columns = Columns(seq, codes, [now_ms + round(s * 1000) for s in after_s], values, None)
        write(store, Message(1, "s1", "park/v1/mini/s1/readings", now_ms * 1000, columns))
    come(1, ("e1.main.kw", 540, 1.0), ("e1.gas", 30, 1.0), ("e1.water", 540, 1.0))
    come(2, ("e1.main.kw", 541, 2.0))               # still ahead, and newer
    come(3, ("e1.main.kw", -60, 3.0))               # from before the wrong one came: a spool that is emptied
    assert newest_of(mini) == [("e1.gas", 1), ("e1.main.kw", 2), ("e1.water", 1)]
    come(4, ("e1.main.kw", 0.5, 4.0), ("e1.gas", 0.5, 4.0))
    assert newest_of(mini) == [("e1.gas", 1), ("e1.main.kw", 4), ("e1.water", 1)], "half a minute ahead heals by itself"
    come(5, ("e1.main.kw", -300, 5.0))
    assert newest_of(mini)[1] == ("e1.main.kw", 4)
    # the server's own clock was three hours ahead, and arrivals with it
    mini.execute("UPDATE latest SET ts = ts + interval '3 hours', arrived_at = arrived_at + interval '3 hours'")
    come(6, ("e1.main.kw", -2, 6.0), ("e1.gas", -2, 6.0))
    assert newest_of(mini) == [("e1.gas", 6), ("e1.main.kw", 6), ("e1.water", 1)]
