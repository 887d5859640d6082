"""Order statistics of many long windows that overlap, without sorting any of them: the series is sorted once.

Windows begin and end at whole cells of the series. The sorted series is cut into runs; counts of each run in each cell tell
in which run the k-th smallest value of a window lies, and only there the values are looked at one by one. Exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from alerts.rolling import MAD, Floats, Ints, quantile_of_sorted

LEAST_RUN = 16
LONG = 300          # windows of fewer steps are sorted sooner than looked up


@dataclass(frozen=True)
class Windows:
    """(W,) windows over the cells first <= c < end of a series, with `n` known values each; asked by rank."""

    n: NDArray[np.int32]
    first: NDArray[np.int32]
    end: NDArray[np.int32]
    _values: Floats                 # ascending
    _cells: NDArray[np.int32]       # (runs, length) the cell of each value, one past the last where there is none
    _below: NDArray[np.int32]       # (W, runs) how many values of the window lie in this run or before

    def kth(self, k: Ints) -> Floats:
        """(Q, W) k-th smallest value of each window, k from 0; any value where a window has not so many."""
        run = (self._below <= k[..., None]).argmin(axis=-1)
        before = np.where(run > 0, self._below[np.arange(len(self.n)), run - 1], 0)
        cells = self._cells[run]
        inside = (cells >= self.first[:, None]) & (cells < self.end[:, None])
        place = (np.cumsum(inside, axis=-1, dtype=np.int32) <= (k - before)[..., None]).argmin(axis=-1)
        return np.asarray(self._values[np.minimum(run * cells.shape[-1] + place, len(self._values) - 1)])


def windows(x: Floats, at: Ints, cell: int, first: Ints, end: Ints) -> Windows:
    """Windows over the known values `x` at the places `at`; `first` and `end`, ascending, in cells of so many places."""
    order = np.argsort(x)
    length = max(LEAST_RUN, int(np.sqrt(len(x))) // 2)
    n_runs = max(1, -(-len(x) // length))
    n_cells = int(end[-1])
    cells = np.full(n_runs * length, n_cells, np.int32)
    np.minimum(at[order] // cell, n_cells, out=cells[:len(x)], casting="unsafe")
    held = cells + 1 + (n_cells + 2) * np.repeat(np.arange(n_runs), length)     # the sum up to c is of what is before c
    counts = np.bincount(held, minlength=n_runs * (n_cells + 2)).astype(np.int32).reshape(n_runs, -1)
    total = np.cumsum(counts, axis=1, dtype=np.int32)
    below = np.cumsum(np.ascontiguousarray((total[:, end] - total[:, first]).T), axis=1, dtype=np.int32)
    return Windows(below[:, -1], first.astype(np.int32), end.astype(np.int32), x[order], cells.reshape(n_runs, length), below)


def quantiles_of_blocks(x: Floats, block: int, n_blocks: int, least: int, qs: tuple[float, ...]) -> Floats:
    """(Q, blocks) quantiles (lower and upper neighbour averaged) of what is known of the `n_blocks` blocks before each block of
    x; NaN where fewer than `least` are."""
    n = -(-len(x) // block)
    known = np.flatnonzero(~np.isnan(x))
    if not len(known):
        return np.full((len(qs), n), np.nan)
    if block * n_blocks < LONG:
        return _of_sorted_blocks(x, n, block, n_blocks, least, qs)
    end = np.arange(n)
    past = windows(x[known], known, block, np.maximum(end - n_blocks, 0), end)
    at = np.array(qs)[:, None] * np.maximum(past.n - 1, 0)
    low, high = past.kth(np.concatenate([np.floor(at), np.ceil(at)]).astype(np.intp)).reshape(2, len(qs), n)
    return np.where(past.n >= least, (low + high) / 2, np.nan)


def _of_sorted_blocks(x: Floats, n: int, block: int, n_blocks: int, least: int, qs: tuple[float, ...]) -> Floats:
    """The same by sorting each window."""
    width = block * n_blocks
    padded = np.concatenate([np.full(width, np.nan), x, np.full(n * block - len(x), np.nan)])
    stride = padded.strides[0]
    past = np.sort(as_strided(padded, (n, width), (stride * block, stride), writeable=False), axis=1)
    return np.stack([quantile_of_sorted(past, q, least) for q in qs])


def blockwise_scale(x: Floats, block: int, n_blocks: int, least: int, *qs: float) -> Floats:
    """(T,) usual size of x: 1.4826 times the median of |x| over the `n_blocks` blocks that ended before t's own block began;
    with quantiles (Q, T), those instead of the median."""
    found = MAD * quantiles_of_blocks(np.abs(x), block, n_blocks, max(least, 1), qs or (0.5,))
    scales: Floats = np.repeat(found, block, axis=1)[:, :len(x)]
    return scales if qs else scales[0]
