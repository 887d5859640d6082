"""The duty roster from the command line; the console keeps the same table (`api/desk.py`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from alerts.routes import RANKS
from alerts.store import Connection, Q
from park.clock import utc_now
from park.database import connect
from park.errors import InputError, NotFound
from park.settings import load_settings


def add(base: str, person: str, start: str, hours: float, after_s: int, severities: str, every: int, times: int,
        phone: str) -> None:
    """Write the duties of a shift; InputError names what is wrong."""
    if not 0 < hours <= 32 * 24:
        raise InputError(f"--hours: expected more than 0 and at most 768, got {hours:g}")
    if after_s < 0 or every < 1 or not 1 <= times <= 366:
        raise InputError("--after: expected 0 or more; --every: 1 or more; --times: 1 to 366")
    with _session() as conn:
        base_id, zone = _base(conn, base)
        for i in range(times):
            stretch = _instant(start, zone, i * every), _instant(start, zone, i * every, hours)
            _book(conn, base_id, person, phone, stretch, after_s, severities.split(","), "park duty")
    print(f"{person}: {times} {'duty' if times == 1 else 'duties'}")


def fill(conn: Connection, base: str, shifts: Iterable[Mapping[str, Any]], now: datetime, days: int, by: str) -> int:
    """Write daily shifts (`person`, `start` such as 08:00, `hours`, `phone`, `after_s`) for the days from today on, unless the
    roster has something for them; returns how many duties were written."""
    base_id, zone = _base(conn, base)
    if conn.execute(Q["roster"], {"base": base_id, "now": now, "end": now + timedelta(days=days)}).fetchall():
        return 0
    today = now.astimezone(ZoneInfo(zone)).date().isoformat()
    rows = [(shift, f"{today}T{shift['start']}", day) for shift in shifts for day in range(-1, days)]
    for shift, start, day in rows:
        stretch = _instant(start, zone, day), _instant(start, zone, day, float(shift["hours"]))
        _book(conn, base_id, shift["person"], shift.get("phone", ""), stretch, shift.get("after_s", 0), list(RANKS), by)
    return len(rows)


def _book(conn: Connection, base_id: int, person: str, phone: str, stretch: tuple[datetime, datetime], after_s: int,
          ranks: list[str], by: str) -> None:
    conn.execute(Q["add_duty"], {"base": base_id, "person": person, "phone": phone, "start": stretch[0], "end": stretch[1],
                                 "after_s": after_s, "severities": ranks, "by": by})


def _instant(text: str, zone: str, days: int, hours: float = 0.0) -> datetime:
    """So many days and hours later by the clock of the wall: shifts follow each other on the nights when it is moved, too."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError as exc:
        raise InputError(f"start: expected such as 2026-11-23T20:00, got {text!r}") from exc
    local = at.astimezone(ZoneInfo(zone)) if at.tzinfo else at.replace(tzinfo=ZoneInfo(zone))
    return (local + timedelta(days=days, hours=hours)).astimezone(UTC)


def show(base: str, days: int) -> None:
    """Print the roster of the next days."""
    now = utc_now()
    with _session() as conn:
        base_id, zone = _base(conn, base)
        rows = conn.execute(Q["roster"], {"base": base_id, "now": now, "end": now + timedelta(days=days)}).fetchall()
    print("number,person,phone,start,end,after_s,severities,route")
    for number, person, phone, start, end, after_s, ranks, reachable in rows:
        first, last = (t.astimezone(ZoneInfo(zone)).strftime("%Y-%m-%d %H:%M") for t in (start, end))
        print(f"{number},{person},{phone},{first},{last},{after_s},{' '.join(ranks)},{'yes' if reachable else 'none'}")


def remove(base: str, number: int) -> None:
    """Delete a duty; NotFound when there is none that is not over."""
    with _session() as conn:
        base_id, _ = _base(conn, base)
        if not conn.execute(Q["remove_duty"], {"base": base_id, "number": number}).rowcount:
            raise NotFound(f"base {base} has no duty {number} that is not over")


def _session() -> Connection:
    return connect(load_settings().database_url, autocommit=True, name="park duty")


def _base(conn: Connection, code: str) -> tuple[int, str]:
    for base_id, known, zone in conn.execute(Q["bases"]).fetchall():
        if known == code:
            return base_id, zone
    raise NotFound(f"there is no base {code!r}")
