"""Rows of how the platform ran: points and their availability, what became of readings, alerts and the cases they opened.

Each class mirrors a query of `queries.sql`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Availability:
    system: str
    month: int
    n_expected: int
    n: int
    n_good: int


@dataclass(frozen=True)
class Points:
    system: str
    points: int
    heard: int
    enterprises: int


@dataclass(frozen=True)
class AlertCount:
    severity: str
    raised: int
    acknowledged: int
    closed: int
    minutes_to_ack: float | None
    hours_to_close: float | None


@dataclass(frozen=True)
class AlertSystem:
    system: str | None
    raised: int
    closed: int


@dataclass(frozen=True)
class AlertMonth:
    month: int
    severity: str
    raised: int


@dataclass(frozen=True)
class AlertRates:
    peak_10min: int | None
    peak_day: int | None
    longer_than_day: int


NO_RATES = AlertRates(None, None, 0)


@dataclass(frozen=True)
class Alert:
    alert_id: int
    severity: str
    opened_at: datetime
    acknowledged_at: datetime | None
    returned_at: datetime | None
    closed_at: datetime | None
    rule_zh: str | None
    rule_en: str | None
    object_zh: str
    object_en: str
    object_code: str
    value: float | None
    unit: str
    assigned_to: str | None
    open: bool


@dataclass(frozen=True)
class AlertRule:
    name_zh: str
    name_en: str
    code: str
    raised: int
    open: int


@dataclass(frozen=True)
class Case:
    """A case of a pollution alert: the newest of each step, and who took it; `outcome`: what its verifier found."""

    case_id: int
    rule_zh: str | None
    rule_en: str | None
    unit_zh: str | None
    unit_en: str | None
    enterprise_zh: str | None
    enterprise_en: str | None
    opened_by: str
    opened_at: datetime
    handler: str
    due_at: datetime | None
    accepted_at: datetime | None
    accepted_by: str | None
    handled_at: datetime | None
    handled_by: str | None
    evidenced_at: datetime | None
    n_evidence: int
    verified_at: datetime | None
    verified_by: str | None
    outcome: str
    n_refused: int
    closed_at: datetime | None


@dataclass(frozen=True)
class Outcome:
    outcome: str
    n: int
