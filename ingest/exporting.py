"""`park export`: readings or rollups to CSV or Parquet, streamed; what it writes `park import` reads."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from psycopg import Connection, sql

from ingest.directory import QUERIES
from ingest.rollup import GRAINS
from park.catalogue_store import base_id_of
from park.database import connect
from park.errors import NotFound

_PAGE = 100_000
_AT = pa.timestamp("us", tz="UTC")
READINGS = pa.schema([("point", pa.string()), ("at", _AT), ("value", pa.float64()), ("quality", pa.string())])
AGGREGATES = pa.schema([("point", pa.string()), ("bucket", _AT), ("n", pa.int32()), ("n_good", pa.int32()),
                        ("n_usable", pa.int32()),
                        *((c, pa.float64()) for c in ("mean", "min", "max", "sum", "first", "last", "increment"))])


def export_readings(url: str, base: str, points: list[str], start: datetime, end: datetime, path: Path, form: str) -> int:
    """Readings with start <= at < end of some points (none named: all) to a file; how many."""
    return _export(url, sql.SQL(QUERIES["export_readings"]), READINGS, base, points, start, end, path, form)  # type: ignore[arg-type]


def export_aggregates(url: str, base: str, points: list[str], start: datetime, end: datetime, path: Path, form: str,
                      grain: str) -> int:
    """Rollups of a grain with start <= bucket < end to a file; how many."""
    query = sql.SQL(QUERIES["export_aggregates"]).format(table=sql.Identifier(GRAINS[grain]))  # type: ignore[arg-type]
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
