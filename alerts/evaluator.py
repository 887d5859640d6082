"""The instant rules over every (rule, point) pair at once: limits, rate of change, stale, stuck, expressions.

`tick(state, values, quality, ages, now)` is pure: arrays in, new state and the pairs that were raised and that returned
out. All kinds are one comparison: a measure of the point (its value, its rate, its silence, its flat run, an expression)
against a band with hysteresis and hold. A value that is missing or unusable says nothing: it neither raises nor returns.

Shapes: points (P,), pairs (N,). Times are epoch seconds, ages seconds since the newest reading (NaN: never).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from alerts.formulas import CONDITION, Formula, compile_formula
from alerts.rules import Point, Rule
from park.quality import LAST_USABLE

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]
Flags = NDArray[np.bool_]
BandRow = tuple[int, float, float, float, float, float, float]    # slot, low, high, low_clear, high_clear, hold_s, clear_hold_s
Place = tuple[int, int, str]        # base, point, statistic (instant, hour, day)
Band = tuple[float, float]          # low, high
VALUE, RATE, SILENCE, FLAT, FLAT_ANY, DEVICE = range(6)   # rows of the measure table; DEVICE is as wide as there are devices
CHATTER_RAISES = 5          # so many raises, each counting less with time ...
CHATTER_S = 600.0           # ... over this time are chatter: the alert then stays until it has been calm for as long


@dataclass(frozen=True)
class Plan:
    """What never changes between two catalogues: the pairs and their bands. """

    n_points: int
    n_devices: int
    device: Ints                # (P,) index of the point's device, or -1
    after_s: Floats             # (P,) silence that makes the point stale (smallest over its rules)
    slot: Ints                  # (N,) where the pair's measure lies in the flat measure table
    by_clock: Flags             # (N,) hold counts by the clock (silence) and not from reading to reading
    low: Floats                 # (N,) band; raised outside
    high: Floats
    low_clear: Floats           # (N,) band inside which an active pair returns
    high_clear: Floats
    hold_s: Floats
    clear_hold_s: Floats
    values_only: bool           # every pair is a limit: nothing else has to be measured
    formulas: tuple[Formula, ...] = ()      # their measures follow those of devices and gateways, in order
    gateway: Ints = field(default_factory=lambda: np.empty(0, np.intp))     # (D,) index of the gateway a device hangs on, or -1
    n_gateways: int = 0

    @property
    def wide(self) -> int:
        """Where the measures begin that are about more than one point: devices, gateways, expressions."""
        return DEVICE * self.n_points


@dataclass(frozen=True)
class State:
    """What a tick remembers; arrays are never changed in place, so that an old state stays valid."""

    plan: Plan
    active: Flags               # (N,)
    since: Floats               # (N,) when the pending change began, NaN when none is pending
    low: Floats                 # (N,) the band that holds now, with hysteresis
    high: Floats
    value: Floats               # (P,) last usable value and its time, for rate and flat run
    at: Floats
    rate: Floats                # (P,) a minute
    flat_since: Floats          # (P,) since when the value has stood still
    raises: Floats              # (N,) recent raises, fading with CHATTER_S, as of raised_at
    raised_at: Floats


@dataclass(frozen=True)
class Gateway:
    """Devices that share a connection: if it goes, that is one alert and not one a device."""

    base_id: int
    name: str
    devices: tuple[int, ...]
    unit_id: int


@dataclass(frozen=True)
class Pair:
    """One (rule, object): the point, or with `device_id` a device whose points are all silent; with `gateway` the connection
    that it shares with others, all of them silent, named by its first device and that one's unit."""

    rule: Rule
    point: Point | None
    device_id: int | None = None
    gateway: Gateway | None = None


def fresh(plan: Plan) -> State:
    """The state before the first tick: nothing is active, nothing known."""
    n, p = len(plan.slot), plan.n_points
    def unknown(size: int) -> Floats:
        return np.full(size, np.nan)
    return State(plan, np.zeros(n, bool), unknown(n), plan.low, plan.high, unknown(p), unknown(p), unknown(p), unknown(p),
                 np.zeros(n), np.zeros(n))


