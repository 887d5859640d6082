"""`park tariff prices`: market prices of a CSV into a tariff's table, day by day; a new version of the tariff row, never an
edit."""

from __future__ import annotations

import csv
from datetime import date, datetime
from math import isfinite
from pathlib import Path
from typing import Any

from psycopg.types.json import Jsonb

from accounting.columns import Connection
from accounting.slots import SQL
from park.catalogue_store import base_id_of
from park.database import connect
from park.errors import CatalogueError, InputError, Mistake, NotFound

STEPS = {24: 60, 48: 30, 96: 15}  # prices a day: minutes


def read_prices(file: Path) -> dict[date, list[float]]:
    """Prices by base-local day from rows `start,price` (start such as 2026-03-01 00:15); every mistake with its line."""
    found: dict[date, dict[int, float]] = {}
    mistakes: list[Mistake] = []
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as exc:
        raise InputError(f"{file}: cannot be read: {exc}") from exc
    rows = csv.DictReader(text.splitlines())
    if not {"start", "price"} <= set(rows.fieldnames or ()):
        raise InputError(f"{file}:1: expected the columns start and price, got {', '.join(rows.fieldnames or ()) or 'nothing'}")
    for row in rows:
        try:
            at, price = datetime.fromisoformat(row["start"].strip()), float(row["price"])
        except (AttributeError, TypeError, ValueError):
            at, price = None, float("nan")
        if at is None or at.tzinfo is not None or at.minute % 15 or at.second or not isfinite(price):
            mistakes.append(
                Mistake(
                    str(file),
                    rows.line_num,
                    "",
                    "expected a base-local start such as 2026-03-01 00:15 and a price, "
                    f"got {row['start']!r} and {row['price']!r}",
                )
            )
            continue
        minute = at.hour * 60 + at.minute
        if minute in found.setdefault(at.date(), {}):
            mistakes.append(Mistake(str(file), rows.line_num, "", f"the start {row['start']} stands twice"))
        found[at.date()][minute] = price
    for day, prices in found.items():
        step = STEPS.get(len(prices))
        if not mistakes and (step is None or set(prices) != set(range(0, 1440, step))):
            mistakes.append(
                Mistake(
                    str(file),
                    None,
                    "",
                    f"{day} has {len(prices)} prices: expected one an hour (24), half hour (48) or quarter (96), from 00:00 on",
                )
            )
    if mistakes or not found:
        raise CatalogueError(mistakes or [Mistake(str(file), None, "", "no prices")])
    return {day: [prices[m] for m in sorted(prices)] for day, prices in sorted(found.items())}


def take_prices(conn: Connection, base: str, code: str, prices: dict[date, list[float]], source: str) -> list[int]:
    """Put the prices into the tariff rows that hold on their days; the new rows' ids. NotFound for a day without one."""
    base_id = base_id_of(conn, base)
    with conn.transaction():
        conn.execute("SELECT pg_advisory_xact_lock(hashtext('park catalogue'))")
        rows = conn.execute(SQL["tariff_rows"], {"base": base_id, "code": code}).fetchall()
        if not rows:
            raise NotFound(f"there is no tariff {code!r} in base {base!r}")
        changed: dict[int, dict[str, Any]] = {}
        for day, listed in prices.items():
            row = next((r for r in rows if r[1] <= day and (r[2] is None or day < r[2])), None)
            if row is None:
                raise NotFound(f"the tariff {code!r} does not hold on {day}")
            if "flat" in row[3]:
                raise InputError(f"the tariff {code!r} is flat: give its terms `table: {{}}` instead of `flat` first")
            terms = changed.setdefault(row[0], dict(row[3]) | {"table": dict(row[3].get("table", {}))})
            terms["table"][day.isoformat()] = listed
        made = []
        for tariff_id, terms in changed.items():
            if terms == next(r[3] for r in rows if r[0] == tariff_id):
                continue
            new = conn.execute(
                SQL["new_tariff_version"], {"base": base_id, "tariff": tariff_id, "terms": Jsonb(terms), "source": source}
            ).fetchone()
            made.append(int((new or (0,))[0]))
        if made:
            conn.execute("SELECT pg_notify('park_catalogue', %s)", (base,))
    return made


def import_prices(database_url: str, base: str, code: str, file: Path) -> str:
    """Read a file and take its prices; what was done in words."""
    prices = read_prices(file)
    with connect(database_url, autocommit=True, name="park tariff") as conn:
        made = take_prices(conn, base, code, prices, f"market prices of {file.name}")
    days = f"{len(prices)} days from {min(prices)} to {max(prices)}"
    return f"{days}: new tariff rows {', '.join(map(str, made))}" if made else f"{days}: already there"
