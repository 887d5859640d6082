"""A backup holds the whole database, and a restore is compared table by table before it is put in place."""

from __future__ import annotations

import json
import shutil
import stat
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner

from park.backup import back_up, measure, read_manifest, role_of
from park.catalogue import read_catalogue
from park.catalogue_store import apply
from park.cli import app
from park.database import connect, migrate
from park.embedded import Postgres
from park.errors import Conflict, InputError, SetupError, StorageError
from park.pgtools import address, find_tools
from park.restore import restore

Db = psycopg.Connection[Any]
MINI = Path(__file__).parents[1] / "data" / "mini.yaml"
NOW = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, filler: Any) -> Iterator[Postgres]:
    """A server whose database has rows in every table, readings over three weeks, and a login of its own."""
    with Postgres(tmp_path_factory.mktemp("source") / "pg", config={"fsync": "off", "shared_buffers": "64MB"}) as server:
        migrate(server.url())
        with connect(server.url(), autocommit=True) as db:
            apply(db, read_catalogue([MINI]))
            filler(db).fill([1], {1: "mini"})
            db.execute("SELECT ensure_reading_partitions('2026-09-01', '2026-09-21')")
            db.execute("""INSERT INTO reading (ts, value, point_id, base_id, quality)
                SELECT TIMESTAMPTZ '2026-09-01Z' + i * interval '1 minute', random() * 1e6, 1 + i % 20, 1, 0
                FROM generate_series(1, 20000) i""")
            db.execute("CREATE ROLE contractor_login LOGIN PASSWORD 'secret' IN ROLE park_contractor")
            db.execute("GRANT SELECT ON base TO contractor_login")
        yield server


