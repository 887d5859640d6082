"""GET /readings: samples or rollups of points, as JSON, CSV or Arrow, page by page.

Rows stay tuples from the database to the encoder. A bucket that is not yet rolled up is not there yet: ask `raw` for
the newest minutes.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.ipc
from fastapi import APIRouter, Header, Query
from psycopg import AsyncCursor, sql
from psycopg.abc import Buffer
from psycopg.adapt import Loader
from psycopg.postgres import types
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
TABLES = {"1m": "reading_by_minute", "15m": "reading_15m_shown", "1h": "reading_1h_shown", "1d": "reading_1d_shown",
          "1mo": "reading_1mo_shown"}
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
        about = {"base": points[0].base_id, "points": [p.point_id for p in points[first:]], "first": first, "after": at,
                 "start": since, "end": until, "limit": limit + 1}
        if form == "json":
            rows = await (await db.execute(_query(resolution), about)).fetchall()
            return _json(points, rows, resolution, since, until, limit)
        columns = await _columns(db, resolution, about)
    following = _next(columns["place"][limit - 1], columns["at"][limit - 1].item()) if len(columns["at"]) > limit else None
    table = _table(points, {name: column[:limit] for name, column in columns.items()}, resolution)
    headers = {"X-Next-Cursor": following} if following else {}
    return _csv(table, headers) if form == "csv" else _arrow(table, headers)


def _next(place: int, at: datetime) -> str:
    return cursor_of(int(place), at.replace(tzinfo=UTC))


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
          until: datetime, limit: int) -> Response:
    """One series a point; rows are lists in the order of `columns`, so that a page of 10,000 stays small."""
    following = None
    if len(rows) > limit:
        rows = rows[:limit]
        following = _next(rows[-1][0], rows[-1][1])
    words, by_place = WORDS, dict[int, list[Any]]()
    if resolution == "raw":
        for place, at, value, quality in rows:
            by_place.setdefault(place, []).append((at, value, words[quality]))
    else:
        for row in rows:
            by_place.setdefault(row[0], []).append(row[1:])
    series = [{"point": p.code, "base": p.base, "quantity": p.quantity, "unit": p.unit, "kind": p.kind,
               "rows": by_place.get(place, [])} for place, p in enumerate(points)]
    return answer({"start": since, "end": until, "resolution": resolution, "columns": RAW if resolution == "raw" else ROLLUP,
                   "series": series, "next": following})


class _Bytes(Loader):
    """An array as PostgreSQL sent it: numpy reads its elements without a Python object for each."""

    format = Format.BINARY

    def load(self, data: Buffer) -> bytes:
        """Header of 20 bytes, then for each element its length and its value, big-endian; no NULLs."""
        return bytes(data)


KINDS = {"int4": ">i4", "int2": ">i2", "float8": ">f8", "timestamptz": ">i8"}
RAW_TYPES = {"place": "int4", "at": "timestamptz", "value": "float8", "quality": "int2"}
ROLLUP_TYPES = {"place": "int4", "at": "timestamptz", "n": "int4", "n_good": "int4"} | dict.fromkeys(ROLLUP[3:], "float8")


async def _columns(db: AsyncCursor[Any], resolution: Resolution, about: dict[str, Any]) -> dict[str, np.ndarray[Any, Any]]:
    """The rows of a page as numpy columns."""
    kinds = RAW_TYPES if resolution == "raw" else ROLLUP_TYPES
    for kind in KINDS:
        db.adapters.register_loader(types[kind].array_oid, _Bytes)
    parts = [sql.SQL("array_agg(coalesce({}, 'NaN'))" if kind == "float8" else "array_agg({})").format(sql.Identifier(name))
             for name, kind in kinds.items()]
    query = sql.SQL(SQL["readings_columns"]).format(  # type: ignore[arg-type]
        columns=sql.SQL(", ").join(parts), rows=_query(resolution))
    row = await (await db.execute(query, about)).fetchone()
    found = {name: _elements(data, KINDS[kind]) for (name, kind), data in zip(kinds.items(), row or (), strict=True)}
    found["at"] = found["at"].astype("m8[us]") + np.datetime64("2000-01-01", "us")
    return found


def _elements(data: bytes | None, kind: str) -> np.ndarray[Any, Any]:
    if data is None:  # array_agg of no rows
        return np.empty(0, kind[1:])
    return np.frombuffer(data, [("length", ">i4"), ("value", kind)], offset=20)["value"].astype(kind[1:])


def _table(points: Sequence[PointRow], columns: dict[str, np.ndarray[Any, Any]], resolution: Resolution) -> pa.Table:
    """An Arrow table; what is NaN is null, because it is not known."""
    arrays: dict[str, Any] = {
        "point": pa.DictionaryArray.from_arrays(pa.array(columns["place"]), pa.array([p.code for p in points], pa.string())),
        "at": pa.array(columns["at"]).cast(pa.timestamp("us", tz="UTC"))}
    for name in RAW[1:] if resolution == "raw" else ROLLUP[1:]:
        arrays[name] = pa.array(columns[name], from_pandas=True)
    if resolution == "raw":
        known = pa.array([WORDS[i] for i in range(len(WORDS))], pa.string())
        arrays["quality"] = pa.DictionaryArray.from_arrays(arrays["quality"], known)
    return pa.table(arrays)


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
