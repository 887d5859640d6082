"""`park up` as somebody starts it who wrote a first catalogue: a folder of files, a port that is taken."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from park.broker import free_port

ROOT = Path(__file__).parent.parent
BASE = "base: {code: north, name: 北园}\nenterprises: [{code: e1, name: One}]\n"
LOGGER = "devices: [{code: d.cems, protocol: hj212, mn: '010000A8900016F000169DC0', password: secret}]\n"

pytestmark = pytest.mark.timeout(120)


def _park(*words: str, folder: Path) -> subprocess.Popen[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PARK_")} | {
        "PARK_DATA_DIR": str(folder / "data"), "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen([sys.executable, "-m", "park.cli", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                            text=True, cwd=ROOT, env=environment, start_new_session=True)


def test_a_folder_without_data_loggers_comes_up_whatever_their_port_is(tmp_path: Path) -> None:
    (tmp_path / "park").mkdir()
    (tmp_path / "park" / "base.yaml").write_text(BASE)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        http = free_port()
        running = _park("up", str(tmp_path / "park"), "--port", str(http), "--hj212-port", str(taken.getsockname()[1]),
                        folder=tmp_path)
        try:
            assert running.stdout is not None
            said: list[str] = []
            deadline = time.monotonic() + 90
            while time.monotonic() < deadline and "Ctrl-C" not in (said or [""])[-1]:
                line = running.stdout.readline()
                assert line, "".join(said)
                said.append(line)
            token = json.loads((tmp_path / "data" / "tokens.json").read_text())["auditor"]
            answer = httpx.get(f"http://127.0.0.1:{http}/api/v1/bases", headers={"Authorization": f"Bearer {token}"})
            assert [base["code"] for base in answer.json()["bases"]] == ["north"]
        finally:
            running.send_signal(signal.SIGINT)
            rest, _ = running.communicate(timeout=20)
    assert running.returncode == 0 and "the data stay in" in rest


@pytest.mark.parametrize(("catalogue", "says"), [
    (BASE + LOGGER, "choose another with --hj212-port"),
    ("enterprises: [{code: e1, name: One}]\n", "expected a `base:` section")])
def test_what_cannot_start_says_what_to_do(tmp_path: Path, catalogue: str, says: str) -> None:
    (tmp_path / "park.yaml").write_text(catalogue)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ended = _park("up", str(tmp_path / "park.yaml"), "--port", str(free_port()), "--hj212-port",
                      str(taken.getsockname()[1]), folder=tmp_path)
        text, _ = ended.communicate(timeout=30)
    assert ended.returncode == 1 and says in text and "Traceback" not in text


def test_a_setting_without_sense_is_named_and_a_pipe_gets_whole_tables() -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PARK_") and k != "COLUMNS"}
    ended = subprocess.run([sys.executable, "-m", "park.cli", "doctor"], env=environment | {"PARK_PORT": "abc"}, cwd=ROOT,
                           capture_output=True, text=True, check=False)
    assert ended.returncode == 1 and ended.stderr.startswith("park: PARK_PORT: ") and "Traceback" not in ended.stderr
    listed = subprocess.run([sys.executable, "-m", "park.cli", "retention", "--help"], env=environment, cwd=ROOT,
                            capture_output=True, text=True, check=True)
    assert max(map(len, listed.stdout.splitlines())) > 100
