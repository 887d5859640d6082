"""Ahead of the writer: takes messages from the inbox, decodes and judges them, while the writer commits the batch before.

One batch waits for the writer at most. While it waits the next one grows, so that batches are small when little comes
and large when much does. Nothing here touches the database: what is gathered counts as held until it is released.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from queue import Empty, Full, Queue
from threading import Event

from ingest.decoding import Decoded
from ingest.directory import Directory
from ingest.inbox import Inbox, Received
from ingest.store import Batch
from ingest.validation import Judged, judge
from park.settings import Settings

log = logging.getLogger("ingest.gather")
_GROWTH = 10
"""A batch that cannot be committed yet grows to so many times `batch_rows` ..."""
_SHARE = 6
"""... or to this share of the inbox: the broker sends no more than its window (2,000 of 4,000) before the first is
acknowledged, and a third of that each is for what is committed, what waits, and what is gathered."""
_ENOUGH_MESSAGES = 500
"""A batch of so many messages is worth a commit however few readings they hold."""
_PAUSE_S = 0.002
_IDLE_S = 0.5


@dataclass(frozen=True)
class Gathered:
    """Messages, what they hold by the catalogue of `directory`, and the outcome of judging it; None: not done yet."""

    received: Sequence[Received]
    batch: Batch
    directory: Directory | None
    judged: Judged | None


class Gatherer:
    """`run` gathers until `stop` is set, once it was told a catalogue; `next` is the writer's."""

    def __init__(self, settings: Settings, inbox: Inbox, stop: Event) -> None:
        self.settings = settings
        self.inbox = inbox
        self.stop = stop
        self.directory: Directory | None = None
        self._waiting: Queue[Gathered] = Queue(1)
        self._taken: list[Received] = []

    def next(self, timeout_s: float) -> Gathered | None:
        """The next batch, or None when there is none within the time."""
        try:
            return self._waiting.get(timeout=timeout_s)
        except Empty:
            return None

    def run(self) -> None:
        """Batch after batch, in the order in which the messages came."""
        while not self.stop.is_set():
            directory = self.directory
            if directory is None:
                self.stop.wait(_PAUSE_S * 10)
                continue
            try:
                gathered = self._gather(directory)
            except Exception:  # drops nothing: the writer decodes what was taken, and holds it until it can
                log.exception("unexpected; the batch is left to the writer")
                gathered = Gathered(self._taken, Batch(), None, None)
            while gathered and not self.stop.is_set():
                try:
                    self._waiting.put(gathered, timeout=_IDLE_S)
                    gathered = None
                except Full:
                    pass

    def judged(self, received: Sequence[Received], decoded: Decoded, directory: Directory) -> Gathered:
        """A batch whose readings are judged; one that cannot be judged as a whole is left to the writer, who halves it."""
        try:
            judged = judge(decoded.batch.messages, directory, future_after_s=self.settings.future_after_s,
                           late_after_s=self.settings.late_after_s)
        except Exception:  # drops nothing: the writer judges again and finds the message that is to blame
            log.exception("unexpected; the batch is judged piece by piece")
            judged = None
        return Gathered(received, decoded.batch, directory, judged)

    def _gather(self, directory: Directory) -> Gathered | None:
        received = self._taken = []
        decoded, deadline = Decoded(), 0.0
        while not self.stop.is_set():
            fresh = self.inbox.take(64, 0 if received else _IDLE_S)
            received += fresh
            for m in fresh:
                decoded.add(m, directory.bases)
            if not received:
                return None
            now = time.monotonic()
            deadline = deadline or now + self.settings.batch_s
            if self._is_due(decoded.n, len(received), now >= deadline):
                break
            if not fresh:
                self.stop.wait(_PAUSE_S)
        return self.judged(received, decoded, directory)

    def _is_due(self, rows: int, messages: int, over: bool) -> bool:
        """Whether a batch is to go: worth a commit and the writer free to take it, or as large as it may grow."""
        most = max(1, self.inbox.most_messages // _SHARE)
        worth_it = over or rows >= self.settings.batch_rows or messages >= min(_ENOUGH_MESSAGES, most)
        return (worth_it and self._waiting.empty()) or rows >= _GROWTH * self.settings.batch_rows or messages >= most


def decode(received: Sequence[Received], directory: Directory) -> Decoded:
    """Messages by the catalogue of `directory`."""
    decoded = Decoded()
    for m in received:
        decoded.add(m, directory.bases)
    return decoded
