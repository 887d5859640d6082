"""`park serve` as a process: it answers, and a signal ends it with status 0 within three seconds."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time

import httpx
import pytest

from tests.api.conftest import Connection


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_the_command_serves_until_a_signal(mini: Connection, database_url: str, signum: signal.Signals) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen([sys.executable, "-m", "park.cli", "serve", "--port", str(port)], stderr=subprocess.PIPE,
                               env=os.environ | {"PARK_DATABASE_URL": database_url}, text=True)
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                if httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200:
                    break
            except httpx.TransportError:
                pass
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.05)
        process.send_signal(signum)
        _, err = process.communicate(timeout=3)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0
    assert "GET /readyz 200" in err and "Traceback" not in err
