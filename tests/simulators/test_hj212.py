"""The HJ 212 loggers, against a small receiver of our own that parses frames by length and checks their CRC."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import numpy as np
import pytest

from park.catalogue import Catalogue
from park.quality import Quality
from simulators import hj212_logger
from simulators.field import Field
from simulators.hj212_logger import (
    Logger,
    crc,
    fields_of,
    frame,
    loggers,
    make_due,
    period_cp,
    realtime_cp,
    run_logger,
    segment,
)
from simulators.model import Park
from simulators.scenario import Faults, Scenario, Scripted

NOW = datetime(2026, 11, 23, 8, 0, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(("text", "expected"), [
    ("QN=20160801085857223;ST=32;CN=1062;PW=100000;MN=010000A8900016F000169DC0;Flag=5;CP=&&RtdInterval=30&&", "1C80"),
    ("QN=20240601085857223;ST=32;CN=1011;PW=123456;MN=010000A8900016F000169DC0;Flag=9;CP=&&&&", "2200"),
])
def test_the_crc_is_that_of_hj212_and_not_of_modbus(text: str, expected: str) -> None:
    assert crc(text.encode()) == expected
    assert frame(text) == b"##%04d" % len(text) + text.encode() + expected.encode() + b"\r\n"


def logger_of(field: Field, code: str) -> Logger:
    return next(x for x in loggers(field) if x.device.code == code)


def parsed(text: str) -> dict[str, str]:
    """Fields of the CP of a segment."""
    return dict(part.split("=", 1) for group in fields_of(text)["CP"].split(";") for part in group.split(","))


def test_a_minute_brings_real_time_and_minute_data_and_an_hour_brings_hour_data(calm: Park) -> None:
    field = Field(calm)
    field.refresh(NOW)
    logger = logger_of(field, "d.e1.cems")
    for due in (NOW - 30, NOW):
        make_due(logger, field, int(due), due)
    messages = [fields_of(text) for _, text in logger.waiting]
    assert [m["CN"] for m in messages] == ["2011", "2011", "2051", "2061"]
    assert {(m["ST"], m["PW"], m["MN"], m["Flag"]) for m in messages} == {("31", "123456", "320211E1CEMS0001A16F0001", "5")}
    assert len({m["QN"] for m in messages}) == 4 and all(re.fullmatch(r"\d{17}", m["QN"]) for m in messages)
    times = [parsed(text)["DataTime"] for _, text in logger.waiting]
    assert times == ["20261123155930", "20261123160000", "20261123155900", "20261123150000"]


def test_real_time_data_are_what_the_park_shows_with_oxygen_correction_and_flag(calm: Park) -> None:
    field = Field(calm)
    field.refresh(NOW)
    logger = logger_of(field, "d.e1.cems")
    make_due(logger, field, int(NOW) - 30, NOW - 30)
    cp = parsed(logger.waiting[0][1])
    value = calm.readings(np.array([NOW - 30]))[0][0]
    so2, o2 = value[calm.column_of["e1.stack.so2"]], value[calm.column_of["e1.stack.o2"]]
    assert float(cp["a21026-Rtd"]) == pytest.approx(so2, abs=0.001)
    assert float(cp["a21026-ZsRtd"]) == pytest.approx(so2 * 13 / (21 - o2), abs=0.002)
    assert cp["a21026-Flag"] == "N"
    assert {k.split("-")[0] for k in cp if "-" in k} == {"a21026", "a21002", "a34013", "a19001", "a00000",
                                                        "a01012", "a01014", "a01011",
                                                        "a01013"}


def test_a_minute_mean_lies_between_its_least_and_its_greatest(calm: Park) -> None:
    field = Field(calm)
    field.refresh(NOW)
    logger = logger_of(field, "d.e6.ww")
    make_due(logger, field, int(NOW) - 60, NOW - 60)
    cp = parsed(logger.waiting[1][1])
    assert float(cp["w01018-Min"]) < float(cp["w01018-Avg"]) < float(cp["w01018-Max"])


def test_a_period_in_calibration_is_flagged_and_a_missing_factor_is_left_out() -> None:
    keys = ["a21026", "a19001"]
    value = np.array([[30.0, 8.0]] * 60)
    quality = np.zeros((60, 2), dtype=np.int16)
    quality[10:40, 0] = Quality.CALIBRATION
    assert "a21026-Flag=C" in period_cp(NOW, keys, value, quality, 8.0)
    quality[:, 0] = -1
    assert period_cp(NOW, keys, value, quality, 8.0) == ("DataTime=20261123160000;a19001-Min=8.000,a19001-Avg=8.000,"
                                                         "a19001-Max=8.000,a19001-Flag=N")


@pytest.mark.parametrize(("quality", "flag"), [(Quality.STOPPED, "F"), (Quality.MAINTENANCE, "M"), (Quality.GOOD, "N")])
def test_flags_are_those_of_the_2017_edition(quality: Quality, flag: str) -> None:
    cp = realtime_cp(NOW, ["w01001"], np.array([7.1]), np.array([quality], dtype=np.int16), None)
    assert cp.endswith(f"w01001-Flag={flag}")


def test_a_logger_with_a_wrong_clock_stamps_what_is_true_now(catalogue: Catalogue, scenario: Scenario, calm: Park) -> None:
    fault = Scripted(kind="wrong_clock", target="d.e6.ww", at=datetime.fromtimestamp(NOW - 3600).astimezone(), minutes=120,
                     params={"offset_s": 1800})
    field = Field(Park(catalogue, scenario.model_copy(update={"faults": Faults(scripted=[fault])}), seed=1))
    field.refresh(NOW)
    logger = logger_of(field, "d.e6.ww")
    make_due(logger, field, int(NOW), NOW)
    cp = parsed(logger.waiting[0][1])
    assert cp["DataTime"] == "20261123163000"
    assert fields_of(logger.waiting[0][1])["QN"].startswith("20261123163000")
    true = calm.readings(np.array([NOW]))[0][0, calm.column_of["e6.outlet.cod"]]
    assert float(cp["w01018-Rtd"]) == pytest.approx(true, abs=0.001)


class Receiver:
    """A receiver that frames by length; `answers` says whether the n-th frame is confirmed."""

    def __init__(self, answers: Callable[[int], bool]) -> None:
        self.frames: list[str] = []
        self.replies: list[str] = []
        self._answers = answers

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readexactly(6)
                assert head[:2] == b"##"
                text = (await reader.readexactly(int(head[2:]))).decode()
                assert (await reader.readexactly(6)) == crc(text.encode()).encode() + b"\r\n"
                fields = fields_of(text)
                if fields["CN"] in ("9011", "9012"):
                    self.replies.append(fields["CN"])
                    continue
                self.frames.append(text)
                if self._answers(len(self.frames)):
                    writer.write(frame(f"QN={fields['QN']};ST=91;CN=9014;PW={fields['PW']};MN={fields['MN']};Flag=4;CP=&&&&"))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


def with_receiver(receiver: Receiver, logger: Logger, field: Field, done: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        server = await asyncio.start_server(receiver, "127.0.0.1", 0)
        task = asyncio.create_task(run_logger(logger, field, *server.sockets[0].getsockname()[:2]))
        await done()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        server.close()
        await server.wait_closed()
    asyncio.run(main())


def test_messages_are_confirmed_one_after_the_other_in_order(calm: Park) -> None:
    field = Field(calm)
    field.refresh(NOW)
    logger, receiver = logger_of(field, "d.e2.ww"), Receiver(lambda n: True)
    for due in (NOW - 60, NOW - 30, NOW):
        make_due(logger, field, int(due), due)
    sent = [text for _, text in logger.waiting]
    with_receiver(receiver, logger, field, lambda: until(lambda: not logger.waiting))
    assert receiver.frames == sent
    assert (logger.sent, logger.resent, logger.confirmed) == (6, 0, 6)


def test_an_unconfirmed_message_comes_again_word_for_word(calm: Park, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hj212_logger, "ANSWER_S", 0.1)
    field = Field(calm)
    field.refresh(NOW)
    logger, receiver = logger_of(field, "d.e2.ww"), Receiver(lambda n: n >= 3)
    make_due(logger, field, int(NOW) - 30, NOW - 30)
    with_receiver(receiver, logger, field, lambda: until(lambda: not logger.waiting))
    assert len(receiver.frames) == 3 and len(set(receiver.frames)) == 1
    assert (logger.resent, logger.confirmed) == (2, 1)


def test_after_three_tries_without_answer_the_link_is_opened_anew_and_nothing_is_lost(calm: Park,
                                                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hj212_logger, "ANSWER_S", 0.05)
    field = Field(calm)
    field.refresh(NOW)
    logger, receiver = logger_of(field, "d.e2.ww"), Receiver(lambda n: n > 3)
    for due in (NOW - 30, NOW):
        make_due(logger, field, int(due), due)
    queued = [qn for qn, _ in logger.waiting]
    with_receiver(receiver, logger, field, lambda: until(lambda: not logger.waiting))
    assert list(dict.fromkeys(fields_of(f)["QN"] for f in receiver.frames)) == queued


@pytest.mark.parametrize("farewell", [b"", b"##00x1garbage", b"##0100QN=1"])
def test_a_collector_that_hangs_up_is_called_again_and_gets_what_it_missed(calm: Park, farewell: bytes) -> None:
    field = Field(calm)
    field.refresh(NOW)
    logger, receiver = logger_of(field, "d.e2.ww"), Receiver(lambda n: True)
    for due in (NOW - 30, NOW):
        make_due(logger, field, int(due), due)
    queued, calls = [qn for qn, _ in logger.waiting], 0

    async def main() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal calls
            calls += 1
            if calls == 1:
                await reader.readexactly(6)
                writer.write(farewell)
                writer.close()
                return
            await receiver(reader, writer)
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        task = asyncio.create_task(run_logger(logger, field, *server.sockets[0].getsockname()[:2]))
        await until(lambda: not logger.waiting or task.done())
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        server.close()
        await server.wait_closed()
    asyncio.run(main())
    assert calls == 2
    assert [fields_of(f)["QN"] for f in receiver.frames] == queued


def test_a_command_of_the_platform_is_answered(calm: Park) -> None:
    field = Field(calm)
    field.refresh(NOW)
    logger = logger_of(field, "d.e2.ww")
    receiver = Receiver(lambda n: True)

    async def main() -> None:
        writers: list[asyncio.StreamWriter] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writers.append(writer)
            writer.write(frame(segment(logger.device, "1062", "20261123160000000", "RtdInterval=30")))
            await receiver(reader, writer)
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        task = asyncio.create_task(run_logger(logger, field, *server.sockets[0].getsockname()[:2]))
        await until(lambda: receiver.replies == ["9011", "9012"])
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        server.close()
        await server.wait_closed()
    asyncio.run(main())
