"""Forwarding to a superior platform over real sockets: form, durability, a platform that hangs up, is silent, or commands."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from collectors.health import health_message
from collectors.hj212_frame import FrameReader, build_frame, crc_kinds, parse_message
from collectors.hj212_health import port_metrics, port_words, uplink_words
from collectors.hj212_logger import loggers_of
from collectors.hj212_server import Hj212Server
from collectors.hj212_sm4 import cipher_of
from collectors.hj212_uplink import Route, Uplinks, rewritten, route_of
from collectors.park_devices import FieldDevice, Target
from collectors.spool import SpoolSize
from park.broker import free_port
from park.catalogue import Device
from park.errors import InputError

MN, UP = "010000A8900016F000169DC0", "UPLINK0000000000000000AA"
NOW = int(datetime(2026, 11, 23, 11, 0, 5, tzinfo=ZoneInfo("Asia/Shanghai")).timestamp() * 1000)
OPTIONS: dict[str, Any] = {"over_time_s": 0.3, "repeats": 1, "back_off_s": (0.05, 0.2)}


def _device(mn: str = MN, **attributes: Any) -> FieldDevice:
    row = Device(code="d", protocol="hj212", mn=mn, password="1", edition="2017", crc="hj212", attributes=attributes)
    return FieldDevice("b", "Asia/Shanghai", row, {"a21026": Target("so2", "mg/m3", "gauge", 60)})


def _data(n: int, cp: str = "02-Rtd=7,02-Flag=N", cn: str = "2011") -> bytes:
    return (f"QN=202611231100{n:05d};ST=31;CN={cn};PW=1;MN={MN};Flag=5;CP=&&DataTime=202611231100{n % 60:02d};{cp}&&").encode()


class Platform:
    """A superior platform: hears frames, and answers as told."""

    def __init__(self, answers: Callable[[Any], list[tuple[str, str]]] = lambda _: [("9014", "")]) -> None:
        self.answers = answers
        self.heard: list[Any] = []
        self.hang_up_after = 10**9
        self._tasks: set[Any] = set()

    async def start(self, port: int) -> None:
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", port)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.add(asyncio.current_task())
        frames = FrameReader()
        try:
            while data := await reader.read(4096):
                for frame in frames.feed(data):
                    message = parse_message(frame.data)
                    self.heard.append(message)
                    if len(self.heard) % self.hang_up_after == 0:
                        return
                    for cn, cp in self.answers(message):
                        writer.write(build_frame(
                            f"QN={message.qn};ST=91;CN={cn};PW={message.pw};MN={message.mn};Flag=4;CP=&&{cp}&&"))
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()

    async def stop(self) -> None:
        self.server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


def _with_receiver(tmp_path: Path, basket: Any, port: int, script: Callable[[Hj212Server, Any], Awaitable[None]],
                   **more: Any) -> None:
    async def run() -> None:
        device = _device(uplink={"to": f"127.0.0.1:{port}", "mn": UP, "password": "secret", "edition": "2025"} | more)
        server = Hj212Server(loggers_of([device])[0], basket, "b", clock_ms=lambda: NOW,
                             uplinks=Uplinks(tmp_path, "col", basket, **OPTIONS))
        assert server.uplinks is not None and await server.uplinks.apply(server.loggers) == []
        reader, writer = await asyncio.open_connection("127.0.0.1", await server.start("127.0.0.1", 0))

        async def send(*data: bytes) -> None:
            for one in data:
                writer.write(build_frame(one))
                async with asyncio.timeout(5):
                    assert b"CN=9014" in await reader.readline()
        try:
            await script(server, send)
        finally:
            writer.transport.abort()
            await server.close()
            await server.uplinks.close()
            await asyncio.sleep(0.02)
    asyncio.run(run())


def test_what_a_logger_sends_arrives_under_the_superiors_mn_and_todays_codes(tmp_path: Path, basket: Any) -> None:
    platform, port = Platform(), free_port()

    async def script(server: Hj212Server, send: Any) -> None:
        await platform.start(port)
        await send(_data(1), _data(1), _data(2))
        await _until(lambda: len(platform.heard) >= 2)
        (uplink, _), = server.uplinks.by_target.values()  # type: ignore[union-attr]
        await _until(lambda: uplink.spool.size().batches == 0)
        first = platform.heard[0]
        assert (first.mn, first.pw, first.flag, first.qn, first.cn) == (UP, "secret", 9, "20261123110000001", "2011")
        assert first.groups[1] == {"a21026-Rtd": "7", "a21026-Flag": "N"}
        assert len(platform.heard) == 2, "a repetition of the logger is not forwarded again"
        assert uplink.counters.answered == 2 and uplink.counters.connected
        await platform.stop()
    _with_receiver(tmp_path, basket, port, script)


def test_nothing_is_lost_while_the_superior_is_away_hangs_up_and_this_side_restarts(tmp_path: Path, basket: Any) -> None:
    platform, port = Platform(), free_port()

    async def first(_: Hj212Server, send: Any) -> None:
        await send(*(_data(n) for n in range(20)))  # nobody listens yet: acknowledged, because it is on disk

    async def second(server: Hj212Server, send: Any) -> None:
        platform.hang_up_after = 7
        await platform.start(port)
        await send(*(_data(n) for n in range(20, 30)))
        (uplink, _), = server.uplinks.by_target.values()  # type: ignore[union-attr]
        await _until(lambda: uplink.spool.size().batches == 0)
        assert {m.qn for m in platform.heard} == {f"202611231100{n:05d}" for n in range(30)}
        await platform.stop()
    _with_receiver(tmp_path, basket, port, first)
    _with_receiver(tmp_path, basket, port, second)


def test_a_silent_platform_gets_a_frame_again_and_commands_are_refused(tmp_path: Path, basket: Any) -> None:
    seen: list[str] = []

    def answers(message: Any) -> list[tuple[str, str]]:
        seen.append(message.cn)
        if message.cn == "9011":
            return []
        return [("1011", "")] if seen.count("2011") == 1 else [("9014", "")]
    platform, port = Platform(answers), free_port()

    async def script(server: Hj212Server, send: Any) -> None:
        await platform.start(port)
        await send(_data(1))
        (uplink, _), = server.uplinks.by_target.values()  # type: ignore[union-attr]
        await _until(lambda: uplink.spool.size().batches == 0 and "9011" in seen)
        assert seen.count("2011") == 2 and uplink.counters.repeated == 1
        refusal = next(m for m in platform.heard if m.cn == "9011")
        assert refusal.field("QnRtn") == "2" and uplink.counters.errors["command_refused"] == 1
        await platform.stop()
    _with_receiver(tmp_path, basket, port, script)


def test_a_frame_that_is_never_taken_while_others_are_is_set_aside_and_holds_nothing_up(tmp_path: Path, basket: Any) -> None:
    platform, port = Platform(lambda m: [] if m.qn.endswith("00003") else [("9014", "")]), free_port()

    async def script(server: Hj212Server, send: Any) -> None:
        await platform.start(port)
        await send(_data(1), _data(3), _data(4))
        (uplink, _), = server.uplinks.by_target.values()  # type: ignore[union-attr]
        n = 10
        while uplink.counters.rejected == 0:
            await send(_data(n))
            await asyncio.sleep(0.1)
            n += 1
            assert n < 200
        await _until(lambda: uplink.spool.size().batches == 0)
        (letter,) = basket.letters()
        assert (letter.base, letter.reason) == ("b", "uplink_rejected") and b"QN=20261123110000003" in letter.payload
        assert b"secret" not in letter.payload
        assert uplink.counters.answered == n - 10 + 2
        (words,) = uplink_words(server.uplinks, "b")
        assert (words["rejected"], words["waiting"], words["connected"], words["answered"]) == (1, 0, True, n - 8)
        assert abs(words["last_9014"] - time.time() * 1000) < 60_000 and words["repeated"] >= 3
        assert uplink_words(server.uplinks, "other") == []
        samples = {(s.name, s.labels.get("to")): s.value for f in port_metrics(server) for s in f.samples}
        assert samples["park_uplink_rejected_total", uplink.to] == 1 and samples["park_uplink_connected", uplink.to] == 1
        assert samples["park_uplink_last_answer_timestamp_seconds", uplink.to] == words["last_9014"] / 1000
        message = json.loads(health_message([], SpoolSize(0, 0, 0, 0), NOW, flow={"uplinks": [words]}, port=port_words(server)))
        assert message["spool"]["uplinks"] == [words] and message["hj212"]["connections"] == 1
        await platform.stop()
    _with_receiver(tmp_path, basket, port, script)


def test_a_platform_that_answers_nothing_costs_no_frame(tmp_path: Path, basket: Any) -> None:
    platform, port = Platform(lambda _: []), free_port()

    async def script(server: Hj212Server, send: Any) -> None:
        await platform.start(port)
        await send(_data(1))
        (uplink, _), = server.uplinks.by_target.values()  # type: ignore[union-attr]
        await _until(lambda: uplink.counters.errors["lost"] >= 3)
        assert uplink.counters.rejected == 0 and uplink.spool.size().batches == 1 and basket.letters() == []
        platform.answers = lambda _: [("9014", "")]
        await _until(lambda: uplink.spool.size().batches == 0)
        await platform.stop()
    _with_receiver(tmp_path, basket, port, script)


def test_a_silent_connection_is_kept_alive_where_the_catalogue_says_so(tmp_path: Path, basket: Any) -> None:
    platform, port = Platform(lambda m: [("9013" if m.cn == "9015" else "9014", "")]), free_port()

    async def script(server: Hj212Server, _: Any) -> None:
        await platform.start(port)
        await _until(lambda: len(platform.heard) >= 2)
        assert {(m.cn, m.mn, m.pw, m.flag) for m in platform.heard} == {("9015", UP, "secret", 8)}
        (uplink, _task), = server.uplinks.by_target.values()  # type: ignore[union-attr]
        assert uplink.counters.heartbeats >= 2 and set(uplink.counters.errors) <= {"connect"}
        await platform.stop()
    _with_receiver(tmp_path, basket, port, script, heartbeat_s=1)
    with pytest.raises(InputError, match="heartbeat_s as seconds"):
        route_of(loggers_of([_device(uplink={"to": "h:1", "heartbeat_s": "often"})])[0][MN])


def test_both_editions_parts_and_encryption_have_their_form() -> None:
    message = parse_message(b"QN=1;ST=31;CN=2051;PW=x;MN=M;Flag=7;PNUM=2;PNO=1;CP=&&DataTime=20261123110000;011-Avg=1&&")
    older = rewritten(message, Route("h:1", UP, "p"))
    assert b"Flag=7;PNUM=2;PNO=1;CP=&&DataTime=20261123110000;w01018-Avg=1&&" in older
    assert crc_kinds(older[6:-6], older[-6:-2]) == ("hj212",)
    cipher = cipher_of({}, "00" * 16)
    newer = rewritten(message, Route("h:1", UP, "p", "2025", cipher=cipher))
    assert b"Flag=11;" in newer and b"DataTime" not in newer
    assert int(newer[2:6]) == len(newer) - 12
    clear = rewritten(message, Route("h:1", UP, "p", "2025"))
    assert len(newer) == len(clear) and newer[-6:] == clear[-6:], "encryption keeps the length, and the CRC is that of the text"


@pytest.mark.parametrize(("uplink", "text"), [
    ("10.0.0.9", "expected uplink"), ({"to": "h:1", "edition": "2005"}, "2017 or 2025")])
def test_a_wrong_uplink_is_told(uplink: Any, text: str) -> None:
    with pytest.raises(InputError, match=text):
        route_of(loggers_of([_device(uplink=uplink)])[0][MN])
    assert route_of(loggers_of([_device()])[0][MN]) is None
