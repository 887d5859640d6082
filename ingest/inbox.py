"""The bounded queue between the broker and a writer: memory stays flat while the database is away.

A message counts until it is released, that is until it is committed, not only while it waits.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Condition


@dataclass(frozen=True)
class Received:
    """A message as it came. `connection` numbers the session's connections: an acknowledgement must not cross over."""

    topic: str
    payload: bytes
    arrived_us: int
    mid: int
    qos: int
    connection: int


class Inbox:
    """First in, first out; `put` blocks while `most_messages` or `most_bytes` are taken but not released."""

    def __init__(self, most_messages: int, most_bytes: int = 256 * 1024 * 1024) -> None:
        self.most_messages = most_messages
        self.most_bytes = most_bytes
        self._waiting: deque[Received] = deque()
        self._held = 0
        self._held_bytes = 0
        self._closed = False
        self._changed = Condition()

    def put(self, message: Received) -> bool:
        """Queue the message, waiting for room; False when the inbox was closed instead."""
        with self._changed:
            self._changed.wait_for(self._has_room)
            if self._closed:
                return False
            self._waiting.append(message)
            self._held += 1
            self._held_bytes += len(message.payload)
            self._changed.notify_all()
            return True

    def take(self, most: int, timeout_s: float) -> list[Received]:
        """Up to `most` waiting messages, after at most `timeout_s`; empty when none came."""
        with self._changed:
            if not self._waiting and timeout_s > 0:
                deadline = time.monotonic() + timeout_s
                while not self._waiting and not self._closed and (left := deadline - time.monotonic()) > 0:
                    self._changed.wait(left)
            return [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]

    def release(self, messages: Sequence[Received]) -> None:
        """Give back the room of messages that were committed."""
        with self._changed:
            self._held -= len(messages)
            self._held_bytes -= sum(len(m.payload) for m in messages)
            self._changed.notify_all()

    def close(self) -> None:
        """Let nobody wait any longer; what waits is dropped, the broker still has it."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def __len__(self) -> int:
        return self._held

    def _has_room(self) -> bool:
        return self._closed or self._held == 0 or (self._held < self.most_messages and self._held_bytes < self.most_bytes)
