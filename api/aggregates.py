"""GET /aggregates: energy, coal equivalent, CO2, cost, water and emission mass of a period, each cell with its coverage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, get_args

from fastapi import APIRouter, Query
from psycopg import AsyncCursor
from starlette.responses import Response

from api.access import Data, Who
from api.answers import Lang, answer
from api.catalogue import base_row
from api.figures import CONVERTED, MEASURES, Figure, Measure, Part, Span, cell, grade_of, read_span
from api.known import AsOf, look_back
from api.store import SQL, Principal
from park.clock import utc_now
from park.errors import Forbidden, InputError

router = APIRouter(tags=["figures"])

Row = dict[str, Any]
GROUPS = ("carrier", "enterprise", "unit")
OF_ENERGY = tuple(m for m in get_args(Measure) if m != "mass")
PeriodText = Annotated[str, Query(max_length=10, description="Base-local: 2026, 2026-Q3, 2026-11 or 2026-11-23.")]
BaseCode = Annotated[str, Query(max_length=64, description="Code of the base.")]


def part_of(row: Row, measure: str) -> Part:
    """One row's share in a figure."""
    column, _ = MEASURES[measure]
    factors = [*row["factor_ids"]] if measure in CONVERTED else []
    if measure == "co2_market":
        factors += row["market_factor_ids"]
    return Part(row[column], row["days"], row["n_expected"], row["n_known"], row["n_good"], row["estimated"], factors,
                measure == "energy" or row[f"has_{column}"], grade_of(row["amount"], row["estimated"], row.get("billed")))


def scope_of(row: Row) -> tuple[str, str]:
    """(scope, code) of a row: its unit, its enterprise or the whole base."""
    if row["unit"]:
        return "unit", row["unit"]
    return ("enterprise", row["enterprise"]) if row["enterprise"] else ("base", "")


async def energy_rows(db: AsyncCursor[Any], who: Principal, base_id: int, span: Span, groups: Sequence[str],
                      carrier: str | None = None) -> list[Row]:
    """Sums a carrier and scope; an enterprise's token gets its own enterprise instead of the base."""
    query = "unit_rows" if "unit" in groups else "energy_rows"
    rows: list[Row] = await (await db.execute(SQL[query], {
        "base": base_id, "first": span.period.first_day, "last": span.period.last_day, "own": who.enterprise_id,
        "carrier": carrier, "enterprises": "enterprise" in groups})).fetchall()
    return rows


def _by_carrier(base: str, rows: Sequence[Row], span: Span) -> list[Row]:
    out = []
    for row in rows:
        scope, code = scope_of(row)
        cells = {m: cell(Figure(base, span.period.text, scope, code, row["carrier"], m), [part_of(row, m)],
                         MEASURES[m][1] or row["measure_unit"], span.days_due) for m in OF_ENERGY}
        out.append({"carrier": row["carrier"], "enterprise": row["enterprise"], "unit": row["unit"], "cells": cells,
                    "generation": row["generation"], "export": row["export"]})
    return out


def _over_carriers(base: str, rows: Sequence[Row], span: Span) -> list[Row]:
    """Rows of all carriers of a scope in one: what can be added is, and the water beside it."""
    scopes: dict[tuple[str | None, str | None], list[Row]] = {}
    for row in rows:
        scopes.setdefault((row["enterprise"], row["unit"]), []).append(row)
    out = []
    for (enterprise, unit), members in scopes.items():
        scope, code = scope_of(members[0])
        cells = {m: cell(Figure(base, span.period.text, scope, code, "all", m), [part_of(r, m) for r in members],
                         MEASURES[m][1], span.days_due) for m in OF_ENERGY if m != "energy"}
        water = [r for r in members if r["carrier"] == "water"]
        if water:
            cells["water"] = cell(Figure(base, span.period.text, scope, code, "water", "energy"),
                                  [part_of(r, "energy") for r in water], water[0]["measure_unit"], span.days_due)
        out.append({"enterprise": enterprise, "unit": unit, "carriers": [r["carrier"] for r in members], "cells": cells})
    return out


