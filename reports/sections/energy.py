"""Section 4: energy by carrier, month and enterprise, coal equivalent in both bases side by side, CO2, intensity, cost."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from reports import figures
from reports.accounts import Account
from reports.context import Context, carrier_rows, energy_rows, headline, ratios_table, years_table
from reports.model import Block, Cell, Chart, Column, Paragraph, Rows, Section, Series, Table, Text, tidy
from reports.rows import Energy, Later, Span, Year
from reports.words import said, table, word

MONTHS = tuple(
    Text(f"{m}月", name)
    for m, name in enumerate(("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"), 1)
)
CALORIFIC = Text("折标准煤（当量值）", "Coal equivalent, calorific")
EQUIVALENT = Text("折标准煤（等价值）", "Coal equivalent, equivalent")
RATIOS = ("renewable_share", "energy_per_value_added", "co2_per_value_added")


def section(ctx: Context) -> Section:
    """Energy and carbon."""
    blocks: list[Block] = [
        Paragraph(
            _summary(),
            (
                headline(ctx, ctx.year, "electricity_kwh"),
                headline(ctx, ctx.year, "tce_calorific"),
                headline(ctx, ctx.year, "tce_equivalent"),
                headline(ctx, ctx.year, "co2_t"),
            ),
        )
    ]
    if ctx.several:
        blocks.append(
            years_table(
                ctx,
                "energy-years",
                Text("各年能源与碳排放", "Energy and carbon by year"),
                ("electricity_kwh", "tce_calorific", "tce_equivalent", "co2_t", "energy_cost", *RATIOS),
            )
        )
    blocks += [
        _carriers(ctx),
        _months(ctx),
        _carrier_chart(ctx.year),
        _carbon_chart(ctx.year),
        _enterprises(ctx),
        _enterprise_chart(ctx),
        _account(ctx.year),
        ratios_table(ctx, "energy", Text("能耗强度与可再生能源", "Intensity and renewables"), RATIOS, said("intensity_basis")),
    ]
    if ctx.year.cost:
        blocks.append(_tou(ctx.year))
    if ctx.year.bills:
        blocks.append(_bills(ctx.year))
    return Section("energy", Text("能源与碳排放", "Energy and carbon"), tuple(blocks))


def _summary() -> Text:
    return said("energy_summary")


def _cells(name: str, rows: Sequence[Energy], span: Span) -> tuple[Cell, ...]:
    """Coal equivalent in both bases, CO2 and cost of rows; a water carrier without a factor has none."""
    parts = (
        ("tce_calorific", "tce", 1.0, 2),
        ("tce_equivalent", "tce", 1.0, 2),
        ("co2_kg", "tCO2", 0.001, 2),
        ("cost", "CNY", 1.0, 0),
    )
    out = []
    for field, unit, scale, digits in parts:
        absent = figures.NO_METER if not rows else figures.NO_TARIFF if field == "cost" else figures.NO_FACTOR
        out.append(
            figures.measured(f"{name}/{field}", figures.add(rows, field, span), unit, scale=scale, digits=digits, absent=absent)
        )
    return tuple(out)


def _total_cells(name: str, year: Year, enterprise_id: int | None) -> tuple[Cell, ...]:
    """As `_cells` over every carrier that counts for the field."""
    out = []
    for at, field in enumerate(("tce_calorific", "tce_equivalent", "co2_kg", "cost")):
        out.append(_cells(name, energy_rows(year, enterprise_id, field), year.span)[at])
    return tuple(out)


_CONVERTED = (
    Column(CALORIFIC, "tce", 1.3),
    Column(EQUIVALENT, "tce", 1.3),
    Column(Text("二氧化碳", "CO2"), "tCO2", 1.2),
    Column(Text("费用", "Cost"), "CNY", 1.2),
)


def _carriers(ctx: Context) -> Table:
    year = ctx.year
    rows: Rows = []
    for carrier in dict.fromkeys(r.carrier for r in year.energy if r.enterprise_id is None):
        own = carrier_rows(year, carrier)
        unit, name = own[0].unit, f"energy/{year.span.year}/{carrier}"
        parts = [
            figures.measured(
                f"{name}/{f}",
                figures.add(own, f, year.span),
                unit,
                digits=2 if unit in ("t", "GJ") else 0,
                absent=figures.NO_METER if f == "amount" else Text("不适用", "not applicable"),
            )
            for f in ("amount", "generation")
        ]
        rows.append((word("carriers", carrier), word("units", unit), *parts, *_cells(name, own, year.span)))
    none = Text("—", "—")
    rows.append((Text("合计", "Total"), none, none, none, *_total_cells(f"energy/{year.span.year}/total", year, None)))
    return Table(
        "energy-carriers",
        Text("分品种能源消费", "Energy by carrier"),
        (
            Column(Text("品种", "Carrier"), width=1.1),
            Column(Text("单位", "Unit"), width=0.8),
            Column(Text("消费量", "Amount"), width=1.4),
            Column(Text("其中自发", "Of it own generation"), width=1.1),
            *_CONVERTED,
        ),
        tuple(rows),
        (said("energy_amount"), *_since(r for r in year.later if r.enterprise_id is None)),
    )


def _months(ctx: Context) -> Table:
    year = ctx.year
    rows: Rows = []
    for month, label in enumerate(MONTHS, 1):
        span = month_span(year.span, month)
        if span is None:
            continue
        name = f"energy/{year.span.year}-{month:02d}"
        power = figures.measured(
            f"{name}/electricity_kwh",
            figures.add([r for r in carrier_rows(year, "electricity") if r.month == month], "amount", span),
            "kWh",
            digits=0,
        )
        cells = []
        for at, field in enumerate(("tce_calorific", "tce_equivalent", "co2_kg", "cost")):
            cells.append(_cells(name, [r for r in energy_rows(year, None, field) if r.month == month], span)[at])
        rows.append((label, power, *cells))
    return Table(
        "energy-months",
        Text("分月能源消费与碳排放", "Energy and carbon by month"),
        (Column(Text("月份", "Month"), width=0.8), Column(Text("用电量", "Electricity"), "kWh", 1.4), *_CONVERTED),
        tuple(rows),
        _silent_months(year),
    )


def _silent_months(year: Year) -> tuple[Text, ...]:
    """Carriers that the year has and a month has not: their months' totals are without them."""
    out = []
    water = table()["water_carriers"]
    for carrier in dict.fromkeys(r.carrier for r in year.energy if r.enterprise_id is None and r.carrier not in water):
        known = {r.month for r in carrier_rows(year, carrier) if r.amount is not None}
        silent = [MONTHS[m - 1] for m in range(1, year.span.through.month + 1) if m not in known]
        if silent:
            name = word("carriers", carrier)
            out.append(Text(f"{'、'.join(m.zh for m in silent)}没有{name.zh}数据，合计不含{name.zh}。",
                            f"{name.en} has no data for {', '.join(m.en for m in silent)}: their totals are without it."))
    return tuple(out)


