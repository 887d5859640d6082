"""Rules bound to plant and calendar, expressions, means, limits in force, severity by consequence: on a real database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
import yaml
from typer.testing import CliRunner

from alerts import service
from alerts.enabling import calendar_mask
from alerts.rule_files import check_files
from alerts.rules import check, grid, severity_of, table
from park.cli import app
from park.errors import CatalogueError
from tests.alerts.test_evaluator import rule
from tests.alerts.test_service import add_rule, log_of, read

Db = psycopg.Connection[Any]
T0 = datetime.now(UTC).replace(microsecond=0)
ROW = {"base_id": 1, "rule_id": 1, "code": "r", "severity": "high", "name_zh": "", "name_en": "", "scope": {}}
MINI = Path(__file__).parents[1] / "data" / "mini.yaml"


def moment(text: str) -> float:
    return datetime.fromisoformat(text + "+08:00").timestamp()


@pytest.mark.parametrize(("params", "text", "open_then"), [
    ({"between": "22:00-06:00"}, "2026-11-23T23:30", True), ({"between": "22:00-06:00"}, "2026-11-23T05:59", True),
    ({"between": "22:00-06:00"}, "2026-11-23T06:00", False), ({"between": "08:00-18:00"}, "2026-11-23T12:00", True),
    ({"days": "working"}, "2026-11-23T12:00", True), ({"days": "resting"}, "2026-11-22T12:00", True),
    ({"days": ["resting", "shutdown"]}, "2026-11-23T12:00", False),
    ({"days": "working"}, "2026-10-01T12:00", False),                   # a Thursday, but National Day
    ({"days": "working"}, "2026-11-24T12:00", False),                   # the base's own calendar says shutdown
    ({"season": "11-15..03-15"}, "2026-12-31T12:00", True), ({"season": "11-15..03-15"}, "2026-06-01T12:00", False),
    ({"season": "06-01..08-31"}, "2026-08-31T23:59", True), ({"season": "11-15..03-15", "between": "08:00-09:00"},
                                                             "2026-12-31T12:00", False),
])
def test_a_calendar_says_when_a_rule_is_in_force(params: dict[str, Any], text: str, open_then: bool) -> None:
    own = {datetime(2026, 11, 24).date(): "shutdown"}
    got = calendar_mask(rule("limit", high=1, **params), np.array([moment(text)]), "Asia/Shanghai", own)
    assert got.tolist() == [open_then]


def test_a_rule_for_the_running_plant_raises_nothing_while_it_stands_or_nobody_knows(mini: Db) -> None:
    mini.execute("DELETE FROM rule")
    add_rule(mini, "hot", "limit", {"points": ["e1.stack.so2"]}, {"high": 35, "plant": "running", "plant_unit": "e1.furnace"})
    mini.execute("INSERT INTO power_band (base_id, point_id, valid_from, on_above, learned_days) "
                 "SELECT base_id, point_id, '2026-01-01', 100, 9 FROM point WHERE code = 'e1.furnace.kw'")
    e = service.start(mini, T0)

    def feed(minute: float, so2: float, furnace: float | None) -> None:
        now = T0 + timedelta(minutes=minute)
        read(mini, "e1.stack.so2", so2, now)
        if furnace is not None:
            read(mini, "e1.furnace.kw", furnace, now)
        service.step(mini, e, now)

    for minute in range(3):
        feed(minute, 50, None)                  # nobody knows whether it runs
    for minute in range(3, 6):
        feed(minute, 50, 0)                     # it stands
    assert log_of(mini) == []
    held = [(m.labels["rule"], m.value) for family in e.told.registry.collect() for m in family.samples
            if m.name == "park_alert_held_back_total"]
    assert held == [("hot", 1.0)]               # one condition, however long it lasts
    feed(6, 50, 500)
    feed(7, 50, 500)
    assert log_of(mini) == [("hot", "raise")]
    feed(8, 50, 0)                              # it stands now: suppressed by design, not returned
    feed(9, 50, 0)
    assert [c for _, c in log_of(mini)] == ["raise", "suppress"]
    assert mini.execute("SELECT active, suppressed FROM alert").fetchone() == (True, True)
    e = service.start(mini, T0 + timedelta(minutes=9))      # over a restart too
    feed(10, 50, 0)
    assert [c for _, c in log_of(mini)] == ["raise", "suppress"]
    feed(11, 50, 500)
    feed(12, 50, 500)
    assert [c for _, c in log_of(mini)] == ["raise", "suppress", "unsuppress"]
    feed(13, 20, 0)                             # what is active may return while the plant stands
    assert [c for _, c in log_of(mini)][3] == "return"


def test_an_expression_over_the_points_of_a_unit_holds_while_one_of_them_is_unknown(mini: Db) -> None:
    mini.execute("DELETE FROM rule")
    add_rule(mini, "leak", "expression", {"role": "outlet"}, {"expr": "so2 > 30 and o2 > 15", "hold_s": 60, "fresh_s": 90})
    add_rule(mini, "cold", "expression", {}, {"expr": "active_power / 'e1.main.kw'", "low": 0.1})
    add_rule(mini, "unit", "expression", {}, {"expr": "'e1.main.kw' > value(1, 'MW')"})
    e = service.start(mini, T0)
    assert [(p.rule.code, p.point.code if p.point else "") for p in e.context.pairs] == [
        ("leak", "e1.stack.so2"), ("cold", "e1.main.kw"), ("cold", "e1.furnace.kw"), ("cold", "e1.filter.kw"),
        ("unit", "e1.main.kw")]

    def feed(minute: float, **values: float) -> None:
        now = T0 + timedelta(minutes=minute)
        for name, value in values.items():
            read(mini, {"so2": "e1.stack.so2", "o2": "e1.stack.o2", "kw": "e1.main.kw", "filter": "e1.filter.kw",
                        "furnace": "e1.furnace.kw"}[name], value, now)
        service.step(mini, e, now)

    feed(0, so2=40, o2=10, kw=900, filter=300, furnace=400)
    feed(1, so2=40, o2=18)
    feed(2, so2=40, o2=18)
    assert log_of(mini) == [("leak", "raise")]
    text = mini.execute("SELECT explanation FROM alert").fetchone()
    assert text is not None and "so2 = 40 mg/m3, o2 = 18 %" in text[0]["en"] and "so2 > 30 and o2 > 15" in text[0]["zh"]
    feed(5, so2=40)                             # O2 is older than 90 s: unknown, the alert stays
    assert log_of(mini) == [("leak", "raise")]
    feed(6, so2=20)                             # one side decides
    assert log_of(mini) == [("leak", "raise"), ("leak", "return")]
    feed(7, kw=1100, filter=50, furnace=400)
    assert sorted(log_of(mini)[2:]) == [("cold", "raise"), ("unit", "raise")]
    row = mini.execute("SELECT p.code, a.low, round(a.value::numeric, 4) FROM alert a JOIN point p USING (base_id, point_id) "
                       "JOIN rule r USING (base_id, rule_id) WHERE r.code = 'cold'").fetchone()
    assert row is not None and row[0] == "e1.filter.kw" and float(row[2]) == 0.0455


def test_a_limit_in_force_is_taken_from_the_table_of_limits_two_sided_and_its_mean_needs_validity(mini: Db) -> None:
    mini.execute("DELETE FROM rule")
    add_rule(mini, "ph", "limit", {"role": "outlet"}, {"in_force": True})
    add_rule(mini, "hour", "limit", {"quantity": "so2"}, {"in_force": True, "mean": "hour", "at": 0.9})
    add_rule(mini, "day", "limit", {"quantity": "cod"}, {"in_force": True, "mean": "day", "valid_hours": 18})
    e = service.start(mini, T0)
    assert [(p.rule.code, p.point.code if p.point else "") for p in e.context.pairs] == [("ph", "e2.ph")]   # no other instant
    for minute, value in enumerate((5.5, 5.5, 7.0)):
        read(mini, "e2.ph", value, T0 + timedelta(minutes=minute))
        service.step(mini, e, T0 + timedelta(minutes=minute))
    assert log_of(mini) == [("ph", "raise"), ("ph", "return")]
    mini.execute("UPDATE point SET expected_s = 60")
    hour = T0.replace(minute=0, second=0)

    def load(code: str, at: datetime, mean: float, good: int) -> None:
        mini.execute("""INSERT INTO reading_1h (bucket, min, max, sum, first, last, point_id, n, n_good, n_usable, base_id)
            SELECT %s, %s, %s, %s::float8 * %s, %s, %s, point_id, %s, %s, %s, base_id FROM point WHERE code = %s""",
                     (at, mean, mean, mean, good, mean, mean, good, good, good, code))

    load("e1.stack.so2", hour - timedelta(hours=1), 33, 30)                # 30 of 60 minutes: not valid
    e = service.start(mini, hour + timedelta(minutes=5))
    service.step(mini, e, hour + timedelta(minutes=5))
    assert len(log_of(mini)) == 2
    load("e1.stack.so2", hour, 33, 50)
    midnight = hour.replace(hour=16) - timedelta(days=1 if hour.hour < 15 else 0)      # in Shanghai, the last before `later`
    for k in range(1, 19):
        load("e2.cod", midnight - timedelta(hours=k), 60, 60)
    later = max(hour + timedelta(hours=1, minutes=5), midnight + timedelta(minutes=5))
    e = service.start(mini, later)
    service.step(mini, e, later)
    assert sorted(log_of(mini)[2:]) == [("day", "raise"), ("hour", "raise")]
    rows = mini.execute("""SELECT channel, value, high, explanation->>'zh' FROM alert WHERE channel LIKE '%mean'
        ORDER BY 1""").fetchall()
    assert [r[:3] for r in rows] == [("day_mean", 60, 50), ("hour_mean", 33, 31.5)] and "(有效 18 小时)" in rows[0][3]


def test_severity_comes_from_consequence_and_time_to_respond(mini: Db) -> None:
    assert [severity_of(*x) for x in (("severe", 10), ("minor", 10), ("major", 200))] == ["critical", "low", "medium"]
    ranks = ["critical", "high", "medium", "low"]
    assert all(row["source"] and row["verified"] is False for row in grid())     # no standard gives the figures
    for row in grid():                          # worse is never milder, more time never more severe
        order = [ranks.index(row[c]) for c in ("minor", "moderate", "major", "severe")]
        assert order == sorted(order, reverse=True)
    for c in ("minor", "moderate", "major", "severe"):
        order = [ranks.index(row[c]) for row in grid()]
        assert order == sorted(order)
    mini.execute("""UPDATE rule SET severity = 'low', params = '{"high": 35, "consequence": "major", "respond_min": 3}'""")
    e = service.start(mini, T0)
    read(mini, "e1.stack.so2", 50, T0)
    service.step(mini, e, T0)
    assert mini.execute("SELECT severity FROM alert").fetchone() == ("critical",)


@pytest.mark.parametrize(("params", "text"), [
    ({"high": 1, "between": "22-6"}, "params.between: expected two times such as 22:00-06:00, got '22-6'"),
    ({"high": 1, "season": "15.11."}, "params.season: expected two days such as"),
    ({"high": 1, "days": ["working", "sunday"]}, "params.days: expected some of working, resting, shutdown"),
    ({"high": 1, "plant": "on"}, "params.plant: expected some of running, stopped, unknown, got 'on'"),
    ({"high": 1, "plant_unit": "e9"}, "params.plant_unit: there is no 'e9' in the catalogue"),
    ({"high": 1, "in_force": True}, "params.in_force: the limit in force gives high and low"),
    ({"high": 1, "mean": "week"}, "params.mean: expected one of instant, hour, day, got 'week'"),
    ({"high": 1, "consequence": "major"}, "params.consequence: counts only together with respond_min"),
    ({"high": 1, "respond_min": 5}, "params.respond_min: counts only together with consequence"),
])
def test_a_field_that_is_wrong_is_told_with_its_place(params: dict[str, Any], text: str) -> None:
    _, mistakes = check([ROW | {"kind": "limit", "params": params}], [], {1: []})
    assert any(text in str(m) for m in mistakes), [str(m) for m in mistakes]


@pytest.mark.parametrize(("expr", "text"), [
    ("so2 >", "cannot be read as an expression"), ("so3 > 1", "there is no quantity or point 'so3'"),
    ("1 > 0", "there is none"), ("so2 > value(5, 'kW')", "cannot be added or compared"),
    ("__import__('os')", "only min(), max(), abs(), value() can be called"),
])
def test_an_expression_that_is_wrong_is_told_with_its_place(expr: str, text: str) -> None:
    _, mistakes = check([ROW | {"kind": "expression", "params": {"expr": expr}}], [], {1: []})
    assert mistakes[0].where == "params.expr" and text in mistakes[0].message, mistakes


def test_every_mistake_in_the_rules_of_a_file_has_its_line(tmp_path: Path) -> None:
    file = tmp_path / "park.yaml"
    file.write_text(MINI.read_text(encoding="utf-8").replace(
        "params: {high: 35, hysteresis: 2, hold_s: 60}}", "params: {high: 35, hysteresis: wide, hold_s: 60}}\n"
        "  - {code: two, name: {zh: 二, en: two}, kind: limit,\n     scope: {units: [e7], colour: red},\n"
        "     params: {high: 3}}"),
        encoding="utf-8")
    line = next(i for i, x in enumerate(file.read_text(encoding="utf-8").splitlines(), 1) if "stack-so2" in x)
    with pytest.raises(CatalogueError) as caught:
        check_files([file])
    told = [(m.line, m.where) for m in caught.value.mistakes]
    assert told == [(line, "rules[0] (stack-so2).params.hysteresis"), (line + 2, "rules[1] (two).scope.colour"),
                    (line + 2, "rules[1] (two).scope.units")]
    assert check_files([MINI]) == 1
    done = CliRunner().invoke(app, ["catalogue", "check", str(file)])
    assert done.exit_code == 1 and isinstance(done.exception, CatalogueError)
    assert f"{file}:{line}: rules[0]" in str(done.exception)
    assert CliRunner().invoke(app, ["catalogue", "check", str(MINI)]).exit_code == 0


def test_one_rule_covers_a_thousand_points_by_quantity_unit_role_or_tag(mini: Db) -> None:
    mini.execute("""INSERT INTO point (base_id, code, name_zh, name_en, quantity, unit, kind, unit_id, attributes)
        SELECT base_id, 't' || i, '', '', 'temperature', 'degC', 'gauge', unit_id,
            CASE WHEN i % 2 = 0 THEN '{"tags": ["cold"]}'::jsonb ELSE '{}' END
        FROM unit, generate_series(1, 1000) i WHERE code = 'e2.outlet'""")
    mini.execute("DELETE FROM rule")
    add_rule(mini, "all", "limit", {"quantity": "temperature"}, {"high": 90})
    add_rule(mini, "role", "limit", {"role": "outlet", "quantity": ["temperature"]}, {"high": 90})
    add_rule(mini, "tag", "limit", {"tag": "cold"}, {"high": -15})
    context = service.start(mini, T0).context
    n = [sum(p.rule.code == code for p in context.pairs) for code in ("all", "role", "tag")]
    assert n == [1000, 1000, 500] and not context.mistakes
    assert {w for spec in (table()["every"], *table()["kinds"].values())
            for f in spec.values() for w in f} <= {"type", "default", "of", "words"}


def test_the_rules_of_the_readme_are_right() -> None:
    text = (Path(__file__).parents[2] / "alerts" / "README.md").read_text(encoding="utf-8")
    rules = yaml.safe_load(text.split("```yaml")[1].split("```")[0])["rules"]
    rows = [ROW | {"code": r["code"], "kind": r["kind"], "scope": r.get("scope", {}), "params": r["params"]} for r in rules]
    checked, mistakes = check(rows, [], {1: []})
    assert not mistakes and len(checked) == len(rules) >= 8
    assert next(r for r in checked if r.code == "boiler").severity == "critical"
