"""The life of an alert after ISA-18.2 as a pure decision: `next_state(alert, change, now) -> Alert`.

Active or returned, acknowledged or not, shelved for a time, suppressed by design, closed. The SQL function `alert_step`
holds the same table for the operators' steps (`api` calls it), and a test runs both over every state. The evaluator
decides here and writes in sets (`alerts/queries.sql`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from park.errors import Conflict, InputError

CHANGES = ("raise", "return", "reraise", "ack", "shelve", "unshelve", "comment", "assign", "close", "suppress", "unsuppress")
EVALUATOR = "evaluator"
EVALUATOR_ONLY = frozenset({"raise", "return", "reraise", "suppress", "unsuppress"})
LONGEST_SHELF = timedelta(days=7)
SEVERITIES = ("critical", "high", "medium", "low")


@dataclass(frozen=True)
class Alert:
    """What decides about an alert; instants aware, in UTC."""

    active: bool = True
    acknowledged: bool = False
    shelved_until: datetime | None = None
    suppressed: bool = False
    auto_close: bool = False
    closed_at: datetime | None = None
    assigned_to: str | None = None
    n_raised: int = 1


@dataclass(frozen=True)
class Change:
    """A step asked for: its word, who asks, why, and what else it needs (`until` of a shelf, `to` of an assignment)."""

    word: str
    actor: str = EVALUATOR
    note: str = ""
    until: datetime | None = None
    to: str = ""


def forbidden(alert: Alert, change: Change) -> str | None:
    """Why the alert's state forbids the step, or None; one row of the state table a line."""
    a, word = alert, change.word
    table: tuple[tuple[bool, str], ...] = (
        (word not in CHANGES, f"there is no step {word}"),
        (word in EVALUATOR_ONLY and change.actor != EVALUATOR, f"{word} is a step of the evaluator alone"),
        (word == "raise", "it is raised already"),
        (word != "comment" and a.closed_at is not None, "it is closed"),
        (word == "return" and not a.active, "it has returned already"),
        (word == "reraise" and a.active, "it is active already"),
        (word == "ack" and a.acknowledged, "it is acknowledged already"),
        (word == "unshelve" and a.shelved_until is None, "it is not shelved"),
        (word == "close" and a.active, "its condition is still present; shelve it instead"),
        (word == "suppress" and a.suppressed, "it is suppressed already"),
        (word == "unsuppress" and not a.suppressed, "it is not suppressed"),
    )
    return next((reason for applies, reason in table if applies), None)


def next_state(alert: Alert, change: Change, now: datetime) -> Alert:
    """The alert after the step; Conflict when its state forbids it, InputError when the step lacks something."""
    reason = forbidden(alert, change)
    if reason is not None:
        raise Conflict(f"{change.word} is not possible: {reason}")
    _complete(change, now)
    after = _stepped(alert, change)
    settles = change.word in ("return", "ack") and not after.active and (after.acknowledged or after.auto_close)
    if change.word == "close" or settles:
        after = replace(after, closed_at=now, shelved_until=None)
    return after


def _complete(change: Change, now: datetime) -> None:
    if change.word == "shelve" and (change.until is None or not now < change.until <= now + LONGEST_SHELF):
        raise InputError(f"shelve needs an end in the future and within 7 days, got {change.until}")
    if change.word in ("shelve", "comment") and not change.note.strip():
        raise InputError(f"{change.word} needs a note that says why")
    if change.word == "assign" and not change.to.strip():
        raise InputError("assign needs a name")


def _stepped(alert: Alert, change: Change) -> Alert:
    fields: dict[str, dict[str, Any]] = {
        "return": {"active": False},
        "reraise": {"active": True, "acknowledged": False, "n_raised": alert.n_raised + 1},
        "ack": {"acknowledged": True},
        "shelve": {"shelved_until": change.until},
        "unshelve": {"shelved_until": None},
        "assign": {"assigned_to": change.to},
        "suppress": {"suppressed": True},
        "unsuppress": {"suppressed": False},
    }
    return replace(alert, **fields.get(change.word, {}))
