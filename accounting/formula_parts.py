"""Which meters stand behind a virtual point and with which coefficients, for the uncertainty of balances.

Only a formula that is a sum of counters with fixed coefficients has them; what a minimum, a condition, a quotient of two
counters or a gauge does to an error cannot be said with a coefficient: such a point is taken with the class of its carrier.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

import numpy as np

from accounting.columns import Connection
from park.database import queries
from park.expressions import Checked

SQL = queries(Path(__file__).with_name("formula_parts.sql"))
PROBES = 3


def coefficients(formula: Checked) -> dict[str, float] | None:
    """Amount by amount of each name, in their units; None where the formula is no sum with fixed coefficients.

    Read from the formula's own values: at zero, one name at a time, and then at points where only a sum can agree.
    """
    names = formula.expression.names
    if not formula.expression.is_arithmetic:  # a minimum or a condition agrees with a sum at some places only
        return None
    zero = dict.fromkeys(names, 0.0)
    base = float(formula.evaluate(zero))
    found = {name: float(formula.evaluate(zero | {name: 1.0})) - base for name in names}
    if not np.isfinite([base, *found.values()]).all():
        return None
    rng = np.random.default_rng(0)
    for _ in range(PROBES):
        at = {name: float(x) for name, x in zip(names, rng.uniform(-1e3, 1e3, len(names)), strict=True)}
        value, expected = float(formula.evaluate(at)), base + sum(found[n] * at[n] for n in names)
        if not abs(value - expected) <= 1e-9 * (1 + abs(base) + sum(abs(found[n] * at[n]) for n in names)):
            return None
    return found


class Virtual(Protocol):
    """A virtual point with its formula and the points behind the names in it."""

    @property
    def point_id(self) -> int: ...
    @property
    def formula(self) -> Checked: ...
    @property
    def counters(self) -> dict[str, int]: ...
    @property
    def gauges(self) -> dict[str, int]: ...


def parts_of(points: Iterable[Virtual]) -> list[tuple[int, int, float]]:
    """(point, meter, coefficient) with virtual points in formulas replaced by their own meters; points come in that order."""
    behind: dict[int, dict[int, float] | None] = {}
    for v in points:
        own = coefficients(v.formula) if not v.gauges else None
        total: dict[int, float] | None = {} if own is not None else None
        for name, factor in (own or {}).items():
            inner = behind.get(v.counters[name], {v.counters[name]: 1.0})
            if inner is None:
                total = None
            if total is not None and inner is not None:
                for part, coefficient in inner.items():
                    total[part] = total.get(part, 0.0) + factor * coefficient
        behind[v.point_id] = total
    return [(point, part, c) for point, found in behind.items() for part, c in (found or {}).items()]


def note_parts(conn: Connection, base_id: int, points: Iterable[Virtual]) -> None:
    """Bring the table to the formulas as they are; what stays is not written."""
    rows = parts_of(points)
    about = {"base": base_id, "points": [r[0] for r in rows], "parts": [r[1] for r in rows],
             "coefficients": [r[2] for r in rows]}
    conn.execute(SQL["forget_formula_parts"], about)
    conn.execute(SQL["note_formula_parts"], about)
