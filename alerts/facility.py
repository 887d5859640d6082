"""What units did over a stretch of time: runs, stands, unknown at each instant (the history of `linkage.state_of`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from alerts.evaluator import Floats, Ints
from alerts.history import newest
from alerts.linkage import RUNS, STANDS, UNKNOWN, Band
from alerts.loading import Readings
from park.quality import Quality

BETWEEN = -2


@dataclass(frozen=True)
class Facility:
    """Readings of a unit: its power meters with their factor to kW, its run signals, and its band (None: not known)."""

    meters: Sequence[tuple[Readings, float]]
    signals: Sequence[Readings]
    band: Band


def states(f: Facility, when: Floats, fresh_s: float) -> Ints:
    """(len(when),) RUNS, STANDS or UNKNOWN. Power decides where there is a meter whose usual power is known; a meter that is
    silent or unusable makes the unit unknown; between the two thresholds the former state holds."""
    if not f.meters or f.band is None:
        return _signals(f.signals, when, fresh_s)
    total = np.sum([newest(r.at, _power(r) * kw, when, fresh_s) for r, kw in f.meters], axis=0)
    on, off = f.band
    code = np.where(np.isnan(total), UNKNOWN, np.where(total > on, RUNS, np.where(total < off, STANDS, BETWEEN)))
    last = np.maximum.accumulate(np.where(code != BETWEEN, np.arange(len(code)), -1))
    out: Ints = np.where(last >= 0, code[np.maximum(last, 0)], UNKNOWN).astype(np.intp)
    return out


def _signals(signals: Sequence[Readings], when: Floats, fresh_s: float) -> Ints:
    if not signals:
        return np.full(len(when), UNKNOWN, np.intp)
    values = np.array([newest(r.at, r.usable, when, fresh_s) for r in signals])
    known = ~np.isnan(values).all(axis=0)
    runs = (np.nan_to_num(values) > 0).any(axis=0)
    return np.where(known, np.where(runs, RUNS, STANDS), UNKNOWN).astype(np.intp)


def _power(r: Readings) -> Floats:
    """A meter's power; under flag F nothing shown is nothing drawn."""
    return np.where(r.quality == Quality.STOPPED, np.nan_to_num(r.value), r.usable)


def facility(places: Sequence[tuple[int, float | None]], readings: Mapping[int, Readings], points: Sequence[int],
             band: Band) -> Facility:
    """A unit's facility from the places of its points (`Context.facility`) and their readings; `points` are ids by place."""
    from alerts.loading import NOTHING

    def of(i: int) -> Readings:
        return readings.get(points[i], NOTHING)

    return Facility([(of(i), kw) for i, kw in places if kw is not None], [of(i) for i, kw in places if kw is None], band)
