"""Production runs while its treatment stands: an alert on the treatment facility, after the hold.

Three-valued: a unit runs, stands, or is unknown (meter silent or unusable, no idea of its usual power). Unknown never
raises and never returns. Where a unit has a meter, its power decides: a run signal (a state point, or the HJ 212 flag F)
is wired by those who are watched, and counts only where there is no power to judge by. A signal that its power
contradicts for longer than the hold is a finding of its own, about the signal's point. Live arrays in, findings out.
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
    point_id: int = 0


@dataclass(frozen=True)
class Judged:
    """What a unit does (runs, stands, unknown), and what its run signal and its power each say; `signal_point` is the point
    that gives the signal, `between`: power lies between the two thresholds and says nothing about the signal."""

    state: int
    signal: int = UNKNOWN
    power: int = UNKNOWN
    signal_point: int = 0
    between: bool = False

    @property
    def contradiction(self) -> bool | None:
        """Whether signal and power disagree; None: one of them is unknown."""
        if UNKNOWN in (self.signal, self.power) or self.between:
            return None
        return self.signal != self.power


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


def state_of(rows: list[Row], band: Band, fresh_s: float, before: int) -> Judged:
    """Runs, stands or unknown from a unit's rows and its band (runs above, stands below, kW). Between the two thresholds
    the former state holds; one silent power meter makes the unit unknown, whatever its signal says."""
    fresh = [r for r in rows if r.age_s <= fresh_s]
    signal, point = _signal(fresh)
    meters = [r for r in rows if not r.is_state]
    if not meters or (band is None and not _flagged(meters)):
        return Judged(signal, signal, UNKNOWN, point)
    powers = [_power(r) for r in fresh if not r.is_state]
    known = [v for v in powers if v is not None]
    if len(known) < len(meters):
        return Judged(UNKNOWN, signal, UNKNOWN, point)
    total = sum(known)
    if band is None:        # every meter says that its source is stopped, and shows nothing else
        power = STANDS if total <= 0 else UNKNOWN
        return Judged(power, signal, power, point)
    power = RUNS if total > band[0] else STANDS if total < band[1] else before
    return Judged(power, signal, power, point, band[1] <= total <= band[0])


def _signal(fresh: list[Row]) -> tuple[int, int]:
    """(what the signal says, its point): flag F stands, a state point says itself; one that runs is enough."""
    stopped = [r for r in fresh if r.quality == Quality.STOPPED]
    if stopped:
        return STANDS, stopped[0].point_id
    states = [r for r in fresh if r.is_state and r.quality <= LAST_USABLE and np.isfinite(r.value)]
    running = [r for r in states if r.value > 0]
    if not states:
        return UNKNOWN, 0
    return (RUNS, running[0].point_id) if running else (STANDS, states[0].point_id)


def _flagged(meters: list[Row]) -> bool:
    return all(r.quality == Quality.STOPPED for r in meters)


def _power(r: Row) -> float | None:
    """kW of a meter; under flag F what it shows all the same, and nothing shown is nothing drawn; None: unusable."""
    if r.quality == Quality.STOPPED:
        return r.value if np.isfinite(r.value) else 0.0
    return r.value if r.quality <= LAST_USABLE and np.isfinite(r.value) else None


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
    pairs = links(context, rule)
    units = {u.unit_id: u for link in pairs for u in (link.production, link.treatment)}
    judged = {i: judge_unit(context, rule, u, live, memory, now) for i, u in units.items()}
    worst: dict[int, tuple[int, Link]] = {}
    for link in pairs:
        p, t = judged[link.production.unit_id].state, judged[link.treatment.unit_id].state
        verdict = UNKNOWN if UNKNOWN in (p, t) else int(p == RUNS and t == STANDS)
        if p == STANDS or t == RUNS:
            verdict = 0         # one known half suffices to know that all is well
        if link.treatment.unit_id not in worst or verdict > worst[link.treatment.unit_id][0]:
            worst[link.treatment.unit_id] = verdict, link
    out = []
    for unit_id, (verdict, link) in worst.items():
        since = _held(rule, (rule.base_id, rule.rule_id, None, unit_id, None), verdict, memory, now)
        if since is not None:
            text = explain(context, rule, link, since, judged[unit_id]) if verdict else {}
            out.append(Finding(rule, verdict == 1, now, unit_id=unit_id, channel="production_on_treatment_off",
                               explanation=text))
    return out + [f for i, j in judged.items() for f in _contradicted(context, rule, units[i], j, memory, now)]


def _contradicted(context: Context, rule: Rule, unit: Unit, j: Judged, memory: Memory, now: datetime) -> list[Finding]:
    """The unit's signal against its power, an alert about the point that gives the signal. A signal that denies what runs
    hides nothing: at most medium. One that claims a run without power is as grave as its rule."""
    verdict = UNKNOWN if j.contradiction is None else int(j.contradiction)
    key = (rule.base_id, rule.rule_id, j.signal_point, unit.unit_id, None)
    since = _held(rule, key, verdict, memory, now)
    if since is None:
        return []
    text = _explain_contradiction(context, rule, unit, j, since) if verdict else {}
    severity = "medium" if j.signal == STANDS and rule.severity in ("critical", "high") else rule.severity
    return [Finding(rule, verdict == 1, now, point_id=j.signal_point, unit_id=unit.unit_id, channel="signal_power_disagree",
                    severity=severity, explanation=text)]


def _held(rule: Rule, key: Key, verdict: int, memory: Memory, now: datetime) -> float | None:
    """Since when the verdict about the key stands, once it has stood for its hold; None: not yet, or unknown."""
    if verdict == UNKNOWN:
        return None
    present = verdict == 1
    memory.since.pop((key, not present), None)
    since = memory.since.setdefault((key, present), now.timestamp())
    return since if now.timestamp() - since >= rule.number("hold_s" if present else "clear_hold_s") else None


def judge_unit(context: Context, rule: Rule, unit: Unit, live: Live, memory: Memory, now: datetime) -> Judged:
    """What a unit does now, by the rule's figures or what was learned of its meters."""
    key = (rule.rule_id, unit.base_id, unit.unit_id)
    places = context.facility.get((unit.base_id, unit.unit_id), [])
    rows = [Row(kw is None, float(live.value[i]) * (kw or 1.0), int(live.quality[i]), now.timestamp() - float(live.at[i]),
                context.points[i].point_id) for i, kw in places]
    meters = [(context.points[i].point_id, kw) for i, kw in places if kw is not None]
    judged = state_of(rows, band_of(rule, unit, meters, memory), rule.number("fresh_s"), memory.last.get(key, UNKNOWN))
    memory.last[key] = judged.state
    return judged


