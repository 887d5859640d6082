"""Bulk loading, import and export: right on an empty table, over what is there, again, and with mistakes in the file."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ingest.bulk import Block, load_blocks
from ingest.exporting import export_aggregates, export_readings
from ingest.importing import import_file
from ingest.rollup import prepare
from ingest.verify import verify
from park.errors import InputError, NotFound

ROOT = Path(__file__).parents[2]
Db = psycopg.Connection[Any]
CODES = ["e1.main.kw", "e1.gas", "e1.furnace.kwh", "e2.cod"]
START = datetime(2026, 9, 28, tzinfo=UTC)  # a Monday; the weeks hold the end of a month

# not TRUNCATE: on TimescaleDB that drops the chunks, and weeks without a chunk are closed
EMPTY = "; ".join(f"DELETE FROM {table}" for table in ("reading", "reading_1m", "reading_15m", "reading_1h", "reading_1d",
                                                       "reading_1mo", "latest"))


def block(days: float, step_s: int, first: datetime = START, seed: int = 1) -> Block:
    random = np.random.default_rng(seed)
    ts_ms = np.arange(0, int(days * 86_400), step_s, dtype=np.int64) * 1000 + int(first.timestamp()) * 1000
    value = np.cumsum(random.uniform(0, 50, (len(CODES), len(ts_ms))), axis=1) % 999_999
    quality = random.choice([0, 0, 0, 0, 4, 13, -1], value.shape).astype(np.int16)
    value[random.random(value.shape) < 0.02] = np.nan
    return CODES, ts_ms, value, quality


def stored(db: Db) -> list[tuple[Any, ...]]:
    return db.execute("""SELECT p.code, extract(epoch FROM ts), value, quality
        FROM reading JOIN point p USING (base_id, point_id) ORDER BY 1, 2""").fetchall()


def test_weeks_are_loaded_rolled_up_and_not_loaded_again(mini: Db, database_url: str) -> None:
    blocks = [block(7, 900), block(0.5, 60, START + timedelta(days=7, seconds=30)), block(7, 900, START + timedelta(days=7))]
    told: list[int] = []
    n = load_blocks(database_url, "mini", blocks, told.append)
    assert n == sum(told) == sum(int((b[3] >= 0).sum()) for b in blocks) == len(stored(mini))
    assert verify(database_url) == []
    assert load_blocks(database_url, "mini", blocks) == 0
    assert mini.execute("SELECT sum(n) FROM ingest_counter WHERE outcome = 'stored'").fetchone() == (n,)
    assert mini.execute("SELECT count(*) FROM latest").fetchone() == (len(CODES),)


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Kolkata", "Pacific/Kiritimati"])
def test_days_and_months_are_local_in_every_zone(mini: Db, database_url: str, zone: str) -> None:
    mini.execute("UPDATE base SET timezone = %s", (zone,))
    first = datetime(2026, 10, 26, tzinfo=UTC)  # New York puts its clocks back in this week
    load_blocks(database_url, "mini", [block(7, 1800, first + timedelta(days=7 * k, minutes=7), seed=k) for k in (1, 0, 2)])
    assert verify(database_url) == []


def test_a_file_in_order_of_time_is_the_same_as_one_in_order_of_points(mini: Db, database_url: str, tmp_path: Path) -> None:
    codes, ts_ms, value, _ = block(15, 900)
    rows = [(c, int(t), round(float(v), 3)) for c, series in zip(codes, value, strict=True)
            for t, v in zip(ts_ms, series, strict=True)]
    by_time = sorted(rows, key=lambda row: row[1])
    found = []
    for name, order in (("points", rows), ("time", by_time)):
        path = tmp_path / f"{name}.csv"
        path.write_text("point,at,value\n" + "".join(f"{c},{t},{v}\n" for c, t, v in order))
        assert import_file(database_url, "mini", path, lambda _: None).stored == len(rows)
        assert verify(database_url) == []
        found.append(stored(mini))
        mini.execute(EMPTY)
    assert found[0] == found[1]


def test_newest_weeks_first_and_over_live_readings_give_the_same_rollups(mini: Db, database_url: str) -> None:
    live = block(0.05, 60, START + timedelta(days=3, seconds=7), seed=2)
    load_blocks(database_url, "mini", [live])
    weeks = [block(7, 900, START + timedelta(days=7 * k), seed=k) for k in range(3)]
    load_blocks(database_url, "mini", reversed(weeks))
    assert verify(database_url) == []
    assert len(stored(mini)) == sum(int((b[3] >= 0).sum()) for b in [live, *weeks])


def test_points_new_to_a_week_are_added_and_others_merged(mini: Db, database_url: str) -> None:
    codes, ts_ms, value, quality = block(7, 900)
    load_blocks(database_url, "mini", [(codes[:2], ts_ms, value[:2], quality[:2])])
    load_blocks(database_url, "mini", [(codes[2:], ts_ms, value[2:], quality[2:])])
    before = stored(mini)
    load_blocks(database_url, "mini", [(codes, ts_ms, value + 1, quality)])
    assert verify(database_url) == []
    after = stored(mini)
    assert len(after) == len(before)
    corrected = mini.execute("SELECT count(*) FROM reading_revision WHERE reason = 'corrected'").fetchone()
    assert corrected is not None and corrected[0] == sum(a != b for a, b in zip(after, before, strict=True)) > 0


def test_accounting_is_told_of_every_day_that_was_loaded(mini: Db, database_url: str) -> None:
    load_blocks(database_url, "mini", [block(7, 900)])
    spans = mini.execute("""SELECT point_id, (bucket AT TIME ZONE 'UTC')::date, min(bucket), max(bucket) FROM dirty_account
        GROUP BY 1, 2""").fetchall()
    hours = mini.execute("""SELECT point_id, (bucket AT TIME ZONE 'UTC')::date, min(bucket), max(bucket) FROM reading_1h
        GROUP BY 1, 2""").fetchall()
    assert sorted(spans) == sorted(hours) and len(hours) == 7 * len(CODES)


def test_unknown_points_and_bases_are_named(mini: Db, database_url: str) -> None:
    with pytest.raises(InputError, match=r"no\.such"):
        load_blocks(database_url, "mini", [(["no.such"], *block(1, 900)[1:])])
    with pytest.raises(NotFound, match="nowhere"):
        load_blocks(database_url, "nowhere", [])


CSV = """point,at,value,quality
e1.main.kw,2026-11-01T00:00:00Z,1.5,good
e1.main.kw,2026-11-01T08:01:00+08:00,,good
no.such,2026-11-01T00:00:00Z,1,good

