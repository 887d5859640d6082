"""`park alert` as a process: it says when it last finished a round, and stops when told."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from typing import Any

import psycopg

Db = psycopg.Connection[Any]


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def last_round(port: int) -> float:
    """Epoch of the last finished round; 0 before the first, and while nobody answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=1) as answer:
            found = re.search(r"^park_alert_round_timestamp_seconds (\S+)$", answer.read().decode(), re.MULTILINE)
    except (urllib.error.URLError, OSError):
        return 0.0
    assert found is not None
    return float(found[1])


def test_the_service_tells_when_it_last_finished_a_round(mini: Db, database_url: str) -> None:
    port = free_port()
    env = os.environ | {"PARK_DATABASE_URL": database_url, "PARK_LOG_LEVEL": "ERROR"}
    process = subprocess.Popen([sys.executable, "-m", "park.cli", "alert", "--metrics-port", str(port)], env=env)
    try:
        first, end = 0.0, time.monotonic() + 20
        while last_round(port) <= first or not first:       # and it moves on
            assert time.monotonic() < end
            first = first or last_round(port)
            time.sleep(0.05)
        assert abs(first - time.time()) < 20
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 0
