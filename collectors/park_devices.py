"""The catalogue as collectors see it: which key of which device feeds which point, and how units convert.

Collectors do not apply a point's `ratio`: accounting multiplies counters by it. They do apply the ratios of the
device (`parameters` of the device or its template, such as ct_ratio), because those turn a register into the
quantity that the meter's front shows as primary value. Give a current-transformer ratio in one of the two places only.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from park.catalogue import Catalogue, Device
from park.errors import InputError
from park.quantities import conversion

HEALTH = "health."
"""How keys begin that follow the health of a device (`health_readings`) and not a value of it."""


@dataclass(frozen=True)
class Target:
    """A point fed by a device: its code and unit; `into` converts a value of another unit."""

    point: str
    unit: str
    kind: str
    expected_s: int

    def into(self, unit: str) -> tuple[float, float]:
        """(factor, offset) from `unit` to the point's unit; InputError when they do not measure the same."""
        try:
            return conversion(unit, self.unit)
        except InputError as exc:
            raise InputError(f"the point {self.point}: {exc}") from exc


@dataclass(frozen=True)
class FieldDevice:
    """A device of the catalogue with the points that it feeds, by the device's key; two that read the same are equal."""

    base: str
    timezone: str
    device: Device
    targets: Mapping[str, Target]
    health_targets: Mapping[str, Target] = field(default_factory=dict, compare=False)

    @property
    def code(self) -> str:
        """Code of the device."""
        return self.device.code


def field_devices(catalogue: Catalogue) -> list[FieldDevice]:
    """Devices of a catalogue in its order."""
    if catalogue.base is None:
        return []
    targets: dict[str, dict[str, Target]] = {}
    for p in catalogue.points:
        if p.source is not None:
            targets.setdefault(p.source.device, {})[p.source.key] = Target(p.code, p.unit, p.kind, p.expected_s)
    devices = []
    for d in catalogue.devices:
        mine = targets.get(d.code, {})
        devices.append(FieldDevice(catalogue.base.code, catalogue.base.timezone, d,
                                   {k: t for k, t in mine.items() if not k.startswith(HEALTH)},
                                   {k: t for k, t in mine.items() if k.startswith(HEALTH)}))
    return devices


_ENV = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


def secret(text: str | None, environment: Mapping[str, str] = os.environ) -> str | None:
    """The text with `${NAME}` taken from the environment; InputError when the variable is not set."""
    if text is None:
        return None

    def value(match: re.Match[str]) -> str:
        if match[1] not in environment:
            raise InputError(f"the environment variable {match[1]} that a device's password needs is not set")
        return environment[match[1]]
    return _ENV.sub(value, text)


def of_protocol(devices: Iterable[FieldDevice], protocol: str) -> list[FieldDevice]:
    """The devices that speak a protocol."""
    return [d for d in devices if d.device.protocol == protocol]
