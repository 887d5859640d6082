"""MQTT devices of the simulated park: they publish their own JSON, in the two dialects that the catalogue maps.

`flat`: {"ts": ms, "Ep": ..., "P": ...}. `ts_values`: {"ts": ms, "values": {"Ep": ..., "P": ...}}. A device whose link is
late keeps its messages and sends them afterwards with their own times.
"""

from __future__ import annotations

import json
import logging
from collections import deque
from dataclasses import dataclass, field
from typing import Protocol

from park.catalogue import Device
from park.errors import InputError
from simulators.field import Field
from simulators.model import NO_READING

log = logging.getLogger(__name__)

INTERVAL_S = 10
KEPT = 5_000


class Publisher(Protocol):
    """What is needed of an MQTT client."""

    def publish(self, topic: str, payload: bytes, qos: int) -> object:
        """Hand a message to the client."""


@dataclass
class MqttDevice:
    """A publishing device with the messages that its late link holds back."""

    device: Device
    topic: str
    form: str
    waiting: deque[bytes] = field(default_factory=lambda: deque(maxlen=KEPT))
    published: int = 0


def mqtt_devices(field_: Field) -> list[MqttDevice]:
    """The MQTT devices of the field; InputError for a form that is not simulated."""
    found = []
    for device in field_.devices.values():
        if device.protocol != "mqtt" or device.mapping is None or device.code not in field_.points:
            continue
        form = str(device.mapping.get("form", "flat"))
        if form not in ("flat", "ts_values"):
            raise InputError(f"{device.code}: the simulator publishes the forms flat and ts_values, got {form!r}")
        found.append(MqttDevice(device, str(device.mapping["topic"]).replace("{device}", device.code), form))
    return found


def payload_of(device: MqttDevice, field_: Field, now: float) -> bytes | None:
    """The device's message at `now` by its own clock; None when it is off."""
    code = device.device.code
    if field_.is_dark(code):
        return None
    told = field_.clock_of(code, now)
    keys, value, quality = field_.readings_of(code, [told])
    values = {k: round(float(v), 4) for k, v, q in zip(keys, value[0], quality[0], strict=True) if q != NO_READING}
    stamp = round(told * 1000)
    body = {"ts": stamp, **values} if device.form == "flat" else {"ts": stamp, "values": values}
    return json.dumps(body, separators=(",", ":")).encode()


def publish_all(devices: list[MqttDevice], field_: Field, client: Publisher, now: float) -> int:
    """Publish what is due at `now`; the number of messages handed to the client."""
    sent = 0
    for device in devices:
        payload = payload_of(device, field_, now)
        if payload is None:
            continue
        device.waiting.append(payload)
        if field_.is_late(device.device.code):
            continue
        while device.waiting:
            client.publish(device.topic, device.waiting.popleft(), qos=1)
            device.published += 1
            sent += 1
    return sent
