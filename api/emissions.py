"""GET /emissions: the hours, days and mass of an outlet's pollutants against their limits."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.responses import Response

from api.access import Data, Who
from api.aggregates import PeriodText, emission_cells
from api.answers import Lang, answer, named
from api.figures import read_span
from api.known import AsOf, look_back
from api.store import SQL
from park.clock import utc_now
from park.errors import InputError, NotFound
from park.quantities import quantities

router = APIRouter(tags=["figures"])
HOURS_UP_TO_DAYS = 31


@router.get("/emissions")
async def emissions(who: Who, data: Data, lang: Lang,
                    outlet: Annotated[str, Query(max_length=64, description="Code of the outlet.")],
                    period: PeriodText, base: Annotated[str | None, Query(max_length=64)] = None,
                    quantity: Annotated[str | None, Query(max_length=40, description="so2, nox, cod ...")] = None,
                    as_of: AsOf = None) -> Response:
    """Each pollutant of an outlet over a period: hours valid, stopped, exempt and missing, means measured and converted to
    the reference oxygen, exceeded hours, mass with the hours substituted in it, and the capture rate.

    `days` has a row a day, `hours` a row an hour for periods of up to a month. The capture rate is valid hours over the
    hours due (stopped and exempt hours are not due).
    """
    async with data.session(who) as db:
        there = await (await db.execute(SQL["outlet"], {"outlet": outlet, "base": base})).fetchall()
        if not there:
            raise NotFound(f"there is no outlet {outlet!r} that this token may see")
        if len(there) > 1:
            raise InputError(f"outlet {outlet!r} is in the bases {', '.join(row['base'] for row in there)}: add base=")
        found = there[0]
        then = await look_back(db, found["timezone"], as_of)
        span = read_span(period, found["timezone"], then or utc_now())
        about = {"base": found["base_id"], "outlet": outlet, "quantity": quantity, "first": span.period.first_day,
                 "last": span.period.last_day, "start": span.period.start, "end": span.period.end, "unit": found["unit_id"]}
        sums = await emission_cells(db, {"base_id": found["base_id"], "code": found["base"]}, span, outlet, quantity)
        days = await (await db.execute(SQL["emission_days"], about)).fetchall()
        short = (span.period.last_day - span.period.first_day).days < HOURS_UP_TO_DAYS
        hours = await (await db.execute(SQL["emission_hours"], about)).fetchall() if short else []
        limits = await (await db.execute(SQL["limits_of_unit"], about)).fetchall()
    return answer({
        "outlet": named({k: found[k] for k in ("code", "base", "name_zh", "name_en", "medium", "o2_reference")}, lang),
        "period": period, "first_day": span.period.first_day, "last_day": span.period.last_day, "start": span.period.start,
        "end": span.period.end, "as_of": then, "limits": limits,
        "pollutants": [_pollutant(row, [d for d in days if d["quantity"] == row["quantity"]],
                                  [h for h in hours if h["quantity"] == row["quantity"]]) for row in sums]})


def _pollutant(row: dict[str, Any], days: list[dict[str, Any]], hours: list[dict[str, Any]]) -> dict[str, Any]:
    known = quantities().get(row["quantity"])
    due = row["hours_valid"] + row["hours_missing"]
    kept = ("quantity", "days", "days_valid", "hours_valid", "hours_stopped", "hours_exempt", "hours_missing", "mean_measured",
            "mean_converted", "max_converted", "hours_substituted", "hours_exceeded", "mass")
    return {k: row[k] for k in kept} | {
        "name_zh": known.zh if known else row["quantity"], "name_en": known.en if known else row["quantity"],
        "unit": known.unit if known else "", "capture_rate": row["hours_valid"] / due if due else None,
        "days": days, "hours": hours, "days_counted": row["days"]}
