"""National emission limits to copy into a catalogue (tables/limits.yaml), set by set: what `park limits` shows and prints.

They are not in the database: which of them binds an outlet stands in its permit, so a person chooses a set and takes its
lines into the catalogue, where `park catalogue apply` keeps them as the base's own rows with their source.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date
from functools import cache
from typing import Any

import yaml

from park.errors import InputError, known_names
from park.ledger import Language
from park.quantities import TABLES

Row = dict[str, Any]
FIELDS = ("quantity", "statistic", "low", "high", "unit")
HEADS = {
    "zh": ("`verified: false` 的行未与标准原文核对, 使用前请核对。许可证限值写 `rank: permit`, 优先于标准。",
           "基准含氧量 {o2} %: 在该排放口的单元上写 `o2_reference: {o2}`{unread}。", "(未核对)"),
    "en": ("Rows with `verified: false` were not held against the standard's text: do so first. What the permit says has "
           "`rank: permit`\n# and wins.",
           "Reference oxygen {o2} %: give the outlet's unit `o2_reference: {o2}`{unread}.", " (not checked)"),
}


@cache
def limit_sets() -> dict[str, Row]:
    """The sets by code: names, medium, reference oxygen, and `limits`, the rows of each."""
    raw = yaml.load((TABLES / "limits.yaml").read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    sets: dict[str, Row] = {row["set"]: row | {"limits": []} for row in raw["sets"]}
    for row in raw["limits"]:
        sets[row["set"]]["limits"].append({"statistic": "hour"} | {k: v for k, v in row.items() if k != "set"})
    return sets


def for_catalogue(code: str, outlet: str, first_day: date | None, lang: Language) -> str:
    """The YAML of a set for an outlet, ready to stand in a catalogue; InputError names the sets when there is no such one."""
    if code not in limit_sets():
        raise InputError(f"there is no set of limits {code!r}; {known_names(code, limit_sets())}")
    found = limit_sets()[code]
    return "\n".join([*(f"# {line}" for line in _heads(found, lang)), "limits:",
                      *(f"  - {_flow(row, outlet, first_day)}" for row in found["limits"])])


def _heads(found: Row, lang: Language) -> Iterator[str]:
    said, oxygen, unread = HEADS[lang]
    yield f"{found['zh']} · {found['en']}"
    yield said
    if "o2_reference" in found:
        yield oxygen.format(o2=f"{found['o2_reference']:g}", unread="" if found["o2_verified"] else unread)


def _flow(row: Row, outlet: str, first_day: date | None) -> str:
    """A row as one line of YAML: texts that need them in quotes, which JSON's are."""
    told = {"outlet": outlet, **{k: row[k] for k in FIELDS if k in row}, "rank": "standard"}
    if first_day is not None:
        told["from"] = first_day.isoformat()
    parts = [f"{k}: {v}" for k, v in told.items()]
    return "{" + ", ".join([*parts, f"source: {json.dumps(row['source'], ensure_ascii=False)}",
                            f"verified: {'true' if row['verified'] else 'false'}"]) + "}"


def bounds(row: Row) -> str:
    """`so2 35`, `ph 6–9`; `?` behind what was not checked."""
    high = f"{row['high']:g}" if "low" not in row else f"{row['low']:g}–{row['high']:g}"
    single = f" ({row['statistic']})" if row["statistic"] == "instant" and row["quantity"] != "ph" else ""
    return f"{row['quantity']} {high}{single}{'' if row['verified'] else '?'}"
