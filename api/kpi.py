"""GET /alerts/kpi: how the alarm system does by day: rate, floods, stale and chattering alerts (ISA-18.2)."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Query
from starlette.responses import Response

from api.access import Data, Who
from api.aggregates import BaseCode
from api.answers import Lang, answer, named
from api.catalogue import base_row
from api.store import SQL
from park.clock import local_midnight, utc_now

router = APIRouter(tags=["alerts"])


@router.get("/alerts/kpi")
async def kpi(who: Who, data: Data, lang: Lang, base: BaseCode,
              days: Annotated[int, Query(ge=1, le=366, description="Days up to today.")] = 30) -> Response:
    """Per base-local day: raised by severity, acknowledged and the median time to it, chattering (raised more than three
    times while open), stale (open longer than 24 h), floods (more than 10 in 10 minutes); what is open now; the busiest rules.
    Alerts found in late data are left out, for nobody could have answered them.
    """
    async with data.session(who) as db:
        found = await base_row(db, base)
        zone = found["timezone"]
        today = utc_now().astimezone(ZoneInfo(zone)).date()
        first = today - timedelta(days=days - 1)
        about = {"base": found["base_id"], "zone": zone, "start": local_midnight(first, zone),
                 "end": local_midnight(today + timedelta(days=1), zone)}
        by_day = await (await db.execute(SQL["kpi_days"], about)).fetchall()
        now = await (await db.execute(SQL["kpi_open"], about)).fetchone()
        rules = await (await db.execute(SQL["kpi_rules"], about)).fetchall()
    total = sum(row["raised"] for row in by_day)
    return answer({"base": base, "first_day": first, "last_day": today, "raised": total, "raised_a_day": total / days,
                   "floods": sum(row["floods"] for row in by_day), "open": now, "days": by_day,
                   "rules": [named(row, lang) for row in rules]})
