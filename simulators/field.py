"""The field at this moment: what every device shows now, with what the control port has changed.

Refreshed once a second from the park's model; Modbus banks, DL/T 645 meters, MQTT devices and HJ 212 loggers read from here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from zoneinfo import ZoneInfo

import numpy as np

from park.catalogue import Device, Point
from park.errors import NotFound
from simulators.dlt645_server import Meter, meter_of
from simulators.faults import Fault
from simulators.instruments import phase_volts
from simulators.model import NO_READING, Park, Qualities
from simulators.noise import Floats
from simulators.registers import Bank, bank_of

KEPT = 8      # answers kept, because devices of one protocol ask for the same instants


@dataclass
class Field:
    """Devices, banks and overrides of a running simulator."""

    park: Park
    banks: dict[str, Bank] = field(default_factory=dict)
    held: dict[int, float] = field(default_factory=dict)              # column: value set through the control port
    held_cells: dict[tuple[str, str], float] = field(default_factory=dict)
    dark_until: dict[str, float] = field(default_factory=dict)        # device: epoch seconds
    value: Floats = field(default_factory=lambda: np.zeros(0))
    quality: Qualities = field(default_factory=lambda: np.zeros(0, dtype=np.int16))
    now: float = 0.0

    active: list[Fault] = field(default_factory=list)                 # faults that are on at `now`
    known: dict[tuple[float, ...], tuple[Floats, Qualities]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.devices: dict[str, Device] = {d.code: d for d in self.park.catalogue.devices}
        self.points: dict[str, dict[str, tuple[int, Point]]] = {}
        for i, p in enumerate(self.park.points):
            assert p.source is not None
            self.points.setdefault(p.source.device, {})[p.source.key] = (i, p)
        self.banks = {d.code: bank_of(d, self.points.get(d.code, {})) for d in self.devices.values() if d.protocol == "modbus"}
        self.meters: dict[str, Meter] = {d.code: meter_of(d, self.points.get(d.code, {})) for d in self.devices.values()
                                         if d.protocol == "dlt645"}
        base = self.park.catalogue.base
        self._zone = ZoneInfo(base.timezone if base is not None else "Asia/Shanghai")
        self._frozen: dict[str, datetime] = {}     # DL/T 645 meter: the hour for which its frozen values are
        self._rate, self._total = np.zeros(0), np.zeros(0)
        self._nodes: dict[str, int] = {}       # node of the load that an electricity meter measures
        for code in (*self.banks, *self.meters):
            for _, p in self.points.get(code, {}).values():
                node = p.code.rpartition(".")[0]
                if (p.code.endswith("kwh") and node in self.park.rates.index) or p.code.endswith("kvarh"):
                    self._nodes[code] = self.park.rates.index[node]

    def refresh(self, now: float) -> None:
        """Take the state at `now` (epoch seconds) and write every register."""
        value, quality = self.park.readings(np.array([now]))
        rate, total = self.park.rates.at(np.array([now]))
        self._rate, self._total = rate[0], total[0]
        self.now, self.value, self.quality = now, value[0], quality[0]
        self.active = [f for f in self.park.faults if f.start <= now < f.end]
        for column, held in self.held.items():
            self.value[column], self.quality[column] = held, 0
        for bank in self.banks.values():
            bank.silent = self.is_dark(bank.device)
            if not bank.silent:
                self._write(bank)
        for meter in self.meters.values():
            meter.silent = self.is_dark(meter.device)
            if not meter.silent:
                self._show(meter)

    def is_dark(self, device: str) -> bool:
        """Whether a device is off, by a fault of the scenario or by the control port."""
        columns = self.park.columns_of(device)
        if self.dark_until.get(device, 0.0) > self.now:
            return True
        return bool(columns) and self._fault(device, "offline") is not None

    def readings_of(self, device: str, at: Sequence[float]) -> tuple[list[str], Floats, Qualities]:
        """(keys, value (T, K), quality (T, K)) of a device at instants, held values included."""
        columns = [c for c, _ in self.points[device].values()]
        asked = tuple(float(a) for a in at)
        if asked not in self.known:
            if len(self.known) >= KEPT:
                self.known.pop(next(iter(self.known)))
            self.known[asked] = self.park.readings(np.array(asked))
        value, quality = self.known[asked]
        value, quality = value[:, columns], quality[:, columns]
        for i, column in enumerate(columns):
            if column in self.held:
                value[:, i], quality[:, i] = self.held[column], 0
        return list(self.points[device]), value, quality

    def clock_of(self, device: str, now: float) -> float:
        """What the device's own clock says at `now`."""
        fault = self._fault(device, "wrong_clock")
        return now + (fault.params.get("offset_s", 0.0) if fault else 0.0)

    def is_late(self, device: str) -> bool:
        """Whether the device's link holds its messages back now."""
        return self._fault(device, "late") is not None

    def set(self, device: str, key: str, value: float) -> None:
        """Hold a value (in the point's unit, or the template's where no point takes it) until `clear`; NotFound otherwise."""
        if device not in self.devices:
            raise NotFound(f"there is no device {device!r}")
        taken = self.points.get(device, {}).get(key)
        bank = self.banks.get(device)
        cell = next((c for c in bank.cells if c.key == key), None) if bank else None
        meter = self.meters.get(device)
        if taken is None and cell is None and (meter is None or key not in meter.fields):
            known = sorted(self.points.get(device, {}))
            raise NotFound(f"{device} has no {key!r}; its points take {', '.join(known)}")
        if taken is not None:
            self.held[taken[0]] = value
            if self.value.size:
                self.value[taken[0]], self.quality[taken[0]] = value, 0
        if bank is not None and cell is not None:
            self.held_cells[device, key] = value
            bank.put(cell, value)
        if meter is not None:
            self.held_cells[device, key] = meter.values[key] = value

    def offline(self, device: str, seconds: float, now: float) -> None:
        """Silence a device for a time; NotFound when there is none of that code."""
        if device not in self.devices:
            raise NotFound(f"there is no device {device!r}")
        self.dark_until[device] = now + seconds
        unit = self.banks.get(device) or self.meters.get(device)
        if unit is not None:
            unit.silent = True

    def clear(self) -> None:
        """Forget everything that was set or silenced."""
        self.held.clear()
        self.held_cells.clear()
        self.dark_until.clear()
        if self.now:
            self.refresh(self.now)

    def _fault(self, device: str, kind: str) -> Fault | None:
        return next((f for f in self.active if f.target == device and f.kind == kind), None)

    def _write(self, bank: Bank) -> None:
        extra = self._derived_of(bank.device, {c.key: c.column for c in bank.cells})
        for cell in bank.cells:
            held = self.held_cells.get((bank.device, cell.key))
            if held is not None:
                bank.put(cell, held)
            elif cell.column is not None:
                gone = self.quality[cell.column] == NO_READING
                bank.put(cell, None if gone else float(self.value[cell.column]))
            else:
                bank.put(cell, extra.get(cell.key, 0.0))


    def _derived_of(self, device: str, columns: Mapping[str, int | None]) -> dict[str, float]:
        """What a meter shows beside the values that points take."""
        known = {key: float(self.value[c]) for key, c in columns.items() if c is not None}
        if device in self._nodes:
            node = self._nodes[device]
            known = {"active_power": self._rate[node], "active_energy_import": self._total[node]} | known
        return _derived(known, phase_volts(self.devices[device]))

    def _show(self, meter: Meter) -> None:
        """Put what holds now into a DL/T 645 meter, and at each full hour what it freezes."""
        columns = {key: f.column for key, f in meter.fields.items()}
        extra = self._derived_of(meter.device, columns)
        for key, column in columns.items():
            if column is None:
                meter.values[key] = extra.get(key, meter.values.get(key))
            else:
                meter.values[key] = None if self.quality[column] == NO_READING else float(self.value[column])
        meter.values |= {key: held for (device, key), held in self.held_cells.items() if device == meter.device}
        hour = datetime.fromtimestamp(self.now, self._zone).replace(minute=0, second=0, microsecond=0)
        if self._frozen.get(meter.device) != hour and "active_energy_import" in self.points.get(meter.device, {}):
            self._frozen[meter.device] = hour
            self._freeze(meter, hour)

    def _freeze(self, meter: Meter, hour: datetime) -> None:
        """Energy at the last full hour and at the last midnight."""
        moments = {"freeze_hour_time": hour, "freeze_day_time": hour.replace(hour=0)}
        keys, value, quality = self.readings_of(meter.device, [m.timestamp() for m in moments.values()])
        column = keys.index("active_energy_import")
        for row, key in enumerate(("active_energy_import_hour", "active_energy_import_day")):
            meter.values[key] = None if quality[row, column] == NO_READING else float(value[row, column])
        meter.moments |= moments


