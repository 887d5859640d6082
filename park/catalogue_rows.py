"""The rows of a catalogue: one model a section, parsed once at the border (`park/catalogue.py`) and trusted after.

Names may be a text or `{zh: ..., en: ...}`. docs/catalogue.md lists the same fields for those who write them.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from park.errors import known_names
from park.expressions import parse
from park.measures import measure
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


AccuracyClass = Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?S?$")]


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
        raise ValueError(f"unknown quantity {value!r}; {known_names(value, quantities())}")
    return value


def _unit(value: object) -> str:
    text = str(value)
    if text not in units():
        raise ValueError(f"unknown unit of measure {text!r}; {known_names(text, units())}")
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
    accuracy_class: AccuracyClass | None = None
    formula: str | None = None
    made_from: str | None = None
    used_as: Literal["feedstock"] | None = None
    attributes: dict[str, Any] = {}

    @model_validator(mode="after")
    def _consistent(self) -> Point:
        if self.formula is not None and (self.kind == "state" or self.source is not None):
            raise ValueError("a point with a formula is a counter or gauge without a source")
        conversion(self.unit, quantities()[self.quantity].unit)  # raises when the unit does not measure the quantity
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ValueError(f"expected low < high, got {self.low} and {self.high}")
        return self


class Device(Row):
    """A device instance. Modbus: template, connection (tcp://host:port), unit_id, parameters. HJ 212: mn, password,
    st, edition, crc. MQTT: mapping. `${NAME}` in a password is read from the environment by the collector."""

    code: Code
    name: Names | None = None
    protocol: Literal["modbus", "hj212", "mqtt", "dlt645", "manual", "import"]
    template: str | None = None
    connection: str | None = None
    unit_id: int | None = Field(default=None, ge=0, le=255)
    parameters: dict[str, float] = Field(default={}, validation_alias=AliasChoices("parameters", "ratios"))
    every: dict[str, float] = {}
    accuracy_class: AccuracyClass | None = None
    mn: str | None = None
    password: str | None = None
    st: str | None = None
    edition: Literal["2005", "2017", "2025"] | None = None
    crc: Literal["hj212", "modbus", "modbus_swapped", "none"] | None = None
    mapping: dict[str, Any] | None = None
    attributes: dict[str, Any] = {}

    @model_validator(mode="before")
    @classmethod
    def _spoken(cls, given: Any) -> Any:
        """The protocol that what is given can only mean, where it is not named: a template has one, an MN is of HJ 212."""
        if not isinstance(given, dict) or given.get("protocol") is not None:
            return given
        template = given.get("template")
        if isinstance(template, str):
            return {**given, "protocol": "dlt645" if template.startswith(("dlt645.", "cjt188.")) else "modbus"}
        means = {"mn": "hj212", "mapping": "mqtt"}
        return given | next(({"protocol": p} for field, p in means.items() if given.get(field) is not None), {})

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
    loss_share: float | None = Field(default=None, ge=0, lt=1)


class Limit(Dated):
    outlet: Code
    quantity: QuantityCode
    statistic: Literal["instant", "5min", "hour", "day", "month", "year"] = "hour"
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


class Accuracy(Dated):
    """The limit of error of meters, as a class in percent (`0.5S`, `1.5`): of a device template's registers, all of them or
    those of a quantity, or of a carrier's meters where nothing else is said."""

    template: str = ""
    quantity: str = ""
    carrier: str = ""
    accuracy_class: AccuracyClass

    @model_validator(mode="after")
    def _of_one(self) -> Accuracy:
        if (self.template == "") == (self.carrier == ""):
            raise ValueError("expected a template or a carrier")
        if self.quantity and (self.carrier or self.quantity not in quantities()):
            raise ValueError(f"expected a quantity of the template's registers, got {self.quantity!r}")
        return self


class Setting(Dated):
    """A switch of the base's energy account; each figure names the rows it was computed with."""

    name: Literal["deduct_sold", "deduct_feedstock", "deduct_green_power", "residual_factor"]
    value: bool


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
    verified: bool = False


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


def _formula(value: object) -> str:
    text = str(value)
    parse(text)                              # raises with the place of the mistake
    return text


def _measure(value: object) -> str:
    return measure(str(value)).code


class Indicator(Dated):
    """An indicator's definition: a formula over named figures (docs/indicators.md), its unit, and what it should reach."""

    set_code: Code = Field(alias="set")
    code: Code
    name: Names
    formula: Annotated[str, BeforeValidator(_formula)]
    unit: Annotated[str, BeforeValidator(_measure)]
    sense: Literal["at_most", "at_least"] = "at_most"
    threshold: Annotated[str | None, BeforeValidator(lambda v: None if v is None else _formula(v))] = None
    note: str = ""


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
    """A whole catalogue; `base` is None only in files of national tables (factors, accuracies, indicators)."""

    base: Base | None = None
    enterprises: list[Enterprise] = []
    units: list[UnitRow] = []
    devices: list[Device] = []
    points: list[Point] = []
    meters: list[Meter] = []
    flows: list[Flow] = []
    limits: list[Limit] = []
    factors: list[Factor] = []
    accuracies: list[Accuracy] = []
    settings: list[Setting] = []
    tariffs: list[Tariff] = []
    calendars: list[Calendar] = []
    targets: list[Target] = []
    indicators: list[Indicator] = []
    rules: list[Rule] = []
    ledger: list[LedgerEntry] = []
    roles: list[dict[str, Any]] = []


SECTION_MODELS: dict[str, type[Row]] = {
    "base": Base, "enterprises": Enterprise, "units": UnitRow, "devices": Device, "points": Point, "meters": Meter,
    "flows": Flow, "limits": Limit, "factors": Factor, "accuracies": Accuracy,
    "settings": Setting, "tariffs": Tariff, "calendars": Calendar,
    "targets": Target, "indicators": Indicator, "rules": Rule, "ledger": LedgerEntry,
}
