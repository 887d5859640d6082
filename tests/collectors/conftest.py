"""Field devices for the collectors' tests: a Modbus gateway of hand-packed bytes, a listener on the broker, and the collector
and ingest as processes."""

from __future__ import annotations

import asyncio
import json
import math
import os
import shlex
import struct
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from collectors.readings import DeadLetter, Readings
from park.broker import free_port
from park.embedded import die_with_parent
from park.mqtt import connect, new_client

ROOT = Path(__file__).parents[2]
NAMESPACE = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-r", "-m"]


def crc_modbus(data: bytes) -> bytes:
    """As it goes out on the line, low byte first."""
    crc = 0xFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ 0xA001 if crc & 1 else crc >> 1
    return struct.pack("<H", crc)


@dataclass
class FieldGateway:
    """A gateway with meters behind it, written from the protocol's text; runs on a thread with a loop of its own."""

    rtu: bool = False
    units: dict[int, dict[int, int]] = field(default_factory=dict)
    silent: set[int] = field(default_factory=set)
    delay_s: dict[int, float] = field(default_factory=dict)
    refuses: dict[int, set[int]] = field(default_factory=dict)  # unit -> addresses that answer exception 2
    mute_connections: int = 0  # so many first connections never answer: a half-open link
    requests: list[tuple[int, int, int, int]] = field(default_factory=list)  # unit, function, address, count
    counting: bool = False  # every register answers with the number of the request, as f32
    served: list[tuple[int, int, int, int]] = field(default_factory=list)  # unit, address, points, number
    connections: int = 0
    port: int = 0

    def f32(self, unit: int, address: int, value: float) -> None:
        """Put a float into a unit, high word first."""
        high, low = struct.unpack(">HH", struct.pack(">f", value))
        self.units.setdefault(unit, {}).update({address: high, address + 1: low})

    def start(self) -> FieldGateway:
        """Listen on a free port (the same again after `stop`)."""
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(started,), daemon=True)
        self._thread.start()
        assert started.wait(10)
        return self

    def stop(self) -> None:
        """Hang up and stop listening."""
        self._loop.call_soon_threadsafe(self._ending.set)
        self._thread.join(10)

    def _run(self, started: threading.Event) -> None:
        asyncio.run(self._serve(started))

    async def _serve(self, started: threading.Event) -> None:
        self._loop, self._ending = asyncio.get_running_loop(), asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        server = await asyncio.start_server(self._connection, "127.0.0.1", self.port)
        self.port = server.sockets[0].getsockname()[1]
        started.set()
        await self._ending.wait()
        server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0.01)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        mute = self.connections <= self.mute_connections
        me = asyncio.current_task()
        assert me is not None
        self._tasks.add(me)
        late: set[asyncio.Task[None]] = set()
        try:
            while True:
                if self.rtu:
                    frame = await reader.readexactly(8)
                    assert crc_modbus(frame[:6]) == frame[6:]
                    head, unit, pdu = b"", frame[0], frame[1:6]
                else:
                    head = await reader.readexactly(7)
                    unit, pdu = head[6], await reader.readexactly(struct.unpack(">H", head[4:6])[0] - 1)
                function, address, count = struct.unpack(">BHH", pdu)
                self.requests.append((unit, function, address, count))
                if mute or unit in self.silent or unit not in self.units:
                    continue
                answer = self._answer(unit, function, address, count)
                task = asyncio.create_task(self._send(writer, head, unit, answer))
                late.add(task)
                task.add_done_callback(late.discard)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            for task in late:
                task.cancel()
            self._tasks.discard(me)
            writer.transport.abort()

    def _answer(self, unit: int, function: int, address: int, count: int) -> bytes:
        words = self.units[unit]
        if self.counting:
            self.served.append((unit, address, count // 2, len(self.served) + 1))
            return bytes([function, 2 * count]) + struct.pack(">f", float(len(self.served))) * (count // 2)
        if self.refuses.get(unit, set()) & set(range(address, address + count)):
            return bytes([function | 0x80, 2])
        return struct.pack(f">BB{count}H", function, 2 * count, *(words.get(a, 0) for a in range(address, address + count)))

    async def _send(self, writer: asyncio.StreamWriter, head: bytes, unit: int, answer: bytes) -> None:
        await asyncio.sleep(self.delay_s.get(unit, 0))
        frame = bytes([unit]) + answer
        writer.write(frame + crc_modbus(frame) if self.rtu else head[:4] + struct.pack(">H", len(frame)) + frame)


@pytest.fixture
def field_gateway() -> Iterator[Callable[..., FieldGateway]]:
    """Starts gateways; stops them after the test."""
    started: list[FieldGateway] = []

    def start(**options: Any) -> FieldGateway:
        gateway = FieldGateway(**options).start()
        started.append(gateway)
        return gateway

    yield start
    for gateway in started:
        gateway.stop()


@dataclass
class Basket:
    """An intake that keeps what drivers give; `fail` makes the disk refuse."""

    items: list[Readings | DeadLetter] = field(default_factory=list)
    fail: Exception | None = None

    def add(self, item: Readings | DeadLetter) -> None:
        self.items.append(item)

    async def store(self, items: Sequence[Readings | DeadLetter]) -> None:
        if self.fail is not None:
            raise self.fail
        self.items += items

    def rows(self) -> list[tuple[str, int, float | None, str]]:
        """All readings as (point, at, value, quality)."""
        return [row for r in self.items if isinstance(r, Readings)
                for row in zip(r.point, r.at, r.value, r.quality, strict=True)]

    def letters(self) -> list[DeadLetter]:
        """All dead letters."""
        return [x for x in self.items if isinstance(x, DeadLetter)]


@pytest.fixture
def basket() -> Basket:
    return Basket()


class Ear:
    """A subscriber to `park/v1/#` that keeps what it hears, and subscribes again when the broker comes back. With
    `confirm` it confirms batches as ingest does after its commit; it acknowledges only what it keeps."""

    def __init__(self, url: str, name: str = "ear", confirm: bool = True) -> None:
        self.confirm = confirm
        self.messages: list[tuple[str, dict[str, Any]]] = []
        self._url, self._name = url, name
        self._ending = threading.Event()
        self.ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self.ready.wait(20)

    def _run(self) -> None:
        while not self._ending.is_set():
            try:
                client = new_client(self._url, self._name)
                client.on_message = self._hear
                client.on_connect = lambda c, *_: c.subscribe("park/v1/#", 1)
                client.on_subscribe = lambda *_: self.ready.set()
                connect(client, self._url)
                while not self._ending.is_set() and client.loop(0.05) == 0:
                    pass
                client.disconnect()
            except OSError:
                time.sleep(0.05)

    def _hear(self, client: Any, _: Any, message: Any) -> None:
        head, _, kind = message.topic.rpartition("/")
        body = json.loads(message.payload)
        self.messages.append((message.topic, body))
        if self.confirm and kind in ("readings", "deadletter"):
            client.publish(f"{head}/committed", json.dumps({"seq": [body["seq"]]}), qos=1)

    def readings(self) -> dict[tuple[str, int], dict[str, Any]]:
        """Batches by (source, seq): what ingest would store once."""
        return {(t.split("/")[3], m["seq"]): m for t, m in list(self.messages) if t.endswith("/readings")}

    def rows(self) -> list[tuple[str, int, float | None]]:
        """Readings of the distinct batches."""
        return [row for m in self.readings().values() for row in zip(m["point"], m["at"], m["value"], strict=True)]

    def of(self, kind: str) -> list[dict[str, Any]]:
        """Messages of a kind: health or deadletter."""
        return [m for t, m in list(self.messages) if t.endswith(f"/{kind}")]

    def close(self) -> None:
        self._ending.set()
        self._thread.join(5)


@pytest.fixture
def ear() -> Iterator[Callable[..., Ear]]:
    """Opens listeners on brokers; closes them after the test."""
    opened: list[Ear] = []

    def listen(url: str, *, confirm: bool = True) -> Ear:
        opened.append(Ear(url, f"ear-{len(opened)}-{time.monotonic_ns()}", confirm))
        return opened[-1]

    yield listen
    for one in opened:
        one.close()


def _until(condition: Callable[[], Any], timeout_s: float = 20.0) -> Any:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError(f"not within {timeout_s:.0f} s")


@pytest.fixture
def until() -> Callable[..., Any]:
    """Waits for a condition of a real process, with a deadline."""
    return _until


class Collector:
    """`park collect` as a process."""

    def __init__(self, folder: Path, mqtt_url: str, *arguments: str, inside: str = "", **environment: str) -> None:
        self._inside = inside  # a shell command to run before it in a mount namespace of their own
        self.hj212_port, self.metrics_port = free_port(), free_port()
        self.folder = folder
        self._environment = os.environ | {"PARK_MQTT_URL": mqtt_url, "PARK_DATA_DIR": str(folder / "data"), "CEMS_PW": "123456",
                                          "PARK_DATABASE_URL": "postgresql:///nowhere", **environment}
        self._arguments = [*arguments, "--hj212-port", str(self.hj212_port), "--hj212-host", "127.0.0.1",
                           "--metrics-port", str(self.metrics_port)]
        self.start()

    def start(self) -> None:
        with (self.folder / "collector.log").open("ab") as log:
            command = [sys.executable, "-m", "park.cli", "collect", *self._arguments]
            if self._inside:
                command = [*NAMESPACE, "sh", "-c", f"{self._inside} && exec {shlex.join(command)}"]
            self.process = subprocess.Popen(
                command, env=self._environment, cwd=ROOT, stderr=log,
                stdout=log, preexec_fn=die_with_parent)

    def log(self) -> str:
        return (self.folder / "collector.log").read_text()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> float:
        begin = time.monotonic()
        self.process.terminate()
        self.process.wait(10)
        return time.monotonic() - begin

    def metrics(self) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=5) as answer:
            return str(answer.read().decode())

    def metric(self, name: str) -> float:
        """A metric without labels; NaN while the collector does not serve it yet."""
        try:
            lines = self.metrics().splitlines()
        except OSError:
            return math.nan
        return next((float(line.split()[1]) for line in lines if line.startswith(name + " ")), math.nan)


@pytest.fixture
def collect(tmp_path: Path) -> Iterator[Callable[..., Collector]]:
    started: list[Collector] = []

    def start(*arguments: Any, **environment: str) -> Collector:
        started.append(Collector(tmp_path, *map(str, arguments), **environment))
        return started[-1]

    yield start
    for collector in started:
        if collector.process.poll() is None:
            collector.kill()


@pytest.fixture
def ingest(tmp_path: Path, database_url: str) -> Iterator[Callable[[str], None]]:
    """`park ingest` as a process; it dies with the tests, however they end."""
    running: list[subprocess.Popen[bytes]] = []

    def start(mqtt_url: str) -> None:
        env = os.environ | {"PARK_DATABASE_URL": database_url, "PARK_MQTT_URL": mqtt_url}
        with (tmp_path / "ingest.log").open("ab") as log:
            running.append(subprocess.Popen([sys.executable, "-m", "park.cli", "ingest"], env=env, cwd=ROOT, stderr=log,
                                            preexec_fn=die_with_parent))

    yield start
    for process in running:
        process.kill()
        process.wait()
