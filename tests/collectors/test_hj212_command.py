"""Commands to data loggers over real sockets: QN, repeats, refusals, data, what a stranger becomes, the control socket."""

from __future__ import annotations

import asyncio
import re
import stat
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest

from collectors.control import ask, control_path, serve_control
from collectors.hj212_cli import _apply
from collectors.hj212_command import Commander, commands, data_area
from collectors.hj212_frame import FrameReader, build_frame
from collectors.hj212_logger import loggers_of
from collectors.hj212_server import Hj212Server
from collectors.hj212_sm4 import Cipher, cipher_of, encrypted
from collectors.hj212_strangers import adoption
from collectors.park_devices import FieldDevice, Target
from park.catalogue import Device
from park.errors import InputError, SetupError

MN = "010000A8900016F000169DC0"
KEY = "0123456789abcdeffedcba9876543210"
NOW = int(datetime(2026, 11, 23, 11, 0, 5, tzinfo=ZoneInfo("Asia/Shanghai")).timestamp() * 1000)
Answers = Callable[[dict[str, str]], list[tuple[str, str]]]  # fields of a command -> (CN, CP) of what the logger answers


def _device(**attributes: Any) -> FieldDevice:
    row = Device(code="d.cems", protocol="hj212", mn=MN, password="123456", edition="2017", crc="hj212", attributes=attributes)
    return FieldDevice("b", "Asia/Shanghai", row, {"a21026": Target("so2", "mg/m3", "gauge", 60),
                                                   "a21026.avg.hour": Target("so2.h", "mg/m3", "gauge", 3600)})


def _data(cp: str, cn: str = "2011", mn: str = MN, flag: int = 4, qn: str = "20261123110000123") -> bytes:
    return f"QN={qn};ST=31;CN={cn};PW=123456;MN={mn};Flag={flag};CP=&&{cp}&&".encode()


