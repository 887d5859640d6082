"""Expression rules: one expression over the points of a unit, for every unit that has them, all at once.

A name is a quantity (the point of the same unit that measures it) or the code of a point. The first name is the anchor: the
alert is about its point, and the rule's scope is asked of it. Values are in the quantity's own unit (`park units`), a named
point's in the point's; an expression that uses `value(5, 'kW')` is checked and converted by dimensions instead.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alerts.rules import Point, Rule, covers, unit_of, with_units
from park.expressions import Checked, Expression, parse
from park.quantities import conversion

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]
CONDITION = 0.5         # a condition is 1 where it holds


@dataclass(frozen=True)
class Formula:
    """An expression over K objects: of each name the place of its point (K,), and how its value gets into the name's unit."""

    expression: Expression | Checked
    anchors: Ints
    places: Mapping[str, Ints]
    factors: Mapping[str, tuple[Floats, Floats]]
    fresh_s: float

    def values(self, usable: Floats, ages: Floats) -> dict[str, Floats]:
        """(K,) of each name from (P,) values and ages; NaN where the reading is older than fresh_s."""
        return {name: np.where(ages[at] <= self.fresh_s, usable[at], np.nan) * self.factors[name][0] + self.factors[name][1]
                for name, at in self.places.items()}

    def evaluate(self, usable: Floats, ages: Floats) -> Floats:
        """(K,) of the expression; NaN where it cannot be known."""
        return np.broadcast_to(self.expression.evaluate(self.values(usable, ages)), (len(self.anchors),))


def compile_formula(rule: Rule, points: Sequence[Point]) -> Formula:
    """The expression of a rule over every anchor in its scope whose unit has each of the quantities exactly once."""
    expression = parse(str(rule.params["expr"]))
    find = _finder(rule.base_id, points)
    anchors = [i for i, p in enumerate(points) if covers(rule, p) and expression.names[0] in (p.quantity, p.code)]
    rows = [found for i in anchors if None not in (found := [find(name, i) for name in expression.names])]
    table = np.array(rows, np.intp).reshape(-1, len(expression.names))
    places = {name: table[:, k] for k, name in enumerate(expression.names)}
    measures = {p.code: p.unit for p in points if p.base_id == rule.base_id}
    factors = {name: _factors([points[int(i)].unit for i in at], unit_of(name, measures)) for name, at in places.items()}
    return Formula(with_units(expression, measures), table[:, 0], places, factors, rule.number("fresh_s"))


def _finder(base: int, points: Sequence[Point]) -> Callable[[str, int], int | None]:
    by_code = {p.code: i for i, p in enumerate(points) if p.base_id == base}
    by_quantity: dict[tuple[int, str], list[int]] = defaultdict(list)
    for i, p in enumerate(points):
        if p.base_id == base and p.unit_id is not None:
            by_quantity[p.unit_id, p.quantity].append(i)

    def find(name: str, anchor: int) -> int | None:
        if name in by_code:
            return by_code[name]
        p = points[anchor]
        if name == p.quantity:
            return anchor
        same = by_quantity.get((p.unit_id or 0, name), [])
        return same[0] if len(same) == 1 else None

    return find


def _factors(units: Sequence[str], target: str) -> tuple[Floats, Floats]:
    pairs = np.array([conversion(u, target) for u in units], float).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]
