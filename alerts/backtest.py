"""`park backtest`: what rules would have done over stored readings; nothing is written.

Limits, rates, stale and stuck, expressions, means, demand and linkage are run over the readings themselves, whole series at a
time (`history.py`; a test holds it to the live `tick`). Emission limits come from the hours and days that accounting judged,
with their warnings and the forecast of the running hour from its minutes (`replay_emission.py`); baselines from the rollups of
hours, each beside its like hours as they stand now (`replay_baseline.py`); balances from accounting's days. A rule that finds
nothing to judge says what it lacks. Limits, power bands and calendars are those of the end of the stretch.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Any

import numpy as np

from alerts import facility, hearing, linkage, loading, replay, replay_baseline, replay_emission
from alerts.context import Context, flat_history, gates_of, load
from alerts.emission import milder
from alerts.evaluator import Floats, Pair, Plan, after_s, compile_rules
from alerts.facility import Plants
from alerts.history import Events, Heard, events, heard, paced
from alerts.loading import NOTHING, Readings
from alerts.rules import Point, Rule, covers
from alerts.store import Connection, Q
from park.catalogue_store import base_id_of
from park.errors import NotFound

# kinds that need no reading, but what was made of it, in words for a rule that found none
FROM = {"emission_limit": "hours of outlets (accounting) in this time",
        "baseline": "hours of its points in this time with enough like days (min_weeks) before them",
        "balance": "days of balanced meters in this time",
        "linkage": "readings of a production unit and of what treats it in this time"}


@dataclass(frozen=True)
class Episode:
    """One raise of a rule about an object (a code) and its return (NaN: still active at the end), by the readings' clock. A
    warning that becomes an exceedance is two: each is told."""

    rule: Rule
    thing: str
    raised_at: float
    returned_at: float
    point_id: int | None = None
    channel: str = ""
    severity: str = ""      # empty: the rule's

    @property
    def rank(self) -> str:
        return self.severity or self.rule.severity


@dataclass(frozen=True)
class Track:
    """What a rule over hours compared, for a chart: (T,) epochs, value, and the band of each (not finite: no bound)."""

    at: Floats
    value: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True)
class Coarse:
    """Of a stale rule: how many of its points with readings (`of`) came at the pace of imported or thinned history for a time,
    and the share of all their time that was not judged for it."""

    rule: Rule
    points: int
    of: int
    share: float


@dataclass(frozen=True)
class Outcome:
    """What came of it: the rules that were run, episodes in order of their raise, readings that were judged."""

    rules: Sequence[Rule]
    episodes: list[Episode]
    n_readings: int
    nothing_for: Sequence[tuple[Rule, str]]     # rules that found nothing to judge, and what they lack
    series: Mapping[int, Readings]          # of the points with episodes, for a chart
    bands: Mapping[tuple[int, int], tuple[float, float]]    # of limits, by (rule, point)
    tracks: Mapping[tuple[int, int], Track]                 # of rules over hours, by (rule, point)
    coarse: Sequence[Coarse] = ()                           # stale rules that did not judge all of the time

    def only(self, codes: set[str]) -> Outcome:
        """The part of it that concerns the rules of these codes."""
        return replace(self, rules=[r for r in self.rules if r.code in codes],
                       episodes=[e for e in self.episodes if e.rule.code in codes],
                       nothing_for=[(r, why) for r, why in self.nothing_for if r.code in codes],
                       coarse=[c for c in self.coarse if c.rule.code in codes])


@dataclass
class History:
    """A base over a stretch of time, as the judges of each kind need it."""

    conn: Connection
    context: Context
    base_id: int
    start: datetime
    end: datetime
    readings: dict[int, Readings]
    tracks: dict[tuple[int, int], Track] = field(default_factory=dict)
    judged: set[str] = field(default_factory=set)       # codes of the rules that had something to judge

    @property
    def zone(self) -> str:
        return self.context.zones[self.base_id]

    def of(self, point_id: int) -> Readings:
        """Readings of a point; none is an empty stretch."""
        return self.readings.get(point_id, NOTHING)

    def plants(self) -> Plants:
        """What the base's plants did."""
        return Plants(self.context, self.base_id, self.readings, facility.learned(self.conn))

    def heard(self) -> Heard | None:
        """When anything was heard of the base; None: never."""
        at = np.concatenate([r.at for r in self.readings.values()]) if self.readings else np.empty(0)
        return heard(np.unique(at), hearing.stall_s(self.context)) if len(at) else None


