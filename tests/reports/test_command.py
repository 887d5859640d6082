"""`park report` as a user runs it: files, paths on standard output, messages on standard error, exit status."""

from __future__ import annotations

import resource
from pathlib import Path

from tests.command import Done
from tests.command import park as command


def park(url: str, *words: str) -> Done:
    """Run `park report` against a database."""
    return command("report", *words, PARK_DATABASE_URL=url)


def cpu_s() -> float:
    """Processor time so far: what a machine shared with others cannot stretch."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def test_a_report_is_written_sealed_restated_and_written_again(year_url: str, tmp_path: Path) -> None:
    import psycopg

    before = cpu_s()
    first = park(year_url, "mini", "annual", "2025", "-o", str(tmp_path), "--seal", "--by", "lin")
    assert first.returncode == 0, first.stderr
    assert cpu_s() - before < 20
    paths = [Path(line) for line in first.stdout.splitlines()]
    assert [p.name for p in paths] == [f"mini-annual-2025-v1-zh.{f}" for f in ("docx", "xlsx", "html")]
    assert all(p.stat().st_size > 10_000 for p in paths)
    with psycopg.connect(year_url, autocommit=True) as conn:
        conn.execute("UPDATE energy_total SET amount = amount * 2 WHERE carrier = 'water' AND day = '2025-07-01'")
    refused = park(year_url, "mini", "annual", "2025", "-o", str(tmp_path), "--seal")
    assert refused.returncode == 1
    assert "needs --reason" in refused.stderr
    second = park(year_url, "mini", "annual", "2025", "-o", str(tmp_path), "--seal", "--reason", "水表更正", "--format", "json")
    assert second.returncode == 0, second.stderr
    changes = park(year_url, "mini", "annual", "2025", "--diff", "1,2", "--lang", "en")
    assert "Water: Base, Fresh water (m³)" in changes.stdout or "Base, Fresh water" in changes.stdout
    again = park(year_url, "mini", "annual", "2025", "-o", str(tmp_path / "again"), "--version", "1", "--format", "html")
    assert Path(again.stdout.strip()).read_bytes() == paths[2].read_bytes()


def test_mistakes_are_told_with_what_is_known(year_url: str, tmp_path: Path) -> None:
    for arguments, status, words in (
        (("nowhere", "annual", "2026"), 1, "known: mini"),
        (("mini", "annual", "2019"), 1, "there are some from 2025-01-01"),
        (("mini", "annual", "2026", "--format", "odt"), 2, "docx, xlsx, pdf, html, json"),
        (("mini", "weekly", "2026"), 2, "weekly"),
        (("mini", "annual", "2026", "--as-of", "yesterday"), 1, "expected an instant"),
        (("mini", "annual", "2026", "--as-of", "2999-01-01"), 1, "a day that is not to come"),
        (("mini", "annual", "2026", "--version", "9"), 1, "sealed: none"),
        (("mini", "annual", "2026", "--version", "1", "--seal"), 2, "does not go together"),
        (("mini", "annual", "2026", "-o", "/proc/nowhere"), 1, "cannot write to the folder"),
    ):
        out = park(year_url, *(arguments if "-o" in arguments else (*arguments, "-o", str(tmp_path))))
        assert out.returncode == status, (arguments, out.stderr)
        assert words in " ".join(out.stderr.split()), (arguments, out.stderr)
        assert out.stdout == ""
        assert "Traceback" not in out.stderr
    assert list(tmp_path.iterdir()) == []


def test_no_database_is_told_with_the_remedy(tmp_path: Path) -> None:
    out = park("postgresql://127.0.0.1:1/none", "mini", "annual", "2026", "-o", str(tmp_path))
    assert out.returncode == 1
    assert "PARK_DATABASE_URL" in out.stderr
