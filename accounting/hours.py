"""Emission hours: minutes of an outlet's instruments into valid hours, converted concentration and mass. Pure numpy.

Rules: an hour is valid with 45 valid minutes (HJ 76-2017 Annex B). Only `good` and `manual` readings are valid. A point
sampled slower than once a minute stands for its own step: each reading is valid for the minutes up to the next one, at most
the step that prevails on that local day (at least four in five steps of the day within 10 % of their median, at most one
hour), so that 45 minutes mean three quarters of what is due. Without a prevailing step the catalogue's `expected_s` counts.
Conversion to reference oxygen is made minute by minute and the converted minutes are averaged: C x (21 - ref) / (21 - O2);
from 20 % oxygen upward there is nothing to convert (start and stop): the hour is exempt from judgement, its mass counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from accounting.localday import Days
from park.quality import VALID, Quality

MINUTE_US = 60_000_000
HOUR_US = 60 * MINUTE_US
VALID_MINUTES = 45
AIR_OXYGEN = 21.0
OXYGEN_GUARD = 20.0
Floats = NDArray[np.float64]


class State(IntEnum):
    """State of an hour; the words are the column `state` in lower case."""

    VALID = 0
    INSUFFICIENT = 1
    STOPPED = 2
    EXEMPT = 3
    MISSING = 4


@dataclass(frozen=True)
class Minutes:
    """A point's minutes from `start`: mean of valid readings (NaN without), and which minutes had what."""

    value: Floats
    stopped: NDArray[np.bool_]       # source marked as stopped
    any: NDArray[np.bool_]           # any reading at all


@dataclass(frozen=True)
class Hours:
    """Hours of a pollutant at an outlet; NaN where a figure does not exist."""

    n_valid: NDArray[np.int16]
    state: NDArray[np.int16]
    measured: Floats
    converted: Floats
    oxygen: Floats
    flow: Floats
    mass_kg: Floats


def prevailing_step(ts: NDArray[np.int64], expected_s: float) -> float:
    """Seconds a reading stands for on a day with readings at `ts` (in order)."""
    return float(prevailing_steps(ts, np.array([0, len(ts)]), expected_s)[0])


def prevailing_steps(ts: NDArray[np.int64], edges: NDArray[np.int64], expected_s: float) -> Floats:
    """Seconds a reading stands for on each day; day d has the readings [edges[d], edges[d + 1]) of `ts` (in order)."""
    n_days = len(edges) - 1
    day = np.repeat(np.arange(n_days), np.diff(edges))
    ts = ts[edges[0]:edges[-1]]
    within = np.flatnonzero(day[1:] == day[:-1])
    who, step_us = day[within], ts[within + 1] - ts[within]
    count = np.bincount(who, minlength=n_days)
    apart = int(step_us.max(initial=0)) + 1
    step_us = np.sort(who * apart + step_us) - who * apart       # day after day, the steps of each in order
    middle = np.cumsum(count) - count + count // 2
    usual = np.append(step_us, 0)[np.where(count > 0, middle, len(step_us))] / 1e6
    step = step_us / 1e6
    near = np.bincount(who[(step >= 0.9 * usual[who] - 1e-6) & (step < 1.1 * usual[who] + 1e-6)], minlength=n_days)
    return np.where((count >= 4) & (near >= 0.8 * count), np.minimum(np.maximum(expected_s, usual), 3600.0), float(expected_s))


def minutes(ts: NDArray[np.int64], value: Floats, quality: NDArray[np.int16], days: Days, expected_s: float) -> Minutes:
    """Minutes of the local days from readings in order of time."""
    start = int(days.borders[0])
    n = int(days.borders[-1] - start) // MINUTE_US
    inside = (ts >= start) & (ts < days.borders[-1])
    ts, value, quality = ts[inside], value[inside], quality[inside]
    if not len(ts):
        return Minutes(np.full(n, np.nan), np.zeros(n, bool), np.zeros(n, bool))
    minute = (ts - start) // MINUTE_US
    edges = np.searchsorted(ts, days.borders)
    step = np.repeat(prevailing_steps(ts, edges, expected_s), np.diff(edges))
    longest = np.maximum(np.round(step / 60).astype(np.int64), 1)
    span = np.clip(np.append(np.diff(minute), longest[-1]), 1, longest)
    who = np.repeat(np.arange(len(ts)), span)
    at = minute[who] + np.arange(len(who)) - np.repeat(np.cumsum(span) - span, span)
    who, at = who[at < n], at[at < n]
    good = (np.isin(quality, VALID) & np.isfinite(value))[who]
    count = np.bincount(at[good], minlength=n)
    total = np.bincount(at[good], weights=value[who[good]], minlength=n)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(count > 0, total / count, np.nan)
    stopped = np.bincount(at[(quality == Quality.STOPPED)[who]], minlength=n) > 0
    return Minutes(mean, stopped & (count == 0), np.bincount(at, minlength=n) > 0)


