"""Polling: one task a connection, its units and groups in phase slots, so that requests do not bunch.

The same for every polled protocol; `polled` puts connections and units together. A changed catalogue is taken over by
`Gateway.adopt` without touching the units that stay: they keep their phase, what they have learned, and the connection.
"""

from __future__ import annotations

import asyncio
import gc
import heapq
import logging
import math
import time
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from collectors.health import ConnectionHealth, DeviceHealth
from collectors.modbus_link import now_ms
from collectors.park_devices import FieldDevice
from collectors.readings import Intake, Readings
from park.errors import DeviceTimeout

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
    connects: int
    connect_delay_s: float

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
    template: Any
    health: DeviceHealth
    mistakes: list[str]

    @property
    def groups(self) -> Sequence[Any]:
        """What is read together; each has `every_s`."""

    async def poll(self, link: Any, group: Any, now_s: float, at_ms: Callable[[], int]) -> Readings | None:
        """Readings, or None when there are none; never raises for what a device does."""


Job = tuple[float, int, PolledUnit, Any]
"""When it is due (monotonic), a number that keeps the order, and what is polled."""


class Gateway:
    """One connection and the units behind it."""

    def __init__(self, endpoint: Named, units: Sequence[PolledUnit], link: PolledLink, protocol: str = "modbus") -> None:
        self.endpoint = endpoint
        self.units = list(units)
        self.link = link
        self.protocol = protocol
        self.connect_errors: Counter[str] = Counter()
        self.late_polls = 0
        self.on_poll: Callable[[float], None] | None = None  # told the seconds from due to done of each poll
        self._open_failures = 0
        self._open_again_at = 0.0
        self._jobs: list[Job] = []
        self._number = 0
        self._wake: asyncio.Future[None] | None = None

    def adopt(self, units: Sequence[PolledUnit]) -> None:
        """Poll these from now on. Those that are here already keep their next polls; a poll under way is brought to its end."""
        new = [u for u in units if u not in self.units]
        self.units = list(units)
        self._jobs = [job for job in self._jobs if job[2] in self.units]
        self._plan(new)
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    def _plan(self, units: Sequence[PolledUnit]) -> None:
        """Add the first polls of units to the plan."""
        for due, _, unit, group in first_polls(self.endpoint.url, units, time.monotonic()):
            self._push(due, unit, group)

    def _push(self, due: float, unit: PolledUnit, group: Any) -> None:
        self._number += 1
        heapq.heappush(self._jobs, (due, self._number, unit, group))

    async def run(self, intake: Intake, *, clock_ms: Callable[[], int] = now_ms) -> None:
        """Poll until cancelled; the link is closed then."""
        self._jobs.clear()
        self._plan(self.units)
        try:
            while True:
                await self._until_due()
                if self._jobs and self._jobs[0][0] <= time.monotonic():
                    due, _, unit, group = heapq.heappop(self._jobs)
                    await self._poll(unit, group, intake, clock_ms)
                    self._follow(due, unit, group)
        finally:
            self._jobs.clear()
            self.link.close()

    async def _until_due(self) -> None:
        """Sleep until the next poll is due, or until `adopt` changes the plan."""
        wait = self._jobs[0][0] - time.monotonic() if self._jobs else 3600.0
        if wait <= 0:
            return
        loop = asyncio.get_running_loop()
        self._wake = loop.create_future()
        timer = loop.call_later(wait, _ring, self._wake)
        try:
            await self._wake
        finally:
            timer.cancel()

    def _follow(self, due: float, unit: PolledUnit, group: Any) -> None:
        """Plan the next poll of a group; whole periods that are over already are left out, the phase stays."""
        now = time.monotonic()
        if self.on_poll is not None:
            self.on_poll(now - due)
        following = due + group.every_s
        if following < now:
            missed = int((now - following) // group.every_s) + 1
            self.late_polls += missed
            unit.health.errors["overrun"] += missed
            following += missed * group.every_s
        if unit in self.units:
            self._push(following, unit, group)

    def health(self) -> ConnectionHealth:
        """The connection as its units found it."""
        found = [u.health for u in self.units]
        answers = [h.last_answer for h in found if h.last_answer is not None]
        latencies = [h.latency_ms for h in found if h.latency_ms is not None]
        state = "online" if self.link.is_open else "offline" if self._open_failures else "unknown"
        return ConnectionHealth(
            self.endpoint.url, self.protocol, state, max(answers, default=None),
            sum(latencies) / len(latencies) if latencies else None, self.connect_errors, len(found), self.link.requests,
            self.link.connects, frozenset(u.field.base for u in self.units))

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
            self.connect_errors["connect"] += 1
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


def _ring(wake: asyncio.Future[None]) -> None:
    if not wake.done():
        wake.set_result(None)


SETTLED_S = 5.0


def settle_memory(*, collect: bool = True) -> None:
    """Call after devices were made or dropped: what lives as long as the catalogue is left out of the garbage collector's
    walks, which would stop all polls for a third of a second with 5,000 meters. What the connections need follows. While
    polls run `collect` is left out: it is such a walk itself."""
    if collect:
        gc.unfreeze()
        gc.collect()
    gc.freeze()
    asyncio.get_running_loop().call_later(SETTLED_S, gc.freeze)


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
