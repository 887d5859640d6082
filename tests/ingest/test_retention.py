"""Weeks of raw readings go when their time is over, and nothing that was computed from them changes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pyarrow.parquet as pq
import pytest

from ingest import retention, upkeep
from ingest.bulk import Block, load_blocks
from ingest.directory import load_directory
from ingest.importing import import_file
from ingest.replay import replay
from ingest.retention import is_due, parse_week, reopen, retire, weeks
from ingest.rollup import prepare, roll_up_all
from ingest.store import Batch, Store
from ingest.validation import Message
from ingest.verify import differences, verify
from park.database import connect
from park.errors import Conflict, InputError
from park.settings import Settings
from park.wire import Batch as Columns

Db = psycopg.Connection[Any]
MONDAY = datetime(2026, 6, 1, tzinfo=UTC)       # W23; the weeks hold the end of a month
NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)
CODES = ["e1.main.kw", "e1.gas", "e1.furnace.kwh"]
GRAINS = ("reading_by_minute", "reading_15m", "reading_1h", "reading_1d", "reading_1mo")
FIFTH = (NOW - (MONDAY + timedelta(days=14))).days      # keeps the third week and what follows


def history(n_weeks: int = 5, first: datetime = MONDAY) -> Block:
    ts_ms = np.arange(0, n_weeks * 7 * 86_400, 1800, dtype=np.int64) * 1000 + int(first.timestamp()) * 1000 + 60_000
    value = np.cumsum(np.random.default_rng(3).uniform(0, 5, (len(CODES), len(ts_ms))), axis=1)
    return CODES, ts_ms, value, np.zeros(value.shape, np.int16)


@pytest.fixture
def filled(mini: Db, database_url: str) -> Db:
    load_blocks(database_url, "mini", [history()])
    mini.execute("DELETE FROM dirty_account")       # as if accounting had done its part
    prepare(mini)
    return mini


def run(db: Db, url: str, keep_days: int = FIFTH, archive: Path | None = None, **options: Any) -> dict[str, str]:
    return {week.name: said for week, said in retire(db, url, keep_days=keep_days, archive=archive, now=NOW, **options)}


def rollups(db: Db) -> list[list[tuple[Any, ...]]]:
    return [db.execute(f"""SELECT base_id, point_id, bucket, n, n_good, n_usable, min, max, first, last,
                round(sum::numeric, 6), round(increment::numeric, 6) FROM {grain} ORDER BY 1, 2, 3""").fetchall()
            for grain in GRAINS]


def put(db: Db, seq: int, code: str, at: datetime, value: float) -> dict[str, int]:
    message = Message(1, "s", "park/v1/mini/s/readings", int(NOW.timestamp() * 1e6),
                      Columns(seq, [code], [int(at.timestamp() * 1000)], [value], None))
    counts = Store(db, future_after_s=600, late_after_s=900).write(Batch([message]), load_directory(db))
    return {outcome: n for (_, outcome), n in counts.items()}


def test_weeks_over_their_time_go_and_every_rollup_stays(filled: Db, database_url: str) -> None:
    before = rollups(filled)
    assert run(filled, database_url) == {"2026-W23": "dropped", "2026-W24": "dropped"}
    assert filled.execute("SELECT min(ts) FROM reading").fetchone() == (MONDAY + timedelta(days=14, minutes=1),)
    assert [(w.name, w.state) for w in weeks(filled)][:3] == [
        ("2026-W23", "dropped"), ("2026-W24", "dropped"), ("2026-W25", "open")]
    filled.execute("""INSERT INTO dirty (base_id, point_id, bucket) SELECT base_id, point_id, bucket FROM reading_15m""")
    roll_up_all(filled)
    assert rollups(filled) == before
    assert run(filled, database_url) == {}


def test_verification_still_says_the_truth_after_weeks_are_gone(filled: Db, database_url: str) -> None:
    run(filled, database_url)
    assert verify(database_url) == []
    for table in ("reading_1h", "reading_1d", "reading_1mo"):
        row = filled.execute(f"SELECT bucket FROM {table} ORDER BY bucket LIMIT 1").fetchone()
        filled.execute(f"UPDATE {table} SET sum = sum + 1 WHERE bucket = %s AND point_id = 3", row)
    filled.execute("UPDATE reading_15m SET n = n + 1 WHERE bucket >= %s AND bucket < %s",
                   (MONDAY + timedelta(days=25), MONDAY + timedelta(days=25, hours=1)))
    assert {d.grain for d in differences(filled)} == {"15m", "1h", "1d", "1mo"}


def test_a_counter_goes_on_from_what_its_dropped_weeks_ended_with(mini: Db, database_url: str) -> None:
    """Read every five weeks: the register before the step is in a week that is gone."""
    prepare(mini)
    put(mini, 1, "e1.gas", MONDAY, 100)
    put(mini, 2, "e1.gas", MONDAY + timedelta(days=35), 150)
    roll_up_all(mini)
    mini.execute("DELETE FROM dirty_account")
    assert run(mini, database_url) == {"2026-W23": "dropped"}
    put(mini, 3, "e1.gas", MONDAY + timedelta(days=35, minutes=1), 151)     # the quarter of the first one again
    roll_up_all(mini)
    assert mini.execute("SELECT increment FROM reading_15m ORDER BY bucket").fetchall() == [(None,), (51,)]
    assert mini.execute("SELECT sum(increment) FROM reading_1mo").fetchone() == (51,)
    assert verify(database_url) == []


def test_a_week_waits_while_rollups_or_figures_still_need_it(filled: Db, database_url: str) -> None:
    at = MONDAY + timedelta(days=1)
    filled.execute("INSERT INTO dirty (base_id, point_id, bucket) VALUES (1, 3, %s)", (at,))
    assert run(filled, database_url)["2026-W23"] == "rollups wait"
    roll_up_all(filled)
    assert run(filled, database_url)["2026-W23"] == "figures wait"
    filled.execute("DELETE FROM dirty_account")
    todo = "INSERT INTO account_todo (base_id, point_id, day, first, last) VALUES (1, 3, %s, now(), now())"
    filled.execute(todo, (at.date(),))
    assert run(filled, database_url)["2026-W23"] == "figures wait"
    filled.execute("DELETE FROM account_todo")
    assert run(filled, database_url) == {"2026-W23": "dropped"}


def test_figures_of_a_dropped_week_are_not_computed_again(filled: Db, database_url: str) -> None:
    run(filled, database_url)
    days = [(MONDAY + timedelta(days=d)).date() for d in (0, 13, 20, 21, 27)]
    for day in days:
        filled.execute("INSERT INTO account_todo (base_id, point_id, day, first, last) VALUES (1, 3, %s, now(), now())", (day,))
    # the third week is there, and closed: its first intervals lean on the second
    assert filled.execute("SELECT day FROM account_todo ORDER BY 1").fetchall() == [(d,) for d in days[3:]]


def test_a_writer_that_knows_the_week_is_refused_and_sets_the_reading_aside(filled: Db, database_url: str) -> None:
    now_us, at_ms = int(NOW.timestamp() * 1e6), int(MONDAY.timestamp() * 1000)
    message = Message(1, "s", "", now_us, Columns(0, ["e1.gas"], [at_ms], [1.0], None))
    with connect(database_url, autocommit=True) as other:
        store = Store(other, future_after_s=600, late_after_s=900)
        store.write(Batch([message]), load_directory(other))
        roll_up_all(filled)
        filled.execute("DELETE FROM dirty_account")
        with filled.transaction():
            assert filled.execute("SELECT close_reading_week(%s)", (MONDAY,)).fetchone() == ("closed",)
        later = Message(1, "s", "", now_us, Columns(1, ["e1.gas"], [at_ms + 1], [1.0], None))
        with pytest.raises(psycopg.errors.CheckViolation):
            store.write(Batch([later]), load_directory(other))
        counts = store.write(Batch([later]), load_directory(other))     # as the writer does
        assert counts == {(1, "dead:too_late"): 1}


def test_a_query_that_reads_for_long_is_not_waited_for(filled: Db, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "TRIES", 1)
    with connect(database_url) as reader:
        reader.execute("SELECT count(*) FROM reading")
        assert run(filled, database_url) == {"2026-W23": "busy"}
    assert run(filled, database_url)["2026-W23"] == "dropped"


def test_an_archived_week_comes_back_and_takes_late_readings(filled: Db, database_url: str, tmp_path: Path) -> None:
    before, stored = rollups(filled), filled.execute("SELECT * FROM reading ORDER BY 1, 2, 3").fetchall()
    run(filled, database_url, archive=tmp_path)
    file = tmp_path / "mini_2026-W24.parquet"
    assert sorted(f.name for f in tmp_path.iterdir()) == ["mini_2026-W23.parquet", file.name]
    assert pq.read_table(file).num_rows == 7 * 48 * len(CODES)
    late = MONDAY + timedelta(days=10, seconds=5)
    assert put(filled, 9, "e1.gas", late, 7e6) == {"dead:too_late": 1}
    assert reopen(filled, parse_week("2026-W24"), {"mini": file}) == 7 * 48 * len(CODES)
    assert replay(database_url).letters == 0, "asked for by name only"
    assert reopen(filled, MONDAY, {"mini": tmp_path / "mini_2026-W23.parquet"}) > 0
    roll_up_all(filled)
    assert rollups(filled) == before and filled.execute("SELECT * FROM reading ORDER BY 1, 2, 3").fetchall() == stored
    done = replay(database_url, ("too_late",))
    assert (done.letters, done.stored) == (1, 1)
    assert verify(database_url) == []
    assert run(filled, database_url) == {}, "what was taken back stays for a while"


def test_a_week_is_not_reopened_without_all_its_files(filled: Db, database_url: str, tmp_path: Path) -> None:
    run(filled, database_url, archive=tmp_path)
    with pytest.raises(Conflict, match="no file for the base mini"):
        reopen(filled, MONDAY, {})
    with pytest.raises(InputError, match="another week"):
        reopen(filled, MONDAY, {"mini": tmp_path / "mini_2026-W24.parquet"})
    with pytest.raises(Conflict, match="not closed"):
        reopen(filled, MONDAY + timedelta(days=28), {})
    assert [w.state for w in weeks(filled)][:2] == ["dropped", "dropped"]


def test_an_archive_is_a_file_that_import_reads(filled: Db, database_url: str, tmp_path: Path) -> None:
    run(filled, database_url, archive=tmp_path)
    filled.execute("TRUNCATE closed_week, reading, reading_1m, reading_15m, reading_1h, reading_1d, reading_1mo, latest")
    for name in ("reading_15m_w202623", "reading_1m_w202623"):
        filled.execute(f"DROP TABLE IF EXISTS {name}")
    assert import_file(database_url, "mini", tmp_path / "mini_2026-W23.parquet", lambda _: None).stored == 7 * 48 * len(CODES)


def test_upkeep_makes_weeks_ahead_and_retires_old_ones(filled: Db, database_url: str, tmp_path: Path) -> None:
    settings = Settings(database_url=database_url, keep_readings_days=FIFTH, archive_dir=tmp_path)
    upkeep.keep_up(settings, lambda: NOW)
    assert len([w for w in weeks(filled) if w.state == "dropped"]) == 2
    there = [w.monday for w in weeks(filled)]
    today = filled.execute("SELECT date_trunc('week', now(), 'UTC')").fetchone()
    assert today is not None and {today[0], today[0] + timedelta(days=7)} <= set(there)


def test_a_clock_that_jumped_ahead_drops_nothing(filled: Db, database_url: str, tmp_path: Path) -> None:
    settings = Settings(database_url=database_url, keep_readings_days=400, archive_dir=tmp_path)
    for days in (0, 5000, 1):
        upkeep.keep_up(settings, partial(NOW.__add__, timedelta(days=days)))
        assert {w.state for w in weeks(filled)} == {"open"}
    later = NOW + timedelta(days=30)
    upkeep.keep_up(Settings(database_url=database_url, keep_readings_days=FIFTH), lambda: later)
    assert any(w.state == "dropped" for w in weeks(filled))          # and goes on by itself once the clock is right again


def test_readings_are_kept_for_five_weeks_at_least(filled: Db, database_url: str) -> None:
    with pytest.raises(InputError, match="at least 35 days"):
        run(filled, database_url, keep_days=7)
    week = weeks(filled)[0]
    end = week.monday + timedelta(days=7 + 35)
    assert not is_due(week, 35, end - timedelta(seconds=1)) and is_due(week, 35, end)


@pytest.mark.parametrize("text", ["2026-40", "2026-W60", "W40", ""])
def test_what_is_no_week_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="2026-W40"):
        parse_week(text)
