"""A finding: what a rule says about its object now. Every rule kind ends in findings; `store` turns them into transitions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np

from alerts.rules import Rule

Key = tuple[int, int, int | None, int | None, int | None]    # base, rule, point, unit, device: one open alert each


@dataclass(frozen=True)
class Finding:
    """The condition of (rule, object) is present (True) or gone (False); unknown is no finding at all.

    Instants aware UTC; numbers in `unit`; None is not known or not applicable.
    """

    rule: Rule
    present: bool
    at: datetime                        # when the condition was found, by the clock; for late ones when it was
    point_id: int | None = None
    unit_id: int | None = None
    device_id: int | None = None
    value: float | None = None
    expected: float | None = None
    low: float | None = None
    high: float | None = None
    unit: str = ""
    channel: str = ""
    severity: str = ""                  # empty: the rule's
    late: bool = False
    returned_at: datetime | None = None # a late condition that is over
    explanation: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""

    @property
    def key(self) -> Key:
        return self.rule.base_id, self.rule.rule_id, self.point_id, self.unit_id, self.device_id

    @property
    def latched(self) -> bool:
        """Whether it returns only once somebody has acknowledged it."""
        return bool(self.rule.params.get("latch", False))

    @property
    def rank(self) -> str:
        return self.severity or self.rule.severity


def finite(value: float | None) -> float | None:
    """A number as JSON and the database take it: not finite is None."""
    return float(value) if value is not None and np.isfinite(value) else None
