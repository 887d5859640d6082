"""The live stream of alerts: delivery, replay, isolation, and what happens when a side goes away."""

from __future__ import annotations

import http.client
import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

import httpx
import psycopg
import pytest

from api.server import make_server
from api.stream import QUEUE
from api.tokens import create_token, list_tokens, revoke_token
from park.database import connect
from park.settings import Settings
from tests.api.conftest import WIDE, Connection, Service, serving


@dataclass
class Reader:
    """Lines of an open stream, collected by a thread."""

    lines: list[str] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    @property
    def events(self) -> list[dict[str, Any]]:
        """The data of the transitions told so far."""
        pairs = zip(self.lines, self.lines[1:], strict=False)
        return [json.loads(b[6:]) for a, b in pairs if a == "event: transition" and b.startswith("data: ")]

    def until(self, wanted: Callable[[Reader], bool], timeout_s: float = 10.0) -> None:
        """Wait until the lines are as wanted; fail with them otherwise."""
        deadline = time.monotonic() + timeout_s
        while not wanted(self):
            assert time.monotonic() < deadline, self.lines[-20:]
            time.sleep(0.01)


def told(n: int) -> Callable[[Reader], bool]:
    """Whether at least n transitions have come."""
    return lambda reader: len(reader.events) >= n


COMMENT = ("INSERT INTO transition (base_id, alert_id, change, actor, note) SELECT base_id, alert_id, 'comment', 'x', %(note)s "
           "FROM alert CROSS JOIN generate_series(1, %(n)s) WHERE alert_id = %(alert)s")


@contextmanager
def reading(url: str, token: str, last: int | None = None, query: str = "") -> Iterator[Reader]:
    """An open stream; it is open once `ready` has come."""
    reader = Reader()
    headers = {"Authorization": f"Bearer {token}"} | ({} if last is None else {"Last-Event-ID": str(last)})
    with httpx.Client(timeout=httpx.Timeout(10, read=60)) as client, \
            client.stream("GET", f"{url}/api/v1/alerts/stream{query}", headers=headers) as answer:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["content-type"].startswith("text/event-stream")

        def read() -> None:
            try:
                for line in answer.iter_lines():
                    reader.lines.append(line)
            except httpx.HTTPError:
                pass
            reader.ended.set()

        thread = threading.Thread(target=read)
        thread.start()
        reader.until(lambda r: "event: ready" in r.lines)
        try:
            yield reader
        finally:
            if not reader.ended.is_set():  # closing under a blocked read is not enough: shut the socket down
                answer.extensions["network_stream"].get_extra_info("socket").shutdown(socket.SHUT_RDWR)
            thread.join(5)
    assert not thread.is_alive()


def test_a_transition_is_told_as_soon_as_it_is_stored(service: Service, raise_alert: Callable[..., int]) -> None:
    with reading(service.url, service.token("operator", "mini"), query="?lang=en") as reader:
        alert = raise_alert()
        reader.until(lambda r: len(r.events) == 1)
        (event,) = reader.events
        assert (event["alert"]["id"], event["change"], event["base"], event["actor"]) == (alert, "raise", "mini", "evaluator")
        assert event["alert"]["point"] == "e1.stack.so2" and event["alert"]["rule"]["name"] == "SO2 near its limit"
        with service.client("contractor") as client:
            # one after another: an event shows its alert as it stands when the event is told
            client.post(f"/alerts/{alert}/ack", json={"note": "on my way"})
            reader.until(lambda r: len(r.events) == 2)
            client.post(f"/alerts/{alert}/shelve", json={"minutes": 30, "note": "known"})
            reader.until(lambda r: len(r.events) == 3)
            client.post(f"/alerts/{alert}/assign", json={"to": "Wang Lei"})
        reader.until(lambda r: len(r.events) == 4)
        assert [e["change"] for e in reader.events] == ["raise", "ack", "shelve", "assign"]
        assert reader.events[1]["note"] == "on my way" and reader.events[1]["alert"]["state"] == "acknowledged"
        assert reader.events[2]["alert"]["state"] == "shelved" and reader.events[3]["alert"]["assigned_to"] == "Wang Lei"


def test_a_reconnect_replays_what_was_missed_from_memory_and_from_the_table(mini: Connection, database_url: str,
                                                                            raise_alert: Callable[..., int]) -> None:
    token = create_token(mini, role="operator", name="a", bases=["mini"])
    points = ("e1.stack.so2", "e1.stack.nox", "e1.stack.dust", "e1.stack.o2")
    before = [raise_alert(p) for p in points[:2]]
    with serving(database_url) as (url, _):
        with reading(url, token, 0) as from_table:
            from_table.until(lambda r: len(r.events) == 2)
        with reading(url, token) as live:
            third = raise_alert(points[2])
            live.until(lambda r: len(r.events) == 1)
        with reading(url, token, from_table.events[0]["id"]) as again, reading(url, token, live.events[0]["id"]) as newest:
            fourth = raise_alert(points[3])
            again.until(lambda r: len(r.events) == 3)
            newest.until(lambda r: len(r.events) == 1)
    assert [e["alert"]["id"] for e in from_table.events] == before
    assert [e["alert"]["id"] for e in again.events] == [before[1], third, fourth]
    assert [e["alert"]["id"] for e in newest.events] == [fourth]


