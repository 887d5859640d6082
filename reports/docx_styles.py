"""Styles, numbering and fields of the docx, in terms of OOXML where python-docx has no word for them."""

from __future__ import annotations

from typing import Any
from zlib import crc32

from docx.enum.style import WD_STYLE_TYPE
from docx.enum.text import WD_ALIGN_PARAGRAPH
from docx.oxml import OxmlElement, parse_xml
from docx.oxml.ns import nsdecls, qn
from docx.shared import Cm, Pt, RGBColor

from reports.model import Language

PAGE_CM = 16.2
BLACK = RGBColor(0, 0, 0)
LATIN = "Times New Roman"
SONG, HEI = "宋体", "黑体"
"""SimSun and SimHei by the names that Chinese Office knows; other machines substitute their own serif and sans."""


def set_styles(docx: Any, language: Language) -> None:
    """Page, fonts and every style that the writer uses."""
    page = docx.sections[0]
    page.page_width, page.page_height = Cm(21), Cm(29.7)
    page.left_margin = page.right_margin = Cm(2.4)
    page.top_margin, page.bottom_margin = Cm(2.6), Cm(2.4)
    indent = language == "zh"
    _font(docx.styles["Normal"], SONG, 11)
    body = docx.styles["Body Text"]
    _font(body, SONG, 11)
    _space(body, after=4, line=1.45)
    if indent:
        body.paragraph_format.first_line_indent = Pt(22)
    _heading(docx.styles["Heading 1"], 16, 18, 8)
    _heading(docx.styles["Heading 2"], 13, 10, 4)
    caption = docx.styles["Caption"]
    _font(caption, HEI, 9.5)
    caption.font.bold = caption.font.italic = False
    caption.font.color.rgb = BLACK
    header = docx.styles["Header"]
    _font(header, SONG, 9)
    _line(header, "bottom", 4, "808080", 4)
    caption.paragraph_format.alignment = WD_ALIGN_PARAGRAPH.CENTER
    _space(caption, before=8, after=4)
    for name, font, size, colour in (
        ("Cover small", HEI, 16, BLACK),
        ("Cover base", HEI, 24, BLACK),
        ("Cover title", HEI, 26, BLACK),
        ("Cover field", SONG, 12, BLACK),
        ("Contents heading", HEI, 16, BLACK),
        ("Annex heading", HEI, 16, BLACK),
        ("Table text", SONG, 9, BLACK),
        ("Table note", SONG, 8, RGBColor(0x40, 0x40, 0x40)),
        ("Draft", SONG, 11, BLACK),
        ("Picture", SONG, 11, BLACK),
        ("toc 1", SONG, 11, BLACK),
    ):
        style = _style(docx, name)
        _font(style, font, size)
        style.font.color.rgb = colour
    _places(docx, indent)


def _places(docx: Any, indent: bool) -> None:
    styles = docx.styles
    for name, before, after in (
        ("Cover small", 60, 20),
        ("Cover base", 60, 10),
        ("Cover title", 10, 90),
        ("Contents heading", 0, 14),
    ):
        styles[name].paragraph_format.alignment = WD_ALIGN_PARAGRAPH.CENTER
        _space(styles[name], before=before, after=after)
    _space(styles["Cover field"], before=5, after=2)
    _space(styles["Table text"])
    _space(styles["Table note"], before=3, after=2)
    _space(styles["toc 1"], after=5)
    _space(styles["Draft"], after=4, line=1.4)
    _space(styles["Annex heading"], before=16, after=8)
    styles["Annex heading"].paragraph_format.keep_with_next = True
    _outline(styles["Annex heading"], 0)
    for name in ("Annex heading", "Cover base", "Cover title", "Contents heading"):
        styles[name].font.bold = True
    styles["Draft"].paragraph_format.left_indent = Cm(0.6)
    _line(styles["Draft"], "left", 18, "E08E2B", 8)
    styles["Picture"].paragraph_format.keep_with_next = True
    styles["Picture"].paragraph_format.alignment = WD_ALIGN_PARAGRAPH.CENTER
    _space(styles["Picture"], before=6)


def _style(docx: Any, name: str) -> Any:
    names = [s.name for s in docx.styles]
    if name in names:
        return docx.styles[name]
    style = docx.styles.add_style(name, WD_STYLE_TYPE.PARAGRAPH)
    style.base_style = docx.styles["Normal"]
    return style


def _font(style: Any, east_asia: str, size_pt: float) -> None:
    style.font.name, style.font.size = LATIN, Pt(size_pt)
    fonts = style.element.get_or_add_rPr().get_or_add_rFonts()
    for theme in ("asciiTheme", "hAnsiTheme", "eastAsiaTheme", "cstheme"):
        fonts.attrib.pop(qn(f"w:{theme}"), None)
    for key, name in (("ascii", LATIN), ("hAnsi", LATIN), ("eastAsia", east_asia)):
        fonts.set(qn(f"w:{key}"), name)


