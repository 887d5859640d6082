"""The command `park` within the test's process, through its own entry: what a start of Python would cost is left out."""

from __future__ import annotations

import io
import os
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from unittest.mock import patch

from park.cli import main


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


def park(*words: str, **environment: str) -> Done:
    """Run the command with these variables beside those of the test."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with (patch.dict(os.environ, environment), patch.object(sys, "argv", ["park", *words]), redirect_stdout(out),
          redirect_stderr(err)):
        try:
            main()
        except SystemExit as exc:
            code = int(exc.code or 0)
    return Done(code, out.getvalue(), err.getvalue())
