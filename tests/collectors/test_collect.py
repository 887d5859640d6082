"""The whole stage as a process: three kinds of devices to the broker, kill -9, broker loss, reload, commands."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any
from unittest.mock import patch
from zoneinfo import ZoneInfo

import psycopg
import pytest
from pyModbusTCP.server import ModbusServer

from collectors.device_read import read_device
from collectors.hj212_frame import build_frame
from collectors.park_devices import FieldDevice, Target
from collectors.polled import polled_gateways
from collectors.template import load_template
from park.broker import Broker, free_port
from park.catalogue import Device, read_catalogue
from park.catalogue_store import apply
from park.mqtt import connect, new_client
from tests.collectors.conftest import Collector
from tests.command import Done, park

MN = "010000A8900016F000169DC0"

CATALOGUE = """\
base: {{code: mini, name: Mini}}
devices:
  - {{code: d.main, protocol: modbus, template: eastron.sdm630, connection: "tcp://127.0.0.1:{port}", unit_id: 1,
      every: {{fast: 0.2, slow: 0.4}}}}
  - {{code: d.cems, protocol: hj212, mn: "{mn}", password: "${{CEMS_PW}}", edition: "2017", crc: hj212}}
  - {{code: d.plc, protocol: mqtt, mapping: {{topic: "vendor/{{device}}/up", form: flat}}}}
points:
  - {{code: kwh, quantity: active_energy, unit: kWh, kind: counter, source: {{device: d.main, key: active_energy_import}}}}
  - {{code: kw, quantity: active_power, unit: kW, source: {{device: d.main, key: active_power}}}}
  - {{code: so2, quantity: so2, unit: mg/m3, source: {{device: d.cems, key: a21026}}}}
  - {{code: temp, quantity: temperature, unit: degC, source: {{device: d.plc, key: temp}}}}
