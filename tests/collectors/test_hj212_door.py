"""Bounds of the HJ 212 port: decisions of the door in a table, then ten thousand idle connections and slow senders against a
receiver in a process of its own, with its real spool."""

from __future__ import annotations

import asyncio
import json
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.hj212_door import FILES_KEPT_FREE, SENDERS_REMEMBERED, Door, Letters, Limits, Visitor, fitted
from collectors.hj212_frame import crc_hj212

LIMITS = Limits(connections=4, unproven_per_address=3, links_per_logger=2, first_frame_s=10, stranger_s=50, frame_s=5,
                idle_s=100, noise_bytes=1000, noise_share=0.5)


class House:
    """A door whose hung-up visitors are noted."""

    def __init__(self, limits: Limits = LIMITS) -> None:
        self.door = Door(limits)
        self.gone: list[int] = []
        self.n = 0

    def come(self, address: str = "a", now: float = 0.0) -> Visitor | None:
        self.n += 1
        return self.door.admit(address, lambda n=self.n: self.gone.append(n), now)  # type: ignore[misc]


def _visitor(visitor: Visitor | None) -> Visitor:
    assert visitor is not None
    return visitor


def test_an_address_that_proves_nothing_gets_few_places_and_loggers_behind_it_get_more() -> None:
    house = House(Limits(connections=100, unproven_per_address=3))
    for n in range(10):
        house.door.prove(_visitor(house.come()), f"M{n}", 0)
    assert [house.come() is not None for _ in range(5)] == [True] * 3 + [False] * 2
    assert house.door.refused == {"address": 2}
    assert house.come("b") is not None
    house.door.loggers = 20
    assert [house.come() is not None for _ in range(40)] == [True] * 37 + [False] * 3, "a park behind one router comes at once"


def test_the_one_who_waited_longest_without_a_frame_makes_room_and_loggers_stay() -> None:
    house = House()
    first, second, third, fourth = (_visitor(house.come(f"a{n}")) for n in range(4))
    house.door.prove(first, "M1", 1)
    house.door.prove(second, None, 1)
    assert house.come("x", 2) is not None and house.gone == [3], "silent ones go before strangers who send"
    assert house.come("y", 2) is not None and house.gone == [3, 4]
    for n in range(2):
        assert house.come(f"z{n}", 3) is not None
    assert first in house.door.open and second in house.door.open and third not in house.door.open
    assert house.door.closed == {"made_room": 4} and len(house.door.open) == 4
    assert fourth.proof == 0


def test_when_all_places_are_taken_by_loggers_a_newcomer_is_refused_and_counted() -> None:
    house = House()
    for n in range(4):
        house.door.prove(_visitor(house.come(f"a{n}")), f"M{n}", 0)
    assert house.come("new") is None and house.door.refused == {"full": 1} and house.gone == []


def test_a_logger_that_comes_again_and_again_leaves_no_broken_connections_behind() -> None:
    house = House()
    for n in range(3):
        house.door.prove(_visitor(house.come(f"a{n}")), "M1", n)
    assert house.gone == [1] and house.door.closed == {"superseded": 1}
    for visitor in list(house.door.open):
        house.door.leave(visitor)
        house.door.leave(visitor)
    assert not house.door._of_logger and not house.door._at_address and not any(house.door._unproven.values())


@pytest.mark.parametrize(("proof", "unfinished", "deadline"), [
    (None, None, (10, "no_frame")), (None, 3.0, (10, "no_frame")), ("stranger", None, (52, "idle")),
    ("logger", None, (102, "idle")), ("logger", 4.0, (9, "slow_frame")), ("logger", 99.0, (102, "idle"))])
def test_patience_depends_on_what_was_proven(proof: str | None, unfinished: float | None, deadline: tuple[float, str]) -> None:
    house = House()
    visitor = _visitor(house.come())
    if proof:
        house.door.prove(visitor, None if proof == "stranger" else "M1", 2)
    visitor.unfinished_since = unfinished
    assert visitor.deadline(LIMITS) == deadline


def test_noise_costs_its_senders_their_time_together_and_in_the_end_the_connection() -> None:
    house = House()
    one, two = _visitor(house.come("a")), _visitor(house.come("b"))
    assert house.door.noise(one, 400, 0.1, 0.0) == pytest.approx(0.2)
    assert house.door.noise(two, 400, 0.1, 0.0) == pytest.approx(0.4), "the second waits behind the first"
    assert house.door.noise(one, 400, 0.0, 100.0) == 0.0
    house.door.prove(one, "M1", 100)
    assert house.door.noise(one, 900, 0.0, 100.0) == 0.0, "a good frame forgives"
    assert house.door.noise(one, 900, 0.0, 100.0) is None
    assert house.door.closed == {"noise": 1} and house.gone == [1]


