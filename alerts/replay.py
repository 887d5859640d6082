"""Each kind of rule over the whole history of one object: a measure at its instants, a band, and what follows from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from alerts.context import Context
from alerts.demand import SLOT_S
from alerts.enabling import local_seconds
from alerts.evaluator import DEVICE, FLAT, RATE, SILENCE, VALUE, Flags, Floats, Ints, Pair, Plan, limit_band
from alerts.formulas import Formula
from alerts.history import Band, Events, Heard, device_silences, events, flat_runs, newest, rates, silences
from alerts.linkage import RUNS, STANDS, UNKNOWN
from alerts.loading import NOTHING, Readings
from alerts.means import valid_means
from alerts.rules import Point, Rule, covers
from park.quantities import conversion

Mask = Callable[[Floats], Flags]
NONE: Events = (np.empty(0), np.empty(0))


@dataclass(frozen=True)
class Judged:
    """An object's measure (T,) at its instants, NaN where nothing is known, and the band that it is held against."""

    point: Point
    at: Floats
    measure: Floats
    band: Band


def pair_events(context: Context, plan: Plan, i: int, pair: Pair, readings: Mapping[int, Readings], of_device: Sequence[int],
                words: Heard, mask: Mask | None) -> Events:
    """What pair i of the plan would have done; `of_device` are the points of its device, `words` what was heard of the base."""
    band = Band(*(float(a[i]) for a in (plan.low, plan.high, plan.low_clear, plan.high_clear, plan.hold_s, plan.clear_hold_s)))
    slot, n = int(plan.slot[i]), plan.n_points
    if slot >= DEVICE * n:
        shared = None if pair.gateway else next((g for g in context.gateways if pair.device_id in g.devices
                                                 and g.base_id == pair.rule.base_id), None)
        beside = None if shared is None else _silent_times(context, plan, shared.devices, readings)
        return _wide(context, plan, slot - DEVICE * n, pair, readings, of_device, words, band, mask, beside)
    assert pair.point is not None
    mine = readings.get(pair.point.point_id, NOTHING)
    if slot // n == SILENCE:
        others = [readings.get(p, NOTHING).at for p in of_device if p != pair.point.point_id]
        happened = silences(mine.at, [o for o in others if len(o)], band.high, band.hold_s, band.clear_hold_s, words)
        return happened if mask is None else _masked(happened, mask)
    at, m = measure(slot // n, mine)
    return events(at, m, band, None if mask is None else mask(at)) if len(at) else NONE


def measure(kind: int, r: Readings) -> tuple[Floats, Floats]:
    """(T,) epochs and the measure of a kind (VALUE, RATE, FLAT, FLAT_ANY) at each."""
    if kind == VALUE:
        return r.at, r.usable
    ok = ~np.isnan(r.usable)
    at, value = r.at[ok], r.value[ok]
    if kind == RATE:
        return at, rates(at, value)
    return (at, flat_runs(at, value, kind == FLAT)) if len(at) else (at, value)


def _wide(context: Context, plan: Plan, k: int, pair: Pair, readings: Mapping[int, Readings], of_device: Sequence[int],
          words: Heard, band: Band, mask: Mask | None, beside: tuple[list[Floats], Floats] | None) -> Events:
    """A pair that is about more than one point: a device, a gateway, or an expression."""
    if k < plan.n_devices + plan.n_gateways:
        after = np.array([plan.after_s[context.index[pair.rule.base_id, p]] for p in of_device])
        times = [readings.get(p, NOTHING).at for p in of_device]
        happened = device_silences(times, after, band.hold_s, band.clear_hold_s, words)
        if beside and len(happened[0]):
            happened = _not_of_gateway(happened, device_silences(*beside, band.hold_s, band.clear_hold_s, words))
        return happened if mask is None else _masked(happened, mask)
    when, m, _ = expression(context, *formula_of(plan, k - plan.n_devices - plan.n_gateways), readings)
    return events(when, m, band, None if mask is None else mask(when)) if len(when) else NONE


def formula_of(plan: Plan, k: int) -> tuple[Formula, int]:
    """The formula that the k-th expression measure belongs to, and its place among those of the formula."""
    for formula in plan.formulas:
        if k < len(formula.anchors):
            return formula, k
        k -= len(formula.anchors)
    raise IndexError(f"there is no expression {k} in the plan")


def expression(context: Context, formula: Formula, k: int,
               readings: Mapping[int, Readings]) -> tuple[Floats, Floats, dict[str, Floats]]:
    """(T,) the instants at which one of its points said something, what an expression came to, the value of each name."""
    named = {name: readings.get(context.points[int(at[k])].point_id, NOTHING) for name, at in formula.places.items()}
    when = np.unique(np.concatenate([r.at for r in named.values()]))
    values = {name: newest(r.at, r.usable, when, formula.fresh_s) * formula.factors[name][0][k] + formula.factors[name][1][k]
              for name, r in named.items()}
    return when, np.broadcast_to(formula.expression.evaluate(values), when.shape), values


def _silent_times(context: Context, plan: Plan, devices: Sequence[int],
                  readings: Mapping[int, Readings]) -> tuple[list[Floats], Floats]:
    """Epochs of the readings of every point of some devices, and the silence that each may keep."""
    of = [i for i, p in enumerate(context.points) if p.device_id in devices]
    return [readings.get(context.points[i].point_id, NOTHING).at for i in of], plan.after_s[of]


def _not_of_gateway(device: Events, gateway: Events) -> Events:
    """Silences of a device during which its gateway was not silent as a whole."""
    ends = np.where(np.isnan(device[1]), np.inf, device[1])
    gone = np.where(np.isnan(gateway[1]), np.inf, gateway[1])
    keep = np.array([not ((gateway[0] < b) & (gone > a)).any() for a, b in zip(device[0], ends, strict=True)], bool)
    return device[0][keep], device[1][keep]


def _masked(happened: Events, mask: Mask) -> Events:
    """Raises while the rule was in force."""
    keep = mask(happened[0]) if len(happened[0]) else np.empty(0, bool)
    return happened[0][keep], happened[1][keep]


def holds(rule: Rule) -> tuple[float, float]:
    """Seconds that a condition lasts before it is raised, and before it returns."""
    return rule.number("hold_s"), rule.number("clear_hold_s")


def condition(rule: Rule) -> Band:
    """The band of a measure that is 1 where the condition is there and 0 where it is not."""
    return Band(-np.inf, 0.5, -np.inf, 0.5, *holds(rule))


def means(context: Context, rule: Rule, readings: Mapping[int, Readings], zone: str) -> Iterable[Judged]:
    """Means of hours or days of each gauge of a rule, at the end of each; with the validity of `alerts/means.py`."""
    for p in context.points:
        limits = limit_band(rule, p, context.limits) if p.kind == "gauge" and covers(rule, p) else None
        r = readings.get(p.point_id, NOTHING)
        if limits is None or not len(r.at):
            continue
        margin = rule.number("hysteresis")
        band = Band(*limits, limits[0] + margin, limits[1] - margin, *holds(rule))
        yield Judged(p, *hour_or_day_means(rule, p, r, zone), band)


def hour_or_day_means(rule: Rule, p: Point, r: Readings, zone: str) -> tuple[Floats, Floats]:
    """(epochs at which an hour or day is over, its mean or NaN)."""
    hour = np.floor(r.at / 3600.0)
    first, n = hour[0], int(hour[-1] - hour[0]) + 1
    of = (hour - first).astype(np.intp)
    usable = ~np.isnan(r.usable)
    n_usable = np.bincount(of[usable], minlength=n).astype(float)
    n_good = np.bincount(of[r.good], minlength=n).astype(float)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.bincount(of[usable], r.value[usable], minlength=n) / n_usable
    clean = (n_usable == n_good) & (n_usable > 0)
    starts = (first + np.arange(n)) * 3600.0
    days = rule.params["mean"] == "day"
    slot = local_seconds(starts, zone) // 86400 if days else np.arange(n)
    slots, where = np.unique(slot, return_inverse=True)
    due = np.full(len(slots), max(1.0, 3600.0 / p.expected_s))
    value, n_valid = valid_means(where.astype(np.intp), np.nan_to_num(mean), n_good, clean, due, rule.number("valid_share"))
    least = rule.number("valid_hours") if days else 1.0
    end = np.array([starts[where == k].max() + 3600.0 for k in range(len(slots))]) if days else starts + 3600.0
    return end, np.where(n_valid >= least, value, np.nan)


def mean_bands(context: Context, rules: Sequence[Rule]) -> dict[tuple[int, int], tuple[float, float]]:
    """(low, high) of the rules over means, by (rule, point)."""
    return {(r.rule_id, p.point_id): band for r in rules if r.kind == "limit" and not r.instant for p in context.points
            if covers(r, p) and (band := limit_band(r, p, context.limits)) is not None}


def demand(context: Context, rule: Rule, readings: Mapping[int, Readings]) -> Iterable[Judged]:
    """What the running 15 minutes were on their way to at each reading of a power meter (kW)."""
    limit = rule.number("warn_at") * rule.number("limit_kw")
    band = Band(-np.inf, float(np.nextafter(limit, 0)), -np.inf, float(np.nextafter(limit, 0)), *holds(rule))
    for p in context.points:
        r = readings.get(p.point_id, NOTHING)
        if p.quantity != "active_power" or p.kind != "gauge" or not covers(rule, p) or not len(r.at):
            continue
        ok = ~np.isnan(r.usable)
        at, kw = r.at[ok], r.value[ok] * conversion(p.unit, "kW")[0]
        yield Judged(p, at, slot_forecast(at, kw, rule.number("min_s")), band)


def slot_forecast(at: Floats, kw: Floats, min_s: float) -> Floats:
    """(T,) mean of the running slot when it goes on as it is; NaN before min_s of it are over."""
    slot = np.floor(at / SLOT_S)
    first = np.searchsorted(slot, slot, side="left")
    total = np.concatenate([[0.0], np.cumsum(kw)])
    place = np.arange(len(at))
    mean = (total[place + 1] - total[first]) / (place - first + 1)
    elapsed = at - slot * SLOT_S
    return np.where(elapsed >= min_s, (mean * elapsed + kw * (SLOT_S - elapsed)) / SLOT_S, np.nan)


def link_events(rule: Rule, at: Floats, production: Ints, treatment: Ints) -> Events:
    """Production runs and treatment stands, for the hold; unknown says nothing, one half that is well suffices."""
    return events(at, link_measure(production, treatment), condition(rule))


def link_measure(production: Ints, treatment: Ints) -> Floats:
    """(T,) 1 where production runs while treatment stands, 0 where it does not, NaN where that is not known."""
    bad = (production == RUNS) & (treatment == STANDS)
    well = (production == STANDS) | (treatment == RUNS)
    unknown = ((production == UNKNOWN) | (treatment == UNKNOWN)) & ~well
    return np.where(unknown, np.nan, bad.astype(float))


def balance(context: Context, rule: Rule, rows: Sequence[tuple[Any, ...]]) -> Iterable[Judged]:
    """Days of parents; the measure is 1 where too much is unaccounted for. Rows as `balance_history` gives them."""
    of: dict[int, list[tuple[float, float]]] = {}
    for at, parent, share, amount, known in rows:
        if share is not None and known is not None and known >= rule.number("coverage"):
            bad = abs(share) > rule.number("high") and abs(amount) >= rule.number("min_amount")
            of.setdefault(parent, []).append((at, float(bad)))
    for p in context.points:
        table = np.array(of.get(p.point_id, []), float).reshape(-1, 2)
        if p.base_id == rule.base_id and covers(rule, p) and len(table):
            yield Judged(p, table[:, 0], table[:, 1], condition(rule))
