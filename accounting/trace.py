"""The treatment trace as the catalogue draws it: production facility → treatment facility → outlet, and their points."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from accounting.columns import Connection
from accounting.counters import SQL

AIR = ("so2", "nox", "dust", "hcl", "co", "nmhc")
WATER = ("cod", "ammonia", "total_phosphorus", "total_nitrogen", "ph")
WITHOUT_MASS = ("ph",)
POLLUTANTS = AIR + WATER
FLOW = {"air": "flue_gas_flow", "water": "wastewater_flow"}


@dataclass(frozen=True)
class TracePoint:
    """A point of a facility or outlet."""

    point_id: int
    unit_id: int
    quantity: str
    unit: str
    expected_s: int
    attributes: dict[str, Any]


@dataclass
class Facility:
    """A production facility, treatment facility or outlet, with its points by quantity (the first of a quantity counts)."""

    unit_id: int
    code: str
    role: str
    attributes: dict[str, Any]
    points: dict[str, TracePoint] = field(default_factory=dict)

    @property
    def medium(self) -> str:
        """air or water; an outlet without a word is told by what it measures."""
        said = self.attributes.get("medium")
        return str(said) if said else "water" if any(q in self.points for q in WATER) else "air"


@dataclass(frozen=True)
class Trace:
    """Facilities by id, and who is before whom."""

    facilities: dict[int, Facility]
    pairs: list[tuple[Facility, Facility]]               # production, treatment
    outlet_after: dict[int, int]                         # treatment → outlet
    production_before: dict[int, list[Facility]]         # outlet → production facilities

    @property
    def outlets(self) -> list[Facility]:
        """Every outlet."""
        return [f for f in self.facilities.values() if f.role == "outlet"]


def trace_of(conn: Connection, base_id: int) -> Trace:
    """The trace of a base."""
    facilities = {row[0]: Facility(*row) for row in conn.execute(SQL["units"], {"base": base_id})}
    for row in conn.execute(SQL["unit_points"], {"base": base_id}):
        point = TracePoint(*row)
        facilities[point.unit_id].points.setdefault(point.quantity, point)
    by_code = {f.code: f for f in facilities.values()}
    pairs = [(by_code[code], f) for f in facilities.values() if f.role == "treatment"
             for code in f.attributes.get("treats", []) if code in by_code]
    outlet_after: dict[int, int] = {}
    before: dict[int, list[Facility]] = {}
    for outlet in facilities.values():
        if outlet.role != "outlet":
            continue
        for code in outlet.attributes.get("outlet_of", []):
            if code in by_code:
                outlet_after[by_code[code].unit_id] = outlet.unit_id
                before.setdefault(outlet.unit_id, []).extend(p for p, t in pairs if t.code == code)
    return Trace(facilities, pairs, outlet_after, before)
