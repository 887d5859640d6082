"""Rows in every table, of whatever schema a database has: for tests of isolation, migrations and backups."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg import sql

# columns that would take a row out of sight, and the halves of pairs that must be there or not together
_EMPTY = re.compile(r"superseded|removed|withdrawn|revoked|expires|closed|ended|returned|shelved|suppress|replayed|dropped"
                    r"|reopened|sealed|until")
_OF = {"point_id": "point", "parent_id": "point", "child_id": "point", "unit_id": "unit", "production_id": "unit",
       "treatment_id": "unit", "outlet_id": "unit", "enterprise_id": "enterprise", "counterparty_id": "enterprise",
       "device_id": "device", "rule_id": "rule", "alert_id": "alert", "limit_id": "limit_value", "tariff_id": "tariff"}

_PLAIN = {"boolean": "true", "bytea": "x", "interval": "1 hour", "time without time zone": "08:00"}


class Filler:
    """Gives every empty table a row for each base; names, units and reasons of a row carry the base's mark."""

    def __init__(self, db: psycopg.Connection[Any]) -> None:
        self.db = db
        self._ids: dict[tuple[str, int], int] = {}
        row = db.execute("SELECT date_trunc('hour', now()) - interval '2 hours'").fetchone()
        self._hour: datetime = row[0] if row else datetime.now(UTC)

    def fill(self, bases: list[int], marks: dict[int, str]) -> list[str]:
        """Fill what is empty; the tables that hold rows of bases."""
        tables = self.db.execute("""SELECT c.relname, bool_or(a.attname = 'base_id') FROM pg_class c
            JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
            WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
            GROUP BY 1 ORDER BY 1""").fetchall()
        with self.db.transaction():
            self.db.execute("SET LOCAL session_replication_role = replica")
            if self.db.execute("SELECT to_regclass('reading_15m')").fetchone() != (None,):
                self.db.execute("SELECT ensure_reading_partitions(now() - interval '1 day', now())")
            for name, of_base in self._in_order(tables):
                for base in bases if of_base else [0]:
                    where = sql.SQL("WHERE base_id = {}").format(base) if of_base else sql.SQL("")
                    there = sql.SQL("SELECT EXISTS (SELECT 1 FROM {} {})").format(sql.Identifier(name), where)
                    if self.db.execute(there).fetchone() == (False,):
                        self._insert(name, base, marks.get(base, "x"))
        return [name for name, of_base in tables if of_base and self._holds(name)]

    def _in_order(self, tables: list[tuple[str, bool]]) -> list[tuple[str, bool]]:
        """Tables after those that they refer to; notes which column refers to which."""
        self._refers = {(table, column): (other, theirs) for table, column, other, theirs in self.db.execute("""
            SELECT c.conrelid::regclass::text, a.attname, c.confrelid::regclass::text, f.attname
            FROM pg_constraint c CROSS JOIN LATERAL unnest(c.conkey, c.confkey) AS k (ours, theirs)
            JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.ours
            JOIN pg_attribute f ON f.attrelid = c.confrelid AND f.attnum = k.theirs
            WHERE c.contype = 'f' AND c.conparentid = 0 AND a.attname <> 'base_id'""")}
        left, done = dict(tables), []
        while left:
            ready = [t for t in left if not any(o in left and o != t for (of, _), (o, _) in self._refers.items() if of == t)]
            for table in ready or list(left):
                done.append((table, left.pop(table)))
        return done

    def _holds(self, table: str) -> bool:
        return self.db.execute(sql.SQL("SELECT EXISTS (SELECT 1 FROM {})").format(sql.Identifier(table))).fetchone() == (True,)

    def _insert(self, table: str, base: int, mark: str) -> None:
        columns = self.db.execute("""SELECT attname, format_type(atttypid, NULL), attnotnull,
                attidentity <> '' OR attgenerated <> ''
            FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped""", (table,)).fetchall()
        allowed: dict[str, str] = {}
        for (text,) in self.db.execute("SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = %s::regclass "
                                       "AND contype = 'c'", (table,)):
            for column, word in re.findall(r"\(?(\w+) = (?:ANY \(\(?ARRAY\[)?'([^']+)'", text):
                allowed.setdefault(column, word)
        row = {name: self._referred(table, name, base) if (table, name) in self._refers
               else self._value(name, kind, base, mark, allowed) for name, kind, needed, given in columns
               if not given and (needed or not _EMPTY.search(name))}
        for _ in range(10):
            broken = self._try(table, row)
            if broken is None:
                return
            spare = [c for c, _, needed, _ in columns if c in row and not needed and self._is_in(table, broken, c)]
            if spare and any(row[c] is not None for c in spare):
                row |= dict.fromkeys(spare)
            else:       # a rule that no simple row fulfils: this is about who sees the row, not about what it says
                self.db.execute(sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}").format(
                    sql.Identifier(table), sql.Identifier(broken)))

    def _try(self, table: str, row: dict[str, Any]) -> str | None:
        """Insert the row; the check that it breaks, if any."""
        statement = sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
            sql.Identifier(table), sql.SQL(", ").join(map(sql.Identifier, row)),
            sql.SQL(", ").join([sql.Placeholder()] * len(row)))
        try:
            with self.db.transaction():
                self.db.execute(statement, list(row.values()))
        except psycopg.errors.CheckViolation as exc:
            return exc.diag.constraint_name     # none: an early state that makes no partitions yet
        return None

    def _is_in(self, table: str, constraint: str, column: str) -> bool:
        return self.db.execute("""SELECT EXISTS (SELECT FROM pg_constraint c JOIN pg_attribute a
                ON a.attrelid = c.conrelid AND a.attnum = ANY (c.conkey)
            WHERE c.conrelid = %s::regclass AND c.conname = %s AND a.attname = %s)""",
            (table, constraint, column)).fetchone() == (True,)

    def _referred(self, table: str, column: str, base: int) -> int | str | None:
        other, theirs = self._refers[table, column]
        if other == table:
            return None
        row = self.db.execute(sql.SQL("SELECT min({}) FROM {} x WHERE coalesce(to_jsonb(x) ->> 'base_id', %s) = %s").format(
            sql.Identifier(theirs), sql.Identifier(other)), (str(base), str(base))).fetchone()
        return row[0] if row else None

    def _value(self, name: str, kind: str, base: int, mark: str, allowed: dict[str, str]) -> Any:
        if name == "base_id":
            return base or None
        if name in allowed:
            return allowed[name]
        if name in _OF:
            return self._first(_OF[name], base)
        if name == "timezone":
            return "Asia/Shanghai"
        if kind == "text":
            return f"{mark}-{name}"
        if kind == "jsonb":
            return f'{{"mark": "{mark}"}}'
        if kind.startswith("timestamp"):
            return self._at(30 if re.search("end|to$|last|high", name) else 0)
        if kind == "date":
            return self._at(0)[:10]
        if kind == "double precision":
            return f"{base}00{base}.5"      # 1001.5 for base 1: a number that tells whose it is
        return "{}" if kind.endswith("[]") else _PLAIN.get(kind, "2026" if name == "year" else "1")

    def _at(self, minutes: int) -> str:
        return (self._hour + timedelta(minutes=minutes)).isoformat()

    def _first(self, table: str, base: int) -> int:
        """The first id of a base in a table of things."""
        if (table, base) not in self._ids:
            row = self.db.execute(sql.SQL("SELECT min({}) FROM {} WHERE base_id = {}").format(
                sql.Identifier(table.split("_", maxsplit=1)[0] + "_id"), sql.Identifier(table), base)).fetchone()
            if not row or row[0] is None:
                return 1
            self._ids[table, base] = row[0]
        return self._ids[table, base]


@pytest.fixture(scope="session")
def filler() -> type[Filler]:
    return Filler
