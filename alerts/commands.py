"""Commands of the stage; heavy imports stay inside the functions, so that `park --help` answers at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

GROUPS: dict[str, str] = {}


def alert(
    once: Annotated[bool, typer.Option("--once", help="One pass over what is there, then stop.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Check the rules of the catalogue and name every mistake.")] = False,
) -> None:
    """Evaluate the rules of the catalogue over the live readings, and send what changes. Runs until stopped.

    Rules are rows of the catalogue (`rules:`): kind, severity, scope, params. `park alert --check` says what is wrong with
    them before they are needed. 实时报警: 规则取自台账, `--check` 先行校验。
    """
    from alerts import main

    if check:
        main.check_rules()
    elif once:
        main.once()
    else:
        main.serve()


COMMANDS: dict[str, Callable[..., Any]] = {"alert": alert}
