"""What of a series follows the outdoor temperature: heating and cooling degrees, fitted each week on the past alone."""

from __future__ import annotations

import numpy as np

from alerts.channels import Rhythm
from alerts.rolling import Floats, fill, quantile_of_lags

BALANCE_C = (16.0, 20.0)        # heating below, cooling above
FIT_WEEKS = 26
LEAST_WEEKS = 4


def without_weather(x: Floats, temperature_c: Floats, step_s: float) -> Floats:
    """(T,) the part of x that today's departure from the usual temperature explains; 0 where that is not known yet."""
    r = Rhythm.of(step_s)
    degrees = np.stack([np.maximum(BALANCE_C[0] - temperature_c, 0.0), np.maximum(temperature_c - BALANCE_C[1], 0.0)])
    lags = [k * r.week for k in range(1, 5)]
    d = np.stack([row - quantile_of_lags(row, lags, least=2) for row in degrees])
    y = x - quantile_of_lags(x, lags, least=2)
    effect = np.zeros_like(x)
    for start in range(LEAST_WEEKS * r.week, len(x), r.week):
        past = slice(max(0, start - FIT_WEEKS * r.week), start)
        beta = _fit(d[:, past], y[past])
        effect[start:start + r.week] = fill(beta @ d[:, start:start + r.week], np.zeros(len(x[start:start + r.week])))
    return effect


def _fit(d: Floats, y: Floats) -> Floats:
    """Ridge slopes, never negative: more degrees never take less energy. Outliers are clipped first."""
    ok = ~np.isnan(y) & ~np.isnan(d).any(axis=0)
    if ok.sum() < 100:
        return np.zeros(2)
    spread = 4 * 1.4826 * np.median(np.abs(y[ok] - np.median(y[ok])))
    a, b = d[:, ok], np.clip(y[ok], -spread, spread)
    gram = a @ a.T
    slopes: Floats = np.maximum(np.linalg.solve(gram + np.diag(0.02 * np.diag(gram) + 1e-9), a @ b), 0.0)
    return slopes
