"""The demo as a user meets it: time to the first page, history load rate, and from a register to the alert stream."""

from __future__ import annotations

import json
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import yaml

from park.broker import free_port

ROOT = Path(__file__).parent.parent
ROUNDS = 4              # an alert that is raised five times in a row chatters, and stays
RULE = "bench-register"


def run() -> list[tuple[str, str, str]]:
    """Rows for `make bench`: a year is loaded first, then registers of simulated meters are driven over a limit."""
    with tempfile.TemporaryDirectory(prefix="park-bench-") as folder:
        data_dir = Path(folder) / "data"
        with _demo(data_dir, "--days", "365") as (log, port, ready_s):
            loaded = re.search(r"history loaded: ([\d,]+) readings in ([\d.]+) s", log.read_text())
            assert loaded is not None, log.read_text()
            history_s = float(loaded[2])
            rows = [
                ("demo: a year of 15-minute history", f"{loaded[1]} readings in {history_s:.1f} s", "≤ 60 s"),
                ("demo: start without the history", f"{ready_s - history_s:.1f} s", "≤ 60 s"),
            ]
            delays = register_to_stream(data_dir, port)
            rows.append(("register change → alert on the stream, meters polled at 1 s, p50 / p99 / worst of "
                         f"{len(delays)}", f"{statistics.median(delays):.2f} / {np.percentile(delays, 99):.2f} / "
                         f"{max(delays):.2f} s", "p99 ≤ 2 s"))
        with _demo(data_dir, "--days", "365") as (log, port, again_s):
            rows.append(("demo: second start over the same data", f"{again_s:.1f} s", "≤ 60 s"))
    return rows


@contextmanager
def _demo(data_dir: Path, *options: str) -> Iterator[tuple[Path, int, float]]:
    port, log = free_port(), data_dir.with_name("demo.log")
    began = time.monotonic()
    with log.open("wb") as out:
        process = subprocess.Popen([sys.executable, "-m", "park.cli", "demo", "--port", str(port), "--data-dir", str(data_dir),
                                    *options], stdout=out, stderr=out, cwd=ROOT, start_new_session=True)
    try:
        while "ready" not in log.read_text():
            if process.poll() is not None or time.monotonic() - began > 300:
                raise RuntimeError(log.read_text())
            time.sleep(0.05)
        yield log, port, time.monotonic() - began
    except Exception as exc:
        raise RuntimeError(f"{exc}\n{log.read_text()[-3000:]}") from exc
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)


def register_to_stream(data_dir: Path, port: int, rounds: int = ROUNDS, most: int | None = None) -> list[float]:
    """Seconds from setting a simulated meter's register to the raise of its alert on the stream, of every fast power meter (or
    so many at `most`) in turn and that `rounds` times; 30 s that passed without a raise are infinite."""
    token = json.loads((data_dir / "tokens.json").read_text())["operator"]
    control = json.loads((data_dir / "ports.json").read_text())["control"]
    points = _fast_power_points(data_dir)[:most]
    _poll_each_second(data_dir)
    _apply_rule(data_dir, [code for code, _, _ in points])
    time.sleep(15)  # the evaluator takes the rule up, and the meters' ordinary values return below it
    told: dict[tuple[str, str], float] = {}
    threading.Thread(target=_listen, args=(port, token, told), daemon=True).start()
    time.sleep(2)
    delays = []
    for _ in range(rounds):
        told.clear()
        for i, (code, device, key) in enumerate(points):
            time.sleep(i * 0.618 % 1)  # spread over the second of the polls: the end of one round is in step with them
            began = time.monotonic()
            _command(control, f"set {device} {key} 9e7")
            _wait(told, [("raise", code)])
            delays.append(told.get(("raise", code), float("inf")) - began)
        _command(control, "clear")
        _wait(told, [("return", code) for code, _, _ in points])
    return delays


def _wait(told: dict[tuple[str, str], float], wanted: list[tuple[str, str]], most_s: float = 30.0) -> None:
    began = time.monotonic()
    while not all(key in told for key in wanted) and time.monotonic() - began < most_s:
        time.sleep(0.005)


def _poll_each_second(data_dir: Path) -> None:
    """Meters polled at 1 s, so that the figure is the platform's way and not the meters' 5 or 10 s."""
    for file in (data_dir / "catalogue").glob("*.yaml"):
        text = file.read_text(encoding="utf-8")
        file.write_text(re.sub(r"every: \{fast: \d+", "every: {fast: 1", text), encoding="utf-8")


def _fast_power_points(data_dir: Path) -> list[tuple[str, str, str]]:
    """(point, device, key) of active power on Modbus meters, which are read in the fast group."""
    found, modbus = [], set()
    for file in sorted((data_dir / "catalogue").glob("*.yaml")):
        raw = yaml.load(file.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader) or {}
        modbus |= {d["code"] for d in raw.get("devices", []) if d["protocol"] == "modbus"}
        found += [(p["code"], p["source"]["device"], p["source"]["key"]) for p in raw.get("points", [])
                  if p["quantity"] == "active_power" and "source" in p]
    return [row for row in found if row[1] in modbus]


def _apply_rule(data_dir: Path, points: list[str]) -> None:
    """One limit over all these points, without hold: what is measured is the way, not the rule's patience."""
    from park.catalogue import read_catalogue
    from park.catalogue_store import apply
    from park.database import connect
    from park.embedded import Postgres
    file = data_dir / "bench-rule.yaml"
    rule = {"code": RULE, "name": "bench", "kind": "limit", "severity": "high", "scope": {"points": points},
            "params": {"high": 1e7, "hold_s": 0, "auto_close": True}}
    file.write_text(json.dumps({"rules": [rule]}))

    with connect(Postgres(data_dir / "postgres").url(), autocommit=True) as conn:
        whole = read_catalogue([*sorted((data_dir / "catalogue").glob("*.yaml")), file])

        apply(conn, whole)


def _listen(port: int, token: str, told: dict[tuple[str, str], float]) -> None:
    """Note when each (change, point) of the rule came."""
    with httpx.stream("GET", f"http://127.0.0.1:{port}/api/v1/alerts/stream", timeout=None,
                      headers={"Authorization": f"Bearer {token}"}) as answer:
        for line in answer.iter_lines():
            if line.startswith("data:") and RULE in line:
                came = time.monotonic()
                event = json.loads(line[5:])
                told.setdefault((event["change"], event["alert"]["point"]), came)


def _command(port: int, line: str) -> None:
    with socket.create_connection(("127.0.0.1", port), 5) as s:
        s.sendall(line.encode() + b"\n")
        s.recv(200)
