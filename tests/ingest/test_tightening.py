"""Keys of weeks that are over are packed; nothing else about them changes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from ingest.tightening import tighten
from park.engine import PLAIN, engine_of

Db = psycopg.Connection[Any]
MONDAY = datetime(2026, 10, 5, tzinfo=UTC)
KEY = "reading_w202641_pkey"


@pytest.fixture
def filled(mini: Db) -> Db:
    """200 points read at the same 150 instants, as they come: one instant after another."""
    if engine_of(mini) != PLAIN:
        pytest.skip("the engine keeps its own parts")
    mini.execute("SELECT ensure_reading_partitions(%s, %s)", (MONDAY, MONDAY))
    for half in (0, 1):  # the second half comes late and splits full pages
        mini.execute("""INSERT INTO reading (ts, value, point_id, base_id)
            SELECT %s + m * interval '2 minutes', m, p, 1 FROM generate_series(%s, 299, 2) m, generate_series(1, 200) p
            ORDER BY m, p""", (MONDAY, half))
    return mini


def size(db: Db) -> float:
    row = db.execute("SELECT pg_relation_size(%s::text::regclass) / count(*)::float8 FROM reading", (KEY,)).fetchone()
    assert row is not None
    return float(row[0])


def digest(db: Db) -> Any:
    return db.execute("SELECT count(*), md5(string_agg(r::text, '' ORDER BY point_id, ts)) FROM reading r").fetchone()


def test_a_week_that_is_over_is_packed_once_and_holds_what_it_held(filled: Db) -> None:
    loose, before = size(filled), digest(filled)
    assert tighten(filled, MONDAY + timedelta(days=7, hours=23)) == [] and size(filled) == loose > 33
    assert tighten(filled, MONDAY + timedelta(days=8)) == [KEY]
    assert size(filled) < 29 and digest(filled) == before
    assert tighten(filled, MONDAY + timedelta(days=8)) == []
    with pytest.raises(psycopg.errors.UniqueViolation):
        filled.execute("INSERT INTO reading (ts, value, point_id, base_id) VALUES (%s, 1, 1, 1)", (MONDAY,))


def test_late_readings_loosen_the_key_and_the_next_round_packs_it_again(filled: Db) -> None:
    tighten(filled, MONDAY + timedelta(days=8))
    filled.execute("""INSERT INTO reading (ts, value, point_id, base_id)
        SELECT %s + m * interval '2 minutes' + interval '1 second', m, p, 1
        FROM generate_series(0, 299, 10) m, generate_series(1, 200) p ORDER BY m, p""", (MONDAY,))
    assert size(filled) > 33
    assert tighten(filled, MONDAY + timedelta(days=8)) == [KEY] and size(filled) < 29


def test_a_key_left_half_made_is_dropped(filled: Db) -> None:
    filled.execute("CREATE UNIQUE INDEX reading_w202641_pkey_ccnew ON reading_w202641 (base_id, point_id, ts)")
    filled.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'reading_w202641_pkey_ccnew'::regclass")
    tighten(filled, MONDAY)
    assert filled.execute("SELECT to_regclass('reading_w202641_pkey_ccnew')").fetchone() == (None,)
    assert filled.execute("SELECT reloptions FROM pg_class WHERE relname = %s", (KEY,)).fetchone() == (["fillfactor=100"],)
