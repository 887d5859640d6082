"""What instruments show: gauges derived from rates, weather and treatment state; pollutants at the outlets.

A column function takes the moment (all rates and totals at some instants) and returns one point's values. Pollution
follows load and treatment: with the treatment facility off the concentration climbs towards its raw value in minutes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from park.catalogue import Device, Point
from park.quality import Quality
from simulators.faults import Fault
from simulators.noise import Floats, jitter, key_of, smooth
from simulators.rates import Rates
from simulators.scenario import Gauge, Outlet, Pollutant, Scenario
from simulators.sky import Sky

COUNTERS = ("kwh", "kvarh", "nm3", "m3", "t", "pcs")
RISE_S, FALL_S = 240.0, 600.0
STOPPED_BELOW = 0.14
MEDIUM_VOLTAGE = ("schneider.pm5000",)
AIR = {"so2": 0.10, "nox": 0.06, "dust": 0.10}          # slow swing of each pollutant, as a share
WATER = {"cod": 0.10, "ammonia": 0.12, "tp": 0.10, "tn": 0.08}


@dataclass
class Moment:
    """Everything that columns need at the instants `t` (T,): rates and totals (T, names) and the faults that touch them."""

    t: Floats
    rate: Floats
    total: Floats
    rates: Rates
    sky: Sky
    faults: Sequence[Fault]
    known: dict[str, Floats] = field(default_factory=dict)

    def share(self, name: str) -> Floats:
        """Rate as a share of its rated value."""
        i = self.rates.index[name]
        result: Floats = self.rate[:, i] / self.rates.rated[i]
        return result

    def temperature(self) -> Floats:
        """Air temperature, computed once."""
        if "temp" not in self.known:
            self.known["temp"] = self.sky.temperature(self.t)
        return self.known["temp"]

    def mains(self) -> Floats:
        """Swing of the grid's voltage as a share, the same at every meter; computed once."""
        if "mains" not in self.known:
            key = key_of(self.sky.seed, "mains")
            self.known["mains"] = 0.012 * smooth(key, self.t, 5400.0) + 0.004 * smooth(key + 1, self.t, 400.0)
        return self.known["mains"]


Column = Callable[[Moment], Floats]


def node_of(code: str, rates: Rates) -> str | None:
    """The rate that a point measures: electricity by the point's stem, streams by their counter's code."""
    stem, _, key = code.rpartition(".")
    if key in COUNTERS and code in rates.index:
        return code
    if key == "flow":
        return next((f"{stem}.{c}" for c in ("m3", "nm3", "t") if f"{stem}.{c}" in rates.index), None)
    return stem if stem in rates.index else None


def tangent_of(seed: int, stem: str) -> float:
    """tan φ of a feeder, between 0.22 and 0.42 (power factor 0.92 to 0.98)."""
    return 0.22 + 0.20 * (key_of(seed, "tan", stem) % 1000) / 1000.0


def phase_volts(device: Device) -> float:
    """Nominal phase voltage where a meter measures: 10 kV for the feeder meters and those behind voltage transformers."""
    medium = device.template in MEDIUM_VOLTAGE or device.parameters.get("pt_ratio", 1.0) > 1.0
    return 5774.0 if medium else 230.0


def gauge_column(point: Point, device: Device, scenario: Scenario, rates: Rates, seed: int) -> Column:
    """The column of a gauge or state point; ValueError when the scenario does not say what it shows."""
    stem, _, key = point.code.rpartition(".")
    if stem in scenario.outlets:
        return _outlet_column(stem, key, scenario.outlets[stem], seed)
    if stem == "weather":
        return _weather_column(key)
    if point.code in scenario.gauges:
        return _described(scenario.gauges[point.code], seed, point.code)
    if stem.startswith("pv.") and key == "temp":
        return lambda m: m.temperature() + 0.027 * m.sky.irradiance(m.t)
    if key == "state" and stem in scenario.states:
        level = scenario.states[stem]
        return lambda m: (m.share(stem) > level).astype(np.float64)
    node = node_of(point.code, rates)
    if node is None:
        raise ValueError(f"the scenario does not say what {point.code} shows")
    return _electric_or_flow(stem, key, rates.index[node], phase_volts(device), seed)


