"""All connections that are polled, whatever their protocol: Modbus gateways and lines of DL/T 645 meters."""

from __future__ import annotations

from collections.abc import Sequence

from collectors.dlt645_unit import meter_gateways
from collectors.modbus_poll import Gateway, gateways
from collectors.park_devices import FieldDevice


def polled_gateways(devices: Sequence[FieldDevice]) -> tuple[list[Gateway], list[str]]:
    """Connections with their devices, and what is wrong with those that cannot be polled.

    A connection belongs to one protocol: two masters with different frames on one line would hear each other's answers.
    """
    found, mistakes = gateways(devices)
    meters, more = meter_gateways(devices)
    taken = {g.endpoint.url for g in found}
    for line in meters:
        if line.endpoint.url in taken:
            more += [f"device {u.field.code}: its connection {line.endpoint.url} is polled by Modbus already"
                     for u in line.units]
        else:
            found.append(line)
    return found, mistakes + more
