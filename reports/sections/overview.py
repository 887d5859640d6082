"""Section 1: what the base is, what was measured, and what changed against the former year or over the period."""

from __future__ import annotations

from reports import figures
from reports.context import HEADLINES, Context, headline, headline_name, renamed, years_table
from reports.model import Block, Column, Paragraph, Rows, Section, Table, Text
from reports.words import both, word

NOTICE = Text(
    "本报告依据《关于组织开展绿色产业示范基地建设的通知》（发改办环资〔2020〕519号）关于示范基地每年报送总结的要求编制。"
    "该通知未公布统一的总结提纲和指标表，本报告的章节与指标由平台按通知所列任务和基地自身建设方案设置，不代表官方口径。",
    "This report serves the yearly summary that notice 发改办环资〔2020〕519号 asks of every demonstration base. The notice "
    "publishes neither an outline nor a table of indicators; sections and indicators here follow its tasks and the base's own "
    "plan and are not an official format.",
)
READING = Text(
    "每个数据下方列有覆盖率与数据等级（A 计量、B 票据或台账、C 估算）；“—”表示无数据，不代表零，原因随附。"
    "覆盖率低于 90 % 时不发布强度类指标。",
    "Under every figure stand its coverage and grade (A metered, B bill or ledger, C estimated). “—” means no data, never zero, "
    "and carries its reason. Intensities are withheld under 90 % coverage.",
)


def section(ctx: Context) -> Section:
    """Overview and changes."""
    blocks: tuple[Block, ...] = (Paragraph(NOTICE), Paragraph(READING), Paragraph(_span(ctx)), _card(ctx), *_figures(ctx))
    return Section("overview", Text("概况与变化", "Overview and changes"), blocks)


def _span(ctx: Context) -> Text:
    span, stamp = ctx.year.span, ctx.local(ctx.as_of).zh
    first = next(iter(ctx.years.values())).span.first
    open_zh = "" if span.complete else f"（{span.year}年尚未结束，数据截至 {span.through}）"
    open_en = "" if span.complete else f" ({span.year} has not ended; data up to {span.through})"
    known_zh = "；折算因子、目标、限值与台账均按该时点已知的记录取用，原始读数为现行修订" if ctx.pinned else ""
    known_en = "; factors, targets, limits and ledger as known then, readings in their present revision" if ctx.pinned else ""
    return Text(
        f"统计期为 {first} 至 {span.last}{open_zh}。日、月、年按 {ctx.base.timezone} 划分；数据提取时点为 {stamp}{known_zh}。",
        f"The period is {first} to {span.last}{open_en}. Days, months and years are those of {ctx.base.timezone}; the data "
        f"were taken at {stamp}{known_en}.",
    )


def _card(ctx: Context) -> Table:
    industries = sorted({e.industry for e in ctx.enterprises if e.industry})
    rows: Rows = [
        (Text("基地名称", "Base"), Text(ctx.base.name_zh, ctx.base.name_en)),
        (Text("平台编码", "Code"), both(ctx.base.code)),
        (Text("区域（电网因子）", "Region (grid factor)"), both(ctx.base.region or "—")),
        (
            Text("接入企业数", "Enterprises connected"),
            figures.plain("overview/enterprises", float(len(ctx.enterprises)), "1", "count"),
        ),
        (Text("行业", "Industries"), both(", ".join(industries) or "—")),
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
    for code in codes:
        now = headline(ctx, ctx.year, code)
        before = headline(ctx, ctx.former, code) if ctx.former else None
        former = (
            renamed(before, f"headlines/{before.id}")
            if before
            else figures.plain(
                f"headlines/{ctx.year.span.year - 1}/{code}", None, now.unit, "measured", reason=figures.NO_FORMER
            )
        )
        delta = figures.change(f"headlines/change/{code}", now, before if ctx.year.span.complete else None)
        rows.append((headline_name(code), word("units", now.unit), renamed(now, f"headlines/{now.id}"), former, delta))
    y = ctx.year.span.year
    notes = (
        ()
        if ctx.year.span.complete
        else (Text("本年尚未结束，不与上年全年比较。", "The year has not ended: no comparison with the whole former year."),)
    )
    return (
        Table(
            "headlines",
            Text("主要指标及与上年比较", "Main figures against the former year"),
            (
                Column(Text("指标", "Indicator"), width=2.4),
                Column(Text("单位", "Unit"), width=1.0),
                Column(Text(f"{y}年", str(y)), width=1.4),
                Column(Text(f"{y - 1}年", str(y - 1)), width=1.4),
                Column(Text("变化", "Change"), "%", 1.0),
            ),
            tuple(rows),
            notes,
        ),
    )
