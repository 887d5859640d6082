"""The API: server CPU of a page of readings, requests a second of an aggregate, an alert on its way to many listeners.

The server runs in a process of its own; its CPU is read from the kernel. The limit beside the stream is a bare asyncio
server that writes the same bytes to as many sockets, in the same run.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

import httpx
import numpy as np
import psutil
import psycopg

from api.tokens import create_token
from park.catalogue import read_catalogue
from park.catalogue_store import apply
from park.database import connect, migrate
from park.embedded import Postgres

MINI = Path(__file__).parent.parent / "tests" / "data" / "mini.yaml"
SERVE = ("import sys; from api.access import Limits; from api.server import make_server; from park.settings import Settings;"
         "wide = Limits(1e6, 1e6, 1e6, 1e6, streams_of_token=100000);"
         "make_server(Settings(database_url=sys.argv[1]), '127.0.0.1', int(sys.argv[2]), limits=wide).run()")
LISTENERS = 1000
ALERTS = 40
Row = tuple[str, str, str]


def run() -> list[Row]:
    """Rows (name, figure, goal)."""
    with TemporaryDirectory() as folder, Postgres(Path(folder) / "data").start() as server:
        migrate(server.url())
        with connect(server.url(), autocommit=True) as conn:
            token = _fill(conn)
            with _server(server.url()) as (port, process):
                return [*_pages(port, process, token), _requests(port, process, token), *_streams(port, conn, token)]


def _fill(conn: psycopg.Connection[tuple[object, ...]]) -> str:
    """The mini park with 10,000 readings of a point, a day's total, and an open alert; returns a token."""
    apply(conn, read_catalogue([MINI]))
    conn.execute("SELECT ensure_reading_partitions('2026-11-01Z', '2026-11-20Z')")
    conn.execute("INSERT INTO reading SELECT timestamptz '2026-11-02Z' + i * interval '60 s', 100 + random(), point_id, "
                 "base_id, 0 FROM point, generate_series(1, 20000) i WHERE code = 'e1.main.kw'")
    conn.execute("INSERT INTO energy_total (base_id, day, carrier, unit, amount, n_expected, n_known, n_good) "
                 "SELECT base_id, '2026-11-20', 'electricity', 'kWh', 1000, 96, 96, 96 FROM base")
    conn.execute("INSERT INTO alert (base_id, rule_id, point_id, severity, opened_at) "
                 "SELECT base_id, rule_id, point_id, 'high', now() FROM rule JOIN point USING (base_id) "
                 "WHERE point.code = 'e1.stack.so2'")
    conn.execute("ANALYZE")
    return create_token(conn, role="operator", name="bench", bases=["mini"])


@contextmanager
def _server(url: str) -> Iterator[tuple[int, psutil.Process]]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    process = subprocess.Popen([sys.executable, "-c", SERVE, url, str(port)],
                               env=os.environ | {"PYTHONPATH": str(MINI.parents[2])})
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                if httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200:
                    break
            except httpx.TransportError:
                pass
            if time.monotonic() > deadline:
                raise RuntimeError("the API did not start")
            time.sleep(0.05)
        yield port, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(10)


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _pages(port: int, process: psutil.Process, token: str, n: int = 40) -> list[Row]:
    """Server CPU of 10,000 raw readings of a point in each form."""
    rows = []
    with httpx.Client(base_url=f"http://127.0.0.1:{port}/api/v1", headers={"Authorization": f"Bearer {token}"}) as client:
        for form, goal in (("json", "≤ 20 ms"), ("csv", "≤ 20 ms"), ("arrow", "≤ 20 ms")):
            path = f"/readings?point=e1.main.kw&start=2026-11-01T00:00:00Z&end=2026-11-20T00:00:00Z&limit=10000&format={form}"
            for _ in range(3):
                client.get(path).raise_for_status()
            began = _cpu(process)
            for _ in range(n):
                client.get(path)
            rows.append((f"10,000 readings as {form}, server CPU", f"{(_cpu(process) - began) / n * 1000:.1f} ms", goal))
    return rows


