"""Words that people read, as data: tables of key, Chinese, English."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml

LANGUAGES = ("zh", "en")


@cache
def table(file: str = "words.yaml", section: str | None = None) -> dict[str, dict[str, str]]:
    """The words of a file of this folder (or of a section of it) by language and key."""
    raw: dict[str, Any] = yaml.safe_load((Path(__file__).parent / file).read_text(encoding="utf-8"))
    rows: dict[str, list[str]] = raw if section is None else raw[section]
    return {language: {key: row[i] for key, row in rows.items()} for i, language in enumerate(LANGUAGES)}
