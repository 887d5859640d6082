"""Entries made by hand: which kinds, units, actions and items figures know, and what is wrong with an entry.

One set of rules for every way in: the catalogue, the console's form and API, and the xlsx template. The table is
`tables/ledger_kinds.yaml`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml

TABLE = Path(__file__).parent / "tables" / "ledger_kinds.yaml"
MISTAKES = TABLE.with_name("ledger_mistakes.yaml")
Language = Literal["zh", "en"]
LONGEST_DAYS = 3660
ALIKE = 0.85     # how like a known kind an unknown one is that was meant to be it


@dataclass(frozen=True)
class Kind:
    """A kind of entry. `item`: free text, required, or a carrier, whose units hold where the kind lists none; else any."""

    code: str
    zh: str
    en: str
    units: tuple[str, ...] = ()
    actions: tuple[str, ...] = ("",)
    item: Literal["free", "required", "carrier"] = "free"
    counterparty: bool = False
    signed: bool = False

    def units_for(self, item: str) -> tuple[str, ...]:
        """The units an entry of this kind may have: its own, else those of the carrier; empty: any."""
        return self.units or (tuple(table()["carriers"].get(item, ())) if self.item == "carrier" else ())


@cache
def table() -> dict[str, Any]:
    """The whole table."""
    loaded: dict[str, Any] = yaml.safe_load(TABLE.read_text(encoding="utf-8"))
    return loaded


@cache
def kinds() -> dict[str, Kind]:
    """Every known kind by its code."""
    return {code: Kind(code, **_row(row)) for code, row in table()["kinds"].items()}


def _row(row: dict[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in row.items()}


@cache
def _sentences() -> dict[str, dict[str, str]]:
    loaded: dict[str, dict[str, str]] = yaml.safe_load(MISTAKES.read_text(encoding="utf-8"))
    return loaded


def sentence(code: str, lang: Language, **about: Any) -> str:
    """What is wrong, in words of `tables/ledger_mistakes.yaml`."""
    return _sentences()[code][lang].format(**about)


def said(code: str, lang: Language) -> str:
    """The code of a kind, an action or a carrier, in Chinese with its name: `energy_bill（能源账单）`."""
    name = kinds()[code].zh if code in kinds() else (table()["actions"] | table()["carrier_names"]).get(code, {}).get("zh")
    return f"{code}（{name}）" if lang == "zh" and name else code


def listed(codes: Iterable[str], lang: Language) -> str:
    """Codes one after the other, as `said`."""
    return ("、" if lang == "zh" else ", ").join(said(code, lang) if code else sentence("none", lang) for code in codes)


def mistakes(kind: str, *, item: str = "", action: str = "", value: float = 0.0, unit: str = "", first_day: date | None = None,
             last_day: date | None = None, enterprise: str | None = None, counterparty: str | None = None,
             lang: Language = "en") -> Iterator[tuple[str, str]]:
    """(field, what was expected and what came) for each mistake of an entry; a kind that we do not know is only looked
    at roughly, and refused where it reads like one that we know."""
    if first_day is not None and last_day is not None:
        if last_day < first_day:
            yield "last_day", sentence("days_order", lang, first=first_day, last=last_day)
        elif (last_day - first_day).days > LONGEST_DAYS:
            yield "last_day", sentence("too_long", lang, most=LONGEST_DAYS, days=(last_day - first_day).days + 1)
    if counterparty is not None and counterparty == enterprise:
        yield "counterparty", sentence("same_party", lang, enterprise=enterprise)
    known = kinds().get(kind)
    if known is None:      # a base's own, for its own indicators; but a slip of the pen would be in no figure
        yield from (("kind", sentence("near_kind", lang, got=kind, near=said(k, lang)))
                    for k in get_close_matches(kind, kinds(), 1, ALIKE))
        return
    if action not in known.actions:
        yield "action", sentence("action", lang, kind=said(kind, lang), allowed=listed(known.actions, lang),
                                 got=action or sentence("none", lang))
    if known.item == "carrier" and item not in table()["carriers"]:
        yield "item", sentence("carrier", lang, allowed=listed(table()["carriers"], lang), got=item)
    elif known.item == "required" and not item:
        yield "item", sentence("item", lang, kind=said(kind, lang))
    units = known.units_for(item)
    if units and unit not in units:
        yield "unit", sentence("unit", lang, allowed=", ".join(units), got=unit)
    if value < 0 and not known.signed:
        yield "value", sentence("negative", lang, got=value)
    if known.counterparty and (enterprise is None or counterparty is None):
        yield "counterparty", sentence("both_parties", lang, kind=said(kind, lang))
    if action in ("moved", "received") and enterprise is None:
        yield "enterprise", sentence("booker", lang, action=said(action, lang))
