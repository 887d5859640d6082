"""The control socket of a running collector: one line of JSON asks, one answers.

It is a Unix socket in the data folder with mode 0600: who may read the spool may give commands, nobody else.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from park.errors import ParkError, SetupError

log = logging.getLogger(__name__)

Handler = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]
MAX_LINE = 1 << 20


def control_path(data_dir: Path, source: str) -> Path:
    """Where the socket of a collector lies."""
    return data_dir / f"collect-{source}.sock"


async def serve_control(path: Path, handle: Handler) -> asyncio.Server | None:
    """Listen; None (and a line in the log) where the path cannot hold a socket. The spool's lock keeps a second one away."""
    path.unlink(missing_ok=True)
    before = os.umask(0o177)
    try:
        return await asyncio.start_unix_server(lambda r, w: _answer(r, w, handle), str(path), limit=MAX_LINE)
    except OSError as exc:
        log.warning("no control socket at %s: %s; `park hj212` cannot reach this collector", path, exc)
        return None
    finally:
        os.umask(before)


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, handle: Handler) -> None:
    try:
        async with asyncio.timeout(10):
            line = await reader.readline()
        try:
            answer = await handle(json.loads(line))
        except ParkError as exc:
            answer = {"error": str(exc)}
        except (ValueError, KeyError, TypeError) as exc:
            answer = {"error": f"not a request: {exc!r}"}
        writer.write(json.dumps(answer, ensure_ascii=False).encode() + b"\n")
        await writer.drain()
    except (OSError, TimeoutError, asyncio.CancelledError):
        pass  # who asked is gone, or we end
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def ask(path: Path, request: dict[str, Any], timeout_s: float = 120.0) -> dict[str, Any]:
    """The answer of the running collector; SetupError when none runs, or with what it says is wrong."""
    try:
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(timeout_s)
            s.connect(str(path))
            s.sendall(json.dumps(request).encode() + b"\n")
            with s.makefile("rb") as file:
                line = file.readline()
    except OSError as exc:
        raise SetupError(f"no collector answers at {path}: {exc}; is `park collect` running with this PARK_DATA_DIR "
                         "and --source?") from exc
    answer: dict[str, Any] = json.loads(line) if line else {"error": "the collector hung up"}
    if "error" in answer:
        raise SetupError(str(answer["error"]))
    return answer
