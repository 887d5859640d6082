"""From a channel's score to a probability and to an alarm: calibrated on the series' own past, thresholds frozen.

size   what the channel usually reaches (its 99th percentile): the development set's, drawn towards the series' own past
alarm  strength, score / size over the frozen multiple for the alarm budget, reaches 1
p      tail probability a step, the same scale for every channel: the budget's share of a step at strength 1, and from there
       strength^-1/TAIL, a Pareto tail whose index comes from the development set
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from math import gcd
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from alerts.channels import FINE_S, LONG_WEEKS, Rhythm
from alerts.discovery import TAIL
from alerts.ranks import windows
from alerts.rolling import Floats

TABLE = Path(__file__).parent / "thresholds.yaml"
MONTH_S = 30.4375 * 86_400
MOST = 1000.0       # usual sizes beyond which a score says no more: what stood still for days has next to none
FASTER = ("ratio", "range", "surge", "swing")     # one alarm together; the others each by itself


@dataclass(frozen=True)
class Verdict:
    """(T,) of one series: strongest channel and its strength (1 is the threshold), p and signed score; (C, T) who alarms."""

    names: tuple[str, ...]
    strength: Floats
    channel: np.ndarray[Any, np.dtype[np.intp]]
    p: Floats
    signed: Floats
    hot: np.ndarray[Any, np.dtype[np.bool_]]


@cache
def table() -> dict[str, Any]:
    """The frozen table."""
    raw: dict[str, Any] = yaml.safe_load(TABLE.read_text(encoding="utf-8"))
    return raw


@cache
def thresholds(regime: str, budget: float) -> dict[str, float]:
    """Multiples of the usual size that alarm at `budget` false alarms per series-month; between the frozen budgets by
    straight lines in logarithms, beyond them by the nearest line. A channel silent at the nearest budget is silent."""
    rows = table()[regime]
    known = sorted(rows)
    out = {}
    for name in rows[known[0]]:
        nearest = min(known, key=lambda b: abs(np.log(b / budget)))
        points = [(np.log(b), np.log(rows[b][name])) for b in known if rows[b][name] is not None]
        if rows[nearest][name] is not None:
            out[name] = float(np.exp(_line(np.log(budget), points)))
    return out


def _line(at: float, points: list[tuple[float, float]]) -> float:
    if len(points) == 1:
        return points[0][1]
    i = int(np.clip(np.searchsorted([p[0] for p in points], at), 1, len(points) - 1))
    (x0, y0), (x1, y1) = points[i - 1], points[i]
    return y0 + (y1 - y0) * (at - x0) / (x1 - x0)


def size(name: str, score: Floats, r: Rhythm) -> Floats:
    """(T,) usual size of a channel's score: known each week (of a fine series each day) from the year before it."""
    spec = table()["usual"][name]
    usual, own = float(spec["size"]), float(spec["own"])
    if own == 0.0:
        return np.full(len(score), usual)
    block = _block(r)
    q = np.maximum(_high_quantile(np.abs(score), block, 365 * r.day), 0.05 * usual)
    return np.repeat(np.where(np.isnan(q), usual, usual * (q / usual) ** own), block)[:len(score)]


def multiple(name: str, score: Floats, r: Rhythm) -> Floats:
    """(T,) a channel's score as a multiple of its usual size; unknown is 0."""
    over = np.fmax(np.abs(score) / size(name, score, r), 0.0)
    return np.minimum(over, MOST, out=over)


