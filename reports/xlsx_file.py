"""The report as xlsx: a sheet a section with real numbers, native charts, and one flat sheet of every figure's source."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from openpyxl import Workbook
from openpyxl.chart import BarChart, LineChart, Reference
from openpyxl.styles import Alignment, Border, Font, PatternFill, Side
from openpyxl.utils import get_column_letter
from openpyxl.worksheet.page import PageMargins
from openpyxl.worksheet.pagebreak import Break
from openpyxl.worksheet.properties import PageSetupProperties
from openpyxl.worksheet.worksheet import Worksheet

from reports.charts import COLOURS, percent_floor
from reports.model import Cell, Chart, Language, Text
from reports.model import places as figures_of
from reports.present import ChartView, Document, Entry, HeadingView, ParagraphView, Part, TableView, note, number, places
from reports.store import Edition
from reports.trace import trace_of
from reports.words import word

HEI, SONG = "黑体", "宋体"
_THIN = Side(style="thin", color="B0B0B0")
_BOX = Border(left=_THIN, right=_THIN, top=_THIN, bottom=_THIN)
_HEAD = PatternFill("solid", fgColor="E3EBF2")
ROW_CM = 0.45
"""The lowest that a reader makes a row of its own accord: charts take their rows by it, so that none lies over a table."""
PAPER = 100.0
"""Characters over which running text goes before it turns."""
PAGE_PT = (755.0, 505.0)
"""What an A4 page in landscape prints on, with a little to spare."""
COLUMN_PT = (5.25, 3.75)
"""Width of a character of a column, and of a column's edges."""
ROW_PT, CHART_CM = 15.0, 22.0
TIED_ROWS = 3
"""Rows that stay together at the head and at the foot of a table, as in the other documents."""
WIDTH = 15.0
"""Characters of a column of width 1 in the data object."""


def write_xlsx(edition: Edition, document: Document, path: Path) -> None:
    """Write the workbook at `path`."""
    book = Workbook()
    _cover(book.active, document)
    charts = book.create_sheet("图表数据" if document.language == "zh" else "Chart data")
    _on_paper(charts)
    for part in document.parts:
        _part(book, charts, part, document.language)
    _sources(
        book.create_sheet("来源与覆盖率" if document.language == "zh" else "Sources and coverage"), edition, document.language
    )
    book.move_sheet(charts, offset=len(book.sheetnames))
    book.properties.title = f"{document.base} {document.title}"
    book.properties.creator = "park-telemetry"
    book.properties.description = f"SHA-256 {document.hash}"
    _no_formulas(book)
    book.save(path)


def _no_formulas(book: Workbook) -> None:
    """This workbook has none: a name that begins with = stays a text."""
    for sheet in book.worksheets:
        for row in sheet.iter_rows():
            for at in row:
                if at.data_type == "f":
                    at.data_type = "s"


def _cover(sheet: Any, document: Document) -> None:
    _on_paper(sheet)
    sheet.title = "封面" if document.language == "zh" else "Cover"
    sheet.sheet_view.showGridLines = False
    for row, (text, size) in enumerate(((document.programme, 12), (document.base, 18), (document.title, 20)), 2):
        sheet.cell(row, 2, text).font = Font(name=HEI, size=size, bold=True)
        sheet.row_dimensions[row].height = size * 2
    for row, (label, value) in enumerate(document.cover, 6):
        sheet.cell(row, 2, label).font = Font(name=SONG, bold=True)
        sheet.cell(row, 3, value).font = Font(name=SONG)
        sheet.cell(row, 3).border = Border(bottom=_THIN)
    sheet.column_dimensions["A"].width, sheet.column_dimensions["B"].width, sheet.column_dimensions["C"].width = 4, 24, 72


def _part(book: Workbook, data: Worksheet, part: Part, language: Language) -> None:
    sheet: Worksheet = book.create_sheet(_sheet_name(part, language))
    sheet.cell(1, 1, part.heading(language)).font = Font(name=HEI, size=14, bold=True)
    sheet.freeze_panes = "B3"
    _on_paper(sheet)
    row = 3
    _columns(sheet, part)
    starts = []  # rows that a page may begin with
    for former, view in zip((None, *part.views), part.views, strict=False):
        if not isinstance(former, HeadingView):
            starts.append(row)
        if isinstance(view, ParagraphView | HeadingView):
            heading = isinstance(view, HeadingView)
            _running(sheet, row, view.text, Font(name=HEI if heading else SONG, bold=heading), 11)
            row += 2
        elif isinstance(view, TableView):
            row = _table(sheet, view, row, starts)
        elif isinstance(view, ChartView):
            row = _chart(sheet, data, view, row, language)
    _break_pages(sheet, starts, row)


