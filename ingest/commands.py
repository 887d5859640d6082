"""Commands of the stage; heavy imports stay inside the functions, so that `park --help` answers at once."""

from __future__ import annotations

from collections.abc import Callable

GROUPS: dict[str, str] = {}
COMMANDS: dict[str, Callable[..., None]] = {}
