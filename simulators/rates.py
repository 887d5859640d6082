"""Rates and their exact integrals: every load and stream of the park at any instant, without running through time.

A leaf's rate is given at knots every 15 minutes, straight between them, with a ripple inside each slot that integrates
to zero; so its total (kWh, Nm3, t, m3) has a closed form, and history on the grid and the live run agree to the last
digit. Sums of leaves (mains, gates, incomers) are linear in them: energy is conserved in rates and in totals.
Faults that change the physics (a leak, a stopped treatment facility) enter here, with their own exact integral.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

import numpy as np
from numpy.typing import NDArray

from simulators.faults import RATE, Fault
from simulators.noise import Floats, key_of, smooth, uniform
from simulators.scenario import Rate, Scenario
from simulators.shapes import activity_of
from simulators.sky import DAY_S, ZONE_S, Sky

SLOT_S = 900
SLOTS = DAY_S // SLOT_S
RIPPLES = 4           # waves of the ripple in a slot
RIPPLE = 0.03         # its greatest share of the rate
_KEPT_DAYS = 48


def opened_at(scenario: Scenario) -> float:
    """Epoch seconds of the local midnight at which the park's counters start."""
    day = scenario.opened
    return datetime(day.year, day.month, day.day, tzinfo=timezone(timedelta(seconds=ZONE_S))).timestamp()


@dataclass(frozen=True)
class _Effect:
    """A fault of a leaf: rate += (factor - 1) * rate + add during [start, end)."""

    leaf: int
    start: float
    end: float
    factor: float
    add: float
    total_at_start: float
    total_at_end: float

    @property
    def whole(self) -> float:
        """What the fault has added to the total when it is over."""
        return (self.factor - 1.0) * (self.total_at_end - self.total_at_start) + self.add * (self.end - self.start) / 3600.0


