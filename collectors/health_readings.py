"""Health as readings of their own: points of the catalogue that follow a device or its connection instead of a register.

`source: {device: d.e1.main, key: health.online}`; the keys are in `KEYS`, and `health.errors.timeout` counts one kind of error.
The collector gives them with its health, every ten seconds; what is not known is `missing`, never zero.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from collectors.health import ConnectionHealth, DeviceHealth
from collectors.park_devices import HEALTH, FieldDevice
from collectors.readings import Readings
from park.errors import InputError

KEYS: dict[str, str] = {
    "online": "state", "silence": "s", "latency": "ms", "errors": "times", "readings": "times",
    "clock_offset": "s",
    "connection.online": "state", "connection.silence": "s", "connection.latency": "ms", "connection.errors": "times",
    "connection.requests": "times", "connection.connects": "times",
}
"""What may stand behind `health.`, and in which unit it is given."""

Health = Mapping[tuple[str, str], tuple[DeviceHealth, ConnectionHealth | None]]
"""By base and device."""


def _family(key: str) -> str:
    """The key of `KEYS` that a key belongs to: that of all errors for one kind of them."""
    head, mark, _ = key.partition("errors.")
    return head + "errors" if mark else key


def health_mistakes(devices: Iterable[FieldDevice]) -> list[str]:
    """What is wrong with the points that follow the health of a device."""
    mistakes = []
    for d in devices:
        for key, target in d.health_targets.items():
            name = key.removeprefix(HEALTH)
            try:
                if _family(name) not in KEYS:
                    raise InputError(f"there is no key {key!r}; known: {', '.join(HEALTH + k for k in KEYS)}, "
                                     f"{HEALTH}errors.KIND")
                target.into(KEYS[_family(name)])
            except InputError as exc:
                mistakes.append(f"device {d.code}: {exc}")
    return mistakes


def health_readings(devices: Sequence[FieldDevice], health: Health, now_ms: int) -> list[Readings]:
    """Readings of every point that follows health, one batch a base; keys and units that are wrong are left out."""
    by_base: dict[str, Readings] = {}
    for d in devices:
        found = health.get((d.base, d.code))
        for key, target in d.health_targets.items():
            name = key.removeprefix(HEALTH)
            if found is None or health_mistakes([d]):
                continue
            factor, offset = target.into(KEYS[_family(name)])
            value = _value(name, *found, now_ms)
            by_base.setdefault(d.base, Readings(d.base)).add(
                target.point, now_ms, None if value is None else value * factor + offset,
                "missing" if value is None else "good")
    return list(by_base.values())


def _value(name: str, device: DeviceHealth, connection: ConnectionHealth | None, now_ms: int) -> float | None:
    """The value of a key in the unit of `KEYS`; None when it is not known."""
    if name.startswith("connection."):
        return None if connection is None else _connection_value(name.removeprefix("connection."), connection, now_ms)
    if name == "online":
        return _online(device.state(now_ms))
    if name == "silence":
        return _since(device.last_answer, now_ms)
    if name == "latency":
        return device.latency_ms
    if name == "clock_offset":
        return None if device.clock.offset_ms is None else device.clock.offset_ms / 1000
    if name == "readings":
        return float(device.readings)
    return _errors(name, device.errors)


def _connection_value(name: str, connection: ConnectionHealth, now_ms: int) -> float | None:
    if name == "online":
        return _online(connection.state)
    if name == "silence":
        return _since(connection.last_answer, now_ms)
    if name == "latency":
        return connection.latency_ms
    if name in ("requests", "connects"):
        return float(connection.requests if name == "requests" else connection.connects)
    return _errors(name, connection.errors)


def _online(state: str) -> float | None:
    return None if state == "unknown" else float(state == "online")


def _since(last_answer: int | None, now_ms: int) -> float | None:
    return None if last_answer is None else max(0, now_ms - last_answer) / 1000


def _errors(name: str, errors: Mapping[str, int]) -> float:
    kind = name.removeprefix("errors").removeprefix(".")
    return float(errors.get(kind, 0) if kind else sum(errors.values()))