class Logger:
    """A data logger of the field, written from the standard's flow of control commands."""

    def __init__(self, answers: Answers, deaf: int = 0) -> None:
        self.answers, self.deaf = answers, deaf
        self.heard: list[dict[str, str]] = []

    async def run(self, port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(build_frame(_data("DataTime=20261123110000;a21026-Rtd=1,a21026-Flag=N")))
        frames = FrameReader()
        try:
            while data := await reader.read(4096):
                for frame in frames.feed(data):
                    fields = dict(re.findall(r"(?:^|[;,&])([A-Za-z]+)=([^;,&]*)", frame.data.decode()))
                    self.heard.append(fields)
                    if len(self.heard) <= self.deaf:
                        continue
                    for cn, cp in self.answers(fields):
                        writer.write(build_frame(_data(cp, cn, qn=fields["QN"])))
        finally:
            writer.transport.abort()


def _with_logger(basket: Any, logger: Logger | None, script: Callable[[Hj212Server], Awaitable[None]]) -> None:
    async def run() -> None:
        server = Hj212Server(loggers_of([_device()])[0], basket, "b", clock_ms=lambda: NOW,
                             commander=Commander(lambda: NOW, over_time_s=0.15, repeats=2, result_s=0.3))
        port = await server.start("127.0.0.1", 0)
        task = asyncio.create_task(logger.run(port)) if logger else None
        try:
            async with asyncio.timeout(10):
                while logger and server.loggers[MN].link is None:
                    await asyncio.sleep(0.01)
                await script(server)
        finally:
            if task:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            await server.close()
            await asyncio.sleep(0.02)
    asyncio.run(run())


def test_a_setting_is_given_in_the_loggers_own_edition_and_its_result_is_told(basket: Any) -> None:
    logger = Logger(lambda _: [("9011", "QnRtn=1"), ("9012", "ExeRtn=1")])

    async def script(server: Hj212Server) -> None:
        outcome = (await server.command(MN, "1062", {"RtdInterval": "30"})).plain("en")
        assert (outcome["state"], outcome["sent"], outcome["qn_rtn"], outcome["exe_rtn_text"]) == ("done", 1, 1, "done")
        assert outcome["qn"] == "20261123110005000"
        assert logger.heard == [{"QN": outcome["qn"], "ST": "31", "CN": "1062", "PW": "123456", "MN": MN, "Flag": "5",
                                 "CP": "", "RtdInterval": "30"}]
    _with_logger(basket, logger, script)


def test_asked_data_come_back_and_history_is_stored_as_well(basket: Any) -> None:
    def answers(fields: dict[str, str]) -> list[tuple[str, str]]:
        if fields["CN"] == "1011":
            return [("9011", "QnRtn=1"), ("1011", "SystemTime=20261123110007"), ("9012", "ExeRtn=1")]
        return [("9011", "QnRtn=1"), ("2061", "DataTime=20261123090000;a21026-Avg=7,a21026-Flag=N"), ("9012", "ExeRtn=1")]

    async def script(server: Hj212Server) -> None:
        assert (await server.command(MN, "1011", {})).data == [{"SystemTime": "20261123110007"}]
        span = {"BeginTime": "20261123090000", "EndTime": "20261123100000"}
        assert (await server.command(MN, "2061", span)).state == "done"
        assert ("so2.h", 7.0) in [(p, v) for p, _, v, _ in basket.rows()]
        assert basket.letters() == []
    _with_logger(basket, Logger(answers), script)


def test_a_command_is_repeated_under_its_qn_until_it_is_accepted(basket: Any) -> None:
    logger = Logger(lambda _: [("9011", "QnRtn=1"), ("9012", "ExeRtn=5")], deaf=2)

    async def script(server: Hj212Server) -> None:
        outcome = (await server.command(MN, "3011", {"PolId": "a21026"})).plain("zh")
        assert (outcome["state"], outcome["sent"], outcome["exe_rtn_text"]) == ("failed", 3, "系统繁忙不能执行")
        assert len({h["QN"] for h in logger.heard}) == 1
    _with_logger(basket, logger, script)


@pytest.mark.parametrize(("answers", "state"), [
    ([], "no_answer"), ([("9011", "QnRtn=2")], "refused"), ([("9011", "QnRtn=1")], "no_result"),
    ([("9012", "ExeRtn=1")], "done")])
def test_every_way_it_can_go_has_its_word(basket: Any, answers: list[tuple[str, str]], state: str) -> None:
    async def script(server: Hj212Server) -> None:
        assert (await server.command(MN, "3012", {"PolId": "w01018"})).state == state
        assert server.commander._open == {}
    _with_logger(basket, Logger(lambda _: answers), script)


def test_a_logger_that_is_not_connected_is_offline_and_wrong_commands_are_told(basket: Any) -> None:
    async def script(server: Hj212Server) -> None:
        assert (await server.command(MN, "1011", {})).state == "offline"
        with pytest.raises(InputError, match=r"1062 .* needs RtdInterval"):
            await server.command(MN, "1062", {})
        with pytest.raises(InputError, match="expected a command of 1000"):
            await server.command(MN, "9999", {})
    _with_logger(basket, None, script)
    with pytest.raises(InputError, match="without any of"):
        data_area({"PolId": "1&&"})
    assert data_area({"BeginTime": "1", "EndTime": "2"}) == "BeginTime=1,EndTime=2"
    assert {"1011", "1012", "1061", "1062", "1063", "1064", "3011", "3021"} <= set(commands())


def test_an_encrypted_area_is_read_with_the_devices_key_and_never_because_of_flag(basket: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("SM4", KEY)
    clear = _data("DataTime=20261123110000;a21026-Rtd=3.5,a21026-Flag=N", flag=9)
    cipher = cipher_of({}, KEY)
    assert isinstance(cipher, Cipher)
    hidden = build_frame(clear, on_line=encrypted(clear, cipher))

    async def send(device: FieldDevice, *frames: bytes) -> Hj212Server:
        server = Hj212Server(loggers_of([device])[0], basket, "b", clock_ms=lambda: NOW)
        reader, writer = await asyncio.open_connection("127.0.0.1", await server.start("127.0.0.1", 0))
        writer.write(b"".join(frames))
        writer.write_eof()
        async with asyncio.timeout(5):
            await reader.read()
        writer.transport.abort()
        await server.close()
        return server

    def values() -> list[float | None]:
        return [v for _, _, v, _ in basket.rows()]

    server = asyncio.run(send(_device(sm4_key="${SM4}"), *[hidden] * 40))
    assert set(values()) == {3.5} and server.counters.decrypted == 40 and server.counters.garbage_bytes == 0
    basket.items.clear()
    asyncio.run(send(_device(), build_frame(clear)))
    assert values() == [3.5], "Flag 9 in clear stays readable"
    asyncio.run(send(_device(sm4_key="00" * 16, sm4_key_former="${SM4}"), hidden))
    assert values() == [3.5] * 2, "the former key is taken while keys are changed"
    server = asyncio.run(send(_device(sm4_key="00" * 16), hidden))
    assert len(basket.rows()) == 2 and server.loggers[MN].health.errors["cipher"] == 1
    assert basket.letters()[-1].reason == "cipher" and b"123456" not in basket.letters()[-1].payload
    server = asyncio.run(send(_device(), hidden))
    assert basket.letters()[-1].reason == "bad_crc" and len(basket.rows()) == 2, "without a key nothing is decrypted"
    server = asyncio.run(send(_device(sm4_key="${SM4}"), build_frame(clear)))
    assert len(basket.rows()) == 3 and server.loggers[MN].health.errors["not_encrypted"] == 1
    server = asyncio.run(send(FieldDevice("b", "Asia/Shanghai", Device(code="o", protocol="hj212", mn="OTHER"), {}), hidden))
    assert server.strangers.by_mn[MN].encrypted and basket.letters()[-1].reason == "unknown_device"


def test_a_stranger_is_described_and_becomes_catalogue_rows(basket: Any, mini: psycopg.Connection[Any],
                                                            database_url: str) -> None:
    async def script(server: Hj212Server) -> None:
        _, writer = await asyncio.open_connection(*server._server.sockets[0].getsockname()[:2])  # type: ignore[union-attr]
        writer.write(build_frame(_data("DataTime=20261123110000;a21026-Rtd=1,a21026-Flag=N;d20105-Rtd=220;x1-Rtd=2", mn="NEW")))
        writer.write(build_frame(_data("DataTime=20261123100000;w00000-Cou=9", "2061", mn="NEW")))
        while server.unknown != {"NEW": 2}:
            await asyncio.sleep(0.01)
        writer.transport.abort()
        stranger = server.strangers.by_mn["NEW"].plain()
        assert stranger["peer"] == "127.0.0.1" and stranger["crc"] == "hj212" and stranger["systems"] == ["31"]
        rows, unknown = adoption(stranger, "d.new", password="${NEW_PW}")
        assert unknown == ["x1"]
        assert {(p["quantity"], p["unit"], p["source"]["key"], p["expected_s"]) for p in rows["points"]} == {
            ("so2", "mg/m3", "a21026", 60), ("voltage", "V", "d20105", 60),
            ("wastewater_volume", "m3", "w00000.cou.hour", 3600)}
        base = mini.execute("SELECT code FROM base").fetchone()[0]  # type: ignore[index]
        before = mini.execute("SELECT count(*) FROM point").fetchone()[0]  # type: ignore[index]
        _apply(database_url, base, rows)
        assert mini.execute("SELECT count(*) FROM point").fetchone()[0] == before + 3  # type: ignore[index]
        assert mini.execute("SELECT count(*) FROM device WHERE code = 'd.new'").fetchone() == (1,)
    _with_logger(basket, None, script)


def test_the_control_socket_is_private_and_answers_mistakes(tmp_path: Path) -> None:
    path = control_path(tmp_path, "col")

    async def handle(request: dict[str, Any]) -> dict[str, Any]:
        if request["op"] == "fail":
            raise InputError("no such thing")
        return {"echo": request["op"]}

    async def run() -> None:
        server = await serve_control(path, handle)
        assert server is not None and stat.S_IMODE(path.stat().st_mode) == 0o600
        assert await asyncio.to_thread(ask, path, {"op": "x"}) == {"echo": "x"}
        for request, text in (({"op": "fail"}, "no such thing"), ({}, "not a request")):
            with pytest.raises(SetupError, match=text):
                await asyncio.to_thread(ask, path, request)
        server.close()
        await server.wait_closed()
    asyncio.run(run())
    with pytest.raises(SetupError, match="is `park collect` running"):
        ask(tmp_path / "none.sock", {"op": "x"})
