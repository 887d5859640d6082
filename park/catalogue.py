"""The catalogue: YAML files that say what a park is made of. Parsed once, here, with the line of every mistake.

`read_catalogue` takes one file or many; the sections add up. Every section is a list of rows whose fields are the
models below; `park catalogue check` prints all mistakes at once. Names may be a text or `{zh: ..., en: ...}`.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, available_timezones

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from park.errors import CatalogueError, InputError, Mistake
from park.quantities import conversion, quantities, units

Code = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}$")]


class Row(BaseModel):
    """A row of the catalogue: unknown fields are mistakes, because a misspelt field would be lost in silence."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True, allow_inf_nan=False)


class Name(Row):
    """A name in both languages."""

    zh: str
    en: str


def _both(value: object) -> object:
    return {"zh": value, "en": value} if isinstance(value, str) else value


Names = Annotated[Name, BeforeValidator(_both)]


class Dated(Row):
    """A row with validity [from, to), a source and whether that source was checked."""

    valid_from: date = Field(default=date(1970, 1, 1), alias="from")
    valid_to: date | None = Field(default=None, alias="to")
    source: str = ""
    verified: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> Dated:
        if self.valid_to is not None and self.valid_to <= self.valid_from:
            raise ValueError(f"expected `to` after `from`, got {self.valid_from} to {self.valid_to}")
        return self


def _zone(value: str) -> str:
    if value not in available_timezones():
        raise ValueError(f"expected a time zone such as Asia/Shanghai, got {value!r}")
    ZoneInfo(value)
    return value


def _quantity(value: str) -> str:
    if value not in quantities():
        raise ValueError(f"unknown quantity {value!r}; known: {', '.join(quantities())}")
    return value


def _unit(value: object) -> str:
    text = str(value)
    if text not in units():
        raise ValueError(f"unknown unit of measure {text!r}; known: {', '.join(units())}")
    return text


QuantityCode = Annotated[str, BeforeValidator(_quantity)]
UnitCode = Annotated[str, BeforeValidator(_unit)]


class Base(Row):
    code: Code
    name: Names
    region: str = ""
    timezone: Annotated[str, BeforeValidator(_zone)] = "Asia/Shanghai"
    plan: dict[int, dict[str, float]] = {}
    attributes: dict[str, Any] = {}


class Enterprise(Row):
    code: Code
    name: Names
    industry: str = ""
    attributes: dict[str, Any] = {}


class UnitRow(Row):
    """A node of the tree of units; `treats` of a treatment facility names the production facilities it serves,
    `outlet_of` of an outlet names the treatment facilities before it."""

    code: Code
    name: Names
    parent: Code | None = None
    enterprise: Code | None = None
    role: Literal["site", "workshop", "process", "production", "treatment", "outlet", "cabinet"] = "site"
    treats: list[Code] = []
    outlet_of: list[Code] = []
    medium: Literal["air", "water"] | None = None
    o2_reference: float | None = Field(default=None, ge=0, lt=21)
    attributes: dict[str, Any] = {}


class Source(Row):
    """Where a point's readings come from: a device and the key in its template, mapping or HJ 212 factor."""

    device: Code
    key: str


class Point(Row):
    code: Code
    name: Names | None = None
    quantity: QuantityCode
    unit: UnitCode
    kind: Literal["gauge", "counter", "state"] = "gauge"
    belongs_to: Code | None = None
    source: Source | None = None
    carrier: str | None = None
    direction: Literal["import", "export", "generation", "sum"] = "import"
    boundary: Literal["base", "enterprise", "unit", "none"] = "none"
    ratio: float = Field(default=1.0, gt=0)
    rollover: float | None = Field(default=None, gt=0)
    low: float | None = None
    high: float | None = None
    expected_s: int = Field(default=60, gt=0)
    accuracy_class: str | None = None
    attributes: dict[str, Any] = {}

    @model_validator(mode="after")
    def _consistent(self) -> Point:
        conversion(self.unit, quantities()[self.quantity].unit)  # raises when the unit does not measure the quantity
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ValueError(f"expected low < high, got {self.low} and {self.high}")
        return self


