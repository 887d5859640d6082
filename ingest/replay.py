"""Dead letters once more: those whose point or base the catalogue knows by now become readings.

A letter is replayed and marked in one transaction. It passes the ledger by, because its message is in there already;
readings that are stored meanwhile are merged like any other, so replaying twice does no harm. What still cannot be stored
of a letter becomes a letter of its own. `too_late` and `bad_time` are replayed only when they are asked for: the first
makes sense after the week was reopened, the second when it was the clock of this machine that was wrong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg import Connection, Rollback

from ingest.directory import QUERIES, Directory, load_directory
from ingest.store import Batch, Store
from ingest.validation import Message
from park.clock import utc_now
from park.database import connect
from park.errors import InputError, ReadingError
from park.settings import load_settings
from park.wire import Batch as Columns
from park.wire import decode_batch, split_topic

REPLAYABLE = ("unknown_point", "unknown_base", "refused", "seq_reused")
ON_REQUEST = ("too_late", "bad_time")


@dataclass(frozen=True)
class Replayed:
    """Letters replayed, readings they brought, letters that still wait."""

    letters: int = 0
    stored: int = 0
    left: int = 0


def replay(url: str, reasons: Sequence[str] = REPLAYABLE) -> Replayed:
    """Replay the open letters of these reasons of which something can be stored by now; InputError for other reasons."""
    if unfit := [r for r in reasons if r not in REPLAYABLE + ON_REQUEST]:
        raise InputError(f"expected a reason of {', '.join(REPLAYABLE + ON_REQUEST)}, got {', '.join(unfit)}")
    settings = load_settings()
    letters = stored = left = after = 0
    with connect(url, autocommit=True, name="park ingest replay") as conn:
        store = Store(conn, future_after_s=settings.future_after_s, late_after_s=settings.late_after_s)
        directory = load_directory(conn)
        while rows := conn.execute(QUERIES["open_letters"], {"reasons": list(reasons), "after": after}).fetchall():
            after = rows[-1][0]
            for letter_id, base_id, topic, source, received_at, reason, payload in rows:
                arrived = utc_now() if reason == "bad_time" else received_at
                message = _message(directory, base_id, topic, source, arrived, payload)
                outcomes = None if message is None else _store(conn, store, directory, letter_id, message)
                if outcomes is None:
                    left += 1
                    continue
                stored += sum(outcomes[word] for word in ("stored", "corrected"))
                letters += 1
    return Replayed(letters, stored, left)


def _store(conn: Connection[Any], store: Store, directory: Directory, letter_id: int,
           message: Message) -> Counter[str] | None:
    """What became of the letter's readings; None, and nothing written, when none of them can be stored yet."""
    with conn.transaction():
        counts = store.write(Batch([message]), directory, replay=True)
        if all(outcome.startswith("dead:") for _, outcome in counts):
            raise Rollback
        conn.execute(QUERIES["close_letter"], {"letter": letter_id})
        with conn.cursor() as cur:
            store.add_counts(cur, Counter({(message.base_id, "replayed"): len(message.batch.point)}))
        outcomes: Counter[str] = Counter()
        for (_, outcome), n in counts.items():
            outcomes[outcome] += n
        return outcomes
    return None


def _message(directory: Directory, base_id: int | None, topic: str, source: str, arrived: datetime,
             payload: bytes) -> Message | None:
    """The letter as a message of readings; None while its base, or every point of it, is not known."""
    try:
        columns: Columns = decode_batch(payload)
        if base_id is None:
            base_id = directory.bases[split_topic(topic)[0]]
    except (ReadingError, KeyError):
        return None
    if not any(code in directory.points[base_id] for code in columns.point):
        return None
    return Message(base_id, source, topic, int(arrived.timestamp() * 1e6), columns)