def test_a_listener_hears_only_its_bases_and_an_enterprise_only_its_own(service: Service, other: Connection,
                                                                      raise_alert: Callable[..., int]) -> None:
    tokens = [service.token("operator", "mini"), service.token("operator", "other"),
              service.token("contractor", "mini", "other"), service.token("auditor"),
              service.token("enterprise", "mini", enterprise="e1"), service.token("enterprise", "mini", enterprise="e2")]
    with reading(service.url, tokens[0]) as ours, reading(service.url, tokens[1]) as theirs, \
            reading(service.url, tokens[2]) as both, reading(service.url, tokens[3]) as auditor, \
            reading(service.url, tokens[4]) as e1, reading(service.url, tokens[5]) as e2:
        first, second, third = raise_alert("e1.stack.so2"), raise_alert("x1.stack.so2", "other"), raise_alert("e2.cod")
        fourth = raise_alert("park.kwh")  # of no enterprise
        for reader, wanted in ((ours, [first, third, fourth]), (theirs, [second]), (both, [first, second, third, fourth]),
                               (auditor, [first, second, third, fourth]), (e1, [first]), (e2, [third])):
            reader.until(told(len(wanted)))
            assert [e["alert"]["id"] for e in reader.events] == wanted
    with reading(service.url, tokens[1], 0) as replayed, reading(service.url, tokens[5], 0) as replayed_e2:
        replayed.until(lambda r: len(r.events) >= 1)
        replayed_e2.until(lambda r: len(r.events) >= 1)
        assert [e["alert"]["id"] for e in replayed.events] == [second]
        assert [e["alert"]["id"] for e in replayed_e2.events] == [third]


def test_the_token_in_the_address_works_for_the_stream_only_and_is_never_logged(service: Service,
                                                                               caplog: pytest.LogCaptureFixture) -> None:
    token = service.token("operator", "mini")
    with caplog.at_level(logging.DEBUG):
        with httpx.stream("GET", f"{service.url}/api/v1/alerts/stream?access_token={token}") as answer:
            assert answer.status_code == 200
        assert httpx.get(f"{service.url}/api/v1/alerts?access_token={token}").status_code == 401
        deadline = time.monotonic() + 5
        while not any("/alerts/stream 200" in r.getMessage() for r in caplog.records):
            assert time.monotonic() < deadline
            time.sleep(0.02)
    ours = [r.getMessage() for r in caplog.records if r.name.startswith(("park", "uvicorn"))]
    assert ours and not any(token in line for line in ours)


def test_a_last_event_id_that_is_none_is_refused(operator: httpx.Client) -> None:
    for last in ("x", "-1", "1.5", "9" * 30):
        assert operator.get("/alerts/stream", headers={"Last-Event-ID": last}).status_code == 422


def test_heartbeats_come_and_a_revoked_token_loses_its_stream(mini: Connection, database_url: str) -> None:
    token = create_token(mini, role="operator", name="a", bases=["mini"])
    with serving(database_url, heartbeat_s=0.2) as (url, _), reading(url, token) as reader:
        reader.until(lambda r: r.lines.count(": still here") >= 2)
        revoke_token(mini, list_tokens(mini)[0][0])
        assert reader.ended.wait(5), "the stream of a revoked token stayed open"


def test_no_transition_is_lost_when_the_listening_connection_hears_nonsense_or_breaks(
        service: Service, raise_alert: Callable[..., int], mini: Connection) -> None:
    with reading(service.url, service.token("operator", "mini")) as reader:
        mini.execute("SELECT pg_notify('park_transition', said) FROM unnest(ARRAY['boo', '', '²', repeat('9', 99)]) said")
        first = raise_alert("e1.stack.so2")
        reader.until(lambda r: len(r.events) == 1)
        killed = mini.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                              "WHERE datname = current_database() AND application_name = 'park api stream'").fetchall()
        assert killed == [(True,)]
        second = raise_alert("e1.stack.nox")  # while nobody listens, or just after: both must be told once
        third = raise_alert("e1.stack.dust")
        reader.until(lambda r: len(r.events) >= 3)
        time.sleep(0.3)
        assert [e["alert"]["id"] for e in reader.events] == [first, second, third]


def test_a_transition_that_commits_late_is_told_and_replayed_after_younger_ones(service: Service, database_url: str,
                                                                              raise_alert: Callable[..., int]) -> None:
    alert = raise_alert("e1.stack.so2")
    token = service.token("operator", "mini")
    with reading(service.url, token) as reader, connect(database_url) as slow:
        slow.execute(COMMENT, {"alert": alert, "note": "slow", "n": 1})
        raise_alert("e1.stack.nox")
        reader.until(lambda r: len(r.events) == 1)
        last = reader.events[0]["id"]
        slow.commit()
        reader.until(lambda r: len(r.events) == 2)
        assert reader.events[1]["note"] == "slow" and reader.events[1]["id"] < last
        with reading(service.url, token, last) as again:  # the ring remembers the order of commits
            again.until(lambda r: len(r.events) == 1)
            assert again.events[0]["note"] == "slow"


