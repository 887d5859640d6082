"""`hold_s` and `clear_hold_s` of the kinds that are judged in passes: so long lasts a condition before it is raised or returns.

Instant rules and the linkage keep their own holds. A pass that knows nothing of an object leaves its hold as it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from alerts.finding import Finding, Key


@dataclass
class Holds:
    """Since when (epoch) each condition is present, or gone."""

    since: dict[tuple[Key, bool], float] = field(default_factory=dict)

    def due(self, found: Iterable[Finding], now: datetime) -> list[Finding]:
        """Findings whose hold is over; late ones have theirs behind them."""
        return [f for f in found if f.late or self._is_due(f, now.timestamp())]

    def _is_due(self, f: Finding, now: float) -> bool:
        if f.rule.instant or f.rule.kind == "linkage":
            return True
        hold_s = float(f.rule.params.get("hold_s" if f.present else "clear_hold_s") or 0.0)
        self.since.pop((f.key, not f.present), None)
        if hold_s <= 0:
            return True
        return now - self.since.setdefault((f.key, f.present), now) >= hold_s
