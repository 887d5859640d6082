"""Faults: scheduled by seed alone, told in the ground truth, and each does what its name says."""

from __future__ import annotations

import itertools
from collections import Counter
from datetime import UTC, datetime

import numpy as np
import pytest

from park.catalogue import Catalogue
from park.quality import Quality
from simulators.faults import KINDS, Fault, Schedule
from simulators.model import NO_READING, Park
from simulators.noise import Floats
from simulators.rates import opened_at
from simulators.scenario import Faults, Scenario, Scripted

NOW = datetime(2026, 11, 23, 8, 0, tzinfo=UTC).timestamp()
DAY = 86_400.0


def with_faults(catalogue: Catalogue, scenario: Scenario, *faults: Scripted) -> Park:
    """The park with these faults and no others."""
    return Park(catalogue, scenario.model_copy(update={"faults": Faults(scripted=list(faults))}), seed=1)


def scripted(kind: str, target: str, **params: float) -> Scripted:
    """A fault from one hour before NOW, for half an hour."""
    return Scripted(kind=kind, target=target, at=datetime.fromtimestamp(NOW - 3600).astimezone(), minutes=30, params=params)


def shown(park: Park, code: str, t: Floats) -> Floats:
    """What a point shows at instants."""
    return park.readings(t)[0][:, park.column_of[code]]


BEFORE, DURING, AFTER = NOW - 3660, NOW - 2700, NOW - 600


def test_the_schedule_is_the_same_in_one_step_or_in_many(scenario: Scenario) -> None:
    opened = opened_at(scenario)
    live_from = NOW - 3 * DAY
    once, often = (Schedule(scenario.faults, 1, opened, live_from) for _ in range(2))
    once.until(NOW)
    for at in np.arange(opened, NOW + 1, 5.03 * 3600):
        often.until(at)
    often.until(NOW)

    def rows(schedule: Schedule) -> list[tuple[str, str, float, float]]:
        return sorted((f.kind, f.target, f.start, f.end) for f in schedule.all if f.start <= NOW)
    assert rows(once) == rows(often)


def test_the_last_year_holds_a_believable_number_of_every_kind(lvyuan: Park) -> None:
    year_ago = datetime.fromtimestamp(NOW - 365 * DAY).isoformat()
    kinds = Counter(r["kind"] for r in lvyuan.ground_truth(NOW) if r["start"] > year_ago)
    assert set(KINDS) | {"rollover"} == kinds.keys()
    assert 300 < kinds.total() < 900
    assert kinds["rollover"] >= 3 and kinds["swap"] == 2 and kinds["leak"] >= 2


def test_a_treatment_that_stops_does_so_while_something_that_it_treats_runs(lvyuan: Park) -> None:
    lvyuan.ground_truth(NOW)
    treats = {u.code: [n for n in u.treats if n in lvyuan.rates.index] for u in lvyuan.catalogue.units}
    stops = [f for f in lvyuan.faults if f.kind == "treatment_off"]
    assert len(stops) > 20
    for f in stops:
        rate = lvyuan.rates.at(np.array([f.start]))[0][0]
        assert any(rate[lvyuan.rates.index[n]] > 0.25 * lvyuan.rates.rated[lvyuan.rates.index[n]] for n in treats[f.target])


def test_ground_truth_carries_target_start_end_and_detail(lvyuan: Park) -> None:
    rows = lvyuan.ground_truth(NOW)
    assert rows == sorted(rows, key=lambda r: (r["start"], r["target"]))
    leak = next(r for r in rows if r["kind"] == "leak" and r["origin"] == "scripted")
    assert leak == {"kind": "leak", "target": "leak.e3.m3", "start": "2026-06-01T18:00:00Z", "end": "2026-06-13T18:00:00Z",
                    "origin": "scripted", "detail": {"add": 5.5}}


