"""Section 2, the table of targets with completion and forecast, and section 3, tasks and projects of the base's plan."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec

from reports import figures
from reports.context import HEADLINES, Context, headline, renamed
from reports.goals import Forecast, Programme, Target
from reports.model import MIN_COVERAGE, Block, Cell, Chart, Column, Heading, Paragraph, Section, Series, Table, Text, tidy
from reports.rows import Year
from reports.words import both, indicator_digits, is_extensive, said, source, table, word

METHOD = said("target_method")
SETS = {"zero_carbon_park": ("国家级零碳园区指标", "Indicators of the national zero-carbon park"),
        "eco_park": ("国家生态工业示范园区指标", "Indicators of the national eco-industrial park"),
        "plan": ("基地自定指标", "Indicators of the base's own")}
CHARTED = 16
FILL = Text("（由基地填写）", "(to be filled by the base)")


def targets(ctx: Context) -> Section:
    """Targets against actuals: the year's own targets, or every year's in a midterm or final report."""
    years = ctx.years if ctx.several else {ctx.year.span.year: ctx.year}
    blocks: list[Block] = [Paragraph(METHOD)]
    none = Text("下列年度在平台中没有登记目标：", "No targets are on record for: ")
    missing = [y for y in years if not any(t.year == y for t in ctx.targets)]
    for y, facts in years.items():
        wanted = targets_of(ctx, y)
        if wanted:
            blocks += [Heading(Text(f"{y}年", str(y)))] if ctx.several else []
            blocks.append(_table(ctx, facts, wanted))
    if missing:
        listed = ", ".join(map(str, missing))
        blocks.append(
            Paragraph(
                Text(
                    f"{none.zh}{listed}。请在目录的 targets 中按建设方案补录，并注明责任单位。",
                    f"{none.en}{listed}. Enter them in the catalogue under targets, with who answers for them.",
                )
            )
        )
    if ctx.several:
        blocks += _progress(ctx)
    blocks += programmes(ctx.year)
    return Section("targets", Text("目标完成情况", "Targets"), tuple(blocks))


def completion(target: Target, value: float | None) -> float | None:
    """Share of the target that `value` reaches; None where it cannot be told."""
    if value is None:
        return None
    if target.baseline is not None and target.baseline != target.value:
        return (target.baseline - value) / (target.baseline - target.value)
    top, bottom = (target.value, value) if target.sense == "at_most" else (value, target.value)
    return top / bottom if bottom else None


def forecast(year: Year, indicator: str, actual: Cell) -> float | None:
    """The value expected for the whole year; the actual one where the year has ended.

    Accounting's forecast where there is one (weeks against the year before); else a ratio stays and a sum keeps its pace.
    """
    if actual.value is None or year.span.days == 0:
        return None
    if year.span.complete:
        return actual.value
    if (known := expected_end(year, indicator)) is not None:
        return known.value
    if not is_extensive(indicator):
        return actual.value
    whole = (year.span.last - year.span.first).days + 1
    return actual.value * whole / year.span.days


def expected_of(ctx: Context, t: Target) -> float | None:
    """What the year will end at in the target's unit; None where no comparable figure is known well enough."""
    actual = headline(ctx, ctx.year, t.indicator)
    low = actual.coverage is not None and actual.coverage < MIN_COVERAGE
    return None if low or not same_unit(actual.unit, t.unit) else forecast(ctx.year, t.indicator, actual)


def reaches(t: Target, value: float) -> bool:
    """Whether a value keeps to the target."""
    return value <= t.value if t.sense == "at_most" else value >= t.value


def expected_end(year: Year, indicator: str) -> Forecast | None:
    """Accounting's forecast; a share in %, as reports print it."""
    known = year.forecasts.get(indicator)
    if known is None or known.unit != "1":
        return known
    return replace(known, value=100 * known.value, low=100 * known.low, high=100 * known.high, unit="%")


