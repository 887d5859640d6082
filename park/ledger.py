"""Entries made by hand: which kinds, units, actions and items figures know, and what is wrong with an entry.

One set of rules for every way in: the catalogue, the console's form and API, and the xlsx template. The table is
`tables/ledger_kinds.yaml`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml

TABLE = Path(__file__).parent / "tables" / "ledger_kinds.yaml"
LONGEST_DAYS = 3660


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


def mistakes(kind: str, *, item: str = "", action: str = "", value: float = 0.0, unit: str = "", first_day: date | None = None,
             last_day: date | None = None, enterprise: str | None = None, counterparty: str | None = None
             ) -> Iterator[tuple[str, str]]:
    """(field, what was expected and what came) for each mistake of an entry; a kind we do not know is only looked at
    roughly."""
    if first_day is not None and last_day is not None:
        if last_day < first_day:
            yield "last_day", f"expected last_day on or after first_day, got {first_day} and {last_day}"
        elif (last_day - first_day).days > LONGEST_DAYS:
            yield "last_day", f"expected at most {LONGEST_DAYS} days, got {(last_day - first_day).days + 1}"
    if counterparty is not None and counterparty == enterprise:
        yield "counterparty", f"expected another enterprise than {enterprise!r}"
    known = kinds().get(kind)
    if known is None:
        return
    if action not in known.actions:
        allowed = ", ".join(a or "(none)" for a in known.actions)
        yield "action", f"expected as action of {kind}: {allowed}; got {action or '(none)'}"
    if known.item == "carrier" and item not in table()["carriers"]:
        yield "item", f"expected a carrier ({', '.join(table()['carriers'])}), got {item!r}"
    elif known.item == "required" and not item:
        yield "item", f"an entry of {kind} needs an item"
    units = known.units_for(item)
    if units and unit not in units:
        yield "unit", f"expected as unit {', '.join(units)}; got {unit!r}"
    if value < 0 and not known.signed:
        yield "value", f"expected 0 or more, got {value:g}"
    if known.counterparty and (enterprise is None or counterparty is None):
        yield "counterparty", f"an entry of {kind} needs enterprise and counterparty"
    if action in ("moved", "received") and enterprise is None:
        yield "enterprise", f"{action} needs the enterprise that books it"