def test_faults_name_things_that_exist(lvyuan: Park, scenario: Scenario) -> None:
    devices = {d.code for d in lvyuan.catalogue.devices}
    known = devices | set(lvyuan.codes) | set(scenario.rates) | set(scenario.outlets)
    named = [(f.kind, [f.target]) for f in scenario.faults.scripted]
    named += [(f.kind, f.targets) for f in (*scenario.faults.random, *scenario.faults.live.faults)]
    for kind, targets in named:
        assert kind in KINDS
        for target in targets:
            assert target in known or target.rpartition(".")[0] in scenario.outlets, target


def test_an_offline_device_gives_no_reading_of_any_of_its_points(catalogue: Catalogue, scenario: Scenario) -> None:
    park = with_faults(catalogue, scenario, scripted("offline", "d.e3.scada"))
    _, quality = park.readings(np.array([BEFORE, DURING, AFTER]))
    columns = park.columns_of("d.e3.scada")
    assert len(columns) > 5
    assert (quality[1, columns] == NO_READING).all() and (quality[[0, 2]][:, columns] != NO_READING).all()
    assert (quality[1] == NO_READING).sum() == len(columns)


def test_a_gap_is_of_one_point_and_its_counter_goes_on_behind_it(catalogue: Catalogue, scenario: Scenario, calm: Park) -> None:
    park = with_faults(catalogue, scenario, scripted("gap", "e3.line1.kwh"))
    value, quality = park.readings(np.array([BEFORE, DURING, AFTER]))
    assert (quality == NO_READING).sum() == 1
    assert value[2, park.column_of["e3.line1.kwh"]] == shown(calm, "e3.line1.kwh", np.array([AFTER]))[0]


@pytest.mark.parametrize("initial", [0.0, 40.0])
def test_a_reset_counter_starts_again_and_counts_the_same(catalogue: Catalogue, scenario: Scenario, calm: Park,
                                                          initial: float) -> None:
    park = with_faults(catalogue, scenario, scripted("reset", "e5.it.kwh", initial=initial))
    t = np.array([BEFORE, NOW - 3600, AFTER])
    got, plain = shown(park, "e5.it.kwh", t), shown(calm, "e5.it.kwh", t)
    assert got[0] == plain[0] and got[1] == pytest.approx(initial, abs=0.02)
    assert got[2] - got[1] == pytest.approx(plain[2] - plain[1], abs=0.05)


def test_a_second_reset_counts_from_the_first(catalogue: Catalogue, scenario: Scenario) -> None:
    first = Scripted(kind="reset", target="e5.it.kwh", at=datetime.fromtimestamp(NOW - 9 * DAY).astimezone(), minutes=10)
    park = with_faults(catalogue, scenario, first, scripted("reset", "e5.it.kwh"))
    got = shown(park, "e5.it.kwh", np.array([NOW - 9 * DAY, BEFORE, NOW - 3600, NOW]))
    assert got[0] < 1 and got[1] > 100_000 and got[2] < 1 and 500 < got[3] < 3000


def test_a_stuck_value_stays_and_a_spike_and_a_wrong_scale_multiply(catalogue: Catalogue, scenario: Scenario,
                                                                    calm: Park) -> None:
    park = with_faults(catalogue, scenario, scripted("stuck", "e4.air.kw"), scripted("spike", "e1.pump.kw", factor=8.0),
                       scripted("scale", "e2.air.kw", factor=0.1))
    t = np.array([DURING, DURING + 120, DURING + 240])
    assert np.ptp(shown(park, "e4.air.kw", t)) == 0 < np.ptp(shown(calm, "e4.air.kw", t))
    np.testing.assert_allclose(shown(park, "e1.pump.kw", t), 8 * shown(calm, "e1.pump.kw", t))
    np.testing.assert_allclose(shown(park, "e2.air.kw", t), 0.1 * shown(calm, "e2.air.kw", t))


def test_a_clock_that_is_ahead_stamps_old_values_with_later_times(catalogue: Catalogue, scenario: Scenario, calm: Park) -> None:
    park = with_faults(catalogue, scenario, scripted("wrong_clock", "d.e6.ww", offset_s=600.0))
    np.testing.assert_allclose(shown(park, "e6.outlet.cod", np.array([DURING])),
                               shown(calm, "e6.outlet.cod", np.array([DURING - 600])))


