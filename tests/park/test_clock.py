"""Periods are base-local, instants are UTC."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from park.clock import local_midnight, parse_as_of, parse_instant, parse_period
from park.errors import InputError


@pytest.mark.parametrize(("text", "first", "last", "start"), [
    ("2026", date(2026, 1, 1), date(2026, 12, 31), datetime(2025, 12, 31, 16, tzinfo=UTC)),
    ("2026-Q4", date(2026, 10, 1), date(2026, 12, 31), datetime(2026, 9, 30, 16, tzinfo=UTC)),
    ("2024-02", date(2024, 2, 1), date(2024, 2, 29), datetime(2024, 1, 31, 16, tzinfo=UTC)),
    ("2026-11-23", date(2026, 11, 23), date(2026, 11, 23), datetime(2026, 11, 22, 16, tzinfo=UTC)),
])
def test_a_period_is_base_local(text: str, first: date, last: date, start: datetime) -> None:
    period = parse_period(text)
    assert (period.first_day, period.last_day, period.start) == (first, last, start)


@pytest.mark.parametrize("text", ["", "26", "2026-13", "2026-02-30", "2026-Q5", "2026/01", "2026-1-1", "0000", "二〇二六"])
def test_what_is_no_period_is_an_input_error(text: str) -> None:
    with pytest.raises(InputError):
        parse_period(text)


def test_a_day_of_23_hours_ends_where_the_next_begins() -> None:
    period = parse_period("2026-03-29", "Europe/Berlin")
    assert (period.end - period.start).total_seconds() == 23 * 3600


def test_an_instant_needs_an_offset() -> None:
    assert parse_instant("2026-11-23T11:00:00+08:00") == datetime(2026, 11, 23, 3, tzinfo=UTC)
    with pytest.raises(InputError, match="offset"):
        parse_instant("2026-11-23T11:00:00")
    with pytest.raises(InputError, match="expected an instant"):
        parse_instant("yesterday")


def test_known_on_a_day_is_known_at_its_end_in_the_base() -> None:
    now = datetime(2026, 11, 23, 3, tzinfo=UTC)
    assert parse_as_of("2026-11-22", "Asia/Shanghai", now) == datetime(2026, 11, 22, 16, tzinfo=UTC)
    assert parse_as_of("2026-11-23", "Asia/Shanghai", now) == now
    assert parse_as_of("2026-11-22T08:00:00+08:00", "Asia/Shanghai", now) == datetime(2026, 11, 22, tzinfo=UTC)
    for text in ("2026-11-24", "2026-11-23T03:00:01Z", "2026-11-22T08:00:00", "2026-11-31", "2026-11"):
        with pytest.raises(InputError):
            parse_as_of(text, "Asia/Shanghai", now)


def test_midnight_of_a_base_is_not_midnight_of_utc() -> None:
    assert local_midnight(date(2026, 1, 1), "Asia/Shanghai") == datetime(2025, 12, 31, 16, tzinfo=UTC)
