"""Real parts for every test: one PostgreSQL and one broker a test run, one fresh migrated database a test.

The database server is the embedded one. PARK_TEST_TIMESCALE_URL and PARK_TEST_CITUS_URL (of a superuser on a server that
has the extension loaded) put the whole suite onto TimescaleDB and Citus instead; with both it runs on each in turn. Tests
that kill a server bring an embedded one of their own.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import psycopg
import pytest
from hypothesis import settings
from psycopg import sql

from park.broker import Broker
from park.catalogue import read_catalogue
from park.catalogue_store import apply
from park.database import connect, migrate
from park.embedded import Postgres
from park.engine import CITUS, PLAIN, TIMESCALEDB, follow

FORGETFUL = {"fsync": "off", "synchronous_commit": "off", "shared_buffers": "128MB", "max_wal_size": "512MB"}
MINI = Path(__file__).parent / "data" / "mini.yaml"
SERVERS = {engine: url for engine, variable in ((TIMESCALEDB, "PARK_TEST_TIMESCALE_URL"), (CITUS, "PARK_TEST_CITUS_URL"))
           if (url := os.environ.get(variable))}
LONG = {"test_demo.py", "test_soak.py", "test_survival.py", "test_hj212_standard.py", "test_truth.py", "test_interval_year.py",
        "test_months.py", "test_linkage.py", "test_hj212_fuzz.py", "test_up.py", "test_retention.py"}
"""Files that take ten seconds and more: they begin, so that no worker is left with one of them while the others have ended."""

settings.register_profile("park", deadline=None)  # a neighbour of the machine may take any time
settings.load_profile("park")


def pytest_configure(config: pytest.Config) -> None:
    """Workers take files in the order below; by itself xdist would end with those of few tests, however long they take."""
    config.option.loadscopereorder = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first; within them, and among the others, the order stays."""
    items.sort(key=lambda item: item.path.name not in LONG)


class Elsewhere:
    """Another server in the place of the embedded one: the database `park` of this run has a name of its own there."""

    def __init__(self, engine: str, url: str) -> None:
        self.engine = engine
        self._parts = urlsplit(url)
        self.template = f"park_{uuid4().hex[:12]}"

    def url(self, database: str = "park") -> str:
        """libpq URL of a database of this server."""
        return urlunsplit(self._parts._replace(path="/" + (self.template if database == "park" else database)))


class Databases:
    """Databases of a test run: copies of the migrated one, or of others."""

    def __init__(self, server: Postgres | Elsewhere) -> None:
        self.server = server

    @property
    def engine(self) -> str:
        """Which engine this run is about: postgresql, timescaledb or citus."""
        return self.server.engine if isinstance(self.server, Elsewhere) else PLAIN

    def url(self, name: str) -> str:
        """URL of a database by name."""
        return self.server.url(name)

    def copy(self, template: str = "park", prefix: str = "test") -> str:
        """Name of a new database that is as `template` is now; nobody may be connected to that."""
        name = f"{prefix}_{uuid4().hex[:12]}"
        if isinstance(self.server, Elsewhere):
            template = self.server.template if template == "park" else template
        with psycopg.connect(self.url("postgres"), autocommit=True) as conn:
            if self.engine != PLAIN:   # the extension's own workers are visitors too
                conn.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(sql.Identifier(template)))
                conn.execute("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s", (template,))
            conn.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY").format(
                sql.Identifier(name), sql.Identifier(template)))
            if isinstance(self.server, Elsewhere) and template != self.server.template:   # that one its test goes on with
                conn.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(sql.Identifier(template)))
        if self.engine == CITUS:
            with psycopg.connect(self.url(name), autocommit=True) as conn:
                follow(conn)
        return name

    @contextmanager
    def empty(self) -> Iterator[str]:
        """URL of a database without anything, for as long as it is wanted."""
        name = f"empty_{uuid4().hex[:12]}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as conn:
            conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            yield self.url(name)
        finally:
            self.drop(name)

    def drop(self, name: str) -> None:
        """Drop a database, whoever is connected to it."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as conn:
            conn.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@contextmanager
def _server_folder(least: int = 4 << 30) -> Iterator[Path]:
    """A folder in memory where `least` bytes are free, else on the disk: there a copy's 700 files take ten times as long."""
    memory = Path("/dev/shm")
    for left in memory.glob("park-test-*-*"):   # by a run that was killed
        if not Path("/proc", left.name.split("-")[2]).exists():
            shutil.rmtree(left, ignore_errors=True)
    roomy = memory.is_dir() and shutil.disk_usage(memory).free >= least
    with TemporaryDirectory(prefix=f"park-test-{os.getpid()}-", dir=memory if roomy else None) as folder:
        Path(folder).chmod(0o755)   # as root the server is another user's
        yield Path(folder)


@pytest.fixture(scope="session", params=list(SERVERS) or [PLAIN])
def postgres(request: pytest.FixtureRequest) -> Iterator[Postgres | Elsewhere]:
    """The database server; the embedded one forgets durability, which tests of crashes start for themselves."""
    if request.param != PLAIN:
        server = Elsewhere(request.param, SERVERS[request.param])
        with psycopg.connect(SERVERS[request.param], autocommit=True) as conn:
            conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(server.template)))
        migrate(server.url(), citus=request.param == CITUS)
        yield server
        Databases(server).drop(server.template)
        return
    with _server_folder() as folder, Postgres(folder / "data", config=FORGETFUL).start() as embedded:
        migrate(embedded.url())
        yield embedded


@pytest.fixture(scope="session")
def databases(postgres: Postgres | Elsewhere) -> Databases:
    """Makes databases on the server of this run."""
    return Databases(postgres)


@pytest.fixture(scope="session")
def mini_template(databases: Databases) -> str:
    """Name of a database with the small park of tests/data/mini.yaml applied."""
    name = databases.copy(prefix="mini")
    with connect(databases.url(name), autocommit=True) as conn:
        apply(conn, read_catalogue([MINI]))
    return name


@pytest.fixture
def template(request: pytest.FixtureRequest) -> str:
    """Name of the database that a test's own is a copy of; a folder or module with more in common has its own `template`."""
    return str(request.getfixturevalue("mini_template")) if "mini" in request.fixturenames else "park"


@pytest.fixture
def database_url(databases: Databases, template: str) -> Iterator[str]:
    """URL of a fresh database with the whole schema and what `template` holds."""
    name = databases.copy(template)
    yield databases.url(name)
    databases.drop(name)


@pytest.fixture
def db(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection in autocommit to the fresh database."""
    with connect(database_url, autocommit=True) as conn:
        yield conn


@pytest.fixture
def mini(db: psycopg.Connection[Any]) -> psycopg.Connection[Any]:
    """The fresh database with the small park of tests/data/mini.yaml."""
    return db


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """The embedded broker that this machine would use."""
    with Broker(tmp_path_factory.mktemp("broker")).start() as server:
        yield server
