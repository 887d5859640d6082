"""The supervisor restarts what ends, later each time, and stops everything within a bound."""

from __future__ import annotations

import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from psycopg import Connection

from park import supervisor as s
from park.doctor import DEVICE_CLOCKS, _calendar, device_clocks, examine, links
from park.holidays import last_year
from park.lookout import Lookout, broker_trouble, database_trouble
from park.settings import Settings


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def watched(tmp_path: Path, said: list[str]) -> s.Supervisor:
    return s.Supervisor(tmp_path / "logs", {}, said.append)


def test_a_service_that_ends_is_started_again_later_each_time(watched: s.Supervisor, said: list[str]) -> None:
    watched.add("failing", "catalogue", "check", "/no/such/file.yaml")
    service = watched.services[0]
    waits: list[float] = []
    deadline = time.monotonic() + 30
    while len(waits) < 2 and time.monotonic() < deadline:
        if service.process is not None:
            service.process.wait(20)
            watched.watch()
            waits.append(service.wait_s)
            service.due = 0.0  # the wait itself is not what this test is about
        watched.watch()
    watched.stop()
    assert waits == [2.0, 4.0]
    assert said[0].startswith("failing ended with status 1; starting again in 2 s")
    assert "cannot be read" in (watched.log_dir / "failing.log").read_text()


def test_a_log_that_grew_too_long_begins_anew_and_its_service_goes_on_writing(
        watched: s.Supervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s, "LOG_BYTES", 1000)
    watched.log_dir.mkdir()
    log = watched.log_dir / "steady.log"
    with log.open("ab") as writing:
        watched.services.append(s.Service("steady", (), due=float("inf")))
        writing.write(b"a" * 1001)
        writing.flush()
        watched.watch()
        writing.write(b"b")
    assert log.read_bytes() == b"b" and (watched.log_dir / "steady.log.1").read_bytes() == b"a" * 1001


def test_doctor_names_the_remedy_for_what_is_missing(tmp_path: Path) -> None:
    findings = {f.name: f for f in examine(Settings(database_url="postgresql://127.0.0.1:1/x", data_dir=tmp_path,
                                                     mqtt_url="mqtt://127.0.0.1:1"))}
    assert findings["python"].ok and findings["disk"].ok
    assert not findings["database"].ok and "park demo" in str(findings["database"])
    assert not findings["broker"].ok


def test_doctor_does_not_miss_what_park_up_brings_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("PARK_DATABASE_URL", "PARK_MQTT_URL"):
        monkeypatch.delenv(variable, raising=False)
    findings = {f.name: f for f in examine(Settings(data_dir=tmp_path))}
    assert findings["database"].ok and findings["broker"].ok
    assert findings["database"].text.startswith(("PARK_DATABASE_URL is not set", "PostgreSQL"))


def test_doctor_finds_a_migrated_database_well(database_url: str, tmp_path: Path) -> None:
    findings = {f.name: f for f in examine(Settings(database_url=database_url, data_dir=tmp_path, mqtt_url="mqtt://127.0.0.1:1"))}
    assert findings["database"].ok and findings["schema"].ok and findings["clock"].ok


def test_doctor_names_devices_whose_clocks_are_off_with_the_remedy(mini: Connection[Any]) -> None:
    assert device_clocks([]).ok and device_clocks([("a d1", -60.0)]).ok
    alike = device_clocks([("a d1", 301.0), ("a d2", 299.0), ("a d3", 290.0)])
    assert not alike.ok and alike.remedy.startswith("all are off alike") and "a d1 301 s ahead" in alike.text
    assert "time_unit" in device_clocks([("a d1", 28_790.0), ("a d2", 0.0)]).remedy
    mini.execute("""INSERT INTO device_state (base_id, device_id, state, clock_offset_s, at)
                    SELECT base_id, device_id, 'online', -420, now() - interval '1 hour' * (device_id % 2) * 25 FROM device""")
    told = device_clocks(mini.execute(DEVICE_CLOCKS).fetchall())  # type: ignore[arg-type]
    assert not told.ok and "420 s behind" in told.text and "1012" in told.remedy and "time_unit" not in told.remedy
    recent = mini.execute("SELECT count(*) FROM device WHERE device_id % 2 = 0").fetchone()
    assert recent == (told.text.count("behind"),), "what a device said days ago is no present fault"


def test_a_server_elsewhere_that_is_lost_is_told_once_and_once_when_it_is_back() -> None:
    now, wrong = datetime(2026, 11, 23, 8, tzinfo=UTC), [None, *["refused [::1]"] * 2, None, None]
    server = Lookout("the broker of PARK_MQTT_URL", lambda: wrong.pop(0), "readings wait in the spool")
    told = [server.watch(now + timedelta(minutes=i)) or "" for i in range(5)]
    assert [bool(line) for line in told] == [False, True, False, True, False]
    assert "is away" in told[1] and "readings wait" in told[1] and "is back" in told[3] and "away since" in told[3]
    assert broker_trouble("mqtt://u:secret@127.0.0.1:1") == "Connection refused"
    assert "secret" not in str(database_trouble("postgresql://u:secret@127.0.0.1:1/x")) != "None"


def test_doctor_tells_what_ingest_says_of_its_links() -> None:
    up = {"up": True, "since": "2026-11-23T08:00:00+00:00", "last": ["2026-11-23T07:00:00+00:00", "2026-11-23T07:03:00+00:00"]}
    well = links("ingest:a", 5, {"broker": up, "database": up | {"last": None}})
    assert well.ok and "broker last away 2026-11-23T07:00:00Z to 2026-11-23T07:03:00Z" in well.text
    lost = links("ingest:a", 5, {"broker": up | {"up": False}, "database": up})
    assert not lost.ok and "without a broker since 2026-11-23T08:00:00Z" in lost.text and lost.remedy
    assert not links("ingest:a", 600, {"broker": up, "database": up}).ok


def test_doctor_tells_whose_holidays_of_the_coming_year_are_not_known(mini: Connection[Any]) -> None:
    year = last_year() + 1
    coming, come = _calendar(mini, date(year - 1, 11, 30)), _calendar(mini, date(year - 1, 12, 1))
    assert coming.ok and coming.text.startswith(f"{year}: weekends and fixed holidays") and coming.text.endswith("of mini")
    assert not come.ok and "calendars:" in str(come)
    mini.execute("INSERT INTO calendar (base_id, code, day, class) VALUES (1, 'own', %s, 'holiday')", (date(year, 2, 6),))
    assert _calendar(mini, date(year, 1, 1)).ok
