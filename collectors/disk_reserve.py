"""Room on disk that only draining may use: a file beside the spool, given up when a full disk would not even let batches go.

Forgetting a delivered batch writes too (SQLite's log, and the pages that a checkpoint moves), so that without a reserve a spool
on a full disk could never empty itself. New readings are not written into this room: they wait in memory.
"""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path

log = logging.getLogger(__name__)

RESERVE_BYTES = 16 << 20
"""Twice what SQLite's log may hold before a checkpoint (1,000 pages) and what that checkpoint may add to the file."""


class DiskReserve:
    """The file at `path`, a quarter of a small disk at most; `held` while it takes its room."""

    def __init__(self, path: Path, size: int = RESERVE_BYTES) -> None:
        self.path = path
        self.size = max(min(size, self.free_bytes() // 4), min(size, self._left_bytes()))
        self.held = False
        self.hold()

    def hold(self) -> None:
        """Take the room again when there is twice as much; False in `held` otherwise."""
        if self.held or self._was_held() or self.free_bytes() < 2 * self.size:
            return
        try:
            with self.path.open("wb") as file:
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(file.fileno(), 0, max(1, self.size))
                else:
                    file.write(bytes(self.size))
            self.held = True
        except OSError as exc:
            log.warning("no room for the reserve %s: %s", self.path, exc)
            with contextlib.suppress(OSError):
                self.path.unlink(missing_ok=True)

    def _was_held(self) -> bool:
        """Whether a former process left the file in its full size."""
        self.held = self._left_bytes() >= max(1, self.size)
        return self.held

    def _left_bytes(self) -> int:
        try:
            return self.path.stat().st_size
        except OSError:
            return 0

    def release(self) -> None:
        """Give the room up."""
        if self.held:
            log.error("the disk of %s is full: the reserve of %d MiB is given up so that the spool can be emptied", self.path,
                      self.size >> 20)
        self.held = False
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)

    def free_bytes(self) -> int:
        """What the disk has left for us; a very large number where it cannot tell."""
        try:
            disk = os.statvfs(self.path.parent)
        except OSError:
            return 1 << 62
        return disk.f_bavail * disk.f_frsize
