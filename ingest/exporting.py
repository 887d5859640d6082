"""`park export`: readings or rollups to CSV or Parquet, streamed; what it writes `park import` reads."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, LiteralString

import pyarrow as pa
import pyarrow.parquet as pq
from psycopg import Connection, sql

from ingest.directory import QUERIES
from ingest.rollup import GRAINS
from park.catalogue_store import base_id_of
from park.clock import parse_instant, parse_period
from park.database import connect
from park.errors import InputError, NotFound

_PAGE = 100_000
_AT = pa.timestamp("us", tz="UTC")
READINGS = pa.schema([("point", pa.string()), ("at", _AT), ("value", pa.float64()), ("quality", pa.string())])
AGGREGATES = pa.schema([("point", pa.string()), ("bucket", _AT), ("n", pa.int32()), ("n_good", pa.int32()),
                        ("n_usable", pa.int32()),
                        *((c, pa.float64()) for c in ("mean", "min", "max", "sum", "first", "last", "increment"))])


# an instant as the API writes it, 2026-11-23T03:00:00Z; the session is in UTC (iso_instants)
_AS_TEXT = sql.SQL("replace(replace({}::text, ' ', 'T'), '+00', 'Z')")


def form_of(path: Path) -> str:
    """What a file is written as when nobody says: Parquet where its name does, else CSV."""
    return "parquet" if path.suffix.lower() in (".parquet", ".pq") else "csv"


def span(url: str, base: str, start: str, end: str) -> tuple[datetime, datetime]:
    """[start, end) from instants with an offset or base-local days, of which the beginning counts."""
    with connect(url, name="park export") as conn:
        zone, = conn.execute(QUERIES["timezone"], {"base_id": base_id_of(conn, base)}).fetchone() or ("UTC",)
    first, after = (parse_instant(text) if "T" in text or " " in text else parse_period(text, zone).start
                    for text in (start, end))
    if first >= after:
        raise InputError(f"expected --from before --to, got {start} and {end}")
    return first, after


def export_readings(url: str, base: str, points: list[str], start: datetime, end: datetime, path: Path, form: str) -> int:
    """Readings with start <= at < end of some points (none named: all) to a file; how many."""
    query = sql.SQL(QUERIES["export_readings"]).format(at=_instants("r.ts", form))  # type: ignore[arg-type]
    return _export(url, query, READINGS, base, points, start, end, path, form)


def export_aggregates(url: str, base: str, points: list[str], start: datetime, end: datetime, path: Path, form: str,
                      grain: str) -> int:
    """Rollups of a grain with start <= bucket < end to a file; how many."""
    query = sql.SQL(QUERIES["export_aggregates"]).format(  # type: ignore[arg-type]
        table=sql.Identifier(GRAINS[grain]), at=_instants("r.bucket", form))
    return _export(url, query, AGGREGATES, base, points, start, end, path, form)


def _export(url: str, query: sql.SQL | sql.Composed, schema: Any, base: str, points: list[str], start: datetime, end: datetime,
            path: Path, form: str) -> int:
    with connect(url, name="park export") as conn:
        chosen = _points(conn, base, points)
        parameters = {"base_id": base_id_of(conn, base), "points": chosen, "start": start, "end": end}
        if form == "csv":
            return _to_csv(conn, query, parameters, path)
        with pq.ParquetWriter(path, schema, compression="zstd") as writer:
            return sum(_write_page(writer, schema, rows) for rows in _pages(conn, query, parameters))


def _instants(column: LiteralString, form: str) -> sql.Composable:
    return _AS_TEXT.format(sql.SQL(column)) if form == "csv" else sql.SQL(column)


def _points(conn: Connection[Any], base: str, codes: list[str]) -> list[int]:
    known: dict[str, int] = dict(conn.execute(QUERIES["point_ids"], {"base_id": base_id_of(conn, base)}).fetchall())
    missing = [c for c in codes if c not in known]
    if missing:
        raise NotFound(f"the base {base} has no point {', '.join(missing)}")
    return [known[c] for c in codes] if codes else list(known.values())


def _to_csv(conn: Connection[Any], query: sql.SQL | sql.Composed, parameters: dict[str, Any], path: Path) -> int:
    conn.execute(QUERIES["iso_instants"])
    statement = sql.SQL("COPY ({}) TO STDOUT (FORMAT CSV, HEADER)").format(query)
    with path.open("wb") as file, conn.cursor() as cur:
        with cur.copy(statement, parameters) as copy:
            for chunk in copy:
                file.write(chunk)
        return cur.rowcount


def _pages(conn: Connection[Any], query: sql.SQL | sql.Composed, parameters: dict[str, Any]) -> Iterator[list[tuple[Any, ...]]]:
    with conn.cursor("export", scrollable=False) as cur:
        cur.execute(query, parameters)
        while rows := cur.fetchmany(_PAGE):
            yield rows


def _write_page(writer: Any, schema: Any, rows: list[tuple[Any, ...]]) -> int:
    columns = [pa.array(column, type=f.type) for column, f in zip(zip(*rows, strict=True), schema, strict=True)]
    writer.write_table(pa.Table.from_arrays(columns, schema=schema))
    return len(rows)