def _table(ctx: Context, year: Year, wanted: list[Target]) -> Table:
    y = year.span.year
    columns = (
        Column(Text("指标", "Indicator"), width=2.0),
        Column(Text("单位", "Unit"), width=0.8),
        Column(Text("基准值", "Baseline"), width=1.1),
        Column(Text(f"{y}年目标", f"Target {y}"), width=1.1),
        Column(Text("实际", "Actual"), width=1.2),
        Column(Text("全年预计", "Forecast"), width=1.7),
        Column(Text("完成率", "Done"), "%", 0.9),
        Column(Text("判断", "Result"), width=0.9),
        Column(Text("责任单位", "Responsible"), width=1.1),
    )
    return Table(
        f"targets-{y}",
        Text(f"{y}年目标完成表", f"Targets of {y}"),
        columns,
        tuple(_row(ctx, year, t) for t in wanted),
        _sources(wanted),
    )


def _sources(wanted: list[Target]) -> tuple[Text, ...]:
    """One note for each source that nobody has checked."""
    loose: dict[str, int] = {}
    for t in wanted:
        if not t.verified:
            loose[t.source] = loose.get(t.source, 0) + 1
    return tuple(
        Text(
            f"{n} 项目标的来源（{source(told).zh if told else '未注明'}）未经核验。",
            f"The source of {n} targets ({source(told).en if told else 'not given'}) is not verified.",
        )
        for told, n in loose.items()
    )


def in_percent(t: Target) -> Target:
    """The target as a percentage where the plan writes a share, as its indicator is printed."""
    if t.unit not in ("1", "") or table()["indicators"].get(t.indicator, {}).get("unit") != "%":
        return t
    return replace(t, unit="%", value=100 * t.value, baseline=None if t.baseline is None else 100 * t.baseline)


def targets_of(ctx: Context, year: int) -> list[Target]:
    """The year's targets in the order of the table of indicators, the base's own after them."""
    order = list(table()["indicators"])
    mine = [in_percent(t) for t in ctx.targets if t.year == year]
    return sorted(mine, key=lambda t: order.index(t.indicator) if t.indicator in order else len(order))


def _row(ctx: Context, year: Year, t: Target) -> tuple[Text | Cell, ...]:
    name, digits = f"targets/{t.year}/{t.indicator}", indicator_digits(t.indicator)
    actual = renamed(headline(ctx, year, t.indicator), f"{name}/actual")
    base = figures.plain(f"{name}/baseline", t.baseline, t.unit, "plan", digits=digits, reason=figures.NO_BASELINE)
    goal = figures.plain(f"{name}/target", t.value, t.unit, "plan", digits=digits)
    short = actual.coverage is not None and actual.coverage < MIN_COVERAGE
    mixed = bool(actual.unit) and not same_unit(actual.unit, t.unit)
    reason = None
    if actual.value is None or short:
        reason = figures.AS_ACTUAL if actual.value is None else Text("覆盖率不足", "coverage too low")
    elif mixed:
        reason = Text("单位不一致", "units differ")
    expected = None if reason else forecast(year, t.indicator, actual)
    done = completion(t, expected)
    ahead = _derived(f"{name}/forecast", expected, actual.unit or t.unit, actual, reason, digits)
    if expected is not None and not year.span.complete and (known := expected_end(year, t.indicator)) is not None:
        ahead = msgspec.structs.replace(ahead, reason=interval(known.low, known.high, digits, known.target_likely))
    share = _derived(f"{name}/done", None if done is None else 100 * done, "%", actual, reason, 1)
    return (
        _sense(t),
        word("units", t.unit),
        base,
        goal,
        actual,
        ahead,
        share,
        _verdict(t, expected, year),
        word("bodies", t.responsible or "—"),
    )


def interval(low: float, high: float, digits: int, likely: float | None) -> Text:
    """Nine in ten year ends lie here, and how likely the goal is met."""
    span = f"{low:,.{digits}f}–{high:,.{digits}f}"
    if likely is None:
        return Text(f"90 % 区间 {span}", f"90 % interval {span}")
    return Text(f"90 % 区间 {span}，达标可能性 {likely:.0%}", f"90 % interval {span}, {likely:.0%} likely to meet it")


