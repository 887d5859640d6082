"""GET /resources: water and its reuse, what is made inside and passed on, stores of waste, exchanges on both sides, land."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from api.access import Data, Who
from api.aggregates import BaseCode, PeriodText, needs_whole_base
from api.answers import answer
from api.catalogue import base_row
from api.figures import TRUSTED, Part, coverage_of, read_span
from api.known import AsOf, look_back
from park.clock import utc_now
from park.database import queries

SQL = queries(Path(__file__).with_name("resources.sql"))
PARTS = ("water", "made", "passed_on", "waste", "exchanges", "postings", "land", "waste_heat")
router = APIRouter(tags=["figures"])


@router.get("/resources")
async def resources(who: Who, data: Data, base: BaseCode, period: PeriodText, as_of: AsOf = None) -> Response:
    """Resources of a base and period.

    `water`: fresh, reclaimed and recirculated water in m3, discharge of the outlets, what is consumed, reuse rate (the row
    without an
    enterprise is the base). `made`: steam, heat and media made inside from another carrier. `passed_on`: metered exchanges and
    cascades. `waste`: stores in t, with `negative_days` on which more had left than was there, and `stored_differs` where
    manifests
    of storing disagree with the store. `exchanges`: each once, with the receiver's word; `postings` both sides, zero in sum.
    `land` in
    ha; `waste_heat` in GJ. What nobody measured or booked is null, never zero.
    """
    needs_whole_base(who)
    async with data.session(who) as db:
        found = await base_row(db, base)
        span = read_span(period, found["timezone"], utc_now())
        then = await look_back(db, found["timezone"], as_of)
        about = {"base": found["base_id"], "first": span.period.first_day, "last": span.period.last_day}
        parts: dict[str, Any] = {name: await (await db.execute(SQL[name], about)).fetchall() for name in PARTS}
    for row in parts["water"]:
        row["coverage"] = coverage_of([Part(row["fresh"], row["days"], row["n_expected"], row["n_known"], 0)], span.days_due)
        if row["coverage"] is None or row["coverage"] < TRUSTED:  # booked water is of the whole period, metered water is not
            row["reuse_rate"] = row["consumed"] = None
    return answer(
        {"base": base, "period": period, "as_of": then, "first_day": span.period.first_day, "last_day": span.period.last_day}
        | parts
    )
