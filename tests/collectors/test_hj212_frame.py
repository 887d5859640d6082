"""HJ 212 framing and grammar: the standard's CRC, sticky and truncated frames, resynchronisation, hostile bytes."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collectors.hj212_frame import FrameReader, build_frame, crc_hj212, crc_kinds, crc_modbus, parse_message
from park.errors import FrameError, ParkError

# frames with a known CRC: the data text and its four digits
STANDARD = (
    ("QN=20160801085857223;ST=32;CN=1062;PW=100000;MN=010000A8900016F000169DC0;Flag=5;CP=&&RtdInterval=30&&", 101, 0x1C80),
    ("QN=20240601085857223;ST=32;CN=1011;PW=123456;MN=010000A8900016F000169DC0;Flag=9;CP=&&&&", 87, 0x2200),
)
DATA = "QN=20261123110000000;ST=31;CN=2011;PW=1;MN=M1;Flag=5;CP=&&DataTime=20261123110000;a21026-Rtd=1.5,a21026-Flag=N&&"


@pytest.mark.parametrize(("text", "length", "crc"), STANDARD)
def test_the_crc_of_the_standard_and_not_that_of_modbus(text: str, length: int, crc: int) -> None:
    assert len(text) == length
    assert crc_hj212(text.encode()) == crc != crc_modbus(text.encode())
    assert crc_kinds(text.encode(), b"%04X" % crc) == ("hj212",)


def test_the_crc_of_modbus_is_that_of_its_textbook() -> None:
    assert crc_modbus(b"123456789") == 0x4B37


@given(st.binary(max_size=300))
def test_the_crc_by_table_is_that_by_shifts(data: bytes) -> None:
    assert "hj212" in crc_kinds(data, b"%04x" % crc_hj212(data))


@pytest.mark.parametrize("kind", ["hj212", "modbus", "modbus_swapped"])
def test_the_kind_of_crc_that_a_sender_uses_is_told(kind: str) -> None:
    (frame,) = FrameReader().feed(build_frame(DATA, kind))
    assert frame.fits(kind) and kind in crc_kinds(frame.data, frame.crc_text)


@given(st.lists(st.sampled_from([b"", b"\r\n", b"\n", b"\r\n\r\n"]), min_size=1, max_size=8), st.integers(1, 400))
def test_frames_are_cut_by_length_however_they_arrive(ends: list[bytes], step: int) -> None:
    stream = b"".join(build_frame(DATA).rstrip() + end for end in ends)
    reader, frames = FrameReader(), []
    for i in range(0, len(stream), step):
        frames += reader.feed(stream[i:i + step])
    assert [f.data.decode() for f in frames] == [DATA] * len(ends)
    assert reader.garbage_bytes == 0


@pytest.mark.parametrize("cut", [3, 8, 40, 110])
def test_a_truncated_frame_costs_only_itself(cut: int) -> None:
    whole = build_frame(DATA)
    reader = FrameReader()
    frames = reader.feed(whole[:cut] + whole + whole)
    assert [f.data.decode() for f in frames if f.crc] == [DATA, DATA]
    assert reader.garbage_bytes >= cut


def test_a_frame_that_promises_more_than_it_has_does_not_hold_up_the_next() -> None:
    reader = FrameReader()
    (frame,) = reader.feed(b"##9999QN=1;ST=31" + build_frame(DATA))
    assert frame.data.decode() == DATA


def test_a_wrong_crc_is_told_and_the_next_frame_is_read() -> None:
    bad = bytearray(build_frame(DATA))
    bad[30] ^= 1
    first, second = FrameReader().feed(bytes(bad) + build_frame(DATA))
    assert first.crc is None and second.crc == "hj212"


@settings(max_examples=300)
@given(st.lists(st.one_of(
    st.binary(max_size=120), st.just(b"##"), st.just(b"#"), st.just(b"##0100"), st.just(b"##9999"), st.just(b"##00"),
    st.builds(lambda n: b"##%04d" % n, st.integers(0, 9999)),
    st.builds(build_frame, st.text(alphabet="QNSTCPMWFlag=;&,-0123456789", max_size=80)),
    st.just(build_frame(DATA)), st.builds(lambda k: build_frame(DATA)[:k], st.integers(0, 120))), max_size=25))
def test_no_bytes_crash_the_reader_and_a_good_frame_behind_them_is_found(parts: list[bytes]) -> None:
    reader = FrameReader()
    for part in parts:
        for frame in reader.feed(part):
            try:
                parse_message(frame.data)
            except FrameError as exc:
                assert exc.reason
        assert reader.waiting <= 2 * 10_100
    found = [f for _ in range(2) for f in reader.feed(b"\r\n" + build_frame(DATA))]
    assert any(f.data.decode(errors="replace") == DATA and f.crc for f in found)


def test_hostile_bytes_cost_bounded_work() -> None:
    reader = FrameReader()
    begin = time.process_time()
    for _ in range(20):
        reader.feed(b"##5000" * 2000)
    assert time.process_time() - begin < 5.0
    assert reader.waiting <= 2 * 10_100
    assert reader.feed(b"\r\n" * 5010 + build_frame(DATA) + build_frame(DATA))[-1].crc


def test_a_message_is_parsed_into_its_fields() -> None:
    message = parse_message(
        b"QN=20261123110000123;ST=31;CN=2051;PW=123456;MN=M1;Flag=7;PNUM=2;PNO=1;CP=&&DataTime=20261123110000;"
        b"a21026-Min=1,a21026-Avg=2.5,a21026-Max=4,a21026-Flag=N;w01018-Cou=10&&")
    assert (message.qn, message.cn, message.mn, message.flag, message.pnum, message.pno) == (
        "20261123110000123", "2051", "M1", 7, 2, 1)
    assert message.wants_answer and message.edition == "2017"
    assert message.groups[1] == {"a21026-Min": "1", "a21026-Avg": "2.5", "a21026-Max": "4", "a21026-Flag": "N"}
    assert message.field("DataTime") == "20261123110000"


@pytest.mark.parametrize("data", [b"", b"QN=1;ST=2", b"CP=&&&&", b"MN=1;CP=&&&&", b"\xff\xfe" * 30, b"CN=2011;CP=&&x=1&&"])
def test_data_that_is_no_message_is_a_frame_error_with_its_reason(data: bytes) -> None:
    with pytest.raises(FrameError) as caught:
        parse_message(data)
    assert caught.value.reason == "grammar"
    assert isinstance(caught.value, ParkError)


def test_a_frame_that_does_not_fit_is_refused_when_it_is_built() -> None:
    with pytest.raises(FrameError, match="at most 9999 bytes"):
        build_frame("x" * 10_000)
