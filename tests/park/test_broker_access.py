"""The embedded broker beyond loopback: nobody without a password, and each on its own topics, on both brokers."""

from __future__ import annotations

import json
import stat
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest

from park.broker import Broker, Listen, free_port, is_embedded
from park.broker_access import GATEWAY, PLATFORM, listen_address, topics_of, users
from park.errors import InputError, SetupError
from park.mqtt import connect, new_client, refusal, speaks_v5

OURS = ("park/v1/north/collector/readings", "park/v1/north/collector/committed", "park/v1/north/alerts")
NOT_A_GATEWAYS = ("park/v1/south/hall-3/readings", "park/v1/north/collector/readings", "park/v1/north/alerts", "tele/x")


class _Client:
    """One logged-in client that keeps what it hears."""

    def __init__(self, broker: Broker, name: str | None, password: str | None, hears: str | None = None) -> None:
        self.heard: list[str] = []
        self.answer: list[str] = []
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=f"test-{name}", protocol=mqtt.MQTTv311,
                                  reconnect_on_failure=False)
        if name is not None:
            self.client.username_pw_set(name, password)
        self.client.on_connect = lambda c, u, f, reason, p: self.answer.append(str(reason))
        self.client.on_message = lambda c, u, m: self.heard.append(m.topic)
        subscribed: list[int] = []
        self.client.on_subscribe = lambda c, u, mid, codes, p: subscribed.append(mid)
        self.client.connect("127.0.0.1", broker.port)
        self.client.loop_start()
        until(lambda: bool(self.answer))
        if hears is not None:
            self.client.subscribe(hears, 1)
            until(lambda: bool(subscribed))

    def say(self, *topics: str) -> None:
        """Publish, and wait until the broker has confirmed: both confirm a refused message too."""
        for topic in topics:
            self.client.publish(topic, b"1", qos=1).wait_for_publish(5)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


def until(done: object, timeout_s: float = 10.0) -> None:
    assert callable(done)
    deadline = time.monotonic() + timeout_s
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture(params=["mosquitto", "amqtt"])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Broker]:
    server = Broker(tmp_path / "broker", listen=Listen("0.0.0.0", free_port("0.0.0.0"), ["north"]), kind=request.param)
    file = server.users_file
    own = {"password": "and topics of its own", "topics": ["tele/plc-7/#", "spBv1.0/+/NDATA/plc-7"]}
    file.write_text(json.dumps(users(file) | {"d.plc": "a password of its own", "plc-7": own}))
    with server:
        yield server


def test_nobody_gets_in_without_the_password_of_a_user(broker: Broker) -> None:
    known = users(broker.users_file)
    for name, password in ((None, None), ("device", "wrong-password"), ("nobody", known["device"]), ("device", "")):
        client = _Client(broker, name, password)
        assert client.answer[0] != "Success", name
        client.close()
    assert speaks_v5(broker.url) is (broker.kind == "mosquitto")
    assert refusal(broker.url) is None and refusal(broker.url.replace("platform:", "platform:x")) is not None
    assert stat.S_IMODE(broker.users_file.stat().st_mode) == 0o600
    for file in broker.data_dir.iterdir():
        assert known["device"] not in file.read_text(errors="replace") or file == broker.users_file


def test_devices_never_write_or_hear_what_is_between_the_stages(broker: Broker) -> None:
    known = users(broker.users_file)
    platform = _Client(broker, PLATFORM, known[PLATFORM], "#")
    platform.say("park/v1/north/hall-3/committed", "park/v1/north/alerts")
    for name, topics in (("device", OURS), ("d.plc", OURS),
                         ("plc-7", (*OURS, "vendor/d7/up", "tele/plc-8/x")), (GATEWAY, NOT_A_GATEWAYS)):
        for topic in topics:   # a connection each: mosquitto closes it on a refused message
            _Client(broker, name, known[name]).say(topic)
    device = _Client(broker, "device", known["device"], "#")
    device.say("vendor/d7/up", "spBv1.0/plant/NDATA/edge1")
    plc = _Client(broker, "plc-7", known["plc-7"])
    plc.say("tele/plc-7/state", "spBv1.0/plant/NDATA/plc-7")
    gateway = _Client(broker, GATEWAY, known[GATEWAY], "park/v1/north/+/committed")
    gateway.say("park/v1/north/hall-3/readings")
    platform.say("park/v1/north/collector/committed", "park/v1/north/hall-3/committed", "spBv1.0/plant/NCMD/edge1")
    until(lambda: len(platform.heard) >= 10 and len(device.heard) >= 1 and len(gateway.heard) >= 1)
    assert platform.heard == ["park/v1/north/hall-3/committed", "park/v1/north/alerts",
                              "vendor/d7/up", "spBv1.0/plant/NDATA/edge1", "tele/plc-7/state",
                              "spBv1.0/plant/NDATA/plc-7", "park/v1/north/hall-3/readings",
                              "park/v1/north/collector/committed", "park/v1/north/hall-3/committed",
                              "spBv1.0/plant/NCMD/edge1"]
    assert device.heard == ["spBv1.0/plant/NCMD/edge1"] and gateway.heard == ["park/v1/north/hall-3/committed"]
    if broker.kind == "amqtt":
        log = (broker.data_dir / "broker.log").read_text()
        assert all(f"refused a message of device to {topic}" in log for topic in OURS)
    for client in (platform, device, plc, gateway):
        client.close()


