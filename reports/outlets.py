"""Rows about outlets: hours and masses, hours due and received, limits, events of treatment."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Emission:
    """A pollutant of an outlet over the period; hours are hours, mass kg."""

    unit_id: int
    code: str
    name_zh: str
    name_en: str
    medium: str | None
    inside: bool  # flows to another outlet of the base, where its load is measured again
    quantity: str
    enterprise_zh: str | None
    enterprise_en: str | None
    days: int
    days_valid: int
    hours_valid: int
    hours_stopped: int
    hours_exempt: int
    hours_missing: int
    mean_measured: float | None
    mean_converted: float | None
    max_converted: float | None
    mass_kg: float | None
    hours_substituted: int
    hours_exceeded: int

    def valid_share(self, hours: int) -> float | None:
        """Share of due hours that were valid, of a span of so many hours: the coverage of every figure of the outlet."""
        due = max(0, hours - self.hours_stopped - self.hours_exempt)
        return min(1.0, self.hours_valid / due) if due else None

    def grade(self, hours: int) -> str:
        """Of the mass: C where less than 75 % of the due hours are valid, or more than a tenth of the run is substituted."""
        share, run = self.valid_share(hours), self.hours_valid + self.hours_exempt + self.hours_missing
        if share is None:  # nothing was due: a source at rest all the time is known to have emitted nothing
            return "A" if self.hours_stopped else "C"
        return "C" if share < 0.75 or self.hours_substituted > 0.1 * run else "A"


@dataclass(frozen=True)
class Transmission:
    """Hours of an outlet over its pollutants: recorded, excluded (stopped or exempt), received, valid."""

    code: str
    name_zh: str
    name_en: str
    enterprise_zh: str | None
    enterprise_en: str | None
    quantities: int
    recorded: int
    excluded: int
    received: int
    valid: int


@dataclass(frozen=True)
class Limit:
    unit_id: int
    quantity: str
    statistic: str
    low: float | None
    high: float | None
    unit: str
    rank: str
    source: str
    verified: bool


@dataclass(frozen=True)
class Event:
    kind: str
    production_zh: str | None
    production_en: str | None
    treatment_zh: str | None
    treatment_en: str | None
    started_at: datetime
    ended_at: datetime | None
    hours: float
