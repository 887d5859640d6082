"""`park restore`: a backup into a database of its own, compared with the manifest, and only then put in place.

What is restored stands beside the former database until every table has the rows and figures that the manifest names; then
their names change places in one transaction. The former database is kept under another name, never dropped. With `verify`
nothing is put in place: the restored copy is compared and dropped.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
from psycopg import Connection, sql

from park.backup import DATA, QUERIES, ROLES, Manifest, Told, check_files, measure, quiet, read_manifest, role_of
from park.database import connect
from park.errors import Conflict, SetupError, StorageError
from park.pgtools import address, find_tools, run_tool, tool_major

_RESTORING = re.compile(r"processing data for table \"public\.([^\"]+)\"")
MAINTENANCE = "postgres"
TIMEOUT_SINCE = 170_000     # pg_restore of this version sets transaction_timeout, which no older server knows


@dataclass(frozen=True)
class Restored:
    """What was restored and compared, into which database; where the former one of that name is now."""

    database: str
    tables: int
    rows: int
    former: str | None


def restore(url: str, folder: Path, *, now: datetime, replace: bool = False, verify: bool = False, jobs: int = 2,
            bin_dir: Path | None = None, told: Told = quiet) -> Restored:
    """Restore a backup into the database that `url` names, which must be absent or empty unless `replace`.

    InputError for a folder that is no backup, StorageError for a damaged one or a restored copy that is not what the manifest
    says, Conflict for a database that is not empty, SetupError without tools or rights. In each case the database is as before.
    """
    manifest = read_manifest(folder)
    check_files(folder, manifest, told)
    name = str(psycopg.conninfo.conninfo_to_dict(url).get("dbname") or "park")
    with _maintenance(url) as server:
        row = server.execute(QUERIES["server"]).fetchone()
        assert row is not None
        version, user = int(row[0]), str(row[2])
        if version // 10_000 < manifest.server // 10_000:
            raise SetupError(f"the backup is of PostgreSQL {manifest.server // 10_000}, the server is {version // 10_000}: "
                             "restore it on that version or a later one")
        taken = _exists(server, name)
        if taken and not (replace or verify) and not _is_empty(url):
            raise Conflict(f"the database {name} is not empty: say --replace to put the backup in its place (the present one "
                           "is kept under another name), or name another in PARK_DATABASE_URL")
        fresh = f"{name}_{'verify' if verify else 'restore'}_{now:%Y%m%d%H%M%S}"
        _create(server, fresh)
        try:
            _restore_roles(server, folder / ROLES, user)
            _fill(url, fresh, folder, manifest, told, jobs=jobs, bin_dir=bin_dir, server=version)
            rows = _compare(url, fresh, manifest, told)
        except BaseException:
            _drop(server, fresh)
            raise
        if verify:
            _drop(server, fresh)
            return Restored(fresh, len(manifest.tables), rows, None)
        former = _put_in_place(server, fresh, name, f"{name}_before_{now:%Y%m%d%H%M%S}" if taken else None)
    return Restored(name, len(manifest.tables), rows, former)


@contextmanager
def _maintenance(url: str) -> Iterator[Connection[Any]]:
    """A connection beside the database in question, since names change there."""
    target, secret = address(url, MAINTENANCE)
    conn = connect(psycopg.conninfo.make_conninfo(target, **({"password": secret["PGPASSWORD"]} if secret else {})),
                   autocommit=True, name="park restore")
    with conn:
        yield conn


def _at(url: str, database: str) -> str:
    return psycopg.conninfo.make_conninfo(url, dbname=database)


def _exists(server: Connection[Any], name: str) -> bool:
    row = server.execute(QUERIES["database_exists"], {"name": name}).fetchone()
    return bool(row and row[0])


def _is_empty(url: str) -> bool:
    with connect(url, autocommit=True, name="park restore") as conn:
        row = conn.execute(QUERIES["is_empty"]).fetchone()
    return bool(row and row[0])


def _create(server: Connection[Any], name: str) -> None:
    try:
        server.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
    except psycopg.errors.InsufficientPrivilege as exc:
        raise SetupError(f"restoring needs the right to create databases: {exc}".strip()) from exc


def _drop(server: Connection[Any], name: str) -> None:
    server.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def _restore_roles(server: Connection[Any], path: Path, user: str) -> None:
    """Roles that are missing, with what they may; those that are there keep their passwords, and the own one everything."""
    there = {name for (name,) in server.execute("SELECT rolname FROM pg_roles")}
    for statement in path.read_text(encoding="utf-8").splitlines():
        name = role_of(statement)
        if name is None or name == user or (name in there and not statement.startswith("GRANT")):
            continue
        try:
            server.execute(statement.encode())
        except (psycopg.errors.DuplicateObject, psycopg.errors.UndefinedObject, psycopg.errors.InvalidGrantOperation):
            pass    # membership granted by a role of the other server: the migrations' own are there with the role
        except psycopg.errors.InsufficientPrivilege as exc:
            raise SetupError(f"restoring the role {name} needs the right to create roles: {exc}".strip()) from exc


def _fill(url: str, database: str, folder: Path, manifest: Manifest, told: Told, *, jobs: int, bin_dir: Path | None,
          server: int) -> None:
    tools = find_tools(max(server // 10_000, manifest.server // 10_000, tool_major(manifest.tool)), bin_dir)
    target, secret = address(url, database)
    done = 0

    def heard(line: str) -> None:
        nonlocal done
        if match := _RESTORING.search(line):
            done += 1
            told(f"restoring {match[1]}", done, 0)

    hypertables = manifest.engine == "timescaledb"
    older = server < TIMEOUT_SINCE <= tools.major * 10_000
    with _hypertables(_at(url, database), manifest.extension) if hypertables else nullcontext():
        run_tool(tools.command("pg_restore", "--no-owner", *([] if older else ["--exit-on-error"]),
                               f"--jobs={1 if hypertables else jobs}", "--verbose", f"--dbname={target}", str(folder / DATA)),
                 secret, heard, harmless='parameter "transaction_timeout"' if older else None)
    with connect(_at(url, database), autocommit=True, name="park restore") as conn:
        told("statistics", 0, 0)
        conn.execute("ANALYZE")


@contextmanager
def _hypertables(url: str, version: str) -> Iterator[None]:
    """A fresh database as TimescaleDB wants it while its tables are filled: the version of the backup, its workers at rest.

    SetupError where the server cannot give that version: the extension's own tables come with the backup as they were.
    """
    with connect(url, autocommit=True, name="park restore") as conn:
        there, loaded = conn.execute(QUERIES["extension_version"], {"version": version}).fetchone() or (False, False)
        if not (there and loaded):
            raise SetupError(f"the backup is of TimescaleDB {version}, which this server " +
                             ("has not loaded: set shared_preload_libraries = 'timescaledb' in postgresql.conf and start it "
                              "again" if there else "does not have: install that version, restore, and update it then"))
        conn.execute(sql.SQL("CREATE EXTENSION timescaledb VERSION {}").format(version))
        conn.execute("SELECT timescaledb_pre_restore()")
    yield
    with connect(url, autocommit=True, name="park restore") as conn:
        conn.execute("SELECT timescaledb_post_restore()")
        conn.execute(sql.SQL("ALTER DATABASE {} SET timescaledb.max_tuples_decompressed_per_dml_transaction = 0").format(
            sql.Identifier(conn.info.dbname)))     # pg_dump leaves out what is set for the database


def _compare(url: str, database: str, manifest: Manifest, told: Told) -> int:
    """Rows that were compared; StorageError where a table is not what the manifest says."""
    with connect(_at(url, database), autocommit=True, name="park restore") as conn:
        names = [n for (n,) in conn.execute(QUERIES["tables"])]
        figures = any(t.figures is not None for t in manifest.tables.values())
        found = measure(conn, names, figures=figures, told=told)
    wrong = [f"{name}: {_words(manifest.tables.get(name))} in the backup, {_words(found.get(name))} restored"
             for name in sorted(manifest.tables.keys() | found.keys()) if manifest.tables.get(name) != found.get(name)]
    if wrong:
        raise StorageError(f"what was restored is not what was backed up: {'; '.join(wrong[:10])}")
    return sum(t.rows for t in found.values())


def _words(table: Any) -> str:
    return "nothing" if table is None else f"{table.rows} rows ({table.figures})"


def _put_in_place(server: Connection[Any], fresh: str, name: str, aside: str | None) -> str | None:
    """The names change places; whoever is connected to the former database is sent away first."""
    rename = sql.SQL("ALTER DATABASE {} RENAME TO {}")
    for attempt in range(20):
        try:
            for one in (fresh, name):
                server.execute(QUERIES["end_sessions"], {"name": one})
            with server.transaction():
                if aside is not None:
                    server.execute(rename.format(sql.Identifier(name), sql.Identifier(aside)))
                server.execute(rename.format(sql.Identifier(fresh), sql.Identifier(name)))
            return aside
        except psycopg.errors.ObjectInUse:      # a service was quicker to come back
            if attempt == 19:
                raise Conflict(f"the database {name} is in use: stop the platform, then restore again") from None
    return aside
