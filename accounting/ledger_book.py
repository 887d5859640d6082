"""`park ledger template|import|audit`: manual entries by xlsx, booked as one, and the record of who booked and corrected
what."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from accounting.columns import Connection
from accounting.slots import SQL
from park.catalogue_store import base_id_of
from park.database import connect
from park.errors import InputError
from park.ledger import Language
from park.ledger_forms import FormEntry, as_row, read_entries, template


def write_template(database_url: str, base: str, file: Path) -> None:
    """An empty template with the base's enterprises."""
    with connect(database_url, autocommit=True, name="park ledger") as conn:
        rows = conn.execute(SQL["form_enterprises"], {"base": base_id_of(conn, base)}).fetchall()
    file.write_bytes(template({code: f"{zh} · {en}" for code, zh, en in rows}))


def import_file(
    database_url: str, base: str, file: Path, by: str, *, check: bool = False, lang: Language = "en"
) -> list[FormEntry]:
    """Book every entry of a filled template, or none: CatalogueError names each wrong cell in the language."""
    if not by.strip():
        raise InputError("expected --by with the name of the person who books")
    try:
        data = file.read_bytes()
    except OSError as exc:
        raise InputError(f"{file}: cannot be read: {exc}") from exc
    with connect(database_url, autocommit=True, name="park ledger") as conn, conn.transaction():
        return book(conn, base_id_of(conn, base), data, str(file), by, base=base, check=check, lang=lang)


def book(
    conn: Connection, base_id: int, data: bytes, name: str, by: str, *, base: str, check: bool = False, lang: Language = "en"
) -> list[FormEntry]:
    """The entries of a file into the ledger, in the caller's transaction."""
    key: dict[str, Any] = {"base": base_id}
    conn.execute("SELECT pg_advisory_xact_lock(hashtext('park ledger'), 0)")
    enterprises = {code: (zh, en) for code, zh, en in conn.execute(SQL["form_enterprises"], key)}
    there = {tuple(row[1:]): row[0] for row in conn.execute(SQL["form_keys"], key)}
    entries = read_entries(data, name, enterprises, there, lang)
    if not check:
        with conn.cursor() as cursor:
            cursor.executemany(SQL["book_form_entry"], [as_row(e) | key | {"by": by} for e in entries])
        conn.execute("SELECT pg_notify('park_catalogue', %s)", (base,))
    return entries


def print_audit(database_url: str, base: str, limit: int = 100) -> None:
    """Who booked, corrected and settled what, newest first."""
    with connect(database_url, autocommit=True, name="park ledger") as conn:
        rows = conn.execute(SQL["ledger_audit"], {"base": base_id_of(conn, base), "limit": limit}).fetchall()
    shown = Table(title=f"Ledger of {base}, newest first")
    for name in ("entry", "at", "by", "step", "what", "value", "before", "why"):
        shown.add_column(name)
    for (
        entry,
        at,
        by,
        kind,
        enterprise,
        item,
        action,
        first,
        last,
        value,
        unit,
        status,
        former,
        former_value,
        former_unit,
        why,
    ) in rows:
        step = (
            "booked"
            if former is None
            else f"corrected {former}"
            if (value, unit) != (former_value, former_unit)
            else f"{status}: {former}"
        )
        shown.add_row(
            str(entry),
            f"{at:%Y-%m-%d %H:%M}Z",
            by,
            step,
            " ".join(x for x in (kind, enterprise, item, action, f"{first}..{last}") if x),
            f"{value:g} {unit}",
            "" if former is None else f"{former_value:g} {former_unit}",
            why,
        )
    Console().print(shown)
