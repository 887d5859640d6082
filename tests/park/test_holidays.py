"""The State Council's calendar."""

from datetime import date

from park.holidays import public_day


def test_a_lunar_holiday_a_make_up_sunday_and_a_plain_weekend() -> None:
    assert public_day(date(2026, 2, 17)) == "holiday"      # first day of the lunar year
    assert public_day(date(2024, 2, 4)) == "working"       # a Sunday worked for it
    assert public_day(date(2026, 11, 22)) == "weekend"


def test_a_year_not_yet_arranged_has_its_fixed_holidays_and_weekends() -> None:
    assert [public_day(date(2050, 10, d)) for d in (1, 3, 4, 8)] == ["holiday", "holiday", "working", "weekend"]
    assert [public_day(date(2050, 5, d)) for d in (1, 2, 3)] == ["holiday", "holiday", "working"]
