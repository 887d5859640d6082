"""A backup of hypertables, compressed weeks among them, restored by the server's own tools and by later ones."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from park.backup import back_up, measure, read_manifest
from park.catalogue import read_catalogue
from park.catalogue_store import apply
from park.database import connect, migrate
from park.embedded import binaries
from park.engine import TIMESCALEDB
from park.errors import SetupError
from park.restore import restore

Db = psycopg.Connection[Any]
MINI = Path(__file__).parents[1] / "data" / "mini.yaml"
NOW = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
N = 20_000


@pytest.fixture(scope="module", autouse=True)
def only_here(databases: Any) -> None:
    if databases.engine != TIMESCALEDB:
        pytest.skip("about TimescaleDB alone: PARK_TEST_TIMESCALE_URL names no server that has it loaded")


@pytest.fixture(scope="module")
def source(databases: Any) -> Iterator[str]:
    """A database with readings over three weeks, the first compressed."""
    name = databases.copy(prefix="saved")
    with connect(databases.url(name), autocommit=True) as db:
        apply(db, read_catalogue([MINI]))
        db.execute("SELECT ensure_reading_partitions('2026-08-31', '2026-09-14')")
        db.execute("""INSERT INTO reading (ts, value, point_id, base_id, quality)
            SELECT TIMESTAMPTZ '2026-08-31Z' + i * interval '1 minute', random() * 1e6, 1 + i %% 20, 1, 0
            FROM generate_series(1, %s) i""", (N,))
        db.execute("SELECT compress_chunk('reading_w202636'::regclass)")
    yield databases.url(name)
    databases.drop(name)


@pytest.fixture
def target(databases: Any) -> Iterator[str]:
    """URL of a database that is not there yet."""
    name = f"restored_{uuid4().hex[:12]}"
    yield databases.url(name)
    with psycopg.connect(databases.url("postgres"), autocommit=True) as conn:
        conn.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def state(url: str) -> list[Any]:
    """What TimescaleDB knows of the tables, and every table's rows and figures."""
    with connect(url, autocommit=True) as db:
        names = [n for (n,) in db.execute("""SELECT relname FROM pg_class c WHERE relnamespace = 'public'::regnamespace
            AND relkind IN ('r', 'p') AND NOT EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = c.oid) ORDER BY 1""")]
        return [
            db.execute("SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'").fetchall(),
            db.execute("""SELECT hypertable_name, chunk_schema, chunk_name, range_start, range_end, is_compressed
                FROM timescaledb_information.chunks ORDER BY 3""").fetchall(),
            db.execute("""SELECT hypertable_name, proc_name, schedule_interval, config FROM timescaledb_information.jobs
                WHERE hypertable_name IS NOT NULL ORDER BY 1""").fetchall(),
            db.execute("""SELECT relname, relacl::text, relrowsecurity FROM pg_class
                WHERE relnamespace = 'public'::regnamespace ORDER BY 1""").fetchall(),
            measure(db, names, figures=True)]


@pytest.mark.parametrize("tools", ["nearest", "embedded"])
def test_hypertables_come_back_with_their_compressed_weeks(source: str, target: str, tmp_path: Path, tools: str) -> None:
    """The embedded server's tools may be later than the server here: they are taken where there are no others."""
    bin_dir = binaries() if tools == "embedded" else None
    before = state(source)
    folder = back_up(source, tmp_path, now=NOW, bin_dir=bin_dir)
    assert read_manifest(folder).tables["reading"].rows == N
    assert not [t for t in read_manifest(folder).tables if t.startswith("reading_w")], "a chunk is part of its table"
    assert restore(target, folder, now=NOW, bin_dir=bin_dir).former is None
    assert state(target) == before
    assert [c[5] for c in before[1] if c[0] == "reading"] == [True, False, False]


def test_a_restored_database_goes_on_like_the_former(source: str, target: str, tmp_path: Path) -> None:
    """Migrations, new weeks, late rows into a compressed week, the setting of the database, and isolation of bases."""
    restore(target, back_up(source, tmp_path, now=NOW), now=NOW)
    assert migrate(target) == []
    with connect(target, autocommit=True) as db:
        assert db.execute("SELECT ensure_reading_partitions('2026-10-05', '2026-10-05')").fetchone() == (3,)
        for _ in range(2):
            db.execute("""INSERT INTO reading (ts, value, point_id, base_id)
                SELECT TIMESTAMPTZ '2026-09-01 00:00:30Z', 7, i, 1 FROM generate_series(1, 20) i
                ON CONFLICT (base_id, point_id, ts) DO UPDATE SET value = excluded.value""")
        assert db.execute("SELECT count(*) FROM reading").fetchone() == (N + 20,)
        assert db.execute("SELECT compress_chunk('reading_w202637'::regclass)").fetchone() is not None
        for bases, seen in (("{1}", N + 20), ("{77}", 0)):
            with db.transaction(force_rollback=True):
                db.execute("SELECT set_config('park.bases', %s, true), set_config('role', 'park_operator', true)", (bases,))
                assert db.execute("SELECT count(*) FROM reading_shown").fetchone() == (seen,)
        with db.transaction(force_rollback=True), pytest.raises(psycopg.errors.InsufficientPrivilege):
            db.execute("SET LOCAL ROLE park_operator")
            db.execute("SELECT 1 FROM reading LIMIT 1")
    with psycopg.connect(target) as plain:
        assert plain.execute("SHOW timescaledb.max_tuples_decompressed_per_dml_transaction").fetchone() == ("0",)
        assert plain.execute("SHOW timescaledb.restoring").fetchone() == ("off",)


def test_a_rehearsal_leaves_no_database_behind(source: str, databases: Any, tmp_path: Path) -> None:
    folder = back_up(source, tmp_path, now=NOW)
    name = source.rpartition("/")[2]
    assert restore(source, folder, now=NOW, verify=True).former is None
    with psycopg.connect(databases.url("postgres"), autocommit=True) as conn:
        assert conn.execute("SELECT datname FROM pg_database WHERE datname LIKE %s", (name + "%",)).fetchall() == [(name,)]


def test_another_version_of_the_extension_is_refused_before_anything_is_filled(source: str, target: str, databases: Any,
                                                                               tmp_path: Path) -> None:
    folder = Path(shutil.copytree(back_up(source, tmp_path, now=NOW), tmp_path / "other"))
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"extension": "2.0.9"}))
    with pytest.raises(SetupError, match=r"TimescaleDB 2\.0\.9.*install that version"):
        restore(target, folder, now=NOW)
    with psycopg.connect(databases.url("postgres"), autocommit=True) as conn:
        assert conn.execute("SELECT count(*) FROM pg_database WHERE datname LIKE %s",
                            (target.rpartition("/")[2] + "%",)).fetchone() == (0,)
