"""Rows of the energy account, bills, water, stores of waste, land and waste heat, as the queries of `queries.sql` give them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date


@dataclass(frozen=True)
class Account:
    """A carrier of the base over the year: what counts, what was deducted, CO2 by location and by market."""

    carrier: str
    scope: int | None
    unit: str
    days: int
    amount: float | None
    sold: float | None
    made_inside: float | None
    feedstock: float | None
    green: float | None
    billed: float
    estimated: float
    n_expected: int
    n_known: int
    tce_calorific_assessed: float | None
    tce_equivalent_assessed: float | None
    co2_kg: float | None
    co2_market_kg: float | None
    factors: list[int]
    settings: list[str]

    @property
    def grade(self) -> str:
        """A metered, B with bills, C more than a tenth estimated."""
        if self.amount is None:
            return ""
        return "C" if self.estimated > 0.1 * abs(self.amount) else "B" if self.billed > 0 else "A"


@dataclass(frozen=True)
class BillRow:
    """A bill of the base's own gate."""

    month: date
    total: float
    energy_kwh: float
    energy_cost: float
    demand_kw: float | None
    demand_cost: float
    power_factor: float | None
    adjustment: float | None
    n_expected: int
    n_known: int
    complete: bool


@dataclass(frozen=True)
class Water:
    """Water of the base (code None) or an enterprise over the year, m3."""

    code: str | None
    name_zh: str | None
    name_en: str | None
    fresh: float | None
    reclaimed: float | None
    recirculated: float | None
    discharged: float | None
    hours_due: int | None
    hours_known: int | None
    consumed: float | None
    reuse_rate: float | None
    days: int
    n_expected: int
    n_known: int


@dataclass(frozen=True)
class Waste:
    """A store of waste over the year, t."""

    code: str | None
    name_zh: str | None
    name_en: str | None
    kind: str
    item: str
    opening: float
    generated: float | None
    received: float | None
    used: float | None
    disposed: float | None
    moved: float | None
    closing: float | None
    stored_differs: float | None
    booked_before: bool
    negative_days: list[date] | None
    preliminary: bool


@dataclass(frozen=True)
class Passed:
    """What the ledger says that one enterprise gave another."""

    kind: str
    item: str
    from_zh: str
    from_en: str
    from_code: str
    to_zh: str
    to_en: str
    to_code: str
    unit: str
    amount: float
    confirmed: float | None
    preliminary: bool


@dataclass(frozen=True)
class Stock:
    """Land in ha or waste heat in GJ by enterprise and use."""

    what: str
    code: str | None
    name_zh: str | None
    name_en: str | None
    item: str
    amount: float
    unit: str
    preliminary: bool
