"""/reports: the report of a base as JSON or document, sealed by POST, its versions and what changed between two.

The documents are made by the command `park report` in a process of its own: a stage does not import another, and a chart
that takes seconds must not hold up the stream of alerts. A made file is kept for a minute, and not beyond a new ledger
entry, target or sealing; it says itself as of when its figures are.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import sys
import tempfile
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Depends, Query, Request
from fastapi import Path as InPath
from psycopg.conninfo import make_conninfo
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from api.access import Data, Who, allowed
from api.aggregates import needs_whole_base
from api.answers import Lang, answer
from api.catalogue import base_row
from api.problems import TookTooLong
from api.store import SQL, Principal, Store
from park.errors import Conflict, InputError, NotFound, StorageError

log = logging.getLogger("park.api.reports")
router = APIRouter(tags=["reports"])

Kind = Literal["annual", "midterm", "final"]
Year = Annotated[int, InPath(ge=2000, le=2100)]
MEDIA = {"json": "application/json", "html": "text/html; charset=utf-8", "pdf": "application/pdf",
         "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
         "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"}
TIMEOUT_S = 90.0
KEPT_S = 60.0
KEPT_BYTES = 64 * 1024 * 1024
AT_ONCE = 2
UNCOMPARED = frozenset({"missing", "versions"})  # sections about the other figures
_NAME = re.compile(r"^(?P<year>20\d\d|2100)(?:\.(?P<form>docx|xlsx|pdf|html|json))?$")
# a report's own page has its styles and pictures inside, and no scripts
PAGE_CSP = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:; frame-ancestors 'none'"


class Sealing(BaseModel):
    """Why a report is sealed again; a first sealing needs no reason."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    reason: str = Field(default="", max_length=2000)


@dataclass
class Press:
    """Runs `park report`, a few at a time, and keeps what it made for a minute."""

    database_url: str
    _kept: OrderedDict[tuple[Any, ...], tuple[float, bytes]] = field(default_factory=OrderedDict)
    _turn: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))
    _making: dict[tuple[Any, ...], asyncio.Lock] = field(default_factory=dict)

    async def made(self, key: tuple[Any, ...], arguments: Sequence[str], form: str, url: str) -> bytes:
        """The file of a report; from the minute's store where `key` (with what it depends on) is the same. `url`: as
        `database_for` gives it."""
        lock = self._making.setdefault(key, asyncio.Lock())
        try:
            async with lock:  # the same document asked for twice is made once
                at, content = self._kept.get(key, (0.0, b""))
                if content and time.monotonic() - at < KEPT_S:
                    return content
                content = await self.run(arguments, form, url)
                self._keep(key, content)
                return content
        finally:
            if not lock.locked():
                self._making.pop(key, None)

    def _keep(self, key: tuple[Any, ...], content: bytes) -> None:
        self._kept[key] = (time.monotonic(), content)
        self._kept.move_to_end(key)
        while sum(len(kept) for _, kept in self._kept.values()) > KEPT_BYTES:
            self._kept.popitem(last=False)

    async def database_for(self, store: Store, who: Principal) -> str:
        """The database for the command: where row-level security binds the API's own login it would see nothing without the
        token's role."""
        async with store.own() as db:
            row = await (await db.execute(SQL["is_bound"])).fetchone()
        if row is None or not row["bound"]:
            return self.database_url
        taken = f"-c role=park_{who.role} -c park.bases={{{','.join(map(str, who.bases))}}}"
        return make_conninfo(self.database_url, options=taken)

    async def run(self, arguments: Sequence[str], form: str, url: str) -> bytes:
        """One run of the command; the text of its error becomes the problem's."""
        async with self._turn:
            with tempfile.TemporaryDirectory(prefix="park-report-") as folder:
                process = await asyncio.create_subprocess_exec(
                    sys.executable, "-m", "park.cli", "report", *arguments, "--format", form, "-o", folder,
                    stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
                    env=os.environ | {"PARK_DATABASE_URL": url})
                said = await _ended(process)
                if process.returncode != 0:
                    raise _refusal(said, "--seal" in arguments)
                files = list(Path(folder).glob(f"*.{form}"))
                if len(files) != 1:
                    raise StorageError(f"the report was not written as one .{form} file")
                return files[0].read_bytes()


async def _ended(process: asyncio.subprocess.Process) -> str:
    try:
        _, err = await asyncio.wait_for(process.communicate(), TIMEOUT_S)
    except TimeoutError as exc:
        raise TookTooLong(f"the report was not made within {TIMEOUT_S:.0f} s") from exc
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return err.decode(errors="replace")


def _refusal(said: str, sealing: bool) -> Exception:
    """The command's own sentence; a traceback stays in the log."""
    lines = [line for line in said.strip().splitlines() if line.startswith("park: ")]
    if not lines:
        log.error("park report ended without a word of its own: %s", said.strip()[-2000:] or "no message")
        return StorageError("the report could not be made; why is in the log of `park serve`")
    text = lines[-1].removeprefix("park: ")
    if text.startswith("there is no"):
        return NotFound(text)
    return Conflict(text.replace("needs --reason", "needs a `reason`")) if sealing else InputError(text)


def _of(base: dict[str, Any], kind: str, year: int) -> dict[str, Any]:
    return {"base": base["base_id"], "kind": kind, "year": year}


