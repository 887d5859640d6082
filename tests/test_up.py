"""`park up` as somebody starts it who wrote a first catalogue: a folder of files, a port that is taken."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest
from paho.mqtt import MQTTException, publish
from rich.console import Console

from park.broker import Broker, free_port
from park.demo import Steps
from park.up import own_address, say_trouble
from tests.park.test_broker_tls import made

ROOT = Path(__file__).parent.parent
BASE = "base: {code: north, name: 北园}\nenterprises: [{code: e1, name: One}]\n"
PLC = """
devices: [{code: d.plc, protocol: mqtt, mapping: {topic: "hall/{device}/up", form: flat}}]
points: [{code: e1.temp, quantity: temperature, unit: degC, source: {device: d.plc, key: temp}}]
"""
LOGGER = "devices: [{code: d.cems, protocol: hj212, mn: '010000A8900016F000169DC0', password: secret}]\n"

pytestmark = pytest.mark.timeout(120)


def _park(*words: str, folder: Path) -> subprocess.Popen[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PARK_")} | {
        "PARK_DATA_DIR": str(folder / "data"), "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen([sys.executable, "-m", "park.cli", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                            text=True, cwd=ROOT, env=environment, start_new_session=True)


def test_a_folder_without_data_loggers_comes_up_and_hears_mqtt_devices_from_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "park").mkdir()
    (tmp_path / "park" / "base.yaml").write_text(BASE)
    (tmp_path / "park" / "plc.yaml").write_text(PLC)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        http, mqtt = free_port(), free_port()
        running = _park("up", str(tmp_path / "park"), "--port", str(http), "--hj212-port", str(taken.getsockname()[1]),
                        "--mqtt-listen", f"0.0.0.0:{mqtt}", folder=tmp_path)
        try:
            said = _said(running)
            password = json.loads((tmp_path / "data" / "broker" / "users.json").read_text())["device"]
            tokens: dict[str, str] = json.loads((tmp_path / "data" / "tokens.json").read_text())
            assert f"port {mqtt}" in said and "users.json" in said and "tokens.json" in said
            assert not [secret for secret in (password, *tokens.values()) if secret in said], "a journal would keep it"
            ours = [tmp_path / "data" / name for name in ("spool", "logs", "broker")]
            opened = [str(p) for folder in ours for p in (folder, *folder.iterdir()) if p.stat().st_mode & 0o007]
            assert not opened, "others may read it"
            token = tokens["auditor"]
            with _api(http, token) as api:
                assert [base["code"] for base in api.get("/bases").json()["bases"]] == ["north"]
                _publish_until_stored(api, own_address(), mqtt, password, 21.5)
                for child in psutil.Process(running.pid).children():
                    if any(word in " ".join(child.cmdline()[:3]) for word in ("mosquitto", "broker_amqtt", "postgres")):
                        child.kill()
                _publish_until_stored(api, own_address(), mqtt, password, 22.5)
        finally:
            running.send_signal(signal.SIGINT)
            rest, _ = running.communicate(timeout=20)
    assert running.returncode == 0 and "the data stay in" in rest
    assert "PostgreSQL has ended; starting it again" in rest and "the broker has ended; starting it again" in rest


def test_several_bases_come_up_together_and_one_with_mistakes_keeps_no_other_from_starting(tmp_path: Path) -> None:
    for code, text in (("north", PLC), ("south", PLC.replace("hall/", "yard/")), ("east", "points: [{code: }]\n")):
        (tmp_path / f"{code}.yaml").write_text(BASE.replace("north", code) + text)
    http, mqtt = free_port(), free_port()
    cert, key = made(tmp_path, "broker", "-addext", "subjectAltName=IP:127.0.0.1")
    running = _park("up", *(str(tmp_path / f"{code}.yaml") for code in ("north", "east", "south")), "--port", str(http),
                    "--hj212-port", "0", "--mqtt-listen", f"127.0.0.1:{mqtt}", "--mqtt-cert", str(cert), "--mqtt-key", str(key),
                    folder=tmp_path)
    try:
        said = " ".join(_said(running).split())
        assert f"port {mqtt} with TLS" in said and "certificate is of 127.0.0.1" in said
        assert "east.yaml:" in said and "left out" in said and "data loggers (HJ 212) of south connect to" in said
        password = json.loads((tmp_path / "data" / "broker" / "users.json").read_text())["device"]
        tokens: dict[str, str] = json.loads((tmp_path / "data" / "tokens.json").read_text())
        with _api(http, tokens["contractor"]) as both, _api(http, tokens["operator@south"]) as south:
            assert [base["code"] for base in both.get("/bases").json()["bases"]] == ["north", "south"]
            _publish_until_stored(both, "127.0.0.1", mqtt, password, 21.5, "hall", "north", ca=cert)
            _publish_until_stored(both, "127.0.0.1", mqtt, password, 31.5, "yard", "south", ca=cert)
            assert [base["code"] for base in south.get("/bases").json()["bases"]] == ["south"]
            health = both.get("/overview/health", params={"base": "south"}).json()
            assert "south" in json.dumps(health)
    finally:
        running.send_signal(signal.SIGINT)
        running.communicate(timeout=20)
    assert json.loads((tmp_path / "data" / "bases.json").read_text()) == ["north", "south"]


def _api(port: int, token: str) -> httpx.Client:
    return httpx.Client(base_url=f"http://127.0.0.1:{port}/api/v1", headers={"Authorization": f"Bearer {token}"})


def _said(running: subprocess.Popen[str]) -> str:
    """What it printed from its start to the line that ends the greeting."""
    assert running.stdout is not None
    said: list[str] = []
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and "Ctrl-C" not in (said or [""])[-1]:
        line = running.stdout.readline()
        assert line, "".join(said)
        said.append(line)
    return "".join(said)


def _publish_until_stored(api: httpx.Client, host: str, port: int, password: str, value: float, hall: str = "hall",
                          base: str = "north", ca: Path | None = None) -> None:
    """A device says the value from its own address, once and again, until the API shows it."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:   # the collector may not have subscribed yet, or the broker is not back
        with contextlib.suppress(OSError, MQTTException):
            publish.single(f"{hall}/plc/up", json.dumps({"temp": value}), qos=1, hostname=host, port=port, client_id="plc",
                           auth={"username": "device", "password": password}, tls={"ca_certs": str(ca)} if ca else None)
        answer = api.get("/readings", params={"point": "e1.temp", "base": base})
        if answer.status_code == 200 and any(row[1] == value for row in answer.json()["series"][0]["rows"]):
            return
        time.sleep(0.3)
    raise AssertionError(f"{value} did not arrive")