"""


@pytest.fixture
def catalogue(tmp_path: Path, field_gateway: Callable[..., Any]) -> tuple[Path, Any]:
    meter = field_gateway()
    meter.f32(1, 52, 2500.0)
    meter.f32(1, 72, 1234.5)
    file = tmp_path / "mini.yaml"
    file.write_text(CATALOGUE.format(port=meter.port, mn=MN), encoding="utf-8")
    return file, meter


def _frame(value: float, second: int = 0) -> bytes:
    now = datetime.now(ZoneInfo("Asia/Shanghai"))
    stamp = now.strftime("%Y%m%d%H%M") + f"{second:02d}"
    return build_frame(f"QN={now:%Y%m%d%H%M%S}{second:03d};ST=31;CN=2011;PW=123456;MN={MN};Flag=5;"
                       f"CP=&&DataTime={stamp};a21026-Rtd={value},a21026-Flag=N&&")


def _send_hj212(port: int, frame: bytes, until: Any) -> bytes:
    def attempt() -> bytes:
        try:
            with socket.create_connection(("127.0.0.1", port), 2) as s:
                s.sendall(frame)
                s.settimeout(3)
                return s.recv(500)
        except OSError:
            return b""
    return bytes(until(attempt))


def _publish(url: str, topic: str, body: dict[str, Any]) -> None:
    client = new_client(url, f"plc-{time.monotonic_ns()}")
    connect(client, url)
    client.loop_start()
    client.publish(topic, json.dumps(body), qos=1).wait_for_publish(5)
    client.disconnect()
    client.loop_stop()


def test_three_kinds_of_devices_reach_the_broker_with_health_and_metrics(
        broker: Broker, catalogue: tuple[Path, Any], collect: Callable[..., Collector], ear: Callable[[str], Any],
        until: Any) -> None:
    listener = ear(broker.url)
    collector = collect(broker.url, catalogue[0])
    assert b"CN=9014" in _send_hj212(collector.hj212_port, _frame(12.5), until)
    until(lambda: "kw" in {p for p, *_ in listener.rows()})
    _publish(broker.url, "vendor/plc/up", {"ts": int(time.time() * 1000), "temp": "21.5"})
    until(lambda: {p for p, *_ in listener.rows()} == {"kwh", "kw", "so2", "temp"})
    values = {p: v for p, _, v in listener.rows()}
    assert values == {"kwh": 1234.5, "kw": 2.5, "so2": 12.5, "temp": 21.5}
    health = until(lambda: listener.of("health"))[-1]
    assert {d["device"] for d in health["devices"]} == {"d.main", "d.cems", "d.plc"}
    assert set(health) == {"at", "devices", "connections", "spool", "hj212"} and health["spool"]["batches"] >= 0
    catalogue[1].silent.add(1)
    until(lambda: {d["device"]: d["state"] for d in listener.of("health")[-1]["devices"]}["d.main"] == "offline")
    catalogue[1].silent.clear()
    until(lambda: {d["device"]: d["state"] for d in listener.of("health")[-1]["devices"]}["d.main"] == "online")
    metrics = collector.metrics()
    assert 'park_device_up{base="mini",device="d.main"} 1.0' in metrics
    assert "park_hj212_frames_total 1.0" in metrics
    assert collector.stop() < 3
    last = listener.of("health")[-1]["devices"]
    assert {d["device"]: d["state"] for d in last}["d.main"] == "online"


def test_an_acknowledged_hj212_reading_survives_kill_9_without_a_broker(
        tmp_path: Path, catalogue: tuple[Path, Any], collect: Callable[..., Collector], ear: Callable[[str], Any],
        until: Any) -> None:
    port = free_port()
    collector = collect(f"mqtt://127.0.0.1:{port}", catalogue[0])
    for n in range(10):
        assert b"CN=9014" in _send_hj212(collector.hj212_port, _frame(float(n), n), until)
    collector.kill()
    with Broker(tmp_path / "broker", port).start() as server:
        listener = ear(server.url)
        collector.start()
        until(lambda: sum(p == "so2" for p, *_ in listener.rows()) >= 10)
        assert sorted(v for p, _, v in listener.rows() if p == "so2") == [float(n) for n in range(10)]


def test_broker_loss_and_kill_9_together_lose_and_repeat_nothing(
        tmp_path: Path, catalogue: tuple[Path, Any], collect: Callable[..., Collector], ear: Callable[[str], Any],
        until: Any) -> None:
    port = free_port()
    server = Broker(tmp_path / "broker", port).start()
    try:
        listener = ear(server.url)
        collector = collect(server.url, catalogue[0])
        until(lambda: len(listener.rows()) > 5)
        listener.ready.clear()
        server.kill()
        for n in range(5):  # while the broker is away
            assert b"CN=9014" in _send_hj212(collector.hj212_port, _frame(float(n), n), until)
        collector.kill()
        server.start()
        assert listener.ready.wait(20)
        collector.start()
        for n in range(5, 8):
            assert b"CN=9014" in _send_hj212(collector.hj212_port, _frame(float(n), n), until)
        until(lambda: sum(p == "so2" for p, *_ in listener.rows()) >= 8)
        assert sorted(v for p, _, v in listener.rows() if p == "so2") == [float(n) for n in range(8)]
        keys = [(p, at) for p, at, _ in listener.rows()]
        assert len(keys) == len(set(keys)), "one reading is in one batch only"
        assert collector.stop() < 3
    finally:
        server.stop()


def test_a_changed_catalogue_is_taken_over_and_unchanged_devices_keep_polling(
        broker: Broker, catalogue: tuple[Path, Any], collect: Callable[..., Collector], ear: Callable[[str], Any],
        until: Any) -> None:
    file, meter = catalogue
    listener = ear(broker.url)
    collector = collect(broker.url, file)
    until(lambda: "kw" in {p for p, *_ in listener.rows()})
    text = file.read_text()
    file.write_text(text.replace("unit: kW,", "unit: kilowatt,"))
    until(lambda: "the former one keeps running" in collector.log())
    assert "unknown unit of measure 'kilowatt'" in collector.log()
    seen = len(listener.rows())
    until(lambda: len(listener.rows()) > seen + 3)
    connections = meter.connections
    file.write_text(text.replace("a21026", "a21002").replace("quantity: so2", "quantity: nox"))
    frame = build_frame(_frame(3.0)[6:-6].decode().replace("a21026", "a21002"))
    until(lambda: b"CN=9014" in _send_hj212(collector.hj212_port, frame, until)
          and any(p == "so2" and v == 3.0 for p, _, v in listener.rows()))
    assert meter.connections == connections, "the unchanged gateway was not touched"


def test_the_database_is_a_catalogue_too_and_a_change_is_heard(
        broker: Broker, catalogue: tuple[Path, Any], db: psycopg.Connection[Any], database_url: str,
        collect: Callable[..., Collector], ear: Callable[[str], Any], until: Any) -> None:
    file, _ = catalogue
    apply(db, read_catalogue([file]))
    listener = ear(broker.url)
    collect(broker.url, PARK_DATABASE_URL=database_url)
    until(lambda: {"kw", "kwh"} <= {p for p, *_ in listener.rows()})
    file.write_text(file.read_text().replace("code: kw,", "code: kw2,"))
    apply(db, read_catalogue([file]), prune=True)
    until(lambda: "kw2" in {p for p, *_ in listener.rows()})


def test_a_database_that_is_not_there_yet_is_waited_for(tmp_path: Path, collect: Callable[..., Collector], until: Any) -> None:
    collector = collect("mqtt://127.0.0.1:1", PARK_DATABASE_URL=f"postgresql:///park?host={tmp_path}")
    until(lambda: "trying again" in collector.log())
    assert collector.process.poll() is None
    assert collector.stop() < 3 and collector.process.returncode == 0


def _park(*words: str, **environment: str) -> Done:
    return park(*words, **({"CEMS_PW": "x"} | environment))


def test_collect_once_polls_every_meter_and_says_how_it_went(tmp_path: Path, broker: Broker, catalogue: tuple[Path, Any],
                                                             ear: Callable[[str], Any], until: Any) -> None:
    file, meter = catalogue
    listener = ear(broker.url)
    environment = {"PARK_MQTT_URL": broker.url, "PARK_DATA_DIR": str(tmp_path / "once")}
    done = _park("collect", str(file), "--once", **environment)
    assert done.returncode == 0, done.stderr
    assert "d.main" in done.stdout and "online" in done.stdout and "2 readings taken, 2 acknowledged" in done.stdout
    until(lambda: {p for p, *_ in listener.rows()} == {"kw", "kwh"})
    meter.silent.add(1)
    failed = _park("collect", str(file), "--once", **environment)
    assert failed.returncode == 1 and "offline" in failed.stdout and "timeout" in failed.stdout


def test_collect_once_hears_loggers_and_mqtt_devices_when_asked_to(
        tmp_path: Path, broker: Broker, catalogue: tuple[Path, Any], until: Any) -> None:
    port = free_port()
    arguments = ["collect", str(catalogue[0]), "--once", "--hj212-port", str(port), "--hj212-host", "127.0.0.1"]
    environment = {"PARK_MQTT_URL": broker.url, "PARK_DATA_DIR": str(tmp_path / "once"), "CEMS_PW": "123456"}
    silent = _park(*arguments, "--listen", "0.5", **environment)
    assert silent.returncode == 1 and "d.cems" in silent.stdout and "offline" in silent.stdout

    def report() -> None:
        _send_hj212(port, _frame(12.5), until)
        _publish(broker.url, "vendor/plc/up", {"ts": int(time.time() * 1000), "temp": "21.5"})
    devices = threading.Thread(target=report)
    devices.start()
    began = time.monotonic()
    done = _park(*arguments, "--listen", "30", **environment)
    devices.join()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 readings taken" in done.stdout and time.monotonic() - began < 25, "it ends when each has given something"
    assert _park("collect", str(catalogue[0]), "--listen", "5").returncode == 2


def test_a_wrong_catalogue_ends_collect_with_its_mistakes(tmp_path: Path) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text("base: {code: b, name: B}\npoints:\n  - {code: p, quantity: power, unit: kW}\n")
    done = _park("collect", str(file), PARK_DATA_DIR=str(tmp_path / "d"))
    assert done.returncode == 1
    assert "wrong.yaml:3: points[0] (p).quantity: unknown quantity 'power'" in done.stderr
    assert _park("collect", str(file), "--source", "a/b").returncode == 1
    assert _park("collect", "--nonsense").returncode == 2


def test_device_read_shows_values_ranges_and_requests(catalogue: tuple[Path, Any]) -> None:
    _, meter = catalogue
    done = _park("device", "read", "eastron.sdm630", "--host", "127.0.0.1", "--port", str(meter.port), "--format", "json")
    plain = json.loads(done.stdout)
    values = {v["key"]: v for v in plain["values"]}
    assert values["active_power"]["value"] == 2500.0 and values["active_power"]["inside"] is True
    assert values["frequency"]["value"] == 0.0 and values["frequency"]["inside"] is False
    assert len(values) == 43 and [r["result"] for r in plain["requests"]] == ["ok"] * len(plain["requests"])
    assert done.returncode == 1, "a frequency of 0 Hz is outside its range"
    table = _park("device", "read", "eastron.sdm630", "--host", "127.0.0.1", "--port", str(meter.port))
    assert "active_energy_import" in table.stdout and "40 … 70" in table.stdout and "function 4, registers" in table.stdout


def test_device_read_of_an_independent_server_from_a_yaml_file(tmp_path: Path) -> None:
    file = tmp_path / "my.yaml"
    file.write_text("""\
