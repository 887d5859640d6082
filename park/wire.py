"""The MQTT message: topic `park/v1/{base}/{source}/readings`, JSON or MessagePack, rows or columns.

Decoding yields columns, because everything downstream works on batches. `seq` with `source` names a batch for ever:
a batch that is sent again has the same pair and is stored once.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import msgspec

from park.errors import ReadingError

TOPIC = re.compile(r"^park/v1/(?P<base>[A-Za-z0-9_-]{1,64})/(?P<source>[A-Za-z0-9_.:-]{1,128})/readings$")
MAX_PAYLOAD_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True)
class Batch:
    """Readings of one source in columns of equal length.

    `at` holds epoch milliseconds (int) or ISO 8601 texts as they came; `value` float, int, bool or None;
    `quality` words or None for all good. Nothing here is validated against the catalogue: ingest does that.
    Decoded columns of points that read alike are one and the same tuple, so that they can be looked up as a whole.
    """

    seq: int
    point: Sequence[str]
    at: Sequence[int | float | str]
    value: Sequence[float | None]
    quality: Sequence[str] | None


class _Reading(msgspec.Struct, gc=False):
    point: str
    at: int | float | str
    value: float | bool | None = None
    quality: str = "good"


class _Message(msgspec.Struct, gc=False):
    seq: int
    readings: list[_Reading] | None = None
    point: msgspec.Raw = msgspec.Raw()
    at: list[int | float | str] | None = None
    value: list[float | bool | None] | None = None
    quality: list[str] | None = None


_json = msgspec.json.Decoder(_Message)
_pack = msgspec.msgpack.Decoder(_Message)
_json_names = msgspec.json.Decoder(list[str])
_pack_names = msgspec.msgpack.Decoder(list[str])
MALFORMED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)  # the last one: brackets nested without end
_OPENINGS = (b"{", b" ", b"\n", b"\r", b"\t")
BOM = b"\xef\xbb\xbf"  # of UTF-8, which .NET and Windows tools put before their JSON; no MessagePack map opens with it
# json.dumps of Python and several devices write bare NaN and Infinity, which JSON does not have
_BARE = re.compile(rb"(?<=[\[:,\s])(-?Infinity|-?NaN|-?nan|-?inf)(?=\s*[,\]}])")


def topic_of(base: str, source: str) -> str:
    """The topic on which a source of a base publishes its readings."""
    return f"park/v1/{base}/{source}/readings"


def split_topic(topic: str) -> tuple[str, str]:
    """(base, source) of a readings topic; ReadingError `bad_topic` otherwise."""
    match = TOPIC.match(topic)
    if match is None:
        raise ReadingError("bad_topic", f"expected park/v1/BASE/SOURCE/readings, got {topic!r}")
    return match["base"], match["source"]


def encode_batch(batch: Batch) -> bytes:
    """The columnar JSON form of a batch."""
    body: dict[str, Any] = {"seq": batch.seq, "point": batch.point, "at": batch.at, "value": batch.value}
    if batch.quality is not None:
        body["quality"] = batch.quality
    return msgspec.json.encode(body)


def decode_batch(payload: bytes) -> Batch:
    """A batch from JSON or MessagePack, rows or columns; ReadingError with the dead letter's reason otherwise.

    Bare NaN and Infinity in JSON become null: the reading is kept, with no value. A byte order mark is passed over.
    """
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise ReadingError("too_large", f"expected at most {MAX_PAYLOAD_BYTES} bytes, got {len(payload)}")
    payload = payload.removeprefix(BOM)
    is_json = payload[:1] in _OPENINGS
    message = _decode(payload, is_json)
    if message.readings is not None:
        rows = message.readings
        return Batch(message.seq, [r.point for r in rows], [r.at for r in rows], [r.value for r in rows],
                     [r.quality for r in rows])
    at, value, quality = message.at, message.value, message.quality
    if not message.point or at is None or value is None:
        raise ReadingError("bad_message", "expected `readings`, or the columns `point`, `at` and `value`")
    point = _names(bytes(message.point), is_json)
    lengths = {len(point), len(at), len(value), len(quality) if quality is not None else len(point)}
    if len(lengths) != 1:
        raise ReadingError("bad_message", f"expected columns of one length, got {sorted(lengths)}")
    return Batch(message.seq, point, at, value, quality)


@lru_cache(maxsize=4096)
def _names(raw: bytes, is_json: bool) -> tuple[str, ...]:
    """A column of points: a source sends the same few ones over and over, so they are decoded once."""
    try:
        return tuple((_json_names if is_json else _pack_names).decode(raw))
    except MALFORMED as exc:
        raise ReadingError("bad_message", f"not a batch of readings: {exc} - at `$.point`") from exc


def loose_rows(payload: bytes) -> tuple[Any, list[Any]]:
    """`seq` and the readings, as rows, of a message that decode_batch refuses: each is then tried by itself.

    ReadingError where nothing in it can be told apart, such as columns of unequal length.
    """
    payload = payload.removeprefix(BOM)
    is_json = payload[:1] in _OPENINGS
    try:
        message = msgspec.json.decode(_BARE.sub(b"null", payload)) if is_json else msgspec.msgpack.decode(payload)
        if message.get("readings") is not None:
            return message["seq"], list(message["readings"])
        columns = [message[name] for name in ("point", "at", "value")]
        columns.append(message.get("quality") or ["good"] * len(columns[0]))
        if not all(isinstance(c, list) for c in columns):
            raise TypeError("a column is a list")
        rows = zip(*columns, strict=True)
        return message["seq"], [dict(zip(("point", "at", "value", "quality"), row, strict=True)) for row in rows]
    except (*MALFORMED, AttributeError, KeyError, TypeError, ValueError) as exc:
        raise ReadingError("bad_message", f"not a batch of readings: {exc}") from exc


def _decode(payload: bytes, is_json: bool) -> _Message:
    try:
        return _json.decode(payload) if is_json else _pack.decode(payload)
    except MALFORMED as exc:
        if is_json and _BARE.search(payload):
            try:
                return _json.decode(_BARE.sub(b"null", payload))
            except MALFORMED as again:
                raise ReadingError("bad_message", f"not a batch of readings: {again}") from again
        raise ReadingError("bad_message", f"not a batch of readings: {exc}") from exc
