"""Commands of the stage; heavy imports stay inside the functions, so that `park --help` answers at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from collectors import hj212_cli

if TYPE_CHECKING:
    from rich.console import Console

    from collectors.device_read import DeviceReading
    from collectors.template import Template

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


def device_list() -> None:
    """List the device templates that come with the platform."""
    from rich.table import Table

    from collectors.template import load_templates

    table = Table("template", "vendor", "models", "kind", "points", "confidence")
    for t in load_templates():
        table.add_row(t.template, t.vendor, ", ".join(t.models), t.kind, str(len(t.points)), t.confidence)
    _console().print(table)


def device_show(template: Annotated[str, typer.Argument(help="Name of a template, or a YAML file.")]) -> None:
    """Show a template: its points, requests per poll, traps and sources."""
    from collectors.template import load_template

    _show_template(load_template(template), _console())


def device_read(
    template: Annotated[str, typer.Argument(help="Name of a template (see `park device list`), or a YAML file.")],
    host: Annotated[str, typer.Option(help="Address of the meter or its gateway.")],
    port: Annotated[int, typer.Option(min=1, max=65535)] = 502,
    unit: Annotated[int, typer.Option(min=0, max=255, help="Unit id (slave address).")] = 1,
    format_: Annotated[str, typer.Option("--format", help="table or json")] = "table",
    framing: Annotated[str, typer.Option(help="tcp, or rtu+tcp for RTU frames through a transparent serial server.")] = "tcp",
    parameter: Annotated[list[str] | None, typer.Option(help="A ratio such as ct_ratio=40; may be repeated.")] = None,
) -> None:
    """Read one meter and show every value beside its plausible range, and the requests used.

    Exit status 1 when the meter does not answer or any value lies outside its range.
    """
    import asyncio
    import json

    from collectors.device_read import as_plain, read_device
    from collectors.template import load_template

    if format_ not in ("table", "json"):
        raise typer.BadParameter(f"expected table or json, got {format_!r}", param_hint="--format")
    given = _parameters(parameter or [])
    reading = asyncio.run(read_device(load_template(template), f"{framing}://{host}:{port}", unit, given))
    if format_ == "json":
        print(json.dumps(as_plain(reading), ensure_ascii=False, indent=2))
    else:
        _show_reading(reading, _console())
    if any(v.inside is False for v in reading.values):
        raise typer.Exit(1)


def device_check(templates: Annotated[list[str] | None, typer.Argument(
        metavar="[TEMPLATE...]", help="Names or YAML files; without any, all that come with the platform.")] = None) -> None:
    """Run the tests inside device templates: raw registers against the values they must read as."""
    from collectors.registers import run_test
    from collectors.template import load_template, load_templates

    loaded = [load_template(t) for t in templates] if templates else load_templates()
    wrong, tests = 0, 0
    for template in loaded:
        for number, test in enumerate(template.tests, 1):
            tests += 1
            for line in run_test(template, test):
                wrong += 1
                print(f"{template.template} test {number}: {line}")
        if not template.tests:
            wrong += 1
            print(f"{template.template}: has no tests")
    print(f"{len(loaded)} templates, {tests} tests, {wrong} wrong")
    if wrong:
        raise typer.Exit(1)


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
    "device check": device_check,
    "mqtt try": mqtt_try,
    **hj212_cli.COMMANDS,
}


def _parameters(texts: list[str]) -> dict[str, float]:
    given = {}
    for text in texts:
        name, eq, value = text.partition("=")
        try:
            given[name] = float(value)
        except ValueError as exc:
            raise typer.BadParameter(f"expected NAME=NUMBER, got {text!r}", param_hint="--parameter") from exc
        if not eq:
            raise typer.BadParameter(f"expected NAME=NUMBER, got {text!r}", param_hint="--parameter")
    return given


def _console() -> Console:
    from rich.console import Console

    console = Console()
    return console if console.is_terminal else Console(width=160)  # a pipe has no width of its own


def _show_template(template: Template, console: Console) -> None:
    from rich.table import Table

    from collectors.planner import plan_reads

    models = ", ".join(template.models)
    console.print(f"{template.template} version {template.version}: {template.vendor} {models}; "
                  f"confidence {template.confidence}", markup=False)
    table = Table("key", "quantity", "address", "type", "scale", "unit", "kind", "every", "plausible")
    for p in template.points:
        table.add_row(p.key, p.quantity, str(p.address), p.type, f"{p.scale:g}", p.unit, p.register_, p.every,
                      _range(p.valid))
    console.print(table)
    for every in ("fast", "slow"):
        points = [p for p in template.points if p.every == every]
        reads = plan_reads(template, points)
        console.print(f"{every}: {len(points)} points in {len(reads)} requests: "
                      + ", ".join(f"{r.address}+{r.count}" for r in reads), soft_wrap=True)
    for name, parameter in template.parameters.items():
        console.print(f"parameter {name}: {parameter.model_dump(exclude_none=True)}", soft_wrap=True)
    for trap in template.traps:
        console.print(f"trap: {trap}", soft_wrap=True, markup=False)
    for text in template.source:
        console.print(f"source: {text}", soft_wrap=True, markup=False)


def _show_reading(reading: DeviceReading, console: Console) -> None:
    from rich.table import Table

    table = Table("key", "value", "unit", "quality", "plausible", "raw", title=f"{reading.template.template} at "
                  f"{reading.connection}, unit {reading.unit}")
    for v in reading.values:
        text = "no value" if v.value is None else f"{v.value:.9g}" + (f" ({v.label})" if v.label else "")
        style = "red" if v.inside is False else "yellow" if v.value is None else None
        table.add_row(v.point.key, text, v.point.unit, v.quality, _range(v.point.valid), v.raw, style=style)
    console.print(table)
    if reading.parameters:
        console.print("parameters: " + ", ".join(f"{k} = {v:g}" for k, v in reading.parameters.items()))
    for r in reading.requests:
        console.print(f"function {r.function}, registers {r.address}+{r.count}: {r.result}, {r.ms:.1f} ms", soft_wrap=True)


def _range(valid: tuple[float, float] | None) -> str:
    return "" if valid is None else f"{valid[0]:g} … {valid[1]:g}"
