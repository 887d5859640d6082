"""Rules over hours rather than readings: emission hours, balance, baseline. Judged in a slow pass from the tables of
accounting and the rollups; each judge is a function of the context and the instant."""

from __future__ import annotations

from datetime import datetime

from alerts import balance, baseline, emission, linkage
from alerts.context import Context
from alerts.finding import Finding
from alerts.store import Connection, Q


def judge(conn: Connection, context: Context, links: linkage.Memory, hours: baseline.Memory,
          now: datetime) -> list[Finding]:
    """Findings of every slow rule, and what the linkage has to know of the facilities' power."""
    links.learned_kw = {(base, point): kw for base, point, kw in conn.execute(Q["power_bands"]).fetchall()}
    return emission.judge(conn, context, now) + balance.judge(conn, context, now) + baseline.judge(conn, context, hours, now)
