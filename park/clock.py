"""Time: aware UTC inside, park-local only when people read it.

A clock is a function without arguments that returns an aware UTC datetime; loops take it as a parameter so that
tests pass their own.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from park.errors import InputError

Clock = Callable[[], datetime]

DEVICE_TOLERANCE_S = 60.0
"""A device whose clock is further off puts readings into other minutes than they belong to: the shortest rollup."""

_PERIOD = re.compile(r"^(?P<year>\d{4})(?:-(?:Q(?P<quarter>[1-4])|(?P<month>\d{2})(?:-(?P<day>\d{2}))?))?$")


def utc_now() -> datetime:
    """The present instant, aware, in UTC."""
    return datetime.now(UTC)


def parse_instant(text: str) -> datetime:
    """An instant from ISO 8601 with an offset (`2026-11-23T03:00:00Z`); a text without offset is an InputError."""
    try:
        instant = datetime.fromisoformat(text)
    except ValueError as exc:
        raise InputError(f"expected an instant such as 2026-11-23T03:00:00Z, got {text!r}") from exc
    if instant.tzinfo is None:
        raise InputError(f"expected an instant with an offset (Z or +08:00), got {text!r}")
    return instant.astimezone(UTC)


def parse_as_of(text: str, zone: str, now: datetime) -> datetime:
    """The instant meant by "as known on": an instant with an offset, or a base-local day, which is its end, or `now` in it.

    InputError for what is to come: nobody knows what will be known.
    """
    if len(text) == len("2026-11-23") and "T" not in text:
        day = parse_period(text, zone)
        asked = min(day.end, now) if day.start <= now else day.end
    else:
        asked = parse_instant(text)
    if asked > now:
        raise InputError(f"expected an instant or a day that is not to come, got {text}")
    return asked


@dataclass(frozen=True)
class Period:
    """A base-local year, quarter, month or day, as half-open UTC instants [start, end)."""

    text: str
    first_day: date
    last_day: date
    start: datetime
    end: datetime


def parse_period(text: str, zone: str = "Asia/Shanghai") -> Period:
    """`2026`, `2026-Q3`, `2026-11` or `2026-11-23` in the base's zone; anything else is an InputError."""
    match = _PERIOD.match(text)
    if match is None:
        raise InputError(f"expected a period such as 2026, 2026-Q3, 2026-11 or 2026-11-23, got {text!r}")
    year = int(match["year"])
    try:
        if match["quarter"]:
            month = 3 * int(match["quarter"]) - 2
            first, after = date(year, month, 1), _month_start(year, month + 3)
        elif match["day"]:
            first = date(year, int(match["month"]), int(match["day"]))
            after = first + timedelta(days=1)
        elif match["month"]:
            first, after = date(year, int(match["month"]), 1), _month_start(year, int(match["month"]) + 1)
        else:
            first, after = date(year, 1, 1), date(year + 1, 1, 1)
    except (ValueError, OverflowError) as exc:
        raise InputError(f"there is no period {text!r}: {exc}") from exc
    return Period(text, first, after - timedelta(days=1), local_midnight(first, zone), local_midnight(after, zone))


def _month_start(year: int, month: int) -> date:
    return date(year + (month - 1) // 12, (month - 1) % 12 + 1, 1)


def local_midnight(day: date, zone: str) -> datetime:
    """The instant (UTC) at which a base-local day begins."""
    return datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(zone)).astimezone(UTC)
