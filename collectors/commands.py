"""Commands of the stage; heavy imports stay inside the functions, so that `park --help` answers at once."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from collectors import hj212_cli
from collectors.device_commands import _console as _console  # noqa: PLC0414 - other modules of the stage take it from here
from collectors.device_commands import device_check, device_list, device_read, device_show, device_write

if TYPE_CHECKING:
    from collectors.mqtt_try import Subject, Trial

GROUPS: dict[str, str] = {
    "device": "Device templates: list, show, test them, and read a meter with one.",
    "hj212": hj212_cli.GROUP,
    "mqtt": "Mappings of MQTT devices: ready ones, and a try before one goes into the catalogue.",
}


def collect(
    catalogue: Annotated[list[Path] | None, typer.Argument(
        metavar="[CATALOGUE...]",
        help="Catalogue files or a folder of them; without any, the database at PARK_DATABASE_URL.")] = None,
    once: Annotated[bool, typer.Option(
        "--once", help="Poll every meter (Modbus, DL/T 645, CJ/T 188) once, show what it gave, and end.")] = False,
    listen: Annotated[float, typer.Option(
        min=0, help="With --once: wait up to so many seconds for data loggers and MQTT devices too.")] = 0.0,
    source: Annotated[str, typer.Option(help="Name of this collector, for ever; two collectors need two names.")] = "collector",
    hj212_port: Annotated[int | None, typer.Option(min=0, max=65535, show_default="9212 when the catalogue has data loggers",
                                                   help="Port on which data loggers (HJ 212) connect.")] = None,
    hj212_host: Annotated[str, typer.Option(help="Address on which data loggers connect.")] = "0.0.0.0",
    metrics_port: Annotated[int | None, typer.Option(min=1, max=65535, help="Serve Prometheus metrics on this port.")] = None,
    also_database: Annotated[bool, typer.Option(
        "--also-database", help="Beside the files, what the database has of their base: adopted data loggers.")] = False,
) -> None:
    """Collect from the devices of a catalogue: Modbus, DL/T 645 and CJ/T 188 meters, HJ 212 data loggers, MQTT devices.

    Readings go through a durable spool in PARK_DATA_DIR to the broker at PARK_MQTT_URL; nothing is lost while the broker
    is away. The catalogue is read again when it changes.
    """
    from collectors.service import run_service

    if listen and not once:
        raise typer.BadParameter("expected it together with --once", param_hint="--listen")
    run_service(catalogue or [], once=once, listen_s=listen, source=source, hj212_host=hj212_host, hj212_port=hj212_port,
                metrics_port=metrics_port, also_database=also_database)


def mqtt_list() -> None:
    """List the ready mappings of MQTT dialects; `mapping: {ready: NAME, topic: ...}` takes one."""
    from rich.table import Table

    from collectors.mqtt_mapping import ready_mappings

    table = Table("ready", "topic", "form", "key", "for")
    for name, found in ready_mappings().items():
        mapping = found["mapping"]
        table.add_row(name, mapping["topic"], mapping["form"], mapping.get("key", "{key}"), found["about"])
    _console().print(table)


def mqtt_try(
    mapping: Annotated[str, typer.Argument(
        help="A YAML file with a mapping, or itself: '{topic: a/+, form: flat}', the name of a ready one (`park mqtt list`), "
             "or with --catalogue the code of a device.")],
    payloads: Annotated[list[str], typer.Argument(metavar="PAYLOAD...", help="Messages of the device, or files with one.")],
    topic: Annotated[list[str] | None, typer.Option(
        help="Topic of the messages, for captures and {device}; once for all or once for each.")] = None,
    lines: Annotated[bool, typer.Option(
        "--lines", help="Each line of a file is a message, with its topic in front as `mosquitto_sub -v` writes it.")] = False,
    catalogue: Annotated[list[Path] | None, typer.Option(
        help="Catalogue files: shows the points that take the values, and keys that nobody takes.")] = None,
    timezone: Annotated[str, typer.Option(help="Zone of the base, for local times.")] = "Asia/Shanghai",
) -> None:
    """Show what a mapping makes of messages: key, time, value and quality as they would be stored, and what would be left out
    and why. Messages are taken in their order, as a running collector does.

    Exit status 1 when a message would become a dead letter or would not be heard at all.
    """
    from zoneinfo import ZoneInfo, available_timezones

    from collectors.modbus_link import now_ms
    from collectors.mqtt_try import messages, subject_of, tried

    if timezone not in available_timezones():
        raise typer.BadParameter(f"expected a zone such as Asia/Shanghai, got {timezone!r}", param_hint="--timezone")
    subject = subject_of(mapping, catalogue or [], ZoneInfo(timezone))
    found = list(messages(payloads, topic or [], lines=lines))
    trials = [tried(subject, message, now_ms()) for message in found]
    for number, (message, trial) in enumerate(zip(found, trials, strict=True), 1):
        title = f"message {number}" + (f", {message.topic}" if message.topic else "")
        _show_trial(title if len(found) > 1 else "", subject, trial)
    if len(found) > 1:
        values = [v for t in trials for v in t.values]
        print(f"{len(found)} messages: {len(values)} values, {sum(v.value is None for v in values)} of them without value; "
              f"{sum(bool(t.dead) for t in trials)} dead letters, {sum(not t.values for t in trials)} messages without values")
    wrong = [(n, t.dead or t.unheard) for n, t in enumerate(trials, 1) if t.dead or t.unheard]
    if wrong:
        print(f"{len(wrong)} of {len(found)} messages would be lost; message {wrong[0][0]}: {wrong[0][1]}", file=sys.stderr)
        raise typer.Exit(1)


def _show_trial(title: str, subject: Subject, trial: Trial) -> None:
    from datetime import datetime

    from rich.table import Table

    from collectors.mqtt_try import why

    taken = subject.targets
    more = [] if taken is None else ["point", "stored"]
    table = Table("key", "at", "value", "quality", *more, "why no value", title=title or None)
    for v in trial.values:
        local = datetime.fromtimestamp(v.at / 1000, subject.zone).isoformat(timespec="milliseconds")
        into = []
        if taken is not None and v.key in taken:
            point, factor, offset = taken[v.key]
            stored = "no value" if v.value is None else f"{v.value * factor + offset:.9g} {point.unit}"
            into = [point.point, stored]
        elif taken is not None:
            into = ["nobody", "not stored"]
        table.add_row(v.key, local, "no value" if v.value is None else f"{v.value:.9g}", v.quality, *into, why(v))
    if trial.values:
        _console().print(table)
    elif title:
        print(title)
    for line in trial.left_out:
        print(f"left out: {line}")
    if trial.dead:
        print(f"dead letter {trial.dead}")


def check_catalogue(files: list[Path]) -> None:
    """What collectors say of a catalogue's files: CatalogueError with the line of every device and point that is wrong."""
    from collectors.catalogue_check import check_files
    check_files(files)


CATALOGUE_CHECKS = (check_catalogue,)
COMMANDS: dict[str, Callable[..., None]] = {
    "collect": collect,
    "device list": device_list,
    "device show": device_show,
    "device read": device_read,
    "device write": device_write,
    "device check": device_check,
    "mqtt list": mqtt_list,
    "mqtt try": mqtt_try,
    **hj212_cli.COMMANDS,
}
