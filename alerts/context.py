"""What the evaluator knows of the catalogue: rules, points, units, devices, zones; read again after `park_catalogue`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import numpy as np
from psycopg.rows import dict_row

from alerts.enabling import Calendars, Gate, UnitKey, is_bound, plant_of
from alerts.evaluator import Band, Flags, Floats, Gateway, Pair, Place, Plan, compile_rules
from alerts.part import WHOLE, Part
from alerts.rules import Point, Rule, check, covers
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
    parent_id: int | None = None


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
    limits: dict[Place, Band]           # limits in force, in the unit of the point
    gates: list[Gate]                   # pairs that are not always in force
    calendars: Calendars
    unit_ids: dict[tuple[int, str], int]
    gateways: list[Gateway]
    must_send: Flags                    # (P,) points whose silence says something before they have ever sent live

    def of_kind(self, kind: str) -> list[Rule]:
        return [r for r in self.rules if r.kind == kind]

    def is_below(self, p: Point, unit_id: int | None) -> bool:
        """Whether a point belongs to a unit below this one."""
        at = p.unit_id
        while at is not None and unit_id is not None:
            unit = self.units.get((p.base_id, at))
            at = unit.parent_id if unit is not None else None
            if at == unit_id:
                return True
        return False


def load(conn: Connection, now: datetime, part: Part = WHOLE) -> Context:
    """The present catalogue of the bases of a part, and the plan of its instant rules."""
    with conn.cursor(row_factory=dict_row) as cur:
        points = [_point(r) for r in cur.execute(Q["points"]) if part.has(r["base_id"])]
        units = {(r["base_id"], r["unit_id"]): Unit(**r) for r in cur.execute(Q["units"]) if part.has(r["base_id"])}
        rows = [r for r in cur.execute(Q["rules"]) if part.has(r["base_id"])]
        known = cur.execute(Q["devices"]).fetchall()
        bases = [r for r in cur.execute(Q["bases"]) if part.has(r["base_id"])]
        limits = _limits(cur.execute(Q["limits_in_force"], {"now": now}).fetchall(), points)
        days = cur.execute(Q["own_days"]).fetchall()
    codes: dict[int, list[str]] = defaultdict(list)
    for u in units.values():
        codes[u.base_id].append(u.code)
    rules, mistakes = check(rows, points, codes)
    index = {(p.base_id, p.point_id): i for i, p in enumerate(points)}
    flat = flat_history(conn, points, index, now) if any(r.kind == "stuck" for r in rules) else None
    instant = [r for r in rules if r.instant]
    covered = [[i for i, p in enumerate(points) if covers(r, p)] for r in instant]
    gateways = gateways_of(known, points)
    plan, pairs = compile_rules(instant, points, covered, flat, limits, gateways)
    devices = {(r["base_id"], r["device_id"]): r["code"] for r in known}
    facility = _facility(points)
    own: dict[int, dict[date, str]] = defaultdict(dict)
    for d in days:
        own[d["base_id"]][d["day"]] = d["class"]
    return Context(rules, mistakes, points, units, devices, {b["base_id"]: b["timezone"] for b in bases},
                   {b["base_id"]: b["code"] for b in bases}, index, plan, pairs, facility, limits,
                   gates_of(pairs, units, facility), Calendars(own),
                   {(u.base_id, u.code): u.unit_id for u in units.values()}, gateways, must_send(points, rules, devices))


def must_send(points: list[Point], rules: list[Rule], devices: Mapping[tuple[int, int], str]) -> Flags:
    """(P,) points that a device in use feeds, and those that a stale rule names; any other may be one that is only imported."""
    named = {(r.base_id, code) for r in rules if r.kind == "stale" for code in r.scope.get("points", [])}
    return np.array([(p.base_id, p.device_id) in devices or (p.base_id, p.code) in named for p in points], bool)


SHARED = 3      # as many devices on one connection are a gateway


def gateways_of(devices: list[dict[str, Any]], points: list[Point]) -> list[Gateway]:
    """Connections that several devices share; those without a point in use, or whose points belong to no unit, are left out."""
    unit: dict[tuple[int, int], int | None] = {}
    for p in points:
        if p.device_id is not None:
            unit.setdefault((p.base_id, p.device_id), p.unit_id)
    behind: dict[tuple[int, str], list[int]] = defaultdict(list)
    for d in devices:
        if d["gateway"] and (d["base_id"], d["device_id"]) in unit:
            behind[d["base_id"], d["gateway"]].append(d["device_id"])
    out = []
    for (base, name), ids in behind.items():
        at = next((u for d in sorted(ids) if (u := unit[base, d]) is not None), None)
        if len(ids) >= SHARED and at is not None:
            out.append(Gateway(base, name, tuple(sorted(ids)), at))
    return out


def flat_history(conn: Connection, points: list[Point], index: Mapping[tuple[int, int], int], now: datetime) -> Floats:
    """(P,) longest flat run in each point's own history (s); NaN: not known."""
    flat: Floats = np.full(len(points), np.nan)
    for base, point, seconds in conn.execute(Q["flat_history"], {"now": now}).fetchall():
        if (base, point) in index:
            flat[index[base, point]] = float(seconds)
    return flat


def _limits(rows: list[dict[str, Any]], points: list[Point]) -> dict[Place, Band]:
    """(low, high) of every point whose unit and quantity have a limit in force; rows come weakest first."""
    of_unit: dict[tuple[int, int | None, str], list[Point]] = defaultdict(list)
    for p in points:
        of_unit[p.base_id, p.unit_id, p.quantity].append(p)
    out: dict[Place, Band] = {}
    for row in rows:
        for p in of_unit[row["base_id"], row["unit_id"], row["quantity"]]:
            factor, offset = conversion(row["unit"], p.unit)
            low, high = (missing if v is None else v * factor + offset
                         for v, missing in ((row["low"], -np.inf), (row["high"], np.inf)))
            out[p.base_id, p.point_id, row["statistic"]] = low, high
    return out


def gates_of(pairs: list[Pair], units: Mapping[tuple[int, int], Unit], facility: Mapping[UnitKey, object]) -> list[Gate]:
    """The pairs of rules that are bound to plant or calendar, by rule and plant."""
    codes = {(u.base_id, u.code): u.unit_id for u in units.values()}
    parents = {key: u.parent_id for key, u in units.items()}
    found: dict[tuple[int, UnitKey | None], tuple[Rule, list[int]]] = {}
    for i, pair in enumerate(pairs):
        if is_bound(pair.rule):
            plant = plant_of(pair.rule, pair.point, None, codes, parents, facility)
            found.setdefault((pair.rule.rule_id, plant), (pair.rule, []))[1].append(i)
    return [Gate(rule, plant, np.array(rows, np.intp)) for (_, plant), (rule, rows) in found.items()]


def _facility(points: list[Point]) -> dict[tuple[int, int], list[tuple[int, float | None]]]:
    out: dict[tuple[int, int], list[tuple[int, float | None]]] = defaultdict(list)
    for i, p in enumerate(points):
        if p.unit_id is not None and (p.kind == "state" or p.quantity == "active_power"):
            out[p.base_id, p.unit_id].append((i, None if p.kind == "state" else conversion(p.unit, "kW")[0]))
    return dict(out)


def _point(row: dict[str, Any]) -> Point:
    tags = row["attributes"].get("tags", row["attributes"].get("tag", []))
    return Point(**row, tags=tuple([tags] if isinstance(tags, str) else tags))
