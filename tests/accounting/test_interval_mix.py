"""Many counters over a long time with every fault at random: totals near the truth, and no slot wrong without a mark."""

from __future__ import annotations

import numpy as np
import pytest

from accounting.intervals import SLOT_US, Method, intervals
from park.quality import Quality

DAYS = 120
N = DAYS * 96


def consumption(rng: np.random.Generator) -> np.ndarray:
    """Shifts, weekends, idle weeks or a base load: what counters of a park see in a slot."""
    i = np.arange(N)
    busy = ((i // 4 % 24 >= 7) & (i // 4 % 24 < 19) & (i // 96 % 7 < rng.integers(5, 8))).astype(float)
    amount = rng.uniform(0.05, 3) + busy * rng.uniform(2, 60) + rng.uniform(0, 0.5, N)
    if rng.random() < 0.2:
        amount[rng.integers(0, N - 2000):][:1500] = 0.0          # a plant that stands still
    return np.round(amount, 2)


def faulty(rng: np.random.Generator, amount: np.ndarray) -> tuple[np.ndarray, np.ndarray, float, list[str]]:
    """(ts, register, rollover, what was done): lost readings, gaps, spikes, a roll-over, a reset."""
    turn = 10.0 ** rng.integers(5, 8)
    total = np.concatenate([[0], np.cumsum(amount)])
    register = (turn - rng.uniform(0.1, 0.9) * total[-1] + total) if rng.random() < 0.5 else rng.uniform(0, turn / 10) + total
    told = []
    if rng.random() < 0.3:
        at = int(rng.integers(200, N - 200))
        register[at + 1:] -= register[at]
        told.append(f"reset {at}")
    register = np.round(register % turn, 2)
    for at in rng.integers(30, N - 30, 4):
        register[at] += rng.choice([-1, 1]) * rng.choice([500.0, 5e4, 3e6])
        told.append(f"spike {at}")
    keep = rng.random(N + 1) > 0.003
    for length in (24, 96, 300):
        at = int(rng.integers(1000, N - 1000))
        keep[at:at + length] = False
        told.append(f"gap {at}+{length}")
    keep[[0, N]] = True
    return np.arange(N + 1)[keep] * SLOT_US, register[keep], turn, told


@pytest.mark.parametrize("seed", range(200))
def test_a_counter_with_every_fault_is_right_or_says_so(seed: int) -> None:
    rng = np.random.default_rng(seed)
    amount = consumption(rng)
    ts, register, turn, told = faulty(rng, amount)
    order = rng.permutation(len(ts))
    got = intervals(ts[order], register[order], np.zeros(len(ts), np.int16), np.arange(N) * SLOT_US, rollover=turn,
                    expected_s=900)
    wrong = np.flatnonzero((got.quality == Quality.GOOD) & (np.abs(got.amount - amount) > 0.021))
    assert not len(wrong), (told, wrong, got.amount[wrong], amount[wrong], got.method[wrong])
    known = np.isfinite(got.amount)
    # what a reset swallowed is marked as unknown or uncertain; everything else is exact in sum
    marked = ~known | (got.quality == Quality.UNCERTAIN)
    error = abs(got.amount[~marked].sum() - amount[~marked].sum())
    assert error <= 1e-4 * amount.sum(), (told, error, amount.sum())
    assert marked.sum() <= 310, (told, marked.sum())
    assert not (got.amount[known] < -1e-9).any()
    assert set(got.method[got.quality == Quality.GOOD]) <= {Method.MEASURED, Method.ROLLOVER}
