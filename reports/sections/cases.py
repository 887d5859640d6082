"""Cases of pollution alerts in section 6: how many, how long they took, and each with its steps, times, persons and outcome."""

from __future__ import annotations

from datetime import datetime
from statistics import median

from reports import figures
from reports.context import Context
from reports.model import Block, Column, Rows, Table, Text
from reports.running import Case
from reports.words import named

LISTED = 50
NONE_CLOSED = Text("没有已关闭的处置单", "no case is closed")
STILL_OPEN = Text("尚未关闭", "not closed yet")


def tables(ctx: Context) -> list[Block]:
    """Counts of the period's cases, then their list; a base without one has the counts alone."""
    own = ctx.year.cases
    return [_counts(own, ctx.year.span.end), *([_list(ctx, own)] if own else [])]


def is_overdue(c: Case, end: datetime) -> bool:
    """Whether it was closed after its time, or was open after it when the period ended."""
    return c.due_at is not None and (c.closed_at or end) > c.due_at


def hours_of(c: Case) -> float | None:
    """Hours from dispatch to close; None: open."""
    return None if c.closed_at is None else (c.closed_at - c.opened_at).total_seconds() / 3600.0


def _counts(own: list[Case], end: datetime) -> Table:
    took = [h for c in own if (h := hours_of(c)) is not None]
    counts = (
        ("n", Text("本期处置单", "Cases in the period"), float(len(own)), "events"),
        ("closed", Text("已关闭", "Closed"), float(len(took)), "events"),
        ("overdue", Text("超期", "Overdue"), float(sum(is_overdue(c, end) for c in own)), "events"),
        ("refused", Text("核实未通过而退回", "Refused when verified"), float(sum(c.n_refused for c in own)), "events"),
    )
    row = [figures.plain(f"cases/{name}", value, unit, "count") for name, _, value, unit in counts]
    hours = figures.plain("cases/hours", median(took) if took else None, "h", "count", digits=1, reason=NONE_CLOSED)
    title = Text("派单至关闭（中位数）", "Dispatch to close, median")
    return Table(
        "case-counts",
        Text("污染报警处置单", "Cases of pollution alerts"),
        (
            Column(Text("范围", "Scope"), width=1.2),
            *(Column(words, width=1.0) for _, words, _, _ in counts),
            Column(title, "h", 1.3),
        ),
        ((Text("全基地", "Base"), *row, hours),),
    )


def _list(ctx: Context, own: list[Case]) -> Table:
    shown = own[-LISTED:]
    rows: Rows = [
        (
            _what(c),
            _step(ctx, c.opened_at, f"{c.opened_by} → {c.handler}"),
            _step(ctx, c.accepted_at, c.accepted_by),
            _step(ctx, c.handled_at, c.handled_by),
            _evidence(ctx, c),
            _step(ctx, c.verified_at, c.verified_by),
            _outcome(ctx, c),
            figures.plain(f"cases/{c.case_id}/hours", hours_of(c), "h", "count", digits=1, reason=STILL_OPEN),
        )
        for c in shown
    ]
    title = Text(f"处置单明细（{len(shown)}/{len(own)} 件）", f"The cases ({len(shown)} of {len(own)})")
    return Table(
        "case-list",
        title,
        (
            Column(Text("单号、位置与报警", "Number, place and alert"), width=1.9),
            Column(Text("派单", "Dispatched"), width=1.2),
            Column(Text("接单", "Accepted"), width=1.1),
            Column(Text("处理", "Handled"), width=1.1),
            Column(Text("举证", "Evidence"), width=1.1),
            Column(Text("核实", "Verified"), width=1.1),
            Column(Text("结果", "Outcome"), width=1.7),
            Column(Text("用时", "Took"), "h", 0.7),
        ),
        tuple(rows),
        (
            Text(
                "每一步的时间与经办人由平台记录；举证只登记文件名与 SHA-256，文件由责任单位保管；核实人不得为处理或举证人。",
                "Times and persons of each step are the platform's record; of evidence it keeps name and SHA-256, the file "
                "stays with its owner; nobody verifies what he handled or gave evidence of.",
            ),
        ),
    )


def _what(c: Case) -> Text:
    place, rule, firm = named(c.unit_zh, c.unit_en), named(c.rule_zh, c.rule_en), named(c.enterprise_zh, c.enterprise_en)
    return Text(
        f"{c.case_id}　{firm.zh + ' ' if c.enterprise_zh else ''}{place.zh}：{rule.zh}",
        f"{c.case_id}  {firm.en + ', ' if c.enterprise_zh else ''}{place.en}: {rule.en}",
    )


def _step(ctx: Context, at: datetime | None, who: str | None) -> Text:
    when = ctx.local(at)
    return when if at is None else Text(f"{when.zh} {who or ''}".strip(), f"{when.en} {who or ''}".strip())


def _evidence(ctx: Context, c: Case) -> Text:
    when = ctx.local(c.evidenced_at)
    if c.evidenced_at is None:
        return when
    return Text(f"{when.zh} {c.n_evidence} 份", f"{when.en} {c.n_evidence} {'file' if c.n_evidence == 1 else 'files'}")


def _outcome(ctx: Context, c: Case) -> Text:
    """State and what was found; a case past its time and one that was refused say so."""
    when = ctx.local(c.closed_at)
    zh, en = (f"{when.zh} 关闭", f"closed {when.en}") if c.closed_at else ("办理中", "open")
    if is_overdue(c, ctx.year.span.end):
        zh, en = f"{zh}，超期", f"{en}, overdue"
    if c.n_refused:
        zh, en = f"{zh}，退回 {c.n_refused} 次", f"{en}, refused {c.n_refused}×"
    found = c.outcome.strip()
    return Text(f"{zh}；{found}", f"{en}; {found}") if found else Text(zh, en)