def _requests(port: int, process: psutil.Process, token: str, n: int = 1500) -> Row:
    """Requests a second of one day's aggregate over eight connections, and the CPU that one costs the server."""
    request = ("GET /api/v1/aggregates?base=mini&period=2026-11-20 HTTP/1.1\r\nHost: x\r\n"
               f"Authorization: Bearer {token}\r\n\r\n").encode()

    async def one(count: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(count):
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(head[:100])
            length = next(int(h[15:]) for h in head.lower().split(b"\r\n") if h.startswith(b"content-length"))
            await reader.readexactly(length)
        writer.close()

    async def all_of_them() -> None:
        await asyncio.gather(*(one(n // 8) for _ in range(8)))

    asyncio.run(all_of_them())
    cpu, began = _cpu(process), time.perf_counter()
    asyncio.run(all_of_them())
    took, cpu = time.perf_counter() - began, _cpu(process) - cpu
    figure = f"{n / took:,.0f} requests/s, {cpu / n * 1000:.2f} ms server CPU each"
    return ("aggregate of a day, 8 connections", figure, "≥ 250 requests/s")


class _Listener(asyncio.Protocol):
    """Counts events and notes when each came."""

    def __init__(self, request: bytes) -> None:
        self.request = request
        self.came: list[float] = []
        self.ready = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        self.ready = self.ready or b"ready" in data
        self.came += [now] * data.count(b"event: transition")


async def _listeners(port: int, n: int, request: bytes) -> list[_Listener]:
    loop = asyncio.get_running_loop()
    listeners: list[_Listener] = []
    for _ in range(n):
        _, listener = await loop.create_connection(lambda: _Listener(request), "127.0.0.1", port)
        listeners.append(listener)
    deadline = time.monotonic() + 30
    while not all(one.ready for one in listeners):
        if time.monotonic() > deadline:
            raise RuntimeError("the streams did not open")
        await asyncio.sleep(0.05)
    return listeners


def _streams(port: int, conn: psycopg.Connection[tuple[object, ...]], token: str) -> list[Row]:
    import uvloop
    request = f"GET /api/v1/alerts/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode()

    def store() -> None:
        conn.execute("INSERT INTO transition (base_id, alert_id, change, actor) "
                     "SELECT base_id, alert_id, 'comment', 'x' FROM alert")

    async def through_the_api(n: int) -> list[float]:
        listeners = await _listeners(port, n, request)
        return await _told(listeners, lambda: asyncio.get_running_loop().run_in_executor(None, store))

    async def bare(n: int) -> list[float]:
        clients: list[asyncio.Transport] = []
        frame = b"id: 1\nevent: transition\ndata: " + b"x" * 1500 + b"\n\n"

        class Bare(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                clients.append(cast(asyncio.Transport, transport))
                clients[-1].write(b"ready\n")

        server = await asyncio.get_running_loop().create_server(Bare, "127.0.0.1", 0)
        listeners = await _listeners(server.sockets[0].getsockname()[1], n, b"x")

        async def broadcast() -> None:
            for client in clients:
                client.write(frame)
        times = await _told(listeners, broadcast)
        server.close()
        return times

    rows = []
    limit = np.percentile(uvloop.run(bare(LISTENERS)), [50, 99]) * 1000
    bare_sockets = f"bare sockets in one process {limit[0]:.0f} / {limit[1]:.0f} ms"
    for n, goal in ((100, "p99 ≤ 20 ms"), (LISTENERS, f"p99 ≤ 100 ms; {bare_sockets}")):
        half, most = np.percentile(uvloop.run(through_the_api(n)), [50, 99]) * 1000
        rows.append((f"stored transition to {n:,} listeners, p50 / p99", f"{half:.0f} / {most:.0f} ms", goal))
    return rows


async def _told(listeners: list[_Listener], tell: Callable[[], Awaitable[None]]) -> list[float]:
    """Seconds from each telling to each listener."""
    times: list[float] = []
    for i in range(1, ALERTS + 1):
        began = time.perf_counter()
        await tell()
        deadline = time.monotonic() + 10
        while any(len(one.came) < i for one in listeners):
            if time.monotonic() > deadline:
                raise RuntimeError("a listener was not told")
            await asyncio.sleep(0.005)
        times += [one.came[i - 1] - began for one in listeners]
        await asyncio.sleep(0.05)
    for one in listeners:
        one.transport.close()
    return times
