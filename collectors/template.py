"""Device templates: one YAML file per model, the registers of a meter as a table that one can check against its manual.

A template knows nothing of an installation: address, unit id and ratios stand in the catalogue's `devices:`.
docs/devices.md explains every field.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from park.errors import InputError, NotFound, known_names
from park.quantities import conversion, quantities, units
from park.yaml_lines import read_model

# what a reader of a template's mistakes is told: what a file must hold, and where its fields are listed
MISTAKES = ("fields such as `template:` and `points:`", "see docs/devices.md for the fields of a template")

TEMPLATES = Path(__file__).parent / "templates"
METER_BUS = ("dlt645.", "cjt188.")
"""How the names of templates begin that `dlt645_template` reads."""

Type = Literal["u16", "i16", "u32", "i32", "u64", "i64", "f32", "f64", "bcd16", "bcd32", "bcd48", "bcd64"]
Order = Literal["big", "little"]
Every = Literal["fast", "slow"]
Function = Literal[3, 4]

WORDS: dict[str, int] = {"u16": 1, "i16": 1, "u32": 2, "i32": 2, "f32": 2, "u64": 4, "i64": 4, "f64": 4,
                         "bcd16": 1, "bcd32": 2, "bcd48": 3, "bcd64": 4}
"""Registers that a value of each type takes."""


class Row(BaseModel):
    """A row of a template; an unknown field is a mistake, because a misspelt one would be lost in silence."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True, allow_inf_nan=False, frozen=True)


def _unit(value: object) -> str:
    text = str(value)
    if text not in units():
        raise ValueError(f"unknown unit of measure {text!r}; {known_names(text, units())}")
    return text


def _quantity(value: object) -> str:
    text = str(value)
    if text not in quantities():
        raise ValueError(f"unknown quantity {text!r}; {known_names(text, quantities())}")
    return text


def _pattern(value: object) -> object:
    """`nan`, or a raw register pattern as a number or a text such as 0xFFFF."""
    if isinstance(value, str) and value.lower() != "nan":
        try:
            return int(value, 0)
        except ValueError as exc:
            raise ValueError(f"expected nan or a raw pattern such as 0xFFFF, got {value!r}") from exc
    return value.lower() if isinstance(value, str) else value


Pattern = Annotated[int | Literal["nan"], BeforeValidator(_pattern)]


class TemplatePoint(Row):
    """One value of the device. `value = raw * scale + offset`, times the parameters of `multiply_by`, in `unit`."""

    key: str = Field(pattern=r"^[a-z0-9_]+$")
    quantity: Annotated[str, BeforeValidator(_quantity)]
    address: int = Field(ge=0, le=65535)
    type: Type
    unit: Annotated[str, BeforeValidator(_unit)]
    function: Function | None = None
    scale: float = 1.0
    offset: float = 0.0
    word_order: Order | None = None
    byte_order: Order | None = None
    bits: tuple[int, int] | None = None
    register_: Literal["gauge", "counter"] = Field(default="gauge", alias="register")
    direction: Literal["import", "export", "sum"] | None = None
    phase: Literal["l1", "l2", "l3", "n", "l1_l2", "l2_l3", "l3_l1"] | None = None
    every: Every = "fast"
    valid: tuple[float, float] | None = None
    not_available: tuple[Pattern, ...] = ()
    multiply_by: tuple[str, ...] = ()
    labels: dict[int, str] = {}
    writable: bool = False
    note: str = ""

    @property
    def words(self) -> int:
        """Registers that this value takes."""
        return WORDS[self.type]

    @model_validator(mode="after")
    def _consistent(self) -> TemplatePoint:
        conversion(self.unit, quantities()[self.quantity].unit)
        if self.address + self.words > 65536:
            raise ValueError(f"a {self.type} at {self.address} runs beyond register 65535")
        if self.valid is not None and self.valid[0] >= self.valid[1]:
            raise ValueError(f"expected valid: [low, high] with low < high, got {list(self.valid)}")
        if self.bits is not None and not 0 <= self.bits[0] <= self.bits[1] < 16 * self.words:
            raise ValueError(f"expected bits: [first, last] inside {16 * self.words} bits, got {list(self.bits)}")
        if self.bits is not None and self.type not in ("u16", "u32", "u64"):
            raise ValueError(f"bits need an unsigned type, got {self.type}")
        return self


class Parameter(Row):
    """A ratio of the installation: from the catalogue, else read from `address`, else `default`; without either of the two
    the catalogue must give it."""

    default: float | None = None
    address: int | None = Field(default=None, ge=0, le=65535)
    type: Type = "u16"
    function: Function | None = None
    scale: float = 1.0

    @property
    def start(self) -> float:
        """Its value before anything was given or read; no number when only the catalogue can tell."""
        if self.default is not None:
            return self.default
        return math.nan if self.address is None else 1.0


