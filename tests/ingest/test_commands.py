"""The commands as a user calls them: what they print and their exit status."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner, Result

from park.cli import app
from park.errors import Conflict

Db = psycopg.Connection[Any]
GOOD = "point,at,value\ne1.gas,2026-11-01T00:00:00Z,1\ne1.gas,2026-11-01T01:00:00Z,4\n"


@pytest.fixture(autouse=True)
def environment(mini: Db, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARK_DATABASE_URL", database_url)


def park(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def test_a_file_is_imported_verified_and_exported_again(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text(GOOD)
    done = park("import", str(tmp_path / "in.csv"), "--base", "mini")
    assert (done.exit_code, "2 rows read, 0 rejected, 2 new to the database" in done.output) == (0, True)
    assert park("ingest", "--verify").exit_code == 0
    out = tmp_path / "out.csv"
    done = park("export", "readings", "-o", str(out), "--start", "2026-11-01T00:00:00Z", "--end", "2026-11-02T00:00:00Z")
    assert (done.exit_code, out.read_text().splitlines()[1]) == (0, "e1.gas,2026-11-01T00:00:00Z,1,good")
    done = park("export", "aggregates", "-o", str(out), "--resolution", "1d", "--from", "2026-11-01",
                "--to", "2026-11-02", "--point", "e1.gas")
    assert (done.exit_code, out.read_text().splitlines()[1]) == (0, "e1.gas,2026-10-31T16:00:00Z,2,2,2,2.5,1,4,5,1,4,3")


def test_rejected_rows_end_with_status_1_and_name_the_file(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text(GOOD + "nobody,2026-11-01T00:00:00Z,1\n")
    done = park("import", str(tmp_path / "in.csv"))
    assert done.exit_code == 1 and "in.csv.rejected.csv" in done.output.replace("\n", "")


def test_a_rollup_that_is_not_what_the_readings_give_is_named(mini: Db, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text(GOOD)
    park("import", str(tmp_path / "in.csv"))
    mini.execute("UPDATE reading_1d SET sum = sum + 1")
    done = park("ingest", "--verify")
    assert done.exit_code == 1 and "reading_1d" in done.output


def test_open_dead_letters_are_listed_by_reason(mini: Db) -> None:
    mini.execute("INSERT INTO dead_letter (base_id, reason, detail, payload) VALUES (1, 'unknown_point', 'x.y', 'p')")
    done = park("deadletters", "--reason", "unknown_point")
    assert done.exit_code == 0 and "1 unknown_point" in done.output
    assert "no dead letters wait" not in done.output


def test_weeks_are_shown_dropped_and_reopened(mini: Db, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("point,at,value\ne1.gas,2025-01-07T00:00:00Z,1\ne1.gas,2025-01-14T00:00:00Z,4\n")
    park("import", str(tmp_path / "in.csv"))
    assert "kept for ever" in park("retention", "show").output
    assert park("retention", "run", "--days", "400").exit_code == 1, "figures wait"
    mini.execute("DELETE FROM dirty_account")
    done = park("retention", "run", "--days", "400", "--archive", str(tmp_path / "old"))
    assert (done.exit_code, done.output.splitlines()[-1]) == (0, "2 weeks dropped")
    assert "dropped" in park("retention", "show").output
    assert isinstance(park("retention", "reopen", "2025-W02").exception, Conflict)
    done = park("retention", "reopen", "2025-W02", str(tmp_path / "old" / "mini_2025-W02.parquet"))
    assert (done.exit_code, "1 came back" in done.output) == (0, True)
    assert park("ingest", "--verify").exit_code == 0


def test_an_export_takes_days_of_the_base_and_is_what_its_name_says(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text(GOOD)
    park("import", str(tmp_path / "in.csv"), "--base", "mini")
    out = tmp_path / "day.parquet"
    done = park("export", "readings", "-o", str(out), "--from", "2026-11-01", "--to", "2026-11-02")
    assert (done.exit_code, out.read_bytes()[:4], done.output) == (0, b"PAR1", f"2 readings in {out}\n")
    assert park("export", "readings", "-o", str(out), "--from", "2026-11-02", "--to", "2026-11-02").exit_code == 1
