"""The newest value of every point as dense arrays, and the memory of the instant rules over a restart."""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from alerts import explain
from alerts.context import Context
from alerts.evaluator import DEVICE, FLAT, SILENCE, Flags, Floats, Gateway, Ints, Pair, State, fresh
from alerts.finding import Finding, Key
from alerts.hearing import LIVE_S, Hearing
from alerts.holds import Holds
from alerts.store import Connection, Q, pack, unpack
from park.quality import LAST_USABLE, Quality

if TYPE_CHECKING:
    from alerts import linkage  # which reads what is live

log = logging.getLogger("park.alerts")
OVERLAP = timedelta(seconds=5)      # batches commit in another order than they arrive
AHEAD_S = 60.0      # a reading that claims to be from later than this counts as of when it was read: its clock was wrong
POINT_ARRAYS = ("value", "at", "rate", "flat_since")
PAIR_ARRAYS = ("since", "raises", "raised_at")


@dataclass
class Live:
    """(P,) newest value, quality code and epoch of each point; NaN: never seen. `said` is the epoch that the reading itself
    claims, which may lie ahead of the clock; `seen_to` is the newest arrival read;
    `news_at` the newest epoch that the last refresh brought (a reading's, or a collector's word about its devices)."""

    value: Floats
    quality: NDArray[np.int16]
    at: Floats
    said: Floats
    fed: Flags          # whether a reading of the point ever came while it was news, and not by an import
    seen_to: datetime = datetime(1970, 1, 2, tzinfo=UTC)
    news_at: float = np.nan
    health_at: float = -np.inf


def empty(n_points: int) -> Live:
    """Before the first reading."""
    def unknown() -> Floats:
        return np.full(n_points, np.nan)
    return Live(unknown(), np.full(n_points, Quality.MISSING, np.int16), unknown(), unknown(), np.zeros(n_points, bool))


def refresh(conn: Connection, context: Context, live: Live, now: float) -> int:
    """Take the readings that arrived since the last call; returns how many rows were newer than what was known."""
    row = conn.execute(Q["database_now"]).fetchone()
    assert row is not None
    rows = conn.execute(Q["latest"], {"since": live.seen_to - OVERLAP}).fetchall()
    live.seen_to, health = row
    live.news_at = float(health) if health is not None and health != live.health_at else np.nan
    live.health_at = -np.inf if health is None else float(health)
    known = [(context.index[r[0], r[1]], r) for r in rows if (r[0], r[1]) in context.index]
    if not known:
        return 0
    where = np.array([i for i, _ in known], np.intp)
    said = np.array([r[2] for _, r in known], float)
    at = np.where(said == live.said[where], live.at[where], np.where(said > now + AHEAD_S, now, said))
    new = ~(at <= live.at[where])
    news = int(np.count_nonzero(new))
    live.news_at = float(np.fmax(live.news_at, np.max(at[new], initial=-np.inf)))
    live.value[where] = np.array([r[3] for _, r in known], float)      # None becomes NaN
    live.at[where], live.said[where] = at, said
    live.fed[where] |= np.array([r[5] for _, r in known], float) <= LIVE_S
    live.quality[where] = np.array([r[4] for _, r in known], np.int16)
    return news


def quiet(context: Context, state: State, live: Live, hearing: Hearing, now: float, offline: set[tuple[int, int]]) -> Floats:
    """(P,) seconds that each point has been silent while something else was heard; what is silent already stays so. A point
    never seen is silent for as long as was listened, where a stale rule wants that and it must send. A device that its
    collector calls offline makes its points silent at once. What is only imported is never silent."""
    heard = np.clip(hearing.at - live.at, 0.0, hearing.listened_s) if not np.isnan(hearing.at) else live.at * 0.0
    out = np.where(_silent(state), now - live.at, heard)
    if any(r.kind == "stale" and r.params["unseen"] for r in context.rules):
        out = np.where(np.isnan(out), hearing.listened_s, out)
    out = np.where(context.must_send | live.fed, out, 0.0)
    after = context.plan.after_s
    for i, p in enumerate(context.points) if offline else ():
        if p.device_id is not None and (p.base_id, p.device_id) in offline and np.isfinite(after[i]):
            out[i] = max(out[i], after[i] * 1.001)
    return out


def _silent(state: State) -> Flags:
    """(P,) whether the point, or the device that it hangs on, has an active alert of silence."""
    plan = state.plan
    active = plan.slot[state.active]
    points = np.zeros(plan.n_points, bool)
    points[active[(active >= SILENCE * plan.n_points) & (active < FLAT * plan.n_points)] - SILENCE * plan.n_points] = True
    wide = active[active >= plan.wide] - plan.wide
    devices = np.zeros(plan.n_devices + 1, bool)
    devices[wide[wide < plan.n_devices]] = True
    gateways = np.zeros(plan.n_gateways + 1, bool)
    gateways[wide[(wide >= plan.n_devices) & (wide < plan.n_devices + plan.n_gateways)] - plan.n_devices] = True
    devices[:-1] |= gateways[plan.gateway] if plan.n_gateways else False
    devices[-1] = False         # -1: no device
    return points | devices[plan.device]


