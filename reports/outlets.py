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
