"""GET /alerts/kpi: how the alarm system does by day: rate, floods, stale and chattering alerts (ISA-18.2); GET /alerts/steps:
what people did with alerts."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import yaml
from fastapi import APIRouter, Query
from psycopg import AsyncCursor
from starlette.responses import Response

from api.access import Data, Who
from api.aggregates import needs_whole_base
from api.answers import Lang, Language, answer, instant, named
from api.catalogue import base_row
from api.desk import DESK
from api.store import SQL
from park.clock import local_midnight, utc_now

router = APIRouter(tags=["alerts"])
BANDS: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("kpi_bands.yaml").read_text(encoding="utf-8"))


@router.get("/alerts/kpi")
async def kpi(who: Who, data: Data, lang: Lang,
              base: Annotated[str | None, Query(max_length=64, description="Code of the base; without it, each that the token "
                                                                           "may see.")] = None,
              days: Annotated[int, Query(ge=1, le=366, description="Days up to today.")] = 30) -> Response:
    """Per base-local day: raised, closed, acknowledged and the mean time to it, the busiest ten minutes, floods (more than 10
    raises in 10 minutes), chattering (three or more raises of one alert in an hour), stale (active for more than 24 h at the
    end of the day); what is open now by severity; the busiest rules. `rate` after EEMUA 191: raises per ten minutes on average
    and at most, share of the time in flood; `acknowledging`: middle and slowest tenth (s), raises that returned within a
    minute; `grade_source` and `grade_verified`: where the band comes from, `counted_as`: what counts as a flood, as
    chattering and as stale, each with its source (the publications are cited, not verified); `top`: the ten objects that
    raise most, with their share; `severities`. Without `base`: `bases` with these figures of each, and their sums.
    """
    needs_whole_base(who)
    async with data.session(who) as db:
        if base is not None:
            return answer(await _kpi_of(db, await base_row(db, base), days, lang))
        told = [await _kpi_of(db, await base_row(db, row["code"]), days, lang) for row in
                await (await db.execute(SQL["bases"])).fetchall()]
    return answer({"base": None, "raised": sum(x["raised"] for x in told), "floods": sum(x["floods"] for x in told),
                   "raised_a_day": sum(x["raised_a_day"] for x in told), "bases": told})


@router.get("/alerts/steps")
async def steps(who: Who, data: Data, base: Annotated[str, Query(max_length=64)],
                since: Annotated[str | None, Query(description="From this instant on; without it the last day.")] = None,
                limit: Annotated[int, Query(ge=1, le=1000)] = 500) -> Response:
    """What people did with alerts of a base since an instant, the newest first: acknowledged, shelved, commented, assigned,
    closed; with who and why. The console's note of a shift is made of it."""
    needs_whole_base(who)
    async with data.session(who) as db:
        found = await base_row(db, base)
        start = instant(since, "since") or utc_now() - timedelta(days=1)
        about = {"base": found["base_id"], "start": start, "limit": limit}
        rows = await (await db.execute(DESK["steps_taken"], about)).fetchall()
    return answer({"base": base, "steps": rows})


async def _kpi_of(db: AsyncCursor[Any], found: dict[str, Any], days: int, lang: Language) -> dict[str, Any]:
    """The figures of one base."""
    zone = found["timezone"]
    today = utc_now().astimezone(ZoneInfo(zone)).date()
    first = today - timedelta(days=days - 1)
    about = {"base": found["base_id"], "first": first, "last": today, "start": local_midnight(first, zone),
             "end": local_midnight(today + timedelta(days=1), zone)}
    by_day = await (await db.execute(SQL["kpi_days"], about)).fetchall()
    now = await (await db.execute(SQL["kpi_open"], about)).fetchall()
    rules = await (await db.execute(SQL["kpi_rules"], about)).fetchall()
    rate = await (await db.execute(DESK["kpi_rate"], about)).fetchone()
    acks = await (await db.execute(DESK["kpi_ack"], about)).fetchone()
    ranks = await (await db.execute(DESK["kpi_severities"], about)).fetchall()
    top = await (await db.execute(DESK["kpi_top"], about)).fetchall()
    total = sum(row["raised"] for row in by_day)
    return {"base": found["code"], "first_day": first, "last_day": today, "raised": total, "raised_a_day": total / days,
            "floods": sum(row["floods"] for row in by_day), "open": now, "days": by_day,
            "rules": [named(row, lang) for row in rules], "rate": rate_of(rate or {}), "acknowledging": acks,
            "severities": {row["severity"]: row["raised"] for row in ranks},
            "top": [named(row, lang) for row in top],
            "top_share": sum(row["raised"] for row in top) / total if total else None}


def rate_of(row: dict[str, Any]) -> dict[str, Any]:
    """The rate with its grade, and the band that gave it with its source (`kpi_bands.yaml`)."""
    stretches = row.get("stretches") or 0
    mean = row["raised"] / stretches if stretches else None
    band = {} if mean is None else next(b for b in BANDS["rate"] if mean < b["most"])
    return {"per_10min": mean, "peak_10min": row.get("peak", 0), "peak_at": row.get("peak_at"), "grade": band.get("grade"),
            "grade_source": band.get("source"), "grade_verified": band.get("verified"), "counted_as": BANDS["counts"],
            "flood_share": row["in_flood"] / stretches if stretches else None}
