"""Calendar, sun and weather of the simulated park: functions of time only (UTC seconds), for the load shapes.

Temperature and irradiance are a climate of the lower Yangtze with noise on several time scales; not a forecast of any day.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from park.holidays import public_day
from simulators.noise import Floats, key_of, smooth

DAY_S = 86_400
ZONE_S = 8 * 3600          # the simulated park keeps Asia/Shanghai, which has no summer time
WORKING, WEEKEND, HOLIDAY = 0, 1, 2
_FIRST = date(2024, 1, 1)
_DAYS = 366 * 12


def local_day(t: Floats) -> NDArray[np.int64]:
    """Number of the base-local day (days since 1970-01-01) of UTC seconds."""
    return np.floor((t + ZONE_S) / DAY_S).astype(np.int64)


def hour_of_day(t: Floats) -> Floats:
    """Base-local hour of the day, 0 to 24, of UTC seconds."""
    return (t + ZONE_S) % DAY_S / 3600.0


@lru_cache(maxsize=1)
def _classes() -> NDArray[np.int8]:
    """Class of each day from 2024 on: State Council holidays and make-up days while known."""
    numbers = {"working": WORKING, "weekend": WEEKEND, "holiday": HOLIDAY}
    return np.array([numbers[public_day(_FIRST + timedelta(days=i))] for i in range(_DAYS)], dtype=np.int8)


def day_class(day: NDArray[np.int64]) -> NDArray[np.int8]:
    """WORKING, WEEKEND or HOLIDAY of local day numbers."""
    first = (_FIRST - date(1970, 1, 1)).days
    return _classes()[np.clip(day - first, 0, _DAYS - 1)]


@dataclass(frozen=True)
class Sky:
    """Sun and weather at a place; all methods take UTC seconds and return arrays of the same shape."""

    seed: int
    latitude: float
    longitude: float

    def sun_height(self, t: Floats) -> Floats:
        """Sine of the sun's elevation (equation of time left out: up to 16 minutes)."""
        day = t / DAY_S
        declination = np.radians(-23.44) * np.cos(2 * np.pi * (day % 365.25 + 10) / 365.25)
        hour = np.radians((t % DAY_S) / 240.0 + self.longitude - 180.0)
        latitude = np.radians(self.latitude)
        result: Floats = np.sin(latitude) * np.sin(declination) + np.cos(latitude) * np.cos(declination) * np.cos(hour)
        return result

    def clearness(self, t: Floats) -> Floats:
        """Share of the clear-sky irradiance that arrives, 0.1 to 1."""
        slow = smooth(key_of(self.seed, "cloud"), t, 1.3 * DAY_S)
        fast = smooth(key_of(self.seed, "cumulus"), t, 1500.0)
        broken = 1.0 - np.abs(slow)
        return np.clip(0.62 + 0.42 * slow + 0.22 * broken * fast, 0.10, 1.0)

    def irradiance(self, t: Floats) -> Floats:
        """Global horizontal irradiance in W/m2."""
        return 1060.0 * np.maximum(self.sun_height(t), 0.0) ** 1.2 * self.clearness(t)

    def temperature(self, t: Floats) -> Floats:
        """Air temperature in degC."""
        season = -np.cos(2 * np.pi * (t / DAY_S % 365.25 - 22) / 365.25)
        daily = np.cos(2 * np.pi * (hour_of_day(t) - 14.5) / 24.0)
        weather = 4.5 * self._slow("front", t, 3.2) + 1.2 * self._slow("air", t, 0.4)
        return 16.8 + 12.2 * season + (2.2 + 3.2 * self.clearness(t - 3 * 3600.0)) * daily + weather

    def humidity(self, t: Floats) -> Floats:
        """Relative humidity in %."""
        daily = np.cos(2 * np.pi * (hour_of_day(t) - 5.0) / 24.0)
        return np.clip(71.0 + 11.0 * daily - 16.0 * (self.clearness(t) - 0.6) + 8.0 * self._slow("damp", t, 1.1), 18.0, 99.0)

    def wind(self, t: Floats) -> Floats:
        """Wind speed in m/s."""
        return np.abs(2.6 + 1.9 * self._slow("wind", t, 0.3) + 0.8 * smooth(key_of(self.seed, "gust"), t, 600.0))

    def pressure(self, t: Floats) -> Floats:
        """Air pressure in kPa."""
        season = np.cos(2 * np.pi * (t / DAY_S % 365.25 - 15) / 365.25)
        return 101.4 + 0.9 * season + 0.7 * self._slow("high", t, 4.0)

    def _slow(self, word: str, t: Floats, days: float) -> Floats:
        return smooth(key_of(self.seed, word), t, days * DAY_S)


