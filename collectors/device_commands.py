"""Commands around device templates: list, show and check them, read a meter, write a register.

Heavy imports stay inside the functions, so that `park --help` answers at once.
"""

from __future__ import annotations

from math import isnan
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from collectors.device_read import DeviceReading
    from collectors.dlt645_template import MeterTemplate
    from collectors.meter_read import MeterReading
    from collectors.template import Template

Framing = Annotated[Literal["tcp", "rtu+tcp"],
                    typer.Option(help="rtu+tcp: RTU frames through a transparent serial server.")]

def device_list() -> None:
    """List the device templates that come with the platform."""
    from rich.table import Table

    from collectors.dlt645_template import load_all

    table = Table("template", "vendor", "models", "kind", "protocol", "points", "confidence")
    for t in load_all():
        table.add_row(t.template, t.vendor, ", ".join(t.models), t.kind, t.protocol, str(len(t.points)), t.confidence)
    _console().print(table)


def device_show(template: Annotated[str, typer.Argument(help="Name of a template, or a YAML file.")]) -> None:
    """Show a template: its points, requests per poll, traps and sources."""
    from collectors.dlt645_template import MeterTemplate, load_any

    found = load_any(template)
    if isinstance(found, MeterTemplate):
        _show_meter_template(found, _console())
    else:
        _show_template(found, _console())


def device_read(
    template: Annotated[str, typer.Argument(help="Name of a template (see `park device list`), or a YAML file.")],
    host: Annotated[str | None, typer.Option(help="Address of the meter or its gateway.")] = None,
    port: Annotated[int, typer.Option(min=1, max=65535)] = 502,
    unit: Annotated[int, typer.Option(min=0, max=255, help="Unit id (slave address).")] = 1,
    format_: Annotated[Literal["table", "json"], typer.Option("--format")] = "table",
    framing: Framing = "tcp",
    parameter: Annotated[list[str] | None, typer.Option(help="A ratio such as ct_ratio=40; may be repeated.")] = None,
    connection: Annotated[str | None, typer.Option(
        help="Instead of --host: rtu:///dev/ttyUSB0?baud=9600&parity=N, or serial:///dev/ttyUSB0?baud=2400&parity=E.")] = None,
    address: Annotated[str, typer.Option(
        help="Number on the front of a DL/T 645 or CJ/T 188 meter; AA... asks the only one on the line.")] = "AAAAAAAAAAAA",
    word_order: Annotated[Literal["big", "little"] | None, typer.Option(help="Of a Modbus meter set otherwise.")] = None,
    byte_order: Annotated[Literal["big", "little"] | None, typer.Option(help="Likewise.")] = None,
) -> None:
    """Read one meter and show every value beside its plausible range, and the requests used.

    Exit status 1 when the meter does not answer or any value lies outside its range or is no measured one (1e-30).
    """
    import asyncio
    import json

    from collectors import device_read as modbus
    from collectors import meter_read as meter
    from collectors.dlt645_template import MeterTemplate, load_any

    url, given, found = _connection(connection, framing, host, port), _parameters(parameter or []), load_any(template)
    if isinstance(found, MeterTemplate):
        from zoneinfo import ZoneInfo

        if found.protocol == "cjt188" and set(address) == {"A"}:
            address = "A" * 14
        bus = asyncio.run(meter.read_meter(found, url, address, given, ZoneInfo("Asia/Shanghai")))
        plain, outside = meter.as_plain(bus), any(bus.inside(p) is False for p in found.points)
        if format_ == "table":
            _show_meter(bus, _console())
    else:
        reading = asyncio.run(modbus.read_device(found.in_order(word_order, byte_order), url, unit, given))
        plain, outside = modbus.as_plain(reading), any(v.inside is False or v.doubt for v in reading.values)
        if format_ == "table":
            _show_reading(reading, _console())
    if format_ == "json":
        print(json.dumps(plain, ensure_ascii=False, indent=2))
    if outside:
        raise typer.Exit(1)


def device_write(
    template: Annotated[str, typer.Argument(help="Name of a Modbus template, or a YAML file.")],
    key: Annotated[str, typer.Argument(help="A point that the template declares `writable: true`.")],
    value: Annotated[float, typer.Argument(help="The new value, in the point's unit.")],
    host: Annotated[str | None, typer.Option(help="Address of the device or its gateway.")] = None,
    port: Annotated[int, typer.Option(min=1, max=65535)] = 502,
    unit: Annotated[int, typer.Option(min=0, max=255, help="Unit id (slave address).")] = 1,
    framing: Framing = "tcp",
    connection: Annotated[str | None, typer.Option(help="Instead of --host, as for `park device read`.")] = None,
    write: Annotated[bool, typer.Option("--write", help="Really write; without it nothing is sent.")] = False,
) -> None:
    """Write one register of a Modbus device and read it back. Off by default, twice: no template that comes with the
    platform declares a writable point, and nothing is sent without --write. `park collect` never writes."""
    import asyncio

    from collectors.device_read import write_point
    from collectors.template import load_template

    done = asyncio.run(write_point(load_template(template), _connection(connection, framing, host, port), unit, key, value,
                                   send=write))
    print(done)


