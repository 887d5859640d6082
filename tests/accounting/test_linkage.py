"""The treatment trace: what an event is, minute by minute, and recall and false events on the simulator's seeded park.

The park's own faults (stopped and idling treatment) come from its ground truth; late starts, early stops, marks, frozen,
copied and smoothed readings are put into its readings here, at seeded places.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pytest

from accounting import linkage as ln
from accounting.columns import to_us
from accounting.hours import minutes
from accounting.linkage import (
    COPIED,
    EARLY_STOP,
    FROZEN,
    IDLING,
    LATE_START,
    NORMAL_WHILE_OFF,
    OFF,
    ON,
    TREATMENT_OFF,
    WHILE_STOPPED,
)
from accounting.localday import local_days
from accounting.outlet_events import any_of, outlet_events
from accounting.trace import POLLUTANTS, Facility, TracePoint
from accounting.treatment import minutes_on
from park.catalogue import read_catalogue
from park.quality import Quality
from simulators.catalogue import catalogue_files
from simulators.model import NO_READING, Park
from simulators.scenario import Faults, Random, Scenario, read_scenario

ZONE = "Asia/Shanghai"
N = 600


def states(*parts: tuple[int, int]) -> np.ndarray:
    return np.concatenate([np.full(n, s, np.int8) for s, n in parts])


@pytest.mark.parametrize(("treatment", "kinds"), [
    (states((OFF, 100), (ON, 400), (OFF, 100)), []),
    (states((OFF, 109), (ON, 391), (OFF, 100)), []),                                   # nine minutes are within tolerance
    (states((OFF, 130), (ON, 370), (OFF, 100)), [(LATE_START, 100, 130)]),
    (states((OFF, 100), (ON, 370), (OFF, 130)), [(EARLY_STOP, 470, 500)]),
    (states((OFF, 100), (ON, 100), (OFF, 60), (ON, 240), (OFF, 100)), [(TREATMENT_OFF, 200, 260)]),
    (states((OFF, 600)), [(TREATMENT_OFF, 100, 500)]),
    (states((OFF, 350), (ON, 150), (OFF, 100)), [(TREATMENT_OFF, 100, 350)]),          # four hours are no late start
    (states((OFF, 100), (ON, 100), (-1, 60), (ON, 240), (OFF, 100)), []),              # offline is not off
    (states((OFF, 100), (ON, 100), (OFF, 20), (-1, 40), (OFF, 20), (ON, 220), (OFF, 100)),
     [(TREATMENT_OFF, 200, 220), (TREATMENT_OFF, 260, 280)]),
])
def test_a_run_is_told_by_how_it_begins_and_ends(treatment: np.ndarray, kinds: list[tuple[str, int, int]]) -> None:
    production = states((OFF, 100), (ON, 400), (OFF, 100))
    assert [e[:3] for e in ln.off_runs(production, treatment, 10)] == kinds


def test_idling_is_judged_at_the_level_of_production_it_was_learned_at() -> None:
    rng = np.random.default_rng(3)
    share = rng.uniform(0.3, 1.0, 5000)
    floors = ln.learn_floors(share, 100 * share * rng.uniform(0.95, 1.05, 5000), np.ones(5000, bool))
    assert [f is not None for f in floors] == [True] * 4 and floors == sorted(floors, key=lambda f: f or 0)
    on = states((ON, N))
    half, full = np.full(N, 0.5), np.full(N, 0.95)
    low = np.full(N, 100.0)
    low[200:260] = 45.0
    assert [e[:3] for e in ln.idle_runs(on, on, full, low, floors)] == [(IDLING, 200, 260)]
    assert ln.idle_runs(on, on, half, low, floors) == []                # 45 kW are usual at half production
    assert ln.idle_runs(on, on, full, low, [None] * 4) == []
    few = ln.learn_floors(share[:60], share[:60] * 100, np.ones(60, bool))
    assert few == [None] * 4                                            # no level was seen long enough
    only = ln.learn_floors(np.full(60, 0.9), np.full(60, 90.0), np.ones(60, bool))
    assert only == pytest.approx([30.0, 50.0, 70.0, 90.0])              # lower levels in proportion
    assert ln.idle_runs(on, on, np.full(N, np.nan), low, floors) == []


def test_repeated_readings_are_frozen_and_a_zero_is_not() -> None:
    at = np.arange(600)
    value = np.random.default_rng(1).normal(20, 1, 600)
    value[100:200] = 21.5
    value[300:500] = 0.0
    assert ln.frozen_runs(at, value, 1) == [(100, 200)]
    assert ln.frozen_runs(at[::15], value[::15], 15) == [(105, 210)]      # what 15-minute readings can tell


def test_copied_readings_are_found_where_they_were_pasted() -> None:
    value = np.random.default_rng(2).normal(20, 1, 2880)
    assert ln.copied_runs(value) == []
    value[2000:2100] = value[560:660]
    assert ln.copied_runs(value) == [(2000, 2100)]
    value[2500:2700] = 7.0
    assert ln.copied_runs(value) == [(2000, 2100)]                         # constant is frozen, not copied


# ---- the simulated park ----

@dataclass
class Truth:
    """What happens in the readings: kind(s) an event may be called, its place, and its seconds."""

    kinds: tuple[str, ...]
    place: str
    start: float
    end: float


@dataclass
class World:
    """A seeded park with its readings of some days a minute."""

    park: Park
    t: np.ndarray
    value: np.ndarray
    quality: np.ndarray
    truths: list[Truth] = field(default_factory=list)
    explained: list[Truth] = field(default_factory=list)       # events that are none of the truths and yet not false

    def column(self, code: str) -> int:
        return self.park.column_of[code]


def scenario() -> Scenario:
    told = read_scenario("lvyuan")
    treated = ["e1.filter", "e2.scrub", "e2.wwt", "e4.wwt", "e4.scrub"]
    often = {"per_week": 4.0, "minutes": (12, 240)}
    off = [r.model_copy(update=often) for r in told.faults.random if r.kind == "treatment_off"]
    idle = Random(kind="treatment_off", per_week=3.0, minutes=(60, 300), targets=treated, params={"factor": (0.35, 0.5)})
    others = [r for r in told.faults.random if r.kind != "treatment_off"]
    faults = Faults(scripted=told.faults.scripted, random=[*others, *off, idle])
    return told.model_copy(update={"opened": date(2026, 7, 15), "faults": faults})


TREATS = {"e1.filter": ["e1.furnace"], "e2.scrub": ["e2.boiler"], "e2.wwt": ["e2.linea", "e2.lineb"],
          "e4.wwt": ["e4.plating"], "e4.scrub": ["e4.plating"]}
OUTLETS = {"e1.stack": ["e1.filter"], "e2.stack": ["e2.scrub"], "e2.outlet": ["e2.wwt"]}


def make(seed: int, days: int) -> World:
    told = scenario()
    park = Park(read_catalogue(catalogue_files(told.catalogue)), told, seed)
    end = datetime(2026, 10, 1, 16, tzinfo=UTC).timestamp()
    t = np.arange(end - days * 86_400, end, 60.0)
    value, quality = park.readings(t)
    world = World(park, t, value, quality)
    for row in [f.truth() for f in park.faults]:
        start, stop = (datetime.fromisoformat(row[k]).timestamp() for k in ("start", "end"))
        if row["kind"] == "treatment_off" and row["target"] in TREATS and t[0] + 5 * 86_400 < start and stop < t[-1]:
            factor = row["detail"].get("factor", 0.03)
            power = [value[cells_of(t, start, stop), park.column_of[f"{p}.kw"]] for p in TREATS[row["target"]]]
            if max(int((p > 0.25 * np.quantile(value[:, park.column_of[f"{n}.kw"]], 0.95)).sum())
                   for p, n in zip(power, TREATS[row["target"]], strict=True)) < (45 if factor > 0.3 else 12):
                continue                         # production stopped meanwhile: nothing is wrong for long enough
            # what idles below a fifth of its peak is off
            kinds = (IDLING, TREATMENT_OFF) if factor > 0.3 else (TREATMENT_OFF, LATE_START, EARLY_STOP)
            world.truths.append(Truth(kinds, row["target"], start, stop))
        if row["kind"] == "night_load":          # load left on at night with the treatment off is what it is
            world.explained += [Truth((TREATMENT_OFF, EARLY_STOP), t, start, stop)
                                for t, before in TREATS.items() if row["target"] in before]
    tamper(world, np.random.default_rng(seed))
    return world


def quiet(world: World, place: str, start: float, end: float) -> bool:
    """No other event at the facility or outlet within three hours."""
    linked = {place, *OUTLETS.get(place, []), *(o for o, ts in OUTLETS.items() if place in ts)}
    return not any(x.place in linked and x.start < end + 10_800 and x.end > start - 10_800 for x in world.truths)


def cells_of(t: np.ndarray, start: float, end: float) -> slice:
    a, b = np.searchsorted(t, [start, end])
    return slice(int(a), int(b))


def cells(world: World, start: float, end: float) -> slice:
    return cells_of(world.t, start, end)


def tamper(world: World, rng: np.random.Generator) -> None:
    """Late starts and early stops at real switches of production; wrong marks, frozen, copied and smoothed readings."""
    clean = Park(world.park.catalogue, world.park.scenario.model_copy(update={"faults": Faults()}), world.park.seed)
    for place in ("e1.filter", "e4.wwt", "e4.scrub"):
        power = world.value[:, world.column(f"{TREATS[place][0]}.kw")]
        switches = np.flatnonzero(np.diff((power > 0.25 * np.median(power[power > np.median(power)])).astype(int)))
        for i in switches[::3]:
            rises, length = power[i + 1] > power[i], int(rng.integers(20, 90))
            a, b = (i - 5, i + length) if rises else (i - length, i + 5)
            if i > 7 * 1440 and quiet(world, place, world.t[a], world.t[min(b, len(world.t) - 1)]):
                world.value[a:b, [world.column(f"{place}.kw"), world.column(f"{place}.state")]] *= 0.0
                world.truths.append(Truth((LATE_START,) if rises else (EARLY_STOP,), place, world.t[a], world.t[b]))
                world.explained += [Truth((NORMAL_WHILE_OFF,), o, world.t[a], world.t[b])
                                    for o, ts in OUTLETS.items() if place in ts]
    for outlet in OUTLETS:
        for kind in (WHILE_STOPPED, FROZEN, COPIED):
            for _ in range(max(1, len(world.t) // 1440 // 12)):
                start = float(rng.uniform(world.t[0] + 6 * 86_400, world.t[-1] - 86_400))
                end = start + 60 * float(rng.uniform(80, 500) if kind != WHILE_STOPPED else rng.uniform(20, 200))
                if running(world, outlet, start - 1800, end + 1800) and quiet(world, outlet, start, end):
                    spoil(world, outlet, kind, cells(world, start, end))
                    # a copy of a stretch that was frozen stands still itself
                    value = world.value[cells(world, start, end), outlet_columns(world, outlet)[0]]
                    still = kind == COPIED and len(np.unique(value)) < 3
                    world.truths.append(Truth((COPIED, FROZEN) if still else (kind,), outlet, start, end))
    for truth in [x for x in world.truths if x.kinds[0] == TREATMENT_OFF and x.end - x.start > 4500]:
        behind = next((o for o, ts in OUTLETS.items() if truth.place in ts), None)
        if behind is not None and rng.uniform() < 0.5 and running(world, behind, truth.start, truth.end):
            some = cells(world, truth.start - 60, truth.end + 7200)
            value, _ = clean.readings(world.t[some])
            columns = outlet_columns(world, behind)
            world.value[some, columns] = value[:, columns]
            world.truths.append(Truth((NORMAL_WHILE_OFF,), behind, truth.start, truth.end))
    # a later scenario may have changed a copy or its original, or the original was flagged: then nothing tells that it is one
    spoilt = [x for x in world.truths if x.kinds[0] == COPIED and not is_copy(world, x)]
    world.truths[:] = [x for x in world.truths if x not in spoilt]
    world.explained += spoilt


def is_copy(world: World, truth: Truth) -> bool:
    """Whether the readings of a copied stretch still equal valid ones of a day before."""
    some, column = cells(world, truth.start, truth.end), outlet_columns(world, truth.place)[0]
    before = slice(some.start - 1440, some.stop - 1440)
    equal = (world.value[some, column] == world.value[before, column]) & (world.quality[before, column] == 0)
    return bool(equal.mean() > 0.9)


def outlet_columns(world: World, outlet: str) -> list[int]:
    keys = {"so2", "nox", "dust", "cod", "ammonia"}
    return [i for c, i in world.park.column_of.items() if c.rpartition(".")[0] == outlet and c.rpartition(".")[2] in keys]


def running(world: World, outlet: str, start: float, end: float) -> bool:
    """Whether some production before the outlet is well above its standby in the whole span."""
    some = cells(world, start, end)
    power = [world.value[:, world.column(f"{p}.kw")] for t in OUTLETS[outlet] for p in TREATS[t]]
    return some.stop > some.start and any((p[some] > 0.3 * p.max()).all() for p in power)


def spoil(world: World, outlet: str, kind: str, some: slice) -> None:
    columns = outlet_columns(world, outlet)
    if kind == WHILE_STOPPED:
        world.quality[some, columns] = Quality.STOPPED
    elif kind == FROZEN:
        world.value[some, columns[0]] = world.value[some.start, columns[0]]
        world.quality[some, columns[0]] = 0
    else:
        before = slice(some.start - 1440, some.stop - 1440)
        world.value[some, columns[0]] = world.value[before, columns[0]]
        world.quality[some, columns[0]] = 0


def judge(world: World) -> Iterator[tuple[str, str, float, float]]:
    """(kind, place, start, end) of every event that the trace finds in the world."""
    days = local_days(to_us(at(world.t[0])), to_us(at(world.t[-1])) + 1, ZONE)
    start_us, n = int(days.borders[0]), int(days.borders[-1] - days.borders[0]) // 60_000_000
    on, power = {}, {}
    for unit in {*TREATS, *(p for ps in TREATS.values() for p in ps)}:
        on[unit], power[unit] = state_of(world, unit, days, n)
    for place, before in TREATS.items():
        peaks = {p: peak_of(power[p]) for p in before}
        learned = slice(0, 7 * 1440)                                   # a first week, in 15-minute means
        mean = {u: np.nanmean(power[u][learned].reshape(-1, 15), axis=1) for u in (place, *before)}
        share = np.max([mean[p] / peaks[p] for p in before], axis=0)
        floors = ln.learn_floors(np.nan_to_num(share), mean[place],
                                 (mean[place] > 0.2 * peak_of(power[place])) & (share > 0.2))
        for p in before:
            found = ln.off_runs(on[p], on[place], 10)
            found += ln.idle_runs(on[p], on[place], power[p] / peaks[p], power[place], floors)
            yield from ((e.kind, place, start_us / 1e6 + 60 * e.first, start_us / 1e6 + 60 * e.end) for e in found)
    for outlet, before in OUTLETS.items():
        facility, points, parts = outlet_of(world, outlet)
        grids = {p.quantity: minutes(part["ts"], part["value"], part["quality"], days, 60)
                 for p in points for part in [parts[p.point_id]]}
        found = outlet_events(facility, points, parts, grids, any_of([on[p] for t in before for p in TREATS[t]], days),
                              any_of([on[t] for t in before], days), start_us)
        yield from ((e.kind, outlet, start_us / 1e6 + 60 * e.first, start_us / 1e6 + 60 * e.end) for e in found)


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(float(seconds), UTC)


def peak_of(power: np.ndarray) -> float:
    return float(np.median(np.nanmax(np.nan_to_num(power).reshape(-1, 1440), axis=1)))


def part_of(world: World, code: str) -> dict[str, np.ndarray]:
    i = world.column(code)
    there = world.quality[:, i] != NO_READING
    ts = ((world.t[there] - datetime(2000, 1, 1, tzinfo=UTC).timestamp()) * 1e6).astype(np.int64)
    return {"ts": ts, "value": world.value[there, i], "quality": world.quality[there, i]}


def state_of(world: World, unit: str, days: Any, n: int) -> tuple[np.ndarray, np.ndarray]:
    on, power = np.full(n, -1, np.int8), np.full(n, np.nan)
    for key in ("state", "kw"):
        if f"{unit}.{key}" in world.park.column_of:
            part = part_of(world, f"{unit}.{key}")
            level = 0.5 if key == "state" else 0.2 * peak_of(world.value[:, world.column(f"{unit}.kw")])
            said, power, _ = minutes_on(TracePoint(0, 0, key, "", 60, {}), part, np.full(len(days.dates), level), days)
            on = np.where(said >= 0, said, on).astype(np.int8)
    return on, power


def outlet_of(world: World, outlet: str) -> tuple[Facility, list[TracePoint], dict[int, dict[str, np.ndarray]]]:
    keys = {"total_phosphorus": "tp", "total_nitrogen": "tn"}
    points = [TracePoint(i, 0, q, "", 60, {}) for i, q in enumerate(POLLUTANTS)
              if f"{outlet}.{keys.get(q, q)}" in world.park.column_of]
    parts = {p.point_id: part_of(world, f"{outlet}.{keys.get(p.quantity, p.quantity)}") for p in points}
    return Facility(1, outlet, "outlet", {}), points, parts


@pytest.mark.parametrize("seeds", [(1, 2, 3), *(pytest.param(s, marks=pytest.mark.soak) for s in ((4, 5, 6), (7, 8, 9)))])
def test_recall_and_false_events_on_the_simulated_park(capsys: pytest.CaptureFixture[str], seeds: tuple[int, ...]) -> None:
    days = 60
    hit: dict[str, list[int]] = {}
    false: list[tuple[Any, ...]] = []
    missed: list[Truth] = []
    for seed in seeds:
        world = make(seed, days)
        offset = datetime(2000, 1, 1, tzinfo=UTC).timestamp()
        found = [(k, p, a + offset, b + offset) for k, p, a, b in judge(world)]
        found = [f for f in found if f[2] >= world.t[0] + 5 * 86_400]
        for x in world.truths:
            seen = any(k in x.kinds and p == x.place and a < x.end and b > x.start for k, p, a, b in found)
            hit.setdefault(x.kinds[0], []).append(seen)
            missed += [] if seen else [x]
        false += [(k, p, at(a), at(b)) for k, p, a, b in found
                  if not any(k in x.kinds and p == x.place and a < x.end + 900 and b > x.start - 900
                             for x in (*world.truths, *world.explained))]
    recall = {k: (sum(v), len(v)) for k, v in sorted(hit.items())}
    months = len(seeds) * days / 30 * len(OUTLETS)
    with capsys.disabled():
        print(f"\ntreatment trace, {months:.0f} outlet-months: recall {recall}, "
              f"false {len(false) / months:.2f} per outlet-month")
    for kind, (hits, of) in recall.items():
        assert of >= 5, kind
        assert hits >= 0.95 * of, (kind, [m for m in missed if kind in m.kinds])
    assert len(false) <= months, false