async def emission_cells(db: AsyncCursor[Any], base: Row, span: Span, outlet: str | None = None,
                         quantity: str | None = None) -> list[Row]:
    """A row an outlet and pollutant with its mass; coverage is valid hours over hours due."""
    rows = await (await db.execute(SQL["emission_rows"], {
        "base": base["base_id"], "first": span.period.first_day, "last": span.period.last_day, "outlet": outlet,
        "quantity": quantity})).fetchall()
    out = []
    for row in rows:
        due = row["hours_valid"] + row["hours_missing"]
        figure = Figure(base["code"], span.period.text, "outlet", row["outlet"], row["quantity"], "mass")
        part = Part(row["mass_kg"], 1, due, row["hours_valid"], row["hours_valid"], float(row["hours_substituted"]))
        out.append(row | {"mass": cell(figure, [part], "kg", 1)})
    return out


@router.get("/aggregates")
async def aggregates(who: Who, data: Data, lang: Lang, base: BaseCode, period: PeriodText,
                     by: Annotated[str, Query(max_length=40, description="carrier, enterprise, unit, or several of "
                                                                         "them with commas.")] = "carrier",
                     as_of: AsOf = None) -> Response:
    """Figures of a base and period. Each cell: value, unit, coverage, quality, grade (A metered, B with bills, C more than a
    tenth estimated), the factor rows used, and its name for /trace.

    `coverage` is of records (`coverage_basis`): known quarter-hours over those due, every meter's alike, also over several
    carriers, as completeness is asked of online monitoring. An indicator's weighs carriers by their part of the sum, so that
    the two differ where a small carrier has gaps.

    Rows by unit are those of the units' own meters, which may include the meters below: they do not add up to the base.
    Without `carrier` in `by`, rows add up over carriers and water stands beside them. `totals` is always of the whole scope.
    Figures are those of the newest accounting pass (`accounted`), or with `as_of` those that were shown at that instant, with
    the factor rows known then; days to come at that instant are not due. Before anything was known there are no rows.
    `begins_later` names counters of these totals (enterprise null: the base's) that began within the period and have no meter
    on record: the days before are not missing them, and nothing tells whether anything flowed there.
    """
    groups = [part.strip() for part in by.split(",") if part.strip()]
    if not groups or set(groups) - set(GROUPS):
        raise InputError(f"by: expected {', '.join(GROUPS)} or several of them with commas, got {by!r}")
    async with data.session(who) as db:
        found = await base_row(db, base)
        then = await look_back(db, found["timezone"], as_of)
        span = read_span(period, found["timezone"], then or utc_now())
        accounted = await (await db.execute(SQL["accounted"], {"base": found["base_id"]})).fetchall() if then is None else []
        rows = await energy_rows(db, who, found["base_id"], span, groups)
        total = rows if groups == ["carrier"] else await energy_rows(db, who, found["base_id"], span, ["carrier"])
        emission = await emission_cells(db, found, span)
        later = await (await db.execute(SQL["begins_later"], {
            "base": found["base_id"], "first": span.period.first_day, "last": span.period.last_day})).fetchall()
        ids = sorted({f for row in [*rows, *total] for f in row["factor_ids"] if f is not None})
        factors = await (await db.execute(SQL["factors"], {"ids": ids})).fetchall()
    shape = _by_carrier if "carrier" in groups else _over_carriers
    totals = _over_carriers(base, total, span)
    for row in emission:
        row["name"] = row["name_en" if lang == "en" else "name_zh"]
    return answer({"base": base, "period": period, "first_day": span.period.first_day, "last_day": span.period.last_day,
                   "start": span.period.start, "end": span.period.end, "days_due": span.days_due, "by": groups, "as_of": then,
                   "accounted": accounted, "rows": shape(base, rows, span), "totals": totals[0]["cells"] if totals else {},
                   "emission": emission, "factors": factors, "begins_later": later,
                   "coverage_basis": "records"})


def needs_whole_base(who: Principal) -> None:
    """Forbidden for a token that sees one enterprise only."""
    if who.role == "enterprise":
        raise Forbidden("this is about the whole base; a token of role enterprise sees its own enterprise only")
