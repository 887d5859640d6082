"""Which years a report covers, and what a year says that has not ended."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import psycopg
import pytest

from park.errors import InputError, NotFound
from reports.build import read, years_of
from reports.facts import span_of
from reports.goals import Target
from reports.model import Cell, Heading, Paragraph, Report, Table, places
from reports.rows import Base
from reports.sections.plan import completion, forecast, in_percent
from reports.store import draft

AFTER = datetime(2027, 1, 15, 4, 0, tzinfo=UTC)
Db = psycopg.Connection[Any]


def base(**attributes: Any) -> Base:
    """A base with attributes."""
    return Base(1, "mini", "微", "Mini", "", "Asia/Shanghai", attributes)


def target(year: int, value: float = 100.0, baseline: float | None = None, sense: str = "at_most") -> Target:
    """A target of a year."""
    return Target("co2_t", "碳", "CO2", year, value, "t", sense, baseline, None, "", "", True)


def cell(report: Report, figure: str) -> Cell:
    """The cell with that id."""
    return next(p.cell for p in places(report) if p.cell.id == figure)


@pytest.mark.parametrize(
    ("kind", "attributes", "targets", "expected"),
    [
        ("annual", {}, [], [2026]),
        ("midterm", {"period": [2025, 2029]}, [], [2025, 2026]),
        ("midterm", {}, [target(2024)], [2024, 2025, 2026]),
        ("midterm", {}, [], [2024, 2025, 2026]),
        ("final", {}, [], [2022, 2023, 2024, 2025, 2026]),
        ("final", {"period": [2022, 2026]}, [], [2022, 2023, 2024, 2025, 2026]),
        ("final", {"plan": {"2023": {}}}, [], [2022, 2023, 2024, 2025, 2026]),
    ],
)
def test_the_years_of_a_report(kind: Any, attributes: dict[str, Any], targets: list[Target], expected: list[int]) -> None:
    assert years_of(kind, 2026, base(**attributes), targets) == expected


def test_a_period_that_starts_later_is_told(park_year: Db) -> None:
    with pytest.raises(InputError, match="starts in 2027"):
        years_of("final", 2026, base(period=[2027, 2031]), [])


@pytest.mark.parametrize(
    ("t", "value", "expected"),
    [
        (target(2026, 80, 100), 90, 0.5),
        (target(2026, 80, 100), 70, 1.5),
        (target(2026, 80, 100), 110, -0.5),
        (target(2026, 30, 10, "at_least"), 20, 0.5),
        (target(2026, 80), 100, 0.8),
        (target(2026, 80, None, "at_least"), 40, 0.5),
        (target(2026, 80), None, None),
        (target(2026, 80), 0, None),
    ],
)
def test_completion_follows_baseline_and_sense(t: Target, value: float | None, expected: float | None) -> None:
    assert completion(t, value) == pytest.approx(expected)


def test_a_day_counts_once_it_has_ended_in_the_base_s_zone() -> None:
    before_midnight = datetime(2026, 3, 1, 15, 59, tzinfo=UTC)
    assert span_of(2026, "Asia/Shanghai", before_midnight).through == date(2026, 2, 28)
    assert span_of(2026, "Asia/Shanghai", datetime(2026, 3, 1, 16, 0, tzinfo=UTC)).through == date(2026, 3, 1)
    assert span_of(2026, "Asia/Shanghai", datetime(2025, 6, 1, tzinfo=UTC)).days == 0
    assert span_of(2026, "Asia/Shanghai", AFTER).complete


def test_an_open_year_is_forecast_by_days_and_says_that_it_is_open(park_year: Db) -> None:
    at = datetime(2026, 7, 1, 0, 0, tzinfo=UTC)
    park_year.execute("UPDATE energy_total SET amount = 1e15, tce_equivalent = 1e15 WHERE day > '2026-06-30'")
    ctx = read(park_year, "mini", "annual", 2026, at)
    report = draft(park_year, "mini", "annual", 2026, at).report
    assert report.through == date(2026, 6, 30)
    actual = cell(report, "targets/2026/tce_equivalent/actual")
    ahead = cell(report, "targets/2026/tce_equivalent/forecast")
    assert actual.value is not None
    assert actual.value < 1e6
    assert ahead.value == pytest.approx(actual.value * 365 / 181, rel=1e-6)
    assert forecast(ctx.year, "renewable_share", Cell(id="x", value=3.0, unit="%")) == 3.0
    texts = [b.text.zh for b in report.sections[0].blocks if isinstance(b, Paragraph | Heading)]
    assert "2026-06-30" in next(text for text in texts if "尚未结束" in text)
    assert not [p for p in places(report) if p.cell.id.startswith("headlines/change/")]  # a part is not compared with a whole


def test_days_without_any_row_count_as_unknown(park_year: Db) -> None:
    park_year.execute("DELETE FROM energy_total WHERE carrier = 'electricity' AND day >= '2026-07-02' AND day < '2027-01-01'")
    electricity = cell(draft(park_year, "mini", "annual", 2026, AFTER).report, "energy/2026/electricity/amount")
    assert electricity.coverage == pytest.approx(182 / 365, rel=1e-3)


def test_a_meter_that_began_within_the_year_is_told_where_its_total_stands(park_year: Db) -> None:
    park_year.execute("""DELETE FROM interval_1d i USING point p WHERE p.base_id = i.base_id AND p.point_id = i.point_id
        AND p.code = 'e1.gas' AND i.ts < '2026-04-15T00:00+08'""")
    report = draft(park_year, "mini", "annual", 2026, AFTER).report
    blocks = {b.id: b for s in report.sections for b in s.blocks if isinstance(b, Table)}
    told = [tuple(getattr(item, "zh", "") for item in row) for row in blocks["begins-later"].rows]
    assert [row[1:] for row in told] == [("天然气", "e1.gas", "2026-04-15")] * 2
    assert told[0][0] == "基地" != told[1][0]
    for table in ("energy-carriers", "energy-enterprises"):
        assert any("1 块计量表期内才开始计量" in note.zh for note in blocks[table].notes)


def test_a_target_under_ninety_percent_coverage_is_not_judged(park_year: Db) -> None:
    park_year.execute("DELETE FROM energy_total WHERE day >= '2026-07-02' AND day < '2027-01-01'")
    report = draft(park_year, "mini", "annual", 2026, AFTER).report
    assert cell(report, "targets/2026/tce_equivalent/done").value is None
    rows = next(b for s in report.sections for b in s.blocks if isinstance(b, Table) and b.id == "targets-2026").rows
    assert any(getattr(item, "zh", "") == "无法判断" for item in rows[0])


def test_a_midterm_report_puts_the_years_side_by_side(park_year: Db) -> None:
    park_year.execute("UPDATE base SET attributes = attributes || '{\"period\": [2025, 2029]}'")
    report = draft(park_year, "mini", "midterm", 2026, AFTER).report
    assert report.years == (2025, 2026)
    for year in (2025, 2026):
        assert cell(report, f"years/{year}/electricity_kwh").value == pytest.approx(124_000 * 365, rel=1e-3)
    ids = [p.cell.id for p in places(report)]
    assert len(ids) == len(set(ids))


def test_a_final_report_shows_years_without_data_as_missing(park_year: Db) -> None:
    report = draft(park_year, "mini", "final", 2026, AFTER).report
    assert report.years == (2022, 2023, 2024, 2025, 2026)
    early = cell(report, "years/2023/tce_equivalent")
    assert early.value is None
    assert early.reason is not None


def test_an_unknown_base_names_the_known_ones(park_year: Db) -> None:
    with pytest.raises(NotFound, match="known: mini"):
        draft(park_year, "nowhere", "annual", 2026, AFTER)


def test_a_year_without_data_names_the_days_that_have_some(park_year: Db) -> None:
    with pytest.raises(InputError, match="in 2019; there are some from 2025-01-01 to 2026-12-31"):
        draft(park_year, "mini", "annual", 2019, AFTER)


def test_a_base_without_any_data_says_what_to_run(mini: Db) -> None:
    with pytest.raises(InputError, match="no accounted data of mini at all"):
        draft(mini, "mini", "annual", 2026, AFTER)


def test_a_base_whose_first_day_is_not_over_is_told_to_wait(mini: Db) -> None:
    mini.execute("""INSERT INTO energy_total (base_id, day, carrier, unit, amount, n_expected, n_known, n_good)
                    VALUES (1, '2026-07-01', 'electricity', 'kWh', 5, 96, 20, 20)""")
    with pytest.raises(InputError, match="no whole day of mini in 2026 is accounted yet: the first data are of 2026-07-01"):
        draft(mini, "mini", "annual", 2026, datetime(2026, 7, 1, 6, tzinfo=UTC))


def test_outlets_count_hours_events_and_transmission(park_year: Db) -> None:
    report = draft(park_year, "mini", "annual", 2026, AFTER).report
    name = "emission/2026/e1.stack/so2"
    assert cell(report, f"{name}/hours_exceeded").value == 12
    sundays, missing = 52 * 24, 9 * 24  # of the ten missing days one is a Sunday
    assert cell(report, f"{name}/hours_stopped").value == sundays
    assert cell(report, f"{name}/hours_missing").value == missing
    due = 365 * 24 - sundays
    assert cell(report, f"{name}/valid_share").value == pytest.approx(100 * (due - missing) / due)
    assert cell(report, "transmission/2026/e1.stack/effective").value == pytest.approx(100 * (due - missing) / due)
    assert cell(report, "events/production_on_treatment_off/n").value == 8
    assert cell(report, f"{name}/limit").value == 35
    assert cell(report, f"{name}/hours_substituted").value == missing


def test_an_absent_figure_of_a_plan_is_marked_for_the_base_to_fill(park_year: Db) -> None:
    report = draft(park_year, "mini", "annual", 2026, AFTER).report
    tasks = next(s for s in report.sections if s.id == "tasks")
    tables = [b for b in tasks.blocks if isinstance(b, Table)]
    assert len(tables[0].rows) == 5
    assert all(getattr(row[1], "zh", "") == "（由基地填写）" for row in tables[0].rows)
    park_year.execute("""UPDATE base SET attributes = attributes ||
        '{"projects": [{"name": {"zh": "余热发电", "en": "Waste heat power"},
        "investment": 3200, "status": "在建"}]}'""")
    filled = next(s for s in draft(park_year, "mini", "annual", 2026, AFTER).report.sections if s.id == "tasks")
    row = next(b for b in filled.blocks if isinstance(b, Table) and b.id == "projects").rows[0]
    assert [getattr(i, "en", "") for i in row][:4] == [
        "Waste heat power",
        "(to be filled by the base)",
        "(to be filled by the base)",
        "3200",
    ]


