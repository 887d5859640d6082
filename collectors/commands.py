"""Commands of the stage; heavy imports stay inside the functions, so that `park --help` answers at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from collectors import hj212_cli
from collectors.device_commands import _console as _console  # noqa: PLC0414 - other modules of the stage take it from here
from collectors.device_commands import device_check, device_list, device_read, device_show, device_write

GROUPS: dict[str, str] = {
    "device": "Device templates: list, show, test them, and read a meter with one.",
    "hj212": hj212_cli.GROUP,
    "mqtt": "Mappings of MQTT devices: try one before it goes into the catalogue.",
}


def collect(
    catalogue: Annotated[list[Path] | None, typer.Argument(
        metavar="[CATALOGUE...]",
        help="Catalogue files or a folder of them; without any, the database at PARK_DATABASE_URL.")] = None,
    once: Annotated[bool, typer.Option("--once", help="Poll every Modbus device once, show what it gave, and end.")] = False,
    source: Annotated[str, typer.Option(help="Name of this collector, for ever; two collectors need two names.")] = "collector",
    hj212_port: Annotated[int | None, typer.Option(min=0, max=65535, show_default="9212 when the catalogue has data loggers",
                                                   help="Port on which data loggers (HJ 212) connect.")] = None,
    hj212_host: Annotated[str, typer.Option(help="Address on which data loggers connect.")] = "0.0.0.0",
    metrics_port: Annotated[int | None, typer.Option(min=1, max=65535, help="Serve Prometheus metrics on this port.")] = None,
) -> None:
    """Collect from the devices of a catalogue: Modbus meters, HJ 212 data loggers, MQTT devices.

    Readings go through a durable spool in PARK_DATA_DIR to the broker at PARK_MQTT_URL; nothing is lost while the broker
    is away. The catalogue is read again when it changes.
    """
    from collectors.service import run_service

    run_service(catalogue or [], once=once, source=source, hj212_host=hj212_host, hj212_port=hj212_port,
                metrics_port=metrics_port)


def mqtt_try(
    mapping: Annotated[str, typer.Argument(help="A YAML file with a mapping, or itself: '{topic: a/+, form: flat}'.")],
    payload: Annotated[str, typer.Argument(help="A message of the device, or a file with one.")],
    topic: Annotated[str, typer.Option(help="Topic of the message, for captures and {device}.")] = "",
    timezone: Annotated[str, typer.Option(help="Zone of the base, for local times.")] = "Asia/Shanghai",
) -> None:
    """Show what a mapping makes of a message: key, time, value and quality, as they would be stored."""
    from datetime import datetime
    from zoneinfo import ZoneInfo, available_timezones

    import yaml
    from rich.table import Table

    from collectors.modbus_link import now_ms
    from collectors.mqtt_mapping import keyed_values, parse_mapping, topic_pattern
    from park.errors import InputError

    if timezone not in available_timezones():
        raise typer.BadParameter(f"expected a zone such as Asia/Shanghai, got {timezone!r}", param_hint="--timezone")
    text = Path(mapping).read_text(encoding="utf-8") if mapping.endswith((".yaml", ".yml")) else mapping
    try:
        parsed = parse_mapping(yaml.safe_load(text))
    except yaml.YAMLError as exc:
        raise InputError(f"the mapping is not YAML: {exc}") from exc
    captures = topic_pattern(parsed.topic).match(topic) if topic else {}
    if captures is None:
        raise InputError(f"the topic {topic!r} is not one of {parsed.topic!r}: such a message would not be heard")
    is_file = not payload.lstrip().startswith(("{", "[")) and Path(payload).is_file()
    raw = Path(payload).read_bytes() if is_file else payload.encode()
    table, zone = Table("key", "at", "value", "quality"), ZoneInfo(timezone)
    for key, at, value, quality in keyed_values(parsed, zone, captures, raw, now_ms()):
        local = datetime.fromtimestamp(at / 1000, zone).isoformat(timespec="milliseconds")
        table.add_row(key, local, "no value" if value is None else f"{value:.9g}", quality)
    _console().print(table)


COMMANDS: dict[str, Callable[..., None]] = {
    "collect": collect,
    "device list": device_list,
    "device show": device_show,
    "device read": device_read,
    "device write": device_write,
    "device check": device_check,
    "mqtt try": mqtt_try,
    **hj212_cli.COMMANDS,
}
