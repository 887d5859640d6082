"""The data object that every format of a report is made from.

It holds both languages, every figure as a cell with its coverage, grade and factor rows, and nothing that depends on
when or where a document is written: the same object gives the same canonical JSON and the same hash. Sealed objects are
stored as they are, so fields may be added at the end with a default and `SCHEMA` raised, but never change their meaning or
their order: `as_sealed` then still gives the bytes that a former version sealed.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator
from datetime import date, datetime
from typing import Any, Literal

import msgspec

SCHEMA = 1
Kind = Literal["annual", "midterm", "final"]
Language = Literal["zh", "en"]
Basis = Literal["measured", "declared", "plan", "count", "reference"]
MIN_COVERAGE = 0.9
"""Intensities and degrees of completion are withheld below this coverage (STANDARDS.md section 5)."""


_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")  # neither docx, xlsx nor html can hold them


class Text(msgspec.Struct, frozen=True, tag="text"):
    """A text in both languages."""

    zh: str
    en: str

    def of(self, language: Language) -> str:
        """The text in one language."""
        return _CONTROL.sub("", self.zh if language == "zh" else self.en)


class Cell(msgspec.Struct, frozen=True, tag="cell", kw_only=True):
    """A figure. `coverage` is a share 0..1 of expected slots or hours that are known; `grade` A metered, B bill,
    C estimated; `value` None always comes with a `reason`; `factors` are ids of rows in table `factor`."""

    id: str
    value: float | None
    unit: str
    basis: Basis = "measured"
    coverage: float | None = None
    quality: str = ""
    grade: str = ""
    factors: tuple[int, ...] = ()
    reason: Text | None = None
    digits: int = 2


Item = Text | Cell
Rows = list[tuple[Item, ...]]


class Column(msgspec.Struct, frozen=True):
    """A column of a table; `unit` is printed with the title, `width` is a share of the row."""

    title: Text
    unit: str = ""
    width: float = 1.0


class Table(msgspec.Struct, frozen=True, tag="table"):
    """A table; the first item of a row names the row. `notes` are printed under it."""

    id: str
    title: Text
    columns: tuple[Column, ...]
    rows: tuple[tuple[Item, ...], ...]
    notes: tuple[Text, ...] = ()


class Series(msgspec.Struct, frozen=True):
    """Values of one colour in a chart; None where there is none."""

    name: Text
    values: tuple[float | None, ...]


class Chart(msgspec.Struct, frozen=True, tag="chart"):
    """A chart of series over labels; every value is also a figure in a table or a monthly part of one."""

    id: str
    title: Text
    kind: Literal["stacked", "grouped", "line", "bars"]
    unit: str
    labels: tuple[Text, ...]
    series: tuple[Series, ...]
    limit: float | None = None
    limit_name: Text = Text("限值", "limit")


class Paragraph(msgspec.Struct, frozen=True, tag="paragraph"):
    """Running text; `{0}`, `{1}` stand for the formatted cells. `draft` marks a text for the base to check and edit."""

    text: Text
    cells: tuple[Cell, ...] = ()
    draft: bool = False


class Heading(msgspec.Struct, frozen=True, tag="heading"):
    """A heading of the second level."""

    text: Text


Block = Paragraph | Heading | Table | Chart


class Section(msgspec.Struct, frozen=True):
    """A numbered part of the report, or an annex."""

    id: str
    title: Text
    blocks: tuple[Block, ...]
    annex: bool = False


class Change(msgspec.Struct, frozen=True):
    """A figure that differs between two versions."""

    id: str
    place: Text
    before: Cell | None
    after: Cell | None
    cause: Text


class Sealing(msgspec.Struct, frozen=True):
    """A sealed version of the same report."""

    version: int
    hash: str
    sealed_at: datetime
    sealed_by: str
    as_of: datetime
    reason: str


class BaseCard(msgspec.Struct, frozen=True):
    """The base as the cover names it."""

    code: str
    name: Text
    region: str
    timezone: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A whole report. `through` is the last whole day that data may come from; `history` and `restated` describe the
    versions before this one."""

    schema: int = SCHEMA
    base: BaseCard
    kind: Kind
    year: int
    years: tuple[int, ...]
    first_day: date
    last_day: date
    through: date
    as_of: datetime
    sections: tuple[Section, ...]
    history: tuple[Sealing, ...] = ()
    restated: tuple[Change, ...] = ()


class Place(msgspec.Struct, frozen=True):
    """A cell and the words that say where it stands."""

    section: Text
    table: Text
    row: Text
    column: Text
    cell: Cell

    @property
    def label(self) -> Text:
        """`table: row, column` in both languages."""
        return Text(f"{self.table.zh}：{self.row.zh}，{self.column.zh}", f"{self.table.en}: {self.row.en}, {self.column.en}")


def canonical(report: Report) -> bytes:
    """The canonical JSON: keys sorted, no white space, UTF-8."""
    return msgspec.json.encode(report, order="deterministic")


def read(data: bytes) -> Report:
    """A report from its JSON; msgspec.ValidationError when it is not one."""
    return msgspec.json.decode(data, type=Report)


def hash_of(report: Report) -> str:
    """SHA-256 over the canonical JSON, in hexadecimal."""
    return hashlib.sha256(canonical(report)).hexdigest()


def as_sealed(report: Report, stored: bytes) -> bytes:
    """The canonical JSON of a report read from `stored`, without the fields that its version did not have yet."""
    return msgspec.json.encode(_shared(msgspec.json.decode(canonical(report)), msgspec.json.decode(stored)))


def _shared(now: Any, then: Any) -> Any:
    """What both have, in the order of `now`."""
    if isinstance(now, dict):
        return {name: _shared(part, then[name]) for name, part in now.items() if name in then}
    if isinstance(now, list):
        return [_shared(*pair) for pair in zip(now, then, strict=True)]
    return now


def tidy(value: float | None) -> float | None:
    """A value with nine significant digits, so that the order of a sum does not make another figure; no NaN, no -0."""
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.9g}") + 0.0


def places(report: Report) -> Iterator[Place]:
    """Every figure of the report's tables, in order."""
    for section in report.sections:
        for table in (b for b in section.blocks if isinstance(b, Table)):
            for row in table.rows:
                name = row[0] if isinstance(row[0], Text) else Text("", "")
                for column, item in zip(table.columns, row, strict=True):
                    if isinstance(item, Cell):
                        yield Place(section.title, table.title, name, column.title, item)