def test_of_one_sender_few_letters_are_kept_and_of_all_together_no_flood() -> None:
    letters = Letters()
    assert sum(letters.keep("a", 0.0) for _ in range(100)) == 20
    assert sum(letters.keep("a", 360.0) for _ in range(100)) == 2, "an hour fills up twenty"
    assert sum(letters.keep(f"b{n}", 400.0) for n in range(5000)) < 1100
    assert letters.withheld > 4000 and len(letters._of) <= SENDERS_REMEMBERED + 1


@given(st.lists(st.tuples(st.sampled_from(["come", "leave", "prove", "stranger", "noise"]), st.integers(0, 9),
                          st.sampled_from("abc"), st.floats(0, 100)), max_size=80))
def test_whatever_happens_the_bounds_hold(steps: list[tuple[str, int, str, float]]) -> None:
    house, now = House(), 0.0
    here: list[Visitor] = []
    for what, which, address, dt in steps:
        now += dt
        here = [v for v in here if v in house.door.open]
        if what == "come":
            here += [v for v in [house.come(address, now)] if v is not None]
        elif here:
            visitor = here[which % len(here)]
            if what == "leave":
                house.door.leave(visitor)
            elif what == "noise":
                house.door.noise(visitor, 300, 0.01, now)
            else:
                house.door.prove(visitor, None if what == "stranger" else f"M{which}", now)
        door = house.door
        assert len(door.open) <= LIMITS.connections
        assert all(n <= LIMITS.unproven_per_address for n in door._at_address.values())
        assert sum(door._at_address.values()) == sum(map(len, door._unproven.values())) == sum(v.proof < 2 for v in door.open)
        assert all(0 < len(links) <= LIMITS.links_per_logger for links in door._of_logger.values())


def test_a_low_limit_of_open_files_is_raised_or_told(monkeypatch: Any, caplog: pytest.LogCaptureFixture) -> None:
    now = {"limit": (256, 900)}
    monkeypatch.setattr(resource, "getrlimit", lambda _: now["limit"])
    monkeypatch.setattr(resource, "setrlimit", lambda _, limit: now.update(limit=limit))
    assert fitted(Limits(connections=10_000)).connections == 900 - FILES_KEPT_FREE
    assert now["limit"] == (900, 900) and "leaves room for 388 connections" in caplog.text
    assert fitted(Limits(connections=300)).connections == 300


# ---- a receiver of its own against many

RECEIVER = """
import asyncio, json, os, sys
from pathlib import Path
from collectors.hj212_door import Limits
from collectors.hj212_server import Hj212Server, loggers_of
from collectors.intake import SpoolIntake
from collectors.park_devices import FieldDevice, Target
from collectors.service import run_loop
from collectors.spool import Spool
from park.catalogue import Device

async def main():
    row = Device(code="d", protocol="hj212", mn="GOOD", password="123456", edition="2017", crc="hj212")
    device = FieldDevice("b", "Asia/Shanghai", row, {"a21026": Target("so2", "mg/m3", "gauge", 60)})
    intake = SpoolIntake(Spool(Path(sys.argv[1]) / "s.sqlite", "s"), flush_s=0.02)
    server = Hj212Server(loggers_of([device])[0], intake, "b", limits=Limits(**json.loads(sys.argv[2])))
    writing = asyncio.create_task(intake.run())
    print(await server.start("127.0.0.1", 0), flush=True)
    while await asyncio.to_thread(sys.stdin.readline):
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        print(json.dumps({"rss": pages * os.sysconf("SC_PAGE_SIZE"), "files": len(os.listdir("/proc/self/fd")),
                          "open": len(server.door.open), "refused": server.door.refused, "closed": server.door.closed,
                          "limit": server.door.limits.connections, "readings": server.counters.readings}), flush=True)
    await server.close()
    await intake.stop()
    await writing
    intake.spool.close()

run_loop(main())
"""


class Receiver:
    """The receiver in its own process; `tell` asks what it sees."""

    def __init__(self, folder: Path, **limits: Any) -> None:
        self.process = subprocess.Popen([sys.executable, "-c", RECEIVER, str(folder), json.dumps(limits)], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])
        assert self.process.stdout is not None and self.process.stdin is not None
        self.port = int(self.process.stdout.readline())

    def tell(self) -> dict[str, Any]:
        assert self.process.stdout is not None and self.process.stdin is not None
        self.process.stdin.write("?\n")
        self.process.stdin.flush()
        told: dict[str, Any] = json.loads(self.process.stdout.readline())
        return told

    def stop(self) -> None:
        assert self.process.stdout is not None and self.process.stdin is not None
        self.process.stdin.close()
        assert self.process.wait(20) == 0
        self.process.stdout.close()


