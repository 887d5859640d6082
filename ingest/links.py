"""What ingest tells of its own links: the broker and the database, whether they are there and when they were last away.

Written every ten seconds as the pass `ingest:CLIENT` of each base, beside what collectors tell of their spools, so that console
and `park doctor` know it and not the log alone. While the database is away nothing can be written; when it is back it is told
since when.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from threading import Event
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from ingest.directory import QUERIES
from park.clock import Clock, utc_now
from park.database import connect
from park.errors import StorageError

log = logging.getLogger("ingest.links")
EVERY_S = 10.0
FIRST = timedelta(seconds=15)   # allowed to the first connection before a broker counts as away


@dataclass
class Link:
    """Since when a link is as it is, and the last time that it was away: [lost, back]."""

    up: bool | None = None
    since: datetime | None = None
    last: tuple[str, str] | None = None

    def see(self, up: bool, now: datetime) -> None:
        """What is seen now; a first look is no change."""
        if up == self.up:
            return
        if up and self.up is not None and self.since is not None:
            self.last = self.since.isoformat(), now.isoformat()
        self.up, self.since = up, now

    def plain(self) -> dict[str, Any]:
        """As it is written."""
        return {"up": self.up, "since": None if self.since is None else self.since.isoformat(), "last": self.last}


class Teller:
    """Looks and writes until told to stop."""

    def __init__(self, url: str, client: str, connected: Callable[[], bool], stop: Event, clock: Clock = utc_now) -> None:
        self.url = url
        self.client = client
        self.broker, self.database = Link(), Link()
        self._connected = connected
        self._stop = stop
        self._clock = clock
        self._began = clock()

    def run(self, every_s: float = EVERY_S) -> None:
        """Round after round; a database that is away is asked again."""
        while not self._stop.is_set():
            try:
                with connect(self.url, autocommit=True, name="park ingest links") as conn:
                    self._recall(conn)
                    while not self._stop.is_set():
                        self.tell(conn)
                        self._stop.wait(every_s)
            except (psycopg.Error, StorageError):
                self.look(database=False)       # the writers' log says why
                self._stop.wait(min(every_s, 2.0))
            except Exception:  # nothing of it is needed by those that store readings
                log.exception("unexpected; links are told again")
                self._stop.wait(every_s)

    def look(self, *, database: bool) -> None:
        """What is there now."""
        now = self._clock()
        up = self._connected()
        if up or self.broker.up is not None or now - self._began > FIRST:
            self.broker.see(up, now)
        self.database.see(database, now)

    def tell(self, conn: psycopg.Connection[Any]) -> None:
        """Write it to each base."""
        self.look(database=True)
        detail = {"broker": self.broker.plain(), "database": self.database.plain()}
        conn.execute(QUERIES["tell_links"], {"pass": f"ingest:{self.client}", "now": self._clock(), "detail": Jsonb(detail)})

    def _recall(self, conn: psycopg.Connection[Any]) -> None:
        """When they were last away, as the process before this one wrote it."""
        row = conn.execute(QUERIES["links_told"], {"pass": f"ingest:{self.client}"}).fetchone()
        for name, link in (("broker", self.broker), ("database", self.database)):
            told = None if row is None else row[0].get(name, {}).get("last")
            link.last = link.last or (tuple(told) if told else None)
