"""What was known at an instant: every kind of catalogue row keeps its former versions, with who and why."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from park.catalogue import read_catalogue
from park.catalogue_store import apply, plan

MINI = Path(__file__).parent.parent / "data" / "mini.yaml"
Db = psycopg.Connection[Any]


def clock(db: Db) -> datetime:
    """An instant of the database after everything so far and before everything to come."""
    time.sleep(0.002)
    row = db.execute("SELECT clock_timestamp()").fetchone()
    time.sleep(0.002)
    assert row is not None
    return row[0]  # type: ignore[no-any-return]


def known(db: Db, at: datetime | None, query: str) -> list[tuple[Any, ...]]:
    with db.transaction():
        db.execute("SELECT set_config('park.as_of', %s, true)", ("" if at is None else at.isoformat(),))
        return db.execute(query).fetchall()


def changed(tmp_path: Path, *replacements: tuple[str, str]) -> Path:
    text = MINI.read_text(encoding="utf-8")
    for old, new in replacements:
        assert old in text, old
        text = text.replace(old, new, 1)
    file = tmp_path / "park.yaml"
    file.write_text(text, encoding="utf-8")
    return file


@pytest.fixture
def edited(mini: Db, tmp_path: Path) -> tuple[datetime, datetime]:
    """A former calendar and then a change in every section: (an instant before it, one after it)."""
    calendar = tmp_path / "calendar.yaml"
    head = "base: {code: mini, name: {zh: 微型示范基地, en: Mini base}, region: 华东, plan: {2026: {tce_equivalent: 20000}}}\n"
    calendar.write_text(head + "calendars:\n  - {code: grid, source: a, days: {2026-10-01: holiday}}\n")
    apply(mini, read_catalogue([calendar]))
    before = clock(mini)
    calendar.write_text(head + "calendars:\n  - {code: grid, source: a, days: {2026-10-01: working}}\n")
    apply(mini, read_catalogue([calendar]))
    file = changed(
        tmp_path, ("boundary: base, rollover: 100000000}", "boundary: base, ratio: 40, rollover: 100000000}"),
        ("serial: A1", "serial: B2"), ("e2.main.kwh]}", "e2.main.kwh], verified: true}"),
        ("quantity: so2, high: 35", "quantity: so2, high: 30"), ("terms: {flat: 0.65}", "terms: {flat: 0.7}"),
        ("year: 2026, value: 20000", "year: 2026, value: 19000"), ("zh: 轧钢厂区", "zh: 轧钢新厂区"),
        ("severity: high", "severity: low"),
        ("unit_id: 1, every", "unit_id: 2, every"), ("value: 12000", "value: 12500"))
    apply(mini, read_catalogue([file]), by="王工", reason="换表后更正")
    return before, clock(mini)


@pytest.mark.parametrize(("query", "was", "now"), [
    ("SELECT ratio FROM point_known WHERE code = 'park.kwh'", 1, 40),
    ("SELECT serial FROM meter_known", "A1", "B2"),
    ("SELECT bool_or(verified) FROM flow_known", False, True),
    ("SELECT class FROM calendar_known", "holiday", "working"),
    ("SELECT high FROM limit_value_known WHERE quantity = 'so2'", 35, 30),
    ("SELECT terms ->> 'flat' FROM tariff_known WHERE code = 'grid'", "0.65", "0.7"),
    ("SELECT value FROM target_known", 20000, 19000),
    ("SELECT name_zh FROM unit_known WHERE code = 'e1.site'", "轧钢厂区", "轧钢新厂区"),
    ("SELECT severity FROM rule_known", "high", "low"),
    ("SELECT settings ->> 'unit_id' FROM device_known WHERE code = 'd.e1.main'", "1", "2"),
    ("SELECT value FROM ledger_known", 12000, 12500),
])
def test_every_kind_of_row_is_known_as_it_was(
    mini: Db, edited: tuple[datetime, datetime], query: str, was: object, now: object
) -> None:
    before, after = edited
    assert known(mini, before, query) == [(was,)]
    assert known(mini, after, query) == [(now,)]
    assert known(mini, None, query) == [(now,)]


def test_a_former_version_says_who_replaced_it_when_and_why(mini: Db, edited: tuple[datetime, datetime]) -> None:
    before, after = edited
    (row,) = mini.execute("""SELECT recorded_at, superseded_at, superseded_by, reason FROM point_history
        WHERE code = 'park.kwh'""").fetchall()
    assert row[0] < before < row[1] < after and row[2:] == ("王工", "换表后更正")
    assert mini.execute("SELECT recorded_by FROM limit_value WHERE high = 30").fetchall() == [("王工",)]
    old, new = mini.execute("SELECT entry_id, supersedes, recorded_by FROM ledger ORDER BY entry_id").fetchall()
    assert new[1] == old[0] and (old[2], new[2]) == ("catalogue", "王工")


def test_applying_again_and_planning_write_no_version(mini: Db, edited: tuple[datetime, datetime], tmp_path: Path) -> None:
    def versions() -> list[tuple[Any, ...]]:
        return [row for t in ("point", "meter", "flow", "calendar", "unit", "rule", "device", "base", "enterprise")
                for row in mini.execute(f"SELECT '{t}', count(*) FROM {t}_history").fetchall()]
    before = versions()
    assert apply(mini, read_catalogue([tmp_path / "park.yaml"])) == []
    assert plan(mini, read_catalogue([MINI]))          # something would change, and is taken back
    assert versions() == before
    assert sum(n for _, n in before) == 8              # two of the flow, one of each other
    assert apply(mini, read_catalogue([MINI]))         # back again: what was, is


def test_before_anything_was_known_there_is_nothing(mini: Db) -> None:
    long_ago = datetime.fromisoformat("2001-01-01T00:00:00+00:00")
    for table in ("base", "point", "factor", "limit_value", "ledger", "energy_total", "indicator_value"):
        assert known(mini, long_ago, f"SELECT * FROM {table}_known") == []
    assert known(mini, long_ago, "SELECT * FROM energy_total_1d") == []


def test_rows_written_again_as_they_were_keep_their_time(mini: Db) -> None:
    mini.execute("""INSERT INTO energy_total (base_id, day, carrier, unit, amount, n_expected, n_known, n_good)
        SELECT 1, d, 'water', 'm3', 5, 96, 96, 96 FROM generate_series('2026-01-01'::date, '2026-01-03', '1 day') d""")
    first = clock(mini)
    with mini.transaction():                           # as the pass does: days deleted and written anew, one of them different
        mini.execute("DELETE FROM energy_total WHERE day >= '2026-01-02'")
        mini.execute("""INSERT INTO energy_total (base_id, day, carrier, unit, amount, n_expected, n_known, n_good)
            VALUES (1, '2026-01-02', 'water', 'm3', 5, 96, 96, 96), (1, '2026-01-03', 'water', 'm3', 6, 96, 96, 96)""")
    query = "SELECT day::text, amount FROM energy_total_known ORDER BY day"
    assert known(mini, first, query) == [("2026-01-01", 5), ("2026-01-02", 5), ("2026-01-03", 5)]
    assert known(mini, None, query) == [("2026-01-01", 5), ("2026-01-02", 5), ("2026-01-03", 6)]
    assert mini.execute("SELECT day::text FROM energy_total_history").fetchall() == [("2026-01-03",)]
    assert mini.execute("SELECT count(*) FROM energy_total WHERE recorded_at < %s", (first,)).fetchone() == (2,)
    mini.execute("DELETE FROM energy_total WHERE day = '2026-01-01'")
    assert len(known(mini, None, query)) == 2 and len(known(mini, first, query)) == 3


def test_a_role_sees_former_versions_of_its_bases_only(mini: Db, edited: tuple[datetime, datetime]) -> None:
    for bases, n in (("{1}", 1), ("{}", 0), ("{2}", 0)):
        with mini.transaction():
            mini.execute("SELECT set_config('role', 'park_operator', true), set_config('park.bases', %s, true)", (bases,))
            assert mini.execute("SELECT count(*) FROM point_history").fetchone() == (n,)
            mini.execute("SELECT set_config('park.as_of', %s, true)", (edited[0].isoformat(),))
            assert mini.execute("SELECT count(*) FROM point_known WHERE ratio = 1 AND code = 'park.kwh'").fetchone() == (n,)


def test_a_table_that_gets_a_column_keeps_it_in_its_history(mini: Db) -> None:
    mini.execute("ALTER TABLE indicator_value ADD COLUMN spread double precision")
    mini.execute("SELECT keep_histories()")
    mini.execute("""INSERT INTO indicator_value (base_id, indicator, period, value, unit, grade, spread)
        VALUES (1, 'x', '2026', 1, 't', 'A', 7)""")
    then = clock(mini)
    mini.execute("UPDATE indicator_value SET spread = 8")
    assert known(mini, then, "SELECT spread FROM indicator_value_known") == [(7,)]
    assert known(mini, None, "SELECT spread FROM indicator_value_known") == [(8,)]


def test_published_views_stand_on_what_was_known(db: Db) -> None:
    """A view that reads a table with history beside its `_known` view would mix then and now."""
    mixed = db.execute("""SELECT DISTINCT v.relname, t.relname FROM pg_rewrite r JOIN pg_class v ON v.oid = r.ev_class
        JOIN pg_depend d ON d.objid = r.oid AND d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass
        JOIN pg_class t ON t.oid = d.refobjid AND t.relkind IN ('r', 'p')
        WHERE v.relkind = 'v' AND v.relname NOT LIKE 'board%' AND v.relname NOT LIKE '%\\_known'
          AND to_regclass(t.relname || '_history') IS NOT NULL""").fetchall()
    figures = {"interval_1d", "cost_1d", "energy_total", "emission_1h", "indicator_value", "bill", "bill_line",
               "treatment_event", "indicator_forecast", "baseline_saving"}
    of_figures = {"factor_effective", "unit_owner", "energy_counter", "energy_1d", "balance_1d", "carrier_factor"}
    assert [(v, t) for v, t in mixed if t in figures or v in of_figures] == []


def test_old_versions_that_stood_at_no_midnight_are_thinned_and_the_rest_stays(mini: Db) -> None:
    for amount, since, until in ((1, "02 01:00", "02 02:00"), (2, "02 02:00", "03 00:10"), (3, "03 00:10", "03 09:00")):
        mini.execute("""INSERT INTO energy_total_history (base_id, day, carrier, unit, amount, estimated, n_expected, n_known,
                n_good, factor_ids, billed, setting_ids, market_factor_ids, ledger_ids, recorded_at, superseded_at)
            VALUES (1, '2026-01-02', 'water', 'm3', %s, 0, 96, 8, 8, '{}', 0, '{}', '{}', '{}', %s, %s)""",
                     (amount, f"2026-01-{since}+08", f"2026-01-{until}+08"))
    asked = datetime.fromisoformat("2026-01-03T08:00:00+08:00")
    (taken,) = mini.execute("SELECT known_instant(%s, 'Asia/Shanghai')", (asked,)).fetchone() or (None,)
    assert taken == datetime.fromisoformat("2026-01-03T00:00:00+08:00")
    query = "SELECT amount FROM energy_total_known"
    before = known(mini, taken, query)
    assert mini.execute("SELECT thin_history(1::smallint, 'Asia/Shanghai', now() - interval '31 days')").fetchone() == (2,)
    assert known(mini, taken, query) == before == [(2,)]
