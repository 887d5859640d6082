"""Truth cases of counters: what the pure function says against a consumption that is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from accounting.intervals import FAR, SLOT_US, Intervals, Meters, Method, intervals
from park.quality import Quality

DAY = 96
START = 800_000 * SLOT_US      # a slot border


@dataclass
class Truth:
    """A counter read every 15 minutes over some days: amount per slot, reading times (borders) and registers."""

    amount: np.ndarray
    ts: np.ndarray
    register: np.ndarray

    @property
    def slots(self) -> np.ndarray:
        return self.ts[:-1]


def truth(days: int = 10, start: float = 12_345.678) -> Truth:
    """A working profile (busy days, quiet nights) that repeats every week, in steps of 0.01."""
    i = np.arange(days * DAY)
    amount = np.round(20 + 15 * np.clip(np.sin((i % DAY - 28) / DAY * 2 * np.pi), -0.5, 1) + 5 * ((i // DAY) % 7 < 5), 2)
    return Truth(amount, START + np.arange(days * DAY + 1) * SLOT_US, start + np.concatenate([[0], np.cumsum(amount)]))


def account(t: Truth, register: np.ndarray | None = None, keep: np.ndarray | None = None, **options: object) -> Intervals:
    register = t.register if register is None else register
    keep = np.ones(len(t.ts), bool) if keep is None else keep
    ts, values = t.ts[keep], register[keep]
    return intervals(ts, values, np.zeros(len(ts), np.int16), t.slots, **options)  # type: ignore[arg-type]


def test_a_clean_counter_is_exact_in_every_slot() -> None:
    t = truth()
    got = account(t)
    np.testing.assert_allclose(got.amount, t.amount, atol=1e-6)
    assert set(got.quality) == {Quality.GOOD} and set(got.method) == {Method.MEASURED}


def test_a_gap_of_six_hours_keeps_its_total_and_is_split_by_profile_and_marked() -> None:
    t = truth()
    gap = slice(8 * DAY + 30, 8 * DAY + 54)
    keep = np.ones(len(t.ts), bool)
    keep[gap.start + 1:gap.stop] = False
    got = account(t, keep=keep)
    assert got.amount[gap].sum() == pytest.approx(t.amount[gap].sum(), abs=1e-3)
    np.testing.assert_allclose(got.amount[gap], t.amount[gap], rtol=0.02)       # last week's shape
    assert (got.amount[gap] > 0).all()
    assert set(got.quality[gap]) == {Quality.ESTIMATED} and set(got.method[gap]) == {Method.GAP_SPLIT}
    assert set(np.delete(got.quality, np.arange(gap.start, gap.stop))) == {Quality.GOOD}


def test_a_gap_without_any_history_is_split_evenly() -> None:
    t = truth(2)
    keep = np.ones(len(t.ts), bool)
    keep[5:40] = False
    got = account(t, keep=keep)
    assert got.amount[4:40].sum() == pytest.approx(t.amount[4:40].sum(), abs=1e-3)
    assert np.ptp(got.amount[4:40]) < 1e-6


@pytest.mark.parametrize("digits", [4, 5, 6, 7, 8, 9])
@pytest.mark.parametrize("told", [True, False])
def test_a_rollover_is_exact_at_any_digit_count_whether_the_catalogue_tells_it_or_not(digits: int, told: bool) -> None:
    turn = 10.0**digits
    t = truth(start=turn - 5_000.5)
    got = account(t, t.register % turn, rollover=turn if told else None)
    np.testing.assert_allclose(got.amount, t.amount, atol=1e-3)
    assert (got.method == Method.ROLLOVER).sum() >= 1
    assert set(got.quality) == {Quality.GOOD}


def test_a_rollover_inside_a_gap_keeps_the_total() -> None:
    t = truth(start=1e6 - 17_000)
    crossing = int(np.searchsorted(t.register, 1e6))
    keep = np.ones(len(t.ts), bool)
    keep[crossing - 10:crossing + 10] = False
    got = account(t, t.register % 1e6, keep, rollover=1e6)
    assert got.amount.sum() == pytest.approx(t.amount.sum(), abs=1e-3)
    assert (got.quality[crossing - 10:crossing + 9] == Quality.ESTIMATED).all()


def swap_at(t: Truth, slot: int, *, second_part: float, old_ratio: float, new_ratio: float, final_known: bool = True
            ) -> tuple[np.ndarray, Meters]:
    """The register as the field shows it, when the meter is changed during `slot` after a part of its consumption."""
    at = int(t.ts[slot] + SLOT_US * second_part)
    used = t.register[slot] - t.register[0] + t.amount[slot] * second_part
    shown = np.where(np.arange(len(t.ts)) <= slot, 5_000 + (t.register - t.register[0]) / old_ratio,
                     40 + (t.register - t.register[0] - used) / new_ratio)
    final = 5_000 + used / old_ratio if final_known else np.nan
    meters = Meters(np.array([-FAR, at]), np.array([at, FAR]), np.array([0.0, 40.0]), np.array([final, np.nan]),
                    np.array([old_ratio, new_ratio]))
    return shown, meters


def test_a_recorded_meter_swap_with_a_new_ratio_is_exact() -> None:
    t = truth()
    shown, meters = swap_at(t, 300, second_part=0.4, old_ratio=40, new_ratio=60)
    got = account(t, shown, meters=meters)
    np.testing.assert_allclose(got.amount, t.amount, atol=1e-3)
    assert got.method[300] == Method.SWAP and got.quality[300] == Quality.GOOD


def test_a_swap_whose_final_register_nobody_wrote_down_leaves_its_slot_unknown() -> None:
    t = truth()
    shown, meters = swap_at(t, 300, second_part=0.4, old_ratio=40, new_ratio=60, final_known=False)
    got = account(t, shown, meters=meters)
    assert np.isnan(got.amount[300]) and got.quality[300] == Quality.MISSING
    np.testing.assert_allclose(np.delete(got.amount, 300), np.delete(t.amount, 300), atol=1e-3)


def test_the_ratio_of_the_point_multiplies_the_register() -> None:
    t = truth(2)
    np.testing.assert_allclose(account(t, t.register / 40, ratio=40).amount, t.amount, atol=1e-3)


def test_a_reset_to_zero_counts_on_from_zero_and_says_that_it_doubts() -> None:
    t = truth()
    shown = np.where(np.arange(len(t.ts)) <= 400, t.register, t.register - t.register[400])
    got = account(t, shown, rollover=1e8)
    np.testing.assert_allclose(got.amount, t.amount, atol=1e-3)
    assert got.method[400] == Method.RESET and got.quality[400] == Quality.UNCERTAIN
    assert (np.delete(got.quality, 400) == Quality.GOOD).all()


def test_an_unrecorded_swap_to_another_register_is_unknown_and_not_a_number() -> None:
    t = truth()
    for moved in (-9_000.0, 2_000_000.0):
        shown = np.where(np.arange(len(t.ts)) <= 500, t.register, t.register + moved)
        got = account(t, shown)
        assert np.isnan(got.amount[500]) and got.quality[500] == Quality.MISSING
        np.testing.assert_allclose(np.delete(got.amount, 500), np.delete(t.amount, 500), atol=1e-3)


@pytest.mark.parametrize("height", [30.0, 1e4, 1e9, -40.0, -5e3, -12_345.0])
def test_one_spike_up_or_down_leaves_the_total_exact_and_is_marked(height: float) -> None:
    t = truth()
    shown = t.register.copy()
    shown[500] += height
    got = account(t, shown, rollover=1e8)
    assert got.amount.sum() == pytest.approx(t.amount.sum(), abs=1e-3)
    assert got.amount[499:501].sum() == pytest.approx(t.amount[499:501].sum(), abs=1e-3)
    assert set(got.method[499:501]) == {Method.SPIKE_REMOVED} and set(got.quality[499:501]) == {Quality.ESTIMATED}
    np.testing.assert_allclose(np.delete(got.amount, [499, 500]), np.delete(t.amount, [499, 500]), atol=1e-3)


def test_a_dip_of_half_a_turn_beside_an_idle_meter_is_a_spike_and_no_roll_over() -> None:
    t = truth(start=50_000.0)
    t.amount[300:400] = 0.0
    t.amount[359] = 0.09                                     # the only consumption within sight of the dip
    t.register[:] = 50_000.0 + np.concatenate([[0], np.cumsum(t.amount)])
    register = t.register.copy()
    register[351] -= 50_000
    got = account(t, register, rollover=100_000.0)
    assert got.amount.sum() == pytest.approx(t.amount.sum(), abs=0.001)
    assert np.abs(got.amount - t.amount).max() < 0.001
    assert set(got.method[350:352]) == {Method.SPIKE_REMOVED}


def test_order_and_duplicates_do_not_matter() -> None:
    t = truth()
    order = np.random.default_rng(5).permutation(np.repeat(np.arange(len(t.ts)), 2))
    got = intervals(t.ts[order], t.register[order], np.zeros(len(order), np.int16), t.slots)
    np.testing.assert_allclose(got.amount, t.amount, atol=1e-6)


def test_readings_between_the_borders_are_interpolated_at_the_borders() -> None:
    t = truth(3)
    minute = np.arange(t.ts[0] + 7_000_000, t.ts[-1], 60_000_000)
    register = np.interp(minute, t.ts, t.register)
    got = intervals(minute, register, np.zeros(len(minute), np.int16), t.slots)
    np.testing.assert_allclose(got.amount[1:-1], t.amount[1:-1], rtol=0.002)
    assert np.isnan(got.amount[0]) and np.isnan(got.amount[-1])       # not wholly seen
    assert set(got.quality[1:-1]) == {Quality.GOOD}


def test_a_single_precision_register_at_16_7_million_keeps_its_total() -> None:
    t = truth(start=16_777_216 - 9_000.0)
    shown = t.register.astype(np.float32).astype(np.float64)
    got = account(t, shown, rollover=1e8)
    assert got.amount.sum() == pytest.approx(shown[-1] - shown[0], abs=1e-3)
    np.testing.assert_allclose(np.cumsum(got.amount), np.cumsum(t.amount), atol=2.0)
    assert (got.amount >= 0).all() and set(got.quality) == {Quality.GOOD}


def test_a_single_precision_register_that_dithers_back_is_not_counted_twice() -> None:
    t = truth(2, start=16_770_000.0)
    shown = t.register.copy()
    shown[50] -= t.amount[49] + 1.0
    got = account(t, shown)
    assert got.amount.sum() == pytest.approx(t.amount.sum(), abs=1e-3)
    assert (got.amount >= 0).all()


@pytest.mark.parametrize("below", [1e-10, 0.02])
def test_a_register_that_idles_a_rounding_below_its_former_value_is_no_reset(below: float) -> None:
    """What a meter that stands still through the night shows when its value came once rounded and then not."""
    t = truth(2, start=554_458.07)
    shown = t.register.copy()
    shown[60:80] = shown[60]
    shown[62:80] -= below
    shown[80:] = np.maximum(shown[80:], shown[60])
    got = account(t, shown)
    assert set(got.quality) == {Quality.GOOD}
    assert got.amount.sum() == pytest.approx(t.register[-1] - t.register[0], abs=1e-3)
    assert (got.amount[60:79] == 0).all()


def test_true_zero_is_zero_and_offline_is_not_known() -> None:
    t = truth(2)
    still = np.full(len(t.ts), 777.0)
    got = account(t, still)
    assert (got.amount == 0).all() and set(got.quality) == {Quality.GOOD}
    keep = np.arange(len(t.ts)) <= 100
    got = account(t, still, keep)
    assert (got.amount[:100] == 0).all() and np.isnan(got.amount[100:]).all()
    assert set(got.quality[100:]) == {Quality.MISSING}


def test_readings_without_a_usable_value_are_a_gap_and_not_a_zero() -> None:
    t = truth()
    quality = np.zeros(len(t.ts), np.int16)
    quality[300:330] = Quality.LINK_FAULT
    shown = np.where(quality > 0, 0.0, t.register)
    got = intervals(t.ts, shown, quality, t.slots)
    assert got.amount[299:330].sum() == pytest.approx(t.amount[299:330].sum(), abs=1e-3)
    assert set(got.quality[299:330]) == {Quality.ESTIMATED}


@pytest.mark.parametrize("first, second", [(20, 60), (40, 42), (60, 61)])
def test_two_faults_close_together_keep_the_total(first: int, second: int) -> None:
    """A spike of 5,000 beside a gap of six hours, and beside a roll-over."""
    t = truth(start=1e6 - 16_000.0)
    spike, gap = 3 * DAY + first, 3 * DAY + second
    shown = t.register % 1e6
    shown[spike] += 5_000
    keep = np.ones(len(t.ts), bool)
    keep[gap:gap + 24] = False
    got = account(t, shown, keep, rollover=1e6)
    assert got.amount.sum() == pytest.approx(t.amount.sum(), abs=1e-3)
    assert set(got.quality[gap - 1:gap + 24]) == {Quality.ESTIMATED}


def test_a_spike_just_before_a_reset_keeps_both_apart() -> None:
    t = truth()
    shown = np.where(np.arange(len(t.ts)) <= 400, t.register, t.register - t.register[400])
    shown[398] += 9_999
    got = account(t, shown, rollover=1e8)
    assert got.amount.sum() == pytest.approx(t.amount.sum(), abs=1e-3)
    assert got.method[397] == Method.SPIKE_REMOVED and got.method[400] == Method.RESET


def test_a_slow_meter_is_measured_at_its_own_step() -> None:
    t = truth(3)
    keep = np.arange(len(t.ts)) % 4 == 0
    assert set(account(t, keep=keep, expected_s=3600).quality) == {Quality.GOOD}
    assert set(account(t, keep=keep, expected_s=900).quality) == {Quality.ESTIMATED}


def test_a_late_reading_changes_nothing_beyond_its_reach_and_its_gap() -> None:
    """The promise that the pass relies on: `REACH` readings, or the gap that the reading falls into."""
    from accounting.intervals import REACH

    rng = np.random.default_rng(11)
    t = truth(20)
    shown = t.register.copy()
    shown[rng.integers(0, len(shown), 12)] += rng.choice([-3e3, 60.0, 7e4], 12)
    late = 1_000
    without = np.arange(len(t.ts)) != late
    a, b = account(t, shown, rollover=1e8), account(t, shown, without, rollover=1e8)
    changed = np.flatnonzero(~np.isclose(a.amount, b.amount, atol=1e-9, equal_nan=True))
    assert len(changed) and changed.min() >= late - REACH and changed.max() <= late + REACH


def test_a_spike_beside_a_swap_in_a_gap_is_told_by_the_registers_that_were_written_down() -> None:
    """Before, the spike was the gap's end: what it showed was counted, and again what followed."""
    t = truth()
    meters = Meters(np.array([-FAR, t.ts[400]]), np.array([t.ts[400], FAR]), np.array([0.0, 3.0]),
                    np.array([t.register[400], np.nan]), np.array([1.0, 1.0]))
    shown = np.where(np.arange(len(t.ts)) < 400, t.register, 3.0 + t.register - t.register[400])
    keep = np.ones(len(t.ts), bool)
    keep[395:410] = False
    shown[410] += 2_000
    got = account(t, shown, keep, meters=meters)
    assert got.amount.sum() == pytest.approx(t.amount.sum(), abs=1e-3)
    assert (got.quality[394:410] == Quality.ESTIMATED).all()


