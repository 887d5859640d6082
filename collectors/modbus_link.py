"""The one adapter over pymodbus: its framers and request PDUs on a transport of our own, answers kept as raw bytes.

Stock response classes unpack register by register, and the stock client costs twice the CPU of this transport
(`python -m bench collectors_modbus`). Nothing outside this module knows pymodbus. One request is outstanding at a time.

Connections: `tcp://host:port` (Modbus TCP), `rtu+tcp://host:port` (RTU frames through a transparent serial server),
`rtu:///dev/ttyUSB0?baud=9600&parity=N` (a serial port). On an RTU-framed link a late answer cannot be told from the next
one's, so after any time-out the link is reopened.
"""

from __future__ import annotations

import asyncio
import time
from urllib.parse import urlsplit

from pymodbus.exceptions import ModbusException
from pymodbus.framer import FramerRTU, FramerSocket
from pymodbus.pdu import DecodePDU, ModbusPDU
from pymodbus.pdu.register_message import (
    ReadHoldingRegistersRequest,
    ReadHoldingRegistersResponse,
    ReadInputRegistersRequest,
    ReadInputRegistersResponse,
    WriteMultipleRegistersRequest,
)

from collectors.link import Endpoint, Link, timeout_of
from collectors.serial_link import parse_serial
from park.errors import DeviceError, DeviceTimeout, InputError

ILLEGAL_FUNCTION, ILLEGAL_ADDRESS, ILLEGAL_VALUE = 1, 2, 3
GATEWAY_NO_PATH, GATEWAY_NO_ANSWER = 10, 11
EXCEPTIONS = {1: "illegal function", 2: "illegal data address", 3: "illegal data value", 4: "device failure",
              5: "acknowledge", 6: "device busy", 8: "memory parity error", 10: "gateway path unavailable",
              11: "gateway target did not answer"}


MAX_SILENT_IN_ROW = 3
"""Requests without any answer after which a connection is opened anew."""

FRAMES_KEPT = 1024


class ModbusRefusal(DeviceError):
    """The device answered with an exception code."""

    def __init__(self, code: int, text: str) -> None:
        self.code = code
        super().__init__(text)


class _RawHolding(ReadHoldingRegistersResponse):
    """A read answer that keeps its register bytes as they came."""

    exception_code = 0

    def __init__(self) -> None:
        self.raw = b""  # and nothing else: the stock constructor costs more than the rest of a decode

    def __str__(self) -> str:
        return "answer"  # the stock decoder formats every PDU, also when nobody listens

    def decode(self, data: bytes) -> None:
        self.raw = data[1:1 + data[0]] if data else b""


class _RawInput(_RawHolding):
    function_code = 4


assert _RawInput.rtu_byte_count_pos == ReadInputRegistersResponse.rtu_byte_count_pos


def parse_connection(url: str) -> Endpoint:
    """The endpoint of a connection; InputError naming the forms there are."""
    parts = urlsplit(url)
    timeout = timeout_of(url)
    if parts.scheme == "rtu":
        return Endpoint(url, timeout_s=timeout, serial=parse_serial(parts, baud=9600, parity="N"), framing="rtu")
    framing = {"tcp": "socket", "modbus": "socket", "rtu+tcp": "rtu"}.get(parts.scheme)
    try:
        port = parts.port or 502
    except ValueError:
        port = 0
    if framing is None or not parts.hostname or not port:
        raise InputError("expected a connection such as tcp://10.0.0.5:502, rtu+tcp://10.0.0.5:4001 or "
                         f"rtu:///dev/ttyUSB0?baud=9600&parity=N, got {url!r}")
    return Endpoint(url, parts.hostname, port, timeout, framing=framing)


