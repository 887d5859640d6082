"""Entries by form, xlsx and API: mistakes with their cells, corrections with their why, documents with their hash, the
audit."""

from __future__ import annotations

import hashlib
import io
import re
import tracemalloc
import zipfile
from datetime import date, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from openpyxl import Workbook, load_workbook

import park.ledger
from accounting import ledger_book
from park.errors import CatalogueError, InputError
from park.ledger_forms import COLUMNS, MOST_BYTES, read_entries, template
from park.settings import Settings
from tests.api.conftest import Connection, Service

WASTE = {
    "base": "mini",
    "kind": "solid_waste",
    "enterprise": "e1",
    "item": "slag",
    "action": "generated",
    "first_day": "2026-01-01",
    "last_day": "2026-01-31",
    "value": 100,
    "unit": "t",
}
ROW = {
    "kind": "solid_waste",
    "enterprise": "e1",
    "item": "slag",
    "action": "generated",
    "first_day": date(2026, 1, 1),
    "last_day": date(2026, 1, 31),
    "value": 12.5,
    "unit": "t",
    "status": "final",
    "evidence": "LD-1",
    "note": "",
}
PDF = b"%PDF-1.7\nnothing\n%%EOF\n"


def filled(blank: bytes, *rows: dict[str, Any]) -> bytes:
    book = load_workbook(io.BytesIO(blank))
    sheet = book["entries"]
    for at, row in enumerate(rows, 2):
        for code, value in row.items():
            sheet.cell(at, list(COLUMNS).index(code) + 1, value)
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


@pytest.fixture
def blank(operator: httpx.Client) -> bytes:
    answer = operator.get("/ledger/template.xlsx?base=mini")
    assert answer.headers["content-disposition"] == 'attachment; filename="ledger-mini.xlsx"'
    return answer.content


def test_a_filled_template_is_booked_whole(operator: httpx.Client, blank: bytes) -> None:
    body = filled(
        blank, ROW, ROW | {"first_day": "2026-02-01", "last_day": datetime(2026, 2, 28), "value": "1,200", "status": None}
    )
    looked = operator.post("/ledger/import?base=mini&check=true", content=body)
    assert (looked.status_code, looked.json()["rows"], looked.json()["booked"]) == (200, 2, [])
    assert operator.get("/ledger?kind=solid_waste").json()["entries"] == []
    answer = operator.post("/ledger/import?base=mini", content=body)
    assert answer.status_code == 201 and len(answer.json()["booked"]) == 2
    entries = operator.get("/ledger?kind=solid_waste").json()["entries"]
    assert [(e["value"], e["status"], e["evidence"], e["recorded_by"]) for e in entries] == [
        (1200.0, "preliminary", "LD-1", "operator of the test"),
        (12.5, "final", "LD-1", "operator of the test"),
    ]
    again = operator.post("/ledger/import?base=mini&lang=en", content=body)
    assert again.status_code == 422 and "entries!A2: the ledger has this as entry" in again.json()["detail"]


MISTAKES: list[tuple[dict[str, Any], str, str]] = [
    ({"kind": "slag"}, "A2", "expected one of value_added"),
    ({"enterprise": "e9"}, "B2", "there is no enterprise 'e9'; known: e1, e2"),
    ({"item": None}, "D2", "needs an item"),
    ({"action": "burnt"}, "E2", "expected as action of solid_waste"),
    ({"first_day": "soon"}, "F2", "expected a day such as 2026-03-31, got soon"),
    ({"last_day": None}, "G2", "got nothing"),
    ({"last_day": "2025-12-31"}, "G2", "on or after first_day"),
    ({"value": "much"}, "H2", "expected a number, got much"),
    ({"value": "12,5"}, "H2", "only between thousands"),
    ({"value": -1}, "H2", "expected 0 or more"),
    ({"unit": "m3"}, "I2", "expected as unit t, kg"),
    ({"status": "done"}, "J2", "preliminary or final"),
    ({"note": "x" * 501}, "L2", "at most 500"),
]


