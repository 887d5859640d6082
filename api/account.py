"""GET /energy/account: the energy and carbon account of a base or enterprise, carrier by carrier, with what each figure rests
on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.responses import Response

from api.access import Data, Who
from api.aggregates import BaseCode, PeriodText, needs_whole_base
from api.answers import Lang, answer, named
from api.bills import SQL
from api.catalogue import base_row
from api.figures import TRUSTED, Figure, Part, coverage_of, grade_of, read_span
from api.known import AsOf, look_back
from api.store import SQL as STORED
from park.clock import utc_now

router = APIRouter(tags=["figures"])
Row = dict[str, Any]
# each figure by the measure that /trace knows it by
NAMES = {
    "amount": "energy",
    "tce_calorific": "tce_calorific",
    "tce_equivalent": "tce_equivalent",
    "tce_calorific_assessed": "tce_calorific_assessed",
    "tce_equivalent_assessed": "tce_equivalent_assessed",
    "co2_location_kg": "co2",
    "co2_market_kg": "co2_market",
}
SUMS = (
    "tce_calorific",
    "tce_equivalent",
    "tce_calorific_assessed",
    "tce_equivalent_assessed",
    "co2_location_kg",
    "co2_market_kg",
)


@router.get("/energy/account")
async def account(
    who: Who,
    data: Data,
    lang: Lang,
    base: BaseCode,
    period: PeriodText,
    enterprise: Annotated[str | None, Query(max_length=64, description="Code of an enterprise; without it the base.")] = None,
    by: Annotated[str, Query(pattern="^(carrier|enterprise)$")] = "carrier",
    as_of: AsOf = None,
) -> Response:
    """What was used of each carrier (`amount`: bought less sold, and own primary generation), what of it was feedstock or
    green, what was
    made inside from another carrier (not in `amount`), coal equivalent in both values, before and after the deductions that the
    base's settings switch on (`assessed`), and CO2 of scope 1 and 2, by location and by market.

    `grade`: A metered, B with bills, C more than a tenth estimated; `coverage` is printed beside: of a carrier by records, of a
    total with each carrier weighed by its coal equivalent (as an indicator's). Totals of scopes are null
    where a carrier's is not known, and `withheld` says so when less than 90 % is known. `factors`, `settings` and `ledger`
    name every row used; `figures` is the name of each figure for /trace.
    """
    if enterprise is None and by == "carrier":
        needs_whole_base(who)
    async with data.session(who) as db:
        found = await base_row(db, base)
        span = read_span(period, found["timezone"], utc_now())
        then = await look_back(db, found["timezone"], as_of)
        about = {
            "base": found["base_id"],
            "first": span.period.first_day,
            "last": span.period.last_day,
            "enterprise": enterprise,
            "by_enterprise": by == "enterprise",
        }
        rows = await (await db.execute(SQL["energy_account"], about)).fetchall()
        used = await (await db.execute(SQL["account_rows_used"], about)).fetchone() or {}
        factors = await (await db.execute(STORED["factors"], {"ids": used.get("factors") or []})).fetchall()
        settings = await (await db.execute(SQL["settings"], about | {"ids": used.get("settings") or []})).fetchall()
    carriers = [_carrier(named(row, lang), span.days_due) for row in rows]
    for row in carriers:
        row["figures"] = _figures(base, period, row["enterprise"], row["carrier"])
    owners = sorted({c["enterprise"] or "" for c in carriers})
    return answer(
        {
            "base": base,
            "period": period,
            "as_of": then,
            "enterprise": enterprise,
            "by": by,
            "first_day": span.period.first_day,
            "last_day": span.period.last_day,
            "days_due": span.days_due,
            "carriers": carriers,
            "totals": [
                _total([c for c in carriers if (c["enterprise"] or "") == owner], owner or None)
                | {"figures": _figures(base, period, owner or None, "all")}
                for owner in owners
            ],
            "factors": factors,
            "settings": settings,
            "ledger": used.get("ledger") or [],
        }
    )


def _carrier(row: Row, days_due: int) -> Row:
    row["coverage"] = coverage_of([Part(row["amount"], row["days"], row["n_expected"], row["n_known"], 0)], days_due)
    row["grade"] = grade_of(row["amount"], row["estimated"], row["billed"])
    return row


def _figures(base: str, period: str, enterprise: str | None, carrier: str) -> dict[str, str]:
    """The name of each figure for /trace; over all carriers there is no amount."""
    scope = ("enterprise", enterprise) if enterprise else ("base", "")
    return {field: str(Figure(base, period, *scope, carrier, measure)) for field, measure in NAMES.items()
            if carrier != "all" or field != "amount"}


def _total(carriers: Sequence[Row], enterprise: str | None) -> Row:
    """Sums over carriers, scopes apart; a sum with a part that is not known is null, never too small."""

    def add(field: str, rows: Sequence[Row]) -> float | None:
        missing = "days_without_tce" if field.startswith("tce") else "days_without_co2"
        if any(row["scope"] and (row[field] is None or row[missing]) for row in rows):
            return None
        known = [row[field] for row in rows if row[field] is not None]
        return sum(known) if known else None

    grades = [row["grade"] for row in carriers if row["grade"]]
    weights = [(abs(row["tce_equivalent"] or 0.0), row["coverage"] or 0.0) for row in carriers if row["scope"]]
    total = sum(w for w, _ in weights)
    coverage = sum(w * c for w, c in weights) / total if total else None
    out: Row = {
        "enterprise": enterprise,
        "coverage": coverage,
        "grade": max(grades) if grades else None,
        "withheld": coverage is None or coverage < TRUSTED,
    }
    out |= {field: add(field, carriers) for field in SUMS}
    for scope in (1, 2):
        mine = [row for row in carriers if row["scope"] == scope]
        out[f"scope{scope}"] = {field: add(field, mine) for field in ("co2_location_kg", "co2_market_kg")}
    return out
