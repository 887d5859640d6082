"""GET and POST /cases: what is done about a pollution alert, step by step, until somebody else has verified it.

dispatch → accept → handle → evidence → verify → close. Every step is a row with who, when, a note, and the SHA-256 of the
evidence. The file is kept where it was sent to POST /evidence, or stays with its owner; the hash shows that it is the same one.
"""

from __future__ import annotations

import csv
import io
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from fastapi import Path as InPath
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from starlette.responses import Response

from api.access import Data, Who, allowed
from api.answers import Lang, Language, answer, instant
from api.catalogue import base_row
from api.desk import DESK, OPERATORS
from api.store import Principal
from park.errors import Forbidden, NotFound

router = APIRouter(tags=["cases"])

Base = Annotated[str, Query(max_length=64)]
State = Literal["open", "all", "dispatched", "accepted", "handling", "evidenced", "verified", "closed"]
CaseId = Annotated[int, InPath(ge=1, le=2**31 - 1)]
Handler = Annotated[Principal, Depends(allowed(*OPERATORS, "enterprise"))]
OF_ENTERPRISE = ("accept", "handle", "evidence", "comment")
FIELDS = ("id", "state", "severity", "rule", "name", "place", "enterprise", "handler", "opened_at", "due_at", "overdue",
          "accepted_at", "handled_at", "evidenced_at", "n_evidence", "verified_at", "verified_by", "closed_at", "alert", "text")


class Dispatch(BaseModel):
    """A new case: about which alert, who handles it, until when."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    alert: int = Field(ge=1, le=2**63 - 1)
    handler: str = Field(min_length=1, max_length=200)
    due_at: AwareDatetime | None = None
    note: str = Field(default="", max_length=2000)


class Said(BaseModel):
    """What is said with a step: handle, verify, refuse and comment need a note, evidence a file's name and its SHA-256."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    note: str = Field(default="", max_length=2000)
    handler: str = Field(default="", max_length=200)
    due_at: AwareDatetime | None = None
    attachment: str = Field(default="", max_length=255)
    sha256: str = Field(default="", pattern=r"^([0-9a-f]{64})?$")


def shown(row: dict[str, Any], lang: Language) -> dict[str, Any]:
    """A case with names in both languages and the text of its alert in the one asked for."""
    explanation = row.pop("explanation") or {}
    name = row["name_en" if lang == "en" else "name_zh"]
    place = row["unit_en" if lang == "en" else "unit_zh"] or row["point"]
    return row | {"name": name, "place": place, "text": explanation.get(lang) or name}


@router.get("/cases", responses={200: {"content": {"text/csv": {}}}})
async def cases(request: Request, who: Who, data: Data, lang: Lang, base: Base, state: State = "open", start: str | None = None,
                end: str | None = None, alert: Annotated[int | None, Query(ge=1, le=2**63 - 1)] = None) -> Response:
    """Cases of a base, the newest first; CSV when `Accept: text/csv`: the list of a report."""
    rows = await _read(who, data, lang, base, state=state, start=instant(start, "start"), end=instant(end, "end"), alert=alert)
    if "text/csv" in request.headers.get("accept", ""):
        return Response(_csv(rows), media_type="text/csv; charset=utf-8", headers={
            "Cache-Control": "private, no-store", "Content-Disposition": f'attachment; filename="cases-{base}.csv"'})
    return answer({"base": base, "cases": rows})


@router.get("/cases/{id}")
async def case(who: Who, data: Data, lang: Lang, base: Base, id: CaseId) -> Response:
    """One case with every step."""
    rows = await _read(who, data, lang, base, id=id)
    if not rows:
        raise NotFound(f"there is no case {id} in base {base} that this token may see")
    async with data.session(who) as db:
        found = await base_row(db, base)
        steps = await (await db.execute(DESK["case_steps"], {"base": found["base_id"], "id": id})).fetchall()
    return answer(rows[0] | {"steps": steps})


@router.post("/cases", status_code=201)
async def dispatch(data: Data, base: Base, said: Dispatch,
                   who: Annotated[Principal, Depends(allowed(*OPERATORS))]) -> Response:
    """Open a case of an alert. 409 when it has one that is open."""
    return answer(await _step(who, data, base, None, "dispatch", **said.model_dump()), 201)


@router.post("/cases/{id}/{step}")
async def take_step(data: Data, base: Base, id: CaseId, who: Handler,
                    step: Literal["dispatch", "accept", "handle", "evidence", "verify", "refuse", "close", "comment"],
                    said: Said | None = None) -> Response:
    """One step. An enterprise accepts, handles, gives evidence and comments; nobody verifies what he handled himself. 409 when
    the state forbids the step."""
    said = said or Said()
    if who.role == "enterprise" and step not in OF_ENTERPRISE:
        raise Forbidden(f"{step} is a step of the base's operators; an enterprise takes {', '.join(OF_ENTERPRISE)}")
    return answer(await _step(who, data, base, id, step, note=said.note, handler=said.handler, due_at=said.due_at,
                              attachment=said.attachment, hash=said.sha256))


NO_STEP: dict[str, Any] = {"alert": None, "note": "", "handler": "", "due_at": None, "attachment": "", "hash": ""}
NO_FILTER: dict[str, Any] = {"id": None, "alert": None, "state": "all", "start": None, "end": None}


async def _step(who: Principal, data: Data, base: str, id: int | None, step: str, **said: Any) -> dict[str, Any]:
    async with data.session(who) as db:
        found = await base_row(db, base)
        row = await (await db.execute(DESK["step_case"], NO_STEP | said | {
            "base": found["base_id"], "id": id, "step": step, "actor": who.name})).fetchone()
    assert row is not None
    return dict(row)


async def _read(who: Principal, data: Data, lang: Language, base: str, **asked: Any) -> list[dict[str, Any]]:
    async with data.session(who) as db:
        found = await base_row(db, base)
        rows = await (await db.execute(DESK["cases"], NO_FILTER | asked | {"base": found["base_id"]})).fetchall()
    return [shown(row, lang) for row in rows]


def _csv(rows: list[dict[str, Any]]) -> str:
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\r\n")
    table.writerow(FIELDS)
    for row in rows:
        table.writerow([_cell(row[name]) for name in FIELDS])
    return "\ufeff" + out.getvalue()    # a spreadsheet takes it for UTF-8 by this mark


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    text = value.isoformat() if hasattr(value, "isoformat") else value
    # a spreadsheet would run what begins so
    return f"'{text}" if isinstance(text, str) and text[:1] in ("=", "+", "-", "@", "\t") else text