class Defaults(Row):
    function: Function = 3
    word_order: Order = "big"
    byte_order: Order = "big"
    not_available: dict[Type, tuple[Pattern, ...]] = {}


class Limits(Row):
    """What the device bears: registers a request, unneeded registers that may be read along, pauses, patience."""

    max_registers: int = Field(default=120, ge=1, le=125)
    max_gap: int = Field(default=8, ge=0, le=120)
    gap_ms: float = Field(default=0, ge=0, le=10_000)
    connect_delay_ms: float = Field(default=0, ge=0, le=60_000)
    timeout_ms: float = Field(default=1000, ge=10, le=60_000)


class TemplateTest(Row):
    """Raw registers by address (of one function) and what they must read as; `null` means no value."""

    function: Function | None = None
    registers: dict[int, list[int]]
    parameters: dict[str, float] = {}
    expect: dict[str, float | None]
    note: str = ""


class Template(Row):
    """A device model."""

    template: str = Field(pattern=r"^[a-z0-9]+(\.[a-z0-9_]+)+$")
    version: int = Field(ge=1)
    vendor: str
    models: list[str] = Field(min_length=1)
    kind: str
    protocol: Literal["modbus"] = "modbus"
    phases: int | None = None
    confidence: Literal["high", "medium", "low"] = "high"
    source: Annotated[list[str], BeforeValidator(lambda s: [s] if isinstance(s, str) else s)] = []
    traps: list[str] = []
    serial: dict[str, Any] = {}
    defaults: Defaults = Defaults()
    limits: Limits = Limits()
    parameters: dict[str, Parameter] = {}
    points: list[TemplatePoint] = Field(min_length=1)
    tests: list[TemplateTest] = []

    @model_validator(mode="before")
    @classmethod
    def _unsourced_is_unsure(cls, given: Any) -> Any:
        return {"confidence": "low", **given} if isinstance(given, dict) and not given.get("source") else given

    @model_validator(mode="after")
    def _cross_check(self) -> Template:
        keys = [p.key for p in self.points]
        twice = sorted({k for k in keys if keys.count(k) > 1})
        if twice:
            raise ValueError(f"points with the same key: {', '.join(twice)}")
        for p in self.points:
            for name in p.multiply_by:
                if name not in self.parameters:
                    raise ValueError(f"the point {p.key} multiplies by {name!r}, which is not in `parameters`")
            if p.words > self.limits.max_registers:
                raise ValueError(f"the point {p.key} takes {p.words} registers, more than limits.max_registers")
        for test in self.tests:
            unknown = sorted(set(test.expect) - set(keys))
            if unknown:
                raise ValueError(f"a test expects points that are not there: {', '.join(unknown)}")
        return self

    def in_order(self, word: object, byte: object) -> Template:
        """The same model with registers in another order, as one meter may be set to; None leaves the template's."""
        for name, order in (("word_order", word), ("byte_order", byte)):
            if order not in (None, "big", "little"):
                raise InputError(f"expected {name}: big or little, got {order!r}")
        given = {k: v for k, v in (("word_order", word), ("byte_order", byte)) if v is not None}
        return self.model_copy(update={"defaults": self.defaults.model_copy(update=given)}) if given else self

    def point(self, key: str) -> TemplatePoint:
        """The point with that key; NotFound naming the known keys."""
        for p in self.points:
            if p.key == key:
                return p
        raise NotFound(f"the template {self.template} has no point {key!r}; {known_names(key, (p.key for p in self.points))}")

    def function_of(self, p: TemplatePoint) -> int:
        """Function code that reads the point."""
        return p.function if p.function is not None else self.defaults.function

    def not_available_of(self, p: TemplatePoint) -> tuple[int | str, ...]:
        """Raw patterns by which the device says that it has no value."""
        return p.not_available or self.defaults.not_available.get(p.type, ())


def load_template(name: str, folder: Path = TEMPLATES) -> Template:
    """A template by its name (`eastron.sdm630`) or by the path of a YAML file; NotFound or CatalogueError with lines."""
    path = Path(name) if name.endswith((".yaml", ".yml")) else folder / f"{name}.yaml"
    if not path.is_file():
        known = known_names(name, sorted(f.stem for f in folder.glob("*.yaml")))
        raise NotFound(f"there is no device template {name!r}; {known} (a path of a YAML file is taken too)")
    return read_model(path, Template, *MISTAKES)


def load_templates(folder: Path = TEMPLATES) -> list[Template]:
    """Every Modbus template of the folder, by name; those of other protocols are read by `dlt645_template`."""
    return [read_model(path, Template, *MISTAKES) for path in sorted(folder.glob("*.yaml"))
            if not path.name.startswith(METER_BUS)]
