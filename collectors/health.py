"""Health of devices: state, last answer, latency, errors by kind; published about every ten seconds."""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from collectors.spool import SpoolSize

log = logging.getLogger(__name__)

DROPPED_SHOWN_S = 3600.0
OFFLINE_AFTER = 2
"""Failures in a row after which a polled device counts as offline."""
CLOCK_MESSAGES = 5


@dataclass
class DeviceClock:
    """How far a device's own clock is ahead, from the times in its messages. A message that was under way long looks like a
    slow clock and none like a fast one, so the largest offset of the last few is the nearest to the clock's."""

    offsets_ms: deque[int] = field(default_factory=lambda: deque(maxlen=CLOCK_MESSAGES))

    def note(self, offset_ms: int | None) -> None:
        """Keep the time in a message less the time at which it came; None tells nothing."""
        if offset_ms is not None:
            self.offsets_ms.append(offset_ms)

    @property
    def offset_ms(self) -> int | None:
        """Positive while the clock is ahead; None for a device that tells no time of its own."""
        return max(self.offsets_ms, default=None)


@dataclass
class DeviceHealth:
    """State of one device: `online` answers, `error` answers with errors only, `offline` is silent, `unknown` not yet tried."""

    base: str
    device: str
    silent_after_ms: int | None = None  # for devices that report by themselves: silence after which they are offline
    last_answer: int | None = None
    latency_ms: float | None = None
    errors: Counter[str] = field(default_factory=Counter)
    readings: int = 0
    failures_in_row: int = 0
    last_was_error: bool = False
    notes: dict[str, Any] = field(default_factory=dict)
    clock: DeviceClock = field(default_factory=DeviceClock)

    def answered(self, at_ms: int, latency_ms: float | None = None) -> None:
        """The device gave usable data."""
        self.last_answer = max(at_ms, self.last_answer or 0)
        self.latency_ms = latency_ms
        self.failures_in_row = 0
        self.last_was_error = False

    def failed(self, kind: str) -> None:
        """The device gave an error or nothing; `kind` is the word in `errors`."""
        self.errors[kind] += 1
        self.failures_in_row += 1
        self.last_was_error = kind not in ("timeout", "connect", "gateway")

    def state(self, now_ms: int) -> str:
        """online, offline, error or unknown."""
        patience = self.silent_after_ms
        if patience is not None and self.last_answer is not None and now_ms - self.last_answer > patience:
            return "offline"
        if self.failures_in_row >= OFFLINE_AFTER:
            return "error" if self.last_was_error else "offline"
        return "online" if self.last_answer is not None else "unknown"


@dataclass(frozen=True)
class ConnectionHealth:
    """A connection at this moment: `online` while it stands, `offline` when it could not be opened, `unknown` not yet tried.

    `latency_ms` is the mean of its devices' last polls; `errors` are its own (connecting), not those of its devices.
    """

    connection: str
    protocol: str
    state: str
    last_answer: int | None
    latency_ms: float | None
    errors: Mapping[str, int]
    devices: int
    requests: int = 0
    connects: int = 0
    bases: frozenset[str] = frozenset()

    def plain(self) -> dict[str, Any]:
        """As it stands in the health message."""
        return {"connection": self.connection, "protocol": self.protocol, "state": self.state, "last_answer": self.last_answer,
                "latency_ms": self.latency_ms, "errors": dict(self.errors), "devices": self.devices,
                "requests": self.requests, "connects": self.connects}


@dataclass
class SpoolAlarm:
    """Word on a spool in trouble: `filling` from 80 % until below 70 %, `refusing` while the disk takes nothing, `dropping` for
    an hour after something was given up."""

    word: str = ""

    def judge(self, size: SpoolSize, dropped_at: float | None, now: float, *, refused: bool = False) -> str:
        """The present word, empty when all is well; a change is logged once."""
        limit = 0.7 if self.word else 0.8
        dropping = dropped_at is not None and now - dropped_at < DROPPED_SHOWN_S
        word = "dropping" if dropping else "refusing" if refused else "filling" if size.share >= limit else ""
        if word and word != self.word:
            log.error("spool alarm %s: %.0f %% full, %d batches wait, %d readings were dropped so far", word,
                      100 * size.share, size.batches, size.dropped_readings)
        self.word = word
        return word


def health_topic(base: str, source: str) -> str:
    """Topic on which a collector tells the health of a base's devices."""
    return f"park/v1/{base}/{source}/health"


def health_message(devices: Iterable[DeviceHealth], spool: SpoolSize, now_ms: int, *, flow: Mapping[str, Any] | None = None,
                   connections: Sequence[ConnectionHealth] = (), mistakes: Sequence[str] = (),
                   strangers: Mapping[str, int] | None = None, port: Mapping[str, Any] | None = None) -> bytes:
    """JSON for ingest, which keeps `devices` in `device_state` and `spool` with `flow`; `strangers` are data loggers that the
    catalogue lacks, `port` what the HJ 212 port says of itself."""
    more: dict[str, Any] = {"mistakes": list(mistakes)[:50]} if mistakes else {}
    if port:
        more["hj212"] = port
    if strangers:
        more["strangers"] = dict(list(strangers.items())[-50:])
    return msgspec.json.encode(more | {
        "at": now_ms,
        "devices": [{"device": d.device, "state": d.state(now_ms), "last_answer": d.last_answer, "latency_ms": d.latency_ms,
                     "errors": dict(d.errors), "readings": d.readings, **({"notes": d.notes} if d.notes else {}),
                     **({} if d.clock.offset_ms is None else {"clock_offset_ms": d.clock.offset_ms})}
                    for d in devices],
        "connections": [c.plain() for c in connections],
        "spool": {"batches": spool.batches, "bytes": spool.bytes, "dropped_batches": spool.dropped_batches,
                  "dropped_readings": spool.dropped_readings, "max_bytes": spool.max_bytes, **(flow or {})},
    })
