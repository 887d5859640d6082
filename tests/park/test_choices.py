"""An option that takes a word of a known few: another word is wrong usage, and the known ones are named."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from park.cli import app

WINDOW = ("-o", "x.csv", "--start", "2026-01-01T00:00:00Z", "--end", "2026-01-02T00:00:00Z")


@pytest.mark.parametrize(("words", "known"), [
    (("bill", "b", "2026-10", "--format", "exe"), ("table", "json")),
    (("device", "read", "x", "--host", "h", "--framing", "udp"), ("tcp", "rtu+tcp")),
    (("duty", "add", "b", "Li", "2026-11-23T20:00", "--severities", "critical,urgent"), ("critical", "low")),
    (("export", "aggregates", *WINDOW, "--grain", "2h"), ("15m", "1mo")),
    (("export", "readings", *WINDOW, "--format", "xls"), ("csv", "parquet")),
    (("handover", "b", "--language", "fr"), ("zh", "en")),
    (("report", "b", "annual", "2026", "--format", "docx,exe"), ("docx", "json")),
    (("route", "add", "b", "r", "sms", "https://a"), ("email", "wecom")),
    (("token", "create", "--role", "root", "--name", "Li"), ("operator", "admin")),
])
def test_another_word_is_wrong_usage_and_the_known_ones_are_named(words: tuple[str, ...], known: tuple[str, ...]) -> None:
    done = CliRunner().invoke(app, list(words), env={"PARK_DATABASE_URL": "postgresql://127.0.0.1:1/none"})
    assert done.exit_code == 2 and all(word in done.output for word in known), done.output