def test_an_indicator_reaches_no_further_than_the_days_behind_it(park_year: Db) -> None:
    park_year.execute("DELETE FROM energy_total WHERE carrier = 'electricity' AND day BETWEEN '2026-03-01' AND '2026-12-31'")
    share = cell(draft(park_year, "mini", "annual", 2026, AFTER).report, "headlines/2026/renewable_share")
    assert share.value is None
    assert share.coverage == pytest.approx(59 / 365)
    assert share.reason is not None
    assert "16.2 %" in share.reason.zh


def test_an_intensity_of_an_open_year_is_not_divided_by_the_value_added_of_the_whole(park_year: Db) -> None:
    at = datetime(2026, 10, 1, tzinfo=UTC)
    park_year.execute("UPDATE ledger SET recorded_at = '2026-01-02Z'")
    open_year = cell(draft(park_year, "mini", "annual", 2026, at).report, "headlines/2026/energy_per_value_added")
    assert open_year.value is None
    assert open_year.reason is not None
    assert "beyond the last day" in open_year.reason.en
    closed = cell(draft(park_year, "mini", "annual", 2026, AFTER).report, "headlines/2026/energy_per_value_added")
    assert closed.value == 1.4523


def test_a_share_in_the_plan_is_compared_as_a_percentage() -> None:
    share = Target("renewable_share", "可再生", "Renewable", 2026, 0.04, "1", "at_least", 0.02, 2025, "", "", True)
    assert (in_percent(share).value, in_percent(share).baseline, in_percent(share).unit) == (4.0, 2.0, "%")
    assert in_percent(target(2026)) == target(2026)


def test_an_intensity_that_ends_with_its_ledger_says_up_to_which_day(park_year: Db) -> None:
    park_year.execute(
        """UPDATE indicator_value SET inputs = '{"until": "2026-09-30"}' WHERE indicator = 'energy_per_value_added'"""
    )
    shown = cell(draft(park_year, "mini", "annual", 2026, AFTER).report, "energy/2026/energy_per_value_added")
    assert shown.value == 1.4523
    assert shown.reason is not None
    assert "2026-09-30" in shown.reason.en


def test_every_tariff_period_is_covered_by_the_days_that_were_priced(park_year: Db) -> None:
    park_year.execute("DELETE FROM cost_1d WHERE period = 'peak' AND day > '2026-03-31'")  # a season without a peak
    report = draft(park_year, "mini", "annual", 2026, AFTER).report
    assert cell(report, "tou/2026/peak/amount").coverage == 1.0
    park_year.execute("DELETE FROM cost_1d WHERE day > '2026-03-31'")
    assert cell(draft(park_year, "mini", "annual", 2026, AFTER).report, "tou/2026/flat/amount").coverage == pytest.approx(
        90 / 365
    )
