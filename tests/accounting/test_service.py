"""The running accountant and its command."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg

from accounting import service
from accounting.passes import run_pass
from park.database import connect
from tests.command import Done
from tests.command import park as command

Conn = psycopg.Connection[Any]
Feed = Callable[..., None]
MIDNIGHT = datetime(2026, 5, 10, 16, tzinfo=UTC)


def quarters(first: datetime, n: int) -> list[datetime]:
    return [first + i * timedelta(minutes=15) for i in range(n)]


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.05)


def known(conn: Conn) -> int:
    row = conn.execute("SELECT count(*) FROM interval_15m WHERE amount IS NOT NULL").fetchone()
    return row[0] if row is not None else 0


def test_it_follows_rollups_survives_a_lost_connection_and_stops(park: Conn, feed: Feed, database_url: str) -> None:
    stop = threading.Event()
    thread = threading.Thread(target=service.run, args=(database_url, "WARNING"), kwargs={"stop": stop})
    thread.start()
    try:
        feed("park.kwh", quarters(MIDNIGHT, 10), range(10))
        park.execute("SELECT pg_notify('park_rollup', '')")
        until(lambda: known(park) == 9)
        park.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'park account' "
                     "AND datname = current_database()")
        feed("park.kwh", quarters(MIDNIGHT + timedelta(hours=2, minutes=30), 10), range(10, 20))
        until(lambda: known(park) == 19)
    finally:
        began = time.monotonic()
        stop.set()
        thread.join(5)
    assert not thread.is_alive() and time.monotonic() - began < 3


def test_only_one_accountant_works_at_a_time(park: Conn, feed: Feed, database_url: str) -> None:
    feed("park.kwh", quarters(MIDNIGHT, 10), range(10))
    with connect(database_url, autocommit=True) as other:
        other.execute("SELECT pg_advisory_lock(hashtext('park account'))")
        assert run_pass(park, MIDNIGHT + timedelta(days=1)).slots == 0
    until(lambda: run_pass(park, MIDNIGHT + timedelta(days=1)).slots == 9)


def account(database_url: str, *options: str) -> Done:
    return command("account", *options, PARK_DATABASE_URL=database_url)


def test_options_that_would_be_left_unheard_are_wrong_usage() -> None:
    for options in (("--once", "--base", "mini"), ("--verify", "--from", "2026-11-01T00:00:00Z")):
        refused = account("postgresql://127.0.0.1:1/x", *options)
        assert refused.returncode == 2 and "--recompute" in refused.stderr, refused


def test_the_command_accounts_once_verifies_and_recomputes(park: Conn, feed: Feed, database_url: str) -> None:
    feed("park.kwh", quarters(MIDNIGHT, 97), range(97))
    done = account(database_url, "--once")
    assert done.returncode == 0 and "accounted 96 slots" in done.stdout, done
    assert account(database_url, "--verify").stdout.strip() == "every figure equals a full computation"
    park.execute("UPDATE interval_15m SET amount = 5 WHERE ts = %s", (MIDNIGHT,))
    found = account(database_url, "--verify")
    assert found.returncode == 1 and "amount is stored as 5, should be 1" in found.stdout
    mended = account(database_url, "--recompute", "--from", "2026-05-10T16:00:00Z", "--to", "2026-05-10T18:00:00Z")
    assert mended.returncode == 0 and account(database_url, "--verify").returncode == 0
    assert account(database_url, "--recompute", "--from", "yesterday").returncode == 1


def test_the_command_ends_within_three_seconds_of_sigterm(park: Conn, feed: Feed, database_url: str) -> None:
    feed("park.kwh", quarters(MIDNIGHT, 10), range(10))
    process = subprocess.Popen([sys.executable, "-m", "park.cli", "account"], stderr=subprocess.DEVNULL,
                               env=os.environ | {"PARK_DATABASE_URL": database_url})
    try:
        until(lambda: known(park) == 9, 40)
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0 and time.monotonic() - began < 3
    finally:
        process.kill()
        process.wait()
