"""The data object in one language as plain numbered parts: every writer prints these, so a figure reads the same in each."""

from __future__ import annotations

from dataclasses import dataclass
from zoneinfo import ZoneInfo

from reports.model import Cell, Chart, Heading, Language, Paragraph, Report, Section, Table, Text
from reports.store import Edition
from reports.words import word

KINDS = {
    "annual": Text("年度总结报告", "Annual summary"),
    "midterm": Text("中期评估自评报告", "Midterm self-assessment"),
    "final": Text("终期评估自评报告", "Final self-assessment"),
}
PROGRAMME = Text("绿色产业示范基地", "Green-industry demonstration base")
FILL = Text("（由基地填写）", "(to be filled by the base)")
DASH = "—"
MOST_DIGITS = 5
_CHINESE = "零一二三四五六七八九十"
_BASIS = {"declared": Text("填报", "declared"), "plan": Text("计划", "plan")}
_QUALITY = {
    "estimated": Text("含估算", "partly estimated"),
    "substituted": Text("含替代", "partly substituted"),
    "preliminary": Text("初步", "preliminary"),
    "final": Text("终值", "final"),
}


@dataclass(frozen=True)
class Entry:
    """A table's field: what is printed, the small line under it, and the number itself where there is one."""

    text: str
    note: str = ""
    cell: Cell | None = None

    @property
    def is_figure(self) -> bool:
        """Whether the field is a figure and stands to the right."""
        return self.cell is not None


