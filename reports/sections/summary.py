"""The year in a few sentences, before the tables, and where the report answers what the programme's notices ask."""

from __future__ import annotations

import msgspec

from reports import figures
from reports.context import Context, headline
from reports.model import Block, Cell, Column, Heading, Paragraph, Table, Text
from reports.sections.plan import expected_of, reaches, targets_of
from reports.words import table

MASSES = ("so2_t", "nox_t", "dust_t", "cod_t", "ammonia_t")


def blocks(ctx: Context) -> tuple[Block, ...]:
    """Targets, energy, pollution and operation of the year (the last one of a longer report), each in a paragraph."""
    y = ctx.year.span.year
    title = Text(f"{y}年综述", f"{y} in short") if ctx.several else Text("本年综述", "The year in short")
    told = [p for p in (_targets(ctx), _energy(ctx), _pollution(ctx), _operation(ctx)) if p is not None]
    return (Heading(title), *told)


def requirements() -> Table:
    """What the notices ask for, and where it stands."""
    rows = tuple(
        tuple(Text(r[f"{part}zh"], r[f"{part}en"]) for part in ("", "where_", "by_")) for r in table()["requirements"]
    )
    columns = (
        Column(Text("要求", "Asked for"), width=3.2),
        Column(Text("所在章节", "Where"), width=1.6),
        Column(Text("内容来源", "Comes from"), width=1.6),
    )
    return Table("requirements", Text("通知要求与本报告对照", "What the notices ask for, and where it stands"), columns, rows)


def _short(cell: Cell) -> Cell:
    """The figure in running text: its factor rows stand where it is tabled."""
    return msgspec.structs.replace(cell, id=f"summary/{cell.id}", factors=())


def _targets(ctx: Context) -> Paragraph | None:
    wanted = targets_of(ctx, ctx.year.span.year)
    if not wanted:
        return None
    ends = [(t, expected_of(ctx, t)) for t in wanted]
    found = [(t, None if end is None else reaches(t, end)) for t, end in ends]
    missed = [t for t, kept in found if kept is False]
    reached, unknown = sum(kept is True for _, kept in found), sum(kept is None for _, kept in found)
    zh, en = ("完成", "met") if ctx.year.span.complete else ("预计完成", "on course")
    not_zh, not_en = ("未完成", "not met") if ctx.year.span.complete else ("预计不能完成", "behind")
    names_zh, names_en = "、".join(t.name_zh for t in missed), ", ".join(t.name_en for t in missed)
    return Paragraph(
        Text(
            f"目标：登记目标 {len(wanted)} 项，{zh} {reached} 项，{not_zh} {len(missed)} 项"
            f"{f'（{names_zh}）' if missed else ''}{f'，无法判断 {unknown} 项' if unknown else ''}。",
            f"Targets: of {len(wanted)} on record {reached} {'is' if reached == 1 else 'are'} {en} and {len(missed)} {not_en}"
            f"{f' ({names_en})' if missed else ''}{f'; {unknown} cannot be judged' if unknown else ''}.",
        )
    )


def _energy(ctx: Context) -> Paragraph:
    cells: list[Cell] = []
    zh, en = [], []
    for code, name_zh, name_en in (
        ("tce_equivalent", "综合能耗（等价值）", "total energy (equivalent)"),
        ("co2_t", "二氧化碳排放", "CO2"),
        ("energy_per_value_added", "单位工业增加值综合能耗", "energy per value added"),
    ):
        now = headline(ctx, ctx.year, code)
        cells.append(_short(now))
        change_zh, change_en = "", ""
        if ctx.former is not None and ctx.year.span.complete:
            delta = figures.change(f"summary/change/{code}", now, headline(ctx, ctx.former, code))
            if delta.value is not None:
                change_zh = f"，较上年{'增加' if delta.value >= 0 else '减少'} {abs(delta.value):.1f} %"
                change_en = f", {abs(delta.value):.1f} % {'more' if delta.value >= 0 else 'less'} than the year before"
        zh.append(f"{name_zh} {{{len(cells) - 1}}}{change_zh}")
        en.append(f"{name_en} {{{len(cells) - 1}}}{change_en}")
    return Paragraph(Text(f"能源与碳：{'；'.join(zh)}。", f"Energy and carbon: {'; '.join(en)}."), tuple(cells))


def _pollution(ctx: Context) -> Paragraph | None:
    rows = ctx.year.emission
    if not rows:
        return None
    valid, exceeded = sum(e.hours_valid for e in rows), sum(e.hours_exceeded for e in rows)
    outlets = len({e.unit_id for e in rows})
    masses = [c for code in MASSES if (c := headline(ctx, ctx.year, code)).value is not None]
    cells = tuple(_short(c) for c in (headline(ctx, ctx.year, "transmission_effective_rate"), *masses))
    named = {c.id: table()["indicators"][c.id.rpartition("/")[2]] for c in cells}
    mass_zh = "，".join(f"{named[c.id]['zh']} {{{n}}}" for n, c in enumerate(cells[1:], 1))
    mass_en = ", ".join(f"{named[c.id]['en']} {{{n}}}" for n, c in enumerate(cells[1:], 1))
    events, cases = ctx.year.events, ctx.year.cases
    closed = sum(c.closed_at is not None and c.closed_at < ctx.year.span.end for c in cases)
    hours = sum(e.hours for e in events)
    return Paragraph(
        Text(
            f"污染源：监测排口 {outlets} 个，有效监测 {valid:,} 因子小时，超标 {exceeded:,} 小时，传输有效率 {{0}}。"
            f"{mass_zh}{'。' if mass_zh else ''}治理设施联动事件 {len(events)} 起，累计 {hours:,.1f} 小时；"
            f"污染报警处置单 {len(cases)} 件，已关闭 {closed} 件。",
            f"Pollution: {outlets} outlets were monitored over {valid:,} valid hours of pollutants; {exceeded:,} exceeded a "
            f"limit; the effective transmission rate was {{0}}. {mass_en}{'. ' if mass_en else ''}"
            f"Treatment events: {len(events)}, {hours:,.1f} hours in all; pollution cases: {len(cases)}, {closed} closed.",
        ),
        cells,
    )


def _operation(ctx: Context) -> Paragraph | None:
    year = ctx.year
    expected, came = sum(a.n_expected for a in year.availability), sum(a.n for a in year.availability)
    if not expected:
        return None
    share, points = 100 * min(1.0, came / expected), sum(p.points for p in year.points)
    raised, closed = sum(a.raised for a in year.alert_counts), sum(a.closed for a in year.alert_counts)
    zh = f"报警 {raised:,} 条，已关闭 {closed:,} 条" if year.was_watched else figures.NOT_WATCHED.zh
    en = f"{raised:,} alerts were raised, {closed:,} closed" if year.was_watched else figures.NOT_WATCHED.en
    return Paragraph(
        Text(
            f"平台运行：在册测点 {points:,} 个，数据可用率 {share:.2f} %；{zh}。",
            f"Platform: {points:,} points on record, {share:.2f} % of their hours have data; {en}.",
        )
    )
