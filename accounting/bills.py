"""Bills of the months that a pass touched: from slots of the gates' kWh and kvarh counters to `bill` and `bill_line`.

A customer is an enterprise (its `enterprise` counters) or the base's own gate (its `base` counters). Bought energy counts:
counters of direction import or sum. Reactive counters are those of the same units; all their directions are added.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accounting.bill import Bill, Month, Terms, bill
from accounting.bill_missing import Missing, NoBill, keep, points_of, reason_of
from accounting.columns import Columns, Connection, from_us, read_columns, to_us
from accounting.counters import INTERVAL, SQL
from accounting.energy import calendar_of, is_arranged
from accounting.intervals import SLOT_US
from accounting.localday import Days, local_days
from accounting.tariffs import Tariff, price_slots
from park.clock import local_midnight
from park.errors import InputError
from park.quality import Quality
from park.quantities import conversion

log = logging.getLogger(__name__)

SLOT_H = 0.25
NEAR_PEAK, NEAR_QUARTERS = 0.9, 4
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Gate:
    """A customer's counters: point ids of active and reactive ones with their multiplier to kWh and kvarh.

    `slow`: active ones that are read more slowly than by quarters, so that no mean of 15 minutes is measured.
    """

    enterprise_id: int | None
    customer: str
    active: dict[int, float]
    reactive: dict[int, float]
    slow: set[int]


@dataclass(frozen=True)
class TariffRow:
    """A tariff row of electricity with whose it is."""

    tariff: Tariff
    enterprise_id: int | None
    unit: str
    source: str
    verified: bool


@dataclass(frozen=True)
class Demand:
    """The largest measured 15-minute mean of a month and the slot it was in."""

    kw: float
    slot: int
    is_lower_bound: bool


def month_demand(kwh: Floats, measured: NDArray[np.bool_], due: NDArray[np.bool_]) -> Demand | None:
    """Demand of a month's slots (from local midnight); None without a measured one.

    A lower bound when a due slot without measurement lies near the peak: within an hour of the time of day of a quarter
    that reached 90 % of the peak on any day of the month, or where no day says what that time of day reaches.
    """
    if not measured.any():
        return None
    kw = np.where(measured, kwh / SLOT_H, -np.inf)
    slot = int(np.argmax(kw))
    whole = np.pad(kw, (0, -len(kw) % 96), constant_values=-np.inf).reshape(-1, 96).max(axis=0)
    reach = np.max([np.roll(whole, i) for i in range(-NEAR_QUARTERS, NEAR_QUARTERS + 1)], axis=0)
    near = (reach >= NEAR_PEAK * kw[slot]) | (whole == -np.inf)
    missing = due & ~measured
    return Demand(float(kw[slot]), slot, bool(near[np.flatnonzero(missing) % 96].any()))


def bills_of(conn: Connection, base_id: int, zone: str, month: date, now: datetime
             ) -> tuple[list[tuple[Gate, Bill]], list[Missing]]:
    """The bill of every customer of a base that has a gate counter and a tariff in that month, and why the others have none."""
    gates, tariffs = _gates(conn, base_id), _tariffs(conn, base_id)
    days = local_days(to_us(local_midnight(month, zone)), to_us(local_midnight(next_month(month), zone)), zone)
    if not gates:
        return [], [Missing(None, "base", "no_gate")]
    slots = _read(conn, base_id, gates, days)
    classes = calendar_of(conn, base_id, days.dates[0], days.dates[-1])
    labels = {r.tariff.tariff_id: _labels(r.tariff, days, classes) for r in tariffs}
    arranged = is_arranged(conn, base_id, month.year)
    found, missing = [], []
    for gate in gates:
        rows = [r for r in tariffs if r.enterprise_id in (None, gate.enterprise_id)]
        try:
            found.append((gate, _bill(gate, rows, labels, slots, days, month, to_us(now), arranged)))
        except NoBill as exc:
            detail = exc.detail | ({"points": points_of(conn, base_id, gate.active)} if exc.cause == "no_readings" else {})
            missing.append(Missing(gate.enterprise_id, gate.customer, exc.cause, detail))
            if exc.cause == "tariff_unreadable":
                log.error("no bill of %s for %s: %s", gate.customer, f"{month:%Y-%m}", missing[-1])
    return found, missing


def compute(conn: Connection, base_id: int, zone: str, periods: list[str], now: datetime) -> None:
    """Bills of the months among some periods, written where they differ."""
    for month in [date(int(p[:4]), int(p[5:7]), 1) for p in periods if len(p) == 7]:
        if to_us(local_midnight(month, zone)) >= to_us(now):
            continue
        made, missing = bills_of(conn, base_id, zone, month, now)
        keep(conn, base_id, month, missing)
        conn.execute(SQL["forget_bills"], {"base": base_id, "month": month, "kept": [g.enterprise_id or -1 for g, _ in made]})
        for gate, one in made:
            _write(conn, base_id, gate, one)


def next_month(month: date) -> date:
    """The first day of the month after."""
    return (month + timedelta(days=31)).replace(day=1)


def _gates(conn: Connection, base_id: int) -> list[Gate]:
    gates: dict[str, Gate] = {}
    for enterprise_id, customer, point_id, multiplier, slow in conn.execute(SQL["gates"], {"base": base_id}):
        gate = gates.setdefault(customer, Gate(enterprise_id, customer, {}, {}, set()))
        gate.active[point_id] = multiplier
        gate.slow.update({point_id} if slow else ())
    for customer, point_id, unit in conn.execute(SQL["reactive_counters"], {"base": base_id}):
        gates[customer].reactive[point_id] = conversion(unit, "kvarh")[0]
    return list(gates.values())


def _tariffs(conn: Connection, base_id: int) -> list[TariffRow]:
    return [TariffRow(Tariff(tariff_id, terms, since, until), enterprise_id, unit, source, verified)
            for tariff_id, enterprise_id, unit, terms, since, until, source, verified
            in conn.execute(SQL["bill_tariffs"], {"base": base_id})]


def _read(conn: Connection, base_id: int, gates: list[Gate], days: Days) -> dict[int, Columns]:
    """Slots of every counter of the gates in the month."""
    points = sorted({p for g in gates for p in (*g.active, *g.reactive)})
    got = read_columns(conn, SQL["read_intervals"], {
        "base": base_id, "points": points, "low": [from_us(days.borders[0])] * len(points),
        "high": [from_us(days.borders[-1])] * len(points)}, INTERVAL)
    order = np.argsort(got["point_id"], kind="stable")
    got = {k: v[order] for k, v in got.items()}
    edges = np.searchsorted(got["point_id"], [[p, p + 1] for p in points])
    return {p: {k: v[a:b] for k, v in got.items()} for p, (a, b) in zip(points, edges, strict=True)}


def _dense(slots: Columns, days: Days, multiplier: float) -> tuple[Floats, NDArray[np.bool_]]:
    """(amount, measured) of each slot of the month; NaN where it is not known."""
    n = int(days.borders[-1] - days.borders[0]) // SLOT_US
    amount, measured = np.full(n, np.nan), np.zeros(n, bool)
    at = (slots["ts"] - days.borders[0]) // SLOT_US
    amount[at] = slots["amount"] * multiplier
    measured[at] = (slots["quality"] <= Quality.MANUAL) & np.isfinite(slots["amount"])
    return amount, measured


@dataclass(frozen=True)
class Labels:
    """The period of each slot of the month ('' where the tariff says no price), and the prices where they vary."""

    period: NDArray[np.object_]
    price: Floats | None = None


def _labels(tariff: Tariff, days: Days, classes: dict[date, str]) -> Labels | str:
    """The reason for terms that cannot be read."""
    n = int(days.borders[-1] - days.borders[0]) // SLOT_US
    labels, price = np.full(n, "", object), None
    try:
        priced = price_slots(tariff, days, classes)
    except (InputError, KeyError, ValueError, TypeError) as exc:
        return reason_of(exc)
    if priced is not None:
        at = (priced.ts - days.borders[0]) // SLOT_US
        labels[at] = priced.period
        if "table" in tariff.terms:
            price = np.full(n, np.nan)
            price[at] = priced.price
    elif "flat" in tariff.terms:
        for i, day in enumerate(days.dates):
            if tariff.valid_from <= day and (tariff.valid_to is None or day < tariff.valid_to):
                labels[slice(*((days.borders[i:i + 2] - days.borders[0]) // SLOT_US))] = "all"
    return Labels(labels, price)


def _bill(gate: Gate, rows: list[TariffRow], labels: dict[int, Labels | str], slots: dict[int, Columns],
          days: Days, month: date, now_us: int, arranged: bool) -> Bill:
    """The bill of a gate; NoBill where no tariff holds in the month, its terms cannot be read or nothing is known of it."""
    parts = [_dense(slots[p], days, m) for p, m in gate.active.items()]
    amounts: Floats = np.array([a for a, _ in parts])
    measured: NDArray[np.bool_] = np.array([m for _, m in parts])
    if not np.isfinite(amounts).any():
        raise NoBill("no_readings")
    chosen = _tariff_of_slots(rows, labels, days)
    energy, by_id = list(_energy(rows, labels, chosen, amounts)), {r.tariff.tariff_id: r for r in rows}
    if not (chosen >= 0).any():
        raise NoBill("no_tariff", tariffs=[_told(r) for r in rows])
    used = [rows[i].tariff.tariff_id for i in dict.fromkeys(chosen[chosen >= 0].tolist())]
    for tariff_id in used:
        if by_id[tariff_id].unit != "CNY/kWh":
            raise _unreadable(by_id[tariff_id], f"expected a tariff in CNY/kWh, got {by_id[tariff_id].unit}")
    due: NDArray[np.bool_] = days.borders[0] + SLOT_US * (np.arange(amounts.shape[1]) + 1) <= now_us
    every: NDArray[np.bool_] = np.logical_and.reduce(measured)
    peak = month_demand(amounts.sum(axis=0), every, due)
    reactive = [_dense(slots[p], days, m)[0] for p, m in gate.reactive.items()]
    known = np.isfinite(amounts)
    said = Month(
        month, gate.customer, {key: kwh for key, kwh, _ in energy}, float(amounts[known & ~measured].sum()),
        int(due.sum()) * len(amounts),
        int((known & due).sum()), float(np.nansum(reactive)) if reactive and np.isfinite(reactive).any() else None,
        None if peak is None else peak.kw, None if peak is None else from_us(int(days.borders[0]) + SLOT_US * peak.slot),
        peak is not None and (peak.is_lower_bound or bool(gate.slow)), now_us >= int(days.borders[-1]),
        bool(np.isfinite(np.array(reactive)[:, due]).all()) if reactive else False, SLOT_H * float(due.sum()),
        {key: price for key, _, price in energy if price is not None}, int(((chosen < 0) & known.any(axis=0)).sum()),
        not arranged and any("days" in x for t in used for x in by_id[t].tariff.terms.get("hours", ())))
    terms = Terms({t: by_id[t].tariff.terms for t in used}, used[-1], {t: (by_id[t].source, by_id[t].verified) for t in used})
    try:
        return bill(said, terms)
    except (InputError, KeyError, TypeError, ValueError, AttributeError) as exc:
        raise _unreadable(by_id[used[-1]], reason_of(exc)) from exc


def _told(row: TariffRow) -> dict[str, Any]:
    """A tariff row as a cause names it."""
    until = row.tariff.valid_to
    return {"tariff_id": row.tariff.tariff_id, "from": row.tariff.valid_from.isoformat(), "to": until and until.isoformat()}


def _unreadable(row: TariffRow, reason: str) -> NoBill:
    return NoBill("tariff_unreadable", **_told(row), reason=reason)


def _tariff_of_slots(rows: list[TariffRow], labels: dict[int, Labels | str], days: Days) -> NDArray[np.int64]:
    """Index of the row in force in each slot: the enterprise's own before the base's, the newer before the older; -1: none."""
    chosen = np.full(int(days.borders[-1] - days.borders[0]) // SLOT_US, -1, np.int64)
    for i in sorted(range(len(rows)), key=lambda i: (rows[i].enterprise_id is not None, rows[i].tariff.valid_from,
                                                     rows[i].tariff.tariff_id)):
        label = labels[rows[i].tariff.tariff_id]
        if isinstance(label, str):
            raise _unreadable(rows[i], label)
        chosen[label.period != ""] = i
    return chosen


def _energy(rows: list[TariffRow], labels: dict[int, Labels | str], chosen: NDArray[np.int64], amounts: Floats
            ) -> Iterator[tuple[tuple[int, str], float, float | None]]:
    """(tariff row and period, kWh, mean price where prices vary); those without any energy stay, where a slot carries the
    label."""
    total = np.nansum(amounts, axis=0)
    for i in dict.fromkeys(chosen[chosen >= 0].tolist()):
        label = labels[rows[i].tariff.tariff_id]
        assert isinstance(label, Labels), "a row that holds was read"
        for period in sorted(set(label.period[chosen == i])):
            some = (chosen == i) & (label.period == period)
            kwh, price = float(total[some].sum()), None
            if label.price is not None:
                price = float((total[some] * label.price[some]).sum() / kwh) if kwh else float(label.price[some].mean())
            yield (rows[i].tariff.tariff_id, period), kwh, price


def _write(conn: Connection, base_id: int, gate: Gate, one: Bill) -> None:
    key: dict[str, Any] = {"base": base_id, "enterprise": gate.enterprise_id, "month": one.month.month}
    m = one.month
    conn.execute(SQL["write_bill"], {
        **key, "total": one.total, "energy": one.energy_kwh, "estimated": m.estimated_kwh, "expected": m.n_expected,
        "known": m.n_known, "reactive": m.reactive_kvarh, "factor": one.power_factor, "demand": m.demand_kw,
        "demand_at": m.demand_at, "lower": m.demand_is_lower_bound, "load": one.kwh_per_kva, "complete": one.complete,
        "notes": list(one.notes)})
    lines = one.lines
    conn.execute(SQL["write_bill_lines"], {
        **key, "line": list(range(1, len(lines) + 1)), "item": [x.item for x in lines], "quantity": [x.quantity for x in lines],
        "unit": [x.unit for x in lines], "price": [x.price for x in lines], "factor": [x.factor for x in lines],
        "amount": [x.amount for x in lines], "in_base": [x.in_base for x in lines], "tariff": [x.tariff_id for x in lines],
        "source": [x.source for x in lines], "verified": [x.verified for x in lines]})
    conn.execute(SQL["forget_bill_lines"], {**key, "lines": len(lines)})
