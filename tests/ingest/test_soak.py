"""Whatever dies under a stream, and however long: nothing is missing, nothing is double, rollups equal a recompute.

The short ones run with every test; the others with `make soak`. PARK_SOAK_SECONDS and PARK_SOAK_MINUTES change their
lengths, PARK_SOAK_SEED repeats the random moments of a run.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from park.broker import Broker

SECONDS = float(os.environ.get("PARK_SOAK_SECONDS", "60"))
MINUTES = float(os.environ.get("PARK_SOAK_MINUTES", "10"))
SEED = int(os.environ.get("PARK_SOAK_SEED", time.time_ns() // 1_000_000))
RATE = 20_000
Open = Callable[..., Any]


def kill(server: Any) -> None:
    """SIGKILL, and wait until it is gone."""
    if isinstance(server, Broker):
        server.kill()
        return
    process = psutil.Process(server.pid)
    process.send_signal(signal.SIGKILL)
    while psutil.pid_exists(process.pid) and process.status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.02)


def test_kill_9_of_each_part_in_turn_loses_and_doubles_nothing(stream: Open) -> None:
    s = stream(rate=5_000, points=500)
    for server in (s.ingest, s.postgres, s.broker):
        time.sleep(1.5)
        kill(server)
        time.sleep(0.3)
        server.start()
    time.sleep(1.0)
    s.check()


@pytest.mark.soak
@pytest.mark.parametrize("part", ["ingest", "postgres", "broker"])
def test_kill_9_at_random_moments_under_20_000_readings_a_second(part: str, stream: Open) -> None:
    moments = random.Random(SEED)
    s = stream(rate=RATE, options=("--workers", "2", "--client-id", "ingest-soak"))
    server, kills, ends = getattr(s, part), 0, time.monotonic() + SECONDS
    while time.monotonic() < ends:
        time.sleep(moments.uniform(1, 8))
        kill(server)
        time.sleep(moments.uniform(0, 2))
        server.start()
        kills += 1
    print(f"\n{part}: {kills} kills in {SECONDS:.0f} s, seed {SEED}: {s.check(300)}")


def away(s: Any, seconds: float) -> str:
    """The database is away for a time; what ingest and the broker then weigh."""
    time.sleep(2)
    before = s.ingest.rss_mb()
    s.postgres.stop()
    peak, ends = before, time.monotonic() + seconds
    while time.monotonic() < ends:
        time.sleep(0.5)
        peak = max(peak, s.ingest.rss_mb())
    assert s.ingest.process.poll() is None, "ingest outlives its database"
    assert peak < before + 300, "memory stays flat while the database is away"
    backlog = s.sender.unconfirmed
    s.postgres.start()
    return f"ingest {before:.0f} MB, at most {peak:.0f} MB; {backlog} batches waited"


def test_the_database_is_away_for_a_while(stream: Open) -> None:
    s = stream(rate=5_000, points=500)
    away(s, 4)
    s.check()


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_the_database_is_away_for_ten_minutes_under_20_000_readings_a_second(stream: Open) -> None:
    s = stream(rate=RATE)
    said = away(s, 60 * MINUTES)
    back = time.monotonic()
    print(f"\n{said}; {s.check(1800)}; caught up {time.monotonic() - back:.0f} s after the return, with the check")


def test_the_clock_of_ingest_is_put_back_and_on_and_every_reading_is_kept(stream: Open, tmp_path: Path) -> None:
    """While it is two hours behind, readings of now are of the future to it: set aside, and replayed on request."""
    clock = tmp_path / "clock"
    clock.write_text("0")
    s = stream(rate=2_000, points=200, clock=clock, ago_s=120)
    for off_s in (0, -7_200, 0, 5_000_000, 0):
        clock.with_suffix(".new").write_text(str(off_s))
        clock.with_suffix(".new").rename(clock)
        time.sleep(1.5)
        ends = time.monotonic() + 30
        while off_s < 0 and not set_aside(s):
            assert time.monotonic() < ends, "a reading of the future is set aside"
            time.sleep(0.1)
    s.check(replayed=True)


def set_aside(s: Any) -> bool:
    """Whether a reading is kept apart for its time."""
    with s.db() as db:
        return db.execute("SELECT EXISTS (SELECT FROM dead_letter WHERE reason = 'bad_time')").fetchone() == (True,)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 400 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = shutil.which("mount")
    if mount is None or subprocess.run([mount, "-t", "tmpfs", "-o", "size=400m,mode=755", "tmpfs", str(folder)],
                                       check=False, capture_output=True).returncode:
        pytest.skip("a small file system needs the right to mount one (root)")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_of_the_database_stops_nothing_for_good(stream: Open, small_disk: Path) -> None:
    s = stream(rate=5_000, points=500, data_dir=small_disk / "pg", max_wal_size="64MB", min_wal_size="32MB")
    time.sleep(1.5)
    ballast = small_disk / "ballast"
    with ballast.open("wb") as file, pytest.raises(OSError, match="No space left"):
        while True:
            file.write(bytes(1_000_000))
            file.flush()
    time.sleep(3)
    stuck = s.stored() if s.postgres.alive() else None
    time.sleep(2)
    if s.postgres.alive() and stuck is not None:
        assert s.stored() == stuck, "the disk is really full"
    assert s.ingest.process.poll() is None
    ballast.unlink()
    if not s.postgres.alive():      # without room for its log PostgreSQL ends; a supervisor starts it again
        s.postgres.start()
    s.check()


@pytest.mark.parametrize("names", [("a", "b"), pytest.param(("a", "a"), marks=pytest.mark.soak)],
                         ids=["two sessions", "one session, fought over"])
def test_two_ingest_processes_on_the_same_messages_store_each_reading_once(stream: Open, names: tuple[str, str],
                                                                           tmp_path: Path) -> None:
    from_same = [("--client-id", f"ingest-{name}") for name in names]
    s = stream(rate=5_000, points=500, options=from_same[0])
    s.ingests.append(type(s.ingest)(s.url, s.broker.url, tmp_path / "second.log", *from_same[1]).start())
    time.sleep(4)
    s.check(120)


@pytest.mark.soak
def test_two_ingest_processes_of_which_one_is_killed_again_and_again(stream: Open, tmp_path: Path) -> None:
    moments = random.Random(SEED)
    s = stream(rate=RATE, options=("--client-id", "ingest-a"))
    s.ingests.append(type(s.ingest)(s.url, s.broker.url, tmp_path / "second.log", "--client-id", "ingest-b").start())
    ends = time.monotonic() + SECONDS
    while time.monotonic() < ends:
        time.sleep(moments.uniform(1, 8))
        one = moments.choice(s.ingests)
        kill(one)
        time.sleep(moments.uniform(0, 2))
        one.start()
    print(f"\ntwo of ingest, seed {SEED}: {s.check(300)}")
