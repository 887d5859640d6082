"""GET /readings: samples or rollups of points, as JSON, CSV or Arrow, page by page.

Rows stay tuples from the database to the encoder. A bucket that is not yet rolled up is not there yet: ask `raw` for
the newest minutes.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.ipc
from fastapi import APIRouter, Header, Query
from psycopg import sql
from psycopg.abc import Buffer
from psycopg.adapt import Loader
from psycopg.pq import Format
from psycopg.rows import tuple_row
from starlette.responses import Response

from api.access import Data, Who
from api.answers import answer, cursor_of, instant, read_cursor
from api.store import SQL
from park.clock import utc_now
from park.errors import InputError, NotFound
from park.quality import Quality, word_of

router = APIRouter(tags=["readings"])

Resolution = Literal["raw", "1m", "15m", "1h", "1d", "1mo"]
# the view of the minutes knows those that only a quarter of an hour's row holds
TABLES = {"1m": "reading_by_minute", "15m": "reading_15m", "1h": "reading_1h", "1d": "reading_1d", "1mo": "reading_1mo"}
WIDTH = {"1m": "1 minute", "15m": "15 minutes", "1h": "1 hour", "1d": "1 day", "1mo": "1 month"}
RAW = ("at", "value", "quality")
ROLLUP = ("at", "n", "n_good", "min", "max", "mean", "first", "last", "increment")
DEFAULT_SPAN = timedelta(hours=24)
ARROW = "application/vnd.apache.arrow.stream"
WORDS = {code: word_of(code) for code in range(64)}
WORDS |= {int(q): word_of(q) for q in Quality}


@dataclass(frozen=True)
class PointRow:
    """A point that was asked for."""

    point_id: int
    base_id: int
    base: str
    code: str
    quantity: str
    unit: str
    kind: str
    zone: str


@router.get("/readings", responses={200: {"content": {"application/json": {}, "text/csv": {}, ARROW: {}}}})
async def readings(who: Who, data: Data,
                   point: Annotated[list[str], Query(min_length=1, max_length=200, description="Code; repeat it for several.")],
                   base: Annotated[str | None, Query(max_length=64, description="Where bases share a code.")] = None,
                   start: Annotated[str | None, Query(max_length=40, description="From here (24 h before end).")] = None,
                   end: Annotated[str | None, Query(max_length=40, description="Before this instant (now).")] = None,
                   resolution: Resolution = "raw", limit: Annotated[int, Query(ge=1, le=200_000)] = 10_000,
                   cursor: str | None = None, accept: Annotated[str, Header()] = "application/json",
                   format: Annotated[Literal["json", "csv", "arrow"] | None, Query(description="Instead of Accept.")] = None
                   ) -> Response:
    """Readings of points in [start, end), by point in the order asked and by time.

    `raw` gives at, value, quality; the other resolutions give at (start of the bucket), n, n_good, min, max, mean, first,
    last, increment over usable readings. A value that is not known is null with its quality. JSON has one series a point
    and `next`, the cursor of the next page; CSV and Arrow have a column `point` and the cursor in the header `X-Next-Cursor`.
    """
    until = instant(end, "end") or utc_now()
    since = instant(start, "start") or _before(until)
    if since >= until:
        raise InputError(f"expected start before end, got {since.isoformat()} and {until.isoformat()}")
    after = read_cursor(cursor, int, str)
    at = instant(after[1], "cursor") if after else None
    codes = list(dict.fromkeys(point))
    form = format or _form(accept)
    async with data.session(who, rows=tuple_row) as db:
        await db.execute(SQL["points_by_code"], {"codes": codes, "base": base})
        points = _in_order(codes, [PointRow(*row) for row in await db.fetchall()])
        first = after[0] if after else 0
        if not 0 <= first < len(points):
            raise InputError("expected as `cursor` the `next` of the page before")
        if form != "json":
            db.adapters.register_loader("timestamptz", _Packed)
        await db.execute(_query(resolution), {
            "base": points[0].base_id, "points": [p.point_id for p in points[first:]], "first": first, "after": at,
            "start": since, "end": until, "limit": limit + 1,
            "width": WIDTH.get(resolution), "zone": points[0].zone})
        rows = await db.fetchall()
    following = None
    if len(rows) > limit:
        rows = rows[:limit]
        following = cursor_of(rows[-1][0], _instants([rows[-1][1]])[0].item() if form != "json" else rows[-1][1])
    if form == "json":
        return _json(points, rows, resolution, since, until, following)
    table = _table(points, rows, resolution)
    headers = {"X-Next-Cursor": following} if following else {}
    return _csv(table, headers) if form == "csv" else _arrow(table, headers)


def _before(until: datetime) -> datetime:
    try:
        return until - DEFAULT_SPAN
    except OverflowError as exc:
        raise InputError(f"end: there is no day before {until.isoformat()}") from exc


def _in_order(codes: Sequence[str], found: Sequence[PointRow]) -> list[PointRow]:
    """The points in the order asked; NotFound for a code that is not there, InputError where bases share a code."""
    by_code: dict[str, PointRow] = {}
    for point in found:
        if point.code in by_code:
            raise InputError(f"point {point.code!r} is in the bases {by_code[point.code].base} and {point.base}: add base=")
        by_code[point.code] = point
    missing = [code for code in codes if code not in by_code]
    if missing:
        raise NotFound(f"there is no point {', '.join(repr(code) for code in missing[:10])} that this token may see")
    if len({point.base_id for point in found}) > 1:
        raise InputError("expected points of one base; ask for each base by itself")
    return [by_code[code] for code in codes]


def _query(resolution: Resolution) -> sql.Composed:
    if resolution == "raw":
        return sql.Composed([sql.SQL(SQL["readings_raw"])])  # type: ignore[arg-type]
    return sql.SQL(SQL["readings_rollup"]).format(table=sql.Identifier(TABLES[resolution]))  # type: ignore[arg-type]


def _form(accept: str) -> str:
    for part in accept.lower().split(","):
        media = part.split(";", 1)[0].strip()
        if media == "text/csv":
            return "csv"
        if "arrow" in media:
            return "arrow"
        if media in ("application/json", "*/*", "application/*"):
            return "json"
    return "json"


def _json(points: Sequence[PointRow], rows: Sequence[tuple[Any, ...]], resolution: Resolution, since: datetime,
          until: datetime, following: str | None) -> Response:
    """One series a point; rows are lists in the order of `columns`, so that a page of 10,000 stays small."""
    words = WORDS
    series: list[dict[str, Any]] = []
    by_place: dict[int, list[Any]] = {}
    if resolution == "raw":
        for place, at, value, quality in rows:
            by_place.setdefault(place, []).append((at, value, words[quality]))
    else:
        for row in rows:
            by_place.setdefault(row[0], []).append(row[1:])
    for place, p in enumerate(points):
        series.append({"point": p.code, "base": p.base, "quantity": p.quantity, "unit": p.unit, "kind": p.kind,
                       "rows": by_place.get(place, [])})
    return answer({"start": since, "end": until, "resolution": resolution, "columns": RAW if resolution == "raw" else ROLLUP,
                   "series": series, "next": following})


class _Packed(Loader):
    """An instant as its eight bytes: numpy turns a column of them into instants at once."""

    format = Format.BINARY

    def load(self, data: Buffer) -> bytes:
        """The bytes as PostgreSQL sent them: microseconds since 2000, big-endian."""
        return bytes(data)


def _instants(packed: Sequence[bytes]) -> np.ndarray[Any, np.dtype[np.datetime64]]:
    return np.frombuffer(b"".join(packed), ">i8").astype("m8[us]") + np.datetime64("2000-01-01", "us")


def _table(points: Sequence[PointRow], rows: Sequence[tuple[Any, ...]], resolution: Resolution) -> pa.Table:
    columns = list(zip(*rows, strict=True)) or [() for _ in range(4 if resolution == "raw" else 1 + len(ROLLUP))]
    names = pa.DictionaryArray.from_arrays(pa.array(columns[0], pa.int32()), pa.array([p.code for p in points], pa.string()))
    at = pa.array(_instants(columns[1])).cast(pa.timestamp("us", tz="UTC"))
    if resolution == "raw":
        known = pa.array([WORDS[i] for i in range(len(WORDS))], pa.string())
        words = pa.DictionaryArray.from_arrays(pa.array(columns[3], pa.int8()), known)
        return pa.table({"point": names, "at": at, "value": pa.array(columns[2], pa.float64()), "quality": words})
    kinds = [pa.int32() if name in ("n", "n_good") else pa.float64() for name in ROLLUP[1:]]
    numbers = {name: pa.array(column, kind) for name, column, kind in zip(ROLLUP[1:], columns[2:], kinds, strict=True)}
    return pa.table({"point": names, "at": at} | numbers)


def _csv(table: pa.Table, headers: dict[str, str]) -> Response:
    at = table["at"].to_numpy().astype("M8[us]")
    whole = bool((at == at.astype("M8[s]")).all())
    text = np.char.add(np.datetime_as_string(at, "s" if whole else "ms"), "Z")
    plain = table.set_column(1, "at", pa.array(text.tolist(), pa.string()))
    for i, field in enumerate(plain.schema):
        if pa.types.is_dictionary(field.type):
            plain = plain.set_column(i, field.name, plain[field.name].cast(pa.string()))
    out = io.BytesIO()
    pyarrow.csv.write_csv(plain, out, pyarrow.csv.WriteOptions(quoting_style="none"))
    return Response(out.getvalue(), media_type="text/csv; charset=utf-8",
                    headers=headers | {"Content-Disposition": 'attachment; filename="readings.csv"'})


def _arrow(table: pa.Table, headers: dict[str, str]) -> Response:
    out = io.BytesIO()
    with pyarrow.ipc.new_stream(out, table.schema) as writer:
        writer.write_table(table)
    return Response(out.getvalue(), media_type=ARROW, headers=headers)