class Device(Row):
    """A device instance. Modbus: template, connection (tcp://host:port), unit_id, parameters. HJ 212: mn, password,
    st, edition, crc. MQTT: mapping. `${NAME}` in a password is read from the environment by the collector."""

    code: Code
    protocol: Literal["modbus", "hj212", "mqtt", "dlt645", "manual", "import"]
    template: str | None = None
    connection: str | None = None
    unit_id: int | None = Field(default=None, ge=0, le=255)
    parameters: dict[str, float] = {}
    every: dict[str, float] = {}
    mn: str | None = None
    password: str | None = None
    st: str | None = None
    edition: Literal["2005", "2017", "2025"] | None = None
    crc: Literal["hj212", "modbus", "modbus_swapped", "none"] | None = None
    mapping: dict[str, Any] | None = None
    attributes: dict[str, Any] = {}

    @model_validator(mode="after")
    def _complete(self) -> Device:
        needed = {"modbus": ("template", "connection", "unit_id"), "hj212": ("mn",), "mqtt": ("mapping",)}
        missing = [f for f in needed.get(self.protocol, ()) if getattr(self, f) is None]
        if missing:
            raise ValueError(f"a {self.protocol} device needs {', '.join(missing)}")
        return self


class Meter(Row):
    """A meter at a point: a swap is the old meter's `removed` with its final register and the new one's row."""

    point: Code
    installed: datetime
    removed: datetime | None = None
    serial: str = ""
    initial_register: float = 0.0
    final_register: float | None = None
    ratio: float = Field(default=1.0, gt=0)
    source: str = ""

    @model_validator(mode="after")
    def _aware(self) -> Meter:
        for at in (self.installed, self.removed):
            if at is not None and at.tzinfo is None:
                raise ValueError(f"expected an instant with an offset, got {at}")
        return self


class Flow(Dated):
    carrier: str
    kind: Literal["sub", "exchange", "cascade"] = "sub"
    parent: Code
    children: list[Code] = Field(min_length=1)


class Limit(Dated):
    outlet: Code
    quantity: QuantityCode
    statistic: Literal["instant", "hour", "day", "month", "year"] = "hour"
    low: float | None = None
    high: float | None = None
    unit: UnitCode
    rank: Literal["standard", "permit", "internal"] = "standard"

    @model_validator(mode="after")
    def _some(self) -> Limit:
        if self.low is None and self.high is None:
            raise ValueError("expected `high`, `low` or both")
        return self


class Factor(Dated):
    carrier: str
    kind: str
    value: float
    unit: str
    region: str = ""
    edition: str = ""


class Tariff(Dated):
    code: Code
    carrier: str
    unit: str
    enterprise: Code | None = None
    terms: dict[str, Any]


class Calendar(Row):
    code: Code
    days: dict[date, Literal["working", "weekend", "holiday", "shutdown"]]
    source: str = ""


class Target(Row):
    indicator: str
    name: Names
    year: int = Field(ge=2000, le=2100)
    value: float
    unit: str
    sense: Literal["at_most", "at_least"] = "at_most"
    baseline: float | None = None
    baseline_year: int | None = None
    responsible: str = ""
    source: str = ""
    verified: bool = False


class Rule(Row):
    code: Code
    name: Names
    kind: str
    severity: Literal["critical", "high", "medium", "low"] = "medium"
    scope: dict[str, Any] = {}
    params: dict[str, Any] = {}
    enabled: bool = True
    source: str = ""


class LedgerEntry(Row):
    """A manual entry with its evidence; `park catalogue apply` books it once."""

    kind: str
    enterprise: Code | None = None
    counterparty: Code | None = None
    item: str = ""
    action: str = ""
    first_day: date
    last_day: date
    value: float
    unit: str
    status: Literal["preliminary", "final"] = "preliminary"
    evidence: str = ""
    note: str = ""


class Catalogue(Row):
    """A whole catalogue; `base` is None only in files of national tables (factors)."""

    base: Base | None = None
    enterprises: list[Enterprise] = []
    units: list[UnitRow] = []
    devices: list[Device] = []
    points: list[Point] = []
    meters: list[Meter] = []
    flows: list[Flow] = []
    limits: list[Limit] = []
    factors: list[Factor] = []
    tariffs: list[Tariff] = []
    calendars: list[Calendar] = []
    targets: list[Target] = []
    rules: list[Rule] = []
    ledger: list[LedgerEntry] = []
    roles: list[dict[str, Any]] = []


