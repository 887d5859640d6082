"""Section 5: water, reuse, solid waste, exchanges between enterprises, and what parent meters cannot account for."""

from __future__ import annotations

from reports import figures
from reports.context import Context, carrier_rows, headline, headline_name, renamed, years_table
from reports.model import Block, Cell, Chart, Column, Paragraph, Rows, Section, Series, Table, Text, tidy
from reports.rows import Balance, Entry, Year
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
    blocks += [_ratios(ctx), _water(ctx)]
    if any(r.carrier in table()["water_carriers"] for r in ctx.year.energy):
        blocks.append(_water_chart(ctx.year))
    blocks += [_waste(ctx.year), _exchange(ctx.year), _balance(ctx.year)]
    return Section("resources", Text("资源利用", "Resources"), tuple(blocks))


def _ratios(ctx: Context) -> Table:
    rows: Rows = []
    for code in CODES[1:]:
        cell = headline(ctx, ctx.year, code)
        rows.append((headline_name(code), word("units", cell.unit), renamed(cell, f"resources/{cell.id}")))
    return Table(
        "resource-ratios",
        Text("资源利用效率", "Resource efficiency"),
        (
            Column(Text("指标", "Indicator"), width=2.4),
            Column(Text("单位", "Unit"), width=1.2),
            Column(Text("数值", "Value"), width=1.6),
        ),
        tuple(rows),
    )


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


def _waste(year: Year) -> Table:
    actions = tuple(table()["actions"])
    inside = [e for e in year.ledger if e.kind in ("solid_waste", "hazardous_waste") and e.inside]
    rows: Rows = []
    for kind, item, unit in sorted({(e.kind, e.item, e.unit) for e in inside}):
        cells = [
            _declared(
                f"waste/{year.span.year}/{kind}/{item}/{a}",
                [e for e in inside if (e.kind, e.item, e.unit, e.action) == (kind, item, unit, a)],
                unit,
            )
            for a in actions
        ]
        kind_name = word("ledger", kind)
        name = Text(f"{kind_name.zh}：{item}", f"{kind_name.en}: {item}") if item else kind_name
        rows.append((name, word("units", unit), *cells))
    if not rows:
        empty = [figures.plain(f"waste/{year.span.year}/none/{a}", None, "t", "declared") for a in actions]
        rows.append((Text("固体废物", "Solid waste"), word("units", "t"), *empty))
    return Table(
        "waste",
        Text("固体废物台账", "Solid waste by manifest"),
        (
            Column(Text("类别", "Kind"), width=1.9),
            Column(Text("单位", "Unit"), width=0.7),
            *(Column(word("actions", a), width=1.0) for a in actions),
        ),
        tuple(rows),
        (said("waste_inside"),),
    )


def _declared(figure: str, entries: list[Entry], unit: str) -> Cell:
    if not entries:
        return figures.plain(figure, None, unit, "declared")
    final = all(e.status == "final" for e in entries)
    return Cell(
        id=figure,
        value=tidy(sum(e.value for e in entries)),
        unit=unit,
        basis="declared",
        grade="B",
        quality="final" if final else "preliminary",
        digits=2,
    )


def _exchange(year: Year) -> Table:
    rows: Rows = []
    for x in year.exchange:
        due = x.n_expected * max(1.0, year.span.days / x.days) if x.days else 0.0
        coverage = min(1.0, x.n_known / due) if due else None
        cell = Cell(
            id=f"exchange/{year.span.year}/{x.code}",
            value=tidy(x.amount),
            unit=x.unit,
            coverage=tidy(coverage),
            grade="" if x.amount is None else "A",
            reason=figures.NO_METER if x.amount is None else None,
            digits=1,
        )
        rows.append(
            (word("carriers", x.carrier), Text(x.from_zh, x.from_en), Text(x.to_zh, x.to_en), word("units", x.unit), cell)
        )
    booked: dict[tuple[str, Text, Text, str], list[Entry]] = {}
    for e in year.ledger:
        if e.kind == "exchange" and e.inside:
            seller = Text(e.enterprise_zh or "—", e.enterprise_en or "—")
            buyer = Text(e.counterparty_zh or "—", e.counterparty_en or "—")
            booked.setdefault((e.item, seller, buyer, e.unit), []).append(e)
    for (item, seller, buyer, unit), entries in booked.items():
        rows.append(
            (
                word("carriers", item),
                seller,
                buyer,
                word("units", unit),
                _declared(f"exchange/{year.span.year}/ledger/{item}/{seller.zh}/{buyer.zh}/{unit}", entries, unit),
            )
        )
    if not rows:
        rows.append(
            (
                Text("—", "—"),
                Text("—", "—"),
                Text("—", "—"),
                Text("—", "—"),
                figures.plain(
                    f"exchange/{year.span.year}/none",
                    None,
                    "t",
                    "declared",
                    reason=Text("无登记的企业间交换", "no exchange on record"),
                ),
            )
        )
    return Table(
        "exchange",
        Text("企业间蒸汽、余热与物料交换", "Steam, waste heat and materials between enterprises"),
        (
            Column(Text("种类", "Kind"), width=1.0),
            Column(Text("供方", "From"), width=1.5),
            Column(Text("受方", "To"), width=1.5),
            Column(Text("单位", "Unit"), width=0.7),
            Column(Text("数量", "Amount"), width=1.3),
        ),
        tuple(rows),
    )


def _balance(year: Year) -> Table:
    rows: Rows = []
    for b in year.balance:
        name, coverage = f"balance/{year.span.year}/{b.carrier}/{b.code}", balance_coverage(b, year)
        cells = [
            Cell(
                id=f"{name}/{f}",
                value=tidy(getattr(b, f)),
                unit=b.unit,
                coverage=tidy(coverage),
                digits=0,
                reason=figures.NO_METER if getattr(b, f) is None else None,
                grade="A" if getattr(b, f) is not None else "",
            )
            for f in ("parent_amount", "children_amount", "unaccounted")
        ]
        share = figures.ratio(f"{name}/share", b.unaccounted, b.parent_compared, "%", coverage, scale=100, digits=2)
        rows.append(
            (
                Text(
                    f"{word('carriers', b.carrier).zh}：{b.name_zh}（{b.code}）",
                    f"{word('carriers', b.carrier).en}: {b.name_en} ({b.code})",
                ),
                word("units", b.unit),
                *cells,
                share,
            )
        )
    if not rows:
        absent = Text("目录中没有总表与分表关系", "no parent and child meters in the catalogue")
        rows.append(
            (
                Text("—", "—"),
                Text("—", "—"),
                *(
                    figures.plain(f"balance/{year.span.year}/none/{f}", None, "", "measured", reason=absent)
                    for f in ("parent", "children", "unaccounted", "share")
                ),
            )
        )
    return Table(
        "balance",
        Text("总分表平衡", "Parent meters against their children"),
        (
            Column(Text("总表", "Parent meter"), width=2.2),
            Column(Text("单位", "Unit"), width=0.7),
            Column(Text("总表量", "Parent"), width=1.2),
            Column(Text("分表合计", "Children"), width=1.2),
            Column(Text("未计量", "Unaccounted"), width=1.1),
            Column(Text("未计量占比", "Share"), "%", 1.0),
        ),
        tuple(rows),
        (said("unaccounted_meaning"),),
    )


def balance_coverage(b: Balance, year: Year) -> float | None:
    """Known over expected slots of every member, absent days counted."""
    due = b.n_expected * max(1.0, year.span.days / b.days) if b.days else 0.0
    return min(1.0, b.n_known / due) if due else None
