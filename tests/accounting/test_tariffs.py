"""Tariff terms into prices: five labels by month, class of day and hour, over midnight, the later line before the earlier."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from accounting.columns import from_us, to_us
from accounting.localday import Days, local_days
from accounting.tariffs import Tariff, price_slots
from park.clock import local_midnight
from park.errors import InputError

ZONE = "Asia/Shanghai"
TERMS: dict[str, Any] = {
    "prices": {"critical": 1.2, "peak": 1.0, "flat": 0.6, "valley": 0.3, "deep_valley": 0.15},
    "hours": [
        {"period": "valley", "from": "22:00", "to": "06:00"},
        {"period": "peak", "from": "08:00", "to": "11:30"},
        {"period": "critical", "from": "10:00", "to": "11:00", "months": [7, 8]},
        {"period": "flat", "from": "08:00", "to": "11:30", "days": ["weekend"]},
        {"period": "deep_valley", "from": "11:00", "to": "14:00", "days": ["holiday"], "months": [5, 10]},
    ],
}
CLASSES = {date(2026, 5, 1): "holiday", date(2026, 5, 2): "weekend", date(2026, 7, 1): "working", date(2026, 7, 4): "weekend",
           date(2026, 10, 1): "holiday"}


def days_of(day: date, n: int = 1) -> Days:
    return local_days(to_us(local_midnight(day, ZONE)), to_us(local_midnight(day + timedelta(days=n), ZONE)), ZONE)


def labels(day: date) -> dict[str, tuple[str, float]]:
    got = price_slots(Tariff(1, TERMS, date(2020, 1, 1), None), days_of(day), {day: CLASSES[day]})
    assert got is not None and len(got.ts) == 96
    start = to_us(local_midnight(day, ZONE))
    return {f"{(t - start) // 3_600_000_000:02}:{(t - start) // 60_000_000 % 60:02}": (p, c)
            for t, p, c in zip(got.ts.tolist(), got.period, got.price, strict=True)}


@pytest.mark.parametrize(("day", "at", "label"), [
    (date(2026, 7, 1), "00:00", "valley"), (date(2026, 7, 1), "05:45", "valley"), (date(2026, 7, 1), "06:00", "flat"),
    (date(2026, 7, 1), "22:00", "valley"), (date(2026, 7, 1), "08:00", "peak"), (date(2026, 7, 1), "10:00", "critical"),
    (date(2026, 7, 1), "10:45", "critical"), (date(2026, 7, 1), "11:15", "peak"), (date(2026, 7, 1), "11:30", "flat"),
    (date(2026, 7, 4), "10:00", "flat"),                    # a weekend in July: its line is the later one
    (date(2026, 5, 1), "10:00", "peak"),                    # no critical hours in May
    (date(2026, 5, 1), "11:00", "deep_valley"), (date(2026, 5, 1), "13:45", "deep_valley"), (date(2026, 5, 1), "14:00", "flat"),
    (date(2026, 5, 2), "11:00", "flat"),                    # the day after the holiday is none
    (date(2026, 10, 1), "12:00", "deep_valley"), (date(2026, 10, 1), "23:45", "valley")])
def test_the_label_of_a_quarter_hour(day: date, at: str, label: str) -> None:
    assert labels(day)[at] == (label, TERMS["prices"][label])


def test_a_tariff_prices_only_the_days_on_which_it_holds() -> None:
    tariff = Tariff(1, TERMS, date(2026, 7, 2), date(2026, 7, 3))
    classes = {date(2026, 7, d): "working" for d in range(1, 5)}
    got = price_slots(tariff, days_of(date(2026, 7, 1), 4), classes)
    assert got is not None and len(got.ts) == 96 and got.ts[0] == to_us(local_midnight(date(2026, 7, 2), ZONE))


@pytest.mark.parametrize("line", [{"period": "shoulder", "from": "08:00", "to": "09:00"},
                                  {"period": "peak", "from": "8 o'clock", "to": "09:00"}])
def test_a_line_that_cannot_be_read_is_refused_and_never_guessed(line: dict[str, Any]) -> None:
    terms = TERMS | {"hours": [line]}
    with pytest.raises((InputError, KeyError, ValueError)):
        price_slots(Tariff(1, terms, date(2020, 1, 1), None), days_of(date(2026, 7, 1)), {date(2026, 7, 1): "working"})


@pytest.mark.parametrize(("zone", "day", "n"), [
    ("Europe/Berlin", date(2025, 10, 26), 100), ("Europe/Berlin", date(2026, 3, 29), 92),
    ("America/New_York", date(2025, 11, 2), 100),
    ("America/Havana", date(2026, 3, 8), 92), ("Australia/Lord_Howe", date(2026, 4, 5), 98)])
def test_on_days_of_daylight_saving_the_clock_on_the_wall_says_the_price(zone: str, day: date, n: int) -> None:
    """Wherever the hour is lost or doubled: at midnight, at one, two or three, an hour or half of one."""
    terms = {"table": {day.isoformat(): [i / 96 for i in range(96)]}}
    days = local_days(to_us(local_midnight(day, zone)), to_us(local_midnight(day + timedelta(days=1), zone)), zone)
    got = price_slots(Tariff(1, terms, date(2020, 1, 1), None), days, {day: "working"})
    assert got is not None and len(got.ts) == n
    wall = [from_us(int(t)).astimezone(ZoneInfo(zone)) for t in got.ts]
    assert got.price == [(t.hour * 4 + t.minute // 15) / 96 for t in wall]
