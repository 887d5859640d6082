"""Devices that publish by themselves: a subscriber that acknowledges a message only when its readings are on disk."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import paho.mqtt.client as mqtt

from collectors.health import ConnectionHealth, DeviceHealth
from collectors.modbus_link import now_ms
from collectors.mqtt_mapping import MqttDevice, mqtt_device, to_readings
from collectors.park_devices import FieldDevice, of_protocol
from collectors.readings import DeadLetter, Intake, Readings
from park.errors import InputError, ReadingError, StorageError
from park.mqtt import connect, new_client

log = logging.getLogger(__name__)

TOPICS_KEPT = 20_000
UNMAPPED_SHOWN = 20


@dataclass
class Listener:
    """A device with its health."""

    device: MqttDevice
    health: DeviceHealth
    unmapped: set[str] = field(default_factory=set)


def listeners_of(devices: Sequence[FieldDevice]) -> tuple[list[Listener], list[str]]:
    """MQTT devices of the catalogue, and what is wrong with those that cannot be heard."""
    listeners, mistakes = [], []
    for d in of_protocol(devices, "mqtt"):
        try:
            shortest = min((t.expected_s for t in d.targets.values()), default=60)
            listeners.append(Listener(mqtt_device(d), DeviceHealth(d.base, d.code, silent_after_ms=1000 * (3 * shortest + 30))))
        except InputError as exc:
            mistakes.append(f"device {d.code}: {exc}")
    return listeners, mistakes


@dataclass(frozen=True)
class Arrival:
    """A message as it arrived."""

    topic: str
    payload: bytes
    retained: bool
    at_ms: int


class Router:
    """Which devices a topic belongs to, and what its messages become."""

    def __init__(self, listeners: Sequence[Listener], base: str) -> None:
        self.listeners = list(listeners)
        self.filters = _filters(listeners)
        self.base = base
        self.counters: Counter[str] = Counter()
        self._routes: dict[str, list[tuple[Listener, dict[str, str]]]] = {}

    def adopt(self, listeners: Sequence[Listener]) -> None:
        """Hear these from now on. Those whose device is the same stay, with their health and what Sparkplug births told."""
        known = {(x.device.field.base, x.device.field.code): x for x in self.listeners}
        self.listeners = [_same(known.get((x.device.field.base, x.device.field.code)), x) for x in listeners]
        self.filters = _filters(self.listeners)
        self._routes.clear()

    def route(self, topic: str) -> list[tuple[Listener, dict[str, str]]]:
        """Devices of a topic with the captures; a capture `device` prefers the device that bears its name."""
        if topic not in self._routes:
            if len(self._routes) > TOPICS_KEPT:
                self._routes.clear()
            found = [(x, c) for x in self.listeners if (c := x.device.pattern.match(topic)) is not None]
            named = [(x, c) for x, c in found if "device" in c and _bears(x.device.field.code, c["device"])]
            self._routes[topic] = named or found
        return self._routes[topic]

    def take(self, message: Arrival) -> list[Readings | DeadLetter]:
        """What one message becomes; never raises for what a device sends."""
        self.counters["messages"] += 1
        items: list[Readings | DeadLetter] = []
        found = self.route(message.topic)
        self.counters["not_routed"] += not found  # of a device that has just left the catalogue
        for listener, captures in found:
            device = listener.device
            if message.retained and device.mapping.time_unit == "none":
                self.counters["retained_without_time"] += 1  # an old value must not get the present time
                continue
            try:
                readings, unmapped, newest = to_readings(device, captures, message.payload, message.at_ms)
            except ReadingError as exc:
                listener.health.errors[exc.reason] += 1
                self.counters[exc.reason] += 1
                items.append(DeadLetter(device.field.base, exc.reason, f"{device.field.code}, {message.topic}: {exc}"[:500],
                                        message.payload[:65536]))
                continue
            if len(readings) or not unmapped:
                listener.health.answered(message.at_ms)
            if newest is not None and not message.retained:  # the broker may have kept a retained one for weeks
                listener.health.clock.note(newest - message.at_ms)
            self._note_unmapped(listener, unmapped)
            listener.health.readings += len(readings)
            if len(readings):
                items.append(readings)
        return items

    def requests(self) -> list[tuple[str, bytes]]:
        """(topic, payload) to publish now: requests for Sparkplug births."""
        now = time.monotonic()
        asked = dict(r for x in self.listeners for r in x.device.mapping.edge_nodes.rebirths(now))
        self.counters["rebirths"] += len(asked)
        return list(asked.items())

    def _note_unmapped(self, listener: Listener, unmapped: Sequence[str]) -> None:
        new = set(unmapped) - listener.unmapped
        self.counters["unmapped"] += len(unmapped)
        if new and len(listener.unmapped) < 1000:
            listener.unmapped |= new
            listener.health.notes["unmapped"] = sorted(listener.unmapped)[:UNMAPPED_SHOWN]


def _filters(listeners: Sequence[Listener]) -> frozenset[str]:
    """Topic filters to subscribe to."""
    return frozenset(x.device.pattern.subscription for x in listeners)


def _same(known: Listener | None, wanted: Listener) -> Listener:
    return known if known is not None and known.device.field == wanted.device.field else wanted


def _bears(code: str, name: str) -> bool:
    return code == name or code.endswith(f".{name}")


class MqttSubscriber(threading.Thread):
    """Takes messages from the broker and gives them to the intake on the drivers' event loop."""

    def __init__(self, router: Router, url: str, client_id: str, intake: Intake, loop: asyncio.AbstractEventLoop, *,
                 clock_ms: Callable[[], int] = now_ms, retry_s: tuple[float, float] = (0.5, 10.0)) -> None:
        super().__init__(name="mqtt-devices", daemon=True)
        self.router = router
        self.url = url
        self.client_id = client_id
        self.connected = False
        self.connects = 0
        self.errors: Counter[str] = Counter()
        self._intake = intake
        self._loop = loop
        self._clock_ms = clock_ms
        self._retry_s = retry_s
        self._ending = threading.Event()
        self._lost = False
        self._arrived: list[tuple[Arrival, int, int]] = []
        self._subscribed: frozenset[str] = frozenset()

    def stop(self) -> None:
        """End the thread; what was not acknowledged comes again at the next start."""
        self._ending.set()

    def run(self) -> None:
        """Connect, listen, and begin again after every loss."""
        wait_s = self._retry_s[0]
        while not self._ending.is_set():
            try:
                client = self._connect()
                wait_s = self._retry_s[0]
                self._listen(client)
                client.disconnect()
            except (OSError, ValueError) as exc:
                self.errors["connect"] += 1
                log.warning("mqtt devices: no broker: %s", exc)
            except Exception:  # the thread must outlive any surprise
                log.exception("mqtt devices: a surprise; connecting again")
            self.connected = False
            self._ending.wait(wait_s)
            wait_s = min(wait_s * 2, self._retry_s[1])

    def _connect(self) -> mqtt.Client:
        client = new_client(self.url, self.client_id, manual_ack=True)
        client.on_message = self._on_message
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        self._lost = False
        self._arrived.clear()
        connect(client, self.url)
        return client

    def _listen(self, client: mqtt.Client) -> None:
        while not self._ending.is_set() and not self._lost:
            if client.loop(0.1) != mqtt.MQTT_ERR_SUCCESS:
                return
            if self.connected and self._subscribed != self.router.filters:
                self._subscribe(client, self.router.filters)
            if self._arrived:
                arrived, self._arrived = self._arrived, []
                self._store(client, arrived)

    def _subscribe(self, client: mqtt.Client, wanted: frozenset[str]) -> None:
        """Bring the session to the topics of the present catalogue, without breaking the connection."""
        for topic in sorted(wanted - self._subscribed):
            client.subscribe(topic, qos=1)
        for topic in sorted(self._subscribed - wanted):
            client.unsubscribe(topic)
        self._subscribed = wanted

    def health(self) -> ConnectionHealth:
        """The connection to the broker on which devices publish."""
        answers = [x.health.last_answer for x in self.router.listeners if x.health.last_answer is not None]
        state = "online" if self.connected else "offline" if self.errors else "unknown"
        return ConnectionHealth(
            f"mqtt devices at {self.url.rsplit('@', 1)[-1]}", "mqtt", state, max(answers, default=None), None, self.errors,
            len(self.router.listeners), self.router.counters["messages"], self.connects,
            frozenset(x.device.field.base for x in self.router.listeners))

    def _store(self, client: mqtt.Client, arrived: Sequence[tuple[Arrival, int, int]]) -> None:
        while not self._ending.is_set():
            done = asyncio.run_coroutine_threadsafe(self._take([a for a, _, _ in arrived]), self._loop)
            try:
                done.result(30)
                break
            except StorageError as exc:
                log.error("mqtt devices: %s; messages wait at the broker", exc)
                time.sleep(1.0)
        else:
            return
        for _, mid, qos in arrived:
            if qos:
                client.ack(mid, qos)
        for topic, payload in self.router.requests():
            client.publish(topic, payload, qos=0)

    async def _take(self, arrived: Sequence[Arrival]) -> None:
        await self._intake.store([item for message in arrived for item in self.router.take(message)])

    def _on_connect(self, client: mqtt.Client, _user: Any, _flags: Any, reason: Any, _props: Any) -> None:
        if reason.is_failure:
            log.error("mqtt devices: the broker refuses the connection: %s", reason)
            self.errors["refused"] += 1
            self._lost = True
            return
        self.connected = True
        self.connects += 1
        self._subscribed = frozenset()  # the loop subscribes: to a session that the broker still has it costs nothing

    def _on_disconnect(self, *_: Any) -> None:
        self._lost = True
        if not self._ending.is_set():
            self.errors["lost"] += 1

    def _on_message(self, _client: mqtt.Client, _user: Any, message: mqtt.MQTTMessage) -> None:
        arrival = Arrival(message.topic, bytes(message.payload), message.retain, self._clock_ms())
        self._arrived.append((arrival, message.mid, message.qos))
