"""Production runs while its treatment stands: an alert on the treatment facility, after the hold.

Three-valued: a unit runs, stands, or is unknown (meter silent or unusable, no idea of its usual power). Unknown never
raises and never returns. A HJ 212 flag F (stopped) is a known standstill. Live arrays in, findings out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np

from alerts.context import Context, Unit
from alerts.explain import clock_of, duration_en, duration_zh, figure
from alerts.finding import Finding, Key
from alerts.live import Live
from alerts.rules import Rule
from park.quality import LAST_USABLE, Quality

RUNS, STANDS, UNKNOWN = 1, 0, -1


@dataclass
class Memory:
    """Since when a pair's condition differs from its alert; last known state of each unit (between the two thresholds);
    usual power of each unit (kW), learned from its own history."""

    since: dict[tuple[Key, bool], float] = field(default_factory=dict)
    last: dict[tuple[int, int, int], int] = field(default_factory=dict)
    usual_kw: dict[tuple[int, int], float] = field(default_factory=dict)


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
    wanted = rule.scope.get("units")
    out = []
    for t in context.units.values():
        if t.base_id != rule.base_id or t.role != "treatment":
            continue
        for code in t.attributes.get("treats", []):
            p = by_code.get((t.base_id, code))
            if p is not None and (not wanted or t.code in wanted or p.code in wanted):
                out.append(Link(p, t))
    return out


def state_of(rule: Rule, rows: list[tuple[str, float, int, float]], rated_kw: float | None, before: int) -> int:
    """Runs, stands or unknown from a unit's (kind, value, quality, age) rows. A state point decides before power does;
    between the two thresholds of power the former state holds."""
    fresh = [(kind, value, quality) for kind, value, quality, age in rows if age <= rule.number("fresh_s")]
    if any(quality == Quality.STOPPED for _, _, quality in fresh):
        return STANDS
    usable = [(kind, value) for kind, value, quality in fresh if quality <= LAST_USABLE and np.isfinite(value)]
    states = [value for kind, value in usable if kind == "state"]
    if states:
        return RUNS if any(v > 0 for v in states) else STANDS
    powers = [value for kind, value in usable if kind == "power"]
    on, off = _thresholds(rule, rated_kw)
    if not powers or len(powers) < sum(kind == "power" for kind, *_ in rows) or on is None or off is None:
        return UNKNOWN
    total = sum(powers)
    return RUNS if total > on else STANDS if total < off else before


def _thresholds(rule: Rule, rated_kw: float | None) -> tuple[float | None, float | None]:
    on, off = rule.optional("on_above"), rule.optional("off_below")
    if on is None and rated_kw is not None:
        on = rule.number("on_share") * rated_kw
    if off is None and rated_kw is not None:
        off = rule.number("off_share") * rated_kw
    return on, off


def judge(context: Context, live: Live, memory: Memory, now: datetime) -> list[Finding]:
    """Findings of every linkage rule: present after hold_s, gone after clear_hold_s, unknown says nothing."""
    rules = context.of_kind("linkage")
    if not rules:
        return []
    rows = _rows(context, live, now)
    return [f for rule in rules for f in _judge_rule(context, rule, rows, memory, now)]


def _judge_rule(context: Context, rule: Rule, rows: Mapping[tuple[int, int], list[tuple[str, float, int, float]]],
                memory: Memory, now: datetime) -> list[Finding]:
    worst: dict[int, tuple[int, Link]] = {}
    for link in links(context, rule):
        p, t = (_remembered(rule, u, rows, memory) for u in (link.production, link.treatment))
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


def _remembered(rule: Rule, unit: Unit, rows: Mapping[tuple[int, int], list[tuple[str, float, int, float]]],
                memory: Memory) -> int:
    key = (rule.rule_id, unit.base_id, unit.unit_id)
    rated = unit.attributes.get("rated_kw", memory.usual_kw.get((unit.base_id, unit.unit_id)))
    state = state_of(rule, rows.get((unit.base_id, unit.unit_id), []), rated, memory.last.get(key, UNKNOWN))
    memory.last[key] = state
    return state


def _rows(context: Context, live: Live, now: datetime) -> dict[tuple[int, int], list[tuple[str, float, int, float]]]:
    """(kind, value, quality, age) of the state and power points of each unit."""
    out: dict[tuple[int, int], list[tuple[str, float, int, float]]] = {}
    for i, p in enumerate(context.points):
        kind = "state" if p.kind == "state" else "power" if p.quantity == "active_power" else ""
        if kind and p.unit_id is not None:
            age = now.timestamp() - live.at[i] if np.isfinite(live.at[i]) else np.inf
            out.setdefault((p.base_id, p.unit_id), []).append((kind, float(live.value[i]), int(live.quality[i]), float(age)))
    return out


def _explain(context: Context, rule: Rule, link: Link, since: float) -> dict[str, Any]:
    p, t = link.production, link.treatment
    began = datetime.fromtimestamp(since, UTC)
    at, hold = clock_of(began, context.zones[rule.base_id]), rule.number("hold_s")
    return {
        "zh": f"{p.name_zh}正在生产,而治理设施{t.name_zh}停运,自 {at} 起已超过 {duration_zh(hold)}。",
        "en": f"{p.name_en} is producing while its treatment {t.name_en} stands, since {at}, "
              f"for more than {duration_en(hold)}.",
        "since": began.isoformat(), "contributor": {"production": p.code, "treatment": t.code},
        "thresholds": {"on_share": figure(rule.number("on_share")), "off_share": figure(rule.number("off_share"))},
    }
