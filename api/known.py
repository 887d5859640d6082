"""`as_of`: a request's transaction looks back to an instant, and every figure in it is the one that was known then."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import Query
from psycopg import AsyncCursor

from api.answers import instant
from api.store import SQL
from park.clock import utc_now
from park.errors import InputError

AsOf = Annotated[str | None, Query(max_length=40, description="An instant with an offset: figures, factors and limits as known "
                                   "then. Beyond 30 days back it is taken as the local midnight before it.")]


async def look_back(db: AsyncCursor[Any], zone: str, as_of: str | None) -> datetime | None:
    """Make this transaction see what was known at `as_of`; the answer is the instant taken, None for now.

    InputError for an instant to come: nobody knows what will be known.
    """
    asked = instant(as_of, "as_of")
    if asked is None:
        return None
    if asked > utc_now():
        raise InputError(f"as_of: expected an instant in the past, got {as_of}")
    row = await (await db.execute(SQL["look_back"], {"as_of": asked, "zone": zone})).fetchone()
    assert row is not None
    taken: datetime = row["as_of"]
    return taken