@pytest.mark.parametrize(("text", "means"), [
    ("0.0.0.0:1883", ("0.0.0.0", 1883)), ("10.0.0.5", ("10.0.0.5", 1883)), (":8883", ("0.0.0.0", 8883)),
    ("[::]:1884", ("::", 1884)), ("", None), ("1.2.3.4:0", None), ("1.2.3.4:70000", None), ("mqtt://1.2.3.4", None),
    ("18083", None)])
def test_where_to_listen_is_an_address_and_a_port(text: str, means: tuple[str, int] | None) -> None:
    if means is None:
        with pytest.raises(InputError, match="expected ADDRESS:PORT such as 0.0.0.0:" + (text if text == "18083" else "1883")):
            listen_address(text)
    else:
        assert listen_address(text) == means


@pytest.mark.parametrize(("text", "says"), [
    ("{", "expected JSON"), ('{"platform": "12345678"}', "expected the users"),
    ('{"platform": "12345678", "gateway": "12345678", "device": "short"}', "at least 8 characters for device"),
    ('{"platform": "12345678", "gateway": "12345678", "device": "12345678", "a b": "12345678"}', "user name of letters")])
def test_a_file_of_users_that_would_open_the_broker_is_refused(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "users.json").write_text(text)
    with pytest.raises(SetupError, match=says):
        users(tmp_path / "users.json")


@pytest.mark.parametrize("topics", [[], "a/#", ["a#"], ["a/#/b"], [""], ["a\ntopic write park/#"], ["a/b+"], [7]])
def test_topics_of_a_user_that_are_none_are_refused(tmp_path: Path, topics: object) -> None:
    known = {"platform": "12345678", "gateway": "12345678", "device": "12345678"}
    (tmp_path / "users.json").write_text(json.dumps(known | {"plc": {"password": "12345678", "topics": topics}}))
    assert users(tmp_path / "users.json")["plc"] == "12345678"
    with pytest.raises(SetupError, match="expected as topics of plc"):
        topics_of(tmp_path / "users.json")


def test_the_broker_of_a_data_folder_is_known_by_what_its_file_env_exports(tmp_path: Path) -> None:
    folder = tmp_path / "broker"
    assert not is_embedded(folder, "mqtt://127.0.0.1:1883") and not is_embedded(folder, "mqtt://platform:x@10.0.0.5:1883")
    (tmp_path / "broker.port").write_text("1883")
    assert is_embedded(folder, Broker(folder, 1883).url) and not is_embedded(folder, "mqtt://127.0.0.1:1884")
    open_to_all = Broker(folder, listen=Listen("0.0.0.0", 1890)).url
    assert is_embedded(folder, open_to_all) and not is_embedded(folder, open_to_all.replace("platform:", "platform:x"))


def test_a_connection_that_is_closed_again_and_again_is_not_made_without_a_pause(broker: Broker) -> None:
    if broker.kind == "amqtt":
        return   # it drops a refused message and keeps the connection
    client = new_client(broker.url.replace(PLATFORM, GATEWAY).replace(users(broker.users_file)[PLATFORM],
                                                                      users(broker.users_file)[GATEWAY]), "refused")
    made: list[float] = []

    def connected(*_: object) -> None:
        made.append(time.monotonic())
        client.publish("park/v1/north/alerts", b"1", qos=0)
    client.on_connect = connected
    connect(client, broker.url.replace(PLATFORM, GATEWAY))
    client.loop_start()
    until(lambda: len(made) >= 3, 20)
    client.disconnect()
    client.loop_stop()
    assert all(b - a > 0.9 for a, b in pairwise(made[1:]))
