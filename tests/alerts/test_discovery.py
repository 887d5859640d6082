"""False-discovery control: of what is believed no more than the share asked for is chance; one true fault among many stays."""

from __future__ import annotations

import numpy as np
import pytest

from alerts.discovery import TAIL, discoveries, score_of, tail_p

N = 20_000


def by_chance(rng: np.random.Generator, n: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Scores of series with nothing wrong, whose tail is the calibrated one."""
    return np.asarray((rng.uniform(0, 1, n) / 0.01) ** -TAIL)


@pytest.mark.parametrize("share", [0.05, 0.2])
def test_of_those_believed_no_greater_share_is_chance(share: float) -> None:
    rng = np.random.default_rng(1)
    wrong = right = 0
    for _ in range(40):
        score = by_chance(rng, N)
        score[:30] = rng.uniform(200, 400, 30)
        believed = discoveries(score, 1.0, share)
        right += int(believed[:30].sum())
        wrong += int(believed[30:].sum())
    assert right == 30 * 40
    assert wrong / (wrong + right) <= 1.2 * share


def test_where_nothing_is_wrong_few_hours_believe_anything() -> None:
    rng = np.random.default_rng(2)
    hours = [discoveries(by_chance(rng, 1000), 1.0, 0.2).any() for _ in range(300)]
    assert 0.1 < np.mean(hours) < 0.3


def test_it_is_the_procedure_of_benjamini_and_hochberg_written_plainly() -> None:
    rng = np.random.default_rng(3)
    score = by_chance(rng, 500) * rng.choice([1.0, 30.0], 500)
    score[::50] = np.nan
    p = tail_p(score, 1.0)
    known = np.sort(p[~np.isnan(score)])
    passed = [x for i, x in enumerate(known, 1) if x <= 0.1 * i / len(known)]
    assert np.array_equal(discoveries(score, 1.0, 0.1), ~np.isnan(score) & (p <= (passed[-1] if passed else -1)))


def test_a_score_and_its_probability_are_inverse_and_the_unknown_is_never_believed() -> None:
    assert score_of(float(tail_p(np.array([7.0]), 1.0)[0])) == pytest.approx(7.0)
    assert tail_p(np.array([np.nan]), 1.0)[0] == 1.0
    assert not discoveries(np.full(5, np.nan), 1.0, 0.2).any()
