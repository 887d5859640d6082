"""One base is closed to another through every table, view, function, rollup and partition that a role can reach."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from park.catalogue import read_catalogue
from park.catalogue_store import apply
from park.database import connect

Db = psycopg.Connection[Any]
MINI = Path(__file__).parents[1] / "data" / "mini.yaml"
ROLES = ["park_operator", "park_contractor", "park_enterprise", "park_auditor", "park_admin"]
# what a role may call, and how it is tried: nothing of another base may come back
CALLS = {
    "board_today": "SELECT board_today('mini')",
    "availability_between": "SELECT a::text FROM availability_between(1::smallint, current_date - 30, current_date) a",
    "board_day": "SELECT board_day('mini', now())",
    "evidence_bytes": "SELECT evidence_bytes(1::smallint)",
    "board_series": """SELECT * FROM board_series('mini', ARRAY['e1.main.kw', 'park.kwh'], now() - interval '1 day', now(),
                       1000)""",
    **{name: f"SELECT x::text FROM {name}() x WHERE base_id = 1"      # the first base of the tests here
       for name in ("shown_energy_total", "shown_balance", "shown_emission", "shown_unit_owner")},
}


@pytest.fixture(scope="module")
def url(databases: Any) -> Iterator[str]:
    """A database of the tests here: they leave it as it is."""
    name = databases.copy()
    yield databases.url(name)
    databases.drop(name)


@pytest.fixture(scope="module")
def two(url: str, filler: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Db, int, int]]:
    """A database with two bases that have rows in every table; their ids. Marks of the first: `mini`, 1001.5."""
    path = tmp_path_factory.mktemp("catalogue") / "other.yaml"
    path.write_text(MINI.read_text().replace("code: mini", "code: other").replace("微型示范基地", "另一基地"))
    with connect(url, autocommit=True) as db:
        apply(db, read_catalogue([MINI]))
        apply(db, read_catalogue([path]))
        ids: dict[str, int] = dict(db.execute("SELECT code, base_id FROM base").fetchall())
        filler(db).fill([ids["mini"], ids["other"]], {ids["mini"]: "mini", ids["other"]: "other"})
        yield db, ids["mini"], ids["other"]


def relations(db: Db, role: str) -> list[tuple[str, bool]]:
    """What the role may read in the schema, and whether it has a column base_id."""
    return db.execute("""SELECT c.relname,
            EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'base_id')
        FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm')
          AND has_table_privilege(%s, c.oid, 'SELECT') ORDER BY 1""", (role,)).fetchall()


def foreign(text: str, base: int) -> bool:
    """Whether a row's text speaks of a base: its code, the marks of its rows, its numbers."""
    code = {1: "mini", 2: "other"}[base]
    return re.search(rf"\b{code}\b|{base}00{base}\.5", text) is not None


@contextmanager
def seeing(db: Db, role: str, bases: str, enterprise: int | None = None) -> Iterator[None]:
    with db.transaction(force_rollback=True):
        db.execute("SELECT set_config('park.bases', %s, true), set_config('park.enterprise', %s, true)",
                   (bases, str(enterprise or "")))
        db.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(role)))
        yield


def rows(db: Db, name: str) -> list[str]:
    return [text for (text,) in db.execute(sql.SQL("SELECT x::text FROM {} x").format(sql.Identifier(name)))]


def callable_by(db: Db, role: str) -> set[str]:
    """Functions of the schema that run with their owner's rights and that the role may call."""
    return {name for (name,) in db.execute("""SELECT p.proname FROM pg_proc p WHERE p.pronamespace = 'public'::regnamespace
        AND p.prosecdef AND p.prorettype <> 'trigger'::regtype AND has_function_privilege(%s, p.oid, 'EXECUTE')
        AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e')""", (role,))}


