"""Sealed reports: kept whole, checked against their hash, restated with what changed and why; figures as known then."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from park.errors import Conflict, InputError, NotFound, StorageError
from reports.model import Cell, Report, canonical, places
from reports.store import diff, draft, seal, sealed, versions
from reports.write import write_files

AFTER = datetime(2027, 1, 15, 4, 0, tzinfo=UTC)
NOW = datetime(2027, 1, 15, 4, 30, tzinfo=UTC)
Db = psycopg.Connection[Any]


def cell(report: Report, figure: str) -> Cell:
    """The cell with that id."""
    return next(p.cell for p in places(report) if p.cell.id == figure)


def correct_a_day(db: Db) -> None:
    """The gate meter's first of July turns out ten times as high."""
    db.execute("""UPDATE energy_total SET amount = amount * 10, tce_calorific = tce_calorific * 10
                  WHERE carrier = 'electricity' AND enterprise_id IS NULL AND day = '2026-07-01'""")


def test_a_first_seal_is_version_one_and_reads_back_the_same(park_year: Db) -> None:
    made = seal(park_year, "mini", "annual", 2026, AFTER, by="lin", reason="", now=NOW)
    again = sealed(park_year, "mini", "annual", 2026, 1)
    assert made.sealing is not None
    assert (made.sealing.version, made.sealing.sealed_by) == (1, "lin")
    assert again.report == made.report
    assert again.hash == made.hash
    assert [v.version for v in versions(park_year, "mini", "annual", 2026)] == [1]


def test_a_version_sealed_before_reports_had_a_field_is_still_read_and_written_as_it_was(park_year: Db, tmp_path: Path) -> None:
    made = seal(park_year, "mini", "annual", 2026, AFTER, by="lin", reason="", now=NOW)
    former = re.sub(rb',"limit_name":\{[^}]*\}', b"", canonical(made.report))
    digest = hashlib.sha256(former).hexdigest()
    assert digest != made.hash
    park_year.execute("UPDATE report SET data = %s, hash = %s", (former.decode(), digest))
    again = sealed(park_year, "mini", "annual", 2026, 1)
    assert write_files(again, "zh", ["json"], tmp_path)[0].read_bytes() == former
    with pytest.raises(Conflict, match="nothing to restate"):
        seal(park_year, "mini", "annual", 2026, AFTER, by="lin", reason="", now=NOW)


def test_a_sealed_version_makes_the_same_page_after_the_data_have_changed(park_year: Db, tmp_path: Path) -> None:
    made = seal(park_year, "mini", "annual", 2026, AFTER, by="lin", reason="", now=NOW)
    first = write_files(made, "zh", ["html", "json"], tmp_path / "a")
    correct_a_day(park_year)
    again = write_files(sealed(park_year, "mini", "annual", 2026, 1), "zh", ["html", "json"], tmp_path / "b")
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in again]


def test_a_restatement_lists_the_changed_figures_their_cause_and_its_reason(park_year: Db) -> None:
    before = seal(park_year, "mini", "annual", 2026, AFTER, by="lin", reason="", now=NOW)
    correct_a_day(park_year)
    made = seal(park_year, "mini", "annual", 2026, AFTER, by="lin", reason="7月1日总表倍率更正", now=NOW + timedelta(days=1))
    assert made.sealing is not None
    assert made.sealing.version == 2
    changed = {c.id: c for c in made.report.restated}
    assert "energy/2026/electricity/amount" in changed
    assert "energy/2026-07/electricity_kwh" in changed
    assert "energy/2026-06/electricity_kwh" not in changed
    one = changed["energy/2026/electricity/amount"]
    assert one.before is not None
    assert one.after is not None
    assert one.before.value == cell(before.report, one.id).value
    assert (one.after.value or 0) > (one.before.value or 0)
    assert made.report.history[0].hash == before.hash
    annex = next(s for s in made.report.sections if s.id == "versions")
    assert len(annex.blocks) == 3
    assert diff(before.report, made.report) == list(made.report.restated)