def month_span(span: Span, month: int) -> Span | None:
    """The part of a month that has passed within the year's span; None where none has."""
    from datetime import date, timedelta

    first = date(span.year, month, 1)
    last = date(span.year + month // 12, month % 12 + 1, 1) - timedelta(days=1)
    if first > span.through:
        return None
    return Span(span.year, first, last, min(last, span.through), span.start, span.end)


def _carrier_chart(year: Year) -> Chart:
    carriers = [
        c
        for c in dict.fromkeys(r.carrier for r in year.energy if r.enterprise_id is None)
        if any(r.tce_equivalent for r in carrier_rows(year, c))
    ]
    series = tuple(Series(word("carriers", c), by_month(carrier_rows(year, c), "tce_equivalent")) for c in carriers)
    return Chart(
        "chart-energy-months", Text("分月综合能耗（等价值）", "Energy by month (equivalent)"), "stacked", "tce", MONTHS, series
    )


def _carbon_chart(year: Year) -> Chart:
    return Chart(
        "chart-carbon-months",
        Text("分月二氧化碳排放", "CO2 by month"),
        "line",
        "tCO2",
        MONTHS,
        (Series(Text("二氧化碳排放", "CO2"), by_month(energy_rows(year, None, "co2_kg"), "co2_kg", 0.001)),),
    )


def by_month(rows: Sequence[Energy], field: str, scale: float = 1.0) -> tuple[float | None, ...]:
    """Twelve sums; None for a month without a single known part."""
    out: list[float | None] = []
    for month in range(1, 13):
        values = [v for r in rows if r.month == month and (v := getattr(r, field)) is not None]
        out.append(tidy(scale * sum(values)) if values else None)
    return tuple(out)


def _enterprises(ctx: Context) -> Table:
    year = ctx.year
    rows: Rows = []
    for e in ctx.enterprises:
        name = f"energy/{year.span.year}/enterprise/{e.code}"
        power = figures.measured(
            f"{name}/electricity_kwh",
            figures.add(carrier_rows(year, "electricity", e.enterprise_id), "amount", year.span),
            "kWh",
            digits=0,
        )
        rows.append(
            (
                Text(e.name_zh, e.name_en),
                word("industries", e.industry or "—"),
                power,
                *_total_cells(name, year, e.enterprise_id),
            )
        )
    return Table(
        "energy-enterprises",
        Text("分企业能源消费", "Energy by enterprise"),
        (
            Column(Text("企业", "Enterprise"), width=1.5),
            Column(Text("行业", "Industry"), width=1.0),
            Column(Text("用电量", "Electricity"), "kWh", 1.3),
            *_CONVERTED,
        ),
        tuple(rows),
        (said("enterprise_gates"), *_since(r for r in year.later if r.enterprise_id is not None)),
    )


def _since(later: Iterable[Later]) -> tuple[Text, ...]:
    """That totals hold meters which began within the year, where there are any."""
    n = len({r.point for r in later})
    return (
        (
            Text(
                f"其中 {n} 块计量表期内才开始计量，此前用量不在合计内，见附录“缺失数据说明”。",
                f"{n} of the meters began within the period; what flowed before is not in the totals, see annex Missing data.",
            ),
        )
        if n
        else ()
    )


def _enterprise_chart(ctx: Context) -> Chart:
    names, series = [], []
    for e in ctx.enterprises:
        names.append(Text(e.name_zh, e.name_en))
    for field, name in (("tce_calorific", CALORIFIC), ("tce_equivalent", EQUIVALENT)):
        series.append(
            Series(
                name,
                tuple(
                    tidy(figures.add(energy_rows(ctx.year, e.enterprise_id, field), field, ctx.year.span).value)
                    for e in ctx.enterprises
                ),
            )
        )
    return Chart(
        "chart-energy-enterprises", Text("分企业综合能耗", "Energy by enterprise"), "bars", "tce", tuple(names), tuple(series)
    )


def _tou(year: Year) -> Table:
    order = list(table()["tou"])
    known = sorted(year.cost, key=lambda c: order.index(c.period) if c.period in order else len(order))
    whole = sum(c.amount for c in known)
    rows: Rows = []
    for c in known:
        name, coverage = f"tou/{year.span.year}/{c.period}", min(1.0, c.days / year.span.days) if year.span.days else None
        rows.append(
            (
                word("tou", c.period),
                figures.plain(f"{name}/amount", c.amount, "kWh", "measured", coverage=coverage),
                figures.ratio(f"{name}/share", c.amount, whole, "%", coverage, scale=100, digits=1, withhold=False),
                figures.plain(f"{name}/cost", c.cost, "CNY", "measured", coverage=coverage),
                figures.ratio(f"{name}/price", c.cost, c.amount, "CNY/kWh", coverage, digits=4, withhold=False),
            )
        )
    return Table(
        "energy-tou",
        Text("分时段用电与电费", "Electricity by tariff period"),
        (
            Column(Text("时段", "Period"), width=1.0),
            Column(Text("电量", "Energy"), "kWh", 1.3),
            Column(Text("占比", "Share"), "%", 1.0),
            Column(Text("电费", "Cost"), "CNY", 1.3),
            Column(Text("平均单价", "Mean price"), "CNY/kWh", 1.1),
        ),
        tuple(rows),
        (said("tou_scope"),),
    )


def _account(year: Year) -> Table:
    """Scopes, grades and coverage by carrier, energy after deductions, CO2 by location and by market side by side."""
    rows: Rows = []
    for a in year.account:
        scope = Text(f"范围{a.scope}", f"scope {a.scope}") if a.scope else Text("—", "—")
        figures_of = (
            ("tce_calorific_assessed", a.tce_calorific_assessed, "tce", 1.0),
            ("tce_equivalent_assessed", a.tce_equivalent_assessed, "tce", 1.0),
            ("co2_location", a.co2_kg, "tCO2", 0.001),
            ("co2_market", a.co2_market_kg, "tCO2", 0.001),
        )
        cells = [_accounted(a, year, field, value, unit, scale) for field, value, unit, scale in figures_of]
        rows.append((word("carriers", a.carrier), scope, Text(a.grade or "—", a.grade or "—"), *cells))
    if not rows:
        fields = ("calorific", "equivalent", "location", "market")
        rows.append(figures.nothing(3, f"account/{year.span.year}/none", fields, "tce", "measured"))
    used = sorted({s for a in year.account for s in a.settings})
    told = [(word("settings", name), word("settings", value)) for name, _, value in (s.partition("=") for s in used)]
    told_zh = "；".join(f"{a.zh}：{b.zh}" for a, b in told) or "无"
    told_en = "; ".join(f"{a.en}: {b.en}" for a, b in told) or "none"
    return Table(
        "energy-account",
        Text("核算口径：考核能耗与两种口径的碳排放", "Account: assessed energy, and CO2 by location and by market"),
        (
            Column(Text("品种", "Carrier"), width=1.1),
            Column(Text("范围", "Scope"), width=0.7),
            Column(Text("等级", "Grade"), width=0.6),
            Column(Text("考核能耗（当量）", "Assessed, calorific"), "tce", 1.2),
            Column(Text("考核能耗（等价）", "Assessed, equivalent"), "tce", 1.2),
            Column(Text("基于位置", "Location-based"), "tCO2", 1.2),
            Column(Text("基于市场", "Market-based"), "tCO2", 1.2),
        ),
        tuple(rows),
        (said("account_meaning"), Text(f"采用的口径开关：{told_zh}。", f"Switches used: {told_en}.")),
    )


def _accounted(a: Account, year: Year, field: str, value: float | None, unit: str, scale: float) -> Cell:
    """A figure of the account with its grade, coverage and factor rows."""
    due = a.n_expected * max(1.0, year.span.days / a.days) if a.days else 0.0
    absent = figures.NO_METER if a.amount is None else figures.NO_FACTOR
    return figures.known(
        f"account/{year.span.year}/{a.carrier}/{field}",
        None if value is None else scale * value,
        unit,
        min(1.0, a.n_known / due) if due else None,
        absent=absent,
        grade=a.grade,
        quality="estimated" if a.grade == "C" else "good" if a.grade else "",
        factors=tuple(a.factors),
    )


def _bills(year: Year) -> Table:
    """The base's own electricity bills as accounting reproduces them."""
    rows: Rows = []
    for b in year.bills:
        name, coverage = f"bill/{b.month:%Y-%m}", b.n_known / b.n_expected if b.n_expected else None
        absent = Text("无无功计量或考核标准", "no reactive meter or standard")
        cells = (
            ("energy_kwh", b.energy_kwh, "kWh", 0),
            ("energy_cost", b.energy_cost, "CNY", 0),
            ("demand_kw", b.demand_kw, "kW", 0),
            ("demand_cost", b.demand_cost, "CNY", 0),
            ("power_factor", b.power_factor, "1", 2),
            ("adjustment", b.adjustment, "CNY", 0),
            ("total", b.total, "CNY", 0),
        )
        told = [
            figures.plain(f"{name}/{field}", value, unit, "measured", digits=digits, coverage=coverage, reason=absent)
            for field, value, unit, digits in cells
        ]
        over = month_span(year.span, b.month.month)
        running = over is None or over.through < over.last
        zh, en = ("（未结束）", " (running)") if running else ("", "")
        rows.append((Text(f"{b.month:%Y-%m}{zh}", f"{b.month:%Y-%m}{en}"), *told))
    return Table(
        "energy-bills",
        Text("园区关口电费核算", "Electricity bills of the base's gate"),
        (
            Column(Text("月份", "Month"), width=0.8),
            Column(Text("电量", "Energy"), "kWh", 1.2),
            Column(Text("电度电费及附加", "Energy and additions"), "CNY", 1.2),
            Column(Text("最大需量", "Demand"), "kW", 0.9),
            Column(Text("基本电费", "Demand charge"), "CNY", 1.0),
            Column(Text("功率因数", "Power factor"), width=0.7),
            Column(Text("力调电费", "Adjustment"), "CNY", 1.0),
            Column(Text("合计", "Total"), "CNY", 1.2),
        ),
        tuple(rows),
        (said("bill_meaning"),),
    )