@pytest.mark.parametrize(("kind", "quality"), [("calibration", Quality.CALIBRATION), ("maintenance", Quality.MAINTENANCE)])
def test_instrument_work_is_flagged(catalogue: Catalogue, scenario: Scenario, kind: str, quality: Quality) -> None:
    park = with_faults(catalogue, scenario, scripted(kind, "e2.stack"))
    _, got = park.readings(np.array([BEFORE, DURING, AFTER]))
    assert got[:, park.column_of["e2.stack.so2"]].tolist() == [Quality.GOOD, quality, Quality.GOOD]
    assert (got[:, park.column_of["e1.stack.so2"]] == Quality.GOOD).all()


def test_an_exceedance_passes_the_permit_limit_and_ends(catalogue: Catalogue, scenario: Scenario) -> None:
    park = with_faults(catalogue, scenario, scripted("exceedance", "e1.stack.so2", add=40.0))
    so2 = shown(park, "e1.stack.so2", np.array([BEFORE, DURING, AFTER]))
    assert so2[0] < 50 < so2[1] and so2[2] < 50


def test_a_leak_is_seen_at_the_gate_and_above_it_but_in_no_sub_meter(catalogue: Catalogue, scenario: Scenario,
                                                                     calm: Park) -> None:
    park = with_faults(catalogue, scenario, scripted("leak", "leak.e3.m3", add=12.0))
    t = np.array([BEFORE, AFTER])
    more = {c: np.diff(shown(park, c, t))[0] - np.diff(shown(calm, c, t))[0]
            for c in ("e3.water.m3", "park.water.m3", "e3.wash.m3")}
    assert more["e3.water.m3"] == pytest.approx(6.0, abs=0.6)
    assert more["park.water.m3"] == pytest.approx(6.1, abs=1.1)
    assert more["e3.wash.m3"] == 0


def test_a_night_load_costs_energy_on_the_feeder_and_at_the_gate(catalogue: Catalogue, scenario: Scenario, calm: Park) -> None:
    park = with_faults(catalogue, scenario, scripted("night_load", "e3.line1", share=0.4))
    t = np.array([BEFORE, AFTER])
    park.readings(t)
    i = [park.rates.index[n] for n in ("e3.line1", "e3.main")]
    more = np.diff(park.rates.at(t)[1][:, i] - calm.rates.at(t)[1][:, i], axis=0)[0]
    assert more[0] == pytest.approx(0.4 * 265 * 0.5)
    assert more[1] == pytest.approx(more[0] * 1.012)


def test_the_live_run_soon_shows_faults_that_history_does_not_have(catalogue: Catalogue, scenario: Scenario) -> None:
    park = Park(catalogue, scenario, seed=1, live_from=NOW)
    plain = Park(catalogue, scenario, seed=1)
    for p in (park, plain):
        p.ground_truth(NOW + 4 * 3600)
    live = [f for f in park.faults if f.origin == "live" and f.start <= NOW + 4 * 3600]
    assert 15 <= len(live) <= 20
    assert live[0].start < NOW + 300 and live[0].kind == "exceedance" and live[1].kind == "treatment_off"
    assert all(f.end - f.start <= 12 * 60 for f in live)
    assert not [f for f in plain.faults if f.origin == "live"]
    t = np.arange(NOW - DAY, NOW, 600.0)
    np.testing.assert_array_equal(park.readings(t)[0], plain.readings(t)[0])


def test_one_target_does_not_have_two_faults_at_once(lvyuan: Park) -> None:
    lvyuan.ground_truth(NOW)
    by_target: dict[str, list[Fault]] = {}
    for f in lvyuan.faults:
        by_target.setdefault(f.target, []).append(f)
    for faults in by_target.values():
        ordered = sorted(faults, key=lambda f: f.start)
        assert all(a.end < b.start for a, b in itertools.pairwise(ordered))
