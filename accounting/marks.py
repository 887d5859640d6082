"""Marks: periods that a person takes out of judgement, with who, when and why. Never edited: withdrawn, and marked anew.

An hour of which at least 15 minutes are marked is out of judgement (`emission_1h.exempt_id`). With valid data its state is
`exempt`; without, it stays what it is: a mark makes no data, and its mass is still substituted upward.

A mark `out_of_control` says the contrary of an exemption: a calibration or comparison failed, and what the instrument said
since the check before it is not valid (HJ 75-2017, HJ 356-2019). It begins with the last check that was passed. An hour with at
least 15 such minutes is `insufficient`, its mass is replaced upward, counted back from the mark's beginning; readings stay.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from accounting.columns import Connection, to_us
from accounting.counters import SQL
from accounting.hours import HOUR_US, MINUTE_US, VALID_MINUTES, State
from park.catalogue_store import base_id_of
from park.clock import Clock, parse_instant, utc_now
from park.database import connect
from park.errors import InputError, NotFound

OUT_OF_CONTROL = "out_of_control"


@dataclass(frozen=True)
class Mark:
    """A period of an outlet, of one pollutant or (None) of all."""

    exempt_id: int
    quantity: str | None
    start_us: int
    end_us: int
    kind: str = "other"


def marks_of(conn: Connection, base_id: int, unit_id: int, low: datetime, high: datetime) -> list[Mark]:
    """Marks of an outlet that share time with [low, high) and are not withdrawn, oldest first."""
    return [Mark(i, q, to_us(a), to_us(b), kind) for i, q, a, b, kind in conn.execute(
        SQL["marks"], {"base": base_id, "unit": unit_id, "low": low, "high": high})]


def apply_marks(marks: list[Mark], quantity: str, starts: NDArray[np.int64], state: NDArray[np.int16]) -> NDArray[np.int32]:
    """The mark of each hour (-1: none); hours of `state` that are valid become exempt, in place. The newest mark wins."""
    exempt = np.full(len(starts), -1, np.int32)
    for mark in marks:
        if mark.quantity in (None, quantity) and mark.kind != OUT_OF_CONTROL:
            exempt[_marked(mark, starts)] = mark.exempt_id
    state[(exempt >= 0) & (state == State.VALID)] = State.EXEMPT
    return exempt


def out_of_control(marks: list[Mark], quantity: str, starts: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Hours whose data a failed check made invalid; a mark of another pollutant of the outlet does not."""
    found = np.zeros(len(starts), bool)
    for mark in marks:
        if mark.quantity in (None, quantity) and mark.kind == OUT_OF_CONTROL:
            found |= _marked(mark, starts)
    return found


def _marked(mark: Mark, starts: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Hours of which so many minutes are marked that 45 are not left."""
    marked = np.minimum(starts + HOUR_US, mark.end_us) - np.maximum(starts, mark.start_us)
    found: NDArray[np.bool_] = marked >= (60 - VALID_MINUTES) * MINUTE_US
    return found


def follow(conn: Connection, base_id: int, known: dict[str, bool], now: datetime) -> dict[str, bool]:
    """Put the days of marks that came or were withdrawn since `known` on the list of work; what is known now."""
    current: dict[str, bool] = {}
    for exempt_id, unit_id, started, ended, withdrawn in conn.execute(SQL["all_marks"], {"base": base_id}).fetchall():
        current[str(exempt_id)] = withdrawn
        if known.get(str(exempt_id)) != withdrawn and started < now:
            conn.execute(SQL["mark_unit"], {"base": base_id, "unit": unit_id, "low": started, "high": min(ended, now)})
    return current


def add(database_url: str, base: str, outlet: str, since: str, until: str, kind: str, reason: str, by: str,
        quantity: str | None = None, evidence: str = "") -> int:
    """Mark a period; the mark's number. InputError for a period, reason or person that is missing or wrong."""
    start, end = parse_instant(since), parse_instant(until)
    if start >= end:
        raise InputError(f"expected --from before --to, got {since} and {until}")
    if not reason.strip() or not by.strip():
        raise InputError("a mark needs --reason and --by: it stands in the record with who and why")
    with connect(database_url, autocommit=True, name="park exempt") as conn:
        key: dict[str, Any] = {"base": base_id_of(conn, base), "outlet": outlet, "quantity": quantity, "start": start,
                               "end": end, "kind": kind, "reason": reason, "by": by, "evidence": evidence}
        row = conn.execute(SQL["add_mark"], key).fetchone()
        if row is None:
            raise NotFound(f"base {base} has no outlet {outlet!r} with such a point" + (f" ({quantity})" if quantity else ""))
    return int(row[0])


def withdraw(database_url: str, base: str, exempt_id: int, by: str, reason: str, clock: Clock = utc_now) -> None:
    """Withdraw a mark; it stays in the record. NotFound when there is none in force with that number."""
    if not reason.strip() or not by.strip():
        raise InputError("withdrawing needs --reason and --by")
    with connect(database_url, autocommit=True, name="park exempt") as conn:
        done = conn.execute(SQL["withdraw_mark"], {"base": base_id_of(conn, base), "id": exempt_id, "by": by, "reason": reason,
                                                   "now": clock()})
        if done.rowcount == 0:
            raise NotFound(f"base {base} has no mark {exempt_id} in force")


def print_marks(database_url: str, base: str) -> None:
    """Every mark of a base, withdrawn ones too."""
    console = Console(soft_wrap=True)
    with connect(database_url, autocommit=True, name="park exempt") as conn:
        for number, outlet, quantity, start, end, kind, reason, by, gone in conn.execute(
                SQL["list_marks"], {"base": base_id_of(conn, base)}):
            console.print(f"{number}  {outlet} {quantity or 'all'}  {start:%Y-%m-%d %H:%M}Z to {end:%Y-%m-%d %H:%M}Z  {kind}: "
                          f"{reason} ({by})" + (f", withdrawn by {gone}" if gone else ""), markup=False, highlight=False)