@router.get("/reports/{base}/{kind}/{year}/versions")
async def versions(base: str, kind: Kind, year: Year, who: Who, data: Data) -> Response:
    """Sealed versions, newest first, each with its hash, its as-of instant, who sealed it and why."""
    needs_whole_base(who)
    async with data.session(who) as db:
        found = await base_row(db, base)
        rows = await (await db.execute(SQL["report_versions"], _of(found, kind, year))).fetchall()
    return answer({"base": base, "kind": kind, "year": year, "versions": rows})


@router.get("/reports/{base}/{kind}/{year}/diff")
async def diff(base: str, kind: Kind, year: Year, who: Who, data: Data,
               a: Annotated[int, Query(ge=1, le=100_000, description="A sealed version.")],
               b: Annotated[int, Query(ge=1, le=100_000, description="Another.")]) -> Response:
    """Figures that differ between two sealed versions: changed, new in `b`, or gone from it; with the reason `b` was given."""
    needs_whole_base(who)
    async with data.session(who) as db:
        found = await base_row(db, base)
        rows = await (await db.execute(SQL["report_data"], _of(found, kind, year) | {"versions": [a, b]})).fetchall()
    there = {row["version"]: row for row in rows}
    for version in (a, b):
        if version not in there:
            raise NotFound(f"there is no sealed version {version} of the {kind} report {base} {year}")
    old, new = dict(_cells(there[a]["data"])), dict(_cells(there[b]["data"]))
    changes = [{"id": key, "a": old.get(key), "b": new.get(key)} for key in [*new, *(k for k in old if k not in new)]
               if _said(old.get(key)) != _said(new.get(key))]
    heads = {name: {k: v for k, v in there[version].items() if k != "data"} for name, version in (("a", a), ("b", b))}
    return answer({"base": base, "kind": kind, "year": year} | heads | {"reason": there[b]["reason"], "changes": changes,
                                                                        "figures": len(new)})


def _cells(data: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every figure of a report's data by its id."""
    if isinstance(data, dict):
        if data.get("type") == "cell" and "id" in data:
            yield data["id"], data
            return
        if data.get("id") in UNCOMPARED and "blocks" in data:
            return
        for name, part in data.items():
            if name not in ("restated", "history"):
                yield from _cells(part)
    elif isinstance(data, list):
        for part in data:
            yield from _cells(part)


def _said(cell: dict[str, Any] | None) -> Any:
    return None if cell is None else [cell.get(k) for k in ("value", "unit", "coverage", "grade", "factors", "reason")]


@router.post("/reports/{base}/{kind}/{year}/seal", status_code=201)
async def seal(request: Request, base: str, kind: Kind, year: Year, data: Data,
               who: Annotated[Principal, Depends(allowed("operator", "admin"))], said: Sealing | None = None) -> Response:
    """Seal the report as the data stand now, as the next version. 409 when no figure differs from the last version, or when
    figures differ and `reason` does not say why."""
    async with data.session(who) as db:
        found = await base_row(db, base)
    reason = [f"--reason={said.reason}"] if said and said.reason else []
    press: Press = request.app.state.press
    url = await press.database_for(data, who)
    await press.run([base, kind, str(year), "--seal", f"--by={who.name}", *reason], "json", url)
    async with data.session(who) as db:
        rows = await (await db.execute(SQL["report_versions"], _of(found, kind, year))).fetchall()
    return answer({"base": base, "kind": kind, "year": year} | rows[0], 201,
                  {"Location": f"/api/v1/reports/{base}/{kind}/{year}?version={rows[0]['version']}"})


@router.get("/reports/{base}/{kind}/{name}", responses={200: {"content": {media: {} for media in MEDIA.values()}}})
async def report(request: Request, base: str, kind: Kind, who: Who, data: Data, lang: Lang,
                 name: Annotated[str, InPath(description="The year, or with .docx, .xlsx, .pdf, .html or .json.")],
                 version: Annotated[int | None, Query(ge=1, le=100_000, description="A sealed version; without it the "
                                                      "report as the data stand now.")] = None) -> Response:
    """The report of a year. Without an ending it is the data object that every document is made from."""
    needs_whole_base(who)
    match = _NAME.match(name)
    if match is None:
        raise NotFound(f"expected a year, or a year with .docx, .xlsx, .pdf, .html or .json, got {name[:40]!r}")
    year, form = int(match["year"]), match["form"] or "json"
    async with data.session(who) as db:
        found = await base_row(db, base)
        sealed = None if version is None else await _sealed(db, found, kind, year, version)
        if sealed is not None and form == "json":
            return sealed
        mark = await (await db.execute(SQL["report_mark"], _of(found, kind, year))).fetchone()
    press: Press = request.app.state.press
    which = [] if version is None else [f"--version={version}"]
    key = (found["base_id"], kind, year, form, lang, version or (mark["mark"] if mark else ""))
    content = await press.made(key, [base, kind, str(year), "--lang", lang, *which], form,
                               await press.database_for(data, who))
    headers = {"Cache-Control": "private, no-cache"}
    if form == "html":
        headers["Content-Security-Policy"] = PAGE_CSP
    elif form != "json":
        headers["Content-Disposition"] = f'attachment; filename="{base}-{kind}-{year}-{lang}.{form}"'
    return Response(content, media_type=MEDIA[form], headers=headers)


async def _sealed(db: Any, base: dict[str, Any], kind: str, year: int, version: int) -> Response:
    row = await (await db.execute(SQL["report_data"], _of(base, kind, year) | {"versions": [version]})).fetchone()
    if row is None:
        raise NotFound(f"there is no sealed version {version} of the {kind} report {base['code']} {year}")
    return Response(orjson.dumps(row["data"]), media_type="application/json", headers={"ETag": f'"{row["hash"]}"'})