_SECTION_MODELS: dict[str, type[Row]] = {
    "base": Base, "enterprises": Enterprise, "units": UnitRow, "devices": Device, "points": Point, "meters": Meter,
    "flows": Flow, "limits": Limit, "factors": Factor, "tariffs": Tariff, "calendars": Calendar, "targets": Target,
    "rules": Rule, "ledger": LedgerEntry,
}
Place = tuple[str | int, ...]


class _Lines:
    """File and line of every node, by its path in the merged catalogue."""

    def __init__(self) -> None:
        self.at: dict[Place, tuple[str, int]] = {}

    def of(self, place: Place) -> tuple[str, int | None]:
        while place:
            if place in self.at:
                return self.at[place]
            place = place[:-1]
        return "catalogue", None


def read_catalogue(files: Iterable[Path]) -> Catalogue:
    """The catalogue of one file or many; CatalogueError with every mistake, each with file and line."""
    merged: dict[str, Any] = {}
    lines = _Lines()
    mistakes: list[Mistake] = []
    for file in files:
        mistakes += _merge(file, merged, lines)
    if mistakes:
        raise CatalogueError(mistakes)
    try:
        catalogue = Catalogue.model_validate(merged)
    except ValidationError as exc:
        raise CatalogueError([_mistake(e, lines, merged) for e in exc.errors()]) from exc
    mistakes = [Mistake(*lines.of(place), _where(place, merged), text) for place, text in _cross_check(catalogue)]
    if mistakes:
        raise CatalogueError(mistakes)
    return catalogue


def _merge(file: Path, merged: dict[str, Any], lines: _Lines) -> list[Mistake]:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        return [Mistake(str(file), None, "", f"cannot be read: {exc}")]
    try:
        node = yaml.compose(text, Loader=yaml.CSafeLoader)
        raw = yaml.load(text, Loader=yaml.CSafeLoader)
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        return [Mistake(str(file), mark.line + 1 if mark else None, "", f"not YAML: {exc.problem or exc.context}")]
    except (yaml.YAMLError, ValueError) as exc:
        return [Mistake(str(file), None, "", f"not YAML: {exc}")]
    if raw is None:
        return []
    if not isinstance(raw, dict) or not isinstance(node, yaml.MappingNode):
        return [Mistake(str(file), 1, "", "expected sections such as `base:` and `points:`")]
    mistakes = _double_keys(file, node)
    for key_node, value_node in node.value:
        section, value = key_node.value, raw[key_node.value]
        if section == "base" and "base" in merged:
            line = key_node.start_mark.line + 1
            mistakes.append(Mistake(str(file), line, "base", "a second base; one catalogue is one base"))
            continue
        if isinstance(value, list):
            offset = len(merged.setdefault(section, []))
            merged[section] += value
            for i, item in enumerate(value_node.value):
                _note(item, (section, offset + i), str(file), lines)
        elif value is not None:
            merged[section] = value
            _note(value_node, (section,), str(file), lines)
        lines.at.setdefault((section,), (str(file), key_node.start_mark.line + 1))
    return mistakes


def _double_keys(file: Path, node: yaml.Node) -> list[Mistake]:
    found: list[Mistake] = []
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                found.append(Mistake(str(file), key.start_mark.line + 1, "", f"the key {key.value!r} stands twice"))
            seen.add(key.value)
            found += _double_keys(file, value)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            found += _double_keys(file, item)
    return found


