"""Charts of the data object as PNG (200 dpi, for documents) and SVG (for the page), in colours that survive grey printing."""

from __future__ import annotations

import io
from contextlib import AbstractContextManager
from functools import lru_cache
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from reports.fonts import FAMILIES, chart_family
from reports.model import Chart, Language
from reports.words import word

COLOURS = ("#1f5f8b", "#e08e2b", "#3c8d5a", "#9a4f96", "#b7b7a4", "#c44536", "#6c757d", "#00798c")
HATCHES = ("", "//", "..", "xx", "--", "\\\\", "++", "oo")
MARKERS = ("o", "s", "^", "D", "v")
DPI = 200
SIZE_IN = (6.7, 2.9)
LEGEND = 110  # characters of a line of the legend, with its keys
HIGHEST_IN = 8.6  # a page holds it with its caption


@lru_cache(maxsize=64)
def png(chart: Chart, language: Language) -> bytes:
    """The chart as PNG at 200 dpi; drawn once for docx and pdf."""
    out = io.BytesIO()
    with _style():
        _draw(chart, language).savefig(out, format="png", dpi=DPI, metadata={"Software": None})
    return out.getvalue()


def svg(chart: Chart, language: Language) -> str:
    """The chart as an SVG element with real text, stable from run to run."""
    out = io.StringIO()
    with _style({"svg.fonttype": "none", "svg.hashsalt": chart.id}):
        _draw(chart, language).savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    text = text[text.index("<svg") :].replace(f"'{chart_family()}'", ", ".join(f"'{f}'" for f in FAMILIES) + ", sans-serif")
    # ids are defined per element: two charts on one page must not share them
    for before in (' id="', 'href="#', "url(#"):
        text = text.replace(before, f"{before}{chart.id}-")
    return text


def _style(more: dict[str, Any] | None = None) -> AbstractContextManager[None]:
    """Fonts and lines while a chart is drawn."""
    return matplotlib.rc_context(
        {
            "font.family": [chart_family(), "DejaVu Sans"],
            "font.size": 8.5,
            "axes.unicode_minus": False,
            "hatch.linewidth": 0.5,
            "axes.spines.top": False,
            "axes.spines.right": False,
        }
        | (more or {})
    )


def _draw(chart: Chart, language: Language) -> Figure:
    horizontal = chart.kind == "bars" and len(chart.labels) > 4
    bar = max(0.42, 0.16 * len(chart.series))
    height = min(HIGHEST_IN, max(SIZE_IN[1], 0.9 + bar * len(chart.labels))) if horizontal else SIZE_IN[1]
    figure = Figure(figsize=(SIZE_IN[0], height), layout="constrained")
    axes = figure.subplots()
    labels = [x.of(language) for x in chart.labels]
    (_bars_across if horizontal else _lines if chart.kind == "line" else _bars)(axes, chart, labels, language)
    if chart.limit is not None:
        (axes.axvline if horizontal else axes.axhline)(chart.limit, color="#b02a1e", linestyle="--", linewidth=1.2)
        told = f"{chart.limit_name.of(language)} {chart.limit:g}"
        at = (chart.limit, 1.0) if horizontal else (1.0, chart.limit)
        axes.text(*at, told, color="#b02a1e", ha="right", va="bottom",
                  transform=axes.get_xaxis_transform() if horizontal else axes.get_yaxis_transform())
    unit = word("units", chart.unit).of(language)
    (axes.set_xlabel if horizontal else axes.set_ylabel)(unit)
    axes.set_axisbelow(True)
    axes.grid(axis="x" if horizontal else "y", color="#d9d9d9", linewidth=0.6)
    (axes.xaxis if horizontal else axes.yaxis).set_major_formatter(
        FuncFormatter(lambda v, _: f"{v:,.4g}" if abs(v) < 1e4 else f"{v:,.0f}")
    )
    if len(chart.series) > 1:
        longest = max(sum(2 if ord(c) > 0x2E80 else 1 for c in s.name.of(language)) for s in chart.series)
        columns = max(1, min(6, len(chart.series), LEGEND // (longest + 8)))
        figure.legend(loc="outside upper center", ncols=columns, frameon=False)
    return figure


def _bars(axes: Any, chart: Chart, labels: list[str], language: Language) -> None:
    stacked, n = chart.kind == "stacked", len(chart.series)
    width = 0.68 if stacked else 0.75 / n
    floor = [0.0] * len(labels)
    for i, series in enumerate(chart.series):
        heights = [v or 0.0 for v in series.values]
        at = [x if stacked else x + (i - (n - 1) / 2) * width for x in range(len(labels))]
        axes.bar(
            at,
            heights,
            width,
            bottom=floor if stacked else None,
            label=series.name.of(language),
            color=COLOURS[i % len(COLOURS)],
            hatch=HATCHES[i % len(HATCHES)],
            edgecolor="white",
            linewidth=0.4,
        )
        for x in () if stacked else [x for x, v in zip(at, series.values, strict=True) if v is None]:
            axes.text(x, 0.02, "—", ha="center", va="bottom", color="#808080", transform=axes.get_xaxis_transform())
        if stacked:
            floor = [a + b for a, b in zip(floor, heights, strict=True)]
    axes.set_xticks(range(len(labels)), labels)
    _mark_missing(axes, chart, labels)


def _bars_across(axes: Any, chart: Chart, labels: list[str], language: Language) -> None:
    n = len(chart.series)
    height = 0.75 / n
    for i, series in enumerate(chart.series):
        at = [y + (i - (n - 1) / 2) * height for y in range(len(labels))]
        bars = axes.barh(
            at,
            [v or 0.0 for v in series.values],
            height,
            label=series.name.of(language),
            color=COLOURS[i % len(COLOURS)],
            hatch=HATCHES[i % len(HATCHES)],
            edgecolor="white",
            linewidth=0.4,
        )
        axes.bar_label(bars, ["—" if v is None else f"{v:,.1f}" for v in series.values], padding=2, fontsize=7 if n < 4 else 6,
                       bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.4})
    axes.set_yticks(range(len(labels)), labels)
    axes.invert_yaxis()
    axes.margins(x=0.12)


def _lines(axes: Any, chart: Chart, labels: list[str], language: Language) -> None:
    for i, series in enumerate(chart.series):
        values = [float("nan") if v is None else v for v in series.values]
        axes.plot(
            range(len(labels)),
            values,
            marker=MARKERS[i % len(MARKERS)],
            markersize=4,
            linewidth=1.6,
            label=series.name.of(language),
            color=COLOURS[i % len(COLOURS)],
        )
    axes.set_xticks(range(len(labels)), labels)
    if chart.unit == "%":
        floor = percent_floor(chart)
        axes.set_ylim(floor, 100 + 0.05 * (100 - floor))
    else:
        axes.set_ylim(0, 1.1 * max((v for s in chart.series for v in s.values if v is not None), default=1.0) or 1.0)
    _mark_missing(axes, chart, labels)


def _mark_missing(axes: Any, chart: Chart, labels: list[str]) -> None:
    """A dash where no series has a value: an empty place is not a zero."""
    for x in range(len(labels)):
        if all(s.values[x] is None for s in chart.series):
            axes.text(x, 0.02, "—", ha="center", va="bottom", color="#808080", transform=axes.get_xaxis_transform())


def percent_floor(chart: Chart) -> float:
    """Where the axis of a rate begins: 99 % or 90 %, or lower by whole tens."""
    lowest = min((v for s in chart.series for v in s.values if v is not None), default=0.0)
    return 99.0 if lowest >= 99 else min(90.0, 10 * (lowest // 10))
