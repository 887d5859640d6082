"""However readings arrive (late by hours or a day, out of order, twice, over borders of days and months), each slot, hour, day
and month is within 0.001 of what flowed, and in the meantime nothing was shown as a number that was not known."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from accounting.passes import run_pass
from accounting.verify import verify
from tests.accounting.conftest import Conn, Feed, every, register

MIDNIGHT = datetime(2026, 9, 29, 16, tzinfo=UTC)             # 30 September 00:00 in the base's zone
END = MIDNIGHT + timedelta(days=2)                           # 2 October 00:00
TS = [MIDNIGHT + timedelta(minutes=15 * i) for i in range(2 * 96 + 1)]
TRUE = np.round(3 + 2 * np.sin(np.arange(192) / 7.0), 3)
REGISTER = 500 + np.concatenate([[0.0], np.cumsum(TRUE)])
ALL = np.arange(193)


def amounts(park: Conn, table: str) -> dict[datetime, float | None]:
    return dict(park.execute(f"""SELECT i.ts, i.amount FROM {table} i JOIN point p USING (base_id, point_id)
        WHERE p.code = 'e1.furnace.kwh' ORDER BY i.ts""").fetchall())


def is_true(park: Conn) -> None:
    for table, width in (("interval_15m", 1), ("interval_1h", 4), ("interval_1d", 96)):
        got = amounts(park, table)
        want = TRUE.reshape(-1, width).sum(axis=1)
        told = [got[TS[width * i]] for i in range(len(want))]
        assert told == pytest.approx(list(want), abs=0.001), table
    months = amounts(park, "interval_1mo")
    assert list(months.values()) == pytest.approx([TRUE[:96].sum(), TRUE[96:].sum()], abs=0.001)
    assert list(months) == [datetime(2026, 8, 31, 16, tzinfo=UTC), datetime(2026, 9, 30, 16, tzinfo=UTC)]


def feed_some(feed: Feed, which: np.ndarray) -> None:
    feed("e1.furnace.kwh", [TS[i] for i in which], list(REGISTER[which]))


@pytest.mark.parametrize(("first", "late"), [
    (np.r_[0:88, 104:193], np.r_[88:104]),                   # four hours late, over the border of the month
    (ALL[:97], ALL[97:]),                                    # a whole day late
    (ALL[97:], ALL[:97]),                                    # the day before it comes after it
    (ALL[::2], ALL[1::2][::-1]),                             # out of order
    (ALL, ALL[40:140]),                                      # twice
], ids=["four hours late", "a day late", "the day before late", "out of order", "twice"])
def test_however_they_arrive_the_figures_are_true(park: Conn, feed: Feed, first: np.ndarray, late: np.ndarray) -> None:
    feed_some(feed, first)
    run_pass(park, END)
    before = amounts(park, "interval_15m")
    here = set(first.tolist())
    for i in range(192):                                     # in the meantime: right where both borders were read, never a zero
        if i in here and i + 1 in here:
            assert before[TS[i]] == pytest.approx(TRUE[i], abs=0.001)
        else:
            known = before.get(TS[i])
            assert known is None or known > 0.5
    feed_some(feed, late)
    run_pass(park, END)
    is_true(park)


def test_an_hour_that_two_days_share_is_whole_in_zones_of_half_an_hour(park: Conn, feed: Feed) -> None:
    """Midnight in Kolkata is 18:30 UTC: the hour from 18:00 has two slots of either day; no day without data comes of it."""
    park.execute("UPDATE base SET timezone = 'Asia/Kolkata'")
    midnight = datetime(2026, 3, 1, 18, 30, tzinfo=UTC)
    at = every(900, midnight, 193)
    feed("park.kwh", at[:90], register(90, 1.0))
    run_pass(park, midnight + timedelta(days=1))
    feed("park.kwh", at[90:], register(193, 1.0)[90:])
    run_pass(park, midnight + timedelta(days=3))
    hours = park.execute("SELECT ts - %s, amount, n_known FROM interval_1h WHERE n_known <> 4 ORDER BY ts",
                         (midnight,)).fetchall()
    half = timedelta(minutes=30)
    assert hours == [(-half, pytest.approx(2), 2), (timedelta(days=2) - half, pytest.approx(2), 2)]
    days = park.execute("SELECT day::text, amount, n_known FROM energy_1d JOIN point USING (base_id, point_id) "
                        "WHERE code = 'park.kwh' AND day < '2026-03-04' ORDER BY day").fetchall()
    assert days == [("2026-03-02", pytest.approx(96), 96), ("2026-03-03", pytest.approx(96), 96)]
    assert verify(park, 1, midnight + timedelta(days=3)) == []


def test_a_gap_in_which_the_register_was_reset_follows_the_late_week_before_it(park: Conn, feed: Feed) -> None:
    """Its slots are marked as a reset and not as the split of a gap, and lean on the week before it all the same."""
    value = np.where(ALL < 140, REGISTER, REGISTER - REGISTER[125])
    early = [i for i in range(193) if not 20 <= i < 60 and not 125 < i < 140]
    feed("e1.furnace.kwh", [TS[i] for i in early], value[early])
    run_pass(park, END)
    before = amounts(park, "interval_15m")
    feed("e1.furnace.kwh", TS[20:60], value[20:60])
    run_pass(park, END)
    after = amounts(park, "interval_15m")
    changed = [i for i in range(125, 140) if abs((before[TS[i]] or 0) - (after[TS[i]] or 0)) > 1e-3]
    assert len(changed) > 10 and verify(park, 1, END) == []


def test_a_counter_that_began_later_than_the_base_is_due_from_its_first_reading_or_meter(park: Conn, feed: Feed) -> None:
    """Before its first reading it counted as missing since the base's beginning; those days go, unless a meter was there."""
    feed("park.kwh", every(900, MIDNIGHT - timedelta(days=4), 5 * 96), register(5 * 96, 1.0))
    run_pass(park, END)
    for point in ("e1.furnace.kwh", "e1.main.kwh", "e1.gas"):  # the second has a meter that was installed in 2025
        feed(point, TS, list(REGISTER))
    run_pass(park, END)
    due = park.execute("""SELECT code, sum(n_known), sum(n_expected) FROM energy_1d JOIN point USING (base_id, point_id)
        WHERE code LIKE 'e1%%kwh' GROUP BY 1 ORDER BY 1""").fetchall()
    assert due == [("e1.furnace.kwh", 192, 192), ("e1.main.kwh", 192, 6 * 96)]
    told = dict(park.execute("""SELECT indicator, inputs -> 'begins_later' FROM indicator_value
        WHERE period = '2026-09' AND inputs ? 'begins_later'""").fetchall())
    assert told == {key: {"e1.gas": "2026-09-30"} for key in ("tce_calorific", "tce_equivalent", "co2_t")}
    assert verify(park, 1, END) == []


