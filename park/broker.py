"""Embedded MQTT broker: mosquitto when it is on PATH, otherwise amqtt in a process of its own (`park.broker_amqtt`).

amqtt speaks MQTT 3.1.1 only and keeps no queue over a restart: the collectors' spool covers that, because it keeps a
batch until ingest has committed it. Both listen on loopback, open to this machine; on any other address only to users
with a password, each with its own rights (`park.broker_access`), and with TLS where it has a certificate.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from park.broker_access import PLATFORM, topics_of, users, write_for_amqtt, write_for_mosquitto
from park.broker_tls import SCHEMES, Certificate
from park.embedded import die_with_parent
from park.errors import SetupError

USERS = "users.json"
TLS_FILES = ("certfile", "keyfile")     # as both brokers call them


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port that is free at this moment on an address; on every address for 0.0.0.0 or ::."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as s:
        s.bind((host, 0))
        port: int = s.getsockname()[1]
        return port


def host_port(mqtt_url: str) -> tuple[str, int]:
    """(host, port) of an MQTT URL."""
    parts = urlsplit(mqtt_url)
    return parts.hostname or "127.0.0.1", parts.port or (8883 if parts.scheme in SCHEMES else 1883)


def is_embedded(folder: Path, mqtt_url: str) -> bool:
    """Whether a URL is that of the embedded broker over this folder, as a run of `park up` exported it in its file `env`."""
    parts, port = urlsplit(mqtt_url), folder.parent / "broker.port"
    if parts.username is None:
        return parts.hostname == "127.0.0.1" and port.exists() and port.read_text() == str(parts.port)
    own = folder / USERS
    return parts.username == PLATFORM and own.exists() and users(own)[PLATFORM] == unquote(parts.password or "")


@dataclass(frozen=True)
class Listen:
    """Where the embedded broker lets devices of these bases in from elsewhere; encrypted where there is a certificate."""

    host: str
    port: int
    bases: Sequence[str] = ()
    certificate: Certificate | None = None


class Broker:
    """One embedded broker; `start` returns when it accepts connections.

    Without `listen` it has its port on loopback and asks nobody. With it everybody is asked for a password, also on
    loopback, and has the rights that `park.broker_access` has for its bases. With a certificate the port of `listen` speaks
    TLS alone; the stages of this machine then use `port`, which stays on loopback.
    """

    def __init__(self, data_dir: Path, port: int | None = None, *, listen: Listen | None = None,
                 kind: str | None = None) -> None:
        self.data_dir = data_dir.absolute()
        self.listen = listen
        self.certificate = listen.certificate if listen else None
        open_alone = listen if listen and not listen.certificate else None
        self.host = open_alone.host if open_alone else "127.0.0.1"
        self.port = open_alone.port if open_alone else port or free_port()
        self.kind = kind or ("mosquitto" if _mosquitto() else "amqtt")
        self._server: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """PARK_MQTT_URL of this broker."""
        near = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        who = f"{PLATFORM}:{quote(users(self.users_file)[PLATFORM], safe='')}@" if self.listen else ""
        return f"mqtt://{who}{f'[{near}]' if ':' in near else near}:{self.port}"

    @property
    def users_file(self) -> Path:
        """Names and passwords of those who may log in, where it listens beyond loopback."""
        return self.data_dir / USERS

    @property
    def pid(self) -> int | None:
        """Process id of the broker while it runs."""
        return self._server.pid if self._server else None

    def start(self, timeout_s: float = 20.0) -> Broker:
        """Run the broker and wait until its port answers; SetupError with its log if it does not."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        if self.listen:
            write = write_for_amqtt if self.kind == "amqtt" else write_for_mosquitto
            write(self.data_dir, users(self.users_file), self.listen.bases, topics_of(self.users_file))
        host, port = host_port(self.url)
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
            with contextlib.suppress(OSError), socket.create_connection((host, port), 1):
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
            terms = {"listeners": self._listeners(), "access": str(self.data_dir / "access.json") if self.listen else None}
            return [sys.executable, "-m", "park.broker_amqtt", json.dumps(terms)]
        config = self.data_dir / "mosquitto.conf"
        user = pwd.getpwuid(os.geteuid()).pw_name
        # every second: with the default of half an hour a kill -9 loses far more; saving at each change instead writes the
        # whole store for each message (75 messages/s, measured). Readings do not hang on it: docs/decisions/030
        access = (f"allow_anonymous false\npassword_file {self.data_dir}/passwords\nacl_file {self.data_dir}/acl" if self.listen
                  else "allow_anonymous true")
        listeners = "".join(f"listener {at['port']} {at['host']}\n" + "".join(f"{k} {at[k]}\n" for k in TLS_FILES if k in at)
                            for at in self._listeners())
        config.write_text(f"""{listeners}{access}
persistence true
persistence_location {self.data_dir}/
autosave_interval 1
max_queued_messages 0
max_inflight_messages 2000
message_size_limit 8388608
user {user}
log_type error
log_type warning
""")
        return [str(_mosquitto()), "-c", str(config)]

    def _listeners(self) -> list[dict[str, str | int]]:
        own: dict[str, str | int] = {"host": self.host, "port": self.port}
        if self.listen is None or self.certificate is None:
            return [own]
        files = dict(zip(TLS_FILES, map(str, (self.certificate.file, self.certificate.key)), strict=True))
        return [own, {"host": self.listen.host, "port": self.listen.port, **files}]


def _mosquitto() -> str | None:
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
