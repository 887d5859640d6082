"""GET /emissions: the hours, days, months and mass of an outlet's pollutants against their limits, and the layers below."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query
from psycopg import AsyncCursor
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
Row = dict[str, Any]
HOURS_UP_TO_DAYS = 31
LAYERS_UP_TO_DAYS = 7


@router.get("/emissions")
async def emissions(who: Who, data: Data, lang: Lang,
                    outlet: Annotated[str, Query(max_length=64, description="Code of the outlet.")],
                    period: PeriodText, base: Annotated[str | None, Query(max_length=64)] = None,
                    quantity: Annotated[str | None, Query(max_length=40, description="so2, nox, cod ...")] = None,
                    layers: Annotated[bool, Query(description="Also the layers of each hour; for up to seven days.")] = False,
                    as_of: AsOf = None) -> Response:
    """Each pollutant of an outlet over a period: hours valid, stopped, exempt and missing, means measured and converted to
    the reference oxygen, exceeded hours, mass with the hours substituted in it, and the capture rate.

    `days` and `months` have a row each, `hours` a row an hour for periods of up to a month. The capture rate is hours with
    valid data, exempt ones too, over hours due; stopped hours are not due. `rates` has it by quarter with the substitution rule
    that follows, and the transmission rate, valid rate and their product (传输有效率), in which stopped and marked hours take
    no part (`hours_due`, `hours_marked`). Marked hours are out of judgement and listed in `exemptions`; `exempt_year` has the
    hours marked in the year by kind beside the outlet's cap. With `layers` each hour has `raw` (mean of every number sent),
    `flagged` (readings by flag), `replaced` (samples that a later arrival replaced), `revised` (what the hour no longer says,
    when, by whom, why) and `exempted` (its mark).
    """
    async with data.session(who) as db:
        found = await _outlet(db, outlet, base)
        then = await look_back(db, found["timezone"], as_of)
        span = read_span(period, found["timezone"], then or utc_now())
        n_days = (span.period.last_day - span.period.first_day).days + 1
        if layers and n_days > LAYERS_UP_TO_DAYS:
            raise InputError(f"layers: expected a period of up to {LAYERS_UP_TO_DAYS} days, got {n_days}")
        about = {"base": found["base_id"], "outlet": outlet, "quantity": quantity, "first": span.period.first_day,
                 "last": span.period.last_day, "start": span.period.start, "end": span.period.end, "unit": found["unit_id"]}

        async def rows(name: str, wanted: bool = True) -> list[Row]:
            return await (await db.execute(SQL[name], about)).fetchall() if wanted else []

        sums = await emission_cells(db, {"base_id": found["base_id"], "code": found["base"]}, span, outlet, quantity)
        days, months = await rows("emission_days"), await rows("emission_months", n_days >= 28)
        hours = await rows("emission_hours", n_days <= HOURS_UP_TO_DAYS)
        limits, rates, marks = await rows("limits_of_unit"), await rows("emission_rates"), await rows("emission_marks")
        yearly = await rows("emission_exempt_year")
        below, former = await rows("emission_layers", layers), await rows("emission_former_hours", layers)
    if layers:
        hours = [_layered(hour, below, former, marks) for hour in hours]
    told = {k: found[k] for k in ("code", "base", "name_zh", "name_en", "medium", "o2_reference", "judged_by")}
    return answer({
        "outlet": named(told, lang),
        "period": period, "first_day": span.period.first_day, "last_day": span.period.last_day, "start": span.period.start,
        "end": span.period.end, "as_of": then, "limits": limits, "exemptions": marks, "exempt_year": yearly,
        "pollutants": [_pollutant(row, *(_of(row["quantity"], part) for part in (days, months, hours, rates)))
                       for row in sums]})


async def _outlet(db: AsyncCursor[Any], outlet: str, base: str | None) -> Row:
    there = await (await db.execute(SQL["outlet"], {"outlet": outlet, "base": base})).fetchall()
    if not there:
        raise NotFound(f"there is no outlet {outlet!r} that this token may see")
    if len(there) > 1:
        raise InputError(f"outlet {outlet!r} is in the bases {', '.join(row['base'] for row in there)}: add base=")
    found: Row = there[0]
    return found


def _of(quantity: str, rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row["quantity"] == quantity]


def _layered(hour: Row, below: Sequence[Row], former: Sequence[Row], marks: Sequence[Row]) -> Row:
    """An hour with what lies below it."""
    def here(rows: Sequence[Row]) -> list[Row]:
        return [{k: v for k, v in r.items() if k not in ("quantity", "at")} for r in rows
                if r["quantity"] == hour["quantity"] and r["at"] == hour["at"]]

    raw: Row = next(iter(here(below)), {"raw": None, "n": 0, "flags": {}, "replaced": 0, "replaced_former": None})
    return hour | {"layers": {
        "raw": raw["raw"], "readings": raw["n"], "flagged": raw["flags"], "replaced": raw["replaced"],
        "replaced_former": raw["replaced_former"], "revised": here(former),
        "exempted": next((m for m in marks if m["id"] == hour["exempt_id"]), None)}}


def _pollutant(row: Row, days: list[Row], months: list[Row], hours: list[Row], rates: list[Row]) -> Row:
    known = quantities().get(row["quantity"])
    captured = row["hours_valid"] + row["hours_exempt"]
    due = captured + row["hours_missing"]
    kept = ("quantity", "days", "days_valid", "hours_valid", "hours_stopped", "hours_exempt", "hours_missing", "mean_measured",
            "mean_converted", "max_converted", "hours_substituted", "hours_exceeded", "mass")
    return {k: row[k] for k in kept} | {
        "name_zh": known.zh if known else row["quantity"], "name_en": known.en if known else row["quantity"],
        "unit": known.unit if known else "", "capture_rate": captured / due if due else None,
        "days": days, "months": months, "hours": hours, "rates": rates, "days_counted": row["days"]}
