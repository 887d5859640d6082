"""Bulk rows as numpy columns over PostgreSQL's binary COPY, in both directions.

Rows are read as arrays (array_agg), one COPY row a point, without NULL (coalesce a value to NaN).
Written rows may be NULL in one float column: NaN becomes NULL, in a COPY of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray

from park.errors import StorageError

Connection = psycopg.Connection[Any]
Columns = dict[str, NDArray[Any]]

EPOCH = datetime(2000, 1, 1, tzinfo=UTC)          # PostgreSQL's
_SIGNATURE = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TYPES = {"i2": ">i2", "i4": ">i4", "i8": ">i8", "f8": ">f8", "ts": ">i8", "date": ">i4"}


def to_us(instant: datetime) -> int:
    """Microseconds since 2000-01-01 UTC."""
    return (instant - EPOCH) // timedelta(microseconds=1)


def from_us(us: int) -> datetime:
    """The aware instant of `to_us`."""
    return EPOCH + timedelta(microseconds=int(us))


def _dtype(columns: Mapping[str, str], null: str | None = None) -> np.dtype[Any]:
    fields: list[tuple[str, str]] = [("#", ">i2")]
    for name, kind in columns.items():
        fields.append((f"{name}#", ">i4"))
        if name != null:
            fields.append((name, _TYPES[kind]))
    return np.dtype(fields)


def read_columns(conn: Connection, copy: str, params: Sequence[Any] | Mapping[str, Any], columns: Mapping[str, str]) -> Columns:
    """The rows of `COPY (SELECT array_agg(a), array_agg(b) ... GROUP BY ...) TO STDOUT (FORMAT binary)`, end to end.

    `columns` names the kinds i2, i4, i8, f8, ts (microseconds since 2000) and date (days since 2000) in the statement's order;
    the arrays of a row are of equal length and hold no NULL; one of a single element stands for all of its row. Arrays, because
    a row of its own costs the client two microseconds and an element of an array next to nothing.
    """
    parts: dict[str, list[NDArray[Any]]] = {name: [] for name in columns}
    with conn.cursor().copy(copy, params) as stream:
        for block in stream:
            _unpack(bytes(block), columns, parts)
    empty = {name: np.empty(0, np.dtype(_TYPES[kind]).newbyteorder("=")) for name, kind in columns.items()}
    return {name: np.concatenate(part) if part else empty[name] for name, part in parts.items()}


def _unpack(block: bytes, columns: Mapping[str, str], parts: dict[str, list[NDArray[Any]]]) -> None:
    """The arrays of the rows in a block; psycopg hands out whole rows, the first with the header before it."""
    at = len(_SIGNATURE) if block.startswith(_SIGNATURE[:11]) else 0
    while at < len(block) and block[at:at + 2] != b"\xff\xff":
        at += 2
        row: dict[str, NDArray[Any]] = {}
        for name, kind in columns.items():
            size = int.from_bytes(block[at:at + 4], "big", signed=True)
            body = block[at + 4:at + 4 + size]
            at += 4 + max(size, 0)
            width = np.dtype(_TYPES[kind]).itemsize
            # an array: dimensions, flags, element type, then length and lower bound of its one dimension
            if size < 20 or int.from_bytes(body[4:8], "big") or (size - 20) % (4 + width):
                raise StorageError(f"expected an array of {kind} without NULL in the column {name}")
            items = np.frombuffer(body, [("#", ">i4"), ("v", _TYPES[kind])], offset=20)["v"]
            row[name] = items.astype(items.dtype.newbyteorder("="))
        n = max(map(len, row.values()))
        for name, items in row.items():
            if len(items) not in (1, n):
                raise StorageError(f"expected {n} elements in the column {name}, got {len(items)}")
            parts[name].append(items if len(items) == n else np.repeat(items, n))


def write_columns(conn: Connection, copy: str, columns: Mapping[str, str], values: Mapping[str, NDArray[Any]],
                  null: str | None = None) -> int:
    """COPY the columns by `COPY t (...) FROM STDIN (FORMAT binary)`; NaN in the column `null` is written as NULL."""
    n = len(next(iter(values.values())))
    if n == 0:
        return 0
    missing = np.isnan(values[null]) if null is not None else np.zeros(n, bool)
    with conn.cursor().copy(copy) as stream:
        stream.write(_SIGNATURE)
        for some, hole in ((~missing, None), (missing, null)):
            if some.any():
                stream.write(_pack(columns, {k: v[some] for k, v in values.items()}, hole))
        stream.write(b"\xff\xff")
    return n


def _pack(columns: Mapping[str, str], values: Mapping[str, NDArray[Any]], hole: str | None) -> bytes:
    dtype = _dtype(columns, hole)
    rows = np.empty(len(next(iter(values.values()))), dtype)
    rows["#"] = len(columns)
    for name, kind in columns.items():
        rows[f"{name}#"] = -1 if name == hole else np.dtype(_TYPES[kind]).itemsize
        if name != hole:
            rows[name] = values[name]
    return rows.tobytes()
