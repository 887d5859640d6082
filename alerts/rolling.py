"""Causal rolling statistics on one regular series, by stacks of lags: nothing here looks ahead of its own index.

Arrays are (T,) float64 with NaN for unknown; a window that knows nothing gives NaN. Nothing walks step by step: windows are
rows of a strided view, sorted at once, and the rows with gaps are done again by themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]
MAD = 1.4826


def lag(x: Floats, k: int) -> Floats:
    """x[t - k]; a negative k is not possible."""
    if k == 0:
        return x
    out = np.full_like(x, np.nan)
    if k < len(x):
        out[k:] = x[:-k]
    return out


def lags_of(x: Floats, lags: Sequence[int]) -> Floats:
    """(T, n lags): x[t - lag] in each row; lags >= 0 in ascending order, NaN before the beginning."""
    far = lags[-1]
    padded = np.concatenate([np.full(far, np.nan), x])
    steps = {b - a for a, b in pairwise(lags)} or {1}
    if len(steps) == 1:
        stride = padded.strides[0]
        return as_strided(padded[far - lags[0]:], (len(x), len(lags)), (stride, -stride * steps.pop()), writeable=False)
    out = np.empty((len(x), len(lags)))
    for i, k in enumerate(lags):
        out[:, i] = padded[far - k:len(padded) - k]
    return out


def quantile_of_lags(x: Floats, lags: Sequence[int], q: float = 0.5, least: int = 1) -> Floats:
    """Quantile over x[t - lag] of what is known (lower and upper neighbour averaged at 0.5); NaN with fewer than `least`."""
    ordered = np.sort(lags_of(x, lags), axis=1)     # NaN goes last
    return quantile_of_sorted(ordered, q, least)


def fill_by_lags(first: Floats, x: Floats, lags: Sequence[int], least: int) -> Floats:
    """`first`, and where that is unknown the median over x[t - lag], which is worked out nowhere else."""
    missing = np.flatnonzero(np.isnan(first))
    if not len(missing):
        return first
    out = first.copy()
    out[missing] = quantile_of_sorted(np.sort(lags_of(x, lags)[missing], axis=1), 0.5, least)
    return out


def quantile0(rows: Floats, q: float = 0.5, least: int = 1) -> Floats:
    """The same quantile along axis 0 of (n, ...) values."""
    ordered = np.moveaxis(np.sort(rows, axis=0), 0, -1)
    flat = np.ascontiguousarray(ordered).reshape(-1, len(rows))
    return quantile_of_sorted(flat, q, least).reshape(ordered.shape[:-1])


def quantile_of_sorted(ordered: Floats, q: float, least: int) -> Floats:
    """The same over rows that are sorted already, NaN last."""
    k = ordered.shape[1]
    low, high = int(np.floor(q * (k - 1))), int(np.ceil(q * (k - 1)))
    out: Floats = (ordered[:, low] + ordered[:, high]) / 2 if k >= least else np.full(len(ordered), np.nan)
    gaps = np.flatnonzero(np.isnan(ordered[:, -1]))
    if len(gaps):
        part = ordered[gaps]
        n = k - np.count_nonzero(np.isnan(part), axis=1)
        at = q * np.maximum(n - 1, 0)
        row = np.arange(len(gaps))
        value = (part[row, np.floor(at).astype(np.intp)] + part[row, np.ceil(at).astype(np.intp)]) / 2
        out[gaps] = np.where(n >= least, value, np.nan)
    return out


def mean_of_last(x: Floats, n: int, least: int = 1) -> Floats:
    """Mean of x[t - n + 1 .. t]."""
    known = ~np.isnan(x)
    if known.all():
        return _over(sum_of_last(x, n), np.minimum(np.arange(1, len(x) + 1), n), least)
    return _over(sum_of_last(np.where(known, x, 0.0), n), sum_of_last(known, n), least)


def _over(total: Floats, count: NDArray[Any], least: int) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        out: Floats = total / count
    return np.where(count >= np.intp(least), out, np.nan)


def sum_of_last(x: NDArray[Any], n: int) -> Floats:
    """Sum of x[..., t - n + 1 .. t] along the last axis; counts where x is true or false."""
    total = np.cumsum(x, axis=-1)
    out: Floats = total.copy()
    out[..., n:] -= total[..., :-n]
    return out


def blockwise_scale(x: Floats, block: int, n_blocks: int, least: int, q: float = 0.5) -> Floats:
    """Median, or another quantile, of |x| x 1.4826 over the `n_blocks` blocks that ended before t's own block began."""
    n = -(-len(x) // block)
    if not n:
        return x.copy()
    width = block * n_blocks
    padded = np.concatenate([np.full(width, np.nan), np.abs(x), np.full(n * block - len(x), np.nan)])
    stride = padded.strides[0]
    past = as_strided(padded, (n, width), (stride * block, stride), writeable=False)
    rows = max(1, 1_000_000 // width)     # so many windows at once stay in the cache
    medians = [quantile_of_sorted(np.sort(past[i:i + rows], axis=1), q, max(least, 1)) for i in range(0, n, rows)]
    return np.repeat(MAD * np.concatenate(medians), block)[:len(x)]


def fill(first: Floats, *others: Floats) -> Floats:
    """The first that is known, place by place."""
    out = first
    for other in others:
        out = np.where(np.isnan(out), other, out)
    return out
