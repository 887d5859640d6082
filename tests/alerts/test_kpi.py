"""The alert system's key figures as the view says them."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import psycopg

Db = psycopg.Connection[Any]
NOON = datetime(2026, 5, 6, 4, 0, tzinfo=UTC)      # 12:00 in Shanghai


def alert(db: Db, device: int, opened: datetime, returned: datetime | None = None) -> int:
    row = db.execute("""INSERT INTO alert (base_id, rule_id, device_id, severity, opened_at, active, returned_at)
        SELECT base_id, rule_id, %s, 'low', %s, %s, %s FROM rule RETURNING alert_id""",
                     (device, opened, returned is None, returned)).fetchone()
    assert row is not None
    return int(row[0])


def log(db: Db, alert_id: int, change: str, at: datetime, detail: str = "{}") -> None:
    db.execute("INSERT INTO transition (base_id, alert_id, change, actor, at, detail) VALUES (1, %s, %s, 'x', %s, %s)",
               (alert_id, change, at, detail))


def kpi(db: Db, day: date) -> dict[str, Any]:
    cursor = db.execute("SELECT * FROM alert_kpi_1d WHERE day = %s", (day,))
    row = cursor.fetchone()
    assert row is not None and cursor.description is not None
    return dict(zip([c.name for c in cursor.description], row, strict=True))


def test_a_day_counts_raises_floods_chatter_and_the_time_to_acknowledge(mini: Db) -> None:
    for i in range(12):         # a flood: twelve within ten minutes
        a = alert(mini, i, NOON + timedelta(seconds=20 * i))
        log(mini, a, "raise", NOON + timedelta(seconds=20 * i))
    log(mini, a, "ack", NOON + timedelta(seconds=220 + 90))
    for i in range(3):          # chatter: one alert three times within the hour
        log(mini, a, "reraise", NOON + timedelta(minutes=30 + i))
    log(mini, a, "ack", NOON + timedelta(minutes=32, seconds=30))
    log(mini, a, "return", NOON + timedelta(minutes=40), '{"closed": true}')
    row = kpi(mini, date(2026, 5, 6))
    assert (row["raised"], row["acknowledged"], row["closed"]) == (15, 2, 1)
    assert row["mean_ack_s"] == (90 + 30) / 2
    assert (row["peak_10min"], row["floods"], row["chattering"]) == (12, 1, 1)


def test_an_object_whose_alerts_close_by_themselves_chatters_too(mini: Db) -> None:
    for i in range(4):
        a = alert(mini, 7, NOON + timedelta(minutes=10 * i), NOON + timedelta(minutes=10 * i + 1))
        mini.execute("UPDATE alert SET closed_at = returned_at WHERE alert_id = %s", (a,))
        log(mini, a, "raise", NOON + timedelta(minutes=10 * i))
        log(mini, a, "return", NOON + timedelta(minutes=10 * i + 1), '{"closed": true}')
    log(mini, alert(mini, 8, NOON), "raise", NOON)
    assert kpi(mini, date(2026, 5, 6))["chattering"] == 1


def test_days_are_base_local_and_an_alert_active_for_a_day_is_stale(mini: Db) -> None:
    late_evening = datetime(2026, 5, 6, 16, 30, tzinfo=UTC)     # 00:30 of the 7th in Shanghai
    a = alert(mini, 1, late_evening, late_evening + timedelta(hours=30))
    log(mini, a, "raise", late_evening)
    log(mini, a, "return", late_evening + timedelta(hours=30))
    b = alert(mini, 2, late_evening + timedelta(hours=29))
    log(mini, b, "raise", late_evening + timedelta(hours=29))
    assert kpi(mini, date(2026, 5, 7))["raised"] == 1
    assert kpi(mini, date(2026, 5, 8))["stale_24h"] == 0       # both younger than a day at its end, or returned
    c = alert(mini, 3, late_evening - timedelta(hours=10))
    log(mini, c, "comment", late_evening)
    assert kpi(mini, date(2026, 5, 7))["stale_24h"] == 1


def test_nobody_sees_the_figures_of_a_base_that_is_not_theirs(mini: Db) -> None:
    log(mini, alert(mini, 1, NOON), "raise", NOON)
    with mini.transaction(force_rollback=True):
        mini.execute("SET LOCAL ROLE park_operator")
        mini.execute("SELECT set_config('park.bases', '{2}', true)")
        assert mini.execute("SELECT count(*) FROM alert_kpi_1d").fetchone() == (0,)
        mini.execute("SELECT set_config('park.bases', '{1}', true)")
        assert mini.execute("SELECT count(*) FROM alert_kpi_1d WHERE raised = 1").fetchone() == (1,)


def test_an_operator_role_may_acknowledge_through_the_function(mini: Db) -> None:
    a = alert(mini, 1, NOON)
    with mini.transaction(force_rollback=True):
        mini.execute("SET LOCAL ROLE park_operator")
        mini.execute("SELECT set_config('park.bases', '{1}', true)")
        assert mini.execute("SELECT alert_step(1::smallint, %s, 'ack', 'wang')", (a,)).fetchone() is not None
        mini.execute("SELECT set_config('park.bases', '{2}', true)")
        try:
            mini.execute("SELECT alert_step(1::smallint, %s, 'comment', 'wang', 'x')", (a,))
            raise AssertionError("a foreign base must not be found")
        except psycopg.Error as exc:
            assert exc.sqlstate == "PA404"