def _note(node: yaml.Node, place: Place, file: str, lines: _Lines) -> None:
    lines.at[place] = (file, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            _note(value, (*place, key.value), file, lines)
            lines.at[(*place, key.value)] = (file, key.start_mark.line + 1)


def _mistake(error: Any, lines: _Lines, merged: dict[str, Any]) -> Mistake:
    place: Place = tuple(error["loc"])
    message = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        message = f"unknown field; known here: {_fields_of(place)}"
    elif error["type"] not in ("value_error", "missing"):
        message += f", got {error['input']!r}"
    return Mistake(*lines.of(place), _where(place, merged), message)


def _fields_of(place: Place) -> str:
    """The fields that the section of a wrong one knows, as the catalogue spells them."""
    model = _SECTION_MODELS.get(str(place[0]), Catalogue) if len(place) > 1 else Catalogue
    return ", ".join(f.alias or n for n, f in model.model_fields.items())


def _where(place: Place, merged: dict[str, Any]) -> str:
    """`points[3] (e1.m1.kwh).unit`: the path, with the code of the row where it has one."""
    text = ""
    value: Any = merged
    for step in place:
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            value = None
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else str(step)
        if isinstance(step, int) and isinstance(value, dict) and "code" in value:
            text += f" ({value['code']})"
    return text


def _cross_check(c: Catalogue) -> Iterable[tuple[Place, str]]:
    """Mistakes between rows: double codes, names of things that are not there, trees that bite their tail."""
    for section in ("enterprises", "units", "devices", "points", "rules"):
        seen: dict[str, int] = {}
        for i, row in enumerate(getattr(c, section)):
            if row.code in seen:
                yield (section, i, "code"), f"the code {row.code!r} stands twice (first in {section}[{seen[row.code]}])"
            seen[row.code] = i
    if c.base is None and any(getattr(c, s) for s in Catalogue.model_fields if s not in ("base", "factors")):
        yield ("base",), "expected a `base:` section with code and name"
    known = {s: {row.code for row in getattr(c, s)} for s in ("enterprises", "units", "devices", "points")}
    for place, section, code in _references(c):
        if code is not None and code not in known[section]:
            yield place, f"there is no {code!r} in {section}"
    parents = {u.code: u.parent for u in c.units}
    for i, unit in enumerate(c.units):
        code, steps = unit.parent, 0
        while code is not None and steps <= len(parents):
            code, steps = parents.get(code), steps + 1
        if code is not None:
            yield ("units", i, "parent"), f"the unit {unit.code!r} is its own ancestor"
    devices = {d.code: d for d in c.devices}
    taken: dict[tuple[str, str], int] = {}
    for i, point in enumerate(c.points):
        if point.source is not None and point.source.device in devices:
            key = (point.source.device, point.source.key)
            if key in taken:
                yield ("points", i, "source"), f"{key[1]!r} of device {key[0]!r} already feeds points[{taken[key]}]"
            taken[key] = i


def _references(c: Catalogue) -> Iterable[tuple[Place, str, str | None]]:
    for i, u in enumerate(c.units):
        yield ("units", i, "parent"), "units", u.parent
        yield ("units", i, "enterprise"), "enterprises", u.enterprise
        for code in u.treats:
            yield ("units", i, "treats"), "units", code
        for code in u.outlet_of:
            yield ("units", i, "outlet_of"), "units", code
    for i, p in enumerate(c.points):
        yield ("points", i, "belongs_to"), "units", p.belongs_to
        yield ("points", i, "source"), "devices", p.source.device if p.source else None
    for i, m in enumerate(c.meters):
        yield ("meters", i, "point"), "points", m.point
    for i, f in enumerate(c.flows):
        yield ("flows", i, "parent"), "points", f.parent
        for code in f.children:
            yield ("flows", i, "children"), "points", code
    for i, limit in enumerate(c.limits):
        yield ("limits", i, "outlet"), "units", limit.outlet
    for i, t in enumerate(c.tariffs):
        yield ("tariffs", i, "enterprise"), "enterprises", t.enterprise
    for i, e in enumerate(c.ledger):
        yield ("ledger", i, "enterprise"), "enterprises", e.enterprise
        yield ("ledger", i, "counterparty"), "enterprises", e.counterparty


def check_files(files: Iterable[Path]) -> list[str]:
    """Every mistake as a line, for `park catalogue check`; empty when there is none."""
    try:
        read_catalogue(files)
    except CatalogueError as exc:
        return [str(m) for m in exc.mistakes]
    except InputError as exc:
        return [str(exc)]
    return []
