"""Kind of a day: working or not, after the base's own calendar, the State Council's (make-up days included), the weekday."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

import chinese_calendar

WORKING, RESTING, SHUTDOWN = "working", "resting", "shutdown"
_CLASSES = {"working": WORKING, "weekend": RESTING, "holiday": RESTING, "shutdown": SHUTDOWN}
FIXED = {(1, 1), (5, 1), (10, 1), (10, 2), (10, 3)}     # holidays of every year, for years the State Council has not yet set


def day_type(day: date, own: Mapping[date, str]) -> str:
    """The type of a base-local day; `own` are the base's calendar rows (class by day) and win."""
    if day in own:
        return _CLASSES[own[day]]
    try:
        return WORKING if chinese_calendar.is_workday(day) else RESTING
    except NotImplementedError:     # a year that the library does not know yet
        return RESTING if day.weekday() >= 5 or (day.month, day.day) in FIXED else WORKING


def like(day: date, own: Mapping[date, str], n: int, reach_days: int = 70) -> list[date]:
    """Up to n past days to compare a day with, newest first: the same weekday of the same type; where the type breaks the
    week's rhythm (a holiday on a Tuesday, a working Sunday) any day of that type."""
    from datetime import timedelta

    kind = day_type(day, own)
    past = [day - timedelta(days=k) for k in range(1, reach_days + 1)]
    same = [d for d in past if day_type(d, own) == kind]
    usual = WORKING if day.weekday() < 5 else RESTING
    weekly = [d for d in same if d.weekday() == day.weekday()]
    return (weekly if kind == usual and len(weekly) >= 3 else same)[:n]
