"""Section 9: problems that the data themselves show, drafted for the base to check, and the plan for the next year."""

from __future__ import annotations

from reports.context import Context, headline
from reports.goals import Target
from reports.model import MIN_COVERAGE, Block, Column, Heading, Paragraph, Section, Table, Text
from reports.sections.plan import FILL, completion, expected_of, reaches, targets_of
from reports.sections.pollution import outlet_name, valid_share
from reports.sections.resources import balance_coverage
from reports.words import indicator_digits, said, word

UNACCOUNTED_SHARE = 0.05
DRAFT = said("outlook_draft")


def section(ctx: Context) -> Section:
    """Problems and next year."""
    problems = [*_targets(ctx), *_coverage(ctx), *_outlets(ctx), *_balance(ctx), *_points(ctx), *_alerts(ctx), *_factors(ctx)]
    blocks: list[Block] = [Paragraph(DRAFT, draft=True), Heading(Text("存在的问题", "Problems"))]
    blocks += [Paragraph(p, draft=True) for p in problems] or [
        Paragraph(Text("本期数据未显示需要说明的问题。", "The data show nothing that needs explaining."), draft=True)
    ]
    blocks += [Heading(Text("下一年度工作安排", "Next year")), _next(ctx)]
    return Section("outlook", Text("存在问题与下一年度计划", "Problems and next year"), tuple(blocks))


def _targets(ctx: Context) -> list[Text]:
    out, silent = [], []
    for t in targets_of(ctx, ctx.year.span.year):
        expected = expected_of(ctx, t)
        if expected is None:
            silent.append(Text(t.name_zh, t.name_en))
        elif not reaches(t, expected):
            out.append(_behind(t, expected, ended=ctx.year.span.complete))
    if silent:
        out.append(
            Text(
                f"下列目标缺少可比的实际值（未核算或覆盖率低于 90 %），无法判断：{'、'.join(t.zh for t in silent)}。",
                f"No comparable figure (not computed, or under 90 % coverage) for: {', '.join(t.en for t in silent)}.",
            )
        )
    return out


def _behind(t: Target, expected: float, *, ended: bool) -> Text:
    done = completion(t, expected)
    share = f"，完成率 {100 * done:.1f} %" if done is not None else ""
    share_en = f", {100 * done:.1f} % of the way" if done is not None else ""
    ahead, goal = (f"{v:,.{indicator_digits(t.indicator)}f}" for v in (expected, t.value))
    unit = word("units", t.unit)
    who = word("bodies", t.responsible) if t.responsible else Text("未明确", "nobody named")
    is_zh, is_en = ("全年", "ended at") if ended else ("全年预计", "is expected at")
    return Text(
        f"“{t.name_zh}”{is_zh} {ahead} {unit.zh}，目标 {goal} {unit.zh}{share}，责任单位：{who.zh}。",
        f"“{t.name_en}” {is_en} {ahead} {unit.en} against {goal}{share_en}; "
        f"responsible: {who.en}.",
    )


def _coverage(ctx: Context) -> list[Text]:
    low = [
        (code, cell.coverage)
        for code in ("electricity_kwh", "tce_equivalent", "water_m3")
        if (cell := headline(ctx, ctx.year, code)).coverage is not None and cell.coverage < MIN_COVERAGE
    ]
    return [
        Text(
            f"{word('indicators', code).zh}的数据覆盖率只有 {100 * (share or 0):.1f} %，应排查计量与通信。",
            f"{word('indicators', code).en} is covered to {100 * (share or 0):.1f} % only: check meters and links.",
        )
        for code, share in low
    ]


