"""Rules of the catalogue: checked against `params.yaml`, and spread over the points and units of their scope.

One rule covers a thousand points. A mistake names the rule and its field; the evaluator leaves a rule with a mistake
out (and says so), `park alert --check` lists all of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from park.errors import InputError, Mistake
from park.expressions import Checked, Expression, ExpressionError, parse
from park.quantities import quantities

PARAMS = Path(__file__).parent / "params.yaml"
GRID = Path(__file__).parent / "severity.yaml"
INSTANT = ("limit", "rate", "stale", "stuck", "expression")


@dataclass(frozen=True)
class Known:
    """What a rule of a base may name: codes of units of the tree, unit of measure of each point by its code."""

    units: frozenset[str]
    measures: Mapping[str, str]


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

    @property
    def instant(self) -> bool:
        """Whether it judges readings as they come, and not means of hours or days."""
        return self.kind in INSTANT and self.params.get("mean", "instant") == "instant"

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
    direction: str = "import"


@cache
def table() -> dict[str, Any]:
    """The table of rule kinds and their fields."""
    raw: dict[str, Any] = yaml.safe_load(PARAMS.read_text(encoding="utf-8"))
    return raw


@cache
def grid() -> list[dict[str, Any]]:
    """Rows of the severity grid: `within` minutes, then a severity for each consequence."""
    rows: list[dict[str, Any]] = yaml.safe_load(GRID.read_text(encoding="utf-8"))["grid"]
    return rows


def severity_of(consequence: str, respond_min: float) -> str:
    """Severity by consequence and minutes left to act."""
    return str(next(row for row in grid() if respond_min <= row["within"])[consequence])


def check(rows: Iterable[Mapping[str, Any]], points: Sequence[Point], units: Mapping[int, Iterable[str]],
          ) -> tuple[list[Rule], list[Mistake]]:
    """Rules that are right, and every mistake of the others; `units` are the unit codes of each base."""
    rules, mistakes = [], []
    known = {base: Known(frozenset(codes), {p.code: p.unit for p in points if p.base_id == base})
             for base, codes in units.items()}
    nothing = Known(frozenset(), {p.code: p.unit for p in points})
    for row in rows:
        found = mistakes_of(row, known.get(row["base_id"], nothing))
        mistakes += found
        if not found:
            rules.append(rule_of(row))
    return rules, mistakes


def rule_of(row: Mapping[str, Any]) -> Rule:
    """A row without mistakes as a rule, its parameters filled in by their defaults."""
    fields = table()["every"] | table()["kinds"][row["kind"]]
    params = {name: row["params"].get(name, spec.get("default")) for name, spec in fields.items()}
    severity = severity_of(params["consequence"], params["respond_min"]) if params["consequence"] else row["severity"]
    return Rule(row["base_id"], row["rule_id"], row["code"], row["kind"], severity, row["name_zh"], row["name_en"],
                row["scope"], params, row.get("recorded_at", Rule.recorded_at))


def mistakes_of(row: Mapping[str, Any], known: Known) -> list[Mistake]:
    """Everything that is wrong with a rule's row; `where` of each is the path of the field in the row."""
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
        problem = _wrong(row["params"].get(name, spec.get("default")), spec)
        if problem and name in row["params"]:
            found.append(mistake(f"params.{name}", problem))
    found += [mistake(f"scope.{name}", f"unknown; known: {', '.join(table()['scope'])}")
              for name in row["scope"] if name not in table()["scope"]]
    unit = row["params"].get("plant_unit")
    if isinstance(unit, str) and unit not in known.units:
        found.append(mistake("params.plant_unit", f"there is no {unit!r} in the catalogue"))
    for place, codes in (("points", known.measures), ("units", known.units)):
        listed = row["scope"].get(place, [])
        if not isinstance(listed, list):
            found.append(mistake(f"scope.{place}", f"expected a list of codes, got {listed!r}"))
            continue
        found += [mistake(f"scope.{place}", f"there is no {code!r} in the catalogue") for code in listed if code not in codes]
    asked = row["scope"].get("quantity", [])
    found += [mistake("scope.quantity", f"there is no quantity {q!r}; known: {', '.join(sorted(quantities()))}")
              for q in (asked if isinstance(asked, list) else [asked]) if q not in quantities()]
    if row["kind"] == "expression" and not any(m.where == "params.expr" for m in found):
        problem = _names(row["params"].get("expr"), known)
        found += [mistake("params.expr", problem)] if problem else []
    return found + _together(row, mistake)


