"""A page (HTML) or a picture (SVG) of a backtest: figures of each rule, the busiest series with their bands and episodes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

from alerts.backtest import Episode, Outcome, Track
from alerts.backtest_report import differences, figures
from alerts.evaluator import Floats
from alerts.explain import figure
from alerts.loading import Readings
from alerts.rules import Rule
from alerts.words import table

PANELS = 12
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 960, 190, 64, 12, 40, 26
WORDS = table("backtest_words.yaml")
STYLE = """
svg.backtest{font:12px "Noto Sans CJK SC","Microsoft YaHei",system-ui,sans-serif;background:#fff}
.backtest .line{fill:none;stroke:#1f5fa8;stroke-width:1.1}.backtest .range{fill:#1f5fa8;opacity:.28}
.backtest .band{fill:#2f855a;opacity:.17}.backtest .edge{stroke:#c53030;stroke-width:1;stroke-dasharray:5 3}
.backtest .now{fill:#c53030}.backtest .shade{fill:#c53030;opacity:.12}.backtest .candidate{fill:#b7791f}
.backtest text{fill:#24292f}.backtest .dim{fill:#6b7280}.backtest .axis{stroke:#c9ced6}
@media (prefers-color-scheme:dark){svg.backtest{background:#14181d}.backtest .line{stroke:#79b4f2}
.backtest .range{fill:#79b4f2}.backtest .band{fill:#68d391}.backtest .edge{stroke:#fc8181}.backtest .now{fill:#fc8181}
.backtest .shade{fill:#fc8181;opacity:.18}.backtest .candidate{fill:#ecc94b}
.backtest text{fill:#e6e9ee}.backtest .dim{fill:#9aa4b2}.backtest .axis{stroke:#3b4450}}
"""
PAGE = """
body{margin:24px auto;max-width:1000px;padding:0 16px;font:15px/1.5 "Noto Sans CJK SC","Microsoft YaHei",system-ui,sans-serif;
color:#24292f;background:#fff}h1{font-size:22px;margin:0}h2{font-size:17px;margin:24px 0 6px}p{margin:4px 0;color:#57606a}
table{border-collapse:collapse;margin:10px 0;width:100%}td,th{border-bottom:1px solid #d7dce2;padding:4px 8px;text-align:left}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}svg{max-width:100%;height:auto;display:block;margin:10px 0}
@media (prefers-color-scheme:dark){body{background:#14181d;color:#e6e9ee}p{color:#9aa4b2}td,th{border-color:#3b4450}}
"""


def page(outcome: Outcome, other: Outcome | None, base: str, start: datetime, end: datetime, zone: str, language: str) -> str:
    """The whole page as HTML; no address is named in it, nothing is loaded."""
    w = WORDS[language]
    head = [w["rule"], w["kind"], w["severity"], w["raises"], w["objects"], w["a_month"], w["hours"], w["median"]]
    rows = [[f.code, f.kind, w[f.severity], str(f.raises), str(f.objects), f"{f.a_month:.1f}", f"{f.hours:.1f}",
             "—" if f.median_min is None else f"{f.median_min:.1f}"] for f in figures(outcome, start, end)]
    parts = [f"<h1>{escape(w['title'])} · {escape(base)}</h1>",
             f"<p>{_stretch(start, end, zone)} · {_readings(outcome, w, start, end)}</p>", _table(head, rows, 3)]
    if outcome.nothing_for:
        names = ", ".join(f"{r.code} ({why})" for r, why in outcome.nothing_for)
        parts.append(f"<p>{escape(w['nothing_for'].format(names=names))}</p>")
    for c in (outcome if other is None else other).coarse:
        left_out = w["coarse"].format(code=c.rule.code, n=c.points, of=c.of, share=f"{c.share:.1%}")
        parts.append(f"<p>{escape(left_out)}</p>")
    if other is not None:
        diffs = [[d.code, *(str(n) for n in (d.now, d.candidate, d.only_now, d.only_candidate))]
                 for d in differences(outcome, other)]
        parts += [f"<h2>{escape(w['compared'])}</h2>",
                  _table([w["rule"], w["now"], w["candidate"], w["only_now"], w["only_candidate"]], diffs, 1)]
    drawn, left = _panels(outcome, other, start, end, zone, language)
    parts += [f'<svg class="backtest" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{p}</svg>' for p in drawn]
    parts.append(f"<p>{escape(w['more'].format(n=left) if left else '' if drawn else w['none'])}</p>")
    return (f'<!doctype html><html lang="{language}"><meta charset="utf-8"><title>{escape(w["title"])} {escape(base)}</title>'
            f'<meta name="viewport" content="width=device-width"><style>{PAGE}{STYLE}</style>'
            f'<body>{"".join(parts)}</body></html>')


def picture(outcome: Outcome, other: Outcome | None, base: str, start: datetime, end: datetime, zone: str,
            language: str) -> str:
    """The series alone as one SVG."""
    w = WORDS[language]
    drawn, left = _panels(outcome, other, start, end, zone, language)
    name = f"{escape(w['title'])} · {escape(base)} · {_stretch(start, end, zone)}"
    title = (f'<text x="{LEFT}" y="22" font-size="16">{name}</text>'
             f'<text x="{LEFT}" y="42" class="dim">{_readings(outcome, w, start, end)} '
             f'{escape(w["more"].format(n=left)) if left else ""}</text>')
    body = "".join(f'<g transform="translate(0 {50 + i * HEIGHT})">{p}</g>' for i, p in enumerate(drawn))
    height = 60 + HEIGHT * len(drawn)
    return (f'<svg xmlns="http://www.w3.org/2000/svg" class="backtest" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
            f'height="{height}"><style>{STYLE}</style>{title}{body}</svg>')


def _readings(outcome: Outcome, w: dict[str, str], start: datetime, end: datetime) -> str:
    rate = sum(f.a_month for f in figures(outcome, start, end))
    return escape(w["readings"].format(n=f"{outcome.n_readings:,}", raises=len(outcome.episodes), a_month=rate))


def _stretch(start: datetime, end: datetime, zone: str) -> str:
    first, last = (t.astimezone(ZoneInfo(zone)).strftime("%Y-%m-%d %H:%M") for t in (start, end))
    return f"{first} – {last} ({escape(zone)})"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], numbers_from: int) -> str:
    def line(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}{' class=n' if i >= numbers_from else ''}>{escape(c)}</{tag}>"
                                for i, c in enumerate(cells)) + "</tr>"
    return f"<table>{line(head, 'th')}{''.join(line(r, 'td') for r in rows)}</table>"


def _panels(outcome: Outcome, other: Outcome | None, start: datetime, end: datetime, zone: str,
            language: str) -> tuple[list[str], int]:
    """SVG of the busiest (rule, point), and how many are left out."""
    found: dict[tuple[str, int], list[list[Episode]]] = {}
    for side, o in enumerate((outcome, other)):
        for e in o.episodes if o is not None else ():
            if e.point_id is not None:
                found.setdefault((e.rule.code, e.point_id), [[], []])[side].append(e)
    ranked = sorted(found.items(), key=lambda item: (-max(len(item[1][0]), len(item[1][1])), item[0]))
    series = {**(other.series if other else {}), **outcome.series}
    bands = {**(other.bands if other else {}), **outcome.bands}
    tracks = {**(other.tracks if other else {}), **outcome.tracks}
    out = []
    for (_, point_id), (now, candidate) in ranked[:PANELS]:
        rule = (now or candidate)[0].rule
        track = tracks.get((rule.rule_id, point_id))
        edges = [bands[key] for side in (now, candidate) if side and (key := (side[0].rule.rule_id, point_id)) in bands]
        readings = series.get(point_id) if track is None else Readings(track.at, track.value, np.zeros(len(track.at), np.int16))
        out.append(_panel(rule, (now or candidate)[0].thing, readings, track or edges, now, candidate if other else None,
                          (start.timestamp(), end.timestamp()), zone, language))
    return out, max(0, len(ranked) - PANELS)


def _panel(rule: Rule, thing: str, readings: Readings | None, edges: Track | Sequence[tuple[float, float]],
           now: Sequence[Episode], candidate: Sequence[Episode] | None, span: tuple[float, float], zone: str,
           language: str) -> str:
    w = WORDS[language]
    name = rule.name_zh if language == "zh" else rule.name_en
    plot_w, plot_h = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    low, high, bins = _envelope(readings, span, plot_w)
    bounds = np.concatenate([edges.low, edges.high]) if isinstance(edges, Track) else np.array(edges, float).reshape(-1)
    ends = [*bounds[np.isfinite(bounds)].tolist(), *(v for v in (low, high) if np.isfinite(v))]
    bottom, top = (min(ends), max(ends)) if ends else (0.0, 1.0)
    pad = 0.06 * (top - bottom) or 1.0
    bottom, top = bottom - pad, top + pad

    def x(at: float) -> float:
        return LEFT + (at - span[0]) / (span[1] - span[0]) * plot_w

    def y(v: float) -> float:
        return TOP + (1 - (v - bottom) / (top - bottom)) * plot_h

    counts = f"{w['now']} {len(now)}" + ("" if candidate is None else f" · {w['candidate']} {len(candidate)}")
    parts = [f'<text x="{LEFT}" y="14">{escape(f"{name} ({rule.code}) · {thing}")}</text>'
             f'<text x="{WIDTH - RIGHT}" y="14" text-anchor="end" class="dim">{escape(counts)}</text>']
    for e in now:
        a, b = x(e.raised_at), x(span[1] if np.isnan(e.returned_at) else e.returned_at)
        parts.append(f'<rect class="shade" x="{a:.1f}" y="{TOP}" width="{max(b - a, 1):.1f}" height="{plot_h}"/>')
    for row, (side, css) in enumerate(((now, "now"), (candidate or [], "candidate"))):
        for e in side:
            a, b = x(e.raised_at), x(span[1] if np.isnan(e.returned_at) else e.returned_at)
            parts.append(f'<rect class="{css}" x="{a:.1f}" y="{22 + 8 * row}" width="{max(b - a, 1.5):.1f}" height="6"/>')
    parts.append(_moving(edges, x, y) if isinstance(edges, Track) else _fixed(edges, plot_w, y))
    parts += [_series(bins, x, y), _axes(bottom, top, span, zone, x, y)]
    return "".join(parts)


def _fixed(edges: Sequence[tuple[float, float]], plot_w: int, y: object) -> str:
    """Limits that stand still; the band of the first."""
    assert callable(y)
    parts = []
    for i, (lo, hi) in enumerate(edges):
        if i == 0 and np.isfinite(lo) and np.isfinite(hi):
            parts.append(f'<rect class="band" x="{LEFT}" y="{y(hi):.1f}" width="{plot_w}" height="{y(lo) - y(hi):.1f}"/>')
        parts += [f'<line class="edge" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(v):.1f}" y2="{y(v):.1f}"/>'
                  for v in (lo, hi) if np.isfinite(v)]
    return "".join(parts)


def _moving(track: Track, x: object, y: object) -> str:
    """The band of every hour; a limit that only some hours have is a line where it holds."""
    assert callable(x) and callable(y)
    parts = []
    both = np.isfinite(track.low) & np.isfinite(track.high)
    for part in _together(track.at, both):
        upper = " ".join(f"{x(track.at[i]):.1f},{y(track.high[i]):.1f}" for i in part)
        lower = " ".join(f"{x(track.at[i]):.1f},{y(track.low[i]):.1f}" for i in part[::-1])
        parts.append(f'<polygon class="band" points="{upper} {lower}"/>')
    for bound in (track.low, track.high):
        for part in _together(track.at, np.isfinite(bound) & ~both):
            line = " ".join(f"{x(track.at[i]):.1f},{y(bound[i]):.1f}" for i in part)
            parts.append(f'<polyline class="edge" fill="none" points="{line}"/>')
    return "".join(parts)


def _together(at: Floats, wanted: np.ndarray[Any, np.dtype[np.bool_]]) -> list[np.ndarray[Any, np.dtype[np.intp]]]:
    """Places that are wanted, in runs without a gap."""
    place = np.flatnonzero(wanted)
    if not len(place):
        return []
    usual = float(np.median(np.diff(at))) if len(at) > 1 else 1.0
    return [p for p in np.split(place, np.flatnonzero(np.diff(at[place]) > 1.5 * usual) + 1) if len(p) > 1]


Bins = tuple[Floats, Floats, Floats]


def _envelope(readings: Readings | None, span: tuple[float, float], n: int) -> tuple[float, float, Bins]:
    """(least, greatest, (epoch, least, greatest) of each column that has a reading)."""
    empty = np.empty(0)
    if readings is None:
        return np.nan, np.nan, (empty, empty, empty)
    ok = ~np.isnan(readings.usable)
    at, value = readings.at[ok], readings.value[ok]
    if not len(at):
        return np.nan, np.nan, (empty, empty, empty)
    column = np.clip(((at - span[0]) / (span[1] - span[0]) * n).astype(int), 0, n - 1)
    first = np.concatenate([[0], np.flatnonzero(np.diff(column)) + 1])
    low, high = np.minimum.reduceat(value, first), np.maximum.reduceat(value, first)
    return float(low.min()), float(high.max()), (at[first], low, high)


def _series(bins: Bins, x: object, y: object) -> str:
    at, low, high = bins
    if not len(at):
        return ""
    assert callable(x) and callable(y)
    usual = float(np.median(np.diff(at))) if len(at) > 1 else 1.0
    cuts = np.flatnonzero(np.diff(at) > 3.5 * usual) + 1
    out = []
    for part in np.split(np.arange(len(at)), cuts):
        upper = " ".join(f"{x(at[i]):.1f},{y(high[i]):.1f}" for i in part)
        lower = " ".join(f"{x(at[i]):.1f},{y(low[i]):.1f}" for i in part[::-1])
        middle = " ".join(f"{x(at[i]):.1f},{y((low[i] + high[i]) / 2):.1f}" for i in part)
        out.append(f'<polygon class="range" points="{upper} {lower}"/><polyline class="line" points="{middle}"/>')
    return "".join(out)


def _axes(bottom: float, top: float, span: tuple[float, float], zone: str, x: object, y: object) -> str:
    assert callable(x) and callable(y)
    parts = [f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{HEIGHT - BOTTOM}" y2="{HEIGHT - BOTTOM}"/>']
    for v in np.linspace(bottom, top, 4)[1:-1]:
        mark = figure(float(f"{v:.3g}"))
        parts.append(f'<text class="dim" x="{LEFT - 6}" y="{y(v) + 4:.1f}" text-anchor="end">{mark}</text>')
    long = span[1] - span[0]
    form = "%m-%d" if long > 3 * 86400 else "%m-%d %H:%M"
    for i in range(7):
        at = span[0] + long * i / 6
        anchor = "start" if i == 0 else "end" if i == 6 else "middle"
        label = datetime.fromtimestamp(at, UTC).astimezone(ZoneInfo(zone)).strftime(form)
        parts.append(f'<text class="dim" x="{x(at):.1f}" y="{HEIGHT - 8}" text-anchor="{anchor}">{label}</text>')
    return "".join(parts)
