"""All connections that are polled, whatever their protocol: Modbus gateways and lines of DL/T 645 and CJ/T 188 meters.

One assembly for all: devices of the catalogue with their templates become units, units with the same connection a gateway.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from collectors.dlt645_link import MeterLink, parse_line
from collectors.dlt645_template import load_meter
from collectors.dlt645_unit import MeterUnit
from collectors.gateway import Gateway, PolledLink, PolledUnit
from collectors.modbus_link import ModbusLink, parse_connection
from collectors.modbus_unit import ModbusUnit
from collectors.park_devices import FieldDevice, of_protocol
from collectors.template import load_template
from park.errors import InputError, ParkError


@dataclass(frozen=True)
class Polled:
    """A protocol: how its connections are read, its templates loaded, its units and links made."""

    protocol: str
    endpoint: Callable[[str], Any]
    load: Callable[[str], Any]
    unit: Callable[[FieldDevice, Any], PolledUnit]
    link: Callable[[Any], PolledLink]


MODBUS = Polled("modbus", parse_connection, load_template, ModbusUnit, ModbusLink)
METERS = Polled("dlt645", parse_line, load_meter, MeterUnit, MeterLink)

NOT_POLLED = "no point of the catalogue takes a key of it; it is not polled"

ORDERS = ("word_order", "byte_order")
"""Attributes of a Modbus device whose registers stand in another order than its template says."""

Known = Mapping[tuple[str, str], PolledUnit]
"""Units that run already, by base and device."""


def polled_gateways(devices: Sequence[FieldDevice], protocols: Sequence[Polled] = (MODBUS, METERS), known: Known | None = None
                    ) -> tuple[list[Gateway], list[str]]:
    """Connections with their devices, and what is wrong with those that cannot be polled.

    A unit of `known` whose device and template are the same is taken as it is. A connection belongs to one protocol: two
    masters with different frames on one line would hear each other's answers.
    """
    found: dict[str, Gateway] = {}
    mistakes: list[str] = []
    for protocol in protocols:
        units, wrong = _units(devices, protocol, known or {})
        mistakes += wrong
        for url, some in units.items():
            if url in found:
                mistakes += [f"device {u.field.code}: its connection {url} is polled by {found[url].protocol} already"
                             for u in some]
            else:
                found[url] = gateway_of(url, some, protocol)
    return list(found.values()), mistakes


def gateway_of(url: str, units: Sequence[PolledUnit], protocol: Polled = MODBUS) -> Gateway:
    """A connection with its units."""
    endpoint = protocol.endpoint(url)
    link = protocol.link(endpoint)
    link.connect_delay_s = max((u.template.limits.connect_delay_ms for u in units), default=0) / 1000
    return Gateway(endpoint, units, link, protocol.protocol)


def _units(devices: Sequence[FieldDevice], protocol: Polled, known: Known) -> tuple[dict[str, list[PolledUnit]], list[str]]:
    """Units of one protocol by connection, and mistakes."""
    by_url: dict[str, list[PolledUnit]] = {}
    mistakes: list[str] = []
    templates: dict[tuple[str, ...], Any] = {}
    for d in of_protocol(devices, protocol.protocol):
        name, url = d.device.template, d.device.connection
        try:
            if name is None or url is None:
                raise InputError(f"a {protocol.protocol} device needs template and connection")
            orders = tuple(d.device.attributes.get(k) for k in ORDERS) if protocol is MODBUS else ()
            key = (name, *map(repr, orders))
            if key not in templates:
                templates[key] = _loaded(protocol, name, orders, known)
            protocol.endpoint(url)
            unit = _same(known.get((d.base, d.code)), d, templates[key]) or protocol.unit(d, templates[key])
        except ParkError as exc:
            mistakes.append(f"device {d.code}: {exc}")
            continue
        mistakes += unit.mistakes
        if unit.groups:
            by_url.setdefault(url, []).append(unit)
        else:
            mistakes.append(f"device {d.code}: {NOT_POLLED}")
    return by_url, mistakes


def _loaded(protocol: Polled, name: str, orders: tuple[object, ...], known: Known) -> Any:
    """The template; the object that units have already when it says the same, so that it is compared once."""
    loaded = protocol.load(name)
    if orders:
        loaded = loaded.in_order(*orders)
    former = {id(u.template): u.template for u in known.values() if u.template.template == loaded.template}
    return next((t for t in former.values() if t == loaded), loaded)


def _same(unit: PolledUnit | None, device: FieldDevice, template: object) -> PolledUnit | None:
    return unit if unit is not None and unit.template is template and unit.field == device else None
