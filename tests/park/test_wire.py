"""The MQTT message: rows or columns, JSON or MessagePack, and what is none of them."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from park.errors import ReadingError
from park.wire import MAX_PAYLOAD_BYTES, Batch, decode_batch, encode_batch, split_topic, topic_of

ROWS = {"seq": 17, "readings": [
    {"point": "e1.m1.kwh", "at": "2026-11-23T03:00:00Z", "value": 12.5, "quality": "good"},
    {"point": "e1.m1.kw", "at": 1763866800000, "value": None, "quality": "missing"}]}


def test_rows_become_columns() -> None:
    batch = decode_batch(json.dumps(ROWS).encode())
    assert (batch.seq, list(batch.point), list(batch.value)) == (17, ["e1.m1.kwh", "e1.m1.kw"], [12.5, None])
    assert list(batch.quality or []) == ["good", "missing"]


def test_messagepack_says_the_same_as_json() -> None:
    assert decode_batch(msgspec.msgpack.encode(ROWS)) == decode_batch(json.dumps(ROWS).encode())


def test_columns_survive_the_way_there_and_back() -> None:
    batch = Batch(3, ("a", "b"), [1, 2], [1.5, None], ["good", "fault"])
    assert decode_batch(encode_batch(batch)) == batch


def test_columns_of_the_same_points_are_one_tuple_and_others_are_their_own() -> None:
    first, second, other = (decode_batch(encode_batch(Batch(k, names, [k, k], [1.0, 2.0], None)))
                            for k, names in enumerate((["a", "b"], ["a", "b"], ["b", "a"])))
    packed = decode_batch(msgspec.msgpack.encode({"seq": 9, "point": ["a", "b"], "at": [1, 1], "value": [1, 2]}))
    assert first.point is second.point and first.at != second.at
    assert (list(packed.point), list(other.point)) == (["a", "b"], ["b", "a"])


def test_a_byte_order_mark_before_json_is_passed_over() -> None:
    assert decode_batch(b"\xef\xbb\xbf" + json.dumps(ROWS).encode()) == decode_batch(json.dumps(ROWS).encode())


def test_true_and_false_are_values_of_a_state() -> None:
    for payload in (b'{"seq": 1, "readings": [{"point": "p", "at": 0, "value": true}, {"point":"p","at":1,"value": false}]}',
                    b'{"seq": 1, "point": ["p", "p"], "at": [0, 1], "value": [true, false]}'):
        assert [float(v) for v in decode_batch(payload).value if v is not None] == [1.0, 0.0]


def test_bare_nan_becomes_a_missing_value_and_its_neighbours_stay() -> None:
    batch = decode_batch(b'{"seq": 1, "point": ["a", "b", "c"], "at": [1, 2, 3], "value": [NaN, 2.5, -Infinity]}')
    assert list(batch.value) == [None, 2.5, None]


@pytest.mark.parametrize(("payload", "reason"), [
    (b"", "bad_message"), (b"hello", "bad_message"), (b"{", "bad_message"), (b"[]", "bad_message"),
    (b'{"seq": 1}', "bad_message"), (b'{"readings": []}', "bad_message"),
    (b'{"seq": 1, "point": ["a"], "at": [1, 2], "value": [1]}', "bad_message"),
    (b'{"seq": "x", "readings": []}', "bad_message"),
    (b'{"seq": 1, "readings": [{"point": 5, "at": 1}]}', "bad_message"),
    (b'{"seq": 1, "point": [5], "at": [1], "value": [1]}', "bad_message"),
    (b'{"seq": 1, "point": null, "at": [1], "value": [1]}', "bad_message"),
    (b'{"seq": 1, "point": ["\xff"], "at": [1], "value": [1]}', "bad_message"),
    (b'{"seq": 1, "point": ' + b"[" * 100_000, "bad_message"),
    (b'{"seq": 1, "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "bad_message"),
    (b"\xff\xfe\x00", "bad_message"),
    (b" " * (MAX_PAYLOAD_BYTES + 1), "too_large"),
])
def test_what_is_no_batch_says_so(payload: bytes, reason: str) -> None:
    with pytest.raises(ReadingError) as caught:
        decode_batch(payload)
    assert caught.value.reason == reason


@given(st.binary(max_size=400))
def test_no_bytes_break_the_decoder(payload: bytes) -> None:
    try:
        batch = decode_batch(payload)
    except ReadingError:
        return
    assert len(batch.point) == len(batch.at) == len(batch.value)


def test_topics_name_base_and_source() -> None:
    assert split_topic(topic_of("lvyuan", "edge-1")) == ("lvyuan", "edge-1")
    for topic in ("park/v1/a/readings", "park/v2/a/b/readings", "park/v1/a b/c/readings", "park/v1/a/b/health"):
        with pytest.raises(ReadingError):
            split_topic(topic)
