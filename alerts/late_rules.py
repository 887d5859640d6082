"""Rules over readings that came late: rate, expression, demand, linkage, run again over marked hours (limits: `late.py`).

Each object of such a rule is a case: the points it needs, what it did over their readings (the same functions that a backtest
runs, `replay.py`), and how an alert says so. Of demand only what was reached counts, the mean of the whole 15 minutes over the
contracted figure: a forecast of what is over warns nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import numpy as np

from alerts import explain, facility, linkage, loading, replay
from alerts.context import Context
from alerts.demand import SLOT_S
from alerts.evaluator import RATE, Floats, Pair
from alerts.facility import Plants
from alerts.finding import Finding, finite
from alerts.formulas import Formula
from alerts.history import Band, Events, events, newest
from alerts.late import LATE_S, MARGIN, Excursion, Stretch, said
from alerts.linkage import STANDS, Judged, Link
from alerts.loading import NOTHING, Readings
from alerts.rules import Point, Rule, covers
from alerts.store import Connection, Q
from park.quantities import conversion

KINDS = ("rate", "expression", "demand", "linkage")
KNOWN_SHARE = 0.75      # of a slot's expected readings, for its mean to count
Learned = Mapping[tuple[int, int], float]
Series = tuple[Floats, Floats]          # epochs, measure


@dataclass(frozen=True)
class Case:
    """An object of a rule: the points it needs; (instants, measure) over their readings, and the band that the measure is held
    against; `tell` makes the finding of an excursion."""

    rule: Rule
    point: Point | None
    unit_id: int | None
    needs: frozenset[int]
    measure: Callable[[Mapping[int, Readings], Plants], Series]
    band: Band
    tell: Callable[[Excursion, Mapping[int, Readings]], Finding]


def judge(conn: Connection, context: Context, known: Sequence[Case], stretch: Stretch, now: datetime,
          learned: Learned) -> list[Finding]:
    """A late finding for each object with an excursion in the marked hours that no alert of its rule overlaps; `known` are the
    cases of the base."""
    touched = [c for c in known if c.needs & stretch.points]
    if not touched:
        return []
    holds = [c.rule.number("hold_s") + float(c.rule.params.get("fresh_s") or 0.0) for c in touched]
    before = max(MARGIN.total_seconds(), *holds)
    start, end = stretch.start - timedelta(seconds=before), min(stretch.end + MARGIN, now - timedelta(seconds=LATE_S))
    start -= facility.BEFORE if any(c.rule.kind == "linkage" or c.rule.params["plant"] for c in touched) else timedelta(0)
    readings: dict[int, Readings] = {}
    for chunk in loading.load(conn, stretch.base_id, sorted(frozenset().union(*(c.needs for c in touched))), start, end):
        readings |= chunk
    plants = Plants(context, stretch.base_id, readings, learned)
    told = told_of(conn, stretch, {c.rule.rule_id for c in touched})
    out: dict[Any, tuple[Case, list[Excursion]]] = {}
    for case in touched:
        key = case.rule.rule_id, case.point.point_id if case.point else None, case.unit_id
        news = [e for e in _excursions(case, readings, plants) if _is_news(case.rule, stretch, e, told.get(key, ()))]
        if news:
            out.setdefault(key, (case, []))[1].extend(news)
    return [_finding(case, news, readings) for case, news in out.values()]


def told_of(conn: Connection, stretch: Stretch, rules: Iterable[int]) -> dict[tuple[Any, ...], list[tuple[float, float]]]:
    """From when to when (epochs) alerts of some rules were active around marked hours, by (rule, point, unit)."""
    out: dict[tuple[Any, ...], list[tuple[float, float]]] = {}
    near = timedelta(hours=2)
    rows = conn.execute(Q["told_of_rules"], {"base": stretch.base_id, "rules": list(rules), "since": stretch.start - near,
                                             "until": stretch.end + near})
    for rule, point, unit, a, b in rows.fetchall():
        out.setdefault((rule, point, unit), []).append((a, b))
    return out


def _is_news(rule: Rule, stretch: Stretch, e: Excursion, told: Sequence[tuple[float, float]]) -> bool:
    inside = e.end >= stretch.start.timestamp() and e.start < stretch.end.timestamp()
    seen = any(a - LATE_S <= e.end and e.start <= b + LATE_S for a, b in told)
    return inside and not seen and e.start >= rule.recorded_at.timestamp()


def _excursions(case: Case, readings: Mapping[int, Readings], plants: Plants) -> list[Excursion]:
    at, m = case.measure(readings, plants)
    if not len(at):
        return []
    if case.rule.kind == "linkage":         # as live: asked when the hold is over
        happened = events(at, m, case.band, calms=False)
        mask = plants.mask(case.rule, None, case.unit_id, happened[0]) if len(happened[0]) else None
        happened = happened if mask is None else (happened[0][mask], happened[1][mask])
    else:
        happened = events(at, m, case.band, plants.mask(case.rule, case.point, None, at))
    return list(_worst_of(happened, at, m, case.band))


def _worst_of(happened: Events, at: Floats, m: Floats, band: Band) -> Iterator[Excursion]:
    for a, b in zip(happened[0].tolist(), np.where(np.isnan(happened[1]), at[-1], happened[1]).tolist(), strict=True):
        inside = m[(at >= a) & (at <= b)]
        far = np.nan_to_num(np.fmax(inside - band.high, band.low - inside), nan=-np.inf)
        yield Excursion(a, b, float(inside[int(np.argmax(far))]))


def _finding(case: Case, news: Sequence[Excursion], readings: Mapping[int, Readings]) -> Finding:
    """One finding of all: it tells of the worst, from the first to the end of the last."""
    ordered = sorted(news, key=lambda e: e.start)
    worst = max(ordered, key=lambda e: max(e.worst - case.band.high, case.band.low - e.worst))
    found = case.tell(worst, readings)
    return replace(found, at=datetime.fromtimestamp(ordered[0].start, UTC), late=True,
                   returned_at=datetime.fromtimestamp(max(e.end for e in ordered), UTC),
                   explanation=said(found.explanation, len(ordered)))


def cases(context: Context, base_id: int, points: Set[int]) -> Iterator[Case]:
    """Objects of the base's rules of these kinds that may need one of some points."""
    kinds = {r.kind for r in context.rules if r.base_id == base_id}
    if kinds & {"rate", "expression"}:
        for i, pair in enumerate(context.pairs):
            if pair.rule.base_id != base_id or pair.rule.kind not in ("rate", "expression") or pair.point is None:
                continue
            if pair.rule.kind != "rate" or pair.rule.params["plant"] is not None or pair.point.point_id in points:
                yield _pair_case(context, i, pair, pair.point)
    for rule in context.rules:
        if rule.base_id == base_id and rule.kind == "demand":
            yield from _demand_cases(context, rule)
        elif rule.base_id == base_id and rule.kind == "linkage":
            yield from (_link_case(context, rule, link) for link in linkage.links(context, rule))


