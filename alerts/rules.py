"""Rules of the catalogue: checked against `params.yaml`, and spread over the points and units of their scope.

One rule covers a thousand points. A mistake names the rule and its field; the evaluator leaves a rule with a mistake
out (and says so), `park alert --check` lists all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from park.errors import Mistake

PARAMS = Path(__file__).parent / "params.yaml"
INSTANT = ("limit", "rate", "stale", "stuck")


@dataclass(frozen=True)
class Rule:
    """A rule with its parameters filled in by their defaults."""

    base_id: int
    rule_id: int
    code: str
    kind: str
    severity: str
    name_zh: str
    name_en: str
    scope: Mapping[str, Any]
    params: Mapping[str, Any]
    recorded_at: datetime = datetime(1970, 1, 1, tzinfo=UTC)

    def number(self, name: str) -> float:
        return float(self.params[name])

    def optional(self, name: str) -> float | None:
        value = self.params[name]
        return None if value is None else float(value)


@dataclass(frozen=True)
class Point:
    """What the alerts need to know of a point."""

    base_id: int
    point_id: int
    code: str
    name_zh: str
    name_en: str
    quantity: str
    unit: str
    kind: str
    carrier: str | None
    unit_id: int | None
    unit_code: str | None
    role: str | None
    enterprise: str | None
    device_id: int | None
    expected_s: float
    tags: tuple[str, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)
    place_zh: str = ""          # names of the unit it belongs to
    place_en: str = ""


@cache
def table() -> dict[str, Any]:
    """The table of rule kinds and their fields."""
    raw: dict[str, Any] = yaml.safe_load(PARAMS.read_text(encoding="utf-8"))
    return raw


def check(rows: Iterable[Mapping[str, Any]], points: Sequence[Point], units: Mapping[int, Iterable[str]],
          ) -> tuple[list[Rule], list[Mistake]]:
    """Rules that are right, and every mistake of the others; `units` are the unit codes of each base."""
    rules, mistakes = [], []
    known = {(p.base_id, p.code) for p in points} | {(b, code) for b, codes in units.items() for code in codes}
    for row in rows:
        found = _mistakes(row, known)
        mistakes += found
        if not found:
            rules.append(_rule(row))
    return rules, mistakes


def _rule(row: Mapping[str, Any]) -> Rule:
    fields = table()["every"] | table()["kinds"][row["kind"]]
    params = {name: row["params"].get(name, spec.get("default")) for name, spec in fields.items()}
    return Rule(row["base_id"], row["rule_id"], row["code"], row["kind"], row["severity"], row["name_zh"], row["name_en"],
                row["scope"], params, row.get("recorded_at", Rule.recorded_at))


def _mistakes(row: Mapping[str, Any], known: set[tuple[int, str]]) -> list[Mistake]:
    def mistake(place: str, text: str) -> Mistake:
        return Mistake(f"rule {row['code']}", None, place, text)

    kinds = table()["kinds"]
    if row["kind"] not in kinds:
        return [mistake("kind", f"expected one of {', '.join(kinds)}, got {row['kind']!r}")]
    fields = table()["every"] | kinds[row["kind"]]
    found = [mistake(f"params.{name}", f"not a field of kind {row['kind']}; known: {', '.join(fields)}")
             for name in row["params"] if name not in fields]
    for name, spec in fields.items():
        if "default" not in spec and name not in row["params"]:
            found.append(mistake(f"params.{name}", f"is needed: {spec['of']}"))
        problem = _wrong(row["params"].get(name, spec.get("default")), spec["type"])
        if problem and name in row["params"]:
            found.append(mistake(f"params.{name}", problem))
    found += [mistake(f"scope.{name}", f"unknown; known: {', '.join(table()['scope'])}")
              for name in row["scope"] if name not in table()["scope"]]
    for place in ("points", "units"):
        listed = row["scope"].get(place, [])
        if not isinstance(listed, list):
            found.append(mistake(f"scope.{place}", f"expected a list of codes, got {listed!r}"))
            continue
        found += [mistake(f"scope.{place}", f"there is no {code!r} in the catalogue")
                  for code in listed if (row["base_id"], code) not in known]
    return found + _together(row, mistake)


def _wrong(value: Any, kind: str) -> str | None:
    if kind == "flag":
        return None if isinstance(value, bool) else f"expected true or false, got {value!r}"
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"expected a number, got {value!r}"
    return f"expected more than 0, got {value}" if kind == "positive" and value <= 0 else None


def _together(row: Mapping[str, Any], mistake: Any) -> list[Mistake]:
    p = row["params"]
    either = {"limit": ("high", "low"), "rate": ("rise_per_min", "fall_per_min")}.get(row["kind"])
    if either and all(p.get(name) is None for name in either):
        return [mistake(f"params.{either[0]}", f"expected {either[0]}, {either[1]} or both")]
    high, low = p.get("high"), p.get("low")
    if row["kind"] == "limit" and _is_number(high) and _is_number(low) and low >= high:
        return [mistake("params.low", f"expected less than high ({high}), got {low}")]
    return []


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def covers(rule: Rule, p: Point) -> bool:
    """Whether a point is in the rule's scope: every word that the scope has must fit; an empty scope is the whole base."""
    s = rule.scope
    tests = (
        ("quantity", p.quantity), ("role", p.role), ("points", p.code), ("units", p.unit_code), ("kind", p.kind),
        ("enterprise", p.enterprise), ("carrier", p.carrier),
    )
    if rule.kind == "stuck" and p.kind == "state" and "points" not in s:
        return False    # a state stands for days by nature
    if rule.base_id != p.base_id or ("tag" in s and s["tag"] not in p.tags):
        return False
    return all(value in (s[name] if isinstance(s[name], list) else [s[name]]) for name, value in tests if name in s)
