"""The MQTT session of ingest: one that outlives restarts, acknowledged by hand after commit.

Messages go to the inbox of the writer that their source belongs to, so that readings of one source are written in
the order in which they came. While an inbox is full nothing is read from the broker, which keeps what it has.
"""

from __future__ import annotations

import logging
import time
import zlib
from collections.abc import Sequence
from threading import Event, Lock
from typing import Any

import paho.mqtt.client as mqtt

from ingest.confirm import FLUSH_S, Confirmations
from ingest.decoding import SUBSCRIPTIONS
from ingest.inbox import Inbox, Received
from ingest.session import BufferedClient
from park.mqtt import connect, new_client

log = logging.getLogger("ingest.mqtt")


class Subscriber:
    """`run` keeps the session until `stop` is set; `acknowledge` may be called from any thread.

    With a `group` the broker deals the messages out among the sessions of that group (shared subscriptions).
    """

    def __init__(self, url: str, client_id: str, inboxes: Sequence[Inbox], stop: Event, group: str = "") -> None:
        self.url = url
        self.group = group
        self.client_id = client_id
        self.inboxes = inboxes
        self.stop = stop
        self.connected = False
        self.n_received = 0
        self.confirmations = Confirmations()
        self._connection = 0
        self._client: BufferedClient | None = None
        self._lock = Lock()

    def run(self) -> None:
        """Connect, subscribe, and stay; start again with a new client whenever the loop's thread is gone."""
        wait_s = 0.5
        while not self.stop.is_set():
            try:
                client = self._open()
                wait_s = 0.5
            except OSError as exc:
                log.warning("no broker at %s: %s; next try in %.0f s", _shown(self.url), exc, wait_s)
                self.stop.wait(wait_s)
                wait_s = min(wait_s * 2, 15)
                continue
            while not self.stop.wait(FLUSH_S) and _loop_lives(client):
                self._confirm(client)
            self._confirm(client)
            self._close(client)

    def acknowledge(self, messages: Sequence[Received]) -> None:
        """Tell the broker that these are committed. Those of an earlier connection are not told: their numbers may
        mean other messages by now; the broker sends them again, and the ledger knows them."""
        self.confirmations.add(messages)
        with self._lock:
            client, connection = self._client, self._connection
            if client is None or not self.connected:
                return
            client.acknowledge([m.mid for m in messages if m.qos and m.connection == connection])

    def _confirm(self, client: mqtt.Client) -> None:
        """Tell the sources what is committed; without a connection it waits for the next one."""
        if self.connected:
            self.confirmations.flush(lambda topic, payload: client.publish(topic, payload, qos=1))

    def _open(self) -> BufferedClient:
        client = new_client(self.url, self.client_id, manual_ack=True, kind=BufferedClient)
        assert isinstance(client, BufferedClient)
        client.suppress_exceptions = True  # an exception in a callback would end the loop's thread unnoticed
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        connect(client, self.url, receive_maximum=min(65_535, max(i.most_messages for i in self.inboxes)))
        with self._lock:
            self._client = client
        client.loop_start()
        return client

    def _close(self, client: mqtt.Client) -> None:
        with self._lock:
            self._client, self.connected = None, False
        client.disconnect()
        client.loop_stop()

    def _on_connect(self, client: mqtt.Client, _: Any, flags: Any, reason: Any, __: Any) -> None:
        if reason.is_failure:
            log.error("the broker at %s refuses: %s", _shown(self.url), reason)
            return
        with self._lock:
            self._connection += 1
            self.connected = True
        log.info("connected to %s as %s, session %s", _shown(self.url), self.client_id,
                 "resumed" if flags.session_present else "new")
        client.subscribe([(f"$share/{self.group}/{topic}" if self.group else topic, 1) for topic in SUBSCRIPTIONS])

    def _on_disconnect(self, _: mqtt.Client, __: Any, ___: Any, reason: Any, ____: Any) -> None:
        self.connected = False
        if not self.stop.is_set():
            log.warning("connection to the broker lost: %s", reason)

    def _on_message(self, _: mqtt.Client, __: Any, message: mqtt.MQTTMessage) -> None:
        self.n_received += 1
        topic = message.topic
        inbox = self.inboxes[zlib.crc32(topic.rpartition("/")[0].encode()) % len(self.inboxes)]
        inbox.put(Received(topic, bytes(message.payload), time.time_ns() // 1000, message.mid, message.qos, self._connection))


def _loop_lives(client: mqtt.Client) -> bool:
    thread = client._thread  # paho has no public way to ask
    return thread is not None and thread.is_alive()


def _shown(url: str) -> str:
    return url.rpartition("@")[2].removeprefix("mqtt://")
