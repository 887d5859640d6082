"""The running service between a real broker and a real database."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from typing import Any
from uuid import uuid4

import msgspec
import paho.mqtt.client as mqtt
import psycopg
import pytest

from ingest.links import Teller
from ingest.service import Service
from park.broker import Broker
from park.mqtt import connect, new_client
from park.settings import Settings
from park.wire import Batch, encode_batch

Db = psycopg.Connection[Any]
NOW_MS = int(time.time() * 1000) // 60_000 * 60_000 - 3_600_000


def wait_for(reached: Callable[[], bool], timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not reached():
        assert time.monotonic() < deadline, "not reached in time"
        time.sleep(0.02)


def count(db: Db, table: str) -> int:
    row = db.execute(f"SELECT count(*) FROM {table}").fetchone()
    assert row is not None
    return int(row[0])


@pytest.fixture
def publisher(broker: Broker) -> Iterator[mqtt.Client]:
    client = new_client(broker.url, f"publisher-{uuid4().hex[:8]}")
    connect(client, broker.url)
    client.loop_start()
    yield client
    client.disconnect()
    client.loop_stop()


@pytest.fixture
def settings(database_url: str, broker: Broker) -> Settings:
    return Settings(database_url=database_url, mqtt_url=broker.url)


@pytest.fixture
def service(mini: Db, settings: Settings) -> Iterator[Service]:
    running = Service(settings, client_id=f"ingest-{uuid4().hex[:8]}", workers=2).start()
    wait_for(lambda: running.subscriber.connected)
    yield running
    running.stop()


def send(client: mqtt.Client, kind: str, payload: bytes, source: str = "s1", base: str = "mini") -> None:
    client.publish(f"park/v1/{base}/{source}/{kind}", payload, qos=1).wait_for_publish(10)


def batch(seq: int, n: int = 1, point: str = "e1.main.kw", first: int = 0) -> bytes:
    numbers = range(first, first + n)
    return encode_batch(Batch(seq, [point] * n, [NOW_MS + 100 * i for i in numbers], [float(i) for i in numbers], None))


def test_messages_of_every_form_become_rows_and_rollups(mini: Db, service: Service, publisher: mqtt.Client) -> None:
    send(publisher, "readings", batch(1, 3))
    send(publisher, "readings", json.dumps({"seq": 2, "readings": [
        {"point": "e1.gas", "at": "2026-11-01T03:00:00Z", "value": 12.5, "quality": "good"}]}).encode())
    send(publisher, "readings", msgspec.msgpack.encode(
        {"seq": 3, "point": ["e1.water"], "at": [NOW_MS], "value": [float("nan")], "quality": ["good"]}))
    wait_for(lambda: count(mini, "reading") == 5)
    water = mini.execute("SELECT value, quality FROM reading JOIN point p USING (base_id, point_id) WHERE code = 'e1.water'")
    assert water.fetchall() == [(None, 17)]
    wait_for(lambda: count(mini, "reading_1h") == 3)
    assert count(mini, "latest") == 3


def test_a_point_that_the_catalogue_learns_is_known_soon(mini: Db, service: Service, publisher: mqtt.Client) -> None:
    send(publisher, "readings", batch(1, point="new.point"))
    wait_for(lambda: count(mini, "dead_letter") == 1)
    mini.execute("""INSERT INTO point (base_id, code, name_zh, name_en, quantity, unit, kind)
        VALUES (1, 'new.point', 'n', 'n', 'active_power', 'kW', 'gauge')""")
    mini.execute("SELECT pg_notify('park_catalogue', 'mini')")
    seqs = iter(range(2, 1000))  # the notification and a message race each other

    def stored() -> bool:
        send(publisher, "readings", batch(next(seqs), point="new.point"))
        return count(mini, "reading") == 1
    wait_for(stored, 5)


@pytest.mark.parametrize(("payload", "reason"), [
    (b"{\"seq\": 1, \"readings\": [", "bad_message"), (b"", "bad_message"), (b"\x00\xff\x00", "bad_message"),
    (b'{"seq": 1, "point": ["a"], "at": [], "value": []}', "bad_message"),
    (b'{"seq": 1, "point": [], "at": [], "value": [], "x": ' + b"[" * 9999 + b"]" * 9999 + b"}", "bad_message"),
    (b'{"seq": 99999999999999999999, "point": ["e1.gas"], "at": [1], "value": [1]}', "bad_message"),
])
def test_what_is_not_a_batch_becomes_a_dead_letter_and_the_next_is_stored(
        mini: Db, service: Service, publisher: mqtt.Client, payload: bytes, reason: str) -> None:
    send(publisher, "readings", payload)
    send(publisher, "readings", batch(2))
    wait_for(lambda: count(mini, "reading") == 1 and count(mini, "dead_letter") == 1)
    assert mini.execute("SELECT reason, payload FROM dead_letter").fetchall() == [(reason, payload)]


@pytest.mark.parametrize("form", ["rows", "columns", "messagepack"])
def test_a_malformed_reading_does_not_sink_its_message(mini: Db, service: Service, publisher: mqtt.Client, form: str) -> None:
    rows: list[dict[str, Any]] = [{"point": "e1.gas", "at": NOW_MS + i, "value": v, "quality": "good"}
                                  for i, v in enumerate((1.0, "twelve", {}))]
    message = {"seq": 1, "readings": rows}
    if form == "columns":
        message = {"seq": 1} | {name: [row[name] for row in rows] for name in ("point", "at", "value")}
    send(publisher, "readings", msgspec.msgpack.encode(message) if form == "messagepack" else json.dumps(message).encode())
    wait_for(lambda: count(mini, "reading") == 1 and count(mini, "dead_letter") == 1)
    ((reason, payload),) = mini.execute("SELECT reason, payload FROM dead_letter").fetchall()
    assert reason == "bad_reading" and json.loads(payload)["readings"] == rows[1:]


def test_ingest_tells_since_when_its_broker_is_away_and_when_it_was(mini: Db, database_url: str) -> None:
    now, there = [datetime(2026, 11, 23, 8, tzinfo=UTC)], [True]
    teller = Teller(database_url, "a", lambda: there[0], Event(), lambda: now[0])
    told = []
    for minute, up in enumerate([True, False, False, True]):
        now[0], there[0] = now[0] + timedelta(minutes=1), up
        if minute == 2:
            teller.look(database=False)
            continue
        teller.tell(mini)
        (row,) = mini.execute("SELECT detail FROM pass WHERE pass = 'ingest:a'").fetchall()
        told.append((row[0]["broker"]["up"], row[0]["broker"]["last"], row[0]["database"]["last"]))
    assert told == [(True, None, None), (False, None, None), (
        True, ["2026-11-23T08:02:00+00:00", "2026-11-23T08:04:00+00:00"],
        ["2026-11-23T08:03:00+00:00", "2026-11-23T08:04:00+00:00"])]


def test_health_and_dead_letters_of_collectors_are_kept(mini: Db, service: Service, publisher: mqtt.Client) -> None:
    health = {"at": "2026-11-23T08:00:00Z", "devices": [
        {"device": "d.e1.main", "state": "online", "last_answer": "2026-11-23T07:59:59Z", "latency_ms": 3.5,
         "errors": {"timeout": 2}, "clock_offset_ms": -90_500},
        {"device": "nobody", "state": "offline", "last_answer": None, "latency_ms": None, "errors": {}}],
        "spool": {"batches": 3}}
    send(publisher, "health", json.dumps(health).encode())
    send(publisher, "health", json.dumps(health | {"at": "2026-11-23T07:00:00Z"}).encode())
    payload = base64.b64encode(b"##01").decode()
    send(publisher, "deadletter", json.dumps({"reason": "bad_crc", "detail": "x", "payload": payload}).encode())
    wait_for(lambda: count(mini, "dead_letter") == 3)
    assert mini.execute("SELECT state, latency_ms, errors, at::text, clock_offset_s FROM device_state").fetchall() == [
        ("online", 3.5, {"timeout": 2}, "2026-11-23 08:00:00+00", -90.5)]
    assert mini.execute("SELECT pass, at::text, detail FROM pass WHERE pass LIKE 'collector:%'").fetchall() == [
        ("collector:s1", "2026-11-23 08:00:00+00", {"batches": 3})]
    letters = mini.execute("SELECT reason, payload FROM dead_letter WHERE reason = 'bad_crc'").fetchall()
    assert letters == [("bad_crc", b"##01")]


def test_a_collectors_dead_letter_lies_there_once_however_often_it_comes(mini: Db, service: Service,
                                                                         publisher: mqtt.Client) -> None:
    def letter(seq: int, text: bytes, reason: str = "bad_crc") -> bytes:
        return json.dumps({"seq": seq, "reason": reason, "detail": "x", "payload": base64.b64encode(text).decode()}).encode()

    def outcomes() -> dict[str, int]:
        return dict(mini.execute("SELECT outcome, sum(n)::int FROM ingest_counter GROUP BY 1").fetchall())

    for seq, text in ((7, b"##01"), (7, b"##01"), (8, b"##01"), (9, b"##01"), (9, b"##01"), (10, b"##02")):
        send(publisher, "deadletter", letter(seq, text))
    wait_for(lambda: outcomes() == {"dead:bad_crc": 2, "repeated": 2, "duplicate": 2})
    found = "SELECT seq, payload, repeats, repeated_at IS NOT NULL FROM dead_letter ORDER BY dead_letter_id"
    assert mini.execute(found).fetchall() == [(7, b"##01", 2, True), (10, b"##02", 0, False)]
    mini.execute("UPDATE dead_letter SET replayed_at = now()")
    send(publisher, "deadletter", letter(11, b"##01"))
    wait_for(lambda: count(mini, "dead_letter") == 3)  # one that was dealt with and comes again is new


def start_process(settings: Settings, client_id: str) -> subprocess.Popen[bytes]:
    env = os.environ | {"PARK_DATABASE_URL": settings.database_url, "PARK_MQTT_URL": settings.mqtt_url}
    return subprocess.Popen([sys.executable, "-m", "park.cli", "ingest", "--client-id", client_id], env=env,
                            cwd=Path(__file__).parents[2], stderr=subprocess.DEVNULL)


def test_kill_9_in_mid_stream_loses_and_doubles_nothing(mini: Db, settings: Settings, publisher: mqtt.Client) -> None:
    client_id = f"ingest-{uuid4().hex[:8]}"
    process = start_process(settings, client_id)
    try:
        sent = 0

        def subscribed() -> bool:  # the session begins with the first subscription; this message may come before it
            send(publisher, "readings", batch(0, 20))
            return count(mini, "reading") == 20
        wait_for(subscribed)
        for kill in range(2):
            for seq in range(1 + kill * 300, 1 + (kill + 1) * 300):
                publisher.publish("park/v1/mini/s1/readings", batch(seq, 20, first=20 * seq), qos=1)
                sent = seq
            wait_for(lambda at=20 * (sent - 250): count(mini, "reading") > at)  # type: ignore[misc]
            process.send_signal(signal.SIGKILL)
            process.wait()
            process = start_process(settings, client_id)
        wait_for(lambda: count(mini, "reading") == 20 * (sent + 1), 30)
        assert mini.execute("SELECT count(*), sum(value) FROM reading").fetchone() == (
            20 * (sent + 1), sum(range(20 * (sent + 1))))
        assert mini.execute("SELECT sum(n) FROM ingest_counter WHERE outcome = 'stored'").fetchone() == (20 * (sent + 1),)
        assert count(mini, "reading_revision") == count(mini, "dead_letter") == 0
    finally:
        process.kill()
        process.wait()


def test_the_process_ends_at_once_when_told(mini: Db, settings: Settings, publisher: mqtt.Client) -> None:
    process = start_process(settings, f"ingest-{uuid4().hex[:8]}")

    def stored() -> bool:
        send(publisher, "readings", batch(0))
        return count(mini, "reading") == 1
    wait_for(stored)
    process.terminate()
    assert process.wait(3) == 0


def test_the_broker_goes_away_and_comes_back(mini: Db, database_url: str, tmp_path: Path) -> None:
    with Broker(tmp_path).start() as own:
        service = Service(Settings(database_url=database_url, mqtt_url=own.url), client_id="away").start()
        try:
            wait_for(lambda: service.subscriber.connected)
            client = new_client(own.url, "p", )
            connect(client, own.url)
            client.loop_start()
            send(client, "readings", batch(1))
            wait_for(lambda: count(mini, "reading") == 1)
            own.kill()
            wait_for(lambda: not service.subscriber.connected)
            own.start()
            wait_for(lambda: service.subscriber.connected and client.is_connected())
            send(client, "readings", batch(2, first=5))
            wait_for(lambda: count(mini, "reading") == 2)
            client.disconnect()
            client.loop_stop()
        finally:
            service.stop()
