"""Days of emission that are kept say what their hours say, whatever wrote the hours, in every zone."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

Db = psycopg.Connection[Any]
HOURS = """INSERT INTO emission_1h (base_id, unit_id, quantity, ts, n_valid, state, measured, converted, flow, mass_kg,
                             substituted, exceeded)
    SELECT 1, u.unit_id, q.quantity, h, 60, s.state, CASE WHEN s.state = 'valid' AND n % 7 > 0 THEN 3 + n % 40 END,
           CASE WHEN s.state = 'valid' AND n % 7 > 0 THEN 3.5 + n % 40 END, CASE WHEN n % 11 > 0 THEN 100 + n % 13 END,
           CASE WHEN n % 5 > 0 THEN n % 17 END, n % 6 = 0, CASE WHEN s.state = 'valid' THEN n % 40 > 36 END
    FROM (VALUES ('e1.stack', 'so2'), ('e1.stack', 'nox'), ('e2.outlet', 'cod'), ('e2.outlet', 'ph')) AS q (unit, quantity)
    JOIN unit u ON u.code = q.unit
    CROSS JOIN generate_series('2026-03-06T05:00Z'::timestamptz, '2026-04-02T09:00Z', interval '1 hour') h
    CROSS JOIN LATERAL (SELECT (extract(epoch FROM h)::bigint / 3600 * 31 + u.unit_id * 7 + length(q.quantity)) % 997 AS n) r
    CROSS JOIN (SELECT '{valid,valid,valid,valid,stopped,exempt,insufficient,missing}'::text[] AS states) k
    CROSS JOIN LATERAL (SELECT states[1 + n % 8] AS state) s"""
DAYS = "SELECT * FROM emission_1d WHERE base_id = 1 ORDER BY day, unit_id, quantity"


def by_hours(db: Db) -> list[Any]:
    """What the view makes of the hours: it asks them of every past instant, and this one is past all of them."""
    with db.transaction():
        db.execute("SET LOCAL park.as_of = '2100-01-01Z'")
        return db.execute(DAYS).fetchall()


@pytest.mark.parametrize("zone", ["Asia/Shanghai", "America/New_York", "Asia/Kolkata"])
def test_kept_days_say_what_their_hours_say_whatever_wrote_them(mini: Db, zone: str) -> None:
    mini.execute(HOURS)
    mini.execute("UPDATE base SET timezone = %s", (zone,))
    assert len(by_hours(mini)) > 4 * 27
    for change in ("UPDATE emission_1h SET mass_kg = 7 WHERE ts BETWEEN '2026-03-08Z' AND '2026-03-09T18:00Z'",
                   "DELETE FROM emission_1h WHERE quantity = 'so2' AND ts BETWEEN '2026-03-10Z' AND '2026-03-12T22:00Z'",
                   "UPDATE unit SET attributes = attributes || '{\"medium\": \"water\"}' WHERE code = 'e1.stack'",
                   "UPDATE emission_1h SET state = 'valid', measured = 1e3, converted = 1e3 WHERE ts = '2026-03-29T01:00Z'"):
        before = mini.execute(DAYS).fetchall()
        assert mini.execute(change).rowcount
        now = mini.execute(DAYS).fetchall()
        assert now == by_hours(mini)
        assert now != before
