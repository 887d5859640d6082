"""Polling DL/T 645 and CJ/T 188 meters: one task a line, as for Modbus, with what each meter refused remembered."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from collectors.dlt645_data import MeterValue, dated, decode_item
from collectors.dlt645_link import MeterLink, MeterRefusal, address_of
from collectors.dlt645_template import Item, MeterTemplate, plan_items
from collectors.health import DeviceHealth
from collectors.modbus_unit import BAD_REGISTER_RETRY_S, DEFAULT_EVERY, retry_pause_s
from collectors.park_devices import FieldDevice
from collectors.readings import Readings
from park.errors import DeviceError, DeviceTimeout, InputError, NotFound

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wanted:
    """The keys of one meter that are read at one period."""

    every_s: float
    keys: frozenset[str]


class MeterUnit:
    """One meter on a line; `poll` reads one of its groups."""

    def __init__(self, field_device: FieldDevice, template: MeterTemplate) -> None:
        device = field_device.device
        self.field = field_device
        self.template = template
        self.address = address_of(template, device.attributes.get("address", ""), device.attributes.get("meter_type"))
        self.parameters = {n: device.parameters.get(n, p.default if p.default is not None else 1.0)
                           for n, p in template.parameters.items()}
        self.health = DeviceHealth(field_device.base, field_device.code)
        self.mistakes: list[str] = []
        self.refused: set[str] = set()
        self.retry_at = 0.0
        self._zone = ZoneInfo(field_device.timezone)
        self._into: dict[str, tuple[str, float, float]] = {}
        self._said: dict[str, tuple[int | None, float | None]] = {}  # of dated values: what was published last
        self._forget_at = BAD_REGISTER_RETRY_S
        self.groups = self._groups(DEFAULT_EVERY | dict(device.every))

    def _groups(self, periods: dict[str, float]) -> list[Wanted]:
        keys: dict[str, set[str]] = {}
        for key, target in self.field.targets.items():
            try:
                p = self.template.point(key)
                self._into[key] = (target.point, *target.into(p.unit))
            except (InputError, NotFound) as exc:
                self.mistakes.append(f"device {self.field.code}: {exc}")
            else:
                keys.setdefault(p.every, set()).add(key)
        return [Wanted(periods[every], frozenset(some)) for every, some in keys.items()]

    async def poll(self, link: MeterLink, group: Wanted, now_s: float, at_ms: Callable[[], int]) -> Readings | None:
        """Read a group. None when the meter gave nothing; its health then tells why."""
        if now_s < self.retry_at:
            return None
        if now_s > self._forget_at:  # another chance for what was refused: a meter was changed or set up anew
            self._forget_at = now_s + BAD_REGISTER_RETRY_S
            self.refused.clear()
        began, asked = time.perf_counter(), link.requests
        values, arrived, failure = await self._read(link, group, at_ms)
        if not values and failure is not None:
            self._failed(failure, now_s)
            return None
        if failure is not None:
            self.health.errors[_kind(failure)] += 1
        at = at_ms()
        readings = self._readings(values, arrived, at)
        if values:
            self.health.answered(at, 1000 * (time.perf_counter() - began) / max(1, link.requests - asked))
            self.health.readings += len(readings)
        self.retry_at = 0.0
        return readings

    async def _read(self, link: MeterLink, group: Wanted, at_ms: Callable[[], int]
                    ) -> tuple[dict[str, MeterValue], dict[str, int], DeviceError | None]:
        """(values, arrival of each, what went wrong last). A refused block is asked for item by item."""
        values: dict[str, MeterValue] = {}
        times: dict[str, int | None] = {}
        arrived: dict[str, int] = {}
        asked: set[str] = set()
        failure: DeviceError | None = None
        while items := plan_items(self.template, group.keys - values.keys(), sorted(self.refused | asked)):
            for item in items:
                asked.add(item.di)
                at = at_ms()
                try:
                    data = await self._ask(link, item)
                except DeviceTimeout as exc:
                    return dated(self.template, values, times), arrived, exc
                except DeviceError as exc:
                    failure = exc
                    self._note_refusal(item, exc)
                    continue
                some, moments = decode_item(self.template, item, data, self.parameters, self._zone)
                new = {k: v for k, v in some.items() if k in group.keys and k not in values}
                values |= new
                arrived |= dict.fromkeys(new, at)
                times |= moments
        return dated(self.template, values, times), arrived, failure if not values else None

    async def _ask(self, link: MeterLink, item: Item) -> bytes:
        """One item; asked twice when the meter was there at the last poll, since a line loses a frame now and then."""
        limits = self.template.limits
        try:
            return await link.read(self.address, item.wire, limits.timeout_ms / 1000)
        except DeviceTimeout:
            if self.health.failures_in_row or self.health.last_answer is None:
                raise
            self.health.errors["repeated"] += 1
            return await link.read(self.address, item.wire, limits.timeout_ms / 1000)
        finally:
            if limits.gap_ms:
                await asyncio.sleep(limits.gap_ms / 1000)

    def _note_refusal(self, item: Item, exc: DeviceError) -> None:
        self.health.errors[_kind(exc)] += 1
        if isinstance(exc, MeterRefusal) and exc.no_such_data:
            self.refused.add(item.di)
            self.health.notes["refused"] = sorted(self.refused)
            log.warning("device %s: %s", self.field.code, exc)

    def _failed(self, exc: DeviceError, now_s: float) -> None:
        self.health.failed(_kind(exc))
        if not isinstance(exc, DeviceTimeout):
            self.health.errors[_kind(exc)] -= 1  # `_note_refusal` counted it
        if self.health.failures_in_row <= 2:
            log.warning("device %s: %s", self.field.code, exc)
        if isinstance(exc, DeviceTimeout):
            self.retry_at = now_s + retry_pause_s(self.health.failures_in_row, min(g.every_s for g in self.groups))

    def _readings(self, values: dict[str, MeterValue], arrived: dict[str, int], at: int) -> Readings:
        readings = Readings(self.field.base)
        for key, v in values.items():
            if self.template.field(key).at is not None:
                if self._said.get(key) == (v.at_ms, v.value):
                    continue  # last month's demand and yesterday's freeze do not change from poll to poll
                self._said[key] = v.at_ms, v.value
            point, factor, offset = self._into[key]
            readings.add(point, v.at_ms if v.at_ms is not None else arrived.get(key, at),
                         None if v.value is None else v.value * factor + offset, v.quality)
        return readings


def _kind(exc: DeviceError) -> str:
    return "timeout" if isinstance(exc, DeviceTimeout) else "refused" if isinstance(exc, MeterRefusal) else "garbled"
