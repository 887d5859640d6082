"""Templates of meters that speak DL/T 645 or CJ/T 188: data identifiers as a table, like registers of a Modbus meter.

`items` lists what one request brings: a data identifier and the keys of its fields in order. A key may stand in several
items (alone and in a block); a poll asks for the fewest items that hold the wanted keys.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BeforeValidator, Field, model_validator

from collectors.template import MISTAKES, TEMPLATES, Every, Parameter, Row, Template, _quantity, _unit, load_template
from park.errors import InputError, NotFound, known_names
from park.quantities import conversion, quantities
from park.yaml_lines import read_model

Dialect = Literal["dlt645", "cjt188"]
METER_BUS: tuple[Dialect, ...] = ("dlt645", "cjt188")


class MeterPoint(Row):
    """One field. `bcd`: decimal digits, low byte first, `decimals` of them behind the point; `signed`: the top bit is the sign.

    `time`: minutes to years (or with seconds in front when it has six bytes or more), base-local; `bits`: a binary word;
    `skip`: nothing of interest. `unit_code`: one byte behind the digits names the unit (CJ/T 188).
    `at` names a time field: the value belongs to that instant, not to that of the poll.
    """

    key: str = Field(pattern=r"^[a-z0-9_]+$")
    type: Literal["bcd", "time", "bits", "skip"] = "bcd"
    bytes: int = Field(ge=1, le=8)
    decimals: int = Field(default=0, ge=0, le=8)
    signed: bool = False
    unit_code: bool = False
    quantity: Annotated[str, BeforeValidator(_quantity)] | None = None
    unit: Annotated[str, BeforeValidator(_unit)] = "1"
    register_: Literal["gauge", "counter"] = Field(default="gauge", alias="register")
    direction: Literal["import", "export", "sum"] | None = None
    phase: Literal["l1", "l2", "l3", "n"] | None = None
    every: Every = "fast"
    valid: tuple[float, float] | None = None
    at: str | None = None
    multiply_by: tuple[str, ...] = ()
    labels: dict[int, str] = Field(default_factory=dict)
    note: str = ""

    @property
    def length(self) -> int:
        """Bytes on the wire."""
        return self.bytes + self.unit_code

    @property
    def is_value(self) -> bool:
        """Whether a point of the catalogue may take it."""
        return self.type in ("bcd", "bits")

    @model_validator(mode="after")
    def _consistent(self) -> MeterPoint:
        if self.is_value:
            if self.quantity is None:
                raise ValueError("expected a quantity")
            conversion(self.unit, quantities()[self.quantity].unit)
        if self.type == "time" and self.bytes not in (4, 5, 6, 7):
            raise ValueError(f"a time has 4 to 7 bytes, got {self.bytes}")
        return self


class Item(Row):
    """One data identifier (high byte first, as in the standard's tables) and the fields that come with it."""

    di: str = Field(pattern=r"^[0-9A-F]{4}([0-9A-F]{4})?$")
    keys: tuple[str, ...] = Field(min_length=1)
    every: Every = "fast"

    @property
    def wire(self) -> bytes:
        """The identifier as sent: low byte first."""
        return bytes.fromhex(self.di)[::-1]


class MeterLimits(Row):
    """What the meter bears: pause between requests, patience, pause after connecting."""

    gap_ms: float = Field(default=50, ge=0, le=10_000)
    timeout_ms: float = Field(default=1000, ge=10, le=60_000)
    connect_delay_ms: float = Field(default=0, ge=0, le=60_000)


class MeterTest(Row):
    """Data of one identifier, as it stands behind it on the wire (33H taken off), and what it must read as."""

    di: str
    data: str
    parameters: dict[str, float] = Field(default_factory=dict)
    expect: dict[str, float | None]


class MeterTemplate(Row):
    """A meter model, or the standard's own table."""

    template: str = Field(pattern=r"^[a-z0-9]+(\.[a-z0-9_]+)+$")
    version: int = Field(ge=1)
    vendor: str
    models: list[str] = Field(min_length=1)
    kind: str
    protocol: Dialect
    edition: Literal["1997", "2007", "2004"]
    meter_type: int = 0x10  # CJ/T 188: the byte T
    confidence: Literal["high", "medium", "low"] = "high"
    verified: bool = False
    source: list[str] = Field(min_length=1)
    traps: list[str] = Field(default_factory=list)
    limits: MeterLimits = MeterLimits()
    parameters: dict[str, Parameter] = Field(default_factory=dict)
    fields: list[MeterPoint] = Field(min_length=1)
    items: list[Item] = Field(min_length=1)
    tests: list[MeterTest] = Field(default_factory=list)

    @model_validator(mode="after")
    def _cross_check(self) -> MeterTemplate:
        keys = [f.key for f in self.fields]
        if twice := sorted({k for k in keys if keys.count(k) > 1}):
            raise ValueError(f"fields with the same key: {', '.join(twice)}")
        known, digits = {f.key: f for f in self.fields}, 8 if self.edition == "2007" else 4
        for item in self.items:
            if unknown := [k for k in item.keys if k not in known]:
                raise ValueError(f"the item {item.di} names fields that are not there: {', '.join(unknown)}")
            if len(item.di) != digits:
                raise ValueError(f"expected identifiers of {digits} digits, got {item.di}")
        held = {k for item in self.items for k in item.keys}
        for f in self.fields:
            if f.key not in held:
                raise ValueError(f"no item brings the field {f.key}")
            if f.at is not None and (f.at not in known or known[f.at].type != "time"):
                raise ValueError(f"the field {f.key} has its time from {f.at!r}, which is no time field")
            if lacking := [m for m in f.multiply_by if m not in self.parameters]:
                raise ValueError(f"the field {f.key} multiplies by {lacking[0]!r}, which is not in `parameters`")
        return self

    @property
    def points(self) -> list[MeterPoint]:
        """The fields that points of the catalogue may take."""
        return [f for f in self.fields if f.is_value]

    def point(self, key: str) -> MeterPoint:
        """The value field with that key; NotFound naming the known keys."""
        for f in self.points:
            if f.key == key:
                return f
        raise NotFound(f"the template {self.template} has no point {key!r}; {known_names(key, (p.key for p in self.points))}")

    def field(self, key: str) -> MeterPoint:
        """Any field."""
        return next(f for f in self.fields if f.key == key)


def plan_items(template: MeterTemplate, wanted: Iterable[str], without: Sequence[str] = ()) -> list[Item]:
    """The fewest items, greedily, that bring the wanted keys and the times they belong to; identifiers of `without` are not
    asked. Keys that nothing brings are left out."""
    missing = set(wanted)
    missing |= {at for f in template.fields if f.key in missing and (at := f.at) is not None}
    items = [i for i in template.items if i.di not in without]
    chosen: list[Item] = []
    while missing:
        best = max(items, key=lambda i: (len(missing.intersection(i.keys)), -len(i.keys)), default=None)
        if best is None or not missing.intersection(best.keys):
            break
        chosen.append(best)
        missing -= set(best.keys)
    return sorted(chosen, key=template.items.index)


def protocol_of(path: Path) -> str:
    """The protocol that a template file names; modbus when it names none or is no YAML."""
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValueError):
        return "modbus"
    return str(raw.get("protocol", "modbus")) if isinstance(raw, dict) else "modbus"


def load_meter(name: str, folder: Path = TEMPLATES) -> MeterTemplate:
    """A meter-bus template by its name or the path of a YAML file; NotFound, InputError or CatalogueError with lines."""
    found = load_any(name, folder)
    if isinstance(found, Template):
        raise InputError(f"the template {found.template} is for modbus; the device's protocol is dlt645")
    return found


def load_any(name: str, folder: Path = TEMPLATES) -> Template | MeterTemplate:
    """A template of any polled protocol."""
    path = Path(name) if name.endswith((".yaml", ".yml")) else folder / f"{name}.yaml"
    return read_model(path, MeterTemplate, *MISTAKES) if protocol_of(path) in METER_BUS else load_template(name, folder)


def load_all(folder: Path = TEMPLATES) -> list[Template | MeterTemplate]:
    """Every template of the folder, by name."""
    return [load_any(str(path)) for path in sorted(folder.glob("*.yaml"))]
