"""The page of manual entries in a real browser: book with a document, correct, settle, import a sheet with a mistake and
without."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from openpyxl import load_workbook
from playwright.sync_api import Browser, Page, expect

from park.ledger_forms import COLUMNS
from tests.api.conftest import Service
from tests.api.console.conftest import keep

pytestmark = pytest.mark.browser


@pytest.fixture
def template(mini_template: str) -> str:
    """A base without entries of its own."""
    return mini_template


@pytest.fixture
def page(service: Service, browser: Browser) -> Iterator[Page]:
    """The page of manual entries as an operator; afterwards it may have reported no error."""
    context = browser.new_context(viewport={"width": 1440, "height": 900}, locale="zh-CN", accept_downloads=True)
    opened = context.new_page()
    wrong: list[str] = []
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on("console", lambda said: wrong.append(said.text) if said.type == "error" and "422" not in said.text else None)
    opened.goto(f"{service.url}/ledger.html#token={service.token('operator', 'mini')}")
    yield opened
    context.close()
    assert wrong == []


def test_a_person_books_corrects_and_imports(page: Page, service: Service, tmp_path: Path) -> None:
    form, lists = page.locator("#form"), page.locator("#lists")
    expect(lists.locator("tbody tr")).to_have_count(1)  # the value added of the catalogue
    form.locator("[name=kind]").select_option("solid_waste")
    form.locator("[name=enterprise]").select_option("e1")
    form.locator("[name=item]").fill("炉渣")
    form.locator("[name=action]").select_option("generated")
    form.locator("[name=first_day]").fill("2026-10-01")
    form.locator("[name=last_day]").fill("2026-10-31")
    form.locator("[name=value]").fill("128.5")
    form.locator("[name=unit]").select_option("t")
    form.locator("input[type=file]").set_input_files(
        {"name": "联单.pdf", "mimeType": "application/pdf", "buffer": b"%PDF-1.7 x"}
    )
    expect(form.locator(".documents li")).to_have_count(1)
    form.locator("button.primary").click()
    expect(lists.locator("tbody tr")).to_have_count(2)
    row = lists.locator("tbody tr").first
    expect(row).to_contain_text("炉渣")
    expect(row).to_contain_text("联单.pdf")
    row.get_by_role("button", name="更正").click()
    expect(form.locator(".correcting")).to_be_visible()
    form.locator("[name=value]").fill("-5")
    form.locator("[name=reason]").fill("磅单录入错误")
    form.locator("button.primary").click()
    expect(form.locator(".error")).to_contain_text("应为 0 或更大")
    form.locator("[name=value]").fill("125.8")
    keep(page, tmp_path, "ledger-correcting")
    form.locator("button.primary").click()
    expect(lists.locator("tbody tr").first).to_contain_text("125.8")
    lists.get_by_role("button", name="设为确定").first.click()
    page.locator("#dialog input[name=reason]").fill("核对无误")
    page.locator("#dialog input[type=file]").set_input_files({"name": "复核.pdf", "mimeType": "", "buffer": b"%PDF-1.7 y"})
    page.locator("#dialog").get_by_role("button", name="确定").click()
    expect(lists.locator("tbody tr").first.locator(".status")).to_have_text("确定")
    expect(lists.locator("tbody tr").first.locator("td a")).to_have_text(["联单.pdf", "复核.pdf"])
    lists.get_by_role("button", name="变更记录").click()
    expect(lists.locator("tbody tr").nth(1)).to_contain_text("磅单录入错误")
    keep(page, tmp_path, "ledger-audit")
    entries = service.conn.execute(
        "SELECT value, status, supersedes IS NOT NULL, reason FROM ledger WHERE kind = 'solid_waste' ORDER BY entry_id"
    )
    assert entries.fetchall() == [
        (128.5, "preliminary", False, ""),
        (125.8, "preliminary", True, "磅单录入错误"),
        (125.8, "final", True, "核对无误"),
    ]


def test_a_sheet_is_checked_and_booked(page: Page, service: Service, tmp_path: Path) -> None:
    sheet = page.locator("#sheet")
    with page.expect_download() as told:
        sheet.get_by_role("button", name="下载模板").click()
    book = load_workbook(io.BytesIO(Path(told.value.path()).read_bytes()))
    row: dict[str, str | int] = {
        "kind": "output_value",
        "enterprise": "e2",
        "first_day": "2026-07-01",
        "last_day": "2026-09-30",
        "value": 2068,
        "unit": "美元",
    }
    for code, value in row.items():
        book["entries"].cell(2, list(COLUMNS).index(code) + 1, value)
    file = tmp_path / "filled.xlsx"
    book.save(file)
    sheet.locator("input[type=file]").set_input_files(file)
    sheet.get_by_role("button", name="检查").click()
    expect(sheet.locator(".mistakes li")).to_have_text("entries!I2: 单位应为 万元, 元, CNY, 亿元, 10k CNY；实为 '美元'")
    keep(page, tmp_path, "ledger-mistakes")
    book["entries"].cell(2, list(COLUMNS).index("unit") + 1, "万元")
    book.save(file)
    sheet.get_by_role("button", name="检查").click()       # the file that was chosen is no longer the one on the disk
    expect(sheet.get_by_role("status")).to_contain_text("请重新选择")
    sheet.locator("input[type=file]").set_input_files(file)
    sheet.get_by_role("button", name="登记全部").click()
    expect(sheet.get_by_role("status")).to_have_text("已登记 1 条")
    assert service.conn.execute("SELECT value FROM ledger WHERE kind = 'output_value'").fetchall() == [(2068,)]
    page.locator("#language").click()
    expect(page.locator("#title")).to_have_text("Ledger")
    page.set_viewport_size({"width": 390, "height": 800})
    keep(page, tmp_path, "narrow-en")
