"""Two years of a small park in the tables that reports read, and its report in every format."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from park.catalogue import read_catalogue
from park.catalogue_store import apply
from park.database import connect
from park.embedded import Postgres
from reports.model import Language
from reports.store import Edition, draft
from reports.write import FORMATS, write_files

YEAR_SQL = Path(__file__).parent / "year.sql"
MINI = Path(__file__).parent.parent / "data" / "mini.yaml"
AFTER = datetime(2027, 1, 15, 4, 0, tzinfo=UTC)
"""An instant after the year 2026 has ended."""


def _copy(postgres: Postgres, template: str, prefix: str) -> str:
    name = f"{prefix}_{uuid4().hex[:10]}"
    with psycopg.connect(postgres.url("postgres"), autocommit=True) as conn:
        conn.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY").format(sql.Identifier(name), sql.Identifier(template))
        )
    return name


@pytest.fixture(scope="session")
def year_database(postgres: Postgres) -> str:
    """Name of a database with the small park and its two years; tests take copies."""
    name = _copy(postgres, "park", "year")
    with connect(postgres.url(name), autocommit=True) as conn:
        apply(conn, read_catalogue([MINI]))
        conn.execute(YEAR_SQL.read_bytes())
    return name


@pytest.fixture
def year_url(postgres: Postgres, year_database: str) -> Iterator[str]:
    """URL of a fresh copy of the park with its years."""
    name = _copy(postgres, year_database, "report")
    yield postgres.url(name)
    with psycopg.connect(postgres.url("postgres"), autocommit=True) as conn:
        conn.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def park_year(year_url: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection to that copy."""
    with connect(year_url, autocommit=True) as conn:
        yield conn


@pytest.fixture(scope="session")
def edition(postgres: Postgres, year_database: str) -> Edition:
    """The annual report of 2026, not sealed; read from a copy, since a template must have no visitors."""
    with connect(postgres.url(_copy(postgres, year_database, "edition")), autocommit=True) as conn:
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
