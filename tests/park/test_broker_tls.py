"""MQTT with TLS: the embedded broker with a certificate, and every client of ours at a broker that has one."""

from __future__ import annotations

import io
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from rich.console import Console

from ingest.session import BufferedClient
from park.broker import Broker, Listen, free_port, host_port
from park.broker_access import DEVICE, GATEWAY, users
from park.broker_tls import Certificate, read_certificate
from park.demo import Steps
from park.errors import InputError, SetupError
from park.lookout import broker_trouble
from park.mqtt import connect, new_client, refusal, speaks_v5
from park.settings import load_settings
from park.up import say_certificate
from tests.park.test_broker_access import until

MESSAGES = 3_000


def made(folder: Path, name: str, *more: str) -> tuple[Path, Path]:
    """A certificate that nobody signed, and its key, as an installer makes them."""
    cert, key = folder / f"{name}.pem", folder / f"{name}.key"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                    "-keyout", str(key), "-out", str(cert), "-subj", "/CN=park", "-days", "400", *more],
                   check=True, capture_output=True)
    return cert, key


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return made(tmp_path_factory.mktemp("tls"), "broker",
                "-addext", "subjectAltName=IP:127.0.0.1,DNS:park.test")


@pytest.fixture(params=["mosquitto", "amqtt"])
def broker(request: pytest.FixtureRequest, tmp_path: Path, pair: tuple[Path, Path]) -> Iterator[Broker]:
    listen = Listen("0.0.0.0", free_port("0.0.0.0"), ["north"], read_certificate(*pair))
    with Broker(tmp_path / "broker", listen=listen, kind=request.param) as server:
        yield server


def _from_elsewhere(broker: Broker, name: str = GATEWAY, **files: Path) -> str:
    assert broker.listen is not None
    query = "&".join(f"{k}={v}" for k, v in files.items())
    return f"mqtts://{name}:{users(broker.users_file)[name]}@127.0.0.1:{broker.listen.port}" + (f"?{query}" if query else "")


def test_a_gateway_reaches_the_stages_over_tls_and_what_comes_at_once_is_read_at_once(
        broker: Broker, pair: tuple[Path, Path]) -> None:
    url = _from_elsewhere(broker, ca=pair[0])
    assert speaks_v5(url) is (broker.kind == "mosquitto") and refusal(url) is None and broker_trouble(url) is None
    assert refusal(broker.url) is None and broker.url.startswith("mqtt://platform:")     # on loopback, not encrypted
    heard: list[int] = []
    listener = new_client(url, "far-listener", manual_ack=True, kind=BufferedClient)
    assert isinstance(listener, BufferedClient)
    ready: list[int] = []

    def keep(client: mqtt.Client, _: object, message: mqtt.MQTTMessage) -> None:
        heard.append(int(message.payload))
        listener.acknowledge([message.mid])
    listener.on_message = keep
    listener.on_subscribe = lambda c, u, mid, codes, p: ready.append(mid)
    connect(listener, url)
    listener.loop_start()
    listener.subscribe("park/v1/north/+/readings", 1)
    until(lambda: bool(ready))
    sender = new_client(url, "far-sender")
    connect(sender, url)
    sender.loop_start()
    for n in range(MESSAGES):
        sent = sender.publish("park/v1/north/hall-3/readings", str(n).zfill(600).encode(), qos=1)
    sent.wait_for_publish(30)
    until(lambda: len(heard) >= MESSAGES, 30)
    assert sorted(set(heard)) == list(range(MESSAGES))
    for client in (listener, sender):
        client.disconnect()
        client.loop_stop()


def test_nobody_is_let_in_who_does_not_encrypt_and_nobody_trusts_a_stranger(broker: Broker, pair: tuple[Path, Path],
                                                                           tmp_path: Path) -> None:
    stranger, _ = made(tmp_path, "stranger", "-addext", "subjectAltName=IP:127.0.0.1")
    for url in (_from_elsewhere(broker), _from_elsewhere(broker, ca=stranger),
                _from_elsewhere(broker, ca=pair[0]).replace("127.0.0.1", "localhost")):
        with pytest.raises(ssl.SSLCertVerificationError):
            new_client(url, "wary")
        assert "ca=FILE" in (broker_trouble(url) or "")
    device = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv311, reconnect_on_failure=False)
    device.username_pw_set(DEVICE, users(broker.users_file)[DEVICE])
    answers: list[object] = []
    device.on_connect = lambda c, u, f, reason, p: answers.append(reason)
    assert broker.listen is not None
    device.connect("127.0.0.1", broker.listen.port)
    device.loop_start()
    time.sleep(0.5)
    device.loop_stop()
    assert not answers
    for address in {a[4][0] for a in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)} - {"127.0.0.1"}:
        with pytest.raises(OSError):
            socket.create_connection((str(address), broker.port), 1)     # the unencrypted port is for this machine alone


def test_a_broker_elsewhere_is_asked_at_the_port_of_its_protocol() -> None:
    assert host_port("mqtts://user:word@broker.test?ca=/etc/ca.pem") == ("broker.test", 8883)
    assert host_port("mqtt://broker.test") == ("broker.test", 1883)


@pytest.mark.parametrize(("url", "says"), [
    ("mqtts://h?ca=/nowhere/ca.pem", "there is no file /nowhere/ca.pem"), ("mqtt://h?ca=FILE", "expected mqtts://"),
    ("mqtts://h?verify=no", "only ca, cert, key"), ("mqtts://h?key=FILE", "expected cert=FILE")])
def test_what_an_address_asks_of_tls_is_checked_at_the_start(monkeypatch: pytest.MonkeyPatch, pair: tuple[Path, Path],
                                                             url: str, says: str) -> None:
    monkeypatch.setenv("PARK_MQTT_URL", url.replace("FILE", str(pair[0])))
    with pytest.raises(InputError, match=says):
        load_settings()


def test_a_certificate_says_of_whom_it_is_and_when_it_ends(pair: tuple[Path, Path], tmp_path: Path) -> None:
    shown = read_certificate(*pair)
    assert shown.names == ("127.0.0.1", "park.test")
    assert timedelta(days=399) < shown.ends - datetime.now(UTC) <= timedelta(days=400)
    bare = read_certificate(*made(tmp_path, "bare"))
    assert isinstance(bare, Certificate) and bare.names == ()
    for file, key, says in ((pair[0], bare.key, "expected a certificate and its key"),
                            (tmp_path / "none", pair[1], "none cannot be read"), (pair[1], pair[1], "expected a certificate")):
        with pytest.raises(SetupError, match=says):
            read_certificate(file, key)


@pytest.mark.parametrize(("days", "says"), [(-2, "ended on"), (20, "ends on"), (300, "is of 10.0.0.2 and ends on")])
def test_the_start_says_how_long_devices_will_trust_the_certificate(tmp_path: Path, days: int, says: str) -> None:
    told = io.StringIO()
    steps = Steps(Console(file=told, width=200))
    shown = Certificate(tmp_path / "c.pem", tmp_path / "c.key", ("10.0.0.2",), datetime.now(UTC) + timedelta(days=days))
    say_certificate(steps, shown, "10.0.0.2")
    assert says in told.getvalue() and ("renew it" in told.getvalue()) is (days < 30)
    say_certificate(steps, replace(shown, names=()), "10.0.0.2")
    assert "no client will trust it as 10.0.0.2" in told.getvalue()
