"""Consumption per 15-minute slot from the readings of one counter. Pure numpy: arrays in, arrays out.

The register is taken at the slot borders, interpolated between the readings that straddle them. What meters do in the
field is decided step by step (a step lies between two consecutive usable readings of a meter). A decision about a
reading looks at most `REACH` readings to either side, so that a late reading can change figures only within that many
readings, and within the gap it falls into.

Times are integers, microseconds since 2000-01-01 UTC (PostgreSQL's own). Amounts are in the point's unit, ratio applied.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from accounting.gaps import LINEAR_US, gaps_in, shape_gaps
from park.quality import LAST_USABLE, Quality

SLOT_US = 900_000_000
WINDOW = 8                       # readings to either side that say what rate is usual
HOLD = 24                        # readings for which a register that stepped back by a rounding is held
REACH = 2 * WINDOW + 8 + HOLD    # how far a decision looks in all: spikes first, then the steps between what is left
LONGEST_SPIKE = 3                # readings
JUMP = 0.2                       # of the register: a larger step is looked at
ROUNDING = 0.5                   # of the register: no step back that is larger comes of rounding, but in single precision
TURNS = np.unique(np.concatenate([10.0 ** np.arange(2, 13)]
                                 + [np.array([2.0**16, 2.0**24, 2.0**31, 2.0**32]) * s for s in (1, 0.1, 0.01, 0.001)]))

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


class Method(IntEnum):
    """How an amount came about (column `method`)."""

    MEASURED = 0
    ROLLOVER = 1
    SWAP = 2
    RESET = 3
    GAP_SPLIT = 4
    SPIKE_REMOVED = 5


@dataclass(frozen=True)
class Meters:
    """The meters that stood at a point, in order of installation; `final` is NaN where nobody wrote it down."""

    installed: Ints
    removed: Ints                # the next one's installation where it is not recorded; the last one's is the far future
    initial: Floats
    final: Floats
    ratio: Floats


FAR = np.int64(2**62)
ONE_METER = Meters(np.array([-FAR]), np.array([FAR]), np.array([0.0]), np.array([np.nan]), np.array([1.0]))


@dataclass(frozen=True)
class Intervals:
    """amount (NaN: not known), quality and method of each slot."""

    amount: Floats
    quality: NDArray[np.int16]
    method: NDArray[np.int16]


@dataclass(frozen=True)
class _Steps:
    """Steps between n readings: arrays of n times and n - 1 amounts (NaN: not known), methods, and doubt."""

    at: Ints
    amount: Floats
    method: NDArray[np.int16]
    uncertain: Bools


def intervals(ts: Ints, register: Floats, quality: NDArray[np.int16], slots: Ints, *, rollover: float | None = None,
              meters: Meters = ONE_METER, ratio: float = 1.0, expected_s: float = 60.0) -> Intervals:
    """Amount, quality and method of each slot (`slots`: contiguous starts, 15 minutes apart).

    `ts` may be unordered and hold duplicates (the later one in the array wins). `rollover` is the register value at which
    the counter starts again; without it, whole powers of ten and of two are recognised where the rate makes them plausible.
    A step is a gap where readings are missing (see `gaps_in`): its total is exact, its split over slots is estimated. Slots
    before the first, after the last reading, or touched by a step of unknown amount are NaN with quality `missing`.
    """
    at, value = _usable(ts, register, quality)
    n = len(slots)
    if len(at) < 2 or n == 0:
        return Intervals(np.full(n, np.nan), np.full(n, Quality.MISSING, np.int16), np.zeros(n, np.int16))
    steps = _steps(at, value, rollover, meters, ratio)
    return _slots(steps, slots, expected_s)


def _usable(ts: Ints, register: Floats, quality: NDArray[np.int16]) -> tuple[Ints, Floats]:
    """Usable readings in order of time, the last of duplicates."""
    good = (quality <= LAST_USABLE) & np.isfinite(register)
    at, value = ts[good], register[good]
    if len(at) > 1 and not np.all(at[1:] > at[:-1]):
        order = np.argsort(at, kind="stable")
        at, value = at[order], value[order]
        last = np.append(at[1:] != at[:-1], True)
        at, value = at[last], value[last]
    return at, value


def _steps(at: Ints, value: Floats, rollover: float | None, meters: Meters, ratio: float) -> _Steps:
    """Amount and method of every step, swaps put in as readings of their own."""
    meter = np.clip(np.searchsorted(meters.installed, at, side="right") - 1, 0, None)
    at, value, meter, sure, written = _with_swaps(at, value, meter, meters)
    keep = ~_spikes(at, value, meter, written, rollover) | written
    skipped = np.flatnonzero(~keep)
    after_spike = np.unique(np.searchsorted(np.flatnonzero(keep), skipped)) if len(skipped) else skipped
    at, value, meter, sure, written = at[keep], value[keep], meter[keep], sure[keep], written[keep]
    over_spike = np.zeros(len(at), bool)
    over_spike[after_spike[after_spike < len(at)]] = True
    step, method, uncertain = _amounts(at, value, meter, written, rollover)
    swapped = meter[1:] != meter[:-1]
    step[swapped] = np.where(sure[1:][swapped], 0.0, np.nan)
    method[swapped] = Method.SWAP
    method[over_spike[1:] & (method == Method.MEASURED)] = Method.SPIKE_REMOVED
    return _Steps(at, step * (ratio * meters.ratio[meter[1:]]), method, uncertain)


def _with_swaps(at: Ints, value: Floats, meter: Ints, meters: Meters) -> tuple[Ints, Floats, Ints, Bools, Bools]:
    """The readings with the final register of each removed meter and the initial one of its successor added.

    The last but one array says of each reading whether the step that ends there is known when it crosses a swap: only from a
    final register to the initial one of a meter installed at that instant. What flowed with no meter in place is unknown. The
    last one says which registers were written down: they are no spikes, and tell one in the readings beside them.
    """
    first, last = (int(meter[0]), int(meter[-1])) if len(meter) else (0, 0)
    none = np.zeros(len(at), bool)
    if first == last:
        return at, value, meter, none, none
    old = np.arange(first, last)
    known = np.isfinite(meters.final[old])
    new = old + 1
    more_at = np.concatenate([meters.removed[old][known], meters.installed[new]])
    more_value = np.concatenate([meters.final[old][known], meters.initial[new]])
    more_meter = np.concatenate([old[known], new])
    more_sure = np.concatenate([np.zeros(int(known.sum()), bool), known & (meters.removed[old] == meters.installed[new])])
    at, value = np.concatenate([at, more_at]), np.concatenate([value, more_value])
    meter = np.concatenate([meter, more_meter])
    sure, written = np.concatenate([none, more_sure]), np.concatenate([none, np.ones(len(more_at), bool)])
    # a reading of the new meter at the very instant of its installation comes after the initial register
    order = np.lexsort((~written, meter, at))
    return at[order], value[order], meter[order], sure[order], written[order]


def _tolerance(before: Floats, after: Floats) -> Floats:
    """What a register may seem to step back from `before` to `after` without having done so: its last digits in single
    precision, at most `ROUNDING` where the values have more digits than that."""
    single = np.abs(before) * 2.0**-22
    exact = (before.astype(np.float32) == before) & (after.astype(np.float32) == after)
    return np.where(exact, single, np.minimum(single, ROUNDING))


def _clipped(step: Floats, written: Bools) -> Bools:
    """Steps back by less than one beside a register that was written down: its decimals were left out, or rounded."""
    return (step < 0) & (step > -1) & (written[1:] | written[:-1])


def _amounts(at: Ints, value: Floats, meter: Ints, written: Bools, rollover: float | None
             ) -> tuple[Floats, NDArray[np.int16], Bools]:
    """Difference of the register over each step, with roll-overs, resets and jumps decided."""
    step = np.diff(value)
    method = np.zeros(len(step), np.int16)
    uncertain = np.zeros(len(step), bool)
    same = meter[1:] == meter[:-1]
    clipped = _clipped(step, written) & same
    uncertain |= clipped & (step < -0.01)
    if (dithers := (step < 0) & (step >= -_tolerance(value[:-1], value[1:])) & same).any():
        value, again = _without_dither(value, np.flatnonzero(dithers), same)
        uncertain[again] = True
        step = np.diff(value)
        step[(step < 0) & (step >= -_tolerance(value[:-1], value[1:])) & same] = 0.0
    step[clipped] = 0.0
    drops = np.flatnonzero((step < 0) & same)
    jumps = np.flatnonzero((step > JUMP * np.abs(value[:-1])) & same)
    if not len(drops) and not len(jumps):
        return step, method, uncertain
    usual = _usual_rate(at, step, meter)
    for i in drops:
        length = int(at[i + 1] - at[i])
        step[i], method[i], uncertain[i] = _drop(value[i], value[i + 1], usual(int(i)) * length, rollover, length > LINEAR_US)
    for i in jumps:
        allowed = usual(int(i), second=True) * (at[i + 1] - at[i])
        if 0 < 50 * max(allowed, usual.second_step(int(i))) < step[i]:
            step[i] = np.nan
    return step, method, uncertain


def _drop(before: float, after: float, usual: float, rollover: float | None, long: bool) -> tuple[float, Method, bool]:
    """What a register that fell from `before` to `after` counted, when `usual` is what such a time usually brings.

    Over a long step peaks even out: what is more than usual there is rather a reset that nobody saw than a roll-over.

    A roll-over is exact. A reset to zero has lost what was counted before it: the rest is a lower bound and uncertain.
    Anything else (a meter swapped without a record) is unknown.
    """
    turn = _turn(before, rollover)
    wrapped = after - before + turn
    bound = (1 if long else 10) * usual if usual > 0 else _unseen(turn, rollover)
    if 0 <= wrapped <= bound and before <= turn:
        return wrapped, Method.ROLLOVER, False
    if 0 <= after <= (10 * usual if usual > 0 else 0.05 * before):
        return after, Method.RESET, True
    return np.nan, Method.RESET, True


def _without_dither(value: Floats, drops: Ints, same: Bools) -> tuple[Floats, list[int]]:
    """The register held where it steps back by less than its own resolution, until it has caught up again; and the steps over
    which it is given up.

    A meter that idles through the night keeps the rounded value for hours; after `HOLD` readings it counts from the lower
    value on, so that no reading decides about one further away: what was rounded is then counted again, and that step says so.
    """
    held, again = value.copy(), []
    meter_ends = np.r_[np.flatnonzero(~same) + 1, len(value)]
    for i in drops:
        meter_end = int(meter_ends[np.searchsorted(meter_ends, i, side="right")])
        end = min(meter_end, int(i) + 1 + HOLD)
        after = value[i + 1:end]
        below = (after < value[i]) & (value[i] - after <= _tolerance(np.full(len(after), value[i]), after))
        n = len(below) if below.all() else int(np.argmin(below))
        held[i + 1:i + 1 + n] = np.maximum(held[i + 1:i + 1 + n], value[i])
        if n == HOLD and end < meter_end and value[end] < value[i]:
            again.append(end - 1)
    return held, again


class _usual_rate:
    """Largest ordinary rate (unit per microsecond) of the same meter within WINDOW steps of a step, that step itself left out.

    What another meter at the point showed tells nothing: its register may count in other units.
    """

    def __init__(self, at: Ints, step: Floats, meter: Ints) -> None:
        with np.errstate(divide="ignore", invalid="ignore"):
            rate = np.where((meter[1:] == meter[:-1]) & (step >= 0), step / np.diff(at), 0.0)
        self.rate, self.meter, self.step = np.nan_to_num(rate, posinf=0.0), meter[1:], step

    def _near(self, what: Floats, i: int) -> Floats:
        """Positive figures of the steps around step i."""
        low = max(0, i - WINDOW)
        around = slice(low, i + WINDOW + 1)
        near: Floats = np.delete(np.where(self.meter[around] == self.meter[i], what[around], 0.0), i - low)
        return near[near > 0]

    def second_step(self, i: int) -> float:
        """The second largest step; one step of the register may come after many readings that saw none."""
        near = np.sort(self._near(np.where(self.rate > 0, self.step, 0.0), i))
        return float(near[-2:][0]) if len(near) else 0.0

    def __call__(self, i: int, *, second: bool = False) -> float:
        """The median of the positive rates times three, or with `second` the second largest of them."""
        near = self._near(self.rate, i)
        if second:
            return float(np.sort(near)[-2]) if len(near) > 1 else float(near.sum())
        # a lone positive step among idle ones may be the way back from the very spike that is being judged
        return 3.0 * float(np.median(near)) if len(near) > 1 else 0.0


def _spikes(at: Ints, value: Floats, meter: Ints, written: Bools, rollover: float | None) -> Bools:
    """Readings to leave out: up to three in a row that stick out, when the series is monotone without them."""
    out = _beyond(value, rollover)
    step = np.diff(value)
    same = meter[1:] == meter[:-1]
    drops = np.flatnonzero((step < -_tolerance(value[:-1], value[1:])) & same & ~_clipped(step, written))
    if not len(drops):
        return out
    usual = _usual_rate(at, step, meter)
    for i in drops:
        if rollover is not None and 0 <= step[i] + rollover <= 10 * usual(int(i)) * (at[i + 1] - at[i]) \
                and not _comes_back(value, meter, int(i)):
            continue
        low, high = _spike_at(at, value, meter, int(i), usual)
        if low == high and _over_the_turn(value, meter, int(i), rollover):
            low, high = int(i), int(i) + 1
        out[low:high] = True
    return out


def _beyond(value: Floats, rollover: float | None) -> Bools:
    """Readings above what the register can show, as far as they are few: of many, the catalogue is wrong."""
    out = np.zeros(len(value), bool)
    if rollover is None or not (beyond := value > rollover).any():
        return out
    edges = np.flatnonzero(np.diff(np.concatenate([[0], beyond.astype(np.int8), [0]])))
    for low, high in zip(edges[::2], edges[1::2], strict=True):
        out[low:high] = high - low <= LONGEST_SPIKE
    return out


def _over_the_turn(value: Floats, meter: Ints, i: int, rollover: float | None) -> bool:
    """Whether the register falls to reading i and from it once more, and without it simply rolled over."""
    if i < 1 or meter[i - 1] != meter[i + 1] or value[i - 1] <= value[i]:
        return False
    turn = _turn(value[i - 1], rollover)
    return bool(0 <= value[i + 1] - value[i - 1] + turn <= _unseen(turn, rollover))


def _turn(before: float, rollover: float | None) -> float:
    """Where a register at `before` would start again."""
    if rollover is not None:
        return rollover
    return float(TURNS[min(int(np.searchsorted(TURNS, before, side="right")), len(TURNS) - 1)])


def _unseen(turn: float, rollover: float | None) -> float:
    """What a roll-over may have brought where the readings beside it tell nothing: more where the catalogue knows of it."""
    return (0.02 if rollover is not None else 2e-4) * turn


def _comes_back(value: Floats, meter: Ints, i: int) -> bool:
    """Whether the register soon stands where it stood before its drop again, as after no roll-over; beside an idle meter rates
    cannot tell, because the way back is among them."""
    soon = slice(i + 2, i + 2 + LONGEST_SPIKE)
    return bool(((value[soon] >= value[i]) & (meter[soon] == meter[i])).any())


def _spike_at(at: Ints, value: Floats, meter: Ints, i: int, usual: _usual_rate) -> tuple[int, int]:
    """[low, high) of the readings that stick out around the drop from i to i + 1; empty when it is no spike."""
    n = len(value)
    for length in range(1, LONGEST_SPIKE + 1):
        before, after = i - length, i + 1                    # up: i - length + 1 .. i stick out
        if before >= 0 and meter[before] == meter[after] and value[before] <= value[after] \
                and value[before + 1:after].min() > value[after]:
            jump = value[before + 1] - value[before]
            if length == 1 or jump > 5 * usual(before) * (at[before + 1] - at[before]):
                return before + 1, after
        before, after = i, i + 1 + length                    # down: i + 1 .. i + length stick out
        if after < n and meter[before] == meter[after] and value[before] <= value[after] \
                and value[before + 1:after].max() < value[before]:
            jump = value[after] - value[after - 1]
            if length == 1 or jump > 5 * usual(after - 1) * (at[after] - at[after - 1]):
                return before + 1, after
    return i, i


def _slots(steps: _Steps, slots: Ints, expected_s: float) -> Intervals:
    """Steps cut at the slot borders."""
    at, known = steps.at, np.isfinite(steps.amount)
    amount = np.where(known, steps.amount, 0.0)
    borders = np.append(slots, slots[-1] + SLOT_US)
    i = np.clip(np.searchsorted(at, borders, side="right") - 1, 0, len(at) - 2)
    length = np.maximum(at[i + 1] - at[i], 1)
    part = np.clip((borders - at[i]) / length, 0.0, 1.0)
    # summed slot by slot: neither the register's size nor a large step elsewhere may cost digits
    whole = np.where(i[1:] > i[:-1], np.add.reduceat(amount, i)[:-1], 0.0) + np.diff(part * amount[i])
    # within one slot nothing has to be split
    hole = gaps_in(np.diff(at), expected_s)
    gap = hole & (at[:-1] // SLOT_US < (at[1:] - 1) // SLOT_US)
    quality = np.zeros(len(slots), np.int16)
    method = np.zeros(len(slots), np.int16)
    for kind in (Method.SPIKE_REMOVED, Method.ROLLOVER, Method.SWAP, Method.RESET):
        which = steps.method == kind
        if which.any():
            method[_touched(at, which, slots)] = kind
    if gap.any():
        touched = _touched(at, gap & known & (steps.method != Method.SPIKE_REMOVED), slots)
        method[touched & (method == 0)] = Method.GAP_SPLIT
        quality[_touched(at, gap, slots)] = Quality.ESTIMATED
        whole = shape_gaps(at, amount, gap & known, slots, whole, quality == Quality.GOOD)
    # after a roll-over that nobody saw any low reading is plausible: if it was a spike, the next step makes up for it
    unseen = np.append(False, (hole & (steps.method == Method.ROLLOVER))[:-1])
    if (doubt := steps.uncertain | unseen).any():
        quality[_touched(at, doubt, slots)] = Quality.UNCERTAIN
    unknown = _touched(at, ~known, slots) if not known.all() else np.zeros(len(slots), bool)
    unknown |= (slots < at[0]) | (slots + SLOT_US > at[-1])
    whole[unknown] = np.nan
    quality[unknown] = Quality.MISSING
    return Intervals(whole, quality, method)


def _touched(at: Ints, which: Bools, slots: Ints) -> Bools:
    """Slots that share time with any of the chosen steps; one of no length touches the slot it lies in."""
    i = np.flatnonzero(which)
    first = np.clip((at[i] - slots[0]) // SLOT_US, 0, len(slots))
    last = np.clip(-((slots[0] - at[i + 1]) // SLOT_US), 0, len(slots))
    last = np.where(at[i] == at[i + 1], np.clip(first + 1, 0, len(slots)), last)
    marks = np.zeros(len(slots) + 1, np.int64)
    np.add.at(marks, first, 1)
    np.add.at(marks, np.maximum(last, first), -1)
    return np.cumsum(marks[:-1]) > 0