def test_each_mistake_has_the_address_of_its_cell(operator: httpx.Client, blank: bytes, mini: Connection) -> None:
    good = ROW | {"first_day": "2026-03-01", "last_day": "2026-03-31"}
    for change, cell, said in MISTAKES:
        answer = operator.post("/ledger/import?base=mini&lang=en", content=filled(blank, ROW | change, good))
        assert answer.status_code == 422, change
        assert f"entries!{cell}: " in answer.json()["detail"] and said in answer.json()["detail"], change
    assert mini.execute("SELECT count(*) FROM ledger WHERE kind = 'solid_waste'").fetchone() == (0,)


def test_a_clerk_writes_names_and_days_as_people_do(operator: httpx.Client, blank: bytes) -> None:
    said = {"kind": "能源账单", "enterprise": "永固轧钢", "item": "柴油", "action": None, "first_day": "2026年3月1日",
            "last_day": "2026/3/31", "value": "1，234.5", "unit": "吨", "status": "确定"}
    assert operator.post("/ledger/import?base=mini", content=filled(blank, ROW | said)).status_code == 201
    entry = operator.get("/ledger?kind=energy_bill").json()["entries"][0]
    assert {k: entry[k] for k in said} == {
        "kind": "energy_bill", "enterprise": "e1", "item": "diesel", "action": "", "first_day": "2026-03-01",
        "last_day": "2026-03-31", "value": 1234.5, "unit": "t", "status": "final"}


def test_files_that_are_no_template(blank: bytes) -> None:
    other = Workbook()
    out = io.BytesIO()
    other.save(out)
    for data, said in (
        (b"x" * 10, "not an xlsx"),
        (out.getvalue(), "expected a sheet 'entries'"),
        (blank, "no entries"),
        (b"x" * (MOST_BYTES + 1), "at most 2 MB"),
    ):
        with pytest.raises(InputError, match=said):
            read_entries(data, "f", {"e1": ("一厂", "Works 1")}, {})
    with pytest.raises(CatalogueError, match="entries!A3: the same entry stands in row 2"):
        read_entries(filled(blank, ROW, ROW), "f", {"e1": ("一厂", "Works 1")}, {})


