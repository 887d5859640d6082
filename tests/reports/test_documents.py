"""Every format is opened again: the same figure stands in each with its coverage, in both languages and in GET /aggregates."""

from __future__ import annotations

import asyncio
import math
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import docx
import httpx
import openpyxl
import pytest
from docx.oxml.ns import qn

from api.app import create_app
from api.tokens import create_token
from park.database import connect
from park.settings import Settings
from reports.charts import png, svg
from reports.fonts import find_font, packaged
from reports.model import Cell, Chart, Language, hash_of, places, read
from reports.present import DASH, ChartView, TableView, note, number, present
from reports.store import Edition

Files = dict[tuple[Language, str], Path]
LANGUAGES: tuple[Language, ...] = ("zh", "en")
Cells = dict[str, dict[str, Any]]
IN_API = {"tCO2": ("kg", 1000.0), "tCO₂": ("kg", 1000.0)}  # a report writes t where the API has kg
KEY = {("电力", 2): "electricity/energy", ("电力", 4): "electricity/tce_calorific", ("电力", 5): "electricity/tce_equivalent",
       ("电力", 6): "electricity/co2", ("电力", 7): "electricity/cost", ("天然气", 2): "natural_gas/energy",
       ("天然气", 6): "natural_gas/co2", ("合计", 4): "all/tce_calorific", ("合计", 5): "all/tce_equivalent",
       ("合计", 6): "all/co2", ("合计", 7): "all/cost"}
"""Row and column of the table of carriers, and the figure of the API."""


def cell_of(edition: Edition, figure: str) -> Cell:
    """The cell with that id."""
    return next(p.cell for p in places(edition.report) if p.cell.id == figure)


