"""GET /bases, /bases/{base}/units, /points: what a park is made of, with each point's newest reading."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from psycopg import AsyncCursor
from starlette.responses import Response

from api.access import Data, Who
from api.answers import Lang, answer, cursor_of, named, read_cursor
from api.store import SQL
from park.errors import NotFound
from park.quality import word_of

router = APIRouter(tags=["catalogue"])

CodeText = Annotated[str, Query(max_length=64)]


async def base_row(cursor: AsyncCursor[Any], code: str) -> dict[str, Any]:
    """base_id, code, names and zone of a base; NotFound also for one that the token may not see."""
    row = await (await cursor.execute(SQL["base_by_code"], {"code": code})).fetchone()
    if row is None:
        raise NotFound(f"there is no base {code!r} that this token may see")
    found: dict[str, Any] = row
    return found


@router.get("/bases")
async def bases(who: Who, data: Data, lang: Lang) -> Response:
    """The bases that this token may see, with their time zone and the targets of their plan."""
    async with data.session(who) as cursor:
        rows = await (await cursor.execute(SQL["bases"])).fetchall()
    return answer({"bases": [named(row, lang) for row in rows]})


@router.get("/bases/{base}/units")
async def units(base: str, who: Who, data: Data, lang: Lang) -> Response:
    """The enterprises of a base and its tree of units: parents by code, roles production, treatment, outlet ..."""
    async with data.session(who) as cursor:
        found = await base_row(cursor, base)
        enterprises = await (await cursor.execute(SQL["enterprises"], {"base": found["base_id"]})).fetchall()
        rows = await (await cursor.execute(SQL["units"], {"base": found["base_id"]})).fetchall()
    return answer({"base": found["code"], "enterprises": [named(row, lang) for row in enterprises],
                   "units": [named(row, lang) for row in rows]})


@router.get("/points")
async def points(who: Who, data: Data, lang: Lang, base: CodeText | None = None, unit: CodeText | None = None,
                 enterprise: CodeText | None = None, device: CodeText | None = None, quantity: CodeText | None = None,
                 kind: Literal["gauge", "counter", "state"] | None = None,
                 code: Annotated[list[str] | None, Query(max_length=1000, description="Codes of points; repeat it.")] = None,
                 limit: Annotated[int, Query(ge=1, le=5000)] = 1000, cursor: str | None = None) -> Response:
    """Points with what they measure, where they belong and their newest reading, by base and code.

    `next` is the cursor of the next page, null on the last one.
    """
    after = read_cursor(cursor, str, str)
    parameters = {"base": base, "unit": unit, "enterprise": enterprise, "device": device, "quantity": quantity, "kind": kind,
                  "code": code, "limit": limit + 1,
                  "after_base": after[0] if after else None, "after_code": after[1] if after else None}
    async with data.session(who) as db:
        rows = await (await db.execute(SQL["points"], parameters)).fetchall()
    more = len(rows) > limit
    rows = rows[:limit]
    out = []
    for row in rows:
        at, value, quality = row.pop("latest_at"), row.pop("latest_value"), row.pop("latest_quality")
        latest = None if at is None else {"at": at, "value": value, "quality": word_of(quality)}
        out.append(named(row, lang) | {"latest": latest})
    return answer({"points": out, "next": cursor_of(rows[-1]["base"], rows[-1]["code"]) if more else None})
