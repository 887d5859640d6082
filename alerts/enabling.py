"""When a rule is in force: by the state of the plant, the kind of day, the hours and the season (params of every rule).

Outside of that a rule raises nothing; an alert that is active then is suppressed by design until it is in force again, and
may return meanwhile. Unknown is a state of its own: a rule for `running` is not in force while nobody knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from alerts.daytype import day_type
from alerts.rules import Point, Rule

Flags = NDArray[np.bool_]
Floats = NDArray[np.float64]
STATES = {1: "running", 0: "stopped", -1: "unknown"}
UnitKey = tuple[int, int]


@dataclass(frozen=True)
class Gate:
    """The pairs of a rule that are in force together: those whose plant is the same unit (None: the calendar alone)."""

    rule: Rule
    plant: UnitKey | None
    pairs: NDArray[np.intp]


@dataclass
class Calendars:
    """Own day classes of each base, and what was worked out of a rule's calendar for a minute."""

    own: Mapping[int, Mapping[date, str]] = field(default_factory=dict)
    known: dict[tuple[int, int], tuple[int, bool]] = field(default_factory=dict)

    def in_force(self, rule: Rule, now: float, zone: str) -> bool:
        """Whether the rule's calendar allows it at an epoch."""
        if not has_calendar(rule):
            return True
        key, minute = (rule.base_id, rule.rule_id), int(now // 60)
        at, answer = self.known.get(key, (-1, False))
        if at != minute:
            answer = bool(calendar_mask(rule, np.array([now]), zone, self.own.get(rule.base_id, {}))[0])
            self.known[key] = minute, answer
        return answer


def has_calendar(rule: Rule) -> bool:
    """Whether days, times or a season bind the rule."""
    return any(rule.params.get(name) is not None for name in ("days", "between", "season"))


def is_bound(rule: Rule) -> bool:
    """Whether the rule is not always in force."""
    return has_calendar(rule) or rule.params.get("plant") is not None


def listed(rule: Rule, name: str) -> list[str] | None:
    """A field that may hold one word or several."""
    value = rule.params.get(name)
    return None if value is None else list(value) if isinstance(value, list) else [value]


def calendar_mask(rule: Rule, at: Floats, zone: str, own: Mapping[date, str]) -> Flags:
    """(T,) whether the calendar of the rule allows it at each epoch."""
    local = local_seconds(at, zone)
    out = np.ones(len(at), bool)
    if (hours := rule.params.get("between")) is not None:
        start, end = (int(t[:2]) * 60 + int(t[3:]) for t in hours.split("-"))
        minute = (local // 60) % 1440
        out &= (minute >= start) & (minute < end) if start <= end else (minute >= start) | (minute < end)
    days, of = np.unique(local // 86400, return_inverse=True)
    dates = [datetime.fromtimestamp(int(d) * 86400, UTC).date() for d in days]
    if (words := listed(rule, "days")) is not None:
        out &= np.array([day_type(d, own) in words for d in dates], bool)[of]
    if (season := rule.params.get("season")) is not None:
        first, last = season.split("..")
        marks = [d.strftime("%m-%d") for d in dates]
        out &= np.array([first <= m <= last if first <= last else m >= first or m <= last for m in marks], bool)[of]
    return out


def local_seconds(at: Floats, zone: str) -> NDArray[np.int64]:
    """(T,) seconds of the zone's own clock; its offset is looked up once an hour."""
    hours, of = np.unique((at // 3600).astype(np.int64), return_inverse=True)
    tz = ZoneInfo(zone)
    offsets = [datetime.fromtimestamp(int(h) * 3600, UTC).astimezone(tz).utcoffset() for h in hours]
    seconds = np.array([o.total_seconds() if o else 0.0 for o in offsets])
    out: NDArray[np.int64] = np.floor(at + seconds[of]).astype(np.int64)
    return out


def plant_of(rule: Rule, point: Point | None, unit_id: int | None, codes: Mapping[tuple[int, str], int],
             parents: Mapping[UnitKey, int | None], facilities: Mapping[UnitKey, object]) -> UnitKey | None:
    """The unit whose state binds the rule: the one that it names, else the nearest one above that shows whether it runs."""
    if rule.params.get("plant") is None:
        return None
    named = rule.params.get("plant_unit")
    at = codes.get((rule.base_id, named)) if named else point.unit_id if point is not None else unit_id
    first = at
    while at is not None and (rule.base_id, at) not in facilities and not named:
        at = parents.get((rule.base_id, at))
    return None if first is None else (rule.base_id, first if at is None else at)


def open_now(rule: Rule, plant: UnitKey | None, states: Mapping[UnitKey, int], calendars: Calendars, now: float,
             zone: str) -> bool:
    """Whether the rule is in force for what belongs to the plant."""
    words = listed(rule, "plant")
    if words is not None and STATES[states.get(plant, -1) if plant else -1] not in words:
        return False
    return calendars.in_force(rule, now, zone)
