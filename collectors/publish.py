"""The publisher: a thread that drains the spool to the broker, QoS 1, and forgets a batch when ingest has committed it.

Each connection starts again at the oldest batch that is still in the spool, and what stays unconfirmed goes again after a
while: under the same `seq`, so ingest stores it once. What to send, and when a batch is done, is decided in `delivery`. A v5
broker that says "no matching subscribers" has stored nothing, so the batch stays here until ingest subscribes. A 3.1.1
broker does not say so: after each connection to one, the publisher gives ingest a moment to subscribe again.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

import msgspec
import paho.mqtt.client as mqtt

from collectors.delivery import COMMITTED, PUBACK, Delivery, Terms
from collectors.spool import Spool, Spooled
from park.errors import StorageError
from park.mqtt import connect, new_client

log = logging.getLogger(__name__)

NO_SUBSCRIBERS = 0x10
FAILED = 0x80
REFUSED = "the broker refuses the connection"
CONFIRMS = "ingest_confirms"
"""Mark in the spool: this source was once confirmed, so that only a confirmation counts from then on."""


class _Committed(msgspec.Struct):
    seq: list[int]


@dataclass
class PublishCounters:
    """What the publisher has done since its start. `batches` and `readings` left the spool as delivered."""

    batches: int = 0
    readings: int = 0
    connects: int = 0
    refused: int = 0
    resent: int = 0
    unconfirmed: int = 0
    connected: bool = False
    confirmation: str = ""
    last_error: str = ""


class Publisher(threading.Thread):
    """Runs until `stop`; reconnects with back-off for ever."""

    def __init__(self, spool: Spool, url: str, *, terms: Terms | None = None, retry_s: tuple[float, float] = (0.5, 10.0),
                 subscribe_grace_s: float = 5.0) -> None:
        super().__init__(name="publisher", daemon=True)
        self.spool = spool
        self.url = url
        self.retry_s = retry_s
        self.subscribe_grace_s = subscribe_grace_s
        self.counters = PublishCounters()
        self.delivery = Delivery(terms or Terms())
        if self.delivery.terms.confirm_after_s <= 0:
            self.delivery.mode = PUBACK
        elif spool.is_marked(CONFIRMS):
            self.delivery.mode = COMMITTED
        self.counters.confirmation = self.delivery.mode
        self._ending = threading.Event()
        self._notes: deque[tuple[str, bytes]] = deque(maxlen=64)
        self._acked: list[tuple[int, int]] = []  # (mid, reason code)
        self._confirmed: list[int] = []
        self._undeleted: list[int] = []
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
        client.on_message = self._on_message
        client.max_inflight_messages_set(self.delivery.terms.window)
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
        self.delivery.begin(self.spool.newest, self.spool.size().batches)
        # not None: send nothing until then (and until all is answered), then begin at the oldest batch
        again_at = None if client.protocol == mqtt.MQTTv5 else time.monotonic() + self.subscribe_grace_s
        look_at = 0.0
        while not self._lost:
            now = time.monotonic()
            if self._ending.is_set() and (now > self._drain_until or self.spool.size().batches == 0):
                return
            if again_at is not None and not self.delivery.sent and now >= again_at:
                self.delivery.again()
                again_at = None
            rows = self.delivery.next_rows(self.spool) if again_at is None else []
            if now >= look_at:
                look_at = now + 1.0
                rows += self._late(now)
            for row in rows:
                self.delivery.was_sent(client.publish(row.topic, row.payload, qos=1).mid, row, now)
            while self._notes:
                topic, payload = self._notes.popleft()
                client.publish(topic, payload, qos=0)
            if client.loop(0.002 if rows else 0.02) != mqtt.MQTT_ERR_SUCCESS:
                return
            if self.settle(now):
                again_at = now + 1.0
            if (n := self.delivery.unanswered(now)) > 0:
                self._report(f"no acknowledgement for {n} batches in {self.delivery.terms.ack_timeout_s:.0f} s")
                return

    def _late(self, now: float) -> list[Spooled]:
        """Batches to send again; and the look at whether anybody confirms at all."""
        done = self.delivery.falls_back(now)
        if done:
            log.warning("publisher: no confirmation of commits in %.0f s: from now on the broker's acknowledgement counts; "
                        "a broker that dies may lose what it acknowledged", self.delivery.terms.confirm_after_s)
            self._deliver([b.seq for b in done])
        due = self.delivery.overdue(now)
        rows = self.spool.some(due)
        for seq in set(due) - {r.seq for r in rows}:
            del self.delivery.taken[seq]  # dropped for want of room
        self.counters.resent += len(rows)
        return rows

    def acknowledged(self, mid: int, code: int) -> None:
        """Note the broker's answer to a message; `settle` acts on it."""
        self._acked.append((mid, code))

    def confirmed(self, seqs: list[int]) -> None:
        """Note what ingest has committed; `settle` acts on it."""
        self._confirmed += seqs

    def settle(self, now: float) -> bool:
        """Forget what was delivered; True when the broker refused something, which then stays in the spool."""
        acked, self._acked = self._acked, []
        done: list[int] = []
        refused = False
        for mid, code in acked:
            if code == NO_SUBSCRIBERS or code >= FAILED:
                refused = True
                self.delivery.sent.pop(mid, None)
                self.counters.refused += 1
                self._report("nobody subscribes yet" if code == NO_SUBSCRIBERS else f"the broker refuses: reason 0x{code:02x}")
            elif (batch := self.delivery.was_taken(mid, now)) is not None and self.delivery.mode == PUBACK:
                done.append(batch.seq)
        confirmed, self._confirmed = self._confirmed, []
        if confirmed and self.delivery.was_confirmed(confirmed):
            with contextlib.suppress(StorageError):  # it is noted at the next start, when ingest confirms again
                self.spool.mark(CONFIRMS)
            log.info("publisher: ingest confirms its commits; batches stay in the spool until then")
        self._deliver(done + confirmed)
        self.counters.unconfirmed = len(self.delivery.taken)
        self.counters.confirmation = self.delivery.mode
        return refused

    def _deliver(self, done: list[int]) -> None:
        done = self._undeleted + done
        if not done:
            return
        try:
            batches, readings = self.spool.delete(done)
        except StorageError as exc:  # delivered all the same: forgotten as soon as the disk lets us
            self._undeleted = done
            self._report(str(exc))
            time.sleep(0.2)
            return
        self._undeleted = []
        self.counters.batches += batches
        self.counters.readings += readings

    def _report(self, text: str) -> None:
        if text != self.counters.last_error:
            log.warning("publisher: %s; %d batches wait in the spool", text, self.spool.size().batches)
        self.counters.last_error = text

    def _on_connect(self, client: mqtt.Client, _user: Any, _flags: Any, reason: Any, _props: Any) -> None:
        if reason.is_failure:
            self._report(f"{REFUSED}: {reason}")
            self._lost = True
            return
        client.subscribe(f"park/v1/+/{self.spool.source}/committed", 1)
        self.counters.connected = True
        self.counters.connects += 1
        self.counters.last_error = ""
        log.info("publisher: connected to %s", _shown(self.url))

    def _on_disconnect(self, _client: mqtt.Client, _user: Any, _flags: Any, reason: Any, _props: Any) -> None:
        self._lost = True
        if not self._ending.is_set() and not self.counters.last_error.startswith(REFUSED):
            self._report(f"connection to the broker lost: {reason}")

    def _on_publish(self, _client: mqtt.Client, _user: Any, mid: int, reason: Any, _props: Any) -> None:
        self.acknowledged(mid, int(reason.value))

    def _on_message(self, _client: mqtt.Client, _user: Any, message: mqtt.MQTTMessage) -> None:
        try:
            self.confirmed(msgspec.json.decode(message.payload, type=_Committed).seq)
        except (msgspec.DecodeError, msgspec.ValidationError) as exc:
            log.warning("publisher: not a confirmation on %s: %s", message.topic, exc)


def _shown(url: str) -> str:
    """The URL without its password."""
    return url.rsplit("@", 1)[-1]
