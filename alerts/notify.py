"""The notifier: transitions out to webhook and MQTT. It reads only `transition` (with its alert) and `delivery`.

Every transition due is one row of `delivery` a channel, made in the database, so that nothing is sent twice by design and
nothing is lost: at-least-once, with `id` of the transition for the receiver to drop repeats. What is due goes out in one
message, so that a flood of ten thousand raises is a few messages; after a burst the pace slows, but never for the first
critical one of a cause. A failed try is tried again with back-off; after ATTEMPTS it is dead and counted. The evaluator never
waits for it.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import psycopg
from psycopg.rows import dict_row

from alerts.part import wait_alone
from alerts.posting import NotDelivered, post
from alerts.store import Connection, Q
from park.database import connect
from park.errors import StorageError

log = logging.getLogger("park.alerts.notify")
ATTEMPTS = 40       # about eight hours: a receiver may be away for a shift
FIRST_WAIT_S = 2.0
LONGEST_WAIT_S = 900.0
MOST_A_MESSAGE = 2000
BURST, WINDOW_S = 5, 60.0     # so many messages a minute at once; then one in PACE_S
PACE_S = 15.0
MOST_A_MINUTE = 18      # whatever happens: group robots take 20 a minute, and nothing for ten minutes after more


RAISES = ("raise", "reraise", "escalate", "unshelve", "in_service", "unsuppress")
Cause = tuple[str, int | str]


# what an odd row, or a receiver that nobody thought of, leads to must not end a channel's thread: nobody would be told any more
UNFORESEEN = (Exception,)
AFTER_FAULT_S = 15.0


class Channel(Protocol):
    """Where transitions go."""

    @property
    def name(self) -> str:
        """The word in `delivery.channel`."""

    def send(self, body: bytes) -> None:
        """Deliver a message or raise NotDelivered."""


@dataclass(frozen=True)
class Webhook:
    """POST of JSON, signed: `X-Park-Signature: t=EPOCH,v1=HMAC-SHA256(secret, "EPOCH." + body)` in hex; without a secret
    not at all, because anybody can sign with an empty one."""

    url: str
    secret: str
    name: str = "webhook"

    def send(self, body: bytes) -> None:
        stamp = str(int(time.time()))
        signed = {"X-Park-Signature": f"t={stamp},v1={signature(self.secret, stamp, body)}"} if self.secret else {}
        post(self.url, body, {"Content-Type": "application/json", "User-Agent": "park-telemetry"} | signed)


def signature(secret: str, stamp: str, body: bytes) -> str:
    """What a receiver computes to know that the message is ours and fresh."""
    return hmac.new(secret.encode(), stamp.encode() + b"." + body, hashlib.sha256).hexdigest()


@dataclass
class Pace:
    """Keeps floods from becoming messages: BURST messages a minute freely, then one in PACE_S. A critical alert goes at once,
    unless a critical one of the same cause went within the minute: it then waits with the others, PACE_S at most. More than
    MOST_A_MINUTE never go: criticals of ever new causes then gather until one may. Routes to one receiver share its pace."""

    sent: list[float] = field(default_factory=list)
    told: dict[Cause, float] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def take(self, now: float, critical: Collection[Cause]) -> bool:
        """Whether a message may go now, which then counts as sent; `critical` are the causes of the critical raises in it."""
        with self.lock:
            self.sent = [t for t in self.sent if now - t < WINDOW_S]
            self.told = {cause: t for cause, t in self.told.items() if now - t < WINDOW_S}
            free = bool(set(critical) - set(self.told)) or len(self.sent) < BURST or now - self.sent[-1] >= PACE_S
            if not free or len(self.sent) >= MOST_A_MINUTE:
                return False
            self.sent.append(now)
            self.told |= dict.fromkeys(critical, now)
            return True


def critical_causes(due: Sequence[dict[str, Any]]) -> set[Cause]:
    """Causes of the critical raises: the alert that came first in their flood, else rule and base."""
    return {(d["base"], d["first_out"] or d["rule"]) for d in due if d["severity"] == "critical" and d["change"] in RAISES}


def wait_s(attempts: int) -> float:
    """Seconds before the next try after so many failed ones: 2, 4, 8 ... at most 15 minutes."""
    return float(min(FIRST_WAIT_S * 2 ** (attempts - 1), LONGEST_WAIT_S))


def enrol(conn: Connection, channel: str) -> None:
    """From now on the channel gets every transition; what was before a channel existed is not its news. Said again with every
    pass, since the clock may have been ahead when it was said first."""
    conn.execute(Q["enrol_channel"], {"shard": f"channel:{channel}"})


def deliver(conn: Connection, channel: Channel, pace: Pace, now: float, console: str = "") -> int:
    """One pass: book what is new, send what is due in one message; returns the number of transitions delivered."""
    enrol(conn, channel.name)
    conn.execute(Q["book_deliveries"], {"channel": channel.name, "shard": f"channel:{channel.name}"})
    with conn.cursor(row_factory=dict_row) as cur:
        due = cur.execute(Q["due_deliveries"], {"channel": channel.name, "most": MOST_A_MESSAGE}).fetchall()
    due.sort(key=lambda d: int(d["id"]))
    causes = critical_causes(due)
    if not due or not pace.take(now, causes):
        return 0
    ids = [d["id"] for d in due]
    try:
        channel.send(message(due, console))
    except NotDelivered as exc:
        failed(conn, channel.name, due, str(exc))
        return 0
    conn.execute(Q["delivered"], {"channel": channel.name, "ids": ids})
    return len(ids)


def link(console: str, base: str, alert: int) -> str:
    """The address of an alert in the console, which opens the chart of its time; empty without the console's own."""
    return f"{console.rstrip('/')}/?base={base}&alert={alert}" if console else ""


