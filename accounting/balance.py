"""`park balance`: parent meters against their children over a period, with the uncertainty of the remainder."""

from __future__ import annotations

import json
from typing import Any

from psycopg.rows import dict_row
from rich.console import Console
from rich.table import Table

from accounting.slots import SQL
from park.catalogue_store import base_id_of
from park.clock import parse_period
from park.database import connect
from park.errors import NotFound


def balances(database_url: str, base: str, period: str, carrier: str | None = None) -> list[dict[str, Any]]:
    """A row a parent; NotFound where the base has no flows with accounted days in the period."""
    with connect(database_url, autocommit=True, name="park balance") as conn:
        base_id = base_id_of(conn, base)
        zone = str((conn.execute("SELECT timezone FROM base WHERE base_id = %s", (base_id,)).fetchone() or ("",))[0])
        span = parse_period(period, zone)
        rows = conn.cursor(row_factory=dict_row).execute(SQL["balances"], {
            "base": base_id, "first": span.first_day, "last": span.last_day, "carrier": carrier}).fetchall()
    if not rows:
        raise NotFound(f"no balance of {base} in {period}: it needs flows of kind sub whose meters have accounted days")
    return [_judged(row) for row in rows]


def _judged(row: dict[str, Any]) -> dict[str, Any]:
    """The row with shares, and whether the remainder is more than the meters' classes explain."""
    rest, parent, margin = row["unaccounted"], row["parent_balanced"], row["uncertainty"]
    return row | {"share": rest / parent if rest is not None and parent else None,
                  "share_uncertainty": margin / parent if margin is not None and parent else None,
                  "significant": None if rest is None or margin is None else abs(rest) > margin}


def print_balances(database_url: str, base: str, period: str, carrier: str | None, output: str) -> None:
    """Print them as a table or JSON."""
    rows = balances(database_url, base, period, carrier)
    if output == "json":
        print(json.dumps(rows, ensure_ascii=False, indent=2))
        return
    console = Console()
    table = Table(title=f"Balance of {base}, {period}")
    for name in ("parent", "unit", "through", "below", "rest", "share", "+/-"):
        table.add_column(name, justify="left" if name in ("parent", "unit") else "right", no_wrap=True)
    for r in rows:
        mark = " *" if r["significant"] else ""
        table.add_row(r["parent"] + mark, r["unit"], _figure(r["parent_amount"]), _figure(r["children_amount"]),
                      _figure(r["unaccounted"]), _percent(r["share"]), _percent(r["share_uncertainty"]))
    console.print(table)
    console.print("* more than the meters' classes explain (k = 2)", highlight=False)
    for r in rows:
        if r["days_balanced"] < r["days"]:
            console.print(f"{r['parent']}: rest of {r['days_balanced']} of {r['days']} days", highlight=False)
    assumed = sorted({code for r in rows for code in r["assumed"]})
    if assumed:
        console.print(f"class assumed from GB 17167: {', '.join(assumed)}", highlight=False)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.2f} %"
