"""Embedded MQTT broker: mosquitto when it is on PATH, otherwise amqtt in a process of its own (`python -m park.broker`).

amqtt speaks MQTT 3.1.1 only and keeps no queue over a restart: the collectors' spool covers that, because it keeps a
batch until ingest has committed it. Both listen on loopback.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

from park.embedded import die_with_parent
from park.errors import SetupError


def free_port() -> int:
    """A TCP port on loopback that is free at this moment."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
        return port


def host_port(mqtt_url: str) -> tuple[str, int]:
    """(host, port) of an MQTT URL."""
    parts = urlsplit(mqtt_url)
    return parts.hostname or "127.0.0.1", parts.port or 1883


class Broker:
    """One embedded broker; `start` returns when it accepts connections."""

    def __init__(self, data_dir: Path, port: int | None = None, *, kind: str | None = None) -> None:
        self.data_dir = data_dir.absolute()
        self.port = port or free_port()
        self.kind = kind or ("mosquitto" if _mosquitto() else "amqtt")
        self._server: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """PARK_MQTT_URL of this broker."""
        return f"mqtt://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int | None:
        """Process id of the broker while it runs."""
        return self._server.pid if self._server else None

    def start(self, timeout_s: float = 20.0) -> Broker:
        """Run the broker and wait until its port answers; SetupError with its log if it does not."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        log_path = self.data_dir / "broker.log"
        with log_path.open("ab") as log:
            self._server = subprocess.Popen(self._command(), stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                                            start_new_session=True, preexec_fn=die_with_parent,
                                            cwd=Path(__file__).parent.parent)
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if self._server.poll() is not None:
                raise SetupError(f"{self.kind} ended at its start; the end of {log_path}:\n"
                                 + log_path.read_text(errors="replace")[-2000:])
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return self
            time.sleep(0.05)
        raise SetupError(f"{self.kind} does not listen on port {self.port}; see {log_path}")

    def stop(self, timeout_s: float = 5.0) -> None:
        """SIGTERM, then SIGKILL."""
        server, self._server = self._server, None
        if server is None or server.poll() is not None:
            return
        server.terminate()
        try:
            server.wait(timeout_s)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()

    def kill(self) -> None:
        """SIGKILL, for tests of broker loss."""
        if self._server is not None:
            self._server.kill()
            self._server.wait()
            self._server = None

    def alive(self) -> bool:
        """Whether the broker process runs."""
        return self._server is not None and self._server.poll() is None

    def __enter__(self) -> Broker:
        return self if self._server else self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _command(self) -> list[str]:
        if self.kind == "amqtt":
            return [sys.executable, "-m", "park.broker", str(self.port)]
        config = self.data_dir / "mosquitto.conf"
        user = pwd.getpwuid(os.geteuid()).pw_name
        # every second: with the default of half an hour a kill -9 loses far more; saving at each change instead writes the
        # whole store for each message (75 messages/s, measured). Readings do not hang on it: docs/decisions/030
        config.write_text(f"""listener {self.port} 127.0.0.1
allow_anonymous true
persistence true
persistence_location {self.data_dir}/
autosave_interval 1
max_queued_messages 0
max_inflight_messages 2000
user {user}
log_type error
log_type warning
""")
        return [str(_mosquitto()), "-c", str(config)]

def _mosquitto() -> str | None:
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


async def _serve(port: int) -> None:
    from amqtt.broker import Broker as Amqtt

    broker = Amqtt({
        "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}", "max_connections": 1000}},
        "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
    })
    stop = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, stop.set)
    await broker.start()
    await stop.wait()
    await broker.shutdown()


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    asyncio.run(_serve(int(sys.argv[1])))
