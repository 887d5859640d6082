"""POST and GET /evidence: documents behind ledger entries, kept with their SHA-256 and never changed."""

from __future__ import annotations

import io
import zipfile
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Depends, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from api.access import Data, Who, allowed
from api.answers import Lang, Language, answer
from api.catalogue import base_row
from api.ledger import SQL
from api.problems import TooLarge
from api.store import Principal
from park.errors import InputError, NotFound
from park.ledger import sentence

router = APIRouter(tags=["ledger"])
MB = 1024 * 1024
OFFICE = "application/vnd.openxmlformats-officedocument."
# what is taken: the ending of the name, its media type; the content must be what the ending says
TYPES = {
    "pdf": "application/pdf",
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "csv": "text/csv",
    "xlsx": OFFICE + "spreadsheetml.sheet",
    "docx": OFFICE + "wordprocessingml.document",
}
MAGIC = {"pdf": b"%PDF-", "png": b"\x89PNG\r\n\x1a\n", "jpg": b"\xff\xd8\xff", "jpeg": b"\xff\xd8\xff"}


def media_type_of(name: str, content: bytes, lang: Language = "en") -> str:
    """The media type of a document; InputError when its name or content is none that is taken."""
    if not name.isprintable() or "/" in name or "\\" in name:  # one that shows right to left can hide its ending
        raise InputError(sentence("document_name", lang, got=ascii(name[:80])))
    ending = name.rpartition(".")[2].lower()
    if ending not in TYPES:
        raise InputError(sentence("document_type", lang, allowed=", ".join(TYPES), got=name[:80]))
    if not content:
        raise InputError(sentence("document_empty", lang))
    if not _is(ending, content):
        raise InputError(sentence("document_content", lang, name=name[:80], ending=ending))
    return TYPES[ending]


def _is(ending: str, content: bytes) -> bool:
    if ending in MAGIC:
        return content.startswith(MAGIC[ending])
    if ending == "csv":
        try:
            return "\x00" not in content.decode("utf-8")
        except UnicodeDecodeError:
            return False
    try:
        names = zipfile.ZipFile(io.BytesIO(content)).namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return False   # NotImplementedError: a version of ZIP that zipfile does not read
    return "[Content_Types].xml" in names and any(n.startswith("xl/" if ending == "xlsx" else "word/") for n in names)


@router.post("/evidence", status_code=201)
async def upload(
    request: Request,
    data: Data,
    lang: Lang,
    base: Annotated[str, Query(max_length=64)],
    name: Annotated[str, Query(min_length=3, max_length=200, description="File name with its ending.")],
    who: Annotated[Principal, Depends(allowed("operator", "enterprise", "admin"))],
) -> Response:
    """Keep a document: its bytes are the body, at most 10 MB of pdf, png, jpeg, xlsx, docx or csv. The same content again
    gives the same id. Name the ids in `documents` of a ledger entry. 413 when the documents of the base would be more than
    PARK_EVIDENCE_MB together.
    """
    content = await request.body()
    media_type = await run_in_threadpool(media_type_of, name, content, lang)
    most = request.app.state.settings.evidence_mb
    async with data.session(who) as db:
        found = await base_row(db, base)
        about = {
            "base": found["base_id"],
            "enterprise": who.enterprise_id,
            "content": content,
            "name": name.strip(),
            "by": who.name,
            "media_type": media_type,
        }
        await db.execute(SQL["evidence_lock"], about)
        there = await (await db.execute(SQL["evidence_bytes"], about)).fetchone()
        if there is not None and not there["known"] and there["bytes"] + len(content) > most * MB:
            raise TooLarge(sentence("quota", lang, most=most, there=there["bytes"] / MB, size=len(content) / MB))
        await db.execute(SQL["insert_evidence"], about)
        row = await (await db.execute(SQL["evidence_of"], about)).fetchone()
        assert row is not None
    return answer(row, 201, {"Location": f"/api/v1/evidence/{row['id']}?base={base}"})


@router.get("/evidence/{evidence_id}")
async def download(who: Who, data: Data, lang: Lang, evidence_id: int, base: Annotated[str, Query(max_length=64)]) -> Response:
    """The document as it was sent, to be saved; `ETag` is its SHA-256."""
    async with data.session(who) as db:
        found = await base_row(db, base)
        row = await (
            await db.execute(SQL["evidence"], {"base": found["base_id"], "id": min(evidence_id, 2**31 - 1)})
        ).fetchone()
    if row is None:
        raise NotFound(sentence("document_gone", lang, id=evidence_id, base=base))
    return Response(
        row["content"],
        media_type=row["media_type"],
        headers={
            "Content-Disposition": f"attachment; filename*=UTF-8''{quote(row['name'], safe='')}",
            "ETag": f'"{row["sha256"]}"',
            "Content-Security-Policy": "sandbox",
            "Cache-Control": "private, no-store",
        },
    )
