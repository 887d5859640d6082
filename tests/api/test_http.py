"""The shell of the service: problems, limits of size, headers, the console's files, and a fuzz of the whole schema."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import logging
import re
import socket
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, Phase, given, settings

from api.console_files import mount_console
from api.problem_language import in_chinese
from tests.api.conftest import Service

FUZZ_S = 20.0


def test_whatever_goes_wrong_is_a_problem_document(service: Service) -> None:
    for method, path, status in (("GET", "/api/v1/nothing", 404), ("DELETE", "/api/v1/bases", 405),
                                 ("POST", "/api/v1/alerts/1/ack", 401), ("GET", "/api/v1/alerts/notanumber", 401),
                                 ("GET", "/api/v1/alerts/stream", 401)):
        answer = httpx.request(method, service.url + path)
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"
        body = answer.json()
        assert body["status"] == status and body["title"] and body["detail"]
        assert body["instance"].removeprefix("urn:request:") == answer.headers["x-request-id"]


def test_a_problem_is_told_in_one_language_of_the_caller_s_choice(service: Service, operator: httpx.Client) -> None:
    asked = (("/bases/nowhere/units", 404), ("/readings?point=x", 404), ("/readings?point=x&start=2026-11-20T00:00:00", 422),
             ("/aggregates?base=mini&period=soon", 422), ("/nothing", 404), ("/alerts?limit=no", 422), ("/alerts/7", 404))
    for path, status in asked:
        for lang in ("zh-CN,zh;q=0.9", "en", None):     # without a wish: PARK_LANGUAGE, zh here
            told = operator.get(path, headers={"Accept-Language": lang} if lang else {})
            chinese = [bool(re.search("[\u4e00-\u9fff]", told.json()[k])) for k in ("title", "detail")]
            assert told.status_code == status and chinese == [lang != "en"] * 2, (path, lang, told.text)
    assert in_chinese("alert 7: ack is not possible: it is closed") == "7 号不能 ack：已关闭"
    unknown = operator.post("/alerts/1/ack", content=b"x" * 300_000, headers={"Accept-Language": "en"}).json()
    assert (unknown["title"], unknown["detail"][:8]) == ("Too large", "expected")


def test_a_body_that_is_too_large_is_refused_whether_it_says_so_or_not(service: Service, operator: httpx.Client) -> None:
    large = b'{"note": "' + b"x" * 300_000 + b'"}'
    assert operator.post("/alerts/1/ack", content=large).status_code == 413
    assert operator.post("/alerts/1/ack", content=iter([large[:150_000], large[150_000:]]),
                         headers={"Content-Type": "application/json"}).status_code == 413
    assert operator.get("/bases").status_code == 200


@pytest.mark.parametrize(("sent", "answer"), [
    (b"", b""),                                                             # says nothing
    (b"GET / HTTP/1.1\r\nX: ", b""),                                        # never ends its head
    (b"GET / HTTP/1.1\r\nX: " + b"x" * 600_000, b"400"),
    (b"GET /" + b"x" * 600_000, b"400"),
    (b"POST /api/v1/ledger HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{", b"408"),  # never ends its body
    (b"POST /healthz HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: " + b"x" * 600_000, b"400 405"),
])
def test_who_is_slow_or_endless_before_saying_who_he_is_is_hung_up(
        service: Service, monkeypatch: pytest.MonkeyPatch, sent: bytes, answer: bytes) -> None:
    for name, value in (("server.HEAD_S", 0.5), ("guard.BODY_S", 0.5), ("server.REQUEST_BYTES", 200_000)):
        monkeypatch.setattr(f"api.{name}", value)
    host, port = service.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), 5) as client:
        with contextlib.suppress(ConnectionError):      # hung up while it still talks
            client.sendall(sent)
        told = b""
        with contextlib.suppress(ConnectionError):
            while part := client.recv(65536):
                told += part
    if told or not answer:      # an answer may be lost on a connection that is closed while more comes
        assert b"".join(told.split()[1:2]) in answer.split() or told == answer
    assert httpx.get(f"{service.url}/healthz").status_code == 200


def test_every_answer_has_the_security_headers_and_a_request_id_that_the_log_has_too(
        service: Service, operator: httpx.Client, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "park.access"):
        answer = operator.get("/bases?secret=1", headers={"X-Request-Id": "abc-1"})
        bad = operator.get("/bases", headers={"X-Request-Id": "two words"})
    assert answer.headers["x-request-id"] == "abc-1" and bad.headers["x-request-id"] != "two words"
    assert answer.headers["content-security-policy"].split("; ") == [
        "default-src 'self'", "object-src 'none'", "base-uri 'none'", "form-action 'self'", "frame-ancestors 'none'"]
    assert answer.headers["x-content-type-options"] == "nosniff" and "access-control-allow-origin" not in answer.headers
    (line,) = [r.getMessage() for r in caplog.records if "abc-1" in r.getMessage()]
    assert line.startswith("GET /api/v1/bases 200") and "secret" not in line and "operator of the test" in line


def test_a_path_cannot_write_a_line_of_its_own_into_the_log(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "park.access"):
        httpx.get(service.url + "/api/v1/x%0aINFO%20forged")
    assert not any("\n" in r.getMessage() for r in caplog.records if r.name == "park.access")


def test_the_console_s_files_have_an_etag_and_come_compressed(service: Service) -> None:
    page = httpx.get(service.url + "/", headers={"Accept-Encoding": "identity"})
    assert page.status_code == 200 and page.headers["content-type"].startswith("text/html")
    assert page.headers["content-security-policy"].startswith("default-src 'self';") and page.headers["etag"]
    again = httpx.get(service.url + "/", headers={"If-None-Match": page.headers["etag"]})
    assert again.status_code == 304 and again.content == b""
    assert httpx.get(service.url + "/../access.py").status_code == 404
    assert httpx.get(service.url + "/%2e%2e/access.py").status_code == 404


def test_large_files_of_the_console_are_gzipped(tmp_path: Path) -> None:
    (tmp_path / "app.js").write_text("// words\n" * 1000)
    app = FastAPI()
    mount_console(app, tmp_path)

    async def fetch() -> tuple[str, bytes]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://park") as client, \
                client.stream("GET", "/app.js", headers={"Accept-Encoding": "gzip"}) as answer:
            return answer.headers["content-encoding"], b"".join([chunk async for chunk in answer.aiter_raw()])
    encoding, raw = asyncio.run(fetch())
    assert encoding == "gzip" and gzip.decompress(raw) == b"// words\n" * 1000


def test_the_reference_page_lists_every_route_without_another_origin(service: Service) -> None:
    page = httpx.get(service.url + "/docs")
    assert httpx.get(service.url + "/openapi.json", follow_redirects=True).json()["openapi"].startswith("3.")
    assert page.status_code == 200
    schema = httpx.get(service.url + "/api/v1/openapi.json").json()
    assert all(path in page.text for path in schema["paths"])
    assert httpx.get(service.url + "/api/v1/docs").text == page.text
    answers = [operation["responses"] for methods in schema["paths"].values() for operation in methods.values()]
    assert all(set(a[status]["content"]) == {"application/problem+json"} for a in answers for status in ("401", "422"))
    assert all(field in page.text for field in ("supersedes", "evidence", "minutes"))  # of the bodies
    assert "http://" not in page.text and "https://" not in page.text and "<script" not in page.text


def send(client: httpx.Client, url: str, case: schemathesis.Case[Any]) -> httpx.Response | None:
    """The answer to a generated request; None where it cannot be put on the wire."""
    made = case.as_transport_kwargs(base_url=url)
    headers = {k: v for k, v in dict(made.get("headers") or {}).items() if k.lower() != "authorization"}
    parts = {k: made[k] for k in ("method", "url", "params", "json", "content") if made.get(k) is not None}
    try:
        return client.request(headers=headers, **parts)
    except (httpx.InvalidURL, httpx.LocalProtocolError, UnicodeEncodeError, ValueError):
        return None


def test_no_input_of_the_schema_makes_the_service_fail(service: Service) -> None:
    """Random inputs after the OpenAPI schema, for a bounded time and three of each operation: none is answered by 500."""
    schema = schemathesis.openapi.from_url(f"{service.url}/api/v1/openapi.json")
    found = [operation.ok() for operation in schema.get_all_operations()]  # type: ignore[union-attr]  # an error has none
    operations = [o for o in found if not o.path.endswith("/stream") and "/reports/" not in o.path]
    assert len(operations) >= 18
    statuses: Counter[int] = Counter()
    tried: Counter[str] = Counter()
    failures: list[str] = []
    began = time.monotonic()
    with service.client("operator") as client:
        client.base_url = ""  # type: ignore[assignment]
        for number, operation in enumerate(operations, 1):
            until, path = began + FUZZ_S * number / len(operations), f"{operation.method} {operation.path}"

            @settings(max_examples=12, database=None, derandomize=True, phases=[Phase.generate],
                      suppress_health_check=list(HealthCheck))
            @given(case=operation.as_strategy())
            def attempt(case: schemathesis.Case[Any]) -> None:
                if time.monotonic() >= until and tried[path] >= 3:  # noqa: B023  called in this round
                    return
                tried[path] += 1  # noqa: B023
                answer = send(client, service.url, case)
                if answer is not None:
                    statuses[answer.status_code] += 1
                    if answer.status_code >= 500:
                        failures.append(f"{answer.request.method} {answer.request.url}: {answer.text}")
            attempt()
    assert not failures, "\n".join(failures[:10])
    assert statuses[200] >= 5 and statuses.total() >= 2 * len(operations), statuses