def tick(state: State, values: Floats, quality: NDArray[np.integer], ages: Floats, now: float,
         quiet: Floats | None = None, in_force: Flags | None = None) -> tuple[State, Ints, Ints]:
    """(state, raised, returned): the next state and the indexes of pairs that changed; nothing is opened or written.
    `quiet` (P,) is the silence to judge where it is not simply the age of the newest reading; a pair that is not `in_force`
    (N,) raises nothing and begins no hold."""
    plan = state.plan
    bad = quality > LAST_USABLE
    usable = np.where(bad, np.nan, values) if bad.any() else values
    if not plan.values_only:
        state = _observe(state, usable, ages, now)
    measure = usable if plan.values_only else _measures(state, usable, ages if quiet is None else quiet, ages)
    return _compare(state, measure.take(plan.slot), ages, now, in_force)


def held_back(state: State, values: Floats, quality: NDArray[np.integer], ages: Floats, quiet: Floats, in_force: Flags) -> Ints:
    """Pairs that would be on their way to a raise if they were in force; `state` is that after the tick."""
    usable = np.where(quality <= LAST_USABLE, values, np.nan)
    m = (usable if state.plan.values_only else _measures(state, usable, quiet, ages)).take(state.plan.slot)
    return np.flatnonzero(((m > state.high) | (m < state.low)) & ~in_force & ~state.active)


def _compare(state: State, m: Floats, ages: Floats, now: float, in_force: Flags | None) -> tuple[State, Ints, Ints]:
    outside = (m > state.high) | (m < state.low)
    if in_force is not None:
        outside &= in_force | state.active
    differs = outside != state.active
    candidates = np.flatnonzero(differs)
    candidates = candidates[~np.isnan(m[candidates])]    # unknown neither raises nor returns
    pending = state.since == state.since                 # NaN is not itself
    settled = np.flatnonzero(pending > differs)          # back before the hold was over
    settled = settled[~np.isnan(m[settled])]
    if not len(candidates) and not len(settled):
        return state, candidates, candidates
    since = state.since.copy()
    since[settled] = np.nan
    plan = state.plan
    evidence = _evidence(plan, candidates, ages, now)
    began = np.fmin(since[candidates], evidence)        # none before; or begun by a clock that was ahead and is right again
    rising = ~state.active[candidates]
    recent = state.raises[candidates] * np.exp((state.raised_at[candidates] - now) / CHATTER_S)
    clear = plan.clear_hold_s[candidates]
    calm = np.where(state.raises[candidates] > CHATTER_RAISES - 1, np.maximum(clear, CHATTER_S), clear)
    hold = np.where(rising, plan.hold_s[candidates], calm)
    due = evidence - began >= hold
    since[candidates] = np.where(due, np.nan, began)
    raised, returned = candidates[due & rising], candidates[due & ~rising]
    if not len(raised) and not len(returned):
        return replace(state, since=since), raised, returned
    active = state.active.copy()
    active[raised], active[returned] = True, False
    changed = np.concatenate([raised, returned])
    low = _with(state.low, changed, np.concatenate([plan.low_clear[raised], plan.low[returned]]))
    high = _with(state.high, changed, np.concatenate([plan.high_clear[raised], plan.high[returned]]))
    raises, raised_at = state.raises, state.raised_at
    if len(raised):
        raises, raised_at = raises.copy(), raised_at.copy()
        raises[raised] = 1.0 + recent[due & rising]
        raised_at[raised] = now
    return replace(state, active=active, since=since, low=low, high=high, raises=raises, raised_at=raised_at), raised, returned


def _with(former: Floats, places: Ints, values: Floats) -> Floats:
    """The array with new values at some places; itself where they are the former ones, as of limits with one side."""
    if np.array_equal(former[places], values):
        return former
    out = former.copy()
    out[places] = values
    return out


def _evidence(plan: Plan, pairs: Ints, ages: Floats, now: float) -> Floats:
    """The instant up to which the condition is known: the reading's for values, the clock's for silence."""
    point = plan.slot[pairs] % max(plan.n_points, 1)
    return np.where(plan.by_clock[pairs], now, now - ages[point])


