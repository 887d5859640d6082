"""Options of the command line that take several words of a known few, separated by commas."""

from __future__ import annotations

from collections.abc import Sequence

import typer


def some_of(text: str, known: Sequence[str]) -> str:
    """The words of `text` by commas, each once, without blanks; wrong usage (status 2) that names the known ones otherwise."""
    words = dict.fromkeys(word for part in text.split(",") if (word := part.strip()))
    if not words or not words.keys() <= set(known):
        raise typer.BadParameter(f"expected some of {', '.join(known)} by commas, got {text!r}")
    return ",".join(words)