def _names(text: Any, known: Known) -> str | None:
    """What is wrong with the names of an expression: each is a quantity or a point's code."""
    if not isinstance(text, str):
        return None
    expression = parse(text)
    unknown = [n for n in expression.names if n not in known.measures and n not in quantities()]
    if unknown:
        return f"there is no quantity or point {unknown[0]!r}; quantities are {', '.join(sorted(quantities()))}"
    try:
        with_units(expression, known.measures)
    except InputError as exc:
        return str(exc)
    return None


def with_units(expression: Expression, measures: Mapping[str, str]) -> Expression | Checked:
    """The expression, by dimensions where it uses `value(5, 'kW')`; else figures count in the unit of each name. `measures` are
    units of points by their codes; a quantity is in its own."""
    if "value(" not in expression.text:
        return expression
    return expression.checked({n: unit_of(n, measures) for n in expression.names}, "1")


def unit_of(name: str, measures: Mapping[str, str]) -> str:
    """The unit in which a name of an expression counts."""
    return measures[name] if name in measures else quantities()[name].unit


def _wrong(value: Any, spec: Mapping[str, Any]) -> str | None:
    """What is wrong with a value of a field, in words; None: nothing."""
    kind = spec["type"]
    if kind == "flag":
        return None if isinstance(value, bool) else f"expected true or false, got {value!r}"
    if value is None:
        return None
    if kind == "choice":
        return None if value in spec["words"] else f"expected one of {', '.join(spec['words'])}, got {value!r}"
    if kind == "list":
        listed = value if isinstance(value, list) else [value]
        wrong = [w for w in listed if w not in spec["words"]]
        return f"expected some of {', '.join(spec['words'])}, got {value!r}" if wrong or not listed else None
    if kind in _TEXTS:
        shape, example = _TEXTS[kind]
        return None if isinstance(value, str) and re.fullmatch(shape, value) else f"expected {example}, got {value!r}"
    if kind == "expression":
        return _unreadable(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"expected a number, got {value!r}"
    return f"expected more than 0, got {value}" if kind == "positive" and value <= 0 else None


_CLOCK, _DAY = r"([01]\d|2[0-3]):[0-5]\d", r"(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])"
_TEXTS = {"hours": (f"{_CLOCK}-{_CLOCK}", "two times such as 22:00-06:00"),
          "season": (rf"{_DAY}\.\.{_DAY}", "two days such as 11-15..03-15"), "unit": (r"\S+", "a code of a unit")}


def _unreadable(value: Any) -> str | None:
    if not isinstance(value, str):
        return f"expected an expression, got {value!r}"
    try:
        names = parse(value).names
    except ExpressionError as exc:
        return str(exc)
    return None if names else "expected a quantity or a point's code in the expression, and there is none"


def _together(row: Mapping[str, Any], mistake: Any) -> list[Mistake]:
    p = row["params"]
    found: list[Mistake] = []
    either = {"limit": ("high", "low"), "rate": ("rise_per_min", "fall_per_min")}.get(row["kind"])
    if either and all(p.get(name) is None for name in either) and not p.get("in_force"):
        found.append(mistake(f"params.{either[0]}", f"expected {either[0]}, {either[1]} or both"))
    high, low = p.get("high"), p.get("low")
    if p.get("in_force") and (high is not None or low is not None):
        found.append(mistake("params.in_force", "the limit in force gives high and low; leave them out"))
    if row["kind"] in ("limit", "expression") and _is_number(high) and _is_number(low) and low >= high:
        found.append(mistake("params.low", f"expected less than high ({high}), got {low}"))
    for one, other in (("consequence", "respond_min"), ("respond_min", "consequence")):
        if p.get(one) is not None and p.get(other) is None:
            found.append(mistake(f"params.{one}", f"counts only together with {other}"))
    return found


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
    if rule.kind == "stale" and "formula" in p.attributes and "points" not in s:
        return False    # it is silent when its parts are, and those are told of
    if rule.base_id != p.base_id or ("tag" in s and s["tag"] not in p.tags):
        return False
    return all(value in (s[name] if isinstance(s[name], list) else [s[name]]) for name, value in tests if name in s)
