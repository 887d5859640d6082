"""POST and GET /ledger: manual entries (production, value added, waste manifests, exchanges), by form or xlsx, and their audit.

An entry is never edited: a correction is a new entry that supersedes it and says why. Documents are in `api/evidence.py`.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from fastapi.exceptions import RequestValidationError
from psycopg import AsyncCursor
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from api.access import Data, Who, allowed
from api.answers import Lang, Language, answer, cursor_of, read_cursor
from api.catalogue import base_row
from api.store import SQL as STORED
from api.store import Principal
from park.database import queries
from park.errors import Conflict, Forbidden, InputError, NotFound
from park.ledger import kinds, mistakes, sentence, table
from park.ledger_forms import as_row, read_entries, template

SQL = queries(Path(__file__).with_name("ledger.sql"))
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"

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
    action: str = Field(default="", pattern=r"^[a-z_]{0,20}$")
    first_day: Day
    last_day: Day
    value: float = Field(allow_inf_nan=False)
    unit: str = Field(min_length=1, max_length=40)
    status: Literal["preliminary", "final"] = "preliminary"
    evidence: Text = ""
    note: Text = ""
    supersedes: int | None = Field(default=None, ge=1, le=2**31 - 1)
    reason: Text = ""
    documents: list[Annotated[int, Field(ge=1, le=2**31 - 1)]] = Field(default=[], max_length=20)

    def check(self, lang: Language) -> None:
        """RequestValidationError with every mistake by its field, in the language."""
        wrong = list(mistakes(self.kind, lang=lang, **self.model_dump(include={
            "item", "action", "value", "unit", "first_day", "last_day", "enterprise", "counterparty"})))
        if self.supersedes is not None and not self.reason:
            wrong.append(("reason", sentence("reason", lang)))
        if wrong:
            raise RequestValidationError([{"type": "ledger", "loc": ("body", field), "msg": text} for field, text in wrong])


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
        if base is not None:
            await base_row(db, base)
        rows = await (await db.execute(SQL["ledger"], {
            "base": base, "kind": kind, "enterprise": enterprise, "first": first_day, "last": last_day,
            "superseded": superseded, "id": None, "after": after[0] if after else None, "limit": limit + 1})).fetchall()
    more = len(rows) > limit
    return answer({"entries": rows[:limit], "next": cursor_of(rows[limit - 1]["id"]) if more else None})


@router.post("/ledger", status_code=201)
async def record(entry: Entry, data: Data, lang: Lang,
                 who: Annotated[Principal, Depends(allowed("operator", "enterprise", "admin"))]) -> Response:
    """Book an entry. A token of role enterprise books for its own enterprise only. 409 when the entry that is to be
    superseded has a correction already. Mistakes are told by field, in the language of the request."""
    entry.check(lang)
    async with data.session(who) as db:
        base = await base_row(db, entry.base)
        enterprise = await _enterprise(db, base["base_id"], entry.enterprise, lang)
        counterparty = await _enterprise(db, base["base_id"], entry.counterparty, lang)
        if who.role == "enterprise" and enterprise != who.enterprise_id:
            raise Forbidden(sentence("own_only", lang))
        if entry.supersedes is not None:
            await _supersede(db, base, entry, lang)
        row = await (await db.execute(SQL["insert_ledger"], entry.model_dump() | {
            "base": base["base_id"], "enterprise": enterprise, "counterparty": counterparty,
            "recorded_by": who.name})).fetchone()
        assert row is not None
        await _attach(db, base["base_id"], row["entry_id"], entry, lang)
        await db.execute(STORED["tell_catalogue"], {"base": entry.base})
        booked = await _one(db, row["entry_id"], entry.base)
    return answer(booked, 201, {"Location": f"/api/v1/ledger?base={entry.base}"})


async def _attach(db: AsyncCursor[Any], base_id: int, entry_id: int, entry: Entry, lang: Language) -> None:
    about = {"base": base_id, "entry": entry_id, "former": entry.supersedes, "ids": entry.documents}
    if entry.documents and (await db.execute(SQL["attach_evidence"], about)).rowcount < len(set(entry.documents)):
        raise InputError(sentence("documents", lang))
    if entry.supersedes is not None:
        await db.execute(SQL["keep_evidence_of"], about)


async def _enterprise(db: AsyncCursor[Any], base_id: int, code: str | None, lang: Language) -> int | None:
    if code is None:
        return None
    row = await (await db.execute(STORED["enterprise_by_code"], {"base": base_id, "code": code})).fetchone()
    if row is None:
        raise InputError(sentence("enterprise_hidden", lang, got=code))
    return int(row["enterprise_id"])


async def _supersede(db: AsyncCursor[Any], base: dict[str, Any], entry: Entry, lang: Language) -> None:
    await db.execute(SQL["ledger_lock"], {"id": entry.supersedes})
    former = await _one(db, entry.supersedes, entry.base)
    if former is None:
        raise NotFound(sentence("no_entry", lang, entry=entry.supersedes, base=base["code"]))
    if former["superseded_by"] is not None:
        raise Conflict(sentence("superseded", lang, entry=entry.supersedes, by=former["superseded_by"]))
    if former["kind"] != entry.kind:
        raise InputError(sentence("other_kind", lang, expected=former["kind"], got=entry.kind))


async def _one(db: AsyncCursor[Any], entry_id: int | None, base: str) -> dict[str, Any] | None:
    rows = await (await db.execute(SQL["ledger"], {
        "base": base, "kind": None, "enterprise": None, "first": None, "last": None, "superseded": True, "id": entry_id,
        "after": None, "limit": 1})).fetchall()
    return rows[0] if rows else None


@router.get("/ledger/kinds")
async def known_kinds(who: Who) -> Response:
    """Kinds that figures know, with names, units, actions and what their item is; carriers with their units."""
    return answer({"kinds": [{"code": k.code, "zh": k.zh, "en": k.en, "units": k.units, "actions": k.actions, "item": k.item,
                              "counterparty": k.counterparty} for k in kinds().values()],
                   "carriers": table()["carriers"], "carrier_names": table()["carrier_names"], "actions": table()["actions"]})


@router.get("/ledger/audit")
async def audit(who: Who, data: Data, base: Annotated[str, Query(max_length=64)],
                limit: Annotated[int, Query(ge=1, le=1000)] = 100, cursor: str | None = None) -> Response:
    """Who booked, corrected and settled what, when and why, newest first. `step`: booked, corrected or finalised; `changes`
    has each
    field that a correction changed with what it was and is."""
    after = read_cursor(cursor, int)
    async with data.session(who) as db:
        rows = await (await db.execute(SQL["audit"], {"base": base, "after": after[0] if after else None,
                                                      "limit": limit + 1})).fetchall()
    more = len(rows) > limit
    return answer({"base": base, "steps": [_step(row) for row in rows[:limit]],
                   "next": cursor_of(rows[limit - 1]["id"]) if more else None})


def _step(row: dict[str, Any]) -> dict[str, Any]:
    former = row.pop("former")
    if former is None:
        return row | {"step": "booked", "changes": {}}
    now = {k: v.isoformat() if isinstance(v, date) else v for k, v in row.items()}
    changes = {k: [v, now[k]] for k, v in former.items() if now[k] != v}
    settled = set(changes) == {"status"} and row["status"] == "final"
    return row | {"step": "finalised" if settled else "corrected", "changes": changes}


@router.get("/ledger/template.xlsx")
async def empty_template(who: Who, data: Data, base: Annotated[str, Query(max_length=64)]) -> Response:
    """An xlsx template for entries of this base; fill the sheet `entries` and send it to POST /ledger/import."""
    async with data.session(who) as db:
        found = await base_row(db, base)
        rows = await (await db.execute(SQL["form_enterprises"], {"base": found["base_id"]})).fetchall()
    content = await run_in_threadpool(template, {r["code"]: f"{r['name_zh']} · {r['name_en']}" for r in rows})
    return Response(content, media_type=XLSX, headers={"Content-Disposition": f'attachment; filename="ledger-{base}.xlsx"',
                                                       "Cache-Control": "private, no-store"})


@router.post("/ledger/import", status_code=201)
async def import_xlsx(request: Request, data: Data, lang: Lang, base: Annotated[str, Query(max_length=64)],
                      who: Annotated[Principal, Depends(allowed("operator", "enterprise", "admin"))],
                      check: Annotated[bool, Query(description="Only look for mistakes.")] = False) -> Response:
    """Book every entry of a filled template (the file itself is the body), or none: 422 names each wrong cell, in the
    language of the request."""
    content = await request.body()
    async with data.session(who) as db:
        found = await base_row(db, base)
        await db.execute(SQL["ledger_lock"], {"id": 0})
        rows = await (await db.execute(SQL["form_enterprises"], {"base": found["base_id"]})).fetchall()
        keys = await (await db.execute(SQL["form_keys"], {"base": found["base_id"]})).fetchall()
        there = {tuple(v for k, v in row.items() if k != "id"): row["id"] for row in keys}
        ids = {r["code"]: r["enterprise_id"] for r in rows}
        names = {r["code"]: (r["name_zh"], r["name_en"]) for r in rows}
        entries = await run_in_threadpool(read_entries, content, "xlsx", names, there, lang)
        if who.role == "enterprise" and any(e.enterprise is None for e in entries):
            raise Forbidden(sentence("own_rows", lang))
        booked = []
        for entry in entries if not check else ():
            row = await (await db.execute(SQL["insert_ledger"], as_row(entry) | {
                "base": found["base_id"], "enterprise": ids.get(entry.enterprise or ""), "reason": "", "supersedes": None,
                "counterparty": ids.get(entry.counterparty or ""), "recorded_by": who.name})).fetchone()
            assert row is not None
            booked.append(row["entry_id"])
        if booked:
            await db.execute(STORED["tell_catalogue"], {"base": base})
    return answer({"base": base, "rows": len(entries), "booked": booked}, 200 if check else 201)
