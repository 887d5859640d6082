"""GET /bills: electricity bills line by line, as accounting reproduces them, with names of the lines in both languages."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated, Any

import yaml
from fastapi import APIRouter, Query
from starlette.responses import Response

from api.access import Data, Who
from api.aggregates import BaseCode
from api.answers import Lang, Language, answer, named
from api.catalogue import base_row
from api.figures import read_span
from api.known import AsOf, look_back
from park.clock import utc_now
from park.database import queries

SQL = queries(Path(__file__).with_name("accounts.sql"))
router = APIRouter(tags=["figures"])
Row = dict[str, Any]


@cache
def words() -> dict[str, dict[str, dict[str, str]]]:
    """Names of items, periods and additions of a bill."""
    loaded: dict[str, dict[str, dict[str, str]]] = yaml.safe_load(
        Path(__file__).with_name("bill_words.yaml").read_text("utf-8")
    )
    return loaded


def name_of(item: str, lang: str) -> str:
    """`energy.peak` as 高峰电量 · peak energy; a code that nobody named reads as itself."""
    kind, _, rest = item.partition(".")
    told, part = words()["items"].get(item) or words()["items"].get(kind), words()["parts"].get(rest)
    if told is None:
        return item
    return told[lang].format(part[lang] if part else rest) if "{}" in told[lang] else told[lang]


@router.get("/bills")
async def bills(
    who: Who,
    data: Data,
    lang: Lang,
    base: BaseCode,
    period: Annotated[str, Query(max_length=10, description="2026-10, 2026-Q3 or 2026.")],
    customer: Annotated[
        str | None, Query(max_length=64, description="An enterprise's code, or `base` for the park's own gate.")
    ] = None,
    as_of: AsOf = None,
) -> Response:
    """Bills of the months of a period. Every line is quantity x price x factor, rounded to the cent; the total is the sum of
    the lines.

    A bill is `complete` when its month is over and nothing is missing; otherwise `notes` say what is. A token of role
    enterprise gets its own bills. `missing` tells why a customer has no bill of a month: `cause` (no_gate, no_tariff,
    tariff_unreadable, no_readings), what it is about (`points` with the first and last day of which anything is known; `tariff`
    with its `reason`; `tariffs` that hold in other months) and the `remedy`. It is as of now: null with `as_of`.
    """
    async with data.session(who) as db:
        found = await base_row(db, base)
        span = read_span(period, found["timezone"], utc_now())
        then = await look_back(db, found["timezone"], as_of)
        about = {
            "base": found["base_id"],
            "first": span.period.first_day.replace(day=1),
            "last": span.period.last_day,
            "customer": customer,
        }
        rows = await (await db.execute(SQL["bills"], about)).fetchall()
        lines = await (await db.execute(SQL["bill_lines"], about)).fetchall()
        missing = await (await db.execute(SQL["bills_missing"], about)).fetchall()
    return answer(
        {
            "base": base,
            "period": period,
            "as_of": then,
            "first_day": span.period.first_day,
            "last_day": span.period.last_day,
            "currency": "CNY",
            "bills": [_bill(named(row, lang), lines, lang) for row in rows],
            "missing": None if then else [_missing(named(row, lang), lang) for row in missing],
        }
    )


def _missing(row: Row, lang: Language) -> Row:
    """Why there is no bill, in words, with what it is about as data."""
    said, detail = words()["missing"][row["cause"]], row.pop("detail")
    tariff = {k: detail[k] for k in ("tariff_id", "from", "to", "reason")} if "reason" in detail else None
    return row | {
        "text": said[lang],
        "remedy": said[f"remedy_{lang}"],
        "points": detail.get("points", []),
        "tariff": tariff,
        "tariffs": detail.get("tariffs", []),
    }


def _bill(row: Row, lines: list[Row], lang: Language) -> Row:
    key = (row["month"], row.pop("enterprise_id"))
    mine = [
        {k: v for k, v in x.items() if k not in ("month", "enterprise_id")}
        | {"name": name_of(x["item"], lang), "name_zh": name_of(x["item"], "zh"), "name_en": name_of(x["item"], "en")}
        for x in lines
        if (x["month"], x["enterprise_id"]) == key
    ]
    return row | {
        "month": f"{row['month']:%Y-%m}",
        "coverage": row["n_known"] / row["n_expected"] if row["n_expected"] else None,
        "lines": mine,
    }
