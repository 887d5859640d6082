"""Transitions on MQTT: topic `park/v1/{base}/alerts`, QoS 1, the same JSON as the webhook, one message a base."""

from __future__ import annotations

import json

import paho.mqtt.client as mqtt

from alerts.posting import TIMEOUT_S, NotDelivered
from park.mqtt import connect, new_client


class MqttChannel:
    """A connection that is made at the first message and made again when it is lost."""

    name = "mqtt"

    def __init__(self, url: str) -> None:
        self.url = url
        self.client: mqtt.Client | None = None

    def send(self, body: bytes) -> None:
        """Publish; NotDelivered when the broker does not acknowledge in time."""
        by_base: dict[str, list[object]] = {}
        message = json.loads(body)
        for transition in message["transitions"]:
            by_base.setdefault(transition["base"], []).append(transition)
        try:
            for base, transitions in by_base.items():
                part = message | {"n": len(transitions), "transitions": transitions}
                info = self._connected().publish(f"park/v1/{base}/alerts", json.dumps(part, ensure_ascii=False).encode(), qos=1)
                info.wait_for_publish(TIMEOUT_S)
                if not info.is_published():
                    raise NotDelivered("broker did not acknowledge in time")
        except (OSError, ValueError, RuntimeError) as exc:
            raise NotDelivered(f"{type(exc).__name__}: {exc}") from exc

    def _connected(self) -> mqtt.Client:
        if self.client is None:
            client = new_client(self.url, "park-alerts")
            connect(client, self.url)
            client.loop_start()
            self.client = client
        return self.client

    def close(self) -> None:
        if self.client is not None:
            self.client.disconnect()
            self.client.loop_stop()
