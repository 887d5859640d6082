"""The rules over stored readings: the same raises as live, and nothing written."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from alerts.backtest import backtest
from park.errors import NotFound
from tests.command import Done, park

Db = psycopg.Connection[Any]
T0 = datetime(2026, 5, 5, 16, tzinfo=UTC)      # midnight of the 6th in Shanghai


def load(db: Db) -> None:
    db.execute("SELECT ensure_reading_partitions(%s, %s)", (T0, T0 + timedelta(days=2)))
    with db.cursor() as cur:
        cur.executemany("""INSERT INTO reading (base_id, point_id, ts, value, quality)
            SELECT base_id, point_id, %s, %s, 0 FROM point WHERE code = 'e1.stack.so2'""",
                        [(T0 + timedelta(minutes=i), 50.0 if 100 <= i < 130 or i == 200 else 20.0) for i in range(2880)])


def test_the_rules_over_history_raise_what_live_would_have_and_write_nothing(mini: Db) -> None:
    load(mini)
    outcome = backtest(mini, "mini", T0, T0 + timedelta(days=2))
    assert outcome.n_readings == 2880
    (episode,) = outcome.episodes       # the single minute of 200 is shorter than the hold of 60 s
    assert episode.raised_at == (T0 + timedelta(minutes=101)).timestamp()
    assert episode.returned_at == (T0 + timedelta(minutes=130)).timestamp()
    assert mini.execute("SELECT (SELECT count(*) FROM alert), (SELECT count(*) FROM evaluator_snapshot)").fetchone() == (0, 0)


def test_a_rule_that_is_not_there_is_told_with_those_that_are(mini: Db) -> None:
    with pytest.raises(NotFound, match="no rule 'so3'; there are: stack-so2"):
        backtest(mini, "mini", T0, T0 + timedelta(days=1), "so3")


def test_the_command_prints_episodes_with_instants_as_the_api_writes_them(mini: Db, database_url: str) -> None:
    load(mini)
    done = run(database_url)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["rule,object,raised,returned,minutes,severity,channel",
                                        "stack-so2,e1.stack.so2,2026-05-05T17:41:00Z,2026-05-05T18:10:00Z,29.0,high,limit"]
    assert "2880 readings over 2 days: 1 raises, 0.50 a day" in done.stderr


CANDIDATES = """rules:
  - {code: stack-so2, name: {zh: 二氧化硫预警, en: SO2 near its limit}, kind: limit, severity: high, scope: {quantity: so2},
     params: {high: 45, hysteresis: 2, hold_s: 0}}
  - {code: so2-hour, name: {zh: 小时均值, en: Hourly mean}, kind: limit, scope: {quantity: so2}, params: {high: 29, mean: hour}}
  - {code: night, name: {zh: 夜间, en: At night}, kind: limit, scope: {quantity: so2},
     params: {high: 45, between: "22:00-03:00"}}
  - {code: both, name: {zh: 表达式, en: Expression}, kind: expression, scope: {},
     params: {expr: "so2 > 45 and 'e2.cod' < 10"}}