def _derived(known: dict[str, float], nominal: float) -> dict[str, float]:
    """Values that a three-phase meter shows beside those that points take: per phase, apparent, averages."""
    power = known.get("active_power", 0.0)
    factor = known.get("power_factor", 0.95) or 0.95
    apparent = abs(power) / factor
    reactive = known.get("reactive_power", (apparent ** 2 - power ** 2) ** 0.5)
    volts = known.get("voltage_l1", nominal)
    amps = apparent * 1000 / 3 / volts
    gas, energy = known.get("volume_standard", 0.0), known.get("active_energy_import", 0.0)
    out = {"apparent_power": apparent, "reactive_power": reactive, "power_factor": factor, "frequency": 50.0,
           "active_power": power, "current_avg": amps, "voltage_ln_avg": volts, "voltage_ll_avg": volts * 3 ** 0.5,
           "active_energy_total": energy, "active_energy_import": energy,
           "volume_standard_f32": gas, "volume_working": gas / 3.6, "volume_working_f32": gas / 3.6,
           "flow_working": known.get("flow_standard", 0.0) / 3.6}
    for phase in ("l1", "l2", "l3"):
        out |= {f"active_power_{phase}": power / 3, f"reactive_power_{phase}": reactive / 3,
                f"apparent_power_{phase}": apparent / 3,
                f"active_energy_import_{phase}": energy / 3, f"voltage_{phase}": volts, f"current_{phase}": amps,
                f"power_factor_{phase}": factor}
    return out | {f"voltage_{pair}": volts * 3 ** 0.5 for pair in ("l1_l2", "l2_l3", "l3_l1")}
