"""Routes against real servers: robots with their signatures, mail over SMTP, severities, quiet hours, digests, escalation."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import socketserver
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest
from typer.testing import CliRunner

from alerts import mail, notify, posting, robots, routes
from alerts.words import table
from park.cli import app
from park.errors import InputError

Db = psycopg.Connection[Any]


class Robot:
    """A group robot: keeps (path, body), and answers as it is told."""

    def __init__(self) -> None:
        self.got: list[tuple[str, Any]] = []
        self.answer: dict[str, Any] = {"errcode": 0, "errmsg": "ok"}
        robot = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                robot.got.append((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
                body = json.dumps(robot.answer).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/robot/send?access_token=abc"


class Post:
    """A small SMTP server: keeps (sender, recipients, message); refuses recipients at nobody.test."""

    def __init__(self) -> None:
        self.got: list[tuple[str, list[str], bytes]] = []
        post = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                self.say(220, "post.test")
                sender = ""
                to: list[str] = []
                while line := self.rfile.readline().decode().strip():
                    word = line[:4].upper()
                    if word == "MAIL":
                        sender, to = line[10:].split(">")[0].lstrip("<"), []
                        self.say(250, "ok")
                    elif word == "RCPT":
                        name = line[8:].split(">")[0].lstrip("<")
                        known = not name.endswith("nobody.test")
                        to += [name] if known else []
                        self.say(250 if known else 550, "ok" if known else "no such person")
                    elif word == "DATA":
                        self.say(354, "go on")
                        post.got.append((sender, to, self.body()))
                        self.say(250, "taken")
                    elif word == "QUIT":
                        self.say(221, "bye")
                        return
                    else:
                        self.say(250, "post.test")

            def say(self, code: int, text: str) -> None:
                self.wfile.write(f"{code} {text}\r\n".encode())

            def body(self) -> bytes:
                lines = []
                while (line := self.rfile.readline()) != b".\r\n":
                    lines.append(line)
                return b"".join(lines)

        self.server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self.url = f"smtp://127.0.0.1:{self.server.server_address[1]}/?from=park@park.test&to=wang@park.test,li@park.test"


def served(server: socketserver.BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def robot() -> Iterator[Robot]:
    r = Robot()
    for _ in served(r.server):
        yield r


@pytest.fixture
def post() -> Iterator[Post]:
    p = Post()
    for _ in served(p.server):
        yield p


def add(db: Db, kind: str, target: str, **more: Any) -> routes.Route:
    fields = {"name": kind, "kind": kind, "target": target} | more
    names = list(fields)
    db.execute(f"INSERT INTO route (base_id, {', '.join(names)}) SELECT base_id, {', '.join(['%s'] * len(names))} FROM base",
               [fields[n] for n in names])
    found = next(r for r in routes.read(db) if r.name == fields["name"])
    notify.enrol(db, found.channel)
    return found


def happen(db: Db, severity: str = "high", at: datetime | None = None, n: int = 1, change: str = "raise") -> None:
    """Alerts with a transition each, as the evaluator writes them."""
    db.execute("""WITH a AS (
            INSERT INTO alert (base_id, rule_id, device_id, severity, opened_at, explanation)
            SELECT base_id, rule_id, series.n + (SELECT coalesce(max(device_id), 1000) FROM alert), %s, now(),
                   '{"zh": "1号排气筒二氧化硫高于上限", "en": "SO2 above its limit"}'
            FROM rule, generate_series(1, %s) AS series (n) RETURNING base_id, alert_id)
        INSERT INTO transition (base_id, alert_id, change, actor, at)
        SELECT base_id, alert_id, %s, 'evaluator', coalesce(%s, clock_timestamp()) FROM a""", (severity, n, change, at))


def go(db: Db, route: routes.Route, now: float = 0.0) -> int:
    return routes.deliver(db, route, notify.Pace(), now)


def test_dingtalk_gets_markdown_with_its_signature(mini: Db, robot: Robot) -> None:
    route = add(mini, "dingtalk", robot.url, secret="SECxyz")
    happen(mini, "critical")
    assert go(mini, route) == 1 and go(mini, route) == 0
    path, body = robot.got[0]
    query = {k: v[0] for k, v in parse_qs(urlsplit(path).query).items()}
    want = base64.b64encode(hmac.new(b"SECxyz", f"{query['timestamp']}\nSECxyz".encode(), hashlib.sha256).digest()).decode()
    assert query["access_token"] == "abc" and query["sign"] == want and len(query["timestamp"]) == 13
    assert body["msgtype"] == "markdown" and body["markdown"]["title"] == "微型示范基地:1 条报警消息(紧急 1)"
    assert "[紧急] 发生" in body["markdown"]["text"] and "1号排气筒二氧化硫高于上限" in body["markdown"]["text"]


def test_feishu_gets_text_with_its_signature_in_english(mini: Db, robot: Robot) -> None:
    robot.answer = {"code": 0, "msg": "success"}
    route = add(mini, "feishu", robot.url, secret="key", language="en")
    happen(mini)
    assert go(mini, route) == 1
    body = robot.got[0][1]
    want = base64.b64encode(hmac.new(f"{body['timestamp']}\nkey".encode(), b"", hashlib.sha256).digest()).decode()
    assert body["sign"] == want and body["msg_type"] == "text"
    assert body["content"]["text"].startswith("Mini base: 1 alert messages (high 1)\n[high] raised ")


def test_wecom_gets_markdown_within_its_4096_bytes(mini: Db, robot: Robot) -> None:
    route = add(mini, "wecom", robot.url)
    happen(mini, n=300)
    assert go(mini, route) == 300
    content = robot.got[0][1]["markdown"]["content"]
    assert content.startswith("**微型示范基地:300 条报警消息(重要 300)**") and len(content.encode()) <= 4096
    assert "另有 280 条" in content
    long = robots.fitting("t", ["x" * 100] * 100, 1000)
    assert len(long.encode()) <= 1000 and long.endswith("… (+91)")


def test_a_refusal_inside_a_200_is_a_failed_try_that_names_the_reason_and_no_key(mini: Db, robot: Robot) -> None:
    robot.answer = {"errcode": 310000, "errmsg": "sign not match"}
    route = add(mini, "dingtalk", robot.url, secret="wrong")
    happen(mini)
    assert go(mini, route) == 0
    row = mini.execute("SELECT state, attempts, last_error FROM delivery").fetchone()
    assert row == ("due", 1, "refused with code 310000: sign not match")


def test_mail_goes_to_all_in_utf8_and_a_refused_recipient_is_told(mini: Db, post: Post) -> None:
    route = add(mini, "email", post.url)
    happen(mini)
    assert go(mini, route) == 1
    sender, to, raw = post.got[0]
    message = message_from_bytes(raw, policy=policy.default)
    assert (sender, to) == ("park@park.test", ["wang@park.test", "li@park.test"])
    assert message["Subject"] == "微型示范基地:1 条报警消息(重要 1)"
    assert "1号排气筒二氧化硫高于上限" in message.get_content()
    with pytest.raises(posting.NotDelivered, match="1 of 2 recipients refused"):
        mail.send(post.url.replace("li@park.test", "li@nobody.test"), "", "t", ["x"])
    with pytest.raises(posting.NotDelivered, match="a password is not sent without"):
        mail.send(post.url.replace("smtp://", "smtp://park@"), "pw", "t", ["x"])
    with pytest.raises(posting.NotDelivered, match="ConnectionRefusedError"):
        mail.send("smtp://127.0.0.1:1/?from=a@b&to=c@d", "", "t", ["x"])
    with pytest.raises(InputError):
        mail.target_of("smtp://host/?to=c@d")


def test_a_route_hears_of_its_severities_alone_and_of_nothing_shelved(mini: Db, robot: Robot) -> None:
    route = add(mini, "wecom", robot.url, severities=["critical", "high"])
    for severity in ("critical", "high", "medium", "low"):
        happen(mini, severity)
    happen(mini, "high", change="comment")
    mini.execute("UPDATE alert SET shelved_until = now() + interval '1 hour' WHERE severity = 'high'")
    assert go(mini, route) == 1
    assert "紧急 1)" in robot.got[0][1]["markdown"]["content"]


WHEN: list[tuple[dict[str, Any], str, str, str]] = [     # route, severity, happens at, is due at (+: the next day), local
    ({}, "low", "12:00", "12:00"),
    ({"quiet_from": "22:00", "quiet_to": "07:00"}, "high", "23:30", "+07:00"),
    ({"quiet_from": "22:00", "quiet_to": "07:00"}, "high", "03:00", "07:00"),
    ({"quiet_from": "22:00", "quiet_to": "07:00"}, "high", "07:00", "07:00"),
    ({"quiet_from": "22:00", "quiet_to": "07:00"}, "critical", "23:30", "23:30"),
    ({"quiet_from": "12:00", "quiet_to": "13:30"}, "medium", "12:10", "13:30"),
    ({"digest_s": 3600}, "medium", "12:10", "13:00"),
    ({"digest_s": 3600}, "critical", "12:10", "12:10"),
    ({"digest_s": 3600, "quiet_from": "22:00", "quiet_to": "07:00"}, "low", "21:30", "+07:00"),
]


def test_quiet_hours_and_digests_say_when_it_is_sent(mini: Db) -> None:
    for i, (fields, severity, local, due) in enumerate(WHEN):
        add(mini, "wecom", "http://127.0.0.1:1/", name=str(i), **fields)
        row = mini.execute("""SELECT to_char(route_due(r, b.timezone, %s,
            ('2026-11-20 ' || %s)::timestamp AT TIME ZONE b.timezone)
            AT TIME ZONE b.timezone, 'DD HH24:MI') FROM route r JOIN base b USING (base_id) WHERE r.name = %s""",
                           (severity, local, str(i))).fetchone()
        assert row == (f"{21 if due[0] == '+' else 20} {due.lstrip('+')}",), (fields, severity, local)


def test_an_escalation_hears_only_of_what_nobody_acknowledged_in_time(mini: Db, robot: Robot) -> None:
    boss = add(mini, "wecom", robot.url, after_s=600)
    mini.execute("UPDATE evaluator_snapshot SET at = now() - interval '1 day'")
    old = datetime.now(UTC) - timedelta(minutes=11)
    happen(mini, "high", old)
    happen(mini, "medium", old)
    happen(mini, "low")                     # only just now
    mini.execute("UPDATE alert SET acknowledged = true WHERE severity = 'medium'")
    assert go(mini, boss) == 1
    assert "[重要] 超时未确认" in robot.got[0][1]["markdown"]["content"]
    assert go(mini, boss) == 0
    happen(mini, "high", old + timedelta(hours=3))      # by a clock that was ahead: it does not wait for that time
    assert go(mini, boss) == 1


def test_ten_thousand_raises_are_at_most_ten_messages_of_a_route(mini: Db, robot: Robot) -> None:
    route, pace = add(mini, "wecom", robot.url), notify.Pace()
    for second in range(60):
        if second < 20:
            happen(mini, "medium", n=500)
        routes.deliver(mini, route, pace, float(second))
    assert len(robot.got) <= 10
    for second in range(60, 150, 15):
        routes.deliver(mini, route, pace, float(second))
    assert mini.execute("SELECT state, count(*) FROM delivery GROUP BY 1").fetchall() == [("sent", 10_000)]


def test_the_commands_add_list_test_and_remove_a_route(mini: Db, database_url: str, robot: Robot,
                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARK_DATABASE_URL", database_url)
    def park(*words: str) -> tuple[int, str]:
        done = CliRunner().invoke(app, list(words))
        return done.exit_code, done.output + str(done.exception or "")
    assert park("route", "add", "mini", "night", "dingtalk", robot.url, "--secret", "hush", "--quiet", "22:00-07:00",
                "--severities", "critical,high")[0] == 0
    code, shown = park("route", "list")
    assert code == 0 and "mini,night,dingtalk,,False,zh,critical high,22:00-07:00,0,0,0,0,0," in shown
    assert "hush" not in shown and "access_token" not in shown
    assert park("route", "test", "mini", "night")[0] == 0
    assert "测试消息" in robot.got[0][1]["markdown"]["title"]
    for words, text in ((("night", "fax", robot.url), "wecom"), (("x", "email", "a@b"), "expected smtp://"),
                        (("x", "wecom", robot.url, "--quiet", "22-7"), "--quiet: expected two times"),
                        (("x", "wecom", robot.url, "--severities", "loud"), "--severities")):
        code, told = park("route", "add", "mini", *words)
        assert code != 0 and text in told
    assert park("route", "remove", "mini", "night")[0] == 0
    code, told = park("route", "remove", "mini", "night")
    assert code != 0 and "has no route 'night'" in told


def test_the_service_takes_up_a_new_route_and_drops_a_removed_one(mini: Db, database_url: str, robot: Robot,
                                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    import time
    monkeypatch.setattr(routes, "LOOK_S", 0.05)
    stop = threading.Event()
    thread = threading.Thread(target=routes.run, args=(database_url, stop, time.monotonic))
    thread.start()
    try:
        mini.execute("""INSERT INTO route (base_id, name, kind, target) SELECT base_id, 'r', 'wecom', %s
            FROM base""", (robot.url,))
        end = time.monotonic() + 15
        while not mini.execute("SELECT 1 FROM evaluator_snapshot WHERE shard LIKE 'channel:route:%'").fetchone():
            assert time.monotonic() < end
            time.sleep(0.02)
        happen(mini)
        while not robot.got:
            assert time.monotonic() < end
            time.sleep(0.02)
    finally:
        stop.set()
        thread.join(5)
    assert not thread.is_alive()


def test_a_route_and_its_address_are_read_by_the_service_alone(mini: Db, robot: Robot) -> None:
    add(mini, "wecom", robot.url)
    assert mini.execute("SELECT has_table_privilege('park_service', 'route', 'SELECT')").fetchone() == (True,)
    for role in ("park_operator", "park_contractor", "park_enterprise", "park_auditor", "park_admin", "park_grafana"):
        assert mini.execute("SELECT has_column_privilege(%s, 'route', 'target', 'SELECT')", (role,)).fetchone() == (False,)
        assert mini.execute("SELECT has_column_privilege(%s, 'route', 'secret', 'SELECT')", (role,)).fetchone() == (False,)


def test_every_word_of_a_message_and_of_the_handover_has_both_languages_and_the_same_gaps() -> None:
    for section in ("message", "handover"):
        words = table(section=section)
        for key, zh in words["zh"].items():
            en = words["en"][key]
            assert zh and en and sorted(re.findall(r"\{\w+\}", zh)) == sorted(re.findall(r"\{\w+\}", en)), key
