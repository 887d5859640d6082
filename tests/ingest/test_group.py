"""Several ingest processes that share one subscription: the broker deals the messages out, each is stored once."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg

from ingest.service import Service
from park.broker import Broker
from park.mqtt import connect, new_client, speaks_v5
from park.settings import Settings
from park.wire import Batch, encode_batch

Db = psycopg.Connection[Any]
N = 400


def until(reached: Any, timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not reached():
        assert time.monotonic() < deadline, "not reached in time"
        time.sleep(0.02)


def stored(db: Db) -> int:
    row = db.execute("SELECT coalesce(sum(n), 0) FROM ingest_counter WHERE outcome = 'stored'").fetchone()
    return int(row[0]) if row else 0


def test_two_services_of_a_group_share_the_messages_and_lose_none_while_one_is_away(mini: Db, database_url: str, broker: Broker,
                                                                          tmp_path: Path) -> None:
    assert speaks_v5(broker.url), "mosquitto knows shared subscriptions; `make system` installs it"
    settings = Settings(database_url=database_url, mqtt_url=broker.url, data_dir=tmp_path)
    group = f"g{uuid4().hex[:8]}"
    first, second = (Service(settings, client_id=f"{group}-{k}", group=group).start() for k in (1, 2))
    sender = new_client(broker.url, f"{group}-sender")
    connect(sender, broker.url)
    sender.loop_start()
    try:
        until(lambda: first.subscriber.connected and second.subscriber.connected)
        time.sleep(0.3)                                     # both subscriptions are at the broker
        now_ms = int(time.time() * 1000) // 60_000 * 60_000 - 3_600_000

        def send(seqs: range) -> None:
            for seq in seqs:
                batch = Batch(seq, ["e1.main.kw"], [now_ms + seq * 100], [float(seq)], None)
                info = sender.publish("park/v1/mini/s1/readings", encode_batch(batch), qos=1)
            info.wait_for_publish(10)

        send(range(N))
        until(lambda: stored(mini) == N)
        assert first.subscriber.n_received + second.subscriber.n_received == N
        assert min(first.subscriber.n_received, second.subscriber.n_received) > N // 10
        second.stop()
        send(range(N, 2 * N))                               # what the broker keeps for it comes when it is back
        time.sleep(0.5)
        second = Service(settings, client_id=f"{group}-2", group=group).start()
        until(lambda: stored(mini) == 2 * N)
        assert mini.execute("SELECT count(*) FROM reading").fetchone() == (2 * N,)
    finally:
        first.stop()
        second.stop()
        sender.disconnect()
        sender.loop_stop()
