"""From changed slots to everything that hangs on them: hours, days, months, cost, totals. Set-wise in SQL.

One transaction a chunk of work: the slots, all that depends on them, and the list of work move together.
"""

from __future__ import annotations

import logging
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
from psycopg import sql

from accounting.columns import Connection, from_us, instants, to_us
from accounting.counters import SQL, Changed
from accounting.hours import HOUR_US
from accounting.localday import local_days
from accounting.tariffs import price_slots, tariffs_of
from park.errors import InputError
from park.holidays import last_year, public_day

log = logging.getLogger(__name__)


BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


def prepare(conn: Connection) -> None:
    """The temporary tables of this connection, empty."""
    for name in ("touched_tables", "clear_touched", "price_table", "clear_prices"):
        conn.execute(SQL[name])


def touch(conn: Connection, zone: str, changed: Changed) -> None:
    """Note the base-local days of the changed slots."""
    if not len(changed.ts):
        return
    days = local_days(int(changed.ts.min()) // HOUR_US * HOUR_US, int(changed.ts.max()) + 1, zone)
    keys = np.unique(changed.point_id * np.int64(1 << 20) + days.index(changed.ts))
    of_hour = np.zeros(len(keys), bool)
    if (days.borders % HOUR_US).any():      # a part of a day lies in the former one's last hour
        former = np.unique(changed.point_id * np.int64(1 << 20) + days.index(changed.ts // HOUR_US * HOUR_US))
        former = former[~np.isin(former, keys)]
        keys, of_hour = np.concatenate([keys, former]), np.concatenate([of_hour, np.ones(len(former), bool)])
    pairs = np.divmod(keys, 1 << 20)
    dates = [d.isoformat() for d in days.dates]
    conn.execute(SQL["touch_days"], {
        "points": pairs[0].tolist(), "days": "{" + ",".join(dates[i] for i in pairs[1]) + "}",
        "low": instants(days.borders[pairs[1]]), "high": instants(days.borders[pairs[1] + 1]), "of_hour": of_hour.tolist()})


def roll(conn: Connection, base_id: int, zone: str, now: datetime, *, replaced: bool) -> list[str]:
    """Hours, days, months, cost and totals of the touched days; the years and months they lie in are the answer.

    replaced: whether stored slots were replaced or taken away, so that an hour may have none left.
    """
    key: dict[str, Any] = {"base": base_id, "now": now}
    conn.execute(SQL["analyze_touched"])
    forget = ["forget_hours"] if replaced else []
    for name in ["mark_fresh", *forget, "first_hours", "roll_hours", "roll_days"]:
        conn.execute(sql.SQL(SQL[name]).format(hours=sql.SQL(SQL["hours"])), key)
    roll_costs(conn, base_id, zone)
    roll_totals(conn, base_id)
    return [row[0] for row in conn.execute(SQL["touched_periods"])]


def roll_costs(conn: Connection, base_id: int, zone: str) -> None:
    """Cost of the touched days, and the months that keep it beside their amounts."""
    span = conn.execute("SELECT min(low), max(high) FROM touched_day").fetchone()
    if span is None or span[0] is None:
        return
    days = local_days(to_us(span[0]), to_us(span[1]), zone)
    classes = calendar_of(conn, base_id, days.dates[0], days.dates[-1])
    conn.execute(SQL["clear_prices"])
    tables = []
    for tariff in tariffs_of(conn, base_id):
        try:
            table = price_slots(tariff, days, classes)
        except (InputError, KeyError, ValueError, TypeError) as exc:
            # no price is no cost (NULL), never a guess; the rest of the figures must not wait for it
            log.error("tariff %d of base %d cannot be read, its costs stay unknown: %s", tariff.tariff_id, base_id, exc)
            continue
        if table is not None:
            tables.append((tariff.tariff_id, table))
    hourly = not (days.borders % HOUR_US).any() and all(table.is_hourly for _, table in tables)
    for tariff_id, table in tables:
        some = slice(None, None, 4 if hourly else 1)
        ts = [from_us(t) for t in table.ts[some]]
        conn.execute(SQL["write_prices"], {"tariffs": [tariff_id] * len(ts), "ts": ts, "periods": table.period[some],
                                           "prices": table.price[some]})
    conn.execute(SQL["analyze_prices"])
    slots = sql.Identifier("interval_1h" if hourly else "interval_15m")
    conn.execute(sql.SQL(SQL["roll_costs"]).format(slots=slots), {"base": base_id})
    conn.execute(SQL["roll_months"], {"base": base_id})


def roll_totals(conn: Connection, base_id: int) -> None:
    """Totals of the base and its enterprises on the touched days."""
    conn.execute(SQL["roll_totals"], {"base": base_id})


def roll_ledger(conn: Connection, base_id: int, now: datetime, after: int = 0, until: datetime | None = None) -> list[str]:
    """Totals of the days that ledger entries after entry `after` speak of (bills, green power, feedstock); their periods. Of
    all entries the days since `until`, too: an entry whose span still runs has a new day each day.

    The touched days of the transaction are forgotten: call it after `roll`.
    """
    prepare(conn)
    if not conn.execute(SQL["touch_ledger_days"], {"base": base_id, "entry": after, "now": now, "until": until}).rowcount:
        return []
    roll_totals(conn, base_id)
    return [row[0] for row in conn.execute(SQL["touched_periods"])]


def _since(name: str) -> sql.Composed:
    """A query about days of counters that takes since when they were there."""
    return sql.SQL(SQL[name]).format(first=sql.SQL(SQL["first_known"]), there=sql.SQL(SQL["there_since"]))


def forget_ahead(conn: Connection, base_id: int, now: datetime) -> None:
    """Take away unknown days after `now`, and their totals. The touched days of the transaction are forgotten."""
    prepare(conn)
    if conn.execute(SQL["forget_ahead"], {"base": base_id, "now": now}).rowcount:
        conn.execute(SQL["forget_months"], {"base": base_id})
        conn.execute(SQL["roll_months"], {"base": base_id})
        roll_totals(conn, base_id)
    prepare(conn)


def forget_unborn(conn: Connection, base_id: int, zone: str) -> list[str]:
    """Take away unknown days from before a counter was there and from after it was retired; the periods that they lay in.

    While it has no reading, it counts as missing since the base's beginning. The touched days of the transaction are forgotten.
    """
    prepare(conn)
    if not conn.execute(_since("forget_unborn"), {"base": base_id}).rowcount:
        return []
    conn.execute(SQL["forget_months"], {"base": base_id})
    roll_costs(conn, base_id, zone)
    roll_totals(conn, base_id)
    periods = [row[0] for row in conn.execute(SQL["touched_periods"])]
    prepare(conn)
    return periods


def touch_due_days(conn: Connection, base_id: int, now: datetime, since: datetime = BEGINNING) -> int:
    """Note the days from `since` on that a counter says nothing of, and today as it grows; the number of days noted."""
    rows = conn.execute(_since("due_days"), {"base": base_id, "now": now, "since": since}).fetchall()
    if rows:
        points, days, low, high = (list(column) for column in zip(*rows, strict=True))
        conn.execute(SQL["touch_days"], {"points": points, "days": days, "low": low, "high": high, "of_hour": []})
    return len(rows)


def is_arranged(conn: Connection, base_id: int, year: int) -> bool:
    """Whether the public holidays of a year are known: to the State Council's calendar, or listed by the base."""
    return year <= last_year() or bool(
        (conn.execute(SQL["lists_holidays"], {"base": base_id, "year": year}).fetchone() or (False,))[0])


def calendar_of(conn: Connection, base_id: int, first: date, last: date) -> dict[date, str]:
    """Class of each day (working, weekend, holiday, shutdown): the base's calendar, else the State Council's."""
    listed = dict(conn.execute(SQL["calendar"], {"base": base_id, "first": first, "last": last}).fetchall())
    days = (first + timedelta(days=i) for i in range((last - first).days + 1))
    return {d: listed.get(d) or public_day(d) for d in days}
