"""Rules over hours rather than readings: emission hours, baseline, balance. Judged in a slow pass from the tables of
accounting and the rollups; each judge is a function of the context and the instant."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from alerts.context import Context
from alerts.finding import Finding
from alerts.live import Live
from alerts.store import Connection


@dataclass
class Memory:
    """What the slow rules have learned, by rule."""

    learned: dict[Any, Any] = field(default_factory=dict)


def judge(conn: Connection, context: Context, live: Live, memory: Memory, now: datetime) -> list[Finding]:
    """Findings of every slow rule."""
    return []
