"""Virtual counters: the slots of a counter that has a formula, from the slots of the points that it names.

A formula (`park/expressions.py`) is evaluated over whole windows at once, with units checked and converted. A counter gives
its amount in the slot, a gauge its mean. What is not known makes the result not known; the result's quality is the worst of
what it was made from. A formula may name other virtual points: they are computed in that order.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from accounting.columns import Columns, Connection, from_us, read_columns, to_us
from accounting.formula_parts import note_effects, note_parts
from accounting.intervals import SLOT_US
from accounting.slots import INTERVAL, NOTHING, SQL, Changed, replace
from park.errors import InputError
from park.expressions import Checked, parse
from park.quality import LAST_USABLE, Quality

log = logging.getLogger(__name__)

METHOD = 6                   # of a slot: computed by a formula
MEAN = {"point_id": "i4", "ts": "ts", "amount": "f8", "quality": "i2"}
Spans = list[tuple[int, datetime, datetime]]
Floats = NDArray[np.float64]
F = TypeVar("F", bound="Formula")


@dataclass(frozen=True)
class Formula:
    """A virtual point: its formula, and the points behind the names in it."""

    point_id: int
    formula: Checked
    counters: dict[str, int]
    gauges: dict[str, int]


def virtual_points(conn: Connection, base_id: int) -> list[Formula]:
    """The virtual counters of a base, each after those it needs."""
    return list(in_order(read_formulas(conn, base_id, conn.execute(SQL["formulas"], {"base": base_id}).fetchall())))


def read_formulas(conn: Connection, base_id: int, rows: Sequence[tuple[Any, ...]]) -> dict[str, Formula]:
    """Formulas (point, code, unit, text) by the point's code; one that cannot be read is logged and left out."""
    if not rows:
        return {}
    points = {code: (point_id, unit, kind)
              for code, point_id, unit, kind in conn.execute(SQL["points_by_code"], {"base": base_id})}
    found: dict[str, Formula] = {}
    for point_id, code, unit, text in rows:
        try:
            parsed = parse(text)
            checked = parsed.checked({n: points[n][1] for n in parsed.names}, unit)
        except (InputError, KeyError) as exc:
            log.error("the formula of %s cannot be used, its values stay unknown: %s", code, exc)
            continue
        of = {kind: {n: points[n][0] for n in parsed.names if (points[n][2] == "counter") == (kind == "counter")}
              for kind in ("counter", "gauge")}
        found[code] = Formula(point_id, checked, of["counter"], of["gauge"])
    return found


def in_order(found: Mapping[str, F]) -> Iterator[F]:
    """Those that need none of the others first; a ring is logged and left out."""
    waiting = dict(found)
    while ready := [c for c, v in waiting.items() if not {*v.counters, *v.gauges} & set(waiting)]:
        for code in ready:
            yield waiting.pop(code)
    for code in waiting:
        log.error("the formula of %s needs itself, its values stay unknown", code)


def follow(conn: Connection, base_id: int, changed: Changed, spans: Spans, write: bool) -> Changed:
    """Compute the slots of virtual points that changed slots, gauges read in `spans`, or their own span ask for."""
    made = NOTHING
    points = virtual_points(conn, base_id)
    without_coefficients = note_parts(conn, base_id, points) if write else set()
    virtual = {v.point_id for v in points}
    for v in points:
        window = _window(v, changed + made, spans)
        if window is None:
            continue
        values, quality, present = _values(conn, base_id, v, *window)
        if v.point_id in without_coefficients:
            note_effects(conn, base_id, v, np.arange(*window, SLOT_US), values, virtual)
        made += _compute(conn, base_id, v, *window, values, quality, present, write=write)
    return made


def _window(v: Formula, changed: Changed, spans: Spans) -> tuple[int, int] | None:
    """From the first to the last slot that may be other than stored."""
    edges: list[int] = []
    ts = changed.ts[np.isin(changed.point_id, list(v.counters.values()))]
    if len(ts):
        edges += [int(ts.min()), int(ts.max()) + SLOT_US]
    asked = {*v.gauges.values(), v.point_id}
    for point_id, low, high in spans:
        if point_id in asked:
            edges += [to_us(low) // SLOT_US * SLOT_US, -(-to_us(high) // SLOT_US) * SLOT_US]
    return (min(edges), max(edges)) if edges else None


def _values(conn: Connection, base_id: int, v: Formula, low: int, high: int
            ) -> tuple[dict[str, Floats], NDArray[np.int16], NDArray[np.bool_]]:
    """What each name of the formula is in each slot, the worst quality there, and whether every name has a slot."""
    n = (high - low) // SLOT_US
    values: dict[str, Floats] = {}
    quality, present = np.zeros(n, np.int16), np.ones(n, bool)
    for names, query, kinds in ((v.counters, "read_intervals", INTERVAL), (v.gauges, "read_means", MEAN)):
        read = _read(conn, base_id, query, kinds, list(names.values()), low, high) if names else {}
        for name, point_id in names.items():
            values[name] = np.full(n, np.nan)
            mine = read["point_id"] == point_id
            at = (read["ts"][mine] - low) // SLOT_US
            values[name][at] = read["amount"][mine]
            worst = np.full(n, -1, np.int16)
            worst[at] = read["quality"][mine]
            present &= worst >= 0
            quality = np.maximum(quality, worst)
    return values, quality, present


def _compute(conn: Connection, base_id: int, v: Formula, low: int, high: int, values: dict[str, Floats],
             quality: NDArray[np.int16], present: NDArray[np.bool_], *, write: bool) -> Changed:
    amount = np.broadcast_to(v.formula.evaluate(values), (len(quality),))
    known = np.isfinite(amount)
    some = known | present
    new: Columns = {
        "point_id": np.full(int(some.sum()), v.point_id, np.int32), "ts": low + SLOT_US * np.flatnonzero(some),
        "amount": amount[some], "method": np.full(int(some.sum()), METHOD, np.int16),
        # a choice (`a if b else c`) may be known although a part is not: then it is an estimate
        "quality": np.where(known, np.where(quality > LAST_USABLE, Quality.ESTIMATED, quality), Quality.MISSING)[some]}
    old = _read(conn, base_id, "read_intervals", INTERVAL, [v.point_id], low, high)
    return replace(conn, base_id, old, new, write)


def _read(conn: Connection, base_id: int, query: str, kinds: dict[str, str], points: list[int], low: int, high: int) -> Columns:
    about: dict[str, Any] = {"base": base_id, "points": points, "low": [from_us(low)] * len(points),
                             "high": [from_us(high)] * len(points)}
    return read_columns(conn, SQL[query], about, kinds)