def snapshot(context: Context, state: State, links: linkage.Memory, holds: Holds) -> bytes:
    """The state with the keys of its rows, so that it fits again after the catalogue changed; holds that have begun."""
    points = np.array([(p.base_id, p.point_id) for p in context.points], np.int64).reshape(-1, 2)
    pairs = np.array([_numbers(pair_key(pair)) for pair in context.pairs], np.int64).reshape(-1, 5)
    arrays = {name: getattr(state, name) for name in (*POINT_ARRAYS, *PAIR_ARRAYS)}
    since = [(*_numbers(key), present, at) for memory in (links.since, holds.since) for (key, present), at in memory.items()]
    last = [(*unit, known) for unit, known in links.last.items()]
    return pack({"points": points, "pairs": pairs, "active": state.active, **arrays,
                 "holds": np.array(since, float).reshape(-1, 7), "units": np.array(last, np.int64).reshape(-1, 4)})


def restore_holds(stored: bytes, links: linkage.Memory, holds: Holds, now: float) -> None:
    """Holds that had begun when the snapshot was taken, and what each unit did; keys of a rule are found by its own judge."""
    old = _read(stored)
    for *key, present, at in old.get("holds", np.empty((0, 7))).tolist():
        base, rule, point, unit, device = (int(n) for n in key)
        at_key = (base, rule, point or None, unit or None, device or None), bool(present)
        links.since[at_key] = holds.since[at_key] = min(at, now)
    for *unit_key, known in old.get("units", np.empty((0, 4), np.int64)).tolist():
        links.last[unit_key[0], unit_key[1], unit_key[2]] = known


def _read(stored: bytes | None) -> dict[str, Any]:
    """The arrays of a snapshot; nothing where there is none, or none that can be read."""
    try:
        return {} if not stored else unpack(stored)
    except (ValueError, OSError, KeyError, zipfile.BadZipFile) as exc:
        log.warning("the evaluator's memory cannot be read, it begins anew: %s", exc)
        return {}


def restore(context: Context, stored: bytes | None, open_now: dict[Key, tuple[bool, str]], now: float) -> State:
    """The state of a new process or a new catalogue: memory from the snapshot, what is active from the open alerts. Instants
    after `now` are those of a clock that has been set back."""
    state = fresh(context.plan)
    arrays: dict[str, Any] = {name: getattr(state, name).copy() for name in (*POINT_ARRAYS, *PAIR_ARRAYS)}
    if old := _read(stored):
        where = {tuple(k): i for i, k in enumerate(old["points"].tolist())}
        _carry(arrays, old, POINT_ARRAYS, [where.get((p.base_id, p.point_id)) for p in context.points])
        where = {tuple(k): i for i, k in enumerate(old["pairs"].tolist())}
        _carry(arrays, old, PAIR_ARRAYS, [where.get(_numbers(pair_key(pair))) for pair in context.pairs])
    ahead = np.fmax(arrays["at"], arrays["flat_since"]) > now + AHEAD_S
    for name in POINT_ARRAYS:
        arrays[name][ahead] = np.nan
    arrays["raised_at"] = np.minimum(arrays["raised_at"], now)
    arrays["since"] = np.where(context.plan.by_clock, np.minimum(arrays["since"], now), arrays["since"])
    active = np.array([open_now.get(pair_key(pair), (False, ""))[0] for pair in context.pairs], bool)
    plan = context.plan
    return replace(state, **arrays, active=active, low=np.where(active, plan.low_clear, plan.low),
                   high=np.where(active, plan.high_clear, plan.high))


def _carry(arrays: dict[str, Any], old: dict[str, Any], names: tuple[str, ...], rows: list[int | None]) -> None:
    here = [i for i, j in enumerate(rows) if j is not None]
    there = [j for j in rows if j is not None]
    for name in names:
        arrays[name][here] = old[name][there]


def pair_key(pair: Pair) -> Key:
    """The key of the alert that a pair raises."""
    point = pair.point.point_id if pair.point else None
    unit = pair.gateway.unit_id if pair.gateway else None       # so that it is not the alert of its first device
    return pair.rule.base_id, pair.rule.rule_id, point, unit, pair.device_id


def _numbers(key: Key) -> tuple[int, int, int, int, int]:
    return key[0], key[1], key[2] or 0, key[3] or 0, key[4] or 0


def findings(context: Context, before: State, state: State, live: Live, raised: Ints, returned: Ints,
             now: datetime) -> list[Finding]:
    """What the tick found, with its explanation."""
    return [_raised(context, before, state, live, int(i), now) for i in raised] + [
        Finding(context.pairs[i].rule, False, now, *_object(context.pairs[i])) for i in returned]


def _object(pair: Pair) -> tuple[int | None, int | None, int | None]:
    return pair_key(pair)[2:]