def test_the_first_catalogue_is_whole_and_never_written_over(tmp_path: Path) -> None:
    folder = tmp_path / "north" / "catalogue"
    for words, status, says in (("init",), 0, "park up"), (("catalogue", "check"), 0, "no mistakes: 2 points"), (
            ("init",), 1, "is there already"):
        ended = _park(*words, str(folder), folder=tmp_path)
        text, _ = ended.communicate(timeout=30)
        assert ended.returncode == status and says in text, text


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


def test_a_named_broker_that_is_away_is_told_once_with_its_remedy_and_one_that_answers_is_not(broker: Broker) -> None:
    told = io.StringIO()
    steps = Steps(Console(file=told, width=80))
    say_trouble(steps, broker.url)
    assert told.getvalue() == ""
    port = free_port()
    say_trouble(steps, f"mqtt://park:secret@127.0.0.1:{port}")
    (line,) = told.getvalue().splitlines()
    assert f"broker 127.0.0.1:{port} of PARK_MQTT_URL does not answer (Connection refused): start it" in line
    assert "readings wait in the spool" in line and "secret" not in line


def test_a_setting_without_sense_is_named_and_a_pipe_gets_whole_tables() -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PARK_") and k != "COLUMNS"}
    ended = subprocess.run([sys.executable, "-m", "park.cli", "doctor"], env=environment | {"PARK_PORT": "abc"}, cwd=ROOT,
                           capture_output=True, text=True, check=False)
    assert ended.returncode == 1 and ended.stderr.startswith("park: PARK_PORT: ") and "Traceback" not in ended.stderr
    listed = subprocess.run([sys.executable, "-m", "park.cli", "retention", "--help"], env=environment, cwd=ROOT,
                            capture_output=True, text=True, check=True)
    assert max(map(len, listed.stdout.splitlines())) > 100
