"""Annexes: definitions, factor rows with their sources, what is missing and why, versions and restatements."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec

from reports import figures
from reports.context import Context
from reports.model import Block, Cell, Change, Column, Paragraph, Place, Rows, Sealing, Section, Table, Text
from reports.words import both, said, source, word

LISTED_GAPS = 60
WITHHELD = word("withheld", "less than 90% known")
DEFINITIONS: tuple[tuple[Text, Text], ...] = (
    (
        Text("综合能耗（当量值）", "Total energy, calorific"),
        said("definition_calorific"),
    ),
    (
        Text("综合能耗（等价值）", "Total energy, equivalent"),
        said("definition_equivalent"),
    ),
    (
        Text("二氧化碳排放", "CO2"),
        said("definition_co2"),
    ),
    (
        Text("覆盖率", "Coverage"),
        said("definition_coverage"),
    ),
    (
        Text("等级", "Grade"),
        said("definition_grade"),
    ),
    (
        Text("强度类指标", "Intensities"),
        said("definition_intensity"),
    ),
    (
        Text("再生水利用率", "Reclaimed share of water"),
        said("definition_reclaimed"),
    ),
    (
        Text("传输有效率", "Effective transmission rate"),
        said("definition_transmission"),
    ),
)


def sections(
    ctx: Context, cells: Sequence[Place], history: Sequence[Sealing], restated: Sequence[Change]
) -> tuple[Section, ...]:
    """Every annex."""
    return (_definitions(), _factors(ctx), _missing(ctx, cells), _versions(ctx, history, restated))


def _definitions() -> Section:
    rows = tuple(DEFINITIONS)
    return Section(
        "definitions",
        Text("指标定义与口径", "Definitions"),
        (
            Table(
                "definitions",
                Text("指标定义", "Definitions"),
                (Column(Text("名称", "Name"), width=1.2), Column(Text("定义", "Definition"), width=4.0)),
                rows,
            ),
        ),
        annex=True,
    )


def _factors(ctx: Context) -> Section:
    rows: Rows = []
    for f in ctx.factors:
        until = "" if f.valid_to is None else str(f.valid_to)
        digits = max(1, min(6, len(f"{f.value:.6f}".rstrip("0").partition(".")[2])))
        checked = Text("是", "yes") if f.verified else Text("否", "no")
        scope = Text("基地", "base") if f.base_id is not None else source(f.region or "全国")
        rows.append(
            (
                both(f"F{f.factor_id}"),
                word("carriers", f.carrier),
                word("factor_kinds", f.kind),
                figures.plain(f"factor/{f.factor_id}", f.value, f.unit, "reference", digits=digits),
                both(f.unit),
                scope,
                source(f.edition),
                Text(f"{f.valid_from} 至 {until or '今'}", f"{f.valid_from} to {until or 'now'}"),
                source(f.source),
                checked,
            )
        )
    note = said("factor_unverified")
    blocks: tuple[Block, ...] = (
        (
            Table(
                "factors",
                Text("折算因子", "Factor rows used"),
                (
                    Column(Text("行号", "Row"), width=0.6),
                    Column(Text("品种", "Carrier"), width=0.9),
                    Column(Text("用途", "Kind"), width=1.2),
                    Column(Text("数值", "Value"), width=0.9),
                    Column(Text("单位", "Unit"), width=1.0),
                    Column(Text("范围", "Scope"), width=0.8),
                    Column(Text("版本", "Edition"), width=1.0),
                    Column(Text("有效期", "Valid"), width=1.2),
                    Column(Text("来源", "Source"), width=2.0),
                    Column(Text("已核验", "Verified"), width=0.8),
                ),
                tuple(rows),
                (note,),
            ),
        )
        if rows
        else (Paragraph(Text("本期没有使用任何折算因子。", "No factor row was used.")),)
    )
    return Section("factors", Text("折算因子及其来源", "Factors and their sources"), blocks, annex=True)


def _missing(ctx: Context, cells: Sequence[Place]) -> Section:
    gaps = [p for p in cells if p.cell.value is None and p.cell.reason is not None]
    reasons = Counter(_kind_of(p.cell.reason) for p in gaps if p.cell.reason is not None)
    low = [p for p in cells if p.cell.value is not None and p.cell.coverage is not None and p.cell.coverage < 0.9]
    summary = Paragraph(
        Text(
            f"本报告共 {len(cells)} 个数据，其中 {len(gaps)} 个无数据或不予发布，"
            f"{len(low)} 个覆盖率低于 90 %。缺失一律不按零处理。",
            f"Of {len(cells)} figures {len(gaps)} are missing or withheld and {len(low)} have less than 90 % coverage. "
            "Nothing missing is taken for zero.",
        )
    )
    blocks: list[Block] = [summary]
    if reasons:
        blocks.append(
            Table(
                "missing-reasons",
                Text("无数据原因汇总", "Reasons"),
                (Column(Text("原因", "Reason"), width=3.0), Column(Text("数据个数", "Figures"), width=1.0)),
                tuple(
                    (reason, figures.plain(f"missing/{n}", float(count), "1", "count"))
                    for n, (reason, count) in enumerate(reasons.most_common(), 1)
                ),
            )
        )
    if low:
        title = Text(
            f"覆盖率低于 90 % 的数据（{min(len(low), LISTED_GAPS)}/{len(low)}）",
            f"Figures under 90 % coverage ({min(len(low), LISTED_GAPS)} of {len(low)})",
        )
        blocks.append(
            Table(
                "low-coverage",
                title,
                (Column(Text("数据", "Figure"), width=4.0), Column(Text("覆盖率", "Coverage"), "%", 1.0)),
                tuple(
                    (p.label, figures.plain(f"low/{p.cell.id}", 100 * (p.cell.coverage or 0.0), "%", "count", digits=1))
                    for p in low[:LISTED_GAPS]
                ),
            )
        )
    if later := _later(ctx):
        blocks.append(later)
    across = [e for e in ctx.year.ledger if not e.inside]
    if across:
        blocks.append(
            Table(
                "across",
                Text("跨年度台账（未计入）", "Ledger entries across the year's border (not counted)"),
                (
                    Column(Text("类别", "Kind"), width=1.6),
                    Column(Text("起止", "Days"), width=1.6),
                    Column(Text("凭证", "Evidence"), width=1.6),
                    Column(Text("数量", "Amount"), width=1.0),
                    Column(Text("单位", "Unit"), width=0.7),
                ),
                tuple(
                    (
                        word("ledger", e.kind),
                        both(f"{e.first_day} – {e.last_day}"),
                        both(e.evidence or "—"),
                        Cell(id=f"across/{n}", value=e.value, unit=e.unit, basis="declared", grade="B"),
                        word("units", e.unit),
                    )
                    for n, e in enumerate(across, 1)
                ),
            )
        )
    return Section("missing", Text("缺失数据说明", "Missing data"), tuple(blocks), annex=True)


def _later(ctx: Context) -> Table | None:
    """Counters of totals that began within a year of the report: nothing tells what flowed there before."""
    found = [r for y in ctx.years.values() for r in y.later]
    if not found:
        return None
    who = {e.enterprise_id: Text(e.name_zh, e.name_en) for e in ctx.enterprises} | {None: Text("基地", "base")}
    n = min(len(found), LISTED_GAPS)
    return Table(
        "begins-later",
        Text(f"期内才开始计量的仪表（{n}/{len(found)}）", f"Meters that began within the period ({n} of {len(found)})"),
        (
            Column(Text("计入", "Counts for"), width=1.6),
            Column(Text("品种", "Carrier"), width=1.0),
            Column(Text("测点", "Point"), width=1.8),
            Column(Text("首个有数据日", "First day with data"), width=1.2),
        ),
        tuple((who[r.enterprise_id], word("carriers", r.carrier), both(r.point), both(str(r.since))) for r in found[:n]),
        (said("begins_later"),),
    )


def _kind_of(reason: Text) -> Text:
    """The reason without the figure's own coverage."""
    return WITHHELD if reason.zh.endswith("低于 90 %，不予发布") else reason


