"""The one adapter over pymodbus: its framers and request PDUs on a transport of our own, answers kept as raw bytes.

Stock response classes unpack register by register, and the stock client costs four times the CPU of this transport
(docs/benchmarks.md). Nothing outside this module knows pymodbus. One request is outstanding at a time.

Connections: `tcp://host:port` (Modbus TCP), `rtu+tcp://host:port` (RTU frames through a transparent serial server).
On an RTU-framed link a late answer cannot be told from the next one's, so after any time-out the link is reopened.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import cast
from urllib.parse import parse_qs, urlsplit

from pymodbus.exceptions import ModbusException
from pymodbus.framer import FramerRTU, FramerSocket
from pymodbus.pdu import DecodePDU, ModbusPDU
from pymodbus.pdu.register_message import (
    ReadHoldingRegistersRequest,
    ReadHoldingRegistersResponse,
    ReadInputRegistersRequest,
    ReadInputRegistersResponse,
)

from park.errors import DeviceError, DeviceTimeout, InputError

ILLEGAL_FUNCTION, ILLEGAL_ADDRESS, ILLEGAL_VALUE = 1, 2, 3
GATEWAY_NO_PATH, GATEWAY_NO_ANSWER = 10, 11
EXCEPTIONS = {1: "illegal function", 2: "illegal data address", 3: "illegal data value", 4: "device failure",
              5: "acknowledge", 6: "device busy", 8: "memory parity error", 10: "gateway path unavailable",
              11: "gateway target did not answer"}


MAX_SILENT_IN_ROW = 3
"""Requests without any answer after which a connection is opened anew."""


class ModbusRefusal(DeviceError):
    """The device answered with an exception code."""

    def __init__(self, code: int, text: str) -> None:
        self.code = code
        super().__init__(text)


class _RawHolding(ReadHoldingRegistersResponse):
    """A read answer that keeps its register bytes as they came."""

    raw: bytes = b""

    def decode(self, data: bytes) -> None:
        self.raw = data[1:1 + data[0]] if data else b""


class _RawInput(ReadInputRegistersResponse):
    raw: bytes = b""

    def decode(self, data: bytes) -> None:
        self.raw = data[1:1 + data[0]] if data else b""


@dataclass(frozen=True)
class Endpoint:
    """A connection of the catalogue, parsed: framing `socket` or `rtu`, host, port."""

    url: str
    framing: str
    host: str
    port: int
    timeout_s: float | None = None


def parse_connection(url: str) -> Endpoint:
    """The endpoint of a connection; InputError naming the forms there are."""
    parts = urlsplit(url)
    framing = {"tcp": "socket", "modbus": "socket", "rtu+tcp": "rtu"}.get(parts.scheme)
    try:
        port = parts.port or 502
    except ValueError:
        port = 0
    if framing is None or not parts.hostname or not port:
        raise InputError(f"expected a connection such as tcp://10.0.0.5:502 or rtu+tcp://10.0.0.5:4001, got {url!r}")
    timeout = parse_qs(parts.query).get("timeout_s")
    return Endpoint(url, framing, parts.hostname, port, float(timeout[0]) if timeout else None)


class ModbusLink(asyncio.Protocol):
    """One connection; `read` opens it when needed. Not for concurrent reads: one task owns a link."""

    def __init__(self, endpoint: Endpoint, *, connect_timeout_s: float = 3.0, connect_delay_s: float = 0.0) -> None:
        self.endpoint = endpoint
        self.connect_timeout_s = connect_timeout_s
        self.connect_delay_s = connect_delay_s
        self.connects = 0
        self.requests = 0
        self._rtu = endpoint.framing == "rtu"
        decoder = DecodePDU(False)
        decoder.register(_RawHolding)
        decoder.register(_RawInput)
        self._framer = FramerRTU(decoder) if self._rtu else FramerSocket(decoder)
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._answer: asyncio.Future[ModbusPDU] | None = None
        self._unit = 0
        self._tid = 0
        self._silent_in_row = 0

    # ---- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transports are no subclass
        self._buffer = b""

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(DeviceTimeout(f"{self.endpoint.url} closed the connection"))

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) > 4096:  # nobody answers one request with this much: garbage of a wrong baud rate or device
            self._buffer = b""
            return
        try:
            used, pdu = self._framer.handleFrame(self._buffer, self._unit, 0 if self._rtu else self._tid)
        except ModbusException as exc:
            self._buffer = b""
            self._fail(DeviceError(f"{self.endpoint.url} unit {self._unit}: garbled answer: {exc}"))
            return
        self._buffer = self._buffer[used:]
        if pdu is not None and self._answer is not None and not self._answer.done():
            self._answer.set_result(pdu)

    def _fail(self, exc: Exception) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc)

    # ---- for the poller

    @property
    def is_open(self) -> bool:
        """Whether the connection stands."""
        return self._transport is not None

    async def open(self) -> None:
        """Connect if there is no connection; DeviceTimeout when nobody listens."""
        if self._transport is not None:
            return
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self.connect_timeout_s):
                await loop.create_connection(lambda: self, self.endpoint.host, self.endpoint.port)
        except (OSError, TimeoutError) as exc:
            raise DeviceTimeout(f"no connection to {self.endpoint.url}: {exc or 'no answer'}") from exc
        self.connects += 1
        if self.connect_delay_s:
            await asyncio.sleep(self.connect_delay_s)

    def close(self) -> None:
        """Drop the connection; the next read opens it again."""
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    async def read(self, unit: int, function: int, address: int, count: int, timeout_s: float = 1.0) -> bytes:
        """The registers' bytes, big-endian as sent.

        DeviceTimeout when no answer comes, ModbusRefusal for an exception code, DeviceError for a garbled answer.
        """
        await self.open()
        assert self._transport is not None
        self._tid = self._tid % 0xFFFF + 1
        self._unit = unit
        request_class = ReadHoldingRegistersRequest if function == 3 else ReadInputRegistersRequest
        request = request_class(address=address, count=count, dev_id=unit, transaction_id=self._tid)
        self._buffer = b""
        self._answer = asyncio.get_running_loop().create_future()
        self.requests += 1
        self._transport.write(self._framer.buildFrame(request))
        try:
            async with asyncio.timeout(self.endpoint.timeout_s or timeout_s):
                pdu = await self._answer
        except TimeoutError as exc:
            self._silent_in_row += 1
            if self._rtu or self._silent_in_row >= MAX_SILENT_IN_ROW:
                self.close()  # half open: the gateway may have restarted without a word
            raise DeviceTimeout(f"{self.endpoint.url} unit {unit}: no answer to function {function}, "
                                f"registers {address}+{count}") from exc
        finally:
            self._answer = None
        self._silent_in_row = 0
        return self._checked(pdu, unit, function, address, count)

    def _checked(self, pdu: ModbusPDU, unit: int, function: int, address: int, count: int) -> bytes:
        where = f"{self.endpoint.url} unit {unit}, function {function}, registers {address}+{count}"
        if pdu.function_code > 0x80:
            code = pdu.exception_code
            raise ModbusRefusal(code, f"{where}: exception {code} ({EXCEPTIONS.get(code, 'unknown')})")
        raw = getattr(pdu, "raw", b"")
        if pdu.function_code != function or len(raw) != 2 * count:
            if self._rtu:
                self.close()  # the answer of another request: nothing on this link can be trusted now
            raise DeviceError(f"{where}: expected {2 * count} bytes of function {function}, "
                              f"got {len(raw)} of function {pdu.function_code}")
        return bytes(raw)


def now_ms() -> int:
    """Epoch milliseconds of this machine's clock."""
    return time.time_ns() // 1_000_000
