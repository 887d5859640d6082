"""Who may read what the platform writes below its data folder: its owner and his group; secrets, its owner alone."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

OTHERS = 0o007
OURS = ("spool", "logs", "broker")


def write_private(path: Path, text: str) -> None:
    """Write a file that nobody else may read; it never stands open for a moment either."""
    path.unlink(missing_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)


@contextmanager
def closed_to_others(data_dir: Path) -> Iterator[None]:
    """Make the folder; what this process and its children write while the block runs is closed to others, and the folders
    that an earlier version left open are closed. A folder that is there already is not touched itself: it may be anybody's."""
    former = os.umask(0o027)
    try:
        fresh = not data_dir.exists()
        data_dir.mkdir(parents=True, exist_ok=True)
        if fresh and os.geteuid() == 0:
            data_dir.chmod(0o751)   # root's PostgreSQL runs as another user, who walks through
        for folder in (data_dir / name for name in OURS):
            with suppress(FileNotFoundError):
                folder.chmod(stat.S_IMODE(folder.stat().st_mode) & ~OTHERS)
        yield
    finally:
        os.umask(former)
