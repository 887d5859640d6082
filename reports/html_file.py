"""The report as one self-contained html file: inline SVG charts, a contents list, a style for paper."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from reports.charts import svg
from reports.present import ChartView, Document, HeadingView, ParagraphView, TableView

TEMPLATES = Path(__file__).parent / "templates"


def write_html(document: Document, path: Path) -> None:
    """Write the page at `path`."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.tests.update(
        {
            "chart": lambda v: isinstance(v, ChartView),
            "table": lambda v: isinstance(v, TableView),
            "heading": lambda v: isinstance(v, HeadingView),
            "paragraph": lambda v: isinstance(v, ParagraphView),
        }
    )
    page = environment.get_template("report.html.j2").render(
        d=document, zh=document.language == "zh", svg=lambda chart: svg(chart, document.language)
    )
    path.write_text(page, encoding="utf-8")