@pytest.mark.parametrize("role", ROLES)
def test_a_role_bound_to_one_base_reads_nothing_of_another(two: tuple[Db, int, int], role: str) -> None:
    db, mini, other = two
    found = relations(db, role)
    assert len(found) > 60
    first = db.execute("SELECT min(enterprise_id) FROM enterprise WHERE base_id = %s", (other,)).fetchone()
    with seeing(db, role, f"{{{other}}}", first[0] if first else None):
        for name, of_base in found:
            leaks = [text for text in rows(db, name) if foreign(text, mini)]
            assert leaks == [], name
            if of_base:
                query = sql.SQL("SELECT count(*) FROM {} WHERE base_id <> %s").format(sql.Identifier(name))
                assert db.execute(query, (other,)).fetchone() == (0,), name


def test_what_is_closed_to_others_is_open_to_its_own(two: tuple[Db, int, int]) -> None:
    """Without it the test above would be content with empty tables."""
    db, mini, _ = two
    found = relations(db, "park_auditor")
    with seeing(db, "park_auditor", f"{{{mini}}}"):
        blind = {name for name, _ in found if not rows(db, name)}
    tables = {name for (name,) in db.execute("SELECT relname FROM pg_class WHERE relkind IN ('r', 'p')")}
    assert not blind & tables
    assert len(blind) < len(found) / 8, f"views that need other rows than these: {blind}"


@pytest.mark.parametrize("role", ROLES)
def test_a_role_bound_to_no_base_reads_none(two: tuple[Db, int, int], role: str) -> None:
    db, mini, other = two
    with seeing(db, role, ""):
        for name, _ in relations(db, role):
            assert not [t for t in rows(db, name) if foreign(t, mini) or foreign(t, other)], name


@pytest.mark.parametrize("role", [*ROLES, "park_grafana"])
def test_no_function_opens_another_base(two: tuple[Db, int, int], role: str) -> None:
    db, _, other = two
    open_ones = callable_by(db, role)
    assert open_ones <= CALLS.keys() | {"visible_bases"}, "it runs with its owner's rights: say in CALLS how to try it"
    for name in open_ones & CALLS.keys():
        with seeing(db, role, f"{{{other}}}"):
            assert not [row for row in db.execute(CALLS[name]) if row != (None,)], name


def test_an_enterprise_learns_of_its_own_points_alone_when_they_reported(two: tuple[Db, int, int]) -> None:
    db, mini, _ = two
    of = dict(db.execute("""SELECT p.point_id, u.enterprise_id FROM point p JOIN unit u USING (base_id, unit_id)
                            WHERE p.base_id = %s""", (mini,)).fetchall())
    asked = "SELECT DISTINCT point_id FROM availability_between(%s::smallint, current_date - 9, current_date)"
    try:  # committed: on Citus a view reads over a connection of its own
        db.execute("""INSERT INTO reading_1d (bucket, min, max, sum, first, last, point_id, n, n_good, n_usable, base_id)
            SELECT date_trunc('day', now()) - interval '5 days', 1, 1, 1, 1, 1, point_id, 1, 1, 1, base_id
            FROM point WHERE base_id = %s ON CONFLICT DO NOTHING""", (mini,))
        with seeing(db, "park_operator", f"{{{mini}}}"):
            everyone = {of[point] for (point,) in db.execute(asked, (mini,))}
        with seeing(db, "park_enterprise", f"{{{mini}}}", 1):
            assert {of[point] for (point,) in db.execute(asked, (mini,))} == {1} < everyone
    finally:
        db.execute("DELETE FROM reading_1d WHERE base_id = %s AND (n, n_good, min, max) = (1, 1, 1, 1)", (mini,))


def test_no_role_reaches_a_partition_beside_its_table(two: tuple[Db, int, int]) -> None:
    db, _, _ = two
    assert db.execute("""SELECT c.relname, r.rolname FROM pg_class c CROSS JOIN pg_roles r
        WHERE c.relnamespace = 'public'::regnamespace AND c.relispartition AND r.rolname LIKE 'park\\_%'
          AND has_table_privilege(r.oid, c.oid, 'SELECT, INSERT, UPDATE, DELETE')""").fetchall() == []


