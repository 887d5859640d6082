"""What every section is written from: the base, its years, targets, and whether an instant of knowledge was asked for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import msgspec

from reports import figures
from reports.goals import Target
from reports.model import Cell, Column, Kind, Rows, Table, Text, tidy
from reports.rows import Base, Energy, Enterprise, Factor, Year
from reports.words import table, word

POLLUTANT_OF = {"so2_t": "so2", "nox_t": "nox", "dust_t": "dust", "cod_t": "cod", "ammonia_t": "ammonia"}
HEADLINES = (
    "tce_equivalent",
    "tce_calorific",
    "co2_t",
    "electricity_kwh",
    "renewable_share",
    "energy_cost",
    "value_added",
    "energy_per_value_added",
    "co2_per_value_added",
    "water_m3",
    "water_per_value_added",
    "water_reuse_rate",
    "solid_waste_use_rate",
    "so2_t",
    "nox_t",
    "dust_t",
    "cod_t",
    "ammonia_t",
    "transmission_effective_rate",
)
_SUMS = {
    "tce_equivalent": ("tce_equivalent", "tce", 1.0),
    "tce_calorific": ("tce_calorific", "tce", 1.0),
    "co2_t": ("co2_kg", "tCO2", 0.001),
    "energy_cost": ("cost", "CNY", 1.0),
}


@dataclass(frozen=True)
class Context:
    """The material of a report; `pinned` when the user asked for figures as known at `as_of`."""

    base: Base
    kind: Kind
    year: Year
    former: Year | None
    years: dict[int, Year]
    enterprises: list[Enterprise]
    targets: list[Target]
    factors: list[Factor]
    as_of: datetime
    pinned: bool

    @property
    def several(self) -> bool:
        """Whether years stand side by side."""
        return len(self.years) > 1

    def local(self, at: datetime | None) -> Text:
        """An instant in the base's time, to the minute."""
        text = "—" if at is None else at.astimezone(ZoneInfo(self.base.timezone)).strftime("%Y-%m-%d %H:%M")
        return Text(text, text)


def energy_rows(year: Year, enterprise_id: int | None = None, field: str = "amount") -> list[Energy]:
    """Rows of the base (None) or an enterprise that count as energy: water counts only where the field has a value, so that
    a water carrier without a coal equivalent or a CO2 factor does not make the total incomplete."""
    water = table()["water_carriers"]
    return [
        r
        for r in year.energy
        if r.enterprise_id == enterprise_id
        and not (r.carrier in water and field != "cost" and (field == "amount" or getattr(r, field) is None))
    ]


def carrier_rows(year: Year, carrier: str, enterprise_id: int | None = None) -> list[Energy]:
    """Rows of one carrier."""
    return [r for r in year.energy if r.enterprise_id == enterprise_id and r.carrier == carrier]


def headline(ctx: Context, year: Year, code: str) -> Cell:
    """The figure of an indicator for a year: sums of the views where they are sums, otherwise the computed indicator."""
    figure = f"{year.span.year}/{code}"
    if code in _SUMS:
        field, unit, scale = _SUMS[code]
        return figures.measured(
            figure,
            figures.add(energy_rows(year, None, field), field, year.span),
            unit,
            scale=scale,
            digits=0 if code == "energy_cost" else 2,
            absent=figures.NO_TARIFF if code == "energy_cost" and energy_rows(year) else figures.NO_METER,
        )
    if code in ("electricity_kwh", "water_m3"):
        rows = carrier_rows(year, "electricity" if code == "electricity_kwh" else "water")
        return figures.measured(
            figure,
            figures.add(rows, "amount", year.span),
            rows[0].unit if rows else table()["indicators"][code]["unit"],
            digits=0,
        )
    if code == "value_added":
        return declared_sum(figure, year, "value_added", "万元")
    if code in POLLUTANT_OF:
        return pollutant_mass(figure, year, POLLUTANT_OF[code])
    row = year.indicators.get(code)
    cell = figures.indicator(figure, row, code)
    if not cell.unit:
        cell = msgspec.structs.replace(cell, unit=table()["indicators"].get(code, {}).get("unit", ""))
    if code in _PER_VALUE_ADDED and cell.value is not None and cell.reason is None and _value_added_runs_ahead(year):
        return msgspec.structs.replace(cell, value=None, grade="", reason=figures.AHEAD)
    return figures.covered(cell, _reach(_up_to(year, figures.last_day_of(row.inputs if row else None)), code))


_PER_VALUE_ADDED = ("energy_per_value_added", "co2_per_value_added", "water_per_value_added")
_BEHIND = {
    "renewable_share": ("electricity",),
    "water_per_value_added": ("water",),
    "water_reuse_rate": ("water", "reclaimed_water"),
}


