"""Days that are no usual ones of their weekday: public holidays, the weekends worked for them, or a plant's own days.

A load of a holiday is far from that of its weekday, and nothing is wrong. On such days `park detect --holidays` judges
jumps, ranges and runs of one value alone, and leaves them out of what the other channels know of weeks.
"""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from alerts.series import Series
from park.errors import CatalogueError, InputError, Mistake
from park.holidays import public_day

CHINA, CHINA_S = "cn", 8 * 3600
WEEKLY = ("ratio", "days", "drift", "shift", "surge")       # channels that know a value by its time of week
EPOCH = date(1970, 1, 1)


def days_off(given: str) -> frozenset[date] | None:
    """The dates of a file, one a line; None for `cn`, the State Council's calendar. InputError or CatalogueError."""
    if given == CHINA:
        return None
    path = Path(given)
    if not path.is_file():
        raise InputError(f"--holidays: expected cn or a file with a date a line (2026-02-17), got {given}")
    out, mistakes = set(), []
    for n, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), 1):
        try:
            out |= {date.fromisoformat(line.strip())} if line.strip() else set()
        except ValueError:
            mistakes.append(Mistake(path.name, n, "date", f"expected a date such as 2026-02-17, got {line.strip()!r}"))
    if mistakes:
        raise CatalogueError(mistakes)
    return frozenset(out)


def is_odd(s: Series, own: frozenset[date] | None) -> NDArray[np.bool_]:
    """(T,) which steps lie in such a day, by the clock of the file; times with an offset count by China's clock."""
    at = s.start + s.step_s * np.arange(len(s.values)) + (CHINA_S if s.zoned else 0)
    days, of = np.unique(at // 86400, return_inverse=True)
    return np.asarray([_odd(EPOCH + timedelta(days=int(d)), own) for d in days])[of]


def _odd(day: date, own: frozenset[date] | None) -> bool:
    if own is not None:
        return day in own
    kind = public_day(day)
    return kind == "holiday" or (kind == "working" and day.weekday() >= 5)
