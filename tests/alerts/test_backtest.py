"""The rules over stored readings: the same raises as live, and nothing written."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from alerts.backtest import backtest
from park.errors import NotFound

Db = psycopg.Connection[Any]
T0 = datetime(2026, 5, 5, 16, tzinfo=UTC)      # midnight of the 6th in Shanghai


def load(db: Db) -> None:
    db.execute("SELECT ensure_reading_partitions(%s, %s)", (T0, T0 + timedelta(days=2)))
    with db.cursor() as cur:
        cur.executemany("""INSERT INTO reading (base_id, point_id, ts, value, quality)
            SELECT base_id, point_id, %s, %s, 0 FROM point WHERE code = 'e1.stack.so2'""",
                        [(T0 + timedelta(minutes=i), 50.0 if 100 <= i < 130 or i == 200 else 20.0) for i in range(2880)])


def test_the_rules_over_history_raise_what_live_would_have_and_write_nothing(mini: Db) -> None:
    load(mini)
    outcome = backtest(mini, "mini", T0, T0 + timedelta(days=2))
    assert (outcome.n_readings, outcome.n_ticks) == (2880, 2880)
    (episode,) = outcome.episodes       # the single minute of 200 is shorter than the hold of 60 s
    assert episode.raised_at == (T0 + timedelta(minutes=101)).timestamp()
    assert episode.returned_at == (T0 + timedelta(minutes=130)).timestamp()
    assert mini.execute("SELECT (SELECT count(*) FROM alert), (SELECT count(*) FROM evaluator_snapshot)").fetchone() == (0, 0)


def test_a_rule_that_is_not_there_is_told_with_those_that_are(mini: Db) -> None:
    with pytest.raises(NotFound, match="no rule 'so3' that can be run over readings; there are: stack-so2"):
        backtest(mini, "mini", T0, T0 + timedelta(days=1), "so3")


def test_the_command_prints_episodes_in_local_time(mini: Db, database_url: str) -> None:
    load(mini)
    env = os.environ | {"PARK_DATABASE_URL": database_url, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-m", "park.cli", "backtest", "mini", "--from", "2026-05-06", "--to", "2026-05-07"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["rule,object,raised,returned,minutes",
                                        "stack-so2,e1.stack.so2,2026-05-06 01:41:00,2026-05-06 02:10:00,29.0"]
    assert "2880 readings in 2880 ticks over 2 days: 1 raises, 0.50 a day" in done.stderr
