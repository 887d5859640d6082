"""Forecasts of the running year's end for every indicator: what targets and thresholds are compared with before it is over.

Sums are forecast from their days (`accounting/forecast.py`); an indicator with a formula is its formula over the forecast
figures, simulated together, so that the interval of a quotient knows how its parts hang together. Where a part has no forecast
there is none of the indicator, and `why` says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from accounting.columns import Connection
from accounting.counters import SQL
from accounting.definitions import Definition, definitions_of
from accounting.forecast import YearEnd, year_ends
from accounting.indicators import MASSES
from accounting.named import Named
from park.clock import parse_period
from park.errors import InputError
from park.expressions import Expression, parse
from park.measures import measure

Floats = NDArray[np.float64]
# Computed indicators that are quotients of sums: forecast by what they are made of.
QUOTIENTS = {"renewable_share": ("generation.electricity / energy.electricity", "1"),
             "energy_per_value_added": ("tce_equivalent / ledger.value_added", "tce/万元"),
             "co2_per_value_added": ("co2_t / ledger.value_added", "t/万元"),
             "water_per_value_added": ("water_m3 / ledger.value_added", "m3/万元")}
ENOUGH_KNOWN = 0.5               # part of the days that are over: of less there is no forecast
SMALL = 0.01                     # part of a total that is carried on at its mean where it is known too seldom
SEASONAL, LEVEL = "weeks against the same weeks of the year before", "level of the last thirteen weeks"


@dataclass(frozen=True)
class Series:
    """Daily amounts of a named sum over a year, NaN where not known, and its unit."""

    unit: str
    days: Floats


def forecast(conn: Connection, base_id: int, zone: str, now: datetime) -> int:
    """Write the forecasts of the running year; the number of indicators looked at."""
    today = now.astimezone(ZoneInfo(zone)).date()
    year, until = today.year, today - timedelta(days=1)
    baseline = conn.execute(SQL["plan_years"], {"base": base_id}).fetchone()
    named = Named(conn, base_id, zone, today, baseline[0] if baseline else None)
    definitions = {d.code: d for d in definitions_of(conn, base_id, today)}
    this, former = series_of(conn, base_id, zone, year, until), series_of(conn, base_id, zone, year - 1, date(year - 1, 12, 31))
    _add_ledger(conn, base_id, this, former, definitions.values(), year, until)
    n_days, n_over = (date(year, 12, 31) - date(year, 1, 1)).days + 1, (until - date(year, 1, 1)).days + 1
    this = {n: s for n, s in this.items() if np.isfinite(s.days[:n_over]).sum() >= ENOUGH_KNOWN * n_over}
    ends = year_ends({n: s.days for n, s in this.items()},
                     {n: s.days for n, s in former.items() if n in this and s.unit == this[n].unit}, n_days)
    units = {n: s.unit for n, s in this.items()}
    targets = {i: (v, u, s) for i, v, u, s in conn.execute(SQL["targets_of_year"], {"base": base_id, "year": year})}
    codes = [*(n for n in ends if "." not in n), *QUOTIENTS, *definitions]
    for code in dict.fromkeys([*codes, *targets]):
        row = _row(code, definitions.get(code), ends, units, targets.get(code), named, year)
        about = {"base": base_id, "indicator": code, "year": year, "until": until, "now": now}
        conn.execute(SQL["write_forecast"], row | about)
    conn.execute(SQL["forget_forecasts"], {"base": base_id, "year": year, "codes": [*codes, *targets]})
    return len(codes)


def series_of(conn: Connection, base_id: int, zone: str, year: int, until: date) -> dict[str, Series]:
    """Daily amounts of every sum that figures of energy and emission name."""
    first, n = date(year, 1, 1), (date(year, 12, 31) - date(year, 1, 1)).days + 1
    out: dict[str, Series] = {}
    units = dict(conn.execute("SELECT carrier, unit FROM carrier").fetchall())

    def add(name: str, unit: str, day: date, value: float | None, scale: float = 1.0) -> None:
        if value is not None:
            series = out.setdefault(name, Series(unit, np.full(n, np.nan)))
            i = (day - first).days
            series.days[i] = np.nan_to_num(series.days[i]) + value * scale

    rows = conn.execute(SQL["days_of_energy"], {"base": base_id, "first": first, "last": until})
    for carrier, day, amount, generation, export, green, calorific, equivalent, co2 in rows:
        add(f"energy.{carrier}", units.get(carrier, ""), day, amount)
        for head, value in (("generation", generation), ("export", export), ("green", green)):
            add(f"{head}.{carrier}", units.get(carrier, ""), day, value or 0.0)
        for head, value in (("calorific", calorific), ("tce", equivalent)):
            add(f"{head}.{carrier}", "tce", day, value)
        add(f"co2.{carrier}", "t", day, co2, 1e-3)
    for name, head in (("tce_calorific", "calorific."), ("tce_equivalent", "tce."), ("co2_t", "co2.")):
        _add_total(out, name, head, (until - first).days + 1)
    for name, carrier, unit in (("electricity_kwh", "electricity", "kWh"), ("water_m3", "water", "m3")):
        if f"energy.{carrier}" in out:
            out[name] = Series(unit, out[f"energy.{carrier}"].days)
    span = parse_period(str(year), zone)
    by_quantity = {q: code for code, q in MASSES.items()}
    for quantity, day, kg in conn.execute(SQL["days_of_mass"], {"base": base_id, "start": span.start, "end": span.end}):
        if quantity in by_quantity and day <= until:
            add(by_quantity[quantity], "t", day, kg, 1e-3)
    return out


def _add_total(out: dict[str, Series], name: str, head: str, n_due: int) -> None:
    """The sum over carriers, of days on which every carrier is known that is usually known; none where a carrier that matters
    is known too seldom: a total without its electricity would look like a target met."""
    parts = [(s, _level(s.days[:n_due]), np.isfinite(s.days).sum() >= ENOUGH_KNOWN * n_due)
             for n, s in out.items() if n.startswith(head)]
    usual = [s for s, _, often in parts if often]
    seldom = sum(level for _, level, often in parts if not often)
    if usual and seldom <= SMALL * sum(level for _, level, _ in parts):
        out[name] = Series(usual[0].unit, np.sum([s.days for s in usual], axis=0) + seldom)


def _level(days: Floats) -> float:
    """Mean of a day since the first that is known: what is used once a year is little a day."""
    known = np.flatnonzero(np.isfinite(days))
    return float(np.nansum(days) / (len(days) - known[0])) if len(known) else 0.0


def _add_ledger(conn: Connection, base_id: int, this: dict[str, Series], former: dict[str, Series], definitions: Any, year: int,
                until: date) -> None:
    """Sums of manual entries that formulas name, spread over their days; an entry of a whole year is known to its end."""
    wanted = {n for d in definitions for n in d.expression.names} | {"ledger.value_added"}
    for name in (w for w in wanted if w.startswith("ledger.") and "@" not in w):
        kind, _, part = name.removeprefix("ledger.").partition(".")
        for y, out in ((year, this), (year - 1, former)):
            first, n = date(y, 1, 1), (date(y, 12, 31) - date(y, 1, 1)).days + 1
            rows = [r for r in conn.execute(SQL["ledger_now"], {"base": base_id, "first": first, "last": date(y, 12, 31)})
                    if r[1] == kind and (not part or part in (r[2], r[3]))]
            if not rows or any(measure(r[4]).dimensions != measure(rows[0][4]).dimensions for r in rows):
                continue
            unit, days = measure(rows[0][4]), np.full(n, np.nan)
            for r in rows:
                some = slice(max((r[7] - first).days, 0), (min(r[8], date(y, 12, 31)) - first).days + 1)
                each = r[5] * measure(r[4]).factor / unit.factor / ((r[8] - r[7]).days + 1)
                days[some] = np.nan_to_num(days[some]) + each
            out[name] = Series(unit.code, days)


def _row(code: str, definition: Definition | None, ends: dict[str, YearEnd], units: dict[str, str],
         target: tuple[float, str, str] | None, named: Named, year: int) -> dict[str, Any]:
    """One indicator's forecast as a row."""
    row: dict[str, Any] = {"value": None, "low": None, "high": None, "unit": "", "threshold": None, "threshold_likely": None,
                           "target_likely": None, "method": "", "why": ""}
    text, unit = (definition.formula, definition.unit) if definition else QUOTIENTS.get(code, (code, units.get(code, "")))
    row["unit"] = unit
    try:
        point, draws, seasonal = _evaluate(parse(text), unit, ends, units, named, year)
    except InputError as exc:
        return row | {"why": str(exc).splitlines()[0]}
    if not np.isfinite(point) or not np.isfinite(draws).all():
        return row | {"why": "the formula has no value at the forecast year's end"}
    low, high = np.quantile(draws, [0.05, 0.95])
    row |= {"value": point, "low": float(low), "high": float(high), "method": SEASONAL if seasonal else LEVEL}
    if definition is not None and definition.threshold is not None:
        row |= _against_threshold(definition, draws, ends, units, named, year)
    if target is not None:
        row["target_likely"] = _likely(draws, unit, target)
    return row


