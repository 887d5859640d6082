"""Exempt periods and the rates of a quarter."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import psycopg
import pytest

from accounting import marks
from accounting.hours import State
from accounting.marks import Mark, apply_marks
from accounting.passes import run_pass
from accounting.verify import verify
from park.errors import InputError, NotFound
from park.quality import Quality

Conn = psycopg.Connection[Any]
Feed = Callable[..., None]
MIDNIGHT = datetime(2026, 5, 10, 16, tzinfo=UTC)
HOUR_US = 3_600_000_000


def test_an_hour_is_exempt_from_fifteen_marked_minutes_on() -> None:
    starts = np.arange(4, dtype=np.int64) * HOUR_US
    state = np.array([State.VALID, State.VALID, State.MISSING, State.STOPPED], np.int16)
    some = [Mark(7, "so2", HOUR_US - 14 * 60_000_000, 4 * HOUR_US)]
    assert apply_marks(some, "so2", starts, state).tolist() == [-1, 7, 7, 7]
    assert state.tolist() == [State.VALID, State.EXEMPT, State.MISSING, State.STOPPED]      # a mark makes no data
    assert apply_marks(some, "nox", starts, state).tolist() == [-1] * 4
    assert apply_marks([Mark(8, None, 45 * 60_000_000, HOUR_US)], "nox", starts, state).tolist() == [8, -1, -1, -1]


def stack(feed: Feed, hours: int, so2: np.ndarray, quality: list[int]) -> None:
    at = [MIDNIGHT + timedelta(minutes=i) for i in range(hours * 60)]
    feed("e1.stack.so2", at, so2, quality)
    feed("e1.stack.o2", at, np.full(len(at), 8.0))
    feed("e1.stack.flow", at, np.full(len(at), 50_000.0))


def quarter(conn: Conn, view: str, columns: str) -> tuple[Any, ...]:
    row = conn.execute(f"SELECT {columns} FROM {view} WHERE quantity = 'so2' AND quarter = '2026-04-01'").fetchone()
    assert row is not None
    return row


def test_a_mark_takes_hours_out_of_judgement_and_withdrawing_puts_them_back(park: Conn, feed: Feed, database_url: str,
                                                                           capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(1)
    so2 = rng.normal(20, 1, 24 * 60)
    so2[600:720] = rng.normal(80, 1, 120)                                  # two hours beyond the permit's 35
    stack(feed, 24, so2, [0] * len(so2))
    now = MIDNIGHT + timedelta(hours=25)
    run_pass(park, now)
    exceeded = ("SELECT count(*) FILTER (WHERE exceeded), count(*) FILTER (WHERE state = 'exempt'), sum(mass_kg) "
                "FROM emission_1h")
    bad = park.execute(exceeded + " WHERE quantity = 'so2'").fetchone()
    assert bad is not None and bad[:2] == (2, 0)
    number = marks.add(database_url, "mini", "e1.stack", "2026-05-11T10:00:00+08:00", "2026-05-11T12:00:00+08:00", "start_up",
                       "kiln start, work order 12", "Li", "so2")
    run_pass(park, now)
    assert park.execute(exceeded + " WHERE quantity = 'so2'").fetchone() == (0, 2, bad[2])    # the mass is still counted
    assert quarter(park, "transmission_rate_1q", "hours_due, hours_marked, effective_rate") == (23, 2, pytest.approx(22 / 23))
    silent = marks.add(database_url, "mini", "e1.stack", "2026-05-12T00:00:00+08:00", "2026-05-12T01:00:00+08:00", "fault",
                       "line cut", "Li", "so2")
    run_pass(park, now)                                # the hour without data is marked too: nothing is lost, anywhere
    assert quarter(park, "transmission_rate_1q", "hours_due, hours_marked, effective_rate") == (22, 3, 1.0)
    told = park.execute("""SELECT inputs FROM indicator_value
        WHERE indicator = 'transmission_effective_rate' AND period = '2026-05'""").fetchone()
    assert told is not None and [told[0][f"hours_{n}"] for n in ("due", "received", "valid", "marked")] == [22, 22, 22, 3]
    marks.withdraw(database_url, "mini", silent, "Wang", "it was not cut")
    run_pass(park, now)
    assert verify(park, 1, now) == []
    marks.print_marks(database_url, "mini")
    assert "start_up" in capsys.readouterr().out
    marks.withdraw(database_url, "mini", number, "Wang", "the kiln had run for days")
    run_pass(park, now)
    assert park.execute(exceeded + " WHERE quantity = 'so2'").fetchone() == bad
    assert park.execute("SELECT recorded_by, withdrawn_by FROM exempt_period").fetchone() == ("Li", "Wang")
    assert verify(park, 1, now) == []


def test_a_mark_says_who_and_why_or_is_refused(park: Conn, database_url: str) -> None:
    when = ("2026-05-11T10:00:00+08:00", "2026-05-11T12:00:00+08:00")
    with pytest.raises(InputError, match="--from before --to"):
        marks.add(database_url, "mini", "e1.stack", when[1], when[0], "fault", "x", "Li")
    with pytest.raises(InputError, match="who and why"):
        marks.add(database_url, "mini", "e1.stack", *when, "fault", " ", "Li")
    with pytest.raises(NotFound, match="no outlet"):
        marks.add(database_url, "mini", "e1.stack", *when, "fault", "x", "Li", "cod")
    with pytest.raises(NotFound, match="no mark 5"):
        marks.withdraw(database_url, "mini", 5, "Li", "x")


@pytest.mark.parametrize(("lost_hours", "rate", "usable", "rule"), [
    (2, 22 / 24, True, "capture at least 90 %"), (5, 19 / 24, True, "by 2160 valid hours"), (7, 17 / 24, False, "not usable")])
def test_the_capture_rate_of_a_quarter_says_which_rule_holds(park: Conn, feed: Feed, lost_hours: int, rate: float, usable: bool,
                                                             rule: str) -> None:
    so2 = np.random.default_rng(1).normal(20, 1, 24 * 60)
    quality = [int(Quality.FAULT) if 600 <= i < 600 + 60 * lost_hours else 0 for i in range(24 * 60)]
    stack(feed, 24, so2, quality)
    run_pass(park, MIDNIGHT + timedelta(hours=24))
    got = quarter(park, "capture_rate_1q", "capture_rate, usable, hours_insufficient, hours_without_mass, rule")
    assert got[:4] == (pytest.approx(rate), usable, lost_hours, 0 if usable else lost_hours) and rule in got[4]
    stated = {r[0] for r in park.execute("SELECT substitution FROM emission_1h WHERE quantity = 'so2' "
                                         "AND state = 'insufficient'")}
    assert stated == {"HJ 75-2017: max of 180 valid hours" if lost_hours == 2 else "HJ 75-2017: max of 2160 valid hours"
                      if usable else "HJ 75-2017: capture below 75 %, not covered"}


@pytest.mark.parametrize(("hours", "window"), [(24, 180), (25, 720)])
def test_an_instrument_out_of_control_is_invalid_since_the_last_check_and_its_mass_is_counted_from_there(
    park: Conn, feed: Feed, database_url: str, hours: int, window: int
) -> None:
    """40 days of which the last ones are out of control: the greatest hour since the check does not count, the greatest of the
    180 (a run of at most 24 h) or 720 valid hours before it does; capture and effective rate lose the hours, none is exempt."""
    n = 40 * 24
    at = [MIDNIGHT + timedelta(minutes=15 * i) for i in range(4 * n)]
    so2 = np.full(4 * n, 10.0)
    begin = n - 30
    so2[4 * (begin - 179):4 * (begin - 178)] = 20.0                       # within 180 valid hours before the check
    so2[4 * (begin - 700):4 * (begin - 699)] = 30.0                       # within 720
    so2[4 * (begin + 1):4 * (begin + 2)] = 90.0                           # since the check: not valid
    feed("e1.stack.so2", at, so2)
    feed("e1.stack.o2", at, np.full(4 * n, 8.0))
    feed("e1.stack.flow", at, np.full(4 * n, 50_000.0))
    since, until = (MIDNIGHT + timedelta(hours=h) for h in (begin, begin + hours))
    marks.add(database_url, "mini", "e1.stack", since.isoformat(), until.isoformat(), "out_of_control",
              "span drift 12 % at the calibration", "Li", "so2")
    now = MIDNIGHT + timedelta(hours=n)
    run_pass(park, now)
    row = park.execute("""SELECT count(*), min(mass_kg), max(mass_kg), count(measured), count(exempt_id), min(substitution)
        FROM emission_1h WHERE quantity = 'so2' AND state = 'insufficient'""").fetchone()
    largest = 1.0 if window == 180 else 1.5
    assert row == (hours, pytest.approx(largest), pytest.approx(largest), 0, 0, f"HJ 75-2017: max of {window} valid hours")
    assert park.execute("SELECT count(*) FROM emission_1h WHERE quantity = 'so2' AND exceeded").fetchone() == (0,)
    assert quarter(park, "capture_rate_1q", "hours_valid, hours_insufficient") == (n - hours, hours)
    assert quarter(park, "transmission_rate_1q", "hours_valid, hours_marked") == (n - hours, 0)
    assert park.execute("SELECT count(*) FROM emission_1h WHERE quantity = 'nox' AND state = 'insufficient'").fetchone() == (0,)
    assert verify(park, 1, now) == []