def _versions(ctx: Context, history: Sequence[Sealing], restated: Sequence[Change]) -> Section:
    blocks: list[Block] = [Paragraph(said("sealed_never_edited"))]
    if history:
        blocks.append(
            Table(
                "versions",
                Text("已封存版本", "Sealed versions"),
                (
                    Column(Text("版本", "Version"), width=0.6),
                    Column(Text("封存时间", "Sealed"), width=1.2),
                    Column(Text("封存人", "By"), width=1.0),
                    Column(Text("数据时点", "As of"), width=1.2),
                    Column(Text("原因", "Reason"), width=1.6),
                    Column(Text("摘要（前 16 位）", "Hash (first 16)"), width=1.4),
                ),
                tuple(
                    (
                        both(f"V{h.version}"),
                        ctx.local(h.sealed_at),
                        both(h.sealed_by),
                        ctx.local(h.as_of),
                        both(h.reason or "—"),
                        both(h.hash[:16]),
                    )
                    for h in history
                ),
            )
        )
    if restated:
        blocks.append(
            Table(
                "restated",
                Text(f"相对 V{history[-1].version} 重述的数据", f"Restated against V{history[-1].version}"),
                (
                    Column(Text("数据", "Figure"), width=2.6),
                    Column(Text("原值", "Before"), width=1.2),
                    Column(Text("现值", "Now"), width=1.2),
                    Column(Text("变动来由", "Cause"), width=1.6),
                ),
                tuple(_change(c) for c in restated),
            )
        )
    return Section("versions", Text("版本与重述", "Versions and restatements"), tuple(blocks), annex=True)


def _change(c: Change) -> tuple[Text | Cell, ...]:
    gone = Cell(id=f"restated/{c.id}", value=None, unit="", reason=Text("该版本无此数据", "not in this version"))
    before = _other(c.before, f"restated/before/{c.id}") if c.before else gone
    after = _other(c.after, f"restated/now/{c.id}") if c.after else gone
    return (c.place, before, after, c.cause)


def _other(cell: Cell, figure: str) -> Cell:
    return msgspec.structs.replace(cell, id=figure)