@pytest.fixture(scope="module")
def saved(source: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return back_up(source.url(), tmp_path_factory.mktemp("backups"), now=NOW)


@pytest.fixture
def copy(saved: Path, tmp_path: Path) -> Path:
    """A copy of the backup that a test may spoil."""
    return Path(shutil.copytree(saved, tmp_path / saved.name))


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """Another server, that has never seen the platform."""
    with Postgres(tmp_path_factory.mktemp("target") / "pg", config={"fsync": "off", "shared_buffers": "64MB"}) as server:
        yield server


def whole(url: str) -> dict[str, Any]:
    """Rows and figures of every table."""
    with connect(url, autocommit=True) as db:
        names = [n for (n,) in db.execute("""SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace
            AND relkind IN ('r', 'p') AND NOT relispartition""")]
        return measure(db, names, figures=True)


def schema(url: str) -> list[tuple[Any, ...]]:
    """Columns, keys, policies, rights, views, functions and partitions of the schema."""
    with connect(url, autocommit=True) as db:
        found: list[tuple[Any, ...]] = []
        for query in (
            """SELECT c.relname, c.relkind, c.relrowsecurity, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull
               FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid WHERE c.relnamespace = 'public'::regnamespace
               AND a.attnum > 0 AND NOT a.attisdropped AND c.relkind <> 'c' ORDER BY 1, 4""",
            """SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid), convalidated FROM pg_constraint
               WHERE connamespace = 'public'::regnamespace ORDER BY 1, 2""",
            "SELECT tablename, policyname, permissive, roles::text[], cmd, qual, with_check FROM pg_policies ORDER BY 1, 2",
            """SELECT table_name, grantee, privilege_type FROM information_schema.role_table_grants
               WHERE table_schema = 'public' ORDER BY 1, 2, 3""",
            """SELECT proname, pg_get_function_identity_arguments(oid), prosrc, prosecdef, proacl::text FROM pg_proc
               WHERE pronamespace = 'public'::regnamespace ORDER BY 1, 2""",
            "SELECT tgname, tgrelid::regclass::text FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1, 2",
            """SELECT inhrelid::regclass::text, inhparent::regclass::text FROM pg_inherits
               JOIN pg_class c ON c.oid = inhrelid WHERE c.relkind <> 'i' ORDER BY 1""",
        ):
            found += db.execute(query).fetchall()
    return found


def test_a_backup_restored_elsewhere_is_the_same_table_by_table(source: Postgres, target: Postgres, saved: Path) -> None:
    """And the roles come with their membership, password and settings."""
    before = whole(source.url())
    assert len(before) > 70 and before["reading"].rows > 20_000
    done = restore(target.url("fresh"), saved, now=NOW)
    assert (done.database, done.former, done.tables) == ("fresh", None, len(before))
    assert whole(target.url("fresh")) == before
    assert schema(target.url("fresh")) == schema(source.url())
    assert migrate(target.url("fresh")) == []
    with connect(target.url("fresh"), autocommit=True) as db:
        assert db.execute("""SELECT rolcanlogin, rolpassword LIKE 'SCRAM-SHA-256$%%',
                pg_has_role(oid, 'park_contractor', 'MEMBER')
            FROM pg_authid WHERE rolname = 'contractor_login'""").fetchone() == (True, True, True)
        assert db.execute("SELECT has_table_privilege('contractor_login', 'base', 'SELECT')").fetchone() == (True,)
        settings = db.execute("SELECT rolconfig FROM pg_roles WHERE rolname = 'park_grafana'").fetchone()
        assert settings is not None and "statement_timeout=20s" in settings[0]
    assert stat.S_IMODE((saved / "roles.sql").stat().st_mode) == 0o600 and stat.S_IMODE(saved.stat().st_mode) == 0o700


def test_what_is_written_during_the_backup_is_not_half_in_it(source: Postgres, target: Postgres, tmp_path: Path) -> None:
    """Counted and dumped in one snapshot: rows that come meanwhile are in neither."""
    with connect(source.url(), autocommit=True) as db:
        def write(*_: object) -> None:
            db.execute("""INSERT INTO ingest_batch (base_id, source, seq, n_readings)
                SELECT 1, 'during', coalesce(max(seq), 0) + 1, 1 FROM ingest_batch WHERE source = 'during'""")
        folder = back_up(source.url(), tmp_path, now=NOW, told=write)
        written = db.execute("SELECT count(*) FROM ingest_batch WHERE source = 'during'").fetchone()
        assert written is not None and written[0] > 10
    assert restore(target.url("during"), folder, now=NOW).tables > 70


def test_a_database_that_is_not_empty_is_left_alone_unless_it_is_to_be_replaced(target: Postgres, saved: Path) -> None:
    restore(target.url("used"), saved, now=NOW)
    with connect(target.url("used"), autocommit=True) as db:
        db.execute("UPDATE base SET name_en = 'newer'")
        with pytest.raises(Conflict, match="--replace"):
            restore(target.url("used"), saved, now=NOW)
        assert db.execute("SELECT name_en FROM base").fetchone() == ("newer",)
    done = restore(target.url("used"), saved, now=NOW + timedelta(minutes=1), replace=True)
    assert done.former == "used_before_20261123080100"
    with connect(target.url("used"), autocommit=True) as db, connect(target.url(done.former), autocommit=True) as former:
        assert db.execute("SELECT name_en FROM base").fetchone() == ("Mini base",)
        assert former.execute("SELECT name_en FROM base").fetchone() == ("newer",)


@pytest.mark.parametrize("harm", ["changed", "missing", "shorter", "strange"])
def test_a_damaged_backup_is_refused_and_the_file_named(target: Postgres, copy: Path, harm: str) -> None:
    file = max((copy / "data").iterdir(), key=lambda p: p.stat().st_size)
    content = bytearray(file.read_bytes())
    if harm == "changed":
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    elif harm == "missing":
        file.unlink()
    elif harm == "shorter":
        file.write_bytes(content[:-1])
    else:
        file = copy / "data" / "more"
        file.write_bytes(b"x")
    with pytest.raises(StorageError, match=file.name):
        restore(target.url("damaged"), copy, now=NOW)


def test_a_copy_that_is_not_what_was_counted_is_not_put_in_place(target: Postgres, copy: Path) -> None:
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["tables"]["reading"]["figures"] = "1"
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(StorageError, match="reading: "):
        restore(target.url("wrong"), copy, now=NOW)
    with connect(target.url("postgres"), autocommit=True) as db:
        assert db.execute("SELECT count(*) FROM pg_database WHERE datname LIKE 'wrong%%'").fetchone() == (0,)


def test_a_folder_that_is_no_backup_is_refused(target: Postgres, tmp_path: Path, copy: Path) -> None:
    with pytest.raises(InputError, match=r"manifest\.json"):
        restore(target.url("none"), tmp_path, now=NOW)
    raw = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps(raw | {"format": 9}))
    with pytest.raises(InputError, match="format"):
        read_manifest(copy)


