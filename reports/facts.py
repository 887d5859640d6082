"""Reads what a report is made of: rows of the figures' views for one year, as known now or at an instant.

Nothing is computed here but the borders of the year.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import psycopg
from psycopg.rows import class_row

from park.clock import local_midnight
from park.database import queries
from park.errors import NotFound
from reports.accounts import Account, BillRow, Passed, Stock, Waste, Water
from reports.goals import Forecast, Indicator, Programme, Target
from reports.outlets import Emission, Event, Limit, Transmission
from reports.rows import Balance, Base, Energy, Enterprise, Entry, Exchange, Factor, Later, PeriodCost, Span, Year
from reports.running import (
    Alert,
    AlertCount,
    AlertMonth,
    AlertRates,
    AlertRule,
    AlertSystem,
    Availability,
    Case,
    Outcome,
    Points,
)

SQL = queries(Path(__file__).parent / "queries.sql")
LISTED_ALERTS = 100
Connection = psycopg.Connection[Any]
T = TypeVar("T")


def find_base(conn: Connection, code: str) -> Base:
    """The base; NotFound naming the ones there are."""
    found = _rows(conn, "base", Base, {"code": code})
    if not found:
        known = ", ".join(row[0] for row in conn.execute(SQL["bases"])) or "none, apply a catalogue first"
        raise NotFound(f"there is no base {code!r}; known: {known}")
    return found[0]


@contextmanager
def looking_back(conn: Connection, base: Base, as_of: datetime, *, pinned: bool) -> Iterator[datetime]:
    """A transaction that sees what was known at `as_of` when that was asked for; the instant that could be taken.

    Versions older than a month are kept by the day, so an older instant is the local midnight before it.
    """
    with conn.transaction():
        taken = as_of
        if pinned:
            row = conn.execute(SQL["look_back"], {"as_of": as_of, "zone": base.timezone}).fetchone()
            assert row is not None
            taken = row[0]
        yield taken
        conn.execute(SQL["look_at_present"])


def span_of(year: int, zone: str, as_of: datetime) -> Span:
    """The borders of a base-local year; `through` is the last day that had ended at `as_of` (before `first`: none)."""
    first, last = date(year, 1, 1), date(year, 12, 31)
    yesterday = as_of.astimezone(ZoneInfo(zone)).date() - timedelta(days=1)
    through = min(last, yesterday)
    start = local_midnight(first, zone)
    return Span(year, first, last, through, start, max(start, local_midnight(through + timedelta(days=1), zone)))


def data_days(conn: Connection, base: Base) -> tuple[date | None, date | None]:
    """First and last day with any figure."""
    row = conn.execute(SQL["data_days"], {"base": base.base_id}).fetchone()
    return (row[0], row[1]) if row else (None, None)


def enterprises(conn: Connection, base: Base) -> list[Enterprise]:
    """Enterprises of the base."""
    return _rows(conn, "enterprises", Enterprise, {"base": base.base_id})


def targets(conn: Connection, base: Base) -> list[Target]:
    """Targets of every year."""
    return _rows(conn, "targets", Target, {"base": base.base_id})


def factors(conn: Connection, ids: set[int]) -> list[Factor]:
    """Factor rows by id."""
    return _rows(conn, "factors", Factor, {"ids": sorted(ids)})


def read_year(conn: Connection, base: Base, year: int, as_of: datetime) -> Year:
    """Every row of one year; inside `looking_back` as known then."""
    span, of = _span_and_values(base, year, as_of)
    return Year(
        **_headline_rows(conn, span, of),
        later=_rows(conn, "begins_later", Later, of),
        balance=_rows(conn, "balance", Balance, of),
        account=_rows(conn, "account", Account, of),
        bills=_rows(conn, "bills", BillRow, of),
        water=_rows(conn, "water", Water, of),
        waste=_rows(conn, "waste", Waste, of),
        passed=_rows(conn, "passed", Passed, of),
        stock=_rows(conn, "stock", Stock, of),
        exchange=_rows(conn, "exchange", Exchange, of),
        cost=_rows(conn, "cost_by_period", PeriodCost, of),
        transmission=_rows(conn, "transmission", Transmission, of),
        limits=_rows(conn, "limits", Limit, of),
        events=_rows(conn, "treatment_events", Event, of),
        cases=_rows(conn, "cases", Case, of),
        availability=_rows(conn, "availability", Availability, of),
        points=_rows(conn, "points", Points, of),
        alerts_since=conn.execute(SQL["alerts_since"], of).fetchall()[0][0],
        alert_counts=_rows(conn, "alert_counts", AlertCount, of),
        alert_systems=_rows(conn, "alert_systems", AlertSystem, of),
        alert_months=_rows(conn, "alert_months", AlertMonth, of),
        alert_rates=_rows(conn, "alert_rates", AlertRates, of)[0],
        alerts=_rows(conn, "alert_list", Alert, of),
        alert_rules=_rows(conn, "alert_rules", AlertRule, of),
        outcomes=_rows(conn, "ingest_outcomes", Outcome, of),
        forecasts={f.indicator: f for f in _rows(conn, "forecasts", Forecast, of)},
        programmes=_rows(conn, "programmes", Programme, of),
    )


def read_former(conn: Connection, base: Base, year: int, as_of: datetime) -> Year:
    """What a year must hold to be compared with: energy, emissions, indicators and ledger."""
    span, of = _span_and_values(base, year, as_of)
    return Year(**_headline_rows(conn, span, of))


def _headline_rows(conn: Connection, span: Span, of: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "span": span,
        "energy": _rows(conn, "energy_month", Energy, of),
        "emission": _rows(conn, "emission", Emission, of),
        "indicators": {i.indicator: i for i in _rows(conn, "indicators", Indicator, of)},
        "ledger": _rows(conn, "ledger", Entry, of),
    }


def _span_and_values(base: Base, year: int, as_of: datetime) -> tuple[Span, Mapping[str, Any]]:
    span = span_of(year, base.timezone, as_of)
    return span, {
        "base": base.base_id,
        "first": span.first,
        "last": span.through,
        "year_end": span.last,
        "start": span.start,
        "end": span.end,
        "zone": base.timezone,
        "period": str(year),
        "limit": LISTED_ALERTS,
    }


def _rows(conn: Connection, name: str, kind: type[T], values: Mapping[str, Any]) -> list[T]:
    with conn.cursor(row_factory=class_row(kind)) as cur:
        return cur.execute(SQL[name], values).fetchall()
