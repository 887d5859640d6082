"""Readings of a base out of the database as arrays by point: a row a point, so that no reading becomes an object of Python."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from alerts.evaluator import Floats
from alerts.store import Connection, Q
from park.quality import LAST_USABLE, Quality

MOST_POINTS = 50        # a query


@dataclass(frozen=True)
class Readings:
    """Readings of one point in order of time: epochs, values (NaN: none), quality codes."""

    at: Floats
    value: Floats
    quality: NDArray[np.int16]

    @property
    def usable(self) -> Floats:
        """(T,) values, NaN where the quality says that they are not to be used."""
        return np.where(self.quality <= LAST_USABLE, self.value, np.nan)

    @property
    def good(self) -> NDArray[np.bool_]:
        """(T,) good or manual."""
        return (self.quality <= Quality.MANUAL) & ~np.isnan(self.value)


NOTHING = Readings(np.empty(0), np.empty(0), np.empty(0, np.int16))


def load(conn: Connection, base_id: int, points: Sequence[int], start: datetime,
         end: datetime) -> Iterator[dict[int, Readings]]:
    """The readings of [start, end) by point id, in chunks of points."""
    for i in range(0, len(points), MOST_POINTS):
        key = {"base": base_id, "points": list(points[i:i + MOST_POINTS]), "start": start, "end": end}
        rows = conn.execute(Q["series_readings"], key, binary=True).fetchall()
        yield {point: Readings(np.frombuffer(at, ">f8").astype(np.float64), np.frombuffer(value, ">f8").astype(np.float64),
                               np.frombuffer(quality, ">i2").astype(np.int16)) for point, at, value, quality in rows}