def _electric_or_flow(stem: str, key: str, node: int, volts: float, seed: int) -> Column:
    tangent = tangent_of(seed, stem)
    phase = {"a": 0, "b": 1, "c": 2}.get(key[-1:], 0)
    lean = 1.0 + 0.03 * (((key_of(seed, "lean", stem, phase) % 1000) / 1000.0) - 0.5)
    mains = key_of(seed, "mains")

    def load(m: Moment) -> Floats:
        result: Floats = m.rate[:, node] / max(1.0, m.rates.rated[node])
        return result

    def voltage(m: Moment) -> Floats:
        sag = -0.01 * np.clip(load(m), 0, 1.2)
        result: Floats = volts * (1.015 + m.mains() + sag + 0.002 * (phase - 1))
        return result

    if key in ("kw", "flow"):
        return lambda m: m.rate[:, node]
    if key == "kvar":
        return lambda m: m.rate[:, node] * tangent
    if key == "pf":
        return lambda m: 1 / np.sqrt(1 + tangent ** 2) - 0.02 * (1 - np.clip(load(m), 0, 1))
    if key == "hz":
        return lambda m: 50.0 + 0.03 * smooth(mains + 2, m.t, 300.0)
    if key in ("ua", "ub", "uc"):
        return voltage
    if key in ("ia", "ib", "ic"):
        return lambda m: np.maximum(0.0, m.rate[:, node]) * 1000.0 * np.sqrt(1 + tangent ** 2) / (3.0 * voltage(m)) * lean
    raise ValueError(f"the scenario does not say what {stem}.{key} shows")


def _weather_column(key: str) -> Column:
    columns: dict[str, Column] = {
        "temp": lambda m: m.temperature(), "humidity": lambda m: m.sky.humidity(m.t),
        "irradiance": lambda m: m.sky.irradiance(m.t), "wind": lambda m: m.sky.wind(m.t),
        "pressure": lambda m: m.sky.pressure(m.t)}
    return columns[key]


def _described(gauge: Gauge, seed: int, code: str) -> Column:
    key = key_of(seed, "gauge", code)

    def column(m: Moment) -> Floats:
        value = np.full(len(m.t), gauge.base)
        for name, per in gauge.per.items():
            value += per * m.share(name)
        if gauge.weather:
            value += gauge.weather * (m.temperature() - 18.0)
        if gauge.swing:
            value += gauge.swing * smooth(key, m.t, 5200.0)
        if gauge.jitter:
            value += gauge.jitter * jitter(key + 1, m.t.astype(np.int64))
        return value
    return column


def _outlet_column(stem: str, key: str, outlet: Outlet, seed: int) -> Column:
    noise = key_of(seed, "outlet", stem, key)
    pollutant: Pollutant | None = getattr(outlet, key, None) if key in AIR or key in WATER else None
    if pollutant is not None:
        return lambda m: _concentration(m, stem, key, outlet, pollutant, noise)
    if outlet.medium == "water":
        if key == "flow":
            return lambda m: np.maximum(0.0, m.rate[:, m.rates.index[str(outlet.flow)]])
        return lambda m: (outlet.ph + 0.28 * smooth(noise, m.t, 7 * 3600.0) + _added(m, stem, key)
                          + 0.03 * jitter(noise + 1, m.t.astype(np.int64)))
    return lambda m: _flue_gas(m, key, outlet, noise)


def load_of(m: Moment, outlet: Outlet) -> Floats:
    """Load of the source, 0 to about 1; always 1 for water."""
    return np.clip(m.share(outlet.production), 0.0, 1.2) if outlet.production else np.ones(len(m.t))


def is_stopped(m: Moment, outlet: Outlet) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """Whether the source of an air outlet stands still (flag F)."""
    result: np.ndarray[tuple[int, ...], np.dtype[np.bool_]] = load_of(m, outlet) < STOPPED_BELOW
    return result


