"""GET and POST /exemptions: periods that a person takes out of judgement, with who, when and why; ended, never edited."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from psycopg import AsyncCursor
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from starlette.responses import Response

from api.access import Data, Who, allowed
from api.answers import answer
from api.catalogue import base_row
from api.store import SQL, Principal
from park.errors import Conflict, InputError, NotFound

router = APIRouter(tags=["figures"])
Row = dict[str, Any]
Text = Annotated[str, Field(max_length=500)]
Marker = Annotated[Principal, Depends(allowed("operator", "admin"))]


class Mark(BaseModel):
    """A period of an outlet; without `quantity` every pollutant of it."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    base: str = Field(max_length=64)
    outlet: str = Field(max_length=64)
    quantity: str | None = Field(default=None, max_length=40)
    start: AwareDatetime
    end: AwareDatetime
    kind: Literal["start_up", "shut_down", "maintenance", "calibration", "fault", "emergency", "other",
                  "out_of_control"]
    reason: Annotated[str, Field(min_length=1, max_length=500)]
    evidence: Text = ""


class End(BaseModel):
    """Why a mark ends, and from when on; without `at` it is withdrawn as a whole."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    base: str = Field(max_length=64)
    reason: Annotated[str, Field(min_length=1, max_length=500)]
    at: AwareDatetime | None = None


@router.get("/exemptions")
async def exemptions(who: Who, data: Data, base: Annotated[str, Query(max_length=64)],
                     outlet: Annotated[str | None, Query(max_length=64)] = None,
                     withdrawn: Annotated[bool, Query(description="Also marks that are withdrawn.")] = False) -> Response:
    """Marks of a base, newest first. Marked hours are not judged against limits; their data and mass stay as they are."""
    async with data.session(who) as db:
        found = await base_row(db, base)
        rows = await (await db.execute(SQL["exemptions"], {
            "base": found["base_id"], "outlet": outlet, "withdrawn": withdrawn, "id": None})).fetchall()
    return answer({"base": base, "exemptions": rows})


@router.post("/exemptions", status_code=201)
async def mark(mark: Mark, data: Data, who: Marker) -> Response:
    """Mark a period. The next accounting pass applies it: hours with 15 marked minutes or more are out of judgement."""
    if mark.start >= mark.end:
        raise InputError(f"expected start before end, got {mark.start.isoformat()} and {mark.end.isoformat()}")
    async with data.session(who) as db:
        base = await base_row(db, mark.base)
        number = await _insert(db, base, mark.model_dump() | {"by": who.name})
        return answer(await _one(db, base, number), 201, {"Location": f"/api/v1/exemptions?base={mark.base}"})


@router.post("/exemptions/{number}/end")
async def end(number: int, end: End, data: Data, who: Marker) -> Response:
    """Withdraw a mark; with `at` inside its period a new mark holds until then. 409 when it is withdrawn already."""
    async with data.session(who) as db:
        base = await base_row(db, end.base)
        former = await _one(db, base, number)
        if former["withdrawn_at"] is not None:
            raise Conflict(f"mark {number} was withdrawn by {former['withdrawn_by']} already")
        if end.at is not None and not former["start"] < end.at < former["end"]:
            raise InputError(f"at: expected an instant inside the mark, {_iso(former['start'])} to {_iso(former['end'])}")
        await db.execute(SQL["withdraw_exemption"], {
            "base": base["base_id"], "id": number, "by": who.name, "reason": end.reason})
        shown = number if end.at is None else await _insert(db, base, former | {
            "end": end.at, "by": who.name, "reason": f"{former['reason']} ({end.reason})", "evidence": former["evidence"]})
        await db.execute(SQL["tell_catalogue"], {"base": end.base})
        return answer(await _one(db, base, shown))


async def _insert(db: AsyncCursor[Any], base: Row, mark: Row) -> int:
    row = await (await db.execute(SQL["insert_exemption"], {k: mark[k] for k in (
        "outlet", "quantity", "start", "end", "kind", "reason", "evidence", "by")} | {"base": base["base_id"]})).fetchone()
    if row is None:
        raise NotFound(f"base {base['code']} has no outlet {mark['outlet']!r}"
                       + (f" that measures {mark['quantity']}" if mark["quantity"] else ""))
    await db.execute(SQL["tell_catalogue"], {"base": base["code"]})
    return int(row["exempt_id"])


async def _one(db: AsyncCursor[Any], base: Row, number: int) -> Row:
    row: Row | None = await (await db.execute(SQL["exemptions"], {
        "base": base["base_id"], "outlet": None, "withdrawn": True, "id": number})).fetchone()
    if row is None:
        raise NotFound(f"there is no mark {number} in base {base['code']}")
    return row


def _iso(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"
