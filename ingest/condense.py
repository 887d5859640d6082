"""Readings to buckets: count, minimum, maximum, sum, first, last and increment of every bucket, by numpy.

Used by the rollup pass (what a batch touched) and by the bulk loader (whole weeks). Readings come ordered by point
and time; nothing here knows the database.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ingest.packing import Column, null_nan
from park.quality import LAST_USABLE, Quality

QUARTER_US = 15 * 60 * 1_000_000
MINUTE_US = 60 * 1_000_000
HOUR_US = 3600 * 1_000_000
WEEK_US = 7 * 24 * HOUR_US
MONDAY_US = 4 * 24 * HOUR_US  # 1970-01-05 was a Monday; weeks are numbered from it
RESOLUTION = 2.0**-22  # of a single-precision register, relative; `recompute` in queries.sql says the same
_NEAR = 0.1  # a fall from the last tenth of the register's range to its first tenth is a roll-over, any other a reset


@dataclass(frozen=True)
class Series:
    """Readings (N,) of many points, ordered by series and time. `series` numbers the points from 0.

    `context` marks readings that only stand before a bucket, to take an increment from, and are in no bucket.
    """

    series: NDArray[np.int64]
    ts_us: NDArray[np.int64]
    value: NDArray[np.float64]
    quality: NDArray[np.int16]
    context: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class Buckets:
    """Rollup rows (B,): NaN stands for NULL. `series` as in Series, `bucket_us` the start of the bucket."""

    series: NDArray[np.int64]
    bucket_us: NDArray[np.int64]
    min: NDArray[np.float64]
    max: NDArray[np.float64]
    sum: NDArray[np.float64]
    first: NDArray[np.float64]
    last: NDArray[np.float64]
    increment: NDArray[np.float64]
    n: NDArray[np.int32]
    n_good: NDArray[np.int32]
    n_usable: NDArray[np.int32]

    def take(self, rows: NDArray[Any]) -> Buckets:
        """The buckets at `rows` (indices or a mask)."""
        return Buckets(*(getattr(self, f.name)[rows] for f in fields(self)))

    def columns(self, base_id: NDArray[np.int16], point_id: NDArray[np.int32]) -> list[Column]:
        """Columns for COPY, ids by series."""
        return [Column("bucket", "timestamptz", self.bucket_us), null_nan("min", self.min), null_nan("max", self.max),
                null_nan("sum", self.sum), null_nan("first", self.first), null_nan("last", self.last),
                null_nan("increment", self.increment), Column("point_id", "int4", point_id[self.series]),
                Column("n", "int4", self.n), Column("n_good", "int4", self.n_good), Column("n_usable", "int4", self.n_usable),
                Column("base_id", "int2", base_id[self.series])]


def increments(s: Series, rollover: NDArray[np.float64]) -> NDArray[np.float64]:
    """What each usable reading (N,) adds to the one before it in its series; NaN for the first and for gauges.

    `rollover` (P,): the register value at which a counter starts again; infinite for a counter without; NaN for a
    gauge. A fall is a roll-over when it goes from the last tenth of the range to the first; a fall of less than a
    single-precision register's resolution is its dither and stands as it is, so that sums stay exact; else the counter
    was reset and counts from zero. Swaps and spikes are accounting's business.
    """
    out = np.full(len(s.ts_us), np.nan)
    usable = np.flatnonzero((s.quality <= LAST_USABLE) & ~np.isnan(s.value) & ~np.isnan(rollover[s.series]))
    if len(usable) < 2:
        return out
    value, series = s.value[usable], s.series[usable]
    former, now, top = value[:-1], value[1:], rollover[series[1:]]
    step = now - former
    with np.errstate(invalid="ignore"):
        rolled = (former > (1 - _NEAR) * top) & (now < _NEAR * top) & np.isfinite(top)
    step = np.where(step >= -np.abs(former) * RESOLUTION, step, np.where(rolled, top - former + now, now))
    out[usable[1:]] = np.where(series[1:] == series[:-1], step, np.nan)
    return out


def condense(s: Series, increment: NDArray[np.float64], width_us: int) -> Buckets:
    """One row for every bucket of `width_us` that holds a reading."""
    return condense_by(s, increment, s.ts_us // width_us * width_us)


def condense_by(s: Series, increment: NDArray[np.float64], bucket_us: NDArray[np.int64]) -> Buckets:
    """One row for every bucket that holds a reading; `bucket_us` (N,) is the start of each reading's bucket."""
    real = slice(None) if s.context is None or not s.context.any() else np.flatnonzero(~s.context)
    series, bucket, value, quality = s.series[real], bucket_us[real], s.value[real], s.quality[real]
    starts = np.flatnonzero(np.r_[len(bucket) > 0, (series[1:] != series[:-1]) | (bucket[1:] != bucket[:-1])])
    good = (quality == Quality.GOOD) | (quality == Quality.MANUAL)
    ends = np.r_[starts[1:], len(bucket)]
    used = np.where(quality <= LAST_USABLE, value, np.nan)
    n = (ends - starts).astype(np.int32)
    where, begin = series[starts], bucket[starts]
    some = ~np.isnan(used)
    if len(starts) == len(bucket):  # a reading a bucket: nothing to condense
        return Buckets(where, begin, used, used, used, used, used, increment[real], n, good.astype(np.int32),
                       some.astype(np.int32))
    place = np.arange(len(bucket))
    first = np.minimum.reduceat(np.where(some, place, len(bucket)), starts)
    last = np.maximum.reduceat(np.where(some, place, -1), starts)
    padded = np.r_[used, np.nan]
    return Buckets(where, begin, np.fmin.reduceat(used, starts), np.fmax.reduceat(used, starts), _sum(used, some, starts),
                   padded[first], padded[last], _sum(increment[real], ~np.isnan(increment[real]), starts), n,
                   np.add.reduceat(good.astype(np.int32), starts), np.add.reduceat(some.astype(np.int32), starts))


def _sum(values: NDArray[np.float64], some: NDArray[np.bool_], starts: NDArray[np.intp]) -> NDArray[np.float64]:
    """Sums of a bucket's known values; NaN where none is known."""
    total = np.add.reduceat(np.where(some, values, 0.0), starts)
    known = np.logical_or.reduceat(some, starts)
    return np.where(known, total, np.nan)
