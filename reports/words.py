"""Names from `words.yaml`, prose from `texts.yaml` and phrases of sources from `sources.yaml` in both languages.

An unknown code reads as itself rather than failing a report.
"""

from __future__ import annotations

import re
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


def source(text: str) -> Text:
    """A source, edition, note or grid region of the catalogue; what `sources.yaml` does not know stays as it was written."""
    if not text:
        return both("—")
    to_zh, to_en = _phrases()
    zh = _put(text, to_zh)
    if _HAN.search(zh):
        zh = _MARK_ZH.sub(lambda m: _MARKS[m[1]], zh)
    en = _put(text, to_en)
    for mark, plain in (("；", "; "), ("：", ": "), ("，", ", "), ("、", ", "), ("（", " ("), ("）", ")")):
        en = en.replace(mark, plain)
    return Text(zh, re.sub(r"\s+", " ", re.sub(r"(?<=\w)\(", " (", en)).strip())


_HAN = re.compile("[\u4e00-\u9fff]")
_MARKS = {";": "；", ":": "：", ",": "，"}
_MARK_ZH = re.compile(r"([;:,]) ")


def _put(text: str, phrases: list[tuple[re.Pattern[str], str]]) -> str:
    for pattern, told in phrases:
        text = pattern.sub(told, text)
    return text


@lru_cache(maxsize=1)
def _phrases() -> tuple[list[tuple[re.Pattern[str], str]], list[tuple[re.Pattern[str], str]]]:
    """What to look for and what to put there, into Chinese and into English, the longest first."""
    rows = yaml.safe_load((Path(__file__).parent / "sources.yaml").read_text(encoding="utf-8"))
    zh = [(en, row["zh"]) for row in rows for en in [row["en"], *row.get("match", [])]]
    en = [(zh, row["en"]) for row in rows for zh in [*row.get("match", []), row["zh"]]]
    digit = {row["zh"] for row in rows if row.get("before") == "digit"}
    return (
        [(re.compile(rf"(?<![A-Za-z]){re.escape(a)}(?![A-Za-z])"), b) for a, b in sorted(zh, key=_longest_first)],
        [(re.compile(rf"(?<![\u4e00-\u9fff]){a}(?=\d)" if a in digit else re.escape(a)), b)
         for a, b in sorted(en, key=_longest_first)],
    )


def _longest_first(phrase: tuple[str, str]) -> int:
    return -len(phrase[0])


def both(text: str) -> Text:
    """A text that is the same in both languages: codes, names of people."""
    return Text(text, text)


def named(zh: str | None, en: str | None) -> Text:
    """A name of the catalogue; — where there is none."""
    return Text(zh or "—", en or zh or "—")
