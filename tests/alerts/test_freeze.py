"""Thresholds that development series would freeze: the quick count is the core's own, and a channel of chance stays silent."""

from __future__ import annotations

import numpy as np
import pytest

from alerts import calibrate, evaluate, freeze, invented, shapes
from alerts.evaluate import BUDGETS, Labelled


@pytest.mark.parametrize(("grid", "regime"), [(1, "long"), (3, "short"), (7, "fine")])
def test_what_is_counted_from_traces_is_what_the_core_alarms(grid: int, regime: str) -> None:
    series = invented.meters((invented.water, invented.compressor), [7], invented.GRIDS[grid])
    series = [freeze.cut(s, 8 * 168) for s in series] if regime == "short" else series
    ladder = freeze.rungs(regime)
    least = {name: min(v) for name, v in ladder.items()}
    for s in series:
        t = freeze.trace("", 0, s, least, regime != "long")
        for budget, r in evaluate.ours([s]).items():
            assert t.counted(freeze.present(regime)[budget]) == r.parts[0]


def test_a_threshold_comes_down_for_what_it_finds_and_not_for_chance() -> None:
    n = 20_000
    s = Labelled("m", np.zeros(n), 3600.0, tuple(("spike", at, at + 2) for at in range(2000, n, 1000)), 1344)
    faults = np.array([at for _, at, _ in s.faults])
    chance = np.random.default_rng(1).integers(1344, n, 60)
    chance.sort()
    t = freeze.Trace("f", 0, s, {"jump": (faults, np.full(len(faults), 5.0)), "flat": (chance, np.full(60, 5.0))})
    chosen = freeze.frozen([t], {"jump": [8.0, 6.0, 4.0, 2.0], "flat": [8.0, 6.0, 4.0]})
    assert [chosen[b] for b in BUDGETS] == [{"jump": 4.0, "flat": np.inf}] * 3
    assert freeze.worth([t], chosen[0.1]) == (1.0, 0.0)


def test_the_quick_count_knows_every_channel_that_alarms() -> None:
    for regime in freeze.REGIMES:
        spoken = {name for row in freeze.present(regime).values() for name, v in row.items() if np.isfinite(v)}
        assert spoken == set(freeze.rungs(regime)) <= set(calibrate.table()["usual"])


def test_series_of_every_shape_are_as_long_as_asked_and_differ_by_seed() -> None:
    for name, make in shapes.KINDS.items():
        one, other = (shapes.series(make, name, 3600.0, 900, seed).values for seed in (1, 2))
        assert len(one) == 900 and np.isfinite(one).mean() > 0.5, name
        assert len(np.unique(one)) < 20 or not np.array_equal(one, other, equal_nan=True), name
    assert shapes.on_change(np.array([0.0, 0.4, 0.9, 1.0]), 0.5).tolist() == [0.0, 0.0, 0.9, 0.9]