def bombed(blank: bytes, part: str, old: bytes, new: bytes) -> bytes:
    """The template with one of its parts changed, packed as small as can be."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(blank)) as form, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as bomb:
        for name in form.namelist():
            content = form.read(name)
            assert name != part or old in content
            bomb.writestr(name, content.replace(old, new, 1) if name == part else content)
    return out.getvalue()


def test_a_small_file_that_unpacks_into_a_large_one_is_refused_before_it_does(blank: bytes) -> None:
    """Peak of memory, by what Python allocates: a cell in the last row of a sheet took 2.9 GB."""
    sheet, end = "xl/worksheets/sheet1.xml", b"</sheetData>"
    text = b'<row r="3"><c r="A3" t="inlineStr"><is><t>%s</t></is></c></row>'
    row = b'<row r="%d"><c r="A%d"><v>1</v></c></row>'
    bombs = [
        (bombed(blank, sheet, end, row % (1048576, 1048576) + end), "entries!A20001: expected at most 5000 entries"),
        (bombed(blank, sheet, end, text % (b"a" * 20_000_000) + end), "sheet1.xml is larger"),
        (bombed(blank, "xl/styles.xml", b"<cellXfs", b"<!--" + b" " * 600_000 + b"--><cellXfs"), "styles.xml is larger"),
        (bombed(blank, sheet, end, b"".join(row % (r, r) for r in range(300, 900)) + end), "200 mistakes"),
    ]
    tracemalloc.start()
    try:
        for data, said in bombs:
            with pytest.raises(InputError) as refused:
                read_entries(data, "f", {"e1": ("一厂", "Works 1")}, {})
            assert said in str(refused.value)
        assert tracemalloc.get_traced_memory()[1] < 30_000_000
    finally:
        tracemalloc.stop()


def test_a_name_in_the_template_is_no_formula() -> None:
    book = load_workbook(io.BytesIO(template({"e1": '=HYPERLINK("http://x")'})))
    assert (book["help"]["H3"].data_type, book["help"]["H3"].value) == ("s", '=HYPERLINK("http://x")')


def test_the_command_line_books_the_same_template(
    service: Service, database_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "ledger.xlsx"
    ledger_book.write_template(database_url, "mini", file)
    file.write_bytes(filled(file.read_bytes(), ROW))
    assert len(ledger_book.import_file(database_url, "mini", file, "王工", check=True)) == 1
    assert len(ledger_book.import_file(database_url, "mini", file, "王工")) == 1
    with pytest.raises(CatalogueError, match="entries!A2: the ledger has this"):
        ledger_book.import_file(database_url, "mini", file, "王工")
    with pytest.raises(InputError, match="--by"):
        ledger_book.import_file(database_url, "mini", file, " ")
    ledger_book.print_audit(database_url, "mini")
    assert "王工" in capsys.readouterr().out


def test_a_correction_says_why_and_the_audit_tells_every_step(operator: httpx.Client) -> None:
    first = operator.post("/ledger", json=WASTE).json()["id"]
    refused = operator.post("/ledger?lang=en", json=WASTE | {"value": 90, "supersedes": first})
    assert refused.status_code == 422 and "a correction says why" in refused.text
    second = operator.post(
        "/ledger", json=WASTE | {"value": 90, "supersedes": first, "reason": "weighbridge was read wrong"}
    ).json()["id"]
    operator.post("/ledger", json=WASTE | {"value": 90, "status": "final", "supersedes": second, "reason": "checked"})
    steps = operator.get("/ledger/audit?base=mini&limit=3").json()["steps"]
    assert [(s["step"], s["by"], s["reason"], s["changes"]) for s in steps] == [
        ("finalised", "operator of the test", "checked", {"status": ["preliminary", "final"]}),
        ("corrected", "operator of the test", "weighbridge was read wrong", {"value": [100, 90]}),
        ("booked", "operator of the test", "", {}),
    ]
    page = operator.get("/ledger/audit?base=mini&limit=1").json()
    assert operator.get(f"/ledger/audit?base=mini&limit=1&cursor={page['next']}").json()["steps"][0]["step"] == "corrected"
    assert [e["value"] for e in operator.get("/ledger?kind=solid_waste").json()["entries"]] == [90]


def test_a_document_is_kept_with_its_hash_and_follows_a_correction(operator: httpx.Client) -> None:
    kept = operator.post("/evidence?base=mini&name=联单-1.pdf", content=PDF)
    assert kept.status_code == 201
    document = kept.json()
    assert (document["sha256"], document["size"], document["media_type"]) == (
        hashlib.sha256(PDF).hexdigest(),
        len(PDF),
        "application/pdf",
    )
    assert operator.post("/evidence?base=mini&name=copy.pdf", content=PDF).json()["id"] == document["id"]
    entry = operator.post("/ledger", json=WASTE | {"documents": [document["id"]]}).json()
    assert [(d["name"], d["sha256"]) for d in entry["documents"]] == [("联单-1.pdf", document["sha256"])]
    corrected = operator.post("/ledger", json=WASTE | {"value": 9, "supersedes": entry["id"], "reason": "typing"}).json()
    assert [d["id"] for d in corrected["documents"]] == [document["id"]]
    got = operator.get(f"/evidence/{document['id']}?base=mini")
    assert got.content == PDF and got.headers["content-disposition"].startswith("attachment; filename*=UTF-8''%E8%81%94")
    assert got.headers["content-security-policy"] == "sandbox" and got.headers["etag"] == f'"{document["sha256"]}"'
    assert operator.post("/ledger", json=WASTE | {"documents": [999]}).status_code == 422
    assert operator.get("/evidence/999?base=mini").status_code == 404


def test_only_documents_of_the_listed_types_and_size_are_taken(operator: httpx.Client, blank: bytes, mini: Connection) -> None:
    assert operator.post("/evidence?base=mini&name=t.xlsx", content=blank).status_code == 201
    for name, content, said in (
        ("a.exe", b"MZ", "type pdf"),
        ("a.pdf", b"<html>", "is not pdf"),
        ("a.docx", blank, "is not docx"),
        ("a.png", PDF, "is not png"),
        ("a.csv", b"\xff\xfe\x00", "is not csv"),
        ("a.pdf", b"", "got nothing"),
        ("%E2%80%AEfdp.csv", b"a,b", "plain file name"),
        ("..%2Fa.csv", b"a,b", "plain file name"),
    ):
        answer = operator.post(f"/evidence?base=mini&name={name}&lang=en", content=content)
        assert answer.status_code == 422 and said in answer.json()["detail"], (name, answer.text)
    big = PDF + b"0" * (10 * 1024 * 1024)
    assert operator.post("/evidence?base=mini&name=a.pdf", content=big).status_code == 413
    assert operator.post("/ledger", content=b" " * 300_000, headers={"Content-Type": "application/json"}).status_code == 413
    assert mini.execute("SELECT count(*) FROM evidence").fetchone() == (1,)


def test_an_enterprise_keeps_books_and_documents_of_its_own(service: Service, mini: Connection, blank: bytes) -> None:
    with service.client("enterprise", enterprise="e1") as one, service.client("enterprise", enterprise="e2") as two:
        mine = one.post("/evidence?base=mini&name=a.pdf", content=PDF).json()["id"]
        assert one.post("/ledger", json=WASTE | {"documents": [mine]}).status_code == 201
        assert two.get(f"/evidence/{mine}?base=mini").status_code == 404
        assert two.post("/ledger", json=WASTE | {"enterprise": "e2", "documents": [mine]}).status_code == 422
        theirs = two.post("/evidence?base=mini&name=a.pdf", content=PDF).json()["id"]
        assert theirs != mine
        assert two.post("/ledger/import?base=mini", content=filled(blank, ROW)).status_code == 422  # does not see e1
        assert two.post("/ledger/import?base=mini", content=filled(blank, ROW | {"enterprise": "e2"})).status_code == 201
        assert [s["enterprise"] for s in two.get("/ledger/audit?base=mini").json()["steps"]] == ["e2"]
    with service.client("auditor") as auditor:
        assert auditor.post("/evidence?base=mini&name=a.pdf", content=PDF).status_code == 403
        assert len(auditor.get("/ledger/audit?base=mini").json()["steps"]) == 3


def test_a_document_cannot_be_changed_in_place(mini: Connection, operator: httpx.Client) -> None:
    import psycopg

    operator.post("/evidence?base=mini&name=a.pdf", content=PDF)
    with pytest.raises(psycopg.errors.CheckViolation):
        mini.execute("UPDATE evidence SET content = 'x'")


def test_resources_over_http(operator: httpx.Client) -> None:
    for change in ({}, {"action": "moved", "value": 30, "counterparty": "e2"}, {"action": "disposed", "value": 80}):
        assert operator.post("/ledger", json=WASTE | change).status_code == 201
    operator.post("/ledger", json=WASTE | {"kind": "land", "item": "industrial", "action": "", "value": 30, "unit": "亩"})
    operator.post("/ledger", json=WASTE | {"kind": "waste_heat", "item": "", "action": "used", "value": 31, "unit": "GJ"})
    body = operator.get("/resources?base=mini&period=2026-01").json()
    stores = {w["enterprise"]: w for w in body["waste"]}
    assert (stores["e1"]["closing"], stores["e1"]["negative_days"], stores["e2"]["closing"]) == (-10, ["2026-01-31"], 30)
    assert {p["enterprise"]: p["amount"] for p in body["postings"]} == {"e1": -30, "e2": 30}
    assert body["land"][0]["ha"] == pytest.approx(2) and body["waste_heat"][0]["gj"] == 31
    kinds = {k["code"]: k for k in operator.get("/ledger/kinds").json()["kinds"]}
    assert kinds["hazardous_waste"]["units"] == ["t", "kg"]


def test_mistakes_of_cells_entries_and_documents_come_in_the_language_of_the_request(
    operator: httpx.Client, blank: bytes, database_url: str, tmp_path: Path
) -> None:
    body = filled(blank, ROW | {"kind": "slag", "enterprise": "e9", "unit": None, "first_day": "soon", "value": None})
    chinese = operator.post("/ledger/import?base=mini", content=body, headers={"Accept-Language": "zh-CN,zh;q=0.9"})
    english = operator.post("/ledger/import?base=mini&lang=en", content=body)
    cells = [re.findall(r"entries!([A-Z]2):", a.json()["detail"]) for a in (chinese, english)]
    assert cells[0] == cells[1] == ["F2", "H2", "A2", "I2", "B2"]
    assert "F2: 应为日期，如 2026-03-31，实为 soon" in chinese.json()["detail"]
    assert not re.search("expected|there is no|got", chinese.json()["detail"])
    assert not re.search(r"[\u4e00-\u9fff]", english.json()["detail"])
    file = tmp_path / "wrong.xlsx"
    file.write_bytes(body)
    with pytest.raises(CatalogueError, match="entries!H2: 应填数字，实为空"):
        ledger_book.import_file(database_url, "mini", file, "王工", lang="zh")

    wrong = WASTE | {"action": "burnt", "unit": "m3", "value": -1, "last_day": "2025-12-31", "supersedes": 5}
    told = {lang: operator.post(f"/ledger?lang={lang}", json=wrong).json() for lang in ("zh", "en")}
    where = [[e["where"] for e in told[lang]["errors"]] for lang in ("zh", "en")]
    assert where[0] == where[1] == [f"body.{f}" for f in ("last_day", "action", "unit", "value", "reason")]
    assert told["zh"]["errors"][2]["message"].startswith("单位应为 t, kg") and "更正须说明原因" in told["zh"]["detail"]
    assert "a correction says why" in told["en"]["detail"]
    lacking = {k: v for k, v in WASTE.items() if k != "value"} | {"first_day": "soon"}
    (day, value) = operator.post("/ledger?lang=zh", json=lacking).json()["errors"]
    assert (day, value) == ({"where": "body.first_day", "message": "应为日期，如 2026-03-31"},
                            {"where": "body.value", "message": "缺少此项"})
    refused = operator.post("/ledger?lang=zh", json=WASTE | {"enterprise": "e9"})
    assert refused.status_code == 422 and "没有此令牌可见的企业" in refused.json()["detail"]
    assert "的内容不是 pdf" in operator.post("/evidence?base=mini&name=a.pdf&lang=zh", content=b"GIF89a").json()["detail"]


def test_every_sentence_of_mistakes_has_both_languages_and_the_same_blanks() -> None:
    table = yaml.safe_load((Path(park.ledger.__file__).parent / "tables" / "ledger_mistakes.yaml").read_text(encoding="utf-8"))
    for code, words in table.items():
        blanks = [sorted({re.sub("[!:].*", "", b) for b in re.findall(r"\{(.*?)\}", words[lang])}) for lang in ("zh", "en")]
        assert set(words) == {"zh", "en"} and blanks[0] == blanks[1], code


def test_the_documents_of_a_base_have_a_bound_together(service: Service, mini: Connection) -> None:
    app: Any = service.server.config.app
    app.state.settings = Settings(evidence_mb=1)
    half = PDF + b"x" * 600_000
    with service.client("operator") as client:
        assert client.post("/evidence?base=mini&name=a.pdf", content=half).status_code == 201
        full = client.post("/evidence?base=mini&name=b.pdf&lang=en", content=half + b"y")
        assert full.status_code == 413 and "PARK_EVIDENCE_MB" in full.json()["detail"]
        assert client.post("/evidence?base=mini&name=c.pdf", content=half).status_code == 201  # what is there already
        assert client.post("/evidence?base=mini&name=d.pdf", content=PDF).status_code == 201
    with service.client("enterprise", enterprise="e1") as client:  # counts with what it may not see
        assert client.post("/evidence?base=mini&name=e.pdf", content=half).status_code == 413
    assert mini.execute("SELECT count(*) FROM evidence").fetchone() == (2,)
