"""The whole way at once: `park demo` as a user starts it, from a simulated register to the API, and every way it can end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import psutil
import pytest

from bench.demo import register_to_stream
from park.broker import free_port

ROOT = Path(__file__).parent.parent
READY_S = 60.0
STOP_S = 10.0

pytestmark = pytest.mark.timeout(240)


class Demo:
    """A running `park demo` over a data folder."""

    def __init__(self, data_dir: Path, *options: str) -> None:
        self.data_dir, self.port = data_dir, free_port()
        self.log = data_dir.parent / f"demo-{self.port}.log"
        began = time.monotonic()
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "park.cli", "demo", "--port", str(self.port), "--data-dir", str(data_dir), *options],
                stdout=out, stderr=out, cwd=ROOT, start_new_session=True)
        self.wait_for(lambda: "ready" in self.log.read_text(), READY_S, "the demo to be ready")
        self.ready_s = time.monotonic() - began
        self.tokens: dict[str, str] = json.loads((data_dir / "tokens.json").read_text())

    def get(self, path: str, role: str = "operator", **params: str) -> Any:
        """The JSON of an API route."""
        answer = httpx.get(f"http://127.0.0.1:{self.port}/api/v1{path}", params=params, timeout=20,
                           headers={"Authorization": f"Bearer {self.tokens[role]}", "Accept": "application/json"})
        assert answer.status_code == 200, answer.text
        return answer.json()

    def family(self) -> list[psutil.Process]:
        """The supervisor's children and their children."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def wait_for(self, happened: Callable[[], Any], within_s: float, what: str) -> Any:
        """The first true answer of `happened`; fails with the demo's log when it does not come in time."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log.read_text()
            if found := happened():
                return found
            time.sleep(0.25)
        pytest.fail(f"waited {within_s:.0f} s for {what}\n{self.log.read_text()}\n{self.stage_logs()}")

    def stage_logs(self) -> str:
        """The ends of the stages' logs."""
        return "\n".join(f"--- {f.name}\n{f.read_text()[-1500:]}" for f in sorted((self.data_dir / "logs").glob("*.log")))

    def end(self, signum: int) -> None:
        """Send a signal and wait for the end."""
        if self.process.poll() is None:
            self.process.send_signal(signum)
            self.process.wait(STOP_S)


@pytest.fixture
def start() -> Iterator[Callable[..., Demo]]:
    running: list[Demo] = []

    def begin(data_dir: Path, *options: str) -> Demo:
        running.append(Demo(data_dir, *options))
        return running[-1]

    yield begin
    for demo in running:
        demo.end(signal.SIGKILL)


def _gone(processes: list[psutil.Process], within_s: float) -> list[psutil.Process]:
    return psutil.wait_procs(processes, timeout=within_s)[1]


def test_from_a_register_to_the_api_and_a_second_start_finds_its_data(tmp_path: Path, start: Callable[..., Demo]) -> None:
    demo = start(tmp_path / "data", "--days", "2")
    assert demo.ready_s < READY_S
    assert not [token for token in demo.tokens.values() if token not in demo.log.read_text()], "each is printed"
    assert oct((tmp_path / "data" / "tokens.json").stat().st_mode)[-3:] == "600"
    assert len(demo.get("/points", base="lvyuan", limit="1000")["points"]) >= 300

    def protocols() -> bool:
        """Fresh readings by Modbus, DL/T 645, MQTT and HJ 212."""
        live = {d["protocol"] for d in _devices(demo) if d["state"] == "online"}
        return {"modbus", "dlt645", "mqtt", "hj212"} <= live

    demo.wait_for(protocols, 60, "devices of every protocol to be online")
    yesterday = f"{datetime.now(ZoneInfo('Asia/Shanghai')) - timedelta(days=1):%Y-%m-%d}"
    before = demo.wait_for(lambda: _energy(demo, yesterday), 60, "yesterday's energy")
    # the simulated park burns about 190 tce a day; a figure far from it is a unit or a double count
    assert 100 < before < 300
    delays = register_to_stream(tmp_path / "data", demo.port, rounds=2, most=3)
    assert max(delays) < 10.0, delays

    family = demo.family()
    assert len(family) >= 7
    began = time.monotonic()
    demo.end(signal.SIGINT)
    assert time.monotonic() - began < STOP_S
    assert demo.process.returncode == 0
    assert not _gone(family, 5)

    again = start(tmp_path / "data", "--days", "2")
    assert again.tokens == demo.tokens
    assert again.ready_s < READY_S
    log = again.log.read_text()
    assert "history loaded" not in log, "the history was loaded a second time"
    assert _energy(again, yesterday) == pytest.approx(before)


def _devices(demo: Demo) -> list[dict[str, Any]]:
    health: dict[str, Any] = demo.get("/overview/health", base="lvyuan")
    devices: list[dict[str, Any]] = health["devices"]
    return devices


def _energy(demo: Demo, period: str) -> float:
    """Coal equivalent of the base in a period, tce; 0 while nothing is known."""
    cell = demo.get("/aggregates", base="lvyuan", period=period, by="carrier")["totals"].get("tce_equivalent", {})
    return float(cell.get("value") or 0.0)


def test_kill_9_of_the_supervisor_leaves_no_orphan_and_the_next_start_works(tmp_path: Path, start: Callable[..., Demo]) -> None:
    demo = start(tmp_path / "data", "--days", "0")
    family = demo.family()
    os.kill(demo.process.pid, signal.SIGKILL)
    demo.process.wait()
    assert not _gone(family, 15), "processes outlived the supervisor"
    start(tmp_path / "data", "--days", "0")


def test_a_second_demo_over_the_same_folder_is_refused_with_the_reason(tmp_path: Path, start: Callable[..., Demo]) -> None:
    start(tmp_path / "data", "--days", "0")
    second = subprocess.run([sys.executable, "-m", "park.cli", "demo", "--port", str(free_port()), "--data-dir",
                             str(tmp_path / "data")], cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    assert second.returncode == 1
    assert "another park demo or park up runs over" in second.stderr
