"""The proof of self-healing: every stored figure against a full computation from raw readings.

The stored figures are copied aside, everything is computed again in one transaction, both are compared cell by cell, and the
transaction is rolled back: nothing is changed, and a reader beside it sees nothing of it.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from psycopg import sql

from accounting import bills, energy, gauges, indicators, outlet_events, outlets, passes, treatment
from accounting.columns import Connection
from accounting.counters import SQL, recount

# table, key columns, cells to compare; serial ids and times of computing are not figures
TABLES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "interval_15m": (("point_id", "ts"), ("amount", "quality", "method")),
    "formula_effect": (("point_id", "part_id", "ts"), ("amount",)),
    "interval_1h": (("point_id", "ts"), ("amount", "estimated", "n_expected", "n_known", "n_good")),
    "interval_1d": (("point_id", "ts"), ("amount", "estimated", "n_expected", "n_known", "n_good")),
    "interval_1mo": (("point_id", "ts"), ("amount", "estimated", "n_expected", "n_known", "n_good", "days", "cost",
                                            "days_unpriced")),
    "cost_1d": (("point_id", "day", "period"), ("amount", "cost", "tariff_id")),
    "energy_total": (("enterprise_id", "carrier", "day"),
                     ("amount", "generation", "export", "estimated", "n_expected", "n_known", "n_good", "tce_calorific",
                      "tce_equivalent", "co2_kg", "cost", "factor_ids", "billed", "made_inside", "feedstock", "green",
                      "tce_calorific_assessed",
                      "tce_equivalent_assessed", "co2_market_kg", "setting_ids", "market_factor_ids", "ledger_ids")),
    "emission_day": (("unit_id", "quantity", "day"),
                     ("hours_valid", "hours_stopped", "hours_exempt", "hours_insufficient", "hours_missing", "measured",
                      "converted", "measured_by_flow", "converted_by_flow", "max_converted", "mass_kg", "hours_substituted",
                      "hours_exceeded", "hours_marked", "hours_lost")),
    "emission_1h": (("unit_id", "quantity", "ts"), ("n_valid", "state", "measured", "converted", "oxygen", "flow", "mass_kg",
                                                    "substituted", "substitution", "limit_id", "limit_value", "exceeded",
                                                    "exempt_id")),
    "treatment_event": (("kind", "production_id", "treatment_id", "outlet_id", "started_at"), ("ended_at", "detail")),
    "bill": (("enterprise_id", "month"), ("total", "energy_kwh", "estimated_kwh", "n_expected", "n_known", "reactive_kvarh",
                                          "power_factor", "demand_kw", "demand_at", "demand_is_lower_bound", "kwh_per_kva",
                                          "complete", "notes")),
    "bill_line": (("enterprise_id", "month", "line"), ("item", "quantity", "price", "factor", "amount", "tariff_id")),
    "indicator_value": (("indicator", "period"), ("value", "unit", "coverage", "grade")),
}
MAY_BE_NULL = {"enterprise_id", "production_id", "treatment_id", "outlet_id"}
NUMBERS = {"amount", "estimated", "cost", "generation", "export", "tce_calorific", "tce_equivalent", "co2_kg", "measured",
           "converted", "measured_by_flow", "converted_by_flow", "max_converted", "oxygen", "flow", "mass_kg", "value",
           "price", "coverage", "total", "energy_kwh", "estimated_kwh",
           "reactive_kvarh", "demand_kw", "kwh_per_kva", "quantity", "billed", "made_inside", "feedstock", "green",
           "tce_calorific_assessed", "tce_equivalent_assessed", "co2_market_kg"}


def verify(conn: Connection, base_id: int, now: datetime) -> list[str]:
    """A line for each cell of the base that a full computation at `now` gives otherwise; empty when all are equal."""
    zone = conn.execute("SELECT timezone FROM base WHERE base_id = %s", (base_id,)).fetchone()
    span = passes.whole_span(conn, base_id)
    if zone is None or span is None:
        return []
    with conn.transaction(force_rollback=True):
        conn.execute(SQL["without_history"])
        # what time alone brings is due at any moment and no fault of the stored figures
        energy.prepare(conn)
        if energy.touch_due_days(conn, base_id, now):
            energy.roll(conn, base_id, zone[0], now, replaced=False)
        energy.roll_ledger(conn, base_id, now)
        outlets.pass_time(conn, base_id, zone[0], now, hours_changed=True)
        periods = [row[0] for row in conn.execute(
            "SELECT DISTINCT period FROM indicator_value WHERE base_id = %s ORDER BY 1", (base_id,))]
        bills.compute(conn, base_id, zone[0], periods, now)
        indicators.compute(conn, base_id, zone[0], periods, now)
        for table in TABLES:
            conn.execute(sql.SQL("CREATE TEMP TABLE {} ON COMMIT DROP AS SELECT * FROM {} WHERE base_id = {}").format(
                sql.Identifier(f"was_{table}"), sql.Identifier(table), sql.Literal(base_id)))
            conn.execute(sql.SQL("DELETE FROM {} WHERE base_id = {}").format(sql.Identifier(table), sql.Literal(base_id)))
        _compute_all(conn, base_id, zone[0], span, now, periods)
        lines = [line for table in TABLES for line in _differences(conn, base_id, table)]
        closed = conn.execute(SQL["pass_of"], {"base": base_id, "pass": "close"}).fetchone()
        return lines if closed is None else lines + gauges.verify(conn, base_id, span[0], min(closed[0], now) - gauges.SETTLE)


def _compute_all(conn: Connection, base_id: int, zone: str, span: tuple[datetime, datetime], now: datetime,
                 periods: list[str]) -> None:
    """Everything from raw readings, in one piece."""
    energy.prepare(conn)
    points = [row[0] for row in conn.execute("SELECT point_id FROM point WHERE base_id = %s ORDER BY 1", (base_id,))]
    spans = [(p, span[0], span[1]) for p in points]
    energy.touch(conn, zone, recount(conn, base_id, spans))
    energy.touch_due_days(conn, base_id, now)
    energy.roll(conn, base_id, zone, now, replaced=False)
    energy.prepare(conn)
    if energy.touch_due_days(conn, base_id, now):
        energy.roll(conn, base_id, zone, now, replaced=False)
    energy.roll_ledger(conn, base_id, now)
    outlets.account(conn, base_id, zone, spans, min(now, span[1] + timedelta(days=1)))
    outlets.pass_time(conn, base_id, zone, now, hours_changed=True)
    treatment.account(conn, base_id, zone, spans, now)
    outlet_events.account(conn, base_id, zone, spans)
    bills.compute(conn, base_id, zone, periods, now)
    indicators.compute(conn, base_id, zone, periods, now)


def _differences(conn: Connection, base_id: int, table: str) -> list[str]:
    """`table key: column was x, is y` for each cell that differs; a row on one side only is one line."""
    key, cells = TABLES[table]
    same = sql.SQL(" AND ").join(
        sql.SQL("(a.{c} IS NOT DISTINCT FROM b.{c} OR abs(a.{c} - b.{c}) <= 1e-6 * (1 + abs(a.{c})))" if c in NUMBERS
                else "a.{c} IS NOT DISTINCT FROM b.{c}").format(c=sql.Identifier(c)) for c in cells)
    # plain equality, so that the join can hash: the base's own total (no enterprise) becomes number -1
    on = sql.SQL(" AND ").join(
        sql.SQL("coalesce(a.{c}, -1) = coalesce(b.{c}, -1)" if c in MAY_BE_NULL else "a.{c} = b.{c}").format(
            c=sql.Identifier(c)) for c in key)
    query = sql.SQL("""SELECT to_jsonb(a), to_jsonb(b) FROM {was} a
        FULL JOIN (SELECT * FROM {table} WHERE base_id = {base}) b ON {on}
        WHERE a.base_id IS NULL OR b.base_id IS NULL OR NOT ({same}) LIMIT 1000""").format(
        was=sql.Identifier(f"was_{table}"), table=sql.Identifier(table), base=sql.Literal(base_id), on=on, same=same)
    return [_line(table, was, is_) for was, is_ in conn.execute(query)]


def _line(table: str, was: dict[str, Any] | None, is_: dict[str, Any] | None) -> str:
    key, cells = TABLES[table]
    place = " ".join(str((was or is_ or {})[c]) for c in key)
    if was is None or is_ is None:
        return f"{table} {place}: {'missing, should be there' if was is None else 'there, should not be'}"
    return f"{table} {place}: " + ", ".join(f"{c} is stored as {was[c]}, should be {is_[c]}" for c in cells if was[c] != is_[c])
