"""Do the rollups say what the readings say? A recomputation in plain SQL beside what the tables hold.

`park ingest --verify` runs it on a live database; the property test of the rollup pass uses it as its judge. It
shares no code with the pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from psycopg import Connection, IsolationLevel, sql

from ingest.directory import QUERIES, closed_weeks
from ingest.rollup import GRAINS, prepare, roll_up_all
from park.database import connect


@dataclass(frozen=True)
class Difference:
    """A bucket whose rollup is not what its readings give; both as texts (counts, min, max, sum, first, last, increment)."""

    grain: str
    base_id: int
    point_id: int
    bucket: Any
    stored: str
    recomputed: str


def recompute(conn: Connection[Any], grain: str, base_id: int | None = None) -> list[tuple[Any, ...]]:
    """Rows of a grain straight from raw, columns in the order of the tables."""
    return conn.execute(QUERIES["recompute"], {"grain": grain, "base_id": base_id}).fetchall()


def differences(conn: Connection[Any], base_id: int | None = None) -> list[Difference]:
    """At most 20 a grain, in one snapshot; buckets that wait in the dirty log are not judged.

    What reaches into closed weeks is compared with the quarters instead: the readings are gone.
    """
    found = []
    closed = bool(len(closed_weeks(conn)))
    for grain in GRAINS:
        found += _compare(conn, grain, base_id, "recompute", closed=False)
        if closed and grain not in ("1m", "15m"):
            found += _compare(conn, grain, base_id, "sum_up", closed=True)
    return found


def _compare(conn: Connection[Any], grain: str, base_id: int | None, wanted: str, *, closed: bool) -> list[Difference]:
    query = sql.SQL(QUERIES["compare"]).format(  # type: ignore[arg-type]
        recompute=sql.SQL(QUERIES[wanted]), table=sql.Identifier(GRAINS[grain]))  # type: ignore[arg-type]
    rows = conn.execute(query, {"grain": grain, "base_id": base_id, "closed": closed}).fetchall()
    return [Difference(grain, *row) for row in rows]


def verify(url: str) -> list[Difference]:
    """Finish the dirty log, then compare every grain with its recomputation in one snapshot."""
    with connect(url, autocommit=True, name="park ingest verify") as conn:
        prepare(conn)
        roll_up_all(conn)
    with connect(url, name="park ingest verify") as conn:
        conn.isolation_level = IsolationLevel.REPEATABLE_READ
        return differences(conn)
