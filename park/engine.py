"""The engine under the schema: plain PostgreSQL, TimescaleDB or Citus. `park migrate` finds it and fits the tables to it.

Tables and views have the same names on each. What an engine does in its own way stands in `engines/<name>.sql`, which runs
after the migrations: how weeks are made and dropped, how readings are stored, and how readers see them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import psycopg
from psycopg import Connection, sql
from psycopg.rows import TupleRow

from park.errors import SetupError

ENGINES = Path(__file__).parent / "engines"
PLAIN, TIMESCALEDB, CITUS = "postgresql", "timescaledb", "citus"
_TITLE = {TIMESCALEDB: "TimescaleDB", CITUS: "Citus"}
_SIGN = {TIMESCALEDB: "timescaledb.max_background_workers", CITUS: "citus.shard_count"}   # settings of a preloaded library


def engine_of(conn: Connection[TupleRow]) -> str:
    """`timescaledb`, `citus` or `postgresql`, as the tables are laid out; both extensions in one database is a SetupError."""
    extensions = _extensions(conn)
    if conn.execute("SELECT to_regclass('engine')").fetchone() == (None,):
        return next(iter(extensions), PLAIN)
    row = conn.execute("SELECT name FROM engine").fetchone()
    return str(row[0]) if row else PLAIN


def _extensions(conn: Connection[TupleRow]) -> set[str]:
    """Which of the two this database has; SetupError for both."""
    found = {str(n) for (n,) in conn.execute("SELECT extname FROM pg_extension WHERE extname = ANY (%s)", (list(_TITLE),))}
    if len(found) == 2:
        raise SetupError("TimescaleDB and Citus are both in this database; they cannot work together: drop one extension")
    return found


def install(conn: Connection[TupleRow], *, citus: bool = False, convert: bool = False,
            workers: Sequence[str] = ()) -> str:
    """Put the extension into the database (connection in autocommit) and say which engine the tables are to be laid out for.

    TimescaleDB is taken where the server has loaded it and there is nothing to move, or with `convert`; Citus only when asked
    for, with `workers` (host or host:port) joined to it first. What is laid out once stays so. SetupError with the remedy
    where that cannot be.
    """
    _needs_library(conn)
    there, laid_out, full = _extensions(conn), _laid_out(conn), _has_readings(conn)
    if citus:
        if TIMESCALEDB in there:
            raise SetupError("--citus: this database has TimescaleDB; they cannot work together: use another database")
        _distributable(conn, laid_out, full)
        _create(conn, CITUS, there)
        _join(conn, workers)
        return CITUS
    if workers:
        raise SetupError("--worker: workers belong to Citus: say --citus too")
    if laid_out in _TITLE or CITUS in there:
        return laid_out or PLAIN
    if not (TIMESCALEDB in there or _loaded(conn, TIMESCALEDB)) or (full and not convert):
        if convert:
            raise SetupError(f"--convert: {_absent(conn, TIMESCALEDB)}")
        return PLAIN
    _create(conn, TIMESCALEDB, there)
    return TIMESCALEDB


def advice(conn: Connection[TupleRow]) -> list[str]:
    """What a user should know of engines that this database could have and has not; empty when there is nothing to say."""
    if engine_of(conn) != PLAIN:
        return []
    extensions = _extensions(conn)
    if CITUS in extensions:
        return ["Citus is in this database but its tables are not distributed: `park migrate --citus` does it"]
    if TIMESCALEDB in extensions or _loaded(conn, TIMESCALEDB):
        return ["TimescaleDB is here, but this database holds readings in plain partitions, and works so. To move them into "
                "hypertables: stop the platform, have as much free disk as they take, and run `park migrate --convert`"]
    if _available(conn, TIMESCALEDB):
        return [f"plain PostgreSQL it is: {_absent(conn, TIMESCALEDB)}"]
    return []


def fit(conn: Connection[TupleRow], engine: str, *, again: bool) -> bool:
    """Run what the engine adds to the schema, inside the caller's transaction; False when it is there (and not `again`)."""
    script = b"" if engine == PLAIN else (ENGINES / f"{engine}.sql").read_bytes()
    digest = hashlib.sha256(script).hexdigest()
    conn.execute("""CREATE TABLE IF NOT EXISTS engine (
        one boolean PRIMARY KEY DEFAULT true CHECK (one), name text NOT NULL, digest text NOT NULL)""")
    conn.execute("REVOKE ALL ON engine FROM PUBLIC; GRANT SELECT ON engine TO park_service, park_api")
    if not again and conn.execute("SELECT name, digest FROM engine").fetchone() == (engine, digest):
        follow(conn)
        return False
    if script:
        conn.execute(script)
    conn.execute("INSERT INTO engine (name, digest) VALUES (%s, %s) "
                 "ON CONFLICT (one) DO UPDATE SET name = excluded.name, digest = excluded.digest", (engine, digest))
    return True