def test_a_counter_that_was_retired_is_due_until_the_end_of_that_day(park: Conn, feed: Feed) -> None:
    feed("park.kwh", every(900, MIDNIGHT, 6 * 96), register(6 * 96, 1.0))
    feed("e1.furnace.kwh", TS, list(REGISTER))
    now = MIDNIGHT + timedelta(days=5)
    run_pass(park, now)
    due = """SELECT sum(n_expected) / 96, sum(n_known) / 96 FROM interval_1d JOIN point USING (base_id, point_id)
        WHERE code = 'e1.furnace.kwh'"""
    assert park.execute(due).fetchone() == (5, 2)          # missing since it is silent, as long as it is in the catalogue
    park.execute("UPDATE point SET removed_at = %s WHERE code = 'e1.furnace.kwh'", (MIDNIGHT + timedelta(days=2, hours=3),))
    for later in (0, 1):
        run_pass(park, now + timedelta(days=later))
        assert park.execute(due).fetchone() == (3, 2)
    assert verify(park, 1, now + timedelta(days=1)) == []
    park.execute("UPDATE point SET removed_at = NULL WHERE code = 'e1.furnace.kwh'")
    run_pass(park, now + timedelta(days=1))
    assert park.execute(due).fetchone() == (6, 2)
    assert verify(park, 1, now + timedelta(days=1)) == []


def test_an_export_before_the_first_reading_of_the_buying_meter_is_no_negative_account(park: Conn, feed: Feed) -> None:
    park.execute("UPDATE point SET direction = 'export' WHERE code = 'e2.pv.kwh'")
    feed("e2.pv.kwh", TS, list(REGISTER))
    feed("park.kwh", TS[96:], list(REGISTER[96:]))
    run_pass(park, END)
    net = park.execute("""SELECT amount, co2_kg IS NULL FROM energy_total_1d
        WHERE enterprise_id IS NULL AND carrier = 'electricity' ORDER BY day""").fetchall()
    assert net[:2] == [(None, True), (pytest.approx(0.0, abs=1e-6), False)]


def test_a_new_price_reaches_a_day_that_has_no_midnight(park: Conn, feed: Feed) -> None:
    """In Havana the day of daylight saving begins at one o'clock; an hour of the next day was priced with it."""
    park.execute("UPDATE base SET timezone = 'America/Havana'")
    park.execute("""UPDATE tariff SET terms = '{"prices": {"flat": 1, "peak": 2}, "hours": [{"period": "peak", "from": "08:00",
        "to": "20:00"}]}' WHERE carrier = 'electricity'""")
    start = datetime(2026, 3, 7, 5, tzinfo=UTC)
    feed("park.kwh", every(900, start, 3 * 96 - 3), register(3 * 96 - 3, 1.0))
    run_pass(park, start + timedelta(days=4))
    park.execute("UPDATE tariff SET terms = jsonb_set(terms, '{prices,flat}', '3') WHERE carrier = 'electricity'")
    run_pass(park, start + timedelta(days=4))
    costs = park.execute("""SELECT sum(cost) FROM cost_1d JOIN point USING (base_id, point_id)
        WHERE code = 'park.kwh' GROUP BY day ORDER BY day""").fetchall()
    assert [c for c, in costs] == [48 * 2 + 48 * 3, 48 * 2 + 44 * 3, 48 * 2 + 48 * 3]
