"""A line of DL/T 645 or CJ/T 188 meters: a serial port, or a transparent serial server over TCP.

A reply names its meter and its data identifier, so a late one is recognised and left out: no reopening is needed. One request
is outstanding at a time.

Connections: `serial:///dev/ttyUSB0?baud=2400&parity=E` (the standards' own settings are the defaults), `tcp://host:port`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from collectors import cjt188_frame, dlt645_frame
from collectors.dlt645_frame import ANY_ADDRESS, Frame, split
from collectors.dlt645_template import Dialect, MeterTemplate
from collectors.link import Endpoint, Link, timeout_of
from collectors.serial_link import parse_serial
from park.errors import DeviceError, DeviceTimeout, InputError

MAX_PARTS = 32
REPLY, ERROR, MORE = 0x80, 0x40, 0x20
ERROR_BITS = ((0x01, "other error"), (0x02, "no such data"), (0x04, "wrong password"), (0x08, "baud rate cannot be changed"),
              (0x10, "too many year zones"), (0x20, "too many day periods"), (0x40, "too many tariffs"))
NO_SUCH_DATA = 0x02


class MeterRefusal(DeviceError):
    """The meter answered with an error; `no_such_data` when it does not know the identifier."""

    def __init__(self, text: str, *, no_such_data: bool) -> None:
        self.no_such_data = no_such_data
        super().__init__(text)


def parse_line(url: str) -> Endpoint:
    """The endpoint of a connection; InputError naming the forms there are."""
    parts = urlsplit(url)
    if parts.scheme == "serial":
        return Endpoint(url, timeout_s=timeout_of(url), serial=parse_serial(parts, baud=2400, parity="E"))
    try:
        port = parts.port
    except ValueError:
        port = None
    if parts.scheme != "tcp" or not parts.hostname or not port:
        raise InputError("expected a connection such as serial:///dev/ttyUSB0?baud=2400&parity=E or tcp://10.0.0.5:4001 "
                         f"(a transparent serial server), got {url!r}")
    return Endpoint(url, parts.hostname, port, timeout_of(url))


@dataclass(frozen=True)
class MeterAddress:
    """Which meter, and how it is spoken to."""

    dialect: Dialect
    edition: str
    address: str
    kind: int = 0

    @property
    def is_1997(self) -> bool:
        """The older DL/T 645 with identifiers of two bytes."""
        return self.edition == "1997"


def address_of(template: MeterTemplate, given: object, kind: object = None) -> MeterAddress:
    """The meter of a template at an address of the catalogue; InputError."""
    digits = cjt188_frame.ADDRESS_DIGITS if template.protocol == "cjt188" else 12
    try:
        number = template.meter_type if kind is None else int(str(kind), 16)
    except ValueError as exc:
        raise InputError(f"expected attributes.meter_type as two hex digits such as 10, got {kind!r}") from exc
    return MeterAddress(template.protocol, template.edition, dlt645_frame.meter_address(given, digits), number)


class MeterLink(Link[Frame]):
    """A line of meters."""

    def __init__(self, endpoint: Endpoint, *, connect_timeout_s: float = 3.0, connect_delay_s: float = 0.0) -> None:
        super().__init__(endpoint, connect_timeout_s=connect_timeout_s, connect_delay_s=connect_delay_s)
        self.strays = 0  # frames that answer no question: late, of another master, our own echo
        self._find: dlt645_frame.Find = dlt645_frame.find
        self._accept: Callable[[Frame], bool] = lambda _: False
        self._ser = 0
        self.answered = ""  # number of the meter that answered last: who was there when anybody was asked

    def data_received(self, data: bytes) -> None:
        frames, self._buffer = split(self._buffer + data, self._find)
        for frame in frames:
            if self._answer is not None and not self._answer.done() and self._accept(frame):
                self._answer.set_result(frame)
            else:
                self.strays += 1

    async def read(self, meter: MeterAddress, di: bytes, timeout_s: float = 1.0) -> bytes:
        """The data behind an identifier (low byte first), parts joined.

        DeviceTimeout when no answer comes, MeterRefusal for an error reply, DeviceError when the parts never end.
        """
        if meter.dialect == "cjt188":
            return await self._read_cjt188(meter, di, timeout_s)
        control, data = (0x01 if meter.is_1997 else 0x11), b""
        question = di
        for part in range(1, MAX_PARTS + 1):
            tail = b"" if meter.is_1997 or part == 1 else bytes([part - 1])
            frame = await self._ask(meter, control, question + tail, di, tail, timeout_s)
            data += frame.data[len(di):len(frame.data) - len(tail)]
            if not frame.control & MORE:
                return data
            control = 0x02 if meter.is_1997 else 0x12
        raise DeviceError(f"{self._where(meter, di)}: more than {MAX_PARTS} parts")

    async def _read_cjt188(self, meter: MeterAddress, di: bytes, timeout_s: float) -> bytes:
        self._ser = (self._ser + 1) % 256
        head = di + bytes([self._ser])
        frame = await self._ask(meter, 0x01, head, head, b"", timeout_s)
        return frame.data[len(head):]

    async def _ask(self, meter: MeterAddress, control: int, data: bytes, head: bytes, tail: bytes, timeout_s: float) -> Frame:
        await self.open()
        assert self._transport is not None
        is_cjt188 = meter.dialect == "cjt188"
        self._find = cjt188_frame.find if is_cjt188 else dlt645_frame.find
        self._accept = lambda f: _answers(f, meter, control, head, tail)
        self._buffer = b""
        answer: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()
        self._answer = answer
        self.requests += 1
        line_s = self.endpoint.serial.char_s * dlt645_frame.LONGEST if self.endpoint.serial else 0.0
        try:
            async with asyncio.timeout((self.endpoint.timeout_s or timeout_s) + line_s):
                self._transport.write(cjt188_frame.pack(meter.kind, meter.address, control, data) if is_cjt188
                                      else dlt645_frame.pack(meter.address, control, data))
                frame = await answer
        except TimeoutError as exc:
            raise DeviceTimeout(f"{self._where(meter, head)}: no answer") from exc
        finally:
            self._answer = None
        self.answered = frame.address
        if frame.control & ERROR:
            raise self._refusal(meter, head, frame)
        return frame

    def _where(self, meter: MeterAddress, head: bytes) -> str:
        di = head[:2] if meter.dialect == "cjt188" else head
        return f"{self.endpoint.url} meter {meter.address}, data {di[::-1].hex().upper()}"

    def _refusal(self, meter: MeterAddress, head: bytes, frame: Frame) -> MeterRefusal:
        if meter.dialect == "cjt188":
            return MeterRefusal(f"{self._where(meter, head)}: error reply, state {frame.data[1:].hex()}", no_such_data=False)
        code = frame.data[0] if frame.data else 0
        said = ", ".join(text for bit, text in ERROR_BITS if code & bit) or "no reason given"
        return MeterRefusal(f"{self._where(meter, head)}: error {code:02X} ({said})", no_such_data=bool(code & NO_SUCH_DATA))


def _answers(frame: Frame, meter: MeterAddress, control: int, head: bytes, tail: bytes) -> bool:
    """Whether a frame answers the question with that control byte; `head` and `tail` must come back in its data."""
    anybody = set(meter.address) == {"A"}
    if frame.address != meter.address and not anybody:
        return False
    if meter.dialect == "cjt188" and frame.kind != meter.kind and not anybody:
        return False
    if not frame.control & REPLY or frame.control & 0x1F != control:
        return False
    return bool(frame.control & ERROR) or (
        frame.data.startswith(head) and frame.data.endswith(tail) and len(frame.data) >= len(head) + len(tail))


__all__ = ["ANY_ADDRESS", "MeterAddress", "MeterLink", "MeterRefusal", "address_of", "parse_line"]
