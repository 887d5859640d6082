"""What units did over a stretch of time: runs, stands, unknown at each instant (the history of `linkage.state_of`), and when
the rules that are bound to them were in force."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

from alerts import enabling, linkage, loading
from alerts.context import Context
from alerts.enabling import UnitKey
from alerts.evaluator import Flags, Floats, Ints
from alerts.history import newest
from alerts.linkage import RUNS, STANDS, UNKNOWN, Band
from alerts.loading import NOTHING, Readings
from alerts.plant import FRESH_S, usual
from alerts.rules import Point, Rule
from alerts.store import Connection, Q
from park.quality import Quality

BETWEEN = -2
BEFORE = timedelta(hours=1)     # read ahead of a stretch: between its two thresholds a plant is as it was


@dataclass(frozen=True)
class Facility:
    """Readings of a unit: its power meters with their factor to kW, its run signals, and its band (None: not known)."""

    meters: Sequence[tuple[Readings, float]]
    signals: Sequence[Readings]
    band: Band


def states(f: Facility, when: Floats, fresh_s: float) -> Ints:
    """(len(when),) RUNS, STANDS or UNKNOWN. Power decides where there is a meter whose usual power is known; a meter that is
    silent or unusable makes the unit unknown; between the two thresholds the former state holds."""
    if not f.meters or f.band is None:
        return _signals(f.signals, when, fresh_s)
    total = np.sum([newest(r.at, _power(r) * kw, when, fresh_s) for r, kw in f.meters], axis=0)
    on, off = f.band
    code = np.where(np.isnan(total), UNKNOWN, np.where(total > on, RUNS, np.where(total < off, STANDS, BETWEEN)))
    last = np.maximum.accumulate(np.where(code != BETWEEN, np.arange(len(code)), -1))
    out: Ints = np.where(last >= 0, code[np.maximum(last, 0)], UNKNOWN).astype(np.intp)
    return out


def _signals(signals: Sequence[Readings], when: Floats, fresh_s: float) -> Ints:
    if not signals:
        return np.full(len(when), UNKNOWN, np.intp)
    values = np.array([newest(r.at, r.usable, when, fresh_s) for r in signals])
    known = ~np.isnan(values).all(axis=0)
    runs = (np.nan_to_num(values) > 0).any(axis=0)
    return np.where(known, np.where(runs, RUNS, STANDS), UNKNOWN).astype(np.intp)


def _power(r: Readings) -> Floats:
    """A meter's power; under flag F nothing shown is nothing drawn."""
    return np.where(r.quality == Quality.STOPPED, np.nan_to_num(r.value), r.usable)


def facility(places: Sequence[tuple[int, float | None]], readings: Mapping[int, Readings], points: Sequence[int],
             band: Band) -> Facility:
    """A unit's facility from the places of its points (`Context.facility`) and their readings; `points` are ids by place."""
    def of(i: int) -> Readings:
        return readings.get(points[i], NOTHING)

    return Facility([(of(i), kw) for i, kw in places if kw is not None], [of(i) for i, kw in places if kw is None], band)


class Plants:
    """The states of a base's plants over a stretch whose readings are given; worked out when a gate asks."""

    def __init__(self, context: Context, base_id: int, readings: Mapping[int, Readings],
                 learned_kw: Mapping[tuple[int, int], float]) -> None:
        self._context, self._base, self._readings = context, base_id, readings
        self._ids = [p.point_id for p in context.points]
        self._memory = linkage.Memory(learned_kw=dict(learned_kw))

    def mask(self, rule: Rule, point: Point | None, unit_id: int | None, at: Floats) -> Flags | None:
        """(T,) whether a rule was in force for a point or a unit; None: always."""
        if not enabling.is_bound(rule):
            return None
        return self.in_force(rule, plant_of(self._context, rule, point, unit_id), at)

    def in_force(self, rule: Rule, plant: UnitKey | None, at: Floats) -> Flags:
        """(T,) whether a rule that is bound to a plant (None: to the calendar alone) was in force."""
        own = self._context.calendars.own.get(self._base, {})
        out = enabling.calendar_mask(rule, at, self._context.zones[self._base], own)
        words = enabling.listed(rule, "plant")
        if words is not None:
            known = np.full(len(at), UNKNOWN) if plant is None else self.states(plant[1], None, at, FRESH_S)
            out &= np.isin(known, [code for code, word in enabling.STATES.items() if word in words])
        return out

    def states(self, unit_id: int, rule: Rule | None, at: Floats, fresh_s: float) -> Ints:
        """(T,) what a unit did, by the rule's figures or by what was learned of its meters."""
        key = (self._base, unit_id)
        places = self._context.facility.get(key, [])
        meters = [(self._ids[i], kw) for i, kw in places if kw is not None]
        band = linkage.band_of(rule or usual(self._base), self._context.units[key], meters, self._memory)
        return states(facility(places, self._readings, self._ids, band), at, fresh_s)

    def words(self, unit_id: int) -> Floats:
        """Epochs at which anything was said of a unit's facility."""
        at = [self._readings.get(p, NOTHING).at for p in points_of(self._context, (self._base, unit_id))]
        return np.concatenate(at) if at else np.empty(0)


def plant_of(context: Context, rule: Rule, point: Point | None, unit_id: int | None) -> UnitKey | None:
    """The unit whose state binds a rule about a point or a unit."""
    parents = {key: u.parent_id for key, u in context.units.items()}
    return enabling.plant_of(rule, point, unit_id, context.unit_ids, parents, context.facility)


def points_of(context: Context, plant: UnitKey | None) -> list[int]:
    """Ids of the points that tell what a plant does."""
    return [context.points[i].point_id for i, _ in context.facility.get(plant or (0, 0), [])]


def was_in_force(conn: Connection, context: Context, rule: Rule, point: Point | None, unit_id: int | None, at: Floats,
                 learned_kw: Mapping[tuple[int, int], float]) -> Flags:
    """(T,) whether a rule was in force at past epochs, by what is known of its plant today; all of them where it always is."""
    if not enabling.is_bound(rule) or not len(at):
        return np.ones(len(at), bool)
    plant = plant_of(context, rule, point, unit_id)
    readings: dict[int, Readings] = {}
    if rule.params.get("plant") is not None:
        start, end = (datetime.fromtimestamp(float(t), UTC) for t in (at.min(), at.max()))
        ids = points_of(context, plant)
        for chunk in loading.load(conn, rule.base_id, ids, start - BEFORE, end + timedelta(microseconds=1)):
            readings |= chunk
    return Plants(context, rule.base_id, readings, learned_kw).in_force(rule, plant, at)


def learned(conn: Connection) -> dict[tuple[int, int], float]:
    """Power above which a meter's facility runs (kW), as accounting learned it, by (base, point)."""
    return {(base, point): float(kw) for base, point, kw in conn.execute(Q["power_bands"]).fetchall()}
