"""Connections to PostgreSQL, named queries from SQL files, and forward-only migrations under an advisory lock."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path

import psycopg
from psycopg import Connection, sql
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import TupleRow

from park import engine
from park.errors import SetupError, StorageError

MIGRATIONS = Path(__file__).parent / "migrations"
# TimescaleDB refuses a late row that opens more compressed rows than this limit; a server without it keeps the words unread.
# Servers of distributions compile long queries (jit), which takes seconds for the sums over views that here take milliseconds
OPTIONS = "-c timezone=UTC -c jit=off -c timescaledb.max_tuples_decompressed_per_dml_transaction=0"
_LOCK = 0x7061726B  # "park": the advisory lock that migrations hold

_NAME = re.compile(r"^-- name: (?P<name>[a-z0-9_]+)\s*$", re.MULTILINE)


def connect(url: str, *, autocommit: bool = False, name: str = "park") -> Connection[TupleRow]:
    """A connection in UTC with a name that `pg_stat_activity` shows; StorageError with the remedy when there is none. Options
    in the URL hold beside ours."""
    options = f"{OPTIONS} {conninfo_to_dict(url).get('options') or ''}".rstrip()
    try:
        return psycopg.connect(url, autocommit=autocommit, application_name=name, options=options, connect_timeout=10)
    except psycopg.OperationalError as exc:
        remedy = ("start it" if os.environ.get("PARK_DATABASE_URL") else "the variable is not set here: `. park-data/env` names"
                  " the database of a running `park up` or `park demo`, from the folder in which it was started")
        raise StorageError(f"no database at PARK_DATABASE_URL: {str(exc).strip()}; {remedy}") from exc


@cache
def queries(path: Path) -> dict[str, str]:
    """The named queries of an SQL file: `-- name: insert_batch`, one comment sentence, the statement."""
    text = path.read_text(encoding="utf-8")
    marks = list(_NAME.finditer(text))
    ends = [m.start() for m in marks[1:]] + [len(text)]
    return {m["name"]: text[m.end():end].strip() for m, end in zip(marks, ends, strict=True)}


def migrations() -> list[tuple[int, Path]]:
    """(number, file) of every migration in order; a gap or a double number is a SetupError."""
    files = sorted(MIGRATIONS.glob("[0-9][0-9][0-9]_*.sql"))
    numbered = [(int(f.name[:3]), f) for f in files]
    if [n for n, _ in numbered] != list(range(1, len(numbered) + 1)):
        raise SetupError(f"migrations must be numbered 001, 002 ... without gaps: {[f.name for f in files]}")
    return numbered


def migrate(url: str, *, citus: bool = False, convert: bool = False, workers: Sequence[str] = ()) -> list[str]:
    """Bring the schema up to date and return the names of the migrations that ran; safe to call from many processes.

    TimescaleDB is found; `convert` moves readings of plain partitions into its hypertables, `citus` distributes the tables,
    over `workers` (host or host:port) where there are any. SetupError for a database that a later version has migrated.
    """
    done: list[str] = []
    with connect(url, autocommit=True, name="park migrate") as conn:
        conn.execute("SELECT pg_advisory_lock(%s)", (_LOCK,))
        layout = engine.install(conn, citus=citus, convert=convert, workers=workers)
    with connect(url, name="park migrate") as conn, _exclusive(conn):
        conn.execute("""CREATE TABLE IF NOT EXISTS migration (
            number integer PRIMARY KEY, name text NOT NULL, at timestamptz NOT NULL DEFAULT now())""")
        there = {row[0] for row in conn.execute("SELECT number FROM migration")}
        known = migrations()
        if later := sorted(there - {number for number, _ in known}):
            raise SetupError(f"the database is of a later version: it has migration {later[-1]:03d}, this one knows up to "
                             f"{known[-1][0]:03d}; install that version again, or restore the backup from before the upgrade "
                             "(`park restore BACKUP --replace`)")
        for number, file in known:
            if number not in there:
                conn.execute(file.read_bytes())
                conn.execute("INSERT INTO migration (number, name) VALUES (%s, %s)", (number, file.stem))
                done.append(file.stem)
        if done:
            conn.execute("SELECT keep_histories()")  # histories follow the columns of their tables
        if engine.fit(conn, layout, again=bool(done)) or done:
            conn.execute("SELECT secure_tables()")  # row-level security for whatever tables the migrations made
        conn.execute("SELECT close_shadows()")  # each time: a restored database has not the rights of the former one
        _compile_nothing(conn)
    return done


def _compile_nothing(conn: Connection[TupleRow]) -> None:
    """Sessions that are not ours (Grafana, psql) without jit, too, where this user may say so of the database."""
    name, said, may = conn.execute("""SELECT datname, EXISTS (SELECT FROM pg_db_role_setting s CROSS JOIN unnest(setconfig) c
        WHERE s.setdatabase = d.oid AND setrole = 0 AND starts_with(c, 'jit=')), pg_has_role(datdba, 'USAGE')
        FROM pg_database d WHERE datname = current_database()""").fetchone() or ("", True, False)
    if may and not said:      # somebody's own word stays
        conn.execute(sql.SQL("ALTER DATABASE {} SET jit = off").format(sql.Identifier(name)))


def _exclusive(conn: Connection[TupleRow]) -> AbstractContextManager[object]:
    transaction = conn.transaction()
    conn.execute(sql.SQL("SELECT pg_advisory_xact_lock({})").format(_LOCK))
    return transaction