def _plant_points(context: Context, rule: Rule, point: Point | None, unit_id: int | None) -> list[int]:
    if rule.params["plant"] is None:
        return []
    return facility.points_of(context, facility.plant_of(context, rule, point, unit_id))


def _pair_case(context: Context, i: int, pair: Pair, p: Point) -> Case:
    plan, zone = context.plan, context.zones[pair.rule.base_id]
    band = Band(*(float(a[i]) for a in (plan.low, plan.high, plan.low_clear, plan.high_clear, plan.hold_s, plan.clear_hold_s)))
    bound = _plant_points(context, pair.rule, p, None)
    if pair.rule.kind == "rate":
        return Case(pair.rule, p, None, frozenset({p.point_id, *bound}),
                    lambda readings, _: replay.measure(RATE, readings.get(p.point_id, NOTHING)), band,
                    partial(_tell_rate, pair.rule, p, band, zone))
    formula, k = replay.formula_of(plan, int(plan.slot[i]) - plan.wide - plan.n_devices - plan.n_gateways)
    needs = {context.points[int(at[k])].point_id for at in formula.places.values()}
    return Case(pair.rule, p, None, frozenset({*needs, *bound}),
                lambda readings, _: replay.expression(context, formula, k, readings)[:2], band,
                partial(_tell_expression, context, pair.rule, p, band, formula, k))


def _tell_rate(rule: Rule, p: Point, band: Band, zone: str, e: Excursion, _: Mapping[int, Readings]) -> Finding:
    since = datetime.fromtimestamp(e.start, UTC)
    low, high = finite(band.low), finite(band.high)
    return Finding(rule, True, since, point_id=p.point_id, value=e.worst, low=low, high=high, unit=f"{p.unit}/min",
                   explanation=explain.of_point(rule, p, e.worst, low, high, since, zone))


