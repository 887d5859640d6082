"""Causal rolling statistics on one regular series, by stacks of lags: nothing here looks ahead of its own index.

Arrays are (T,) float64 with NaN for unknown; a window that knows nothing gives NaN. Nothing walks step by step: a few lags are
columns that a network of minima and maxima sorts; more are rows of a strided view, sorted at once, and the rows with gaps are
done again by themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]
MAD = 1.4826
FEW_LAGS = 12       # up to here a network of minima and maxima over columns sorts faster than rows one by one
LONG_ROW = 64       # shorter rows are gone through place by place, all at once
COLUMN = 4096       # steps of so many columns that stay in the cache


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
    if len(lags) > FEW_LAGS:
        return quantile_of_sorted(np.sort(lags_of(x, lags), axis=1), q, least)     # NaN goes last
    far = lags[-1]
    padded = np.concatenate([np.full(far, np.inf), np.where(np.isnan(x), np.inf, x)])     # unknown goes last
    out = np.empty(len(x))
    work = np.empty((len(lags) + 1, min(COLUMN, len(x))))
    for begin in range(0, len(x), COLUMN):
        end = min(begin + COLUMN, len(x))
        columns = [row[:end - begin] for row in work]
        for column, k in zip(columns, lags, strict=False):
            column[:] = padded[far - k + begin:far - k + end]
        out[begin:end] = _quantile_of_columns(_sorted_columns(columns), q, least)
    return out


def _sorted_columns(columns: list[Floats]) -> list[Floats]:
    """The columns, place by place in ascending order; the last one given is room to work in and not among them."""
    *columns, spare = columns
    for i, j in _network(len(columns)):
        np.minimum(columns[i], columns[j], out=spare)
        np.maximum(columns[i], columns[j], out=columns[j])
        columns[i], spare = spare, columns[i]
    return columns


@cache
def _network(n: int) -> tuple[tuple[int, int], ...]:
    """Pairs of places to put in order, one after the other, that sort any n values: Batcher's merge exchange."""
    pairs = []
    p = top = 1 << max(0, (n - 1).bit_length() - 1)
    while p > 0:
        q, r, d = top, 0, p
        while True:
            pairs += [(i, i + d) for i in range(n - d) if i & p == r]
            if q == p:
                break
            d, q, r = q - p, q // 2, p
        p //= 2
    return tuple(pairs)


def _quantile_of_columns(ordered: list[Floats], q: float, least: int) -> Floats:
    """The quantile of columns that are sorted place by place, infinity (unknown) last."""
    k = len(ordered)
    low, high = int(np.floor(q * (k - 1))), int(np.ceil(q * (k - 1)))
    out: Floats = (ordered[low] + ordered[high]) / 2 if k >= least else np.full(len(ordered[0]), np.nan)
    gaps = np.flatnonzero(ordered[-1] == np.inf)
    if len(gaps):
        part = np.stack([column[gaps] for column in ordered])
        n = np.count_nonzero(part < np.inf, axis=0)
        at = q * np.maximum(n - 1, 0)
        row = np.arange(len(gaps))
        value = (part[np.floor(at).astype(np.intp), row] + part[np.ceil(at).astype(np.intp), row]) / 2
        out[gaps] = np.where(n >= least, value, np.nan)
    return out


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


def tops_of_blocks(x: Floats, block: int) -> Floats:
    """(blocks,) greatest known value of each block, the last one short or not; -inf where there is none."""
    padded = np.full(-(-len(x) // block) * block, -np.inf)
    np.copyto(padded[:len(x)], x, where=~np.isnan(x))
    rows = padded.reshape(-1, block)
    tops: Floats = rows.max(axis=1) if block > LONG_ROW else np.ascontiguousarray(rows.T).max(axis=0)
    return tops


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


def fill(first: Floats, *others: Floats) -> Floats:
    """The first that is known, place by place."""
    out = first
    for other in others:
        out = np.where(np.isnan(out), other, out)
    return out


def held(few: Floats, every: int, n: int) -> Floats:
    """(n,) each value from the step at which it was known, the last of its `every`, until the next."""
    return np.concatenate([np.full(every - 1, np.nan), np.repeat(few, every)])[:n]


def longest(run: Floats, same: NDArray[np.bool_]) -> Floats:
    """(3, T) lengths of the three longest runs that were over before, 0 where there were fewer."""
    rest = np.concatenate([[0.0], np.where(~same[1:], run[:-1], 0.0)])
    out = np.empty((3, len(run)))
    for row in out:
        np.maximum.accumulate(rest, out=row)
        rest = np.minimum(rest, np.concatenate([[0.0], row[:-1]]))   # what the longest so far leaves to the next
    return out
