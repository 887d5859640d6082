"""Sensors of one process judged together: how far their smoothed values lie from how they usually belong together.

EWMA of robustly standardised values, Mahalanobis distance with a shrunk covariance, both learned on the first REFERENCE
steps; before these are there on the first 200 and 100 of them, with a higher alarm level; nothing alarms in the first 100
(warm-up). A sensor that wanders there has no usual value and is left out. The same is done with
the size of the steps: a sensor that hunts or is noisy may keep its level. The alarm level comes from the reference's own
tail. Causal.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alerts.rolling import Floats

REFERENCE = 400
STAGES = (100, 200, REFERENCE)        # steps learned from, until there are more: nothing alarms before the first
SMOOTHING = 0.12
SHRINK = 0.6
WANDER = 3.0        # a sensor whose blocks of the reference vary so many times more than noise would has no usual value
BLOCK = 40
RESTLESS = 1.15     # so much further must the size of the steps lie than the values
FEW = 0.5           # a shorter reference has seen less of its own tail: power by which the alarm level rises
CLIP = 2.5          # deviations beyond which a sensor says no more: one that runs away must not outlast its fault
# multiples of the reference's 99th percentile that alarm, by false alarms per series-month; frozen on development data
LEVELS = {0.1: 1.8, 0.3: 1.5, 1.0: 1.35}


@dataclass(frozen=True)
class Group:
    """(T,) strength (1 alarms), p, index of the sensor that contributes most, whether it alarms; (S, T) expected values and
    usual deviations."""

    strength: Floats
    p: Floats
    contributor: np.ndarray[tuple[int], np.dtype[np.intp]]
    hot: np.ndarray[tuple[int], np.dtype[np.bool_]]
    expected: Floats
    scale: Floats


def judge(values: Floats, budget: float) -> Group:
    """The verdict on (S, T) values on one grid; unknown values hold the last known one."""
    n = values.shape[1]
    parts = []
    for n_ref, first, end in zip(STAGES, (0, *STAGES[1:]), (*STAGES[1:], max(n, REFERENCE + 1)), strict=True):
        if first < n:
            parts.append(_stage(values[:, :end], min(n_ref, n), first))
    relative, contributor, expected, scale = (np.concatenate(p, axis=-1) for p in zip(*parts, strict=True))
    strength = relative / level(budget)
    p = np.minimum(1.0, 0.01 * np.maximum(relative, 1e-9) ** -4.0)
    return Group(strength, p, contributor, strength >= 1.0, expected, scale)


def _stage(values: Floats, n_ref: int, first: int) -> tuple[Floats, NDArray[np.intp], Floats, Floats]:
    """From the step `first` on, learned on the first `n_ref` steps: (T,) how far out, (T,) who contributes most, (S, T)
    expected values and their usual deviations."""
    x = _held(values, n_ref)
    middle, scale = _usual(x[:, :n_ref])
    level_of, by_level = _distance(x, middle, scale, n_ref)
    steps = np.abs(np.diff(x, axis=1, prepend=x[:, :1]))
    restless, by_step = _distance(steps, *_usual(steps[:, :n_ref]), n_ref)
    restless /= RESTLESS
    contributor = np.where(level_of >= restless, np.argmax(by_level, axis=0), np.argmax(by_step, axis=0))
    n = x.shape[1] - first
    return (np.maximum(level_of, restless)[first:], contributor[first:], np.repeat(middle[:, None], n, axis=1),
            np.repeat(scale[:, None], n, axis=1))


def _usual(reference: Floats) -> tuple[Floats, Floats]:
    """(S,) middle and usual deviation of each sensor."""
    middle = np.median(reference, axis=1)
    deviation = 1.4826 * np.median(np.abs(reference - middle[:, None]), axis=1)
    return middle, np.maximum(deviation, 1e-3 * reference.std(axis=1) + 1e-9)


def _distance(x: Floats, middle: Floats, scale: Floats, n_ref: int) -> tuple[Floats, Floats]:
    """(T,) smoothed distance over the reference's 99th percentile, 0 during warm-up; (S, T) what each sensor adds to it."""
    z = np.clip((x - middle[:, None]) / scale[:, None], -CLIP, CLIP)
    z[~_steady(z[:, :n_ref])] = 0.0
    smooth = _ewma(z)
    settle = min(n_ref // 4, round(3 / SMOOTHING))
    cov = np.atleast_2d(np.cov(smooth[:, settle:n_ref]))
    cov = (1 - SHRINK) * cov + SHRINK * np.diag(np.diag(cov)) + 1e-6 * np.eye(len(x))
    d = smooth - smooth[:, settle:n_ref].mean(axis=1)[:, None]
    solved = np.linalg.solve(cov, d)
    distance = np.sqrt(np.maximum((d * solved).sum(axis=0), 0.0))
    usual = float(np.quantile(distance[settle:n_ref], 0.99))
    relative = distance / max(usual * (REFERENCE / n_ref) ** FEW, 1e-9)
    relative[:n_ref] = 0.0
    return relative, np.abs(d * solved)


def _steady(z: Floats) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """(S,) which sensors hold a level over the reference: a temperature that still climbs would alarm for ever after.
    Where fewer than two of those that move do, the two of them that wander least."""
    size = min(BLOCK, max(2, z.shape[1] // 4))
    blocks = z[:, :z.shape[1] // size * size].reshape(len(z), -1, size).mean(axis=2)
    wander = blocks.var(axis=1) * size / np.maximum(z.var(axis=1), 1e-12)
    moving = np.sort(wander[z.var(axis=1) > 1e-12])      # what stands still says nothing of the others
    return np.asarray(wander <= max(WANDER, float(moving[min(1, len(moving) - 1)]) if len(moving) else 0.0))


def level(budget: float) -> float:
    """The multiple at a budget, by straight lines in logarithms between the frozen ones."""
    known = sorted(LEVELS)
    return float(np.exp(np.interp(np.log(budget), np.log(known), np.log([LEVELS[b] for b in known]))))


def _held(values: Floats, n_ref: int) -> Floats:
    """Known values held; before a sensor's first value its reference median. A sensor that is silent in the reference
    has no usual value and says nothing."""
    x = values.copy()
    x[np.isnan(x[:, :n_ref]).all(axis=1)] = 0.0
    for row in x:
        known = ~np.isnan(row)
        last = np.maximum.accumulate(np.where(known, np.arange(len(row)), -1))
        row[:] = np.where(last >= 0, row[np.maximum(last, 0)], np.nan)
    return np.where(np.isnan(x), np.nanmedian(x[:, :n_ref], axis=1)[:, None], x)


def _ewma(z: Floats) -> Floats:
    from scipy.signal import lfilter

    start = z[:, :1] * (1 - SMOOTHING)
    out, _ = lfilter([SMOOTHING], [1.0, SMOOTHING - 1.0], z, axis=1, zi=start)
    return np.asarray(out)


def runs(hot: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> list[tuple[int, int]]:
    """(first, last) step of each alarm; a pause shorter than the smoothing remembers belongs to it."""
    at = np.flatnonzero(hot)
    if not len(at):
        return []
    cut = np.flatnonzero(np.diff(at) > round(1 / SMOOTHING)) + 1
    return [(int(part[0]), int(part[-1])) for part in np.split(at, cut)]