template: my.meter
version: 1
vendor: Mine
models: [One]
kind: electricity_meter
source: [its manual]
parameters: {ct_ratio: {default: 1}}
points:
  - {key: power, quantity: active_power, address: 10, type: i32, word_order: little, scale: 0.1, unit: W, valid: [0, 100000],
     multiply_by: [ct_ratio]}
""")
    server = ModbusServer("127.0.0.1", free_port(), no_block=True)
    server.start()
    try:
        server.data_bank.set_holding_registers(10, list(struct.unpack(">HH", struct.pack(">i", 12345)))[::-1])
        done = _park("device", "read", str(file), "--host", "127.0.0.1", "--port", str(server.port), "--format", "json",
                     "--parameter", "ct_ratio=40")
    finally:
        server.stop()
    assert done.returncode == 0, done.stderr
    (value,) = json.loads(done.stdout)["values"]
    assert (value["value"], value["unit"], value["raw"]) == (49380.0, "W", "3039 0000")


def test_registers_in_another_order_are_told_by_device_read_and_read_with_the_devices_attribute() -> None:
    template = load_template("eastron.sdm630")
    words = {p.address: struct.unpack(">HH", struct.pack(">f", 50.0 if p.key == "frequency" else 0.9))[::-1]
             for p in template.points}
    server = ModbusServer("127.0.0.1", free_port(), no_block=True)
    server.start()
    try:
        for address, pair in words.items():
            server.data_bank.set_input_registers(address, list(pair))
        url = f"tcp://127.0.0.1:{server.port}"
        wrong = asyncio.run(read_device(template, url, 1))
        shown = _park("device", "read", "eastron.sdm630", "--host", "127.0.0.1", "--port", str(server.port))
        swapped = asyncio.run(read_device(template.in_order("little", None), url, 1))
    finally:
        server.stop()
    assert wrong.hint is not None and "attributes: {word_order: little, byte_order: big}" in wrong.hint
    assert {v.quality for v in wrong.values} == {"uncertain"}
    assert shown.stdout.count("no measured value: word or byte order?") == len(words) and shown.returncode == 1
    assert swapped.hint is None and {(v.inside, v.doubt) for v in swapped.values} == {(True, None)}
    device = Device(code="d", protocol="modbus", template="eastron.sdm630", connection=url, unit_id=1,
                    attributes={"word_order": "little"})
    fields = [FieldDevice("b", "Asia/Shanghai", d, {"frequency": Target("f", "Hz", "gauge", 60)})
              for d in (device, device.model_copy(update={"code": "e", "attributes": {}}),
                        device.model_copy(update={"code": "g", "attributes": {"word_order": "litle"}}))]
    (gateway,), mistakes = polled_gateways(fields)
    assert [u.template.defaults.word_order for u in gateway.units] == ["little", "big"]
    assert mistakes == ["device g: expected word_order: big or little, got 'litle'"]
    again = polled_gateways(fields, known={("b", u.field.code): u for u in gateway.units})[0][0]
    assert [a is b for a, b in zip(again.units, gateway.units, strict=True)] == [True, True], "units that did not change go on"


def test_device_commands_tell_what_is_wrong(tmp_path: Path, field_gateway: Callable[..., Any]) -> None:
    silent = field_gateway()
    done = _park("device", "read", "eastron.sdm120", "--host", "127.0.0.1", "--port", str(silent.port))
    assert done.returncode == 1 and "no answer to function 4" in done.stderr
    done = _park("device", "read", "no.such", "--host", "127.0.0.1")
    assert done.returncode == 1 and "no device template 'no.such'; known: abb.b23" in done.stderr
    assert _park("device", "read", "eastron.sdm120").returncode == 2
    file = tmp_path / "bad.yaml"
    file.write_text("template: a.b\nversion: 1\n")
    done = _park("device", "check", str(file))
    assert done.returncode == 1 and f"{file}" in done.stderr and "vendor: Field required" in done.stderr


def test_device_list_show_and_check() -> None:
    listed = _park("device", "list")
    assert listed.returncode == 0 and "acrel.dtsd1352" in listed.stdout and "medium" in listed.stdout
    shown = _park("device", "show", "acrel.dtsd1352")
    assert "ct_ratio" in shown.stdout and "trap: secondary-side values" in shown.stdout and "source:" in shown.stdout
    checked = _park("device", "check")
    assert checked.returncode == 0 and " 0 wrong" in checked.stdout


def test_mqtt_try_shows_what_would_be_stored(tmp_path: Path) -> None:
    mapping = "{topic: 'v/{device}/up', form: flat, key: '{device}.{key}'}"
    done = _park("mqtt", "try", mapping, '{"ts": "2026-11-23T11:00:00", "t": "21.5", "p": null}', "--topic", "v/d7/up")
    assert done.returncode == 0
    assert "d7.t" in done.stdout and "2026-11-23T11:00:00.000+08:00" in done.stdout and "21.5" in done.stdout
    assert "d7.p" in done.stdout and "missing" in done.stdout
    file = tmp_path / "m.json"
    file.write_text("not json")
    wrong = _park("mqtt", "try", mapping, str(file))
    assert wrong.returncode == 1 and "not JSON" in wrong.stderr
    assert "would not be heard" in _park("mqtt", "try", mapping, "{}", "--topic", "w/d7/up").stderr
    assert "mapping.form" in _park("mqtt", "try", "{topic: a, form: xml}", "{}").stderr


def test_mqtt_try_of_several_messages_says_what_is_left_out_and_why(tmp_path: Path) -> None:
    assert "tele/{device}/SENSOR" in _park("mqtt", "list").stdout
    (tmp_path / "heard.txt").write_text(
        'tele/d7/SENSOR {"Time": "2026-11-23T11:00:00", "ENERGY": {"Power": "--", "Total": "hot"}}\n'
        "tele/d7/STATE {}\ntele/d7/SENSOR {oops\ntele/d8/SENSOR {}\n")
    done = _park("mqtt", "try", "tasmota", str(tmp_path / "heard.txt"), "--lines")
    assert done.returncode == 1
    for words in ("message 1, tele/d7/SENSOR", "'--' means no value", "'hot' is no finite number",
                  "left out: the topic 'tele/d7/STATE' is not one of", "dead letter bad_payload: not JSON",
                  "the message carries no values", "4 messages: 2 values, 2 of them without value; 1 dead letters"):
        assert words in done.stdout, words
    assert "2 of 4 messages would be lost; message 2" in done.stderr
    (tmp_path / "park.yaml").write_text(
        "base: {code: b, name: B}\ndevices:\n  - {code: d.plc, protocol: mqtt, mapping: {ready: flat_json, units: {p: W}}}\n"
        "points:\n  - {code: kw, quantity: active_power, unit: kW, source: {device: d.plc, key: p}}\n")
    payload, park = '{"ts": 1795400000000, "p": 1500, "q": 1}', str(tmp_path / "park.yaml")
    done = _park("mqtt", "try", "d.plc", payload, "{}", "--catalogue", park)
    assert done.returncode == 0 and "1.5 kW" in done.stdout and "no point of the catalogue takes: q" in done.stdout
    assert "known: d.plc" in _park("mqtt", "try", "nope", "{}", "--catalogue", park).stderr
    where = "{topic: 'v/{device}/up', where: {device: D8}}"
    assert "`where` wants" in _park("mqtt", "try", where, '{"a": 1}', "--topic", "v/D7/up").stdout
    assert "one for each of the 1 messages" in _park("mqtt", "try", where, "{}", "--topic", "a", "--topic", "b").stderr


def test_sigint_ends_the_collector_cleanly(broker: Broker, catalogue: tuple[Path, Any], collect: Callable[..., Collector],
                                           until: Any) -> None:
    collector = collect(broker.url, catalogue[0])
    until(lambda: "collecting:" in collector.log())
    collector.process.send_signal(signal.SIGINT)
    assert collector.process.wait(3) == 0
    assert "Traceback" not in collector.log()


def test_hj212_commands_reach_the_running_collector(
        broker: Broker, catalogue: tuple[Path, Any], collect: Callable[..., Collector], until: Any, tmp_path: Path) -> None:
    collector = collect(broker.url, catalogue[0])
    until((collector.folder / "data" / "collect-collector.sock").exists)
    until(lambda: "listening" in collector.log())
    _send_hj212(collector.hj212_port, _frame(1.0), until)
    with socket.create_connection(("127.0.0.1", collector.hj212_port), 2) as s, \
            patch.dict(os.environ, {"PARK_DATA_DIR": str(collector.folder / "data")}):
        s.sendall(_frame(2.0).replace(MN.encode(), b"0" * 24))  # its CRC no longer fits: no stranger yet
        s.sendall(build_frame(f"QN=1;ST=31;CN=2011;PW=1;MN={'9' * 24};Flag=4;CP=&&DataTime=20261123110000;a21026-Rtd=1&&"))
        listed = until(lambda: (d := _park("hj212", "strangers")).returncode == 0 and "9" * 24 in d.stdout and d)
        assert "0" * 24 not in listed.stdout and "a21026" in listed.stdout
        file = tmp_path / "new.yaml"
        assert _park("hj212", "adopt", "9" * 24, "--base", "mini", "-o", str(file)).returncode == 0
        assert "quantity: so2" in file.read_text()
        offline = _park("hj212", "send", MN, "1011")
        assert offline.returncode == 1 and "offline" in offline.stdout, "that logger has hung up"
        assert "no data logger with MN" in _park("hj212", "send", "X", "1011").stderr
        assert _park("hj212", "adopt", "X", "--base", "mini").returncode == 1
    assert "3021" in _park("hj212", "commands").stdout