def test_what_the_register_cannot_show_is_no_reading() -> None:
    """A spike above the roll-over at the end of a gap in which the register rolled over."""
    t = truth(start=1e6 - 17_000)
    crossing = int(np.searchsorted(t.register, 1e6))
    shown = t.register % 1e6
    keep = np.ones(len(t.ts), bool)
    keep[crossing - 10:crossing + 10] = False
    shown[crossing + 10] = 6e7
    got = account(t, shown, keep, rollover=1e6)
    assert got.amount.sum() == pytest.approx(t.amount.sum(), abs=1e-3)


@pytest.mark.parametrize("told", [True, False])
def test_a_spike_at_the_end_of_a_gap_in_which_the_register_rolled_over_is_told(told: bool) -> None:
    """The machine stands still before and after, so that no rate says what the roll-over may have brought."""
    t = truth(start=999_990.0)
    amount = np.zeros(len(t.amount))
    amount[200:204] = 5.0
    register = (999_990.0 + np.concatenate([[0], np.cumsum(amount)])) % 1e6
    keep = np.ones(len(t.ts), bool)
    keep[195:215] = False
    register[215] += 180.0
    got = account(t, register, keep, rollover=1e6 if told else None)
    assert got.amount.sum() == pytest.approx(20.0, abs=1e-3)
    assert (got.quality[194:215] == Quality.ESTIMATED).all()