def backtest(conn: Connection, base: str, start: datetime, end: datetime, rule: str | None = None,
             candidates: Sequence[Rule] | None = None) -> Outcome:
    """Run the base's rules (one of them, or candidates in their place) over [start, end); NotFound names those there are."""
    base_id = base_id_of(conn, base)
    context = load(conn, end)
    rules = [r for r in context.rules if r.base_id == base_id] if candidates is None else list(candidates)
    if rule is not None:
        chosen = [r for r in rules if r.code == rule]
        if not chosen:
            raise NotFound(f"base {base} has no rule {rule!r}; there are: {', '.join(r.code for r in rules) or 'none'}")
        rules = chosen
    return run(conn, context, base_id, rules, start, end)


def run(conn: Connection, context: Context, base_id: int, rules: Sequence[Rule], start: datetime, end: datetime) -> Outcome:
    """The outcome of rules over readings of a base."""
    h = History(conn, context, base_id, start, end, {})
    for chunk in loading.load(conn, base_id, sorted(_needed(context, base_id, rules)), start, end):
        h.readings |= chunk
    plan, pairs = _compile(conn, context, base_id, rules, end)
    found = [*_instant(h, plan, pairs), *_others(h, rules)]
    found.sort(key=lambda e: (e.raised_at, e.rule.code, e.thing))
    shown = {e.point_id for e in found if e.point_id is not None}
    bands = {(pair.rule.rule_id, pair.point.point_id): (float(plan.low[i]), float(plan.high[i]))
             for i, pair in enumerate(pairs) if pair.point is not None and pair.rule.kind == "limit"}
    bands |= replay.mean_bands(context, rules)
    return Outcome(rules, found, sum(len(r.at) for r in h.readings.values()), _lacking(h, rules),
                   {p: r for p, r in h.readings.items() if p in shown}, bands, h.tracks, _coarse(h, rules))


def _coarse(h: History, rules: Sequence[Rule]) -> list[Coarse]:
    """What stale rules left out of judgement, since history came evenly, but slower than live readings do."""
    words = h.heard() if any(r.kind == "stale" for r in rules) else None
    if words is None:
        return []
    out = []
    for rule in rules:
        points = [p for p in h.context.points if p.base_id == h.base_id and covers(rule, p) and len(h.of(p.point_id).at)]
        if rule.kind != "stale" or not points:
            continue
        found = [paced(h.of(p.point_id).at, after_s(rule, p), words.last) for p in points]
        left_out, all_s = sum(float(gap[slow].sum()) for slow, gap in found), sum(float(gap.sum()) for _, gap in found)
        if left_out:
            out.append(Coarse(rule, sum(bool(slow.any()) for slow, _ in found), len(points), left_out / all_s))
    return out


def _lacking(h: History, rules: Sequence[Rule]) -> list[tuple[Rule, str]]:
    """Rules that found nothing to judge, each with what is missing."""
    out = []
    for rule in rules:
        covered = [p for p in h.context.points if p.base_id == h.base_id and covers(rule, p)]
        if rule.code not in h.judged:
            lacks = FROM.get(rule.kind, "readings of its points in this time")
            out.append((rule, f"there are no {lacks}" if covered else "its scope covers no point"))
    return out


