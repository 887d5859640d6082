"""Modbus TCP gateways of the simulated park: one listener a gateway, several unit ids behind it.

Written for this simulator (MBAP header, functions 3 and 4), because pymodbus is what the collectors use. A unit that is
offline does not answer at all, as behind a real gateway; an unknown unit gives exception 11 (gateway target silent).
"""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import Mapping

from simulators.registers import Bank

log = logging.getLogger(__name__)

_HEADER = struct.Struct(">HHHB")
_MAX_LENGTH = 254


class Gateway(asyncio.Protocol):
    """One connection to a gateway; requests are answered in their order."""

    def __init__(self, banks: Mapping[int, Bank], connections: set[asyncio.Transport]) -> None:
        self._banks, self._connections, self._buffer = banks, connections, b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._connections.add(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is not None:
            self._connections.discard(self._transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while self._transport is not None and len(self._buffer) >= 8:
            _, protocol, length, _ = _HEADER.unpack_from(self._buffer)
            if protocol != 0 or not 2 <= length <= _MAX_LENGTH:
                self._transport.close()
                return
            if len(self._buffer) < 6 + length:
                return
            frame, self._buffer = self._buffer[: 6 + length], self._buffer[6 + length:]
            answer = respond(frame, self._banks)
            if answer is not None:
                self._transport.write(answer)


def respond(frame: bytes, banks: Mapping[int, Bank]) -> bytes | None:
    """The answer to a whole MBAP frame; None when the unit keeps silent."""
    transaction, _, _, unit = _HEADER.unpack_from(frame)
    function = frame[7]
    bank = banks.get(unit)
    if bank is not None and bank.silent:
        return None
    result: list[int] | int
    if bank is None:
        result = 11
    elif function not in (3, 4):
        result = 1
    elif len(frame) != 12:
        result = 3
    else:
        result = bank.read(function, *struct.unpack_from(">HH", frame, 8))
    if isinstance(result, int):
        body = bytes([function | 0x80, result])
    else:
        body = bytes([function, 2 * len(result)]) + struct.pack(f">{len(result)}H", *result)
    return _HEADER.pack(transaction, 0, len(body) + 1, unit) + body


async def start_gateway(host: str, port: int, banks: Mapping[int, Bank]) -> tuple[asyncio.Server, set[asyncio.Transport]]:
    """A listening gateway and its open connections; OSError when the port is taken."""
    connections: set[asyncio.Transport] = set()
    server = await asyncio.get_running_loop().create_server(lambda: Gateway(banks, connections), host, port)
    log.info("modbus gateway on %s:%d with %d units", host, port, len(banks))
    return server, connections