def to_dry_standard(value: Minutes, basis: str, flow: bool, temperature: Minutes | None, pressure: Minutes | None,
                    moisture: Minutes | None, atmosphere_kpa: float) -> Minutes:
    """Minutes as they are on dry basis at 273.15 K and 101.325 kPa; not valid where what that needs was not measured.

    basis: `wet` (standard state, moist), `actual` (state of the duct, dry) or `actual_wet`. temperature in °C, pressure in kPa
    above the atmosphere, moisture in %. Concentration: C x 101.325 / (Ba + Ps) x (273.15 + t) / 273.15 / (1 - Xsw); a flow is
    the inverse of it (HJ 75-2017, HJ 76-2017).
    """
    factor = np.ones(len(value.value))
    unknown = np.full(len(value.value), np.nan)
    if basis in ("actual", "actual_wet"):
        t = unknown if temperature is None else temperature.value
        p = unknown if pressure is None else pressure.value
        factor = factor * 101.325 / (atmosphere_kpa + p) * (273.15 + t) / 273.15
    if basis in ("wet", "actual_wet"):
        x = unknown if moisture is None else moisture.value
        factor = factor / np.where(x < 100, 1 - x / 100, np.nan)
    return Minutes(value.value / factor if flow else value.value * factor, value.stopped, value.any)


def _hourly(minute: NDArray[np.bool_]) -> NDArray[np.int16]:
    count: NDArray[np.int16] = minute.reshape(-1, 60).sum(axis=1).astype(np.int16)
    return count


def _mean(value: Floats, some: NDArray[np.bool_]) -> Floats:
    count = some.reshape(-1, 60).sum(axis=1)
    total = np.where(some, value, 0.0).reshape(-1, 60).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(count > 0, total / count, np.nan)


def air_hours(pollutant: Minutes, oxygen: Minutes | None, flow: Minutes | None, o2_reference: float | None) -> Hours:
    """Hours of an air pollutant (mg/m3, dry standard state); oxygen in %, flow in Nm3/h; mass in kg."""
    valid = np.isfinite(pollutant.value)
    n_valid = _hourly(valid)
    measured = _mean(pollutant.value, valid)
    o2 = oxygen.value if oxygen is not None else np.full(len(valid), np.nan)
    o2_hour = _mean(o2, np.isfinite(o2))
    state = _state(n_valid, pollutant)
    converted = measured
    if o2_reference is not None:
        both = valid & (o2 < OXYGEN_GUARD)
        with np.errstate(invalid="ignore", divide="ignore"):
            converted = _mean(pollutant.value * (AIR_OXYGEN - o2_reference) / (AIR_OXYGEN - o2), both)
        state[(state == State.VALID) & (_hourly(valid & np.isfinite(o2)) < VALID_MINUTES)] = State.INSUFFICIENT
        start_or_stop = (state == State.VALID) & ((o2_hour >= OXYGEN_GUARD) | (_hourly(both) < VALID_MINUTES))
        state[start_or_stop] = State.EXEMPT
        converted = np.where(state == State.VALID, converted, np.nan)
    return _with_mass(n_valid, state, measured, converted, o2_hour, _flow(flow, len(valid)), 1e-6)


def water_hours(pollutant: Minutes, flow: Minutes | None, *, has_mass: bool) -> Hours:
    """Hours of a water pollutant (mg/L, or pH); flow in m3/h, without discharge the hour is `stopped`; mass in kg."""
    valid = np.isfinite(pollutant.value)
    n_valid = _hourly(valid)
    state = _state(n_valid, pollutant)
    rate = _flow(flow, len(valid))
    state[rate == 0] = State.STOPPED
    if has_mass:
        state[(state == State.VALID) & ~np.isfinite(rate)] = State.INSUFFICIENT
    measured = _mean(pollutant.value, valid)
    hours = _with_mass(n_valid, state, measured, measured, np.full(len(rate), np.nan), rate, 1e-3)
    if has_mass:
        return hours
    return Hours(hours.n_valid, state, measured, measured, hours.oxygen, rate, np.full(len(rate), np.nan))


def _state(n_valid: NDArray[np.int16], pollutant: Minutes) -> NDArray[np.int16]:
    n_stopped = _hourly(pollutant.stopped)
    state = np.full(len(n_valid), State.INSUFFICIENT, np.int16)
    state[_hourly(pollutant.any) == 0] = State.MISSING
    state[(n_stopped > 0) & (n_valid + n_stopped >= VALID_MINUTES)] = State.STOPPED
    state[n_valid >= VALID_MINUTES] = State.VALID
    return state


def _flow(flow: Minutes | None, n: int) -> Floats:
    """Hourly mean flow where 45 minutes of it are valid; a negative flow is no reading."""
    if flow is None:
        return np.full(n // 60, np.nan)
    valid = flow.value >= 0
    return np.where(_hourly(valid) >= VALID_MINUTES, _mean(flow.value, valid), np.nan)


def _with_mass(n_valid: NDArray[np.int16], state: NDArray[np.int16], measured: Floats, converted: Floats, oxygen: Floats,
               flow: Floats, kg: float) -> Hours:
    """Mass = measured (never converted) x flow, where both stand on 45 minutes; a stopped source emits nothing."""
    mass = np.where(n_valid >= VALID_MINUTES, measured * flow * kg, np.nan)
    mass = np.where(state == State.STOPPED, 0.0, mass)
    return Hours(n_valid, state, measured, converted, oxygen, flow, mass)
