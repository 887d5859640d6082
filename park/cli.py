"""The command `park`: one verb a stage. Each stage keeps its commands in `<stage>/commands.py`.

Exit status: 0 done, 1 something wrong in the input, 2 wrong usage.
"""

from __future__ import annotations

import inspect
import io
import os
import sys
from collections.abc import Callable
from functools import cache
from typing import Annotated, Any

import typer
import typer.rich_utils
import yaml

import accounting.commands
import alerts.commands
import api.commands
import collectors.commands
import grafana.commands
import ingest.commands
import park.commands
import reports.commands
import simulators.commands
from park.errors import ParkError
from park.quantities import TABLES

STAGES = (park, collectors, ingest, accounting, alerts, api, reports, grafana, simulators)

app = typer.Typer(name="park", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
                  help="Energy and pollution telemetry of an industrial park: collect, account, alert, report. "
                       "工业园区能源与污染监测平台。")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"park-telemetry {park.__version__}")
        raise typer.Exit


@app.callback()
def _options(_version: Annotated[bool, typer.Option("--version", is_eager=True, callback=_show_version,
                                                    help="Show the version and exit.")] = False) -> None:
    pass


def _register() -> None:
    typer.rich_utils.RANGE_STRING = ""      # the column of ranges took the room of the help; a number beyond is told its range
    park.commands.CHECKS[:] = [check for stage in STAGES for check in getattr(stage.commands, "CATALOGUE_CHECKS", ())]
    groups: dict[str, typer.Typer] = {}
    for stage in STAGES:
        for name, function in stage.commands.COMMANDS.items():
            group, _, verb = name.rpartition(" ")
            if not group:
                app.command(name, help=_help(function), epilog=_examples(name))(function)
                continue
            if group not in groups:
                groups[group] = typer.Typer(no_args_is_help=True, help=stage.commands.GROUPS[group])
                app.add_typer(groups[group], name=group)
            groups[group].command(verb, help=_help(function), epilog=_examples(name))(function)


def _help(function: Callable[..., Any]) -> str:
    """The docstring with each paragraph as one line, so that a narrow screen breaks it where it needs to."""
    paragraphs = inspect.cleandoc(function.__doc__ or "").split("\n\n")
    return "\n\n".join(" ".join(line.strip() for line in p.split("\n")) for p in paragraphs)


@cache
def _all_examples() -> dict[str, list[str]]:
    found: dict[str, list[str]] = yaml.load((TABLES / "examples.yaml").read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    return found


def _examples(name: str) -> str | None:
    """What the help of a command ends with; the blank lines keep each example on a line of its own."""
    lines = _all_examples().get(name)
    return None if lines is None else "\n\n".join(["For example:", *(f"  {line}" for line in lines)])


_register()


def main() -> None:
    """Entry point: a ParkError becomes its text on standard error and its exit status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")   # a login whose locale has no Chinese still gets its answer
    if not sys.stdout.isatty():
        os.environ.setdefault("COLUMNS", "160")  # a pipe has no width of its own, and tables would be cut at 80
    try:
        app(prog_name="park")
    except ParkError as exc:
        print(f"park: {exc}", file=sys.stderr)
        sys.exit(exc.exit_status)
    except BrokenPipeError:
        sys.exit(0)
    except OSError as exc:      # a folder that may not be written, a full disk: the answer is the user's, not a traceback
        print(f"park: {exc.filename or 'the system'}: {exc.strerror or exc}", file=sys.stderr)
        sys.exit(1)
    except Exception as exc:
        told = _of_database(exc)
        if told is None:
            raise
        print(f"park: {told}", file=sys.stderr)
        sys.exit(1)


def _of_database(exc: Exception) -> str | None:
    """What an error of the server means where its remedy is known; None for one that only a developer can answer."""
    if "psycopg" not in sys.modules:
        return None
    from psycopg import errors

    said = str(exc).splitlines()[0] if str(exc) else ""
    if isinstance(exc, errors.UndefinedColumn | errors.UndefinedTable | errors.UndefinedFunction):
        return f"the database's schema is not of this version ({said}): `park migrate` brings it there"
    if isinstance(exc, errors.InsufficientPrivilege):
        return f"the login of PARK_DATABASE_URL has not the rights for this ({said}): name the platform's own login"
    if isinstance(exc, errors.ReadOnlySqlTransaction):
        return f"the database takes no changes now ({said}): is it a standby, or being restored?"
    return None


if __name__ == "__main__":
    main()
