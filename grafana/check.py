"""Runs each panel's SQL against a database, as Grafana would send it and with the rights that Grafana has."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import psycopg

from grafana.boards import LANGUAGES, VARIABLE_QUERY, boards, sql_of
from grafana.macros import expand
from park.clock import utc_now
from park.database import connect

Rows = list[tuple[Any, ...]]


def refused(url: str) -> list[str]:
    """A line for each panel that the database refuses."""
    with connect(url, autocommit=True) as conn:
        conn.execute("SET SESSION AUTHORIZATION park_grafana")
        return [f"{name} ({lang}): {outcome}" for name, lang, outcome in run_all(conn, utc_now())
                if isinstance(outcome, psycopg.Error)]


def run_all(conn: psycopg.Connection[Any], now: datetime) -> Iterator[tuple[str, str, Rows | psycopg.Error]]:
    """(query, language, rows or the error) of every panel, variable and annotation over the last 30 days."""
    low = now - timedelta(days=30)
    first = {"base": ["lvyuan"], "outlet": [""], "point": [""]}
    for variable, query in VARIABLE_QUERY.items():
        rows = conn.execute(expand(sql_of(query, "zh"), low, now, 60_000, first).encode()).fetchall()
        first[variable] = [str(row[0]) for row in rows[:3 if variable == "point" else 1]] or [""]
    names = {p["query"] for row in boards() for p in row["panels"]} | set(VARIABLE_QUERY.values()) | {"alert_annotation"}
    for name in sorted(names):
        for lang in LANGUAGES:
            text = expand(sql_of(name, lang), low, now, 3_600_000, first)
            try:
                yield name, lang, conn.execute(text.encode()).fetchall()
            except psycopg.Error as exc:
                yield name, lang, exc
