"""Keys of weeks are packed full: part of the store's upkeep, on plain PostgreSQL (see docs/decisions/023).

Readings come in order of time into a key in order of points, which leaves its pages a quarter empty. A week that is over is
keyed anew beside its readers and writers; late readings may loosen it again, and the next round finds that.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from psycopg import Connection, sql

from ingest.directory import QUERIES
from park.engine import PLAIN, engine_of


def tighten(conn: Connection[Any], now: datetime) -> list[str]:
    """Pack what is loose (connection in autocommit); the keys that were made anew. Only what the session's role owns."""
    if engine_of(conn) != PLAIN:
        return []
    for (name,) in conn.execute(QUERIES["broken_keys"]).fetchall():
        conn.execute(_named("drop_key", name))
    for (name,) in conn.execute(QUERIES["roomy_keys"]).fetchall():
        conn.execute(_named("fill_key", name))
    loose = [str(name) for (name,) in conn.execute(QUERIES["loose_keys"], {"now": now})]
    for name in loose:
        conn.execute(_named("pack_key", name))
    return loose


def _named(query: str, key: str) -> sql.Composed:
    return sql.SQL(QUERIES[query]).format(key=sql.Identifier(key))  # type: ignore[arg-type]