def test_a_low_reading_after_a_roll_over_in_a_gap_is_plausible_and_what_follows_it_says_that_it_doubts() -> None:
    """The register rolled over in the gap; its end shows 40 too little, as if less had flowed."""
    t = truth(start=1e6 - 17_000)
    crossing = int(np.searchsorted(t.register, 1e6))
    shown = t.register % 1e6
    keep = np.ones(len(t.ts), bool)
    keep[crossing - 10:crossing + 10] = False
    shown[crossing + 10] -= 40.0
    got = account(t, shown, keep, rollover=1e6)
    assert got.amount.sum() == pytest.approx(t.amount.sum(), abs=1e-3)
    wrong = np.flatnonzero(np.abs(got.amount - t.amount) > 1e-3)
    assert wrong.max() == crossing + 10 and got.quality[crossing + 10] == Quality.UNCERTAIN
    assert not (got.quality[wrong] == Quality.GOOD).any()


@pytest.mark.parametrize(("readings", "twice", "told"), [(24, 0.0, []), (25, 0.5, [73])])
def test_a_rounding_that_is_held_no_longer_says_that_it_may_count_twice(readings: int, twice: float, told: list[int]) -> None:
    shown = np.concatenate([np.arange(1e7, 1e7 + 50), np.full(readings, 1e7 + 48.5), 1e7 + 50 + np.arange(50)])
    ts = START + SLOT_US * np.arange(len(shown))
    got = intervals(ts, shown, np.zeros(len(ts), np.int16), ts[:-1], expected_s=900)
    assert got.amount.sum() == pytest.approx(99.0 + twice)
    assert np.flatnonzero(got.quality == Quality.UNCERTAIN).tolist() == told


