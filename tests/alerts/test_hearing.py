"""The platform's own deafness is no silence of a device: slow starts, loaded history, outages of ingest."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
import yaml
from psycopg.types.json import Jsonb

from alerts import service
from alerts.hearing import Hearing
from park.quantities import TABLES

Db = psycopg.Connection[Any]
T0 = datetime.now(UTC).replace(microsecond=0)
CEMS = ("e1.stack.so2", "e1.stack.nox", "e1.stack.dust", "e1.stack.o2", "e1.stack.flow")


def read(db: Db, at: datetime, *codes: str) -> None:
    db.execute("""INSERT INTO latest (base_id, point_id, ts, value, quality, arrived_at)
        SELECT base_id, point_id, %s, extract(second FROM %s::timestamptz), 0, clock_timestamp() FROM point WHERE code = ANY(%s)
        ON CONFLICT (base_id, point_id) DO UPDATE SET ts = excluded.ts, value = excluded.value,
            arrived_at = excluded.arrived_at""",
               (at, at, list(codes)))


@pytest.fixture
def park(mini: Db) -> Db:
    """The small park where every point that a device sends must come within three of its steps, or at all."""
    mini.execute("UPDATE rule SET enabled = false")
    mini.execute("UPDATE point SET expected_s = 10")
    mini.execute("""INSERT INTO rule (base_id, code, name_zh, name_en, kind, severity, scope, params)
        SELECT base_id, 'silent', '', '', 'stale', 'medium', '{}', %s FROM base""",
                 (Jsonb({"k": 3, "auto_close": True, "unseen": False}),))
    return mini


def changes(db: Db) -> list[tuple[str, str]]:
    return [(a, b) for a, b in db.execute("""SELECT channel, change FROM transition JOIN alert USING (base_id, alert_id)
        ORDER BY transition_id""").fetchall()]


def test_history_that_is_loaded_and_a_slow_start_raise_nothing(park: Db) -> None:
    everything = (*CEMS, "e2.cod", "e1.main.kw")
    e = service.start(park, T0)
    for i in range(60):         # ten minutes of loading: each step brings a later day of last month
        read(park, T0 - timedelta(days=30 - i / 2), *everything)
        service.step(park, e, T0 + timedelta(seconds=10 * i))
    for i in range(60, 63):     # live begins, one device after the other
        read(park, T0 + timedelta(seconds=10 * i), *everything[:2 * (i - 59)])
        service.step(park, e, T0 + timedelta(seconds=10 * i))
    for i in range(63, 90):
        read(park, T0 + timedelta(seconds=10 * i), *everything)
        service.step(park, e, T0 + timedelta(seconds=10 * i))
    assert changes(park) == []
    for i in range(90, 95):     # and from now on what falls silent is told
        read(park, T0 + timedelta(seconds=10 * i), *CEMS, "e2.cod")
        service.step(park, e, T0 + timedelta(seconds=10 * i))
    assert changes(park) == [("device_offline", "raise")]


def test_an_outage_of_ingest_is_one_alert_of_the_base_and_none_of_a_device(park: Db) -> None:
    everything = (*CEMS, "e2.cod", "e1.main.kw")
    e = service.start(park, T0)
    for i in range(120):
        now = T0 + timedelta(seconds=10 * i)
        if i < 10 or i > 60:
            read(park, now, *(everything if i != 61 else everything[:1]))       # one device is the first to be back
        service.step(park, e, now)
        if i == 40:             # a restart in the middle neither repeats nor returns it
            e = service.start(park, now)
    assert changes(park) == [("nothing_heard", "raise"), ("nothing_heard", "return")]
    row = park.execute("SELECT point_id, unit_id, device_id, explanation->>'en' FROM alert").fetchone()
    assert row is not None and row[:3] == (None, None, None)
    assert row[3].startswith("Nothing at all has arrived since")


def test_a_collector_that_speaks_of_its_devices_is_heard(park: Db) -> None:
    e = service.start(park, T0)
    read(park, T0, *CEMS)
    for i in range(20):         # the only device goes silent, its collector goes on
        park.execute("""INSERT INTO device_state (base_id, device_id, state, at)
            SELECT base_id, device_id, 'online', %s FROM device WHERE code = 'd.e1.cems'
            ON CONFLICT (base_id, device_id) DO UPDATE SET at = excluded.at""", (T0 + timedelta(seconds=10 * i),))
        service.step(park, e, T0 + timedelta(seconds=10 * i))
    assert changes(park) == [("device_offline", "raise")]


@pytest.mark.parametrize("unseen", [True, False])
def test_a_device_that_never_answered_is_told_by_the_rule_of_the_first_catalogue(park: Db, unseen: bool) -> None:
    first = yaml.safe_load((TABLES / "first_park.yaml").read_text(encoding="utf-8"))
    params = next(r for r in first["rules"] if r["kind"] == "stale")["params"]
    assert params["unseen"] is True
    park.execute("UPDATE rule SET params = %s WHERE code = 'silent'", (Jsonb(params | {"unseen": unseen}),))
    e = service.start(park, T0)
    for i in range(10):         # its collector asks it in vain; another device answers
        read(park, T0 + timedelta(seconds=10 * i), "e2.cod", "e1.main.kw")
        park.execute("""INSERT INTO device_state (base_id, device_id, state, at)
            SELECT base_id, device_id, 'offline', %s FROM device WHERE code = 'd.e1.cems'
            ON CONFLICT (base_id, device_id) DO UPDATE SET at = excluded.at""", (T0 + timedelta(seconds=10 * i),))
        service.step(park, e, T0 + timedelta(seconds=10 * i))
    assert (("device_offline", "raise") in changes(park)) is unseen


def test_what_is_only_imported_is_not_silent_unless_a_rule_names_it(park: Db) -> None:
    park.execute("UPDATE point SET expected_s = 10, device_id = NULL WHERE code NOT LIKE 'e1.stack%'")
    park.execute("""UPDATE rule SET params = '{"k": 3, "unseen": true}' WHERE code = 'silent'""")
    park.execute("""INSERT INTO rule (base_id, code, name_zh, name_en, kind, severity, scope, params)
        SELECT base_id, 'files', '', '', 'stale', 'low', '{"points": ["e1.product"]}', '{"k": 3, "unseen": true}' FROM base""")
    read(park, T0 - timedelta(days=30), "e1.gas", "e1.product")         # of a file; e1.water never sent anything
    e = service.start(park, T0)
    for i in range(20):
        read(park, T0 + timedelta(seconds=10 * i), *CEMS, *(["e2.cod"] if i < 8 else []))
        service.step(park, e, T0 + timedelta(seconds=10 * i))
    told = park.execute("""SELECT r.code, p.code FROM alert JOIN rule r USING (base_id, rule_id)
        JOIN point p USING (base_id, point_id) ORDER BY 1, 2""").fetchall()
    assert told == [("files", "e1.product"), ("silent", "e1.product"), ("silent", "e2.cod")], "no device, but it was live"


def test_a_platform_that_never_hears_anything_says_so_after_a_quarter_of_an_hour(park: Db) -> None:
    e = service.start(park, T0)
    for minute in range(15):
        service.step(park, e, T0 + timedelta(minutes=minute))
    assert changes(park) == []
    service.step(park, e, T0 + timedelta(minutes=16))
    assert changes(park) == [("nothing_heard", "raise")]


def test_listening_counts_from_the_end_of_the_last_stall() -> None:
    h = Hearing(0.0)
    assert h.listened_s == 0.0
    for now in (10.0, 50.0, 90.0):
        h.hear(now, 60.0)
    assert h.listened_s == 80.0
    h.hear(200.0, 60.0)
    h.hear(230.0, 60.0)
    assert h.listened_s == 30.0
