"""Faults of the simulated park and when they happen: written ones, random ones by week, and those of the live run.

A schedule is a function of the seed alone (the live one also of the instant the live run first began), so that ground
truth can be told for any span without having run through it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np

from simulators.noise import key_of
from simulators.scenario import Faults, Random

WEEK_S = 7 * 86_400.0
FIRST_LIVE_S = 150.0

# what the fault acts on
RATE = ("treatment_off", "night_load", "leak")
OUTLET = ("calibration", "maintenance")
POLLUTANT = ("exceedance",)
POINT = ("gap", "reset", "swap", "spike", "stuck", "scale")
DEVICE = ("offline", "late", "wrong_clock")
KINDS = (*RATE, *OUTLET, *POLLUTANT, *POINT, *DEVICE)


@dataclass(frozen=True, eq=False)
class Fault:
    """One fault: [start, end) in epoch seconds. `reset` and `swap` last for ever from `start`; `end` is when they were seen."""

    kind: str
    target: str
    start: float
    end: float
    params: dict[str, float] = field(default_factory=dict)
    origin: str = "random"

    def overlaps(self, start: float, end: float) -> bool:
        """Whether the fault is on at any time of [start, end]."""
        return self.start <= end and self.end > start

    def truth(self) -> dict[str, Any]:
        """The row of ground truth."""
        return {"kind": self.kind, "target": self.target, "start": _iso(self.start), "end": _iso(self.end),
                "origin": self.origin, "detail": dict(self.params)}


def _iso(at: float) -> str:
    return datetime.fromtimestamp(round(at), UTC).isoformat().replace("+00:00", "Z")


class Schedule:
    """All faults of a scenario by time; weeks are drawn when they are first asked for."""

    def __init__(self, faults: Faults, seed: int, opened: float, live_from: float | None = None) -> None:
        self._faults, self._seed, self._opened, self._live_from = faults, seed, opened, live_from
        self._scripted = [Fault(s.kind, s.target, at, at + s.minutes * 60, dict(s.params), "scripted")
                          for s in faults.scripted for at in (s.at.timestamp(),)]
        self.all: list[Fault] = []
        self._week, self._slot = 0, 0

    def until(self, at: float) -> list[Fault]:
        """Draw everything that starts before `at`; the new faults, without overlaps on one target.

        Weeks run a day ahead of live slots, so that what is dropped for an overlap does not depend on the steps of `at`.
        """
        fresh: list[Fault] = []
        while self._opened + self._week * WEEK_S <= at + 86_400.0:
            fresh += self._without_overlap(sorted(self._of_week(self._week), key=lambda f: (f.start, f.kind, f.target)))
            self._week += 1
        if self._live_from is not None:
            while self._live_start(self._slot) <= at:
                fault = self._of_slot(self._slot)
                fresh += self._without_overlap([fault] if fault else [])
                self._slot += 1
        return fresh

    def _without_overlap(self, faults: Sequence[Fault]) -> list[Fault]:
        if not faults:
            return []
        kept: list[Fault] = []
        earliest = min(f.start for f in faults) - 900
        against = [f for f in self.all if f.end >= earliest and (f.origin != "live" or faults[0].origin == "live")]
        for fault in faults:
            if not any(_same_place(f, fault) and f.overlaps(fault.start - 900, fault.end + 900) for f in (*against, *kept)):
                kept.append(fault)
        self.all += kept
        return kept

    def _of_week(self, week: int) -> list[Fault]:
        start = self._opened + week * WEEK_S
        found = [f for f in self._scripted if start <= f.start < start + WEEK_S]
        for i, row in enumerate(self._faults.random):
            rng = np.random.default_rng([self._seed, week, i])
            for _ in range(int(rng.poisson(row.per_week))):
                found.append(_draw(row, rng, start + float(rng.uniform(0, WEEK_S)), "random"))
        return found

    def _live_start(self, slot: int) -> float:
        assert self._live_from is not None
        return self._live_from + FIRST_LIVE_S + slot * self._faults.live.every_min * 60

    def _of_slot(self, slot: int) -> Fault | None:
        rows = self._faults.live.faults
        if not rows:
            return None
        around, place = divmod(slot, len(rows))
        order = np.random.default_rng([self._seed, key_of(self._seed, "live", around) % 2**32]).permutation(len(rows))
        row = rows[place] if around == 0 else rows[order[place]]
        rng = np.random.default_rng([self._seed, slot, 77])
        return _draw(row, rng, self._live_start(slot) + float(rng.uniform(0, 60)), "live")


def _draw(row: Random, rng: np.random.Generator, start: float, origin: str) -> Fault:
    low, high = row.minutes
    minutes = float(np.exp(rng.uniform(np.log(low), np.log(high))))
    params = {k: float(rng.uniform(*span)) for k, span in row.params.items()}
    target = row.targets[int(rng.integers(len(row.targets)))]
    if row.kind == "night_load" and origin == "random":
        # begins in the evening, when the load should have gone: 21:00 local is 13:00 UTC
        start = float(np.floor(start / 86_400.0)) * 86_400.0 + 13 * 3600.0 + float(rng.uniform(0, 5400))
    return Fault(row.kind, target, round(start), round(start + minutes * 60), params, origin)


def _same_place(a: Fault, b: Fault) -> bool:
    return a.target == b.target or a.target.startswith(b.target + ".") or b.target.startswith(a.target + ".")
