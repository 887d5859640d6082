"""Readings of a base out of the database as arrays by point, without a Python object a reading (binary COPY)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from alerts.evaluator import Floats, Ints
from alerts.store import Connection, Q
from park.quality import LAST_USABLE, Quality

MOST_POINTS = 50        # a chunk
HEADER, TRAILER = 19, 2
ROW = np.dtype([("n", ">i2"), ("l1", ">i4"), ("point", ">i4"), ("l2", ">i4"), ("at", ">f8"), ("l3", ">i4"), ("value", ">f8"),
                ("l4", ">i4"), ("quality", ">i2")])


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
        chunk = list(points[i:i + MOST_POINTS])
        key = {"base": base_id, "points": chunk, "start": start, "end": end}
        with conn.cursor() as cur, cur.copy(Q["copy_readings"], key) as copy:
            yield parse(b"".join(copy))


def parse(data: bytes) -> dict[int, Readings]:
    """What COPY wrote, in order of point and time."""
    rows = np.frombuffer(data, ROW, offset=HEADER, count=(len(data) - HEADER - TRAILER) // ROW.itemsize)
    point = rows["point"].astype(np.int64)
    cuts: Ints = np.flatnonzero(np.diff(point)) + 1
    parts = zip(np.split(rows["at"].astype(float), cuts), np.split(rows["value"].astype(float), cuts),
                np.split(rows["quality"].astype(np.int16), cuts), strict=True)
    first = point[np.concatenate([[0], cuts])] if len(point) else point
    return {int(p): Readings(*part) for p, part in zip(first, parts, strict=False)}
