"""Section 7: how the platform itself ran (points, availability, data quality, alerts), and section 8: incidents."""

from __future__ import annotations

from zoneinfo import ZoneInfo

from reports import figures
from reports.context import Context
from reports.facts import LISTED_ALERTS
from reports.model import Block, Cell, Chart, Column, Paragraph, Rows, Section, Series, Table, Text, tidy
from reports.rows import Year
from reports.running import AlertCount
from reports.sections.energy import MONTHS
from reports.words import both, named, said, table, word

FILL = Text("（由基地填写）", "(to be filled by the base)")
OUTCOMES = {
    "stored": Text("入库", "stored"),
    "duplicate": Text("重复（未再入库）", "duplicate, not stored again"),
    "corrected": Text("更正（保留原值）", "corrected, former value kept"),
    "late": Text("迟到（已入库）", "late, stored"),
}


def section(ctx: Context) -> Section:
    """Operation of the platform."""
    year = ctx.year
    blocks: list[Block] = [_systems(year)]
    if year.availability:
        blocks += [_months(year), _availability_chart(year)]
    blocks.append(_outcomes(year) if year.outcomes else Paragraph(said("no_outcomes")))
    blocks += _alert_blocks(year, ctx.base.timezone)
    if year.alert_rules:
        blocks.append(_rules(year))
    if ctx.several:
        blocks.append(_alert_years(ctx))
    return Section("operation", Text("平台运行情况", "Operation of the platform"), tuple(blocks))


def _systems(year: Year) -> Table:
    rows: Rows = []
    for system in table()["systems"]:
        points = next((p for p in year.points if p.system == system), None)
        own = [a for a in year.availability if a.system == system]
        expected, n, good = sum(a.n_expected for a in own), sum(a.n for a in own), sum(a.n_good for a in own)
        coverage = min(1.0, n / expected) if expected else None
        name = f"systems/{year.span.year}/{system}"
        rows.append(
            (
                word("systems", system),
                figures.plain(f"{name}/enterprises", float(points.enterprises) if points else 0.0, "1", "count"),
                figures.plain(f"{name}/points", float(points.points) if points else 0.0, "points", "count"),
                figures.plain(f"{name}/heard", float(points.heard) if points else 0.0, "points", "count"),
                figures.ratio(
                    f"{name}/availability", float(min(n, expected)), float(expected), "%", coverage, scale=100, withhold=False
                ),
                figures.ratio(f"{name}/good", float(good), float(n), "%", coverage, scale=100, withhold=False),
                *(_count(year, f"{name}/alerts_{f}", sum(getattr(a, f) for a in year.alert_systems if a.system == system))
                  for f in ("raised", "closed")),
            )
        )
    return Table(
        "systems",
        Text("三大系统接入、数据可用率与报警", "The three systems: points, availability and alerts"),
        (
            Column(Text("系统", "System"), width=2.2),
            Column(Text("接入企业", "Enterprises"), width=0.9),
            Column(Text("在册测点", "Points"), width=0.9),
            Column(Text("有数据测点", "Points heard"), width=1.0),
            Column(Text("数据可用率", "Availability"), "%", 1.1),
            Column(Text("数据正常率", "Good share"), "%", 1.1),
            Column(Text("报警", "Alerts raised"), width=1.0),
            Column(Text("已关闭", "Closed"), width=0.9),
        ),
        tuple(rows),
        (said("availability_meaning"), *_elsewhere(year)),
    )


def _elsewhere(year: Year) -> tuple[Text, ...]:
    """How many alerts are about devices or the platform: they are in none of the systems."""
    n = sum(a.raised for a in year.alert_systems if a.system is None)
    told = Text(f"另有设备、网关与平台报警 {n:,} 条，不归入三大系统。",
                f"{n:,} more alerts are about devices, gateways or the platform and belong to none of the systems.")
    return (told,) if n else ()


def _months(year: Year) -> Table:
    rows: Rows = []
    for month in sorted({a.month for a in year.availability}):
        cells = []
        for system in table()["systems"]:
            own = next((a for a in year.availability if (a.system, a.month) == (system, month)), None)
            share = min(1.0, own.n / own.n_expected) if own and own.n_expected else None
            cells.append(
                figures.ratio(
                    f"availability/{year.span.year}-{month:02d}/{system}",
                    share,
                    1.0 if own else None,
                    "%",
                    share,
                    scale=100,
                    withhold=False,
                )
            )
        rows.append((MONTHS[month - 1], *cells))
    return Table(
        "availability-months",
        Text("分月数据可用率", "Availability by month"),
        (Column(Text("月份", "Month"), width=0.8), *(Column(word("systems", s), "%", 1.4) for s in table()["systems"])),
        tuple(rows),
    )


