"""What the evaluator knows of the catalogue: rules, points, units, devices, zones; read again after `park_catalogue`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from psycopg.rows import dict_row

from alerts.evaluator import Floats, Pair, Plan, compile_rules
from alerts.rules import INSTANT, Point, Rule, check, covers
from alerts.store import Connection, Q
from park.errors import Mistake
from park.quantities import conversion


@dataclass(frozen=True)
class Unit:
    """A unit of the tree as the alerts need it."""

    base_id: int
    unit_id: int
    code: str
    name_zh: str
    name_en: str
    role: str
    attributes: Mapping[str, Any]


@dataclass(frozen=True)
class Context:
    """The catalogue as the evaluator sees it; `index` gives a point's place in every (P,) array."""

    rules: list[Rule]
    mistakes: list[Mistake]
    points: list[Point]
    units: dict[tuple[int, int], Unit]
    devices: dict[tuple[int, int], str]
    zones: dict[int, str]
    bases: dict[int, str]
    index: dict[tuple[int, int], int]
    plan: Plan
    pairs: list[Pair]
    facility: dict[tuple[int, int], list[tuple[int, float | None]]]     # a unit's state points (None) and power points (to kW)

    def of_kind(self, kind: str) -> list[Rule]:
        return [r for r in self.rules if r.kind == kind]


def load(conn: Connection, now: datetime) -> Context:
    """The present catalogue, and the plan of its instant rules."""
    with conn.cursor(row_factory=dict_row) as cur:
        points = [_point(r) for r in cur.execute(Q["points"])]
        units = {(r["base_id"], r["unit_id"]): Unit(**r) for r in cur.execute(Q["units"])}
        rows = cur.execute(Q["rules"]).fetchall()
        devices = {(r["base_id"], r["device_id"]): r["code"] for r in cur.execute(Q["devices"])}
        bases = cur.execute(Q["bases"]).fetchall()
    codes: dict[int, list[str]] = defaultdict(list)
    for u in units.values():
        codes[u.base_id].append(u.code)
    rules, mistakes = check(rows, points, codes)
    index = {(p.base_id, p.point_id): i for i, p in enumerate(points)}
    plan, pairs = _plan(conn, rules, points, index, now)
    return Context(rules, mistakes, points, units, devices, {b["base_id"]: b["timezone"] for b in bases},
                   {b["base_id"]: b["code"] for b in bases}, index, plan, pairs, _facility(points))


def _plan(conn: Connection, rules: list[Rule], points: list[Point], index: Mapping[tuple[int, int], int],
          now: datetime) -> tuple[Plan, list[Pair]]:
    instant = [r for r in rules if r.kind in INSTANT]
    covered = [[i for i, p in enumerate(points) if covers(r, p)] for r in instant]
    flat: Floats = np.full(len(points), np.nan)
    if any(r.kind == "stuck" for r in instant):
        for base, point, seconds in conn.execute(Q["flat_history"], {"now": now}).fetchall():
            if (base, point) in index:
                flat[index[base, point]] = float(seconds)
    return compile_rules(instant, points, covered, flat)


def _facility(points: list[Point]) -> dict[tuple[int, int], list[tuple[int, float | None]]]:
    out: dict[tuple[int, int], list[tuple[int, float | None]]] = defaultdict(list)
    for i, p in enumerate(points):
        if p.unit_id is not None and (p.kind == "state" or p.quantity == "active_power"):
            out[p.base_id, p.unit_id].append((i, None if p.kind == "state" else conversion(p.unit, "kW")[0]))
    return dict(out)


def _point(row: dict[str, Any]) -> Point:
    tags = row["attributes"].get("tags", row["attributes"].get("tag", []))
    return Point(**row, tags=tuple([tags] if isinstance(tags, str) else tags))
