"""A catalogue into the database and back: `plan` says what would change, `apply` does it, `export` writes YAML again.

Applying twice changes nothing, and nothing is forgotten: a changed limit, factor, tariff or target supersedes the former row,
a changed ledger entry is corrected by a new one, and of every other row the database keeps the former version with the time,
the person and the reason (migration 015), so that what was known at an instant stays readable. What is not in the files is left
alone unless `prune` retires it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from park.catalogue import Catalogue, Names
from park.catalogue_columns import OF_POINT, columns_of
from park.errors import NotFound

Connection = psycopg.Connection[Any]


@dataclass(frozen=True)
class Section:
    """How a section of the catalogue lies in a table: its key, whether its rows supersede, retire, end or get corrected."""

    name: str
    table: str
    key: tuple[str, ...]
    identity: str | None = None
    supersedes: bool = False
    retires: bool = False
    disables: bool = False
    corrected: bool = False

    @property
    def current(self) -> sql.SQL:
        """What keeps former rows out of a SELECT of the table."""
        if self.supersedes:
            return sql.SQL(" AND superseded_at IS NULL")
        if self.corrected:
            return sql.SQL(" AND entry_id NOT IN (SELECT supersedes FROM ledger WHERE supersedes IS NOT NULL)")
        return sql.SQL("")


# in the order in which rows may refer to each other
SECTIONS = (
    Section("enterprises", "enterprise", ("code",), "enterprise_id"),
    Section("units", "unit", ("code",), "unit_id"),
    Section("devices", "device", ("code",), "device_id", retires=True),
    Section("points", "point", ("code",), "point_id", retires=True),
    Section("meters", "meter", ("point_id", "installed_at")),
    Section("flows", "flow", ("carrier", "parent_id", "child_id", "valid_from")),
    Section("limits", "limit_value", ("unit_id", "quantity", "statistic", "rank", "valid_from"), supersedes=True),
    Section("factors", "factor", ("carrier", "kind", "region", "valid_from"), supersedes=True),
    Section("accuracies", "accuracy", ("template", "quantity", "carrier", "valid_from"), supersedes=True),
    Section("settings", "setting", ("name", "valid_from"), supersedes=True),
    Section("tariffs", "tariff", ("code", "valid_from"), supersedes=True),
    Section("calendars", "calendar", ("code", "day")),
    Section("targets", "target", ("indicator", "year"), supersedes=True),
    Section("indicators", "indicator_definition", ("code", "valid_from"), supersedes=True),
    Section("rules", "rule", ("code",), disables=True),
    Section("ledger", "ledger", ("kind", "enterprise_id", "counterparty_id", "item", "action", "first_day", "last_day"),
            corrected=True),
)


@dataclass(frozen=True)
class Change:
    """One line of a plan: add, change (with the fields and their old and new values) or retire."""

    section: str
    action: str
    key: str
    fields: dict[str, tuple[Any, Any]]

    def __str__(self) -> str:
        sign = {"add": "+", "change": "~", "retire": "-"}[self.action]
        detail = "".join(f"  {f}: {old!r} -> {new!r}" for f, (old, new) in self.fields.items())
        return f"{sign} {self.section} {self.key}{detail}"


def plan(conn: Connection, catalogue: Catalogue, *, prune: bool = False) -> list[Change]:
    """What `apply` would change; the database is left as it was."""
    with conn.transaction(force_rollback=True):
        return _apply(conn, catalogue, "plan", prune)


def apply(conn: Connection, catalogue: Catalogue, *, by: str = "catalogue", reason: str = "catalogue applied",
          prune: bool = False) -> list[Change]:
    """Bring the database to the catalogue in one transaction and tell every stage (NOTIFY park_catalogue).

    `by` and `reason` stay with the former versions of what changes.
    """
    with conn.transaction():
        conn.execute("SELECT set_config('park.actor', %s, true), set_config('park.reason', %s, true)", (by, reason))
        changes = _apply(conn, catalogue, by, prune)
        if changes:
            conn.execute("SELECT pg_notify('park_catalogue', %s)", (catalogue.base.code if catalogue.base else "",))
    return changes


def base_id_of(conn: Connection, code: str) -> int:
    """The id of a base; NotFound naming the bases there are."""
    rows = dict(conn.execute("SELECT code, base_id FROM base ORDER BY code").fetchall())
    if code not in rows:
        raise NotFound(f"there is no base {code!r}; known: {', '.join(rows) or 'none, apply a catalogue first'}")
    return int(rows[code])


def _apply(conn: Connection, catalogue: Catalogue, by: str, prune: bool) -> list[Change]:
    # One writer at a time: a catalogue is small, and two that interleave would read each other's halves.
    conn.execute("SELECT pg_advisory_xact_lock(hashtext('park catalogue'))")
    changes: list[Change] = []
    base_id = _apply_base(conn, catalogue, changes)
    ids: dict[str, dict[str, int]] = {}
    for section in SECTIONS:
        wanted = list(columns_of(section.name, catalogue, ids, by))
        changes += _apply_section(conn, section, base_id, wanted, prune, ids)
        if section.identity is not None and base_id is not None:
            query = sql.SQL("SELECT code, {} FROM {} WHERE base_id = %s").format(
                sql.Identifier(section.identity), sql.Identifier(section.table))
            ids[section.name] = dict(conn.execute(query, (base_id,)).fetchall())
        if section.name == "units":
            _link_parents(conn, catalogue, base_id, ids)
        if prune and section.name == "flows":
            changes += _end_flows(conn, section, base_id, ids)
    return changes


def _apply_base(conn: Connection, catalogue: Catalogue, changes: list[Change]) -> int | None:
    base = catalogue.base
    if base is None:
        return None
    values = {"name_zh": base.name.zh, "name_en": base.name.en, "region": base.region, "timezone": base.timezone,
              "attributes": base.attributes | ({"plan": {str(k): v for k, v in base.plan.items()}} if base.plan else {})}
    with conn.cursor(row_factory=dict_row) as cur:
        there = cur.execute("SELECT * FROM base WHERE code = %s", (base.code,)).fetchone()
        if there is None:
            changes.append(Change("base", "add", base.code, {}))
            row = cur.execute("""INSERT INTO base (code, name_zh, name_en, region, timezone, attributes)
                VALUES (%(code)s, %(name_zh)s, %(name_en)s, %(region)s, %(timezone)s, %(attributes)s) RETURNING base_id""",
                _adapt(values) | {"code": base.code}).fetchone()
            assert row is not None
            return int(row["base_id"])
        fields = {f: (there[f], v) for f, v in values.items() if there[f] != v}
        if fields:
            changes.append(Change("base", "change", base.code, fields))
            cur.execute("""UPDATE base SET name_zh = %(name_zh)s, name_en = %(name_en)s, region = %(region)s,
                timezone = %(timezone)s, attributes = %(attributes)s WHERE code = %(code)s""",
                _adapt(values) | {"code": base.code})
        return int(there["base_id"])


def _apply_section(conn: Connection, section: Section, base_id: int | None, wanted: list[dict[str, Any]],
                   prune: bool, ids: dict[str, dict[str, int]]) -> list[Change]:
    with conn.cursor(row_factory=dict_row) as cur:
        table = sql.Identifier(section.table)
        every = sql.SQL("SELECT * FROM {} WHERE base_id IS NOT DISTINCT FROM %s").format(table)
        cur.execute(every + section.current, (base_id,))
        pairs, left = _paired(section, wanted, cur.fetchall())
        changes = []
        for row, old in pairs:
            key = _key(section, row)
            values = row | {"removed_at": None} if old is not None and section.retires else row
            fields = {} if old is None else _differing(section, values, old)
            if old is not None and not fields:
                continue
            changes.append(Change(section.name, "change" if old else "add", _label(section, key, ids), fields))
            if old is not None and section.corrected:
                values = values | {"supersedes": old["entry_id"]}
            _write(cur, section, base_id, values, exists=old is not None and not section.corrected)
        if prune and section.retires:
            for old in left:
                if old["removed_at"] is None:
                    changes.append(Change(section.name, "retire", _label(section, _key(section, old), ids), {}))
                    cur.execute(sql.SQL("UPDATE {} SET removed_at = now() WHERE base_id = %s AND code = %s").format(table),
                                (base_id, old["code"]))
        elif prune and section.disables:
            for key in [_key(section, old) for old in left if old["enabled"]]:
                changes.append(Change(section.name, "retire", _label(section, key, ids), {}))
                cur.execute(sql.SQL("UPDATE {} SET enabled = false WHERE base_id = %s AND code = %s").format(table),
                            (base_id, key[0]))
        return changes


def _end_flows(conn: Connection, section: Section, base_id: int | None, ids: dict[str, dict[str, int]]) -> list[Change]:
    """Flows of retired points end with their last day: a balance would wait for them for ever."""
    with conn.cursor(row_factory=dict_row) as cur:
        ended = cur.execute("""UPDATE flow f SET valid_to = (p.removed_at AT TIME ZONE b.timezone)::date + 1
            FROM point p JOIN base b USING (base_id)
            WHERE f.base_id = %s AND p.base_id = f.base_id AND p.point_id IN (f.parent_id, f.child_id) AND f.valid_to IS NULL
              AND f.valid_from <= (p.removed_at AT TIME ZONE b.timezone)::date
            RETURNING f.*""", (base_id,)).fetchall()
    return [Change(section.name, "retire", _label(section, _key(section, row), ids), {}) for row in ended]


def _paired(section: Section, wanted: list[dict[str, Any]], rows: list[dict[str, Any]]
            ) -> tuple[list[tuple[dict[str, Any], dict[str, Any] | None]], list[dict[str, Any]]]:
    """Each wanted row with the stored one of its key, and the stored rows that are left over.

    Two lorries of one waste on one day are two ledger entries of one key: equal ones find each other before any is corrected.
    """
    there: dict[Any, list[dict[str, Any]]] = {}
    for old in rows:
        there.setdefault(_key(section, old), []).append(old)
    equal: dict[int, dict[str, Any]] = {}
    for i, row in enumerate(wanted):
        same_key = there.get(_key(section, row), [])
        at = next((n for n, old in enumerate(same_key) if not _differing(section, row, old)), None)
        if at is not None:
            equal[i] = same_key.pop(at)
    pairs = []
    for i, row in enumerate(wanted):
        same_key = there.get(_key(section, row), [])
        pairs.append((row, equal[i] if i in equal else same_key.pop(0) if same_key else None))
    return pairs, [old for olds in there.values() for old in olds]


def _differing(section: Section, row: dict[str, Any], old: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """(old, new) of each field that a wanted row changes."""
    return {f: (old[f], v) for f, v in row.items() if f not in section.key and f != "recorded_by" and old[f] != v}


def _write(cur: psycopg.Cursor[Any], section: Section, base_id: int | None, row: dict[str, Any], *, exists: bool) -> None:
    table = sql.Identifier(section.table)
    match = sql.SQL(" AND ").join(
        sql.SQL("{} IS NOT DISTINCT FROM {}").format(sql.Identifier(c), sql.Placeholder(c)) for c in ("base_id", *section.key))
    values = _adapt(row) | {"base_id": base_id}
    if exists and section.supersedes:
        cur.execute(sql.SQL("UPDATE {} SET superseded_at = now() WHERE superseded_at IS NULL AND ").format(table) + match,
                    values)
    elif exists:
        sets = sql.SQL(", ").join(sql.SQL("{} = {}").format(sql.Identifier(c), sql.Placeholder(c)) for c in row)
        cur.execute(sql.SQL("UPDATE {} SET {} WHERE ").format(table, sets) + match, values)
        return
    cur.execute(sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
        table, sql.SQL(", ").join(map(sql.Identifier, values)), sql.SQL(", ").join(map(sql.Placeholder, values))), values)


def _key(section: Section, row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(row[c] for c in section.key)


# which section's codes an id in a key stands for, so that a plan speaks in codes
_SECTION_OF = {"point_id": "points", "parent_id": "points", "child_id": "points", "unit_id": "units",
               "enterprise_id": "enterprises", "counterparty_id": "enterprises"}


def _label(section: Section, key: tuple[Any, ...], ids: dict[str, dict[str, int]]) -> str:
    words = []
    for column, value in zip(section.key, key, strict=True):
        known = ids.get(_SECTION_OF.get(column, ""), {})
        words.append(next((code for code, number in known.items() if number == value), str(value)))
    return " ".join(w for w in words if w not in ("", "None"))


def _adapt(row: Mapping[str, Any]) -> dict[str, Any]:
    return {k: Jsonb(v) if isinstance(v, dict | list) else v for k, v in row.items()}


def _link_parents(conn: Connection, catalogue: Catalogue, base_id: int | None, ids: dict[str, dict[str, int]]) -> None:
    """Parents after all units are there: a tree may be written in any order."""
    if base_id is None or not catalogue.units:
        return
    pairs = [{"parent": ids["units"].get(u.parent) if u.parent else None, "base": base_id, "unit": ids["units"][u.code]}
             for u in catalogue.units]
    with conn.cursor() as cur:
        cur.executemany("""UPDATE unit SET parent_id = %(parent)s::integer
            WHERE base_id = %(base)s AND unit_id = %(unit)s AND parent_id IS DISTINCT FROM %(parent)s::integer""", pairs)


def export(conn: Connection, base: str) -> dict[str, Any]:
    """The catalogue of a base as plain data that `read_catalogue` reads back to the same rows."""
    base_id = base_id_of(conn, base)
    with conn.cursor(row_factory=dict_row) as cur:
        def rows(query: str) -> list[dict[str, Any]]:
            return cur.execute(query, {"base": base_id}).fetchall()  # type: ignore[arg-type]

        out: dict[str, Any] = {}
        b = rows("SELECT * FROM base WHERE base_id = %(base)s")[0]
        attributes = dict(b["attributes"])
        plan_years = attributes.pop("plan", {})
        out["base"] = _slim({"code": b["code"], "name": _names(b), "region": b["region"], "timezone": b["timezone"],
                             "plan": {int(y): v for y, v in plan_years.items()}, "attributes": attributes})
        for section, query in EXPORT.items():
            out[section] = [_slim(_row_out(section, r)) for r in rows(query)]
        out["calendars"] = _calendars_out(rows("SELECT * FROM calendar WHERE base_id = %(base)s ORDER BY code, day"))
    return {k: v for k, v in out.items() if v}


EXPORT = {
    "enterprises": "SELECT * FROM enterprise WHERE base_id = %(base)s ORDER BY enterprise_id",
    "units": """SELECT u.*, p.code AS parent, e.code AS enterprise FROM unit u
        LEFT JOIN unit p ON p.base_id = u.base_id AND p.unit_id = u.parent_id
        LEFT JOIN enterprise e ON e.base_id = u.base_id AND e.enterprise_id = u.enterprise_id
        WHERE u.base_id = %(base)s ORDER BY u.unit_id""",
    "devices": "SELECT * FROM device WHERE base_id = %(base)s AND removed_at IS NULL ORDER BY device_id",
    "points": """SELECT p.*, u.code AS belongs_to, d.code AS device FROM point p
        LEFT JOIN unit u ON u.base_id = p.base_id AND u.unit_id = p.unit_id
        LEFT JOIN device d ON d.base_id = p.base_id AND d.device_id = p.device_id
        WHERE p.base_id = %(base)s AND p.removed_at IS NULL ORDER BY p.point_id""",
    "meters": """SELECT m.*, p.code AS point, m.installed_at AS installed, m.removed_at AS removed FROM meter m
        JOIN point p USING (base_id, point_id) WHERE m.base_id = %(base)s AND p.removed_at IS NULL ORDER BY m.meter_id""",
    "flows": """SELECT f.carrier, f.kind, a.code AS parent, array_agg(b.code ORDER BY f.flow_id) AS children, f.valid_from,
        f.valid_to, f.source, f.verified, f.loss_share FROM flow f
        JOIN point a ON a.base_id = f.base_id AND a.point_id = f.parent_id
        JOIN point b ON b.base_id = f.base_id AND b.point_id = f.child_id
        WHERE f.base_id = %(base)s AND a.removed_at IS NULL AND b.removed_at IS NULL
        GROUP BY 1, 2, 3, 5, 6, 7, 8, 9 ORDER BY min(f.flow_id)""",
    "limits": """SELECT l.*, u.code AS outlet FROM limit_value l JOIN unit u USING (base_id, unit_id)
        WHERE l.base_id = %(base)s AND superseded_at IS NULL ORDER BY limit_id""",
    "factors": "SELECT * FROM factor WHERE base_id = %(base)s AND superseded_at IS NULL ORDER BY factor_id",
    "accuracies": "SELECT * FROM accuracy WHERE base_id = %(base)s AND superseded_at IS NULL ORDER BY accuracy_id",
    "settings": "SELECT * FROM setting WHERE base_id = %(base)s AND superseded_at IS NULL ORDER BY setting_id",
    "tariffs": """SELECT t.*, e.code AS enterprise FROM tariff t LEFT JOIN enterprise e USING (base_id, enterprise_id)
        WHERE t.base_id = %(base)s AND superseded_at IS NULL ORDER BY tariff_id""",
    "targets": "SELECT * FROM target WHERE base_id = %(base)s AND superseded_at IS NULL ORDER BY target_id",
    "indicators": """SELECT * FROM indicator_definition WHERE base_id = %(base)s AND superseded_at IS NULL
        ORDER BY definition_id""",
    "rules": "SELECT * FROM rule WHERE base_id = %(base)s ORDER BY rule_id",
    "ledger": """SELECT l.*, e.code AS enterprise, c.code AS counterparty FROM ledger l
        LEFT JOIN enterprise e ON e.base_id = l.base_id AND e.enterprise_id = l.enterprise_id
        LEFT JOIN enterprise c ON c.base_id = l.base_id AND c.enterprise_id = l.counterparty_id
        WHERE l.base_id = %(base)s AND l.entry_id NOT IN (SELECT supersedes FROM ledger WHERE supersedes IS NOT NULL)
        ORDER BY entry_id""",
}


def _row_out(section: str, r: dict[str, Any]) -> dict[str, Any]:
    model = Catalogue.model_fields[section].annotation.__args__[0]  # type: ignore[union-attr]
    row = {f: r[f] for f in model.model_fields if f in r}
    if "name_zh" in r:
        row["name"] = _names(r)
    if section == "points" and r["device"]:
        row["source"] = {"device": r["device"], "key": r["device_key"]}
    if section == "points":
        row["attributes"] = dict(r["attributes"])
        row |= {k: row["attributes"].pop(k) for k in OF_POINT if k in row["attributes"]}
    if section == "devices":
        row |= r["settings"]
    if section == "units":
        row["attributes"] = dict(r["attributes"])
        own = {"treats", "outlet_of", "medium", "o2_reference"} & row["attributes"].keys()
        row |= {k: row["attributes"].pop(k) for k in own}
    if section == "indicators":
        row = {"set": row.pop("set_code")} | row
    if "valid_from" in row:
        row = {"from": row.pop("valid_from"), "to": row.pop("valid_to", None)} | row
    return row


def _names(r: Mapping[str, Any]) -> Names:
    return r["name_zh"] if r["name_zh"] == r["name_en"] else {"zh": r["name_zh"], "en": r["name_en"]}  # type: ignore[return-value]


def _slim(row: dict[str, Any]) -> dict[str, Any]:
    return {k: _plain(v) for k, v in row.items() if v is not None and v not in ("", [], {})}


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, date | datetime) else value


def _calendars_out(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row a code, source and whether it was checked."""
    out: dict[tuple[str, str, bool], dict[str, Any]] = {}
    for r in rows:
        entry = out.setdefault((r["code"], r["source"], r["verified"]), {
            "code": r["code"], "source": r["source"], "verified": r["verified"], "days": {}})
        entry["days"][r["day"]] = r["class"]
    return list(out.values())