def _availability_chart(year: Year) -> Chart:
    series = []
    for system in table()["systems"]:
        by_month = {
            a.month: 100 * min(1.0, a.n / a.n_expected) for a in year.availability if a.system == system and a.n_expected
        }
        if by_month:
            series.append(Series(word("systems", system), tuple(tidy(by_month.get(m)) for m in range(1, 13))))
    return Chart("chart-availability", Text("分月数据可用率", "Availability by month"), "line", "%", MONTHS, tuple(series))


def _outcomes(year: Year) -> Table:
    rows: Rows = []
    for o in year.outcomes:
        name = OUTCOMES.get(o.outcome)
        if name is None and o.outcome.startswith("dead:"):
            name = Text(f"拒收并留存：{o.outcome[5:]}", f"refused and kept: {o.outcome[5:]}")
        rows.append(
            (name or both(o.outcome), figures.plain(f"outcomes/{year.span.year}/{o.outcome}", float(o.n), "rows", "count"))
        )
    return Table(
        "outcomes",
        Text("读数去向", "What became of the readings"),
        (Column(Text("去向", "Outcome"), width=2.4), Column(Text("读数", "Readings"), width=1.2)),
        tuple(rows),
    )


def _alert_blocks(year: Year, zone: str) -> list[Block]:
    """Alerts by severity and month; a sentence where no rule existed that could have raised one."""
    if not year.was_watched:
        return [Paragraph(Text(f"{figures.NOT_WATCHED.zh}。", "No alert rule existed in the period: nothing was judged."))]
    return [_alerts(year, zone), *([_alert_chart(year)] if year.alert_months else []), _rates(year)]


def _alerts(year: Year, zone: str) -> Table:
    found = {a.severity: a for a in year.alert_counts}
    rows: Rows = []
    for severity in table()["severities"]:
        a = found.get(severity) or AlertCount(severity, 0, 0, 0, None, None)
        name = f"alerts/{year.span.year}/{severity}"
        none = Text("无可统计的报警", "no alert to count")
        rows.append(
            (
                word("severities", severity),
                *(
                    _count(year, f"{name}/{f}", v)
                    for f, v in (
                        ("raised", a.raised),
                        ("acknowledged", a.acknowledged),
                        ("closed", a.closed),
                        ("open", a.raised - a.closed),
                    )
                ),
                figures.plain(f"{name}/minutes_to_ack", a.minutes_to_ack, "min", "count", digits=1, reason=none),
                figures.plain(f"{name}/hours_to_close", a.hours_to_close, "h", "count", digits=1, reason=none),
            )
        )
    return Table(
        "alerts",
        Text("报警统计", "Alerts"),
        (
            Column(Text("级别", "Severity"), width=0.9),
            Column(Text("发生", "Raised"), width=0.9),
            Column(Text("已确认", "Acknowledged"), width=0.9),
            Column(Text("已关闭", "Closed"), width=0.9),
            Column(Text("未关闭", "Open"), width=0.9),
            Column(Text("确认用时中位数", "Median to acknowledge"), "min", 1.2),
            Column(Text("关闭用时中位数", "Median to close"), "h", 1.2),
        ),
        tuple(rows),
        _since(year, zone),
    )


def _count(year: Year, figure: str, n: float, digits: int = 0) -> Cell:
    """A number of alerts; none where no rule existed in the period."""
    return figures.plain(figure, n if year.was_watched else None, "alerts", "count", digits=digits, reason=figures.NOT_WATCHED)


def _since(year: Year, zone: str) -> tuple[Text, ...]:
    """From when on alerts were judged, where that is not the whole period."""
    if not year.was_watched or year.alerts_since is None or year.alerts_since <= year.span.start:
        return ()
    day = year.alerts_since.astimezone(ZoneInfo(zone)).date()
    return (Text(f"报警自 {day} 起判断，此前未作判断。", f"Alerts are judged from {day} on; nothing was before."),)


def _alert_chart(year: Year) -> Chart:
    series = []
    for severity in table()["severities"]:
        counts = {a.month: float(a.raised) for a in year.alert_months if a.severity == severity}
        if counts:
            last = year.span.through.month
            series.append(
                Series(word("severities", severity), tuple(counts.get(m, 0.0) if m <= last else None for m in range(1, 13)))
            )
    return Chart("chart-alerts", Text("分月报警数", "Alerts by month"), "stacked", "alerts", MONTHS, tuple(series))


def _rates(year: Year) -> Table:
    raised = sum(a.raised for a in year.alert_counts)
    rates, name = year.alert_rates, f"alert-rates/{year.span.year}"
    since = max(year.span.start, year.alerts_since or year.span.start)
    days = max(1.0, (year.span.end - since).total_seconds() / 86_400)
    rows = (
        (Text("日均报警数", "Alerts a day, mean"), _count(year, f"{name}/per_day", raised / days, 2)),
        (Text("最多的一天", "Busiest day"), _count(year, f"{name}/peak_day", rates.peak_day or 0)),
        (Text("最多的十分钟", "Busiest ten minutes"), _count(year, f"{name}/peak_10min", rates.peak_10min or 0)),
        (Text("持续超过一天", "Open longer than a day"), _count(year, f"{name}/longer", rates.longer_than_day)),
    )
    return Table(
        "alert-rates",
        Text("报警负荷", "Alert load"),
        (Column(Text("项目", "Item"), width=2.0), Column(Text("条数", "Alerts"), width=1.2)),
        rows,
        (
            Text(
                "评价口径参照 ISA-18.2（按通行引述，未经原文核实）。",
                "After the measures of ISA-18.2, as widely cited, not verified.",
            ),
        ),
    )


