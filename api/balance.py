"""GET /balance: what a parent meter says against its children, and the same as nodes and links for a Sankey diagram."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.responses import Response

from api.access import Data, Who
from api.aggregates import BaseCode, PeriodText, needs_whole_base
from api.answers import Lang, Language, answer, named
from api.catalogue import base_row
from api.figures import Part, coverage_of, read_span
from api.store import SQL
from park.clock import utc_now

router = APIRouter(tags=["figures"])
Row = dict[str, Any]
REST = {"zh": "未计量与损耗", "en": "losses and unmetered"}


@router.get("/balance")
async def balance(who: Who, data: Data, lang: Lang, base: BaseCode, period: PeriodText,
                  carrier: Annotated[str | None, Query(max_length=40, description="electricity, natural_gas, water ...")] = None
                  ) -> Response:
    """Parents, the sum of their children, and what is unaccounted for (losses, or loads without a meter).

    `unaccounted` adds up only the days on which parent and every child are known; `share` relates it to the parent on those
    days. `nodes` are the meters, `links` go from parent to child with the child's amount; a positive remainder is a link to
    the node `unaccounted:PARENT`. A child without a known amount keeps its link with value null.
    """
    needs_whole_base(who)
    async with data.session(who) as db:
        found = await base_row(db, base)
        span = read_span(period, found["timezone"], utc_now())
        about = {"base": found["base_id"], "first": span.period.first_day, "last": span.period.last_day, "carrier": carrier}
        rows = await (await db.execute(SQL["balance_rows"], about)).fetchall()
        links = await (await db.execute(SQL["flow_links"], about)).fetchall()
        codes = sorted({link[end] for link in links for end in ("parent", "child")})
        nodes = await (await db.execute(SQL["flow_nodes"], about | {"codes": codes})).fetchall()
    balances = [_balance(named(row, lang), span.days_due) for row in rows]
    meters = [_node(named(node, lang), span.days_due) for node in nodes]
    return answer({"base": base, "period": period, "carrier": carrier, "first_day": span.period.first_day,
                   "last_day": span.period.last_day, "start": span.period.start, "end": span.period.end,
                   "balances": balances, "nodes": meters + _rests(balances, lang),
                   "links": [_link(link, span.days_due) for link in links] + [
                       {"source": b["parent"], "target": f"unaccounted:{b['parent']}", "carrier": b["carrier"], "kind": "rest",
                        "value": b["unaccounted"], "unit": b["unit"], "coverage": b["coverage"]}
                       for b in balances if (b["unaccounted"] or 0) > 0]})


def _coverage(row: Row, days_due: int) -> float | None:
    return coverage_of([Part(None, row["days"] or 0, row["n_expected"] or 0, row["n_known"] or 0, 0)], days_due)


def _balance(row: Row, days_due: int) -> Row:
    known, parent = row["unaccounted"], row.pop("parent_balanced")
    return row | {"share": known / parent if known is not None and parent else None, "coverage": _coverage(row, days_due)}


def _node(row: Row, days_due: int) -> Row:
    kept = ("id", "name", "name_zh", "name_en", "carrier", "direction", "boundary", "unit_code", "enterprise", "unit")
    return {k: row[k] for k in kept} | {"value": row["amount"], "coverage": _coverage(row, days_due)}


def _rests(balances: list[Row], lang: Language) -> list[Row]:
    return [{"id": f"unaccounted:{b['parent']}", "name": REST[lang], "name_zh": REST["zh"], "name_en": REST["en"],
             "carrier": b["carrier"], "unit": b["unit"], "value": b["unaccounted"]}
            for b in balances if (b["unaccounted"] or 0) > 0]


def _link(row: Row, days_due: int) -> Row:
    # what generates or exports below a parent gives to it
    gives = row["direction"] in ("generation", "export")
    source, target = (row["child"], row["parent"]) if gives else (row["parent"], row["child"])
    return {"source": source, "target": target, "carrier": row["carrier"], "kind": row["kind"], "value": row["amount"],
            "unit": row["unit"], "coverage": _coverage(row, days_due)}
