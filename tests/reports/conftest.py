"""Two years of a small park in the tables that reports read, and its report in every format."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from park.catalogue import read_catalogue
from park.catalogue_store import apply
from park.database import connect
from reports.model import Language
from reports.store import Edition, draft
from reports.write import FORMATS, write_files

YEAR_SQL = Path(__file__).parent / "year.sql"
MINI = Path(__file__).parent.parent / "data" / "mini.yaml"
AFTER = datetime(2027, 1, 15, 4, 0, tzinfo=UTC)
"""An instant after the year 2026 has ended."""


@pytest.fixture(scope="session")
def year_database(databases: Any) -> str:
    """Name of a database with the small park and its two years; tests take copies."""
    name: str = databases.copy(prefix="year")
    with connect(databases.url(name), autocommit=True) as conn:
        apply(conn, read_catalogue([MINI]))
        conn.execute(YEAR_SQL.read_bytes())
    return name


@pytest.fixture
def year_url(databases: Any, year_database: str) -> Iterator[str]:
    """URL of a fresh copy of the park with its years."""
    name = databases.copy(year_database, "report")
    yield databases.url(name)
    databases.drop(name)


@pytest.fixture
def park_year(year_url: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection to that copy."""
    with connect(year_url, autocommit=True) as conn:
        yield conn


@pytest.fixture(scope="session")
def edition(databases: Any, year_database: str) -> Edition:
    """The annual report of 2026, not sealed; read from a copy, since a template must have no visitors."""
    with connect(databases.url(databases.copy(year_database, "edition")), autocommit=True) as conn:
        return draft(conn, "mini", "annual", 2026, AFTER)


@pytest.fixture(scope="session")
def files(edition: Edition, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[Language, str], Path]:
    """The edition in both languages and every format."""
    folder = tmp_path_factory.mktemp("report")
    made: dict[tuple[Language, str], Path] = {}
    languages: tuple[Language, ...] = ("zh", "en")
    for language in languages:
        made |= {(language, f): path for f, path in zip(FORMATS, write_files(edition, language, FORMATS, folder), strict=True)}
    return made
