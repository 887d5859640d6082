"""The publisher: a thread that drains the spool to the broker in order, QoS 1, and forgets a batch only after its PUBACK.

Each connection starts again at the oldest batch that is still in the spool: what was sent without an acknowledgement goes
again under the same `seq`, and ingest stores it once. A v5 broker that says "no matching subscribers" has stored
nothing, so the batch stays here until ingest subscribes. A 3.1.1 broker does not say so: after each connection to one,
the publisher gives ingest a moment to subscribe again before it sends.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import paho.mqtt.client as mqtt

from collectors.spool import Spool
from park.mqtt import connect, new_client

log = logging.getLogger(__name__)

NO_SUBSCRIBERS = 0x10
FAILED = 0x80


@dataclass
class PublishCounters:
    """What the publisher has done since its start."""

    batches: int = 0
    readings: int = 0
    connects: int = 0
    refused: int = 0
    connected: bool = False
    last_error: str = ""


@dataclass
class InFlight:
    """Batches that were sent and not yet answered."""

    by_mid: dict[int, tuple[int, int]] = field(default_factory=dict)  # mid -> (seq, readings)
    oldest_sent: float = 0.0


class Publisher(threading.Thread):
    """Runs until `stop`; reconnects with back-off for ever."""

    def __init__(self, spool: Spool, url: str, *, window: int = 100, ack_timeout_s: float = 30.0,
                 retry_s: tuple[float, float] = (0.5, 10.0), subscribe_grace_s: float = 5.0) -> None:
        super().__init__(name="publisher", daemon=True)
        self.spool = spool
        self.url = url
        self.window = window
        self.ack_timeout_s = ack_timeout_s
        self.retry_s = retry_s
        self.subscribe_grace_s = subscribe_grace_s
        self.counters = PublishCounters()
        self._ending = threading.Event()
        self._notes: deque[tuple[str, bytes]] = deque(maxlen=64)
        self._acked: list[tuple[int, int]] = []  # (mid, reason code)
        self._lost = False
        self._drain_until = 0.0

    def note(self, topic: str, payload: bytes) -> None:
        """Publish a message that need not survive (health), when connected."""
        self._notes.append((topic, payload))

    def stop(self, drain_s: float = 1.0) -> None:
        """Send what waits for at most `drain_s`, then end."""
        self._drain_until = time.monotonic() + drain_s
        self._ending.set()
        self.join(drain_s + 5)

    def run(self) -> None:
        """Connect, drain, and begin again after every loss."""
        wait_s = self.retry_s[0]
        while not self._ending.is_set():
            try:
                client = self._connect()
            except (OSError, ValueError) as exc:
                self._report(f"no broker at {_shown(self.url)}: {exc}")
                self._ending.wait(wait_s)
                wait_s = min(wait_s * 2, self.retry_s[1])
                continue
            wait_s = self.retry_s[0]
            try:
                self._drain(client)
            except Exception:  # the thread must outlive any surprise, or readings would pile up in silence
                log.exception("the publisher meets a surprise and connects again")
                self._ending.wait(1.0)
            finally:
                self.counters.connected = False
                client.disconnect()

    def _connect(self) -> mqtt.Client:
        client = new_client(self.url, f"park-collect-{self.spool.source}")
        client.on_publish = self._on_publish
        client.on_disconnect = self._on_disconnect
        client.on_connect = self._on_connect
        client.max_inflight_messages_set(self.window)
        self._acked.clear()
        self._lost = False
        connect(client, self.url)
        deadline = time.monotonic() + 10
        while not self.counters.connected and not self._lost and time.monotonic() < deadline:
            if client.loop(0.1) != mqtt.MQTT_ERR_SUCCESS:
                break
        if not self.counters.connected:
            raise OSError(self.counters.last_error or "the broker does not answer CONNECT")
        return client

    def _drain(self, client: mqtt.Client) -> None:
        cursor, flight = 0, InFlight()
        # not None: send nothing until then (and until all is answered), then begin at the oldest batch
        again_at = None if client.protocol == mqtt.MQTTv5 else time.monotonic() + self.subscribe_grace_s
        while not self._lost:
            now = time.monotonic()
            if self._ending.is_set() and (now > self._drain_until or (not flight.by_mid and self.spool.size().batches == 0)):
                return
            if again_at is not None and not flight.by_mid and now >= again_at:
                cursor, again_at = 0, None
            sent = 0
            if again_at is None and self.spool.newest > cursor and len(flight.by_mid) < self.window // 2:
                for row in self.spool.after(cursor, self.window - len(flight.by_mid)):
                    mid = client.publish(row.topic, row.payload, qos=1).mid
                    flight.by_mid[mid] = (row.seq, row.n)
                    flight.oldest_sent = now if len(flight.by_mid) == 1 else flight.oldest_sent
                    cursor, sent = row.seq, sent + 1
            self._send_notes(client)
            if client.loop(0.002 if sent else 0.02) != mqtt.MQTT_ERR_SUCCESS:
                return
            if self.settle(flight, now):
                again_at = now + 1.0
            if flight.by_mid and now - flight.oldest_sent > self.ack_timeout_s:
                self._report(f"no acknowledgement for {len(flight.by_mid)} batches in {self.ack_timeout_s:.0f} s")
                return

    def acknowledged(self, mid: int, code: int) -> None:
        """Note the broker's answer to a message; `settle` acts on it."""
        self._acked.append((mid, code))

    def settle(self, flight: InFlight, now: float) -> bool:
        """Delete what was acknowledged; True when the broker refused something, which then stays in the spool."""
        if not self._acked:
            return False
        acked, self._acked = self._acked, []
        done: list[int] = []
        refused = False
        for mid, code in acked:
            seq, n = flight.by_mid.pop(mid, (0, 0))
            if not seq:
                continue
            if code == NO_SUBSCRIBERS or code >= FAILED:
                refused = True
                self.counters.refused += 1
                self._report("nobody subscribes yet" if code == NO_SUBSCRIBERS else f"the broker refuses: reason 0x{code:02x}")
                continue
            done.append(seq)
            self.counters.batches += 1
            self.counters.readings += n
        flight.oldest_sent = now
        self.spool.delete(done)
        return refused

    def _send_notes(self, client: mqtt.Client) -> None:
        while self._notes:
            topic, payload = self._notes.popleft()
            client.publish(topic, payload, qos=0)

    def _report(self, text: str) -> None:
        if text != self.counters.last_error:
            log.warning("publisher: %s; %d batches wait in the spool", text, self.spool.size().batches)
        self.counters.last_error = text

    def _on_connect(self, _client: mqtt.Client, _user: Any, _flags: Any, reason: Any, _props: Any) -> None:
        if reason.is_failure:
            self.counters.last_error = f"the broker refuses the connection: {reason}"
            self._lost = True
            return
        self.counters.connected = True
        self.counters.connects += 1
        self.counters.last_error = ""
        log.info("publisher: connected to %s", _shown(self.url))

    def _on_disconnect(self, _client: mqtt.Client, _user: Any, _flags: Any, reason: Any, _props: Any) -> None:
        self._lost = True
        if not self._ending.is_set():
            self._report(f"connection to the broker lost: {reason}")

    def _on_publish(self, _client: mqtt.Client, _user: Any, mid: int, reason: Any, _props: Any) -> None:
        self.acknowledged(mid, int(reason.value))


def _shown(url: str) -> str:
    """The URL without its password."""
    return url.rsplit("@", 1)[-1]
