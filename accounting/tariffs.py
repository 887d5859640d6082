"""Tariff terms into a price per slot: flat, or by hours of the day, months and class of day (尖峰平谷深谷).

Terms: `{"flat": p}`, or `{"prices": {"critical": ..., "peak": ..., "flat": ..., "valley": ..., "deep_valley": ...},
"hours": [{"months": [...], "days": [...], "period": "peak", "from": "08:00", "to": "11:00"}, ...]}`. Hours that no line
lists are `flat`; a later line wins over an earlier one; `to` before `from` runs over midnight; `days` names classes of
the calendar (working, weekend, holiday, shutdown), every class where it is absent. Hours are base-local.

Market prices that vary come as `{"table": {"2026-03-01": [p1, ..., p24 or p48 or p96], ...}}`, a price an hour, half hour or
quarter
of each base-local day; `park tariff prices` writes it from a CSV. Their period is `market`, or what `hours` says. A day that
the
table does not have has no price: its cost is not known.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from accounting.columns import Connection, from_us
from accounting.counters import SQL
from accounting.intervals import SLOT_US
from accounting.localday import Days
from park.errors import InputError

PERIODS = ("critical", "peak", "flat", "valley", "deep_valley")


@dataclass(frozen=True)
class Tariff:
    """A tariff row: terms in force from `valid_from` to before `valid_to`."""

    tariff_id: int
    terms: dict[str, Any]
    valid_from: date
    valid_to: date | None


@dataclass(frozen=True)
class PriceSlots:
    """Period and price of each slot."""

    ts: NDArray[np.int64]
    period: list[str]
    price: list[float]

    @property
    def is_hourly(self) -> bool:
        """Whether every whole hour (UTC) carries one period and price, so that hours are priced as well as slots."""
        if len(self.ts) % 4 or (self.ts[::4] % (4 * SLOT_US)).any() or (np.diff(self.ts.reshape(-1, 4)) != SLOT_US).any():
            return False
        period, price = np.array(self.period).reshape(-1, 4), np.array(self.price).reshape(-1, 4)
        return bool((period == period[:, :1]).all() and (price == price[:, :1]).all())


def tariffs_of(conn: Connection, base_id: int) -> list[Tariff]:
    """Every current tariff of a base."""
    rows = conn.execute(SQL["tariffs"], {"base": base_id}).fetchall()
    return [Tariff(tariff_id, terms, since, until) for tariff_id, _, _, _, terms, since, until in rows]


def price_slots(tariff: Tariff, days: Days, classes: dict[date, str]) -> PriceSlots | None:
    """Period and price of every slot of the days on which the tariff holds; None for a flat tariff.

    A slot is labelled by its local time of day. On a day of 23 or 25 hours the clock time of the slot decides.
    """
    if "flat" in tariff.terms:
        return None
    labels: dict[tuple[int, str], NDArray[np.object_]] = {}
    table = tariff.terms.get("table")
    ts, period, price = [], [], []
    for i, day in enumerate(days.dates):
        if day < tariff.valid_from or (tariff.valid_to is not None and day >= tariff.valid_to):
            continue
        if table is not None and day.isoformat() not in table:
            continue
        key = (day.month, classes[day])
        if key not in labels:
            labels[key] = day_labels(tariff.terms, *key)
        slots = np.arange(days.borders[i], days.borders[i + 1], SLOT_US, dtype=np.int64)
        clock = _clock_slot(slots, days.zone)
        names = labels[key][clock]
        ts.append(slots)
        period.append(names)
        price.append(_day_prices(table[day.isoformat()], day, tariff.tariff_id)[clock] if table is not None else
                     [_price(tariff.terms["prices"], n, tariff.tariff_id) for n in names])
    if not ts:
        return None
    return PriceSlots(np.concatenate(ts), np.concatenate(period).tolist(), np.concatenate(price).tolist())


def _day_prices(listed: list[float], day: date, tariff_id: int) -> NDArray[np.float64]:
    """The price of each quarter of a day from 24, 48 or 96 of them."""
    if len(listed) not in (24, 48, 96):
        raise InputError(f"tariff {tariff_id}: expected 24, 48 or 96 prices for {day}, got {len(listed)}")
    prices = np.array(listed, np.float64)
    if not np.isfinite(prices).all():
        raise InputError(f"tariff {tariff_id}: a price of {day} is no number")
    return prices.repeat(96 // len(listed))


def _clock_slot(slots: NDArray[np.int64], zone: str) -> NDArray[np.int64]:
    """Quarter of the local day, 0 to 95, by the clock on the wall; on most days simply their order."""
    if len(slots) == 96:
        return np.arange(96)
    clock = [from_us(int(ts)).astimezone(ZoneInfo(zone)) for ts in slots]
    return np.array([t.hour * 4 + t.minute // 15 for t in clock])


def day_labels(terms: dict[str, Any], month: int, day_class: str) -> NDArray[np.object_]:
    """The period of each of the 96 quarters of a day in that month and class."""
    labels = np.full(96, "market" if "table" in terms and "hours" not in terms else "flat", object)
    for line in terms.get("hours", []):
        if month in line.get("months", range(1, 13)) and day_class in line.get("days", (day_class,)):
            low, high = _quarter(line["from"]), _quarter(line["to"])
            if line["period"] not in PERIODS:
                raise InputError(f"expected a period of {', '.join(PERIODS)}, got {line['period']!r}")
            inside = np.arange(96)
            labels[(inside >= low) & (inside < high) if low < high else (inside >= low) | (inside < high)] = line["period"]
    return labels


def _quarter(text: str) -> int:
    hour, minute = text.split(":")
    return int(hour) * 4 + int(minute) // 15


def _price(prices: dict[str, float], period: str, tariff_id: int) -> float:
    if period not in prices:
        raise InputError(f"tariff {tariff_id} lists hours as {period!r} but no price for it")
    return float(prices[period])
