"""Serial ports on the event loop: what a bus of meters at `rtu:///dev/ttyUSB0` or `serial:///dev/ttyS1` hangs on.

termios and a non-blocking descriptor are all it takes on Linux and macOS, so the platform needs no serial library. To a
protocol the transport looks like a socket's: `data_received`, `write`, `abort`, and `connection_lost` when the adapter is
unplugged.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import termios
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast
from urllib.parse import SplitResult, parse_qs

from park.errors import DeviceTimeout, InputError

Parity = Literal["N", "E", "O"]
BAUDS: dict[int, int] = {int(n[1:]): getattr(termios, n) for n in dir(termios) if n[0] == "B" and n[1:].isdigit()}
_PARITY = {"N": 0, "E": termios.PARENB, "O": termios.PARENB | termios.PARODD}
_CHUNK = 4096


@dataclass(frozen=True)
class SerialPort:
    """A port with its line settings; eight data bits always."""

    path: str
    baud: int
    parity: Parity
    stop: int

    @property
    def char_s(self) -> float:
        """Seconds that one character takes on the line."""
        return (1 + 8 + (self.parity != "N") + self.stop) / self.baud

    @property
    def frame_gap_s(self) -> float:
        """Silence between two frames: 3.5 characters, 1.75 ms above 19,200 baud (Modbus over serial line V1.02, 2.5.1.1)."""
        return 3.5 * self.char_s if self.baud <= 19200 else 0.00175


def parse_serial(parts: SplitResult, *, baud: int, parity: Parity) -> SerialPort:
    """The port of a connection such as `rtu:///dev/ttyUSB0?baud=9600&parity=N&stop=1`, with defaults; InputError."""
    given: Mapping[str, list[str]] = parse_qs(parts.query)
    baud_text, parity_text = given.get("baud", [str(baud)])[0], given.get("parity", [parity])[0].upper()
    stop_text = given.get("stop", ["1"])[0]
    if parts.netloc or not parts.path.startswith("/"):
        raise InputError("expected three slashes and a device file, such as "
                         f"{parts.scheme}:///dev/ttyUSB0, got {parts.geturl()!r}")
    if not baud_text.isdigit() or int(baud_text) not in BAUDS or int(baud_text) < 300:
        known = ", ".join(str(b) for b in sorted(BAUDS) if b >= 300)
        raise InputError(f"{parts.path}: expected baud of {known}, got {baud_text!r}")
    if parity_text not in _PARITY or stop_text not in ("1", "2"):
        raise InputError(f"{parts.path}: expected parity N, E or O and stop 1 or 2, got {parity_text!r} and {stop_text!r}")
    return SerialPort(parts.path, int(baud_text), cast(Parity, parity_text), int(stop_text))


class SerialTransport(asyncio.Transport):
    """An open port. Writes that the driver does not take at once wait in memory: requests are a few bytes."""

    def __init__(self, loop: asyncio.AbstractEventLoop, fd: int, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self._loop, self._fd, self._protocol = loop, fd, protocol
        self._waiting = bytearray()
        self._closing = False
        loop.add_reader(fd, self._readable)
        protocol.connection_made(self)

    def _readable(self) -> None:
        try:
            data = os.read(self._fd, _CHUNK)
        except BlockingIOError:
            return
        except OSError as exc:  # the adapter was unplugged
            self._lost(exc)
            return
        if data:
            self._protocol.data_received(data)
        else:
            self._lost(None)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send; what does not fit follows when the driver has room."""
        if self._closing:
            return
        if not self._waiting:
            self._loop.add_writer(self._fd, self._writable)
        self._waiting += data
        self._writable()

    def _writable(self) -> None:
        try:
            n = os.write(self._fd, self._waiting)
        except BlockingIOError:
            return
        except OSError as exc:
            self._lost(exc)
            return
        del self._waiting[:n]
        if not self._waiting:
            self._loop.remove_writer(self._fd)

    def abort(self) -> None:
        """Close at once."""
        self._lost(None)

    def close(self) -> None:
        """Close at once: an unsent request is of no use."""
        self._lost(None)

    def is_closing(self) -> bool:
        """Whether the port is closed."""
        return self._closing

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Nothing is known of a port beyond its settings."""
        return default

    def _lost(self, exc: Exception | None) -> None:
        if self._closing:
            return
        self._closing = True
        self._loop.remove_reader(self._fd)
        self._loop.remove_writer(self._fd)
        os.close(self._fd)
        self._loop.call_soon(self._protocol.connection_lost, exc)


async def open_serial(port: SerialPort, protocol: Callable[[], asyncio.Protocol]) -> SerialTransport:
    """Open the port for this process alone, with its buffers emptied; DeviceTimeout when that cannot be."""
    await asyncio.sleep(0)  # a port closed a moment ago says so to its protocol first
    fd = -1
    try:
        fd = os.open(port.path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        if not os.isatty(fd):
            raise OSError(f"{port.path} is not a serial port")
        fcntl.ioctl(fd, termios.TIOCEXCL)  # a second master on the bus would garble every answer
        _configure(fd, port)
    except (OSError, termios.error) as exc:
        if fd >= 0:
            os.close(fd)
        raise DeviceTimeout(f"no serial port {port.path}: {exc}") from exc
    return SerialTransport(asyncio.get_running_loop(), fd, protocol())


def _configure(fd: int, port: SerialPort) -> None:
    """Raw bytes, eight bits, no flow control, no modem lines."""
    cc = termios.tcgetattr(fd)[6]
    cc[termios.VMIN], cc[termios.VTIME] = 0, 0
    c_iflag = termios.INPCK if port.parity != "N" else 0
    c_cflag = termios.CS8 | termios.CREAD | termios.CLOCAL | _PARITY[port.parity] | (termios.CSTOPB if port.stop == 2 else 0)
    speed = BAUDS[port.baud]
    termios.tcsetattr(fd, termios.TCSANOW, [c_iflag, 0, c_cflag, 0, speed, speed, cc])
    termios.tcflush(fd, termios.TCIOFLUSH)