e1.main.kw,2026-11-01T00:02:00Z,1,good,extra
e1.main.kw,yesterday,1,good
e1.main.kw,2040-01-01T00:00:00Z,1,good
e1.main.kw,2026-11-01T00:03:00Z,many,good
e1.main.kw,2026-11-01T00:03:00Z,7,splendid
e1.gas,1793491200000,nan,
e1.gas,2026-11-01T00:05:00Z,3,manual
"""


def test_rows_that_cannot_be_stored_are_set_aside_with_their_line(mini: Db, database_url: str, tmp_path: Path) -> None:
    path = tmp_path / "readings.csv"
    path.write_text(CSV)
    outcome = import_file(database_url, "mini", path, lambda _: None)
    assert stored(mini) == [("e1.gas", 1793491200, None, 16), ("e1.gas", 1793491500, 3, 1),
                            ("e1.main.kw", 1793491200, 1.5, 0), ("e1.main.kw", 1793491260, None, 16)]
    assert (outcome.rows, outcome.stored, outcome.rejected) == (10, 4, 6)
    with (tmp_path / "readings.csv.rejected.csv").open() as file:
        rejected = sorted((int(r["line"]), r["reason"].split(":")[0].split(",")[0]) for r in csv.DictReader(file))
    assert rejected == [(4, "unknown point"), (6, "expected 4 columns"), (7, "at"), (8, "at"),
                        (9, "value"), (10, "unknown quality")]
    assert import_file(database_url, "mini", path, lambda _: None).stored == 0


def test_rows_set_aside_have_every_column_of_their_header(mini: Db, database_url: str, tmp_path: Path) -> None:
    path = tmp_path / "short.csv"
    path.write_text("point,at,value\nno.such,2026-11-01T00:00:00Z,1\ne1.gas,yesterday,1\n")
    assert import_file(database_url, "mini", path, lambda _: None).rejected == 2
    with (tmp_path / "short.csv.rejected.csv").open() as file:
        assert [len(row) for row in csv.reader(file)] == [6, 6, 6]


def test_rows_of_a_parquet_file_are_judged_like_those_of_a_csv(mini: Db, database_url: str, tmp_path: Path) -> None:
    at = [START + timedelta(minutes=k) for k in range(8)]
    table = pa.table({
        "point": pa.array(["e1.gas", "e1.gas", "no.such", None, "e1.gas", "e1.gas", "e1.gas", "e1.gas"]).dictionary_encode(),
        "at": pa.array([*at[:4], None, *at[5:7], datetime(2040, 1, 1, tzinfo=UTC)], pa.timestamp("ms", tz="Asia/Shanghai")),
        "value": pa.array([1.5, None, 1, 1, 1, float("inf"), 7, 1], pa.float32()),
        "quality": pa.array(["good", None, "good", "good", "good", "good", "splendid", "good"]), "note": ["x"] * 8})
    path = tmp_path / "readings.parquet"
    pq.write_table(table, path)
    outcome = import_file(database_url, "mini", path, lambda _: None)
    assert (outcome.rows, outcome.stored, outcome.rejected) == (8, 3, 5)
    assert [row[2:] for row in stored(mini)] == [(1.5, 0), (None, 16), (None, 17)]
    with (tmp_path / "readings.parquet.rejected.csv").open() as file:
        assert sorted((int(r["line"]), r["reason"].split(":")[0]) for r in csv.DictReader(file)) == [
            (3, "unknown point"), (4, "unknown point"), (5, "at"), (7, "unknown quality"), (8, "at")]
    pq.write_table(table.set_column(1, "at", pa.array([a.replace(tzinfo=None) for a in at])), path)
    with pytest.raises(InputError, match="time zone"):
        import_file(database_url, "mini", path, lambda _: None)


def test_an_import_that_is_killed_goes_on_where_it_was(mini: Db, database_url: str, tmp_path: Path) -> None:
    codes, ts_ms, value, _ = block(49, 120)
    path = tmp_path / "readings.parquet"
    pq.write_table(pa.table({"point": np.tile(codes, len(ts_ms)), "at": np.repeat(ts_ms, len(codes)),
                             "value": np.nan_to_num(value).T.ravel()}), path)
    n = value.size
    environment = os.environ | {"PARK_DATABASE_URL": database_url}
    command = [sys.executable, "-m", "park.cli", "import", str(path), "--base", "mini"]
    process = subprocess.Popen(command, env=environment, cwd=ROOT, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while mini.execute("SELECT count(*) >= 3 FROM ingest_batch").fetchone() != (True,):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.wait()
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"{n} rows read, 0 rejected" in done.stdout
    new = int(re.findall(r"(\d+) new to the database", done.stdout)[0])
    assert 0 < new < n, "what was there is passed over"
    assert mini.execute("SELECT count(*) FROM reading").fetchone() == (n,)
    assert mini.execute("SELECT count(*) FROM reading_revision").fetchone() == (0,)
    assert verify(database_url) == []


def test_rows_of_a_week_whose_readings_were_dropped_are_set_aside(mini: Db, database_url: str, tmp_path: Path) -> None:
    load_blocks(database_url, "mini", [block(7, 900)])
    mini.execute("DROP TABLE reading_w202640")
    path = tmp_path / "readings.csv"
    path.write_text("point,at,value\ne1.gas,2026-09-29T00:00:01Z,5\ne1.gas,2026-10-13T00:00:00Z,6\n")
    outcome = import_file(database_url, "mini", path, lambda _: None)
    assert (outcome.stored, outcome.rejected) == (1, 1)
    with pytest.raises(InputError, match="2026-09-28"):
        load_blocks(database_url, "mini", [block(7, 900, seed=2)])


def test_what_a_spreadsheet_saved_is_read_with_the_bases_times(mini: Db, database_url: str, tmp_path: Path) -> None:
    path = tmp_path / "抄表.csv"
    path.write_bytes('测点,时间,数值\r\ne1.gas,2026/11/1 8:05,"1,234,567.5"\r\ne1.gas,2026-11-01 08:06:00,-7\r\n'
                     'e1.gas,2026/11/31 8:07,1\r\ne1.gas,2026/11/1 8:08,"1,23"\r\n'.encode("gb18030"))
    assert import_file(database_url, "mini", path, lambda _: None).stored == 0
    with (tmp_path / "抄表.csv.rejected.csv").open(encoding="utf-8") as file:
        assert sum("--local-time" in r["reason"] for r in csv.DictReader(file)) == 4
    assert import_file(database_url, "mini", path, lambda _: None, local_time=True).rejected == 2
    assert stored(mini) == [("e1.gas", 1793491500, 1234567.5, 0), ("e1.gas", 1793491560, -7, 0)]


def test_a_dry_run_stores_nothing(mini: Db, database_url: str, tmp_path: Path) -> None:
    path = tmp_path / "readings.csv"
    path.write_text(CSV)
    outcome = import_file(database_url, "mini", path, lambda _: None, dry_run=True)
    assert (outcome.rows, outcome.stored, outcome.rejected, stored(mini)) == (10, 0, 6, [])


def test_a_file_without_the_columns_is_refused_with_what_was_expected(mini: Db, database_url: str, tmp_path: Path) -> None:
    path = tmp_path / "readings.csv"
    path.write_text("time,value\n1,2\n")
    with pytest.raises(InputError, match="expected the columns point, at, value"):
        import_file(database_url, "mini", path, lambda _: None)


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_what_is_exported_can_be_imported(mini: Db, database_url: str, tmp_path: Path, form: str) -> None:
    load_blocks(database_url, "mini", [block(2, 900)])
    before, path = stored(mini), tmp_path / f"out.{form}"
    assert export_readings(database_url, "mini", [], START, START + timedelta(days=9), path, form) == len(before)
    mini.execute(EMPTY)
    assert import_file(database_url, "mini", path, lambda _: None).stored == len(before)
    after = stored(mini)
    assert [a[:2] + a[3:] for a in after] == [b[:2] + b[3:] for b in before]
    assert [a[2] for a in after] == pytest.approx([b[2] for b in before], nan_ok=True)
    assert verify(database_url) == []


def test_rollups_are_exported_as_they_are_stored(mini: Db, database_url: str, tmp_path: Path) -> None:
    load_blocks(database_url, "mini", [block(2, 900)])
    path = tmp_path / "out.parquet"
    n = export_aggregates(database_url, "mini", ["e1.gas"], START, START + timedelta(days=1), path, "parquet", "1h")
    assert n == 24 and pq.read_table(path).schema.field("bucket").type == pa.timestamp("us", tz="UTC")
    with pytest.raises(NotFound, match="nothing"):
        export_readings(database_url, "mini", ["nothing"], START, START, path, "csv")


def test_a_pass_prepares_its_tables_once_more_without_harm(mini: Db) -> None:
    prepare(mini)
    prepare(mini)
