"""Where a year will end, from the days that are known: weekly totals against the same weeks of the year before (or their own
level), and block bootstrap of their residuals for the uncertainty. Pure numpy.

Several figures are simulated together from the same weeks, so that a quotient of them keeps their correlation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
WEEK = 7
LEVEL_WEEKS = 13                 # without a year before, what the last quarter was like
LEAST_WEEKS = 4
BLOCK = 4                        # weeks drawn together: weather and orders last longer than one
DRAWS = 1000
ENOUGH_DAYS = 6                  # known days that make a week known: working days alone are not a week


@dataclass(frozen=True)
class YearEnd:
    """A figure's total at the end of the year: the point forecast, and simulated ones (DRAWS)."""

    point: float
    draws: Floats
    seasonal: bool                       # against the year before, not against its own level


def year_ends(days: dict[str, Floats], former: dict[str, Floats], n_days: int, seed: int = 1) -> dict[str, YearEnd]:
    """Forecast of each figure from its daily amounts (NaN: not known or to come; shape (n_days,)).

    former: the same of the year before, where there is one. A figure with less than four known weeks has no forecast. Days of
    the past that are not known are forecast like those to come.
    """
    n_weeks = -(-n_days // WEEK)
    start = np.random.default_rng(seed).integers(0, 2**31, (DRAWS, n_weeks))     # the same draw of weeks for every figure
    out: dict[str, YearEnd] = {}
    for name, amounts in days.items():
        found = _year_end(amounts[:n_days], former.get(name), n_weeks, start)
        if found is not None:
            out[name] = found
    return out


def _year_end(amounts: Floats, former: Floats | None, n_weeks: int, start: NDArray[np.int64]) -> YearEnd | None:
    week, width = _weeks(amounts, n_weeks)
    shape, seasonal = width / WEEK, False
    if former is not None and np.isfinite(former).mean() >= 0.9 and np.nansum(former) > 0:
        before, _ = _weeks(former[: len(amounts)], n_weeks)
        typical = float(np.nanmean(before))
        shape, seasonal = np.where(np.isfinite(before), before, typical), True
    observed = np.flatnonzero(np.isfinite(week) & (shape > 0))
    if not seasonal:
        observed = observed[-LEVEL_WEEKS:]
    if len(observed) < LEAST_WEEKS:
        return None
    w, s = week[observed], shape[observed]
    level = w.sum() / s.sum()
    residual = w - level * s
    known = np.isfinite(amounts)
    rest = np.bincount(np.arange(len(amounts))[~known] // WEEK, minlength=n_weeks) / width       # part of each week to come
    total = float(amounts[known].sum())
    point = total + level * float((rest * shape).sum())
    draws = total + _draws(w, s, residual, rest, shape, start)
    return YearEnd(point, point + (draws - draws.mean()) * _few(len(w)), seasonal)


def _few(n: int) -> float:
    """How much wider an interval from n weeks must be than one from many: weeks hang together, so half of them count."""
    from scipy.special import stdtrit  # here, as in `baseline`

    return float(stdtrit(max(n / 2 - 1, 2), 0.95) / 1.6449)


def _weeks(amounts: Floats, n_weeks: int) -> tuple[Floats, Floats]:
    """Weekly totals (a week of which some days are known counts as the mean of those), and days of each week."""
    index = np.arange(len(amounts)) // WEEK
    known = np.isfinite(amounts)
    count = np.bincount(index[known], minlength=n_weeks)
    total = np.bincount(index[known], weights=amounts[known], minlength=n_weeks)
    width = np.maximum(np.bincount(index, minlength=n_weeks), 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(count >= np.minimum(ENOUGH_DAYS, width), total / count * width, np.nan), width


def _draws(w: Floats, s: Floats, residual: Floats, rest: Floats, shape: Floats, start: NDArray[np.int64]) -> Floats:
    """Simulated sums of what is to come: the level drawn anew from resampled weeks, the residuals in blocks."""
    n, blocks = len(w), -(-len(rest) // BLOCK)
    picked = (start[:, :blocks, None] + np.arange(BLOCK)) % n                     # circular blocks
    picked = picked.reshape(len(start), -1)
    again = picked[:, -n:] if picked.shape[1] >= n else np.resize(picked, (len(start), n))
    level = w[again].sum(axis=1) / s[again].sum(axis=1)
    # residuals of a fit are smaller than errors by the degree of freedom that the level took
    noise = (residual[picked[:, : len(rest)]] * np.sqrt(n / (n - 1))) @ np.sqrt(rest)
    result: Floats = level * float((rest * shape).sum()) + noise
    return result