def _high_quantile(a: Floats, block: int, width: int) -> Floats:
    """(blocks,) 99th percentile of what is known of the `width` steps before each block, NaN where that is too little. Only
    values over a floor are put in order; windows in which the floor leaves too few are done in full."""
    start = block * np.arange(-(-len(a) // block))
    first = np.maximum(start - width, 0)
    unknown = np.isnan(a)
    total = np.concatenate([[0], np.cumsum(~unknown)])
    n = total[start] - total[first]
    out = np.full(len(start), np.nan)
    at = np.flatnonzero(~unknown)
    asked = np.flatnonzero(n >= max(100, block // 2))
    if not len(asked):
        return out
    values = a[at]
    floor = np.sort(values)[int(0.96 * (len(values) - 1))]      # a partition would stumble over many that are alike
    part = np.flatnonzero(values >= floor)
    if len(part) > 0.1 * len(values):       # most are alike, such as 0
        above = np.flatnonzero(values > floor)
        part = above if len(above) else part
    cell = block if width >= start[-1] else gcd(block, width)
    while len(asked):
        past = windows(values[part], at[part], cell, first[asked] // cell, start[asked] // cell)
        left_out = n[asked] - past.n
        deep = 0.99 * (n[asked] - 1)
        low = np.floor(deep).astype(np.intp)
        share, ok = deep - low, low >= left_out
        p, q = past.kth(np.stack([low, np.minimum(low + 1, n[asked] - 1)]) - left_out)
        out[asked[ok]] = np.where(share >= 0.5, q - (q - p) * (1 - share), p + (q - p) * share)[ok]
        asked = asked[~ok]
        part = np.arange(total[first[asked[0]]], total[start[asked[-1]]]) if len(asked) else part
    return out


def _block(r: Rhythm) -> int:
    return 7 * r.day if r.day <= 24 else r.day


def judge(scores: Mapping[str, Floats], step_s: float, budget: float) -> Verdict:
    """Who alarms when, and the strongest channel of each step."""
    r = Rhythm.of(step_s)
    frozen = [thresholds(regime, budget) for regime in (("long", "short") if step_s >= FINE_S else ("fine", "fine"))]
    names = tuple(scores)
    n = len(next(iter(scores.values())))
    grown = min(n, LONG_WEEKS * r.week)     # from here on eight weeks lie behind the step
    relative, strength = np.zeros((len(names), n)), np.zeros((len(names), n))
    for i, name in enumerate(names):
        old, young = (f.get(name, np.inf) for f in frozen)
        if np.isfinite((old, young)).any():
            relative[i] = multiple(name, scores[name], r)
            strength[i, :grown], strength[i, grown:] = relative[i, :grown] / young, relative[i, grown:] / old
    strength[:, :r.day] = 0.0       # nothing alarms before there is a day to go by
    best = _strongest(strength)
    at = np.arange(n)
    with np.errstate(divide="ignore"):
        p = np.minimum(1.0, budget * step_s / MONTH_S * strength[best, at] ** (-1 / TAIL))
    signed = np.nan_to_num(np.stack(list(scores.values()))[best, at])
    return Verdict(names, strength[best, at], best, p, signed, strength >= 1.0)


def _strongest(strength: Floats) -> np.ndarray[Any, np.dtype[np.intp]]:
    """(T,) row of the greatest, the first of equals: argmax along the first axis, which is slow there."""
    best, most = np.zeros(strength.shape[1], np.intp), strength[0]
    for i, row in enumerate(strength[1:], 1):
        more = row > most
        if more.any():
            best[more] = i
            most = np.maximum(most, row)
    return best


def onsets(verdict: Verdict, step_s: float) -> list[tuple[int, int, int]]:
    """(start, end, channel index) of each alarm: the same channels within their calm time go on, others open a new one
    unless one began within the last day."""
    r = Rhythm.of(step_s)
    n = verdict.hot.shape[1]
    groups: dict[str, list[int]] = {}
    for i, name in enumerate(verdict.names):
        groups.setdefault(group_of(name), []).append(i)
    found = []
    for group, members in groups.items():
        found += runs(np.flatnonzero(verdict.hot[members].any(axis=0)), group, r)
    return _merged(sorted(found), verdict, r, n)


def group_of(name: str) -> str:
    """The channels that alarm together with this one."""
    return "fast" if name in FASTER else name


def early_calm(r: Rhythm) -> float:
    """Steps of calm that end an alarm of a series without eight weeks behind it, or of a fine one."""
    return float(table()["fine_calm_h" if 86400 / r.day < FINE_S else "short_calm_h"]) * r.day / 24


def apart(start: int, r: Rhythm) -> float:
    """Steps after the beginning of an alarm within which what begins belongs to it."""
    return r.day if start >= LONG_WEEKS * r.week else early_calm(r)


def runs(hot: np.ndarray[Any, Any], group: str, r: Rhythm) -> list[tuple[int, int]]:
    """(first, last) step of each alarm of channels that alarm together, from the steps at which one of them does."""
    if not len(hot):
        return []
    calm, short = float(table()["calm_h"][group]) * r.day / 24, early_calm(r)
    gap = np.where(hot[1:] >= LONG_WEEKS * r.week, max(calm, short), short)
    cut = np.flatnonzero(np.diff(hot) > gap) + 1
    return [(int(part[0]), int(part[-1])) for part in np.split(hot, cut)]


def _merged(found: list[tuple[int, int]], verdict: Verdict, r: Rhythm, n: int) -> list[tuple[int, int, int]]:
    out: list[tuple[int, int, int]] = []
    for start, end in found:
        if out and start - out[-1][0] <= apart(start, r):
            out[-1] = (out[-1][0], max(out[-1][1], end), out[-1][2])
            continue
        first = int(np.flatnonzero(verdict.hot[:, start])[0])
        strongest = int(verdict.channel[start])
        out.append((start, end, strongest if verdict.hot[strongest, start] else first))
    return out
