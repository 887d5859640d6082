"""Rows about what a base is held to: targets of its plan, indicators, their forecasts, sets of programmes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any


@dataclass(frozen=True)
class Indicator:
    indicator: str
    value: float | None
    unit: str
    coverage: float | None
    grade: str | None
    inputs: Any
    computed_at: datetime


@dataclass(frozen=True)
class Forecast:
    """Where a year will probably end; low and high hold nine times in ten."""

    indicator: str
    value: float
    low: float
    high: float
    unit: str
    until: date
    target_likely: float | None
    threshold_likely: float | None


@dataclass(frozen=True)
class Programme:
    """An indicator that a definition gives, with the year's value."""

    set_code: str
    code: str
    name_zh: str
    name_en: str
    unit: str
    sense: str
    source: str
    verified: bool
    note: str
    value: float | None
    coverage: float | None
    grade: str | None
    inputs: Any


@dataclass(frozen=True)
class Target:
    indicator: str
    name_zh: str
    name_en: str
    year: int
    value: float
    unit: str
    sense: str
    baseline: float | None
    baseline_year: int | None
    responsible: str
    source: str
    verified: bool
