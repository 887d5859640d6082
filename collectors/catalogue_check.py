"""What collectors say of a catalogue's files before it is in use: templates, keys, connections, mappings, units.

`park catalogue check` calls it. The judges are those of the running collector, so both say the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from collectors.health_readings import health_mistakes
from collectors.hj212_logger import loggers_of
from collectors.mqtt_devices import listeners_of
from collectors.park_devices import FieldDevice, field_devices
from collectors.polled import NOT_POLLED, polled_gateways
from park.catalogue import catalogue_files, read_catalogue
from park.errors import CatalogueError, Mistake
from park.yaml_lines import Place, nearest, read_yaml, where


def check_files(files: Sequence[Path]) -> None:
    """CatalogueError with file and line of every device or point that could not be read.

    Passwords are not looked at, since `${NAME}` stands in the environment of the collector; a device without points is
    taken for one that is still to get them.
    """
    devices = [_without_secrets(d) for d in field_devices(read_catalogue(files))]
    said = [*polled_gateways(devices)[1], *loggers_of(devices)[1], *listeners_of(devices)[1], *health_mistakes(devices)]
    said = [text for text in said if not text.endswith(NOT_POLLED)]
    if said:
        known = [(file, *read_yaml(file, "sections")) for file in catalogue_files(files)]
        raise CatalogueError([_placed(text, known) for text in said])


def _without_secrets(device: FieldDevice) -> FieldDevice:
    kept = {k: v for k, v in device.device.attributes.items() if not k.startswith("sm4_key")}
    return replace(device, device=device.device.model_copy(update={"password": None, "attributes": kept}))


Read = tuple[Path, dict[str, Any], dict[Place, int]]


def _placed(text: str, files: Sequence[Read]) -> Mistake:
    """A mistake at the point that it speaks of, else at its device."""
    code, _, message = text.removeprefix("device ").partition(": ")
    about_point: Mistake | None = None
    about_device: Mistake | None = None
    for file, raw, lines in files:
        for i, point in enumerate(raw.get("points") or []):
            source = point.get("source") or {}
            if source.get("device") == code and (repr(source.get("key")) in message or f"the point {point['code']}:" in message
                                                 or message.startswith(f"{source.get('key')} needs ")):
                about_point = _at(file, raw, lines, ("points", i), message)
        for i, device in enumerate(raw.get("devices") or []):
            if device.get("code") == code:
                about_device = _at(file, raw, lines, ("devices", i), message)
    return about_point or about_device or Mistake("catalogue", None, code, message)


def _at(file: Path, raw: dict[str, Any], lines: dict[Place, int], place: Place, message: str) -> Mistake:
    return Mistake(str(file), nearest(place, lines), where(place, raw), message)
