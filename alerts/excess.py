"""What an alert has cost so far: an amount of an energy carrier above its expectation, with the price and CO2 of today."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from alerts.rules import Point
from alerts.store import Connection, Q
from park.errors import InputError
from park.quantities import conversion

# units of power and flow gauges, and the amount that an hour of one is
AN_HOUR_OF = {"W": "Wh", "kW": "kWh", "MW": "MWh", "Nm3/h": "Nm3", "m3/h": "m3", "t/h": "t", "GJ/h": "GJ"}


@dataclass(frozen=True)
class Price:
    """CNY and kg CO2 of one `unit` of a carrier; None: not known."""

    unit: str
    cost: float | None
    co2_kg: float | None


def prices(conn: Connection, base: int, points: Iterable[Point]) -> dict[str, Price]:
    """Prices of the carriers of some points."""
    carriers = sorted({c for p in points if (c := carrier_of(p)) is not None})
    rows = conn.execute(Q["energy_prices"], {"base": base, "carriers": carriers}).fetchall() if carriers else []
    return {carrier: Price(unit, cost, co2) for carrier, unit, cost, co2 in rows}


def carrier_of(p: Point) -> str | None:
    """The carrier that a point meters; a power meter meters electricity."""
    return p.carrier or ("electricity" if p.quantity == "active_power" else None)


def of_hours(p: Point, more: float, known: Mapping[str, Price]) -> dict[str, Any]:
    """`excess`, `cost`, `co2_kg` of what a point's hours were above their expectation: the sum of the hours' means of a gauge,
    or of a counter's increments. Nothing where it is not above, is no amount of a carrier, or is generation."""
    if p.direction == "generation":
        return {}
    return of_amount(carrier_of(p), more, AN_HOUR_OF.get(p.unit) if p.kind == "gauge" else p.unit, known)


def of_amount(carrier: str | None, amount: float, unit: str | None, known: Mapping[str, Price]) -> dict[str, Any]:
    """The same of an amount in a unit, told in the carrier's own."""
    price = known.get(carrier or "")
    if price is None or unit is None or not amount > 0:     # not known is no excess either
        return {}
    try:
        amount *= conversion(unit, price.unit)[0]
    except InputError:
        return {}
    out: dict[str, Any] = {"excess": {"amount": round(amount, 3), "unit": price.unit}}
    if price.cost is not None:
        out["cost"] = round(amount * float(price.cost), 2)
    if price.co2_kg is not None:
        out["co2_kg"] = round(amount * float(price.co2_kg), 2)
    return out
