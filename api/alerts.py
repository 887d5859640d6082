"""GET /alerts, /alerts/{id} and an operator's steps: acknowledge, shelve, hand over, close (ISA-18.2)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query
from psycopg import AsyncCursor
from psycopg.types.json import Jsonb
from pydantic import AliasChoices, AwareDatetime, BaseModel, ConfigDict, Field
from starlette.responses import Response

from api.access import Data, Who, allowed
from api.answers import Lang, Language, answer, cursor_of, instant, read_cursor
from api.catalogue import base_row
from api.desk import DESK
from api.store import SQL, Principal
from park.errors import NotFound

router = APIRouter(tags=["alerts"])

State = Literal["open", "unacknowledged", "acknowledged", "active", "returned", "shelved", "suppressed", "out_of_service",
                "closed", "all"]
Severity = Literal["critical", "high", "medium", "low"]
Change = Literal["ack", "shelve", "unshelve", "comment", "assign", "close"]
AlertId = Annotated[int, Path(ge=1, le=2**63 - 1)]
NO_FILTER: dict[str, Any] = {"id": None, "base": None, "severity": None, "since": None, "state": "all", "after_at": None,
                             "after_id": None, "limit": None}


class Step(BaseModel):
    """What an operator says with a step: shelve needs `minutes` or `until` and a note, comment a note, assign `to`."""

    model_config = ConfigDict(extra="forbid")

    note: str = Field(default="", max_length=2000, validation_alias=AliasChoices("note", "reason"),
                      description="Also taken as `reason`, the word of ISA-18.2 for shelving.")
    minutes: float | None = Field(default=None, gt=0, le=7 * 24 * 60, allow_inf_nan=False)
    until: AwareDatetime | None = None
    to: str | None = Field(default=None, max_length=200)


def shown(row: dict[str, Any], lang: Language) -> dict[str, Any]:
    """An alert as the API tells it: names in both languages beside the one asked for, the explanation in that one."""
    mark = "en" if lang == "en" else "zh"
    explanation = row["explanation"] or {}
    about = {"zh": row.pop("unit_zh"), "en": row.pop("unit_en")}
    rule = {"code": row.pop("rule"), "zh": row.pop("rule_zh"), "en": row.pop("rule_en"), "kind": row.pop("kind")}
    point = {"zh": row.pop("point_zh"), "en": row.pop("point_en")}
    return row | {
        "rule": rule | {"name": rule[mark]}, "point_name": point[mark] or None, "unit_name": about[mark] or None,
        "names": {"point": point, "unit": about}, "text": explanation.get(mark) or rule[mark],
        "link": f"/?base={row['base']}&alert={row['id']}"}


async def with_shelf(db: AsyncCursor[Any], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same rows with `shelf`: who shelved an alert, why and when; None where it is not shelved."""
    ids = [row["id"] for row in rows if row["state"] == "shelved"]
    told = await (await db.execute(DESK["shelves"], {"ids": ids})).fetchall() if ids else []
    known = {row.pop("alert_id"): row for row in told}
    for row in rows:
        row["shelf"] = known.get(row["id"])
    return rows


@router.get("/alerts")
async def alerts(who: Who, data: Data, lang: Lang, state: State = "open",
                 base: Annotated[str | None, Query(max_length=64)] = None,
                 severity: Annotated[list[Severity] | None, Query(description="Repeat it for several.")] = None,
                 since: Annotated[str | None, Query(description="Opened at or after this instant.")] = None,
                 limit: Annotated[int, Query(ge=1, le=1000)] = 200, cursor: str | None = None) -> Response:
    """Alerts, newest first; those that are shelved say by whom and why (`shelf`). `next` is the cursor of the next page, null
    on the last one."""
    after = read_cursor(cursor, str, int)
    parameters = NO_FILTER | {
        "state": state, "base": base, "severity": severity, "since": instant(since, "since"),
        "after_at": instant(after[0], "cursor") if after else None, "after_id": after[1] if after else None, "limit": limit + 1}
    async with data.session(who) as db:
        if base is not None:
            await base_row(db, base)
        rows = await with_shelf(db, await (await db.execute(SQL["alerts"], parameters)).fetchall())
    more = len(rows) > limit
    rows = rows[:limit]
    following = cursor_of(rows[-1]["opened_at"], rows[-1]["id"]) if more else None
    return answer({"alerts": [shown(row, lang) for row in rows], "next": following})


@router.get("/alerts/{id}")
async def alert(id: AlertId, who: Who, data: Data, lang: Lang) -> Response:
    """One alert with every step it went through."""
    async with data.session(who) as db:
        rows = await (await db.execute(SQL["alerts"], NO_FILTER | {"id": [id], "limit": 1})).fetchall()
        if not rows:
            raise NotFound(f"there is no alert {id} that this token may see")
        await with_shelf(db, rows)
        steps = await (await db.execute(SQL["transitions_of_alert"], {"id": id})).fetchall()
    return answer(shown(rows[0], lang) | {"transitions": steps})


@router.post("/alerts/{id}/{change}")
async def step(id: AlertId, change: Change, data: Data, lang: Lang,
               who: Annotated[Principal, Depends(allowed("operator", "contractor", "admin"))],
               said: Step | None = None) -> Response:
    """One step. 409 when the alert's state forbids it; the step is on the stream as soon as it is stored."""
    said = said or Step()
    detail = {"minutes": said.minutes, "until": said.until.isoformat() if said.until else None, "to": said.to}
    async with data.session(who) as db:
        told = await (await db.execute(SQL["alert_step"], {
            "id": id, "change": change, "actor": who.name, "note": said.note,
            "detail": Jsonb({k: v for k, v in detail.items() if v is not None})})).fetchone()
        if told is None:
            raise NotFound(f"there is no alert {id} that this token may see")
        rows = await with_shelf(db, await (await db.execute(SQL["alerts"], NO_FILTER | {"id": [id], "limit": 1})).fetchall())
    return answer({"transition": told["transition"], "alert": shown(rows[0], lang)})
