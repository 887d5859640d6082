"""One Modbus device behind a gateway: which registers it is asked for, what it refused, how long it is left alone.

A bad register costs only its own points: a refused read is split until the culprit is alone, and the split is kept.
A dead unit costs only its own points: it is asked again after growing pauses.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from collectors.health import DeviceHealth
from collectors.modbus_link import GATEWAY_NO_ANSWER, GATEWAY_NO_PATH, ILLEGAL_ADDRESS, ILLEGAL_VALUE, ModbusRefusal
from collectors.park_devices import FieldDevice
from collectors.planner import Read, plan_reads, split_read
from collectors.readings import Readings
from collectors.registers import Decoder, parameters_of
from collectors.template import Template, TemplatePoint
from park.errors import DeviceError, DeviceTimeout, InputError, NotFound
from park.quality import word_of

log = logging.getLogger(__name__)

DEFAULT_EVERY = {"fast": 5.0, "slow": 60.0}
BACKOFF_MAX_S = 60.0
BAD_REGISTER_RETRY_S = 3600.0


class Link(Protocol):
    """What a unit needs of a connection."""

    async def read(self, unit: int, function: int, address: int, count: int, timeout_s: float = 1.0) -> bytes:
        """Raw bytes of registers."""


Sleep = Callable[[float], Awaitable[None]]


@dataclass
class Group:
    """The points of one unit that are read together at one period, with their present reads."""

    every_s: float
    points: list[TemplatePoint]
    codes: list[str]
    factor: np.ndarray[tuple[int], np.dtype[np.float64]]
    offset: np.ndarray[tuple[int], np.dtype[np.float64]]
    reads: list[Read] = field(default_factory=list)
    bad: set[int] = field(default_factory=set)
    decoder: Decoder | None = None

    def __post_init__(self) -> None:
        self.converts = bool((self.factor != 1).any() or (self.offset != 0).any())


class ModbusUnit:
    """One device instance; `poll` reads one of its groups and returns what it got."""

    def __init__(self, field_device: FieldDevice, template: Template, *, sleep: Sleep = asyncio.sleep) -> None:
        self.field = field_device
        self.template = template
        self.unit_id = field_device.device.unit_id or 0
        self.mistakes: list[str] = []
        periods = DEFAULT_EVERY | dict(field_device.device.every)
        self.health = DeviceHealth(field_device.base, field_device.code)
        self.parameters = parameters_of(template, field_device.device.parameters)
        self._to_read = {n: p for n, p in template.parameters.items()
                         if p.address is not None and n not in field_device.device.parameters}
        self._sleep = sleep
        self.groups = self._groups(periods)
        self.retry_at = 0.0
        self._forget_bad_at = BAD_REGISTER_RETRY_S
        self._asked, self._asked_s = 0, 0.0  # requests of this poll and their time without pauses

    def _groups(self, periods: Mapping[str, float]) -> list[Group]:
        chosen: dict[str, list[tuple[TemplatePoint, str, tuple[float, float]]]] = {}
        for key, target in self.field.targets.items():
            try:
                p = self.template.point(key)
                row = p, target.point, target.into(p.unit)
                if lacking := [name for name in p.multiply_by if math.isnan(self.parameters[name])]:
                    raise InputError(f"{key} needs `parameters: {{{lacking[0]}: ...}}`; see `park device show "
                                     f"{self.template.template}`")
            except (InputError, NotFound) as exc:
                self.mistakes.append(f"device {self.field.code}: {exc}")
            else:
                chosen.setdefault(p.every, []).append(row)
        groups = []
        for every, rows in chosen.items():
            points = [p for p, _, _ in rows]
            groups.append(Group(periods[every], points, [c for _, c, _ in rows], np.array([f for _, _, (f, _) in rows]),
                                np.array([o for _, _, (_, o) in rows]), plan_reads(self.template, points)))
        return groups

    async def poll(self, link: Link, group: Group, now_s: float, at_ms: Callable[[], int]) -> Readings | None:
        """Read a group. None when the unit gave nothing; its health then tells why.

        A silent unit is left alone until `retry_at` (monotonic seconds, as `now_s`).
        """
        if now_s < self.retry_at:
            return None
        if now_s > self._forget_bad_at:
            self._forget_bad_registers(now_s)
        try:
            if self._to_read:
                await self._read_parameters(link)
            at, self._asked, self._asked_s = at_ms(), 0, 0.0
            answers = await self._read_all(link, group)
        except (DeviceTimeout, ModbusRefusal, DeviceError) as exc:
            self._failed(exc, group, now_s)
            return None
        readings = self._decoded(group, answers, at)
        if len(readings):
            self.health.answered(at, 1000 * self._asked_s / max(1, self._asked))
            self.health.readings += len(readings)
        self.retry_at = 0.0
        return readings

    def _failed(self, exc: DeviceError, group: Group, now_s: float) -> None:
        silent = isinstance(exc, DeviceTimeout) or (
            isinstance(exc, ModbusRefusal) and exc.code in (GATEWAY_NO_PATH, GATEWAY_NO_ANSWER))
        kind = "timeout" if isinstance(exc, DeviceTimeout) else "gateway" if silent else _kind(exc)
        self.health.failed(kind)
        if self.health.failures_in_row <= 2:
            log.warning("device %s: %s", self.field.code, exc)
        if silent:
            shortest = min(g.every_s for g in self.groups)
            self.retry_at = now_s + retry_pause_s(self.health.failures_in_row, shortest)

    async def _read_parameters(self, link: Link) -> None:
        """Ratios that live in the device, read once before the first poll."""
        for name, p in list(self._to_read.items()):
            assert p.address is not None
            point = TemplatePoint(key=name, quantity="power_factor", address=p.address, type=p.type, unit="1", scale=p.scale,
                                  function=p.function)
            read = plan_reads(self.template, [point])[0]
            raw = await self._ask(link, read)
            value = float(Decoder(self.template, [point], [read], {}).decode([raw]).value[0])
            if not np.isfinite(value) or value <= 0:
                raise DeviceError(f"parameter {name} at {p.address}: expected a ratio above 0, got {value}; "
                                  "give it under `parameters` of the device")
            self.parameters[name] = value
            self.health.notes[name] = value
            del self._to_read[name]
            for g in self.groups:
                g.decoder = None

    async def _read_all(self, link: Link, group: Group) -> list[bytes | None]:
        """Answers in the order of `group.reads`, which grows where a read must be split."""
        answers: list[bytes | None] = []
        refused: DeviceError | None = None
        position = 0
        while position < len(group.reads):
            read = group.reads[position]
            try:
                answers.append(await self._ask(link, read))
            except ModbusRefusal as exc:
                if exc.code in (GATEWAY_NO_PATH, GATEWAY_NO_ANSWER):
                    raise
                if exc.code in (ILLEGAL_ADDRESS, ILLEGAL_VALUE):
                    self._split(group, position, exc)
                    continue
                self.health.errors[_kind(exc)] += 1
                answers.append(None)
                refused = exc
            except DeviceTimeout:
                raise
            except DeviceError as exc:
                self.health.errors[_kind(exc)] += 1
                answers.append(None)
                refused = exc
            position += 1
        if refused is not None and all(a is None for a in answers):
            self.health.errors[_kind(refused)] -= 1  # `_failed` counts it again
            raise refused
        return answers

    def _split(self, group: Group, position: int, exc: ModbusRefusal) -> None:
        """Replace a refused read by smaller ones; a lone refused point is left out and remembered."""
        read = group.reads[position]
        smaller = split_read(self.template, group.points, read)
        group.reads[position:position + 1] = smaller
        group.decoder = None
        if not smaller:
            (i,) = read.points
            group.bad.add(i)
            self.health.errors["bad_register"] += 1
            self.health.notes["bad_registers"] = sorted(group.points[k].key for g in self.groups for k in g.bad)
            log.warning("device %s: the point %s is left out: %s", self.field.code, group.points[i].key, exc)

    def _forget_bad_registers(self, now_s: float) -> None:
        """Once an hour the refused points get another chance: firmware is updated, modules are plugged in."""
        self._forget_bad_at = now_s + BAD_REGISTER_RETRY_S
        for group in self.groups:
            if group.bad:
                group.reads += plan_reads(self.template, group.points, sorted(group.bad), max_gap=0)
                group.bad.clear()
                group.decoder = None

    async def _ask(self, link: Link, read: Read) -> bytes:
        limits = self.template.limits
        begin = time.perf_counter()
        answer = await link.read(self.unit_id, read.function, read.address, read.count, limits.timeout_ms / 1000)
        self._asked += 1
        self._asked_s += time.perf_counter() - begin
        if limits.gap_ms:
            await self._sleep(limits.gap_ms / 1000)
        return answer

    def _decoded(self, group: Group, answers: list[bytes | None], at: int) -> Readings:
        if group.decoder is None:
            group.decoder = Decoder(self.template, group.points, group.reads, self.parameters)
        values = group.decoder.decode(answers)
        numbers = values.value * group.factor + group.offset if group.converts else values.value
        codes, words = group.codes, values.quality
        if values.flawless:  # nearly every poll
            n = len(codes)
            return Readings(self.field.base, codes.copy(), [at] * n, numbers.tolist(), ["good"] * n)
        if not values.present.all():
            rows = np.flatnonzero(values.present)
            numbers, words, codes = numbers[rows], words[rows], [codes[i] for i in rows]
        n = len(codes)
        return Readings(self.field.base, list(codes), [at] * n, [None if math.isnan(v) else v for v in numbers.tolist()],
                        [word_of(c) for c in words.tolist()])


def retry_pause_s(failures_in_row: int, shortest_s: float) -> float:
    """How long a silent device is left alone: its period, doubling to a minute."""
    return 0.999 * min(shortest_s * 2.0 ** min(failures_in_row - 1, 30), max(BACKOFF_MAX_S, shortest_s))


def _kind(exc: DeviceError) -> str:
    return f"exception_{exc.code}" if isinstance(exc, ModbusRefusal) else "garbled"
