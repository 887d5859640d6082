"""Messages of the broker to what a transaction writes: readings, collectors' health, collectors' dead letters.

Nothing is refused in silence: what is not understood becomes a dead letter with its bytes. A message of readings in
which single readings are malformed keeps the others.
"""

from __future__ import annotations

import base64
import binascii
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec

from ingest.inbox import Received
from ingest.store import Batch
from ingest.validation import DeadLetter, Message
from park.clock import parse_instant
from park.errors import InputError, ReadingError
from park.wire import Batch as Columns
from park.wire import decode_batch, loose_rows, split_topic

log = logging.getLogger("ingest.decoding")
SUBSCRIPTIONS = ("park/v1/+/+/readings", "park/v1/+/+/health", "park/v1/+/+/deadletter")
_OTHER = re.compile(r"^park/v1/(?P<base>[^/]{1,64})/(?P<source>[^/]{1,128})/(?P<kind>health|deadletter)$")


class _Device(msgspec.Struct):
    device: str
    state: str = "unknown"
    last_answer: str | int | float | None = None
    latency_ms: float | None = None
    errors: Any = None
    clock_offset_ms: float | None = None


class _Health(msgspec.Struct):
    devices: list[_Device]
    spool: dict[str, Any] = {}
    at: str | int | float | None = None


class _Letter(msgspec.Struct):
    reason: str
    payload: str
    detail: str = ""
    seq: int | None = None


@dataclass
class Decoded:
    """What a run of messages holds, and how many readings that is."""

    batch: Batch = field(default_factory=Batch)
    n: int = 0

    def add(self, received: Received, bases: Mapping[str, int]) -> None:
        """Decode one message into the batch."""
        try:
            if received.topic.endswith("/readings"):
                self._add_readings(received, bases)
            else:
                self._add_other(received, bases)
        except ReadingError as exc:
            self._refuse(received, bases, exc.reason, str(exc))
        except Exception as exc:  # kept with its bytes: one message must not stop those behind it
            log.exception("unexpected in a message of %s", received.topic)
            self._refuse(received, bases, "refused", f"{type(exc).__name__}: {exc}")

    def _add_readings(self, received: Received, bases: Mapping[str, int]) -> None:
        base, source = split_topic(received.topic)
        try:
            columns = decode_batch(received.payload)
        except ReadingError as exc:
            if exc.reason != "bad_message":
                raise
            columns = self._salvage(received, bases.get(base), source, exc)
        if not -(2**63) <= columns.seq < 2**63:
            raise ReadingError("bad_message", f"expected a seq of 64 bits, got {columns.seq}")
        if base not in bases:
            self.batch.letters.append(DeadLetter(None, received.topic, source, columns.seq, "unknown_base", base,
                                                 received.payload, len(columns.point)))
            return
        self.batch.messages.append(Message(bases[base], source, received.topic, received.arrived_us, columns))
        self.n += len(columns.point)

    def _salvage(self, received: Received, base_id: int | None, source: str, cause: ReadingError) -> Columns:
        """The sound readings of a message that has malformed ones; those become a dead letter of their own."""
        try:
            seq, rows = loose_rows(received.payload)
        except ReadingError:
            raise cause from None
        if type(seq) is not int:
            raise cause
        sound, bad = [], []
        for row in rows:
            try:
                one = decode_batch(msgspec.json.encode({"seq": seq, "readings": [row]}))
                sound.append((one.point[0], one.at[0], one.value[0], one.quality[0] if one.quality else "good"))
            except ReadingError:
                bad.append(row)
        if not sound:
            raise cause
        if base_id is not None:
            self.batch.letters.append(DeadLetter(base_id, received.topic, source, seq, "bad_reading", str(cause)[:500],
                                                 msgspec.json.encode({"seq": seq, "readings": bad}), len(bad)))
        point, at, value, quality = zip(*sound, strict=True)
        return Columns(seq, point, at, value, quality)

    def _add_other(self, received: Received, bases: Mapping[str, int]) -> None:
        match = _OTHER.match(received.topic)
        if match is None:
            raise ReadingError("bad_topic", f"expected a topic of readings, health or deadletter, got {received.topic!r}")
        base_id = bases.get(match["base"])
        if base_id is None:
            raise ReadingError("unknown_base", match["base"])
        if match["kind"] == "health":
            self._add_health(received, base_id, match["source"])
        else:
            self._add_letter(received, base_id, match["source"])

    def _add_health(self, received: Received, base_id: int, source: str) -> None:
        arrived = datetime.fromtimestamp(received.arrived_us / 1e6, UTC)
        try:
            health = msgspec.json.decode(received.payload, type=_Health)
            at = _instant(health.at) or arrived
            self.batch.states.extend(
                {"base_id": base_id, "device": d.device, "state": d.state, "last_answer": _text(_instant(d.last_answer)),
                 "latency_ms": d.latency_ms, "errors": {} if d.errors is None else d.errors, "at": _text(at),
                 "clock_offset_s": None if d.clock_offset_ms is None else d.clock_offset_ms / 1000}
                for d in health.devices)
            self.batch.spools.append({"base_id": base_id, "source": source, "at": _text(at), "spool": health.spool})
        except (msgspec.DecodeError, InputError, OverflowError, OSError, ValueError) as exc:
            raise ReadingError("bad_health", f"not a collector's health: {exc}") from exc

    def _add_letter(self, received: Received, base_id: int, source: str) -> None:
        try:
            letter = msgspec.json.decode(received.payload, type=_Letter)
            payload = base64.b64decode(letter.payload, validate=True)
        except (msgspec.DecodeError, binascii.Error, ValueError) as exc:
            raise ReadingError("bad_deadletter", f"not a collector's dead letter: {exc}") from exc
        self.batch.letters.append(DeadLetter(base_id, received.topic, source, letter.seq, letter.reason[:100],
                                             letter.detail[:2000], payload, once=True))

    def _refuse(self, received: Received, bases: Mapping[str, int], reason: str, detail: str) -> None:
        parts = received.topic.split("/")
        base, source = (parts[2], parts[3]) if len(parts) > 3 else ("", "")
        self.batch.letters.append(DeadLetter(bases.get(base), received.topic, source, None, reason, detail[:500],
                                             received.payload))


def _instant(at: str | int | float | None) -> datetime | None:
    if at is None:
        return None
    return parse_instant(at) if isinstance(at, str) else datetime.fromtimestamp(at / 1000, UTC)


def _text(at: datetime | None) -> str | None:
    return at.isoformat() if at else None