def programmes(year: Year) -> list[Block]:
    """Sets of indicators that the base may be measured by beside its own plan, each row with its threshold and source."""
    return [_programme(year, code, [p for p in year.programmes if p.set_code == code])
            for code in dict.fromkeys(p.set_code for p in year.programmes) if any(
                p.value is not None for p in year.programmes if p.set_code == code)]


def _programme(year: Year, code: str, rows: list[Programme]) -> Table:
    zh, en = SETS.get(code, (code, code))
    loose = sum(not p.verified for p in rows)
    return Table(
        f"programme-{year.span.year}-{code}",
        Text(f"{zh}（{year.span.year}年）", f"{en}, {year.span.year}"),
        (
            Column(Text("指标", "Indicator"), width=2.4),
            Column(Text("单位", "Unit"), width=0.9),
            Column(Text("数值", "Value"), width=1.1),
            Column(Text("要求", "Threshold"), width=1.0),
            Column(Text("判断", "Result"), width=0.9),
            Column(Text("依据", "Source"), width=2.2),
        ),
        tuple(_programme_row(year, p) for p in rows),
        (*((_unchecked(loose),) if loose else ()), *(_note(p) for p in rows if p.note)),
    )


def _note(p: Programme) -> Text:
    told = source(p.note)
    return Text(f"{p.name_zh}：{told.zh}。", f"{p.name_en[:1].upper()}{p.name_en[1:]}: {told.en}.")


def _unchecked(n: int) -> Text:
    return Text(
        f"{n} 项的公式或阈值未与原文核对，仅供参考。",
        f"Formula or threshold of {n} rows was not checked against the original: for orientation.",
    )


def _programme_row(year: Year, p: Programme) -> tuple[Text | Cell, ...]:
    inputs = p.inputs if isinstance(p.inputs, dict) else {}
    limit, kept = inputs.get("threshold"), inputs.get("kept")
    name = f"programme/{year.span.year}/{p.code}"
    there = p.value is not None
    value = Cell(
        id=name,
        value=tidy(p.value),
        unit=p.unit,
        coverage=tidy(p.coverage),
        grade=(p.grade or "") if there else "",
        factors=tuple(inputs.get("factors") or ()),
        digits=3,
        reason=figures.until(inputs) if there else _withheld(inputs),
    )
    goal = figures.plain(f"{name}/threshold", limit, p.unit, "reference", digits=2, reason=figures.NO_THRESHOLD)
    result = Text("—", "—") if kept is None else Text("达到", "kept") if kept else Text("未达到", "not kept")
    bound = Text("不高于", "at most") if p.sense == "at_most" else Text("不低于", "at least")
    name_en = p.name_en[:1].upper() + p.name_en[1:]
    named = Text(p.name_zh, name_en) if limit is None else Text(f"{p.name_zh}（{bound.zh}）", f"{name_en} ({bound.en})")
    return (named, word("units", p.unit), value, goal, result, source(p.source))


def _withheld(inputs: dict[str, Any]) -> Text:
    why = inputs.get("withheld")
    return figures.withheld(why) if isinstance(why, str) and why else figures.NO_INDICATOR


def same_unit(a: str, b: str) -> bool:
    """Whether two spellings name one unit: a plan may write t or tCO2 for what is counted in tCO2."""
    return a == b or {a, b} == {"t", "tCO2"} or {a, b} == {"t", "tce"} or {a, b} == {"CNY", "元"}


def _sense(t: Target) -> Text:
    return Text(
        f"{t.name_zh}（{'不高于' if t.sense == 'at_most' else '不低于'}）", f"{t.name_en} ({t.sense.replace('_', ' ')})"
    )


def _derived(figure: str, value: float | None, unit: str, actual: Cell, reason: Text | None, digits: int) -> Cell:
    return Cell(
        id=figure,
        value=tidy(value),
        unit=unit,
        coverage=actual.coverage,
        grade=actual.grade if value is not None else "",
        factors=actual.factors,
        reason=(reason or figures.NOT_APPLICABLE) if value is None else None,
        digits=digits,
    )


