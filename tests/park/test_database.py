"""Migrations run once, in order, from every earlier state; a base is isolated from another by the database itself."""

from __future__ import annotations

import threading
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from park.commands import _open_grafana_login
from park.database import connect, migrate, migrations, queries
from park.embedded import Postgres
from park.engine import engine_of
from park.errors import SetupError, StorageError

Db = psycopg.Connection[Any]


@pytest.fixture
def empty_url(databases: Any) -> Any:
    with databases.empty() as url:
        yield url


def test_migrating_twice_runs_nothing_the_second_time(empty_url: str) -> None:
    assert migrate(empty_url) == [f.stem for _, f in migrations()]
    assert migrate(empty_url) == []


def test_a_database_of_a_later_version_is_refused_and_left_as_it_is(db: Db, database_url: str) -> None:
    last = migrations()[-1][0]
    db.execute("INSERT INTO migration (number, name) VALUES (%s, 'of_tomorrow')", (last + 1,))
    with pytest.raises(SetupError, match=f"migration {last + 1:03d}, this one knows up to {last:03d}.*park restore"):
        migrate(database_url)
    db.execute("DELETE FROM migration WHERE number = %s", (last + 1,))


def test_the_servers_log_never_has_grafanas_password(db: Db, database_url: str, postgres: Any,
                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    if not isinstance(postgres, Postgres):
        pytest.skip("reads the log of the embedded server")
    monkeypatch.setenv("GRAFANA_PASSWORD", "never-to-be-read")
    db.execute("CREATE ROLE not_allowed LOGIN")
    try:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):   # a statement that fails is logged whole
            _open_grafana_login(database_url.replace("park@", "not_allowed@"), "GRAFANA_PASSWORD")
    finally:
        db.execute("DROP ROLE not_allowed")
    logged = (postgres.data_dir / "server.log").read_text()
    assert "ALTER ROLE park_grafana LOGIN" in logged and "never-to-be-read" not in logged


def test_every_earlier_state_is_brought_up_to_date_with_its_rows(empty_url: str, databases: Any, filler: Any) -> None:
    """From each state to the next, with a row in every table as soon as it exists: none is lost, none stands in the way.
    Some of the states are brought to the last by `migrate` itself."""
    all_of_them = migrations()
    whole_way = {1, len(all_of_them) // 3, 2 * len(all_of_them) // 3, len(all_of_them) - 1, len(all_of_them)}
    rows: list[str] = []
    with connect(empty_url, autocommit=True) as conn:
        conn.execute("""CREATE TABLE migration (
            number integer PRIMARY KEY, name text NOT NULL, at timestamptz NOT NULL DEFAULT now())""")
    for number, file in all_of_them:
        with connect(empty_url, autocommit=True) as conn:
            conn.execute(file.read_bytes())
            conn.execute("INSERT INTO migration (number, name) VALUES (%s, %s)", (number, file.stem))
            assert _empty_ones(conn, rows) == [], file.stem
            rows = filler(conn).fill([1], {1: "early"})
        if number in whole_way:
            copy = databases.copy(conninfo_to_dict(empty_url)["dbname"])
            assert migrate(databases.url(copy)) == [f.stem for n, f in all_of_them if n > number]
            with connect(databases.url(copy), autocommit=True) as conn:
                assert _empty_ones(conn, rows) == [], f"from {file.stem}"
            databases.drop(copy)
    assert len(rows) > 60


def _empty_ones(conn: Db, tables: list[str]) -> list[str]:
    return [t for t in tables if conn.execute(sql.SQL("SELECT EXISTS (SELECT FROM {})").format(sql.Identifier(t))).fetchone()
            == (False,)]


def test_processes_that_migrate_at_once_do_not_collide(empty_url: str) -> None:
    ran: list[list[str]] = []
    workers = [threading.Thread(target=lambda: ran.append(migrate(empty_url))) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(map(len, ran)) == [0, 0, 0, len(migrations())]


def test_a_database_that_is_not_there_is_named_with_the_remedy() -> None:
    with pytest.raises(StorageError, match="park demo"):
        connect("postgresql://127.0.0.1:1/none")


def test_the_engine_is_named_as_the_tables_are_laid_out(db: Db, databases: Any) -> None:
    assert engine_of(db) == databases.engine


def test_queries_are_found_by_name(tmp_path: Any) -> None:
    file = tmp_path / "queries.sql"
    file.write_text("-- heading\n-- name: one\n-- Says one.\nSELECT 1\n\n-- name: two\nSELECT 2;\n")
    assert queries(file) == {"one": "-- Says one.\nSELECT 1", "two": "SELECT 2;"}


def test_every_table_with_a_base_is_behind_row_level_security_or_closed_to_readers(db: Db) -> None:
    open_tables = db.execute("""SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
          AND NOT EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = c.oid)
          AND a.attname = 'base_id' AND NOT a.attisdropped AND NOT c.relrowsecurity AND c.relname <> 'login_base'
          AND EXISTS (SELECT FROM unnest(ARRAY['park_operator', 'park_contractor', 'park_enterprise', 'park_auditor',
                                               'park_admin', 'park_grafana', 'park_api']) AS role
                      WHERE has_any_column_privilege(role, c.oid, 'SELECT'))
        """).fetchall()
    assert open_tables == []


def test_grafana_reads_views_and_no_table(mini: Db) -> None:
    readable = mini.execute("""SELECT c.relname, c.relkind FROM pg_class c
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v')
          AND has_table_privilege('park_grafana', c.oid, 'SELECT')""").fetchall()
    # look-ups that hold no base's rows are all it may read of tables
    assert {name for name, kind in readable if kind not in ("v", b"v")} <= {"quality", "carrier", "unit_conversion", "engine"}
    assert not [name for name, kind in readable if mini.execute(
        "SELECT has_table_privilege('park_grafana', %s, 'INSERT')", (name,)).fetchone() == (True,)]


def test_no_session_compiles_its_queries_whatever_the_server_thinks_of_it(empty_url: str) -> None:
    """Servers of distributions have jit on: sums over our views then take minutes instead of seconds."""
    setting = "SELECT setting, source FROM pg_settings WHERE name = 'jit'"
    with psycopg.connect(empty_url, autocommit=True) as stranger:
        stranger.execute(sql.SQL("ALTER DATABASE {} SET jit = on").format(sql.Identifier(stranger.info.dbname)))
        migrate(empty_url)
        with psycopg.connect(empty_url) as other:
            assert other.execute(setting).fetchone() == ("on", "database"), "who said it of the database meant it"
        stranger.execute(sql.SQL("ALTER DATABASE {} RESET jit").format(sql.Identifier(stranger.info.dbname)))
    migrate(empty_url)
    with psycopg.connect(empty_url) as other, connect(empty_url) as ours:
        assert other.execute(setting).fetchone() == ("off", "database")
        assert ours.execute(setting).fetchone() == ("off", "client")
