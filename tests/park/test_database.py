"""Migrations run once, in order, from every earlier state; a base is isolated from another by the database itself."""

from __future__ import annotations

import threading
from typing import Any

import psycopg
import pytest
from psycopg import sql

from park.database import connect, migrate, migrations, queries
from park.embedded import Postgres
from park.engine import engine_of
from park.errors import StorageError

Db = psycopg.Connection[Any]


@pytest.fixture
def empty_url(postgres: Postgres) -> Any:
    with psycopg.connect(postgres.url("postgres"), autocommit=True) as conn:
        conn.execute("CREATE DATABASE empty_park")
        yield postgres.url("empty_park")
        conn.execute("DROP DATABASE empty_park WITH (FORCE)")


def test_migrating_twice_runs_nothing_the_second_time(empty_url: str) -> None:
    assert migrate(empty_url) == [f.stem for _, f in migrations()]
    assert migrate(empty_url) == []


def test_every_earlier_state_is_brought_up_to_date(empty_url: str) -> None:
    all_of_them = migrations()
    for stop in range(1, len(all_of_them)):
        with connect(empty_url, autocommit=True) as conn:
            conn.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
            conn.execute("""CREATE TABLE migration (
                number integer PRIMARY KEY, name text NOT NULL, at timestamptz NOT NULL DEFAULT now())""")
            for number, file in all_of_them[:stop]:
                conn.execute(file.read_bytes())
                conn.execute("INSERT INTO migration (number, name) VALUES (%s, %s)", (number, file.stem))
        assert migrate(empty_url) == [f.stem for _, f in all_of_them[stop:]]


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


@pytest.mark.parametrize("role", ["park_operator", "park_contractor", "park_enterprise", "park_auditor", "park_admin"])
def test_a_role_bound_to_one_base_sees_no_row_of_another(mini: Db, role: str) -> None:
    mini.execute("""INSERT INTO base (code, name_zh, name_en) VALUES ('other', 'x', 'x')""")
    other = mini.execute("SELECT base_id FROM base WHERE code = 'other'").fetchone()
    assert other is not None
    names = [row[0] for row in mini.execute("""SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm') AND NOT c.relispartition
          AND a.attname = 'base_id' AND NOT a.attisdropped AND has_table_privilege(%s, c.oid, 'SELECT')""", (role,))]
    assert len(names) > 20
    with mini.transaction(force_rollback=True):
        mini.execute("SELECT set_config('park.bases', %s, true)", (f"{{{other[0]}}}",))
        mini.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(role)))
        for name in names:
            seen = mini.execute(sql.SQL("SELECT count(*) FROM {} WHERE base_id IS DISTINCT FROM %s AND base_id IS NOT NULL")
                                .format(sql.Identifier(name)), (other[0],)).fetchone()
            assert seen == (0,), name


def test_grafana_reads_views_and_no_table(mini: Db) -> None:
    readable = mini.execute("""SELECT c.relname, c.relkind FROM pg_class c
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v')
          AND has_table_privilege('park_grafana', c.oid, 'SELECT')""").fetchall()
    # look-ups that hold no base's rows are all it may read of tables
    assert {name for name, kind in readable if kind not in ("v", b"v")} <= {"quality", "carrier", "unit_conversion"}
    assert not [name for name, kind in readable if mini.execute(
        "SELECT has_table_privilege('park_grafana', %s, 'INSERT')", (name,)).fetchone() == (True,)]
