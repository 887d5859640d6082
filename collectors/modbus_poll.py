"""Polling: one task a connection, its units and groups in phase slots, so that requests do not bunch."""

from __future__ import annotations

import asyncio
import gc
import heapq
import logging
import math
import time
import zlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from collectors.health import DeviceHealth
from collectors.modbus_link import ModbusLink, now_ms, parse_connection
from collectors.modbus_unit import ModbusUnit
from collectors.park_devices import FieldDevice, of_protocol
from collectors.readings import Intake, Readings
from collectors.template import Template, load_template
from park.errors import DeviceError, DeviceTimeout, ParkError

log = logging.getLogger(__name__)

SPREAD_S = 10.0
"""The first poll of every group falls within this time after start, whatever its period."""


SLOT_S = 0.025
"""Polls begin at multiples of this: one wake-up of the loop serves all gateways of a slot, and forty slots a second keep
them from bunching."""

OPEN_PAUSE_MAX_S = 30.0


class Named(Protocol):
    """Where a connection goes."""

    @property
    def url(self) -> str:
        """As the catalogue has it."""


class PolledLink(Protocol):
    """A connection of any polled protocol."""

    requests: int

    @property
    def is_open(self) -> bool:
        """Whether the connection stands."""

    async def open(self) -> None:
        """Connect; DeviceTimeout."""

    def close(self) -> None:
        """Drop the connection."""


class PolledUnit(Protocol):
    """A device behind a connection: its groups of points have periods, `poll` reads one of them."""

    field: FieldDevice
    health: DeviceHealth

    @property
    def groups(self) -> Sequence[Any]:
        """What is read together; each has `every_s`."""

    async def poll(self, link: Any, group: Any, now_s: float, at_ms: Callable[[], int]) -> Readings | None:
        """Readings, or None when there are none; never raises for what a device does."""


class Gateway:
    """One connection and the units behind it."""

    def __init__(self, endpoint: Named, units: Sequence[PolledUnit], link: PolledLink) -> None:
        self.endpoint = endpoint
        self.units = units
        self.link = link
        self.late_polls = 0
        self.on_poll: Callable[[float], None] | None = None  # told the seconds from due to done of each poll
        self._open_failures = 0
        self._open_again_at = 0.0

    async def run(self, intake: Intake, *, clock_ms: Callable[[], int] = now_ms) -> None:
        """Poll until cancelled; the link is closed then."""
        try:
            await self._run(intake, clock_ms)
        finally:
            self.link.close()

    async def _run(self, intake: Intake, clock_ms: Callable[[], int]) -> None:
        jobs = first_polls(self.endpoint.url, self.units, time.monotonic())
        number = len(jobs)
        while jobs:
            due, _, unit, group = jobs[0]
            wait = due - time.monotonic()
            if wait > 0:
                await asyncio.sleep(wait)
            heapq.heappop(jobs)
            await self._poll(unit, group, intake, clock_ms)
            if self.on_poll is not None:
                self.on_poll(time.monotonic() - due)
            following = due + group.every_s
            now = time.monotonic()
            if following < now:  # overrun: leave out whole periods, keep the phase
                missed = int((now - following) // group.every_s) + 1
                self.late_polls += missed
                unit.health.errors["overrun"] += missed
                following += missed * group.every_s
            number += 1
            heapq.heappush(jobs, (following, number, unit, group))

    async def _poll(self, unit: PolledUnit, group: Any, intake: Intake, clock_ms: Callable[[], int]) -> None:
        if not self.link.is_open and not await self._opened(unit):
            return
        try:
            readings = await unit.poll(self.link, group, time.monotonic(), clock_ms)
        except asyncio.CancelledError:
            raise
        except Exception:  # one unit's surprise must not stop its neighbours on the gateway
            unit.health.failed("internal")
            if unit.health.errors["internal"] <= 3:
                log.exception("device %s: the poll met a surprise", unit.field.code)
            return
        if readings is not None and len(readings):
            intake.add(readings)

    async def _opened(self, unit: PolledUnit) -> bool:
        """Open the link, with growing pauses between attempts; every unit behind a dead gateway is told."""
        now = time.monotonic()
        if now < self._open_again_at:
            unit.health.failed("connect")
            return False
        try:
            await self.link.open()
        except DeviceTimeout as exc:
            if self._open_failures == 0:
                log.warning("%s", exc)
            self._open_failures += 1
            self._open_again_at = time.monotonic() + min(2.0 ** (self._open_failures - 1), OPEN_PAUSE_MAX_S)
            unit.health.failed("connect")
            return False
        self._open_failures = 0
        return True

    async def poll_once(self, intake: Intake, *, clock_ms: Callable[[], int] = now_ms) -> None:
        """Every unit and group one time, for commissioning."""
        try:
            for unit in self.units:
                for group in unit.groups:
                    await self._poll(unit, group, intake, clock_ms)
        finally:
            self.link.close()


SETTLED_S = 5.0


def settle_memory() -> None:
    """Call after devices were made or dropped: what lives as long as the catalogue is left out of the garbage collector's
    walks, which would stop all polls for a third of a second with 5,000 meters. What the connections need follows."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    asyncio.get_running_loop().call_later(SETTLED_S, gc.freeze)


Job = tuple[float, int, PolledUnit, Any]


def first_polls(url: str, units: Sequence[PolledUnit], now: float) -> list[Job]:
    """The first poll of every group as a heap: units spread over the period, gateways shifted against each other."""
    jobs: list[Job] = []
    shift = (zlib.crc32(url.encode()) % 1000) / 1000
    pairs = [(u, g) for u in units for g in u.groups]
    for k, (unit, group) in enumerate(pairs):
        phase = (k / len(pairs) + shift) % 1.0
        due = now + phase * min(group.every_s, SPREAD_S)
        jobs.append((math.ceil(due / SLOT_S) * SLOT_S, k, unit, group))
    heapq.heapify(jobs)
    return jobs


def gateways(devices: Iterable[FieldDevice], load: Callable[[str], Template] = load_template
             ) -> tuple[list[Gateway], list[str]]:
    """Modbus devices grouped by connection, and what is wrong with those that cannot be polled."""
    by_url: dict[str, list[ModbusUnit]] = {}
    mistakes: list[str] = []
    templates: dict[str, Template] = {}
    for d in of_protocol(devices, "modbus"):
        assert d.device.connection is not None and d.device.template is not None
        try:
            if d.device.template not in templates:
                templates[d.device.template] = load(d.device.template)
            parse_connection(d.device.connection)
            unit = ModbusUnit(d, templates[d.device.template])
        except (ParkError, DeviceError) as exc:
            mistakes.append(f"device {d.code}: {exc}")
            continue
        mistakes += unit.mistakes
        if unit.groups:
            by_url.setdefault(d.device.connection, []).append(unit)
        else:
            mistakes.append(f"device {d.code}: no point of the catalogue takes a key of it; it is not polled")
    return [modbus_gateway(url, units) for url, units in by_url.items()], mistakes


def modbus_gateway(url: str, units: Sequence[ModbusUnit]) -> Gateway:
    """A Modbus connection with its units."""
    endpoint = parse_connection(url)
    delay = max((u.template.limits.connect_delay_ms for u in units), default=0) / 1000
    return Gateway(endpoint, units, ModbusLink(endpoint, connect_delay_s=delay))
