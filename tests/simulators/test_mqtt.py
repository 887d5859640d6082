"""The MQTT devices: what a subscriber of our own reads from a real broker, in both dialects."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime

import paho.mqtt.client as paho
import pytest

from park import mqtt
from park.broker import Broker
from park.catalogue import Catalogue
from simulators.field import Field
from simulators.model import Park
from simulators.mqtt_devices import mqtt_devices, publish_all
from simulators.scenario import Faults, Scenario, Scripted

NOW = datetime(2026, 11, 23, 8, 0, tzinfo=UTC).timestamp()


class Outbox:
    """What was published, by topic."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, dict[str, object]]] = []

    def publish(self, topic: str, payload: bytes, qos: int) -> object:
        assert qos == 1
        self.sent.append((topic, json.loads(payload)))
        return None

    def of(self, device: str) -> list[dict[str, object]]:
        return [body for topic, body in self.sent if f"/{device}/" in topic]


def faulty(catalogue: Catalogue, scenario: Scenario, kind: str, target: str, **params: float) -> Field:
    fault = Scripted(kind=kind, target=target, at=datetime.fromtimestamp(NOW).astimezone(), minutes=10, params=params)
    return Field(Park(catalogue, scenario.model_copy(update={"faults": Faults(scripted=[fault])}), seed=1))


def test_both_dialects_arrive_at_a_subscriber(calm: Park, broker: Broker) -> None:
    field = Field(calm)
    field.refresh(NOW)
    devices = mqtt_devices(field)
    got: dict[str, dict[str, object]] = {}
    all_there = threading.Event()

    def on_message(client: paho.Client, data: object, message: paho.MQTTMessage) -> None:
        got[message.topic] = json.loads(message.payload)
        if len(got) == len(devices):
            all_there.set()
    listener, sender = mqtt.new_client(broker.url, "listener"), mqtt.new_client(broker.url, "sender")
    listener.on_message = on_message
    subscribed = threading.Event()
    listener.on_subscribe = lambda *_: subscribed.set()
    for client in (listener, sender):
        mqtt.connect(client, broker.url)
        client.loop_start()
    try:
        listener.subscribe("vendor/#", 1)
        assert subscribed.wait(10)
        publish_all(devices, field, sender, NOW)
        assert all_there.wait(15)
    finally:
        for client in (listener, sender):
            client.disconnect()
            client.loop_stop()
    flat, nested = got["vendor/e4/d.e4.ems/up"], got["vendor/e5/d.e5.dcim/telemetry"]
    value = field.value
    assert flat["ts"] == nested["ts"] == round(NOW * 1000)
    assert flat["smt_Ep"] == pytest.approx(value[calm.column_of["e4.smt.kwh"]], abs=0.01)
    assert isinstance(nested["values"], dict)
    assert nested["values"]["it_P"] == pytest.approx(value[calm.column_of["e5.it.kw"]], abs=0.01)


def test_a_late_link_sends_afterwards_what_it_kept_with_its_own_times(catalogue: Catalogue, scenario: Scenario) -> None:
    field, outbox = faulty(catalogue, scenario, "late", "d.e4.mes"), Outbox()
    devices = mqtt_devices(field)
    for at in (NOW + 10, NOW + 20, NOW + 590):
        field.refresh(at)
        publish_all(devices, field, outbox, at)
    assert outbox.of("d.e4.mes") == [] and len(outbox.of("d.e4.ems")) == 3
    field.refresh(NOW + 610)
    publish_all(devices, field, outbox, NOW + 610)
    assert [b["ts"] for b in outbox.of("d.e4.mes")] == [round((NOW + s) * 1000) for s in (10, 20, 590, 610)]


def test_an_offline_device_publishes_nothing_and_loses_that_time(catalogue: Catalogue, scenario: Scenario) -> None:
    field, outbox = faulty(catalogue, scenario, "offline", "d.e3.scada"), Outbox()
    devices = mqtt_devices(field)
    for at in (NOW + 10, NOW + 610):
        field.refresh(at)
        publish_all(devices, field, outbox, at)
    assert [b["ts"] for b in outbox.of("d.e3.scada")] == [round((NOW + 610) * 1000)]


def test_a_point_in_a_gap_is_left_out_and_never_zero(catalogue: Catalogue, scenario: Scenario) -> None:
    field, outbox = faulty(catalogue, scenario, "gap", "e4.smt.kwh"), Outbox()
    field.refresh(NOW + 10)
    publish_all(mqtt_devices(field), field, outbox, NOW + 10)
    body = outbox.of("d.e4.ems")[0]
    assert "smt_Ep" not in body and "smt_P" in body


def test_a_clock_that_is_ahead_stamps_todays_values_with_its_own_time(catalogue: Catalogue, scenario: Scenario,
                                                                      calm: Park) -> None:
    field, plain = faulty(catalogue, scenario, "wrong_clock", "d.e4.mes", offset_s=300.0), Field(calm)
    ahead, right = Outbox(), Outbox()
    for f, outbox in ((field, ahead), (plain, right)):
        f.refresh(NOW + 10)
        publish_all(mqtt_devices(f), f, outbox, NOW + 10)
    told, true = ahead.of("d.e4.mes")[0], right.of("d.e4.mes")[0]
    assert told["ts"] == round((NOW + 310) * 1000)
    assert told["smt_pcs"] == true["smt_pcs"]


def test_a_value_held_by_the_control_port_is_published(calm: Park) -> None:
    field, outbox = Field(calm), Outbox()
    field.refresh(NOW)
    field.set("d.weather", "Ta", 39.5)
    publish_all(mqtt_devices(field), field, outbox, NOW)
    assert outbox.of("d.weather")[0]["Ta"] == 39.5