def test_a_listener_that_does_not_read_is_let_go_and_the_others_are_not_held_up(mini: Connection, database_url: str,
                                                                              raise_alert: Callable[..., int],
                                                                              caplog: pytest.LogCaptureFixture) -> None:
    token = create_token(mini, role="operator", name="a", bases=["mini"])
    alert = raise_alert("e1.stack.so2")
    with serving(database_url) as (url, server), reading(url, token) as reader:
        where = urlsplit(url)
        assert where.hostname and where.port
        with socket.create_connection((where.hostname, where.port)) as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.sendall(f"GET /api/v1/alerts/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
            deadline = time.monotonic() + 30
            stream = server._app.state.stream
            while len(stream._listeners) < 2:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            n = 0
            while len(stream._listeners) == 2:
                assert time.monotonic() < deadline, n
                mini.execute(COMMENT, {"alert": alert, "note": "字" * 8000, "n": 100})
                n += 100
                reader.until(told(n), 20)
            assert n >= QUEUE
        assert len(stream._listeners) == 1 and len({e["id"] for e in reader.events}) == n
        assert b"park_api_stream_dropped_total 1.0" in httpx.get(f"{url}/metrics").content
    assert any("let go" in r.getMessage() for r in caplog.records)


def test_a_listener_that_reads_slowly_is_told_everything_in_order_and_then_directly_again(
        mini: Connection, database_url: str, raise_alert: Callable[..., int]) -> None:
    token = create_token(mini, role="operator", name="a", bases=["mini"])
    alert = raise_alert("e1.stack.so2")
    with serving(database_url) as (url, server):
        where = urlsplit(url)
        assert where.hostname and where.port
        with socket.socket() as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.connect((where.hostname, where.port))
            slow.settimeout(20)
            slow.sendall(f"GET /api/v1/alerts/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
            answer = http.client.HTTPResponse(slow)
            answer.begin()
            stream, deadline = server._app.state.stream, time.monotonic() + 30
            (listener,) = _until(lambda: list(stream._listeners), deadline)
            _until(lambda: not listener.busy, deadline)
            n, first = 0, stream._newest
            while not listener.behind:              # the socket's buffers are full
                mini.execute(COMMENT, {"alert": alert, "note": "字" * 8000, "n": 20})
                n += 20
                _until(lambda n=n: stream._newest >= first + n, deadline)   # type: ignore[misc]
                time.sleep(0.05)
            assert 0 < len(listener.behind) <= QUEUE and listener.busy
            assert _ids(answer, n) == list(range(first + 1, first + n + 1))
            _until(lambda: not listener.busy, deadline)
            mini.execute(COMMENT, {"alert": alert, "note": "again", "n": 1})
            assert _ids(answer, 1) == [first + n + 1]
            assert not listener.busy and not listener.behind        # written without a task


def _until(wanted: Callable[[], Any], deadline: float) -> Any:
    """What `wanted` answers once it is true."""
    while not (found := wanted()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found


def _ids(answer: http.client.HTTPResponse, n: int) -> list[int]:
    """Ids of the next n transitions."""
    ids: list[int] = []
    last = 0
    while len(ids) < n:
        line = answer.readline()
        assert line, "the stream ended"
        if line.startswith(b"id: "):
            last = int(line[4:])
        elif line.startswith(b"event: transition"):
            ids.append(last)
    return ids


def test_streams_of_one_token_are_bounded(mini: Connection, database_url: str) -> None:
    token = create_token(mini, role="operator", name="a", bases=["mini"])
    with serving(database_url, replace(WIDE, streams_of_token=2)) as (url, _), reading(url, token), reading(url, token):
        answer = httpx.get(f"{url}/api/v1/alerts/stream", headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 429 and "2 个实时流" in answer.json()["detail"]


def test_the_service_stops_within_three_seconds_while_streams_are_open(mini: Connection, database_url: str) -> None:
    token = create_token(mini, role="operator", name="a", bases=["mini"])
    with serving(database_url) as (url, server), reading(url, token) as reader:
        asked = time.monotonic()
        server.handle_exit(15, None)
        assert reader.ended.wait(3)
    assert time.monotonic() - asked < 3


def test_the_service_starts_and_answers_before_its_database_does(postgres: Any) -> None:
    url = postgres.url("does_not_exist")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = make_server(Settings(database_url=url), "127.0.0.1", 0)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        try:
            assert httpx.get(f"{address}/healthz", timeout=10).status_code == 200
            refused = httpx.get(f"{address}/readyz", timeout=20)
            assert refused.status_code == 503 and refused.headers["content-type"] == "application/problem+json"
        finally:
            server.should_exit = True
            thread.join(15)
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url)
