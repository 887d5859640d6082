"""Answers: JSON without NaN and with instants in UTC, the language of texts, and cursors for the next page."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

import orjson
from fastapi import Depends, Query, Request
from starlette.responses import Response

from park.clock import parse_instant
from park.errors import InputError

OPTIONS = orjson.OPT_UTC_Z | orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY
Language = Literal["zh", "en"]


def dump(body: Any) -> bytes:
    """JSON in UTF-8; NaN and infinity become null, instants end in Z."""
    return orjson.dumps(body, option=OPTIONS)


def answer(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON answer that no cache of a shared machine keeps."""
    return Response(dump(body), status, media_type="application/json",
                    headers={"Cache-Control": "private, no-store"} | dict(headers or {}))


def language_of(request: Request,
                lang: Annotated[Literal["zh", "en"] | None, Query(description="Language of names and texts.")] = None
                ) -> Language:
    """`?lang=`, else the first language of Accept-Language that we have, else the platform's own."""
    if lang is not None:
        return lang
    for part in request.headers.get("accept-language", "").lower().split(","):
        if part.strip()[:2] in ("zh", "en"):
            return "zh" if part.strip().startswith("zh") else "en"
    own: Language = "en" if request.app.state.settings.language == "en" else "zh"
    return own


Lang = Annotated[Language, Depends(language_of)]


def named(row: dict[str, Any], lang: Language) -> dict[str, Any]:
    """The row with `name` in the language asked for; both names stay."""
    return row | {"name": row["name_en" if lang == "en" else "name_zh"]}


def cursor_of(*parts: Any) -> str:
    """An opaque text that says where the next page begins."""
    return base64.urlsafe_b64encode(orjson.dumps(parts, option=OPTIONS)).decode().rstrip("=")


def read_cursor(text: str | None, *kinds: type) -> list[Any] | None:
    """The parts of a cursor, each of its kind; InputError for one that we did not make."""
    if text is None:
        return None
    try:
        parts = orjson.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (binascii.Error, ValueError) as exc:
        raise InputError("expected as `cursor` the `next` of the page before") from exc
    if not isinstance(parts, list) or len(parts) != len(kinds):
        raise InputError("expected as `cursor` the `next` of the page before")
    for i, kind in enumerate(kinds):
        if kind is datetime and isinstance(parts[i], str):
            parts[i] = parse_instant(parts[i])
        elif type(parts[i]) is not kind or (kind is int and abs(parts[i]) >= 2**63):
            raise InputError("expected as `cursor` the `next` of the page before")
    return parts


def instant(text: str | None, name: str) -> datetime | None:
    """A query parameter as an instant; a text without offset is refused, because it would mean two things."""
    if text is None:
        return None
    try:
        # '+' of an offset arrives as a blank when a caller forgets to encode it
        return parse_instant(text.strip().replace(" ", "+") if "T" in text else text)
    except (InputError, OverflowError, ValueError) as exc:
        raise InputError(f"{name}: {exc}") from exc