class Figures(HTMLParser):
    """Figures of the page by id: (printed value, note under it)."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, tuple[str, str]] = {}
        self._at, self._small, self.outside = "", False, 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if values.get("data-figure"):
            self._at = values["data-figure"] or ""
            self.found[self._at] = ("", "")
        self._small = tag == "small"
        self.outside += sum(
            1
            for k in ("src", "href")
            if (values.get(k) or "").startswith(("http:", "https:", "//")) and tag in ("link", "script", "img", "image")
        )

    def handle_endtag(self, tag: str) -> None:
        if tag == "td":
            self._at = ""

    def handle_data(self, data: str) -> None:
        if self._at:
            value, under = self.found[self._at]
            self.found[self._at] = (value, under + data) if self._small else (value + data, under)


def page(path: Path) -> Figures:
    """The parsed page."""
    parser = Figures()
    parser.feed(path.read_text(encoding="utf-8"))
    return parser


def docx_tables(path: Path) -> list[list[list[str]]]:
    """Texts of every table."""
    return [[[c.text for c in row.cells] for row in table.rows] for table in docx.Document(str(path)).tables]


def test_every_figure_has_an_id_of_its_own(edition: Edition) -> None:
    ids = [p.cell.id for p in places(edition.report)]
    assert len(ids) > 300
    assert len(ids) == len(set(ids))


def test_every_figure_has_a_value_or_a_reason_and_every_metered_one_a_coverage(edition: Edition) -> None:
    for p in places(edition.report):
        assert p.cell.value is not None or p.cell.reason is not None, p.cell.id
        if p.cell.basis == "measured" and p.cell.value is not None:
            assert p.cell.coverage is not None, p.cell.id


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_figure_reads_the_same_in_every_format(edition: Edition, files: Files, language: Language) -> None:
    html = page(files[language, "html"]).found
    book = openpyxl.load_workbook(files[language, "xlsx"])
    sources = book["来源与覆盖率" if language == "zh" else "Sources and coverage"]
    flat = {row[0]: row for row in sources.iter_rows(min_row=2, values_only=True)}
    word = {
        (entry, under)
        for table in docx_tables(files[language, "docx"])
        for row in table
        for cell in row
        for entry, _, under in [cell.partition("\n")]
    }
    stored = {p.cell.id: p.cell for p in places(read(files[language, "json"].read_bytes()))}
    pdf = pdf_text(files[language, "pdf"])
    for p in places(edition.report):
        c = p.cell
        assert html[c.id] == (number(c), note(c, language)), c.id
        assert (number(c), note(c, language)) in word, c.id
        assert flat[c.id][5] == c.value, c.id
        assert flat[c.id][6] == number(c), c.id
        assert stored[c.id] == c
        assert number(c) in pdf, c.id


def pdf_text(path: Path) -> str:
    """Text of the pdf."""
    return subprocess.run(["pdftotext", "-layout", str(path), "-"], check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_reader_of_the_pdf_complains(files: Files, tmp_path: Path, language: Language) -> None:
    path = str(files[language, "pdf"])
    said = subprocess.run(["pdfinfo", path], check=True, capture_output=True, text=True)
    assert said.stderr == "" and re.search(r"Tagged: +yes", said.stdout)
    drawn = subprocess.run(["pdftoppm", "-r", "10", path, str(tmp_path / "page")], check=True, capture_output=True, text=True)
    assert drawn.stderr == ""


def test_the_printed_sum_is_the_sum_of_the_days(edition: Edition) -> None:
    # electricity: gate 120 000 + own generation 4 000 kWh a day; the yearly wave sums to about nothing
    figure = cell_of(edition, "energy/2026/electricity/amount")
    assert figure.value == pytest.approx(124_000 * 365, rel=1e-3)
    calorific = cell_of(edition, "energy/2026/electricity/tce_calorific")
    assert figure.value is not None
    assert calorific.value == pytest.approx(figure.value * 0.1229 / 1000, rel=1e-6)
    assert cell_of(edition, "energy/2026/electricity/tce_equivalent").value == pytest.approx(
        figure.value * 0.3 / 1000, rel=1e-6
    )
    months = [
        p.cell.value or 0.0 for p in places(edition.report) if re.fullmatch(r"energy/2026-\d\d/electricity_kwh", p.cell.id)
    ]
    assert len(months) == 12
    assert sum(months) == pytest.approx(figure.value, rel=1e-8)


def test_a_gap_lowers_the_coverage_and_is_not_a_zero(edition: Edition) -> None:
    gas = cell_of(edition, "energy/2026/natural_gas/amount")
    assert gas.coverage == pytest.approx(345 / 365)
    # March: gate and own generation known on 31 days, gas on 11
    assert cell_of(edition, "energy/2026-03/tce_calorific").coverage == pytest.approx((2 * 31 + 11) / (3 * 31))
    unmetered = cell_of(edition, "water/2026/e2/water")
    assert unmetered.value is None
    assert number(unmetered) == DASH


def test_an_intensity_under_ninety_percent_is_withheld_with_its_coverage(edition: Edition, files: Files) -> None:
    cell = cell_of(edition, "resources/2026/water_per_value_added")
    assert cell.value is None
    assert "72.6" in note(cell, "zh")
    assert "低于 90 %，不予发布" in page(files["zh", "html"]).found["resources/2026/water_per_value_added"][1]


def test_the_documents_say_that_no_official_outline_exists(files: Files) -> None:
    for path in (files["zh", "html"], files["en", "html"]):
        assert "发改办环资〔2020〕519号" in path.read_text(encoding="utf-8")
    assert "不代表官方口径" in files["zh", "html"].read_text(encoding="utf-8")
    assert "not an official format" in " ".join(pdf_text(files["en", "pdf"]).split())


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_docx_has_styles_fonts_numbers_and_repeated_headers(edition: Edition, files: Files, language: Language) -> None:
    document = docx.Document(str(files[language, "docx"]))
    shown = present(edition, language)
    headings = [p.text for p in document.paragraphs if p.style.name == "Heading 1"]
    assert headings == [part.title for part in shown.parts if not part.annex]
    assert len([p for p in document.paragraphs if p.style.name == "Annex heading"]) == 4
    fonts = document.styles["Heading 1"].element.rPr.rFonts
    assert fonts.get(qn("w:eastAsia")) == "黑体"
    assert document.styles["Body Text"].element.rPr.rFonts.get(qn("w:eastAsia")) == "宋体"
    body = document.tables[1:]
    assert all(t.rows[0]._tr.trPr is not None and t.rows[0]._tr.trPr.find(qn("w:tblHeader")) is not None for t in body)
    assert all(t.cell(-1, 0).paragraphs[0].paragraph_format.keep_with_next for t in body)
    assert document.settings.element.find(qn("w:updateFields")) is not None
    xml = document.element.xml
    assert all(f" PAGEREF part_{part.id} " in xml and f'"part_{part.id}"' in xml for part in shown.parts)
    assert " PAGE " in document.sections[-1].footer._element.xml
    captions = [p.text for p in document.paragraphs if p.style.name == "Caption"]
    wanted = [v.caption for part in shown.parts for v in part.views if isinstance(v, TableView | ChartView)]
    assert captions == wanted
    assert len(document.inline_shapes) == sum(isinstance(v, ChartView) for part in shown.parts for v in part.views)
    assert edition.hash in "".join(c.text for row in document.tables[0].rows for c in row.cells)


def test_the_workbook_has_numbers_formats_frozen_panes_and_native_charts(edition: Edition, files: Files) -> None:
    book = openpyxl.load_workbook(files["zh", "xlsx"])
    assert book.sheetnames[0] == "封面"
    assert {"来源与覆盖率", "图表数据"} <= set(book.sheetnames)
    sheet: Any = next(s for s in book.worksheets if s.title.startswith("四"))
    assert sheet.freeze_panes == "B3"
    assert len(sheet._charts) == 3
    amount = next(
        c for row in sheet.iter_rows() for c in row if c.value == cell_of(edition, "energy/2026/electricity/amount").value
    )
    assert amount.number_format == "#,##0"
    assert "覆盖 100%" in sheet.cell(amount.row + 1, amount.column).value
    dead = [s.title for s in book.worksheets for row in s.iter_rows() for c in row if c.value in ("#REF!", "#NAME?")]
    assert not dead
    sheets: list[Any] = book.worksheets
    for chart_sheet, chart in ((s, c) for s in sheets for c in s._charts):
        top = chart.anchor._from.row + 1
        bottom = top + math.ceil(chart.anchor.ext.height / 360_000 / 0.45)  # EMU a centimetre; rows of the lowest height
        assert not any(c.value for row in chart_sheet.iter_rows(top, bottom) for c in row)
    long = [c for s in sheets[1:-2] for row in s.iter_rows(min_row=3) for c in row if len(str(c.value or "")) > 60]
    assert long
    assert all(c.alignment.wrap_text for c in long)


def test_the_page_stands_alone_and_its_charts_are_well_formed(edition: Edition, files: Files) -> None:
    for language in LANGUAGES:
        text = files[language, "html"].read_text(encoding="utf-8")
        assert page(files[language, "html"]).outside == 0
        charts = re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL)
        assert len(charts) == sum(isinstance(v, ChartView) for part in present(edition, language).parts for v in part.views)
        for chart in charts:
            root = ElementTree.fromstring(chart)
            ids = {e.get("id") for e in root.iter() if e.get("id")}
            used = set(re.findall(r"url\(#([^)]+)\)|href=\"#([^\"]+)\"", chart))
            assert {a or b for a, b in used} <= ids
        assert "@media print" in text


def test_english_documents_hold_no_chinese_but_names_units_and_sources(edition: Edition) -> None:
    shown = present(edition, "en")
    for part in shown.parts:
        assert not re.search(r"[一-鿿]", part.title)
        for view in part.views:
            if isinstance(view, TableView):
                assert not re.search(r"[一-鿿]", " ".join((view.caption, *view.headers))), view.caption
                unknown = [e.note for row in view.rows for e in row if re.search(r"[一-鿿]", e.note)]
                assert not unknown, view.caption


def test_a_chart_leaves_a_missing_month_empty_and_is_the_same_each_time(edition: Edition) -> None:
    charts = {b.id: b for s in edition.report.sections for b in s.blocks if isinstance(b, Chart)}
    water = charts["chart-water-months"]
    assert water.series[0].values[5] is None
    assert svg(water, "zh") == svg(water, "zh")
    assert png(water, "zh") == png(water, "zh")
    assert png(water, "zh")[:8] == b"\x89PNG\r\n\x1a\n"
    assert "—" in svg(water, "zh")


def test_the_packaged_font_is_used_where_the_machine_has_none(tmp_path: Path) -> None:
    assert find_font([tmp_path]) == packaged()
    assert packaged().stat().st_size > 1_000_000


def test_the_hash_is_that_of_the_json_file(edition: Edition, files: Files) -> None:
    import hashlib

    assert hashlib.sha256(files["zh", "json"].read_bytes()).hexdigest() == edition.hash == hash_of(edition.report)
    assert files["zh", "json"].read_bytes() == files["en", "json"].read_bytes()


def test_the_docx_renders_to_pages_with_every_section(edition: Edition, files: Files, tmp_path: Path) -> None:
    assert shutil.which("soffice"), "LibreOffice is not on this machine; `make system` installs it"
    subprocess.run(
        [
            "soffice",
            "--headless",
            f"-env:UserInstallation=file://{tmp_path}/profile",
            "--convert-to",
            "pdf",
            "--outdir",
            str(tmp_path),
            str(files["zh", "docx"]),
        ],
        check=True,
        capture_output=True,
        timeout=120,
    )
    text = pdf_text(next(tmp_path.glob("*.pdf")))
    flat = re.sub(r"\s", "", text)
    for part in present(edition, "zh").parts:
        assert re.sub(r"\s", "", part.title) in flat
    assert "45,260,000" in text


def test_cases_of_pollution_alerts_stand_with_steps_persons_and_outcome(edition: Edition, files: Files) -> None:
    assert [cell_of(edition, f"cases/{n}").value for n in ("n", "closed", "overdue", "refused")] == [2, 1, 1, 1]
    assert (cell_of(edition, "cases/1/hours").value, cell_of(edition, "cases/2/hours").value) == (30.5, None)
    (table,) = (t for t in docx_tables(files["zh", "docx"]) if t[0][0].startswith("单号"))
    assert table[1][0].endswith("永固轧钢 1号排气筒：二氧化硫超标预警")
    assert table[1][1] == "2026-03-03 10:20 center → 永固轧钢 王磊"
    assert table[1][2:4] == ["2026-03-03 10:41 王磊", "2026-03-03 14:05 王磊"]
    assert table[1][4:7] == ["2026-03-03 15:30 1 份", "2026-03-04 16:00 李敏", "2026-03-04 16:50 关闭；复测达标"]
    (english,) = (t for t in docx_tables(files["en", "docx"]) if t[0][0].startswith("Number"))
    assert english[2][5:7] == [DASH, "open, overdue, refused 1×"]


def test_a_figure_is_the_same_in_every_section(edition: Edition) -> None:
    told: dict[str, dict[str, tuple[float | None, float | None, str]]] = {}
    for p in places(edition.report):
        if found := re.fullmatch(r"\w+/2026/(\w+)(/actual)?", p.cell.id):
            told.setdefault(found[1], {})[p.cell.id] = (p.cell.value, p.cell.coverage, p.cell.grade)
    several = {code: cells for code, cells in told.items() if len(cells) > 1}
    assert len(several) > 5
    assert [cells for cells in several.values() if len(set(cells.values())) > 1] == []
    for field, code in (("tce_equivalent", "tce_equivalent"), ("co2_kg", "co2_t"), ("cost", "energy_cost")):
        whole = cell_of(edition, f"energy/2026/total/{field}")
        assert (whole.value, whole.coverage, whole.grade) == next(iter(told[code].values()))


@pytest.fixture(scope="module")
def api(databases: Any, year_database: str) -> Cells:
    """Every cell of GET /aggregates of 2026, by its name."""
    url = databases.url(databases.copy(year_database, "api"))
    with connect(url, autocommit=True) as conn:
        token = create_token(conn, role="operator", name="report", bases=["mini"])
    return asyncio.run(_cells(url, token))


async def _cells(url: str, token: str) -> Cells:
    app = create_app(Settings(database_url=url, language="zh"))
    found: Cells = {}
    async with app.router.lifespan_context(app), httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://park", headers={"Authorization": f"Bearer {token}"}) as client:
        for by in ("carrier", "carrier,enterprise"):
            got = await client.get("/api/v1/aggregates", params={"base": "mini", "period": "2026", "by": by})
            told = got.raise_for_status().json()
            cells = [*told["totals"].values(), *(r["mass"] for r in told["emission"])]
            found |= {c["figure"]: c for c in [*cells, *(c for r in told["rows"] for c in r["cells"].values())]}
    return found


def test_every_traced_figure_of_the_workbook_is_that_of_the_api(files: Files, api: Cells) -> None:
    sheet = openpyxl.load_workbook(files["zh", "xlsx"])["来源与覆盖率"]
    compared = set()
    for row in sheet.iter_rows(min_row=2, values_only=True):
        value, unit, coverage, grade, name = row[5], str(row[7]), row[8], row[9], str(row[14] or "")
        if name not in api:
            continue
        cell = api[name]
        compared.add(name)
        expected = None if cell["value"] is None else cell["value"] / IN_API.get(unit, ("", 1.0))[1]
        assert value == (None if expected is None else pytest.approx(expected, rel=1e-8)), name
        if "/outlet=" not in name:  # an outlet's grade judges its valid share; a count of tCO2 as a target has none of its own
            assert coverage == pytest.approx(cell["coverage"], rel=1e-8), name
            assert (grade or "") == cell.get("grade", ""), name
    assert len(compared) > 20
    assert {"mini/2026/base/natural_gas/energy", "mini/2026/outlet=e1.stack/so2/mass"} <= compared


def test_docx_and_pdf_print_the_figures_of_the_api(files: Files, api: Cells) -> None:
    carriers = {row[0]: row for row in next(t for t in docx_tables(files["zh", "docx"]) if t[0][0] == "品种")}
    pdf = pdf_text(files["zh", "pdf"])
    for (carrier, column), name in KEY.items():
        cell = api[f"mini/2026/base/{name}"]
        digits = 0 if name.endswith(("/energy", "/cost")) else 2
        printed = f"{cell['value'] / (1000 if name.endswith('/co2') else 1):,.{digits}f}"
        assert carriers[carrier][column].partition("\n")[0] == printed, name
        assert printed in pdf, name
