"""Which meters stand behind a virtual point and what their errors do to it, for the uncertainty of balances.

A formula that is a sum of counters with fixed coefficients has these (`formula_part`). What a minimum, a condition, a quotient
or a gauge does to an error depends on the values: for such a point each quarter-hour keeps what each meter does to it
(`formula_effect`), its amount x the derivative of the formula by it, found by a small step to either side. A meter's error
keeps its sign, so the effects of a day add up (GUM 5.1.3, 5.2.2).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from accounting.columns import Connection, from_us, instants, read_columns
from accounting.intervals import SLOT_US
from park.database import queries
from park.expressions import Checked

SQL = queries(Path(__file__).with_name("formula_parts.sql"))
PROBES = 3
EFFECT = {"point_id": "i4", "part_id": "i4", "ts": "ts", "amount": "f8"}
Floats = NDArray[np.float64]
Instants = NDArray[np.int64]


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


def note_parts(conn: Connection, base_id: int, points: Sequence[Virtual]) -> set[int]:
    """Bring the table to the formulas as they are, what stays is not written; the points whose formula has no coefficients."""
    rows = parts_of(points)
    others = {v.point_id for v in points} - {point for point, _, _ in rows}
    conn.execute(SQL["forget_effects"], {"base": base_id, "points": sorted(others)})
    about = {"base": base_id, "points": [r[0] for r in rows], "parts": [r[1] for r in rows],
             "coefficients": [r[2] for r in rows]}
    conn.execute(SQL["forget_formula_parts"], about)
    conn.execute(SQL["note_formula_parts"], about)
    return others


def effects(formula: Checked, values: Mapping[str, Floats]) -> dict[str, Floats]:
    """Derivative of the formula by each name at each place, by a step of 1e-4 to either side; 0 where it cannot be said."""
    found = {}
    for name, x in values.items():
        step = 1e-4 * (np.abs(x) + 1)
        above, below = (formula.evaluate({**values, name: x + s}) for s in (step, -step))
        found[name] = np.nan_to_num((above - below) / (2 * step))
    return found


def note_effects(conn: Connection, base_id: int, v: Virtual, at: Instants, values: Mapping[str, Floats],
                 virtual: Collection[int]) -> None:
    """Keep what each meter does to a point in some quarter-hours in a row, NaN where the point is not known; a virtual
    counter stands for the meters behind it."""
    known = np.isfinite(v.formula.evaluate(values))
    total: dict[int, Floats] = {}
    about = {"base": base_id, "low": from_us(at[0]), "high": from_us(at[-1] + SLOT_US)}
    for name, slope in effects(v.formula, values).items():
        point = v.counters.get(name, v.gauges.get(name, 0))
        behind = _behind(conn, point, at, about) if point in virtual else {point: np.nan_to_num(values[name])}
        for part, amount in behind.items():
            total[part] = total.get(part, np.zeros(len(at))) + slope * amount
    conn.execute(SQL["write_effects"], about | {
        "point": v.point_id, "parts": np.repeat(list(total), known.sum()).tolist(),
        "ts": instants(np.tile(at[known], len(total))), "amounts": np.concatenate([a[known] for a in total.values()]).tolist()})


def _behind(conn: Connection, point: int, at: Instants, about: Mapping[str, Any]) -> dict[int, Floats]:
    """What each meter does to a virtual counter."""
    read = read_columns(conn, SQL["read_effects"], {**about, "points": [point]}, EFFECT)
    found = {}
    for part in np.unique(read["part_id"]):
        mine = read["part_id"] == part
        found[int(part)] = np.zeros(len(at))
        found[int(part)][(read["ts"][mine] - at[0]) // SLOT_US] = read["amount"][mine]
    return found
