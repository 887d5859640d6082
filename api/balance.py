"""GET /balance: parent meters against their children with the uncertainty of the remainder, and the same as a Sankey
diagram."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from psycopg import AsyncCursor
from starlette.responses import Response

from api.access import Data, Who
from api.aggregates import BaseCode, PeriodText, needs_whole_base
from api.answers import Lang, answer, named
from api.catalogue import base_row
from api.figures import Figure, Part, coverage_of, read_span
from api.known import AsOf, look_back
from api.sankey import sankey
from park.clock import utc_now
from park.database import queries
from park.errors import InputError, NotFound

SQL = queries(Path(__file__).with_name("balance.sql"))
router = APIRouter(tags=["figures"])
Row = dict[str, Any]
LONGEST = timedelta(days=32)


@router.get("/balance")
async def balance(
    who: Who,
    data: Data,
    lang: Lang,
    base: BaseCode,
    period: PeriodText,
    carrier: Annotated[str | None, Query(max_length=40, description="electricity, natural_gas, water ...")] = None,
    as_of: AsOf = None,
) -> Response:
    """Parents, the sum of their children, and what is unaccounted for (losses, or loads without a meter).

    `unaccounted` adds up only the days on which parent and every child are known; `share` relates it to the parent on those
    days. `uncertainty` (k = 2) comes from the accuracy classes of parent and children: of the point, its device, the row of the
    device's template (`accuracies`); a virtual point stands for the meters in its formula. `significant` says whether the
    remainder is larger than that; `assumed` names meters without a class, for which the row of their carrier is taken.
    `loss_expected` is what the flows declare as loss by design. `nodes` and `links` are a Sankey diagram: what a parent shows
    is exactly what leaves it, by links to its children and to the nodes `loss:P`, `unaccounted:P`, `not_known:P`; `surplus:P`
    gives to a parent whose children show more than itself. `figure` is the name of a meter's amount for /trace.
    A child without a known amount keeps its link with value null.
    """
    needs_whole_base(who)
    async with data.session(who) as db:
        found = await base_row(db, base)
        if carrier is not None:
            await _known_carrier(db, carrier)
        then = await look_back(db, found["timezone"], as_of)
        span = read_span(period, found["timezone"], then or utc_now())
        about = {"base": found["base_id"], "first": span.period.first_day, "last": span.period.last_day, "carrier": carrier}
        rows = await (await db.execute(SQL["balances"], about)).fetchall()
        used = sorted({i for row in rows for i in row["accuracy_ids"]})
        classes = await (await db.execute(SQL["accuracies"], {"ids": used})).fetchall()
        flows = await (await db.execute(SQL["flow_links"], about)).fetchall()
        codes = sorted({flow[end] for flow in flows for end in ("parent", "child")})
        meters = await (await db.execute(SQL["flow_nodes"], about | {"codes": codes})).fetchall()
    nodes, links = sankey(
        [_node(node, span.days_due) | {"figure": str(Figure(base, period, "point", node["id"], node["carrier"], "energy"))}
         for node in meters],
        [flow | {"value": flow["amount"], "coverage": _coverage(flow, span.days_due)} for flow in flows],
        rows,
    )
    return answer(
        {
            "base": base,
            "period": period,
            "as_of": then,
            "carrier": carrier,
            "first_day": span.period.first_day,
            "last_day": span.period.last_day,
            "start": span.period.start,
            "end": span.period.end,
            "balances": [_balance(named(row, lang), span.days_due) for row in rows],
            "accuracies": classes,
            "nodes": [named(node, lang) for node in nodes],
            "links": links,
        }
    )


async def _known_carrier(db: AsyncCursor[Any], carrier: str) -> None:
    """InputError for a carrier that there is not: an empty answer would say that the base has no balance of it."""
    known = [row["carrier"] for row in await (await db.execute(SQL["carriers"])).fetchall()]
    if carrier not in known:
        raise InputError(f"carrier: expected one of {', '.join(known)}, got {carrier!r}")


def _coverage(row: Row, days_due: int) -> float | None:
    return coverage_of([Part(None, row["days"] or 0, row["n_expected"] or 0, row["n_known"] or 0, 0)], days_due)


def _balance(row: Row, days_due: int) -> Row:
    rest, parent, uncertainty = row["unaccounted"], row.pop("parent_balanced"), row["uncertainty"]
    return row | {
        "share": rest / parent if rest is not None and parent else None,
        "share_uncertainty": uncertainty / parent if uncertainty is not None and parent else None,
        "significant": None if rest is None or uncertainty is None else abs(rest) > uncertainty,
        "coverage": _coverage(row, days_due),
    }


def _node(row: Row, days_due: int) -> Row:
    kept = ("id", "name_zh", "name_en", "carrier", "direction", "boundary", "unit_code", "enterprise", "unit")
    return {k: row[k] for k in kept} | {"kind": "meter", "value": row["amount"], "coverage": _coverage(row, days_due)}


@router.get("/balance/series")
async def series(
    who: Who,
    data: Data,
    base: BaseCode,
    parent: Annotated[str, Query(max_length=64, description="Code of a parent meter.")],
    period: PeriodText,
    resolution: Annotated[Literal["15m", "1h", "1d"], Query()] = "15m",
    as_of: AsOf = None,
) -> Response:
    """A parent against its children in each interval of a day or a month; a slot with a member that is not known has no
    remainder (and so has an hour or a day with such a slot). `uncertainty` (k = 2) of the remainder comes from the meters'
    classes, as at /balance; a class errs alike in every slot, so that of an hour is no smaller a share than that of a quarter.

    With `as_of` the slots as they were known then. Where a gap of a member's day was filled later it cannot be told which of
    its slots were there: they are not known, and `certain` is false.
    """
    needs_whole_base(who)
    async with data.session(who) as db:
        found = await base_row(db, base)
        then = await look_back(db, found["timezone"], as_of)
        until = then or utc_now()
        span = read_span(period, found["timezone"], until)
        if span.period.end - span.period.start > LONGEST:
            raise InputError(f"expected a day or a month, got {period!r}")
        meter = await (await db.execute(SQL["parent_meter"], {"base": found["base_id"], "code": parent})).fetchone()
        if meter is None:
            raise NotFound(f"there is no meter {parent!r} in base {base!r}")
        rows = await (
            await db.execute(
                SQL["balance_slots"],
                {
                    "base": found["base_id"],
                    "parent": meter["point_id"],
                    "start": span.period.start,
                    "end": min(span.period.end, max(until, span.period.start)),
                    "last": span.period.last_day,
                    "step": {"15m": "15 minutes", "1h": "1 hour", "1d": "1 day"}[resolution],
                },
            )
        ).fetchall()
    return answer(
        {
            "base": base,
            "period": period,
            "parent": parent,
            "carrier": meter["carrier"],
            "unit": meter["unit"],
            "resolution": resolution,
            "as_of": then,
            "slots": rows,
        }
    )
