"""Channels of the anomaly core: each turns one regular series into a causal score of how unusual the present is.

jump      an unheard-of step out of all seen before, down to nothing   spike, drop-out, catch-up, scale, at once
ratio     hours' ratio to the expectation in logarithm                  drop-out, scale x0.1 / 0.5 / 2 / 10
days      a day and three days against their own weeks                  scale, level shift
drift     day's mean, day's low (CUSUMs) and fortnight all off          level shift, drift, base load, degradation
shift     three days fit better when moved by hours                     clock skew
flat      run of one value against the longest in its own history       stuck, drop-out to zero
repeat    changing values copied from the day or week before            copied record, schedule left on
range     how far outside all of the last four weeks                    short series, of whatever shape
surge     young: beyond the usual tenth of a week, in its own spread    the same, when a greater one was seen already
          fine steps: three hours beyond all of the last four weeks    what lasts
swing     how much it moves from step to step, same                     hunting, chatter (fine steps only)
left_on   hours above the middle of day and night against the longest   schedule left on, a valve left open

The score at t uses nothing after t. Series too short for weeks fall back to days, then to a running median.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import minimum_filter1d

from alerts.jumps import jump
from alerts.left_on import left_on
from alerts.ranges import out_of_range
from alerts.ranks import blockwise_scale
from alerts.resting import judge_at_rest
from alerts.rolling import (
    MAD,
    Floats,
    Ints,
    fill,
    fill_by_lags,
    held,
    lag,
    lags_of,
    longest,
    mean_of_last,
    quantile_of_lags,
    quantile_of_sorted,
    sum_of_last,
)
from alerts.soiled import OFTEN, Soiled, of_days, soiled, sound

WEEKS = 8
LONG_WEEKS = 8          # a series is young before
USUAL_LEVEL, USUAL_LOW = 29.6, 37.6     # days of one deviation that the two CUSUMs reach in a hundredth of the development set
FINE_S = 900.0          # steps below are fine
SPAN_DAYS, SPAN_OF_DAYS, SPAN_OF_WEEK = 28, 0.14, 0.05
FINE_OFTEN = 2      # times within four weeks that a fault may have come at fine steps
JUMP_DAYS, FINE_JUMP_DAYS = 7, 3        # with a value before a jump is one: a week has its Monday
FEW_RUNS = 4.0          # so many runs of zero or of a bound halve what the next one says
OUTER, OUTER_SIZE = 0.85, 1.44      # quantile of a size, and where a normal one has it
EVERY = slice(None)
MOVES = (-6, -5, -4, -3, -2, 2, 3, 4, 5, 6)     # hours that a clock may be off


@dataclass(frozen=True)
class Rhythm:
    """Steps of an hour, a day and a week; an hour is at least one step."""

    hour: int
    day: int
    week: int

    @classmethod
    def of(cls, step_s: float) -> Rhythm:
        day = max(1, round(86400 / step_s))
        return cls(max(1, round(3600 / step_s)), day, 7 * day)

    @property
    def pause(self) -> int:
        """Steps between two looks at what is slow: a part of the day, some four of them."""
        return next(n for n in range(max(1, self.day // 4), 0, -1) if self.day % n == 0)


@dataclass(frozen=True)
class Channels:
    """(T,) signed score of each channel (NaN: cannot say), and what the band around the expected value is made of."""

    values: Floats
    usual: Floats           # expected by time of week or day
    size: Floats            # usual size of the values
    rhythm: Rhythm
    scores: dict[str, Floats]

    def band(self) -> tuple[Floats, Floats]:
        """(T,) expected value with the level of the last day, and its usual deviation. No score is made of them."""
        residual = self.values - self.usual
        level = fill(_level(residual, self.rhythm), np.zeros_like(residual))
        return self.usual + level, _scale(residual - level, self.size, self.rhythm)


def expectation(x: Floats, r: Rhythm, ahead: int = 0) -> Floats:
    """(T + ahead,) what the value should be by its time of week or of day, from at least a day before; NaN when too young."""
    x = np.concatenate([x, np.full(ahead, np.nan)])
    half = r.hour // 2
    smooth = mean_of_last(x, 2 * half + 1)
    weekly = quantile_of_lags(smooth, [k * r.week - half for k in range(1, WEEKS + 1)], least=3)
    return fill_by_lags(weekly, smooth, [k * r.day - half for k in range(1, 8)], least=3) if r.day > 1 else weekly


def _running_lags(r: Rhythm) -> range:
    """Up to 30 values of the last day or last 30 steps: for series without a known rhythm."""
    width = max(30, r.day)
    return range(1, width + 1, max(1, width // 30))


def _level(residual: Floats, r: Rhythm) -> Floats:
    """Median of the last day's residual, the present left out."""
    return quantile_of_lags(mean_of_last(residual, r.hour), [k * max(1, r.day // 24) for k in range(1, 25)], least=6)


def _size(x: Floats, r: Rhythm) -> Floats:
    """Usual size of x over the four weeks before its day, from every other value."""
    every = 2 if r.day % 2 == 0 else 1
    return np.repeat(blockwise_scale(x[::every], r.day // every, 28, least=min(2 * r.day, 48) // every), every)[:len(x)]


def _scale(u: Floats, size: Floats, r: Rhythm) -> Floats:
    """Usual size of u: at this time of week and over the last four weeks; never below half a percent of the value's."""
    near = [k * r.week + d * r.hour for k in range(1, WEEKS + 1) for d in (-1, 0, 1) if k * r.week + d * r.hour > 0]
    local = 1.4826 * quantile_of_lags(np.abs(u), near, least=6)
    whole = _size(u, r)
    both = np.sqrt(0.5 * fill(local, whole) ** 2 + 0.5 * whole ** 2)
    return np.maximum(both, 0.005 * size + 1e-12)


def channels(x: Floats, step_s: float) -> Channels:
    """Every channel of one series."""
    r = Rhythm.of(step_s)
    ahead = 6 * r.hour
    far = expectation(x, r, ahead)
    e = fill_by_lags(far[:len(x)], x, _running_lags(r), least=5)
    size = _size(x, r)
    fine = step_s < FINE_S
    judged = len(x) if fine else min(len(x), LONG_WEEKS * r.week)       # in a grown series a fault is soon one of many days
    top, bottom = (of_days(how, x[:judged], r.day) for how in (np.fmax, np.fmin))
    past = soiled(top, bottom, -(-len(x) // r.day), FINE_OFTEN if fine else OFTEN)
    beyond, rarity = _out_of_range(x, max(1, r.hour // 12), r, not fine, past, judged)
    lasting = _out_of_range(x, max(1, r.hour // 4), r, False, past, judged)[0] if r.hour > 4 else beyond
    scores = {
        "jump": jump(x, beyond if fine else beyond * rarity, e, size, r.day, FINE_JUMP_DAYS if fine else JUMP_DAYS, past),
        "ratio": _ratio(x, _running(x, far[:len(x)], r), r),
        **_slow(x, x - e, r),
        "shift": _shift(x, far, r),
        "flat": _flat(x, r),
        "repeat": _repeat(x, r),
        "range": lasting,
        "surge": _beyond_four_weeks(x, r, past) if fine else _surge(x, r),
        "swing": _swing(x, r, past) if fine else np.full_like(x, np.nan),
        "left_on": left_on(x, r.hour, r.day, len(x) if fine else LONG_WEEKS * r.week),
    }
    judge_at_rest(scores, x, r.hour, r.day, fine)
    return Channels(x, e, size, r, scores)


def _slow(x: Floats, residual: Floats, r: Rhythm) -> dict[str, Floats]:
    """Channels of days and weeks, worked out some four times a day and held in between."""
    every = r.pause
    at = slice(every - 1, None, every)
    few = Rhythm(1, r.day // every, r.week // every)
    day, three, fortnight = (mean_of_last(x, k * r.day, k * r.day // 2)[at] for k in (1, 3, 14))
    low = quantile_of_sorted(np.sort(lags_of(x, range(0, r.day, max(1, r.day // 24)))[at], axis=1), 0.15, least=min(12, r.day))
    drift = _together(_level_cusum(mean_of_last(residual, r.day, r.day // 2)[at], few) / USUAL_LEVEL,
                      _level_cusum(low, few, weekly=True) / USUAL_LOW, _of_own_weeks(fortnight, 2, 8, few))
    days = _together(_of_own_weeks(day, 1, 6, few), _of_own_weeks(three, 1, 6, few))
    return {"days": held(days, every, len(x)), "drift": held(drift, every, len(x))}


def _level_cusum(m: Floats, r: Rhythm, weekly: bool = False) -> Floats:
    """A day's figure against its last weeks, summed over four weeks: two-sided CUSUM, in days of one deviation."""
    lags = [k * r.week for k in range(1, WEEKS + 1)] if weekly else [k * r.day for k in range(3, 43)]
    usual = quantile_of_lags(m, lags, least=3 if weekly else 7)
    d = m - usual
    scale = blockwise_scale(d, r.week, 8, least=7 * r.day)
    g = np.nan_to_num(np.clip(d / np.maximum(scale, 0.01 * np.abs(usual) + 1e-12), -8, 8))
    up, down = (_cusum(sign * g, 1.0, r) for sign in (1.0, -1.0))
    return np.where(np.isnan(d), np.nan, np.where(up >= down, up, -down))


def _of_own_weeks(m: Floats, first: int, n: int, r: Rhythm) -> Floats:
    """A mean against the same of `n` earlier weeks from the `first` on, as a logarithm, in its own usual sizes of 43 weeks."""
    with np.errstate(invalid="ignore", divide="ignore"):
        y = np.log(np.where(m > 0, m, np.nan))
    d = y - quantile_of_lags(y, [k * r.week for k in range(first, first + n)], least=3)
    return np.clip(d / np.maximum(blockwise_scale(d, r.week, 43, least=14 * r.day), 0.02), -30, 30)


def _together(*parts: Floats) -> Floats:
    """Geometric mean of scores that point the same way; 0 where they do not."""
    up = np.all([p > 0 for p in parts], axis=0)
    down = np.all([p < 0 for p in parts], axis=0)
    size = np.abs(np.prod(parts, axis=0)) ** (1 / len(parts))
    return np.where(up, size, np.where(down, -size, np.where(np.isnan(size), np.nan, 0.0)))


def _out_of_range(x: Floats, width: int, r: Rhythm, rarity: bool, past: Soiled | None, judged: int) -> tuple[Floats, Floats]:
    """`out_of_range` of means of `width` steps; after a fault, in the first `judged` steps, against the days before without
    those of the fault."""
    m = mean_of_last(x, width)
    found = out_of_range(m, r.hour, r.day, rarity)
    if past is not None:
        known = mean_of_last(sound(x[:judged], past, r.day), width)
        use = np.flatnonzero(np.repeat(past.use, r.day)[:judged])
        for all_, clean in zip(found, out_of_range(m[:judged], r.day, r.day, rarity, known), strict=True):
            all_[use] = clean[use]
    return found


def _cusum(g: Floats, slack: float, r: Rhythm) -> Floats:
    total = np.cumsum((g - slack) / r.day)
    width = 28 * r.day
    lowest = minimum_filter1d(total, width, origin=(width - 1) // 2, mode="nearest")
    out: Floats = np.maximum(total - lowest, 0.0)
    return out


def _running(x: Floats, e: Floats, r: Rhythm) -> Floats:
    """The expectation of a machine that runs: from the weeks or days in which it did."""
    return expectation(np.where(x > 0, x, np.nan), r) if (x <= 0).any() else e


def _ratio(x: Floats, e: Floats, r: Rhythm) -> Floats:
    """Six hours' ratio to the expectation by weeks or days; a running median would leave it another usual size. That size is
    the greater of the middle and the outer ratios': a machine that runs by order is mostly as expected, and else far off."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.log(np.where((x > 0) & (e > 0), x / e, np.nan))
    ratio = np.clip(ratio, -4, 4)
    recent = quantile_of_lags(ratio, range(0, 6 * r.hour, r.hour), least=4)
    usual = quantile_of_lags(recent, [k * max(1, r.day // 4) for k in range(2, 30, 3)], least=3)     # every quarter of the day
    d = recent - fill(usual, np.zeros_like(x))
    every = r.pause
    middle, outer = blockwise_scale(d[::every], r.day // every, 28, max(1, 2 * r.day // every), 0.5, OUTER)
    usual_size = np.repeat(np.maximum(middle, outer / (OUTER_SIZE * MAD)), every)[:len(x)]
    return np.asarray(d / np.maximum(usual_size, 0.02))


def _shift(x: Floats, far: Floats, r: Rhythm) -> Floats:
    """log of how much better the last three days fit an expectation moved by 2 to 6 hours than the one in place; looked at
    some four times a day and held in between."""
    if r.day < 12:
        return np.full_like(x, np.nan)
    reach, every = 6 * r.hour, r.pause
    around = np.concatenate([np.full(reach, np.nan), far])      # so that around[reach - k:][t] is far[t - k]
    n = len(x) // every * every
    parts = (around[reach + h * r.hour:][:n] for h in (0, *MOVES))
    here, *moved = (_misfit(x[:n], part, every, 3 * r.day // every) for part in parts)
    with np.errstate(invalid="ignore", divide="ignore"):
        score = np.maximum(np.log((here + 0.01) / (np.fmin.reduce(moved) + 0.01)), 0.0)
    return held(np.append(score, np.nan), every, len(x))


def _misfit(x: Floats, moved: Floats, every: int, width: int) -> Floats:
    """(n / every,) 1 - correlation of both over the last `width` blocks of `every` steps; NaN where less than half is known."""
    known = ~np.isnan(x + moved)
    part = np.zeros((6, len(x)))
    part[0] = known
    np.copyto(part[1], x, where=known)
    np.copyto(part[2], moved, where=known)
    for i, (j, k) in enumerate(((1, 1), (2, 2), (1, 2)), 3):
        np.multiply(part[j], part[k], out=part[i])
    # slice by slice: sums along an axis and BLAS would round by the length
    n, sa, sb, saa, sbb, sab = sum_of_last(np.asarray(sum(part[:, k::every] for k in range(every))), width)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = 1.0 / np.where(n >= width * every // 2, n, np.nan)
        ma, mb, maa, mbb, mab = (v * share for v in (sa, sb, saa, sbb, sab))
        return np.asarray(1.0 - (mab - ma * mb) / np.sqrt(np.maximum((maa - ma * ma) * (mbb - mb * mb), 1e-12)))


def _surge(x: Floats, r: Rhythm) -> Floats:
    """A young series' hour and last two hours against its week. Worked out where it is judged."""
    young = x[:LONG_WEEKS * r.week]
    step = np.abs(np.diff(young, prepend=np.nan))
    least = lag(np.fmin.accumulate(np.where(step > 0, step, np.inf)), 2 * r.hour)
    unit = np.where(np.isfinite(least), least, 0.0)
    one = _beyond_week(mean_of_last(young, r.hour), unit / r.hour, r)
    # where the hour says nothing, both together do not; two hours are known wherever one is
    two = _beyond_week(mean_of_last(young, 2 * r.hour), unit / (2 * r.hour), r, np.unique(np.flatnonzero(one) // r.hour))
    return np.concatenate([_together(one, two).ravel()[:len(young)], np.full(len(x) - len(young), np.nan)])


def _swing(x: Floats, r: Rhythm, past: Soiled | None) -> Floats:
    """Three hours' mean step beyond that of four weeks; calm is no fault."""
    return np.maximum(_beyond_four_weeks(np.abs(np.diff(x, prepend=np.nan)), r, past), 0.0)


def _beyond_four_weeks(x: Floats, r: Rhythm, past: Soiled | None) -> Floats:
    """The mean of three hours, half of it known, against the range of all such means of four weeks; looked at once an
    hour; after a fault, without its days."""
    def hours(v: Floats) -> Floats:
        return mean_of_last(v, 3 * r.hour, 3 * r.hour // 2)[r.hour - 1::r.hour]

    m = hours(x)
    score = out_of_range(m, 1, 24)[0]
    if past is not None:
        clean = out_of_range(m, 24, 24, past=hours(sound(x, past, r.day)))[0]
        score = np.where(np.repeat(past.use, 24)[:len(m)], clean, score)
    return held(score, r.hour, len(x))


def _beyond_week(m: Floats, unit: Floats, r: Rhythm, at: Ints | slice = EVERY) -> Floats:
    """(hours, steps) how far m lies beyond the tenth and ninetieth percentile of the hours of a week, in their distances from
    the median; only of the hours `at`, the others get 0. These hold when one hour in ten was wrong, so that the greatest fault
    so far does not hide the next. A distance counts for at least the `unit`, the least step ever seen, by which a count of rare
    events goes up; and for at least a share of the span of four weeks' days but for the greatest and the least: a series that
    has surged on two days says less of the third."""
    now = _in_hours(m, r)
    past = np.sort(lags_of(now[:, -1], range(1, 169))[at], axis=1)
    low, middle, high = (quantile_of_sorted(past, q, least=24)[:, None] for q in (0.1, 0.5, 0.9))
    span = SPAN_OF_WEEK * (quantile_of_sorted(past, 1.0, least=1) - past[:, 0])[:, None]
    of_days, unit, m = (_in_hours(v, r)[at] for v in (_span(m, SPAN_DAYS, r), unit, m))
    least = np.maximum(np.maximum(0.1 * np.abs(middle), fill(SPAN_OF_DAYS * of_days, span)), unit) + 1e-12
    over, under = (m - high) / np.maximum(high - middle, least), (low - m) / np.maximum(middle - low, least)
    out = np.zeros_like(now)
    out[at] = np.where(over >= under, np.maximum(over, 0.0), -np.maximum(under, 0.0))
    return out


def _in_hours(x: Floats, r: Rhythm) -> Floats:
    """(hours, steps) the last one filled up with unknown."""
    return np.concatenate([x, np.full(-len(x) % r.hour, np.nan)]).reshape(-1, r.hour)


def _span(m: Floats, days: int, r: Rhythm) -> Floats:
    """(T,) second greatest day's maximum less the second least day's minimum of the days before; NaN before there are two."""
    of_days = np.concatenate([m, np.full(-len(m) % r.day, np.nan)]).reshape(-1, r.day)
    lags = range(1, days + 1)
    top = -np.sort(lags_of(-np.fmax.reduce(of_days, axis=1), lags), axis=1)[:, 1]       # NaN goes last
    bottom = np.sort(lags_of(np.fmin.reduce(of_days, axis=1), lags), axis=1)[:, 1]
    return np.repeat(top - bottom, r.day)[:len(m)]


def _flat(x: Floats, r: Rhythm) -> Floats:
    """Steps of one value against the third longest such run of the past. Runs of zero, a machine that is off, are by
    themselves; so are runs that begin at the greatest or least value seen before, where a scale or a share ends. A value that
    is not zero has to have stood three times before; of zero the least of fewer runs will do, or none."""
    step = np.diff(x, prepend=np.nan)
    same = step == 0
    run = _run(same)
    out = np.where(np.isnan(x), np.nan, 0.0)
    moved = np.cumsum((step != 0) & ~np.isnan(step)) > 0        # what has never moved has no usual run
    bound = _at_bound(x, same) & (x != 0)
    for part, known in ((x == 0, 0), ((x != 0) & ~bound & ~np.isnan(x), 3), (bound, 3)):
        if not part.any():
            continue
        longer = longest(np.where(part, run, 0.0), same)
        n = np.count_nonzero(longer, axis=0)
        usual = longer[np.maximum(n, 1) - 1, np.arange(len(x))]
        before = np.cumsum(part & ~same) - part        # runs of the kind that were over; few say little of the longest
        here = part & moved & (n >= known)
        out[here] = (run / (usual + 2.0) * np.where(before > 0, before / (before + FEW_RUNS), 1.0))[here]
    return out


def _at_bound(x: Floats, same: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether the run of a step began at the greatest or least value seen before it."""
    top, bottom = (f.accumulate(np.concatenate([[np.nan], x[:-1]])) for f in (np.fmax, np.fmin))
    began = np.maximum.accumulate(np.where(same, 0, np.arange(len(x))))
    return np.asarray(((x == top) | (x == bottom))[began])


def _repeat(x: Floats, r: Rhythm) -> Floats:
    """Changing values that are those of the day or the week before, one by one: a record that was copied."""
    moves = np.concatenate([[False], np.diff(x) != 0])
    scores = []
    for k in (r.day, r.week):
        same = x == lag(x, k)
        changed = np.cumsum(same & moves)
        run = changed - np.maximum.accumulate(np.where(same, 0, changed))
        scores.append(run / (longest(run.astype(float), same)[2] + 6.0))
    return np.where(np.isnan(x), np.nan, np.maximum(*scores))


def _run(same: NDArray[np.bool_]) -> Floats:
    """How many steps up to this one are alike."""
    index = np.arange(len(same))
    return (index - np.maximum.accumulate(np.where(same, 0, index)) + 1).astype(float)