def _heading(style: Any, size_pt: float, before: float, after: float) -> None:
    _font(style, HEI, size_pt)
    style.font.bold, style.font.italic, style.font.color.rgb = True, False, BLACK
    style.paragraph_format.keep_with_next = True
    _space(style, before=before, after=after)


def _space(style: Any, *, before: float = 0, after: float = 0, line: float = 1.0) -> None:
    style.paragraph_format.space_before, style.paragraph_format.space_after = Pt(before), Pt(after)
    style.paragraph_format.line_spacing = line


def _outline(style: Any, level: int) -> None:
    mark = OxmlElement("w:outlineLvl")
    mark.set(qn("w:val"), str(level))
    style.element.get_or_add_pPr().append(mark)


def _line(style: Any, side: str, eighths: int, colour: str, space: int) -> None:
    style.element.get_or_add_pPr().append(
        parse_xml(
            f'<w:pBdr {nsdecls("w")}><w:{side} w:val="single" w:sz="{eighths}" w:space="{space}" w:color="{colour}"/></w:pBdr>'
        )
    )


def pad(table: Any) -> None:
    """Room between a table's lines and its text."""
    sides = "".join(
        f'<w:{side} w:w="{w}" w:type="dxa"/>' for side, w in (("top", 35), ("left", 70), ("bottom", 35), ("right", 70))
    )
    table._tbl.tblPr.append(parse_xml(f"<w:tblCellMar {nsdecls('w')}>{sides}</w:tblCellMar>"))


def number_headings(docx: Any, language: Language) -> None:
    """Headings number themselves: 一、 and （一） in Chinese, 1 and 1.1 in English."""
    levels = (
        (("chineseCountingThousand", "%1、"), ("chineseCountingThousand", "（%2）"))
        if language == "zh"
        else (("decimal", "%1"), ("decimal", "%1.%2"))
    )
    suffix = "nothing" if language == "zh" else "space"
    body = "".join(
        f'<w:lvl w:ilvl="{i}"><w:start w:val="1"/><w:numFmt w:val="{fmt}"/><w:pStyle w:val="Heading{i + 1}"/>'
        f'<w:suff w:val="{suffix}"/>'
        f'<w:lvlText w:val="{text}"/><w:lvlJc w:val="left"/><w:pPr><w:ind w:left="0" w:firstLine="0"/></w:pPr></w:lvl>'
        for i, (fmt, text) in enumerate(levels)
    )
    numbering = docx.part.numbering_part.element
    abstract = parse_xml(
        f'<w:abstractNum {nsdecls("w")} w:abstractNumId="90"><w:multiLevelType w:val="multilevel"/>{body}</w:abstractNum>'
    )
    numbering.insert(0, abstract)
    numbering.append(parse_xml(f'<w:num {nsdecls("w")} w:numId="90"><w:abstractNumId w:val="90"/></w:num>'))
    for i in range(2):
        properties = docx.styles[f"Heading {i + 1}"].element.get_or_add_pPr()
        properties.append(parse_xml(f'<w:numPr {nsdecls("w")}><w:ilvl w:val="{i}"/><w:numId w:val="90"/></w:numPr>'))


def add_field(paragraph: Any, instruction: str, shown: str | None, *, part: str = "whole") -> None:
    """A field: `begin` opens one whose result follows, `end` closes it, `whole` is one with the text `shown` in it."""
    if part in ("whole", "begin"):
        _mark(paragraph, "begin")
        code = OxmlElement("w:instrText")
        code.set(qn("xml:space"), "preserve")
        code.text = instruction
        paragraph.add_run()._r.append(code)
        _mark(paragraph, "separate")
    if part == "whole":
        paragraph.add_run(shown or "")
    if part in ("whole", "end"):
        _mark(paragraph, "end")


def _mark(paragraph: Any, kind: str) -> None:
    mark = OxmlElement("w:fldChar")
    mark.set(qn("w:fldCharType"), kind)
    paragraph.add_run()._r.append(mark)


def bookmark(paragraph: Any, name: str) -> None:
    """Name a paragraph so that a page reference finds it."""
    number = str(crc32(name.encode()) % 100_000)
    for tag in ("w:bookmarkStart", "w:bookmarkEnd"):
        mark = OxmlElement(tag)
        mark.set(qn("w:id"), number)
        if tag == "w:bookmarkStart":
            mark.set(qn("w:name"), name)
            paragraph._p.insert(1, mark)
        else:
            paragraph._p.append(mark)


def shade(cell: Any, colour: str) -> None:
    """Fill a table's cell."""
    cell._tc.get_or_add_tcPr().append(parse_xml(f'<w:shd {nsdecls("w")} w:val="clear" w:color="auto" w:fill="{colour}"/>'))