def _observe(state: State, usable: Floats, ages: Floats, now: float) -> State:
    """Rates and flat runs of the points with a new reading."""
    at = now - ages
    new = np.flatnonzero(~np.isnan(usable) & ~(at <= state.at + 1e-4))    # now - age loses the last microseconds
    if not len(new):
        return state
    rate, flat = state.rate.copy(), state.flat_since.copy()
    step = at[new] - state.at[new]
    rate[new] = (usable[new] - state.value[new]) / step * 60.0
    flat[new] = np.where(usable[new] == state.value[new], state.flat_since[new], at[new])
    value, seen = state.value.copy(), state.at.copy()
    value[new], seen[new] = usable[new], at[new]
    return replace(state, value=value, at=seen, rate=rate, flat_since=flat)


def _measures(state: State, usable: Floats, quiet: Floats, ages: Floats) -> Floats:
    """(5 P + D + G + K,) value, rate, silence and flat run (but for zero, and with it) of each point, then of each device and
    gateway its silence as a multiple of the allowed one, then the expressions."""
    plan = state.plan
    p, d = plan.n_points, plan.n_devices + plan.n_gateways
    out = np.concatenate([np.empty(DEVICE * p + d), *(f.evaluate(usable, ages) for f in plan.formulas)])
    rows = out[:DEVICE * p].reshape(DEVICE, p)
    rows[VALUE], rows[RATE] = usable, state.rate
    rows[SILENCE], out[DEVICE * p:DEVICE * p + d] = silence(plan, quiet)
    rows[FLAT_ANY] = state.at - state.flat_since
    rows[FLAT] = np.where(state.value == 0.0, 0.0, rows[FLAT_ANY])
    return out


def silence(plan: Plan, ages: Floats) -> tuple[Floats, Floats]:
    """(points, devices and then gateways). A device's point is silent only beside its device, so that a dead device is one
    alert and not one a point; a device is silent when each of its points is: the least share of the allowed silence. In the
    same way a device is silent only beside its gateway, and a gateway when each of its devices is."""
    newest, share = np.full(plan.n_devices, np.inf), np.full(plan.n_devices, np.inf)
    with_device = np.flatnonzero((plan.device >= 0) & ~np.isnan(ages) & np.isfinite(plan.after_s))
    np.minimum.at(newest, plan.device[with_device], ages[with_device])
    np.minimum.at(share, plan.device[with_device], ages[with_device] / plan.after_s[with_device])
    alone = ages.copy()
    alone[with_device] -= newest[plan.device[with_device]]
    share[np.isinf(share)] = np.nan      # no point of it has ever sent: unknown
    if not plan.n_gateways:
        return alone, share
    shared = np.full(plan.n_gateways, np.inf)
    behind = np.flatnonzero((plan.gateway >= 0) & ~np.isnan(share))
    np.minimum.at(shared, plan.gateway[behind], share[behind])
    beside = share.copy()
    beside[behind] -= shared[plan.gateway[behind]]
    shared[np.isinf(shared)] = np.nan
    return alone, np.concatenate([beside, shared])