def _tell_expression(context: Context, rule: Rule, p: Point, band: Band, formula: Formula, k: int, e: Excursion,
                     readings: Mapping[int, Readings]) -> Finding:
    since = datetime.fromtimestamp(e.start, UTC)
    condition = rule.params["high"] is None and rule.params["low"] is None
    low, high = (None, None) if condition else (finite(band.low), finite(band.high))
    figures = []
    for name, at in formula.places.items():
        q = context.points[int(at[k])]
        r = readings.get(q.point_id, NOTHING)
        value = newest(r.at, r.usable, np.array([e.start]), formula.fresh_s)[0] if len(r.at) else np.nan
        figures.append((name, float(value * formula.factors[name][0][k] + formula.factors[name][1][k]), q))
    text = explain.of_expression(rule, p, e.worst, low, high, figures, since, context.zones[rule.base_id])
    return Finding(rule, True, since, point_id=p.point_id, value=None if condition else e.worst, low=low, high=high,
                   explanation=text)


def _demand_cases(context: Context, rule: Rule) -> Iterator[Case]:
    limit = rule.number("limit_kw")
    band = Band(-np.inf, limit, -np.inf, limit, *replay.holds(rule))
    for p in context.points:
        if p.quantity == "active_power" and p.kind == "gauge" and covers(rule, p):
            yield Case(rule, p, None, frozenset({p.point_id, *_plant_points(context, rule, p, None)}), partial(_slots, p), band,
                       partial(_tell_demand, rule, p, limit, context.zones[rule.base_id]))


def _slots(p: Point, readings: Mapping[int, Readings], _: Plants) -> Series:
    """(epochs at which each 15 minutes were over, their mean in kW); too few readings say nothing."""
    r = readings.get(p.point_id, NOTHING)
    ok = ~np.isnan(r.usable)
    if not ok.any():
        return np.empty(0), np.empty(0)
    slot, of = np.unique(np.floor(r.at[ok] / SLOT_S), return_inverse=True)
    n = np.bincount(of)
    mean = np.bincount(of, r.value[ok]) / n * conversion(p.unit, "kW")[0]
    return (slot + 1.0) * SLOT_S, np.where(n >= KNOWN_SHARE * max(1.0, SLOT_S / p.expected_s), mean, np.nan)


def _tell_demand(rule: Rule, p: Point, limit: float, zone: str, e: Excursion, _: Mapping[int, Readings]) -> Finding:
    over = datetime.fromtimestamp(e.start, UTC)
    began = over - timedelta(seconds=SLOT_S)
    at = f"{explain.clock_of(began, zone)[:-3]}–{explain.clock_of(over, zone)[6:-3]}"
    told, allowed = explain.figure(e.worst), explain.figure(limit)
    text = {"zh": f"{explain.name_zh(p)} {at} 的 15 分钟需量达 {told} kW,超过合同需量 {allowed} kW。",
            "en": f"{explain.name_en(p)}: the 15 minutes of {at} came to {told} kW, above the contracted {allowed} kW.",
            "since": began.isoformat(), "point": p.code}
    return Finding(rule, True, over, point_id=p.point_id, value=e.worst, high=limit, unit="kW", channel="demand",
                   explanation=text)


def _link_case(context: Context, rule: Rule, link: Link) -> Case:
    base, p, t = rule.base_id, link.production, link.treatment
    both = {point for unit in (p, t) for point in facility.points_of(context, (base, unit.unit_id))}
    fresh = rule.number("fresh_s")

    def measure(_: Mapping[int, Readings], plants: Plants) -> Series:
        at = np.unique(np.concatenate([plants.words(p.unit_id), plants.words(t.unit_id)]))
        if not len(at):
            return at, at
        return at, replay.link_measure(plants.states(p.unit_id, rule, at, fresh), plants.states(t.unit_id, rule, at, fresh))

    def tell(e: Excursion, _: Mapping[int, Readings]) -> Finding:
        began = e.start - rule.number("hold_s")
        text = linkage.explain(context, rule, link, began, Judged(STANDS))
        return Finding(rule, True, datetime.fromtimestamp(e.start, UTC), unit_id=t.unit_id,
                       channel="production_on_treatment_off", explanation=text)

    needs = frozenset({*both, *_plant_points(context, rule, None, t.unit_id)})
    return Case(rule, None, t.unit_id, needs, measure, replay.condition(rule), tell)
