"""Section 5: water, reuse, solid waste, exchanges between enterprises, and what parent meters cannot account for."""

from __future__ import annotations

from reports import figures
from reports.context import Context, carrier_rows, headline, ratios_table, years_table
from reports.model import Block, Chart, Column, Paragraph, Rows, Section, Series, Table, Text
from reports.rows import Balance, Year
from reports.sections import materials
from reports.sections.energy import MONTHS, by_month
from reports.words import said, table, word

CODES = ("water_m3", "water_per_value_added", "water_reuse_rate", "solid_waste_use_rate")


def section(ctx: Context) -> Section:
    """Resources."""
    blocks: list[Block] = [
        Paragraph(
            said("resource_summary"),
            (headline(ctx, ctx.year, "water_m3"),),
        )
    ]
    if ctx.several:
        blocks.append(years_table(ctx, "resource-years", Text("各年资源利用", "Resources by year"), CODES))
    blocks += [ratios_table(ctx, "resources", Text("资源利用效率", "Resource efficiency"), CODES[1:]), _water(ctx)]
    if any(r.carrier in table()["water_carriers"] for r in ctx.year.energy):
        blocks.append(_water_chart(ctx.year))
    blocks += [materials.water_balance(ctx.year), materials.waste_stores(ctx.year), materials.exchanges(ctx.year)]
    land = materials.land_and_heat(ctx.year)
    blocks += [land] if land is not None else []
    blocks.append(_balance(ctx.year))
    return Section("resources", Text("资源利用", "Resources"), tuple(blocks))


def _water(ctx: Context) -> Table:
    year, carriers = ctx.year, table()["water_carriers"]
    owners: list[tuple[int | None, str, Text]] = [(None, "base", Text("园区合计", "Base"))]
    owners += [(e.enterprise_id, e.code, Text(e.name_zh, e.name_en)) for e in ctx.enterprises]
    rows: Rows = []
    for owner, code, name in owners:
        cells = [
            figures.measured(
                f"water/{year.span.year}/{code}/{c}",
                figures.add(carrier_rows(year, c, owner), "amount", year.span),
                "m3",
                digits=0,
            )
            for c in carriers
        ]
        cost = figures.measured(
            f"water/{year.span.year}/{code}/cost",
            figures.add(carrier_rows(year, "water", owner), "cost", year.span),
            "CNY",
            digits=0,
            absent=figures.NO_TARIFF,
        )
        rows.append((name, *cells, cost))
    return Table(
        "water",
        Text("用水量", "Water"),
        (
            Column(Text("单位", "Owner"), width=1.6),
            *(Column(word("carriers", c), "m3", 1.3) for c in carriers),
            Column(Text("新鲜水费用", "Cost of fresh water"), "CNY", 1.2),
        ),
        tuple(rows),
    )


def _water_chart(year: Year) -> Chart:
    series = tuple(
        Series(word("carriers", c), by_month(carrier_rows(year, c), "amount"))
        for c in table()["water_carriers"]
        if carrier_rows(year, c)
    )
    return Chart("chart-water-months", Text("分月用水量", "Water by month"), "stacked", "m3", MONTHS, series)


def _balance(year: Year) -> Table:
    rows: Rows = []
    for b in year.balance:
        name, coverage = f"balance/{year.span.year}/{b.carrier}/{b.code}", balance_coverage(b, year)
        cells = [
            figures.known(f"{name}/{f}", getattr(b, f), b.unit, coverage, digits=0)
            for f in ("parent_amount", "children_amount", "unaccounted")
        ]
        share = figures.ratio(f"{name}/share", b.unaccounted, b.parent_compared, "%", coverage, scale=100, digits=2)
        margin = figures.ratio(f"{name}/uncertainty", b.uncertainty, b.parent_compared, "%", coverage, scale=100, digits=2)
        rows.append(
            (
                Text(
                    f"{word('carriers', b.carrier).zh}：{b.name_zh}（{b.code}）",
                    f"{word('carriers', b.carrier).en}: {b.name_en} ({b.code})",
                ),
                word("units", b.unit),
                *cells,
                share,
                margin,
            )
        )
    if not rows:
        absent = Text("目录中没有总表与分表关系", "no parent and child meters in the catalogue")
        fields = ("parent", "children", "unaccounted", "share", "uncertainty")
        rows.append(figures.nothing(2, f"balance/{year.span.year}/none", fields, "", "measured", absent))
    return Table(
        "balance",
        Text("总分表平衡", "Parent meters against their children"),
        (
            Column(Text("总表", "Parent meter"), width=2.2),
            Column(Text("单位", "Unit"), width=0.7),
            Column(Text("总表量", "Parent"), width=1.2),
            Column(Text("分表合计", "Children"), width=1.2),
            Column(Text("未计量", "Unaccounted"), width=1.1),
            Column(Text("未计量占比", "Share"), "%", 0.9),
            Column(Text("不确定度 ±", "Uncertainty ±"), "%", 0.9),
        ),
        tuple(rows),
        (said("unaccounted_meaning"),),
    )


def balance_coverage(b: Balance, year: Year) -> float | None:
    """Known over expected slots of every member, absent days counted."""
    due = b.n_expected * max(1.0, year.span.days / b.days) if b.days else 0.0
    return min(1.0, b.n_known / due) if due else None
