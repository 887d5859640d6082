"""Base-local days as instants: where a day begins and ends in a zone, daylight saving included."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
from numpy.typing import NDArray

from accounting.columns import from_us, to_us
from park.clock import local_midnight


@dataclass(frozen=True)
class Days:
    """Consecutive local days of a zone: dates, and n + 1 borders in microseconds since 2000."""

    dates: list[date]
    borders: NDArray[np.int64]
    zone: str

    def index(self, ts: NDArray[np.int64]) -> NDArray[np.int64]:
        """Which day each instant falls on."""
        return np.searchsorted(self.borders, ts, side="right") - 1


def local_days(low_us: int, high_us: int, zone: str) -> Days:
    """The local days that share time with [low, high)."""
    first = from_us(low_us).date() - timedelta(days=1)
    last = from_us(high_us).date() + timedelta(days=1)
    dates = [first + timedelta(days=i) for i in range((last - first).days + 2)]
    borders = np.array([to_us(local_midnight(d, zone)) for d in dates], np.int64)
    keep = [i for i in range(len(dates) - 1) if borders[i + 1] > low_us and borders[i] < high_us]
    return Days([dates[i] for i in keep], borders[keep[0]:keep[-1] + 2], zone)
