"""The simulated park: every point of the catalogue at any instant, as its meter would show it, with ground truth.

`Park.readings(t)` is random access in time: what it returns for an instant does not depend on what was asked before,
so history and the live run meet without a seam. Units of values are the points' units in the catalogue.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from park.catalogue import Catalogue, Device, Point
from simulators.faults import DEVICE, POINT, Fault, Schedule
from simulators.instruments import AIR, WATER, Column, Moment, gauge_column, node_of, quality_of, tangent_of
from simulators.noise import Floats, jitter, key_of
from simulators.rates import Rates
from simulators.scenario import Encoding, Scenario
from simulators.sky import Sky

NO_READING = -1
RUNS_ABOVE = 0.3      # share of its rated power above which a production facility counts as running
SETTLE_S = 3600.0     # how long the consequences of a fault are felt after its end
GAUGE_NOISE = 0.003
NOISY = ("active_power", "reactive_power", "current", "gas_flow", "steam_flow", "water_flow")
FLAGGED = (*AIR, *WATER, "o2", "flow", "ph")     # what an outlet's instrument flags cover
Qualities = NDArray[np.int16]


@dataclass(frozen=True)
class _Counter:
    """A counter's register: initial + gain x total of its node, modulo its roll-over, in steps its meter can show."""

    column: int
    node: int
    gain: float
    initial: float
    rollover: float
    step: float           # 0: float32


