"""Rollups with their live tail, coverage and the time-weighted mean: right before any pass has run."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from psycopg import sql

from ingest.directory import load_directory
from ingest.rollup import prepare, roll_up, roll_up_all
from ingest.store import Batch, Store
from ingest.validation import Message
from ingest.verify import differences, recompute
from park.catalogue import read_catalogue
from park.catalogue_store import apply
from park.database import connect
from park.wire import Batch as Columns

Db = psycopg.Connection[Any]
GRAINS = ("1m", "15m", "1h", "1d", "1mo")
ZONES = ["Asia/Shanghai", "America/New_York", "Europe/Lisbon", "Australia/Lord_Howe", "Asia/Kolkata", "Pacific/Apia"]
# around the ends of summer time of 2025 and 2026, a month, a year; Lord Howe puts its clocks by half an hour
TURNS = [datetime.fromisoformat(t) for t in (
    "2025-10-26T00:45Z", "2026-03-08T06:50Z", "2026-03-29T00:59Z", "2026-04-04T14:55Z", "2025-12-31T15:58Z",
    "2026-10-03T15:25Z")]
TABLES = ("reading", "reading_1m", "reading_15m", "reading_1h", "reading_1d", "reading_1mo", "dirty", "ingest_batch", "latest")
NOW_US = int(datetime(2026, 11, 23, 8, 0, tzinfo=UTC).timestamp()) * 1_000_000
row = st.tuples(st.sampled_from(["e1.furnace.kwh", "e1.main.kw"]), st.sampled_from(TURNS),
                st.integers(-130, 130).map(lambda m: m * 60 + m % 7), st.sampled_from([None, 0.0, 1.5, 400.0, 999_999.0]),
                st.sampled_from(["good", "good", "good", "fault", "estimated"]))
step = st.one_of(st.lists(row, min_size=1, max_size=8), st.sampled_from(["pass", "delete", "correct", "restart"]))


@pytest.fixture(scope="module")
def url(databases: Any) -> Iterator[str]:
    name = databases.copy(prefix="live")
    with connect(databases.url(name), autocommit=True) as db:
        apply(db, read_catalogue([Path(__file__).parents[1] / "data" / "mini.yaml"]))
    yield databases.url(name)
    databases.drop(name)


def put(db: Db, seq: int, rows: list[tuple[str, datetime, float | None, str]]) -> None:
    points, at, value, quality = zip(*rows, strict=True)
    columns = Columns(seq, points, [round(t.timestamp() * 1000) for t in at], value, quality)
    Store(db, future_after_s=600, late_after_s=900).write(Batch([Message(1, "s", "", NOW_US, columns)]), load_directory(db))


def rounded(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """In order of base, point and bucket, without the last bits of sums."""
    return sorted((tuple(round(x, 6) if isinstance(x, float) else x for x in r) for r in rows),
                  key=lambda r: (r[11], r[7], r[0]))


def live(db: Db, grain: str) -> list[tuple[Any, ...]]:
    return db.execute(sql.SQL("""SELECT bucket, min, max, sum, first, last, increment, point_id, n, n_good, n_usable, base_id
        FROM {}""").format(sql.Identifier(f"live_{grain}"))).fetchall()


@settings(max_examples=25, derandomize=True, phases=(Phase.explicit, Phase.generate, Phase.shrink),
          suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(zone=st.sampled_from(ZONES), steps=st.lists(step, min_size=1, max_size=8))
def test_live_rollups_equal_a_recompute_at_every_moment(url: str, zone: str, steps: list[Any]) -> None:
    db = connect(url, autocommit=True)
    try:
        for table in TABLES:
            db.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(table)))
        db.execute("UPDATE base SET timezone = %s", (zone,))
        prepare(db)
        for seq, action in enumerate(steps):
            if isinstance(action, list):
                put(db, seq, [(p, at + timedelta(seconds=s), v, q) for p, at, s, v, q in action])
            elif action == "pass":
                roll_up(db)
            elif action == "restart":
                db.close()
                db = connect(url, autocommit=True)
                prepare(db)
            else:
                change = {"delete": "DELETE FROM reading WHERE point_id %% 2 = %s RETURNING base_id, point_id, ts",
                          "correct": "UPDATE reading SET value = 7 WHERE point_id %% 2 = %s AND quality < 10 "
                                     "RETURNING base_id, point_id, ts"}[action]
                db.execute(f"WITH changed AS ({change}) INSERT INTO dirty (base_id, point_id, bucket) SELECT * FROM changed",
                           (seq % 2,))
            for grain in GRAINS:
                assert rounded(live(db, grain)) == rounded(recompute(db, grain)), (grain, action)
        roll_up_all(db)
        assert differences(db) == []
    finally:
        db.close()


MIDNIGHT = datetime(2026, 10, 31, 16, 0, tzinfo=UTC)     # in Shanghai
POINT = "(SELECT point_id FROM point WHERE code = 'e1.furnace.kw')"


def rolled(db: Db, grain: str, columns: str) -> list[tuple[Any, ...]]:
    return db.execute(f"SELECT {columns} FROM rolled_{grain} WHERE point_id = {POINT} ORDER BY bucket").fetchall()


@pytest.fixture
def sparse(mini: Db) -> Db:
    """A gauge expected every five minutes: 100 from midnight, sent on change; 0 from 00:14; silent from 00:29."""
    prepare(mini)
    mini.execute("UPDATE point SET expected_s = 300 WHERE code = 'e1.furnace.kw'")
    minutes = {0: 100.0, 14: 0.0, 15: 0.0, 20: 40.0, 24: 40.0, 29: 40.0}
    put(mini, 1, [("e1.furnace.kw", MIDNIGHT + timedelta(minutes=m), v, "good") for m, v in minutes.items()])
    return mini


def test_the_time_weighted_mean_lets_a_value_stand_until_the_next(sparse: Db) -> None:
    # the mean of readings says 50 and 30; the value stood 14 of 15 minutes at 100, then 5 at 0 and 10 at 40
    for _ in range(2):
        first, second, *_ = rolled(sparse, "15m", "mean, time_mean, n")
        assert first == (50, pytest.approx(1400 / 15), 2)
        assert second == (30, pytest.approx(400 / 15), 4)
        roll_up_all(sparse)
    # over the hour: 14 x 100, 6 x 0, 9 x 40 until 00:29, and the last stands for three expected intervals, to 00:44
    ((mean,),) = rolled(sparse, "1h", "time_mean")
    assert mean == pytest.approx((1400 + 9 * 40 + 15 * 40) / 44)
    assert rolled(sparse, "1d", "time_mean") == [(pytest.approx(mean),)]


def test_a_reading_without_a_value_ends_what_stood(sparse: Db) -> None:
    put(sparse, 2, [("e1.furnace.kw", MIDNIGHT + timedelta(minutes=7), None, "fault")])
    ((mean,), *_) = rolled(sparse, "15m", "time_mean")
    assert mean == pytest.approx(700 / 8)


def test_coverage_is_what_came_of_what_was_due(sparse: Db) -> None:
    assert rolled(sparse, "15m", "coverage") == [(pytest.approx(2 / 3),), (1,)]
    assert rolled(sparse, "1h", "coverage") == [(0.5,)]
    assert rolled(sparse, "1d", "coverage") == [(pytest.approx(6 / 288),)]
    assert rolled(sparse, "1mo", "coverage, until") == [
        (pytest.approx(6 / 8640 * (30 / 22.33333), rel=0.5), datetime(2026, 11, 30, 16, tzinfo=UTC))]


def test_a_day_of_25_hours_ends_when_its_zone_says_so(sparse: Db) -> None:
    sparse.execute("UPDATE base SET timezone = 'America/New_York'")
    put(sparse, 3, [("e1.furnace.kw", datetime(2026, 11, 1, 12, tzinfo=UTC), 5.0, "good")])
    roll_up_all(sparse)
    bucket, until = rolled(sparse, "1d", "bucket, until")[-1]
    assert until - bucket == timedelta(hours=25)


def test_what_a_closed_week_holds_is_not_computed_again_by_reading_it(mini: Db) -> None:
    prepare(mini)
    old, new = datetime(2026, 6, 3, tzinfo=UTC), datetime(2026, 7, 20, tzinfo=UTC)
    put(mini, 1, [("e1.gas", old, 100.0, "good"), ("e1.gas", new, 130.0, "good")])
    roll_up_all(mini)
    mini.execute("DELETE FROM dirty_account")
    mini.execute("SELECT close_reading_week('2026-06-01Z'), drop_reading_week('2026-06-01Z')")
    mini.execute("INSERT INTO dirty (base_id, point_id, bucket) SELECT base_id, point_id, bucket FROM reading_15m")
    assert mini.execute("SELECT n, increment FROM live_1h ORDER BY bucket").fetchall() == [(1, None), (1, 30)]
    assert mini.execute("SELECT sum(n), sum(increment) FROM live_1mo").fetchone() == (2, 30)


def test_a_role_sees_only_its_base_in_live_rollups(sparse: Db) -> None:
    with sparse.transaction(force_rollback=True):
        sparse.execute("SELECT set_config('park.bases', '{1}', true)")
        sparse.execute("SET LOCAL ROLE park_contractor")
        assert len(sparse.execute("SELECT time_mean, coverage FROM rolled_1h").fetchall()) == 1
        sparse.execute("SELECT set_config('park.bases', '{2}', true)")
        assert sparse.execute("SELECT * FROM rolled_1h").fetchall() == []
