"""The report as pdf by typst: no system library, any CJK font of the machine or the packaged one."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any, Final

import msgspec
import typst

from reports.charts import png
from reports.fonts import FAMILIES, SERIF_FAMILIES, find_font
from reports.present import ChartView, Document, HeadingView, ParagraphView, Part, TableView, View

TEMPLATE = Path(__file__).parent / "templates" / "report.typ"
VERSION: Final = "1.5"
"""Of the format, tagged all the same: from 1.6 on typst writes `/Suspects false`, which poppler takes for an error."""


def write_pdf(document: Document, path: Path) -> None:
    """Write the pdf at `path`; the template reads `data.json` and the charts beside it in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="park-report-") as folder:
        root = Path(folder)
        shutil.copy(TEMPLATE, root / "report.typ")
        (root / "data.json").write_bytes(msgspec.json.encode(_data(document, root)))
        typst.compile(str(root / "report.typ"), output=str(path), root=str(root), font_paths=[str(find_font().parent)],
                      pdf_standards=VERSION)


def _data(document: Document, root: Path) -> dict[str, Any]:
    parts = [_part(document, part, root) for part in document.parts]
    return {
        "language": document.language,
        "programme": document.programme,
        "base": document.base,
        "title": document.title,
        "cover": document.cover,
        "status": document.status,
        "hash": document.hash,
        "parts": parts,
        "serif": SERIF_FAMILIES,
        "sans": FAMILIES,
    }


def _part(document: Document, part: Part, root: Path) -> dict[str, Any]:
    return {"heading": part.heading(document.language), "id": part.id, "views": [_view(document, v, root) for v in part.views]}


def _view(document: Document, view: View, root: Path) -> dict[str, Any]:
    if isinstance(view, ParagraphView):
        return {"is": "paragraph", "text": view.text, "draft": view.draft}
    if isinstance(view, HeadingView):
        return {"is": "heading", "text": view.text}
    if isinstance(view, TableView):
        rows = [[{"text": e.text, "note": e.note, "figure": e.is_figure} for e in row] for row in view.rows]
        return {
            "is": "table",
            "caption": view.caption,
            "headers": view.headers,
            "widths": view.widths,
            "rows": rows,
            "notes": view.notes,
        }
    assert isinstance(view, ChartView)
    (root / f"{view.id}.png").write_bytes(png(view.chart, document.language))
    return {"is": "chart", "caption": view.caption, "file": f"{view.id}.png"}
