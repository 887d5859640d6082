"""Rows that a report is made of: each class mirrors a query of `queries.sql`, and `Year` holds everything about one year."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

from reports.accounts import Account, BillRow, Passed, Stock, Waste, Water
from reports.goals import Forecast, Indicator, Programme
from reports.outlets import Emission, Event, Limit, Transmission
from reports.running import (
    NO_RATES,
    Alert,
    AlertCount,
    AlertMonth,
    AlertRates,
    AlertRule,
    AlertSystem,
    Availability,
    Case,
    Outcome,
    Points,
)


@dataclass(frozen=True)
class Base:
    base_id: int
    code: str
    name_zh: str
    name_en: str
    region: str
    timezone: str
    attributes: dict[str, Any]


@dataclass(frozen=True)
class Enterprise:
    enterprise_id: int
    code: str
    name_zh: str
    name_en: str
    industry: str


@dataclass(frozen=True)
class Energy:
    """A carrier of an enterprise (None: the base) in a month; amounts in `unit`, coal in t, cost in CNY."""

    enterprise_id: int | None
    carrier: str
    unit: str
    month: int
    days: int
    amount: float | None
    generation: float | None
    export: float | None
    estimated: float | None
    billed: float | None
    n_expected: int
    n_known: int
    n_good: int
    tce_calorific: float | None
    tce_equivalent: float | None
    co2_kg: float | None
    cost: float | None
    without_tce_calorific: int
    without_tce_equivalent: int
    without_co2_kg: int
    without_cost: int
    factors_tce_calorific: list[int]
    factors_tce_equivalent: list[int]
    factors_co2_kg: list[int]

    @property
    def factor_ids(self) -> list[int]:
        """Every factor row behind the figures of this one."""
        return [*self.factors_tce_calorific, *self.factors_tce_equivalent, *self.factors_co2_kg]


@dataclass(frozen=True)
class Balance:
    carrier: str
    code: str
    name_zh: str
    name_en: str
    unit: str
    days: int
    parent_amount: float | None
    children_amount: float | None
    unaccounted: float | None
    parent_compared: float | None
    uncertainty: float | None
    assumed: int
    n_expected: int
    n_known: int


@dataclass(frozen=True)
class Exchange:
    carrier: str
    kind: str
    from_zh: str
    from_en: str
    to_zh: str
    to_en: str
    code: str
    unit: str
    days: int
    amount: float | None
    n_expected: int
    n_known: int
    n_good: int


@dataclass(frozen=True)
class PeriodCost:
    period: str
    amount: float
    cost: float
    days: int


@dataclass(frozen=True)
class Later:
    """A counter of a total (enterprise None: the base's) whose first day lies within the year, though no meter is on record."""

    enterprise_id: int | None
    carrier: str
    point: str
    since: date


@dataclass(frozen=True)
class Entry:
    kind: str
    item: str
    action: str
    unit: str
    enterprise_zh: str | None
    enterprise_en: str | None
    value: float
    status: str
    evidence: str
    first_day: date
    last_day: date
    inside: bool


@dataclass(frozen=True)
class Factor:
    factor_id: int
    base_id: int | None
    carrier: str
    kind: str
    region: str
    value: float
    unit: str
    edition: str
    valid_from: date
    valid_to: date | None
    source: str
    verified: bool
    recorded_at: datetime


@dataclass(frozen=True)
class Span:
    """A year of the base: its days, the last whole day that may have data, and the instants that bound it."""

    year: int
    first: date
    last: date
    through: date
    start: datetime
    end: datetime

    @property
    def days(self) -> int:
        """Whole days that should have data."""
        return max(0, (self.through - self.first).days + 1)

    @property
    def hours(self) -> int:
        """Whole hours that should have data: a summer that began with a lost hour has one less than its days say."""
        return max(0, round((self.end - self.start).total_seconds() / 3600))

    @property
    def complete(self) -> bool:
        """Whether the year has ended."""
        return self.through == self.last


@dataclass(frozen=True)
class Year:
    """Everything a report says about one year; a year that is only compared with holds the first five."""

    span: Span
    energy: list[Energy]
    emission: list[Emission]
    indicators: dict[str, Indicator]
    ledger: list[Entry]
    later: list[Later] = field(default_factory=list)
    balance: list[Balance] = field(default_factory=list)
    account: list[Account] = field(default_factory=list)
    bills: list[BillRow] = field(default_factory=list)
    water: list[Water] = field(default_factory=list)
    waste: list[Waste] = field(default_factory=list)
    passed: list[Passed] = field(default_factory=list)
    stock: list[Stock] = field(default_factory=list)
    exchange: list[Exchange] = field(default_factory=list)
    cost: list[PeriodCost] = field(default_factory=list)
    transmission: list[Transmission] = field(default_factory=list)
    limits: list[Limit] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    cases: list[Case] = field(default_factory=list)
    availability: list[Availability] = field(default_factory=list)
    points: list[Points] = field(default_factory=list)
    alerts_since: datetime | None = None
    alert_counts: list[AlertCount] = field(default_factory=list)
    alert_systems: list[AlertSystem] = field(default_factory=list)
    alert_months: list[AlertMonth] = field(default_factory=list)
    alert_rates: AlertRates = NO_RATES
    alerts: list[Alert] = field(default_factory=list)
    alert_rules: list[AlertRule] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    forecasts: dict[str, Forecast] = field(default_factory=dict)
    programmes: list[Programme] = field(default_factory=list)

    @property
    def was_watched(self) -> bool:
        """Whether alerts could be raised in a part of the year: before the first rule, none is no news."""
        return self.alerts_since is not None and self.alerts_since < self.span.end

    @property
    def has_data(self) -> bool:
        """Whether a single figure of the year is known."""
        return any(e.n_known for e in self.energy) or any(e.hours_valid for e in self.emission)