def follow(conn: Connection[TupleRow]) -> None:
    """On Citus: have the views read this very database, should it be a copy under another name; else nothing."""
    if conn.execute("SELECT to_regproc('spread.follow')").fetchone() != (None,):
        conn.execute("SELECT spread.follow()")


def _laid_out(conn: Connection[TupleRow]) -> str | None:
    """What the tables were laid out for; None before the first time."""
    if conn.execute("SELECT to_regclass('engine')").fetchone() == (None,):
        return None
    row = conn.execute("SELECT name FROM engine").fetchone()
    return str(row[0]) if row else None


def _has_readings(conn: Connection[TupleRow]) -> bool:
    if conn.execute("SELECT to_regclass('reading')").fetchone() == (None,):
        return False
    row = conn.execute("SELECT EXISTS (SELECT 1 FROM reading)").fetchone()
    return bool(row and row[0])


def _needs_library(conn: Connection[TupleRow]) -> None:
    """SetupError for an extension in the database whose library the server has not loaded: nothing would work."""
    for name in _extensions(conn):
        if not _loaded(conn, name):
            raise SetupError(f"{_TITLE[name]} is in this database, but {_absent(conn, name)}")


def _distributable(conn: Connection[TupleRow], laid_out: str | None, full: bool) -> None:
    if laid_out != CITUS and full:
        raise SetupError("--citus: this database holds readings; distribute an empty one and bring them over: `park export "
                         "readings` here, `park migrate --citus`, `park catalogue apply` and `park import` there")
    if not _loaded(conn, CITUS):
        raise SetupError(f"--citus: {_absent(conn, CITUS)}")
    if conn.execute("SELECT current_setting('is_superuser')").fetchone() != ("on",):
        raise SetupError("--citus: only a superuser may do this: views read the distributed tables through postgres_fdw, "
                         "without a password of their own; run it as one")


def _join(conn: Connection[TupleRow], workers: Sequence[str]) -> None:
    """Make the servers workers of this coordinator; those that are already stay."""
    if not workers:
        return
    own = "localhost" if conn.info.host.startswith("/") or not conn.info.host else conn.info.host
    try:
        conn.execute("SELECT citus_set_coordinator_host(%s, %s)", (own, conn.info.port))
        for worker in workers:
            host, _, port = worker.partition(":")
            conn.execute("SELECT citus_add_node(%s, %s)", (host, int(port or 5432)))
    except (psycopg.Error, ValueError) as exc:
        raise SetupError(f"--worker: expected servers with the extension citus in a database {conn.info.dbname}, that this "
                         f"server may log in to: {str(exc).splitlines()[0]}") from exc


def _create(conn: Connection[TupleRow], name: str, there: set[str]) -> None:
    if name in there:
        return
    try:
        conn.execute(sql.SQL("CREATE EXTENSION IF NOT EXISTS {}").format(sql.Identifier(name)))
    except psycopg.errors.InsufficientPrivilege as exc:
        raise SetupError(f"{_TITLE[name]} is loaded, but this user may not create the extension: have a superuser run "
                         f"CREATE EXTENSION {name} in this database, then run `park migrate` again") from exc


def _loaded(conn: Connection[TupleRow], name: str) -> bool:
    """Whether the server has the library in shared_preload_libraries (which only superusers may read): its settings tell."""
    return conn.execute("SELECT FROM pg_settings WHERE name = %s", (_SIGN[name],)).fetchone() is not None


def _available(conn: Connection[TupleRow], name: str) -> bool:
    return conn.execute("SELECT FROM pg_available_extensions WHERE name = %s", (name,)).fetchone() is not None


def _absent(conn: Connection[TupleRow], name: str) -> str:
    """What is missing for an extension, and the remedy."""
    if not _available(conn, name):
        return f"{_TITLE[name]} is not installed on the database server: install its package, or use its image"
    if not _loaded(conn, name):
        return (f"{_TITLE[name]} is installed on the server and not loaded: set shared_preload_libraries = '{name}' in "
                f"postgresql.conf, start the server again, then run `park migrate`")
    return f"{_TITLE[name]} is there"
