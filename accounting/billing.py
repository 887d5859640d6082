"""`park bill`: the bill of a customer and month as a table or JSON, computed from the slots at this moment."""

from __future__ import annotations

import json
from datetime import date, datetime
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from accounting.bill import Bill
from accounting.bill_missing import REMEDIES
from accounting.bills import bills_of
from park.catalogue_store import base_id_of
from park.clock import Clock, utc_now
from park.database import connect
from park.errors import InputError, NotFound


def print_bill(database_url: str, base: str, month: str, enterprise: str | None, output: str, clock: Clock = utc_now) -> None:
    """Print it; NotFound without such an enterprise, or without slots or a tariff in that month."""
    try:
        first = datetime.strptime(month, "%Y-%m").date()
    except ValueError as exc:
        raise InputError(f"expected a month such as 2026-10, got {month!r}") from exc
    with connect(database_url, autocommit=True, name="park bill") as conn:
        base_id = base_id_of(conn, base)
        zone = str((conn.execute("SELECT timezone FROM base WHERE base_id = %s", (base_id,)).fetchone() or ("",))[0])
        made, missing = bills_of(conn, base_id, zone, first, clock())
    found = {gate.customer: one for gate, one in made}
    customer = enterprise or "base"
    if customer not in found:
        have = ", ".join(sorted(found)) or "none"
        why = next((str(m) for m in missing if m.customer == customer),
                   f"no counter of electricity at its gate; {REMEDIES['no_gate']}")
        raise NotFound(f"no bill of {customer} for {month}: {why}. In that month there are bills of: {have}")
    console = Console()
    if output == "json":
        print(json.dumps(as_data(base, first, found[customer]), ensure_ascii=False, indent=2))
    else:
        _print_table(console, base, month, found[customer])


def as_data(base: str, month: date, made: Bill) -> dict[str, Any]:
    """The bill as plain data; amounts in CNY."""
    m = made.month
    return {"base": base, "customer": m.customer, "month": f"{month:%Y-%m}", "total": made.total, "complete": made.complete,
            "energy_kwh": round(made.energy_kwh, 3), "coverage": m.n_known / m.n_expected if m.n_expected else None,
            "estimated_kwh": round(m.estimated_kwh, 3), "reactive_kvarh": m.reactive_kvarh, "power_factor": made.power_factor,
            "demand_kw": m.demand_kw, "demand_at": m.demand_at.isoformat() if m.demand_at else None,
            "demand_is_lower_bound": m.demand_is_lower_bound, "kwh_per_kva": made.kwh_per_kva, "notes": list(made.notes),
            "lines": [{"item": x.item, "quantity": x.quantity, "unit": x.unit, "price": x.price, "factor": x.factor,
                       "amount": x.amount, "in_power_factor_base": x.in_base, "tariff_id": x.tariff_id, "source": x.source,
                       "verified": x.verified} for x in made.lines]}


def _print_table(console: Console, base: str, month: str, made: Bill) -> None:
    m = made.month
    table = Table(title=f"Electricity bill of {base} / {m.customer}, {month}, CNY")
    table.add_column("item", no_wrap=True)
    for name in ("quantity", "unit", "price", "factor", "amount"):
        table.add_column(name, justify="left" if name == "unit" else "right", no_wrap=True)
    sources = list(dict.fromkeys(x.source + ("" if x.verified else " (unverified)") for x in made.lines))
    for x in made.lines:
        mark = sources.index(x.source + ("" if x.verified else " (unverified)")) + 1
        table.add_row(f"{x.item}{_raised(mark)}", f"{x.quantity:,.2f}", x.unit, f"{x.price:.8g}", f"{x.factor:g}",
                      f"{x.amount:,.2f}")
    table.add_row("total", "", "", "", "", f"{made.total:,.2f}", style="bold")
    console.print(table)
    for number, source in enumerate(sources, 1):
        console.print(f"{_raised(number)} {escape(source)}", highlight=False)
    peak = "not metered" if m.demand_kw is None else \
        f"{'at least ' if m.demand_is_lower_bound else ''}{m.demand_kw:,.1f} kW"
    console.print(f"demand {peak}; power factor {made.power_factor if made.power_factor is not None else 'not metered'}; "
                  f"kWh per kVA {'-' if made.kwh_per_kva is None else format(made.kwh_per_kva, '.1f')}; "
                  f"{m.n_known} of {m.n_expected} slots known", highlight=False)
    for note in made.notes:
        console.print(f"note: {note}", highlight=False)


def _raised(number: int) -> str:
    """A footnote's number."""
    return str(number).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))