def test_a_restatement_without_a_reason_is_refused_and_leaves_nothing(park_year: Db) -> None:
    seal(park_year, "mini", "annual", 2026, AFTER, by="lin", reason="", now=NOW)
    correct_a_day(park_year)
    with pytest.raises(InputError, match="needs --reason"):
        seal(park_year, "mini", "annual", 2026, AFTER, by="lin", reason="", now=NOW)
    assert len(versions(park_year, "mini", "annual", 2026)) == 1


def test_sealing_the_same_figures_again_is_refused(park_year: Db) -> None:
    seal(park_year, "mini", "annual", 2026, AFTER, by="lin", reason="", now=NOW)
    with pytest.raises(Conflict, match="nothing to restate"):
        seal(park_year, "mini", "annual", 2026, AFTER + timedelta(days=1), by="lin", reason="again", now=NOW)


def test_tampered_data_do_not_match_their_hash(park_year: Db) -> None:
    seal(park_year, "mini", "annual", 2026, AFTER, by="lin", reason="", now=NOW)
    park_year.execute("UPDATE report SET data = jsonb_set(data, '{base,region}', '\"华北\"')")
    with pytest.raises(StorageError, match="does not match its hash"):
        sealed(park_year, "mini", "annual", 2026, 1)


def test_an_unknown_version_names_the_sealed_ones(park_year: Db) -> None:
    seal(park_year, "mini", "annual", 2026, AFTER, by="lin", reason="", now=NOW)
    with pytest.raises(NotFound, match="sealed: 1"):
        sealed(park_year, "mini", "annual", 2026, 7)


def now_of(conn: Db) -> datetime:
    """The database's own time, between what was done and what comes."""
    row = conn.execute("SELECT clock_timestamp() + interval '1 millisecond', pg_sleep(0.002)").fetchone()
    assert row is not None
    return row[0]  # type: ignore[no-any-return]


def test_a_new_factor_changes_the_figure_but_not_the_one_known_before(park_year: Db) -> None:
    then = now_of(park_year)
    old = draft(park_year, "mini", "annual", 2026, then).report
    park_year.execute("UPDATE factor SET superseded_at = now() WHERE carrier = 'electricity' AND kind = 'co2'")
    park_year.execute("""INSERT INTO factor (base_id, carrier, kind, value, unit, edition, valid_from, source, verified)
        VALUES (1, 'electricity', 'co2', 0.5, 'kgCO2/kWh', '2024', '2020-01-01', '新公告（测试）', true)""")
    # accounting books the totals again with the new row
    park_year.execute("""UPDATE energy_total t SET co2_kg = s.co2_kg, factor_ids = s.ids FROM (
        SELECT day, sum(co2_kg) AS co2_kg, max(factor_ids) AS ids FROM energy_1d
        WHERE boundary = 'base' AND carrier = 'electricity' GROUP BY 1) s
        WHERE t.carrier = 'electricity' AND t.enterprise_id IS NULL AND t.day = s.day""")
    now = draft(park_year, "mini", "annual", 2026, then).report
    pinned = draft(park_year, "mini", "annual", 2026, then, pinned=True).report
    figure = "energy/2026/electricity/co2_kg"
    assert cell(pinned, figure).value == pytest.approx(cell(old, figure).value, rel=1e-8)
    assert cell(pinned, figure).factors == cell(old, figure).factors
    assert cell(now, figure).value == pytest.approx((cell(old, figure).value or 0) * 0.5 / 0.55, rel=1e-6)
    assert cell(now, figure).factors != cell(old, figure).factors


