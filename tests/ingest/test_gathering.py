"""Batches are made ready ahead of the writer: in order, growing while it is busy, judged by the catalogue of the commit."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from threading import Event, Thread
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from ingest.directory import load_directory
from ingest.gathering import Gathered, Gatherer
from ingest.inbox import Inbox, Received
from ingest.metrics import Metrics
from ingest.session import BufferedClient
from ingest.writer import Writer
from park.broker import Broker
from park.database import connect
from park.mqtt import connect as mqtt_connect
from park.mqtt import new_client
from park.settings import Settings
from park.wire import Batch, encode_batch

Db = psycopg.Connection[Any]
AT_MS = 1_793_491_200_000  # 2026-11-01


def message(seq: int, point: str = "e1.main.kw", kind: str = "readings", payload: bytes | None = None) -> Received:
    columns = Batch(seq, [point], [AT_MS + seq], [float(seq)], None)
    return Received(f"park/v1/mini/s1/{kind}", payload or encode_batch(columns), AT_MS * 1000, seq, 1, 1)


def wait_for(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not reached():
        assert time.monotonic() < deadline, "not reached in time"
        time.sleep(0.005)


@contextmanager
def running(gatherer: Gatherer) -> Iterator[Gatherer]:
    thread = Thread(target=gatherer.run)
    thread.start()
    try:
        yield gatherer
    finally:
        gatherer.stop.set()
        thread.join(5)
    assert not thread.is_alive()


def taken(gatherer: Gatherer) -> Gathered:
    gathered = gatherer.next(10)
    assert gathered is not None
    return gathered


def test_the_next_batch_grows_while_one_waits_and_messages_keep_their_order(mini: Db) -> None:
    inbox = Inbox(4000)
    gatherer = Gatherer(Settings(batch_rows=10, batch_s=0.001), inbox, Event())
    gatherer.directory = load_directory(mini)
    with running(gatherer):
        inbox.put(message(0))
        wait_for(gatherer._waiting.full)
        for seq in range(1, 91):
            inbox.put(message(seq))
        wait_for(lambda: not inbox.take(0, 0) and not inbox._waiting)
        time.sleep(0.05)  # far longer than a batch may take that somebody waits for
        first, second = taken(gatherer), taken(gatherer)
    assert len(first.received) == 1 and len(second.received) == 90
    assert [m.mid for m in (*first.received, *second.received)] == list(range(91))
    assert second.judged is not None and second.judged.readings.value.tolist() == [float(k) for k in range(1, 91)]


def test_a_batch_grows_to_ten_times_its_size_at_most(mini: Db) -> None:
    inbox = Inbox(4000)
    gatherer = Gatherer(Settings(batch_rows=64, batch_s=0.001), inbox, Event())
    gatherer.directory = load_directory(mini)
    for seq in range(3000):
        inbox.put(message(seq))
    with running(gatherer):
        wait_for(gatherer._waiting.full)
        time.sleep(0.05)
        sizes = [len(taken(gatherer).received) for _ in range(2)]
    assert sizes[0] == 64 and 64 <= sizes[1] <= 640


@pytest.mark.parametrize("told", [True, False], ids=["told", "not told yet"])
def test_a_batch_gathered_before_the_catalogue_changed_is_judged_by_the_new(mini: Db, database_url: str, told: bool) -> None:
    inbox, done = Inbox(4000), list[Received]()
    writer = Writer(Settings(database_url=database_url), inbox, done.extend, Event(), Metrics())
    with connect(database_url, autocommit=True) as conn, running(writer.gatherer):
        store = writer._ready(conn)
        writer._fresh_directory(conn)
        inbox.put(message(1, "new.point"))
        writer._held = taken(writer.gatherer)
        mini.execute("""INSERT INTO point (base_id, code, name_zh, name_en, quantity, unit, kind)
            VALUES (1, 'new.point', 'n', 'n', 'active_power', 'kW', 'gauge')""")
        if told:
            mini.execute("SELECT pg_notify('park_catalogue', 'mini')")
            wait_for(lambda: writer._fresh_directory(conn) is not writer._held.directory)  # type: ignore[union-attr]
        writer._step(store)
    assert [m.mid for m in done] == [1] and len(inbox) == 0
    assert mini.execute("SELECT value FROM reading").fetchall() == [(1.0,)]
    assert mini.execute("SELECT count(*) FROM dead_letter").fetchone() == (0,)


def test_a_message_that_breaks_the_decoder_is_kept_and_stops_nobody(mini: Db, database_url: str) -> None:
    inbox, done = Inbox(4000), list[Received]()
    writer = Writer(Settings(database_url=database_url), inbox, done.extend, Event(), Metrics())
    poison = b'{"devices": [{"device": "d", "errors": ' + b"[" * 9999 + b"]" * 9999 + b"}]}"
    with connect(database_url, autocommit=True) as conn, running(writer.gatherer):
        store = writer._ready(conn)
        inbox.put(message(1, kind="health", payload=poison))
        inbox.put(message(2))
        deadline = time.monotonic() + 20
        while len(done) < 2 and time.monotonic() < deadline:
            writer._step(store)
    assert mini.execute("SELECT reason, payload FROM dead_letter").fetchall() == [("refused", poison)]
    assert mini.execute("SELECT value FROM reading").fetchall() == [(2.0,)]


def test_what_cannot_be_gathered_is_left_to_the_writer(mini: Db, database_url: str) -> None:
    inbox, done = Inbox(4000), list[Received]()
    writer = Writer(Settings(database_url=database_url), inbox, done.extend, Event(), Metrics())
    with connect(database_url, autocommit=True) as conn:
        store = writer._ready(conn)
        writer._fresh_directory(conn)
        writer.gatherer.directory = replace(load_directory(conn), bases=None)  # type: ignore[arg-type]
        inbox.put(message(1))
        with running(writer.gatherer):
            writer._held = taken(writer.gatherer)
        assert writer._held.directory is None
        writer._step(store)
    assert [m.mid for m in done] == [1] and len(inbox) == 0
    assert mini.execute("SELECT value FROM reading").fetchall() == [(1.0,)]


def test_a_client_with_a_buffer_reads_every_message_and_answers_for_a_batch_at_once(broker: Broker) -> None:
    """More than fits the buffer, with one far larger than it; what was acknowledged does not come again."""
    name, came = f"buffered-{uuid4().hex[:8]}", list[tuple[int, bytes | bytearray]]()

    def session() -> BufferedClient:
        client = new_client(broker.url, name, manual_ack=True, kind=BufferedClient)
        assert isinstance(client, BufferedClient)
        client.on_message = lambda _, __, m: came.append((m.mid, m.payload))
        subscribed = Event()
        client.on_subscribe = lambda *_: subscribed.set()
        client.on_connect = lambda c, *_: c.subscribe(f"t/{name}", 1) and None
        mqtt_connect(client, broker.url)
        client.loop_start()
        assert subscribed.wait(10)
        return client

    def left(client: BufferedClient) -> None:
        client.disconnect()
        client.loop_stop()

    sent = [b"%d" % k * (300_000 if k == 500 else 300) for k in range(1500)]
    left(session())
    sender = new_client(broker.url, f"sender-{name}")
    mqtt_connect(sender, broker.url)
    sender.loop_start()
    for payload in sent:
        info = sender.publish(f"t/{name}", payload, qos=1)
    info.wait_for_publish(20)
    client = session()
    wait_for(lambda: len(came) == len(sent))
    assert [payload for _, payload in came] == sent
    client.acknowledge([mid for mid, _ in came[:-3]])
    time.sleep(0.3)
    left(client)
    again, came[:] = came[-3:], []
    client = session()
    wait_for(lambda: len(came) == 3)
    time.sleep(0.2)
    assert [payload for _, payload in came] == [payload for _, payload in again]
    client.acknowledge([mid for mid, _ in came])
    time.sleep(0.1)
    left(client)
    sender.disconnect()
    sender.loop_stop()