@pytest.fixture
def login(two: tuple[Db, int, int], url: str) -> Iterator[Db]:
    """A session of a Grafana login that is bound to the other base."""
    db, _, other = two
    name = f"grafana_{uuid4().hex[:8]}"
    db.execute(sql.SQL("CREATE ROLE {} LOGIN IN ROLE park_grafana").format(sql.Identifier(name)))
    db.execute("INSERT INTO login_base (login, base_id) VALUES (%s, %s)", (name, other))
    try:
        with connect(psycopg.conninfo.make_conninfo(url, user=name), autocommit=True) as session:
            yield session
    finally:
        db.execute("DELETE FROM login_base WHERE login = %s", (name,))
        db.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


def test_a_grafana_login_reads_views_of_its_base_only_whatever_it_sets(two: tuple[Db, int, int], login: Db) -> None:
    db, mini, other = two
    login.execute("SELECT set_config('park.bases', %s, false)", (f"{{{mini}}}",))
    found = relations(db, "park_grafana")
    assert len(found) > 20
    for name, _ in found:
        try:
            assert not [text for text in rows(login, name) if foreign(text, mini)], name
        except psycopg.errors.InsufficientPrivilege:     # open to all, with the rights of who asks
            assert not name.startswith("board_"), name
    assert [text for text in rows(login, "board_point") if foreign(text, other)]
    for name in callable_by(db, "park_grafana") & CALLS.keys():
        assert not [row for row in login.execute(CALLS[name]) if row != (None,)], name


def test_a_grafana_login_cannot_put_tables_of_its_own_in_the_place_of_ours(two: tuple[Db, int, int], login: Db) -> None:
    db, _, _ = two
    db.execute("SELECT close_shadows()")    # as `park migrate` does: a copy of a database has not its rights
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        login.execute("CREATE TEMP TABLE login_base (login text, base_id smallint)")
    name = login.info.user
    both = sql.Identifier(db.info.dbname), sql.Identifier(name)
    db.execute(sql.SQL("GRANT TEMPORARY ON DATABASE {} TO {}").format(*both))
    login.execute("CREATE TEMP TABLE login_base (login text, base_id smallint)")
    login.execute("INSERT INTO pg_temp.login_base VALUES (%s, NULL)", (name,))
    try:
        assert login.execute("SELECT DISTINCT base FROM board_point").fetchall() == [("other",)]
        assert db.execute("""SELECT proname FROM pg_proc p WHERE prosecdef AND pronamespace = 'public'::regnamespace
            AND NOT EXISTS (SELECT FROM unnest(proconfig) c WHERE c LIKE 'search_path=%%pg_temp')
            AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e')""").fetchall() == []
    finally:
        login.execute("DROP TABLE pg_temp.login_base")
        db.execute(sql.SQL("REVOKE TEMPORARY ON DATABASE {} FROM {}").format(*both))


def test_a_grafana_login_reads_no_table_that_holds_rows_of_a_base(two: tuple[Db, int, int], login: Db) -> None:
    db, _, _ = two
    tables = [name for (name,) in db.execute("""SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND a.attname = 'base_id'""")]
    assert len(tables) > 40
    for name in tables:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            login.execute(sql.SQL("SELECT FROM {}").format(sql.Identifier(name)))


def test_grafana_has_a_time_out_and_writes_nothing(two: tuple[Db, int, int], url: str) -> None:
    two[0].execute("ALTER ROLE park_grafana LOGIN")
    try:
        with connect(psycopg.conninfo.make_conninfo(url, user="park_grafana"), autocommit=True) as session:
            assert session.execute("SHOW statement_timeout").fetchone() == ("20s",)
            with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
                session.execute("CREATE TABLE mine (x int)")
            session.execute("SET statement_timeout = '50ms'")
            with pytest.raises(psycopg.errors.QueryCanceled):
                session.execute("SELECT pg_sleep(5)")
    finally:
        two[0].execute("ALTER ROLE park_grafana NOLOGIN")
