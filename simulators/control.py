"""The control port: one command a line over TCP, for tests and the bench. Answers `ok` or `error: ...`.

    set DEVICE KEY VALUE      hold a value, in the unit of the point (or of the template where no point takes the key)
    offline DEVICE SECONDS    the device keeps silent for so long
    clear                     forget both
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math

from park.clock import Clock
from park.errors import InputError, ParkError
from simulators.field import Field

log = logging.getLogger(__name__)


def execute(line: str, field_: Field, now: float) -> None:
    """Carry out one command; InputError or NotFound with what was expected."""
    match line.split():
        case ["set", device, key, value]:
            field_.set(device, key, _number(value))
        case ["offline", device, seconds]:
            field_.offline(device, _number(seconds), now)
        case ["clear"]:
            field_.clear()
        case _:
            raise InputError(f"expected `set DEVICE KEY VALUE`, `offline DEVICE SECONDS` or `clear`, got {line!r}")


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError as exc:
        raise InputError(f"expected a number, got {text!r}") from exc
    if not math.isfinite(value):
        raise InputError(f"expected a finite number, got {text!r}")
    return value


async def start_control(host: str, port: int, field_: Field, clock: Clock) -> asyncio.Server:
    """Listen for commands; OSError when the port is taken."""
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, ValueError, asyncio.CancelledError):
            while line := (await reader.readline()).decode("utf-8", "replace").strip():
                try:
                    execute(line, field_, clock().timestamp())
                    writer.write(b"ok\n")
                except ParkError as exc:
                    writer.write(f"error: {exc}\n".encode())
                await writer.drain()
        writer.close()
    server = await asyncio.start_server(serve, host, port)
    log.info("control port on %s:%d", host, port)
    return server
