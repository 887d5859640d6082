"""The publisher against a real broker that comes, goes and is killed: everything arrives, in order, under its number."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from collectors.delivery import COMMITTED, PUBACK, WAITING, Delivery, Terms
from collectors.publish import FAILED, NO_SUBSCRIBERS, Publisher
from collectors.readings import DeadLetter, Readings
from collectors.spool import Spool, Spooled
from park.broker import Broker, free_port


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    spool = Spool(tmp_path / "spool" / "s.sqlite", "col")
    yield spool
    spool.close()


@pytest.fixture
def publish(spool: Spool) -> Iterator[Callable[..., Publisher]]:
    running: list[Publisher] = []

    def start(url: str, **terms: float) -> Publisher:
        publisher = Publisher(spool, url, retry_s=(0.05, 0.2), subscribe_grace_s=0.5, terms=Terms(**{"resend_s": 2.0} | terms))  # type: ignore[arg-type]
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
            until(lambda r=round_: len(listener.rows()) >= 100 * r + 10)  # killed in the middle of them
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


def test_without_confirmations_the_brokers_word_counts_after_a_while_and_that_is_said(
        broker: Broker, spool: Spool, publish: Callable[..., Publisher], ear: Callable[..., Any], until: Any,
        caplog: pytest.LogCaptureFixture) -> None:
    listener = ear(broker.url, confirm=False)
    _append(spool, 0, 10)
    publisher = publish(broker.url, confirm_after_s=1.0)
    until(lambda: publisher.counters.unconfirmed == 10)
    assert spool.size().batches == 10 and publisher.counters.confirmation == WAITING
    until(lambda: spool.size().batches == 0)
    until(lambda: publisher.counters.confirmation == PUBACK)
    assert "no confirmation of commits" in caplog.text
    listener.confirm = True
    _append(spool, 10, 1)
    until(lambda: publisher.counters.confirmation == COMMITTED)


def test_once_confirmed_only_a_confirmation_counts_also_after_a_restart(
        broker: Broker, spool: Spool, publish: Callable[..., Publisher], ear: Callable[..., Any], until: Any) -> None:
    listener = ear(broker.url)
    _append(spool, 0, 5)
    publisher = publish(broker.url, confirm_after_s=0.1)
    until(lambda: spool.size().batches == 0)
    publisher.stop(0)
    listener.confirm = False
    again = publish(broker.url, confirm_after_s=0.1, resend_s=0.5)
    assert again.counters.confirmation == COMMITTED
    _append(spool, 5, 5)
    until(lambda: again.counters.resent >= 5)
    assert spool.size().batches == 5
    listener.confirm = True
    until(lambda: spool.size().batches == 0)
    assert len(listener.rows()) == 10


def test_live_batches_overtake_a_backlog(spool: Spool) -> None:
    _append(spool, 0, 1000)
    oldest = spool.after(0, 1)[0].seq
    delivery = Delivery(Terms(window=10, backlog=20, overtake_from=100))
    delivery.begin(spool.newest, spool.size().batches)
    order: list[int] = []
    mid = 0
    for step in range(400):
        if step < 100:
            _append(spool, 0, 1)
        for row in delivery.next_rows(spool):
            mid += 1
            delivery.was_sent(mid, row, 0.0)
            order.append(row.seq - oldest)
        for m in list(delivery.sent):
            delivery.was_taken(m, 0.0)
        if step % 3 == 2:  # ingest confirms now and then
            done = list(delivery.taken)
            delivery.was_confirmed(done)
            spool.delete(done)
    assert sorted(order) == list(range(1100)) and spool.size().batches == 0
    live = [order.index(1000 + i) for i in range(100)]
    assert max(live) < 900, "live batches came while most of the backlog waited"
    backlog = [x for x in order if x < 1000]
    assert backlog == sorted(backlog)


def test_a_queue_that_grows_while_ingest_is_away_is_overtaken_too(spool: Spool) -> None:
    delivery = Delivery(Terms(window=10, unconfirmed=20, backlog=5, overtake_from=50))
    _append(spool, 0, 1)
    delivery.begin(spool.newest, 1)
    oldest = spool.after(0, 1)[0].seq
    for mid in range(1, 400):
        for row in delivery.next_rows(spool)[:1]:
            delivery.was_sent(mid, row, 0.0)
            delivery.was_taken(mid, 0.0)
        _append(spool, 0, 1)
    assert len(delivery.taken) <= 20, "the rest waits in the spool, not in the broker"
    delivery.was_confirmed(list(delivery.taken))
    spool.delete(range(oldest, oldest + 20))
    delivery.next_rows(spool)
    _append(spool, 0, 1)
    assert delivery.next_rows(spool)[0].seq == spool.newest


def test_what_stays_unconfirmed_goes_again_with_growing_patience() -> None:
    delivery = Delivery(Terms(resend_s=10, resend_most_s=40), mode=COMMITTED)
    batch, now = Spooled(7, "t", 1, b""), 0.0
    sent: list[float] = []
    for _ in range(5):
        delivery.was_sent(len(sent), batch, now)
        delivery.was_taken(len(sent), now)
        while not delivery.overdue(now):
            now += 1.0
        sent.append(now)
    assert [b - a for a, b in zip([0.0, *sent], sent, strict=False)] == [11.0, 21.0, 41.0, 41.0, 41.0]
    assert delivery.was_confirmed([7]) is False and delivery.overdue(now + 1000) == []


@pytest.mark.parametrize("reason", [NO_SUBSCRIBERS, FAILED, 0x97])
def test_a_batch_that_the_broker_did_not_keep_stays_and_goes_again(spool: Spool, reason: int) -> None:
    _append(spool, 0, 3)
    publisher = Publisher(spool, "mqtt://127.0.0.1:1", terms=Terms(confirm_after_s=0))
    rows = spool.after(0, 3)
    for mid, row in enumerate(rows, 1):
        publisher.delivery.was_sent(mid, row, 0.0)
    publisher.acknowledged(1, 0)
    publisher.acknowledged(2, reason)
    assert publisher.settle(0.0) is True
    assert [b.seq for b in spool.after(0, 10)] == [rows[1].seq, rows[2].seq]
    assert set(publisher.delivery.sent) == {3} and publisher.counters.refused == 1


def test_a_confirmation_before_the_brokers_acknowledgement_is_not_forgotten(spool: Spool) -> None:
    _append(spool, 0, 1)
    publisher = Publisher(spool, "mqtt://127.0.0.1:1")
    (row,) = spool.after(0, 1)
    publisher.delivery.was_sent(1, row, 0.0)
    publisher.confirmed([row.seq])
    publisher.settle(0.0)
    publisher.acknowledged(1, 0)
    publisher.settle(0.0)
    assert spool.size().batches == 0 and publisher.delivery.taken == {} and publisher.counters.readings == 1
