"""The catalogue as ingest needs it: point code to ids and plausible range, in arrays that a whole batch indexes.

Loaded once and again whenever the database says `park_catalogue`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from psycopg import Connection

from ingest.condense import MONDAY_US, WEEK_US
from park.database import queries
from park.quality import LAST_USABLE, Quality

QUERIES = queries(Path(__file__).with_name("queries.sql"))
UNKNOWN = -1
_MOST_KNOWN = 4096
IMPOSSIBLE = 1e15   # in any unit of the catalogue: float registers in the wrong order, or of a dead sensor, give 3e38


class Rows(dict[str, int]):
    """Point code to its row in the directory's arrays; a code that is not there reads as UNKNOWN."""

    def __missing__(self, code: str) -> int:
        return UNKNOWN


@dataclass(frozen=True)
class Directory:
    """Bases by code; points of each base by code; arrays over all points (P,). NaN in `low` or `high`: no bound."""

    bases: dict[str, int]
    points: dict[int, Rows]
    base_id: NDArray[np.int16]
    point_id: NDArray[np.int32]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    _known: dict[tuple[int, tuple[str, ...]], NDArray[np.int64]] = field(default_factory=dict, compare=False, repr=False)

    def mark_implausible(self, row: NDArray[np.int64], value: NDArray[np.float64], quality: NDArray[np.int16]) -> None:
        """Qualities (N,), changed in place: `uncertain` outside the point's range, `bad` where no park has so much."""
        with np.errstate(invalid="ignore"):
            outside = (value < self.low[row]) | (value > self.high[row])
            impossible = np.abs(value) > IMPOSSIBLE
        quality[outside & (quality == Quality.GOOD)] = Quality.UNCERTAIN
        quality[impossible & (quality <= LAST_USABLE)] = Quality.BAD

    def rows_of(self, base_id: int) -> Rows:
        """The points of a base by code."""
        return self.points.get(base_id) or Rows()

    def rows(self, base_id: int, codes: Sequence[str]) -> NDArray[np.int64]:
        """Rows (N,) of points of a base by code. Columns of codes that came before are remembered: sources repeat them."""
        key = (base_id, codes) if isinstance(codes, tuple) else None
        found = self._known.get(key) if key else None
        if found is None:
            found = np.fromiter(map(self.rows_of(base_id).__getitem__, codes), np.int64, len(codes))
            if key:
                if len(self._known) >= _MOST_KNOWN:
                    self._known.clear()
                self._known[key] = found
        return found


def closed_weeks(conn: Connection[Any]) -> NDArray[np.int64]:
    """Numbers of the weeks whose raw readings were dropped; nothing more is stored in them."""
    mondays = [int(low.timestamp()) * 1_000_000 for (low,) in conn.execute(QUERIES["closed_weeks"])]
    return (np.array(mondays, np.int64) - MONDAY_US) // WEEK_US


def load_directory(conn: Connection[Any]) -> Directory:
    """The directory as the catalogue is now. Points that were retired stay known: their last readings may come late."""
    bases = {code: int(base_id) for code, base_id in conn.execute(QUERIES["bases"])}
    rows = conn.execute(QUERIES["points"]).fetchall()
    points: dict[int, Rows] = {base_id: Rows() for base_id in bases.values()}
    for i, (base_id, _, code, _, _) in enumerate(rows):
        points[base_id][code] = i
    columns: list[tuple[Any, ...]] = list(zip(*rows, strict=True)) or [()] * 5
    return Directory(bases, points, np.array(columns[0], np.int16), np.array(columns[1], np.int32),
                     np.array(columns[3], np.float64), np.array(columns[4], np.float64))
