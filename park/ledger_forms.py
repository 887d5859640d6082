"""The xlsx template of manual entries, and what a filled one says: every mistake with the address of its cell.

Row 1 holds the columns' codes with their names; a row an entry. Nothing is taken of a file with a mistake.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import date, datetime
from math import isfinite
from typing import Any

from openpyxl import Workbook, load_workbook
from openpyxl.styles import Alignment, Font, PatternFill
from openpyxl.utils import get_column_letter
from openpyxl.worksheet.datavalidation import DataValidation
from openpyxl.worksheet.properties import PageSetupProperties

from park.errors import CatalogueError, InputError, Mistake
from park.ledger import Language, kinds, listed, mistakes, sentence, table
from park.ledger_names import Enterprises, coded, known

SHEET = "entries"
MOST_ROWS = 5000
MOST_BYTES = 2 * 1024 * 1024
MOST_MISTAKES = 200
# unpacked: what rows need, and what the parts around them do; 2 MB can hold a thousand times as much
MOST_UNPACKED = {"xl/worksheets/": 16 * 1024 * 1024, "xl/sharedStrings.xml": 8 * 1024 * 1024, "": 512 * 1024}
WIDEST = 64     # columns that are looked at
LONGEST = 1000  # characters of a cell
LAST_ROW = 20_000
STATUSES = ("preliminary", "final")
COLUMNS: dict[str, tuple[str, str, int]] = {  # code: names, width
    "kind": ("类别", "kind of entry", 20),
    "enterprise": ("企业代码", "code of the enterprise", 22),
    "counterparty": ("对方企业", "the other enterprise", 22),
    "item": ("品目", "item or carrier", 16),
    "action": ("去向", "action of a manifest", 13),
    "first_day": ("起始日", "first day", 13),
    "last_day": ("截止日", "last day", 13),
    "value": ("数量", "amount", 13),
    "unit": ("单位", "unit of measure", 10),
    "status": ("状态", "preliminary or final", 13),
    "evidence": ("凭证", "where the evidence is", 26),
    "note": ("备注", "note", 26),
}
DAY = re.compile(r"(\d{4})(?:年|[-/.])(\d{1,2})(?:月|[-/.])(\d{1,2})日?|(\d{4})(\d{2})(\d{2})")
GROUPED = re.compile(r"[+-]?\d{1,3}(,\d{3})+(\.\d*)?")
REQUIRED = ("kind", "first_day", "last_day", "value", "unit")


@dataclass(frozen=True)
class FormEntry:
    """A row of the template."""

    row: int
    kind: str
    enterprise: str | None
    counterparty: str | None
    item: str
    action: str
    first_day: date
    last_day: date
    value: float
    unit: str
    status: str
    evidence: str
    note: str

    @property
    def key(self) -> tuple[Any, ...]:
        """What an entry is about: two of the same key would count twice."""
        return (self.kind, self.enterprise, self.counterparty, self.item, self.action, self.first_day, self.last_day)


def template(enterprises: Mapping[str, str]) -> bytes:
    """An empty template with choices; enterprises: code and name."""
    book = Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.title = SHEET
    for at, (code, (zh, en, width)) in enumerate(COLUMNS.items(), 1):
        cell = sheet.cell(1, at, f"{code}\n{zh} · {en}")
        cell.font = Font(bold=True, color="FFFFFF")
        cell.fill = PatternFill("solid", fgColor="2F5D62" if code in REQUIRED else "6B7F82")
        cell.alignment = Alignment(wrap_text=True, vertical="center")
        sheet.column_dimensions[get_column_letter(at)].width = width
    sheet.row_dimensions[1].height = 60
    sheet.freeze_panes = "A2"
    sheet.page_setup.orientation, sheet.page_setup.fitToWidth, sheet.page_setup.fitToHeight = "landscape", 1, 0
    sheet.sheet_properties.pageSetUpPr = PageSetupProperties(fitToPage=True)
    help_ = book.create_sheet("help")
    _write_help(help_, enterprises)
    lists = {"kind": "A", "enterprise": "G", "counterparty": "G", "action": "K", "status": "N"}
    lengths = {"A": len(kinds()), "G": max(len(enterprises), 1), "K": len(table()["actions"]), "N": len(STATUSES)}
    for code, column in lists.items():
        rule = DataValidation(
            "list", formula1=f"=help!${column}$3:${column}${lengths[column] + 2}", allow_blank=True, showErrorMessage=False
        )
        sheet.add_data_validation(rule)
        letter = get_column_letter(list(COLUMNS).index(code) + 1)
        rule.add(f"{letter}2:{letter}{MOST_ROWS}")
    for code in ("first_day", "last_day"):
        letter = get_column_letter(list(COLUMNS).index(code) + 1)
        for row in range(2, 202):
            sheet[f"{letter}{row}"].number_format = "yyyy-mm-dd"
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def _write_help(sheet: Any, enterprises: Mapping[str, str]) -> None:
    """Kinds with their units and actions (A to E), enterprises (G, H), actions (K, L), states (N)."""
    bold = Font(bold=True)
    for address, text in (
        ("A1", "类别 kinds"),
        ("G1", "企业 enterprises"),
        ("K1", "去向 actions"),
        ("N1", "状态 status"),
        ("A2", "kind"),
        ("B2", "名称 name"),
        ("C2", "单位 units"),
        ("D2", "去向 actions"),
        ("E2", "品目 item"),
        ("G2", "enterprise"),
        ("H2", "名称 name"),
        ("K2", "action"),
        ("L2", "名称 name"),
        ("N2", "status"),
    ):
        sheet[address] = text
        sheet[address].font = bold
    for row, k in enumerate(kinds().values(), 3):
        items = {"free": "", "required": "必填 required", "carrier": "能源品种 carrier: " + ", ".join(table()["carriers"])}[
            k.item
        ]
        for column, text in zip(
            "ABCDE",
            (k.code, f"{k.zh} · {k.en}", ", ".join(k.units) or "—", ", ".join(a for a in k.actions if a) or "—", items),
            strict=True,
        ):
            sheet[f"{column}{row}"] = text
    for row, (code, name) in enumerate(enterprises.items(), 3):
        sheet[f"G{row}"], sheet[f"H{row}"] = code, name
        sheet[f"G{row}"].data_type = sheet[f"H{row}"].data_type = "s"   # a name that begins with = is no formula
    for row, (code, names) in enumerate(table()["actions"].items(), 3):
        sheet[f"K{row}"], sheet[f"L{row}"] = code, f"{names['zh']} · {names['en']}"
    for row, status in enumerate(STATUSES, 3):
        sheet[f"N{row}"] = status
    for column, width in (
        ("A", 20),
        ("B", 34),
        ("C", 32),
        ("D", 60),
        ("E", 44),
        ("G", 14),
        ("H", 30),
        ("K", 13),
        ("L", 26),
        ("N", 13),
    ):
        sheet.column_dimensions[column].width = width


def _sheet(data: bytes, name: str, lang: Language) -> Any:
    """The sheet of entries of a file; InputError for a file without one."""
    if len(data) > MOST_BYTES:
        raise InputError(sentence("file_size", lang, name=name, most=MOST_BYTES // 1024 // 1024, got=len(data) / 1024 / 1024))
    try:
        _bounded(data, lang)
        # row by row: a cell in the last row of a sheet must not make a million rows in memory
        book = load_workbook(io.BytesIO(data), read_only=True, data_only=True)
    except Exception as exc:  # openpyxl raises whatever the zip or the XML raise
        why = sentence("not_zip", lang) if isinstance(exc, zipfile.BadZipFile) else exc
        raise InputError(sentence("no_xlsx", lang, name=name, why=why)) from exc
    if SHEET not in book.sheetnames:
        raise InputError(sentence("no_sheet", lang, name=name, sheet=SHEET, got=", ".join(book.sheetnames)))
    sheet = book[SHEET]
    if not hasattr(sheet, "iter_rows"):
        raise InputError(sentence("no_sheet", lang, name=name, sheet=SHEET, got="chart"))
    sheet.reset_dimensions()    # what a writer says of the size may be wrong
    return sheet


def _bounded(data: bytes, lang: Language) -> None:
    """ValueError for a file that would unpack into more than a filled template does."""
    left = dict(MOST_UNPACKED)
    for part in zipfile.ZipFile(io.BytesIO(data)).infolist():
        kind = next(prefix for prefix in left if part.filename.startswith(prefix))
        left[kind] -= part.file_size
        if left[kind] < 0 and (kind or part.filename.endswith((".xml", ".rels"))):
            raise ValueError(sentence("too_large", lang, part=part.filename))


def _rows(sheet: Any) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """(row, values) of every row that has one, and of the one after LAST_ROW where a sheet goes on there."""
    for row, values in enumerate(sheet.iter_rows(max_col=WIDEST, values_only=True), 1):
        short = tuple(v[:LONGEST] if isinstance(v, str) else v for v in values)
        if row > LAST_ROW or any(v is not None and str(v).strip() for v in short):
            yield row, short
        if row > LAST_ROW:
            return


def read_entries(
    data: bytes, name: str, enterprises: Enterprises, there: Mapping[tuple[Any, ...], int], lang: Language = "en"
) -> list[FormEntry]:
    """The entries of a filled template; CatalogueError with every mistake, each at its cell. `enterprises`: names by code;
    `there`: keys of current entries. Kinds, enterprises, carriers, actions and states may be given by name, too."""
    sheet = _sheet(data, name, lang)
    rows = _rows(sheet)
    try:
        return _read(rows, name, enterprises, there, lang)
    except (CatalogueError, InputError):
        raise
    except Exception as exc:  # the sheet is unpacked while it is read
        raise InputError(sentence("no_xlsx", lang, name=name, why=exc)) from exc


def _read(
    rows: Iterator[tuple[int, tuple[Any, ...]]],
    name: str,
    enterprises: Enterprises,
    there: Mapping[tuple[Any, ...], int],
    lang: Language,
) -> list[FormEntry]:
    first, head = next(rows, (1, ()))
    heads = {at: str(text or "").split() for at, text in enumerate(head, 1)} if first == 1 else {}
    columns = {words[0]: at for at, words in heads.items() if words}
    missing = [code for code in REQUIRED if code not in columns]
    if missing:
        raise CatalogueError([Mistake(name, 1, SHEET, sentence("no_column", lang, missing=", ".join(missing)))])
    found: list[FormEntry] = []
    wrong: list[Mistake] = []
    seen: dict[tuple[Any, ...], int] = {}
    for row, values in rows:
        cells = {code: values[at - 1] for code, at in columns.items() if code in COLUMNS and at <= len(values)}
        if row <= LAST_ROW and all(v is None or str(v).strip() == "" for v in cells.values()):
            continue

        def say(field: str, text: str, row: int = row) -> None:
            wrong.append(Mistake(name, None, f"{SHEET}!{get_column_letter(columns.get(field, 1))}{row}", text))

        if len(found) >= MOST_ROWS or row > LAST_ROW:
            say("kind", sentence("many_rows", lang, most=MOST_ROWS))
            break
        if len(wrong) >= MOST_MISTAKES:
            say("kind", sentence("many_mistakes", lang, most=MOST_MISTAKES))
            break
        entry = _entry(row, cells, enterprises, say, lang)
        if entry is None:
            continue
        if entry.key in seen:
            say("kind", sentence("twice", lang, row=seen[entry.key]))
        elif entry.key in there:
            say("kind", sentence("there", lang, entry=there[entry.key]))
        seen[entry.key] = row
        found.append(entry)
    if wrong or not found:
        raise CatalogueError(wrong or [Mistake(name, 2, SHEET, sentence("no_entries", lang))])
    return found


def _entry(
    row: int, cells: Mapping[str, Any], enterprises: Enterprises, say: Callable[[str, str], None], lang: Language
) -> FormEntry | None:
    before: list[str] = []

    def wrong(field: str, text: str) -> None:
        before.append(field)
        say(field, text)

    texts = coded({c: str(cells.get(c) if cells.get(c) is not None else "").strip() for c in COLUMNS}, enterprises)
    days = {c: _day(cells.get(c)) for c in ("first_day", "last_day")}
    value = _number(cells.get("value"))
    for field, text in _cells(texts, days, value, enterprises, lang):
        wrong(field, text)
    first, last = days["first_day"], days["last_day"]
    for field, text in mistakes(
        texts["kind"],
        item=texts["item"],
        action=texts["action"],
        value=value or 0.0,
        unit=texts["unit"],
        first_day=first,
        last_day=last,
        enterprise=texts["enterprise"] or None,
        counterparty=texts["counterparty"] or None,
        lang=lang,
    ):
        if field not in before:
            wrong(field, text)
    if before or first is None or last is None or value is None:
        return None
    return FormEntry(
        row,
        texts["kind"],
        texts["enterprise"] or None,
        texts["counterparty"] or None,
        texts["item"],
        texts["action"],
        first,
        last,
        value,
        texts["unit"],
        texts["status"] or "preliminary",
        texts["evidence"],
        texts["note"],
    )


def _cells(
    texts: Mapping[str, str], days: Mapping[str, date | None], value: float | None, enterprises: Enterprises, lang: Language
) -> Iterator[tuple[str, str]]:
    """(column, what is wrong) of cells by themselves."""
    nothing = sentence("nothing", lang)
    for field, day in days.items():
        if day is None:
            yield field, sentence("day", lang, got=texts[field] or nothing)
    if value is None:
        yield "value", sentence("number" if texts["value"] else "no_number", lang, got=texts["value"])
    if texts["kind"] not in kinds():
        yield "kind", sentence("kind", lang, allowed=listed(kinds(), lang), got=texts["kind"] or nothing)
    if not texts["unit"]:
        yield "unit", sentence("no_unit", lang)
    for field in ("enterprise", "counterparty"):
        if texts[field] and texts[field] not in enterprises:
            yield field, sentence("enterprise", lang, got=texts[field], known=known(enterprises, lang == "zh"))
    if texts["status"] and texts["status"] not in STATUSES:
        yield "status", sentence("status", lang, got=texts["status"])
    for field in ("item", "evidence", "note"):
        if len(texts[field]) > 500:
            yield field, sentence("long_text", lang, n=len(texts[field]))


def _day(value: Any) -> date | None:
    if isinstance(value, datetime):
        return value.date()
    if isinstance(value, date):
        return value
    found = DAY.fullmatch(str(value).strip())
    try:
        return date(*(int(part) for part in found.groups() if part)) if found else None
    except ValueError:
        return None


def _number(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    try:
        text = str(value).strip().replace("，", ",")
        number = float(text.replace(",", "") if GROUPED.fullmatch(text) else text)
    except (TypeError, ValueError):
        return None
    return number if isfinite(number) else None


def as_row(entry: FormEntry) -> dict[str, Any]:
    """The entry as columns of the ledger, without its row in the file."""
    return {f.name: getattr(entry, f.name) for f in fields(entry) if f.name != "row"}
