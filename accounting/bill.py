"""The electricity bill of a month, as a pure function of what the meters say and what the tariff terms say.

Every line is amount = quantity x price x factor, rounded half up to the cent, and the total is the sum of the lines: a
reader with the printed lines finds the same figures. Rules beside prices (load rate, contract demand, the power-factor table)
are dated rows of `tables/electricity_bill.yaml`. Terms, beside prices and hours (tariffs.py):

    demand: {price_kw: 40.8, price_kva: 25.5, contracts: {e1: {capacity_kva: 8000, basis: actual_demand}}}
    power_factor: {standard: 0.90, surcharges_in_base: false, standards: {e2: 0.85}}
    additions: [{code: funds, price: 0.0292, surcharge: true}, {code: line_loss, price: 0.021}]
    losses: {e2: {transformer: {iron_kw: 4.2, copper_share: 0.012, iron_kvar: 30, copper_kvar_share: 0.05}, line: {share:
    0.008}}}

`contracts` is by enterprise code (`base`: the park's own gate); basis capacity, actual_demand or contract_demand (with
`contract_kw`). An addition is a price per kWh; `surcharge: true` marks government funds, which the power factor adjusts only
where the province's switch `surcharges_in_base` says so. `losses` are those of a customer who is metered behind its own
transformer or line: iron x hours + copper x energy, then line x (energy + transformer loss), spread over the periods like the
energy and charged like it; the power factor has them in both registers, kWh per kVA has the metered energy.
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import ROUND_HALF_UP, Decimal
from functools import cache
from math import hypot, isfinite
from pathlib import Path
from typing import Any

import yaml

from park.errors import InputError

TABLES = Path(__file__).parent / "tables" / "electricity_bill.yaml"
BASES = ("capacity", "actual_demand", "contract_demand")


@dataclass(frozen=True)
class Month:
    """What the meters say of a month. Energy by (tariff row, period) in kWh; reactive in kvarh, |import| + |export|."""

    month: date
    customer: str                        # enterprise code, or `base`
    energy_kwh: Mapping[tuple[int, str], float]
    estimated_kwh: float
    n_expected: int
    n_known: int
    reactive_kvarh: float | None
    demand_kw: float | None              # largest measured 15-minute mean
    demand_at: datetime | None = None
    demand_is_lower_bound: bool = False
    is_over: bool = True
    reactive_complete: bool = True
    hours: float = 0.0                   # hours of the month that are over; 0: all of them
    mean_price: Mapping[tuple[int, str], float] = field(default_factory=dict)     # CNY/kWh, of prices that vary
    unpriced_slots: int = 0              # slots of which no tariff says a price
    holidays_guessed: bool = False       # prices hang on the class of the day, and nobody has arranged the year's days


@dataclass(frozen=True)
class Line:
    """amount = quantity x price x factor, in CNY to the cent."""

    item: str
    quantity: float
    unit: str
    price: float
    factor: float
    amount: float
    in_base: bool
    tariff_id: int
    source: str = ""
    verified: bool = False


@dataclass(frozen=True)
class Bill:
    """A month's lines and what they rest on; `notes` name what is missing or assumed."""

    month: Month
    lines: tuple[Line, ...]
    total: float
    energy_kwh: float
    power_factor: float | None
    kwh_per_kva: float | None
    notes: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """The month is over, every slot is known and measured, and nothing of the terms is missing."""
        return self.month.is_over and not self.notes


@dataclass(frozen=True)
class Terms:
    """Terms of the tariff rows of a month, by tariff id; the demand and power-factor terms are those of `last`."""

    rows: Mapping[int, Mapping[str, Any]]
    last: int
    sources: Mapping[int, tuple[str, bool]] = field(default_factory=dict)


