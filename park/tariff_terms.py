"""What is wrong with the `terms` of a tariff before a bill or a pass of accounting needs them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

PERIODS = ("critical", "peak", "flat", "valley", "deep_valley")
DAYS = ("working", "weekend", "holiday", "shutdown")
KNOWN = ("flat", "prices", "hours", "table", "demand", "power_factor", "additions", "losses")
_CLOCK = re.compile(r"(?:[01]?\d|2[0-3]):(?:00|15|30|45)|24:00")
_DAY = re.compile(r"\d{4}-\d\d-\d\d")
Found = Iterator[tuple[str, str]]


def mistakes_of(terms: Mapping[str, Any]) -> Found:
    """(path below `terms`, what was expected beside what came)."""
    for name in terms:
        if name not in KNOWN:
            yield name, f"unknown field; known here: {', '.join(KNOWN)}"
    if not {"flat", "prices", "table"} & set(terms):
        yield "", "expected `flat: PRICE`, `prices:` with `hours:`, or `table:`"
    if "flat" in terms and not _is_price(terms["flat"]):
        yield "flat", f"expected a price, got {terms['flat']!r}"
    prices = terms.get("prices", {})
    if not isinstance(prices, dict):
        yield "prices", f"expected a price for each period, such as {{peak: 1.05, flat: 0.65}}, got {prices!r}"
        return
    yield from ((f"prices.{k}", f"expected one of {', '.join(PERIODS)}") for k in prices if k not in PERIODS)
    yield from ((f"prices.{k}", f"expected a price, got {v!r}") for k, v in prices.items() if not _is_price(v))
    yield from _hours(terms.get("hours", []), prices, priced="table" not in terms and "flat" not in terms)
    yield from _table(terms.get("table", {}))


def _hours(lines: Any, prices: Mapping[str, Any], priced: bool) -> Found:
    if not isinstance(lines, list):
        yield "hours", "expected a list of {period, from, to}"
        return
    if priced and prices and "flat" not in prices and not _whole_day(lines):
        yield "prices", "expected a price `flat`: it is that of the hours that no line of `hours` lists"
    for i, line in enumerate(lines):
        at = f"hours.{i}"
        if not isinstance(line, dict) or not {"period", "from", "to"} <= set(line):
            yield at, f"expected {{period, from, to}}, got {line!r}"
            continue
        if line["period"] not in PERIODS:
            yield f"{at}.period", f"expected one of {', '.join(PERIODS)}, got {line['period']!r}"
        elif priced and line["period"] not in prices:
            yield f"{at}.period", f"there is no price for {line['period']!r} under `prices`"
        for end in ("from", "to"):
            if not isinstance(line[end], str) or not _CLOCK.fullmatch(line[end]):
                yield f"{at}.{end}", f"expected a quarter hour in quotation marks such as \"08:00\", got {line[end]!r}"
        for field, known in (("months", range(1, 13)), ("days", DAYS)):
            wrong = [x for x in line.get(field, []) if x not in known]
            if wrong:
                yield f"{at}.{field}", f"expected {', '.join(DAYS) if field == 'days' else '1 to 12'}, got {wrong[0]!r}"


def _whole_day(lines: list[Any]) -> bool:
    """Whether the lines leave no quarter of any day of the year out."""
    good = [line for line in lines if isinstance(line, dict)
            and all(isinstance(line.get(end), str) and _CLOCK.fullmatch(line[end]) for end in ("from", "to"))]
    return all(len(set().union(*(_quarters(line) for line in good if month in line.get("months", (month,))
                                 and day in line.get("days", (day,))))) == 96 for month in range(1, 13) for day in DAYS)


def _quarters(line: Mapping[str, Any]) -> set[int]:
    low, high = (int(h) * 4 + int(m) // 15 for h, m in (line["from"].split(":"), line["to"].split(":")))
    return {q % 96 for q in range(low, high if low < high else high + 96)}


def _table(table: Any) -> Found:
    if not isinstance(table, dict):
        yield "table", "expected days with 24, 48 or 96 prices"
        return
    for day, listed in table.items():
        if not isinstance(day, str) or not _DAY.fullmatch(day):
            yield f"table.{day}", "expected a day in quotation marks such as \"2026-03-01\""
        if not isinstance(listed, list) or len(listed) not in (24, 48, 96) or not all(map(_is_price, listed)):
            yield f"table.{day}", "expected 24, 48 or 96 prices"


def _is_price(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e9   # not so for what is no number
