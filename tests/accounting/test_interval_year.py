"""Two hundred meters of the simulated park over a year, each with a random mix of everything that happens to meters, against
what really flowed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import pytest

from accounting.intervals import FAR, ONE_METER, SLOT_US, Intervals, Meters, intervals
from park.catalogue import read_catalogue
from park.quality import Quality
from simulators.catalogue import catalogue_files
from simulators.model import Park
from simulators.scenario import read_scenario

DAYS, METERS = 365, 200
N = DAYS * 96
EDGES = datetime(2026, 11, 23, tzinfo=UTC).timestamp() - 900.0 * np.arange(N, -1, -1, dtype=np.float64)
STEP = 0.01


@dataclass
class Meter:
    """What a data logger tells of a meter: readings in any order, and what the catalogue knows."""

    ts: np.ndarray
    register: np.ndarray
    step: float                       # what the register can show
    rollover: float | None
    meters: Meters
    told: list[str]


def flows(n: int) -> Iterator[np.ndarray]:
    """True amounts of each slot of n counters, from parks of several seeds."""
    catalogue, scenario = read_catalogue(catalogue_files()), read_scenario("lvyuan")
    done = 0
    for seed in range(1, 10):
        park = Park(catalogue, scenario, seed)
        total = park.rates.at(EDGES)[1]
        for counter in park.counters:
            if done == n:
                return
            done += 1
            yield np.diff(total[:, counter.node]) * counter.gain


def place(rng: np.random.Generator, taken: list[int], width: int) -> int:
    """A slot for a fault, 40 readings away from the others: faults at one place are made on purpose, below."""
    while True:
        at = int(rng.integers(100, N - 100 - width))
        if all(abs(at - t) > 40 + width for t in taken):
            taken.extend((at, at + width))
            return at


def mishaps(rng: np.random.Generator, amount: np.ndarray) -> tuple[np.ndarray, Meter]:
    """(what really flowed, what the logger tells): every fault of the truth cases, some of them twice and some together."""
    taken: list[int] = []
    told: list[str] = []
    if rng.random() < 0.3:                                             # a plant that stands still: true zero
        at = place(rng, taken, 700)
        amount = amount.copy()
        amount[at:at + 700] = 0.0
        told.append("true zero")
    total = np.concatenate([[0.0], np.cumsum(amount)])
    single = rng.random() < 0.1
    turn = 1e9 if single else float(10.0 ** rng.integers(max(2, int(np.log10(total[-1] + 10))), 10))
    start = 16.7e6 if single else float(rng.uniform(0, turn))
    register, meters = start + total, ONE_METER
    if (turned := register[-1] >= turn):
        told.append("roll-over")
    if single:
        told.append("float32")
    elif rng.random() < 0.4:                                            # replaced: final and initial register, a new ratio
        at = place(rng, taken, 2)
        ratio, fresh = float(rng.choice([1.0, 10.0, 40.0])), float(rng.uniform(0, 50))
        final = register[at] % turn
        register = np.where(np.arange(N + 1) <= at, register, fresh + (total - total[at]) / ratio)
        when = at * SLOT_US + SLOT_US // 2 if rng.random() < 0.5 else at * SLOT_US + 1
        if when != at * SLOT_US + 1:                                    # replaced in the middle of a slot
            final = (start + total[at] + amount[at] / 2) % turn
            register[at + 1:] -= amount[at] / 2 / ratio
        meters = Meters(np.array([-FAR, when]), np.array([when, FAR]), np.array([0.0, fresh]),
                        np.array([round(final, 6), np.nan]), np.array([1.0, ratio]))
        told.append("replaced")
    elif rng.random() < 0.3:
        at = place(rng, taken, 2)
        register = np.where(np.arange(N + 1) <= at, register, total - total[at])
        told.append("reset")
    step = float(np.spacing(np.float32(register.max()))) if single else STEP
    shown = register.astype(np.float32).astype(float) if single else np.round(register % turn, 2) % turn
    keep = rng.random(N + 1) > 0.002
    for length in (24, 24, 24, 96, 300):                                # six hours three times, a day, three days
        at = place(rng, taken, length)
        keep[at + 1:at + length] = False
        if length == 96:                                                # two faults at once: a spike ends the gap
            shown[at + length] = 3e8
        told.append(f"gap of {length // 4} h")
    for sign in (1, -1, 1, -1):
        at = place(rng, taken, 1)
        shown[at] += sign * rng.choice([700.0, 5e4, 3e6]) * max(1.0, amount.max())
        told.append("spike")
    keep[[0, N]] = True
    kept = np.arange(N + 1)[keep]
    twice = np.concatenate([kept, rng.choice(kept, len(kept) // 50)])   # duplicates
    order = rng.permutation(len(twice))                                 # late by hours, by days, out of order
    told.append("duplicates, out of order")
    rollover = turn if turned or rng.random() < 0.5 else None
    return amount, Meter(twice[order] * SLOT_US, shown[twice[order]], step, rollover, meters, told)


def judge(i: int, amount: np.ndarray, meter: Meter, got: Intervals) -> list[str]:
    """What is wrong with a meter's year."""
    known, good = np.isfinite(got.amount), got.quality == Quality.GOOD
    ratio = meter.meters.ratio[np.searchsorted(meter.meters.installed, np.arange(1, N + 1) * SLOT_US) - 1]
    wrong = good & (np.abs(got.amount - amount) > 0.001 + 2 * meter.step * ratio)
    sure = known & (got.quality != Quality.UNCERTAIN)
    error = abs(got.amount[sure].sum() - amount[sure].sum())
    out = []
    if wrong.any():
        at = int(np.argmax(wrong))
        out.append(f"meter {i} {meter.told}: {wrong.sum()} slots wrong without a mark, first {at}: "
                   f"{got.amount[at]} for {amount[at]}")
    if error > 1e-4 * amount[sure].sum() + 2 * meter.step * ratio.max():
        out.append(f"meter {i} {meter.told}: total off by {error} of {amount[sure].sum()}")
    if sure.mean() < 0.985:
        out.append(f"meter {i} {meter.told}: only {sure.mean():.2%} of its slots are told")
    if (got.amount[known] < -1e-9).any():
        out.append(f"meter {i} {meter.told}: something flowed backward")
    return out


@pytest.mark.parametrize("seed", [1, *(pytest.param(s, marks=pytest.mark.soak) for s in (2, 3, 4))])
def test_the_year_of_two_hundred_meters_is_right_to_a_hundredth_of_a_percent_or_says_where_not(seed: int) -> None:
    rng = np.random.default_rng(seed)
    slots = np.arange(N) * SLOT_US
    off: list[str] = []
    seen: Counter[str] = Counter()
    truth = accounted = 0.0
    for i, flow in enumerate(flows(METERS)):
        amount, meter = mishaps(rng, flow)
        got = intervals(meter.ts, meter.register, np.zeros(len(meter.ts), np.int16), slots, rollover=meter.rollover,
                        meters=meter.meters, expected_s=900)
        off += judge(i, amount, meter, got)
        seen.update(set(meter.told))
        sure = np.isfinite(got.amount) & (got.quality != Quality.UNCERTAIN)
        truth, accounted = truth + amount[sure].sum(), accounted + got.amount[sure].sum()
    assert not off, "\n".join(off[:20])
    assert min(seen[k] for k in ("true zero", "roll-over", "float32", "replaced", "reset")) >= 5, seen
    assert abs(accounted - truth) <= 1e-4 * truth
