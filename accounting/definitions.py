"""Indicators that are defined by rows: a formula over named figures, with its threshold, evaluated for a period.

A value is withheld with its reason where a figure of the formula is missing, known to less than 90 %, or of another dimension
than the unit asks for; coverage is that of the least known figure, grade that of the worst.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np

from accounting.columns import Connection
from accounting.counters import SQL
from accounting.indicators import Figure
from accounting.named import Named
from park.clock import Period
from park.errors import InputError
from park.expressions import Expression, parse


@dataclass(frozen=True)
class Definition:
    """One row of `indicator_definition` that is in force."""

    definition_id: int
    code: str
    formula: str
    unit: str
    sense: str
    threshold: str | None

    @property
    def expression(self) -> Expression:
        """The formula, parsed; the catalogue has checked it."""
        return parse(self.formula)

    def keeps(self, value: Any, threshold: Any) -> Any:
        """Whether a value (or each of an array) keeps the threshold."""
        return np.less_equal(value, threshold) if self.sense == "at_most" else np.greater_equal(value, threshold)


def definitions_of(conn: Connection, base_id: int, day: date) -> list[Definition]:
    """The definitions in force on a day; the base's own row before the national one of the same code."""
    return [Definition(*row) for row in conn.execute(SQL["definitions"], {"base": base_id, "day": day})]


def defined_figures(definitions: Iterable[Definition], named: Named, period: Period) -> list[Figure]:
    """A figure for each definition; `inputs` hold the figures used, the threshold and whether it is kept."""
    return [_figure(d, named, period) for d in definitions]


def _figure(definition: Definition, named: Named, period: Period) -> Figure:
    out = Figure(definition.code, definition.unit, None, None, inputs={"definition": definition.definition_id,
                                                                       "formula": definition.formula})
    try:
        names = definition.expression.names
        until = named.covered_until(names, period)
        parts = {name: named.figure(name, named.cut(period, until)) for name in names}
        missing = next((n for n, f in parts.items() if f.value is None), None)   # its unit is not known either
        checked = None if missing else definition.expression.checked({n: f.unit for n, f in parts.items()}, definition.unit)
    except InputError as exc:
        out.inputs["withheld"] = str(exc).splitlines()[0]
        return out
    out.inputs |= {"figures": {n: {"value": f.value, "unit": f.unit, "coverage": f.coverage, "grade": f.grade}
                               for n, f in parts.items()},
                   "factors": sorted({i for f in parts.values() for i in f.inputs.get("factors", [])}),
                   "ledger": sorted({i for f in parts.values() for i in f.inputs.get("ledger", [])})}
    if until < min(period.last_day, named.today):
        out.inputs["until"] = until.isoformat()
    if checked is None:
        assert missing is not None
        out.inputs["withheld"] = f"{missing}: {parts[missing].inputs.get('withheld', 'not known')}"
        return out
    value = float(checked.evaluate({n: f.value for n, f in parts.items() if f.value is not None}))
    out.coverage = min((f.coverage if f.coverage is not None else 0.0 for f in parts.values()), default=1.0)
    out.estimated, out.form = max((f.estimated for f in parts.values()), default=0.0), any(f.form for f in parts.values())
    if not np.isfinite(value):
        out.inputs["withheld"] = "the formula has no value: a division by zero"
        return out
    out.value = value
    _judge(definition, named, period, out)
    return out.withheld()


def _judge(definition: Definition, named: Named, period: Period, out: Figure) -> None:
    """The threshold as it holds for the period, and whether the value keeps it. A running year's size is not known yet."""
    threshold = threshold_of(definition, named, period)
    out.inputs["threshold"] = threshold
    if threshold is not None and out.value is not None:
        out.inputs["kept"] = bool(definition.keeps(out.value, threshold))


def threshold_of(definition: Definition, named: Named, period: Period) -> float | None:
    """The threshold for a period; None where there is none, or where what it hangs on is not known."""
    if definition.threshold is None:
        return None
    expression = parse(definition.threshold)
    try:
        parts = {name: named.figure(name, period) for name in expression.names}
        if any(f.value is None for f in parts.values()):
            return None
        checked = expression.checked({n: f.unit for n, f in parts.items()}, "1")       # a number, in the indicator's unit
        value = float(checked.evaluate({n: f.value for n, f in parts.items() if f.value is not None}))
    except InputError:
        return None
    return value if np.isfinite(value) else None
