"""Modbus polling: CPU a read beside a hand-packed client and plain pymodbus; 5,000 meters a second; a slow link.

The devices are one process of their own that answers with packed bytes, so that only the collector's cost is counted.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import socket
import struct
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

import numpy as np

from collectors.gateway import SETTLED_S, settle_memory
from collectors.modbus_link import ModbusLink, parse_connection
from collectors.modbus_unit import ModbusUnit
from collectors.park_devices import FieldDevice, Target
from collectors.polled import gateway_of
from collectors.readings import DeadLetter, Readings
from collectors.service import run_loop
from collectors.template import Limits, Template, TemplatePoint
from park.catalogue import Device

DEVICES, FLOATS, SECONDS = 5000, 30, 12.0
READS = 4000
Row = tuple[str, str, str]


def run() -> list[Row]:
    """Rows (name, figure, goal); every figure is taken here, now."""
    with _devices(0.0) as port:
        hand = _hand_packed(port)
        ours = run_loop(_ours(port))
        stock = run_loop(_stock(port))
        share, late, points = run_loop(_park(port))
    with _devices(0.02) as slow:
        requests, rate = run_loop(_slow_link(slow))
    return [
        ("CPU a 60-register read, hand-packed on a blocking socket", f"{hand:.1f} us", "limit"),
        ("CPU a 60-register read, the adapter", f"{ours:.1f} us = {ours / hand:.1f} x", "goal 4 x hand-packed"),
        ("CPU a 60-register read, pymodbus' client", f"{stock:.1f} us = {stock / hand:.1f} x", "beside it"),
        (f"{DEVICES:,} meters x {FLOATS} float32 at 1 s: share of a core", f"{share:.2f}", "goal 0.4"),
        ("the same: due to decoded, 99th percentile", f"{late * 1000:.0f} ms", "goal 50 ms"),
        ("the same: readings a second", f"{points:,.0f}", f"{DEVICES * FLOATS:,}"),
        ("1,000 contiguous float32: requests", f"{requests}", "goal 17"),
        ("1,000 contiguous float32 at 20 ms a request", f"{rate:,.0f} points/s", "goal 2,000 points/s"),
    ]


# ---- the devices


@contextmanager
def _devices(delay_s: float) -> Iterator[int]:
    """A process that answers every read on one port; yields the port."""
    here, there = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(there, delay_s), daemon=True)
    process.start()
    try:
        if not here.poll(20):
            raise RuntimeError("the simulated meters did not start")
        yield here.recv()
    finally:
        process.kill()
        process.join(5)


class _Meter(asyncio.Protocol):
    """Answers requests of Modbus TCP with floats that count up from 1."""

    delay_s = 0.0
    _memory = struct.pack(">32768f", *(1.0 + i % 1000 for i in range(32768)))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        address, count = struct.unpack_from(">HH", data, 8)
        n = 2 * count
        answer = b"%b\0\0%b%b%b%b" % (data[:2], (n + 3).to_bytes(2, "big"), data[6:8], bytes([n]),
                                      self._memory[2 * address:2 * address + n])
        if self.delay_s:
            asyncio.get_running_loop().call_later(self.delay_s, self._transport.write, answer)  # type: ignore[attr-defined]
        else:
            self._transport.write(answer)  # type: ignore[attr-defined]


def _serve(there: Connection, delay_s: float) -> None:
    _Meter.delay_s = delay_s

    async def serve() -> None:
        server = await asyncio.get_running_loop().create_server(_Meter, "127.0.0.1", 0, backlog=4096)
        there.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()
    run_loop(serve())


# ---- one connection


def _hand_packed(port: int) -> float:
    """Microseconds of CPU a read of the least a Python client can do: pack, send, receive, look at the header."""
    with socket.create_connection(("127.0.0.1", port)) as link:
        def once(tid: int) -> None:
            link.sendall(struct.pack(">HHHBBHH", tid, 0, 6, 1, 3, 0, 60))
            answer = link.recv(512)
            assert len(answer) == 129 and answer[:2] == tid.to_bytes(2, "big")
        for tid in range(200):
            once(tid)
        began = time.process_time()
        for tid in range(READS):
            once(tid)
        return (time.process_time() - began) / READS * 1e6


async def _cost(once: Callable[[], Awaitable[object]]) -> float:
    for _ in range(200):
        await once()
    began = time.process_time()
    for _ in range(READS):
        await once()
    return (time.process_time() - began) / READS * 1e6


async def _ours(port: int) -> float:
    link = ModbusLink(parse_connection(f"tcp://127.0.0.1:{port}"))
    try:
        return await _cost(lambda: link.read(1, 3, 0, 60))
    finally:
        link.close()


async def _stock(port: int) -> float:
    from pymodbus.client import AsyncModbusTcpClient

    client = AsyncModbusTcpClient("127.0.0.1", port=port)
    await client.connect()
    try:
        return await _cost(lambda: client.read_holding_registers(0, count=60, device_id=1))
    finally:
        client.close()


# ---- a park


class _Counter:
    """An intake that counts."""

    readings = 0

    def add(self, item: Readings | DeadLetter) -> None:
        self.readings += len(item)

    async def store(self, items: object) -> None:
        raise AssertionError("polls only add")


def _meter(floats: int) -> Template:
    points = [TemplatePoint(key=f"p{i}", quantity="active_power", address=2 * i, type="f32", unit="kW") for i in range(floats)]
    return Template(template="bench.meter", version=1, vendor="bench", models=["m"], kind="meter", source=["bench"],
                    limits=Limits(max_registers=124), points=points)


def _unit(k: int, port: int, template: Template) -> ModbusUnit:
    url = f"tcp://127.0.0.1:{port}?meter={k}"  # a connection of its own for each meter
    row = Device(code=f"m{k}", protocol="modbus", template=template.template, connection=url, unit_id=1, every={"fast": 1.0})
    targets = {p.key: Target(f"m{k}.{p.key}", "kW", "gauge", 1) for p in template.points}
    return ModbusUnit(FieldDevice("bench", "Asia/Shanghai", row, targets), template)


async def _park(port: int) -> tuple[float, float, float]:
    """(share of a core, 99th percentile of lateness in seconds, readings a second) in the steady state."""
    template, intake = _meter(FLOATS), _Counter()
    late: list[float] = []
    polls = []
    for k in range(DEVICES):
        unit = _unit(k, port, template)
        gateway = gateway_of(unit.field.device.connection or "", [unit])
        gateway.on_poll = late.append
        polls.append(asyncio.create_task(gateway.run(intake)))
    settle_memory()
    await asyncio.sleep(SETTLED_S + 1.0)  # connecting, and the first poll of each
    late.clear()
    before, cpu, wall = intake.readings, time.process_time(), time.monotonic()
    await asyncio.sleep(SECONDS)
    cpu, wall = time.process_time() - cpu, time.monotonic() - wall
    rate = (intake.readings - before) / wall
    lateness = float(np.quantile(late, 0.99))
    for poll in polls:
        poll.cancel()
    await asyncio.gather(*polls, return_exceptions=True)
    return cpu / wall, lateness, rate


async def _slow_link(port: int) -> tuple[int, float]:
    """Requests and points a second for 1,000 floats of one device whose link takes 20 ms a request."""
    unit, intake = _unit(0, port, _meter(1000)), _Counter()
    gateway = gateway_of(f"tcp://127.0.0.1:{port}", [unit])
    await gateway.link.open()
    began = time.monotonic()
    await gateway.poll_once(intake)
    return gateway.link.requests, intake.readings / (time.monotonic() - began)