def test_a_backup_that_fails_leaves_nothing_behind(source: Postgres, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SetupError, match="cannot be made: Not a directory; is its disk there"):
        back_up(source.url(), tmp_path / "file" / "x", now=NOW)
    (tmp_path / "file").unlink()

    def stop(*_: object) -> None:
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        back_up(source.url(), tmp_path, now=NOW, told=stop)
    assert list(tmp_path.iterdir()) == []


def tool(folder: Path, version: str) -> Path:
    folder.mkdir()
    for name in ("pg_dump", "pg_restore", "pg_dumpall"):
        (folder / name).write_text(f"#!/bin/sh\necho '{name} (PostgreSQL) {version}'\n")
        (folder / name).chmod(0o755)
    return folder


def test_tools_older_than_the_server_are_refused_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = tool(tmp_path / "old", "15.18 (Debian)"), tool(tmp_path / "new", "99.1")
    assert find_tools(18).folder.name == "bin", "the embedded server brings them"
    with pytest.raises(SetupError, match=r"version 15.*postgresql-client-18.*PARK_PG_BIN"):
        find_tools(18, old)
    with pytest.raises(SetupError, match="no pg_dump"):
        find_tools(18, tmp_path)
    monkeypatch.setattr("park.pgtools.binaries", lambda: old)
    assert find_tools(18, path=str(new)).major == 99


def test_a_password_is_not_on_the_command_line() -> None:
    target, environment = address("postgresql://park:p%40ss@db:5432/park?sslmode=require", "other")
    assert "p@ss" not in target and environment == {"PGPASSWORD": "p@ss"}
    assert "dbname=other" in target and "sslmode=require" in target


@pytest.mark.parametrize(("statement", "role"), [
    ("CREATE ROLE park_service;", "park_service"), ('ALTER ROLE "odd ""name" WITH NOSUPERUSER;', 'odd "name'),
    ("ALTER ROLE park_grafana SET statement_timeout TO '20s';", "park_grafana"),
    ("GRANT park_contractor TO contractor_login WITH INHERIT TRUE GRANTED BY park;", "contractor_login"),
    ("-- Roles", None), ("SET client_encoding = 'UTF8';", None)])
def test_the_role_of_a_statement_is_found(statement: str, role: str | None) -> None:
    assert role_of(statement) == role


def test_the_commands_say_what_they_did(source: Postgres, target: Postgres, tmp_path: Path,
                                        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARK_DATABASE_URL", source.url())
    done = CliRunner().invoke(app, ["backup", str(tmp_path), "--quick"])
    assert done.exit_code == 0 and " MB" in done.output
    (folder,) = tmp_path.iterdir()
    assert read_manifest(folder).tables["reading"].figures is None
    monkeypatch.setenv("PARK_DATABASE_URL", target.url("by_command"))
    with connect(target.url("postgres"), autocommit=True) as db:
        before = db.execute("SELECT datname FROM pg_database ORDER BY 1").fetchall()
        done = CliRunner().invoke(app, ["restore", str(folder), "--verify"])
        assert done.exit_code == 0 and "the database is as it was" in done.output
        assert db.execute("SELECT datname FROM pg_database ORDER BY 1").fetchall() == before
    done = CliRunner().invoke(app, ["restore", str(folder)])
    assert done.exit_code == 0 and "they are the database by_command now" in done.output
