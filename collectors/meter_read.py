"""Reading one DL/T 645 or CJ/T 188 meter by hand: every value of its template, and the questions that were asked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from zoneinfo import ZoneInfo

from collectors.dlt645_data import MeterValue, dated, decode_item
from collectors.dlt645_link import MeterAddress, MeterLink, address_of, parse_line
from collectors.dlt645_template import Item, MeterPoint, MeterTemplate, plan_items
from park.errors import DeviceError, DeviceTimeout


@dataclass(frozen=True)
class Question:
    """A data identifier that was asked for and how it ended."""

    di: str
    ms: float
    result: str


@dataclass
class MeterReading:
    """All that `park device read` shows of such a meter."""

    template: MeterTemplate
    connection: str
    address: str
    zone: ZoneInfo
    parameters: dict[str, float]
    values: dict[str, MeterValue] = field(default_factory=dict)
    questions: list[Question] = field(default_factory=list)

    def inside(self, p: MeterPoint) -> bool | None:
        """Whether the value lies in its plausible range; None without value or range."""
        v = self.values.get(p.key)
        if v is None or v.value is None or p.valid is None:
            return None
        return p.valid[0] <= v.value <= p.valid[1]

    def at(self, v: MeterValue) -> str:
        """The instant that the meter names for a value, base-local."""
        return "" if v.at_ms is None else datetime.fromtimestamp(v.at_ms / 1000, self.zone).isoformat(timespec="minutes")


async def read_meter(template: MeterTemplate, connection: str, address: str, given: Mapping[str, float], zone: ZoneInfo
                     ) -> MeterReading:
    """Ask for every key once, refused blocks item by item; DeviceTimeout when the meter gives nothing at all."""
    link = MeterLink(parse_line(connection), connect_delay_s=template.limits.connect_delay_ms / 1000)
    meter = address_of(template, address)
    parameters = {n: given.get(n, p.default if p.default is not None else 1.0) for n, p in template.parameters.items()}
    reading = MeterReading(template, connection, meter.address, zone, parameters)
    times: dict[str, int | None] = {}
    wanted, asked = {p.key for p in template.points}, list[str]()
    try:
        while items := plan_items(template, wanted - reading.values.keys(), asked):
            for item in items:
                asked.append(item.di)
                data = await _ask(link, reading, item, meter)
                if data is not None:
                    values, moments = decode_item(template, item, data, parameters, zone)
                    reading.values |= values
                    times |= moments
    except DeviceTimeout as exc:
        raise DeviceTimeout(f"{exc}; is it the number on the meter's front (--address; without it the only meter on the line "
                            "answers), its line, baud rate and parity (--connection)?") from exc
    finally:
        link.close()
    reading.address = link.answered or meter.address
    reading.values = dated(template, reading.values, times)
    return reading


async def _ask(link: MeterLink, reading: MeterReading, item: Item, meter: MeterAddress) -> bytes | None:
    limits, began, result = reading.template.limits, time.perf_counter(), "ok"
    try:
        return await link.read(meter, item.wire, limits.timeout_ms / 1000)
    except DeviceTimeout as exc:
        result = "no answer"
        if not reading.values:
            raise DeviceTimeout(str(exc)) from exc
    except DeviceError as exc:
        result = str(exc).rpartition(": ")[2]
    finally:
        reading.questions.append(Question(item.di, (time.perf_counter() - began) * 1000, result))
        await asyncio.sleep(limits.gap_ms / 1000)
    return None


def as_plain(reading: MeterReading) -> dict[str, object]:
    """The reading as JSON-ready data."""
    t = reading.template
    none = MeterValue(None, "missing", "")
    rows = [(p, reading.values.get(p.key, none)) for p in t.points]
    return {
        "template": t.template, "version": t.version, "confidence": t.confidence, "verified": t.verified,
        "connection": reading.connection, "address": reading.address, "parameters": reading.parameters,
        "values": [{"key": p.key, "quantity": p.quantity, "value": v.value, "unit": p.unit, "quality": v.quality,
                    "valid": p.valid, "inside": reading.inside(p), "register": p.register_,
                    "at": reading.at(v) or None, "raw": v.raw}
                   for p, v in rows],
        "requests": [{"di": q.di, "ms": round(q.ms, 2), "result": q.result} for q in reading.questions],
    }