def _treated(m: Moment, outlet: Outlet) -> Floats:
    """Share of the treatment that works, 0 to 1: falls in minutes when a facility stops, recovers more slowly."""
    works = np.ones(len(m.t))
    for fault in m.faults:
        if fault.kind == "treatment_off" and fault.target in outlet.treatment:
            gone = 1.0 - np.exp(-np.clip(m.t - fault.start, 0, fault.end - fault.start) / RISE_S)
            back = np.exp(-np.clip(m.t - fault.end, 0, None) / FALL_S)
            works -= np.where(m.t >= fault.start, gone * back, 0.0) / len(outlet.treatment)
    return np.clip(works, 0.0, 1.0)


def _added(m: Moment, stem: str, key: str) -> Floats:
    """Sum of exceedance episodes of a quantity: each a rise, a plateau and a fall."""
    added = np.zeros(len(m.t))
    for fault in m.faults:
        if fault.kind == "exceedance" and fault.target == f"{stem}.{key}":
            edge = min(300.0, (fault.end - fault.start) / 4)
            added += fault.params.get("add", 0.0) * np.clip(np.minimum(m.t - fault.start, fault.end - m.t) / edge, 0.0, 1.0)
    return added


def _concentration(m: Moment, stem: str, key: str, outlet: Outlet, pollutant: Pollutant, noise: int) -> Floats:
    swing = AIR.get(key) or WATER[key]
    slow = 1.0 + swing * (0.7 * smooth(noise, m.t, 3.1 * 3600.0) + 0.3 * smooth(noise + 1, m.t, 1300.0))
    grain = 1.0 + 0.02 * jitter(noise + 2, m.t.astype(np.int64))
    load = load_of(m, outlet)
    raw = pollutant.raw * (0.55 + 0.45 * load if outlet.production else 1.0)
    value = raw * slow * (1.0 - pollutant.removal * _treated(m, outlet)) * grain + _added(m, stem, key)
    if outlet.medium == "air":
        value = np.where(load < STOPPED_BELOW, 0.02 * value, value)
    return np.maximum(0.0, value)


def _flue_gas(m: Moment, key: str, outlet: Outlet, noise: int) -> Floats:
    load = load_of(m, outlet)
    running = load >= STOPPED_BELOW
    wave = smooth(noise, m.t, 2600.0) + 0.15 * jitter(noise + 1, m.t.astype(np.int64))
    flow = float(outlet.flow) * np.where(running, 0.30 + 0.70 * load, 0.02) * (1 + 0.02 * wave)
    warm = np.where(running, outlet.temp * (0.8 + 0.2 * load) + 2 * wave, m.temperature() + 6)
    wet = np.where(running, outlet.humidity + 0.4 * wave, 2.5 + 0.1 * wave)
    if key == "o2":
        return np.where(running, outlet.o2 + 1.6 * (1 - np.clip(load, 0, 1)) + 0.25 * wave, 20.7 + 0.05 * wave)
    if key == "flow":
        return np.asarray(flow)
    if key == "temp":
        return warm
    if key == "humidity":
        return wet
    if key == "velocity":
        return np.asarray(flow / 3600.0 / outlet.area_m2 * (273.0 + warm) / 273.0 / (1.0 - wet / 100.0))
    if key == "pressure":
        return -0.12 - 0.05 * load + 0.01 * wave
    raise ValueError(f"an air outlet has no {key!r}")


def quality_of(m: Moment, stem: str, outlet: Outlet) -> np.ndarray[tuple[int, ...], np.dtype[np.int16]]:
    """Quality of an outlet's pollutant readings: stopped source, calibration, maintenance, or good."""
    quality = np.zeros(len(m.t), dtype=np.int16)
    if outlet.medium == "air":
        quality[is_stopped(m, outlet)] = Quality.STOPPED
    for fault in m.faults:
        if fault.target == stem and fault.kind in ("calibration", "maintenance"):
            on = (m.t >= fault.start) & (m.t < fault.end)
            quality[on] = Quality.CALIBRATION if fault.kind == "calibration" else Quality.MAINTENANCE
    return quality
