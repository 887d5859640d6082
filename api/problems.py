"""Errors as RFC 9457 problem documents: every failure of a request leaves here, FastAPI's own validation included."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import orjson
import psycopg
import yaml
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from psycopg_pool import PoolTimeout, TooManyRequests
from starlette.exceptions import HTTPException
from starlette.responses import Response

from api.problem_language import TITLES, asked_by, worded
from park.errors import Conflict, Forbidden, InputError, NotFound, ParkError, StorageError

log = logging.getLogger("park.api")

MEDIA_TYPE = "application/problem+json"


_DOCUMENT = {"description": "A problem document (RFC 9457).", "content": {MEDIA_TYPE: {"schema": {
    "type": "object", "required": ["type", "title", "status", "detail", "instance"], "properties": {
        "type": {"type": "string"}, "title": {"type": "string"}, "status": {"type": "integer"}, "detail": {"type": "string"},
        "instance": {"type": "string"}, "errors": {"type": "array", "items": {"type": "object", "properties": {
            "where": {"type": "string"}, "message": {"type": "string"}}}}}}}}}
OF_ROUTES: dict[int | str, dict[str, Any]] = {status: {**_DOCUMENT, "description": TITLES["en"][status]}
                                              for status in (401, 403, 404, 409, 422, 429, 503)}
"""What every route may answer beside its own, for the OpenAPI document."""


class Unauthorized(ParkError):
    """No token, or one that is unknown, expired or revoked."""


class TooLarge(ParkError):
    """A request body, or the answer asked for, is beyond its bound."""


class TooMany(ParkError):
    """A token asks more often than it may; `retry_after_s` says when to come again."""

    def __init__(self, message: str, retry_after_s: int = 1) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(message)


class TookTooLong(ParkError):
    """A query or a report did not end within its time."""


STATUS: Sequence[tuple[type[Exception], int]] = (
    (Unauthorized, 401), (Forbidden, 403), (NotFound, 404), (Conflict, 409), (TooLarge, 413), (TooMany, 429),
    (TookTooLong, 504), (InputError, 422), (StorageError, 503), (PoolTimeout, 503), (TooManyRequests, 503),
    (psycopg.errors.QueryCanceled, 504), (psycopg.errors.InsufficientPrivilege, 403), (psycopg.errors.UniqueViolation, 409),
    (psycopg.errors.CheckViolation, 422), (psycopg.errors.ForeignKeyViolation, 422), (psycopg.errors.UndefinedTable, 503),
    (psycopg.errors.UndefinedFunction, 503), (psycopg.DataError, 422), (psycopg.OperationalError, 503),
)
# texts of the database are for us; a caller gets a sentence that he can act on
PLAIN = {403: "this role may not do that", 409: "it is there already", 422: "a value is outside what can be stored",
         503: "the database does not answer, or its schema is behind; try again, then see /readyz",
         504: "the query took too long; ask for a shorter time, fewer points or a coarser resolution"}
STEP = {"PA409": 409, "PA404": 404, "PA422": 422}  # SQLSTATEs of alert_step


def problem(status: int, detail: str, *, request: Request | None = None, headers: dict[str, str] | None = None,
            **members: Any) -> Response:
    """A problem document in the language of `request`; `instance` carries the request id that the log has too."""
    title, detail = worded(request, status, detail)
    body: dict[str, Any] = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    if request is not None:
        body["instance"] = "urn:request:" + request.scope.get("state", {}).get("request_id", "none")
    return Response(orjson.dumps(body | members), status, media_type=MEDIA_TYPE, headers=headers)


def status_of(exc: Exception) -> int:
    """The HTTP status of an exception; 500 for one that nobody foresaw."""
    if isinstance(exc, psycopg.Error) and exc.sqlstate in STEP:
        return STEP[exc.sqlstate]
    return next((status for kind, status in STATUS if isinstance(exc, kind)), 500)


async def _answer(request: Request, exc: Exception) -> Response:
    status = status_of(exc)
    headers: dict[str, str] = {}
    if isinstance(exc, psycopg.Error):
        said = exc.diag.message_primary if exc.sqlstate in STEP else PLAIN.get(status)
        detail = said or "the database refused this"
        log.warning("%s %s: %s %s", request.method, request.url.path, type(exc).__name__, str(exc).split("\n", 1)[0])
    elif isinstance(exc, ParkError):
        detail = str(exc)
    else:
        detail = PLAIN.get(status, "something went wrong here; it is in the log under this request's id")
    if status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="park"'
    if isinstance(exc, TooMany):
        headers["Retry-After"] = str(exc.retry_after_s)
    return problem(status, detail, request=request, headers=headers)


async def _unforeseen(request: Request, exc: Exception) -> Response:
    log.error("%s %s failed", request.method, request.url.path, exc_info=exc)
    return problem(500, "something went wrong here; it is in the log under this request's id", request=request)


async def _http(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)
    headers = dict(exc.headers) if exc.headers else None
    detail = exc.detail if isinstance(exc.detail, str) else TITLES["en"].get(exc.status_code, "Error")
    return problem(exc.status_code, detail, request=request, headers=headers)


@cache
def _words() -> dict[str, str]:
    loaded: dict[str, str] = yaml.safe_load(Path(__file__).with_name("problem_words.yaml").read_text(encoding="utf-8"))
    return loaded


def _in_chinese(error: Mapping[str, Any]) -> str:
    """The validator's word for a mistake in Chinese; what the table does not know stays as it is."""
    text = _words().get(error["type"])
    return text.format_map(error.get("ctx", {})) if text else str(error["msg"]).removeprefix("Value error, ")


async def _invalid(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, RequestValidationError)
    chinese = asked_by(request) == "zh"
    errors = [{"where": ".".join(str(part) for part in e["loc"]),
               "message": _in_chinese(e) if chinese else e["msg"].removeprefix("Value error, ")} for e in exc.errors()]
    detail = "; ".join(f"{e['where']}: {e['message']}" for e in errors[:5])
    return problem(422, detail, request=request, errors=errors)


def register(app: FastAPI) -> None:
    """Let every failure of `app` answer with a problem document."""
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(ParkError, _answer)
    app.add_exception_handler(psycopg.Error, _answer)
    app.add_exception_handler(Exception, _unforeseen)
