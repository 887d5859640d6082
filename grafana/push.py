"""Boards into a running Grafana over its HTTP API, for one that is not provisioned from files."""

from __future__ import annotations

from typing import Any

from grafana.boards import LANGUAGES, WORDS, board, boards
from park.errors import SetupError


def push(url: str, token: str) -> list[str]:
    """Create or update every board; the uids that were written. SetupError when Grafana refuses or is not there."""
    try:
        from grafana_client import GrafanaApi, TokenAuth
        from grafana_client.client import GrafanaException
    except ImportError as exc:
        raise SetupError("the Grafana client is missing: install park-telemetry[grafana]") from exc
    api: Any = GrafanaApi.from_url(url, credential=TokenAuth(token))
    try:
        there = {folder["uid"] for folder in api.folder.get_all_folders()}
        for lang in LANGUAGES:
            if f"park-{lang}" not in there:
                api.folder.create_folder(WORDS[lang]["folder"], f"park-{lang}")
        written = []
        for lang in LANGUAGES:
            for row in boards():
                model = board(row, lang)
                api.dashboard.update_dashboard({"dashboard": model, "folderUid": f"park-{lang}", "overwrite": True})
                written.append(model["uid"])
        return written
    except (GrafanaException, OSError) as exc:
        raise SetupError(f"Grafana at {url} refused: {exc}") from exc
