"""Rules over hours and slots rather than readings: emission hours, balance, baseline, demand. Judged in a slow pass
from the tables of accounting, the rollups and the readings; each judge is a function of the context and the instant."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta

import psycopg

from alerts import balance, baseline, demand, emission, facility, late, late_marks, late_means, linkage, means
from alerts.context import Context
from alerts.finding import Finding
from alerts.store import Connection

log = logging.getLogger("park.alerts")
DAYS_EVERY = timedelta(minutes=5)     # figures of days change seldom and their views read much


def judge(conn: Connection, context: Context, links: linkage.Memory, hours: baseline.Memory,
          now: datetime) -> list[Finding]:
    """Findings of every slow rule, and what the linkage has to know of the facilities' power."""
    links.learned_kw = facility.learned(conn)
    days_due = hours.days_at is None or now - hours.days_at >= DAYS_EVERY
    hours.days_at = now if days_due else hours.days_at
    judges: tuple[tuple[str, Callable[[], list[Finding]]], ...] = (
        ("emission_limit", lambda: emission.judge(conn, context, now, links.learned_kw, days=days_due)),
        ("balance", lambda: balance.judge(conn, context, now, links.learned_kw) if days_due else []),
        ("baseline", lambda: baseline.judge(conn, context, hours, now)),
        ("limit, means", lambda: means.judge(conn, context, hours, now)),
        ("demand", lambda: demand.judge(conn, context, now)),
        ("limit, late", lambda: late.judge(conn, context, hours.late, now, links.learned_kw) if days_due else []),
        ("means, late", lambda: late_means.judge(conn, context, now, links.learned_kw) if days_due else []),
        ("marked hours, late", lambda: late_marks.judge(conn, context, now, links.learned_kw)),
    )
    found: list[Finding] = []
    for kind, one in judges:
        try:
            found += one()
        except (psycopg.ProgrammingError, psycopg.DataError):     # one kind's trouble must not silence the others
            log.exception("rules of kind %s could not be judged", kind)
    return found