def _value_added_runs_ahead(year: Year) -> bool:
    """Whether value added is booked beyond the last day of data: a quotient with it would be too low."""
    return any(e.kind == "value_added" and e.last_day > year.span.through for e in year.ledger)


def _up_to(year: Year, day: str | None) -> Year:
    """The year up to the end of a month that its ledger ends with; the year itself for another day."""
    last = None if day is None else date.fromisoformat(day)
    if last is None or last >= year.span.through or (last + timedelta(days=1)).day != 1:
        return year
    return replace(year, span=replace(year.span, through=last), energy=[r for r in year.energy if r.month <= last.month])


def _reach(year: Year, code: str) -> float | None:
    """How much of the year the data behind an indicator can cover at most, days without any row counted; None: no bound."""
    if code == "solid_waste_use_rate":
        return None
    if code == "transmission_effective_rate":
        hours = [e.hours_valid + e.hours_stopped + e.hours_exempt + e.hours_missing for e in year.emission]
        due = year.span.hours * len(hours)
        return min(1.0, sum(hours) / due) if due else None
    rows = [r for c in _BEHIND[code] for r in carrier_rows(year, c)] if code in _BEHIND else energy_rows(year)
    return figures.add(rows, "amount", year.span).coverage


def declared_sum(figure: str, year: Year, kind: str, unit: str) -> Cell:
    """The sum of a kind of ledger entries that lie inside the year, in one unit; grade B where all of them are final."""
    entries = [e for e in year.ledger if e.kind == kind and e.inside and e.unit == unit]
    if not entries:
        return figures.plain(figure, None, unit, "declared")
    cell = figures.plain(figure, sum(e.value for e in entries), unit, "declared", digits=2)
    final = all(e.status == "final" for e in entries)
    return Cell(
        id=cell.id,
        value=cell.value,
        unit=unit,
        basis="declared",
        quality="final" if final else "preliminary",
        grade="B",
        digits=2,
    )


def pollutant_mass(figure: str, year: Year, quantity: str) -> Cell:
    """Mass of a pollutant that leaves the base, t: what flows to another outlet of the base is counted there.

    Coverage is the share of due hours that were measured, not substituted; the grade is that of the worst outlet.
    """
    rows = [e for e in year.emission if e.quantity == quantity and not e.inside]
    masses = [e.mass_kg for e in rows if e.mass_kg is not None]
    due = sum(max(0, year.span.hours - e.hours_stopped) for e in rows)
    valid = sum(e.hours_valid for e in rows)
    coverage = min(1.0, valid / due) if due else None
    if not masses:
        return Cell(id=figure, value=None, unit="t", coverage=tidy(coverage), reason=figures.NO_METER, digits=3)
    substituted = any(e.hours_substituted for e in rows)
    return Cell(
        id=figure,
        value=tidy(sum(masses) / 1000),
        unit="t",
        coverage=tidy(coverage),
        quality="substituted" if substituted else "good",
        grade=max(e.grade(year.span.hours) for e in rows if e.mass_kg is not None),
        digits=3,
    )


def headline_name(code: str) -> Text:
    """Name of a headline figure."""
    extra = {"energy_cost": Text("能源费用", "Energy cost"), "value_added": Text("工业增加值（台账）", "Value added (ledger)")}
    return extra.get(code) or word("indicators", code)


def years_table(ctx: Context, figure: str, title: Text, codes: tuple[str, ...]) -> Table:
    """Figures side by side for every year of the report."""
    columns = (
        Column(Text("指标", "Indicator"), width=2.2),
        Column(Text("单位", "Unit"), width=1.0),
        *(Column(Text(f"{y}年", str(y)), width=1.2) for y in ctx.years),
    )
    rows: Rows = []
    for code in codes:
        cells = [headline(ctx, y, code) for y in ctx.years.values()]
        unit = next((c.unit for c in cells if c.unit), "")
        rows.append((headline_name(code), word("units", unit), *(renamed(c, f"{figure}/{c.id}") for c in cells)))
    return Table(figure, title, columns, tuple(rows))


def ratios_table(ctx: Context, figure: str, title: Text, codes: tuple[str, ...], *notes: Text) -> Table:
    """Indicators of the year one below the other; `figure` is the section's part of their names."""
    rows: Rows = []
    for code in codes:
        cell = headline(ctx, ctx.year, code)
        rows.append((headline_name(code), word("units", cell.unit), renamed(cell, f"{figure}/{cell.id}")))
    columns = (
        Column(Text("指标", "Indicator"), width=2.4),
        Column(Text("单位", "Unit"), width=1.2),
        Column(Text("数值", "Value"), width=1.6),
    )
    return Table(f"{figure.removesuffix('s')}-ratios", title, columns, tuple(rows), notes)


def renamed(cell: Cell, figure: str) -> Cell:
    """The same figure at another place of the report."""
    return msgspec.structs.replace(cell, id=figure)