@dataclass(frozen=True)
class TableView:
    id: str
    caption: str
    headers: tuple[str, ...]
    widths: tuple[float, ...]
    rows: tuple[tuple[Entry, ...], ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class ChartView:
    id: str
    caption: str
    chart: Chart


@dataclass(frozen=True)
class ParagraphView:
    text: str
    draft: bool


@dataclass(frozen=True)
class HeadingView:
    text: str


View = TableView | ChartView | ParagraphView | HeadingView


@dataclass(frozen=True)
class Part:
    """A section: its number as a word (`一`, `1`, `A`), its title, and what it holds."""

    id: str
    number: str
    title: str
    annex: bool
    views: tuple[View, ...]

    def heading(self, language: Language) -> str:
        """Number and title in one line, for formats without automatic numbers."""
        if self.annex:
            return (
                f"{'附录' if language == 'zh' else 'Annex '}{self.number}　{self.title}"
                if language == "zh"
                else f"Annex {self.number}  {self.title}"
            )
        return f"{self.number}、{self.title}" if language == "zh" else f"{self.number}  {self.title}"


@dataclass(frozen=True)
class Document:
    """A whole report in one language."""

    language: Language
    programme: str
    base: str
    title: str
    cover: tuple[tuple[str, str], ...]
    status: str
    hash: str
    footer: str
    parts: tuple[Part, ...]


def present(edition: Edition, language: Language) -> Document:
    """The edition's report in one language."""
    report, s = edition.report, edition.sealing
    base = report.base.name.of(language)
    period = f"{report.year}" if report.kind == "annual" else f"{report.years[0]}–{report.year}"
    title = f"{period}年{KINDS[report.kind].zh}" if language == "zh" else f"{KINDS[report.kind].en}, {period}"
    status = (
        Text("未封存草稿", "Draft, not sealed")
        if s is None
        else Text(f"已封存，第 {s.version} 版", f"Sealed, version {s.version}")
    ).of(language)
    return Document(
        language,
        PROGRAMME.of(language),
        base,
        title,
        _cover(edition, language),
        status,
        edition.hash,
        f"{base} · {title} · {status} · SHA-256 {edition.hash[:16]}",
        _parts(report, language),
    )


def _cover(edition: Edition, language: Language) -> tuple[tuple[str, str], ...]:
    report, s = edition.report, edition.sealing
    zone = ZoneInfo(report.base.timezone)
    fill = FILL.of(language)
    rows = [
        (Text("报告期", "Period"), f"{report.first_day} – {report.last_day}"),
        (Text("数据截至", "Data up to"), str(report.through)),
        (Text("数据时点", "As of"), report.as_of.astimezone(zone).strftime("%Y-%m-%d %H:%M")),
        (Text("版本状态", "Status"), Text("未封存草稿", "draft, not sealed").of(language) if s is None else f"V{s.version}"),
    ]
    if s is not None:
        rows += [(Text("封存", "Sealed"), f"{s.sealed_at.astimezone(zone):%Y-%m-%d %H:%M}  {s.sealed_by}")]
        rows += [(Text("重述原因", "Reason"), s.reason)] if s.reason else []
    rows += [
        (Text("编制单位", "Prepared by"), fill),
        (Text("审核人", "Checked by"), fill),
        (Text("报送日期", "Date of filing"), fill),
        (Text("数据摘要 SHA-256", "SHA-256 of the data"), edition.hash),
    ]
    return tuple((label.of(language), value) for label, value in rows)


def _parts(report: Report, language: Language) -> tuple[Part, ...]:
    out, body, annexes = [], 0, 0
    for section in report.sections:
        if section.annex:
            annexes += 1
            number = key = chr(64 + annexes)
        else:
            body += 1
            number, key = (_CHINESE[body] if language == "zh" else str(body)), str(body)
        out.append(Part(section.id, number, section.title.of(language), section.annex, _views(section, key, language)))
    return tuple(out)


def _views(section: Section, number: str, language: Language) -> tuple[View, ...]:
    views: list[View] = []
    tables = charts = 0
    for block in section.blocks:
        if isinstance(block, Table):
            tables += 1
            views.append(_table(block, f"{'表' if language == 'zh' else 'Table '}{number}-{tables}", language))
        elif isinstance(block, Chart):
            charts += 1
            label = f"{'图' if language == 'zh' else 'Figure '}{number}-{charts}"
            unit = word("units", block.unit).of(language)
            views.append(
                ChartView(
                    block.id,
                    f"{label}  {block.title.of(language)}（{unit}）"
                    if language == "zh"
                    else f"{label}  {block.title.of(language)} ({unit})",
                    block,
                )
            )
        elif isinstance(block, Heading):
            views.append(HeadingView(block.text.of(language)))
        elif isinstance(block, Paragraph):
            views.append(ParagraphView(fill(block, language), block.draft))
    return tuple(views)


def _table(table: Table, label: str, language: Language) -> TableView:
    headers = []
    for column in table.columns:
        unit = word("units", column.unit).of(language) if column.unit else ""
        headers.append(
            f"{column.title.of(language)}（{unit}）"
            if unit and language == "zh"
            else f"{column.title.of(language)} ({unit})"
            if unit
            else column.title.of(language)
        )
    rows = tuple(tuple(entry(item, language) for item in row) for row in table.rows)
    cells = [item for row in table.rows for item in row if isinstance(item, Cell)]
    notes = [n.of(language) for n in table.notes]
    if any(c.basis == "count" for c in cells):
        notes.append(
            Text(
                "未列覆盖率的数据为计数，不适用覆盖率。", "Figures without a coverage are counts: coverage does not apply."
            ).of(language)
        )
    if any(c.basis == "reference" for c in cells):
        notes.append(
            Text("限值与因子为引用值，不适用覆盖率。", "Limits and factors are reference values: coverage does not apply.").of(
                language
            )
        )
    return TableView(
        table.id,
        f"{label}  {table.title.of(language)}",
        tuple(headers),
        tuple(c.width for c in table.columns),
        rows,
        tuple(notes),
    )


def entry(item: Text | Cell, language: Language) -> Entry:
    """One field in one language."""
    if isinstance(item, Text):
        return Entry(item.of(language))
    return Entry(number(item), note(item, language), item)


def number(cell: Cell) -> str:
    """The figure with its decimal places; very small ones keep three significant digits; — where there is none."""
    if cell.value is None:
        return DASH
    return f"{cell.value:,.{places(cell)}f}"


def places(cell: Cell) -> int:
    """Decimal places: the cell's own, more where they would leave nothing but zeros, or round a share up to the whole."""
    digits, size = cell.digits, abs(cell.value or 0.0)
    while cell.unit == "%" and size < 100 <= round(size, digits) and digits < MOST_DIGITS:
        digits += 1
    if digits > cell.digits:
        return digits
    while size and size < 0.5 * 10**-digits and digits < 9:
        digits += 1
    return digits if digits == cell.digits else min(9, digits + 1)


def note(cell: Cell, language: Language) -> str:
    """The line under a figure: coverage, grade, quality, factor rows, and the reason where there is one."""
    parts = []
    if cell.coverage is not None:
        parts.append(f"{'覆盖' if language == 'zh' else 'cov.'} {share(cell.coverage)}")
    elif cell.basis == "measured" and cell.value is not None:
        parts.append("覆盖率未知" if language == "zh" else "coverage unknown")
    if cell.basis in _BASIS and cell.value is not None:
        parts.append(_BASIS[cell.basis].of(language))
    if cell.grade:
        parts.append(cell.grade)
    if cell.quality in _QUALITY and cell.value is not None:
        parts.append(_QUALITY[cell.quality].of(language))
    if cell.factors and cell.value is not None:
        listed = [f"F{f}" for f in cell.factors[:2]]
        parts.append("/".join(listed) + ("…" if len(cell.factors) > 2 else ""))
    if cell.reason is not None and not (cell.coverage is not None and "覆盖率" in cell.reason.zh and cell.value is None):
        parts.append(cell.reason.of(language))
    elif cell.reason is not None:
        parts = [cell.reason.of(language)]
    return " · ".join(parts)


def share(coverage: float) -> str:
    """A coverage in percent that never rounds up to 100."""
    return f"{min(99.9, 100 * coverage):.1f}%" if coverage < 1 else "100%"


def fill(paragraph: Paragraph, language: Language) -> str:
    """Running text with its figures, units and coverage."""
    said = []
    for cell in paragraph.cells:
        unit, under = word("units", cell.unit).of(language), note(cell, language)
        said.append(
            f"{number(cell)}{' ' + unit if cell.value is not None and unit else ''}"
            + (f"（{under}）" if language == "zh" else f" ({under})")
        )
    return paragraph.text.of(language).format(*said) if said else paragraph.text.of(language)
