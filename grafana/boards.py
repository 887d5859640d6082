"""Boards as code: `boards/boards.yaml` and `panels.sql` become Grafana's provisioning files, in Chinese and English.

Files have stable uids, so that a new build updates boards instead of adding them; `check` says whether the files in the
tree are what the sources build. Nothing here talks to a Grafana: `push.py` does.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from park.database import queries
from park.errors import InputError

HERE = Path(__file__).parent
OUT = HERE / "dashboards"
DATASOURCE = {"type": "grafana-postgresql-datasource", "uid": "park"}
LANGUAGES = ("zh", "en")
WORDS = {"zh": {"limit": "限值", "base": "基地", "outlet": "排口", "point": "测点", "folder": "园区平台"},
         "en": {"limit": "limit", "base": "Base", "outlet": "Outlet", "point": "Point", "folder": "Park"}}
VARIABLE_QUERY = {"base": "bases", "outlet": "outlets", "point": "points"}
WIDTH = 24


@dataclass(frozen=True)
class Panel:
    """One panel: its query's name, how it draws, and its place on the 24 columns."""

    query: str
    type: str
    title: str
    unit: str
    width: int
    height: int
    options: dict[str, Any]


def sql_of(name: str, lang: str) -> str:
    """A panel's SQL in one language; the leading comment of the file stays with it for whoever opens the panel."""
    try:
        text = queries(HERE / "panels.sql")[name]
    except KeyError as exc:
        raise InputError(f"grafana/panels.sql has no query named {name!r}") from exc
    return text.replace("{lang}", lang).replace("{limit}", WORDS[lang]["limit"])


def boards() -> list[dict[str, Any]]:
    """The rows of boards.yaml."""
    rows: list[dict[str, Any]] = yaml.safe_load((HERE / "boards" / "boards.yaml").read_text(encoding="utf-8"))
    return rows


def build(folder: Path = OUT) -> list[Path]:
    """Write every board in every language below `folder` (one folder a language) and return the files."""
    written = []
    for path, text in rendered(folder).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        written.append(path)
    return written


def differences(folder: Path = OUT) -> list[str]:
    """Files that are missing or not what the sources build."""
    return [str(path) for path, text in rendered(folder).items()
            if not path.exists() or path.read_text(encoding="utf-8") != text]


def rendered(folder: Path = OUT) -> dict[Path, str]:
    """Path and text of every file that `build` writes."""
    return {folder / lang / f"{row['uid']}.json": json.dumps(board(row, lang), ensure_ascii=False, indent=1) + "\n"
            for lang in LANGUAGES for row in boards()}


def board(row: dict[str, Any], lang: str) -> dict[str, Any]:
    """One board as Grafana's JSON model."""
    panels = [_panel(p, lang) for p in row["panels"]]
    return {
        "uid": f"{row['uid']}-{lang}", "title": row["title"][lang], "tags": ["park", lang], "timezone": "browser",
        "schemaVersion": 41, "editable": True, "refresh": "30s", "time": {"from": row.get("time", "now-24h"), "to": "now"},
        "templating": {"list": [_variable(v, lang) for v in ("base", *row.get("variables", ()))]},
        "annotations": {"list": [_annotation(lang)]},
        "links": [{"type": "dashboards", "tags": ["park", lang], "asDropdown": False, "title": "", "keepTime": True,
                   "includeVars": True}],
        "panels": [_model(i, p, place, lang) for i, (p, place) in enumerate(zip(panels, _places(panels), strict=True), 1)],
    }


def _panel(row: dict[str, Any], lang: str) -> Panel:
    known = {"query", "type", "title", "unit", "size"}
    width, height = row["size"]
    return Panel(row["query"], row["type"], row["title"][lang], row.get("unit", ""), width, height,
                 {k: v for k, v in row.items() if k not in known})


def _places(panels: list[Panel]) -> list[tuple[int, int]]:
    """(x, y) of each panel: rows fill from the left, the tallest panel of a row decides where the next begins."""
    places, x, y, row_height = [], 0, 0, 0
    for panel in panels:
        if x + panel.width > WIDTH:
            x, y, row_height = 0, y + row_height, 0
        places.append((x, y))
        x, row_height = x + panel.width, max(row_height, panel.height)
    return places


def _model(number: int, panel: Panel, place: tuple[int, int], lang: str) -> dict[str, Any]:
    is_time = panel.type == "timeseries"
    return {
        "id": number, "type": panel.type, "title": panel.title, "datasource": DATASOURCE,
        "gridPos": {"x": place[0], "y": place[1], "w": panel.width, "h": panel.height},
        "fieldConfig": {"defaults": _field(panel), "overrides": []},
        "options": _options(panel),
        "targets": [{"refId": "A", "datasource": DATASOURCE, "rawQuery": True, "editorMode": "code",
                     "format": "time_series" if is_time else "table", "rawSql": sql_of(panel.query, lang)}],
        **({"transformations": [{"id": "prepareTimeSeries", "options": {"format": "multi"}}]} if is_time else {}),
    }


def _field(panel: Panel) -> dict[str, Any]:
    steps = [{"value": value, "color": color} for value, color in panel.options.get("thresholds", [[None, "text"]])]
    field: dict[str, Any] = {"unit": panel.unit, "thresholds": {"mode": "absolute", "steps": steps}, "noValue": "—"}
    if panel.type == "timeseries":
        bars = panel.options.get("style") == "bars"
        stacked = bars and panel.options.get("stack", True)
        # spanNulls off: a gap is drawn as a gap, never bridged and never zero
        field["custom"] = {"drawStyle": "bars" if bars else "line", "fillOpacity": 70 if bars else 8, "lineWidth": 1,
                           "spanNulls": False, "showPoints": "auto",
                           "stacking": {"mode": "normal" if stacked else "none", "group": "A"}}
    if panel.type == "stat":
        field["decimals"] = 1
    return field


def _options(panel: Panel) -> dict[str, Any]:
    if panel.type == "stat":
        return {"reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}, "colorMode": "value",
                "graphMode": "none", "textMode": "value"}
    if panel.type == "table":
        return {"showHeader": True, "cellHeight": "sm"}
    if panel.type == "barchart":
        return {"orientation": "horizontal", "showValue": "auto", "legend": {"showLegend": False}}
    return {"legend": {"showLegend": True, "displayMode": "list", "placement": "bottom"},
            "tooltip": {"mode": "multi", "sort": "desc"}}


def _variable(name: str, lang: str) -> dict[str, Any]:
    many = name == "point"
    return {"name": name, "label": WORDS[lang][name], "type": "query", "datasource": DATASOURCE, "refresh": 1, "sort": 0,
            "query": sql_of(VARIABLE_QUERY[name], lang), "multi": many, "includeAll": False}


def _annotation(lang: str) -> dict[str, Any]:
    return {"name": "alerts", "enable": True, "hide": False, "iconColor": "red", "datasource": DATASOURCE,
            "target": {"refId": "Anno", "rawQuery": True, "format": "table", "rawSql": sql_of("alert_annotation", lang)}}
