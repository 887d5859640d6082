"""Deliveries that were given up: `park route dead` lists them, `park route resend` gives them all their tries again."""

from __future__ import annotations

from zoneinfo import ZoneInfo

from alerts.context import load
from alerts.store import Q
from park.catalogue_store import base_id_of
from park.clock import utc_now
from park.database import connect
from park.errors import NotFound
from park.settings import load_settings


def show(base: str, name: str | None) -> None:
    """Print the dead deliveries of a base as CSV, base-local."""
    with connect(load_settings().database_url, autocommit=True, name="park route") as conn:
        base_id = base_id_of(conn, base)
        zone = ZoneInfo(load(conn, utc_now()).zones[base_id])
        rows = conn.execute(Q["dead_deliveries"], {"base": base_id, "name": name}).fetchall()
    print("route,transition,at,change,alert,rule,severity,tries,error")
    for route, transition, at, change, alert, rule, severity, tries, error in rows:
        said = " ".join(error.split()).replace(",", ";")
        print(f"{route},{transition},{at.astimezone(zone):%Y-%m-%d %H:%M:%S},{change},{alert},{rule},{severity},{tries},{said}")


def resend(base: str, name: str) -> None:
    """Make the dead deliveries of a route (or of `webhook`, `mqtt`) due again; NotFound when it has none."""
    with connect(load_settings().database_url, autocommit=True, name="park route") as conn:
        rows = conn.execute(Q["resend_dead"], {"base": base_id_of(conn, base), "name": name}).fetchall()
    if not rows:
        raise NotFound(f"base {base} has no dead delivery of {name!r}; `park route dead {base}` lists what there is")
    print(f"{name}: {len(rows)} due again")
