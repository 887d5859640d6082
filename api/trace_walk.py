"""Where a trace goes on: from an indicator to the figures in it, from a virtual point to the points in its formula."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import urlencode

from psycopg import AsyncCursor

from api.figures import Figure, Span
from api.store import SQL
from park.errors import InputError
from park.expressions import parse

Row = dict[str, Any]
# what a name in an indicator's formula is of one carrier
OF_CARRIER = {"energy": "energy", "tce": "tce_equivalent", "co2": "co2", "tce_assessed": "tce_equivalent_assessed",
              "co2_market": "co2_market", "generation": "energy", "export": "energy", "green": "energy"}
DEEPEST = 20        # formulas in formulas; the catalogue's check lets none need itself
# an indicator that sums one measure over carriers
SUMS = {"tce_calorific": "tce_calorific", "tce_equivalent": "tce_equivalent", "co2_t": "co2"}
METERED = {"electricity_kwh": ("electricity",), "renewable_share": ("electricity",), "water_m3": ("water",),
           "water_reuse_rate": ("water", "reclaimed_water")}


def leads_of(base: str, period: str, indicator: str, inputs: Row, outlets: Iterable[tuple[str, str]]) -> list[str]:
    """Names of the figures behind an indicator, for GET /trace; manual entries stand in `ledger`, masses are those of outlets
    (code, pollutant)."""
    def of_base(carrier: str, measure: str) -> str:
        return str(Figure(base, period, "base", "", carrier, measure))

    found: list[str] = []
    if indicator in SUMS:
        found += [of_base(carrier, SUMS[indicator]) for carrier in inputs.get("carriers", {})]
    found += [of_base(carrier, "energy") for carrier in METERED.get(indicator, ())]
    if numerator := inputs.get("numerator"):
        found.append(f"{base}/{period}/indicator/{numerator}")
    found += [str(Figure(base, period, "outlet", code, quantity, "mass")) for code, quantity in outlets
              if indicator in (f"{quantity}_t", "transmission_effective_rate")]
    for name in inputs.get("figures", {}):
        plain, _, when = name.partition("@")
        year = str(int(period[:4]) - 1) if when == "previous" else period
        head, _, carrier = plain.partition(".")
        if when == "baseline" or head == "ledger":
            continue
        if not carrier:
            found.append(f"{base}/{year}/indicator/{plain}")
        elif head in OF_CARRIER:
            found.append(str(Figure(base, year, "base", "", carrier, OF_CARRIER[head])))
    return list(dict.fromkeys(found))


async def made_of(db: AsyncCursor[Any], base: Row, span: Span, formula: str | None, depth: int = 0) -> Row:
    """The formula of a virtual point and where each of its points leads: a counter to its figure, a gauge to its samples and on
    into its own formula."""
    if formula is None or depth > DEEPEST:
        return {}
    try:
        names: Sequence[str] = parse(formula).names
    except InputError:
        return {"formula": formula, "made_of": []}
    rows = await (await db.execute(SQL["points_named"], {"base": base["base_id"], "codes": list(names)})).fetchall()
    known = {row["code"]: row for row in rows}
    found = []
    for name in names:
        lead = _lead(base["code"], span, known[name]) if name in known else {"point": name}
        own = known[name]["formula"] if lead.get("kind") == "gauge" else None       # a counter's is told by its figure
        found.append(lead | await made_of(db, base, span, own, depth + 1))
    return {"formula": formula, "made_of": found}


def _lead(base: str, span: Span, point: Row) -> Row:
    out: Row = {"point": point["code"], "kind": point["kind"]}
    if point["carrier"] is not None:
        out["figure"] = str(Figure(base, span.period.text, "point", point["code"], point["carrier"], "energy"))
    return out | {"samples": samples_of(base, span, point["code"])}


def samples_of(base: str, span: Span, point: str) -> str:
    """The address of a point's readings over the period."""
    return "/api/v1/readings?" + urlencode({
        "base": base, "point": point, "resolution": "raw", "start": f"{span.period.start:%Y-%m-%dT%H:%M:%SZ}",
        "end": f"{span.period.end:%Y-%m-%dT%H:%M:%SZ}"})
