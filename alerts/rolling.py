"""Causal rolling statistics on one regular series, by stacks of lags: nothing here looks ahead of its own index.

Arrays are (T,) float64 with NaN for unknown; a window that knows nothing gives NaN.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
MAD = 1.4826


def lag(x: Floats, k: int) -> Floats:
    """x[t - k]; a negative k is not possible."""
    if k == 0:
        return x
    out = np.full_like(x, np.nan)
    if k < len(x):
        out[k:] = x[:-k]
    return out


def stack(x: Floats, lags: Iterable[int]) -> Floats:
    """(n lags, T)."""
    return np.stack([lag(x, k) for k in lags])


def quantile0(rows: Floats, q: float = 0.5, least: int = 1) -> Floats:
    """Quantile along axis 0 of what is known (lower and upper neighbour averaged at 0.5); NaN with fewer than `least`."""
    ordered = np.sort(rows, axis=0)     # NaN goes last
    n = np.count_nonzero(~np.isnan(rows), axis=0)
    at = q * np.maximum(n - 1, 0)
    low, high = np.floor(at).astype(np.intp)[None], np.ceil(at).astype(np.intp)[None]
    out = (np.take_along_axis(ordered, low, 0)[0] + np.take_along_axis(ordered, high, 0)[0]) / 2
    return np.where(n >= least, out, np.nan)


def mean_of_last(x: Floats, n: int, least: int = 1) -> Floats:
    """Mean of x[t - n + 1 .. t]."""
    known = ~np.isnan(x)
    total = np.concatenate([[0.0], np.cumsum(np.where(known, x, 0.0))])
    count = np.concatenate([[0], np.cumsum(known)])
    start = np.maximum(np.arange(len(x)) + 1 - n, 0)
    end = np.arange(len(x)) + 1
    c = count[end] - count[start]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(c >= least, (total[end] - total[start]) / c, np.nan)


def blockwise_scale(x: Floats, block: int, n_blocks: int, least: int) -> Floats:
    """Median |x| x 1.4826 over the `n_blocks` blocks that ended before t's own block began."""
    out = np.full_like(x, np.nan)
    a = np.abs(x)
    for start in range(0, len(x), block):
        past = a[max(0, start - block * n_blocks):start]
        past = past[~np.isnan(past)]
        if len(past) >= least:
            out[start:start + block] = MAD * np.median(past)
    return out


def fill(first: Floats, *others: Floats) -> Floats:
    """The first that is known, place by place."""
    out = first
    for other in others:
        out = np.where(np.isnan(out), other, out)
    return out
