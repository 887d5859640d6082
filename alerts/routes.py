"""Routes: who is told by e-mail or group robot, of which severities, in which language, and when (table `route`).

Deliveries are rows of `delivery` with the channel `route:ID`, with the same tries and the same dead end as the webhook.
Quiet hours and digests are the time at which a delivery is due; an escalation is a route that hears only of what nobody
acknowledged for `after_s`. The alert's own sentences are sent, so that a message says what the console says.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
from psycopg.rows import class_row, dict_row

from alerts import mail, robots
from alerts.notify import AFTER_FAULT_S, MOST_A_MESSAGE, UNFORESEEN, Pace, critical_causes, enrol, failed, link
from alerts.part import wait_alone
from alerts.posting import NotDelivered
from alerts.store import Connection, Q
from alerts.words import table
from park.database import connect
from park.errors import StorageError

log = logging.getLogger("park.alerts.routes")
LINES = 20              # alerts spelt out in a message; the rest is counted
FLOOD = 3               # raises of one flood in a message that are told together
LOOK_S = 5.0            # so often is the table read again


@dataclass(frozen=True)
class Route:
    """A row of the table, with its base's code and zone."""

    route_id: int
    base_id: int
    base: str
    base_zh: str
    base_en: str
    timezone: str
    name: str
    kind: str
    target: str
    secret: str
    language: str
    person: str = ""
    on_duty: bool = False
    console: str = ""       # where people reach the console; empty: no links

    @property
    def channel(self) -> str:
        """The word in `delivery.channel`."""
        return f"route:{self.route_id}"


@dataclass(frozen=True)
class Text:
    """A message for people: one line of title, one line an alert."""

    title: str
    lines: tuple[str, ...]


SENDERS: dict[str, Callable[[str, str, str, Sequence[str]], None]] = {
    "email": mail.send, "dingtalk": robots.dingtalk, "wecom": robots.wecom, "feishu": robots.feishu}
WORDS = table(section="message")
RANKS = ("critical", "high", "medium", "low")


def read(conn: Connection) -> list[Route]:
    """Routes in use."""
    with conn.cursor(row_factory=class_row(Route)) as cur:
        return cur.execute(Q["routes"]).fetchall()


def text_of(route: Route, due: Sequence[dict[str, Any]]) -> Text:
    """Title with the number of each severity, then the worst and newest alerts in a line each."""
    words, zone = WORDS[route.language], ZoneInfo(route.timezone)
    ranked = sorted(due, key=lambda d: (RANKS.index(d["severity"]), -d["id"]))
    counts = [(words[r], sum(d["severity"] == r for d in due)) for r in RANKS]
    ranks = (", " if route.language == "en" else "、").join(f"{word} {n}" for word, n in counts if n)
    base = route.base_zh if route.language == "zh" else route.base_en
    title = words["title"].format(base=base or route.base, n=len(due), ranks=ranks)
    lines = _grouped(route, words, zone, ranked)
    if len(lines) > LINES:
        lines = [*lines[:LINES], words["more"].format(n=len(lines) - LINES)]
    return Text(title, tuple(lines))


def _grouped(route: Route, words: dict[str, str], zone: ZoneInfo, ranked: Sequence[dict[str, Any]]) -> list[str]:
    """A line an alert; raises of one flood are two lines: the one that came first (or the worst that is told), and how many
    followed by rule. A critical alert always has its own line."""
    floods: dict[int, list[dict[str, Any]]] = {}
    for d in ranked:
        if d.get("first_out") and d["change"] in ("raise", "reraise"):
            floods.setdefault(d["first_out"], []).append(d)
    lines = []
    for d in ranked:
        flood = floods.get(d.get("first_out") or 0, []) if d["change"] in ("raise", "reraise") else []
        if len(flood) < FLOOD:
            lines.append(_line(route, words, zone, d))
            continue
        head = next((x for x in flood if x["alert"] == d["first_out"]), flood[0])
        if d is head:
            rest = [x for x in flood if x is not head]
            names = Counter(x[f"name_{route.language}"] or x["rule"] for x in rest)
            told = ", ".join(f"{name} × {n}" for name, n in names.most_common(5))
            mark = f" ({words['first']})" if head["alert"] == d["first_out"] else ""
            lines += [_line(route, words, zone, d) + mark, words["flood"].format(n=len(rest), rules=told)]
        elif d["severity"] == "critical":
            lines.append(_line(route, words, zone, d))
    return lines


def _line(route: Route, words: dict[str, str], zone: ZoneInfo, d: dict[str, Any]) -> str:
    sentence = d["explanation"].get(route.language) or d[f"name_{route.language}"] or d["rule"]
    change = words["escalate" if d.get("after_s") and d["change"] != "return" else d["change"]]
    late = f" ({words['late']})" if d["late"] else ""
    address = link(route.console, d["base"], d["alert"])
    return (f"[{words[d['severity']]}] {change} {d['at'].astimezone(zone):%m-%d %H:%M:%S}{late} {sentence} (#{d['alert']})"
            + (f" {address}" if address else ""))


