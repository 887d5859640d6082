"""A document is in one language: sources of shipped tables too; the year in short says what its tables say."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from reports.model import Paragraph, Table, places
from reports.store import Edition
from reports.words import source

TABLES = Path(__file__).parents[2] / "park" / "tables"
SHIPPED = {"factors.yaml": ("source", "edition", "region"), "limits.yaml": ("source",), "indicators.yaml": ("source", "note")}
NUMBER_OF_NOTICE = re.compile("[\u4e00-\u9fff]+〔\\d+〕\\d+号")


def texts(node: Any, keys: tuple[str, ...]) -> Iterator[str]:
    """Every text under one of the keys."""
    if isinstance(node, dict):
        yield from (v for k, v in node.items() if k in keys and isinstance(v, str))
    for below in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from texts(below, keys)


@pytest.mark.parametrize("name", SHIPPED)
def test_each_source_of_a_shipped_table_is_told_in_the_language_of_the_document(name: str) -> None:
    found = set(texts(yaml.safe_load((TABLES / name).read_text(encoding="utf-8")), SHIPPED[name]))
    assert len(found) > 8
    units = re.compile(r"kgce|kcal|tCO2")
    for text in found:
        told = source(text)
        assert not re.search("[A-Za-z]{4,}", units.sub("", told.zh)), (text, told.zh)
        assert not re.search("[\u4e00-\u9fff]", NUMBER_OF_NOTICE.sub("", told.en)), (text, told.en)


def test_what_a_base_wrote_itself_stays_as_it_was_written() -> None:
    assert source("永固轧钢 2025 年内部规定").en == "永固轧钢 2025 年内部规定"
    assert source("internal rule of 2025").zh == "internal rule of 2025"
    assert source("GB 13271-2014 表3 燃气锅炉").en == "GB 13271-2014 table 3 gas boilers"
    assert source("报表2").en == "报表2"                      # a phrase within another word is none


def test_the_year_in_short_says_what_the_tables_say(edition: Edition) -> None:
    overview = edition.report.sections[0]
    short = [b for b in overview.blocks if isinstance(b, Paragraph)][:4]
    figures = {p.cell.id: p.cell for p in places(edition.report)}
    energy = next(c for c in short[1].cells if c.id.endswith("/tce_equivalent"))
    assert energy.value == figures["headlines/2026/tce_equivalent"].value and energy.coverage
    (targets,) = [b for b in edition.report.sections[1].blocks if isinstance(b, Table) and b.id == "targets-2026"]
    assert f"登记目标 {len(targets.rows)} 项" in short[0].text.zh
    exceeded = sum(c.value or 0 for i, c in figures.items() if i.startswith("emission/2026/") and i.endswith("/hours_exceeded"))
    assert f"超标 {exceeded:,.0f} 小时" in short[2].text.zh and "8 起" in short[2].text.zh
    asked = next(b for b in overview.blocks if isinstance(b, Table) and b.id == "requirements")
    assert all(re.search("第.部分|第.、", row[1].zh) for row in asked.rows)      # type: ignore[union-attr]
