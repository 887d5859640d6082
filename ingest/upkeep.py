"""The store's upkeep, every hour beside the writers: partitions ahead, the ledger's old batches, weeks past their time, and
loose keys.

Several ingest processes may run it at once: one of them does the work.
"""

from __future__ import annotations

import logging
from threading import Event

import psycopg

from ingest.directory import QUERIES
from ingest.tightening import tighten
from park.clock import Clock, utc_now
from park.database import connect
from park.errors import ParkError, StorageError
from park.settings import Settings

log = logging.getLogger("ingest.upkeep")
EVERY_S = 3600.0
AGAIN_S = 30.0


def run(settings: Settings, stop: Event, clock: Clock = utc_now) -> None:
    """Round after round until told to stop; sooner again after one that failed."""
    while not stop.is_set():
        wait_s = AGAIN_S
        try:
            keep_up(settings, clock)
            wait_s = EVERY_S
        except (psycopg.Error, StorageError) as exc:
            log.warning("upkeep waits: %s", " ".join(str(exc).split()))
        except (ParkError, OSError) as exc:
            log.error("upkeep: %s", " ".join(str(exc).split()))
            wait_s = EVERY_S
        except Exception:  # drops nothing: whatever a round did not finish, the next one does
            log.exception("unexpected; upkeep starts again")
        stop.wait(wait_s)


def keep_up(settings: Settings, clock: Clock) -> None:
    """One round; nothing when another process is at it."""
    from ingest import retention  # Arrow is heavy: not before it is needed

    with connect(settings.database_url, autocommit=True, name="park upkeep") as conn:
        held = conn.execute(QUERIES["lock_upkeep"]).fetchone()
        if held is None or not held[0]:
            return
        conn.execute(QUERIES["ensure_ahead"])
        conn.execute(QUERIES["forget_ledger"])
        if retention.clock_is_steady(conn, clock()) and settings.keep_readings_days:
            retention.retire(conn, settings.database_url, keep_days=settings.keep_readings_days, archive=settings.archive_dir,
                             now=clock())
        for key in tighten(conn, clock()):
            log.info("%s is packed", key)
