"""The collector as a process between real devices and a real table: kill -9 at random instants, a full disk, a broker away.

The devices keep their own account of what they gave, and the table is held against it.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import resource
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest

from collectors.hj212_frame import build_frame
from park.broker import Broker, free_port
from park.catalogue import read_catalogue
from park.catalogue_store import apply
from park.mqtt import connect, new_client
from tests.collectors.conftest import NAMESPACE, Collector

MN = "010000A8900016F000169DC0"
LOST_AT_A_KILL_S = 0.8
"""Polled readings of the last flush (0.2 s), and of the time that a write on a busy machine takes."""


def write_park(folder: Path, port: int, *, units: int, points: int, every_s: float) -> Path:
    """A catalogue of meters with contiguous floats behind one gateway, a data logger and an MQTT device."""
    template = folder / "counting.yaml"
    rows = [f"  - {{key: p{i}, quantity: active_power, address: {2 * i}, type: f32, unit: kW}}" for i in range(points)]
    template.write_text("template: test.counting\nversion: 1\nvendor: T\nmodels: [T]\nkind: meter\nsource: [test]\n"
                        "limits: {timeout_ms: 5000}\npoints:\n" + "\n".join(rows), encoding="utf-8")
    lines = ["base: {code: mini, name: Mini}", "devices:",
             f'  - {{code: d.cems, protocol: hj212, mn: "{MN}", password: "123456", edition: "2017", crc: hj212}}',
             '  - {code: d.plc, protocol: mqtt, mapping: {topic: "vendor/{device}/up", form: flat}}']
    lines += [f'  - {{code: m{u}, protocol: modbus, template: {template}, connection: "tcp://127.0.0.1:{port}", unit_id: {u}, '
              f"every: {{fast: {every_s}}}}}" for u in range(1, units + 1)]
    lines += ["points:", "  - {code: so2, quantity: so2, unit: mg/m3, source: {device: d.cems, key: a21026}}",
              "  - {code: temp, quantity: temperature, unit: degC, source: {device: d.plc, key: temp}}"]
    lines += [f"  - {{code: m{u}.p{i}, quantity: active_power, unit: kW, source: {{device: m{u}, key: p{i}}}}}"
              for u in range(1, units + 1) for i in range(points)]
    file = folder / "park.yaml"
    file.write_text("\n".join(lines), encoding="utf-8")
    return file


class Sender(threading.Thread):
    """A data logger that sends each reading until it is answered, and a PLC that publishes with QoS 1."""

    def __init__(self, hj212_port: int, mqtt_url: str | None) -> None:
        super().__init__(daemon=True)
        self.acknowledged: list[float] = []
        self.published = 0
        self.refused = 0
        self._port, self._url = hj212_port, mqtt_url
        self._ending = threading.Event()
        self._began = datetime.now(ZoneInfo("Asia/Shanghai")) - timedelta(hours=6)

    def run(self) -> None:
        client = None
        if self._url is not None:
            client = new_client(self._url, "plc")
            connect(client, self._url)
            client.loop_start()
        n = 0
        while not self._ending.is_set():
            if client is not None:
                body = {"ts": int(self._began.timestamp() * 1000) + n, "temp": float(n)}
                client.publish("vendor/plc/up", json.dumps(body), qos=1).wait_for_publish(10)
                self.published += 1
            while not self._answered(n):
                self.refused += 1
                if self._ending.wait(0.05):
                    break
            else:
                self.acknowledged.append(float(n))
            n += 1
            self._ending.wait(0.02)
        if client is not None:
            client.disconnect()
            client.loop_stop()

    def _answered(self, n: int) -> bool:
        at = self._began + timedelta(seconds=n)
        frame = build_frame(f"QN={at:%Y%m%d%H%M%S}000;ST=31;CN=2011;PW=123456;MN={MN};Flag=5;"
                            f"CP=&&DataTime={at:%Y%m%d%H%M%S};a21026-Rtd={float(n)},a21026-Flag=N&&")
        try:
            with socket.create_connection(("127.0.0.1", self._port), 1) as s:
                s.sendall(frame)
                s.settimeout(1)
                return b"CN=9014" in s.recv(500)
        except OSError:
            return False

    def end(self) -> None:
        """Finish; a reading that was not answered is not counted."""
        self._ending.set()
        self.join(15)
        assert not self.is_alive()


def one_more(sender: Sender, until: Any) -> None:
    """Wait until the data logger got one more answer."""
    known = len(sender.acknowledged)
    until(lambda: len(sender.acknowledged) > known)


def stored(db: psycopg.Connection[Any], point: str) -> list[float]:
    """Values of a point in the table."""
    return [row[0] for row in db.execute("SELECT r.value FROM reading r JOIN point p USING (point_id) WHERE p.code = %s "
                                         "ORDER BY r.ts", (point,)).fetchall()]


def settled(collector: Collector, meter: Any, until: Any, timeout_s: float = 60) -> None:
    """Silence the meters and wait until nothing waits any more."""
    meter.silent.update(meter.units)
    until(lambda: collector.metric("park_intake_pending_readings") == 0 == collector.metric("park_spool_batches"), timeout_s)


def outcomes(db: psycopg.Connection[Any]) -> dict[str, int]:
    """What ingest has counted."""
    return {k: int(n) for k, n in db.execute("SELECT outcome, sum(n) FROM ingest_counter GROUP BY outcome").fetchall()}


@pytest.mark.parametrize("rounds", [pytest.param(4, id="4 kills"), pytest.param(60, id="60 kills", marks=pytest.mark.soak)])
def test_kill_9_at_random_instants_loses_and_repeats_nothing_that_was_taken(
        rounds: int, tmp_path: Path, db: psycopg.Connection[Any], field_gateway: Callable[..., Any],
        collect: Callable[..., Collector], ingest: Callable[[str], None], until: Any) -> None:
    meter = field_gateway(counting=True, units={1: {}})
    apply(db, read_catalogue([write_park(tmp_path, meter.port, units=1, points=2, every_s=0.05)]))
    dice, seed = random.Random(), random.randrange(10**6)
    dice.seed(seed)
    with Broker(tmp_path / "broker", free_port()).start() as broker:
        ingest(broker.url)
        collector = collect(broker.url, tmp_path / "park.yaml")
        sender = Sender(collector.hj212_port, broker.url)
        until(lambda: len(meter.served) > 5)
        sender.start()
        for _ in range(rounds):
            one_more(sender, until)
            time.sleep(dice.uniform(0.0, 0.7))
            collector.kill()
            collector.start()
        one_more(sender, until)
        sender.end()
        settled(collector, meter, until)
        until(lambda: len(stored(db, "temp")) == sender.published)
    assert stored(db, "temp") == [float(n) for n in range(sender.published)], seed
    so2 = stored(db, "so2")
    assert set(so2) >= set(sender.acknowledged) and len(so2) - len(sender.acknowledged) in (0, 1), seed
    for point in ("m1.p0", "m1.p1"):
        got, given = stored(db, point), {float(number) for *_, number in meter.served}
        assert len(got) == len(set(got)), f"a reading is there twice, seed {seed}"
        assert set(got) <= given
        assert len(given) - len(got) <= rounds * LOST_AT_A_KILL_S / 0.05, f"more is missing than the last moment, seed {seed}"
    assert not {"corrected", "not_taken"} & outcomes(db).keys(), seed


@contextlib.contextmanager
def full_disk(collector: Collector) -> Iterator[None]:
    """A file system of 24 MiB on which nothing is left."""
    ballast = Path(f"/proc/{collector.process.pid}/root{collector.folder}/data/ballast")
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    yield
    ballast.unlink()


@contextlib.contextmanager
def file_limit(collector: Collector) -> Iterator[None]:
    """No file of the process may grow beyond what the spool's log has now."""
    size = (collector.folder / "data" / "spool" / "collector.sqlite-wal").stat().st_size
    before = resource.prlimit(collector.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(collector.process.pid, resource.RLIMIT_FSIZE, (size, before[1]))
    yield
    resource.prlimit(collector.process.pid, resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("kind", ["full disk", "limit of a file"])
def test_a_disk_that_takes_nothing_loses_and_repeats_nothing(
        kind: str, tmp_path: Path, db: psycopg.Connection[Any], field_gateway: Callable[..., Any],
        collect: Callable[..., Collector], ingest: Callable[[str], None], until: Any) -> None:
    small = f"mkdir -p {tmp_path}/data && mount -t tmpfs -o size=24m none {tmp_path}/data" if kind == "full disk" else ""
    if small and (shutil.which("unshare") is None
                  or subprocess.run([*NAMESPACE, "sh", "-c", small], capture_output=True, check=False).returncode):
        pytest.skip("this user may mount nothing, not even in a namespace of its own; the other case needs no right")
    meter = field_gateway(counting=True, units={1: {}})
    apply(db, read_catalogue([write_park(tmp_path, meter.port, units=1, points=60, every_s=0.1)]))
    port = free_port()
    collector = collect(f"mqtt://127.0.0.1:{port}", tmp_path / "park.yaml", inside=small)
    until(lambda: collector.metric("park_spool_batches") > 3)
    sender = Sender(collector.hj212_port, None)
    with contextlib.ExitStack() as trouble:
        trouble.enter_context((full_disk if small else file_limit)(collector))
        until(lambda: collector.metric("park_intake_pending_readings") > 2000)
        sender.start()
        until(lambda: sender.refused > 0)
        assert sender.acknowledged == [], "no logger may be told that its reading is safe"
        assert collector.metric("park_spool_alarm") == 1
        with Broker(tmp_path / "broker", port).start() as broker:
            ingest(broker.url)
            if not small:
                trouble.close()  # such a limit leaves no room for anything; a full disk leaves the reserve
            until(lambda: len(sender.acknowledged) > 3, 40)  # a full disk is still full: the spool has emptied itself
            sender.end()
            settled(collector, meter, until)
    for i in (0, 59):
        assert stored(db, f"m1.p{i}") == [float(number) for *_, number in meter.served]
    assert set(stored(db, "so2")) >= set(sender.acknowledged)
    total = db.execute("SELECT count(*) FROM reading").fetchone()[0]  # type: ignore[index]
    assert total == outcomes(db)["stored"] == collector.metric("park_intake_readings_total")
    assert total == collector.metric("park_published_readings_total")
    assert collector.metric("park_intake_dropped_readings_total") == 0 == collector.metric("park_spool_dropped_readings_total")
    assert "takes readings again" in collector.log() and "Traceback" not in collector.log()


@pytest.mark.soak
def test_half_an_hour_without_a_broker_at_2000_readings_a_second(
        tmp_path: Path, db: psycopg.Connection[Any], field_gateway: Callable[..., Any], collect: Callable[..., Collector],
        ingest: Callable[[str], None], until: Any) -> None:
    """PARK_SOAK_MINUTES shortens it. Twenty meters of 100 floats, polled each second by `park collect`."""
    minutes = float(os.environ.get("PARK_SOAK_MINUTES", "30"))
    units: dict[int, dict[int, float]] = {u: {} for u in range(1, 21)}
    meter = field_gateway(counting=True, units=units)
    apply(db, read_catalogue([write_park(tmp_path, meter.port, units=20, points=100, every_s=1.0)]))
    server = Broker(tmp_path / "broker", free_port()).start()
    try:
        ingest(server.url)
        collector = collect(server.url, tmp_path / "park.yaml")
        until(lambda: len(stored(db, "m20.p99")) > 2)
        server.kill()
        time.sleep(60 * minutes)
        waiting, size = collector.metric("park_spool_batches"), collector.metric("park_spool_bytes")
        server.start()
        returned, mark = time.monotonic(), time.time()
        until(lambda: db.execute("SELECT max(ts) > to_timestamp(%s) FROM reading", (mark,)).fetchone() == (True,), 120)
        live_s = time.monotonic() - returned
        meter.silent.update(units)
        until(lambda: collector.metric("park_intake_pending_readings") == 0 == collector.metric("park_spool_batches"), 1200)
        drained_s = time.monotonic() - returned
        served = sum(points for _, _, points, _ in meter.served)
        rows = db.execute("SELECT count(*), count(DISTINCT (point_id, value)) FROM reading").fetchone()
        print(f"{minutes:g} min without broker: {waiting:.0f} batches, {size / 2**20:.0f} MiB in the spool; newest stored "
              f"after {live_s:.1f} s, all of {served} readings after {drained_s:.1f} s; {rows} rows and distinct rows")
        assert rows == (served, served)
        assert outcomes(db)["stored"] == served == collector.metric("park_published_readings_total")
        assert served > 0.98 * 2000 * 60 * minutes, "the polls kept their period"
    finally:
        server.stop()
