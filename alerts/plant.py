"""What the rules' gates say at one instant: which units run, and which rules plant and calendar put out of force."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import numpy as np

from alerts import linkage
from alerts.context import Context
from alerts.enabling import UnitKey, is_bound, open_now, plant_of
from alerts.evaluator import Flags
from alerts.finding import Finding, Key
from alerts.live import Live
from alerts.rules import Rule

FRESH_S = 300.0     # an older reading of a facility is unknown


class Doors:
    """The gates of a context at one instant; what nobody asks is not worked out."""

    def __init__(self, context: Context, live: Live, links: linkage.Memory, now: datetime) -> None:
        self._context, self._live, self._links, self._now = context, live, links, now
        self._states: dict[UnitKey, int] = {}
        self._parents: dict[UnitKey, int | None] | None = None
        self.bound = any(is_bound(r) for r in context.rules)

    def mask(self) -> Flags | None:
        """(N,) pairs of the instant rules that are in force; None: all of them, always."""
        if not self._context.gates:
            return None
        out = np.ones(len(self._context.pairs), bool)
        for gate in self._context.gates:
            out[gate.pairs] = self._open(gate.rule, gate.plant)
        return out

    def allow(self, f: Finding) -> bool:
        """Whether the rule of a finding is in force for its object."""
        return not is_bound(f.rule) or self._open(f.rule, self._plant(f.rule, f.point_id, f.unit_id))

    def gated(self, ids: Mapping[Key, int]) -> list[int]:
        """Open alerts whose rule is not in force."""
        rules = {(r.base_id, r.rule_id): r for r in self._context.rules if is_bound(r)}
        return [alert for key, alert in ids.items()
                if (rule := rules.get(key[:2])) is not None and not self._open(rule, self._plant(rule, key[2], key[3]))]

    def _plant(self, rule: Rule, point_id: int | None, unit_id: int | None) -> UnitKey | None:
        i = self._context.index.get((rule.base_id, point_id or 0))
        point = None if i is None else self._context.points[i]
        if self._parents is None:
            self._parents = {key: u.parent_id for key, u in self._context.units.items()}
        return plant_of(rule, point, unit_id, self._context.unit_ids, self._parents, self._context.facility)

    def _open(self, rule: Rule, plant: UnitKey | None) -> bool:
        if plant is not None and plant not in self._states:
            self._states[plant] = self._state(plant)
        return open_now(rule, plant, self._states, self._context.calendars, self._now.timestamp(),
                        self._context.zones[rule.base_id])

    def _state(self, plant: UnitKey) -> int:
        unit = self._context.units.get(plant)
        if unit is None:
            return linkage.UNKNOWN
        return linkage.judge_unit(self._context, usual(plant[0]), unit, self._live, self._links, self._now).state


def usual(base: int) -> Rule:
    """A rule that judges a unit by what accounting learned of its meters."""
    return Rule(base, 0, "", "linkage", "low", "", "", {},
                {"production_on_kw": None, "treatment_off_kw": None, "fresh_s": FRESH_S})
