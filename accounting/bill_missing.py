"""Why a customer has no bill of a month, as data: which readings, which tariff row, what is not in the catalogue.

Written beside the bills (`bill_missing`), so that API, console and command line tell the same cause; the remedy goes by it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from psycopg.types.json import Jsonb

from accounting.columns import Connection
from accounting.slots import SQL

REMEDIES = {
    "no_gate": "put the counter that buys electricity into the catalogue with boundary base or enterprise",
    "no_tariff": "put a tariff of electricity that holds in that month into the catalogue",
    "tariff_unreadable": "mend the terms of that tariff row; park catalogue check names its line",
    "no_readings": "look why those points brought nothing (park doctor), or import their registers (park import)",
}


class NoBill(Exception):
    """There is no bill: the cause, one of REMEDIES, and what it is about."""

    def __init__(self, cause: str, **detail: Any) -> None:
        super().__init__(cause)
        self.cause, self.detail = cause, detail


@dataclass(frozen=True)
class Missing:
    """A customer (enterprise_id None: the base's own gate) without a bill of a month."""

    enterprise_id: int | None
    customer: str
    cause: str
    detail: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        told = self.detail
        what = {"no_gate": "no counter of electricity at a gate", "no_tariff": "no tariff of electricity holds in it",
                "tariff_unreadable": f"tariff row {told.get('tariff_id')} (from {told.get('from')}): {told.get('reason')}",
                "no_readings": "nothing known of " + ", ".join(
                    f"{p['point']} (known {p['first']} to {p['last']})" if p["first"] else f"{p['point']} (never)"
                    for p in told.get("points", []))}[self.cause]
        return f"{what}; {REMEDIES[self.cause]}"


def reason_of(exc: Exception) -> str:
    """What is wrong with terms, for a person."""
    return f"{exc.args[0]!r} is not there" if isinstance(exc, KeyError) and exc.args else str(exc) or type(exc).__name__


def points_of(conn: Connection, base_id: int, points: Iterable[int]) -> list[dict[str, Any]]:
    """The codes of some counters with the first and last day of which anything is known."""
    rows = conn.execute(SQL["known_span"], {"base": base_id, "points": list(points)})
    return [{"point": code, "first": first and first.isoformat(), "last": last and last.isoformat()}
            for code, first, last in rows]


def keep(conn: Connection, base_id: int, month: date, missing: list[Missing]) -> None:
    """Write the causes of a month where they differ; those that hold no more go."""
    conn.execute(SQL["write_missing_bills"], {
        "base": base_id, "month": month, "enterprises": [m.enterprise_id for m in missing],
        "causes": [m.cause for m in missing], "details": [Jsonb(m.detail) for m in missing]})
