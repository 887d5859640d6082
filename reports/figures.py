"""Cells from rows: sums that know their coverage, and the reasons for which a figure is not printed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec

from reports.goals import Indicator
from reports.model import MIN_COVERAGE, Basis, Cell, Item, Text, tidy
from reports.rows import Energy, Span
from reports.words import indicator_digits, word

NO_METER = Text("本期无该项计量数据", "no metered data in the period")
NO_FACTOR = Text("缺少有效的折算因子", "no factor row in force")
NO_TARIFF = Text("缺少有效的电价或单价", "no tariff in force")
NO_ENTRY = Text("台账未填报", "not entered in the ledger")
NO_FORMER = Text("上年无数据", "no data in the former year")
NO_INDICATOR = Text("指标尚未核算", "indicator not computed")
NO_BASELINE = Text("未设基准值", "no baseline given")
NO_THRESHOLD = Text("未规定或尚不适用", "none stated, or not applicable yet")
NO_LIMIT = Text("未登记限值", "no limit on record")
NOT_WATCHED = Text("本期尚无报警规则，未作判断", "no alert rule existed yet: nothing was judged")
NO_VALID_HOUR = Text("无有效小时数据", "no valid hour")


NOT_APPLICABLE = Text("不适用", "not applicable")
AS_ACTUAL = Text("同“实际”", "see actual")
AHEAD = Text("增加值填报至数据截止日之后，口径不可比", "value added is booked beyond the last day of data")
INCOMPLETE = {
    True: Text("部分缺价格，合计偏低", "a part is unpriced: too low"),
    False: Text("部分缺因子，合计偏低", "a part lacks a factor: too low"),
}


def low_coverage(coverage: float | None) -> Text:
    """The reason of a figure that is withheld for its coverage."""
    share = "—" if coverage is None else f"{100 * coverage:.1f} %"
    return Text(f"覆盖率 {share}，低于 90 %，不予发布", f"withheld: coverage {share} is under 90 %")


@dataclass(frozen=True)
class Sum:
    """A total with what is known of it; `expected` counts absent days too."""

    value: float | None
    expected: float
    known: float
    estimated: bool  # a part of it, however small
    grade: str  # the worst of the carriers'
    factors: tuple[int, ...]
    incomplete: bool  # a part could not be converted: no factor or tariff
    priced: bool = False  # the figure is a cost

    @property
    def coverage(self) -> float | None:
        """Known over expected slots, at most 1; None where nothing was expected."""
        return min(1.0, self.known / self.expected) if self.expected > 0 else None


def add(rows: Sequence[Energy], field: str, span: Span) -> Sum:
    """The total of a field over rows of one or several carriers; a carrier's days without a row count as expected."""
    values = [v for r in rows if (v := getattr(r, field)) is not None]
    flag = f"without_{field}" if field in ("tce_calorific", "tce_equivalent", "co2_kg", "cost") else None
    expected, grades = 0.0, []
    for key in {(r.enterprise_id, r.carrier) for r in rows}:
        own = [r for r in rows if (r.enterprise_id, r.carrier) == key]
        days = sum(r.days for r in own)
        expected += sum(r.n_expected for r in own) * max(1.0, span.days / days) if days else 0.0
        grades.append(grade_of(own))
    return Sum(
        sum(values) if values else None,
        expected,
        sum(r.n_known for r in rows),
        any(r.estimated for r in rows),
        max(grades, default=""),
        tuple(sorted({f for r in rows for f in getattr(r, f"factors_{field}", ())})),
        bool(flag and any(getattr(r, flag) for r in rows)),
        field == "cost",
    )


def grade_of(rows: Sequence[Energy]) -> str:
    """Grade of one carrier's rows, as GET /aggregates gives it; empty where nothing is known."""
    amounts = [r.amount for r in rows if r.amount is not None]
    if not amounts:
        return ""
    if sum(r.estimated or 0.0 for r in rows) > 0.1 * abs(sum(amounts)) > 0:
        return "C"
    return "B" if any(r.billed for r in rows) else "A"


def measured(figure: str, total: Sum, unit: str, *, scale: float = 1.0, digits: int = 2, absent: Text = NO_METER) -> Cell:
    """A total. Grade A metered, B with bills; C where over a tenth is estimated or a part lacks a factor."""
    value = None if total.value is None else total.value * scale
    grade = "" if value is None else "C" if total.incomplete else total.grade
    quality = "" if value is None else "estimated" if total.estimated else "good"
    reason = absent if value is None else INCOMPLETE[total.priced] if total.incomplete else None
    return Cell(
        id=figure,
        value=tidy(value),
        unit=unit,
        coverage=tidy(total.coverage),
        quality=quality,
        grade=grade,
        factors=total.factors,
        reason=reason,
        digits=digits,
    )


def known(
    figure: str,
    value: float | None,
    unit: str,
    coverage: float | None,
    *,
    absent: Text = NO_METER,
    grade: str = "A",
    quality: str = "",
    factors: tuple[int, ...] = (),
    digits: int = 2,
) -> Cell:
    """A metered figure with its coverage; without a value no grade, but the reason `absent`."""
    return Cell(
        id=figure,
        value=tidy(value),
        unit=unit,
        coverage=tidy(coverage),
        quality=quality,
        grade="" if value is None else grade,
        factors=factors,
        reason=absent if value is None else None,
        digits=digits,
    )


