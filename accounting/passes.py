"""The accounting pass: from what ingest marked to figures, newest days first, restartable at any instant.

`dirty_account` goes into the list of work `account_todo`; each chunk of it is one transaction that takes days off the list
and writes everything that depends on them. After the list is empty the pass closes the day: counters that say nothing get
their unknown days, indicators of the touched periods are computed, and `park_account` is notified.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from psycopg.types.json import Jsonb

from accounting import (
    availability,
    baselines,
    bills,
    energy,
    gauges,
    indicators,
    marks,
    outlet_events,
    outlets,
    progress,
    treatment,
)
from accounting.columns import Connection
from accounting.counters import SQL, recount
from accounting.definitions import definitions_of
from park.holidays import release

log = logging.getLogger(__name__)

FIRST_DAYS = 3       # what people look at first
CHUNK_DAYS = 31
CLOCK_AHEAD = timedelta(hours=1)     # a pass that was later than now by more was under a wrong clock
CUT = 4              # one more whenever readings are cut into slots otherwise: what is stored is then made again, once
RULES = 2            # one more whenever hours of emission or their masses are made otherwise: likewise


@dataclass
class PassResult:
    """What a pass did."""

    slots: int = 0
    hours: int = 0
    events: int = 0
    readings: int = 0        # of virtual gauges
    chunks: int = 0
    periods: set[str] = field(default_factory=set)

    @property
    def anything(self) -> bool:
        """Whether any figure changed."""
        return bool(self.slots or self.hours or self.events or self.readings or self.periods)


def run_pass(conn: Connection, now: datetime, *, stop: threading.Event | None = None) -> PassResult:
    """Everything that is due at `now`; does nothing while another accountant holds the lock. `conn` is in autocommit.

    With `stop` set the pass ends after the chunk at hand; the rest stays on the list.
    """
    result = PassResult()
    if not _one(conn, "lock"):
        log.info("another accountant is at work on this database")
        return result
    try:
        conn.execute(SQL["take_dirty"])
        for base_id, _, zone in conn.execute(SQL["bases"]).fetchall():
            _account_base(conn, base_id, zone, now, result, stop or threading.Event())
        if result.anything:
            conn.execute(SQL["notify"])
    finally:
        conn.execute(SQL["unlock"])
    return result


def _account_base(conn: Connection, base_id: int, zone: str, now: datetime, result: PassResult, stop: threading.Event) -> None:
    _follow_catalogue(conn, base_id, zone, now, result)
    with conn.transaction():
        known = _detail(conn, base_id, "marks")
        current = marks.follow(conn, base_id, known, now)
        if current != known:
            _note(conn, base_id, "marks", now, dict(current))
    days = FIRST_DAYS
    while not stop.is_set() and (newest := _one(conn, "newest_todo", base=base_id)) is not None:
        with conn.transaction():
            _because(conn, "readings, marks or limits changed")
            _account_chunk(conn, base_id, zone, newest - timedelta(days=days), now, result)
        if days == FIRST_DAYS:      # the newest figures are there: tell, before the long way back
            conn.execute(SQL["notify"])
        days = CHUNK_DAYS
    if stop.is_set():
        return
    with conn.transaction():
        _because(conn, "time went on")
        _close(conn, base_id, zone, now, result)


def _account_chunk(conn: Connection, base_id: int, zone: str, after: Any, now: datetime, result: PassResult) -> None:
    """The days after `after`, and all that hangs on them; one transaction."""
    energy.prepare(conn)
    spans = conn.execute(SQL["take_todo"], {"base": base_id, "day": after}).fetchall()
    availability.recount(conn, base_id, zone, spans, now)
    changed = recount(conn, base_id, spans, ahead=True)
    result.readings += gauges.follow(conn, base_id, changed, spans, now - gauges.SETTLE)
    energy.touch(conn, zone, changed)
    periods = energy.roll(conn, base_id, zone, now, replaced=changed.replaced) if len(changed.ts) else []
    bands = treatment.learn(conn, base_id, zone, [p for p, _, _ in spans], now)
    hours, months = outlets.account(conn, base_id, zone, spans, now)
    result.events += treatment.account(conn, base_id, zone, spans + bands, now)
    result.events += outlet_events.account(conn, base_id, zone, spans + bands)
    result.slots += len(changed.ts)
    result.hours += hours
    result.chunks += 1
    _owe(conn, base_id, now, {*periods, *months})


def _close(conn: Connection, base_id: int, zone: str, now: datetime, result: PassResult) -> None:
    """What time alone brings: steps that ended, unknown days, hours without data; then the indicators that are owed."""
    energy.prepare(conn)
    last: datetime | None = _one(conn, "pass_of", base=base_id, **{"pass": "close"})
    result.readings += gauges.pass_time(conn, base_id, last or now, now)
    owed = _owed(conn, base_id)
    if last is not None and last - now > CLOCK_AHEAD:
        owed |= _forget_ahead(conn, base_id, zone, last, now)
        last = now
    periods = energy.forget_unborn(conn, base_id, zone) if owed else []
    if last is None or last.astimezone(ZoneInfo(zone)).date() < now.astimezone(ZoneInfo(zone)).date():
        availability.end_days(conn, base_id, zone, last or energy.BEGINNING, now)
    if energy.touch_due_days(conn, base_id, now, _since(conn, base_id, owed)):
        periods += energy.roll(conn, base_id, zone, now, replaced=False)
    periods += energy.roll_ledger(conn, base_id, now, int(_detail(conn, base_id, "ledger").get("entry", 0)), last)
    hours, months = outlets.pass_time(conn, base_id, zone, now, hours_changed=bool(owed))
    result.hours += hours
    owed |= {*periods, *months} | indicators.ledger_periods(conn, base_id, zone)
    owed |= _follow_definitions(conn, base_id, now)
    if owed:
        bills.compute(conn, base_id, zone, sorted(owed), now)
        result.periods |= indicators.compute(conn, base_id, zone, sorted(owed), now)
    baselines.follow(conn, base_id, owed, now.astimezone(ZoneInfo(zone)).date())
    _note(conn, base_id, "indicators", now, {"owed": []})
    _forecast(conn, base_id, zone, now)
    _thin(conn, base_id, zone, now)
    _note(conn, base_id, "close", now, {})


def _forget_ahead(conn: Connection, base_id: int, zone: str, last: datetime, now: datetime) -> set[str]:
    """Take back what a pass under a clock that was ahead wrote of hours and days to come; the periods to compute again."""
    log.warning("base %d: the last pass was at %s, %s from now, under a clock that was ahead; what it wrote of days to come "
                "is taken back", base_id, last.isoformat(timespec="seconds"), last - now)
    today = now.astimezone(ZoneInfo(zone)).date()
    energy.forget_ahead(conn, base_id, now)
    conn.execute(SQL["forget_hours_ahead"], {"base": base_id, "now": now})
    conn.execute(SQL["forget_availability_ahead"], {"base": base_id, "today": today})
    return {row[0] for row in conn.execute(SQL["periods_from"], {"base": base_id, "month": f"{today:%Y-%m}"})}


def _since(conn: Connection, base_id: int, owed: set[str]) -> datetime:
    """From when on a day may be without its row: the last close, or the oldest month that chunks touched since."""
    last: datetime | None = _one(conn, "pass_of", base=base_id, **{"pass": "close"})
    if last is None:
        return energy.BEGINNING
    months = [datetime(int(p[:4]), int(p[5:]), 1, tzinfo=UTC) for p in owed if len(p) == 7]
    return min([last, *months]) - timedelta(days=FIRST_DAYS)


def _follow_catalogue(conn: Connection, base_id: int, zone: str, now: datetime, result: PassResult) -> None:
    """After a change of meters, factors, tariffs, boundaries or limits: the figures that hang on them, computed again."""
    registers = {str(p): digest for p, digest in conn.execute(SQL["register_fingerprint"], {"base": base_id, "cut": CUT})}
    rows = _one(conn, "fingerprint", base=base_id, public_calendar=release())
    trace = _one(conn, "outlet_fingerprint", base=base_id, rules=RULES)
    known = _detail(conn, base_id, "catalogue")
    if known.get("rows") == rows and known.get("registers") == registers and known.get("trace") == trace:
        return
    with conn.transaction():
        _because(conn, "catalogue changed")
        energy.prepare(conn)
        if known:
            changed = [int(p) for p, digest in registers.items() if known["registers"].get(p) != digest]
            virtual = {g.point_id for g in gauges.gauges_of(conn, base_id)} & set(changed)
            span = conn.execute(SQL["span_of_readings"], {"base": base_id}).fetchone()
            if known.get("trace") != trace and span is not None and span[0] is not None:
                conn.execute(SQL["mark_outlets"], {"base": base_id, "low": span[0], "high": span[1]})
            if virtual and span is not None and span[0] is not None:
                conn.execute(gauges.SQL["mark_points"], {
                    "base": base_id, "points": sorted(virtual), "low": span[0], "high": span[1]})
            if changed and span is not None and span[0] is not None:
                slots = recount(conn, base_id, [(p, span[0], span[1] + timedelta(microseconds=1)) for p in changed],
                                ahead=True)
                result.readings += gauges.follow(conn, base_id, slots, [], now - gauges.SETTLE)
                energy.touch(conn, zone, slots)
                result.slots += len(slots.ts)
                _owe(conn, base_id, now, set(energy.roll(conn, base_id, zone, now, replaced=True)))
                energy.prepare(conn)
            if known["rows"] != rows:
                _owe(conn, base_id, now, _recost(conn, base_id, zone, now))
        _note(conn, base_id, "catalogue", now, {"rows": rows, "registers": registers, "trace": trace})


def _recost(conn: Connection, base_id: int, zone: str, now: datetime) -> set[str]:
    """Cost and totals of every day that the base has, those that only the ledger speaks of too."""
    conn.execute(SQL["touch_ledger_days"], {"base": base_id, "entry": 0, "now": now, "until": None})
    rows = conn.execute(SQL["all_days"], {"base": base_id, "low": datetime.min.replace(tzinfo=UTC, year=1970),
                                          "high": datetime.max.replace(tzinfo=UTC, year=2999)}).fetchall()
    if rows:
        points, days, low, high = (list(column) for column in zip(*rows, strict=True))
        conn.execute(SQL["touch_days"], {"points": points, "days": days, "low": low, "high": high, "of_hour": []})
    conn.execute(SQL["analyze_touched"])
    energy.roll_costs(conn, base_id, zone)
    energy.roll_totals(conn, base_id)
    return {row[0] for row in conn.execute(SQL["touched_periods"])}


def recompute(conn: Connection, base_id: int, low: datetime, high: datetime) -> None:
    """Put every reading in [low, high) on the list of work; the next pass computes it again."""
    last = max(low, high - timedelta(hours=1))
    conn.execute(SQL["mark_range"], {"base": base_id, "low": low.replace(minute=0, second=0, microsecond=0), "high": last})


def whole_span(conn: Connection, base_id: int) -> tuple[datetime, datetime] | None:
    """From midnight UTC of the first reading's day to the end of the last one's."""
    row = conn.execute(SQL["span_of_readings"], {"base": base_id}).fetchone()
    if row is None or row[0] is None:
        return None
    return (datetime.combine(row[0].date(), time(), UTC), datetime.combine(row[1].date() + timedelta(days=1), time(), UTC))


def _because(conn: Connection, reason: str) -> None:
    """Who supersedes figures in this transaction, and why; it stays with their former versions."""
    conn.execute(SQL["because"], {"actor": "park account", "reason": reason})


def _follow_definitions(conn: Connection, base_id: int, now: datetime) -> set[str]:
    """After a change of definitions of indicators: every year that has indicators."""
    rows = _one(conn, "definition_fingerprint", base=base_id)
    if _detail(conn, base_id, "definitions").get("rows") == rows:
        return set()
    conn.execute(SQL["forget_indicators"], {"base": base_id, "codes": [
        d.code for d in definitions_of(conn, base_id, now.date())]})
    _note(conn, base_id, "definitions", now, {"rows": rows})
    return {row[0] for row in conn.execute(SQL["indicator_years"], {"base": base_id})}


def _forecast(conn: Connection, base_id: int, zone: str, now: datetime) -> None:
    """Forecasts of the year's end: once a local day, and after a change of definitions or targets."""
    last = conn.execute(SQL["pass_of"], {"base": base_id, "pass": "forecast"}).fetchone()
    rows = _detail(conn, base_id, "definitions").get("rows")
    about = {"day": now.astimezone(ZoneInfo(zone)).date().isoformat(), "rows": rows}
    if last is None or last[1] != about:
        progress.forecast(conn, base_id, zone, now)
        _note(conn, base_id, "forecast", now, about)


