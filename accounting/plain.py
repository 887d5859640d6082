"""Slots of many counters at once, of those whose readings raise no question. Pure numpy.

Most counters most of the time have one meter whose register only grows, read without a gap. Theirs need no decision: the
register is cut at the slot borders, thousands of counters in a handful of array operations. Every other counter goes one by one
through `intervals`, which gives the same figures for a plain one (a test holds them together).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from accounting.columns import Columns
from accounting.gaps import gaps_in
from accounting.intervals import JUMP, REACH, SLOT_US, Bools, Floats, Ints
from park.quality import LAST_USABLE, Quality


@dataclass(frozen=True)
class Readings:
    """Readings of n counters one after the other, in order of time: those of counter i are [start[i], start[i + 1])."""

    ts: Ints
    value: Floats
    quality: Ints
    start: Ints

    def of(self, i: int) -> Columns:
        """The readings of one counter."""
        part = slice(int(self.start[i]), int(self.start[i + 1]))
        return {"ts": self.ts[part], "value": self.value[part], "quality": self.quality[part]}


@dataclass(frozen=True)
class Asked:
    """What is asked of n counters: the window [low, high) that changed, ratio with that of the meter, pace, one meter only."""

    point_id: Ints
    low: Ints
    high: Ints
    ratio: Floats
    expected_s: Floats
    one_meter: Bools

    def some(self, which: Bools) -> Asked:
        """The same of some of the counters."""
        return Asked(self.point_id[which], self.low[which], self.high[which], self.ratio[which], self.expected_s[which],
                     self.one_meter[which])


@dataclass(frozen=True)
class Plain:
    """Which counters are plain; of those the slots as columns, and for each counter the reach [low, high) in whole slots."""

    which: Bools
    slots: Columns
    low: Ints
    high: Ints


def plain_slots(readings: Readings, asked: Asked) -> Plain:
    """The slots that the windows of plain counters decide."""
    n = len(asked.point_id)
    who = np.repeat(np.arange(n), np.diff(readings.start))
    good = (readings.quality <= LAST_USABLE) & np.isfinite(readings.value)
    at, value, who = (readings.ts, readings.value, who) if good.all() else (readings.ts[good], readings.value[good], who[good])
    which = _plain(at, value, who, asked)
    if not which.all():
        some = which[who]
        at, value, who = at[some], value[some], (np.cumsum(which) - 1)[who[some]]
    mine = asked.some(which)
    low, high = asked.low.copy(), asked.high.copy()
    if not len(at):
        return Plain(which, _cut(at, value, who, mine, mine.low, mine.high), low, high)
    low[which], high[which] = reach = _reach(at, who, mine)
    return Plain(which, _cut(at, value, who, mine, *reach), low, high)


def _plain(at: Ints, value: Floats, who: Ints, asked: Asked) -> Bools:
    """Counters with one meter and at least two readings, whose register neither falls nor jumps and that have no gap."""
    n = len(asked.point_id)
    step, length = np.diff(value), np.diff(at)
    apart = who[1:] != who[:-1]
    odd = (step < 0) | (step > JUMP * np.abs(value[:-1])) | (length <= 0) | gaps_in(length, asked.expected_s[who[:-1]], apart)
    odd &= ~apart
    plain: Bools = asked.one_meter & (np.bincount(who[:-1][odd], minlength=n) == 0) & (np.bincount(who, minlength=n) >= 2)
    return plain & (_span(at, asked) * n < 2**62)


def _span(at: Ints, asked: Asked) -> int:
    """More than lies between any two instants at hand: counters times this make one rising axis of all readings."""
    if not len(at):
        return 1
    return int(max(at.max(), asked.high.max()) - min(at.min(), asked.low.min())) + 4 * SLOT_US


class _Axis:
    """Readings of all counters on one rising axis, so that one search finds the places of all."""

    def __init__(self, at: Ints, who: Ints, asked: Asked) -> None:
        self.zero = int(min(at.min(), asked.low.min())) - 2 * SLOT_US
        self.span = _span(at, asked)
        self.key = at - self.zero + who * self.span
        self.start = np.searchsorted(who, np.arange(len(asked.point_id)))
        self.end = np.append(self.start[1:], len(at))

    def find(self, instant: Ints, who: Ints, side: Literal["left", "right"]) -> Ints:
        """Place of an instant among the readings of a counter, counted over all readings."""
        place: Ints = np.searchsorted(self.key, instant - self.zero + who * self.span, side=side)
        return np.clip(place, self.start[who], self.end[who])


def _reach(at: Ints, who: Ints, asked: Asked) -> tuple[Ints, Ints]:
    """First and last instant whose figures each window decides, in whole slots: REACH readings beyond it."""
    axis, each = _Axis(at, who, asked), np.arange(len(asked.point_id))
    first = np.maximum(axis.find(asked.low, each, "left") - REACH, axis.start)
    last = np.minimum(axis.find(asked.high, each, "left") + REACH, axis.end - 1)
    return np.minimum(asked.low, at[first]) // SLOT_US * SLOT_US, -(-np.maximum(asked.high, at[last]) // SLOT_US) * SLOT_US


def _cut(at: Ints, value: Floats, who: Ints, asked: Asked, low: Ints, high: Ints) -> Columns:
    """The registers cut at the slot borders in [low, high), from each counter's first reading to its last."""
    if not len(at):
        return {"point_id": np.empty(0, np.int32), "ts": np.empty(0, np.int64), "amount": np.empty(0),
                "quality": np.empty(0, np.int16), "method": np.empty(0, np.int16)}
    axis = _Axis(at, who, asked)
    first, last = at[axis.start], at[axis.end - 1]
    begin = np.maximum(first, low) // SLOT_US
    n = np.maximum(np.minimum(last // SLOT_US, high // SLOT_US) - begin, 0)
    mine = np.repeat(np.arange(len(n)), n + 1)                    # one border more than slots
    place = np.arange(len(mine)) - np.repeat(np.cumsum(n + 1) - (n + 1), n + 1)
    border = (begin[mine] + place) * SLOT_US
    i = np.clip(axis.find(border, mine, "right") - 1, axis.start[mine], axis.end[mine] - 2)
    step = np.append(np.diff(value), 0.0)
    begun = np.clip((border - at[i]) / (at[i + 1] - at[i]), 0.0, 1.0) * step[i]
    whole = np.where(i[1:] > i[:-1], np.add.reduceat(step, i)[:-1], 0.0)
    inside = np.flatnonzero(mine[1:] == mine[:-1])
    which, ts = mine[inside], border[inside]
    amount = (whole[inside] + begun[inside + 1] - begun[inside]) * asked.ratio[which]
    unknown = (ts < first[which]) | (ts + SLOT_US > last[which])
    amount[unknown] = np.nan
    return {"point_id": asked.point_id[which].astype(np.int32), "ts": ts, "amount": amount,
            "quality": np.where(unknown, Quality.MISSING, Quality.GOOD).astype(np.int16), "method": np.zeros(len(ts), np.int16)}
