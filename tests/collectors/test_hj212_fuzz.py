"""No bytes of a data logger, or of somebody who plays one, crash the receiver, hold up another connection or make it grow:
hypothesis against the data area, the commands, the uplink's ear and the running receiver with two connections at once."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Coroutine
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from collectors.hj212_command import Commander, data_area
from collectors.hj212_data import REMEMBERED, UNMAPPED_SHOWN, remember, station_of, to_readings
from collectors.hj212_door import Limits
from collectors.hj212_frame import FrameReader, Message, build_frame, parse_message
from collectors.hj212_logger import loggers_of
from collectors.hj212_reception import Reception
from collectors.hj212_server import Hj212Server
from collectors.hj212_uplink import Uplinks
from collectors.park_devices import FieldDevice, Target
from collectors.readings import DeadLetter, Readings
from park.catalogue import Device
from park.errors import FrameError, InputError
from park.quality import WORDS

NOW = int(datetime(2026, 11, 23, 11, 0, 5, tzinfo=ZoneInfo("Asia/Shanghai")).timestamp() * 1000)
KEYS = ("a21026", "a21026.avg.minute", "SB1", "p99101", "w01018.i13004", "a21026.zsavg.hour")


def _device(mn: str = "GOOD", **more: Any) -> FieldDevice:
    row = Device(code=f"d.{mn}", protocol="hj212", mn=mn, password="123456", edition="2017", crc="hj212", **more)
    return FieldDevice("b", "Asia/Shanghai", row, {k: Target(f"p.{k}", "1", "gauge", 60) for k in KEYS})


WORD = st.one_of(st.sampled_from([
    "DataTime", "20261123110000", "19000101000000", "20261123250000", "a21026-Rtd", "a21026-Avg", "a21026-Flag", "SB1-RS", "N",
    "D", "", "-", "--", "1e999", "NaN", "0x1", "1_000", "٣", "-5", "12.5", "St", "PolId", "w01018", "i13004-Info", "RF", "1",
    "QnRtn", "ExeRtn", "校准", "&", "&&", "CP=&&", "##0010", "\x00", "\r\n", "-Rtd", "a21026-", "=" * 9, "x" * 300]),
    st.text(max_size=12))
PAIR = st.tuples(WORD, st.sampled_from(["=", "", "=="]), WORD).map("".join)
AREA = st.lists(st.tuples(PAIR, st.sampled_from([";", ",", ";;", ""])).map("".join), max_size=25).map("".join)
CN = st.sampled_from(["2011", "2051", "2061", "2031", "2021", "2041", "2013", "2062", "2111", "3020", "1013", "1014", "2081",
                      "9011", "9012", "9013", "9014", "9015", "3019", "1001", "8888", "", "20 11", "２０１１"])


def _segment(cn: str, area: str, *, mn: str = "GOOD", pw: str = "123456", flag: int = 5,
             qn: str = "20261123110000123") -> bytes:
    return f"QN={qn};ST=31;CN={cn};PW={pw};MN={mn};Flag={flag};CP=&&{area}&&".encode("utf-8", "replace")


@settings(max_examples=150)
@given(CN, AREA, st.lists(AREA, max_size=4))
def test_no_data_area_gives_anything_but_sound_readings_or_a_frame_error(cn: str, area: str, more: list[str]) -> None:
    station = station_of(_device())
    for text in (area, f"DataTime=20261123110000;{area}", *(f"DataTime=20261123110000;{m}" for m in more)):
        try:
            message = parse_message(_segment(cn, text))
            if message.cn not in ("2011", "2051", "2061", "2031", "2021", "2041", "2013", "2062", "2111", "3020"):
                continue
            readings = to_readings(message, station, NOW)
            remember(message, station, NOW)
        except FrameError:
            continue
        for value, quality in zip(readings.value, readings.quality, strict=True):
            assert quality in WORDS and (value is None) == (WORDS[quality] >= 10)
            assert value is None or (isinstance(value, float) and value - value == 0.0)
        assert len(station.unmapped) <= UNMAPPED_SHOWN and len(station.seen) <= REMEMBERED
        assert all(len(k) <= 60 for k in station.unmapped)


PLAIN_TEXT = st.text("azAZ09_-. ;,&=#\r\n校准数据", max_size=12)


@settings(max_examples=200)
@given(st.dictionaries(PLAIN_TEXT, st.one_of(PLAIN_TEXT, st.sampled_from(["\r\n", "&&", "a;b", "a,b", "##0010"])), max_size=5))
def test_the_fields_of_a_command_never_break_its_frame(fields: dict[str, str]) -> None:
    try:
        area = data_area(fields)
        frame = build_frame(_segment("3020", area))
    except (InputError, FrameError, UnicodeEncodeError):
        return
    (cut,) = FrameReader().feed(frame)
    groups = parse_message(cut.data).groups
    assert {k: v for g in groups for k, v in g.items()} == {k.strip(): v.strip() for k, v in fields.items()}


@settings(max_examples=60)
@given(st.lists(st.tuples(CN, AREA, st.sampled_from(["20261123110005000", "20261123110000123", "", "0"]), st.integers(0, 300)),
                max_size=20))
def test_whatever_is_answered_a_command_ends_and_the_reception_stays_bounded(
        answers: list[tuple[str, str, str, int]]) -> None:
    async def run() -> None:
        commander = Commander(lambda: NOW, over_time_s=0.005, repeats=1, result_s=0.005)
        logger = loggers_of([_device()])[0]["GOOD"]
        reception = Reception({"GOOD": logger}, "b", lambda: NOW, commander)
        link = _Line()
        logger.link = link  # type: ignore[assignment]
        sending = asyncio.create_task(commander.send(logger, "1011", {}))
        await asyncio.sleep(0)
        for cn, area, qn, flag in answers:
            try:
                message = parse_message(_segment(cn, area, qn=qn, flag=flag))
            except FrameError:
                continue
            if not commander.heard(message):
                for frame in reception.respond(logger, message)[0]:
                    FrameReader().feed(frame)
        outcome = await sending
        assert outcome.state in ("done", "failed", "refused", "no_answer", "no_result")
        await reception.close()
        assert logger.times_asked == 0 and not commander._open
        assert set(reception.counters.rejected) <= {"unasked_answer", "unknown_command", "time_asked_too_often"}
        assert len(logger.health.notes.get("notices", {})) <= 10
    asyncio.run(run())


class _Line:
    """A connection that takes everything."""

    def write(self, data: bytes) -> None:
        assert data.startswith(b"##") and data.endswith(b"\r\n")

    def is_closing(self) -> bool:
        return False


# ---- the running receiver

GARBAGE = st.one_of(
    st.binary(max_size=200), st.sampled_from([b"##", b"##9999", b"##0000", b"\r\n", b"##12", b"&&", b"GET / HTTP/1.1\r\n\r\n",
                                              b"##0020" * 50, b"\x00" * 3000, b"##9000" + b"A" * 8000]),
    st.builds(lambda cn, area, mn, pw: build_frame(_segment(cn, area, mn=mn, pw=pw)), CN, AREA,
              st.sampled_from(["GOOD", "BAD", "", "NOBODY", "x" * 100]), st.sampled_from(["123456", "0", ""])),
    st.builds(lambda k: build_frame(_segment("2011", "DataTime=20261123110000;a21026-Rtd=1"))[:k], st.integers(0, 120)))


class Disk:
    """An intake that takes all and keeps the newest."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, float | None]] = []
        self.letters = 0

    def add(self, item: Readings | DeadLetter) -> None:
        raise AssertionError("nothing is added without being stored")

    async def store(self, items: list[Readings | DeadLetter]) -> None:
        for item in items:
            if isinstance(item, Readings):
                self.rows += zip(item.point, item.value, strict=True)
            else:
                self.letters += 1


