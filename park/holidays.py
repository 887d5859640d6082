"""The State Council's calendar: which days of China are worked, make-up days included; what holds where a base says nothing."""

from __future__ import annotations

from datetime import date
from importlib.metadata import version
from typing import Literal

Day = Literal["working", "weekend", "holiday"]
# Of every year, for years that the State Council has not yet arranged (全国年节及纪念日放假办法, as of 2025: two days in May).
FIXED = {(1, 1), (5, 1), (5, 2), (10, 1), (10, 2), (10, 3)}


def public_day(day: date) -> Day:
    """The class of a day; of a year not yet arranged: fixed holidays and weekends (no lunar ones, no make-up days)."""
    import chinese_calendar

    try:
        off, name = chinese_calendar.get_holiday_detail(day)
    except NotImplementedError:     # a year that the library does not know yet
        off, name = day.weekday() >= 5, "fixed" if (day.month, day.day) in FIXED else None
        off = off or name is not None
    return ("holiday" if name else "weekend") if off else "working"


def last_year() -> int:
    """The last year whose days are arranged."""
    import chinese_calendar

    return max(int(day.year) for day in chinese_calendar.holidays)


def release() -> str:
    """Where the days come from. A newer release may know another year: what was reckoned with a former one is done again."""
    return f"chinesecalendar {version('chinesecalendar')}"
