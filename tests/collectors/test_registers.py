"""Decoding: types, orders, scales, patterns without value; compared with struct, one value at a time."""

from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.planner import plan_reads
from collectors.registers import Decoder
from collectors.template import Defaults, Limits, Parameter, Template, TemplatePoint
from park.quality import Quality, word_of

FORMATS = {"u16": "H", "i16": "h", "u32": "I", "i32": "i", "u64": "Q", "i64": "q", "f32": "f", "f64": "d"}


def _decode(raw: bytes, **fields: Any) -> tuple[float | None, str]:
    """Value and quality of one point over `raw` as sent."""
    parameters = fields.pop("parameters", {})
    point = TemplatePoint.model_validate({"key": "p", "quantity": "active_power", "address": 7, "unit": "kW"} | fields)
    template = Template(template="test.one", version=1, vendor="t", models=["m"], kind="meter", source=["test"],
                        parameters={k: Parameter(default=1) for k in parameters}, limits=Limits(), points=[point])
    values = Decoder(template, [point], plan_reads(template, [point]), parameters).decode([raw])
    value = float(values.value[0])
    return None if math.isnan(value) else value, word_of(int(values.quality[0]))


def _sent(type_: str, value: float, word_order: str, byte_order: str) -> bytes:
    raw = struct.pack(">" + FORMATS[type_], value)
    words = [raw[i:i + 2] for i in range(0, len(raw), 2)]
    if byte_order == "little":
        words = [w[::-1] for w in words]
    return b"".join(reversed(words) if word_order == "little" else words)


@pytest.mark.parametrize("word_order", ["big", "little"])
@pytest.mark.parametrize("byte_order", ["big", "little"])
@pytest.mark.parametrize(("type_", "value"), [
    ("u16", 0xFEDC), ("i16", -1234), ("u32", 4_000_000_001), ("i32", -2_000_000_001), ("u64", 9_007_199_254_740_991),
    ("i64", -9_007_199_254_740_991), ("f32", 230.125), ("f64", -1234567.891)])
def test_every_type_in_every_order_reads_as_it_was_packed(type_: str, value: float, word_order: str, byte_order: str) -> None:
    raw = _sent(type_, value, word_order, byte_order)
    assert _decode(raw, type=type_, word_order=word_order, byte_order=byte_order) == (value, "good")


@given(st.sampled_from(["u16", "i16", "u32", "i32"]), st.data())
def test_integers_of_any_size_read_as_they_were_packed(type_: str, data: st.DataObject) -> None:
    bits = int(type_[1:])
    low, high = (0, 2**bits - 1) if type_[0] == "u" else (-2 ** (bits - 1), 2 ** (bits - 1) - 1)
    value = data.draw(st.integers(low, high))
    assert _decode(struct.pack(">" + FORMATS[type_], value), type=type_) == (value, "good")


@given(st.floats(width=32))
def test_a_float_is_its_value_or_no_value_and_never_a_made_up_zero(value: float) -> None:
    got, quality = _decode(struct.pack(">f", value), type="f32")
    if math.isfinite(value):
        assert (got, quality) == (value, "good")
    else:
        assert (got, quality) == (None, "bad")


def test_bcd_reads_decimal_digits_and_refuses_hex_ones() -> None:
    assert _decode(bytes.fromhex("122856864222"), type="bcd48", scale=0.0001) == (pytest.approx(12285686.4222), "good")
    assert _decode(bytes.fromhex("12285686422A"), type="bcd48") == (None, "bad")


@pytest.mark.parametrize(("type_", "sent", "order", "value"), [
    ("bcd16", "9876", {}, 9876.0), ("bcd16", "7698", {"byte_order": "little"}, 9876.0),
    ("bcd32", "12345678", {}, 12345678.0), ("bcd32", "56781234", {"word_order": "little"}, 12345678.0),
    ("bcd48", "901256781234", {"word_order": "little"}, 123456789012.0),
    ("bcd64", "0123456789012345", {}, 123456789012345.0),
    ("bcd64", "4523018967452301", {"word_order": "little", "byte_order": "little"}, 123456789012345.0)])