def _outlets(ctx: Context) -> list[Text]:
    out, low = [], []
    for e in ctx.year.emission:
        name, share = outlet_name(e), valid_share(e, ctx.year)
        if e.hours_exceeded:
            out.append(
                Text(
                    f"{name.zh}本期超标 {e.hours_exceeded} 小时，需说明原因和整改措施。",
                    f"{name.en} exceeded its limit for {e.hours_exceeded} hours: give cause and remedy.",
                )
            )
        if share is not None and share < MIN_COVERAGE:
            low.append(Text(f"{name.zh}（{100 * share:.1f} %）", f"{name.en} ({100 * share:.1f} %)"))
    if low:
        out.append(
            Text(
                f"下列排口因子的有效率低于 90 %：{'、'.join(t.zh for t in low)}。",
                f"Valid for less than 90 % of their due hours: {'; '.join(t.en for t in low)}.",
            )
        )
    for kind in dict.fromkeys(e.kind for e in ctx.year.events):
        own = [e for e in ctx.year.events if e.kind == kind]
        name = word("events", kind)
        out.append(
            Text(
                f"“{name.zh}”{len(own)} 起，累计 {sum(e.hours for e in own):.1f} 小时。",
                f"“{name.en}”: {len(own)} events, {sum(e.hours for e in own):.1f} hours in all.",
            )
        )
    return out


def _balance(ctx: Context) -> list[Text]:
    out = []
    for b in ctx.year.balance:
        known = (balance_coverage(b, ctx.year) or 0.0) >= MIN_COVERAGE
        if (
            known
            and b.unaccounted is not None
            and b.parent_compared
            and abs(b.unaccounted) / b.parent_compared > UNACCOUNTED_SHARE
        ):
            share, carrier = 100 * b.unaccounted / b.parent_compared, word("carriers", b.carrier)
            out.append(
                Text(
                    f"{carrier.zh}总表“{b.name_zh}”（{b.code}）未计量占比 {share:.1f} %，应核查漏装、漏损与倍率。",
                    f"{carrier.en} below “{b.name_en}” ({b.code}) is unaccounted by {share:.1f} %: "
                    "look for missing meters, losses, ratios.",
                )
            )
    return out


def _points(ctx: Context) -> list[Text]:
    silent = {p.system: p.points - p.heard for p in ctx.year.points if p.points > p.heard}
    return [
        Text(
            f"{word('systems', s).zh}有 {n} 个在册测点本期没有数据。",
            f"{n} {'point' if n == 1 else 'points'} of {word('systems', s).en} gave no data in the period.",
        )
        for s, n in silent.items()
    ]


def _alerts(ctx: Context) -> list[Text]:
    still = sum(a.raised - a.closed for a in ctx.year.alert_counts if a.severity in ("critical", "high"))
    return (
        [Text(f"期末仍有 {still} 条紧急或高级别报警未关闭。", f"{still} critical or high alerts were still open at the end.")]
        if still
        else []
    )


def _factors(ctx: Context) -> list[Text]:
    loose = sum(not f.verified for f in ctx.factors)
    return (
        [
            Text(
                f"本报告使用的折算因子中有 {loose} 项来源未经核验，报送前应核对原文。",
                f"{loose} of the factor rows used are not verified: check them against their source before filing.",
            )
        ]
        if loose
        else []
    )


def _value(t: Target) -> Text:
    value, unit = f"{t.value:,.{indicator_digits(t.indicator)}f}", word("units", t.unit)
    return Text(f"{value} {unit.zh}", f"{value} {unit.en}")


def _next(ctx: Context) -> Table:
    following = ctx.year.span.year + 1
    rows = [
        (
            Text(t.name_zh, t.name_en),
            _value(t),
            word("bodies", t.responsible) if t.responsible else FILL,
            FILL,
        )
        for t in targets_of(ctx, following)
    ]
    rows = rows or [(FILL, FILL, FILL, FILL)]
    return Table(
        "next-year",
        Text(f"{following}年工作安排", f"Work of {following}"),
        (
            Column(Text("目标或任务", "Target or task"), width=2.0),
            Column(Text("目标值", "Value"), width=1.2),
            Column(Text("责任单位", "Responsible"), width=1.2),
            Column(Text("主要措施", "Measures"), width=2.0),
        ),
        tuple(rows),
    )