@cache
def rules() -> dict[str, Any]:
    """The table file."""
    loaded: dict[str, Any] = yaml.load(TABLES.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    return loaded


def cents(amount: float) -> float:
    """Rounded half up to two places; the ninth place is taken as exact, so that 0.125 does not fall to a binary 0.1249..."""
    return float(Decimal(f"{amount:.9f}").quantize(Decimal("0.01"), ROUND_HALF_UP))


def line(item: str, quantity: float, unit: str, price: float, tariff_id: int, *, factor: float = 1.0, in_base: bool = True,
         source: str = "", verified: bool = False) -> Line:
    """A line with its amount; the quantity is rounded first (kWh, kW and CNY to two places), so that the print reproduces."""
    printed = cents(quantity)
    return Line(item, printed, unit, price, factor, cents(printed * price * factor), in_base, tariff_id, source, verified)


def bill(month: Month, terms: Terms) -> Bill:
    """The bill of a month; InputError for terms that cannot be read."""
    energy = sum(month.energy_kwh.values())
    contract = _contract(month, terms)
    capacity = contract.get("capacity_kva")
    load = energy / float(capacity) if capacity else None
    loss = losses(month, terms, energy)
    notes = list(_data_notes(month))
    lines = [*_energy_lines(month, terms), *_loss_lines(month, terms, loss), *_addition_lines(month, terms, loss)]
    demand, more = _demand_lines(month, terms, contract, load)
    lines += demand
    factor = power_factor(energy + loss.kwh, None if month.reactive_kvarh is None else month.reactive_kvarh + loss.kvarh)
    adjustment, also = _adjustment(month, terms, lines, factor)
    lines += adjustment
    return Bill(month, tuple(lines), cents(sum(x.amount for x in lines)), energy, factor, load, (*notes, *more, *also))


@dataclass(frozen=True)
class Losses:
    """What a customer's transformer and line take in a month."""

    transformer_kwh: float = 0.0
    line_kwh: float = 0.0
    kvarh: float = 0.0

    @property
    def kwh(self) -> float:
        """Both."""
        return self.transformer_kwh + self.line_kwh


def losses(month: Month, terms: Terms, energy: float) -> Losses:
    """The losses that the terms say of the customer; InputError for a negative or unknown figure."""
    told: Mapping[str, Any] = terms.rows[terms.last].get("losses", {}).get(month.customer, {})
    transformer, line_ = told.get("transformer", {}), told.get("line", {})
    known = {"iron_kw", "copper_share", "iron_kvar", "copper_kvar_share"}
    if set(told) - {"transformer", "line"} or set(transformer) - known or set(line_) - {"share"} or any(
            not float(v) >= 0 for v in (*transformer.values(), *line_.values())):
        raise InputError(f"losses of {month.customer}: expected transformer with {', '.join(sorted(known))} and line "
                         f"with share, each 0 or more, got {dict(told)}")
    hours = month.hours or 24.0 * monthrange(month.month.year, month.month.month)[1]
    inside = float(transformer.get("iron_kw", 0)) * hours + float(transformer.get("copper_share", 0)) * energy
    return Losses(inside, float(line_.get("share", 0)) * (energy + inside),
                  float(transformer.get("iron_kvar", 0)) * hours + float(transformer.get("copper_kvar_share", 0)) * energy)


def power_factor(active_kwh: float, reactive_kvarh: float | None) -> float | None:
    """ΣP / √(ΣP² + ΣQ²), rounded half up to two places; None without both."""
    if reactive_kvarh is None or active_kwh <= 0:
        return None
    return cents(active_kwh / hypot(active_kwh, reactive_kvarh))


def adjustment_percent(standard: float, factor: float) -> float:
    """Percent that the table adds at a power factor of two places; InputError for a standard it does not have."""
    bands = rules()["power_factor"]["standards"].get(standard)
    if bands is None:
        raise InputError(f"expected a power-factor standard of 0.90, 0.85 or 0.80, got {standard}")
    at = round(factor * 100)
    band = next(b for b in bands if at >= round(b["low"] * 100))
    percent = float(band["percent"]) + float(band["step"]) * (round(float(band["high"]) * 100) - at)
    return round(percent, 4)


def _data_notes(month: Month) -> Iterator[str]:
    if not month.is_over:
        yield "the month is not over"
    if month.n_known < month.n_expected:
        yield f"{month.n_expected - month.n_known} of {month.n_expected} slots are not known: energy is a lower bound"
    if month.unpriced_slots:
        yield f"no price for {month.unpriced_slots} slots: their energy is not in the bill"
    if month.holidays_guessed:
        yield f"public holidays of {month.month.year} are not known: weekends and fixed holidays alone are priced as such"
    if month.estimated_kwh > 0:
        yield f"{month.estimated_kwh:,.0f} kWh are split over time by estimate"


def _unit_price(month: Month, terms: Terms, key: tuple[int, str]) -> float:
    """CNY/kWh of a tariff row and period; where prices vary, their mean over the energy."""
    row = terms.rows[key[0]]
    price = month.mean_price.get(key) if "table" in row else row["flat"] if "flat" in row else row.get("prices", {}).get(key[1])
    if price is None:
        raise InputError(f"tariff {key[0]} has no price for {key[1]!r}")
    return float(price)


def _energy_lines(month: Month, terms: Terms) -> Iterator[Line]:
    for (tariff_id, period), kwh in month.energy_kwh.items():
        source, verified = terms.sources.get(tariff_id, ("", False))
        yield line(f"energy.{period}", kwh, "kWh", _unit_price(month, terms, (tariff_id, period)), tariff_id, source=source,
                   verified=verified)


def _loss_lines(month: Month, terms: Terms, loss: Losses) -> Iterator[Line]:
    """Losses over the periods as the energy is, at its prices."""
    whole = sum(month.energy_kwh.values())
    for name, kwh in (("transformer_loss", loss.transformer_kwh), ("line_loss", loss.line_kwh)):
        for key, part in month.energy_kwh.items() if kwh > 0 and whole > 0 else ():
            source, verified = terms.sources.get(key[0], ("", False))
            yield line(f"{name}.{key[1]}", kwh * part / whole, "kWh", _unit_price(month, terms, key), key[0], source=source,
                       verified=verified)


def _addition_lines(month: Month, terms: Terms, loss: Losses) -> Iterator[Line]:
    """Prices per kWh beside the energy price, a line a tariff row and addition; on energy and losses."""
    whole = sum(month.energy_kwh.values())
    for tariff_id, row in terms.rows.items():
        kwh = sum(v for (t, _), v in month.energy_kwh.items() if t == tariff_id)
        for one in row.get("additions", []):
            yield line(f"addition.{one['code']}", kwh * (1 + loss.kwh / whole) if whole > 0 else kwh, "kWh",
                       float(one["price"]), tariff_id,
                       in_base=not one.get("surcharge", False) or _surcharges_in_base(terms),
                       source=str(one.get("source", terms.sources.get(tariff_id, ("", False))[0])),
                       verified=bool(one.get("verified", False)))


def _surcharges_in_base(terms: Terms) -> bool:
    return bool(terms.rows[terms.last].get("power_factor", {}).get("surcharges_in_base", False))


def _contract(month: Month, terms: Terms) -> Mapping[str, Any]:
    found: Mapping[str, Any] = terms.rows[terms.last].get("demand", {}).get("contracts", {}).get(month.customer, {})
    if found and (found.get("basis", "capacity") not in BASES or not found.get("capacity_kva", 0) > 0):
        raise InputError(f"contract of {month.customer}: expected a basis of {', '.join(BASES)} and a capacity_kva above 0, "
                         f"got {dict(found)}")
    return found


def _rule(name: str, on: date) -> dict[str, Any] | None:
    """The row of a dated table that holds on a day."""
    return next((r for r in rules()[name] if r["from"] <= on and (r.get("to") is None or on < r["to"])), None)


def _demand_lines(month: Month, terms: Terms, contract: Mapping[str, Any], load: float | None) -> tuple[list[Line], list[str]]:
    """Capacity or demand charge, the load-rate rule applied, and what to note about it."""
    if not contract:
        return [], []
    prices, tariff_id = terms.rows[terms.last]["demand"], terms.last
    source, verified = terms.sources.get(tariff_id, ("", False))
    if contract.get("basis", "capacity") == "capacity":
        return [line("capacity", contract["capacity_kva"], "kVA", _price(prices, "price_kva"), tariff_id, source=source,
                     verified=verified)], []
    if month.demand_kw is None:
        return [], ["no measured slot: the demand charge is missing"]
    notes = []
    if month.demand_is_lower_bound:
        notes.append("a slot near the peak is not measured: the demand is a lower bound")
    price, rule = _price(prices, "price_kw"), _rule("load_rate", month.month)
    share = 1.0
    if rule is not None and load is not None and load >= rule["kwh_per_kva"]:
        share, source, verified = rule["demand_share"], rule["source"], verified and rule["verified"]
    elif rule is not None and (month.n_known < month.n_expected or not month.is_over):
        notes.append(f"kWh per kVA is a lower bound: the demand price may still fall to {rule['demand_share']:.0%}")
    charged = _charged(month, contract)
    return [line(item, kw, "kW", price, tariff_id, factor=round(times * share, 6), source=source, verified=verified and sure)
            for item, kw, times, sure in charged], notes


def _charged(month: Month, contract: Mapping[str, Any]) -> list[tuple[str, float, float, bool]]:
    """(item, kW, times the price, whether the rule is verified)."""
    demand = float(month.demand_kw or 0.0)
    if contract["basis"] == "actual_demand":
        return [("demand", demand, 1.0, True)]
    if "contract_kw" not in contract:
        raise InputError(f"contract of {month.customer}: basis contract_demand needs contract_kw")
    rule = _rule("contract_demand", month.month)
    assert rule is not None, "the contract-demand table has a row without an end"
    agreed = max(float(contract["contract_kw"]), rule["floor_share"] * float(contract["capacity_kva"]))
    lines = [("demand", agreed, 1.0, bool(rule["verified"]))]
    if demand > rule["tolerance"] * agreed:
        excess = demand - rule["tolerance"] * agreed
        lines.append(("demand.excess", excess, float(rule["excess_factor"]), bool(rule["verified"])))
    return lines


def _price(prices: Mapping[str, Any], name: str) -> float:
    if name not in prices or not isfinite(float(prices[name])):
        raise InputError(f"the demand terms have no {name}")
    return float(prices[name])


def _adjustment(month: Month, terms: Terms, lines: list[Line], factor: float | None) -> tuple[list[Line], list[str]]:
    """The power-factor line over the lines of its base."""
    row = terms.rows[terms.last].get("power_factor")
    if row is None:
        return [], []
    if factor is None:
        return [], ["no reactive counter at the gate: the power-factor adjustment is missing"]
    standard = float(row.get("standards", {}).get(month.customer, row["standard"]))
    base = cents(sum(x.amount for x in lines if x.in_base))
    table = rules()["power_factor"]
    percent = adjustment_percent(standard, factor)
    notes = [] if month.reactive_complete else ["reactive energy has unknown slots: the power factor may be lower"]
    return [line("power_factor", base, "CNY", round(percent / 100, 8), terms.last, in_base=False,
                 source=f"{table['source']}, standard {standard:.2f}, power factor {factor:.2f}",
                 verified=bool(table["verified"]))], notes
