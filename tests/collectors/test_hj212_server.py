"""The HJ 212 receiver over real sockets: acknowledgement after storage, strangers, wrong PW and CRC, bounds."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Coroutine
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from collectors.health import health_message
from collectors.hj212_command import Commander
from collectors.hj212_door import Limits
from collectors.hj212_frame import build_frame, crc_hj212
from collectors.hj212_server import Hj212Server, loggers_of
from collectors.park_devices import FieldDevice, Target
from collectors.spool import SpoolSize
from park.catalogue import Device
from park.errors import StorageError

MN = "010000A8900016F000169DC0"
NOW = int(datetime(2026, 11, 23, 11, 0, 5, tzinfo=ZoneInfo("Asia/Shanghai")).timestamp() * 1000)


def _device(code: str = "d.cems", mn: str = MN, **more: Any) -> FieldDevice:
    row = Device(code=code, protocol="hj212", mn=mn, **({"password": "123456", "edition": "2017", "crc": "hj212"} | more))
    return FieldDevice("b", "Asia/Shanghai", row, {"a21026": Target("so2", "mg/m3", "gauge", 60),
                                                   "a21026.avg.minute": Target("so2.min", "mg/m3", "gauge", 60)})


def _data(cp: str = "DataTime=20261123110000;a21026-Rtd=12.5,a21026-Flag=N", *, cn: str = "2011", pw: str = "123456",
          mn: str = MN, flag: int = 5, qn: str = "20261123110000123") -> str:
    return f"QN={qn};ST=31;CN={cn};PW={pw};MN={mn};Flag={flag};CP=&&{cp}&&"


Talk = Callable[[bytes, int], Coroutine[Any, Any, list[str]]]


def _with_server(basket: Any, script: Callable[[Hj212Server, Talk], Awaitable[None]], devices: list[FieldDevice] | None = None,
                 **options: Any) -> Hj212Server:
    loggers, mistakes = loggers_of(devices if devices is not None else [_device()])
    assert mistakes == []
    server = Hj212Server(loggers, basket, "b", **{"clock_ms": lambda: NOW} | options)

    async def run() -> None:
        port = await server.start("127.0.0.1", 0)

        async def talk(data: bytes, answers: int) -> list[str]:
            """Send on a new connection; the data of so many answers (0: those within a moment)."""
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(data)
            got: list[str] = []
            try:
                while len(got) < answers or not answers:
                    async with asyncio.timeout(5 if answers else 0.3):
                        line = await reader.readline()
                    if not line:
                        break
                    length = int(line[2:6])
                    assert crc_hj212(line[6:6 + length]) == int(line[6 + length:10 + length], 16)
                    got.append(line[6:6 + length].decode())
            except (TimeoutError, ConnectionError):
                assert not answers, f"expected {answers} answers, got {got}"
            writer.transport.abort()
            await asyncio.sleep(0)
            return got

        try:
            await script(server, talk)
        finally:
            await server.close()
            await asyncio.sleep(0.02)
    asyncio.run(run())
    return server


def test_9014_comes_with_the_qn_once_the_reading_is_durable(basket: Any) -> None:
    async def script(_: Hj212Server, talk: Talk) -> None:
        (answer,) = await talk(build_frame(_data()), 1)
        assert answer == f"QN=20261123110000123;ST=91;CN=9014;PW=123456;MN={MN};Flag=4;CP=&&&&"
        assert [(p, v, q) for p, _, v, q in basket.rows()] == [("so2", 12.5, "good")]
    _with_server(basket, script)


def test_without_storage_there_is_no_9014_and_the_repeat_is_taken(basket: Any) -> None:
    async def script(server: Hj212Server, talk: Talk) -> None:
        basket.fail = StorageError("disk full")
        assert await talk(build_frame(_data()), 0) == []
        assert server.counters.rejected["not_stored"] == 1
        basket.fail = None
        assert len(await talk(build_frame(_data()), 1)) == 1
        assert [p for p, *_ in basket.rows()] == ["so2"]
    _with_server(basket, script)


def test_a_message_sent_three_times_is_stored_once_and_answered_each_time(basket: Any) -> None:
    async def script(server: Hj212Server, talk: Talk) -> None:
        for _ in range(3):
            assert len(await talk(build_frame(_data()), 1)) == 1
        assert len(basket.rows()) == 1
        assert server.loggers[MN].station.duplicates == 2
    _with_server(basket, script)


def test_no_answer_is_sent_when_none_is_wanted(basket: Any) -> None:
    async def script(_: Hj212Server, talk: Talk) -> None:
        assert await talk(build_frame(_data(flag=4)), 0) == []
        assert len(basket.rows()) == 1
    _with_server(basket, script)


def test_sub_packets_are_each_stored_and_each_answered(basket: Any) -> None:
    def part(number: int, cp: str) -> bytes:
        head = f"QN=2026112311000{number}000;ST=31;CN=2051;PW=123456;MN={MN};Flag=7;PNUM=2;PNO={number};"
        return build_frame(f"{head}CP=&&DataTime=20261123105900;{cp}&&")

    async def script(_: Hj212Server, talk: Talk) -> None:
        answers = await talk(part(1, "a21026-Avg=3,a21026-Flag=N") + part(2, "a21026-Max=5,a21026-Flag=N"), 2)
        assert [re.findall(r"QN=(\d+)", a)[0] for a in answers] == ["20261123110001000", "20261123110002000"]
        assert [(p, v) for p, _, v, _ in basket.rows()] == [("so2.min", 3.0)]
    _with_server(basket, script)


def test_a_truncated_frame_is_counted_and_the_next_one_is_stored(basket: Any) -> None:
    async def script(server: Hj212Server, talk: Talk) -> None:
        whole = build_frame(_data())
        assert len(await talk(whole[:60] + whole, 1)) == 1
        await talk(whole[:50], 0)
        await asyncio.sleep(0.05)
        assert server.counters.rejected["truncated"] == 1
        assert server.counters.resyncs == 1 and server.counters.garbage_bytes == 60
        assert len(basket.rows()) == 1
    _with_server(basket, script)


def test_a_wrong_crc_is_not_answered_and_becomes_a_dead_letter_without_the_password(basket: Any) -> None:
    async def script(server: Hj212Server, talk: Talk) -> None:
        frame = build_frame(_data()).replace(b"Rtd=12.5", b"Rtd=92.5")
        assert await talk(frame, 0) == []
        assert basket.rows() == []
        (letter,) = basket.letters()
        assert letter.reason == "bad_crc" and "d.cems: expected CRC hj212" in letter.detail
        assert b"92.5" in letter.payload and b"123456" not in letter.payload and b"PW=***" in letter.payload
        assert server.loggers[MN].health.errors["bad_crc"] == 1
    _with_server(basket, script)


@pytest.mark.parametrize("kind", ["modbus", "modbus_swapped"])
def test_the_crc_is_a_setting_of_the_device(basket: Any, kind: str) -> None:
    async def script(server: Hj212Server, talk: Talk) -> None:
        await talk(build_frame(_data(flag=4), kind), 0)
        assert server.counters.rejected["bad_crc"] == (0 if kind == "modbus" else 1)
    _with_server(basket, script, [_device(crc="modbus")])


def test_a_device_without_crc_is_taken_at_its_word(basket: Any) -> None:
    async def script(_: Hj212Server, talk: Talk) -> None:
        data = _data().encode()
        assert len(await talk(b"##%04d" % len(data) + data + b"0000\r\n", 1)) == 1
        assert len(basket.rows()) == 1
    _with_server(basket, script, [_device(crc="none")])


def test_a_wrong_password_is_refused(basket: Any) -> None:
    async def script(server: Hj212Server, talk: Talk) -> None:
        assert await talk(build_frame(_data(pw="000000")), 0) == []
        assert [x.reason for x in basket.letters()] == ["bad_password"] and basket.rows() == []
        assert b"000000" not in basket.letters()[0].payload
        assert server.loggers[MN].health.errors["bad_password"] == 1
    _with_server(basket, script)


def test_a_stranger_is_recorded_and_shown_and_not_stored_as_readings(basket: Any) -> None:
    async def script(server: Hj212Server, talk: Talk) -> None:
        for n in range(30):
            await talk(build_frame(_data(mn="STRANGER", qn=f"202611231100{n:05d}")), 0) if n < 2 else None
        assert basket.rows() == []
        assert server.unknown == {"STRANGER": 2}
        assert [x.reason for x in basket.letters()] == ["unknown_device"] * 2
        many = b"".join(build_frame(_data(mn="STRANGER")) for _ in range(100))
        await talk(many, 0)
        assert server.unknown["STRANGER"] == 102
        assert b'"strangers":{"STRANGER":102}' in health_message([], SpoolSize(0, 0, 0, 0), NOW, strangers=server.unknown)
        assert len(basket.letters()) == 20, "a stranger must not fill the spool"
    _with_server(basket, script)


def test_time_calibration_and_heartbeat_are_answered(basket: Any) -> None:
    async def script(_: Hj212Server, talk: Talk) -> None:
        first, second = await talk(build_frame(_data("PolId=w01018", cn="1013")), 2)
        assert "CN=9013" in first and "QN=20261123110000123" in first
        assert "CN=1012" in second and "PolId=w01018;SystemTime=20261123110005" in second
        (beat,) = await talk(build_frame(_data("", cn="9015")), 1)
        assert "CN=9014" in beat
        assert basket.rows() == []
    _with_server(basket, script)


def test_a_message_without_a_time_is_a_dead_letter_and_not_answered(basket: Any) -> None:
    async def script(_: Hj212Server, talk: Talk) -> None:
        assert await talk(build_frame(_data("DataTime=yesterday;a21026-Rtd=1")), 0) == []
        (letter,) = basket.letters()
        assert letter.reason == "bad_time" and b"yesterday" in letter.payload and b"123456" not in letter.payload
    _with_server(basket, script)


def test_one_connections_garbage_does_not_hold_up_another(basket: Any) -> None:
    async def script(_: Hj212Server, talk: Talk) -> None:
        noise = [asyncio.create_task(talk(bytes([n]) * 50_000 + b"##5000" * 5000, 0)) for n in range(4)]
        async with asyncio.timeout(5):
            assert len(await talk(build_frame(_data()), 1)) == 1
        await asyncio.gather(*noise)
    _with_server(basket, script)


def test_silent_connections_are_closed_and_their_number_is_bounded(basket: Any) -> None:
    async def script(server: Hj212Server, talk: Talk) -> None:
        silent = [await asyncio.open_connection(*server._server.sockets[0].getsockname()[:2]) for _ in range(3)]  # type: ignore[union-attr]
        await asyncio.sleep(0.05)
        assert await talk(build_frame(_data()), 0) == []
        assert server.door.refused == {"address": 1}
        async with asyncio.timeout(5):
            for reader, _ in silent:
                assert await reader.read() == b""
        for _, writer in silent:
            writer.transport.abort()
        assert len(await talk(build_frame(_data()), 1)) == 1
    _with_server(basket, script, limits=Limits(unproven_per_address=3, first_frame_s=0.5))


def test_two_devices_with_one_mn_and_a_missing_secret_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CEMS_PW", "secret")
    loggers, mistakes = loggers_of([_device("d1", password="${CEMS_PW}"), _device("d2"),
                                    _device("d3", "M3", password="${NO_SUCH}")])
    assert loggers[MN].password == "secret" and len(loggers) == 1
    assert mistakes == [f"device d2: the MN {MN} already belongs to d1",
                        "device d3: the environment variable NO_SUCH that a device's password needs is not set"]


def test_a_logger_that_asks_for_the_time_gets_that_of_the_moment_also_when_it_is_repeated(basket: Any) -> None:
    clock = {"now": NOW}

    async def script(server: Hj212Server, _: Talk) -> None:
        reader, writer = await asyncio.open_connection(*server._server.sockets[0].getsockname()[:2])  # type: ignore[union-attr]
        writer.write(build_frame(_data("PolId=w01018", cn="1013")))
        assert b"CN=9013" in await reader.readline()
        first = (await reader.readline()).decode()
        clock["now"] += 7000
        async with asyncio.timeout(5):
            again = (await reader.readline()).decode()
        qn = re.findall(r"QN=(\d+)", first)
        assert "SystemTime=20261123110005" in first and "SystemTime=20261123110012" in again
        assert qn == re.findall(r"QN=(\d+)", again), "repeated under its QN"
        for cn, cp in (("9011", "QnRtn=1"), ("9012", "ExeRtn=3")):
            writer.write(build_frame(_data(cp, cn=cn, qn=qn[0], flag=4)))
        async with asyncio.timeout(5):
            while not server.counters.times_set:
                await asyncio.sleep(0.01)
        health = server.loggers[MN].health
        assert server.counters.times_set == {"failed": 1} and health.errors["time_set"] == 1
        assert health.notes["time_set"] == {"at": clock["now"], "state": "failed", "exe_rtn": 3}
        assert server.counters.rejected["unasked_answer"] == 0
        writer.transport.abort()
    _with_server(basket, script, clock_ms=lambda: clock["now"],
                 commander=Commander(lambda: clock["now"], over_time_s=0.3, repeats=3, result_s=3))


def test_a_command_that_nobody_knows_is_kept_and_counted_and_notices_are_answered(basket: Any) -> None:
    async def script(server: Hj212Server, talk: Talk) -> None:
        assert await talk(build_frame(_data("x=1", cn="4711")), 0) == []
        (letter,) = basket.letters()
        assert letter.reason == "unknown_command" and b"CN=4711" in letter.payload
        for cn, answer in (("2081", "9014"), ("3015", "9014"), ("3019", "9014"), ("1014", "9013"), ("1001", "9014")):
            (got,) = await talk(build_frame(_data("DataTime=20261123110000;Secret=1", cn=cn)), 1)
            assert f"CN={answer};" in got
        notices = server.loggers[MN].health.notes["notices"]
        assert set(notices) == {"2081", "3015", "3019", "1014", "1001"}
        assert notices["1014"] == "", "what is about keys is not shown"
        assert notices["1001"] == "DataTime=20261123110000;Secret=1"
        server.adopt(loggers_of([_device()])[0])
        assert server.loggers[MN].health.notes["notices"] == notices, "a changed catalogue forgets nothing"
        assert basket.rows() == [] and len(basket.letters()) == 1
    _with_server(basket, script)


def test_a_platform_may_answer_heartbeats_as_its_loggers_expect(basket: Any) -> None:
    async def script(_: Hj212Server, talk: Talk) -> None:
        (beat,) = await talk(build_frame(_data("", cn="9015")), 1)
        assert "CN=9013" in beat
    _with_server(basket, script, [_device(attributes={"heartbeat_answer": "9013"})])


def test_three_editions_speak_on_one_port_side_by_side(basket: Any) -> None:
    devices = [_device(f"d.{edition}", f"MN{edition}", edition=edition) for edition in ("2005", "2017", "2025")]

    async def script(server: Hj212Server, talk: Talk) -> None:
        sent = [("MN2005", 1, "02-Rtd=5,02-Flag=S"), ("MN2017", 5, "a21026-Rtd=17,a21026-Flag=S"),
                ("MN2025", 9, "a21026-Rtd=25,a21026-Flag=S")]
        answers = await talk(b"".join(build_frame(_data(f"DataTime=20261123110000;{cp}", mn=mn, flag=flag))
                                      for mn, flag, cp in sent), 3)
        told = [re.findall(r"MN=(\w+);Flag=(\d+)", a)[0] for a in answers]
        assert told == [("MN2005", "0"), ("MN2017", "4"), ("MN2025", "8")]
        assert [(v, q) for _, _, v, q in basket.rows()] == [(5.0, "uncertain"), (17.0, "manual"), (25.0, "manual")], \
            "old factor codes, and S means another thing in 2005"
        assert basket.letters() == []
    _with_server(basket, script, devices)
