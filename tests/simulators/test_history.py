"""History in blocks: a year in seconds, whole weeks, no seam to the live run."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from park.errors import InputError
from simulators.history import blocks
from simulators.model import NO_READING, Park

NOW = datetime(2026, 11, 23, 8, 0, tzinfo=UTC).timestamp()
END = datetime.fromtimestamp(NOW, UTC)
DAY_MS = 86_400_000


def test_a_year_of_every_point_is_there_within_ten_seconds() -> None:
    began = time.process_time()
    n = missing = 0
    for block in blocks(365, END):
        n += block.value.size
        missing += int((block.quality == NO_READING).sum())
    assert time.process_time() - began <= 10.0
    assert n > 365 * 96 * 300
    assert 0 < missing < 0.01 * n


def test_blocks_follow_each_other_without_hole_or_overlap() -> None:
    coarse = list(blocks(40, END, minute_days=0))[:-1]
    ts = np.concatenate([b.ts_ms for b in coarse])
    assert set(np.diff(ts)) == {900_000}
    assert len(ts) == 40 * 96
    assert ts[-1] + 900_000 == NOW * 1000
    assert all(b.value.shape == b.quality.shape == (len(b.codes), len(b.ts_ms)) and b.quality.dtype == np.int16 for b in coarse)
    assert all(datetime.fromtimestamp(b.ts_ms[0] / 1000, UTC).weekday() == 0 for b in coarse[1:])


def test_newest_first_is_the_same_blocks_from_the_other_end() -> None:
    forward = list(blocks(20, END, minute_days=0))
    backward = list(blocks(20, END, minute_days=0, newest_first=True))
    assert [b.ts_ms[0] for b in backward] == [b.ts_ms[0] for b in forward][::-1]
    np.testing.assert_array_equal(backward[0].value, forward[-1].value)


def test_days_that_are_loaded_already_are_skipped() -> None:
    recent, older = (list(blocks(20, END, minute_days=0, skip_days=s)) for s in (0, 14))
    ts = np.concatenate([b.ts_ms for b in older])
    assert len(recent[-1].ts_ms) == 1
    assert ts[-1] + 900_000 == int(NOW) // 900 * 900_000 - 14 * DAY_MS
    assert ts[0] == recent[0].ts_ms[0]
    assert len(ts) == 6 * 96


def test_outlets_come_every_minute_in_the_last_days_and_no_instant_comes_twice() -> None:
    so2 = np.concatenate([b.ts_ms for b in blocks(5, END) if "e1.stack.so2" in b.codes])
    kwh = np.concatenate([b.ts_ms for b in blocks(5, END) if "e1.main.kwh" in b.codes])
    assert len(so2) == len(set(so2)) == 3 * 1440 + 2 * 96 + 1
    assert len(kwh) == 5 * 96 + 1
    per_hour = np.bincount(so2[so2 >= (NOW - 2 * 86_400) * 1000] // 3_600_000 - int(NOW - 2 * 86_400) // 3600)
    assert (per_hour[:-1] == 60).all()


def test_missing_cells_are_not_a_number_and_never_zero() -> None:
    for block in blocks(60, END):
        gone = block.quality == NO_READING
        assert np.isnan(block.value[gone]).all()
        assert np.isfinite(block.value[~gone]).all()


def test_history_and_the_live_run_agree_at_the_seam(lvyuan: Park, scenario: object) -> None:
    live = Park(lvyuan.catalogue, lvyuan.scenario, seed=1, live_from=NOW)
    last = list(blocks(1, END, minute_days=0))[-2]
    at = last.ts_ms[-1] / 1000
    value, quality = live.readings(np.array([at, at + 1.0, NOW + 1.0]))
    order = [live.column_of[c] for c in last.codes]
    np.testing.assert_array_equal(quality[0, order], last.quality[:, -1])
    there = last.quality[:, -1] != NO_READING
    np.testing.assert_allclose(value[0, order][there], last.value[there, -1], rtol=1e-12)
    for c in live.counters:
        assert 0 <= value[2, c.column] - value[0, c.column] < 0.01 * c.rollover


def test_a_history_before_the_opening_of_the_park_is_refused_with_what_is_possible() -> None:
    with pytest.raises(InputError, match="opened on 2024-12-01; at most 722 days"):
        next(blocks(5000, END))


def test_a_history_that_ends_at_an_odd_second_stays_on_the_grid_and_reaches_the_last_minute() -> None:
    *coarse, tail = blocks(1, END + timedelta(minutes=9, seconds=47.7), minute_days=0)
    assert all((block.ts_ms % 900_000 == 0).all() for block in coarse)
    assert tail.ts_ms.tolist() == [round((NOW + 60 * k) * 1000) for k in range(10)]
    assert len(tail.codes) == len(coarse[0].codes)
