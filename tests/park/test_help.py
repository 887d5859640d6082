"""`park --help` teaches: every example names options that there are, and no line is wider than a terminal of 80 columns."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import unicodedata
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from park.cli import STAGES, app
from park.quantities import TABLES

ROOT = Path(__file__).parents[2]
NAMES = [name for stage in STAGES for name in stage.commands.COMMANDS]
EXAMPLES: dict[str, list[str]] = yaml.safe_load((TABLES / "examples.yaml").read_text(encoding="utf-8"))


@cache
def _whole() -> Any:
    return typer.main.get_command(app)


def _command(name: str) -> Any:
    found = _whole()
    for word in name.split():
        found = found.commands[word]
    return found


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_example_is_a_use_of_its_command(name: str) -> None:
    command = _command(name)
    for line in EXAMPLES[name]:
        words = shlex.split(line.partition(" > ")[0])
        words = words[words.index("park") + 1:]
        assert words[:len(name.split())] == name.split(), line
        args = words[len(name.split()):]
        with command.make_context(name, [], resilient_parsing=True) as context:
            given, left, _ = command.make_parser(context).parse_args(list(args))
        needed = {p.name for p in command.params if p.required}
        assert left == [] and needed <= {k for k, v in given.items() if v not in (None, ())}, line


def test_help_fits_a_terminal_of_80_columns() -> None:
    code = ("import sys, typer\nfrom park.cli import app\npark = typer.main.get_command(app)\nfor words in sys.argv[1:]:\n"
            "    try: park.main(words.split() + ['--help'], prog_name='park')\n    except SystemExit: pass\n")
    said = subprocess.run([sys.executable, "-c", code, "", *NAMES], env=os.environ | {"COLUMNS": "80"}, cwd=ROOT,
                          capture_output=True, text=True, check=True).stdout
    assert said.count("Usage: ") == 1 + len(NAMES) and "For example:" in said
    wide = {line for line in said.splitlines() if sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in line) > 80}
    assert not wide
