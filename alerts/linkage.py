"""Production runs while its treatment stands: an alert on the treatment facility, after the hold.

Three-valued: a unit runs, stands, or is unknown (meter silent or unusable, no idea of its usual power). Unknown never
raises and never returns. A HJ 212 flag F (stopped) is a known standstill. Live arrays in, findings out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np

from alerts.context import Context, Unit
from alerts.explain import clock_of, duration_en, duration_zh
from alerts.finding import Finding, Key
from alerts.live import Live
from alerts.rules import Rule
from park.quality import LAST_USABLE, Quality

RUNS, STANDS, UNKNOWN = 1, 0, -1
Band = tuple[float, float] | None


@dataclass(frozen=True)
class Row:
    """Newest reading of a state or power point (kW) of a unit; never seen has age NaN."""

    is_state: bool
    value: float
    quality: int
    age_s: float


@dataclass
class Memory:
    """Since when each condition is as it is; last known state of each unit, for between the two thresholds; power above
    which a meter's facility runs (kW), learned by accounting, by (base, point)."""

    since: dict[tuple[Key, bool], float] = field(default_factory=dict)
    last: dict[tuple[int, int, int], int] = field(default_factory=dict)
    learned_kw: dict[tuple[int, int], float] = field(default_factory=dict)


@dataclass(frozen=True)
class Link:
    """A production unit and a treatment unit that must run with it."""

    production: Unit
    treatment: Unit


def placeholder(key: Key) -> Rule:
    """A rule that is no longer in the catalogue, enough to return its alerts."""
    return Rule(key[0], key[1], "", "", "low", "", "", {}, {"auto_close": False})


def links(context: Context, rule: Rule) -> list[Link]:
    """The pairs of the rule's base and scope, from `treats` of each treatment unit."""
    by_code = {(u.base_id, u.code): u for u in context.units.values()}
    wanted = [by_code[rule.base_id, c] for c in rule.scope.get("units", []) if (rule.base_id, c) in by_code]
    treatments = {u.unit_id for u in wanted if u.role == "treatment"}
    productions = {u.unit_id for u in wanted if u.role != "treatment"}
    out = []
    for t in context.units.values():
        if t.base_id != rule.base_id or t.role != "treatment":
            continue
        for code in t.attributes.get("treats", []):
            p = by_code.get((t.base_id, code))
            if p is not None and t.unit_id in (treatments or {t.unit_id}) and p.unit_id in (productions or {p.unit_id}):
                out.append(Link(p, t))
    return out


def state_of(rows: list[Row], band: Band, fresh_s: float, before: int) -> int:
    """Runs, stands or unknown from a unit's rows and its band (runs above, stands below, kW). A state point decides
    before power does; between the two thresholds the former state holds; one silent power meter makes the unit unknown."""
    fresh = [r for r in rows if r.age_s <= fresh_s]
    if any(r.quality == Quality.STOPPED for r in fresh):
        return STANDS
    usable = [r for r in fresh if r.quality <= LAST_USABLE and np.isfinite(r.value)]
    states = [r.value for r in usable if r.is_state]
    if states:
        return RUNS if any(v > 0 for v in states) else STANDS
    powers = [r.value for r in usable if not r.is_state]
    if band is None or not powers or len(powers) < sum(not r.is_state for r in rows):
        return UNKNOWN
    total = sum(powers)
    return RUNS if total > band[0] else STANDS if total < band[1] else before


def band_of(rule: Rule, unit: Unit, points: list[tuple[int, float]], memory: Memory) -> Band:
    """(runs above, stands below) in kW: the rule's own figure, else what accounting learned of each of its meters."""
    if unit.role == "treatment":
        off = rule.optional("treatment_off_kw")
        if off is not None:
            return 1.1 * off, off
    elif (on := rule.optional("production_on_kw")) is not None:
        return on, 0.9 * on
    learned = [memory.learned_kw.get((unit.base_id, point)) for point, _ in points]
    if not learned or any(v is None for v in learned):
        return None
    total = sum(v for v in learned if v is not None)
    return total, 0.8 * total


def judge(context: Context, live: Live, memory: Memory, now: datetime) -> list[Finding]:
    """Findings of every linkage rule: present after hold_s, gone after clear_hold_s, unknown says nothing."""
    return [f for rule in context.of_kind("linkage") for f in _judge_rule(context, rule, live, memory, now)]


def _judge_rule(context: Context, rule: Rule, live: Live, memory: Memory, now: datetime) -> list[Finding]:
    worst: dict[int, tuple[int, Link]] = {}
    for link in links(context, rule):
        p, t = (_remembered(context, rule, u, live, memory, now) for u in (link.production, link.treatment))
        verdict = UNKNOWN if UNKNOWN in (p, t) else int(p == RUNS and t == STANDS)
        if p == STANDS or t == RUNS:
            verdict = 0         # one known half suffices to know that all is well
        if link.treatment.unit_id not in worst or verdict > worst[link.treatment.unit_id][0]:
            worst[link.treatment.unit_id] = verdict, link
    out = []
    for unit_id, (verdict, link) in worst.items():
        key: Key = (rule.base_id, rule.rule_id, None, unit_id, None)
        if verdict == UNKNOWN:
            continue
        present = verdict == 1
        memory.since.pop((key, not present), None)
        since = memory.since.setdefault((key, present), now.timestamp())
        if now.timestamp() - since >= rule.number("hold_s" if present else "clear_hold_s"):
            out.append(Finding(rule, present, now, unit_id=unit_id, channel="production_on_treatment_off",
                               explanation=_explain(context, rule, link, since) if present else {}))
    return out


def _remembered(context: Context, rule: Rule, unit: Unit, live: Live, memory: Memory, now: datetime) -> int:
    key = (rule.rule_id, unit.base_id, unit.unit_id)
    places = context.facility.get((unit.base_id, unit.unit_id), [])
    rows = [Row(kw is None, float(live.value[i]) * (kw or 1.0), int(live.quality[i]), now.timestamp() - float(live.at[i]))
            for i, kw in places]
    meters = [(context.points[i].point_id, kw) for i, kw in places if kw is not None]
    state = state_of(rows, band_of(rule, unit, meters, memory), rule.number("fresh_s"), memory.last.get(key, UNKNOWN))
    memory.last[key] = state
    return state


def _explain(context: Context, rule: Rule, link: Link, since: float) -> dict[str, Any]:
    p, t = link.production, link.treatment
    began = datetime.fromtimestamp(since, UTC)
    at, hold = clock_of(began, context.zones[rule.base_id]), rule.number("hold_s")
    return {
        "zh": f"{p.name_zh}正在生产,而治理设施{t.name_zh}停运,自 {at} 起已超过 {duration_zh(hold)}。",
        "en": f"{p.name_en} is producing while its treatment {t.name_en} stands, since {at}, "
              f"for more than {duration_en(hold)}.",
        "since": began.isoformat(), "contributor": {"production": p.code, "treatment": t.code},
    }