def test_a_large_register_with_two_decimals_has_no_rounding_of_single_precision() -> None:
    """Ten digits, hundredths: readings that came too high must not hold the register for days, as those of a float32 would."""
    t = truth(start=3_876_543_210.55)
    shown = t.register.copy()
    shown[300:303] += 777.7
    got = account(t, shown, rollover=1e10)
    assert got.amount.sum() == pytest.approx(t.amount.sum(), abs=1e-3)
    np.testing.assert_allclose(np.delete(got.amount, slice(299, 304)), np.delete(t.amount, slice(299, 304)), atol=1e-3)
    assert set(got.quality[299:303]) == {Quality.ESTIMATED}


def test_one_step_of_a_young_register_that_is_read_every_few_seconds_is_no_jump() -> None:
    ts = START + 5_000_000 * np.arange(1_441)
    register = np.floor(np.arange(1_441) / 400) * 0.01
    got = intervals(ts, register, np.zeros(len(ts), np.int16), START + SLOT_US * np.arange(8), expected_s=5)
    assert got.amount.sum() == pytest.approx(0.03) and set(got.quality) == {Quality.GOOD}


def test_a_border_in_a_hole_of_minutes_is_an_estimate_and_a_hole_inside_a_slot_is_none() -> None:
    """Read each minute; a machine of 600 kW starts where nothing was read."""
    ts = START + 60_000_000 * np.arange(61)
    register = 100 + np.concatenate([np.zeros(22), 10.0 * np.arange(1, 40)])
    slots = START + SLOT_US * np.arange(4)
    nothing = np.zeros(len(ts), np.int16)
    hole = np.delete(np.arange(61), np.arange(26, 35))                 # over the border at minute 30
    got = intervals(ts[hole], register[hole], nothing[hole], slots)
    assert list(got.quality) == [Quality.GOOD, Quality.ESTIMATED, Quality.ESTIMATED, Quality.GOOD]
    inside = np.delete(np.arange(61), np.arange(17, 29))               # between two borders
    assert set(intervals(ts[inside], register[inside], nothing[inside], slots).quality) == {Quality.GOOD}


