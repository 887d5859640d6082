"""HJ 212: frames a core decodes and stores, and thousands of connected loggers at one frame a minute.

The receiver runs in a process of its own with the real intake and spool (SQLite, synchronous FULL), and its CPU time is read
from the system; the senders are in this process. A frame has ten factors with flag, which is a stack's real-time message.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from collectors.hj212_frame import FrameReader, build_frame, parse_message
from collectors.hj212_logger import loggers_of
from collectors.hj212_server import Hj212Server
from collectors.intake import SpoolIntake
from collectors.park_devices import FieldDevice, Target
from collectors.service import run_loop
from collectors.spool import Spool
from park.catalogue import Device

Row = tuple[str, str, str]
FACTORS = tuple(f"a{21001 + i}" for i in range(10))
LOGGERS = 5_000
FRAMES = 20_000
SENDERS = 20
SECONDS = 20.0
ZONE = ZoneInfo("Asia/Shanghai")


def run() -> list[Row]:
    """Rows of name, figure, limit or goal."""
    rows = [_decode_only()]
    for work in (_flood, _many):
        with tempfile.TemporaryDirectory(prefix="park-bench-") as folder:
            receiver = subprocess.Popen([sys.executable, "-m", "bench.collectors_hj212", folder], stdout=subprocess.PIPE,
                                        stdin=subprocess.PIPE, cwd=Path(__file__).parents[1])
            assert receiver.stdout is not None and receiver.stdin is not None
            try:
                port = int(receiver.stdout.readline())
                rows += run_loop(work(port, receiver))
            finally:
                receiver.stdin.close()
                receiver.wait(30)
                receiver.stdout.close()
    return rows


def _mn(n: int) -> str:
    return f"{n:024d}"


def _frame(n: int, k: int) -> bytes:
    """The k-th message of logger n, a second after the former."""
    at = datetime.fromtimestamp(int(time.time()) - 600 + k % 600, ZONE)
    cp = ";".join(f"{f}-Rtd={k + i / 10:.1f},{f}-Flag=N" for i, f in enumerate(FACTORS))
    return build_frame(f"QN={at:%Y%m%d%H%M%S}{k % 1000:03d};ST=31;CN=2011;PW=123456;MN={_mn(n)};Flag=5;"
                       f"CP=&&DataTime={at:%Y%m%d%H%M%S};{cp}&&")


def _decode_only() -> Row:
    stream = b"".join(_frame(0, k) for k in range(2000))
    began = time.process_time()
    for frame in FrameReader().feed(stream):
        parse_message(frame.data)
    rate = 2000 / (time.process_time() - began)
    return "frames/s a core cut, checked and parsed only (10 factors)", f"{rate:,.0f}", "limit for the next row"


async def _flood(port: int, receiver: subprocess.Popen[bytes]) -> list[Row]:
    """As fast as the answers allow: each sender keeps 50 frames under way."""
    frames = [[_frame(n, k) for k in range(FRAMES // SENDERS)] for n in range(SENDERS)]
    before, began = _cpu_s(receiver.pid), time.perf_counter()

    async def sender(mine: list[bytes]) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for k in range(0, len(mine), 50):
            some = mine[k:k + 50]
            writer.write(b"".join(some))
            for _ in some:
                await reader.readuntil(b"\r\n")
        writer.transport.abort()

    await asyncio.gather(*map(sender, frames))
    took, cpu = time.perf_counter() - began, _cpu_s(receiver.pid) - before
    stored = _told(receiver)
    assert stored["readings"] == FRAMES * len(FACTORS), stored
    return [("frames/s a core decoded, stored durably and answered 9014", f"{FRAMES / cpu:,.0f}",
             f"readings/s a core {stored['readings'] / cpu:,.0f}; wall {FRAMES / took:,.0f} frames/s")]


async def _many(port: int, receiver: subprocess.Popen[bytes]) -> list[Row]:
    """All connected, one frame a minute each, evenly over the minute; measured over a part of it."""
    links: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    began = time.perf_counter()
    for n in range(0, LOGGERS, 200):
        links += await asyncio.gather(*(asyncio.open_connection("127.0.0.1", port) for _ in range(min(200, LOGGERS - n))))
    connected_s = time.perf_counter() - began
    count = int(LOGGERS * SECONDS / 60)
    latencies: list[float] = []

    async def one(n: int) -> None:
        reader, writer = links[n]
        sent = time.perf_counter()
        writer.write(_frame(n, n))
        await reader.readuntil(b"\r\n")
        latencies.append(time.perf_counter() - sent)

    before, began = _cpu_s(receiver.pid), time.perf_counter()
    tasks = []
    for n in range(count):
        await asyncio.sleep(max(0.0, began + n * 60 / LOGGERS - time.perf_counter()))
        tasks.append(asyncio.create_task(one(n)))
    await asyncio.gather(*tasks)
    cpu = (_cpu_s(receiver.pid) - before) / (time.perf_counter() - began)
    memory = _told(receiver)["rss_mb"]
    for _, writer in links:
        writer.transport.abort()
    latencies.sort()
    p99, median = (latencies[int(share * len(latencies))] * 1000 for share in (0.99, 0.5))
    return [(f"{LOGGERS:,} connected loggers, one frame a minute: share of a core", f"{cpu:.3f}",
             f"no goal; {memory:.0f} MB, all connected in {connected_s:.1f} s"),
            ("the same: frame to 9014 (on disk), p99", f"{p99:.0f} ms", f"median {median:.0f} ms")]


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _told(receiver: subprocess.Popen[bytes]) -> dict[str, Any]:
    """What the receiver says of itself."""
    assert receiver.stdin is not None and receiver.stdout is not None
    receiver.stdin.write(b"tell\n")
    receiver.stdin.flush()
    answer: dict[str, Any] = json.loads(receiver.stdout.readline())
    return answer


async def _receive(folder: Path) -> None:
    targets = {f: Target(f"p.{f}", "mg/m3", "gauge", 60) for f in FACTORS}
    devices = [FieldDevice("b", "Asia/Shanghai", Device(code=f"d{n}", protocol="hj212", mn=_mn(n), password="123456",
                                                        edition="2017", crc="hj212"), targets) for n in range(LOGGERS)]
    intake = SpoolIntake(Spool(folder / "s.sqlite", "bench"))
    server = Hj212Server(loggers_of(devices)[0], intake, "b")
    writing = asyncio.create_task(intake.run())
    print(await server.start("127.0.0.1", 0), flush=True)
    while await asyncio.to_thread(sys.stdin.readline):
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        print(json.dumps({"readings": intake.taken_readings, "rss_mb": pages * os.sysconf("SC_PAGE_SIZE") / 1e6}), flush=True)
    await server.close()
    await intake.stop()
    await writing
    intake.spool.close()


if __name__ == "__main__":
    run_loop(_receive(Path(sys.argv[1])))
