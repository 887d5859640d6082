"""The notifier against a real HTTP server: signed, tried again, given up, and few messages for a flood."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner

from alerts import notify, service
from alerts.mqtt_channel import MqttChannel
from park.broker import Broker
from park.cli import app
from park.mqtt import connect, new_client

Db = psycopg.Connection[Any]


class Receiver:
    """A web server that keeps what it gets and answers what it is told to."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.status = 204
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.got.append((dict(self.headers), body))
                self.send_response(receiver.status)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    r = Receiver()
    thread = threading.Thread(target=r.server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield r
    r.server.shutdown()
    thread.join()
    r.server.server_close()


def raise_one(db: Db, value: float = 50.0, at: datetime | None = None) -> None:
    now = at or datetime.now(UTC)
    db.execute("UPDATE rule SET params = '{\"high\": 35}'")
    e = service.start(db, now)
    db.execute("""INSERT INTO latest (base_id, point_id, ts, value, quality, arrived_at)
        SELECT base_id, point_id, %s, %s, 0, clock_timestamp() FROM point WHERE code = 'e1.stack.so2'
        ON CONFLICT (base_id, point_id) DO UPDATE SET value = excluded.value, ts = excluded.ts,
            arrived_at = excluded.arrived_at""",
               (now, value))
    service.step(db, e, now)


def due_again(db: Db) -> None:
    db.execute("UPDATE delivery SET next_at = now()")


def test_a_transition_is_posted_once_and_signed(mini: Db, receiver: Receiver) -> None:
    hook = notify.Webhook(receiver.url, "s3cret")
    notify.enrol(mini, hook.name)
    raise_one(mini)
    assert notify.deliver(mini, hook, notify.Pace(), 0.0) == 1
    assert notify.deliver(mini, hook, notify.Pace(), 1.0) == 0
    headers, body = receiver.got[0]
    stamp, given = (part.split("=")[1] for part in headers["X-Park-Signature"].split(","))
    assert given == notify.signature("s3cret", stamp, body) != notify.signature("other", stamp, body)
    notify.Webhook(receiver.url, "").send(b"{}")
    assert "X-Park-Signature" not in receiver.got[1][0], "an empty secret is everybody's"
    told = json.loads(body)["transitions"][0]
    assert (told["change"], told["base"], told["point"], told["rule"]) == ("raise", "mini", "e1.stack.so2", "stack-so2")
    assert told["value"] == 50.0
    assert "超" in told["explanation"]["zh"] or "高于" in told["explanation"]["zh"]


def test_what_was_before_a_channel_existed_is_not_its_news(mini: Db, receiver: Receiver) -> None:
    raise_one(mini)
    hook = notify.Webhook(receiver.url, "x")
    notify.enrol(mini, hook.name)
    assert notify.deliver(mini, hook, notify.Pace(), 0.0) == 0 and not receiver.got


def test_a_clock_that_was_ahead_puts_no_message_off(mini: Db, receiver: Receiver) -> None:
    hook = notify.Webhook(receiver.url, "x")
    notify.enrol(mini, hook.name)
    mini.execute("UPDATE evaluator_snapshot SET at = at + interval '3 hours'")      # the channel began three hours from now
    assert notify.deliver(mini, hook, notify.Pace(), 0.0) == 0
    raise_one(mini)
    receiver.status = 503
    assert notify.deliver(mini, hook, notify.Pace(), 1.0) == 0 and len(receiver.got) == 1
    receiver.status = 200
    mini.execute("UPDATE delivery SET next_at = next_at + interval '3 hours'")      # and so was the next try
    assert notify.deliver(mini, hook, notify.Pace(), 2.0) == 1


def test_a_failed_delivery_is_tried_again_with_back_off_and_given_up_in_the_end(mini: Db, receiver: Receiver) -> None:
    hook = notify.Webhook(receiver.url, "x")
    notify.enrol(mini, hook.name)
    raise_one(mini)
    receiver.status = 503
    assert notify.deliver(mini, hook, notify.Pace(), 0.0) == 0
    row = mini.execute("SELECT state, attempts, last_error, next_at > now() FROM delivery").fetchone()
    assert row == ("due", 1, "answer 503", True)
    assert notify.deliver(mini, hook, notify.Pace(), 1.0) == 0 and len(receiver.got) == 1       # not before its time
    due_again(mini)
    receiver.status = 200
    assert notify.deliver(mini, hook, notify.Pace(), 2.0) == 1
    raise_one(mini, 20.0, datetime.now(UTC) + timedelta(seconds=5))
    receiver.status = 500
    for attempt in range(notify.ATTEMPTS + 2):
        due_again(mini)
        notify.deliver(mini, hook, notify.Pace(), 3.0 + attempt)
    states = mini.execute("SELECT state, attempts FROM delivery ORDER BY transition_id").fetchall()
    assert states == [("sent", 2), ("dead", notify.ATTEMPTS)]
    assert [notify.wait_s(n) for n in (1, 2, 3, 20)] == [2, 4, 8, 900]


def test_what_was_given_up_is_listed_and_sent_once_more_when_somebody_says_so(
        mini: Db, receiver: Receiver, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARK_DATABASE_URL", database_url)
    hook = notify.Webhook(receiver.url, "x")
    notify.enrol(mini, hook.name)
    raise_one(mini)
    receiver.status = 500
    for attempt in range(notify.ATTEMPTS):
        due_again(mini)
        notify.deliver(mini, hook, notify.Pace(), float(attempt))
    listed = CliRunner().invoke(app, ["route", "dead", "mini"])
    head, row = listed.output.splitlines()
    assert head == "route,transition,at,change,alert,rule,severity,tries,error"
    assert row.startswith("webhook,1,") and row.endswith(",raise,1,stack-so2,high,40,answer 500")
    receiver.status = 200
    assert notify.deliver(mini, hook, notify.Pace(), 50.0) == 0         # it stays dead by itself
    assert CliRunner().invoke(app, ["route", "resend", "mini", "night"]).exit_code == 1
    assert CliRunner().invoke(app, ["route", "resend", "mini", "webhook"]).output == "webhook: 1 due again\n"
    assert notify.deliver(mini, hook, notify.Pace(), 60.0) == 1
    assert CliRunner().invoke(app, ["route", "dead", "mini", "webhook"]).output.splitlines() == [head]


def test_nobody_listening_is_a_failed_try_and_no_crash(mini: Db, receiver: Receiver) -> None:
    hook = notify.Webhook("http://127.0.0.1:1/hook", "x")
    notify.enrol(mini, hook.name)
    raise_one(mini)
    assert notify.deliver(mini, hook, notify.Pace(), 0.0) == 0
    error = mini.execute("SELECT last_error FROM delivery").fetchone()
    assert error is not None and "URLError" in error[0]


def test_ten_thousand_raises_are_at_most_ten_messages_and_a_critical_one_goes_at_once(mini: Db, receiver: Receiver) -> None:
    hook = notify.Webhook(receiver.url, "x")
    notify.enrol(mini, hook.name)
    raise_one(mini)
    pace, clock = notify.Pace(), 0.0
    for i in range(60):          # one minute, a pass a second, a flood of 10,000
        if i < 20:
            mini.execute("""INSERT INTO transition (base_id, alert_id, change, actor)
                SELECT base_id, alert_id, 'raise', 'evaluator' FROM alert, generate_series(1, 500)""")
        notify.deliver(mini, hook, pace, clock + i)
    n_messages = len(receiver.got)
    assert n_messages <= 10
    mini.execute("UPDATE alert SET severity = 'critical'")
    mini.execute("""INSERT INTO transition (base_id, alert_id, change, actor)
        SELECT base_id, alert_id, 'raise', 'evaluator' FROM alert""")
    for i in range(60, 75):
        notify.deliver(mini, hook, pace, clock + i)
    assert mini.execute("SELECT state, count(*) FROM delivery GROUP BY 1").fetchall() == [("sent", 10_002)]


def test_a_shelved_alert_tells_nobody_until_it_comes_back(mini: Db, receiver: Receiver) -> None:
    hook = notify.Webhook(receiver.url, "x")
    notify.enrol(mini, hook.name)
    raise_one(mini)
    notify.deliver(mini, hook, notify.Pace(), 0.0)
    mini.execute("SELECT alert_step(base_id, alert_id, 'shelve', 'wang', 'repair', '{\"minutes\": 60}') FROM alert")
    raise_one(mini, 20.0, datetime.now(UTC) + timedelta(seconds=5))
    notify.deliver(mini, hook, notify.Pace(), 1.0)
    told = [t["change"] for _, body in receiver.got for t in json.loads(body)["transitions"]]
    assert told == ["raise", "shelve"]


def test_transitions_are_published_on_mqtt(mini: Db, broker: Broker) -> None:
    got: list[tuple[str, bytes]] = []
    heard, ready = threading.Event(), threading.Event()
    listener = new_client(broker.url, "test-alerts")

    def on_message(_client: Any, _data: Any, message: Any) -> None:
        got.append((message.topic, message.payload))
        heard.set()

    listener.on_message = on_message
    listener.on_subscribe = lambda *_: ready.set()
    connect(listener, broker.url)
    listener.loop_start()
    listener.subscribe("park/v1/+/alerts", qos=1)
    channel = MqttChannel(broker.url)
    try:
        assert ready.wait(10)
        notify.enrol(mini, channel.name)
        raise_one(mini)
        assert notify.deliver(mini, channel, notify.Pace(), 0.0) == 1
        assert heard.wait(10)
    finally:
        channel.close()
        listener.disconnect()
        listener.loop_stop()
    assert got[0][0] == "park/v1/mini/alerts"
    assert json.loads(got[0][1])["transitions"][0]["rule"] == "stack-so2"
