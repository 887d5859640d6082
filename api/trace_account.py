"""Of a trace: the bills that a total holds, the entries behind it, and the steps from what was used to what is assessed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import AsyncCursor

from api.bills import SQL
from api.figures import ASSESSED, MEASURES, Figure

Row = dict[str, Any]
OF_TOTALS = ("base", "enterprise")


@dataclass(frozen=True)
class Booked:
    """What a total has from the ledger: bills with their `share`, every entry with those it supersedes, switches in force."""

    bills: Sequence[Row]
    entries: Sequence[Row]
    settings: Sequence[Row]
    steps: Sequence[Row]


def basis_of(measure: str) -> str:
    """The measure in which counters and bills tell their share: for an assessed figure that before its deductions."""
    return ASSESSED.get(measure, measure)


async def booked(db: AsyncCursor[Any], figure: Figure, about: Row) -> Booked:
    """Bills, entries, switches and steps of a figure of a base or enterprise; a unit's or point's has none."""
    if figure.scope not in OF_TOTALS:
        return Booked([], [], [], [])
    bills = await (await db.execute(SQL["trace_bills"], about)).fetchall()
    used = await (await db.execute(SQL["trace_used"], about)).fetchone() or {}
    key = {"base": about["base"]}
    entries = await (await db.execute(SQL["trace_entries"], key | {"ids": used.get("ledger") or []})).fetchall()
    if figure.measure not in ASSESSED:
        return Booked([_share(bill, figure) for bill in bills], entries, [], [])
    settings = await (await db.execute(SQL["settings"], key | {"ids": used.get("settings") or []})).fetchall()
    steps = await (await db.execute(SQL["trace_steps"], about)).fetchall()
    column = MEASURES[figure.measure][0]
    return Booked([_share(bill, figure) for bill in bills], entries, settings, [
        {k: s[k] for k in ("carrier", "step", "days", "amount", "unit")} | {"change": s[column]}
        for s in steps if s["step"] == "used" or s[column]])


def _share(bill: Row, figure: Figure) -> Row:
    """The bill with its share in the figure: an amount has none in the cost, nor money in the energy."""
    return bill | {"share": bill[MEASURES[basis_of(figure.measure)][0]]}


def after_steps(steps: Sequence[Row]) -> tuple[float | None, float | None]:
    """(what was used, what is left after every step) in the measure of the figure. A carrier with a step that is not known (no
    factor in force) is not in what is left, as it is not in the value; None where nothing is known."""
    unknown = {s["carrier"] for s in steps if s["change"] is None}
    used = [s["change"] for s in steps if s["step"] == "used" and s["change"] is not None]
    left = [s["change"] for s in steps if s["carrier"] not in unknown]
    return sum(used) if used else None, sum(left) if left else None
