"""What the treatment trace finds in minutes: pure functions over three-valued states, powers and outlet readings.

States are 1 on, 0 off, -1 unknown a minute: an unknown minute ends every run, so that an offline meter is never an event.
Minutes count from the window's start; `end` is exclusive. Thresholds are our own choice, in no standard; a facility's or
outlet's attributes override those marked so in `outlet_events` and `treatment`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

ON, OFF, UNKNOWN = 1, 0, -1
TREATMENT_OFF, LATE_START, EARLY_STOP = "production_on_treatment_off", "treatment_late_start", "treatment_early_stop"
IDLING, WHILE_STOPPED = "treatment_idling", "production_while_stopped"
NORMAL_WHILE_OFF, FROZEN, COPIED = "outlet_normal_treatment_off", "readings_frozen", "readings_copied"
PAIR_KINDS = (TREATMENT_OFF, LATE_START, EARLY_STOP, IDLING)
OUTLET_KINDS = (WHILE_STOPPED, NORMAL_WHILE_OFF, FROZEN, COPIED)

SWITCH_MIN = 240            # a longer run is more than a late start or an early stop
IDLE_MIN = 30
IDLE_MARGIN = 0.75          # of the learned 10th percentile: a few idle hours among what was learned from do no harm
LEVELS = (0.4, 0.6, 0.8)    # borders between the four levels of production, as shares of its usual peak
MIDDLES = (0.3, 0.5, 0.7, 0.9)
LEAST_SLOTS = 48            # 15-minute means at a level before it is judged
RISE_MIN = 30               # concentrations need so long to climb when treatment stops
USUAL = 1.3                 # at most so many times the usual level is `normal`
FROZEN_MIN, FROZEN_READINGS = 60, 6
COPIED_MIN, COPIED_LAGS = 60, (60, 1440)
States = NDArray[np.int8]
Floats = NDArray[np.float64]


class Found(NamedTuple):
    """Minutes [first, end) of an event."""

    kind: str
    first: int
    end: int
    detail: dict[str, Any]


def runs_of(mask: NDArray[np.bool_], least: int) -> list[tuple[int, int]]:
    """[first, end) of every run of at least `least` minutes."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(np.int8), [0]])))
    pairs = zip(edges[::2], edges[1::2], strict=True)
    return [(int(a), int(b)) for a, b in pairs if b - a >= least]


def off_runs(production: States, treatment: States, tolerance: int) -> list[Found]:
    """Production on with treatment off, told apart by how the run begins and ends.

    A late start begins with the production and ends when the treatment comes on; an early stop begins when the treatment
    goes off and ends with the production; everything else, and what lasts longer than `SWITCH_MIN`, is treatment off.
    """
    found = []
    for a, b in runs_of((production == ON) & (treatment == OFF), tolerance):
        begins_with_production = a > 0 and production[a - 1] == OFF and treatment[a - 1] == OFF
        ends_with_treatment = b < len(treatment) and treatment[b] == ON and production[b] == ON
        begins_with_treatment = a > 0 and treatment[a - 1] == ON and production[a - 1] == ON
        ends_with_production = b < len(production) and production[b] == OFF and treatment[b] == OFF
        kind = TREATMENT_OFF
        if b - a <= SWITCH_MIN:
            kind = LATE_START if begins_with_production and ends_with_treatment else \
                EARLY_STOP if begins_with_treatment and ends_with_production else TREATMENT_OFF
        found.append(Found(kind, a, b, {"minutes": b - a, "tolerance_min": tolerance}))
    return found


def levels(share: Floats) -> NDArray[np.int64]:
    """Level of production, 0 to 3, by its power as a share of its usual peak."""
    return np.searchsorted(LEVELS, share, side="right")