class Rates:
    """Rates and totals of leaves and sums. `names` are the columns of what `at` returns."""

    def __init__(self, scenario: Scenario, sky: Sky) -> None:
        self.scenario, self.sky = scenario, sky
        self.leaves = list(scenario.rates)
        self.names = [*self.leaves, *_in_order(scenario)]
        self.index = {name: i for i, name in enumerate(self.names)}
        self.opened = opened_at(scenario)
        self._first_day = round((self.opened + ZONE_S) / DAY_S)
        self._matrix, self._base = _linear(scenario, self.leaves, self.names)
        self._keys = np.array([key_of(sky.seed, "ripple", n) for n in self.leaves], dtype=np.uint64)
        self._days: dict[int, tuple[Floats, Floats]] = {}
        self._before = np.zeros((1, len(self.leaves)))      # totals at the start of each day since the opening
        self._effects: list[_Effect] = []
        self.rated = np.maximum(1e-9, np.abs(self._matrix) @ np.array([scenario.rates[n].rated for n in self.leaves]))

    def add_faults(self, faults: Sequence[Fault]) -> None:
        """Take faults of kind RATE into rates and totals from now on."""
        mine = [f for f in faults if f.kind in RATE and f.target in self.scenario.rates]
        if not mine:
            return
        ends = np.array([[f.start, f.end] for f in mine])
        totals = self._plain(ends.ravel())[1].reshape(len(mine), 2, -1)
        for i, fault in enumerate(mine):
            leaf = self.index[fault.target]
            self._effects.append(_Effect(leaf, fault.start, fault.end, *_strength(fault, self.scenario.rates[fault.target]),
                                         float(totals[i, 0, leaf]), float(totals[i, 1, leaf])))
        self._starts = np.array([e.start for e in self._effects])
        self._ends = np.array([e.end for e in self._effects])
        self._leaf_of = np.array([e.leaf for e in self._effects])
        self._whole = np.array([e.whole for e in self._effects])

    def at(self, t: Floats) -> tuple[Floats, Floats]:
        """(rates in unit per hour, totals in unit since the opening), each of shape (T, names), at UTC seconds `t`."""
        plain_rate, plain_total = self._plain(t)
        rate, total = plain_rate.copy(), plain_total.copy()
        if t.size and self._effects:
            first, last = float(t.min()), float(t.max())
            over = self._ends <= first
            total += np.bincount(self._leaf_of[over], self._whole[over], minlength=len(self.leaves))
            for i in np.flatnonzero(~over & (self._starts < last)):
                _apply(self._effects[i], t, plain_rate, plain_total, rate, total)
        hours = (t - self.opened) / 3600.0
        return rate @ self._matrix.T + self._base, total @ self._matrix.T + np.outer(hours, self._base)

    def without_faults(self, t: Floats) -> Floats:
        """Rates of the leaves, (T, leaves), had nothing gone wrong."""
        return self._plain(t)[0]

    def _plain(self, t: Floats) -> tuple[Floats, Floats]:
        """Rates and totals of the leaves without faults, shape (T, leaves)."""
        local = t + ZONE_S
        day = np.floor(local / DAY_S).astype(np.int64)
        unique, place = np.unique(day, return_inverse=True)
        self._count_days(int(unique[-1]) + 1)
        self._load_days(unique)
        tables = [self._days[int(d)] for d in unique]
        level, total = np.stack([a for a, _ in tables]), np.stack([b for _, b in tables])
        second = local - day * float(DAY_S)
        slot = np.minimum(second // SLOT_S, SLOTS - 1).astype(np.int64)
        x = (second / SLOT_S - slot)[:, None]
        a, b = level[place, slot], level[place, slot + 1]
        start = total[place, slot] + self._before[unique - self._first_day][place]
        rate, grown = a + (b - a) * x, (a * x + 0.5 * (b - a) * x * x)
        if x.any():
            size = RIPPLE * np.minimum(a, b) * (2 * uniform(self._keys, (day * SLOTS + slot)[:, None]) - 1)
            turn = 2 * np.pi * RIPPLES
            rate = rate + size * np.sin(turn * x)
            grown = grown + size * (1.0 - np.cos(turn * x)) / turn
        return rate, start + grown * (SLOT_S / 3600.0)

    def _count_days(self, last: int) -> None:
        """Extend the table of totals at day starts so that it covers day number `last`."""
        have = self._first_day + len(self._before) - 1
        while have < last:
            upto = min(last, have + 64)
            levels = self._levels(have, upto)
            daily = (levels[:, :-1] + levels[:, 1:]).sum(axis=1) * (0.5 * SLOT_S / 3600.0)
            self._before = np.vstack([self._before, self._before[-1] + np.cumsum(daily, axis=0)])
            have = upto

    def _load_days(self, days: NDArray[np.int64]) -> None:
        """Keep (levels, totals since midnight) at the 97 knots, shape (97, leaves), of each of these days."""
        wanted = {int(d) for d in days}
        if len(self._days) > _KEPT_DAYS:
            self._days = {d: v for d, v in self._days.items() if d in wanted}
        missing = sorted(wanted - self._days.keys())
        for run in _runs(missing):
            for day, level in zip(range(run[0], run[-1] + 1), self._levels(run[0], run[-1] + 1), strict=True):
                if day not in wanted:
                    continue
                grown = np.cumsum((level[:-1] + level[1:]) * (0.5 * SLOT_S / 3600.0), axis=0)
                self._days[day] = level, np.vstack([np.zeros(level.shape[1]), grown])

    def _levels(self, first: int, last: int) -> NDArray[np.float64]:
        """Levels at the knots of days [first, last), shape (days, 97, leaves)."""
        knots = np.arange(first * SLOTS, last * SLOTS + 1, dtype=np.float64) * SLOT_S - ZONE_S
        warm = self.sky.temperature(knots)
        years = (knots - self.opened) / (365.25 * DAY_S)
        activities = {n: activity_of(a, n, self.sky, knots) for n, a in self.scenario.activities.items()}
        flat = np.stack([_level(self.scenario.rates[n], n, self.sky.seed, activities, knots, warm, years)
                         for n in self.leaves], axis=1)
        index = np.arange(last - first)[:, None] * SLOTS + np.arange(SLOTS + 1)
        result: Floats = flat[index]
        return result


def _runs(days: list[int]) -> list[list[int]]:
    """Sorted days in runs without a hole; many single days in runs with holes, because a run costs little more than a day."""
    runs: list[list[int]] = []
    gap = 1 if len(days) < 16 else 16
    for day in days:
        if runs and day - runs[-1][-1] <= gap and day - runs[-1][0] < 64:
            runs[-1].append(day)
        else:
            runs.append([day])
    return runs


def _apply(e: _Effect, t: Floats, plain_rate: Floats, plain_total: Floats, rate: Floats, total: Floats) -> None:
    """Add a fault that is not over at the first of the instants `t`."""
    on = (t >= e.start) & (t < e.end)
    rate[on, e.leaf] += (e.factor - 1.0) * plain_rate[on, e.leaf] + e.add
    reached = np.where(t < e.end, plain_total[:, e.leaf], e.total_at_end)
    grown = np.where(t >= e.start, reached - e.total_at_start, 0.0)
    total[:, e.leaf] += (e.factor - 1.0) * grown + e.add * (np.clip(t, e.start, e.end) - e.start) / 3600.0


def _level(rate: Rate, name: str, seed: int, activities: dict[str, Floats], t: Floats, warm: Floats, years: Floats) -> Floats:
    active = activities[rate.activity]
    level = rate.standby + (1.0 - rate.standby) * active
    if rate.noise:
        slow = 0.6 * smooth(key_of(seed, "slow", name), t, 11 * 3600.0) + 0.4 * smooth(key_of(seed, "fast", name), t, 1800.0)
        level = level * (1.0 + rate.noise * slow)
    if rate.cooling:
        level = level + rate.cooling * np.maximum(0.0, warm - rate.cool_at) * (0.3 + 0.7 * active)
    if rate.heating:
        level = level + rate.heating * np.maximum(0.0, rate.heat_at - warm) * (0.3 + 0.7 * active)
    return np.maximum(0.0, rate.rated * level * (1.0 + rate.trend * years))


def _strength(fault: Fault, rate: Rate) -> tuple[float, float]:
    """(factor, addition) of a fault: a stopped facility idles at 3 %, a night load and a leak add a constant."""
    if fault.kind == "treatment_off":
        return fault.params.get("factor", 0.03), 0.0
    if fault.kind == "night_load":
        return 1.0, fault.params.get("share", 0.3) * rate.rated
    return 1.0, fault.params.get("add", 5.0)


def _in_order(scenario: Scenario) -> list[str]:
    """Names of sums, children before parents."""
    done: list[str] = []
    waiting = list(scenario.sums)
    while waiting:
        ready = [n for n in waiting if all(c in scenario.rates or c in done for c in scenario.sums[n].of)]
        if not ready:
            raise ValueError(f"sums that contain themselves: {', '.join(waiting)}")
        done += ready
        waiting = [n for n in waiting if n not in ready]
    return done


def _linear(scenario: Scenario, leaves: Sequence[str], names: Sequence[str]) -> tuple[Floats, Floats]:
    """Matrix (names, leaves) and base (names) such that rates of names = leaves @ matrix.T + base."""
    index = {n: i for i, n in enumerate(names)}
    matrix, base = np.zeros((len(names), len(leaves))), np.zeros(len(names))
    matrix[: len(leaves)] = np.eye(len(leaves))
    for name in names[len(leaves):]:
        total = scenario.sums[name]
        for child, share in total.of.items():
            matrix[index[name]] += share * matrix[index[child]] * (1.0 + total.loss)
            base[index[name]] += share * base[index[child]] * (1.0 + total.loss)
        base[index[name]] += total.base
    return matrix, base
