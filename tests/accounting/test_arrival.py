"""However readings arrive (late by hours or a day, out of order, twice, over borders of days and months), each slot, hour, day
and month is within 0.001 of what flowed, and in the meantime nothing was shown as a number that was not known."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from accounting.passes import run_pass
from tests.accounting.conftest import Conn, Feed

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