def _raised(context: Context, before: State, state: State, live: Live, i: int, now: datetime) -> Finding:
    pair, plan = context.pairs[i], context.plan
    zone = context.zones[pair.rule.base_id]
    if pair.gateway is not None:
        return _gateway(context, pair, pair.gateway, live, now)
    if pair.point is None:
        return _device(context, pair, live, now)
    if plan.slot[i] >= DEVICE * plan.n_points:
        return _expression(context, before, live, i, now)
    j = int(plan.slot[i]) % plan.n_points
    kind = int(plan.slot[i]) // plan.n_points
    low, high = plan.low[i], plan.high[i]
    silent = now.timestamp() - live.at[j]
    value = (live.value[j], state.rate[j], silent, state.at[j] - state.flat_since[j], state.at[j] - state.flat_since[j])[kind]
    held = live.at[j] if np.isnan(before.since[i]) else before.since[i]
    began = (held, held, live.at[j], state.flat_since[j], state.flat_since[j])[kind]
    since = datetime.fromtimestamp(began, UTC) if np.isfinite(began) else now
    unit = (pair.point.unit, f"{pair.point.unit}/min", "s", "s", "s")[kind]
    text = explain.of_point(pair.rule, pair.point, value, _bound(low), _bound(high), since, zone)
    return Finding(pair.rule, True, now, point_id=pair.point.point_id, value=value, low=low, high=high, unit=unit,
                   explanation=text)


def _device(context: Context, pair: Pair, live: Live, now: datetime) -> Finding:
    """A device all of whose points are silent."""
    of = [j for j, p in enumerate(context.points) if p.base_id == pair.rule.base_id and p.device_id == pair.device_id]
    code = context.devices.get((pair.rule.base_id, pair.device_id or 0), str(pair.device_id))
    silence = _silence(context, live, of, now)
    text = explain.of_device(code, len(of), silence.last, context.zones[pair.rule.base_id])
    return silence.finding(pair, "device_offline", text, now)


def _gateway(context: Context, pair: Pair, gateway: Gateway, live: Live, now: datetime) -> Finding:
    """A connection all of whose devices are silent."""
    of = [j for j, p in enumerate(context.points) if p.base_id == gateway.base_id and p.device_id in gateway.devices]
    silence = _silence(context, live, of, now)
    text = explain.of_gateway(gateway.name, len(gateway.devices), len(of), silence.last, context.zones[gateway.base_id])
    return silence.finding(pair, "gateway_offline", text, now)


@dataclass(frozen=True)
class Silence:
    """Of several points: the last reading and the point that sent it (its first point where none ever did), and what of the
    silence that this point is allowed."""

    last: datetime | None
    point: str | None
    allowed_s: float | None

    def finding(self, pair: Pair, channel: str, text: Mapping[str, Any], now: datetime) -> Finding:
        silent_s = None if self.last is None else (now - self.last).total_seconds()
        since = {} if self.last is not None else {"since": now.isoformat()}     # never heard: found now
        return Finding(pair.rule, True, now, *_object(pair), value=silent_s, high=self.allowed_s, unit="s", channel=channel,
                       explanation={**text, **since, "chart": self.point})


def _silence(context: Context, live: Live, of: list[int], now: datetime) -> Silence:
    at = np.where(np.isnan(live.at[of]), -np.inf, live.at[of])
    newest = of[int(np.argmax(at))] if of else None
    if newest is None:
        return Silence(None, None, None)
    heard = np.isfinite(live.at[newest])
    return Silence(datetime.fromtimestamp(live.at[newest], UTC) if heard else None, context.points[newest].code,
                   _bound(context.plan.after_s[newest]))


def _expression(context: Context, before: State, live: Live, i: int, now: datetime) -> Finding:
    """An expression rule's finding: what it came to, and the value of each of its names."""
    pair, plan = context.pairs[i], context.plan
    k = int(plan.slot[i]) - plan.wide - plan.n_devices - plan.n_gateways
    formula = plan.formulas[0]
    for formula in plan.formulas:
        if k < len(formula.anchors):
            break
        k -= len(formula.anchors)
    ages = now.timestamp() - live.at
    usable = np.where(live.quality <= LAST_USABLE, live.value, np.nan)
    known = {name: float(v[k]) for name, v in formula.values(usable, ages).items()}
    figures = [(name, known[name], context.points[int(at[k])]) for name, at in formula.places.items()]
    value = float(formula.evaluate(usable, ages)[k])
    since = datetime.fromtimestamp(before.since[i], UTC) if np.isfinite(before.since[i]) else now
    assert pair.point is not None
    low, high = _bound(plan.low[i]), _bound(plan.high[i])
    text = explain.of_expression(pair.rule, pair.point, value, low, high, figures, since, context.zones[pair.rule.base_id])
    condition = pair.rule.params["high"] is None and pair.rule.params["low"] is None
    return Finding(pair.rule, True, now, point_id=pair.point.point_id, value=None if condition else value,
                   low=None if condition else low, high=None if condition else high, explanation=text)


def _bound(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
