"""An MQTT client that speaks v5 where the broker does and 3.1.1 where it does not (amqtt).

The session outlives restarts: a fixed client id, no clean start, session expiry at its maximum.
"""

from __future__ import annotations

import math
import socket
import ssl
import time
from collections.abc import Callable
from urllib.parse import unquote, urlsplit

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from park.broker import host_port
from park.broker_tls import SCHEMES, client_context

AT_ONCE_S = 0.9     # under paho's own shortest wait between two tries

# CONNECT of MQTT v5 with clean start and an empty client id: enough to learn whether the broker speaks v5
_PROBE = bytes([0x10, 13, 0, 4]) + b"MQTT" + bytes([5, 2, 0, 5, 0, 0, 0])


def speaks_v5(url: str, timeout_s: float = 5.0) -> bool:
    """Whether the broker at `url` accepts (or at least parses) an MQTT v5 CONNECT; OSError when nobody listens."""
    with _dialled(url, timeout_s) as s:
        s.sendall(_PROBE)
        answer = s.recv(64)
    # a 3.1.1 broker answers CONNACK of two bytes with code 1, "unacceptable protocol version", or hangs up
    return len(answer) >= 4 and answer[0] == 0x20 and not (answer[1] == 2 and answer[3] == 1)


def _dialled(url: str, timeout_s: float) -> socket.socket:
    parts, (host, port) = urlsplit(url), host_port(url)
    s = socket.create_connection((host, port), timeout_s)
    if parts.scheme not in SCHEMES:
        return s
    try:
        return client_context(parts).wrap_socket(s, server_hostname=host)
    except (OSError, ssl.CertificateError):
        s.close()
        raise


def new_client(url: str, client_id: str, *, manual_ack: bool = False, kind: type[mqtt.Client] = mqtt.Client,
               clean: bool = False) -> mqtt.Client:
    """A client with credentials and protocol set, not yet connected; OSError when nobody listens at `url`."""
    protocol = mqtt.MQTTv5 if speaks_v5(url) else mqtt.MQTTv311
    session = {} if protocol == mqtt.MQTTv5 else {"clean_session": clean}
    client = kind(mqtt.CallbackAPIVersion.VERSION2, client_id=client_id, protocol=protocol, manual_ack=manual_ack,
                  **session)  # type: ignore[arg-type]
    parts = urlsplit(url)
    if parts.username:
        client.username_pw_set(unquote(parts.username), unquote(parts.password or ""))
    if parts.scheme in SCHEMES:
        client.tls_set_context(client_context(parts))
    client.reconnect_delay_set(min_delay=1, max_delay=15)
    client.on_pre_connect = _unhurried()
    return client


def _unhurried() -> Callable[[mqtt.Client, object], None]:
    """Before each connection: a second's pause when the former one was made just now.

    paho waits only where a connection fails; one that is taken and closed at once (a topic that is refused, two clients of
    one name) it would make again hundreds of times a second.
    """
    last = -math.inf

    def before(_client: mqtt.Client, _data: object) -> None:
        nonlocal last
        if time.monotonic() - last < AT_ONCE_S:
            time.sleep(1.0)
        last = time.monotonic()
    return before


def refusal(url: str, timeout_s: float = 5.0) -> str | None:
    """Why the broker does not let in whom the URL names; None when it does. OSError when nobody listens."""
    client = new_client(url, "", clean=True)
    said: list[str | None] = []
    client.on_connect = lambda c, u, flags, reason, p: said.append(str(reason) if reason.is_failure else None)
    host, port = host_port(url)
    client.connect(host, port, 30)
    client.loop_start()
    deadline = time.monotonic() + timeout_s
    while not said and time.monotonic() < deadline:
        time.sleep(0.02)
    client.disconnect()
    client.loop_stop()
    return said[0] if said else "no answer"


def connect(client: mqtt.Client, url: str, *, keepalive_s: int = 30, receive_maximum: int = 2000) -> None:
    """Open the session at `url`; it expires only after the longest time that the protocol knows."""
    host, port = host_port(url)
    if client.protocol == mqtt.MQTTv5:
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = 0xFFFFFFFF
        properties.ReceiveMaximum = receive_maximum
        client.connect(host, port, keepalive_s, clean_start=False, properties=properties)
    else:
        client.connect(host, port, keepalive_s)
