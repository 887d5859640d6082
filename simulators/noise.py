"""Noise that is a function of (who, when): the same reading has the same noise, in history and live, in any order.

Everything random in the simulated park comes from here or from a generator seeded with whole numbers, so that a run
can be repeated and a value at an instant does not depend on where a run began.
"""

from __future__ import annotations

from zlib import crc32

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_UNIT = 2.0 ** -53


def key_of(seed: int, *words: object) -> int:
    """A 64-bit key of a seed and words, the same in every process (Python's own hash is not)."""
    text = "/".join(str(w) for w in words)
    return (crc32(text.encode()) << 32 | crc32(text[::-1].encode())) ^ (seed * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF)


def uniform(key: int | NDArray[np.uint64], index: NDArray[np.int64]) -> Floats:
    """Uniform in [0, 1) for each whole-number index (splitmix64); keys broadcast against indices."""
    z = (index.astype(np.uint64) * _GAMMA) ^ np.asarray(key, dtype=np.uint64)
    z = (z ^ (z >> np.uint64(30))) * _MIX_1
    z = (z ^ (z >> np.uint64(27))) * _MIX_2
    z ^= z >> np.uint64(31)
    return (z >> np.uint64(11)).astype(np.float64) * _UNIT


def jitter(key: int | NDArray[np.uint64], index: NDArray[np.int64]) -> Floats:
    """Bell-shaped noise of standard deviation 1, bounded by ±2.45: the sum of two uniforms, scaled."""
    result: Floats = (uniform(key, index) + uniform(key, index + (1 << 40)) - 1.0) * np.sqrt(6.0)
    return result


def smooth(key: int, t: Floats, period_s: float) -> Floats:
    """Slow noise in [-1, 1] over time (seconds): hashed values every `period_s`, joined without a corner."""
    x = t / period_s
    cell = np.floor(x)
    f = x - cell
    cell = cell.astype(np.int64)
    a, b = uniform(key, cell), uniform(key, cell + 1)
    return 2.0 * (a + (b - a) * f * f * (3.0 - 2.0 * f)) - 1.0
