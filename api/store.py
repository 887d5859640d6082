"""The database as one request sees it: a transaction that has taken the token's role, its bases and its time-out.

Row-level security does the isolation, so a query that forgets its WHERE still shows nothing of another base.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psycopg import AsyncConnection, AsyncCursor
from psycopg.rows import AsyncRowFactory, dict_row
from psycopg_pool import AsyncConnectionPool

from park.database import queries

SQL = queries(Path(__file__).with_name("queries.sql"))
POOL_SIZE = 8
TIMEOUT_MS = 15_000


@dataclass(frozen=True)
class Principal:
    """Who asks: the token's name and role, the ids of the bases it may see, and its enterprise for role enterprise."""

    token_id: int
    name: str
    role: str
    bases: tuple[int, ...]
    enterprise_id: int | None = None


class Store:
    """A pool of connections; `session` is the only way by which routes read and write."""

    def __init__(self, url: str, size: int = POOL_SIZE) -> None:
        self.url = url
        self.pool: AsyncConnectionPool[AsyncConnection[Any]] = AsyncConnectionPool(
            url, min_size=1, max_size=size, open=False, timeout=3.0, max_waiting=200, name="park api",
            kwargs={"application_name": "park api", "options": "-c timezone=UTC"}, check=None, reconnect_timeout=30.0)

    async def open(self) -> None:
        """Start connecting; it does not wait, so the service starts while the database is still away."""
        await self.pool.open(wait=False)

    async def close(self) -> None:
        """Give up every connection within two seconds."""
        await self.pool.close(timeout=2.0)

    async def __aenter__(self) -> Store:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @asynccontextmanager
    async def session(self, who: Principal, *, timeout_ms: int = TIMEOUT_MS,
                      rows: AsyncRowFactory[Any] = dict_row) -> AsyncIterator[AsyncCursor[Any]]:
        """A cursor inside a transaction of the principal's role; commits at the end, rolls back on an exception."""
        async with self.pool.connection() as conn, as_principal(conn, who, timeout_ms=timeout_ms, rows=rows) as cursor:
            yield cursor

    @asynccontextmanager
    async def own(self) -> AsyncIterator[AsyncCursor[Any]]:
        """A cursor of the service itself, for tokens and health only: no route's data passes here."""
        async with self.pool.connection() as conn, conn.cursor(row_factory=dict_row) as cursor:
            yield cursor


@asynccontextmanager
async def as_principal(conn: AsyncConnection[Any], who: Principal, *, timeout_ms: int = TIMEOUT_MS,
                       rows: AsyncRowFactory[Any] = dict_row) -> AsyncIterator[AsyncCursor[Any]]:
    """The same on a connection of one's own."""
    async with conn.transaction(), conn.cursor(row_factory=rows, binary=True) as cursor:
        await cursor.execute(SQL["take_role"], {
            "role": f"park_{who.role}", "bases": "{" + ",".join(map(str, who.bases)) + "}",
            "enterprise": "" if who.enterprise_id is None else str(who.enterprise_id), "timeout": str(timeout_ms)})
        yield cursor
