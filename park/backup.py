"""`park backup`: the whole database into a folder, by the server's own tools, with a manifest that says what is in it.

DEST/park_2026-11-23T120000Z/ holds `data/` (pg_dump, directory format, written by several jobs), `roles.sql` (0600: it may
hold password verifiers) and `manifest.json`: checksums of every file, and rows and figures of every table in the same
snapshot that pg_dump saw. A folder is named so only when it is complete; before it ends in `.part`. `restore.py` reads it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from psycopg import Connection, IsolationLevel, sql

from park.database import connect, queries
from park.errors import InputError, SetupError, StorageError
from park.pgtools import Tools, address, find_tools, run_tool

QUERIES = queries(Path(__file__).with_name("backup.sql"))
FORMAT = 1
MANIFEST, ROLES, DATA = "manifest.json", "roles.sql", "data"
_DUMPING = re.compile(r"dumping contents of table \"?(?:public\.)?([^\"]+)")
Told = Callable[[str, int, int], None]


def quiet(*_: object) -> None:
    """Who needs no progress."""


@dataclass(frozen=True)
class Table:
    """Rows of a table, and a number over all their values (None where it was not asked for)."""

    rows: int
    figures: str | None


@dataclass(frozen=True)
class Manifest:
    """What a backup holds. `extension`: TimescaleDB's version. `files`: path within the folder to [bytes, SHA-256]."""

    format: int
    made_at: str
    database: str
    server: int
    engine: str
    tool: str
    migrations: list[str]
    roles: list[str]
    with_passwords: bool
    tables: dict[str, Table]
    files: dict[str, tuple[int, str]] = field(default_factory=dict)
    extension: str = ""


