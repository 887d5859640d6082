"""Quantities and units of measure: what a point can measure, and how one unit becomes another.

The table is `tables/quantities.yaml`; a unit is (dimension, factor to the dimension's base unit, offset).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from park.errors import InputError, known_names

TABLES = Path(__file__).parent / "tables"


@dataclass(frozen=True)
class Unit:
    """A unit of measure; `value_in_base = value * factor + offset`."""

    code: str
    dimension: str
    factor: float
    offset: float = 0.0


@dataclass(frozen=True)
class Quantity:
    """What a point measures: code, names, unit its figures are reported in, dimension."""

    code: str
    zh: str
    en: str
    unit: str
    dimension: str
    hj212: str | None = None


@lru_cache(maxsize=1)
def _tables() -> tuple[dict[str, Quantity], dict[str, Unit]]:
    raw: dict[str, Any] = yaml.safe_load((TABLES / "quantities.yaml").read_text(encoding="utf-8"))
    units = {
        code: Unit(code, dimension, *(spec if isinstance(spec, list) else [spec]))
        for dimension, members in raw["units"].items()
        for code, spec in members.items()
    }
    quantities = {
        row["code"]: Quantity(row["code"], row["zh"], row["en"], row["unit"], units[row["unit"]].dimension, row.get("hj212"))
        for row in raw["quantities"]
    }
    return quantities, units


def quantities() -> dict[str, Quantity]:
    """Every known quantity by its code."""
    return _tables()[0]


def units() -> dict[str, Unit]:
    """Every known unit of measure by its code."""
    return _tables()[1]


def conversion(source: str, target: str) -> tuple[float, float]:
    """(factor, offset) such that `in_target = in_source * factor + offset`; InputError when dimensions differ."""
    known = units()
    for code in (source, target):
        if code not in known:
            raise InputError(f"unknown unit of measure {code!r}; {known_names(code, sorted(known))}")
    a, b = known[source], known[target]
    if a.dimension != b.dimension:
        raise InputError(f"cannot turn {source} ({a.dimension}) into {target} ({b.dimension})")
    return a.factor / b.factor, (a.offset - b.offset) / b.factor
