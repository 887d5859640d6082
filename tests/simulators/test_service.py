"""`park simulate` as a process: everything on real sockets, control port, ground truth, a clean stop."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pymodbus.client import ModbusTcpClient

from park.broker import free_port
from park.errors import InputError
from simulators.control import execute
from simulators.field import Field
from simulators.model import Park
from simulators.service import Options, live_from, parse_address

NOW = datetime(2026, 11, 23, 8, 0, tzinfo=UTC).timestamp()
ROOT = Path(__file__).parents[2]


@contextmanager
def simulator(data_dir: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """A running `park simulate`; killed at the end when it did not stop by itself."""
    code = "from park.cli import main; main()"
    env = os.environ | {"PYTHONPATH": str(ROOT), "PARK_DATA_DIR": str(data_dir)}
    process = subprocess.Popen([sys.executable, "-c", code, "simulate", *options], env=env, cwd=data_dir, text=True,
                               stderr=subprocess.PIPE)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def wait_for(port: int, process: subprocess.Popen[str], seconds: float = 60) -> socket.socket:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        try:
            return socket.create_connection(("127.0.0.1", port), 2)
        except OSError:
            time.sleep(0.05)
    raise AssertionError(f"nobody listens on {port}; exit {process.poll()}")


def ask(connection: socket.socket, line: str) -> str:
    connection.sendall(line.encode() + b"\n")
    return connection.makefile().readline().strip()


def free_ports(count: int) -> int:
    """The first of so many free ports in a row."""
    while True:
        first = free_port()
        sockets = []
        try:
            for k in range(count):
                sockets.append(socket.socket())
                sockets[-1].bind(("127.0.0.1", first + k))
            return first
        except (OSError, OverflowError):
            continue
        finally:
            for s in sockets:
                s.close()


def test_the_command_serves_takes_orders_tells_the_truth_and_stops_within_seconds(tmp_path: Path) -> None:
    modbus, control = free_ports(7), free_port()
    options = ("--modbus-port", str(modbus), "--control-port", str(control), "--data-dir", str(tmp_path))
    with simulator(tmp_path, *options) as process:
        with wait_for(control, process) as orders:
            assert ask(orders, "set d.e1.main active_power 4321.5") == "ok"
            assert ask(orders, "set d.e1.main flux 1").startswith("error: d.e1.main has no 'flux'")
            assert ask(orders, "dance").startswith("error: expected `set DEVICE KEY VALUE`")
            with ModbusTcpClient("127.0.0.1", port=modbus, timeout=2, retries=0) as client:
                words = client.read_holding_registers(3059, count=2, device_id=11).registers
                assert client.convert_from_registers(words, client.DATATYPE.FLOAT32) == 4321.5
                assert ask(orders, "clear") == "ok"
                words = client.read_holding_registers(3059, count=2, device_id=11).registers
                assert client.convert_from_registers(words, client.DATATYPE.FLOAT32) != 4321.5
        truth = tmp_path / "ground_truth.json"
        deadline = time.monotonic() + 60
        while not truth.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert {"kind", "target", "start", "end", "origin", "detail"} == json.loads(truth.read_text())[0].keys()
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        assert time.monotonic() - began < 3


def test_a_port_that_is_taken_ends_the_command_with_status_one_and_says_which(tmp_path: Path) -> None:
    first = free_ports(7)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", first))
        taken.listen()
        with simulator(tmp_path, "--modbus-port", str(first), "--data-dir", str(tmp_path)) as process:
            _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert f"port {first} cannot be opened" in errors and "Traceback" not in errors


def test_the_live_run_keeps_its_beginning_over_a_restart_and_begins_anew_with_another_seed(tmp_path: Path) -> None:
    options = Options(data_dir=tmp_path, seed=3)
    assert live_from(options, 1000.0) == 1000.0
    assert live_from(options, 2000.0) == 1000.0
    assert live_from(Options(data_dir=tmp_path, seed=4), 3000.0) == 3000.0
    (tmp_path / "simulator.json").write_text("{half a fi")
    assert live_from(options, 4000.0) == 4000.0


@pytest.mark.parametrize("text", ["9212", "host:", ":9212", "host:port", "host:0", "host:70000"])
def test_an_address_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="expected HOST:PORT"):
        parse_address(text)


@pytest.mark.parametrize("line", ["set d.e1.main active_power nan", "set d.e1.main active_power many", "offline d.e1.main",
                                  "offline d.e1.main inf"])
def test_orders_that_cannot_be_carried_out_change_nothing(calm: Park, line: str) -> None:
    field = Field(calm)
    field.refresh(NOW)
    with pytest.raises(InputError, match="expected"):
        execute(line, field, NOW)
    assert not field.held and not field.dark_until


def test_a_device_that_is_sent_offline_comes_back_by_itself(calm: Park) -> None:
    field = Field(calm)
    field.refresh(NOW)
    execute("offline d.e4.ems 20", field, NOW)
    assert field.is_dark("d.e4.ems")
    field.refresh(NOW + 21)
    assert not field.is_dark("d.e4.ems")
