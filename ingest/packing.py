"""Columns to the bytes of PostgreSQL's binary COPY, packed by numpy: the cheapest way into a table.

Used by every write of the stage. A row's bytes depend on which of its values are NULL, so rows are packed in one
piece for each pattern of NULLs (a handful at most); the order of rows is kept within a pattern only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from psycopg import Cursor, errors, sql

EPOCH_2000_US = 946_684_800_000_000  # PostgreSQL counts microseconds from 2000-01-01, Unix from 1970-01-01
# What COPY raises for rows that are there already. Of a worker Citus passes the words on and not the code: then it may be
# anything, which merging meets again under its own code.
CONFLICTS = (errors.UniqueViolation, errors.InternalError_)
_SIGNATURE = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
_PIECE = 16_384
_TRAILER = b"\xff\xff"
_WIRE = {"bool": "?", "int2": ">i2", "int4": ">i4", "int8": ">i8", "float8": ">f8", "timestamptz": ">i8"}

Array = NDArray[Any]


@dataclass(frozen=True)
class Column:
    """One column of a COPY: name, PostgreSQL type, values (N,), and where it is NULL (N,) if it can be.

    `timestamptz` takes epoch microseconds, `float8` may use NaN for NULL by `null_nan`.
    """

    name: str
    type: str
    values: Array
    null: NDArray[np.bool_] | None = None


def null_nan(name: str, values: Array) -> Column:
    """A float8 column whose NaN are NULL."""
    null = np.isnan(values)
    return Column(name, "float8", values, null if null.any() else None)


def pack(columns: Sequence[Column]) -> Iterator[bytes]:
    """The rows of the columns as tuples of binary COPY, without signature and trailer, some ten thousand rows a piece: the
    server takes one while the next is packed."""
    n = len(columns[0].values)
    pattern = np.zeros(n, np.int64)
    for k, column in enumerate(columns):
        if column.null is not None:
            pattern |= column.null.astype(np.int64) << k
    if not pattern.any():
        for low in range(0, n, _PIECE):
            yield _pack_pattern(columns, 0, slice(low, low + _PIECE))
        return
    for code in np.unique(pattern):
        rows = np.flatnonzero(pattern == code)
        for low in range(0, len(rows), _PIECE):
            yield _pack_pattern(columns, int(code), rows[low:low + _PIECE])


def _pack_pattern(columns: Sequence[Column], code: int, rows: slice | NDArray[np.intp]) -> bytes:
    fields: list[tuple[str, str]] = [("count", ">i2")]
    for k, column in enumerate(columns):
        fields.append((f"len{k}", ">i4"))
        if not code >> k & 1:
            fields.append((f"val{k}", _WIRE[column.type]))
    out = np.empty(len(columns[0].values[rows]), np.dtype(fields))
    out["count"] = len(columns)
    for k, column in enumerate(columns):
        if code >> k & 1:
            out[f"len{k}"] = -1
            continue
        values = column.values[rows]
        out[f"len{k}"] = np.dtype(_WIRE[column.type]).itemsize
        out[f"val{k}"] = values - EPOCH_2000_US if column.type == "timestamptz" else values
    return out.tobytes()


def copy_into(cur: Cursor[Any], table: str, columns: Sequence[Column], *, freeze: bool = False) -> int:
    """COPY the columns into `table` in the present transaction; the number of rows.

    `freeze` is for a table made in the same transaction: its rows need no later visit.
    """
    n = len(columns[0].values)
    if n:
        statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY, FREEZE {})").format(
            sql.Identifier(table), sql.SQL(", ").join(sql.Identifier(c.name) for c in columns), sql.Literal(freeze))
        with cur.copy(statement) as copy:
            copy.write(_SIGNATURE)
            for piece in pack(columns):
                copy.write(piece)
            copy.write(_TRAILER)
    return n


def array_of(raw: bytes, kind: str) -> Array:
    """A one-dimensional array without NULLs from PostgreSQL's binary form; timestamps as epoch microseconds."""
    wire = np.dtype([("len", ">i4"), ("val", _WIRE[kind])])
    values = np.frombuffer(raw, wire, offset=20)["val"] if len(raw) > 20 else np.empty(0, _WIRE[kind])
    native: Array = values.astype(values.dtype.newbyteorder("="))
    return native + EPOCH_2000_US if kind == "timestamptz" else native
