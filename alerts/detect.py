"""`park detect`: the anomaly core on any series of a file: onsets with their channel, and the score of every step.

Causal: the score at t uses nothing after t. Thresholds are frozen (`thresholds.yaml`); only the alarm budget is chosen.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from alerts import calibrate, group
from alerts.channels import LONG_WEEKS, Channels, channels
from alerts.days_off import WEEKLY, days_off, is_odd
from alerts.rolling import Floats
from alerts.series import Series, on_grid_of
from alerts.weather import without_weather
from park.errors import InputError

ONSET_COLUMNS = ("series", "start", "end", "kind", "channel", "score", "p_value", "expected", "low", "high")
SCORE_COLUMNS = ("series", "time", "value", "score", "p_value", "channel", "alarm", "expected", "low", "high")
BAND = 3.0      # expected value plus and minus so many usual deviations
KINDS = {       # channel -> what it looks like when it is above and below
    "jump": ("jump_up", "drop"), "ratio": ("scale_up", "scale_down"), "days": ("level_up", "level_down"),
    "drift": ("drift_up", "drift_down"), "shift": ("clock_shift", "clock_shift"), "flat": ("stuck", "stuck"),
    "repeat": ("copied", "copied"), "range": ("above_range", "below_range"), "surge": ("high_value", "low_value"),
    "swing": ("restless", "restless"), "left_on": ("left_on", "left_on"),
}


@dataclass(frozen=True)
class Scored:
    """(T,) of one series: score (1 alarms), p, channel word, alarm, expected value and band."""

    series: Series
    score: Floats
    p: Floats
    channel: list[str]
    hot: np.ndarray[Any, np.dtype[np.bool_]]
    expected: Floats
    low: Floats
    high: Floats
    onsets: list[dict[str, Any]]


def detect(series: Sequence[Series], budget: float = 0.3, together: bool = False,
           weather: Series | None = None, holidays: str | None = None) -> list[Scored]:
    """The verdict on every series, each by itself or all together as one process; InputError when they do not fit."""
    if not 0.01 <= budget <= 10:
        raise InputError(f"--budget: expected 0.01 to 10 false alarms per series-month, got {budget}")
    if together:
        if holidays:
            raise InputError("--holidays: sensors of a group have no days; expected no --group")
        return _together(series, budget)
    own = days_off(holidays) if holidays else frozenset()
    return [score(s, budget, weather, own) for s in series]


def score(s: Series, budget: float, weather: Series | None = None, off: frozenset[date] | None = frozenset()) -> Scored:
    """The verdict on one series; `off` are days that are no usual ones (`days_off`)."""
    x = s.values
    effect = np.zeros_like(x) if weather is None else without_weather(x, on_grid_of(s, weather), s.step_s)
    c = _with_days_off(x - effect, s, off)
    verdict = calibrate.judge(c.scores, s.step_s, budget)
    expected, scale = c.band()
    expected = expected + effect
    low, high = expected - BAND * scale, expected + BAND * scale
    names = [verdict.names[i] for i in verdict.channel]
    found = [_onset(s, verdict, c, start, end, i, expected, low, high)
             for start, end, i in calibrate.onsets(verdict, s.step_s)]
    return Scored(s, verdict.strength, verdict.p, names, np.asarray(verdict.hot.any(axis=0)), expected, low, high, found)


def _with_days_off(x: Floats, s: Series, off: frozenset[date] | None) -> Channels:
    """Every channel; those that know weeks without the days that are no usual ones, in which they cannot say."""
    c = channels(x, s.step_s)
    odd = np.zeros(len(x), bool) if off == frozenset() else is_odd(s, off)
    if odd.any():
        usual = channels(np.where(odd, np.nan, x), s.step_s).scores
        c.scores.update({name: np.where(odd, np.nan, usual[name]) for name in WEEKLY})
    return c


def _onset(s: Series, v: calibrate.Verdict, c: Channels, start: int, end: int, i: int, expected: Floats, low: Floats,
           high: Floats) -> dict[str, Any]:
    name = v.names[i]
    above = float(np.nan_to_num(c.scores[name][start])) >= 0
    kind = KINDS[name][0 if above else 1]
    if name in ("jump", "range", "surge") and above and _is_catch_up(s.values, expected, start, s.step_s):
        kind = "catch_up"
    return {"series": s.name, "start": s.time_of(start), "end": s.time_of(end), "kind": kind, "channel": name,
            "score": v.strength[start], "p_value": v.p[start], "expected": expected[start], "low": low[start],
            "high": high[start], "_start": start, "_end": end}


def _is_catch_up(x: Floats, expected: Floats, at: int, step_s: float) -> bool:
    """A lump after steps of nothing that it makes up for: the sum over both is what was expected."""
    before = at - 1
    while before >= 0 and at - before <= round(2 * 86400 / step_s) and not x[before] > 0.1 * abs(expected[before]):
        before -= 1
    gap = slice(before + 1, at + 1)
    due = float(np.nansum(expected[gap]))
    return at - before > 2 and due > 0 and abs(float(np.nansum(x[gap])) - due) < 0.5 * due


def _together(series: Sequence[Series], budget: float) -> list[Scored]:
    first = series[0]
    if len(series) < 2:
        raise InputError("--group: expected at least two series (columns time,series,value), got one")
    odd = [s.name for s in series if abs(s.step_s - first.step_s) > 0.01 * first.step_s]
    if odd:
        raise InputError(f"--group: expected {first.step_s} s between instants in every series, as in {first.name}; not so in "
                         f"{', '.join(odd)}")
    start = min(s.start for s in series)
    n = 1 + max(round((s.start - start) / s.step_s) + len(s.values) - 1 for s in series)
    values = np.full((len(series), n), np.nan)
    for row, s in zip(values, series, strict=True):
        offset = round((s.start - start) / s.step_s)
        row[offset:offset + len(s.values)] = s.values
    g = group.judge(values, budget)
    whole = Series("group", start, first.step_s, np.full(n, np.nan), first.zoned)
    names = [series[int(i)].name for i in g.contributor]
    at = np.arange(n)
    expected, scale = g.expected[g.contributor, at], g.scale[g.contributor, at]
    value = values[g.contributor, at]
    found = [{"series": "group", "start": whole.time_of(a), "end": whole.time_of(b), "kind": "joint", "channel": names[a],
              "score": g.strength[a], "p_value": g.p[a], "expected": expected[a], "low": expected[a] - BAND * scale[a],
              "high": expected[a] + BAND * scale[a], "_start": a, "_end": b} for a, b in group.runs(g.hot)]
    shown = Series("group", start, first.step_s, value, first.zoned)
    return [Scored(shown, g.strength, g.p, names, g.hot, expected, expected - BAND * scale, expected + BAND * scale, found)]


def warm_up(scored: Sequence[Scored], together: bool) -> str:
    """What of the series is warm-up, in a sentence: nothing alarms in it, and how little is judged in what is young."""
    steps = [len(s.score) for s in scored]
    if together:
        first, n = min(group.STAGES[0], steps[0]), steps[0]
        return f"warm-up: nothing alarms in the first {group.STAGES[0]} steps" + (
            f" ({n} are all there are)" if n <= first else f"; before step {group.REFERENCE} the alarm level is higher")
    days = [n * s.series.step_s / 86400 for n, s in zip(steps, scored, strict=True)]
    least, young = sum(d <= 1 for d in days), sum(d <= 7 * LONG_WEEKS for d in days)
    return (f"warm-up: nothing alarms in a series' first day{_of(least)}; in its first {LONG_WEEKS} weeks{_of(young)}, and at "
            "steps under a quarter of an hour, no days, drifts, clocks and copies are judged")


def _of(n: int) -> str:
    return f" ({n} series {'has' if n == 1 else 'have'} no more)" if n else ""


def write_onsets(path: Path | None, scored: Sequence[Scored]) -> int:
    """The alarms as CSV, oldest first in each series, to a file or standard output; returns how many."""
    rows = [{k: _cell(o[k]) for k in ONSET_COLUMNS} for s in scored for o in s.onsets]
    _write(path, ONSET_COLUMNS, [[r[c] for c in ONSET_COLUMNS] for r in rows])
    return len(rows)


def write_scores(path: Path, scored: Sequence[Scored]) -> None:
    """Every step of every series as CSV; alarm is 1 or 0, an unknown value is empty."""
    rows = ([s.series.name, s.series.time_of(i), *map(_cell, (s.series.values[i], s.score[i], s.p[i])), s.channel[i],
             int(s.hot[i]), *map(_cell, (s.expected[i], s.low[i], s.high[i]))]
            for s in scored for i in range(len(s.score)))
    _write(path, SCORE_COLUMNS, rows)


def _write(path: Path | None, header: Sequence[str], rows: Any) -> None:
    import sys

    if path is None:
        out = csv.writer(sys.stdout, lineterminator="\n")
        out.writerow(header)
        out.writerows(rows)
        return
    with path.open("w", encoding="utf-8", newline="") as f:
        out = csv.writer(f, lineterminator="\n")
        out.writerow(header)
        out.writerows(rows)


def _cell(value: Any) -> Any:
    if isinstance(value, str):
        return value
    return "" if value is None or not np.isfinite(value) else f"{float(value):.6g}"