def test_a_sealed_report_can_be_made_again_from_what_was_known(park_year: Db) -> None:
    park_year.execute("UPDATE ledger SET recorded_at = now()")
    then = now_of(park_year)
    edition = seal(park_year, "mini", "annual", 2026, then, by="lin", reason="", now=NOW)
    for table, column in (("energy_total", "amount"), ("emission_1h", "mass_kg"), ("indicator_value", "value"),
                          ("cost_1d", "cost"), ("interval_1d", "amount")):
        park_year.execute(f"UPDATE {table} SET {column} = {column} * 1.5")
    park_year.execute("UPDATE limit_value SET superseded_at = now()")
    park_year.execute("UPDATE target SET superseded_at = now()")
    park_year.execute("""INSERT INTO ledger (base_id, kind, item, action, enterprise_id, first_day, last_day, value, unit,
            recorded_by, supersedes)
        SELECT base_id, kind, item, action, enterprise_id, first_day, last_day, value * 2, unit, 'x', entry_id FROM ledger""")
    again = {p.cell.id: p.cell for p in places(draft(park_year, "mini", "annual", 2026, then, pinned=True).report)}
    sealed_cells = {p.cell.id: p.cell for p in places(edition.report)}
    told = [k for k in sealed_cells if not k.startswith(("missing/", "versions/"))]
    assert len(told) > 100
    assert [k for k in told if again.get(k) != sealed_cells[k]] == []
    plain = {p.cell.id: p.cell for p in places(draft(park_year, "mini", "annual", 2026, then).report)}
    assert sum(plain.get(k) != sealed_cells[k] for k in told) > 20


def test_before_anything_was_known_a_report_says_so(park_year: Db) -> None:
    with pytest.raises(InputError, match="nothing was known then"):
        draft(park_year, "mini", "annual", 2026, datetime(2026, 2, 3, 5, tzinfo=UTC), pinned=True)


def test_pinned_to_now_equals_the_plain_report(park_year: Db) -> None:
    plain = {
        p.cell.id: p.cell
        for p in places(draft(park_year, "mini", "annual", 2026, AFTER).report)
        if p.cell.id.startswith("energy/")
    }
    pinned = draft(park_year, "mini", "annual", 2026, AFTER, pinned=True).report
    for figure, there in plain.items():
        if figure not in ("energy/2026/energy_per_value_added",):
            assert cell(pinned, figure) == there, figure


def test_a_target_and_a_ledger_entry_count_from_when_they_were_recorded(park_year: Db) -> None:
    park_year.execute("UPDATE target SET recorded_at = '2027-02-01Z'")
    park_year.execute("UPDATE ledger SET recorded_at = '2027-02-01Z' WHERE kind = 'value_added'")
    early = draft(park_year, "mini", "annual", 2026, AFTER, pinned=True).report
    late = draft(park_year, "mini", "annual", 2026, datetime(2027, 3, 1, tzinfo=UTC), pinned=True).report
    assert not [p for p in places(early) if p.cell.id.startswith("targets/")]
    assert cell(late, "targets/2026/tce_equivalent/target").value == 20000
    assert cell(early, "headlines/2026/value_added").value is None
    assert cell(late, "headlines/2026/value_added").value == 12000


def test_a_correction_in_the_ledger_replaces_what_it_supersedes(park_year: Db) -> None:
    park_year.execute("""INSERT INTO ledger (base_id, kind, enterprise_id, first_day, last_day, value, unit, recorded_by,
            recorded_at, supersedes)
        SELECT base_id, kind, enterprise_id, first_day, last_day, 12500, unit, 'lin', '2027-01-10Z', entry_id
        FROM ledger WHERE kind = 'value_added'""")
    assert cell(draft(park_year, "mini", "annual", 2026, AFTER).report, "headlines/2026/value_added").value == 12500


def test_a_base_of_one_carries_no_figure_of_another(park_year: Db) -> None:
    park_year.execute("INSERT INTO base (base_id, code, name_zh, name_en) VALUES (99, 'other', '别处', 'Other')")
    park_year.execute("""INSERT INTO energy_total SELECT 99, day, enterprise_id, carrier, unit, 1e12, generation, export,
        estimated, n_expected,
        n_known, n_good, 1e12, 1e12, 1e12, 1e12, factor_ids FROM energy_total WHERE base_id = 1 AND enterprise_id IS NULL""")
    figure = cell(draft(park_year, "mini", "annual", 2026, AFTER).report, "energy/2026/electricity/amount").value
    assert figure is not None
    assert figure < 1e9