def _evaluate(expression: Expression, unit: str, ends: dict[str, YearEnd], units: dict[str, str], named: Named, year: int
              ) -> tuple[float, Floats, bool]:
    """(point, draws, whether every part follows the year before) of a formula; InputError names the part without forecast."""
    values: dict[str, Floats | float] = {}
    points: dict[str, Floats | float] = {}
    own: dict[str, str] = {}
    seasonal = True
    for name in expression.names:
        if name in ends:
            values[name], points[name], own[name] = ends[name].draws, ends[name].point, units[name]
            seasonal = seasonal and ends[name].seasonal
            continue
        if "@" not in name:
            raise InputError(f"{name}: no forecast, less than four weeks of it or less than half of the days so far are known")
        figure = named.figure(name, parse_period(str(year), named.zone))
        if figure.value is None:
            raise InputError(f"{name}: {figure.inputs.get('withheld', 'not known')}")
        values[name] = points[name] = figure.value
        own[name] = figure.unit
    checked = expression.checked(own, unit)
    return float(checked.evaluate(points)), np.asarray(checked.evaluate(values)) + np.zeros(1), seasonal


def _against_threshold(definition: Definition, draws: Floats, ends: dict[str, YearEnd], units: dict[str, str], named: Named,
                       year: int) -> dict[str, Any]:
    try:
        point, limits, _ = _evaluate(parse(definition.threshold or ""), "1", ends, units, named, year)
    except InputError:
        return {}
    if not np.isfinite(point):
        return {}
    return {"threshold": point, "threshold_likely": float(np.mean(definition.keeps(draws, limits)))}


def _likely(draws: Floats, unit: str, target: tuple[float, str, str]) -> float | None:
    """How likely the target is met; None where it is stated in another dimension."""
    value, stated, sense = target
    here, there = measure(unit), measure(stated)
    if here.dimensions != there.dimensions:
        return None
    limit = value * there.factor / here.factor
    return float(np.mean(draws <= limit if sense == "at_most" else draws >= limit))