def _rules(year: Year) -> Table:
    rows = tuple(
        (
            Text(r.name_zh, r.name_en),
            both(r.code),
            figures.plain(f"rules/{year.span.year}/{r.code}/raised", float(r.raised), "alerts", "count"),
            figures.plain(f"rules/{year.span.year}/{r.code}/open", float(r.open), "alerts", "count"),
        )
        for r in year.alert_rules
    )
    return Table(
        "alert-rules",
        Text("报警最多的规则", "Rules that raised most alerts"),
        (
            Column(Text("规则", "Rule"), width=2.0),
            Column(Text("编码", "Code"), width=1.4),
            Column(Text("发生", "Raised"), width=0.9),
            Column(Text("未关闭", "Open"), width=0.9),
        ),
        rows,
    )


def _alert_years(ctx: Context) -> Table:
    columns = (Column(Text("级别", "Severity"), width=1.2), *(Column(both(str(y)), width=1.0) for y in ctx.years))
    rows: Rows = []
    for severity in table()["severities"]:
        rows.append(
            (
                word("severities", severity),
                *(
                    _count(of, f"alerts-years/{y}/{severity}", sum(a.raised for a in of.alert_counts if a.severity == severity))
                    for y, of in ctx.years.items()
                ),
            )
        )
    return Table("alert-years", Text("各年报警数", "Alerts by year"), columns, tuple(rows))


def incidents(ctx: Context) -> Section:
    """Critical and high alerts, open ones first, and the declarations that only the base can make."""
    year = ctx.year
    total = sum(a.raised for a in year.alert_counts if a.severity in ("critical", "high"))
    shown = len(year.alerts)
    if not year.was_watched:
        told = Text(f"{figures.NOT_WATCHED.zh}。", "No alert rule existed in the period: nothing was judged.")
    elif total == 0:
        told = Text("本期没有紧急与高级别报警。", "No alert of severity critical or high was raised.")
    else:
        rest = "，其余见平台" if total > shown else ""
        told = Text(
            f"本期紧急与高级别报警共 {total} 条，下表列出 {shown} 条（未关闭的在前{rest}）。",
            f"{total} alerts of severity critical or high were raised; {shown} are listed, open ones first"
            f"{f' (at most {LISTED_ALERTS}; the rest is on the platform)' if total > shown else ''}.",
        )
    blocks: list[Block] = [_declaration(), Paragraph(told)]
    if year.alerts:
        blocks.append(_list(ctx))
    return Section("incidents", Text("突发事件与重要报警", "Incidents and important alerts"), tuple(blocks))


def _declaration() -> Table:
    return Table(
        "declaration",
        Text("安全与环境事件申报", "Declaration of safety and environmental incidents"),
        (Column(Text("事项", "Item"), width=2.6), Column(Text("情况", "Statement"), width=2.0)),
        (
            (Text("本年是否发生重大及以上安全事故", "Major or worse safety accident in the year"), FILL),
            (Text("本年是否发生突发环境事件", "Sudden environmental incident in the year"), FILL),
        ),
        (said("alert_no_incident"),),
    )


def _list(ctx: Context) -> Table:
    rows: Rows = []
    for a in ctx.year.alerts:
        state = Text("未关闭", "open") if a.open else Text("已关闭", "closed")
        rows.append(
            (
                both(str(a.alert_id)),
                word("severities", a.severity),
                state,
                named(a.rule_zh, a.rule_en),
                Text(f"{a.object_zh}（{a.object_code}）", f"{a.object_en} ({a.object_code})"),
                ctx.local(a.opened_at),
                ctx.local(a.acknowledged_at),
                ctx.local(a.closed_at),
                both(a.assigned_to or "—"),
            )
        )
    return Table(
        "alert-list",
        Text("紧急与高级别报警清单", "Critical and high alerts"),
        (
            Column(Text("编号", "No."), width=0.6),
            Column(Text("级别", "Severity"), width=0.6),
            Column(Text("状态", "State"), width=0.7),
            Column(Text("规则", "Rule"), width=1.4),
            Column(Text("对象", "Object"), width=1.6),
            Column(Text("发生", "Raised"), width=1.1),
            Column(Text("确认", "Acknowledged"), width=1.1),
            Column(Text("关闭", "Closed"), width=1.1),
            Column(Text("责任人", "Assigned"), width=0.8),
        ),
        tuple(rows),
    )
