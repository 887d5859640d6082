"""Section 1: what the base is, what was measured, and what changed against the former year or over the period."""

from __future__ import annotations

from reports import figures
from reports.context import HEADLINES, Context, headline, headline_name, renamed, years_table
from reports.model import Block, Column, Heading, Item, Paragraph, Rows, Section, Table, Text
from reports.sections import summary
from reports.words import both, said, source, word

NOTICE = said("notice")
READING = said("reading")


def section(ctx: Context) -> Section:
    """Overview and changes."""
    blocks: tuple[Block, ...] = (
        *summary.blocks(ctx),
        Heading(Text("基地与主要指标", "The base and its main figures")),
        _card(ctx),
        *_figures(ctx),
        Heading(Text("编制说明", "About this report")),
        Paragraph(NOTICE),
        Paragraph(READING),
        Paragraph(_span(ctx)),
        summary.requirements(),
    )
    return Section("overview", Text("概况与变化", "Overview and changes"), blocks)


def _span(ctx: Context) -> Text:
    span, stamp = ctx.year.span, ctx.local(ctx.as_of).zh
    first = next(iter(ctx.years.values())).span.first
    open_zh = "" if span.complete else f"（{span.year}年尚未结束，数据截至 {span.through}）"
    open_en = "" if span.complete else f" ({span.year} has not ended; data up to {span.through})"
    known_zh = "；全部数值、折算因子、目标、限值与台账均为该时点所示，数据可得率与报警统计为现行记录" if ctx.pinned else ""
    known_en = (
        "; all figures, factors, targets, limits and ledger entries as known then, availability of readings and statistics of "
        "alerts as of now"
        if ctx.pinned
        else ""
    )
    return Text(
        f"统计期为 {first} 至 {span.last}{open_zh}。日、月、年按 {ctx.base.timezone} 划分；数据提取时点为 {stamp}{known_zh}。",
        f"The period is {first} to {span.last}{open_en}. Days, months and years are those of {ctx.base.timezone}; the data "
        f"were taken at {stamp}{known_en}.",
    )


def _card(ctx: Context) -> Table:
    industries = [word("industries", i) for i in sorted({e.industry for e in ctx.enterprises if e.industry})]
    rows: Rows = [
        (Text("基地名称", "Base"), Text(ctx.base.name_zh, ctx.base.name_en)),
        (Text("平台编码", "Code"), both(ctx.base.code)),
        (Text("区域（电网因子）", "Region (grid factor)"), source(ctx.base.region)),
        (
            Text("接入企业数", "Enterprises connected"),
            figures.plain("overview/enterprises", float(len(ctx.enterprises)), "1", "count"),
        ),
        (
            Text("行业", "Industries"),
            Text("、".join(i.zh for i in industries) or "—", ", ".join(i.en for i in industries) or "—"),
        ),
        (
            Text("在册测点数", "Points on record"),
            figures.plain("overview/points", float(sum(p.points for p in ctx.year.points)), "1", "count"),
        ),
    ]
    return Table(
        "base",
        Text("基地基本情况", "The base"),
        (Column(Text("项目", "Item"), width=1.2), Column(Text("内容", "Content"), width=3.0)),
        tuple(rows),
    )


def _figures(ctx: Context) -> tuple[Table, ...]:
    codes = tuple(c for c in HEADLINES)
    if ctx.several:
        return (years_table(ctx, "years", Text("建设期各年主要指标", "Main figures of the years of the period"), codes),)
    rows: Rows = []
    complete = ctx.year.span.complete
    for code in codes:
        now = headline(ctx, ctx.year, code)
        row: list[Item] = [headline_name(code), word("units", now.unit), renamed(now, f"headlines/{now.id}")]
        if ctx.former is not None:
            before = headline(ctx, ctx.former, code)
            row.append(renamed(before, f"headlines/{before.id}"))
            row += [figures.change(f"headlines/change/{code}", now, before)] if complete else []
        rows.append(tuple(row))
    y = ctx.year.span.year
    notes = () if complete else (said("open_year"),)
    if ctx.former is None:
        return (_alone(rows, y, notes),)
    return (
        Table(
            "headlines",
            Text("主要指标及与上年比较", "Main figures against the former year"),
            (
                Column(Text("指标", "Indicator"), width=2.4),
                Column(Text("单位", "Unit"), width=1.0),
                Column(Text(f"{y}年", str(y)), width=1.4),
                Column(Text(f"{y - 1}年", str(y - 1)), width=1.4),
                *((Column(Text("变化", "Change"), "%", 1.0),) if complete else ()),
            ),
            tuple(rows),
            notes,
        ),
    )


def _alone(rows: Rows, year: int, notes: tuple[Text, ...]) -> Table:
    """The year's main figures where no year before has data: a column of dashes would say nothing."""
    columns = (
        Column(Text("指标", "Indicator"), width=2.4),
        Column(Text("单位", "Unit"), width=1.0),
        Column(Text(f"{year}年", str(year)), width=1.8),
    )
    none = Text(f"{year - 1}年在平台中没有数据，不作比较。", f"The platform has no data of {year - 1} to compare with.")
    return Table("headlines", Text("主要指标", "Main figures"), columns, tuple(rows), (*notes, none))
