"""GET /trace: from a figure back to the counters, days, quarter-hours, registers, meters, bills, factor and tariff rows behind
it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query
from psycopg import AsyncCursor
from starlette.responses import Response

from api.access import Data, Who
from api.aggregates import emission_cells, energy_rows, needs_whole_base, part_of
from api.answers import Lang, answer, named
from api.catalogue import base_row
from api.figures import CONVERTED, MEASURES, Figure, Part, Span, cell, read_figure, read_span
from api.known import AsOf, look_back
from api.store import SQL, Principal
from api.trace_account import Booked, after_steps, basis_of, booked
from api.trace_walk import leads_of, made_of, samples_of
from park.clock import utc_now
from park.errors import NotFound
from park.quality import word_of

router = APIRouter(tags=["figures"])
Row = dict[str, Any]
METHODS = ("measured", "rollover", "swap", "reset", "gap_split", "spike_removed", "formula")
MOST_ROWS = 20_000
MOST_REVISIONS = 1_000


@router.get("/trace")
async def trace(who: Who, data: Data, lang: Lang,
                figure: Annotated[str, Query(max_length=300, description="The `figure` of a cell of /aggregates, /emissions "
                                             "or /energy/account, or BASE/PERIOD/indicator/CODE.")],
                as_of: AsOf = None) -> Response:
    """What a figure is made of. `value` is computed anew from the same tables as the cell; `parts` are the counters with
    their sign, days (and quarter-hours, for a single day), registers at the edges of the period, meters, and the address of
    the samples. `bills` are the ledger entries that the total holds where no meter counts, with their share; `entries` are all
    that it used, with documents, and those that an entry supersedes. `agrees` says whether the parts add up to the value.
    Of an assessed figure or CO2 by market the parts add up to what was used, and `steps` go from there to the value: sold
    energy, feedstock, green power, own generation, residual factor, by the switches in `settings`. A virtual point's part has
    its `formula` and the figures of what it is `made_of`; an indicator `leads_to` the figures in it.

    Factor and tariff rows carry their source and when they
    were recorded. `revisions` are the values that finished days, quarter-hours (single day), samples (single day) and the total
    itself no longer have, and superseded factor rows: former value, from when to when, replaced by whom and why.
    """
    if (indicator := figure.split("/"))[2:3] == ["indicator"] and len(indicator) == 4:
        return await _indicator(who, data, indicator, as_of)
    wanted = read_figure(figure)
    async with data.session(who, timeout_ms=30_000) as db:
        base = await base_row(db, wanted.base)
        then = await look_back(db, base["timezone"], as_of)
        span = read_span(wanted.period, base["timezone"], then or utc_now())
        found = _emission(db, base, wanted, span) if wanted.scope == "outlet" else _energy(db, who, base, wanted, span, lang)
        body = await found
        body["as_of"] = then
        body["accounted"] = await (await db.execute(SQL["accounted"], {"base": base["base_id"]})).fetchall()
    return answer({"figure": str(wanted), "base": wanted.base, "period": wanted.period, "first_day": span.period.first_day,
                   "last_day": span.period.last_day, "start": span.period.start, "end": span.period.end} | body)


async def _energy(db: AsyncCursor[Any], who: Principal, base: Row, figure: Figure, span: Span, lang: Any) -> Row:
    if figure.scope == "base":
        needs_whole_base(who)
    carrier = None if figure.what == "all" else figure.what
    about = {"base": base["base_id"], "first": span.period.first_day, "last": span.period.last_day, "start": span.period.start,
             "end": span.period.end, "carrier": carrier, "scope": figure.scope, "code": figure.code, "limit": MOST_ROWS}
    counters = await (await db.execute(SQL["trace_counters"], about)).fetchall()
    by_hand = await booked(db, figure, about)
    if not counters and not by_hand.bills:
        raise NotFound(f"nothing is accounted for {figure}: no such scope, carrier or period that this token may see")
    about["points"] = [row["point_id"] for row in counters]
    days = await (await db.execute(SQL["trace_days"], about)).fetchall()
    single = span.period.first_day == span.period.last_day
    slots = await (await db.execute(SQL["trace_intervals"], about)).fetchall() if single else []
    registers = await (await db.execute(SQL["trace_registers"], about)).fetchall()
    meters = await (await db.execute(SQL["trace_meters"], about)).fetchall()
    costs = await (await db.execute(SQL["trace_costs"], about)).fetchall()
    tariffs = await (await db.execute(SQL["trace_tariffs"], about | {"ids": sorted(
        {t for row in costs for t in row["tariffs"]})})).fetchall() if figure.measure == "cost" else []
    told = await _cell(db, who, base, figure, span, carrier, [*counters, *by_hand.bills])
    ids = sorted({f for day in days for f in day["factor_ids"] if f is not None} | {*(told or {}).get("factors", ())}
                 ) if figure.measure in CONVERTED else []
    factors = await (await db.execute(SQL["factors"], {"ids": ids})).fetchall()
    revisions = await _revisions(db, about | {"ids": ids}, single)
    formulas = [await made_of(db, base, span, row.pop("formula")) for row in counters]
    parts = [_part(named(row, lang), figure, base, span, days, slots, registers, meters, costs) | made
             for row, made in zip(counters, formulas, strict=True)]
    value = told["value"] if told else None
    return {"cell": told, "value": value, "parts": parts} | _summed(value, parts, by_hand) | {
        "factors": factors, "tariffs": tariffs, "revisions": revisions,
        "truncated": len(days) == MOST_ROWS or max(map(len, revisions.values())) == MOST_REVISIONS}


def _summed(value: float | None, parts: Sequence[Row], by_hand: Booked) -> Row:
    """Counters, bills and steps added up, and whether that is the value."""
    known = [p["share"] for p in [*parts, *by_hand.bills] if p["share"] is not None]
    total = sum(known) if known else None
    out: Row = {"bills": by_hand.bills, "entries": by_hand.entries, "sum_of_parts": total, "agrees": _agree(value, total)}
    if by_hand.steps:
        used, left = after_steps(by_hand.steps)
        both = [_agree(used, total), _agree(value, left)]
        out |= {"steps": by_hand.steps, "settings": by_hand.settings, "sum_of_steps": left,
                "agrees": None if None in both else all(both)}
    return out


async def _revisions(db: AsyncCursor[Any], about: Row, single: bool) -> dict[str, list[Row]]:
    """What the figure and its parts no longer say; samples and quarter-hours only for a single day."""
    codes = await (await db.execute(SQL["codes_of_points"], about)).fetchall()
    code_of = {row["point_id"]: row["code"] for row in codes}

    async def rows(name: str) -> list[Row]:
        found = await (await db.execute(SQL[name], about | {"limit": MOST_REVISIONS})).fetchall()
        return [({"point": code_of[r.pop("point_id")]} if "point_id" in r else {}) | r for r in found]

    former = await rows("trace_slot_revisions") if single else []
    slots = [s | {"quality": word_of(s["quality"]), "method": METHODS[s["method"]]} for s in former]
    samples = [s | {"quality": word_of(s["quality"])} for s in await rows("trace_reading_revisions")] if single else []
    return {"totals": await rows("trace_total_revisions"), "days": await rows("trace_day_revisions"), "intervals": slots,
            "samples": samples, "factors": await rows("trace_factor_revisions")}


async def _cell(db: AsyncCursor[Any], who: Principal, base: Row, figure: Figure, span: Span, carrier: str | None,
                counters: Sequence[Row]) -> Row | None:
    """The cell as /aggregates tells it; for a point the sum of its own days."""
    unit = MEASURES[figure.measure][1] or counters[0]["unit"]
    if figure.scope == "point":
        column = MEASURES[figure.measure][0]
        parts = [Part(row.get(column), row["days"], row["n_expected"], row["n_known"], row["n_good"], row["estimated"])
                 for row in counters]
        return cell(figure, parts, unit, span.days_due)
    groups = {"base": ["carrier"], "enterprise": ["carrier", "enterprise"], "unit": ["carrier", "unit"]}[figure.scope]
    rows = [row for row in await energy_rows(db, who, base["base_id"], span, groups, carrier)
            if figure.scope == "base" or row[figure.scope] == figure.code]
    return cell(figure, [part_of(row, figure.measure) for row in rows], unit, span.days_due) if rows else None


def _part(row: Row, figure: Figure, base: Row, span: Span, days: Sequence[Row], slots: Sequence[Row], registers: Sequence[Row],
          meters: Sequence[Row], costs: Sequence[Row]) -> Row:
    point_id = row.pop("point_id")

    def mine(rows: Sequence[Row]) -> list[Row]:
        return [{k: v for k, v in r.items() if k != "point_id"} for r in rows if r["point_id"] == point_id]

    cost = [c for c in mine(costs) if figure.measure == "cost"]
    column = MEASURES[basis_of(figure.measure)][0]
    amount = (sum(c["cost"] for c in cost) if cost else None) if figure.measure == "cost" else row[column]
    edges = mine(registers)
    return row | {
        "share": None if amount is None else amount * row["sign"], "days": mine(days), "meters": mine(meters), "costs": cost,
        "intervals": [s | {"quality": word_of(s["quality"]), "method": METHODS[s["method"]]} for s in mine(slots)],
        "registers": edges[0] if edges else None,
        "samples": samples_of(base["code"], span, row["point"])}


def _agree(value: float | None, total: float | None) -> bool | None:
    """Whether parts and cell are the same but for rounding; None where either is not known."""
    if value is None or total is None:
        return None
    return abs(value - total) <= 1e-6 * max(1.0, abs(value))


async def _emission(db: AsyncCursor[Any], base: Row, figure: Figure, span: Span) -> Row:
    about = {"base": base["base_id"], "outlet": figure.code, "quantity": figure.what, "first": span.period.first_day,
             "last": span.period.last_day, "start": span.period.start, "end": span.period.end}
    sums = await emission_cells(db, base, span, figure.code, figure.what)
    if not sums:
        raise NotFound(f"nothing is accounted for {figure}: no such outlet, pollutant or period that this token may see")
    days = await (await db.execute(SQL["emission_days"], about)).fetchall()
    hours = await (await db.execute(SQL["emission_hours"], about)).fetchall()
    points = await (await db.execute(SQL["trace_outlet_points"], about)).fetchall()
    former = await (await db.execute(SQL["trace_hour_revisions"], about | {"limit": MOST_REVISIONS})).fetchall()
    known = [hour["mass_kg"] for hour in hours if hour["mass_kg"] is not None]
    total = sum(known) if known else None
    formulas = [await made_of(db, base, span, p.pop("formula")) for p in points]
    samples = [p | {"samples": samples_of(base["code"], span, p["code"])} | made
               for p, made in zip(points, formulas, strict=True)]
    told = sums[0]["mass"]
    return {"cell": told, "value": told["value"], "sums": sums[0], "days": days, "hours": hours[:MOST_ROWS], "points": samples,
            "sum_of_parts": total, "agrees": _agree(told["value"], total), "factors": [], "revisions": {"hours": former},
            "truncated": len(hours) > MOST_ROWS}


async def _indicator(who: Who, data: Data, parts: list[str], as_of: str | None) -> Response:
    needs_whole_base(who)
    async with data.session(who) as db:
        base = await base_row(db, parts[0])
        then = await look_back(db, base["timezone"], as_of)
        about = {"base": base["base_id"], "period": parts[1], "indicator": parts[3]}
        row = await (await db.execute(SQL["trace_indicator"], about)).fetchone()
        if row is None:
            raise NotFound(f"indicator {parts[3]!r} is not computed for {parts[1]!r} of base {parts[0]!r}")
        inputs = row["inputs"] if isinstance(row["inputs"], dict) else {}
        ids = [f for f in inputs.get("factors") or inputs.get("factor_ids") or () if isinstance(f, int)]
        factors = await (await db.execute(SQL["factors"], {"ids": ids})).fetchall()
        measured = await (await db.execute(SQL["pollutants_measured"], about)).fetchall()
        entries = [e for e in inputs.get("ledger") or () if isinstance(e, int)]
        ledger = await (await db.execute(SQL["trace_ledger"], {"base": base["base_id"], "ids": entries})).fetchall()
        revisions = {"values": await (await db.execute(SQL["trace_indicator_revisions"], about)).fetchall(),
                     "factors": await (await db.execute(SQL["trace_factor_revisions"], {"ids": ids})).fetchall()}
    return answer({"figure": "/".join(parts), "base": parts[0], "period": parts[1], "as_of": then, "value": row["value"],
                   "unit": row["unit"], "coverage": row["coverage"], "grade": row["grade"], "computed_at": row["computed_at"],
                   "recorded_at": row["recorded_at"], "inputs": inputs, "factors": factors, "ledger": ledger,
                   "leads_to": leads_of(parts[0], parts[1], parts[3], inputs, [(m["code"], m["quantity"]) for m in measured]),
                   "revisions": revisions})
