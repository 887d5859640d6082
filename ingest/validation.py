"""Messages to columns that may be stored, and what may not be stored to dead letters. Pure: opens nothing.

Between the queue of the subscriber and the transaction of the store. Everything is judged for the whole batch at
once; only what fails is looked at reading by reading. Quality is decided here:

- no value: `missing`, unless the source said why (fault, maintenance ...); NaN or infinite: `bad`, no value;
- outside the point's plausible range: kept, `uncertain` where it was `good`;
- an unknown point, a time that cannot be, an unknown word of quality, a week whose raw
  readings were dropped: dead letters, the rest of the message is stored.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ingest.condense import MONDAY_US, WEEK_US
from ingest.directory import UNKNOWN, Directory
from park.clock import parse_instant
from park.errors import InputError
from park.quality import LAST_USABLE, WORDS, Quality
from park.wire import Batch, encode_batch

EARLIEST_US = int(datetime(1990, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000
_NO_TIME = -(2**62)
_REASONS = ("", "unknown_point", "bad_time", "unknown_quality", "too_late")


@dataclass(frozen=True)
class Message:
    """A decoded message of readings: its base, source, topic, and when it came (epoch microseconds)."""

    base_id: int
    source: str
    topic: str
    arrived_us: int
    batch: Batch


@dataclass(frozen=True)
class DeadLetter:
    """What cannot be stored, with the bytes that let it be replayed. `n` counts its readings, 0 when that is unknown; `once`
    those of collectors, which may come again."""

    base_id: int | None
    topic: str
    source: str
    seq: int | None
    reason: str
    detail: str
    payload: bytes
    n: int = 0
    once: bool = False


@dataclass(frozen=True)
class Readings:
    """Columns (N,) of readings that may be stored, ordered by point and time; equal instants in order of arrival.

    `origin` is the index of the message that brought the reading; `value` is NaN where there is none.
    """

    base_id: NDArray[np.int16]
    point_id: NDArray[np.int32]
    ts_us: NDArray[np.int64]
    value: NDArray[np.float64]
    quality: NDArray[np.int16]
    origin: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.ts_us)

    def take(self, rows: NDArray[Any]) -> Readings:
        """The readings at `rows` (indices or a mask)."""
        return Readings(self.base_id[rows], self.point_id[rows], self.ts_us[rows], self.value[rows], self.quality[rows],
                        self.origin[rows])


@dataclass(frozen=True)
class Judged:
    """The outcome of a batch: readings to store, dead letters, and counts by (base_id, outcome)."""

    readings: Readings
    letters: list[DeadLetter]
    counts: Counter[tuple[int, str]]


class _Codes(dict[str, int]):
    def __missing__(self, word: str) -> int:
        return UNKNOWN


_QUALITY = _Codes({word: int(q) for word, q in WORDS.items()})


def judge(messages: Sequence[Message], directory: Directory, *, future_after_s: float, late_after_s: float,
          closed: NDArray[np.int64] | None = None) -> Judged:
    """Readings, dead letters and counts of a batch of messages; `closed` numbers weeks that take no more readings."""
    sizes = np.array([len(m.batch.point) for m in messages], np.int64)
    origin = np.repeat(np.arange(len(messages), dtype=np.int32), sizes)
    total = int(sizes.sum())
    row = np.concatenate([directory.rows(m.base_id, m.batch.point) for m in messages]) if messages else np.empty(0, np.int64)
    ts_us = _instants(messages)
    arrived_us = np.array([m.arrived_us for m in messages], np.int64)[origin]
    value, quality = _values(messages, total)
    reason = np.zeros(total, np.int8)
    if closed is not None and len(closed):
        reason[np.isin((ts_us - MONDAY_US) // WEEK_US, closed)] = 4
    reason[quality == UNKNOWN] = 3
    reason[(ts_us < EARLIEST_US) | (ts_us > arrived_us + int(future_after_s * 1e6))] = 2
    reason[row == UNKNOWN] = 1
    bad = np.flatnonzero(reason)
    letters = _letters(messages, origin[bad], bad - _starts(sizes)[origin[bad]], reason[bad]) if len(bad) else []
    good = np.flatnonzero(reason == 0) if len(bad) else np.arange(total)
    row, value, quality = row[good], value[good], quality[good]
    directory.mark_implausible(row, value, quality)
    order = np.lexsort((ts_us[good], row))
    picked, row = good[order], row[order]
    readings = Readings(directory.base_id[row], directory.point_id[row], ts_us[picked], value[order], quality[order],
                        origin[picked])
    late = readings.ts_us < arrived_us[picked] - int(late_after_s * 1e6)
    return Judged(readings, letters, _count(readings, late, letters))


def _starts(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    starts: NDArray[np.int64] = np.cumsum(sizes) - sizes
    return starts


def _values(messages: Sequence[Message], total: int) -> tuple[NDArray[np.float64], NDArray[np.int16]]:
    """Values (NaN for none) and codes of quality (UNKNOWN for an unknown word)."""
    flat = list(chain.from_iterable(m.batch.value for m in messages))
    value = np.array(flat, np.float64)
    if all(m.batch.quality is None for m in messages):
        quality = np.zeros(total, np.int16)
    else:
        quality = np.fromiter(chain.from_iterable(
            map(_QUALITY.__getitem__, m.batch.quality) if m.batch.quality is not None else [0] * len(m.batch.point)
            for m in messages), np.int16, total)
    unreal = ~np.isfinite(value)
    if unreal.any():
        silent = np.fromiter((v is None for v in flat), np.bool_, total)
        claimed = unreal & (quality >= 0) & (quality <= LAST_USABLE)
        quality[claimed] = np.where(silent[claimed], Quality.MISSING, Quality.BAD)
        value[unreal] = np.nan
    return value, quality


def _instants(messages: Sequence[Message]) -> NDArray[np.int64]:
    """Epoch microseconds of every reading; _NO_TIME where the text or number is no instant."""
    known: dict[str, int] = {}
    runs: list[tuple[bool, list[Any]]] = []  # neighbours that come alike, as numbers or not, are converted together
    for m in messages:
        at = m.batch.at
        text = len(at) > 0 and isinstance(at[0], str)
        if not runs or runs[-1][0] != text:
            runs.append((text, []))
        runs[-1][1].extend(at)
    pieces = [_from_numbers(at, known) if not text else _one_by_one(at, known) for text, at in runs]
    return np.concatenate(pieces) if pieces else np.empty(0, np.int64)


def _from_numbers(at: list[Any], known: dict[str, int]) -> NDArray[np.int64]:
    ms = np.array(at) if at else np.empty(0)
    if ms.dtype.kind not in "iuf":  # a text among the numbers, or a number beyond all bounds
        return _one_by_one(at, known)
    with np.errstate(invalid="ignore"):
        sane = np.abs(ms) < 1e14
    return np.where(sane, np.round(np.where(sane, ms, 0) * 1000), _NO_TIME).astype(np.int64)


def _one_by_one(at: list[Any], known: dict[str, int]) -> NDArray[np.int64]:
    return np.fromiter((_instant(a, known) for a in at), np.int64, len(at))


def _instant(at: int | float | str, known: dict[str, int]) -> int:
    if not isinstance(at, str):
        return round(at * 1000) if abs(at) < 1e14 else _NO_TIME
    if at not in known:
        try:
            known[at] = round(parse_instant(at).timestamp() * 1e6)
        except (InputError, OverflowError, ValueError):
            known[at] = _NO_TIME
    return known[at]


def _letters(messages: Sequence[Message], origin: NDArray[Any], index: NDArray[Any], reason: NDArray[Any]) -> list[DeadLetter]:
    """One dead letter a message and reason, holding only the readings that failed, as a batch that can be replayed."""
    groups: dict[tuple[int, int], list[int]] = {}
    for o, i, r in zip(origin.tolist(), index.tolist(), reason.tolist(), strict=True):
        groups.setdefault((o, r), []).append(i)
    letters = []
    for (o, r), rows in groups.items():
        m, b = messages[o], messages[o].batch
        failed = Batch(b.seq, [b.point[i] for i in rows], [b.at[i] for i in rows],
                       [_plain(b.value[i]) for i in rows], None if b.quality is None else [b.quality[i] for i in rows])
        letters.append(DeadLetter(m.base_id, m.topic, m.source, b.seq, _REASONS[r], _detail(failed, r),
                                  encode_batch(failed), len(rows)))
    return letters


def _detail(failed: Batch, reason: int) -> str:
    shown: Sequence[Any] = failed.quality or ()
    if reason == 1:
        shown = failed.point
    elif reason in (2, 4):   # whose clock it is, is what one must know
        shown = [f"{p} at {_readable(at)}" for p, at in zip(failed.point, failed.at, strict=True)]
    names = list(dict.fromkeys(map(str, shown)))
    return ", ".join(n[:100] for n in names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def _readable(at: object) -> str:
    """Epoch milliseconds as an instant; anything else as it came."""
    if isinstance(at, int) and 0 <= at < 10**14:
        return datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return str(at)


def _plain(value: float | None) -> float | None:
    return value if value is not None and np.isfinite(value) else None


def _count(readings: Readings, late: NDArray[np.bool_], letters: list[DeadLetter]) -> Counter[tuple[int, str]]:
    counts: Counter[tuple[int, str]] = Counter()
    marks = {"late": late, "missing": readings.quality == Quality.MISSING, "bad": readings.quality == Quality.BAD,
             "uncertain": readings.quality == Quality.UNCERTAIN}
    for outcome, mask in marks.items():
        if mask.any():
            for base_id, n in zip(*np.unique(readings.base_id[mask], return_counts=True), strict=True):
                counts[int(base_id), outcome] += int(n)
    for letter in letters:
        counts[letter.base_id or 0, f"dead:{letter.reason}"] += max(letter.n, 1)
    return counts