def explain(context: Context, rule: Rule, link: Link, since: float, treatment: Judged) -> dict[str, Any]:
    """Explanation of production that runs while its treatment stands, since an epoch."""
    p, t = link.production, link.treatment
    began = datetime.fromtimestamp(since, UTC)
    at, hold = clock_of(began, context.zones[rule.base_id]), rule.number("hold_s")
    zh = f"{p.name_zh}正在生产,而治理设施{t.name_zh}停运,自 {at} 起已超过 {duration_zh(hold)}。"
    en = (f"{p.name_en} is producing while its treatment {t.name_en} stands, since {at}, "
          f"for more than {duration_en(hold)}.")
    if treatment.contradiction:
        zh += "其运行信号却显示运行:信号与功率不符。"
        en += " Its run signal says that it runs: signal and power disagree."
    seen = sorted(context.facility.get((t.base_id, t.unit_id), []), key=lambda place: place[1] is None)     # power first
    return {"zh": zh, "en": en, "since": began.isoformat(), "contributor": {"production": p.code, "treatment": t.code},
            "chart": context.points[seen[0][0]].code if seen else None}


def _explain_contradiction(context: Context, rule: Rule, unit: Unit, j: Judged, since: float) -> dict[str, Any]:
    began = datetime.fromtimestamp(since, UTC)
    at, hold = clock_of(began, context.zones[rule.base_id]), rule.number("hold_s")
    says = ("运行", "停运", "runs", "stands") if j.signal == RUNS else ("停运", "运行", "stands", "runs")
    point = context.points[context.index[unit.base_id, j.signal_point]].code
    return {
        "zh": f"{unit.name_zh}信号与功率不符:运行信号({point})显示{says[0]},功率显示{says[1]},"
              f"自 {at} 起已超过 {duration_zh(hold)}。以功率为准。",
        "en": f"{unit.name_en}: signal and power disagree: the run signal ({point}) says that it {says[2]}, its power that it "
              f"{says[3]}, since {at}, for more than {duration_en(hold)}. Power decides.",
        "since": began.isoformat(), "contributor": {"unit": unit.code, "signal": point},
    }