def _verdict(t: Target, expected: float | None, year: Year) -> Text:
    if expected is None:
        return Text("无法判断", "cannot tell")
    met = reaches(t, expected)
    if year.span.complete:
        return Text("完成", "met") if met else Text("未完成", "not met")
    return Text("预计完成", "on course") if met else Text("预计不能完成", "behind")


def _progress(ctx: Context) -> list[Block]:
    """What each year with targets reached of them, in charts of a page; an open year at what is expected of it."""
    newest = {t.indicator: t for t in sorted(ctx.targets, key=lambda t: t.year) if t.year in ctx.years}
    years = {t.year for t in ctx.targets}
    codes = sorted(newest)
    charts: list[Block] = []
    size = -(-len(codes) // -(-len(codes) // CHARTED)) if codes else 1
    for first in range(0, len(codes), size):
        part = codes[first : first + size]
        series = tuple(
            Series(
                Text(f"{y}年", str(y)) if facts.span.complete else Text(f"{y}年（预计）", f"{y}, forecast"),
                tuple(_of_target(ctx, facts, code) for code in part),
            )
            for y, facts in ctx.years.items()
            if y in years
        )
        title = Text("实际值占目标值比例", "Actual values as a share of the targets")
        charts.append(
            Chart(
                f"chart-progress-{first}",
                title,
                "bars",
                "%",
                tuple(_sense(newest[c]) for c in part),
                series,
                limit=100.0,
                limit_name=Text("目标", "target"),
            )
        )
    return charts


def _of_target(ctx: Context, year: Year, code: str) -> float | None:
    """Actual or expected value over the target, %; None where they cannot be compared."""
    goal = next((in_percent(t) for t in ctx.targets if t.indicator == code and t.year == year.span.year), None)
    if goal is None or goal.value == 0:
        return None
    actual = headline(ctx, year, code)
    known = actual.coverage is None or actual.coverage >= MIN_COVERAGE
    expected = forecast(year, code, actual) if known and same_unit(actual.unit, goal.unit) else None
    return None if expected is None else tidy(100 * expected / goal.value)


def tasks(ctx: Context) -> Section:
    """Tasks and projects: the plan's own rows from the base's attributes, or tables that say that the base must fill them."""
    attributes = ctx.base.attributes
    blocks: list[Block] = [
        _rows(
            "tasks",
            Text("五项任务进展", "Progress of the five tasks"),
            attributes.get("tasks"),
            (
                ("task", Text("任务", "Task"), 2.4),
                ("progress", Text("年度进展", "Progress"), 2.4),
                ("responsible", Text("责任单位", "Responsible"), 1.2),
            ),
            [{"task": t} for t in table()["tasks"]],
        )
    ]
    blocks.append(
        _rows(
            "projects",
            Text("重大项目进展", "Major projects"),
            attributes.get("projects"),
            (
                ("name", Text("项目", "Project"), 2.0),
                ("task", Text("所属任务", "Task"), 1.4),
                ("milestone", Text("节点", "Milestone"), 1.4),
                ("investment", Text("投资（万元）", "Investment (10⁴ CNY)"), 1.0),
                ("status", Text("状态", "Status"), 1.0),
                ("responsible", Text("责任单位", "Responsible"), 1.2),
            ),
            [{} for _ in range(3)],
        )
    )
    return Section("tasks", Text("重点任务与项目", "Tasks and projects"), tuple(blocks))


def _rows(
    figure: str, title: Text, given: Any, fields: tuple[tuple[str, Text, float], ...], empty: list[dict[str, Any]]
) -> Table:
    rows = [r for r in given if isinstance(r, dict)] if isinstance(given, list) else []
    columns = tuple(Column(name, width=width) for _, name, width in fields)
    items = tuple(tuple(_text(r.get(f)) for f, _, _ in fields) for r in (rows or empty))
    notes = () if rows else (said("plan_missing"),)
    return Table(figure, title, columns, items, notes)


def _text(value: Any) -> Text:
    if isinstance(value, dict) and {"zh", "en"} <= value.keys():
        return Text(str(value["zh"]), str(value["en"]))
    return FILL if value in (None, "") else both(str(value))


__all__ = ["HEADLINES", "completion", "forecast", "targets", "tasks"]