def test_a_gap_over_hours_in_which_the_plant_slept_last_week_is_zero_nowhere() -> None:
    t = truth(10)
    night = (np.arange(len(t.amount)) % DAY) < 40
    amount = np.where(night & (np.arange(len(t.amount)) < 8 * DAY), 0.0, t.amount)
    register = 500 + np.concatenate([[0], np.cumsum(amount)])
    keep = np.ones(len(t.ts), bool)
    keep[8 * DAY + 21:8 * DAY + 60] = False
    got = account(t, register, keep)
    assert (got.amount[8 * DAY + 20:8 * DAY + 60] > 0).all()
    assert got.amount.sum() == pytest.approx(amount.sum(), abs=1e-3)


@pytest.mark.parametrize(("final", "doubt"), [(0.0, Quality.GOOD), (0.9, Quality.UNCERTAIN)])
def test_a_final_register_without_its_decimals_makes_no_reset(final: float, doubt: Quality) -> None:
    """An hour before the swap the meter was switched off; the fitter wrote 9,999 where it showed 9,999.9."""
    t = truth(start=100.0)
    stood = 9_999.9 - t.register[300]
    meters = Meters(np.array([-FAR, t.ts[304]]), np.array([t.ts[304], FAR]), np.array([0.0, 7.0]),
                    np.array([9_999.9 - final, np.nan]), np.array([1.0, 1.0]))
    old = np.minimum(t.register, t.register[300]) + stood
    shown = np.where(np.arange(len(t.ts)) < 304, old, 7.0 + t.register - t.register[304])
    got = account(t, shown, meters=meters)
    assert (got.amount[300:304] == 0).all() and got.quality[303] == doubt
    np.testing.assert_allclose(got.amount[304:], t.amount[304:], atol=1e-3)