def back_up(url: str, destination: Path, *, now: datetime, jobs: int = 2, figures: bool = True, bin_dir: Path | None = None,
            told: Told = quiet) -> Path:
    """Write a backup below `destination` and return its folder; `told` hears of (what, done, of how many).

    SetupError without fitting tools or on Citus; StorageError when a tool fails, with nothing left behind.
    """
    with connect(url, name="park backup") as conn:
        conn.isolation_level, conn.read_only = IsolationLevel.REPEATABLE_READ, True
        version, database, _, superuser = _one(conn, "server")
        extensions: dict[str, str] = dict(conn.execute(QUERIES["extensions"]).fetchall())
        engine = "timescaledb" if "timescaledb" in extensions else "postgresql"
        if "citus" in extensions:
            raise SetupError("a Citus cluster is not backed up through its coordinator: use base backups of every node "
                             "(pg_basebackup, pgBackRest) taken at one restore point (citus_create_restore_point)")
        tools = find_tools(version // 10_000, bin_dir)
        folder = destination / f"park_{now:%Y-%m-%dT%H%M%SZ}"
        part = folder.with_name(folder.name + ".part")
        try:
            part.mkdir(parents=True, mode=0o700)
        except OSError as exc:
            raise SetupError(f"the folder {part} cannot be made: {exc.strerror or exc}; is its disk there, and may this user "
                             "write to it?") from exc
        try:
            manifest = _write(conn, url, part, tools, told, jobs=jobs, figures=figures, head={
                "format": FORMAT, "made_at": now.isoformat(), "database": database, "server": version, "engine": engine,
                "extension": extensions.get("timescaledb", ""), "tool": tools.version, "with_passwords": superuser})
            _seal(part, manifest, told)
            part.rename(folder)
            _sync(destination)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
    return folder


def _write(conn: Connection[Any], url: str, part: Path, tools: Tools, told: Told, *, jobs: int, figures: bool,
           head: dict[str, Any]) -> Manifest:
    """Dump and count at the same time, in one snapshot."""
    (snapshot,) = _one(conn, "export_snapshot")
    names = [name for (name,) in conn.execute(QUERIES["tables"])]
    target, secret = address(url)
    command = tools.command("pg_dump", "--format=directory", f"--jobs={jobs}", f"--snapshot={snapshot}", "--verbose",
                            f"--file={part / DATA}", f"--dbname={target}")
    dumped = 0

    def heard(line: str) -> None:
        nonlocal dumped
        if match := _DUMPING.search(line):
            dumped += 1
            told(f"writing {match[1]}", dumped, len(names))

    with ThreadPoolExecutor(1) as pool:
        dump = pool.submit(run_tool, command, secret, heard)
        tables = measure(conn, names, figures=figures, stop=lambda: dump.done() and dump.exception() is not None)
        dump.result()
    roles = [name for (name,) in conn.execute(QUERIES["roles"])]
    _write_roles(url, part / ROLES, tools, set(roles), with_passwords=head["with_passwords"])
    return Manifest(**head, migrations=[n for (n,) in conn.execute(QUERIES["migrations"])], roles=roles, tables=tables)


def measure(conn: Connection[Any], names: list[str], *, figures: bool, stop: Callable[[], bool] = lambda: False,
            told: Told = quiet) -> dict[str, Table]:
    """Rows and figures of tables as the session sees them."""
    found = {}
    for k, name in enumerate(names):
        if stop():
            break
        told(f"comparing {name}", k, len(names))
        query = sql.SQL(QUERIES["figures" if figures else "count"]).format(table=sql.Identifier(name))  # type: ignore[arg-type]
        row = conn.execute(query).fetchone()
        assert row is not None
        found[name] = Table(*row)
    return found


def _write_roles(url: str, path: Path, tools: Tools, wanted: set[str], *, with_passwords: bool) -> None:
    """The roles that the database leans on, as statements. Without superuser nobody may read password verifiers."""
    target, secret = address(url)
    run_tool(tools.command("pg_dumpall", "--roles-only", f"--file={path}", f"--dbname={target}",
                           *(() if with_passwords else ("--no-role-passwords",))), secret)
    kept = [line for line in path.read_text(encoding="utf-8").splitlines() if role_of(line) in wanted]
    path.write_text("\n".join(kept) + "\n", encoding="utf-8")
    path.chmod(0o600)


_ROLE = re.compile(r"^(?:CREATE ROLE|ALTER ROLE|GRANT (?:\"[^\"]+\"|\S+) TO) (?P<name>\"(?:[^\"]|\"\")+\"|[^\s;]+)")


def role_of(statement: str) -> str | None:
    """The role that a statement of pg_dumpall is about; None for anything else."""
    match = _ROLE.match(statement)
    if match is None:
        return None
    name = match["name"]
    return name[1:-1].replace('""', '"') if name.startswith('"') else name


def _seal(part: Path, manifest: Manifest, told: Told) -> None:
    """Checksums of every file, then the manifest, all on the disk."""
    paths = sorted(p for p in part.rglob("*") if p.is_file())
    for k, path in enumerate(paths):
        told("checksums", k + 1, len(paths))
        manifest.files[str(path.relative_to(part))] = path.stat().st_size, _digest(path)
    with (part / MANIFEST).open("w", encoding="utf-8") as file:
        json.dump(asdict(manifest), file, indent=1, ensure_ascii=False)
        file.flush()
        os.fsync(file.fileno())
    _sync(part)


def _digest(path: Path) -> str:
    """SHA-256 of a file, after it has reached the disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a backup; InputError where the folder is none, is incomplete, or is of a later version."""
    try:
        raw = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError as exc:
        hint = "; it is not complete" if folder.name.endswith(".part") else ""
        raise InputError(f"{folder} is no backup: it has no {MANIFEST}{hint}") from exc
    except ValueError as exc:
        raise InputError(f"{folder / MANIFEST} cannot be read: {exc}") from exc
    if not isinstance(raw, dict) or raw.get("format") != FORMAT:
        raise InputError(f"{folder}: expected a backup of format {FORMAT}, got another one: is it of a later version?")
    return Manifest(**raw | {"tables": {k: Table(**v) for k, v in raw["tables"].items()},
                             "files": {k: (v[0], v[1]) for k, v in raw["files"].items()}})


def check_files(folder: Path, manifest: Manifest, told: Told = quiet) -> None:
    """Compare every file with the manifest; StorageError that names those that are missing, changed or too many."""
    faults = list(_faults(folder, manifest, told))
    if faults:
        raise StorageError(f"the backup {folder} is damaged: {'; '.join(faults[:10])}" + (" ..." if len(faults) > 10 else ""))


def _faults(folder: Path, manifest: Manifest, told: Told) -> Iterator[str]:
    for k, (name, (size, digest)) in enumerate(manifest.files.items()):
        told("checksums", k + 1, len(manifest.files))
        path = folder / name
        if not path.is_file():
            yield f"{name} is missing"
        elif path.stat().st_size != size:
            yield f"{name} has {path.stat().st_size} bytes instead of {size}"
        else:
            with path.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                    yield f"{name} has changed"
    strange = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()} - manifest.files.keys() - {MANIFEST}
    yield from (f"{name} does not belong to it" for name in sorted(strange))


def _one(conn: Connection[Any], query: str) -> tuple[Any, ...]:
    row = conn.execute(QUERIES[query]).fetchone()
    assert row is not None
    return tuple(row)
