"""Readings on their way from a device driver to the spool: columns, because every later stage works on batches."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from park.wire import Batch, encode_batch, topic_of


@dataclass
class Readings:
    """Columns of equal length for one base; `at` in epoch milliseconds, `quality` in the words of `park.quality`."""

    base: str
    point: list[str] = field(default_factory=list)
    at: list[int] = field(default_factory=list)
    value: list[float | None] = field(default_factory=list)
    quality: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.point)

    def add(self, point: str, at: int, value: float | None, quality: str) -> None:
        """Append one reading."""
        self.point.append(point)
        self.at.append(at)
        self.value.append(value)
        self.quality.append(quality)

    def extend(self, other: Readings) -> None:
        """Append the readings of `other`, which must be of the same base."""
        self.point += other.point
        self.at += other.at
        self.value += other.value
        self.quality += other.quality

    def chunks(self, rows: int) -> Iterator[Readings]:
        """Parts of at most `rows` readings in order."""
        for i in range(0, len(self), rows):
            s = slice(i, i + rows)
            yield Readings(self.base, self.point[s], self.at[s], self.value[s], self.quality[s])

    def topic(self, source: str) -> str:
        """Canonical topic of these readings."""
        return topic_of(self.base, source)

    def encode(self, seq: int) -> bytes:
        """Payload under the batch number `seq`; the quality column is left out when all readings are good."""
        all_good = all(q == "good" for q in self.quality)
        return encode_batch(Batch(seq, self.point, self.at, self.value, None if all_good else self.quality))


@dataclass(frozen=True)
class DeadLetter:
    """Bytes that could not become readings, with the reason; they go the same durable way as readings."""

    base: str
    reason: str
    detail: str
    payload: bytes

    def __len__(self) -> int:
        return 0

    def topic(self, source: str) -> str:
        """Dead-letter topic of the collector."""
        return f"park/v1/{self.base}/{source}/deadletter"

    def encode(self, seq: int) -> bytes:
        """JSON with the payload in base64."""
        return msgspec.json.encode({"seq": seq, "reason": self.reason, "detail": self.detail,
                                    "payload": base64.b64encode(self.payload).decode()})


class Intake(Protocol):
    """Where drivers put what they read; `collectors.intake` is the real one."""

    def add(self, item: Readings | DeadLetter) -> None:
        """Take readings that will be durable within the flush time."""

    async def store(self, items: Sequence[Readings | DeadLetter]) -> None:
        """Return when the items are durable; StorageError when they cannot be."""