@contextmanager
def _files(n: int) -> Iterator[int]:
    """So many open files for this process, or as many as may be; gives how many sockets that leaves."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = n + 1000 if hard == resource.RLIM_INFINITY else min(n + 1000, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    try:
        yield min(n, wanted - 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _connect(port: int, n: int) -> list[socket.socket]:
    """n connections from many addresses of the loopback net, 200 each."""
    found = []
    for k in range(n):
        s = socket.socket()
        s.bind((f"127.0.{1 + k // 40_000}.{1 + k // 200 % 200}", 0))
        s.connect(("127.0.0.1", port))
        found.append(s)
    return found


def _frame(k: int, mn: str = "GOOD") -> bytes:
    at = time.strftime("%Y%m%d%H%M%S", time.gmtime(time.time() + 8 * 3600 - 500 + k))
    data = f"QN={at}{k:03d};ST=31;CN=2011;PW=123456;MN={mn};Flag=5;CP=&&DataTime={at};a21026-Rtd={k},a21026-Flag=N&&".encode()
    return b"##%04d" % len(data) + data + b"%04X\r\n" % crc_hj212(data)


def _answered_s(link: socket.socket, k: int) -> float:
    began = time.monotonic()
    link.sendall(_frame(k))
    got = b""
    while not got.endswith(b"\r\n"):
        part = link.recv(4096)
        assert part, "hung up"
        got += part
    assert b"CN=9014" in got
    return time.monotonic() - began


@pytest.mark.timeout(120)
def test_ten_thousand_idle_connections_and_slow_senders_hold_nobody_up_and_cost_bounded_memory(
        tmp_path: Path, until: Any) -> None:
    with _files(10_000) as n:
        receiver = Receiver(tmp_path, connections=n, first_frame_s=100, frame_s=1)
        idle: list[socket.socket] = []
        try:
            before = receiver.tell()
            assert before["limit"] == n, "the receiver has raised its own limit of open files"
            good = socket.create_connection(("127.0.0.1", receiver.port), timeout=10)
            idle.append(good)
            _answered_s(good, 0)
            idle += _connect(receiver.port, n - 1)
            full = until(lambda: (t := receiver.tell())["open"] == n and t)
            assert full["rss"] - before["rss"] < 20_000 * n and full["files"] < n + 200, full
            assert _answered_s(good, 1) < 2
            # one more than there are places: a silent one makes room, and the newcomer is answered
            late = socket.create_connection(("127.0.0.1", receiver.port), timeout=10)
            idle.append(late)
            assert _answered_s(late, 2) < 2
            # slow senders: a byte at a time of a frame that never ends, some of them behind a good frame
            slow = _connect(receiver.port, 300)
            idle += slow
            for s in slow[:2]:
                s.sendall(_frame(3))
            waited = []
            for k in range(20):
                for s in slow:
                    try:
                        s.sendall(b"##9999QN=20261123"[k % 17:k % 17 + 1])
                    except OSError:
                        pass  # its patience is over: one of the two behind a good frame
                waited.append(_answered_s(good, 4 + k))
                time.sleep(0.1)
            assert max(waited) < 2, waited
            told = receiver.tell()
            assert told["open"] <= n and told["closed"]["made_room"] >= 300 and told["refused"] == {}, told
            assert until(lambda: receiver.tell()["closed"].get("slow_frame", 0) >= 1)
        finally:
            for s in idle:
                s.close()
            receiver.stop()


def test_patience_ends_for_those_that_give_nothing_and_nothing_of_them_stays(tmp_path: Path, until: Any) -> None:
    receiver = Receiver(tmp_path, first_frame_s=2)
    links: list[socket.socket] = []
    try:
        before = receiver.tell()
        good = socket.create_connection(("127.0.0.1", receiver.port), timeout=10)
        links.append(good)
        _answered_s(good, 0)
        most = []
        for _ in range(2):
            links += _connect(receiver.port, 1500)
            most.append(until(lambda: (t := receiver.tell())["open"] > 1000 and t)["rss"])
            gone = until(lambda: (t := receiver.tell())["open"] == 1 and t)
        assert gone["closed"] == {"no_frame": 3000}
        assert gone["files"] < before["files"] + 50, "3,000 connections left no file open; the spool has some of its own"
        assert max(most) < most[0] + 10_000_000, "the waves find the memory of the first"
        _answered_s(good, 1)
    finally:
        for s in links:
            s.close()
        receiver.stop()


def test_a_place_for_loggers_is_found_while_one_address_opens_all_it_can(tmp_path: Path, until: Any) -> None:
    receiver = Receiver(tmp_path, connections=600, unproven_per_address=50, first_frame_s=60)
    flood = []
    try:
        for _ in range(300):
            flood.append(socket.create_connection(("127.0.0.1", receiver.port)))
        told = until(lambda: (t := receiver.tell())["refused"].get("address", 0) == 250 and t)
        assert told["open"] == 50

        async def loggers() -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", receiver.port, local_addr=("127.0.0.9", 0))
            writer.write(_frame(1))
            async with asyncio.timeout(5):
                assert b"CN=9014" in await reader.readline()
            writer.transport.abort()
        asyncio.run(loggers())
    finally:
        for s in flood:
            s.close()
        receiver.stop()
