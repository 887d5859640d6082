"""What a link to devices has whatever is spoken on it: it opens when it is needed, closes at once, and its loss ends the
question under way. `modbus_link` and `dlt645_link` say what is asked and what answers it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Generic, TypeVar, cast
from urllib.parse import parse_qs, urlsplit

from collectors.serial_link import SerialPort, open_serial
from park.errors import DeviceTimeout, InputError

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Endpoint:
    """A connection of the catalogue, parsed: host and port, or a serial port; Modbus has a framing, `socket` or `rtu`."""

    url: str
    host: str = ""
    port: int = 0
    timeout_s: float | None = None
    serial: SerialPort | None = None
    framing: str = ""


def timeout_of(url: str) -> float | None:
    """`timeout_s` of a connection's query; InputError when it is no positive number."""
    given = parse_qs(urlsplit(url).query).get("timeout_s")
    if given is None:
        return None
    try:
        value = float(given[0])
    except ValueError:
        value = 0.0
    if not 0 < value <= 60:
        raise InputError(f"expected timeout_s above 0 and up to 60, got {given[0]!r} in {url!r}")
    return value


class Link(asyncio.Protocol, Generic[Answer]):
    """One connection. Not for concurrent reads: one task owns a link, and one question is under way at a time."""

    def __init__(self, endpoint: Endpoint, *, connect_timeout_s: float = 3.0, connect_delay_s: float = 0.0) -> None:
        self.endpoint = endpoint
        self.connect_timeout_s = connect_timeout_s
        self.connect_delay_s = connect_delay_s
        self.connects = self.requests = 0
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._answer: asyncio.Future[Answer] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transports are no subclass
        self._buffer = b""

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is None:  # we closed it
            return
        self._transport = None
        self._fail(DeviceTimeout(f"{self.endpoint.url} closed the connection"))

    def _fail(self, exc: Exception) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc)

    @property
    def is_open(self) -> bool:
        """Whether the connection stands."""
        return self._transport is not None

    async def open(self) -> None:
        """Connect if there is no connection; DeviceTimeout when that cannot be."""
        if self._transport is not None:
            return
        try:
            async with asyncio.timeout(self.connect_timeout_s):
                if self.endpoint.serial is not None:
                    await open_serial(self.endpoint.serial, lambda: self)
                else:
                    await asyncio.get_running_loop().create_connection(lambda: self, self.endpoint.host, self.endpoint.port)
        except (OSError, TimeoutError) as exc:
            raise DeviceTimeout(f"no connection to {self.endpoint.url}: {exc or 'no answer'}") from exc
        self.connects += 1
        if self.connect_delay_s:
            await asyncio.sleep(self.connect_delay_s)

    def close(self) -> None:
        """Drop the connection; the next question opens it again."""
        if self._transport is not None:
            transport, self._transport = self._transport, None
            transport.abort()
