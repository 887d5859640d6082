"""Energy baselines after ISO 50006: expected energy of a day from production, degree days and the calendar. Pure numpy.

Every combination of degree-day bases and calendar is fitted in one batched least squares; the smallest BIC wins, models with a
negative degree-day or production coefficient are refused. Savings are expected minus actual, with a 95 % interval that counts
the scatter of days, the uncertainty of the coefficients, and the correlation of neighbouring days.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from park.errors import InputError

HEATING_BASES = tuple(range(8, 21))          # degC, daily mean
COOLING_BASES = tuple(range(16, 29))
LEAST_DAYS = 30
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Data:
    """Days in order. energy NaN: not known; production (n, p) by counter; temperature: daily means, or None."""

    energy: Floats
    production: Floats
    names: tuple[str, ...]
    temperature: Floats | None
    weekend: NDArray[np.bool_]
    holiday: NDArray[np.bool_]

    @property
    def known(self) -> NDArray[np.bool_]:
        """Days on which everything is known."""
        known = np.isfinite(self.energy) & np.isfinite(self.production).all(axis=1)
        return known if self.temperature is None else known & np.isfinite(self.temperature)


@dataclass(frozen=True)
class Variable:
    """A term: constant, production, heating, cooling, weekend or holiday; base in degC; low, high: its seen range."""

    name: str
    kind: str
    base: float | None
    coefficient: float
    standard_error: float
    low: float
    high: float


@dataclass(frozen=True)
class Model:
    """A fitted baseline; r2 adjusted, cv_rmse = residual_sd / mean energy, autocorrelation of residuals at one day."""

    variables: tuple[Variable, ...]
    n: int
    r2: float
    cv_rmse: float
    residual_sd: float
    autocorrelation: float
    covariance: Floats


@dataclass(frozen=True)
class Saving:
    """Expected minus actual over the known days, 95 % half-width, cumulative sum by day (NaN on days not known)."""

    days: int
    days_unknown: int
    days_outside: int                # production or temperature outside the range of the baseline
    expected: float
    actual: float
    saving: float
    half_width: float
    cusum: Floats

    @property
    def is_significant(self) -> bool:
        """Whether the interval excludes zero."""
        return abs(self.saving) > self.half_width


def fit(data: Data) -> Model:
    """The baseline of the known days; InputError with fewer than 30 or with nothing that varies."""
    known = data.known
    if known.sum() < LEAST_DAYS:
        raise InputError(f"a baseline needs at least {LEAST_DAYS} days on which everything is known, got {int(known.sum())}")
    y = data.energy[known]
    columns, kinds = _columns(data)
    columns = columns[known]
    choices = _choices(kinds, columns)
    coefficient, sse = _solve(columns, y, choices)
    size = choices.sum(axis=1)
    score = len(y) * np.log(np.maximum(sse, 1e-12) / len(y)) + size * np.log(len(y))
    physical = np.array([k[1] in ("production", "heating", "cooling") for k in kinds])
    score[(coefficient[:, physical] < 0).any(axis=1)] = np.inf
    if not np.isfinite(score).any():
        raise InputError("no model with coefficients of plausible sign fits: production or temperature do not explain "
                         "this energy")
    best = int(np.argmin(score))
    return _model(columns[:, choices[best]], y, [k for k, c in zip(kinds, choices[best], strict=True) if c])


def expected(model: Model, data: Data) -> tuple[Floats, Floats]:
    """(expected energy of each day, its terms (n, k))."""
    columns = np.stack([_term(data, v.name, v.kind, v.base) for v in model.variables], axis=1)
    return columns @ np.array([v.coefficient for v in model.variables]), columns


def savings(model: Model, data: Data) -> Saving:
    """Savings of a reporting period against the baseline."""
    should, columns = expected(model, data)
    known = data.known
    m = int(known.sum())
    if m == 0:
        raise InputError("no day of the reporting period is known")
    rho = min(max(model.autocorrelation, 0.0), 0.95)
    inflation = (1 + rho) / (1 - rho)
    total = columns[known].sum(axis=0)
    variance = inflation * (m * model.residual_sd ** 2 + float(total @ model.covariance @ total))
    degrees = max(model.n - len(model.variables), 1)
    from scipy.special import stdtrit  # here, because scipy takes longer to import than a pass that needs none of it

    half = float(stdtrit(max(degrees / inflation, 1), 0.975)) * variance ** 0.5
    outside = np.zeros(len(known), bool)
    for i, v in enumerate(model.variables):
        if v.kind in ("production", "heating", "cooling"):
            outside |= (columns[:, i] > v.high) | (columns[:, i] < v.low)
    difference = np.where(known, data.energy - should, np.nan)
    return Saving(m, len(known) - m, int((outside & known).sum()), float(should[known].sum()), float(data.energy[known].sum()),
                  float(-np.nansum(difference)), half, np.where(known, np.nancumsum(difference), np.nan))


def _term(data: Data, name: str, kind: str, base: float | None) -> Floats:
    if kind == "production":
        return data.production[:, data.names.index(name)]
    if kind in ("heating", "cooling"):
        if data.temperature is None or base is None:
            raise InputError("the baseline uses degree days: a temperature point is needed")
        sign = 1.0 if kind == "cooling" else -1.0
        return np.maximum(0.0, sign * (data.temperature - base))
    flat = {"constant": np.ones(len(data.energy)), "weekend": data.weekend.astype(float), "holiday": data.holiday.astype(float)}
    return flat[kind]


def _columns(data: Data) -> tuple[Floats, list[tuple[str, str, float | None]]]:
    """Every candidate term, and (name, kind, base) of each."""
    kinds: list[tuple[str, str, float | None]] = [("constant", "constant", None)]
    kinds += [(name, "production", None) for name in data.names]
    kinds += [("weekend", "weekend", None), ("holiday", "holiday", None)]
    if data.temperature is not None:
        kinds += [(f"heating degree days {b} °C", "heating", float(b)) for b in HEATING_BASES]
        kinds += [(f"cooling degree days {b} °C", "cooling", float(b)) for b in COOLING_BASES]
    return np.stack([_term(data, *k) for k in kinds], axis=1), kinds


def _choices(kinds: list[tuple[str, str, float | None]], columns: Floats) -> NDArray[np.bool_]:
    """(models, terms): production always; weekend and holiday or not; at most one heating and one cooling base."""
    varies = np.ptp(columns, axis=0) > 0

    def of(kind: str) -> list[int | None]:
        return [None, *[i for i, k in enumerate(kinds) if k[1] == kind and varies[i]]]

    always = [i for i, k in enumerate(kinds) if k[1] == "constant" or (k[1] == "production" and varies[i])]
    models = []
    for some in product(of("weekend"), of("holiday"), of("heating"), of("cooling")):
        row = np.zeros(len(kinds), bool)
        row[[*always, *[i for i in some if i is not None]]] = True
        models.append(row)
    return np.array(models)


def _solve(columns: Floats, y: Floats, choices: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Coefficients (models, terms) and squared error of every model at once, from one Gram matrix.

    Terms are scaled to unit length; a term left out has a one on its diagonal, and a grain keeps collinear ones solvable.
    """
    scale = np.linalg.norm(columns, axis=0)
    scale[scale == 0] = 1.0
    unit = columns / scale
    gram, right = unit.T @ unit, unit.T @ y
    both = choices[:, :, None] & choices[:, None, :]
    system = np.where(both, gram, 0.0) + np.eye(len(gram)) * np.where(choices, 1e-10, 1.0)[:, None, :]
    solved = np.linalg.solve(system, np.where(choices, right, 0.0)[:, :, None])[:, :, 0]
    sse = np.square(y - solved @ unit.T).sum(axis=1)
    return solved / scale, sse


def _model(columns: Floats, y: Floats, kinds: list[tuple[str, str, float | None]]) -> Model:
    n, k = columns.shape
    inverse = np.linalg.pinv(columns.T @ columns)
    coefficient = inverse @ columns.T @ y
    residual = y - columns @ coefficient
    variance = float(residual @ residual) / (n - k)
    spread = float(np.square(y - y.mean()).sum())
    lagged = float(residual[1:] @ residual[:-1] / max(float(residual @ residual), 1e-12))
    error = np.sqrt(np.maximum(np.diag(inverse) * variance, 0.0))
    variables = tuple(Variable(*kind, float(c), float(e), float(x.min()), float(x.max()))
                      for kind, c, e, x in zip(kinds, coefficient, error, columns.T, strict=True))
    r2 = 1 - variance / (spread / (n - 1)) if spread > 0 else 0.0
    return Model(variables, n, r2, variance ** 0.5 / float(y.mean()) if y.mean() else float("inf"), variance ** 0.5, lagged,
                 inverse * variance)
