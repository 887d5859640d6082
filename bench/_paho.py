"""What paho costs without storage: takes an MQTT session's queue, acknowledges each message by hand, and stores nothing.

    python -m bench._paho URL CLIENT MESSAGES      prints messages a second, from the first message to the last
"""

from __future__ import annotations

import sys
import time
from threading import Event
from typing import Any

import paho.mqtt.client as mqtt

from park.mqtt import connect, new_client


def rate(url: str, client_id: str, messages: int) -> float:
    """Messages a second of a session that has so many waiting."""
    client, done, came = new_client(url, client_id, manual_ack=True), Event(), [0, 0.0, 0.0]

    def on_message(_: mqtt.Client, __: Any, message: mqtt.MQTTMessage) -> None:
        client.ack(message.mid, message.qos)
        came[0] += 1
        if came[0] == 1:
            came[1] = time.perf_counter()
        elif came[0] == messages:
            came[2] = time.perf_counter()
            done.set()

    client.on_message = on_message
    connect(client, url, receive_maximum=4000)
    client.loop_start()
    if not done.wait(120):
        raise TimeoutError(f"expected {messages} messages, got {came[0]}")
    client.disconnect()
    client.loop_stop()
    return (messages - 1) / (came[2] - came[1])


if __name__ == "__main__":
    print(rate(sys.argv[1], sys.argv[2], int(sys.argv[3])))
