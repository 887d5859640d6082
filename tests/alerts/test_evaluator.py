"""The instant rules as pure arithmetic: hysteresis, hold, stale, stuck, rate, chatter; the same as a plain loop says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from alerts.evaluator import Gateway, Pair, Plan, State, compile_rules, fresh, tick
from alerts.rules import Point, Rule, check, covers, table


def rule(kind: str, scope: dict[str, Any] | None = None, **params: Any) -> Rule:
    row = {"base_id": 1, "rule_id": 1, "code": "r", "kind": kind, "severity": "high", "name_zh": "", "name_en": "",
           "scope": scope or {}, "params": params}
    rules, mistakes = check([row], [], {1: []})
    assert not mistakes, mistakes
    return rules[0]


def point(i: int, device: int | None = None, expected_s: float = 10, **more: Any) -> Point:
    fields = {"quantity": "so2", "unit": "mg/m3", "kind": "gauge", "carrier": None, "unit_id": None, "unit_code": None,
              "role": None, "enterprise": None} | more
    return Point(1, i, f"p{i}", "", "", device_id=device, expected_s=expected_s, **fields)


def plan_of(rules: Sequence[Rule], points: Sequence[Point], flat_s: float = np.nan) -> tuple[Plan, list[Pair]]:
    return compile_rules(rules, points, [list(range(len(points)))] * len(rules), np.full(len(points), flat_s))


def run(state: State, series: Sequence[float | None], step_s: float = 10, quality: int = 0, start: float = 1000.0) -> list[str]:
    """What happens to the only pair over a series of one point, a reading each step; None: no new reading."""
    events, at, value = [], np.nan, np.nan
    for i, v in enumerate(series):
        now = start + i * step_s
        if v is not None:
            at, value = now, v
        state, raised, returned = tick(state, np.array([value]), np.array([quality]), np.array([now - at]), now)
        events.append("raise" if len(raised) else "return" if len(returned) else "")
    return events


@pytest.mark.parametrize(("params", "series", "events"), [
    ({"high": 35}, [34, 36, 36, 34], ["", "raise", "", "return"]),
    ({"high": 35}, [35, 35], ["", ""]),
    ({"high": 35, "hysteresis": 2}, [36, 34, 33.5, 32.9], ["raise", "", "", "return"]),
    ({"low": 6, "high": 9}, [7, 5, 7, 9.5, 7], ["", "raise", "return", "raise", "return"]),
    ({"high": 35, "hold_s": 20}, [36, 36, 36, 30], ["", "", "raise", "return"]),
    ({"high": 35, "hold_s": 20}, [36, 36, 30, 36, 36, 36], ["", "", "", "", "", "raise"]),
    ({"high": 35, "clear_hold_s": 20}, [36, 30, 36, 30, 30, 30], ["raise", "", "", "", "", "return"]),
    ({"high": 35}, [36, float("nan"), float("nan"), 30], ["raise", "", "", "return"]),
    ({"high": 35, "hold_s": 20}, [36, float("nan"), 36], ["", "", "raise"]),
    ({"high": 35, "hold_s": 20}, [36, None, None, None], ["", "", "", ""]),
])
def test_a_limit_has_hysteresis_and_hold_and_a_missing_value_says_nothing(
        params: dict[str, Any], series: list[float | None], events: list[str]) -> None:
    plan, _ = plan_of([rule("limit", **params)], [point(1)])
    assert run(fresh(plan), series) == events


@pytest.mark.parametrize("quality", [10, 13, 17])
def test_an_unusable_value_neither_raises_nor_returns(quality: int) -> None:
    plan, _ = plan_of([rule("limit", high=35)], [point(1)])
    assert run(fresh(plan), [99, 99, 1], quality=quality) == ["", "", ""]


def test_a_rate_of_change_counts_a_minute_whatever_the_step() -> None:
    plan, _ = plan_of([rule("rate", rise_per_min=60, fall_per_min=30)], [point(1)])
    assert run(fresh(plan), [0, 9, 20, 21, 15]) == ["", "", "raise", "return", "raise"]


def test_a_flat_line_is_stuck_only_beyond_its_own_history_and_zero_is_a_standstill() -> None:
    plan, _ = plan_of([rule("stuck", for_s=30, margin=1.5)], [point(1)], flat_s=40)
    assert run(fresh(plan), [5] * 9) == [""] * 7 + ["raise", ""]
    assert run(fresh(plan), [0] * 12) == [""] * 12
    plan, _ = plan_of([rule("stuck", for_s=30, ignore_zero=False)], [point(1)])
    assert run(fresh(plan), [0] * 6) == ["", "", "", "", "raise", ""]


def test_a_silent_point_is_stale_and_a_dead_device_is_one_alert_instead_of_one_a_point() -> None:
    points = [point(i, device=7) for i in range(1, 4)] + [point(4)]
    plan, pairs = plan_of([rule("stale", k=3)], points)
    state, codes = fresh(plan), [p.point.code if p.point else f"d{p.device_id}" for p in pairs]
    assert codes == ["p1", "p2", "p3", "p4", "d7"]

    def judge(ages: list[float], now: float) -> tuple[list[str], list[str]]:
        nonlocal state
        state, raised, returned = tick(state, np.ones(4), np.zeros(4, int), np.array(ages, float), now)
        return [codes[i] for i in raised], [codes[i] for i in returned]

    assert judge([1, 2, 3, 4], 0) == ([], [])
    assert judge([1, 45, 3, 4], 40) == (["p2"], [])               # the device lives, one point does not
    assert judge([41, 85, 43, 44], 80) == (["p4", "d7"], [])      # all its points: the device, once
    assert judge([1, 125, 2, 3], 120) == ([], ["p4", "d7"])
    assert judge([1, 1, 2, 3], 121) == ([], ["p2"])


def test_chatter_is_held_until_it_is_calm() -> None:
    plan, _ = plan_of([rule("limit", high=35)], [point(1)])
    events = run(fresh(plan), [36, 30] * 20 + [30] * 65)
    assert events.count("raise") == 5           # of 20
    assert [e for e in events if e][-1] == "return"


def test_a_thousand_pairs_at_once_say_what_a_plain_loop_says() -> None:
    rng = np.random.default_rng(1)
    n = 1000
    highs = rng.uniform(1, 3, n)
    holds = rng.choice([0, 1000], n)
    rules = [rule("limit", high=float(h), hysteresis=0.5, hold_s=float(s)) for h, s in zip(highs, holds, strict=True)]
    points = [point(i) for i in range(n)]
    plan, _ = compile_rules(rules, points, [[i] for i in range(n)])
    state = fresh(plan)
    active, since = [False] * n, [None] * n
    for step in range(60):
        now = 1000.0 + 700 * step      # far apart: chatter plays no part
        values = rng.normal(1.5, 1.0, n)
        state, raised, returned = tick(state, values, np.zeros(n, int), np.zeros(n), now)
        want_up, want_down = _plain_loop(values, highs, rules, active, since, now)
        assert raised.tolist() == want_up and returned.tolist() == want_down


def _plain_loop(values: Any, highs: Any, rules: Sequence[Rule], active: list[bool], since: list[Any], now: float) -> Any:
    up: list[int] = []
    down: list[int] = []
    for i, v in enumerate(values):
        outside = v > highs[i] - (0.5 if active[i] else 0.0)
        if outside == active[i]:
            since[i] = None
            continue
        since[i] = now if since[i] is None else since[i]
        if now - since[i] >= (rules[i].params["hold_s"] if outside else 0.0):
            active[i], since[i] = outside, None
            (up if outside else down).append(i)
    return up, down


@pytest.mark.parametrize(("row", "text"), [
    ({"kind": "limitt"}, "rule r: kind: expected one of limit, rate"),
    ({"params": {"hihg": 3}}, "params.hihg: not a field of kind limit; known: auto_close"),
    ({"params": {"high": "35 mg"}}, "params.high: expected a number, got '35 mg'"),
    ({"params": {}}, "params.high: expected high, low or both"),
    ({"params": {"high": 1, "low": 2}}, "params.low: expected less than high (1), got 2"),
    ({"kind": "demand", "params": {}}, "params.limit_kw: is needed: contracted demand"),
    ({"kind": "stale", "params": {"k": 0}}, "params.k: expected more than 0, got 0"),
    ({"params": {"high": 1}, "scope": {"colour": "red"}}, "scope.colour: unknown; known: quantity"),
    ({"params": {"high": 1}, "scope": {"points": ["nowhere"]}}, "scope.points: there is no 'nowhere' in the catalogue"),
])
def test_a_mistake_in_a_rule_names_the_rule_and_its_field(row: dict[str, Any], text: str) -> None:
    base = {"base_id": 1, "rule_id": 1, "code": "r", "kind": "limit", "severity": "high", "name_zh": "", "name_en": "",
            "scope": {}, "params": {}}
    rules, mistakes = check([base | row], [], {1: []})
    assert not rules
    assert any(text in str(m) for m in mistakes), [str(m) for m in mistakes]


def test_a_scope_covers_what_fits_every_one_of_its_words() -> None:
    p = point(1, role="outlet", unit_code="e1.stack", enterprise="e1", tags=("critical",))
    assert covers(rule("limit", high=1), p)
    assert covers(rule("limit", {"quantity": "so2", "role": "outlet", "tag": "critical"}, high=1), p)
    assert not covers(rule("limit", {"quantity": "nox"}, high=1), p)
    assert not covers(rule("limit", {"quantity": "so2", "tag": "spare"}, high=1), p)
    assert not covers(rule("stuck"), point(2, kind="state"))
    computed = point(2, attributes={"formula": "a.kw + b.kw"})
    named = replace(rule("stale"), scope={"points": [computed.code]})
    assert not covers(rule("stale"), computed) and covers(named, computed)
    assert set(table()["kinds"]) >= {"limit", "rate", "stale", "stuck", "emission_limit", "baseline", "linkage", "balance"}


def test_a_dead_gateway_is_one_alert_instead_of_one_a_device_and_a_device_alone_is_its_own() -> None:
    points = [point(i, device=i, unit_id=1) for i in range(1, 301)]
    gateway = Gateway(1, "tcp://10.0.0.5:502", tuple(range(1, 301)), 1)
    plan, pairs = compile_rules([rule("stale", k=3)], points, [list(range(300))], gateways=[gateway])
    state = fresh(plan)

    def judge(ages: Any, now: float) -> tuple[list[str], list[str]]:
        nonlocal state
        state, raised, returned = tick(state, np.ones(300), np.zeros(300, int), np.array(ages, float), now)
        names = ["gateway" if p.gateway else f"p{p.point.point_id}" if p.point else f"d{p.device_id}" for p in pairs]
        return [names[i] for i in raised], [names[i] for i in returned]

    spread = np.arange(300) % 20                            # polled one after the other
    assert judge(spread, 0) == ([], [])
    alone = spread.copy()
    alone[6] = 90
    assert judge(alone, 60) == (["d7"], [])                 # one device behind a gateway that answers
    assert judge(spread + 100, 160) == (["gateway"], ["d7"])
    assert judge(spread + 200, 260) == ([], [])
    assert judge(spread, 300) == ([], ["gateway"])