def nothing(
    texts: int, figure: str, fields: Iterable[str], unit: str, basis: Basis, reason: Text | None = None
) -> tuple[Item, ...]:
    """The only row of a table without rows: dashes, and figures that say why there are none."""
    dash = Text("—", "—")
    return (*(dash for _ in range(texts)), *(plain(f"{figure}/{f}", None, unit, basis, reason=reason) for f in fields))


def plain(
    figure: str,
    value: float | None,
    unit: str,
    basis: Basis,
    *,
    digits: int = 0,
    reason: Text | None = None,
    coverage: float | None = None,
) -> Cell:
    """A figure that is not metered: planned, declared, counted or taken from a reference table."""
    if value is None and reason is None:
        reason = NO_METER if basis == "measured" else NO_ENTRY
    return Cell(
        id=figure,
        value=tidy(value),
        unit=unit,
        basis=basis,
        reason=reason if value is None else None,
        coverage=tidy(coverage),
        digits=digits,
    )


def ratio(
    figure: str,
    top: float | None,
    bottom: float | None,
    unit: str,
    coverage: float | None,
    *,
    scale: float = 1.0,
    digits: int = 2,
    absent: Text = NO_METER,
    withhold: bool = True,
    factors: tuple[int, ...] = (),
) -> Cell:
    """A quotient of two figures; withheld when either is missing or the coverage is under 90 %."""
    short = withhold and (coverage is None or coverage < MIN_COVERAGE)
    if top is None or bottom is None or bottom == 0:
        return Cell(id=figure, value=None, unit=unit, coverage=tidy(coverage), reason=absent, digits=digits)
    if short:
        return Cell(id=figure, value=None, unit=unit, coverage=tidy(coverage), reason=low_coverage(coverage), digits=digits)
    return Cell(id=figure, value=tidy(scale * top / bottom), unit=unit, coverage=tidy(coverage), factors=factors, digits=digits)


def change(figure: str, now: Cell, before: Cell | None) -> Cell:
    """Relative change in % of one cell against another; only where both have at least 90 % coverage."""
    if before is None or before.value is None or now.value is None or before.value == 0:
        return Cell(id=figure, value=None, unit="%", reason=NO_FORMER, digits=1)
    for cell in (now, before):
        if cell.coverage is not None and cell.coverage < MIN_COVERAGE:
            return Cell(id=figure, value=None, unit="%", coverage=cell.coverage, reason=low_coverage(cell.coverage), digits=1)
    coverage = min((c.coverage for c in (now, before) if c.coverage is not None), default=None)
    return Cell(id=figure, value=tidy(100 * (now.value / before.value - 1)), unit="%", coverage=coverage, digits=1)


def indicator(figure: str, row: Indicator | None, code: str) -> Cell:
    """An indicator as accounting computed it; a ratio under 90 % coverage is withheld with its reason."""
    digits = indicator_digits(code)
    if row is None:
        return Cell(id=figure, value=None, unit="", reason=NO_INDICATOR, digits=digits)
    unit, value = ("%", None if row.value is None else 100 * row.value) if row.unit in ("1", "") else (row.unit, row.value)
    coverage = tidy(row.coverage)
    if value is None:
        said = row.inputs.get("withheld") if isinstance(row.inputs, dict) else None
        reason = withheld(said) if isinstance(said, str) else NO_INDICATOR
        if row.coverage is not None and row.coverage < MIN_COVERAGE and said in (None, "less than 90% known"):
            reason = low_coverage(row.coverage)
        return Cell(id=figure, value=None, unit=unit, coverage=coverage, reason=reason, digits=digits)
    return Cell(
        id=figure,
        value=tidy(value),
        unit=unit,
        coverage=coverage,
        grade=row.grade or "",
        quality="estimated" if row.grade == "C" else "good",
        factors=_factor_ids(row.inputs),
        reason=until(row.inputs),
        digits=digits,
    )


def withheld(said: str) -> Text:
    """Why accounting withheld a value; what it says of a figure of the formula (`figure: reason`) is told by its kind."""
    known = word("withheld", said.rpartition(": ")[2])
    if known.zh != known.en:
        return known
    kinds = (
        ("in the ledger", NO_ENTRY),
        ("known", Text("已知不足，不予计算", "too little is known")),
        ("no counter", Text("无计量", "not metered")),
        ("baseline year", Text("未设基准年", "no baseline year")),
    )
    return next((text for part, text in kinds if part in said), Text("不能计算", said))


def last_day_of(inputs: object) -> str | None:
    """The last day of an indicator that ends before the data do, because its ledger does."""
    day = inputs.get("until") if isinstance(inputs, dict) else None
    return day if isinstance(day, str) else None


def until(inputs: object) -> Text | None:
    """That day in words."""
    day = last_day_of(inputs)
    return None if day is None else Text(f"计至 {day}", f"up to {day}")


def covered(cell: Cell, reach: float | None) -> Cell:
    """The indicator with its coverage bounded by how far the data behind it reach; withheld when that is under 90 %."""
    if reach is None or cell.coverage is None or reach >= cell.coverage:
        return cell
    cell = msgspec.structs.replace(cell, coverage=tidy(reach))
    if reach >= MIN_COVERAGE or (cell.value is None and cell.reason is not None and "覆盖率" not in cell.reason.zh):
        return cell
    return msgspec.structs.replace(cell, value=None, grade="", quality="", factors=(), reason=low_coverage(reach))


def _factor_ids(inputs: object) -> tuple[int, ...]:
    found = inputs.get("factors", inputs.get("factor_ids", ())) if isinstance(inputs, dict) else ()
    return tuple(sorted({f for f in found if isinstance(f, int)})) if isinstance(found, Iterable) else ()
