"""paho's client with a buffer before it: reading a message costs it four calls of recv and one of select, and each of
them hands the interpreter to another thread and waits to get it back. Used by the subscriber.

The buffer answers `pending` as an encrypted socket does, which paho asks before it waits for the network.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any

import numpy as np
import paho.mqtt.client as mqtt

_READ_BYTES = 256 * 1024
_MOST_PACKETS = 1000
_PUBACK = np.dtype([("head", ">u2"), ("mid", ">u2")])  # 0x40, length 2, packet number: the whole packet of 3.1.1 and 5


class _Buffered:
    """A socket that reads ahead; everything else is the socket's own."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._ahead = b""
        self._at = 0

    def recv(self, most: int) -> bytes:
        if self._at == len(self._ahead):
            self._ahead, self._at = self._sock.recv(_READ_BYTES), 0
        piece = self._ahead[self._at:self._at + most]
        self._at += len(piece)
        return piece

    def pending(self) -> int:
        """Bytes that can be had without waiting."""
        of_tls: int = self._sock.pending() if hasattr(self._sock, "pending") else 0
        return len(self._ahead) - self._at + of_tls

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


class BufferedClient(mqtt.Client):
    """A client that takes what has come in one go, and acknowledges a whole batch in one packet of the network."""

    def _create_socket(self) -> Any:
        return _Buffered(super()._create_socket())  # type: ignore[arg-type]

    def loop_read(self, max_packets: int = 1) -> mqtt.MQTTErrorCode:
        """Read packets until the buffer is empty, or so many that it is time to answer."""
        for _ in range(_MOST_PACKETS):
            code = super().loop_read(max_packets)
            if code != mqtt.MQTT_ERR_SUCCESS or not isinstance(self._sock, _Buffered) or not self._sock.pending():
                break
        return code

    def acknowledge(self, mids: Sequence[int]) -> None:
        """PUBACK for messages of QoS 1 of this connection; may be called from any thread."""
        if mids:
            packets = np.empty(len(mids), _PUBACK)
            packets["head"], packets["mid"] = 0x4002, mids
            self._packet_queue(mqtt.PUBACK, packets.tobytes(), mids[-1], 1)
