"""Names from `words.yaml` and prose from `texts.yaml` in both languages.

An unknown code reads as itself rather than failing a report.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from park.quantities import quantities
from reports.model import Text


@lru_cache(maxsize=1)
def table() -> dict[str, Any]:
    """The whole table."""
    loaded: dict[str, Any] = yaml.safe_load((Path(__file__).parent / "words.yaml").read_text(encoding="utf-8"))
    return loaded


@lru_cache(maxsize=1)
def _texts() -> dict[str, dict[str, str]]:
    loaded: dict[str, dict[str, str]] = yaml.safe_load((Path(__file__).parent / "texts.yaml").read_text(encoding="utf-8"))
    return loaded


def said(name: str) -> Text:
    """A piece of prose by its name in `texts.yaml`."""
    return Text(_texts()[name]["zh"], _texts()[name]["en"])


def word(group: str, code: str) -> Text:
    """The name of a code in a group of the table."""
    row = table()[group].get(code)
    return Text(row["zh"], row["en"]) if row else Text(code, code)


def quantity(code: str) -> Text:
    """The name of a measured quantity."""
    known = quantities().get(code)
    return Text(known.zh, known.en) if known else Text(code, code)


def indicator_digits(code: str) -> int:
    """Decimal places an indicator is printed with."""
    return int(table()["indicators"].get(code, {}).get("digits", 3))


def is_extensive(code: str) -> bool:
    """Whether the indicator grows with time, so that a part of a year can be extrapolated."""
    return bool(table()["indicators"].get(code, {}).get("extensive", False))


def both(text: str) -> Text:
    """A text that is the same in both languages: codes, names of people, sources."""
    return Text(text, text)


def named(zh: str | None, en: str | None) -> Text:
    """A name of the catalogue; — where there is none."""
    return Text(zh or "—", en or zh or "—")