def compile_rules(rules: Sequence[Rule], points: Sequence[Point], covered: Sequence[Sequence[int]],
                  flat_s: Floats | None = None, limits: Mapping[Place, Band] | None = None,
                  gateways: Sequence[Gateway] = ()) -> tuple[Plan, list[Pair]]:
    """The plan of the instant rules and what each pair is about; `covered[i]` are the point indexes of rule i,
    `flat_s` the longest flat run in each point's own history (seconds, NaN: not known), `limits` those in force. A rule that
    goes by the limit in force covers no point without one."""
    p = len(points)
    devices = sorted({(q.base_id, q.device_id) for q in points if q.device_id is not None})
    number = {key: i for i, key in enumerate(devices)}
    device = np.array([number.get((q.base_id, q.device_id or -1), -1) for q in points], np.intp)
    after = np.full(p, np.inf)
    rows: list[BandRow] = []
    pairs: list[Pair] = []
    formulas: list[Formula] = []
    known_flat = np.full(p, np.nan) if flat_s is None else flat_s
    for rule, indexes in zip(rules, covered, strict=True):
        hold, clear = rule.number("hold_s"), rule.number("clear_hold_s")
        if rule.kind == "expression":
            formulas.append(compile_formula(rule, points))
            first = DEVICE * p + len(devices) + len(gateways) + sum(len(f.anchors) for f in formulas[:-1])
            for k, i in enumerate(formulas[-1].anchors.tolist()):
                low, high, margin = _band_of_expression(rule)
                rows.append((first + k, low, high, low + margin, high - margin, hold, clear))
                pairs.append(Pair(rule, points[i]))
            continue
        for i in indexes:
            band = _band(rule, points[i], float(known_flat[i]), limits or {})
            if band is None:
                continue
            row, low, high, margin = band
            rows.append((row * p + i, low, high, low + margin, high - margin, hold, clear))
            pairs.append(Pair(rule, points[i]))
        if rule.kind == "stale":
            for i in indexes:
                after[i] = min(after[i], after_s(rule, points[i]))
            for d in sorted({int(device[i]) for i in indexes if device[i] >= 0}):
                rows.append((DEVICE * p + d, -np.inf, 1.0, -np.inf, 1.0, hold, clear))
                pairs.append(Pair(rule, None, devices[d][1]))
            touched = {devices[int(device[i])] for i in indexes if device[i] >= 0}
            for g, gateway in enumerate(gateways):
                if any((gateway.base_id, d) in touched for d in gateway.devices):
                    rows.append((DEVICE * p + len(devices) + g, -np.inf, 1.0, -np.inf, 1.0, hold, clear))
                    pairs.append(Pair(rule, None, gateway.devices[0], gateway))
    hangs = np.full(len(devices), -1, np.intp)
    for g, gateway in enumerate(gateways):
        hangs[[number[gateway.base_id, d] for d in gateway.devices if (gateway.base_id, d) in number]] = g
    return replace(_plan(p, len(devices), device, after, rows), formulas=tuple(formulas), gateway=hangs,
                   n_gateways=len(gateways)), pairs


def _plan(p: int, d: int, device: Ints, after: Floats, rows: list[BandRow]) -> Plan:
    table = np.array(rows, float).reshape(-1, 7)
    slot = table[:, 0].astype(np.intp)
    low, high, low_clear, high_clear, hold, clear = (np.ascontiguousarray(table[:, i]) for i in range(1, 7))
    by_clock = ((slot >= SILENCE * p) & (slot < FLAT * p)) | (slot >= DEVICE * p)
    return Plan(p, d, device, after, slot, by_clock, low, high, low_clear, high_clear, hold, clear, bool(np.all(slot < p)))


def after_s(rule: Rule, point: Point) -> float:
    """Silence in seconds after which a stale rule holds a point to be silent."""
    fixed = rule.optional("after_s")
    return rule.number("k") * point.expected_s if fixed is None else fixed


def limit_band(rule: Rule, point: Point, limits: Mapping[Place, Band]) -> Band | None:
    """(low, high) of a limit rule at a point: its own figures, or those of the limit in force; None: there is none."""
    if not rule.params["in_force"]:
        return _or(rule.optional("low"), -np.inf), _or(rule.optional("high"), np.inf)
    found = limits.get((point.base_id, point.point_id, rule.params["mean"]))
    if found is None:
        return None
    share = rule.number("at")
    return found[0], found[1] * share


def _or(value: float | None, missing: float) -> float:
    return missing if value is None else value


def _band_of_expression(rule: Rule) -> tuple[float, float, float]:
    """(low, high, hysteresis): a condition without figures is outside where it holds."""
    low, high = rule.optional("low"), rule.optional("high")
    if low is None and high is None:
        return -np.inf, CONDITION, 0.0
    return _or(low, -np.inf), _or(high, np.inf), rule.number("hysteresis")


def _band(rule: Rule, point: Point, flat_s: float, limits: Mapping[Place, Band]) -> tuple[int, float, float, float] | None:
    """(measure, low, high, hysteresis) of a pair; None when it is not covered."""
    if rule.kind == "limit":
        band = limit_band(rule, point, limits)
        return None if band is None else (VALUE, *band, rule.number("hysteresis"))
    if rule.kind == "rate":
        return RATE, -_or(rule.optional("fall_per_min"), np.inf), _or(rule.optional("rise_per_min"), np.inf), 0.0
    if rule.kind == "stale":
        return SILENCE, -np.inf, after_s(rule, point), 0.0
    longest = 0.0 if np.isnan(flat_s) else rule.number("margin") * flat_s
    return FLAT if rule.params["ignore_zero"] else FLAT_ANY, -np.inf, max(rule.number("for_s"), longest), 0.0