def message(due: Sequence[dict[str, Any]], console: str = "") -> bytes:
    """The JSON body: every transition with its alert, oldest first."""
    shown = [{k: v for k, v in d.items() if k != "attempts"} | {"link": link(console, d["base"], d["alert"])} for d in due]
    return json.dumps({"version": 1, "n": len(shown), "transitions": shown}, ensure_ascii=False, default=_plain).encode()


def _plain(value: Any) -> str:
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def failed(conn: Connection, channel: str, due: Sequence[dict[str, Any]], error: str) -> None:
    """Book a failed try of what was due: again later, or dead."""
    attempts = max(d["attempts"] for d in due) + 1
    dead = conn.execute(Q["not_delivered"], {"channel": channel, "ids": [d["id"] for d in due], "error": error[:500],
                                             "wait_s": wait_s(attempts), "most": ATTEMPTS}).fetchall()
    n_dead = sum(state == "dead" for (state,) in dead)
    log.warning("%s: %d transitions not delivered (%s), %d given up", channel, len(due), error, n_dead)


def run(url: str, channels: Sequence[Channel], stop: threading.Event, clock: Callable[[], float] = time.monotonic,
        console: str = "") -> None:
    """Deliver until `stop`; each channel in a thread of its own, so that a slow receiver holds up nobody."""
    threads = [threading.Thread(target=_serve, args=(url, c, stop, clock, console), name=c.name, daemon=True) for c in channels]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _serve(url: str, channel: Channel, stop: threading.Event, clock: Callable[[], float], console: str) -> None:
    pace = Pace()
    while not stop.is_set():
        try:
            with connect(url, autocommit=True, name=f"park notify {channel.name}") as conn:
                if not wait_alone(conn, f"channel {channel.name}", stop):     # another process sends what is due
                    return
                conn.execute("LISTEN park_transition")
                while not stop.is_set():
                    deliver(conn, channel, pace, clock(), console)
                    for _ in conn.notifies(timeout=0.5, stop_after=1):
                        pass
        except (StorageError, psycopg.OperationalError, psycopg.InterfaceError) as exc:
            log.warning("database is away: %s", str(exc).splitlines()[0])
            stop.wait(2.0)
        except UNFORESEEN:
            log.exception("%s: a pass failed; the next one in %.0f s", channel.name, AFTER_FAULT_S)
            stop.wait(AFTER_FAULT_S)
