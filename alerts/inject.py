"""Faults put into sound series, to see what the core finds of them: the kinds that meters have, at places drawn by a seed.

A copy of a series gets up to five faults, four hundred steps away from each other and from those it has already.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from alerts.rolling import Floats

APART = 400
Change = Callable[[Floats, int, int, np.random.Generator], Floats]


@dataclass(frozen=True)
class Kind:
    """A kind of fault of an hourly meter: how often it is drawn, its length in steps, and what it makes of x[first:end]."""

    name: str
    weight: int
    shortest: int
    longest: int
    change: Change


def _spread(x: Floats) -> float:
    return float(max(0.75 * (np.nanquantile(x, 0.95) - np.nanquantile(x, 0.05)), 0.3 * np.nanmedian(x)))


def _ramp(a: int, b: int) -> Floats:
    return np.linspace(0.0, 1.0, b - a)


def _lump(x: Floats, a: int, b: int, rng: np.random.Generator) -> Floats:
    out = np.zeros(b - a)
    out[-1] = np.nansum(x[a:b])
    return out


KINDS = (
    Kind("stuck", 26, 12, 72, lambda x, a, b, rng: np.full(b - a, x[a])),
    Kind("scale_error", 18, 40, 160, lambda x, a, b, rng: x[a:b] * rng.choice([0.1, 0.5, 2.0, 10.0])),
    Kind("slow_degradation", 17, 680, 1310, lambda x, a, b, rng: x[a:b] * (1 + rng.uniform(0.15, 0.33) * _ramp(a, b))),
    Kind("clock_skew", 16, 120, 340, lambda x, a, b, rng: np.roll(x, rng.choice([-6, -5, -4, -3, 3, 4, 5, 6]))[a:b]),
    Kind("spike", 16, 1, 3, lambda x, a, b, rng: x[a:b] + rng.uniform(1.1, 3.0) * _spread(x)),
    Kind("level_shift", 15, 170, 500, lambda x, a, b, rng: x[a:b] * (1 + rng.choice([-1, 1, 1, 1]) * rng.uniform(0.24, 0.5))),
    Kind("baseload_drift", 14, 390, 1020,
         lambda x, a, b, rng: x[a:b] + rng.uniform(0.2, 0.5) * np.nanquantile(x, 0.05) * _ramp(a, b)),
    Kind("catchup", 14, 3, 13, _lump),
    Kind("dropout", 12, 6, 24, lambda x, a, b, rng: x[a:b] * 0.02),
    Kind("schedule_left_on", 4, 24, 48, lambda x, a, b, rng: np.resize(x[a - 24:a], b - a)),
)


def faulty_copy(x: Floats, known: tuple[tuple[str, int, int], ...], first: int, seed: int,
                most: int = 5) -> tuple[Floats, tuple[tuple[str, int, int], ...]]:
    """(copy of x with further faults from step `first` on, all faults as (kind, first step, step after the last))."""
    rng = np.random.default_rng(seed)
    out, faults = x.copy(), list(known)
    share = np.array([k.weight for k in KINDS]) / sum(k.weight for k in KINDS)
    for _ in range(12 * most):
        if len(faults) >= len(known) + most:
            break
        kind = KINDS[rng.choice(len(KINDS), p=share)]
        a = int(rng.integers(first, len(x) - kind.longest - 50))
        b = a + int(rng.integers(kind.shortest, kind.longest + 1))
        near = any(a < end + APART and b > start - APART for _, start, end in faults)
        if not near and not np.isnan(x[a - 30:b]).any():
            out[a:b] = kind.change(x, a, b, rng)
            faults.append((kind.name, a, b))
    return out, tuple(sorted(faults, key=lambda f: f[1]))
