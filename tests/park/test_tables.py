"""What figures rest on: every table of factors, limits, classes, rules and calendars is rows with a source, whether it was
checked, and from when it holds."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from park.catalogue import read_catalogue
from park.catalogue_store import apply, export, plan
from park.errors import InputError
from park.limits import for_catalogue, limit_sets

ROOT = Path(__file__).parents[2]
MINI = ROOT / "tests" / "data" / "mini.yaml"
# rows that hold for a time; the power factor's table holds as a whole
DATED = {"park/tables/factors.yaml": ("factors",), "park/tables/indicators.yaml": ("indicators",),
         "accounting/tables/electricity_bill.yaml": ("load_rate", "contract_demand"),
         "accounting/tables/incineration.yaml": ("furnace",)}
SOURCED = {"park/tables/accuracies.yaml": ("accuracies",), "api/kpi_bands.yaml": ("rate", "counts"),
           "alerts/severity.yaml": ("grid",), "park/tables/limits.yaml": ("limits",)}


def rows_of(tables: dict[str, tuple[str, ...]]) -> Iterator[tuple[str, dict[str, Any]]]:
    for file, sections in tables.items():
        content = yaml.safe_load((ROOT / file).read_text(encoding="utf-8"))
        for section in sections:
            for row in content[section]:
                yield f"{file} {section} {row}", row


def test_every_row_of_the_shipped_tables_has_a_source_and_says_whether_it_was_checked() -> None:
    for where, row in [*rows_of(DATED), *rows_of(SOURCED)]:
        assert row.get("source", "").strip(), where
        assert isinstance(row.get("verified", False), bool), where
        assert not (row.get("verified") and "recalled" in row["source"]), where
    for where, row in rows_of(DATED):
        assert isinstance(row["from"], date) and (row.get("to") is None or row["to"] > row["from"]), where
    for file, section in (("collectors/tables/hj212_flags.yaml", "editions"),
                          ("accounting/tables/electricity_bill.yaml", "power_factor")):
        whole = yaml.safe_load((ROOT / file).read_text(encoding="utf-8"))[section]
        for part in whole.values() if section == "editions" else [whole]:
            assert part["source"] and isinstance(part["verified"], bool), file


@pytest.mark.parametrize("table", ["factor", "limit_value", "tariff", "calendar", "target", "setting", "accuracy",
                                   "indicator_definition", "flow"])
def test_every_table_of_what_figures_rest_on_keeps_source_check_and_time_of_record(mini: psycopg.Connection[Any], table: str
                                                                                 ) -> None:
    columns = {name for (name,) in mini.execute(
        "SELECT column_name FROM information_schema.columns WHERE table_name = %s", (table,))}
    assert columns >= {"source", "verified", "recorded_at"}
    assert columns & {"valid_from", "day", "year"}


def test_days_of_a_calendar_say_whether_they_were_checked(mini: psycopg.Connection[Any], tmp_path: Path) -> None:
    file = tmp_path / "calendar.yaml"
    file.write_text("""calendars:
  - {code: cn, source: 国办发明电〔2025〕7号, verified: true, days: {2026-10-01: holiday}}
  - {code: cn, source: shutdown plan of the works, days: {2026-10-08: shutdown}}
""", encoding="utf-8")
    apply(mini, read_catalogue([MINI, file]))
    rows = mini.execute(
        "SELECT day::text, class, source, verified FROM calendar WHERE code = 'cn' ORDER BY day DESC").fetchall()
    assert rows == [("2026-10-08", "shutdown", "shutdown plan of the works", False),
                    ("2026-10-01", "holiday", "国办发明电〔2025〕7号", True)]
    out = tmp_path / "out.yaml"
    out.write_text(yaml.safe_dump(export(mini, "mini"), allow_unicode=True), encoding="utf-8")
    assert plan(mini, read_catalogue([out])) == []
    mini.execute("SELECT set_config('park.as_of', now()::text, true)")
    assert mini.execute("SELECT count(*) FROM calendar_known WHERE verified").fetchone() == (1,)


def test_every_set_of_national_limits_goes_into_a_catalogue_as_it_is_printed(tmp_path: Path) -> None:
    printed = tmp_path / "limits.yaml"
    before = len(read_catalogue([MINI]).limits)
    for code, found in limit_sets().items():
        printed.write_text(for_catalogue(code, "e1.stack", date(2026, 1, 1), "en"), encoding="utf-8")
        taken = read_catalogue([MINI, printed]).limits[before:]
        assert [(x.quantity, x.statistic, x.low, x.high, x.source, x.verified) for x in taken] == [
            (row["quantity"], row["statistic"], row.get("low"), row["high"], row["source"], row["verified"])
            for row in found["limits"]] and taken, code
    with pytest.raises(InputError, match="known: power_coal_ultra_low"):
        for_catalogue("gb13271", "e1.stack", None, "zh")
