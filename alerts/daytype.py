"""Kind of a day: working or not, after the base's own calendar, the State Council's (make-up days included), the weekday."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta

from park.holidays import public_day

WORKING, RESTING, SHUTDOWN = "working", "resting", "shutdown"
_CLASSES = {"working": WORKING, "weekend": RESTING, "holiday": RESTING, "shutdown": SHUTDOWN}


def day_type(day: date, own: Mapping[date, str]) -> str:
    """The type of a base-local day; `own` are the base's calendar rows (class by day) and win."""
    return _CLASSES[own[day] if day in own else public_day(day)]


def like(day: date, own: Mapping[date, str], n: int, reach_days: int = 70) -> list[date]:
    """Up to n past days to compare a day with, newest first: the same weekday of the same type; where the type breaks the
    week's rhythm (a holiday on a Tuesday, a working Sunday) any day of that type."""
    kind = day_type(day, own)
    past = [day - timedelta(days=k) for k in range(1, reach_days + 1)]
    same = [d for d in past if day_type(d, own) == kind]
    usual = WORKING if day.weekday() < 5 else RESTING
    weekly = [d for d in same if d.weekday() == day.weekday()]
    return (weekly if kind == usual and len(weekly) >= 3 else same)[:n]