class ModbusLink(Link[ModbusPDU]):
    """A link that reads and writes registers."""

    def __init__(self, endpoint: Endpoint, *, connect_timeout_s: float = 3.0, connect_delay_s: float = 0.0) -> None:
        super().__init__(endpoint, connect_timeout_s=connect_timeout_s, connect_delay_s=connect_delay_s)
        self._rtu = endpoint.framing == "rtu"
        decoder = DecodePDU(False)
        decoder.register(_RawHolding)
        decoder.register(_RawInput)
        self._framer = FramerRTU(decoder) if self._rtu else FramerSocket(decoder)
        self._unit = 0
        self._tid = 0
        self._silent_in_row = 0
        self._frames: dict[tuple[int, int, int, int], bytes] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._deadline = 0.0
        self._used_at = 0.0  # loop time of the last byte of interest, for the silence between frames
        self._silent_unit, self._settled_at = -1, 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._loop = asyncio.get_running_loop()

    def data_received(self, data: bytes) -> None:
        if self._rtu and self._answer is None:
            return  # nothing was asked: noise on the line
        if self._buffer:
            data = self._buffer + data
        if len(data) > 4096:  # nobody answers one request with this much: garbage of a wrong baud rate or device
            self._buffer = b""
            return
        try:
            used, pdu = self._framer.handleFrame(data, self._unit, 0 if self._rtu else self._tid)
        except ModbusException as exc:
            self._buffer = b""
            self._fail(DeviceError(f"{self.endpoint.url} unit {self._unit}: garbled answer: {exc}"))
            return
        self._buffer = data[used:]
        if pdu is not None and self._answer is not None and not self._answer.done():
            self._answer.set_result(pdu)

    def close(self) -> None:
        """Drop the connection; the next read opens it again."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        super().close()

    async def read(self, unit: int, function: int, address: int, count: int, timeout_s: float = 1.0) -> bytes:
        """The registers' bytes, big-endian as sent.

        DeviceTimeout when no answer comes, ModbusRefusal for an exception code, DeviceError for a garbled answer.
        """
        key = (unit, function, address, count)
        frame = self._frames.get(key)
        if frame is None:
            request_class = ReadHoldingRegistersRequest if function == 3 else ReadInputRegistersRequest
            frame = self._framer.buildFrame(request_class(address=address, count=count, dev_id=unit))
            if len(self._frames) >= FRAMES_KEPT:
                self._frames.clear()
            self._frames[key] = frame
        pdu = await self._exchange(frame, key, timeout_s)
        if pdu.function_code == function and len(pdu.raw) == 2 * count:  # type: ignore[attr-defined]
            return pdu.raw  # type: ignore[attr-defined,no-any-return]
        raise self._wrong(pdu, key)

    async def write(self, unit: int, address: int, words: list[int], timeout_s: float = 1.0) -> None:
        """Write holding registers (function 16) and return when the device confirms them; errors as `read`.

        No poll writes: only `park device write` calls this, for points that a template declares writable.
        """
        frame = self._framer.buildFrame(WriteMultipleRegistersRequest(address=address, registers=words, dev_id=unit))
        key = (unit, 16, address, len(words))
        pdu = await self._exchange(frame, key, timeout_s)
        if pdu.function_code != 16 or (pdu.address, pdu.count) != (address, len(words)):
            raise self._wrong(pdu, key)

    async def _exchange(self, frame: bytes, key: tuple[int, int, int, int], timeout_s: float) -> ModbusPDU:
        """Send a frame and wait for the PDU that answers it."""
        if self._transport is None:
            await self.open()
            assert self._transport is not None
        if self._rtu:
            await self._quiet(key[0])
            if self._transport is None:
                raise DeviceTimeout(f"{self.endpoint.url} closed the connection")
        self._unit = key[0]
        if self._rtu:
            self._buffer = b""
        else:
            self._tid = self._tid % 0xFFFF + 1
            frame = self._tid.to_bytes(2, "big") + frame[2:]
        answer: asyncio.Future[ModbusPDU] = self._loop.create_future()
        self._answer = answer
        self.requests += 1
        self._watch(self.endpoint.timeout_s or timeout_s)
        try:
            self._transport.write(frame)
            pdu = await answer
        except TimeoutError as exc:
            self._silent_in_row += 1
            self._silent_unit, self._settled_at = key[0], self._loop.time() + timeout_s
            if self._rtu or self._buffer or self._silent_in_row >= MAX_SILENT_IN_ROW:
                self.close()  # half open: the gateway may have restarted without a word
            raise DeviceTimeout(f"{self.endpoint.url} unit {key[0]}: no answer to function {key[1]}, "
                                f"registers {key[2]}+{key[3]}") from exc
        finally:
            self._answer = None
            self._used_at = self._loop.time()
        self._silent_in_row = 0
        return pdu

    async def _quiet(self, unit: int) -> None:
        """Keep the silence by which slaves tell frames apart, and let a unit that was late finish talking: a serial server
        hands its late answer to the new connection too."""
        wait = self._used_at + self.endpoint.serial.frame_gap_s - self._loop.time() if self.endpoint.serial else 0.0
        if unit == self._silent_unit:
            wait = max(wait, self._settled_at - self._loop.time())
            self._silent_unit = -1
        if wait > 0:
            await asyncio.sleep(wait)

    def _watch(self, timeout_s: float) -> None:
        """One timer a link that is looked at when it rings: a timer set and cancelled for each request costs more."""
        self._deadline = self._loop.time() + timeout_s
        if self._timer is not None and self._timer.when() > self._deadline:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._timer = self._loop.call_at(self._deadline, self._ring)

    def _ring(self) -> None:
        self._timer = None
        if self._answer is None or self._answer.done():
            return
        if self._loop.time() >= self._deadline - 1e-4:
            self._answer.set_exception(TimeoutError())
        else:
            self._timer = self._loop.call_at(self._deadline, self._ring)

    def _wrong(self, pdu: ModbusPDU, key: tuple[int, int, int, int]) -> DeviceError:
        unit, function, address, count = key
        where = f"{self.endpoint.url} unit {unit}, function {function}, registers {address}+{count}"
        if pdu.function_code > 0x80:
            code = pdu.exception_code
            return ModbusRefusal(code, f"{where}: exception {code} ({EXCEPTIONS.get(code, 'unknown')})")
        if self._rtu:
            self.close()  # the answer of another request: nothing on this link can be trusted now
        return DeviceError(f"{where}: expected {2 * count} bytes of function {function}, "
                           f"got {len(getattr(pdu, 'raw', b''))} of function {pdu.function_code}")


def now_ms() -> int:
    """Epoch milliseconds of this machine's clock."""
    return time.time_ns() // 1_000_000