def test_decimals_of_every_width_and_order(type_: str, sent: str, order: dict[str, str], value: float) -> None:
    assert _decode(bytes.fromhex(sent), type=type_, **order) == (value, "good")
    all_f = "f" * len(sent)
    assert _decode(bytes.fromhex(all_f), type=type_, **order) == (None, "bad")
    assert _decode(bytes.fromhex(all_f), type=type_, not_available=[int(all_f, 16)], **order) == (None, "missing")


def test_a_float_is_scaled_too_and_bits_are_cut_out_of_every_width() -> None:
    assert _decode(struct.pack(">f", 1234.5), type="f32", scale=0.001, unit="MW")[0] == pytest.approx(1.2345)
    assert _decode(struct.pack(">Q", 5 << 40), type="u64", bits=[40, 43], quantity="state", unit="state") == (5.0, "good")
    assert _decode(struct.pack("<I", 3 << 30), type="u32", bits=[30, 31], quantity="state", unit="state", word_order="little",
                   byte_order="little") == (3.0, "good")


def test_a_decimal_scale_gives_the_decimal_number_and_not_its_neighbour() -> None:
    assert _decode(b"\x08\xfd", type="u16", scale=0.1)[0] == 230.1
    assert _decode(b"\x08\xfd", type="u16", scale=0.003)[0] == pytest.approx(6.903)


def test_parameters_multiply_and_offset_adds() -> None:
    raw = struct.pack(">H", 100)
    assert _decode(raw, type="u16", scale=0.01, multiply_by=["pt", "ct"],
                   parameters={"pt": 10.0, "ct": 40.0}) == (400.0, "good")
    assert _decode(raw, type="u16", scale=0.1, offset=-50.0, quantity="temperature", unit="degC")[0] == -40.0


@pytest.mark.parametrize(("raw", "type_", "pattern"), [
    ("ffff", "u16", 0xFFFF), ("7fff", "i16", 0x7FFF), ("7fffffff", "i32", 0x7FFFFFFF), ("ffffffffffffffff", "u64", 2**64 - 1),
    ("80000000", "i32", 0x80000000), ("7fc00000", "f32", "nan"), ("ffc00000", "f32", 0xFFC00000)])
def test_a_pattern_that_means_no_value_is_missing_and_not_a_number(raw: str, type_: str, pattern: object) -> None:
    assert _decode(bytes.fromhex(raw), type=type_, not_available=[pattern]) == (None, "missing")


def test_a_value_outside_its_plausible_range_is_kept_and_doubted() -> None:
    assert _decode(struct.pack(">f", 731.0), type="f32", quantity="voltage", unit="V", valid=[0, 500]) == (731.0, "uncertain")


def test_a_number_that_scaling_makes_infinite_is_no_value() -> None:
    assert _decode(struct.pack(">d", 1e308), type="f64", scale=1000.0) == (None, "bad")


def test_bits_are_cut_out_of_a_register() -> None:
    assert _decode(b"\x05\x2c", type="u16", bits=[8, 11], quantity="state", unit="state") == (5.0, "good")


def test_a_failed_read_makes_only_its_points_absent() -> None:
    points = [TemplatePoint(key=f"p{i}", quantity="active_power", address=a, type="u16", unit="kW")
              for i, a in enumerate((0, 100))]
    template = Template(template="test.two", version=1, vendor="t", models=["m"], kind="meter", source=["test"],
                        defaults=Defaults(), points=points)
    decoder = Decoder(template, points, plan_reads(template, points), {})
    values = decoder.decode([None, b"\x00\x2a"])
    assert values.present.tolist() == [False, True]
    assert values.value[1] == 42
    short = decoder.decode([b"\x00", b"\x00\x2a"])
    assert short.present.tolist() == [False, True]
    assert np.all(short.quality <= Quality.BAD)
