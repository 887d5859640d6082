"""Reports over HTTP: documents from the real command, sealing, versions, differences."""

from __future__ import annotations

import zipfile
from io import BytesIO

import httpx
from psycopg.types.json import Jsonb

from api.reports import _refusal
from park.errors import Conflict
from tests.api.conftest import Connection, Service, account_total


def cell(id: str, value: float | None, **more: object) -> dict[str, object]:
    return {"type": "cell", "id": id, "value": value, "unit": "tce", "coverage": 1.0, "factors": []} | more


def test_a_restatement_without_a_reason_is_told_by_the_field_of_the_api() -> None:
    refused = _refusal("park: version 1 is sealed and 2 figures differ: a restatement needs --reason", True)
    assert isinstance(refused, Conflict) and str(refused).endswith("a restatement needs a `reason`")


def store_version(conn: Connection, version: int, cells: list[dict[str, object]], reason: str = "") -> None:
    data = {"sections": [{"id": "energy", "blocks": [{"type": "table", "id": "t", "rows": [cells]}]},
                         {"id": "versions", "blocks": [{"type": "table", "rows": [[cell(f"n{version}", version)]]}]}]}
    conn.execute("INSERT INTO report (base_id, kind, year, version, data, hash, as_of, sealed_by, reason) "
                 "SELECT base_id, 'annual', 2025, %s, %s, %s, now(), 'Li', %s FROM base WHERE code = 'mini'",
                 (version, Jsonb(data), f"hash{version}", reason))


def test_versions_and_what_changed_between_two(service: Service, operator: httpx.Client) -> None:
    store_version(service.conn, 1, [cell("a", 1.0), cell("b", 2.0), cell("gone", 3.0)])
    store_version(service.conn, 2, [cell("a", 1.0), cell("b", 2.5, factors=[7]), cell("new", None)], "late data of March")
    versions = operator.get("/reports/mini/annual/2025/versions").json()["versions"]
    assert [(v["version"], v["hash"], v["sealed_by"]) for v in versions] == [(2, "hash2", "Li"), (1, "hash1", "Li")]
    diff = operator.get("/reports/mini/annual/2025/diff?a=1&b=2").json()
    assert [(c["id"], c["a"] and c["a"]["value"], c["b"] and c["b"]["value"]) for c in diff["changes"]] == [
        ("b", 2.0, 2.5), ("new", None, None), ("gone", 3.0, None)]
    assert diff["reason"] == "late data of March" and diff["b"]["version"] == 2
    assert operator.get("/reports/mini/annual/2025/diff?a=1&b=1").json()["changes"] == []
    assert operator.get("/reports/mini/annual/2025/diff?a=1&b=9").status_code == 404
    assert operator.get("/reports/mini/annual/2025?version=1").headers["etag"] == '"hash1"'
    assert operator.get("/reports/mini/annual/2025?version=3").status_code == 404


def test_a_report_that_cannot_be_is_not_found(operator: httpx.Client) -> None:
    for path in ("/reports/mini/annual/25", "/reports/mini/annual/2025.exe", "/reports/mini/annual/2025.docx.html",
                 "/reports/nowhere/annual/2025"):
        answer = operator.get(path)
        assert answer.status_code == 404 and answer.headers["content-type"] == "application/problem+json"


def test_a_report_is_made_sealed_and_refused_when_nothing_changed(service: Service, operator: httpx.Client) -> None:
    for day in range(1, 29):
        account_total(service.conn, "mini", f"2025-03-{day:02d}", "electricity", 1000.0, tce=0.1229, co2=536.0, cost=650.0)
    data = operator.get("/reports/mini/annual/2025")
    assert data.status_code == 200, data.text
    assert data.headers["content-type"] == "application/json" and data.json()
    docx = operator.get("/reports/mini/annual/2025.docx?lang=en")
    assert docx.status_code == 200, docx.text
    assert "word/document.xml" in zipfile.ZipFile(BytesIO(docx.content)).namelist()
    assert 'filename="mini-annual-2025-en.docx"' in docx.headers["content-disposition"]
    page = operator.get("/reports/mini/annual/2025.html")
    assert page.status_code == 200 and "default-src 'none'" in page.headers["content-security-policy"]
    assert operator.get("/reports/mini/annual/2025.html").content == page.content

    sealed = operator.post("/reports/mini/annual/2025/seal")
    assert sealed.status_code == 201, sealed.text
    assert (sealed.json()["version"], sealed.json()["sealed_by"]) == (1, "operator of the test")
    assert len(sealed.json()["hash"]) == 64
    again = operator.post("/reports/mini/annual/2025/seal", json={"reason": "again"}, headers={"Accept-Language": "en"})
    assert again.status_code == 409 and "nothing to restate" in again.json()["detail"]
    assert operator.get("/reports/mini/annual/2025?version=1").headers["etag"] == f'"{sealed.json()["hash"]}"'
