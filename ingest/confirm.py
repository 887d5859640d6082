"""After the commit: tells each source which of its batches are stored, so that its spool may forget them.

Topic `park/v1/{base}/{source}/committed`, JSON {"seq": [n, ...]}, QoS 1, at most one message a source and flush. A word
that is lost costs nothing: the source sends the batch again, the ledger knows it, and it is confirmed again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from threading import Lock

import msgspec

from ingest.inbox import Received

FLUSH_S = 0.1
MOST_WAITING = 100_000
"""Numbers kept while there is no connection to tell them on; beyond it they are left to be asked for again."""

_KINDS = ("readings", "deadletter")
_SEQ = re.compile(rb'^\s*\{\s*"seq"\s*:\s*(-?\d{1,19})\s*[,}]')


class _Numbered(msgspec.Struct):
    seq: int


_json = msgspec.json.Decoder(_Numbered)
_pack = msgspec.msgpack.Decoder(_Numbered)


def seq_of(payload: bytes) -> int | None:
    """The batch number of a payload, None when it has none; only looks at the head where the number stands there."""
    match = _SEQ.match(payload[:64])
    if match is not None:
        return int(match[1])
    try:
        return (_json if payload[:1] == b"{" else _pack).decode(payload).seq
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError):
        return None


class Confirmations:
    """Committed batch numbers by topic until the next flush. Filled by writers, flushed by the subscriber's thread."""

    def __init__(self) -> None:
        self._waiting: dict[str, list[int]] = {}
        self._n = 0
        self._lock = Lock()

    def add(self, messages: Sequence[Received]) -> None:
        """Note messages that are committed, also those that became dead letters of ingest: they are kept as well."""
        numbered = [(f"{head}/committed", seq) for m in messages for head, _, kind in (m.topic.rpartition("/"),)
                    if kind in _KINDS and (seq := seq_of(m.payload)) is not None]
        with self._lock:
            for topic, seq in numbered[:max(0, MOST_WAITING - self._n)]:
                self._waiting.setdefault(topic, []).append(seq)
                self._n += 1

    def flush(self, publish: Callable[[str, bytes], object]) -> None:
        """Publish what was noted: one message a source."""
        with self._lock:
            told, self._waiting, self._n = self._waiting, {}, 0
        for topic, seqs in told.items():
            publish(topic, msgspec.json.encode({"seq": seqs}))