class TwoLoggers(RuleBasedStateMachine):
    """One connection sends garbage in pieces of any size, the other is a good logger that must be answered in time."""

    BOUND_S = 3.0

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.disk, self.n = Disk(), 0
        self.server = Hj212Server(loggers_of([_device(), _device("BAD")])[0], self.disk, "b", clock_ms=lambda: NOW,  # type: ignore[arg-type]
                                  limits=Limits(noise_bytes=30_000),
                                  commander=Commander(lambda: NOW, over_time_s=0.01, repeats=0, result_s=0.01))
        self.port = self.do(self.server.start("127.0.0.1", 0))
        self.good = self.do(asyncio.open_connection("127.0.0.1", self.port))
        self.noisy: socket.socket | None = None
        self.opened = 0

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(work)

    @rule(parts=st.lists(GARBAGE, min_size=1, max_size=8), cuts=st.lists(st.integers(1, 2000), min_size=1, max_size=6))
    def garbage(self, parts: list[bytes], cuts: list[int]) -> None:
        """Garbage between frames, cut anywhere."""
        if self.noisy is None:
            self.noisy = socket.create_connection(("127.0.0.1", self.port))
            self.noisy.setblocking(False)
            self.opened += 1
        stream, k = b"".join(parts), 0
        try:
            while stream and k < 60:
                size = cuts[k % len(cuts)]
                self.noisy.send(stream[:size])
                stream, k = stream[size:], k + 1
                self.do(asyncio.sleep(0))
        except BlockingIOError:
            pass  # it is not read any more, for the time being
        except OSError:
            self.hangs_up()  # the receiver has had enough

    @rule()
    def hangs_up(self) -> None:
        """In the middle of whatever it was sending."""
        if self.noisy is not None:
            self.noisy.close()
            self.noisy = None
            self.do(asyncio.sleep(0))

    @rule(step=st.integers(1, 400))
    def good_frame(self, step: int) -> None:
        """A good frame in pieces: answered within the bound, and stored."""
        self.n += 1
        data = _segment("2011", f"DataTime=20261123110000;a21026-Rtd={self.n},a21026-Flag=N", qn=f"202611231100{self.n:05d}")
        frame = build_frame(data)
        reader, writer = self.good

        async def talk() -> bytes:
            for i in range(0, len(frame), step):
                writer.write(frame[i:i + step])
                await asyncio.sleep(0)
            async with asyncio.timeout(self.BOUND_S):
                return bytes(await reader.readuntil(b"\r\n"))
        began = time.monotonic()
        answer = self.do(talk())
        assert time.monotonic() - began < self.BOUND_S
        assert b"CN=9014" in answer and b"QN=202611231100%05d" % self.n in answer
        assert ("p.a21026", float(self.n)) in self.disk.rows

    @invariant()
    def stays_bounded(self) -> None:
        """Nothing grows with what strangers send."""
        server = self.server
        assert len(server.door.open) <= 1 + self.opened
        assert len(server.strangers.by_mn) <= 1000 and self.disk.letters <= 1200
        assert len(server.counters.rejected) <= 20, server.counters.rejected
        assert len(server.counters.notices) <= 10
        for logger in server.loggers.values():
            assert len(logger.health.errors) <= 10 and len(logger.crc_seen) <= 4

    def teardown(self) -> None:
        async def end() -> None:
            self.good[1].transport.abort()
            await asyncio.sleep(0.02)  # connections that were just accepted begin
            await self.server.close()
            await asyncio.sleep(0.01)
        self.hangs_up()
        self.do(end())
        self.loop.close()


