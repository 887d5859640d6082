"""GET /indicators: what a base is measured by: definitions, values, thresholds, targets and who answers, forecasts."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.responses import Response

from api.access import Data, Who
from api.aggregates import BaseCode, needs_whole_base
from api.answers import Lang, answer
from api.catalogue import base_row
from api.figures import read_span
from api.known import AsOf, look_back
from api.store import SQL
from park.clock import utc_now
from park.errors import InputError

router = APIRouter(tags=["figures"])
NOTICE = {"zh": "发改办环资〔2020〕519号没有公布统一的指标表；示范基地按其自身方案的目标考核。"
                "其他体系的行在未核对其核算方法前标为未核实。",
          "en": "No official indicator table was published with notice 519 of 2020: such a base is measured by the targets of "
                "its own plan. Rows of other programmes are marked as not verified until their method has been read."}


@router.get("/indicators")
async def indicators(who: Who, data: Data, lang: Lang, base: BaseCode,
                     period: Annotated[str, Query(max_length=7, description="A base-local year or month: 2026, 2026-11.")],
                     set_code: Annotated[str | None, Query(alias="set", max_length=64, description="plan, zero_carbon_park, "
                                         "eco_park or a set of the base's own.")] = None,
                     as_of: AsOf = None) -> Response:
    """Each indicator with its definition (formula, unit, threshold, source, verified), value with coverage and grade (null with
    the reason in `withheld`), whether it keeps its threshold, the year's target with who answers for it, and the forecast of
    the year's end: 90 % interval, how likely target and threshold are met.

    `coverage` of a sum over carriers weighs each carrier's known quarter-hours by its part of the sum (`coverage_basis`:
    weighted): it says how much of the figure is known, and below 90 % the figure is withheld. GET /aggregates counts records
    alike, whatever they are worth.

    `set` is `plan` for indicators that only the base's own targets name, `computed` for the others without a definition.
    `progress` is the value over the target, `elapsed` the part of the period that is over. `begins_later` names counters that
    began within the period and have no meter on record: the days before are not missing them, and nothing tells whether
    anything flowed there; `meters:` with `installed` in the catalogue does.
    """
    if len(period) not in (4, 7) or "Q" in period:
        raise InputError(f"period: expected a year or a month, got {period!r}")
    needs_whole_base(who)
    async with data.session(who) as db:
        found = await base_row(db, base)
        then = await look_back(db, found["timezone"], as_of)
        span = read_span(period, found["timezone"], then or utc_now())
        rows = await (await db.execute(SQL["indicator_rows"], {
            "base": found["base_id"], "period": period, "year": span.period.first_day.year, "last": span.period.last_day,
            "is_year": len(period) == 4})).fetchall()
    days = (span.period.last_day - span.period.first_day).days + 1
    told = [_told(row, lang) for row in rows if set_code is None or row["set_code"] == set_code]
    return answer({"base": base, "period": period, "as_of": then, "elapsed": span.days_due / days, "notice": NOTICE[lang],
                   "indicators": told, "coverage_basis": "weighted"})


def _told(row: dict[str, Any], lang: str) -> dict[str, Any]:
    inputs = row["inputs"] if isinstance(row["inputs"], dict) else {}
    value, target = row["value"], row["target"]
    forecast = None if row["forecast_until"] is None else {
        "value": row["forecast"], "low": row["forecast_low"], "high": row["forecast_high"], "until": row["forecast_until"],
        "threshold": row["forecast_threshold"], "threshold_likely": row["threshold_likely"],
        "target_likely": row["target_likely"], "method": row["method"], "why": row["why"]}
    return {
        "code": row["code"], "set": row["set_code"], "name": row["name_en" if lang == "en" else "name_zh"] or row["code"],
        "name_zh": row["name_zh"], "name_en": row["name_en"], "formula": row["formula"], "unit": row["unit"],
        "sense": row["sense"], "source": row["source"], "verified": row["verified"], "note": row["note"],
        "value": value, "coverage": row["coverage"], "grade": row["grade"], "withheld": inputs.get("withheld"),
        "begins_later": inputs.get("begins_later", {}), "until": inputs.get("until"),
        "threshold": inputs.get("threshold"), "kept": inputs.get("kept"),
        "target": None if target is None else {
            "value": target, "unit": row["target_unit"], "sense": row["target_sense"], "baseline": row["target_baseline"],
            "baseline_year": row["baseline_year"], "responsible": row["responsible"], "source": row["target_source"],
            "progress": value / target if value is not None and target and row["target_unit"] == row["unit"] else None},
        "forecast": forecast, "figure": row["figure"], "recorded_at": row["recorded_at"]}
