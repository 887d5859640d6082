"""History of the simulated park in blocks of whole weeks, for loading a year before the first page is shown.

Most points come every `step_s` (15 minutes); from the last whole step to the end they come every minute, so that nothing
looks interrupted when the live run goes on from there. Outlets come every minute in the last `minute_days` days, because an
emission hour needs 45 valid minutes; before that they carry a reading every 15 minutes, so older hours are `insufficient`
under the minute rule unless the accounting reads the block's resolution. Each block tells its step.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from park.catalogue import read_catalogue
from park.errors import InputError
from simulators.catalogue import catalogue_files
from simulators.model import NO_READING, Park
from simulators.scenario import read_scenario

WEEK_S = 7 * 86_400
MINUTE_DAYS = 3


class Block(NamedTuple):
    """Readings in columns: codes (P), ts_ms (T,), value (P, T), quality (P, T) int16; -1 and NaN: no reading."""

    codes: list[str]
    ts_ms: NDArray[np.int64]
    value: NDArray[np.float64]
    quality: NDArray[np.int16]


def blocks(days: int, end: datetime, step_s: int = 900, seed: int = 1, *, skip_days: int = 0, newest_first: bool = False,
           minute_days: int = MINUTE_DAYS, scenario: str = "lvyuan") -> Iterator[Block]:
    """The last `days` before `end` without the newest `skip_days`, in whole weeks (Monday UTC), in time order or newest first.

    InputError when that begins before the simulated park was opened.
    """
    park = _park(scenario, seed)
    last = int(end.timestamp()) // step_s * step_s - skip_days * 86_400
    first = int(end.timestamp()) // step_s * step_s - days * 86_400
    if first < park.rates.opened:
        raise InputError(f"the simulated park was opened on {park.scenario.opened}; at most "
                         f"{int((end.timestamp() - park.rates.opened) // 86_400)} days of history, got {days}")
    fine_from = int(end.timestamp()) - minute_days * 86_400
    weeks = list(_weeks(first, last))
    tail = np.arange(last, int(end.timestamp()) + 1, 60) if skip_days == 0 else np.empty(0, np.int64)
    if newest_first and len(tail):
        yield _block(park, tail, range(len(park.codes)))
    for start, stop in reversed(weeks) if newest_first else weeks:
        yield from _week(park, start, stop, step_s, fine_from)
    if not newest_first and len(tail):
        yield _block(park, tail, range(len(park.codes)))


@lru_cache(maxsize=2)
def _park(scenario: str, seed: int) -> Park:
    told = read_scenario(scenario)
    return Park(read_catalogue(catalogue_files(told.catalogue)), told, seed)


def _weeks(first: int, last: int) -> Iterator[tuple[int, int]]:
    """[start, stop) of each week, cut at Monday 00:00 UTC (epoch day 4), in seconds."""
    start = first
    while start < last:
        stop = min(last, (start - 4 * 86_400) // WEEK_S * WEEK_S + WEEK_S + 4 * 86_400)
        yield start, stop
        start = stop


def _week(park: Park, start: int, stop: int, step_s: int, fine_from: int) -> Iterator[Block]:
    """One block of all points, or two where outlets have a finer step: (coarse, all points), (minutes, outlets)."""
    outlets = [i for i, c in enumerate(park.codes) if c.rpartition(".")[0] in park.scenario.outlets]
    yield _block(park, np.arange(start, stop, step_s), range(len(park.codes)))
    fine = np.arange(max(start, fine_from // 60 * 60), stop, 60)
    fine = fine[fine % step_s != 0]
    for day in np.split(fine, np.flatnonzero(np.diff(fine // 86_400)) + 1):
        if len(day):
            yield _block(park, day, outlets)


def _block(park: Park, t: NDArray[np.int64], columns: Sequence[int]) -> Block:
    value, quality = park.readings(t.astype(np.float64))
    chosen = list(columns)
    value, quality = value[:, chosen].T.copy(), quality[:, chosen].T.copy()
    value[quality == NO_READING] = np.nan
    return Block([park.codes[i] for i in chosen], t.astype(np.int64) * 1000, value, quality)

