"""POST and GET /ledger: manual entries (production, value added, waste manifests, exchanges) with their evidence.

An entry is never edited: a correction is a new entry that supersedes it.
"""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from psycopg import AsyncCursor
from pydantic import BaseModel, ConfigDict, Field, model_validator
from starlette.responses import Response

from api.access import Data, Who, allowed
from api.answers import answer, cursor_of, read_cursor
from api.catalogue import base_row
from api.store import SQL, Principal
from park.errors import Conflict, Forbidden, InputError, NotFound

router = APIRouter(tags=["ledger"])

Text = Annotated[str, Field(max_length=500)]
Day = Annotated[date, Field(ge=date(1970, 1, 1), le=date(2200, 12, 31))]


class Entry(BaseModel):
    """A new entry. `kind`: production, output_value, value_added, solid_waste, hazardous_waste, exchange ..."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    base: str = Field(max_length=64)
    kind: str = Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")
    enterprise: str | None = Field(default=None, max_length=64)
    counterparty: str | None = Field(default=None, max_length=64)
    item: Text = ""
    action: Literal["", "generated", "stored", "used", "disposed", "moved"] = ""
    first_day: Day
    last_day: Day
    value: float = Field(allow_inf_nan=False)
    unit: str = Field(min_length=1, max_length=40)
    status: Literal["preliminary", "final"] = "preliminary"
    evidence: Text = ""
    note: Text = ""
    supersedes: int | None = Field(default=None, ge=1, le=2**31 - 1)

    @model_validator(mode="after")
    def _ordered(self) -> Entry:
        if self.last_day < self.first_day:
            raise ValueError(f"expected first_day <= last_day, got {self.first_day} and {self.last_day}")
        return self


@router.get("/ledger")
async def entries(who: Who, data: Data, base: Annotated[str | None, Query(max_length=64)] = None,
                  kind: Annotated[str | None, Query(max_length=40)] = None,
                  enterprise: Annotated[str | None, Query(max_length=64)] = None,
                  first_day: Annotated[Day | None, Query(description="Entries that end on or after it.")] = None,
                  last_day: Annotated[Day | None, Query(description="Entries that begin on or before it.")] = None,
                  superseded: Annotated[bool, Query(description="Also entries that a correction replaced.")] = False,
                  limit: Annotated[int, Query(ge=1, le=1000)] = 200, cursor: str | None = None) -> Response:
    """Entries, newest first. `next` is the cursor of the next page, null on the last one."""
    after = read_cursor(cursor, int)
    async with data.session(who) as db:
        rows = await (await db.execute(SQL["ledger"], {
            "base": base, "kind": kind, "enterprise": enterprise, "first": first_day, "last": last_day,
            "superseded": superseded, "id": None, "after": after[0] if after else None, "limit": limit + 1})).fetchall()
    more = len(rows) > limit
    return answer({"entries": rows[:limit], "next": cursor_of(rows[limit - 1]["id"]) if more else None})


@router.post("/ledger", status_code=201)
async def record(entry: Entry, data: Data,
                 who: Annotated[Principal, Depends(allowed("operator", "enterprise", "admin"))]) -> Response:
    """Book an entry. A token of role enterprise books for its own enterprise only. 409 when the entry that is to be
    superseded has a correction already."""
    async with data.session(who) as db:
        base = await base_row(db, entry.base)
        enterprise = await _enterprise(db, base["base_id"], entry.enterprise)
        counterparty = await _enterprise(db, base["base_id"], entry.counterparty)
        if who.role == "enterprise" and enterprise != who.enterprise_id:
            raise Forbidden("a token of role enterprise books for its own enterprise: give its code as `enterprise`")
        if entry.supersedes is not None:
            await _supersede(db, base, entry)
        row = await (await db.execute(SQL["insert_ledger"], entry.model_dump() | {
            "base": base["base_id"], "enterprise": enterprise, "counterparty": counterparty,
            "recorded_by": who.name})).fetchone()
        assert row is not None
        await db.execute(SQL["tell_catalogue"], {"base": entry.base})
        booked = await _one(db, row["entry_id"], entry.base)
    return answer(booked, 201, {"Location": f"/api/v1/ledger?base={entry.base}"})


async def _enterprise(db: AsyncCursor[Any], base_id: int, code: str | None) -> int | None:
    if code is None:
        return None
    row = await (await db.execute(SQL["enterprise_by_code"], {"base": base_id, "code": code})).fetchone()
    if row is None:
        raise InputError(f"there is no enterprise {code!r} in this base that this token may see")
    return int(row["enterprise_id"])


async def _supersede(db: AsyncCursor[Any], base: dict[str, Any], entry: Entry) -> None:
    await db.execute(SQL["ledger_lock"], {"id": entry.supersedes})
    former = await _one(db, entry.supersedes, entry.base)
    if former is None:
        raise NotFound(f"there is no ledger entry {entry.supersedes} in base {base['code']} that this token may see")
    if former["superseded_by"] is not None:
        raise Conflict(f"ledger entry {entry.supersedes} was superseded by {former['superseded_by']} already; correct that one")
    if former["kind"] != entry.kind:
        raise InputError(f"expected a correction of the same kind ({former['kind']}), got {entry.kind}")


async def _one(db: AsyncCursor[Any], entry_id: int | None, base: str) -> dict[str, Any] | None:
    rows = await (await db.execute(SQL["ledger"], {
        "base": base, "kind": None, "enterprise": None, "first": None, "last": None, "superseded": True, "id": entry_id,
        "after": None, "limit": 1})).fetchall()
    return rows[0] if rows else None
