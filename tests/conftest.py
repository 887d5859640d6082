"""Real parts for every test: one embedded PostgreSQL and one broker a test run, one fresh migrated database a test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from park.broker import Broker
from park.catalogue import read_catalogue
from park.catalogue_store import apply
from park.database import connect, migrate
from park.embedded import Postgres

MINI = Path(__file__).parent / "data" / "mini.yaml"


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """The embedded server; it forgets durability, which tests of crashes start for themselves."""
    server = Postgres(tmp_path_factory.mktemp("postgres") / "data",
                      config={"fsync": "off", "synchronous_commit": "off", "shared_buffers": "128MB"})
    with server.start():
        migrate(server.url())
        yield server


@pytest.fixture
def database_url(postgres: Postgres) -> Iterator[str]:
    """URL of a fresh database with the whole schema, a copy of the migrated one."""
    name = f"test_{uuid4().hex[:12]}"
    with psycopg.connect(postgres.url("postgres"), autocommit=True) as conn:
        conn.execute(sql.SQL("CREATE DATABASE {} TEMPLATE park STRATEGY FILE_COPY").format(sql.Identifier(name)))
        yield postgres.url(name)
        conn.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def db(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection in autocommit to the fresh database."""
    with connect(database_url, autocommit=True) as conn:
        yield conn


@pytest.fixture
def mini(db: psycopg.Connection[Any]) -> psycopg.Connection[Any]:
    """The fresh database with the small park of tests/data/mini.yaml applied."""
    apply(db, read_catalogue([MINI]))
    return db


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """The embedded broker that this machine would use."""
    with Broker(tmp_path_factory.mktemp("broker")).start() as server:
        yield server
