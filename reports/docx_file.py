"""The report as docx: real styles, Chinese fonts by w:eastAsia, automatic numbers, repeated header rows, captions, fields."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from docx import Document as new_docx
from docx.enum.section import WD_SECTION
from docx.enum.table import WD_TABLE_ALIGNMENT
from docx.enum.text import WD_ALIGN_PARAGRAPH, WD_BREAK, WD_TAB_ALIGNMENT, WD_TAB_LEADER
from docx.oxml import OxmlElement
from docx.oxml.ns import qn
from docx.shared import Cm, Pt, RGBColor

from reports.charts import png
from reports.docx_styles import PAGE_CM, add_field, bookmark, number_headings, pad, set_styles, shade
from reports.model import Language
from reports.present import ChartView, Document, Entry, HeadingView, ParagraphView, Part, TableView, View

WIDE_COLUMNS = 8
WHOLE_ROWS = 6
"""Rows up to which a table is kept on one page, as in the pdf."""
TIED_ROWS = 3
"""Rows of a longer table that stay together at its head and at its foot, so that none is alone on a page."""
COVER_CM = (4.2, 11.0)


def write_docx(document: Document, path: Path) -> None:
    """Write the document at `path`."""
    docx = new_docx()
    set_styles(docx, document.language)
    number_headings(docx, document.language)
    docx.core_properties.title = f"{document.base} {document.title}"
    docx.core_properties.author = ""
    docx.core_properties.comments = f"SHA-256 {document.hash}"
    _cover(docx, document)
    _contents(docx, document)
    body = docx.add_section(WD_SECTION.NEW_PAGE)
    _furniture(body, document)
    for at, part in enumerate(document.parts):
        _part(docx, document, part, first=at == 0)
    out = io.BytesIO()
    docx.save(out)
    path.write_bytes(out.getvalue())


def _cover(docx: Any, document: Document) -> None:
    for text, style in ((document.programme, "Cover small"), (document.base, "Cover base"), (document.title, "Cover title")):
        docx.add_paragraph(text, style=style)
    table = docx.add_table(rows=0, cols=2)
    table.alignment = WD_TABLE_ALIGNMENT.CENTER
    table.autofit = False
    for column, width in zip(table.columns, COVER_CM, strict=True):
        column.width = Cm(width)
    for label, value in document.cover:
        cells = table.add_row().cells
        for cell, text, width in zip(cells, (label, value), COVER_CM, strict=True):
            cell.width = Cm(width)
            cell.paragraphs[0].style = docx.styles["Cover field"]
            run = cell.paragraphs[0].add_run(text)
            if len(text) == 64:
                run.font.size = Pt(8)
        _bottom_line(cells[1])
    if "V" not in document.cover[3][1]:
        stamp = docx.add_paragraph(document.status, style="Cover small")
        stamp.runs[0].font.color.rgb = RGBColor(0xB0, 0x2A, 0x1E)


def _bottom_line(cell: Any) -> None:
    borders = OxmlElement("w:tcBorders")
    line = OxmlElement("w:bottom")
    for key, value in (("val", "single"), ("sz", "4"), ("color", "808080")):
        line.set(qn(f"w:{key}"), value)
    borders.append(line)
    cell._tc.get_or_add_tcPr().append(borders)


def _contents(docx: Any, document: Document) -> None:
    """A line a section with a reference to its page: word processors put the number in when they open or convert the document,
    which they do not for the entries of a contents field."""
    heading = docx.add_paragraph("目  录" if document.language == "zh" else "Contents", style="Contents heading")
    heading.paragraph_format.page_break_before = True
    for part in document.parts:
        line = docx.add_paragraph(style="toc 1")
        line.paragraph_format.tab_stops.add_tab_stop(Cm(PAGE_CM), WD_TAB_ALIGNMENT.RIGHT, WD_TAB_LEADER.DOTS)
        line.add_run(part.heading(document.language) + "\t")
        add_field(line, f" PAGEREF part_{part.id} \\h ", "")
    settings = docx.settings.element
    update = OxmlElement("w:updateFields")
    update.set(qn("w:val"), "true")
    settings.append(update)


def _furniture(section: Any, document: Document) -> None:
    """Header and footer of the body; pages count from 1 after cover and contents."""
    section.header.is_linked_to_previous = section.footer.is_linked_to_previous = False
    head = section.header.paragraphs[0]
    head.text = f"{document.base}　{document.title}" if document.language == "zh" else f"{document.base} · {document.title}"
    head.alignment = WD_ALIGN_PARAGRAPH.CENTER
    foot = section.footer.paragraphs[0]
    foot.alignment = WD_ALIGN_PARAGRAPH.CENTER
    zh = document.language == "zh"
    foot.add_run("第 " if zh else "Page ")
    add_field(foot, " PAGE ", "1")
    foot.add_run(" 页" if zh else "")
    foot.add_run().add_break(WD_BREAK.LINE)
    small = foot.add_run(f"{document.status} · SHA-256 {document.hash[:16]}")
    small.font.size = Pt(7.5)
    number = OxmlElement("w:pgNumType")
    number.set(qn("w:start"), "1")
    section._sectPr.append(number)


def _part(docx: Any, document: Document, part: Part, *, first: bool) -> None:
    if part.annex:
        heading = docx.add_paragraph(part.heading(document.language), style="Annex heading")
    else:
        heading = docx.add_paragraph(part.title, style="Heading 1")
    if part.id in ("definitions",):
        heading.paragraph_format.page_break_before = True
    bookmark(heading, f"part_{part.id}")
    for view in part.views:
        _view(docx, view, document.language)


def _view(docx: Any, view: View, language: Language) -> None:
    if isinstance(view, HeadingView):
        docx.add_paragraph(view.text, style="Heading 2")
    elif isinstance(view, ParagraphView):
        paragraph = docx.add_paragraph(style="Draft" if view.draft else "Body Text")
        paragraph.add_run(view.text)
    elif isinstance(view, TableView):
        _table(docx, view)
    elif isinstance(view, ChartView):
        picture = docx.add_paragraph(style="Picture")
        picture.add_run().add_picture(io.BytesIO(png(view.chart, language)), width=Cm(PAGE_CM))
        describe = picture._p.xpath(".//wp:docPr")[0]
        describe.set("descr", view.caption)
        docx.add_paragraph(view.caption, style="Caption")


def _table(docx: Any, view: TableView) -> None:
    caption = docx.add_paragraph(view.caption, style="Caption")
    caption.paragraph_format.keep_with_next = True
    table = docx.add_table(rows=1, cols=len(view.headers), style="Table Grid")
    table.alignment = WD_TABLE_ALIGNMENT.CENTER
    table.autofit = False
    total = sum(view.widths)
    widths = [Cm(PAGE_CM * w / total) for w in view.widths]
    for column, width in zip(table.columns, widths, strict=True):
        column.width = width
    pad(table)
    text_style = docx.styles["Table text"].style_id
    size = Pt(7.5) if len(view.headers) > WIDE_COLUMNS else Pt(8) if len(view.headers) > 6 else Pt(9)
    for cell, text, width in zip(table.rows[0].cells, view.headers, widths, strict=True):
        cell.width = width
        shade(cell, "E3EBF2")
        _write(cell, Entry(text), size, text_style, bold=True)
    _repeat(table.rows[0])
    _keep_with_next(table.rows[0])
    for nth, entries in enumerate(view.rows):
        row = table.add_row()
        _keep_whole(row)
        for cell, entry, width in zip(row.cells, entries, widths, strict=True):
            cell.width = width
            _write(cell, entry, size, text_style)
        if len(view.rows) <= WHOLE_ROWS or nth < TIED_ROWS - 1 or nth >= len(view.rows) - TIED_ROWS:
            _keep_with_next(row)  # the last one with the note below
    for text in view.notes or ("",):
        docx.add_paragraph(text, style="Table note")


def _write(cell: Any, entry: Entry, size: Any, style: str, *, bold: bool = False) -> None:
    cell.vertical_alignment = 1  # centre
    paragraph = cell.paragraphs[0]
    paragraph._p.style = style  # by its id: looking a name up for every cell took half of the time
    paragraph.alignment = (
        WD_ALIGN_PARAGRAPH.RIGHT if entry.is_figure else WD_ALIGN_PARAGRAPH.CENTER if bold else WD_ALIGN_PARAGRAPH.LEFT
    )
    run = paragraph.add_run(entry.text)
    run.bold, run.font.size = bold or None, size
    if entry.note:
        run.add_break(WD_BREAK.LINE)
        under = paragraph.add_run(entry.note)
        under.font.size, under.font.color.rgb = Pt(6.5), RGBColor(0x5A, 0x5A, 0x5A)


def _repeat(row: Any) -> None:
    mark = OxmlElement("w:tblHeader")
    mark.set(qn("w:val"), "true")
    row._tr.get_or_add_trPr().append(mark)
    _keep_whole(row)


def _keep_with_next(row: Any) -> None:
    """A head with one row alone at the foot of a page is hard to read."""
    for cell in row.cells:
        cell.paragraphs[0].paragraph_format.keep_with_next = True


def _keep_whole(row: Any) -> None:
    row._tr.get_or_add_trPr().append(OxmlElement("w:cantSplit"))