def _thin(conn: Connection, base_id: int, zone: str, now: datetime) -> None:
    """Once a local day: versions of figures older than a month that stood at no local midnight are forgotten."""
    last: datetime | None = _one(conn, "pass_of", base=base_id, **{"pass": "thin"})
    if last is None or last.astimezone(ZoneInfo(zone)).date() != now.astimezone(ZoneInfo(zone)).date():
        gone = _one(conn, "thin_history", base=base_id, zone=zone)
        _note(conn, base_id, "thin", now, {"forgotten": gone})


def _owed(conn: Connection, base_id: int) -> set[str]:
    return set(_detail(conn, base_id, "indicators").get("owed", []))


def _owe(conn: Connection, base_id: int, now: datetime, periods: set[str]) -> None:
    """Remember, in the transaction that changed figures, which periods' indicators must follow."""
    if periods:
        _note(conn, base_id, "indicators", now, {"owed": sorted(_owed(conn, base_id) | periods)})


def _detail(conn: Connection, base_id: int, name: str) -> dict[str, Any]:
    row = conn.execute(SQL["pass_of"], {"base": base_id, "pass": name}).fetchone()
    return dict(row[1]) if row is not None else {}


def _note(conn: Connection, base_id: int, name: str, now: datetime, detail: dict[str, Any]) -> None:
    conn.execute(SQL["note_pass"], {"base": base_id, "pass": name, "done_to": now, "now": now, "detail": Jsonb(detail)})


def _one(conn: Connection, name: str, **params: Any) -> Any:
    row = conn.execute(SQL[name], params).fetchone()
    return row[0] if row is not None else None
