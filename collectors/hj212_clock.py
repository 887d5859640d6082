"""Times of data loggers: DataTime and QN as instants, and whether a logger's clock can be trusted.

DataTime is the start of the period for minute, hour and day data and the instant of real-time data, in the base's local time.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from zoneinfo import ZoneInfo

from collectors.hj212_frame import Message
from park.errors import FrameError

FUTURE_MS = 300_000
SLOW_CLOCK_MS = 600_000
EVIDENCE_MS = 150_000
"""So long a real-time message with the right time speaks for a logger whose next one comes late."""


@dataclass
class Watch:
    """What is known of a logger's clock from messages that were right: the newest QN and when that came; and from late
    ones since: when the first came, and how late it was."""

    right_qn_ms: int | None = None
    right_at_ms: int | None = None
    late_from: tuple[int, int] | None = None  # (arrived, offset)


def data_time(message: Message, zone: ZoneInfo) -> int:
    """Epoch milliseconds of DataTime; FrameError `bad_time` when it is not a local time."""
    text = message.field("DataTime") or ""
    try:
        return _local_ms(text, zone)
    except (ValueError, OverflowError) as exc:
        raise FrameError("bad_time", f"expected DataTime such as 20261123110000, got {text[:40]!r}") from exc


@lru_cache(maxsize=4096)
def _local_ms(text: str, zone: ZoneInfo) -> int:
    """Epoch milliseconds of 14 digits of local time; ValueError otherwise. Thousands of loggers send the same minute."""
    if len(text) != 14 or not text.isascii() or not text.isdigit():
        raise ValueError(text)
    return int(datetime.strptime(text, "%Y%m%d%H%M%S").replace(tzinfo=zone).timestamp() * 1000)


def clock_offset_ms(message: Message, zone: ZoneInfo, arrived_ms: int) -> int | None:
    """How far the logger's QN is ahead of our clock; None when QN is not a time."""
    try:
        return _local_ms(message.qn[:14], zone) - arrived_ms
    except (ValueError, OverflowError):
        return None


def is_trusted(message: Message, watch: Watch, zone: ZoneInfo, at: int, arrived_ms: int) -> bool:
    """Whether the logger's time can be trusted: not ahead of ours; and a real-time message that is late by its own QN only
    where that is explained: it is marked as sent again (RF=1, 2025), a message with the right time came just now (new data
    first, kept ones between), or it goes on where the last right one ended and catches up (kept while the line was down)."""
    if at > arrived_ms + FUTURE_MS:
        return False
    offset = clock_offset_ms(message, zone, arrived_ms)
    if offset is None or (message.cn != "2011" and offset <= FUTURE_MS):
        return True
    if offset >= -SLOW_CLOCK_MS:
        return offset <= FUTURE_MS
    if message.resent or (watch.right_at_ms is not None and arrived_ms - watch.right_at_ms <= EVIDENCE_MS):
        return True
    return watch.right_qn_ms is not None and arrived_ms + offset > watch.right_qn_ms and _catches_up(watch, offset, arrived_ms)


def told_offset_ms(message: Message, watch: Watch, zone: ZoneInfo, arrived_ms: int) -> int | None:
    """The offset that a data message tells of the logger's clock; None where it tells of a line that was down instead: sent
    again, or so late that a real-time message is trusted all the same or another kind of message cannot be judged."""
    offset = clock_offset_ms(message, zone, arrived_ms)
    if offset is None or message.resent:
        return None
    if offset >= -SLOW_CLOCK_MS:
        return offset
    if message.cn != "2011" or is_trusted(message, watch, zone, arrived_ms + offset, arrived_ms):
        return None
    return offset


def _catches_up(watch: Watch, offset: int, arrived_ms: int) -> bool:
    """Kept messages come faster than they were made, so that they get less late; those of a slow clock do not."""
    if watch.late_from is None:
        return True
    since, first = watch.late_from
    return arrived_ms - since <= EVIDENCE_MS or offset - first >= (arrived_ms - since) / 2


def note_time(message: Message, watch: Watch, zone: ZoneInfo, arrived_ms: int) -> None:
    """Keep in mind what a durable real-time message says of the clock."""
    offset = clock_offset_ms(message, zone, arrived_ms)
    if offset is None or message.cn != "2011" or offset > FUTURE_MS or message.resent:
        return
    if offset >= -SLOW_CLOCK_MS:
        watch.right_at_ms, watch.late_from = arrived_ms, None
        watch.right_qn_ms = max(arrived_ms + offset, watch.right_qn_ms or 0)
    elif watch.late_from is None:
        watch.late_from = arrived_ms, offset


def local_now(arrived_ms: int, zone: ZoneInfo) -> datetime:
    """Epoch milliseconds as the base's local time."""
    return datetime.fromtimestamp(arrived_ms / 1000, UTC).astimezone(zone)
