"""Looks after servers that the environment names, a database or a broker elsewhere: a line when lost, one when back.

`park up` and `park demo` start and revive their own (park/supervisor.py); these are somebody else's to start, and the stages
wait for them by themselves.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from rich.markup import escape

from park.broker_tls import why
from park.clock import Clock, utc_now
from park.database import connect
from park.errors import ParkError
from park.mqtt import speaks_v5

EVERY_S = 10.0


@dataclass
class Lookout:
    """A server elsewhere; `look` says what is wrong with it, or None; `meanwhile` what becomes of readings."""

    name: str
    look: Callable[[], str | None]
    meanwhile: str
    lost_at: datetime | None = None

    def watch(self, now: datetime) -> str | None:
        """The line to say now, or None; times are this machine's local ones."""
        trouble = self.look()
        if trouble is not None and self.lost_at is None:
            self.lost_at = now
            return f"[bold red]{self.name} is away[/] since {now.astimezone():%H:%M:%S}: {escape(trouble)}; {self.meanwhile}"
        if trouble is None and self.lost_at is not None:
            lost, self.lost_at = self.lost_at, None
            return f"{self.name} is back at {now.astimezone():%H:%M:%S}, it was away since {lost.astimezone():%m-%d %H:%M:%S}"
        return None


def lookouts(url: str | None, mqtt_url: str | None) -> list[Lookout]:
    """One for each server that the environment names."""
    out = []
    if url is not None:
        out.append(Lookout("the database of PARK_DATABASE_URL", lambda: database_trouble(url),
                           "readings wait at the broker and in the spool, none is lost"))
    if mqtt_url is not None:
        out.append(Lookout("the broker of PARK_MQTT_URL", lambda: broker_trouble(mqtt_url),
                           "readings wait in the spool, none is lost"))
    return out


def database_trouble(url: str) -> str | None:
    """Why nobody can work at the database, in one line; None when one can."""
    try:
        with connect(url, autocommit=True, name="park lookout") as conn:
            conn.execute("SELECT 1")
    except ParkError as exc:
        return " ".join(str(exc.__cause__ or exc).split())
    return None


def broker_trouble(mqtt_url: str) -> str | None:
    """Why the broker cannot be reached; None when it answers."""
    try:
        speaks_v5(mqtt_url)
    except OSError as exc:
        return why(exc)
    return None


@contextlib.contextmanager
def standing(servers: Sequence[Lookout], say: Callable[[str], None], clock: Clock = utc_now,
             every_s: float = EVERY_S) -> Iterator[None]:
    """Look every so often while the block runs, in a thread: a server that is gone may keep a look waiting."""
    ended = threading.Event()

    def run() -> None:
        while not ended.wait(every_s):
            for server in servers:
                line = server.watch(clock())
                if line is not None and not ended.is_set():
                    say(line)

    if servers:
        threading.Thread(target=run, name="lookout", daemon=True).start()
    try:
        yield
    finally:
        ended.set()