def device_check(templates: Annotated[list[str] | None, typer.Argument(
        metavar="[TEMPLATE...]", help="Names or YAML files; without any, all that come with the platform.")] = None) -> None:
    """Run the tests inside device templates: raw registers against the values they must read as."""
    from collectors.dlt645_data import run_meter_test
    from collectors.dlt645_template import MeterTemplate, load_all, load_any
    from collectors.registers import run_test

    loaded = [load_any(t) for t in templates] if templates else load_all()
    wrong, tests = 0, 0
    for template in loaded:
        found = ([run_meter_test(template, t) for t in template.tests] if isinstance(template, MeterTemplate)
                 else [run_test(template, t) for t in template.tests])
        tests += len(found)
        for number, lines in enumerate(found, 1):
            wrong += len(lines)
            for line in lines:
                print(f"{template.template} test {number}: {line}")
        if not template.tests:
            wrong += 1
            print(f"{template.template}: has no tests")
    print(f"{len(loaded)} templates, {tests} tests, {wrong} wrong")
    if wrong:
        raise typer.Exit(1)


def _connection(connection: str | None, framing: str, host: str | None, port: int) -> str:
    if (connection is None) == (host is None):
        raise typer.BadParameter("expected either --host or --connection", param_hint="--host")
    return connection if connection is not None else f"{framing}://{host}:{port}"


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
        where = parameter.model_dump(exclude_none=True, exclude_defaults=True)
        console.print(f"parameter {name}: " + (str(where) if where else "must be given, it has no default"), soft_wrap=True)
    _show_background(template, console)


def _told(name: str, value: float) -> str:
    """A parameter and its value; one that only the user can tell says how."""
    return f"{name} not given: its values are missing (--parameter {name}=...)" if isnan(value) else f"{name} = {value:g}"


def _show_reading(reading: DeviceReading, console: Console) -> None:
    from rich.table import Table

    table = Table("key", "value", "unit", "quality", "plausible", "raw", title=f"{reading.template.template} at "
                  f"{reading.connection}, unit {reading.unit}")
    for v in reading.values:
        text = "no value" if v.value is None else f"{v.value:.9g}" + (f" ({v.label})" if v.label else "")
        style = "red" if v.inside is False or v.doubt else "yellow" if v.value is None else None
        plausible = ", ".join(filter(None, (_range(v.point.valid), v.doubt)))
        table.add_row(v.point.key, text, v.point.unit, v.quality, plausible, v.raw, style=style)
    console.print(table)
    if reading.parameters:
        console.print("parameters: " + ", ".join(_told(k, v) for k, v in reading.parameters.items()), markup=False)
    if reading.hint:
        console.print(reading.hint, style="bold", soft_wrap=True, markup=False)
    for r in reading.requests:
        console.print(f"function {r.function}, registers {r.address}+{r.count}: {r.result}, {r.ms:.1f} ms", soft_wrap=True)


def _range(valid: tuple[float, float] | None) -> str:
    return "" if valid is None else f"{valid[0]:g} … {valid[1]:g}"


def _show_meter_template(template: MeterTemplate, console: Console) -> None:
    from rich.table import Table

    console.print(f"{template.template} version {template.version}: {template.protocol} edition {template.edition}; "
                  f"confidence {template.confidence}{'' if template.verified else ', not verified'}", markup=False)
    table = Table("key", "quantity", "identifiers", "bytes", "decimals", "unit", "kind", "every", "plausible")
    for p in template.points:
        held = ", ".join(i.di for i in template.items if p.key in i.keys)
        table.add_row(p.key, str(p.quantity), held, str(p.bytes), str(p.decimals), p.unit, p.register_, p.every,
                      _range(p.valid))
    console.print(table)
    for name, parameter in template.parameters.items():
        console.print(f"parameter {name}: {parameter.model_dump(exclude_none=True)}", soft_wrap=True)
    _show_background(template, console)


def _show_background(template: Template | MeterTemplate, console: Console) -> None:
    for text in (*(f"trap: {trap}" for trap in template.traps), *(f"source: {source}" for source in template.source)):
        console.print(text, soft_wrap=True, markup=False)


def _show_meter(reading: MeterReading, console: Console) -> None:
    from rich.table import Table

    table = Table("key", "value", "unit", "quality", "plausible", "at", "raw",
                  title=f"{reading.template.template} at {reading.connection}, meter {reading.address}")
    for p in reading.template.points:
        v = reading.values.get(p.key)
        if v is None:
            continue
        text = "no value" if v.value is None else f"{v.value:.9g}"
        style = "red" if reading.inside(p) is False else "yellow" if v.value is None else None
        table.add_row(p.key, text, p.unit, v.quality, _range(p.valid), reading.at(v), v.raw, style=style)
    console.print(table)
    for q in reading.questions:
        console.print(f"data {q.di}: {q.result}, {q.ms:.1f} ms", soft_wrap=True)