def learn_floors(share: Floats, power: Floats, running: NDArray[np.bool_]) -> list[float | None]:
    """The 10th percentile of a treatment facility's power at each level of production; all None where none was seen enough.

    A level that was seen too little takes the floor of the nearest learned level below it, as power does not fall when
    production rises; below the lowest learned one it takes that floor in proportion to production.
    """
    level = levels(share)
    seen = [power[running & (level == i)] for i in range(len(LEVELS) + 1)]
    learned = {i: float(np.percentile(s, 10)) for i, s in enumerate(seen) if len(s) >= LEAST_SLOTS}
    if not learned:
        return [None] * len(seen)
    lowest = min(learned)
    return [learned[max(j for j in learned if j <= i)] if i >= lowest else learned[lowest] * MIDDLES[i] / MIDDLES[lowest]
            for i in range(len(seen))]


def idle_runs(production: States, treatment: States, share: Floats, power: Floats, floors: list[float | None],
              least: int = IDLE_MIN) -> list[Found]:
    """Both on, the treatment's power below its learned band; a level that was never learned is not judged."""
    floor = np.array([np.nan if f is None else IDLE_MARGIN * f for f in floors])[levels(np.nan_to_num(share))]
    with np.errstate(invalid="ignore"):
        low = (production == ON) & (treatment == ON) & np.isfinite(share) & (power < floor)
    return [Found(IDLING, a, b, {"minutes": b - a, "mean_kw": round(float(power[a:b].mean()), 3),
                                 "band_kw": round(float(floor[a:b].mean()), 3)}) for a, b in runs_of(low, least)]


def stopped_runs(marked_stopped: NDArray[np.bool_], production: States, tolerance: int) -> list[Found]:
    """The outlet's instrument says the source stands still while production is known to run."""
    return [Found(WHILE_STOPPED, a, b, {"minutes": b - a, "tolerance_min": tolerance})
            for a, b in runs_of(marked_stopped & (production == ON), tolerance)]


def unmoved_runs(all_treatment: States, production: States, values: dict[str, Floats], tolerance: int) -> list[Found]:
    """All treatment before the outlet off, production on, and yet no pollutant above its usual level after `RISE_MIN`.

    Usual: median of the day before in minutes with production and treatment on, of at least an hour of them.
    """
    found = []
    for a, b in runs_of((production == ON) & (all_treatment == OFF), max(tolerance, 2 * RISE_MIN)):
        before = slice(max(a - 1440, 0), a)
        regular = (production[before] == ON) & (all_treatment[before] == ON)
        seen = {}
        for name, value in values.items():
            usual, now = value[before][regular], value[a + RISE_MIN:b]
            usual, now = usual[np.isfinite(usual)], now[np.isfinite(now)]
            if len(usual) >= 60 and len(now) >= RISE_MIN // 2 and np.median(usual) > 0:
                seen[name] = round(float(np.median(now) / np.median(usual)), 3)
        if seen and max(seen.values()) <= USUAL:
            found.append(Found(NORMAL_WHILE_OFF, a, b, {"minutes": b - a, "times_usual": seen}))
    return found


def frozen_runs(ts_minute: NDArray[np.int64], value: Floats, step_min: float, least: int = FROZEN_MIN) -> list[tuple[int, int]]:
    """Minutes in which a reading repeats without any change; zero is a reading below detection and no repetition.

    ts_minute: minute of each valid reading in order. A hole of more than three steps ends a run.
    """
    if len(value) < FROZEN_READINGS:
        return []
    same = (np.diff(value) == 0) & (value[1:] != 0) & (np.diff(ts_minute) <= max(3 * step_min, 3))
    return [(int(ts_minute[a]), int(ts_minute[b]) + max(round(step_min), 1)) for a, b in runs_of(same, FROZEN_READINGS - 1)
            if ts_minute[b] - ts_minute[a] >= least]


def copied_runs(grid: Floats, least: int = COPIED_MIN) -> list[tuple[int, int]]:
    """Minutes whose values repeat those of an hour or a day before to the last digit, and are not constant."""
    copied = np.zeros(len(grid), bool)
    for lag in COPIED_LAGS:
        if len(grid) <= lag:
            continue
        equal = np.zeros(len(grid), bool)
        equal[lag:] = (grid[lag:] == grid[:-lag]) & (grid[lag:] != 0)
        for a, b in runs_of(equal, least):
            if len(np.unique(grid[a:b])) >= FROZEN_READINGS // 2:
                copied[a:b] = True
    return runs_of(copied, least)