def _needed(context: Context, base_id: int, rules: Sequence[Rule]) -> set[int]:
    """Points whose readings are asked for; silence and the state of the plant need more than the points of the scope."""
    points = [p for p in context.points if p.base_id == base_id]
    if any(r.kind in ("stale", "expression", "linkage") or r.params.get("plant") for r in rules):
        return {p.point_id for p in points}
    judged = [r for r in rules if r.kind not in ("emission_limit", "baseline", "balance")]
    out = {p.point_id for p in points if any(covers(r, p) for r in judged)}
    outlets = {p.unit_id for p in points for r in rules if r.kind == "emission_limit" and r.params["forecast"] and covers(r, p)}
    return out | {p.point_id for p in points if p.unit_id in outlets}


def _compile(conn: Connection, context: Context, base_id: int, rules: Sequence[Rule], now: datetime) -> tuple[Plan, list[Pair]]:
    instant = [r for r in rules if r.instant]
    covered = [[i for i, p in enumerate(context.points) if p.base_id == base_id and covers(r, p)] for r in instant]
    flat = np.full(len(context.points), np.nan)
    if any(r.kind == "stuck" for r in instant):
        flat = flat_history(conn, context.points, context.index, now)
    return compile_rules(instant, context.points, covered, flat, context.limits, context.gateways)


def _instant(h: History, plan: Plan, pairs: Sequence[Pair]) -> Iterable[Episode]:
    gates = {int(i): g for g in gates_of(list(pairs), h.context.units, h.context.facility) for i in g.pairs}
    words = h.heard()
    of_device: dict[tuple[int, int | None], list[int]] = defaultdict(list)
    for p in h.context.points:
        if p.device_id is not None:
            of_device[p.base_id, p.device_id].append(p.point_id)
    plants = h.plants()
    for i, pair in enumerate(pairs):
        if words is None:
            return
        behind = pair.gateway.devices if pair.gateway else (pair.device_id if pair.point is None else pair.point.device_id,)
        points = [p for d in behind for p in of_device[h.base_id, d]]
        gate = gates.get(i)
        mask = None if gate is None else partial(plants.in_force, gate.rule, gate.plant)
        if pair.point is None or len(h.of(pair.point.point_id).at):
            h.judged.add(pair.rule.code)
        happened = replay.pair_events(h.context, plan, i, pair, h.readings, points, words, mask)
        code = (pair.point.code if pair.point else pair.gateway.name if pair.gateway
                else h.context.devices.get((h.base_id, pair.device_id or 0), ""))
        yield from episodes(pair.rule, code, happened, pair.point.point_id if pair.point else None)


def _others(h: History, rules: Sequence[Rule]) -> Iterable[Episode]:
    """Episodes of the rules that are no comparison of single readings."""
    plants = h.plants()
    for rule in rules:
        if rule.kind == "limit" and not rule.instant:
            yield from _gated(h, plants, rule, replay.means(h.context, rule, h.readings, h.zone))
        elif rule.kind == "demand":
            yield from _gated(h, plants, rule, replay.demand(h.context, rule, h.readings))
        elif rule.kind == "linkage":
            yield from replay_links(h, plants, rule)
        elif rule.kind == "emission_limit":
            yield from _emission(h, plants, rule)
        elif rule.kind == "baseline":
            yield from _baseline(h, plants, rule)
        elif rule.kind == "balance":
            key = {"base": h.base_id, "start": h.start, "end": h.end, "zone": h.zone}
            rows = h.conn.execute(Q["balance_history"], key).fetchall()
            yield from _gated(h, plants, rule, replay.balance(h.context, rule, rows))


def _gated(h: History, plants: Plants, rule: Rule, judged: Iterable[replay.Judged]) -> Iterable[Episode]:
    for j in judged:
        h.judged.add(rule.code)
        happened = events(j.at, j.measure, j.band, plants.mask(rule, j.point, None, j.at), calms=False)
        yield from episodes(rule, j.point.code, happened, j.point.point_id)


