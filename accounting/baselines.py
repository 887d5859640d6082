"""Baselines of the database: fit one for a counter, keep it with its reason, and measure savings against it.

Only whole days count: every slot known. Temperature is the daily mean of a gauge; the calendar is the base's.
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray
from psycopg.types.json import Jsonb
from rich.console import Console

from accounting import baseline
from accounting.baseline import Data, Model, Saving, Variable
from accounting.columns import Connection
from accounting.counters import SQL
from accounting.energy import calendar_of
from park.catalogue_store import base_id_of
from park.database import connect
from park.errors import InputError, NotFound


def fit(conn: Connection, base_id: int, point: str, first: date, last: date, *, production: list[str], temperature: str | None,
        static: dict[str, Any] | None = None, reason: str = "") -> Model:
    """Fit the days [first, last] of a counter and keep the baseline; the one before it is superseded."""
    energy_id, unit = _counter(conn, base_id, point)
    products = {p: _counter(conn, base_id, p)[0] for p in production}
    air = _gauge(conn, base_id, temperature) if temperature else None
    model = baseline.fit(_data(conn, base_id, energy_id, products, air, first, last))
    ids = {**products, **({f"{v.name}": air for v in model.variables if v.kind in ("heating", "cooling")})}
    with conn.transaction():
        conn.execute(SQL["supersede_baseline"], {"base": base_id, "point": energy_id})
        conn.execute(SQL["write_baseline"], {
            "base": base_id, "point": energy_id, "unit": unit, "first": first, "last": last, "n": model.n, "r2": model.r2,
            "cv": model.cv_rmse, "sd": model.residual_sd, "rho": model.autocorrelation, "static": Jsonb(static or {}),
            "reason": reason, "covariance": Jsonb(model.covariance.tolist()),
            "variables": Jsonb([{**v.__dict__, "point_id": ids.get(v.name)} for v in model.variables])})
    return model


def savings(conn: Connection, base_id: int, point: str, first: date, last: date) -> Saving:
    """Savings of the days [first, last] against the counter's present baseline."""
    energy_id, _ = _counter(conn, base_id, point)
    row = conn.execute(SQL["baseline"], {"base": base_id, "point": energy_id}).fetchone()
    if row is None:
        raise NotFound(f"there is no baseline of {point}: fit one with `park baseline fit`")
    variables, n, r2, cv_rmse, residual_sd, rho, covariance = row
    products = {v["name"]: v["point_id"] for v in variables if v["kind"] == "production"}
    air = next((v["point_id"] for v in variables if v["kind"] in ("heating", "cooling")), None)
    terms = tuple(Variable(**{k: x for k, x in v.items() if k != "point_id"}) for v in variables)
    model = Model(terms, n, r2, cv_rmse, residual_sd, rho, np.array(covariance))
    return baseline.savings(model, _data(conn, base_id, energy_id, products, air, first, last))


def follow(conn: Connection, base_id: int, owed: set[str], today: date) -> int:
    """Savings of the owed months and years against every present baseline, of all its time for a new one; the rows changed."""
    changed = 0
    for baseline_id, code, first in conn.execute(SQL["present_baselines"], {"base": base_id}).fetchall():
        told = {row[0] for row in conn.execute(SQL["saved_periods"], {"base": base_id, "baseline": baseline_id})}
        for period in sorted((owed & _periods(first, today)) | (_periods(first, today) - told)):
            start = date(int(period[:4]), int(period[5:] or 1), 1)
            end = date(start.year + (len(period) == 4 or start.month == 12), 1 if len(period) == 4 else start.month % 12 + 1, 1)
            try:
                got = savings(conn, base_id, code, max(start, first), min(end, today) - timedelta(days=1))
            except InputError:                       # no day of the period is known: there is nothing to tell
                continue
            changed += conn.execute(SQL["write_saving"], {
                "base": base_id, "baseline": baseline_id, "period": period, "days": got.days, "unknown": got.days_unknown,
                "outside": got.days_outside, "expected": got.expected, "actual": got.actual, "saving": got.saving,
                "half": got.half_width if np.isfinite(got.half_width) else None}).rowcount
    return changed


def _periods(first: date, today: date) -> set[str]:
    """Months and years from a day to yesterday."""
    days = {first, today - timedelta(days=1)} | {date(y, m, 1) for y in range(first.year, today.year + 1) for m in range(1, 13)}
    some = {d for d in days if first <= d < today or (d.year, d.month) == (first.year, first.month)}
    return {f"{d:%Y}" for d in some} | {f"{d:%Y-%m}" for d in some}


def _counter(conn: Connection, base_id: int, code: str) -> tuple[int, str]:
    row = conn.execute("SELECT point_id, unit FROM point WHERE base_id = %s AND code = %s AND kind = 'counter'",
                       (base_id, code)).fetchone()
    if row is None:
        raise NotFound(f"there is no counter {code!r} in this base")
    return row[0], row[1]


def _gauge(conn: Connection, base_id: int, code: str) -> int:
    row = conn.execute("SELECT point_id FROM point WHERE base_id = %s AND code = %s AND quantity = 'temperature'",
                       (base_id, code)).fetchone()
    if row is None:
        raise NotFound(f"there is no temperature point {code!r} in this base")
    return int(row[0])


def _data(conn: Connection, base_id: int, energy_id: int, products: dict[str, int], air: int | None, first: date, last: date
          ) -> Data:
    if first > last:
        raise InputError(f"expected a first day before the last, got {first} and {last}")
    days = [first + timedelta(days=i) for i in range((last - first).days + 1)]
    place = {d: i for i, d in enumerate(days)}

    def daily(name: str, point: int) -> NDArray[np.float64]:
        out = np.full(len(days), np.nan)
        for day, value in conn.execute(SQL[name], {"base": base_id, "point": point, "first": first, "last": last}):
            out[place[day]] = value
        return out

    classes = calendar_of(conn, base_id, first, last)
    made = [daily("whole_days", p) for p in products.values()]
    return Data(daily("whole_days", energy_id), np.array(made).T.reshape(len(days), len(made)), tuple(products),
                None if air is None else daily("daily_means", air),
                np.array([classes[d] == "weekend" for d in days]),
                np.array([classes[d] in ("holiday", "shutdown") for d in days]))


def print_fit(database_url: str, base: str, point: str, first: date, last: date, production: list[str], temperature: str | None,
              reason: str) -> None:
    """Fit, keep and print."""
    with connect(database_url, autocommit=True, name="park baseline") as conn:
        model = fit(conn, base_id_of(conn, base), point, first, last, production=production, temperature=temperature,
                    reason=reason)
    console = Console(soft_wrap=True)
    for v in model.variables:
        console.print(f"{v.name}: {v.coefficient:,.4g} ± {1.96 * v.standard_error:,.2g}", highlight=False)
    console.print(f"{model.n} days, adjusted R² {model.r2:.3f}, CV(RMSE) {model.cv_rmse:.1%}, residual autocorrelation "
                  f"{model.autocorrelation:.2f}", highlight=False)


def print_savings(database_url: str, base: str, point: str, first: date, last: date) -> None:
    """Savings with their interval."""
    with connect(database_url, autocommit=True, name="park baseline") as conn:
        got = savings(conn, base_id_of(conn, base), point, first, last)
    Console(soft_wrap=True).print(
        f"expected {got.expected:,.0f}, actual {got.actual:,.0f}, saved {got.saving:,.0f} ± {got.half_width:,.0f} (95 %)"
        f"{'' if got.is_significant else ', not significant'}; {got.days} days, {got.days_unknown} not known, "
        f"{got.days_outside} outside the baseline's range", highlight=False)
