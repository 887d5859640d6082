"""Bulk rows as numpy columns over PostgreSQL's binary COPY, in both directions.

Rows are read as arrays (array_agg), one COPY row a point, without NULL (coalesce a value to NaN).
Written rows may be NULL in one float column: NaN becomes NULL, in a COPY of its own.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray

from park.errors import StorageError

Connection = psycopg.Connection[Any]
Columns = dict[str, NDArray[Any]]

EPOCH = datetime(2000, 1, 1, tzinfo=UTC)          # PostgreSQL's
_ZERO = np.datetime64("2000-01-01", "us")
_SIGNATURE = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_ARRAY = struct.Struct(">iii")
_TYPES = {"i2": ">i2", "i4": ">i4", "i8": ">i8", "f8": ">f8", "ts": ">i8", "date": ">i4"}


def to_us(instant: datetime) -> int:
    """Microseconds since 2000-01-01 UTC."""
    return (instant - EPOCH) // timedelta(microseconds=1)


def from_us(us: int) -> datetime:
    """The aware instant of `to_us`."""
    return EPOCH + timedelta(microseconds=int(us))


def instants(us: Iterable[int] | NDArray[np.int64]) -> str:
    """Instants (microseconds since 2000) as PostgreSQL writes an array; as a list, 100,000 of them take the driver a second."""
    at = np.fromiter(us, np.int64).astype("m8[us]") + _ZERO
    return "{" + ",".join(f"{t}Z" for t in np.datetime_as_string(at)) + "}" if len(at) else "{}"


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
    cells = [(name, np.dtype([("#", ">i4"), ("v", _TYPES[kind])])) for name, kind in columns.items()]
    parts: dict[str, list[NDArray[Any]]] = {name: [] for name in columns}
    lengths: list[int] = []
    with conn.cursor().copy(copy, params) as stream:
        for block in stream:
            _unpack(bytes(block), cells, parts, lengths)
    return {name: _joined(part, np.dtype(_TYPES[columns[name]]), lengths) for name, part in parts.items()}


def _unpack(block: bytes, cells: Sequence[tuple[str, np.dtype[Any]]], parts: dict[str, list[NDArray[Any]]],
            lengths: list[int]) -> None:
    """The arrays of the rows in a block and the rows' lengths; psycopg hands out whole rows, the first after the header."""
    at = len(_SIGNATURE) if block.startswith(_SIGNATURE[:11]) else 0
    while at < len(block) and block[at:at + 2] != b"\xff\xff":
        at += 2
        longest = 1
        for name, cell in cells:
            # an array: its size, dimensions, flags, element type, then length and lower bound of its one dimension
            size, _, has_null = _ARRAY.unpack_from(block, at) if len(block) >= at + 24 else (-1, 0, 0)
            if size < 20 or has_null or (size - 20) % cell.itemsize:
                raise StorageError(f"expected an array of {cell['v']} without NULL in the column {name}")
            items = np.frombuffer(block, cell, (size - 20) // cell.itemsize, at + 24)["v"]
            at += 4 + size
            parts[name].append(items)
            longest = max(longest, len(items))
        lengths.append(longest)
        for name, _ in cells:
            if len(parts[name][-1]) not in (1, longest):
                raise StorageError(f"expected {longest} elements in the column {name}, got {len(parts[name][-1])}")


def _joined(parts: list[NDArray[Any]], kind: np.dtype[Any], lengths: list[int]) -> NDArray[Any]:
    """Arrays end to end in the machine's own order of bytes, single elements as often as their row is long."""
    native = kind.newbyteorder("=")
    if not parts:
        return np.empty(0, native)
    joined, own = np.concatenate(parts).astype(native), np.array([len(p) for p in parts])
    return joined if len(joined) == sum(lengths) else np.repeat(joined, np.repeat(np.where(own == lengths, 1, lengths), own))


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
