"""An instant rule over a whole series at once: the same raises and returns as `evaluator.tick`, reading by reading, gives.

While a pair is quiet only readings outside its band count, while it is active only readings inside the narrower one; any
other reading begins the hold anew. So a raise can only come from a run of readings outside (its first reading that is a hold
later than the run's first), a return only from a run inside; raises and returns that follow each other alternate. Runs are
found with a handful of array operations over all readings; what is left to do one by one are the runs of pairs that chatter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from alerts.evaluator import CHATTER_RAISES, CHATTER_S, Flags, Floats, Ints

Events = tuple[Floats, Floats]      # epochs of raises, and of the return of each (NaN: still active at the end)
EVEN_GAPS = 8       # so many gaps after each other are a pace and no outage, ...
EVEN = 1.12         # ... when the longest is no longer than this times the shortest (months of bills: 31 / 28)


@dataclass(frozen=True)
class Band:
    """Band of a pair: raised outside (low, high), returned inside (low_clear, high_clear); holds in seconds."""

    low: float
    high: float
    low_clear: float
    high_clear: float
    hold_s: float = 0.0
    clear_hold_s: float = 0.0


def events(at: Floats, m: Floats, band: Band, in_force: Flags | None = None, *, calms: bool = True) -> Events:
    """What the pair would have done over readings (T,) in order of time; NaN says nothing. `in_force` (T,): where the rule
    may raise; `calms`: an alert that chatters stays until it has been calm."""
    beyond = _beyond(m, band)
    if in_force is not None:
        beyond &= in_force
    first = int(np.argmax(beyond)) if len(beyond) else 0
    if not len(beyond) or not beyond[first]:
        return np.empty(0), np.empty(0)
    known = ~np.isnan(m[first:])
    at, m, beyond = at[first:], m[first:], beyond[first:]
    if not known.all():
        at, m, beyond = at[known], m[known], beyond[known]
    inside = ~((m > band.high_clear) | (m < band.low_clear)) if _two_bands(band) else ~_beyond(m, band)
    up = _due(at, beyond, band.hold_s)
    down = _due(at, inside, band.clear_hold_s)
    raises, returns = alternate(up, down)
    if calms and len(raises) >= CHATTER_RAISES and max(counts(raises)) > CHATTER_RAISES - 1:
        return _one_by_one(at, beyond, inside, band)
    return raises, returns


def _two_bands(band: Band) -> bool:
    return band.low != band.low_clear or band.high != band.high_clear


def _beyond(m: Floats, band: Band) -> Flags:
    """Outside the band; a side that has no figure is not looked at."""
    if band.low == -np.inf:
        return m > band.high
    return m < band.low if band.high == np.inf else (m > band.high) | (m < band.low)


def runs(flags: Flags) -> tuple[Ints, Ints]:
    """[first, end) of each run of true values."""
    edges = np.flatnonzero(flags[1:] != flags[:-1]) + 1
    if flags[0]:
        edges = np.concatenate([[0], edges])
    if flags[-1]:
        edges = np.concatenate([edges, [len(flags)]])
    return edges[::2], edges[1::2]


def _due(at: Floats, flags: Flags, hold_s: float) -> Floats:
    """Of each run that lasts its hold, the epoch of the first reading by which it has."""
    if not len(at):
        return at
    first, end = runs(flags)
    if hold_s <= 0:
        return at[first]
    due = np.searchsorted(at, at[first] + hold_s, side="left")
    return at[due[due < end]]


def alternate(up: Floats, down: Floats) -> Events:
    """Raises and returns that take effect: a raise while active, or a return while not, is none."""
    if not len(up):
        return up, up
    all_at = np.concatenate([down, up])
    order = np.argsort(all_at, kind="stable")       # at the same instant the return comes first
    kind = np.concatenate([np.zeros(len(down), bool), np.ones(len(up), bool)])[order]
    before = np.concatenate([[False], kind[:-1]])
    raises = all_at[order][kind & ~before]
    returns = all_at[order][~kind & before]
    return raises, np.concatenate([returns, np.full(len(raises) - len(returns), np.nan)])


def counts(raises: Floats) -> list[float]:
    """The fading count of raises at each of them."""
    out: list[float] = []
    for i, at in enumerate(raises.tolist()):
        out.append(1.0 + (out[-1] * float(np.exp((raises[i - 1] - at) / CHATTER_S)) if out else 0.0))
    return out


def _one_by_one(at: Floats, beyond: Flags, inside: Flags, band: Band) -> Events:
    """Run by run, for a pair that chatters: after many raises a return waits until it has been calm."""
    ups = _due(at, beyond, band.hold_s)
    downs = {chatters: _due(at, inside, max(band.clear_hold_s, CHATTER_S) if chatters else band.clear_hold_s)
             for chatters in (False, True)}
    raises: list[float] = []
    returns: list[float] = []
    count, now = 0.0, -np.inf
    while (i := int(np.searchsorted(ups, now, side="right"))) < len(ups):
        raised = float(ups[i])
        count = 1.0 + (count * float(np.exp((raises[-1] - raised) / CHATTER_S)) if raises else 0.0)
        raises.append(raised)
        back = downs[count > CHATTER_RAISES - 1]
        j = int(np.searchsorted(back, raised, side="right"))
        returns.append(float(back[j]) if j < len(back) else np.nan)
        if np.isnan(returns[-1]):
            break
        now = returns[-1]
    return np.array(raises), np.array(returns)


def rates(at: Floats, value: Floats) -> Floats:
    """(T,) change a minute since the reading before; the first says nothing. No NaN in, in order of time."""
    out = np.full(len(at), np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        out[1:] = np.diff(value) / np.diff(at) * 60.0
    return out


def flat_runs(at: Floats, value: Floats, ignore_zero: bool) -> Floats:
    """(T,) seconds for which the value has stood still at each reading; standing at zero is none when that is ignored."""
    changed = np.concatenate([[True], value[1:] != value[:-1]])
    out = at - at[np.maximum.accumulate(np.where(changed, np.arange(len(at)), 0))]
    return np.where(value == 0.0, 0.0, out) if ignore_zero else out


def newest(at: Floats, value: Floats, when: Floats, fresh_s: float) -> Floats:
    """(len(when),) the newest value at or before each instant, NaN where it is older than fresh_s."""
    i = np.searchsorted(at, when, side="right") - 1
    ok = i >= 0
    out = np.full(len(when), np.nan)
    out[ok] = np.where(when[ok] - at[i[ok]] <= fresh_s, value[i[ok]], np.nan)
    return out


@dataclass(frozen=True)
class Heard:
    """What was heard of a base at all: the last word, and of each stall the last word before it and the first after it."""

    last: float
    before: Floats
    again: Floats


def heard(at: Floats, stall_s: float) -> Heard:
    """The stalls in all readings (T,) of a base, in order of time."""
    gap = np.flatnonzero(np.diff(at) > stall_s)
    return Heard(float(at[-1]), at[gap], at[gap + 1])


def _starts(at: Floats, base: Heard) -> tuple[Floats, Floats]:
    """Stretches in which silence is counted: from a word, or from the end of a stall, to the next word or the next stall."""
    starts = np.sort(np.concatenate([at, base.again[base.again > at[0]]]))
    ends = np.append(starts[1:], base.last)
    if len(base.again):
        i = np.minimum(np.searchsorted(base.again, ends), len(base.again) - 1)
        ends = np.where(base.again[i] == ends, base.before[i], ends)
    return starts, ends


def paced(at: Floats, after_s: float, last: float) -> tuple[Flags, Floats]:
    """(T,) whether what follows a reading is the pace of imported or thinned history and no silence, and its seconds.

    Such history comes evenly, each gap longer than the silence that is allowed; a gap among or beside even ones counts as the
    pace as long as it is not longer than they are. What is irregular, or longer, stays a silence. `last`: the base's last word.
    """
    gap = np.diff(at, append=max(last, float(at[-1])))
    long = gap > after_s
    if np.count_nonzero(long) < EVEN_GAPS:
        return np.zeros(len(at), bool), gap
    windows = np.lib.stride_tricks.sliding_window_view(gap, EVEN_GAPS)
    shortest = windows.min(axis=1)
    begins = np.flatnonzero((shortest > after_s) & (windows.max(axis=1) <= EVEN * shortest))
    depth = np.bincount(begins, minlength=len(gap) + 1) - np.bincount(begins + EVEN_GAPS, minlength=len(gap) + 1)
    even = np.cumsum(depth)[:-1] > 0
    first, end = runs(long)
    pace = np.repeat(np.maximum.reduceat(np.where(even, gap, 0.0), first), end - first)
    out = np.zeros(len(at), bool)
    out[long] = gap[long] <= EVEN * pace
    return out, gap


def silences(at: Floats, others: Sequence[Floats], after_s: float, hold_s: float, clear_s: float, base: Heard) -> Events:
    """When a point was silent beside its device: `at` are its own readings, `others` those of its device's other points (none:
    it stands alone). Silence is counted only while something was heard, and not at the pace of coarse history (`paced`)."""
    if not len(at):
        return at, at
    starts, ends = _starts(at, base)
    if others:
        words = np.sort(np.concatenate([at, *others]))
        at_word = np.searchsorted(words, starts + after_s, side="right")
        due = np.where(at_word < len(words), words[np.minimum(at_word, len(words) - 1)], np.inf)
    else:
        due = np.nextafter(starts + after_s, np.inf)
    due = due + hold_s
    coarse = paced(at, after_s, base.last)[0][np.searchsorted(at, starts, side="right") - 1]
    return alternate(due[(due < ends) & ~coarse], at + clear_s)


def device_silences(readings: Sequence[Floats], after_s: Floats, hold_s: float, clear_s: float, base: Heard) -> Events:
    """When all points of a device were silent, each for longer than it may be; not while the last of them to be so comes at the
    pace of coarse history (`paced`)."""
    known = [(r, a) for r, a in zip(readings, after_s.tolist(), strict=True) if len(r) and np.isfinite(a)]
    if not known:
        return np.empty(0), np.empty(0)
    words = np.sort(np.concatenate([r for r, _ in known]))
    starts, ends = _starts(words, base)
    due, coarse = np.full(len(starts), -np.inf), np.ones(len(starts), bool)
    for r, allowed in known:
        i = np.searchsorted(r, starts, side="right") - 1
        since = np.where(i >= 0, r[np.maximum(i, 0)], -np.inf)
        mine = np.maximum(since, _last_again(base.again, starts)) + allowed
        slow = (i >= 0) & paced(r, allowed, base.last)[0][i]
        coarse = np.where(mine > due, slow, coarse & (slow | (mine < due)))
        due = np.maximum(due, mine)
    due = np.nextafter(due, np.inf) + hold_s
    return alternate(due[(due < ends) & ~coarse], words + clear_s)


def _last_again(again: Floats, when: Floats) -> Floats:
    i = np.searchsorted(again, when, side="right") - 1
    return np.where(i >= 0, again[np.maximum(i, 0)], -np.inf) if len(again) else np.full(len(when), -np.inf)

