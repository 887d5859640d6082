"""What is not known, not due or counted elsewhere is said so: no zero for a gap, nothing twice, no contradiction."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest

from park.errors import InputError
from reports.build import assemble, read
from reports.facts import span_of
from reports.model import Cell, Chart, Paragraph, Report, Table, places
from reports.sections.plan import forecast
from reports.store import draft

AFTER = datetime(2027, 1, 15, 4, 0, tzinfo=UTC)
OPEN = datetime(2026, 10, 1, 4, 0, tzinfo=UTC)
Db = psycopg.Connection[Any]


def cell(report: Report, figure: str) -> Cell:
    """The cell with that id."""
    return next(p.cell for p in places(report) if p.cell.id == figure)


def test_what_flows_to_another_outlet_of_the_base_is_not_counted_twice(park_year: Db) -> None:
    before = draft(park_year, "mini", "annual", 2026, AFTER).report
    (code,) = {p.cell.id.split("/")[2] for p in places(before) if p.cell.id.endswith("/cod/mass")}
    assert cell(before, "headlines/2026/cod_t").value is not None
    inside = '{"discharges_to": "e9.outlet"}'
    park_year.execute("UPDATE unit SET attributes = attributes || %s::jsonb WHERE code = %s", (inside, code))
    report = draft(park_year, "mini", "annual", 2026, AFTER).report
    assert cell(report, f"emission/2026/{code}/cod/mass") == cell(before, f"emission/2026/{code}/cod/mass")
    assert cell(report, "headlines/2026/cod_t").value is None
    notes = next(b.notes for s in report.sections for b in s.blocks if isinstance(b, Table) and b.id == "emission-mass")
    assert any("不计入园区合计" in n.zh for n in notes)


def test_the_mass_of_a_pollutant_has_the_grade_of_its_worst_outlet(park_year: Db) -> None:
    """Ten days of June were substituted: under a tenth. Sixty are more, though four fifths of the year stay valid."""
    assert cell(draft(park_year, "mini", "annual", 2026, AFTER).report, "headlines/2026/so2_t").grade == "A"
    park_year.execute("""UPDATE emission_1h SET state = 'missing', measured = NULL, converted = NULL, substituted = true
        WHERE quantity = 'so2' AND state = 'valid' AND ts >= '2026-06-11T00:00+08' AND ts < '2026-07-31T00:00+08'""")
    report = draft(park_year, "mini", "annual", 2026, AFTER).report
    whole, outlet = cell(report, "headlines/2026/so2_t"), cell(report, "emission/2026/e1.stack/so2/mass")
    assert (whole.grade, outlet.grade, cell(report, "headlines/2026/nox_t").grade) == ("C", "C", "A")
    assert whole.coverage is not None and whole.coverage > 0.75


def test_before_the_first_rule_there_is_no_count_of_alerts(park_year: Db) -> None:
    park_year.execute("TRUNCATE alert CASCADE")
    park_year.execute("UPDATE rule SET recorded_at = '2027-01-02Z'")
    park_year.execute("TRUNCATE rule_history")
    report = draft(park_year, "mini", "annual", 2026, AFTER).report
    assert not [p for p in places(report) if p.cell.id.startswith(("alerts/", "alert-rates/"))]
    operation = next(s for s in report.sections if s.id == "operation")
    assert any("本期尚无报警规则" in b.text.zh for b in operation.blocks if isinstance(b, Paragraph))
    park_year.execute("UPDATE rule SET recorded_at = '2026-05-02Z'")
    park_year.execute("TRUNCATE rule_history")
    half = draft(park_year, "mini", "annual", 2026, AFTER).report
    assert cell(half, "alerts/2026/critical/raised").value == 0
    notes = next(b.notes for s in half.sections for b in s.blocks if isinstance(b, Table) and b.id == "alerts")
    assert "2026-05-02" in notes[0].zh


def test_a_ratio_of_an_open_year_is_told_by_its_forecast_in_the_units_printed(park_year: Db) -> None:
    park_year.execute("""INSERT INTO indicator_forecast (base_id, indicator, year, until, value, low, high, unit, target_likely)
        VALUES (1, 'renewable_share', 2026, '2026-09-30', 0.0113, 0.0111, 0.0115, '1', 0.2)""")
    year = read(park_year, "mini", "annual", 2026, OPEN).year
    assert forecast(year, "renewable_share", Cell(id="x", value=3.0, unit="%")) == pytest.approx(1.13)


def test_the_tables_of_one_year_say_which_in_a_report_of_several(park_year: Db) -> None:
    ctx = read(park_year, "mini", "final", 2026, AFTER)
    sections = {s.id: s for s in assemble(ctx).sections}
    for name in ("energy", "resources", "pollution", "operation"):
        for block in sections[name].blocks:
            if isinstance(block, Table | Chart):
                assert block.id.endswith("-years") or "2026" in block.title.zh, block.id
    (chart,) = [b for b in sections["targets"].blocks if isinstance(b, Chart)]
    assert [s.name.en for s in chart.series] == [str(y) for y in ctx.years if any(t.year == y for t in ctx.targets)]


def test_a_store_without_entries_before_the_year_has_no_opening(park_year: Db) -> None:
    park_year.execute("DELETE FROM ledger_evidence")
    park_year.execute("DELETE FROM ledger WHERE last_day < '2026-01-01' AND kind LIKE '%waste'")
    found = [p.cell for p in places(draft(park_year, "mini", "annual", 2026, AFTER).report) if p.cell.id.endswith("/opening")]
    assert found
    assert {c.value for c in found} == {None}
    assert all(c.reason is not None for c in found)


def test_a_summer_that_began_with_a_lost_hour_is_due_one_hour_less() -> None:
    at = datetime(2026, 7, 1, 12, tzinfo=UTC)
    assert span_of(2026, "America/New_York", at).hours == 24 * 181 - 1
    assert span_of(2026, "Asia/Shanghai", at).hours == 24 * 181
    assert span_of(2026, "America/New_York", AFTER).hours == 8760


def test_a_year_of_which_no_day_is_over_is_told_as_that(park_year: Db) -> None:
    with pytest.raises(InputError, match="no whole day of 2026 was over"):
        draft(park_year, "mini", "annual", 2026, datetime(2026, 1, 1, 6, tzinfo=UTC))
