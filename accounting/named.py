"""The figures that a formula of an indicator can name, for a period of a base, each with its unit, coverage and grade.

`tce_equivalent`, `co2_t`, `solid_waste_use_rate` ... are the computed indicators; `energy.CARRIER`, `generation.CARRIER`,
`export.CARRIER`, `green.CARRIER`, `tce.CARRIER` and `tce_assessed.CARRIER` (equivalent value, before and after the deductions
that settings switch on), `co2.CARRIER` (by location) and `co2_market.CARRIER` are amounts of the base; `ledger.KIND` and
`ledger.KIND.ACTION` (or `.ITEM`) are sums of manual entries. `NAME@previous` and `NAME@baseline` are the same of the year
before and of the first year of the base's plan.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

from accounting.columns import Connection
from accounting.counters import SQL
from accounting.indicators import Figure, figures
from park.clock import Period, local_midnight, parse_period
from park.errors import InputError
from park.measures import measure

OF_CARRIER = {"energy": ("amount", ""), "generation": ("generation", ""), "export": ("export", ""), "green": ("green", ""),
              "tce": ("tce_equivalent", "tce"), "co2": ("co2_kg", "kg"), "tce_assessed": ("tce_equivalent_assessed", "tce"),
              "co2_market": ("co2_market_kg", "kg")}


@dataclass
class Named:
    """Figures of one base; asked by name, computed once a period."""

    conn: Connection
    base_id: int
    zone: str
    today: date
    baseline_year: int | None
    _ledger: dict[tuple[str, date], list[Any]] = field(default_factory=dict)
    _basics: dict[tuple[str, date], dict[str, Figure]] = field(default_factory=dict)
    _carriers: dict[tuple[str, date], dict[str, dict[str, Any]]] = field(default_factory=dict)

    def figure(self, name: str, period: Period) -> Figure:
        """The figure; its `why` (inputs.withheld) says why it has no value. InputError for a name that is none."""
        plain, _, when = name.partition("@")
        if when:
            return self._of_another_year(plain, when, period)
        head, _, rest = plain.partition(".")
        if head in OF_CARRIER and rest:
            return self._of_carrier(plain, head, rest, period)
        if head == "ledger" and rest:
            return self._of_ledger(plain, rest, period)
        found = self._computed(period).get(plain)
        if found is None:
            raise InputError(f"there is no figure {name!r}")
        return found

    def remember(self, period: Period, computed: list[Figure]) -> None:
        """Keep figures of a period that the caller has computed anyway."""
        self._basics[period.text, period.last_day] = {f.indicator: f for f in computed}

    def covered_until(self, names: tuple[str, ...], period: Period) -> date:
        """The last day of a running period that the ledger entries among the names reach; the period's due end without any."""
        due = min(period.last_day, self.today)
        if self.today > period.last_day:
            return due
        for name in names:
            if name.startswith("ledger.") and "@" not in name:
                rows = self._entries(name.removeprefix("ledger."), period)
                if rows:
                    due = min(due, max(r[8] for r in rows))
        return max(due, period.first_day)

    def cut(self, period: Period, until: date) -> Period:
        """The period up to a day."""
        if until >= period.last_day:
            return period
        return Period(period.text, period.first_day, until, period.start, local_midnight(until + timedelta(days=1), self.zone))

    def _computed(self, period: Period) -> dict[str, Figure]:
        key = (period.text, period.last_day)
        if key not in self._basics:
            today = self.today if len(period.text) == 4 and period.last_day >= self.today else max(self.today, period.last_day)
            self._basics[key] = {f.indicator: f for f in figures(self.conn, self.base_id, period, today)}
        return self._basics[key]

    def _of_carrier(self, name: str, head: str, carrier: str, period: Period) -> Figure:
        key = (period.text, period.last_day)
        if key not in self._carriers:
            last = min(period.last_day, self.today)
            about = {"base": self.base_id, "first": period.first_day, "last": last}
            rows = self.conn.execute(SQL["named_carriers"], about).fetchall()
            names = ("unit", "amount", "generation", "export", "green", "tce_equivalent", "co2_kg", "estimated", "billed",
                     "n_expected", "n_known", "n_days", "factors", "tce_equivalent_assessed", "co2_market_kg")
            self._carriers[key] = {r[0]: dict(zip(names, r[1:], strict=True)) | {"days_due": (last - period.first_day).days + 1}
                                   for r in rows}
        row = self._carriers[key].get(carrier)
        column, unit = OF_CARRIER[head]
        if row is None:
            return Figure(name, unit or "1", None, None, inputs={"withheld": f"no counter or bill of {carrier}"})
        value = row[column]
        if value is None and head in ("generation", "export", "green") and row["amount"] is not None:
            value = 0.0                              # the carrier is accounted, and nothing of this was
        coverage = row["n_known"] / row["n_expected"] * min(row["n_days"] / row["days_due"], 1.0) if row["n_expected"] else None
        share = abs(row["estimated"] or 0) / abs(row["amount"]) if row["amount"] else 0.0
        return Figure(name, unit or row["unit"], value, coverage, share, form=bool(row["billed"]) or head == "green",
                      inputs={"factors": row["factors"] if head in ("tce", "co2", "tce_assessed", "co2_market") else []})

    def _entries(self, which: str, period: Period) -> list[Any]:
        kind, _, part = which.partition(".")
        key = (period.text, period.last_day)
        if key not in self._ledger:
            about = {"base": self.base_id, "first": period.first_day, "last": period.last_day}
            self._ledger[key] = self.conn.execute(SQL["ledger_now"], about).fetchall()
        return [r for r in self._ledger[key] if r[1] == kind and (not part or part in (r[2], r[3]))]

    def _of_ledger(self, name: str, which: str, period: Period) -> Figure:
        rows = self._entries(which, period)
        if not rows:
            return Figure(name, "1", None, None, form=True, inputs={"withheld": f"nothing of {name} in the ledger"})
        unit = measure(rows[0][4])
        stock = unit.dimensions == {"area": 1}       # land is there every day; it does not add up over days
        value = 0.0
        for r in rows:
            own = measure(r[4])
            if own.dimensions != unit.dimensions:
                raise InputError(f"{name} is booked in {unit.code} and in {own.code}")
            value += r[5] * own.factor / unit.factor * (1.0 if stock else r[9])
        last = min(period.last_day, self.today) if self.today <= period.last_day else period.last_day
        days = {d for r in rows for d in _days(max(r[7], period.first_day), min(r[8], last))}
        coverage = min(len(days) / ((last - period.first_day).days + 1), 1.0)
        return Figure(name, unit.code, value, coverage, form=True,
                      inputs={"ledger": sorted(r[0] for r in rows), "preliminary": any(r[6] == "preliminary" for r in rows)})

    def _of_another_year(self, name: str, when: str, period: Period) -> Figure:
        years: dict[str, Callable[[], int | None]] = {"previous": lambda: period.first_day.year - 1,
                                                      "baseline": lambda: self.baseline_year}
        if when not in years:
            raise InputError(f"there is no figure {name}@{when}: after @ comes previous or baseline")
        year = years[when]()
        if year is None:
            return Figure(f"{name}@{when}", "1", None, None,
                          inputs={"withheld": "the base has no baseline year (attribute period, or of its targets)"})
        found = self.figure(name, parse_period(str(year), self.zone))
        return Figure(f"{name}@{when}", found.unit, found.value, found.coverage, found.estimated, found.form,
                      found.inputs | {"year": year})


def _days(first: date, last: date) -> list[date]:
    return [first + timedelta(days=i) for i in range((last - first).days + 1)]