class Park:
    """The park of a catalogue and a scenario. `live_from`: epoch seconds from which the live run's faults are added."""

    def __init__(self, catalogue: Catalogue, scenario: Scenario, seed: int = 1, live_from: float | None = None) -> None:
        self.catalogue, self.scenario, self.seed, self._live_from = catalogue, scenario, seed, live_from
        self.sky = Sky(seed, scenario.site["latitude"], scenario.site["longitude"])
        self.rates = Rates(scenario, self.sky)
        self.points: list[Point] = [p for p in catalogue.points if p.source is not None]
        self.codes = [p.code for p in self.points]
        self.column_of = {c: i for i, c in enumerate(self.codes)}
        devices = {d.code: d for d in catalogue.devices}
        self.counters = [_counter(i, p, devices[p.source.device], scenario, self.rates, seed)
                         for i, p in enumerate(self.points) if p.kind == "counter" and p.source]
        self.gauges: list[tuple[int, Column]] = [(i, gauge_column(p, devices[p.source.device], scenario, self.rates, seed))
                                                 for i, p in enumerate(self.points) if p.kind != "counter" and p.source]
        self._keys = np.array([key_of(seed, "noise", c) for c in self.codes], dtype=np.uint64)
        self._grain = np.array([GAUGE_NOISE if _is_noisy(p) else 0.0 for p in self.points])
        self._columns_of_device: dict[str, list[int]] = {}
        for i, p in enumerate(self.points):
            assert p.source is not None
            self._columns_of_device.setdefault(p.source.device, []).append(i)
        self._treats = {u.code: [n for n in u.treats if n in scenario.rates] for u in catalogue.units if u.role == "treatment"}
        self._schedule = Schedule(scenario.faults, seed, self.rates.opened, live_from)
        self.faults: list[Fault] = []
        self._seen: dict[Fault, float] = {}
        self._rolled: list[Fault] = []
        self._rolled_to = self.rates.opened

    def copy(self) -> Park:
        """The same park with caches of its own, for another thread."""
        return Park(self.catalogue, self.scenario, self.seed, self._live_from)

    def values(self, times: NDArray[np.datetime64]) -> tuple[list[str], Floats]:
        """(codes, values of shape (time, point)) at datetime64 instants (UTC); NaN where the device gave no reading."""
        value, quality = self.readings(times.astype("datetime64[ms]").astype(np.float64) / 1000.0)
        return self.codes, np.where(quality == NO_READING, np.nan, value)

    def readings(self, t: Floats) -> tuple[Floats, Qualities]:
        """(value, quality), both (T, P), at UTC seconds; quality -1 where there is no reading at all."""
        faults = self._faults_near(float(t.min()), float(t.max()))
        value, quality = self._true(t, faults)
        for fault in faults:
            if fault.kind in POINT or fault.kind in DEVICE:
                self._disturb(fault, t, value, quality)
        self._encode(value)
        return value, quality

    def columns_of(self, device: str) -> list[int]:
        """Columns of a device's points."""
        return self._columns_of_device.get(device, [])

    def ground_truth(self, until: float) -> list[dict[str, Any]]:
        """Every fault that started before `until` (epoch seconds), and every roll-over of a counter, by time."""
        self._draw(until)
        self._find_rollovers(until)
        rows = [f.truth() for f in (*self.faults, *self._rolled) if f.start < until]
        return sorted(rows, key=lambda r: (r["start"], r["target"]))

    def _draw(self, until: float) -> None:
        fresh = self._matter(self._schedule.until(until))
        if fresh:
            self.rates.add_faults(fresh)
            self.faults += fresh

    def _matter(self, faults: list[Fault]) -> list[Fault]:
        """Without the stops of treatment facilities at whose start nothing that they treat runs: those are no faults."""
        stops = [f for f in faults if f.kind == "treatment_off" and self._treats.get(f.target)]
        if not stops:
            return faults
        rate = self.rates.without_faults(np.array([f.start for f in stops]))
        idle = set()
        for f, row in zip(stops, rate, strict=True):
            treated = [self.rates.index[n] for n in self._treats[f.target]]
            if (row[treated] < RUNS_ABOVE * self.rates.rated[treated]).all():
                idle.add(f)
        return [f for f in faults if f not in idle]

    def _faults_near(self, start: float, end: float) -> list[Fault]:
        self._draw(end + 1)
        lasting = ("reset", "swap")
        return [f for f in self.faults if f.start <= end and (f.kind in lasting or f.end + SETTLE_S > start)]

    def _true(self, t: Floats, faults: Sequence[Fault]) -> tuple[Floats, Qualities]:
        """Values without disturbance of meters, registers not yet wrapped, and the outlets' flags."""
        rate, total = self.rates.at(t)
        moment = Moment(t, rate, total, self.rates, self.sky, faults)
        value = np.empty((len(t), len(self.points)))
        for c in self.counters:
            value[:, c.column] = c.initial + c.gain * total[:, c.node]
        for column, show in self.gauges:
            value[:, column] = show(moment)
        noisy = np.flatnonzero(self._grain)
        ms = np.round(t * 1000).astype(np.int64)
        value[:, noisy] *= 1.0 + self._grain[noisy] * jitter(self._keys[noisy], ms[:, None])
        quality = np.zeros(value.shape, dtype=np.int16)
        for stem, outlet in self.scenario.outlets.items():
            flagged = [self.column_of[f"{stem}.{k}"] for k in FLAGGED if f"{stem}.{k}" in self.column_of]
            quality[:, flagged] = quality_of(moment, stem, outlet)[:, None]
        return value, quality

    def _encode(self, value: Floats) -> None:
        for c in self.counters:
            register = value[:, c.column] % c.rollover
            if c.step:
                value[:, c.column] = np.floor(register / c.step + 1e-9) * c.step
            else:
                value[:, c.column] = register.astype(np.float32)

    def _columns_of(self, fault: Fault) -> list[int]:
        if fault.kind in DEVICE:
            return self.columns_of(fault.target)
        return [self.column_of[fault.target]] if fault.target in self.column_of else []

    def _disturb(self, fault: Fault, t: Floats, value: Floats, quality: Qualities) -> None:
        on = np.flatnonzero((t >= fault.start) & (t < fault.end))
        columns = self._columns_of(fault)
        if fault.kind in ("reset", "swap"):
            after = t >= fault.start
            for column in columns:
                value[after, column] += fault.params.get("initial", 0.0) - self._undisturbed(fault, column)
            return
        if not len(on) or not columns:
            return
        cells = on[:, None], np.array(columns)
        if fault.kind in ("offline", "gap"):
            quality[cells] = NO_READING
        elif fault.kind in ("spike", "scale"):
            value[cells] *= fault.params.get("factor", 10.0)
        elif fault.kind == "stuck":
            value[cells] = [self._undisturbed(fault, column) for column in columns]
        elif fault.kind == "wrong_clock":
            then = t[on] - fault.params.get("offset_s", 0.0)
            value[cells] = self._true(then, self._faults_near(float(then.min()), float(then.max())))[0][:, columns]

    def _undisturbed(self, fault: Fault, column: int) -> float:
        """What the point showed at the fault's start, earlier resets taken into account."""
        if fault not in self._seen:
            at = np.array([fault.start])
            value = float(self._true(at, [f for f in self.faults if f.start <= fault.start])[0][0, column])
            for earlier in self.faults:
                if earlier.kind in ("reset", "swap") and earlier.target == fault.target and earlier.start < fault.start:
                    value += earlier.params.get("initial", 0.0) - self._undisturbed(earlier, column)
            self._seen[fault] = value
        return self._seen[fault]

    def _find_rollovers(self, until: float) -> None:
        """Take the roll-overs of whole days before `until` into the ground truth, to the minute."""
        days = np.arange(self._rolled_to, until, 86_400.0)
        if len(days) < 2:
            return
        chunks = np.array_split(days, max(1, len(days) // 40))
        total = np.concatenate([self.rates.at(chunk)[1] for chunk in chunks])
        for c in self.counters:
            lasting = [f for f in self.faults if f.kind in ("reset", "swap") and f.target == self.codes[c.column]]
            register = c.initial + c.gain * total[:, c.node]
            for f in lasting:
                change = f.params.get("initial", 0.0) - self._undisturbed(f, c.column)
                register = np.where(days >= f.start, register + change, register)
            turns = np.floor(register / c.rollover)
            for i in np.flatnonzero(np.diff(turns) > 0):
                if not any(days[i] <= f.start <= days[i + 1] for f in lasting):
                    at = float(np.interp(turns[i + 1] * c.rollover, register[i: i + 2], days[i: i + 2]))
                    self._rolled.append(Fault("rollover", self.codes[c.column], at, at, {"rollover": c.rollover}, "meter"))
        self._rolled_to = float(days[-1])


def _counter(column: int, point: Point, device: Device, scenario: Scenario, rates: Rates, seed: int) -> _Counter:
    code = scenario.same_meter.get(point.code, point.code)
    stem, _, key = code.rpartition(".")
    node = node_of(code, rates)
    if node is None:
        raise ValueError(f"the scenario does not say what {point.code} counts")
    rollover = point.rollover or 1e12
    dice = key_of(seed, "meter", code)
    accuracy = {"kwh": 0.002, "kvarh": 0.004, "nm3": 0.004, "t": 0.005, "m3": 0.008}.get(key, 0.0)
    gain = 1.0 + accuracy * ((dice % 2001) / 1000.0 - 1.0)
    if key == "kvarh":
        gain *= tangent_of(seed, stem)
    initial = min(rollover, 4e6) * (0.05 + 0.85 * (dice // 2001 % 1000) / 1000.0)
    return _Counter(column, rates.index[node], gain, initial, rollover, _step(device, scenario.encodings))


def _step(device: Device, encodings: dict[str, Encoding]) -> float:
    """The step of a counter's register in the point's unit; 0 for float32."""
    encoding = encodings.get(device.template or device.protocol)
    if encoding is None:
        return 0.001
    if encoding.counter == "f32":
        return 0.0
    return float(encoding.counter) * float(np.prod([device.parameters.get(name, 1.0) for name in encoding.times]))


def _is_noisy(point: Point) -> bool:
    """Gauges of electricity and flow carry measurement noise here; outlets and described gauges carry their own."""
    return point.kind == "gauge" and point.quantity in NOISY
