"""Hours with data of days that are over (`availability_day`): what availability of a month or year is summed from.

A day is counted when a reading changes it after it has ended, and once when it ends; today is never kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from accounting.columns import Connection
from accounting.counters import SQL
from park.clock import local_midnight

Span = tuple[int, datetime, datetime]


def recount(conn: Connection, base_id: int, zone: str, spans: Sequence[Span], now: datetime) -> None:
    """Count again the days that are over within spans (point, first, until)."""
    tz = ZoneInfo(zone)
    today = now.astimezone(tz).date()
    former = [span for span in spans if span[1] < local_midnight(today, zone)]
    if former:
        first, last = min(low for _, low, _ in former), max(high for *_, high in former)
        _count(conn, base_id, [p for p, *_ in former], first.astimezone(tz).date(), min(today, last.astimezone(tz).date()),
               only_missing=False)


def end_days(conn: Connection, base_id: int, zone: str, since: datetime, now: datetime) -> None:
    """Count the days that have ended since an instant and are not counted yet, of every point: silent ones too."""
    today = now.astimezone(ZoneInfo(zone)).date()
    first = since.astimezone(ZoneInfo(zone)).date() - timedelta(days=1)
    if first < today:
        _count(conn, base_id, None, first, today, only_missing=True)


def _count(conn: Connection, base_id: int, points: list[int] | None, first: date, last: date, *, only_missing: bool) -> None:
    conn.execute(SQL["count_hours"], {"base": base_id, "points": points, "first": first, "last": last, "missing": only_missing})
