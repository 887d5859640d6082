"""Baselines and emission limits over history: the same raises and returns as the live rules gave hour by hour."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest

from alerts import baseline, emission
from alerts.backtest import Episode, Outcome, backtest
from alerts.backtest_chart import page
from alerts.backtest_report import episode_csv, summary
from alerts.context import load
from alerts.finding import Finding
from alerts.replay_emission import held, steps
from tests.alerts.test_slow import HOUR, add_rule, load_hours, usual_load

Db = psycopg.Connection[Any]
START = datetime(2026, 6, 8, 16, tzinfo=UTC)        # midnight of Tuesday, 9 June, in Shanghai
MINUTE = timedelta(minutes=1)


def epoch(*instants: datetime) -> tuple[float, ...]:
    return tuple(t.timestamp() for t in instants)


def of_rule(outcome: Outcome, code: str) -> list[Episode]:
    return [e for e in outcome.episodes if e.rule.code == code]


def as_they_came(findings: list[tuple[datetime, Finding]]) -> dict[int, list[tuple[float, float]]]:
    """Raise and return of each point as the evaluator writes them: what is active is not raised again."""
    out: dict[int, list[tuple[float, float]]] = {}
    for at, f in findings:
        mine = out.setdefault(f.point_id or 0, [])
        active = bool(mine) and np.isnan(mine[-1][1])
        if f.present and not active:
            mine.append((at.timestamp(), np.nan))
        elif not f.present and active:
            mine[-1] = mine[-1][0], at.timestamp()
    return {p: rows for p, rows in out.items() if rows}


def test_a_baseline_over_history_raises_and_returns_as_it_did_live_hour_by_hour(mini: Db) -> None:
    mini.execute("DELETE FROM rule")
    add_rule(mini, "baseline", "baseline", {"quantity": "active_power"}, {"hours": 2})
    mini.execute("INSERT INTO calendar (base_id, code, day, class) SELECT base_id, 'own', '2026-06-11', 'shutdown' FROM base")
    last = START + 71 * HOUR
    for code, seed in (("e1.main.kw", 1), ("e1.furnace.kw", 2), ("e1.filter.kw", 3)):
        values = usual_load(last, 75, seed)
        for k in range(20, 27):
            values[START + k * HOUR] *= 3.0 if code != "e1.filter.kw" else 1.0
        if code == "e1.furnace.kw":         # a gap in the middle says nothing, and what lies in a shutdown day neither
            del values[START + 22 * HOUR]
            values[START + 50 * HOUR] = values[START + 51 * HOUR] = values[START + 52 * HOUR] = 2000.0
        load_hours(mini, code, values)
    context, memory = load(mini, last), baseline.Memory()
    live = [(START + (k + 1) * HOUR, f) for k in range(72)
            for f in baseline.judge(mini, context, memory, START + (k + 1) * HOUR + timedelta(minutes=3))]
    outcome = backtest(mini, "mini", START, START + 72 * HOUR)
    found: dict[int, list[tuple[float, float]]] = {}
    for e in outcome.episodes:
        found.setdefault(e.point_id or 0, []).append((e.raised_at, e.returned_at))
    expected = as_they_came(live)
    assert len(expected) == 2 and set(found) == set(expected)
    for point, rows in expected.items():
        np.testing.assert_array_equal(np.array(found[point]), np.array(rows))
    track = outcome.tracks[outcome.rules[0].rule_id, next(iter(expected))]
    hit = int(np.flatnonzero(track.at == outcome.episodes[0].raised_at)[0])
    assert track.value[hit] > track.high[hit] > track.low[hit] > 0
    drawn = page(outcome, None, "mini", START, START + 72 * HOUR, "Asia/Shanghai", "en")
    assert drawn.count('<polygon class="band"') >= 2 and drawn.count("<svg") == 2


def test_a_baseline_without_its_weeks_of_history_says_what_it_lacks(mini: Db) -> None:
    mini.execute("DELETE FROM rule")
    add_rule(mini, "baseline", "baseline", {"points": ["e1.main.kw"]}, {})
    add_rule(mini, "nowhere", "limit", {"tag": "none such"}, {"high": 1})
    load_hours(mini, "e1.main.kw", usual_load(START + 23 * HOUR, 3))
    outcome = backtest(mini, "mini", START, START + 24 * HOUR)
    assert outcome.episodes == []
    text = "\n".join(summary(outcome, START, START + 24 * HOUR, None))
    assert "baseline (baseline) found nothing to judge: there are no hours of its points in this time with " in text
    assert "nowhere (limit) found nothing to judge: its scope covers no point" in text
    beside = "\n".join(summary(outcome, START, START + 24 * HOUR, outcome))
    assert beside.count("found nothing to judge") == 4         # the candidates say so too


NAN = np.nan


@pytest.mark.parametrize(("level", "expected"), [
    ([0, 1, 1, 0], [(1, 3, "hour_warning")]),
    ([0, 1, 3, 1, 0], [(1, 2, "hour_warning"), (2, 4, "hour_exceeded")]),       # raised again; a warning does not end it
    ([3, NAN, NAN, 0, 2], [(0, 3, "hour_exceeded"), (4, NAN, "hour_forecast")]),
    ([2, 1, 2, 0], [(0, 3, "hour_forecast")]),
    ([NAN, NAN], []), ([], []),
])
def test_levels_become_raises_raises_again_and_returns(level: list[float], expected: list[tuple[float, float, str]]) -> None:
    found = [(s.raised_at, s.returned_at, s.channel) for s in steps(np.arange(len(level), dtype=float), np.array(level, float))]
    assert [f[2] for f in found] == [e[2] for e in expected]
    np.testing.assert_array_equal(np.array([f[:2] for f in found]), np.array([e[:2] for e in expected]))


@pytest.mark.parametrize(("hold", "clear", "expected"), [
    (0, 0, [1, 3, 0, 0, 1, 0]), (1, 0, [NAN, 3, 0, 0, NAN, 0]), (0, 1, [1, 3, NAN, 0, 1, NAN]),
    (2, 0, [NAN, NAN, 0, 0, NAN, 0]),
])
def test_a_level_counts_once_it_has_stood_for_its_hold(hold: float, clear: float, expected: list[float]) -> None:
    level = np.array([1, 3, 0, 0, 1, 0], float)
    np.testing.assert_array_equal(held(np.arange(6, dtype=float), level, hold, clear), expected)


def emission_hour(db: Db, at: datetime, converted: float | None, state: str = "valid") -> None:
    db.execute("""INSERT INTO emission_1h (base_id, unit_id, quantity, ts, n_valid, state, converted, limit_value, exceeded)
        SELECT base_id, unit_id, 'so2', %s, 60, %s, %s, 35, %s FROM unit WHERE code = 'e1.stack'""",
               (at, state, converted, converted > 35 if converted is not None and state == "valid" else None))


def minutes_of(db: Db, first: datetime, so2: list[float], o2: float = 8.0) -> None:
    """Readings of five minutes and their rollup, as ingest leaves them."""
    for i, v in enumerate(so2):
        for code, value in (("e1.stack.so2", v), ("e1.stack.o2", o2)):
            at = first + i * MINUTE
            db.execute("""INSERT INTO reading (base_id, point_id, ts, value, quality) SELECT base_id, point_id, %s, %s, 0
                FROM point WHERE code = %s""", (at, value, code))
            db.execute("""INSERT INTO reading_1m (bucket, min, max, sum, first, last, point_id, n, n_good, n_usable, base_id)
                SELECT %s, v, v, v, v, v, point_id, 1, 1, 1, base_id FROM point, (SELECT %s::float8 AS v) x WHERE code = %s""",
                       (at, value, code))


def test_emission_hours_over_history_warn_forecast_and_exceed_as_they_did_live(mini: Db) -> None:
    mini.execute("DELETE FROM rule")
    start = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - 8 * HOUR
    mini.execute("SELECT ensure_reading_partitions(%s, %s)", (start, start + 8 * HOUR))
    add_rule(mini, "emission", "emission_limit", {"role": "outlet"}, {"warn_at": 0.9}, "critical")
    means = [20.0, 33.0, None, 60.0, 12.0]      # a warning, an hour that says nothing, an exceedance that was foreseen, well
    context = load(mini, start)
    live: list[tuple[datetime, Finding]] = []
    for k, mean in enumerate(means):
        hour = start + k * HOUR
        for five in range(0, 60, 5):
            minutes_of(mini, hour + five * MINUTE, [60.0 if k == 3 else 10.0] * 5)
            now = hour + (five + 5) * MINUTE - timedelta(seconds=1)
            live += [(now, f) for f in emission.judge(mini, context, now) if not f.late]
        emission_hour(mini, hour, mean, "insufficient" if mean is None else "valid")
        live += [(hour + HOUR, f) for f in emission.judge(mini, context, hour + HOUR) if not f.late]
    told, severity = [], ""
    for at, f in live:          # a raise, and a raise again when it is worse
        worse = f.present and (not severity or (f.rank, severity) == ("critical", "high"))
        if worse or (not f.present and severity):
            told.append((at.timestamp(), f.channel if f.present else ""))
            severity = f.rank if f.present else ""
    outcome = backtest(mini, "mini", start, start + 5 * HOUR)
    found = of_rule(outcome, "emission")
    assert [(e.channel, e.rank) for e in found] == [("hour_warning", "high"), ("hour_exceeded", "critical")]
    assert [t[1] for t in told] == ["hour_warning", "hour_exceeded", ""]
    replayed = [found[0].raised_at, found[1].raised_at, found[1].returned_at]
    assert replayed == [t[0] for t in told] == list(epoch(start + 2 * HOUR, start + 4 * HOUR, start + 5 * HOUR))
    assert found[0].returned_at == found[1].raised_at
    text = episode_csv(found).splitlines()
    assert text[0].endswith(",120.0,high,hour_warning") and text[1].endswith(",60.0,critical,hour_exceeded")
    assert 'class="edge" fill="none"' in page(outcome, None, "mini", start, start + 5 * HOUR, "Asia/Shanghai", "zh")


def test_the_forecast_of_a_running_hour_is_run_over_its_minutes(mini: Db) -> None:
    mini.execute("DELETE FROM rule")
    start = datetime(2026, 6, 8, 16, tzinfo=UTC)
    mini.execute("SELECT ensure_reading_partitions(%s, %s)", (start, start + 3 * HOUR))
    add_rule(mini, "emission", "emission_limit", {"role": "outlet"}, {"min_minutes": 15}, "critical")
    add_rule(mini, "hours-only", "emission_limit", {"role": "outlet"}, {"forecast": False}, "critical")
    emission_hour(mini, start, 10)
    emission_hour(mini, start + HOUR, 12)
    minutes_of(mini, start + HOUR, [30.0] * 20, 14.0)       # 55.7 at 8 % oxygen
    minutes_of(mini, start + HOUR + 20 * MINUTE, [10.0] * 20, 14.0)
    outcome = backtest(mini, "mini", start, start + 2 * HOUR)
    assert of_rule(outcome, "hours-only") == []
    (e,) = of_rule(outcome, "emission")
    assert (e.channel, e.rank, e.raised_at) == ("hour_forecast", "high", (start + HOUR + 15 * MINUTE).timestamp())
    context = load(mini, start)
    rows = mini.execute("SELECT extract(minute FROM bucket)::integer, sum, quantity FROM reading_1m JOIN point USING (base_id, "
                        "point_id) ORDER BY 1").fetchall()
    unit = next(p for p in context.points if p.code == "e1.stack.so2")
    over = []
    for minute in range(20, 40):      # the live forecast of the same minutes: when it is no longer over the limit
        known = [{"base_id": unit.base_id, "unit_id": unit.unit_id, "quantity": q, "minute": m, "mean": v}
                 for m, v, q in rows if m <= minute]
        over.append(emission._running(context, known)[unit.base_id, unit.unit_id or 0, "so2"].mean > 35)
    back = 20 + over.index(False) + 1
    assert e.returned_at == (start + HOUR + back * MINUTE).timestamp()


def test_a_day_over_its_limit_is_an_episode_of_its_own_and_a_rule_out_of_force_raises_nothing(mini: Db) -> None:
    mini.execute("DELETE FROM rule")
    add_rule(mini, "cod", "emission_limit", {"quantity": "cod"}, {}, "critical")
    add_rule(mini, "workdays", "emission_limit", {"quantity": "cod"}, {"days": "resting"}, "critical")
    with mini.cursor() as cur:
        cur.executemany("""INSERT INTO emission_1h (base_id, unit_id, quantity, ts, n_valid, state, measured, converted, flow)
            SELECT base_id, unit_id, 'cod', %s, 60, 'valid', %s, %s, 10 FROM unit WHERE code = 'e2.outlet'""",
                        [(START + k * HOUR, v, v) for k in range(72) for v in [70.0 if k < 24 else 30.0]])
    outcome = backtest(mini, "mini", START, START + 72 * HOUR)
    (e,) = of_rule(outcome, "cod")
    assert (e.channel, e.thing, e.rank) == ("day_exceeded", "e2.cod", "critical")
    assert (e.raised_at, e.returned_at) == epoch(START + 24 * HOUR, START + 48 * HOUR)
    assert of_rule(outcome, "workdays") == []       # Wednesday, when Tuesday's mean is known, is no day of rest


def test_every_kind_of_the_catalogue_is_run(mini: Db) -> None:
    from alerts import backtest as module
    from alerts.rules import INSTANT, table

    text = Path(module.__file__).read_text(encoding="utf-8")
    assert all(kind in INSTANT or f'rule.kind == "{kind}"' in text for kind in table()["kinds"])
