"""Dead letters once more: those whose point or base the catalogue knows by now become readings.

A letter is replayed and marked in one transaction. It passes the ledger by, because its message is in there already;
readings that are stored meanwhile are merged like any other, so replaying twice does no harm.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg import Connection

from ingest.directory import QUERIES, UNKNOWN, Directory, load_directory
from ingest.store import Batch, Store
from ingest.validation import Message
from park.database import connect
from park.errors import ReadingError
from park.settings import load_settings
from park.wire import Batch as Columns
from park.wire import decode_batch, split_topic

REPLAYABLE = ("unknown_point", "unknown_base", "refused", "seq_reused")


@dataclass(frozen=True)
class Replayed:
    """Letters replayed, readings they brought, letters that still wait."""

    letters: int = 0
    stored: int = 0
    left: int = 0


def replay(url: str) -> Replayed:
    """Replay every open letter whose points are all known by now."""
    settings = load_settings()
    letters = stored = left = after = 0
    with connect(url, autocommit=True, name="park ingest replay") as conn:
        store = Store(conn, future_after_s=settings.future_after_s, late_after_s=settings.late_after_s)
        directory = load_directory(conn)
        while rows := conn.execute(QUERIES["open_letters"], {"reasons": list(REPLAYABLE), "after": after}).fetchall():
            after = rows[-1][0]
            for letter_id, base_id, topic, source, received_at, payload in rows:
                message = _message(directory, base_id, topic, source, received_at, payload)
                if message is None:
                    left += 1
                    continue
                stored += _store(conn, store, directory, letter_id, message)
                letters += 1
    return Replayed(letters, stored, left)


def _store(conn: Connection[Any], store: Store, directory: Directory, letter_id: int, message: Message) -> int:
    with conn.transaction():
        counts = store.write(Batch([message]), directory, replay=True)
        conn.execute(QUERIES["close_letter"], {"letter": letter_id})
    return sum(n for (_, outcome), n in counts.items() if outcome in ("stored", "corrected"))


def _message(directory: Directory, base_id: int | None, topic: str, source: str, received_at: datetime,
             payload: bytes) -> Message | None:
    """The letter as a message of readings; None while a base or point of it is not known."""
    try:
        columns: Columns = decode_batch(payload)
        if base_id is None:
            base_id = directory.bases[split_topic(topic)[0]]
    except (ReadingError, KeyError):
        return None
    known = directory.rows_of(base_id)
    if any(known[code] == UNKNOWN for code in columns.point):
        return None
    return Message(base_id, source, topic, int(received_at.timestamp() * 1e6), columns)
