"""DL/T 645 and CJ/T 188: frames and data."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors import cjt188_frame
from collectors.dlt645_data import bcd, decode_item, moment_ms, run_meter_test
from collectors.dlt645_frame import LONGEST, Frame, find, meter_address, pack, split
from collectors.dlt645_template import MeterTemplate, load_all, load_meter, plan_items
from park.errors import InputError

ZONE = ZoneInfo("Asia/Shanghai")
METERS = [t for t in load_all() if isinstance(t, MeterTemplate)]


# ---- frames


def test_a_read_request_is_packed_as_the_standard_says() -> None:
    assert pack("000012345678", 0x11, bytes.fromhex("00000100")).hex(" ") == (
        "fe fe fe fe 68 78 56 34 12 00 00 68 11 04 33 33 34 33 c6 16")


def test_a_frame_comes_back_through_noise_preambles_and_pieces() -> None:
    wire = b"\x68\x00\xff\x16" + pack("000000000001", 0x91, b"\x01\x02")
    frames, rest = [], b""
    for byte in wire:
        some, rest = split(rest + bytes([byte]))
        frames += some
    assert frames == [Frame("000000000001", 0x91, b"\x01\x02")]
    assert rest == b""


@pytest.mark.parametrize("position", range(4, 18))
def test_a_frame_with_one_wrong_byte_is_no_frame(position: int) -> None:
    wire = bytearray(pack("000000000001", 0x91, b"\x01\x02"))
    wire[position] ^= 0x04
    assert split(bytes(wire))[0] == []


@given(st.binary(max_size=400))
def test_no_noise_breaks_the_splitter_or_grows_its_rest(noise: bytes) -> None:
    for find_at in (find, cjt188_frame.find):
        _, rest = split(noise, find_at)
        assert len(rest) <= LONGEST


@given(st.binary(max_size=30).filter(lambda b: 0x68 not in b), st.lists(st.binary(max_size=200), max_size=4))
def test_every_frame_is_found_behind_noise_without_a_start(noise: bytes, datas: list[bytes]) -> None:
    wire = noise + b"".join(pack("123456789012", 0x91, d) for d in datas)
    assert [f.data for f in split(wire)[0]] == datas
    wire = noise + b"".join(cjt188_frame.pack(0x10, "12345678901234", 0x81, d) for d in datas)
    assert [f.data for f in split(wire, cjt188_frame.find)[0]] == datas


def test_an_address_keeps_its_zeros_and_a_wrong_one_is_told() -> None:
    assert meter_address("123", 12) == meter_address(123, 12) == "000000000123"
    assert meter_address("AAAAAAAAAAAA", 12) == "AAAAAAAAAAAA"
    for wrong in ("", "12x", "1" * 13, None):
        with pytest.raises(InputError, match="up to 12 digits"):
            meter_address(wrong, 12)


# ---- data


@pytest.mark.parametrize("template", METERS, ids=lambda t: t.template)
def test_every_template_of_a_meter_reads_its_own_tests(template: Any) -> None:
    assert template.tests
    assert [line for test in template.tests for line in run_meter_test(template, test)] == []


def test_digits_signs_and_what_is_no_number() -> None:
    assert bcd(b"\x01\x23", 1, signed=False) == 230.1
    assert bcd(b"\x50\x12\x80", 3, signed=True) == -1.25
    assert bcd(b"\xff\xff", 1, signed=False) is None
    assert bcd(b"\x0a\x00", 1, signed=False) != bcd(b"\x0a\x00", 1, signed=False), "a hex digit is not a number"


def test_times_are_base_local_and_zeros_are_none() -> None:
    expected = round(datetime(2026, 11, 23, 10, 15, tzinfo=ZONE).timestamp() * 1000)
    assert moment_ms(bytes.fromhex("15 10 23 11 26"), ZONE) == expected
    assert moment_ms(bytes.fromhex("00 15 10 23 11 26 20"), ZONE) == expected
    assert moment_ms(bytes(5), ZONE) is None and moment_ms(b"\xff" * 5, ZONE) is None


@given(st.binary(max_size=60))
def test_no_data_breaks_the_decoder(data: bytes) -> None:
    for template in METERS:
        for item in template.items:
            values, _ = decode_item(template, item, data, dict.fromkeys(template.parameters, 1.0), ZONE)
            assert all(v.value is None or v.quality in ("good", "uncertain") for v in values.values())


def test_a_block_is_asked_for_once_and_a_refused_one_item_by_item() -> None:
    template = load_meter("dlt645.2007")
    keys = ["voltage_l1", "voltage_l2", "voltage_l3"]
    assert [i.di for i in plan_items(template, keys)] == ["0201FF00"]
    assert [i.di for i in plan_items(template, keys, ["0201FF00"])] == ["02010100", "02010200", "02010300"]
    assert [i.di for i in plan_items(template, ["active_energy_import_day"])] == ["05060001", "05060101"]
