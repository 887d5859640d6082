"""Slots of counters as they are stored: what changed, and bringing `interval_15m` to what was computed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from accounting.columns import Columns, Connection, instants, write_columns
from accounting.intervals import SLOT_US
from park.database import queries

SQL = queries(Path(__file__).parent / "queries.sql")
INTERVAL = {"point_id": "i4", "ts": "ts", "amount": "f8", "quality": "i2", "method": "i2"}
WRITTEN = {"ts": "ts", "amount": "f8", "point_id": "i4", "base_id": "i2", "quality": "i2", "method": "i2"}


@dataclass(frozen=True)
class Changed:
    """Slots whose figures changed: the counter and the slot's start, one entry a slot; whether stored ones were replaced."""

    point_id: NDArray[np.int32]
    ts: NDArray[np.int64]
    replaced: bool

    def __add__(self, other: Changed) -> Changed:
        return Changed(np.concatenate([self.point_id, other.point_id]), np.concatenate([self.ts, other.ts]),
                       self.replaced or other.replaced)


NOTHING = Changed(np.empty(0, np.int32), np.empty(0, np.int64), False)


def replace(conn: Connection, base_id: int, old: Columns, new: Columns, write: bool) -> Changed:
    """Bring the stored slots to the new ones; the answer names those that differ, vanish or are new."""
    old, a = _sorted(old)
    new, b = _sorted(new)
    if len(a) == len(b) and np.array_equal(a, b):
        kept, at = np.ones(len(a), bool), np.arange(len(a))
    else:
        at = np.minimum(np.searchsorted(b, a), max(len(b) - 1, 0))
        kept = b[at] == a if len(b) and len(a) else np.zeros(len(a), bool)
    same = kept.copy()
    if kept.any():
        was = {name: old[name][kept] for name in ("amount", "quality", "method")}
        is_ = {name: new[name][at[kept]] for name in ("amount", "quality", "method")}
        # the last bits of a sum depend on where the sum began: a billionth is no change; more adds up over a day
        equal = was["amount"] == is_["amount"]
        rest = np.flatnonzero(~equal)
        equal[rest] = np.isclose(was["amount"][rest], is_["amount"][rest], rtol=1e-9, atol=1e-9, equal_nan=True)
        same[kept] = equal & (was["quality"] == is_["quality"]) & (was["method"] == is_["method"])
    stays = np.zeros(len(b), bool)
    stays[at[same]] = True
    gone = ~same
    changed = Changed(np.concatenate([old["point_id"][gone], new["point_id"][~stays]]).astype(np.int32),
                      np.concatenate([old["ts"][gone], new["ts"][~stays]]).astype(np.int64), bool(gone.any()))
    if not write:
        return changed
    if gone.any():
        conn.execute(SQL["delete_intervals"], {"base": base_id, "points": old["point_id"][gone].tolist(),
                                               "ts": instants(old["ts"][gone])})
    rows = {k: v[~stays] for k, v in new.items()}
    rows["base_id"] = np.full(len(rows["ts"]), base_id, np.int16)
    write_columns(conn, SQL["write_intervals"], WRITTEN, {k: rows[k] for k in WRITTEN}, null="amount")
    return changed


def _sorted(columns: Columns) -> tuple[Columns, NDArray[np.int64]]:
    """The columns in the order of their keys, and those."""
    key = _key(columns)
    if (key[1:] > key[:-1]).all():
        return columns, key
    order = np.argsort(key, kind="stable")
    return {name: column[order] for name, column in columns.items()}, key[order]


def _key(columns: Columns) -> NDArray[np.int64]:
    """Point and slot in one number that sorts like the pair (slots since 2000 stay below 2^31 for sixty thousand years)."""
    return (columns["point_id"].astype(np.int64) << 32) + columns["ts"].astype(np.int64) // SLOT_US