def _break_pages(sheet: Worksheet, starts: Sequence[int], end: int) -> None:
    """Break the sheet only where a page may begin, so that no figure is cut off its coverage, no head stands alone and no
    chart is cut. A reader whose columns are wider prints smaller and has room left on each page."""
    columns = sum(COLUMN_PT[0] * c.width + COLUMN_PT[1] for c in sheet.column_dimensions.values())
    room, used = PAGE_PT[1] * max(1.0, columns / PAGE_PT[0]), 2 * ROW_PT
    for first, after in pairwise([*starts, end]):
        height = sum(sheet.row_dimensions[row].height or ROW_PT for row in range(first, after))
        if used + height > room and first != starts[0]:
            sheet.row_breaks.append(Break(first - 1))
            used = 0.0
        used += height


def _running(sheet: Worksheet, row: int, text: str, font: Font, points: float) -> None:
    """A text over the first columns, as high as its lines: one that ran on to the right would shrink the printed sheet."""
    at = sheet.cell(row, 1, text)
    at.font, at.alignment = font, Alignment(wrap_text=True, vertical="top")
    last, room = 0, 0.0
    while last < 12 and room < PAPER:
        last += 1
        room += sheet.column_dimensions[get_column_letter(last)].width
    sheet.merge_cells(start_row=row, start_column=1, end_row=row, end_column=last)
    lines = -(-_length(text) * points // round(room * 10))  # a column's unit is a digit of 11 points: ten leave some room
    sheet.row_dimensions[row].height = 1.4 * points * max(1.0, lines)


def _columns(sheet: Worksheet, part: Part) -> None:
    """Columns as wide as the widest of the sheet's tables wants them, before rows take their height from that."""
    widths: dict[int, float] = {}
    for view in (v for v in part.views if isinstance(v, TableView)):
        for n, width in enumerate(view.widths, 1):
            widths[n] = max(widths.get(n, 0.0), width)
    for n, width in widths.items():
        sheet.column_dimensions[get_column_letter(n)].width = _width(width)


def _width(share: float) -> float:
    """Characters of a column."""
    return min(46.0, max(11.0, WIDTH * share))


def _on_paper(sheet: Any) -> None:
    """A4 landscape, as wide as the page, with numbered pages."""
    sheet.page_setup.orientation, sheet.page_setup.paperSize = "landscape", sheet.PAPERSIZE_A4
    sheet.page_margins = PageMargins(left=0.5, right=0.5, top=0.6, bottom=0.6, header=0.3, footer=0.3)
    sheet.oddFooter.center.text = "&P / &N"
    sheet.page_setup.fitToWidth, sheet.page_setup.fitToHeight = 1, 0
    sheet.sheet_properties.pageSetUpPr = PageSetupProperties(fitToPage=True)


def _length(text: str) -> int:
    return sum(2 if ord(c) > 0x2E80 else 1 for c in text)


def _sheet_name(part: Part, language: Language) -> str:
    name = f"{part.number} {part.title}"
    for bad in "[]:*?/\\":
        name = name.replace(bad, " ")
    return name[:31]


def _table(sheet: Worksheet, view: TableView, row: int, starts: list[int]) -> int:
    """A table with a small line of coverage under each row of figures; returns the next free row. A page may begin (`starts`)
    after the first three rows and before the last three."""
    sheet.cell(row, 1, view.caption).font = Font(name=HEI, bold=True)
    row += 1
    for n, text in enumerate(view.headers, 1):
        _style(sheet.cell(row, n, text), bold=True, fill=_HEAD, align="center")
    sheet.row_dimensions[row].height = 13.5 * _lines(sheet, view.headers)
    row += 1
    for nth, entries in enumerate(view.rows):
        if TIED_ROWS <= nth <= len(view.rows) - TIED_ROWS:
            starts.append(row)
        under = any(e.note for e in entries)
        if under:
            sheet.row_dimensions[row + 1].height = 1.0 + 11.5 * _lines(sheet, [e.note for e in entries], 8)
        lines = _lines(sheet, [e.text for e in entries])
        if lines > 1:  # a height that is not given is one line in some readers
            sheet.row_dimensions[row].height = 13.5 * lines
        for n, e in enumerate(entries, 1):
            _value(sheet.cell(row, n), e)
            if under:
                at = sheet.cell(row + 1, n, e.note or None)
                at.font, at.border = Font(name=SONG, size=8, italic=True, color="5A5A5A"), _BOX
                at.alignment = Alignment(horizontal="right", vertical="top", wrap_text=True)
        row += 2 if under else 1
    for text in view.notes:
        _running(sheet, row, text, Font(name=SONG, size=8, color="404040"), 8)
        row += 1
    return row + 1


def _lines(sheet: Worksheet, texts: Sequence[str], points: int = 10) -> int:
    """Lines of the highest cell of a row."""
    rooms = (int(sheet.column_dimensions[get_column_letter(n)].width or 1) for n, _ in enumerate(texts, 1))
    return max(1, *(-(-_length(text) * points // (room * 10)) for text, room in zip(texts, rooms, strict=True)))


def _value(at: Any, e: Entry) -> None:
    if e.cell is None:
        at.value = e.text
        _style(at, align="left")
        return
    at.value = e.text if e.cell.value is None else e.cell.value
    at.number_format = number_format(e.cell)
    _style(at, align="right")


def number_format(cell: Cell) -> str:
    """The format that shows the figure with the decimal places that every other document prints."""
    digits = places(cell)
    return "#,##0" + ("." + "0" * digits if digits else "")


def _style(at: Any, *, bold: bool = False, fill: PatternFill | None = None, align: str = "left") -> None:
    at.font, at.border = Font(name=SONG, bold=bold, size=10), _BOX
    at.alignment = Alignment(horizontal=align, vertical="center", wrap_text=True)
    if fill:
        at.fill = fill


def _chart(sheet: Worksheet, data: Worksheet, view: ChartView, row: int, language: Language) -> int:
    """The chart's values on the data sheet, and a native chart over them; returns the next free row."""
    chart, top = view.chart, data.max_row + 2 if data.max_row > 1 else 1
    unit = word("units", chart.unit).of(language)
    data.cell(top, 1, view.caption).font = Font(name=HEI, bold=True)
    for column, series in enumerate(chart.series, 2):
        data.cell(top + 1, column, series.name.of(language))
        for line, value in enumerate(series.values, top + 2):
            data.cell(line, column, value)
    for line, label in enumerate(chart.labels, top + 2):
        data.cell(line, 1, label.of(language))
    last, right = top + 1 + len(chart.labels), 1 + len(chart.series)
    if not chart.labels or not chart.series:
        return row
    height_cm = max(8, 3 + len(chart.labels)) if chart.kind == "bars" else 8
    native = _native(chart, data, top, last, right, view.caption, unit)
    native.width, native.height = CHART_CM, height_cm
    sheet.add_chart(native, f"A{row}")
    return row + 2 + math.ceil(height_cm / ROW_CM)


def _native(chart: Chart, data: Worksheet, top: int, last: int, right: int, title: str, unit: str) -> Any:
    native: Any = LineChart() if chart.kind == "line" else BarChart()
    if isinstance(native, BarChart):
        native.type = "bar" if chart.kind == "bars" else "col"
        if chart.kind == "stacked":
            native.grouping, native.overlap = "stacked", 100
    native.title, native.y_axis.title = title, unit
    native.x_axis.delete = native.y_axis.delete = False
    native.add_data(Reference(data, min_col=2, max_col=right, min_row=top + 1, max_row=last), titles_from_data=True)
    native.set_categories(Reference(data, min_col=1, min_row=top + 2, max_row=last))
    if right == 2:
        native.legend = None
    if chart.kind == "bars":
        native.x_axis.scaling.orientation = "maxMin"  # the first at the top
    for nth, series in enumerate(native.series):
        colour = COLOURS[nth % len(COLOURS)].removeprefix("#")
        if chart.kind == "line":
            series.smooth = False
            series.graphicalProperties.line.solidFill = colour
        else:
            series.graphicalProperties.solidFill = colour
    if chart.kind == "line" and chart.unit == "%":
        native.y_axis.scaling.min, native.y_axis.scaling.max = percent_floor(chart), 100
    return native


_COLUMNS = (
    Text("数据编号", "Figure"),
    Text("章节", "Section"),
    Text("表", "Table"),
    Text("行", "Row"),
    Text("列", "Column"),
    Text("数值", "Value"),
    Text("打印值", "As printed"),
    Text("单位", "Unit"),
    Text("覆盖率", "Coverage"),
    Text("等级", "Grade"),
    Text("质量", "Quality"),
    Text("性质", "Basis"),
    Text("因子行", "Factor rows"),
    Text("说明", "Note"),
    Text("追溯名", "Trace name"),
)


def _sources(sheet: Any, edition: Edition, language: Language) -> None:
    """Every figure in a flat table that a reader can filter."""
    for n, title in enumerate(_COLUMNS, 1):
        _style(sheet.cell(1, n, title.of(language)), bold=True, fill=_HEAD, align="center")
    for place in figures_of(edition.report):
        c = place.cell
        sheet.append(
            [
                c.id,
                place.section.of(language),
                place.table.of(language),
                place.row.of(language),
                place.column.of(language),
                c.value,
                number(c),
                word("units", c.unit).of(language),
                c.coverage,
                c.grade,
                c.quality,
                c.basis,
                ", ".join(f"F{f}" for f in c.factors),
                c.reason.of(language) if c.reason else note(c, language),
                trace_of(edition.report.base.code, c.id),
            ]
        )
        sheet.cell(sheet.max_row, 6).number_format = number_format(c)
        sheet.cell(sheet.max_row, 9).number_format = "0.0%"
    sheet.freeze_panes = "B2"
    sheet.print_title_rows = "1:1"
    _on_paper(sheet)
    sheet.auto_filter.ref = f"A1:{get_column_letter(len(_COLUMNS))}{sheet.max_row}"
    for n, width in enumerate((40, 20, 28, 28, 16, 16, 16, 12, 10, 7, 12, 11, 14, 40, 44), 1):
        sheet.column_dimensions[get_column_letter(n)].width = width
