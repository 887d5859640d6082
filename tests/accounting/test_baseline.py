"""Baselines: a known truth is found again, savings lie in their interval as often as they should, and the database's way."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import psycopg
import pytest

from accounting import baseline, baselines
from accounting.baseline import Data
from accounting.passes import run_pass
from park.errors import InputError, NotFound

Conn = psycopg.Connection[Any]
Feed = Callable[..., None]


def year(seed: int, n: int = 365, *, saved: float = 0.0, noise: float = 150.0, rho: float = 0.0) -> Data:
    """4,000 + 60 per t + 90 per cooling degree day (22 °C) - 500 at weekends, kWh a day."""
    rng = np.random.default_rng(seed)
    day = np.arange(n)
    weekend = day % 7 >= 5
    production = np.where(weekend, 20.0, 80.0) + rng.uniform(-15, 15, n)
    temperature = 16 - 12 * np.cos(2 * np.pi * day / 365) + rng.normal(0, 2.5, n)
    error = rng.normal(0, noise * (1 - rho ** 2) ** 0.5, n)
    for i in range(1, n):
        error[i] += rho * error[i - 1]
    energy = 4000 + 60 * production + 90 * np.maximum(0, temperature - 22) - 500 * weekend - saved + error
    return Data(energy, production[:, None], ("t",), temperature, weekend, np.zeros(n, bool))


def test_a_known_truth_is_found_again() -> None:
    model = baseline.fit(year(1))
    found = {v.kind: v for v in model.variables}
    assert set(found) == {"constant", "production", "cooling", "weekend"}
    for kind, truth in (("constant", 4000), ("production", 60), ("cooling", 90), ("weekend", -500)):
        assert abs(found[kind].coefficient - truth) < 4 * found[kind].standard_error, kind
    assert found["cooling"].base is not None and abs(found["cooling"].base - 22) <= 1
    assert model.residual_sd == pytest.approx(150, rel=0.1) and model.r2 > 0.98 and model.cv_rmse < 0.02


def test_what_does_not_matter_is_left_out() -> None:
    data = year(2)
    flat = Data(4000 + 60 * data.production[:, 0] + np.random.default_rng(3).normal(0, 100, 365), data.production, data.names,
                data.temperature, data.weekend, data.holiday)
    assert {v.kind for v in baseline.fit(flat).variables} == {"constant", "production"}


@pytest.mark.parametrize("rho", [0.0, 0.5])
def test_savings_lie_in_their_interval_as_often_as_they_should(rho: float) -> None:
    inside = 0
    for seed in range(60):
        got = baseline.savings(baseline.fit(year(seed, rho=rho)), year(1000 + seed, 90, saved=100, rho=rho))
        inside += abs(got.saving - 100 * got.days) <= got.half_width
    assert inside >= 53                                           # 95 % of 60 are 57; 53 leaves room for chance


def test_days_that_are_not_known_or_outside_the_range_are_told() -> None:
    model, now = baseline.fit(year(4)), year(5, 30, saved=300)
    now.energy[[3, 4]] = np.nan
    now.production[10] = 500.0
    got = baseline.savings(model, now)
    assert (got.days, got.days_unknown) == (28, 2) and got.days_outside >= 1
    assert np.isnan(got.cusum[3]) and got.cusum[-1] == pytest.approx(-got.saving)
    with pytest.raises(InputError, match="at least 30 days"):
        baseline.fit(year(6, 20))


def test_a_fit_of_every_model_takes_a_moment_and_equals_one_by_one() -> None:
    data = year(7)
    columns, kinds = baseline._columns(data)
    choices = baseline._choices(kinds, columns)
    coefficient, sse = baseline._solve(columns, data.energy, choices)
    assert len(choices) == 2 * 14 * 14                            # no holiday in this year
    for i in range(0, len(choices), 37):
        alone = np.linalg.lstsq(columns[:, choices[i]], data.energy, rcond=None)[0]
        assert coefficient[i, choices[i]] == pytest.approx(alone, rel=1e-4, abs=1e-2)
        assert sse[i] == pytest.approx(float(np.square(data.energy - columns[:, choices[i]] @ alone).sum()), rel=1e-6)


def test_a_baseline_of_the_database_is_kept_superseded_and_used(park: Conn, feed: Feed) -> None:
    first = datetime(2026, 3, 1, 16, tzinfo=UTC)
    rng = np.random.default_rng(8)
    tons = rng.uniform(50, 100, 80)
    kwh = 500 + 20 * tons + rng.normal(0, 20, 80)
    kwh[60:] -= 300
    at = [first + timedelta(minutes=15) * i for i in range(96 * 80 + 1)]
    feed("e1.furnace.kwh", at, np.concatenate([[0], np.cumsum(np.repeat(kwh / 96, 96))]))
    feed("e1.product", at, np.concatenate([[0], np.cumsum(np.repeat(tons / 96, 96))]))
    run_pass(park, first + timedelta(days=81))
    place = (park, 1, "e1.furnace.kwh")
    span = date(2026, 3, 2), date(2026, 4, 30)
    with pytest.raises(NotFound, match="no baseline"):
        baselines.savings(*place, *span)
    baselines.fit(*place, *span, production=["e1.product"], temperature=None, static={"shifts": 2}, reason="first")
    model = baselines.fit(*place, *span, production=["e1.product"], temperature=None, static={"shifts": 3},
                          reason="third shift")
    assert {v.kind: round(v.coefficient, -1) for v in model.variables}["production"] == 20
    assert park.execute("SELECT reason, superseded_at IS NULL, n FROM baseline ORDER BY baseline_id").fetchall() == [
        ("first", False, 60), ("third shift", True, 60)]
    got = baselines.savings(*place, date(2026, 5, 1), date(2026, 5, 20))
    assert got.days == 20 and got.is_significant and abs(got.saving - 6000) <= got.half_width
    with pytest.raises(NotFound, match=r"no counter 'e1\.gone'"):
        baselines.fit(park, 1, "e1.gone", *span, production=[], temperature=None)
