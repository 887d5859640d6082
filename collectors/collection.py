"""Everything that runs for the present catalogue of one collector, and what it tells of its health."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from collectors.gateway import Gateway
from collectors.health import ConnectionHealth, DeviceHealth, SpoolAlarm, health_message, health_topic
from collectors.health_readings import Health, health_readings
from collectors.hj212_health import port_words, uplink_words
from collectors.hj212_server import Hj212Server
from collectors.intake import SpoolIntake
from collectors.modbus_link import now_ms
from collectors.mqtt_devices import MqttSubscriber, Router
from collectors.park_devices import FieldDevice
from collectors.publish import Publisher
from collectors.spool import Spool, SpoolSize
from park.errors import InputError, SetupError

DEFAULT_HJ212_PORT = 9212


@dataclass(frozen=True)
class CollectOptions:
    """How a collector runs. `source` names it for ever: with `seq` it is what ingest knows a batch by."""

    source: str
    mqtt_url: str
    data_dir: Path
    hj212_host: str = "0.0.0.0"
    hj212_port: int = DEFAULT_HJ212_PORT
    hj212_always: bool = False  # listen also while the catalogue has no logger, so that the first one can be adopted
    health_s: float = 10.0
    reload_s: float = 1.0  # how long one look for a change may take; also what stopping may wait for
    spool_max_mb: int = 2048
    spool_full: Literal["oldest", "newest"] = "oldest"
    confirm_after_s: float = 300.0
    flush_s: float = 0.2


@dataclass
class Collection:
    """Everything that runs for the present catalogue."""

    options: CollectOptions
    spool: Spool
    intake: SpoolIntake
    publisher: Publisher
    bases: list[str] = field(default_factory=list)
    polls: dict[str, tuple[Gateway, asyncio.Task[None]]] = field(default_factory=dict)
    hj212: Hj212Server | None = None
    hj212_port: int | None = None
    control: asyncio.Server | None = None
    router: Router | None = None
    subscriber: MqttSubscriber | None = None
    devices: Sequence[FieldDevice] = ()
    mistakes: list[str] = field(default_factory=list)
    reloads: int = 0
    spool_alarm: SpoolAlarm = field(default_factory=SpoolAlarm)
    spool_size: SpoolSize | None = None  # what was left when the collection was closed

    def health(self) -> list[DeviceHealth]:
        """Health of every device."""
        found = [u.health for gateway, _ in self.polls.values() for u in gateway.units]
        found += [x.health for x in (self.hj212.loggers.values() if self.hj212 else ())]
        found += [x.health for x in (self.router.listeners if self.router else ())]
        return found

    def connections(self) -> list[ConnectionHealth]:
        """Health of every connection."""
        found = [gateway.health() for gateway, _ in self.polls.values()]
        if self.subscriber is not None:
            found.append(self.subscriber.health())
        if self.hj212 is not None:
            answers = [x.health.last_answer for x in self.hj212.loggers.values() if x.health.last_answer is not None]
            found.append(ConnectionHealth(
                f"hj212://{self.options.hj212_host}:{self.hj212_port}", "hj212", "online", max(answers, default=None), None,
                dict(self.hj212.counters.rejected), len(self.hj212.loggers), self.hj212.counters.frames,
                bases=frozenset(x.health.base for x in self.hj212.loggers.values())))
        return found

    def health_by_device(self) -> Health:
        """Health of every device together with that of its connection."""
        found: dict[tuple[str, str], tuple[DeviceHealth, ConnectionHealth | None]] = {}
        for gateway, _ in self.polls.values():
            connection = gateway.health()
            found |= {(u.health.base, u.health.device): (u.health, connection) for u in gateway.units}
        others = {c.protocol: c for c in self.connections() if c.protocol in ("mqtt", "hj212")}
        heard = [x.health for x in self.router.listeners] if self.router else []
        found |= {(h.base, h.device): (h, others.get("mqtt")) for h in heard}
        loggers = [x.health for x in self.hj212.loggers.values()] if self.hj212 else []
        return found | {(h.base, h.device): (h, others.get("hj212")) for h in loggers}

    async def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """What the control socket was asked: `send` a command to a data logger, `strangers` that are heard."""
        if self.hj212 is None:
            raise SetupError("this collector receives no HJ 212: its catalogue has no such device")
        if request["op"] == "strangers":
            return {"strangers": [s.plain() for s in self.hj212.strangers.by_mn.values() if s.mn not in self.hj212.loggers]}
        if request["op"] == "send":
            outcome = await self.hj212.command(request["mn"], request["cn"], request["fields"])
            return outcome.plain(request.get("language", "zh"))
        raise InputError(f"expected op send or strangers, got {request['op']!r}")

    def tell_health(self) -> None:
        """Publish the health of each base, and give the readings of points that follow it."""
        for readings in health_readings(self.devices, self.health_by_device(), now_ms()):
            self.intake.add(readings)
        devices, size, now = self.health(), self.spool.size(), now_ms()
        sent = self.publisher.counters
        alarm = self.spool_alarm.judge(size, self.spool.dropped_at, now / 1000, refused=self.intake.refused)
        flow = {"full": self.options.spool_full, "alarm": alarm, "pending_readings": self.intake.pending_readings,
                "intake_dropped_readings": self.intake.dropped_readings,
                "unconfirmed": sent.unconfirmed, "resent": sent.resent, "confirmation": sent.confirmation}
        connections = self.connections()
        for base in self.bases:
            mine = [d for d in devices if d.base == base]
            lines = [c for c in connections if base in c.bases]
            port = self.hj212 if self.hj212 is not None and self.hj212.base == base else None
            ups = uplink_words(self.hj212.uplinks, base) if self.hj212 is not None else []
            self.publisher.note(health_topic(base, self.options.source), health_message(
                mine, size, now, flow=flow | ({"uplinks": ups} if ups else {}), connections=lines, mistakes=self.mistakes,
                strangers=port.unknown if port else None, port=port_words(port) if port else None))
