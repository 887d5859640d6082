"""The running accountant: follows rollups, survives the loss of the database, stops within a moment."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable
from datetime import timedelta

import psycopg
from rich.console import Console

from accounting.columns import Connection
from accounting.passes import recompute, run_pass, whole_span
from accounting.verify import verify
from park.catalogue_store import base_id_of
from park.clock import Clock, parse_instant, utc_now
from park.database import connect
from park.errors import InputError, StorageError

log = logging.getLogger(__name__)

IDLE_S = 30.0            # a pass at least this often: hours end without any reading
QUIET_S = 1.0            # let a burst of rollups end
LONGEST_RETRY_S = 30.0


def run(database_url: str, log_level: str = "INFO", *, stop: threading.Event | None = None, clock: Clock = utc_now,
        beat: Callable[[], None] = lambda: None) -> None:
    """Run passes until SIGTERM or SIGINT (or `stop`); retries with back-off while the database is away."""
    logging.basicConfig(level=log_level, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    stop = _until_signalled() if stop is None else stop
    retry_s = 1.0
    while not stop.is_set():
        try:
            with connect(database_url, autocommit=True, name="park account") as conn:
                _follow(conn, stop, clock, beat)
                retry_s = 1.0
        except (psycopg.OperationalError, psycopg.InterfaceError, StorageError) as exc:
            log.warning("database away, again in %.0f s: %s", retry_s, str(exc).splitlines()[0])
            stop.wait(retry_s)
            retry_s = min(2 * retry_s, LONGEST_RETRY_S)


def _until_signalled() -> threading.Event:
    stop = threading.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: stop.set())
    return stop


def _follow(conn: Connection, stop: threading.Event, clock: Clock, beat: Callable[[], None]) -> None:
    conn.execute("LISTEN park_rollup")
    conn.execute("LISTEN park_catalogue")
    while not stop.is_set():
        started = time.monotonic()
        try:
            done = run_pass(conn, clock(), stop=stop)
        except (psycopg.OperationalError, psycopg.InterfaceError):
            raise
        except Exception:            # what the data holds must not end the service: the work stays on the list
            log.exception("the pass failed; its work stays on the list")
            stop.wait(LONGEST_RETRY_S)
            continue
        if done.anything:
            log.info("accounted %d slots, %d emission hours, %d events, %d virtual readings, %d periods in %.1f s", done.slots,
                     done.hours, done.events, done.readings, len(done.periods), time.monotonic() - started)
        beat()
        _wait(conn, stop)


def _wait(conn: Connection, stop: threading.Event) -> None:
    """Until a rollup is told and the burst is over, or IDLE_S have passed."""
    deadline = time.monotonic() + IDLE_S
    while not stop.is_set() and time.monotonic() < deadline:
        if list(conn.notifies(timeout=0.5, stop_after=1)):
            stop.wait(QUIET_S)
            list(conn.notifies(timeout=0))
            return


def run_once(database_url: str, clock: Clock = utc_now) -> None:
    """One pass over everything that is due."""
    with connect(database_url, autocommit=True, name="park account") as conn:
        started = time.monotonic()
        done = run_pass(conn, clock())
        Console().print(f"accounted {done.slots} slots, {done.hours} emission hours, {done.events} treatment events, "
                        f"{len(done.periods)} periods in {time.monotonic() - started:.1f} s")


def recompute_between(database_url: str, base: str | None, since: str | None, until: str | None,
                      clock: Clock = utc_now) -> None:
    """Compute everything between two instants again; without them, from the first reading to the last."""
    with connect(database_url, autocommit=True, name="park account") as conn:
        for base_id in _bases(conn, base):
            span = whole_span(conn, base_id)
            if span is None:
                continue
            low = parse_instant(since) if since else span[0]
            high = parse_instant(until) if until else span[1]
            if low >= high:
                raise InputError(f"expected --from before --to, got {low.isoformat()} and {high.isoformat()}")
            recompute(conn, base_id, low, min(high, span[1] + timedelta(hours=1)))
    run_once(database_url, clock)


def verify_and_print(database_url: str, base: str | None, clock: Clock = utc_now) -> None:
    """Compute everything again and print each cell that differs; exit status 1 when there is one."""
    with connect(database_url, autocommit=True, name="park account verify") as conn:
        found = [line for base_id in _bases(conn, base) for line in verify(conn, base_id, clock())]
    console = Console()
    for line in found[:200]:
        console.print(line, highlight=False)
    if found:
        raise InputError(f"{len(found)} cells differ from a full computation; `park account --recompute` mends them")
    console.print("every figure equals a full computation")


def _bases(conn: Connection, base: str | None) -> list[int]:
    if base is not None:
        return [base_id_of(conn, base)]
    return [row[0] for row in conn.execute("SELECT base_id FROM base ORDER BY base_id")]
