"""`as_of`: a request's transaction looks back to an instant, and every figure in it is the one that was known then."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import Query
from psycopg import AsyncCursor

from api.store import SQL
from park.clock import parse_as_of, utc_now
from park.errors import InputError

AsOf = Annotated[str | None, Query(max_length=40, description="Figures, factors and limits as known then: an instant with an "
                                   "offset, or a base-local day, which is its end. Beyond 30 days back an instant is taken as "
                                   "the local midnight before it.")]


async def look_back(db: AsyncCursor[Any], zone: str, as_of: str | None) -> datetime | None:
    """Make this transaction see what was known at `as_of`; the answer is the instant taken, None for now.

    InputError for an instant to come: nobody knows what will be known.
    """
    if as_of is None:
        return None
    try:
        asked = parse_as_of(as_of.strip().replace(" ", "+"), zone, utc_now())   # a '+' that was not encoded arrives as a blank
    except (InputError, OverflowError, ValueError) as exc:
        raise InputError(f"as_of: {exc}") from exc
    row = await (await db.execute(SQL["look_back"], {"as_of": asked, "zone": zone})).fetchone()
    assert row is not None
    taken: datetime = row["as_of"]
    return taken