"""


def run(database_url: str, *more: str) -> Done:
    return park("backtest", "mini", "--from", "2026-05-06", "--to", "2026-05-07", *more, PARK_DATABASE_URL=database_url)


def test_a_candidate_stands_beside_the_present_rule_with_a_chart(mini: Db, database_url: str, tmp_path: Path) -> None:
    load(mini)
    mini.execute("UPDATE point SET expected_s = 60")
    mini.execute("""INSERT INTO reading (base_id, point_id, ts, value, quality) SELECT base_id, point_id, t, 5, 0
        FROM point, generate_series(%s::timestamptz, %s, '1 minute') t WHERE code = 'e2.cod'""",
                 (T0, T0 + timedelta(minutes=119)))
    (tmp_path / "rules.yaml").write_text(CANDIDATES, encoding="utf-8")
    chart, table = tmp_path / "chart.html", tmp_path / "episodes.csv"
    done = run(database_url, "--rules", str(tmp_path / "rules.yaml"), "--chart", str(chart), "-o", str(table),
               "--language", "en")
    assert done.returncode == 0, done.stderr
    assert table.read_text().splitlines() == [
        "rules,rule,object,raised,returned,minutes,severity,channel",
        "now,stack-so2,e1.stack.so2,2026-05-05T17:41:00Z,2026-05-05T18:10:00Z,29.0,high,limit",
        # COD is unknown from 02:05: held
        "candidate,both,e1.stack.so2,2026-05-05T17:40:00Z,2026-05-05T18:10:00Z,30.0,medium,expression",
        "candidate,night,e1.stack.so2,2026-05-05T17:40:00Z,2026-05-05T18:10:00Z,30.0,medium,limit",
        "candidate,stack-so2,e1.stack.so2,2026-05-05T17:40:00Z,2026-05-05T18:10:00Z,30.0,high,limit",
        "candidate,so2-hour,e1.stack.so2,2026-05-05T18:00:00Z,2026-05-05T19:00:00Z,60.0,medium,limit",
        "candidate,stack-so2,e1.stack.so2,2026-05-05T19:20:00Z,2026-05-05T19:21:00Z,1.0,high,limit"]
    assert "stack-so2: 1 -> 2 raises; 0 only now, 1 only with the candidate" in done.stderr
    page = chart.read_text(encoding="utf-8")
    assert "Rules over history · mini" in page and page.count("<svg") == 4
    assert 'class="edge"' in page and "present rule 1 · candidate 2" in page and "http" not in page.replace("http-equiv", "")


def test_history_coarser_than_live_readings_is_left_out_of_silence_and_said_to_be(mini: Db, database_url: str,
                                                                                  tmp_path: Path) -> None:
    load(mini)
    mini.execute("UPDATE point SET expected_s = 10")
    mini.execute("""INSERT INTO reading (base_id, point_id, ts, value, quality) SELECT base_id, point_id, t, 5, 0
        FROM point, generate_series(%s::timestamptz, %s, '15 minutes') t
        WHERE code = 'e2.cod' AND t NOT BETWEEN %s AND %s""",
                 (T0, T0 + timedelta(days=2), T0 + timedelta(hours=20), T0 + timedelta(hours=24)))
    file = tmp_path / "rules.yaml"
    file.write_text("rules: [{code: silent, name: {zh: 无数据, en: Silent}, kind: stale, scope: {points: [e2.cod]}, "
                    "params: {after_s: 600}}]", encoding="utf-8")
    chart = tmp_path / "page.html"
    done = run(database_url, "--rules", str(file), "--chart", str(chart), "--language", "en")
    assert done.returncode == 0, done.stderr
    assert [line.split(",")[3] for line in done.stdout.splitlines()[1:]] == ["2026-05-06T11:55:00Z"]     # the real outage alone
    said = "history of 1 of 1 points comes evenly, but slower than live readings do (imported or thinned)"
    assert f"silent (stale): {said}; 90.6% of the points' time is left out" in done.stderr
    assert said in chart.read_text(encoding="utf-8")


def test_a_mistake_in_a_candidate_is_told_with_file_and_line(mini: Db, database_url: str, tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text(CANDIDATES.replace("'e2.cod'", "'e2.bod'").replace("mean: hour", "mean: hours"), encoding="utf-8")
    done = run(database_url, "--rules", str(file))
    assert done.returncode == 1
    assert f"{file}:4: rules[1] (so2-hour).params.mean: expected one of instant, hour, day, got 'hours'" in done.stderr
    assert f"{file}:8: rules[3] (both).params.expr: there is no quantity or point 'e2.bod'" in done.stderr
    assert run(database_url, "--chart", "chart.png").returncode == 1


def test_limits_in_force_linkage_and_emission_hours_are_run_over_history(mini: Db) -> None:
    mini.execute("SELECT ensure_reading_partitions(%s, %s)", (T0, T0 + timedelta(days=1)))
    mini.execute("DELETE FROM rule")
    for code, kind, params in (("ph", "limit", '{"in_force": true}'), ("emission", "emission_limit", "{}"),
                               ("bypass", "linkage", '{"production_on_kw": 100, "treatment_off_kw": 10, "hold_s": 120}'),
                               ("running", "limit", '{"high": 8, "plant": "running", "plant_unit": "e1.furnace"}')):
        scope = '{"quantity": "ph"}' if kind == "limit" else "{}"
        mini.execute("""INSERT INTO rule (base_id, code, name_zh, name_en, kind, scope, params)
            SELECT base_id, %s, %s, %s, %s, %s, %s FROM base""", (code, code, code, kind, scope, params))
    mini.execute("INSERT INTO power_band (base_id, point_id, valid_from, on_above, learned_days) SELECT base_id, point_id, "
                 "'2026-01-01', 100, 9 FROM point WHERE code = 'e1.furnace.kw'")
    rows = [(code, minute, value) for minute in range(60) for code, value in (
        ("e1.furnace.kw", 500.0 if minute >= 20 else 0.0), ("e1.filter.kw", 50.0 if minute < 30 or minute > 45 else 0.0),
        ("e2.ph", 9.2 if minute in (10, 40) else 7.0))]
    with mini.cursor() as cur:
        cur.executemany("""INSERT INTO reading (base_id, point_id, ts, value, quality) SELECT base_id, point_id, %s, %s, 0
            FROM point WHERE code = %s""", [(T0 + timedelta(minutes=m), v, code) for code, m, v in rows])
    mini.execute("""INSERT INTO emission_1h (base_id, unit_id, quantity, ts, state, n_valid, converted, exceeded)
        SELECT base_id, unit_id, 'so2', %s::timestamptz + make_interval(hours => i), 'valid', 60, 40, i = 3
        FROM unit, generate_series(0, 5) i WHERE code = 'e1.stack'""", (T0,))
    outcome = backtest(mini, "mini", T0, T0 + timedelta(days=1))
    minutes = [(e.rule.code, e.thing, (e.raised_at - T0.timestamp()) / 60, (e.returned_at - T0.timestamp()) / 60)
               for e in outcome.episodes]
    assert minutes == [("ph", "e2.ph", 10, 11), ("bypass", "e1.filter", 32, 46), ("ph", "e2.ph", 40, 41),
                       ("running", "e2.ph", 40, 41), ("emission", "e1.stack.so2", 240, 300)]
