"""What a figure is: a value with its unit, coverage, quality, factor rows, and a name by which /trace finds its way back.

A figure's name is `BASE/PERIOD/SCOPE/WHAT/MEASURE`, for instance `north/2026-11/base/electricity/tce_equivalent`,
`north/2026-11-22/enterprise=e1/natural_gas/energy` or `north/2026/outlet=e1.stack/so2/mass`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Literal
from zoneinfo import ZoneInfo

from park.clock import Period, parse_period
from park.errors import InputError

Measure = Literal["energy", "tce_calorific", "tce_equivalent", "co2", "cost", "mass"]
# measure: the view's column and the unit; energy has the carrier's own unit
MEASURES: dict[str, tuple[str, str]] = {
    "energy": ("amount", ""), "tce_calorific": ("tce_calorific", "tce"), "tce_equivalent": ("tce_equivalent", "tce"),
    "co2": ("co2_kg", "kg"), "cost": ("cost", "CNY"), "mass": ("mass_kg", "kg"),
    "tce_calorific_assessed": ("tce_calorific_assessed", "tce"), "tce_equivalent_assessed": ("tce_equivalent_assessed", "tce"),
    "co2_market": ("co2_market_kg", "kg")}
# of the energy account of a base or enterprise: the measure before its deductions
ASSESSED = {"tce_calorific_assessed": "tce_calorific", "tce_equivalent_assessed": "tce_equivalent", "co2_market": "co2"}
CONVERTED = ("tce_calorific", "tce_equivalent", "co2", *ASSESSED)
TRUSTED = 0.9  # below this coverage a sum says less than it seems to: quality `uncertain`
MANY_ESTIMATED = 0.1

_NAME = re.compile(r"^(?P<base>[^/]{1,64})/(?P<period>[0-9Q-]{4,10})/"
                   r"(?P<scope>base|(?:enterprise|unit|outlet|point)=[^/]{1,64})/(?P<what>[A-Za-z0-9_]{1,40})/(?P<measure>[a-z0-9_]{1,30})$")


@dataclass(frozen=True)
class Figure:
    """A figure's name in its parts; `scope` is base, enterprise, unit, outlet or point, `code` the code of the latter."""

    base: str
    period: str
    scope: str
    code: str
    what: str
    measure: str

    def __str__(self) -> str:
        where = f"{self.scope}={self.code}" if self.code else self.scope
        return f"{self.base}/{self.period}/{where}/{self.what}/{self.measure}"


def read_figure(text: str) -> Figure:
    """The parts of a figure's name; InputError with an example otherwise."""
    match = _NAME.match(text)
    if match is None:
        raise InputError("expected a figure such as north/2026-11/base/electricity/tce_equivalent or "
                         f"north/2026/outlet=e1.stack/so2/mass, got {text[:120]!r}")
    scope, _, code = match["scope"].partition("=")
    figure = Figure(match["base"], match["period"], scope, code, match["what"], match["measure"])
    if figure.measure not in MEASURES or (scope == "outlet") != (figure.measure == "mass"):
        raise InputError(f"expected as measure one of {', '.join(MEASURES)} (mass for an outlet only), got {figure.measure!r}")
    if figure.measure in ASSESSED and scope not in ("base", "enterprise"):
        raise InputError(f"{figure.measure} is of a base or an enterprise, got {scope}")
    return figure


@dataclass(frozen=True)
class Span:
    """A base-local period and how many of its days are due: a day to come is not expected to have data."""

    period: Period
    days_due: int


def read_span(text: str, zone: str, now: datetime) -> Span:
    """The period in the base's zone; today counts as due."""
    try:
        period = parse_period(text, zone)
    except OverflowError as exc:  # the first and the last day that there are have no midnight in every zone
        raise InputError(f"there is no period {text!r}") from exc
    today = now.astimezone(ZoneInfo(zone)).date()
    last = min(period.last_day, today)
    return Span(period, max(0, (last - period.first_day).days + 1))


@dataclass(frozen=True)
class Part:
    """A sum over days of something that is accounted: slots expected and known, days present, factor rows used."""

    value: float | None
    days: int
    n_expected: int
    n_known: int
    n_good: int
    estimated: float | None = None
    factors: Sequence[int] = ()
    complete: bool = True   # False: a day has an amount but no factor or tariff to convert it with
    grade: str | None = None


def grade_of(amount: float | None, estimated: float | None, billed: float | None) -> str | None:
    """A metered, B with bills, C more than a tenth estimated; None where nothing is known."""
    if amount is None:
        return None
    if abs(amount) > 0 and (estimated or 0.0) > MANY_ESTIMATED * abs(amount):
        return "C"
    return "B" if billed else "A"


def coverage_of(parts: Iterable[Part], days_due: int) -> float | None:
    """Known over expected slots; a day without any row counts as expected like the days that have one."""
    expected = known = 0.0
    for part in parts:
        if part.days and part.n_expected:
            expected += part.n_expected * max(1.0, days_due / part.days)
            known += part.n_known
    return min(1.0, known / expected) if expected else None


def cell(figure: Figure, parts: Sequence[Part], unit: str, days_due: int) -> dict[str, Any]:
    """One figure as the API tells it; null when nothing of it is known, never zero."""
    values = [part.value for part in parts if part.value is not None]
    value = sum(values) if values else None
    coverage = coverage_of(parts, days_due)
    complete = all(part.complete for part in parts)
    if value is None:
        quality = "missing"
    elif not complete or coverage is None or coverage < TRUSTED:
        quality = "uncertain"
    else:
        quality = "estimated" if any(part.estimated for part in parts) else "good"
    out: dict[str, Any] = {"value": value, "unit": unit, "coverage": coverage, "quality": quality,
           "factors": sorted({f for part in parts for f in part.factors if f is not None}), "figure": str(figure)}
    if grades := [part.grade for part in parts if part.grade and part.value is not None]:
        out["grade"] = max(grades)
    if not complete:  # an amount without a factor or tariff in force: the figure is too low, or not there at all
        out["lacking"] = "tariff" if figure.measure == "cost" else "factor"
    return out


def iso(day: date) -> str:
    """A base-local day."""
    return day.isoformat()
