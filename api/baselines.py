"""GET /baselines: expected energy after ISO 50006, models with their quality, savings against them by month and year."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.responses import Response

from api.access import Data, Who
from api.aggregates import BaseCode
from api.answers import Lang, answer, named
from api.catalogue import base_row
from api.known import AsOf, look_back
from api.store import SQL

router = APIRouter(tags=["figures"])


@router.get("/baselines")
async def baselines(who: Who, data: Data, lang: Lang, base: BaseCode,
                    point: Annotated[str | None, Query(max_length=64, description="Code of a counter.")] = None,
                    superseded: Annotated[bool, Query(description="Also baselines that a newer one replaced.")] = False,
                    as_of: AsOf = None) -> Response:
    """Baselines of counters: period, variables with coefficient and standard error, adjusted R², CV(RMSE), static factors, why
    it was made anew; and `savings` by month and year: expected, actual, saved with the half width of its 95 % interval, days
    compared, not known and outside the range of the baseline. `park baseline fit` makes one."""
    async with data.session(who) as db:
        found = await base_row(db, base)
        then = await look_back(db, found["timezone"], as_of)
        about = {"base": found["base_id"], "point": point, "superseded": superseded}
        rows = await (await db.execute(SQL["baselines"], about)).fetchall()
        savings = await (await db.execute(SQL["baseline_savings"], about | {"ids": [r["id"] for r in rows]})).fetchall()
    out: list[dict[str, Any]] = []
    for row in rows:
        mine = [{k: v for k, v in s.items() if k != "baseline_id"} for s in savings if s["baseline_id"] == row["id"]]
        out.append(named(row, lang) | {"savings": mine})
    return answer({"base": base, "as_of": then, "baselines": out})
