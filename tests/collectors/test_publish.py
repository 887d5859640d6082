"""The publisher against a real broker that comes, goes and is killed: everything arrives, in order, under its number."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from collectors.publish import FAILED, NO_SUBSCRIBERS, InFlight, Publisher
from collectors.readings import DeadLetter, Readings
from collectors.spool import Spool
from park.broker import Broker, free_port


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    spool = Spool(tmp_path / "spool" / "s.sqlite", "col")
    yield spool
    spool.close()


@pytest.fixture
def publish(spool: Spool) -> Iterator[Callable[[str], Publisher]]:
    running: list[Publisher] = []

    def start(url: str) -> Publisher:
        publisher = Publisher(spool, url, retry_s=(0.05, 0.2), subscribe_grace_s=1.0)
        publisher.start()
        running.append(publisher)
        return publisher

    yield start
    for publisher in running:
        publisher.stop(0.2)
        assert not publisher.is_alive()


def _append(spool: Spool, first: int, n: int) -> None:
    for i in range(first, first + n):
        spool.append([Readings("b", ["p"], [i], [float(i)], ["good"])])


def test_batches_arrive_in_order_and_leave_the_spool_only_then(
        broker: Broker, spool: Spool, publish: Callable[[str], Publisher], ear: Callable[[str], Any], until: Any) -> None:
    listener = ear(broker.url)
    _append(spool, 0, 250)
    publisher = publish(broker.url)
    until(lambda: spool.size().batches == 0)
    assert [at for _, at, _ in listener.rows()] == list(range(250))
    assert publisher.counters.readings == 250 and publisher.counters.connected


def test_dead_letters_go_the_same_way(
        broker: Broker, spool: Spool, publish: Callable[[str], Publisher], ear: Callable[[str], Any], until: Any) -> None:
    listener = ear(broker.url)
    spool.append([DeadLetter("b", "bad_crc", "why", b"raw")])
    publish(broker.url)
    (letter,) = until(lambda: listener.of("deadletter"))
    assert (letter["reason"], letter["detail"], letter["payload"]) == ("bad_crc", "why", "cmF3")


def test_without_a_broker_everything_waits(spool: Spool, publish: Callable[[str], Publisher], until: Any) -> None:
    _append(spool, 0, 10)
    publisher = publish(f"mqtt://127.0.0.1:{free_port()}")
    until(lambda: publisher.counters.last_error)
    assert "no broker at" in publisher.counters.last_error
    assert spool.size().batches == 10


@pytest.mark.parametrize("kind", [None, "amqtt"], ids=["this machine's broker", "amqtt"])
def test_nothing_is_lost_while_brokers_are_killed(
        kind: str | None, tmp_path: Path, spool: Spool, publish: Callable[[str], Publisher], ear: Callable[[str], Any],
        until: Any) -> None:
    port = free_port()
    server = Broker(tmp_path / "broker", port, kind=kind).start()
    listener = ear(server.url)
    publish(server.url)
    try:
        for round_ in range(3):
            _append(spool, 100 * round_, 50)
            if server.kind != "amqtt":
                until(lambda r=round_: len(listener.rows()) >= 100 * r + 10)  # killed in the middle of them
            else:  # it acknowledges before it delivers and keeps nothing on disk, so only what was delivered is safe
                until(lambda r=round_: len(listener.rows()) >= 100 * r + 50)
            server.kill()
            _append(spool, 100 * round_ + 50, 50)
            time.sleep(0.1)
            listener.ready.clear()
            server.start()
            assert listener.ready.wait(20)
        until(lambda: spool.size().batches == 0)
        until(lambda: len(listener.rows()) == 300)
        assert sorted(at for _, at, _ in listener.rows()) == list(range(300))
    finally:
        server.stop()


@pytest.mark.parametrize("reason", [NO_SUBSCRIBERS, FAILED, 0x97])
def test_a_batch_that_the_broker_did_not_keep_stays_and_goes_again(spool: Spool, reason: int) -> None:
    _append(spool, 0, 3)
    publisher = Publisher(spool, "mqtt://127.0.0.1:1")
    rows = spool.after(0, 3)
    flight = InFlight({mid: (row.seq, row.n) for mid, row in enumerate(rows, 1)})
    publisher.acknowledged(1, 0)
    publisher.acknowledged(2, reason)
    assert publisher.settle(flight, 0.0) is True
    assert [b.seq for b in spool.after(0, 10)] == [rows[1].seq, rows[2].seq]
    assert set(flight.by_mid) == {3} and publisher.counters.refused == 1
