"""Names out of a catalogue are text in every format: no formula, no markup, no character that breaks a file."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import docx
import openpyxl
import psycopg

from reports.store import draft
from reports.write import FORMATS, write_files

AFTER = datetime(2027, 1, 15, 4, 0, tzinfo=UTC)
NAMES = ('=HYPERLINK("http://x")', "<script>alert(1)</script>", '#panic("x") *a* $b$', "钢\x0b\x01厂 & 'co' {0}")


def test_hostile_names_are_printed_as_they_are(park_year: psycopg.Connection[Any], tmp_path: Path) -> None:
    park_year.execute("UPDATE enterprise SET name_zh = %s WHERE code = 'e1'", (NAMES[0],))
    park_year.execute("UPDATE enterprise SET name_zh = %s WHERE code = 'e2'", (NAMES[1],))
    park_year.execute("UPDATE unit SET name_zh = %s WHERE code = 'e1.stack'", (NAMES[2],))
    park_year.execute("UPDATE base SET name_zh = %s", (NAMES[3],))
    paths = dict(
        zip(FORMATS, write_files(draft(park_year, "mini", "annual", 2026, AFTER), "zh", FORMATS, tmp_path), strict=True)
    )
    book = openpyxl.load_workbook(paths["xlsx"])
    cells = [c for sheet in book.worksheets for row in sheet.iter_rows() for c in row]
    assert any(c.value == NAMES[0] for c in cells)
    assert not [c.coordinate for c in cells if c.data_type == "f"]
    page = paths["html"].read_text(encoding="utf-8")
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    words = "\n".join(c.text for t in docx.Document(str(paths["docx"])).tables for r in t.rows for c in r.cells)
    assert NAMES[0] in words
    assert NAMES[1] in words
    assert NAMES[2] in words
    assert "钢厂 & 'co' {0}" in words
    assert paths["pdf"].stat().st_size > 10_000