TestTwoLoggers = TwoLoggers.TestCase
TestTwoLoggers.settings = settings(max_examples=25, stateful_step_count=25,
                                   suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@pytest.mark.parametrize("noise", [b"##9999", b"##9000" + b"&&" * 20, b"##0020QN=", bytes(range(256)), b"####"])
def test_the_answer_comes_in_time_while_many_connections_send_as_much_noise_as_they_can(noise: bytes) -> None:
    async def run() -> None:
        server = Hj212Server(loggers_of([_device()])[0], Disk(), "b", clock_ms=lambda: NOW)  # type: ignore[arg-type]
        port = await server.start("127.0.0.1", 0)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        chunk = (noise * (20_000 // len(noise) + 1))[:20_000]

        async def shout() -> None:
            try:
                _, mine = await asyncio.open_connection("127.0.0.1", port)
                while True:
                    mine.write(chunk)
                    await mine.drain()
                    await asyncio.sleep(0)
            except OSError:
                pass
            finally:
                mine.transport.abort()
        shouting = [asyncio.create_task(shout()) for _ in range(40)]
        try:
            for n in range(15):
                await asyncio.sleep(0.05)
                writer.write(build_frame(_segment("2011", f"DataTime=20261123110000;a21026-Rtd={n}", qn=str(n))))
                async with asyncio.timeout(3):
                    assert b"CN=9014" in await reader.readuntil(b"\r\n")
            assert server.counters.garbage_bytes + sum(v.noise for v in server.door.open) > 100_000, "they were heard"
        finally:
            for task in shouting:
                task.cancel()
            await asyncio.gather(*shouting, return_exceptions=True)
            writer.transport.abort()
            await server.close()
            await asyncio.sleep(0.02)
    asyncio.run(run())


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(GARBAGE, max_size=8))
def test_no_bytes_of_a_superior_platform_end_an_uplink(tmp_path_factory: pytest.TempPathFactory, parts: list[bytes]) -> None:
    async def run() -> None:
        heard: list[bytes] = []

        async def platform(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            """Garbage first, then a proper answer to every frame."""
            writer.write(b"".join(parts) + b"\r\n")
            frames = FrameReader()
            try:
                while data := await reader.read(4096):
                    for frame in frames.feed(data):
                        message = parse_message(frame.data)
                        heard.append(frame.data)
                        if message.cn == "2011":  # twice: garbage may have promised bytes that a first one fills
                            writer.write(b"\r\n" * 5100 + 2 * build_frame(_segment("9014", "", mn=message.mn, qn=message.qn)))
            except OSError:
                pass
            finally:
                writer.transport.abort()
        server = await asyncio.start_server(platform, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        device = _device(attributes={"uplink": {"to": f"127.0.0.1:{port}", "mn": "UP", "password": "p"}})
        uplinks = Uplinks(tmp_path_factory.mktemp("up"), "s", over_time_s=0.3, back_off_s=(0.01, 0.02))
        await uplinks.apply(loggers_of([device])[0])
        await uplinks.store([parse_message(_segment("2011", "DataTime=20261123110000;a21026-Rtd=1"))])
        ((uplink, task),) = uplinks.by_target.values()
        async with asyncio.timeout(10):
            while uplink.spool.size().batches:
                await asyncio.sleep(0.005)
        assert not task.done() and heard
        await uplinks.close()
        server.close()
        await asyncio.sleep(0.02)
    asyncio.run(run())


def test_a_message_has_no_more_parts_than_its_frame() -> None:
    """The largest frame there can be: its groups, its keys, and the time they take."""
    area = "DataTime=20261123110000;" + ";".join(f"a{k % 10}-R=1" for k in range(1000))
    began = time.process_time()
    message = parse_message(_segment("2011", area[:9900]))
    to_readings(message, station_of(_device()), NOW)
    assert isinstance(message, Message) and time.process_time() - began < 0.5