def deliver(conn: Connection, route: Route, pace: Pace, now: float) -> int:
    """One pass of a route: book what is new, send what is due in one message; returns the number delivered."""
    key = {"route": route.route_id, "channel": route.channel, "shard": f"channel:{route.channel}"}
    enrol(conn, route.channel)
    conn.execute(Q["book_route"], key)
    with conn.cursor(row_factory=dict_row) as cur:
        due = cur.execute(Q["due_deliveries"], {"channel": route.channel, "most": MOST_A_MESSAGE}).fetchall()
        row = cur.execute(Q["route_after"], {"route": route.route_id}).fetchone()
    causes = critical_causes(due)
    if not due or not pace.take(now, causes):
        return 0
    text = text_of(route, [d | (row or {}) for d in due])
    try:
        SENDERS[route.kind](route.target, route.secret, text.title, text.lines)
    except NotDelivered as exc:
        failed(conn, route.channel, due, str(exc))
        return 0
    conn.execute(Q["delivered"], {"channel": route.channel, "ids": [d["id"] for d in due]})
    return len(due)


def try_out(route: Route) -> None:
    """Send one line that says what it is; NotDelivered with the reason when it is not taken."""
    base = route.base_zh if route.language == "zh" else route.base_en
    title = {"zh": f"{base or route.base}:报警测试消息", "en": f"{base or route.base}: alert test message"}[route.language]
    line = {"zh": f"通知线路“{route.name}”已接通。", "en": f"Route {route.name} works."}[route.language]
    SENDERS[route.kind](route.target, route.secret, title, (line,))


def answer_test(conn: Connection, route: Route) -> bool:
    """Send the test message that somebody asked for, and write what became of it; whether there was one to send."""
    row = conn.execute(Q["route_test_due"], {"route": route.route_id}).fetchone()
    if row is None:
        return False
    error = ""
    try:
        try_out(route)
    except NotDelivered as exc:
        error = str(exc)[:500]
    conn.execute(Q["route_tested"], {"route": route.route_id, "asked": row[0], "error": error})
    return True


@dataclass
class Serving:
    """The threads of the routes, and the pace of each receiver: routes to the same robot share it."""

    threads: dict[Route, tuple[threading.Thread, threading.Event]] = field(default_factory=dict)
    paces: dict[tuple[str, str], Pace] = field(default_factory=dict)


def run(url: str, stop: threading.Event, clock: Callable[[], float], console: str = "") -> None:
    """Serve every route until `stop`, each in a thread of its own; routes that are changed, added or removed are seen."""
    serving = Serving()
    while not stop.is_set():
        try:
            with connect(url, autocommit=True, name="park notify routes") as conn:
                if not wait_alone(conn, "routes", stop):
                    return
                while not stop.is_set():
                    _follow(url, [replace(r, console=console) for r in read(conn)], serving, clock)
                    stop.wait(LOOK_S)
        except (StorageError, psycopg.OperationalError, psycopg.InterfaceError) as exc:
            log.warning("database is away: %s", str(exc).splitlines()[0])
            _follow(url, [], serving, clock)        # the lock went with the session: another process may send by now
            stop.wait(2.0)
        except UNFORESEEN:
            log.exception("%s: a pass failed; the next one in %.0f s", "routes", AFTER_FAULT_S)
            stop.wait(AFTER_FAULT_S)
    _follow(url, [], serving, clock)


def _follow(url: str, wanted: Sequence[Route], serving: Serving, clock: Callable[[], float]) -> None:
    for route in [r for r, (thread, _) in serving.threads.items() if r not in wanted or not thread.is_alive()]:
        serving.threads.pop(route)[1].set()
    for route in wanted:
        if route not in serving.threads:
            end, pace = threading.Event(), serving.paces.setdefault((route.kind, route.target), Pace())
            thread = threading.Thread(target=_serve, args=(url, route, pace, end, clock), name=route.channel, daemon=True)
            serving.threads[route] = thread, end
            thread.start()


def _serve(url: str, route: Route, pace: Pace, stop: threading.Event, clock: Callable[[], float]) -> None:
    while not stop.is_set():
        try:
            with connect(url, autocommit=True, name=f"park notify {route.channel}") as conn:
                while not stop.is_set():
                    answer_test(conn, route)
                    deliver(conn, route, pace, clock())
                    stop.wait(1.0)
        except (StorageError, psycopg.OperationalError, psycopg.InterfaceError) as exc:
            log.warning("database is away: %s", str(exc).splitlines()[0])
            stop.wait(2.0)
        except UNFORESEEN:
            log.exception("%s: a pass failed; the next one in %.0f s", route.channel, AFTER_FAULT_S)
            stop.wait(AFTER_FAULT_S)