def _emission(h: History, plants: Plants, rule: Rule) -> Iterable[Episode]:
    """Hours with their warnings and the forecast between them; days beside them, as an alert of their own."""
    key = {"base": h.base_id, "start": h.start, "end": h.end, "zone": h.zone}
    hours = h.conn.execute(Q["emission_history"], key).fetchall()
    for p, means in replay_emission.means(h.context, rule, hours):
        reference = h.context.units[h.base_id, p.unit_id or 0].attributes.get("o2_reference")
        oxygen = replay_emission.oxygen_of(h.context, p, h.readings)
        at, level = replay_emission.with_forecast(rule, p, means, h.of(p.point_id), oxygen, reference)
        h.tracks[rule.rule_id, p.point_id] = Track(means.at, means.value, np.full(len(means.at), np.nan), means.limit)
        yield from _levels(h, plants, rule, p, at, level, replay_emission.CHANNELS)
    days = h.conn.execute(Q["emission_day_history"], key).fetchall()
    for p, means in replay_emission.means(h.context, rule, days, days=True):
        yield from _levels(h, plants, rule, p, means.at, means.level, {replay_emission.EXCEEDED: "day_exceeded"})


def _levels(h: History, plants: Plants, rule: Rule, p: Point, at: Floats, level: Floats,
            channels: Mapping[float, str]) -> Iterable[Episode]:
    h.judged.add(rule.code)
    mask = plants.mask(rule, p, None, at)
    if mask is not None:
        level = np.where(mask | (level == replay_emission.WELL), level, np.nan)
    level = replay_emission.held(at, level, *replay.holds(rule))
    for step in replay_emission.steps(at, level, channels):
        severity = rule.severity if step.channel.endswith("exceeded") else milder(rule.severity)
        yield Episode(rule, p.code, step.raised_at, step.returned_at, p.point_id, step.channel, severity)


def _baseline(h: History, plants: Plants, rule: Rule) -> Iterable[Episode]:
    points = [p for p in h.context.points if covers(rule, p) and p.kind != "state"]
    if not points:
        return
    own = h.context.calendars.own.get(h.base_id, {})
    j = replay_baseline.judge(h.conn, rule, points, h.start, h.end, h.zone, own)
    if (j.present | j.gone).any():
        h.judged.add(rule.code)
    for i in np.flatnonzero(j.present.any(axis=0)).tolist():
        p, mask = points[i], plants.mask(rule, points[i], None, j.at)
        measure = np.where(j.present[:, i], 1.0, np.where(j.gone[:, i], 0.0, np.nan))
        h.tracks[rule.rule_id, p.point_id] = Track(j.at, j.value[:, i], j.low[:, i], j.high[:, i])
        yield from episodes(rule, p.code, events(j.at, measure, replay.condition(rule), mask, calms=False), p.point_id)


def replay_links(h: History, plants: Plants, rule: Rule) -> Iterable[Episode]:
    """Production that ran while its treatment stood, for as long as the rule's hold."""
    for link in linkage.links(h.context, rule):
        p, t = link.production, link.treatment
        at = np.unique(np.concatenate([plants.words(p.unit_id), plants.words(t.unit_id)]))
        if not len(at):
            continue
        h.judged.add(rule.code)
        fresh = rule.number("fresh_s")
        runs, stands = plants.states(p.unit_id, rule, at, fresh), plants.states(t.unit_id, rule, at, fresh)
        happened = replay.link_events(rule, at, runs, stands)
        yield from episodes(rule, t.code, happened, None)


def episodes(rule: Rule, thing: str, happened: Events, point_id: int | None) -> Iterable[Episode]:
    """Raises and returns as episodes."""
    for raised, returned in zip(happened[0].tolist(), happened[1].tolist(), strict=True):
        yield Episode(rule, thing, raised, returned, point_id)


def candidate_rules(conn: Connection, context: Context, base_id: int, file: Any) -> list[Rule]:
    """Rules of a file, checked against the base's catalogue; CatalogueError with file and line of each mistake."""
    from alerts.rule_files import read_rules
    from alerts.rules import Known, rule_of

    points = [p for p in context.points if p.base_id == base_id]
    known = Known(frozenset(u.code for u in context.units.values() if u.base_id == base_id), {p.code: p.unit for p in points})
    return [replace(rule_of(row), rule_id=1_000_000 + i) for i, row in enumerate(read_rules(file, known, base_id))]
