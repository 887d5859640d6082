"""Readings into a database the way ingest leaves them: rows of `reading`, and the hours they touch in `dirty_account`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest

from park.catalogue import read_catalogue
from park.catalogue_store import apply
from park.database import connect

FACTORS = Path(__file__).parents[2] / "park" / "tables" / "factors.yaml"
Conn = psycopg.Connection[Any]
Feed = Callable[..., None]


@pytest.fixture(scope="session")
def park_template(databases: Any, mini_template: str) -> str:
    """Name of a database with the mini park and the national factors."""
    name: str = databases.copy(mini_template, "factors")
    with connect(databases.url(name), autocommit=True) as conn:
        apply(conn, read_catalogue([FACTORS]))
    return name


@pytest.fixture
def template(request: pytest.FixtureRequest) -> str:
    """Name of the database that a test's own is a copy of."""
    known = request.fixturenames
    return str(request.getfixturevalue("park_template" if "park" in known else "mini_template")) if "mini" in known else "park"


@pytest.fixture
def park(mini: Conn) -> Conn:
    """The mini park with the national factors."""
    return mini


@pytest.fixture
def feed(park: Conn) -> Feed:
    """feed(point, instants, values, quality=0): store readings (a second value for an instant replaces the first)."""
    return partial(store, park)


def store(conn: Conn, point: str, at: Sequence[datetime], values: Sequence[float | None],
          quality: int | Sequence[int] = 0) -> None:
    """Store readings of a point of whatever base."""
    qualities = [quality] * len(at) if isinstance(quality, int) else list(quality)
    row = conn.execute("SELECT base_id, point_id FROM point WHERE code = %s", (point,)).fetchone()
    assert row is not None and len(at) == len(values), point
    conn.execute("SELECT ensure_reading_partitions(%s, %s)", (min(at), max(at)))
    conn.execute("""INSERT INTO reading (ts, value, point_id, base_id, quality)
        SELECT t, v, %s, %s, q FROM unnest(%s::timestamptz[], %s::float8[], %s::smallint[]) AS r (t, v, q)
        ON CONFLICT (base_id, point_id, ts) DO UPDATE SET value = excluded.value, quality = excluded.quality""",
                 (row[1], row[0], list(at), [None if v is None else float(v) for v in values], [int(q) for q in qualities]))
    conn.execute("""INSERT INTO dirty_account (base_id, point_id, bucket)
        SELECT DISTINCT %s::smallint, %s::integer, date_trunc('hour', t) FROM unnest(%s::timestamptz[]) t""",
                 (row[0], row[1], list(at)))


def every(seconds: float, first: datetime, n: int) -> list[datetime]:
    """n instants from `first`, evenly spaced."""
    start = first.timestamp()
    return [datetime.fromtimestamp(start + seconds * i, UTC) for i in range(n)]


def register(n: int, per_slot: float, start: float = 100.0) -> np.ndarray:
    """A register that grows evenly."""
    return start + per_slot * np.arange(n)
