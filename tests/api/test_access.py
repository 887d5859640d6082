"""Who may see and do what: tokens, roles, bases, enterprises, limits."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from psycopg import sql
from typer.testing import CliRunner

from api.access import Gate, Limits
from api.problems import TooMany, Unauthorized
from api.store import Principal, Store
from api.tokens import create_token, hash_of, list_tokens, ready_tokens, revoke_token
from park.catalogue import read_catalogue
from park.errors import InputError, NotFound
from tests.api.conftest import MINI, Connection, Service, account_day, account_total, serving, store_readings


def test_a_base_that_joins_later_makes_new_tokens_and_widens_none(other: Connection, tmp_path: Path) -> None:
    mini, second = (read_catalogue([f]) for f in (MINI, tmp_path / "other.yaml"))
    first = ready_tokens(other, tmp_path / "tokens.json", [mini])
    assert ready_tokens(other, tmp_path / "tokens.json", [mini]) == first
    both = ready_tokens(other, tmp_path / "tokens.json", [mini, second])
    assert {role for role in first if both[role] == first[role]} == {"operator", "enterprise"}
    all_of_them = ["mini", "other"]
    assert {row[2]: row[3] for row in list_tokens(other)[-4:]} == {
        "contractor": all_of_them, "auditor": all_of_them, "admin": all_of_them, "operator": ["other"]}
    assert [row[3] for row in list_tokens(other)[:5]] == [["mini"]] * 5
    assert ready_tokens(other, tmp_path / "tokens.json", [second, mini]) == both    # in another order
    assert ready_tokens(other, tmp_path / "tokens.json", [second]) == both          # the first is left out for its mistakes


def test_a_request_without_a_token_is_refused_with_a_problem_document(service: Service) -> None:
    answer = httpx.get(f"{service.url}/api/v1/bases")
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert answer.json()["status"] == 401 and "park token create" in answer.json()["detail"]


def test_a_wrong_token_is_refused(service: Service) -> None:
    for header in ("Bearer park_wrong", "Bearer", "Basic abc", "park_x"):
        assert httpx.get(f"{service.url}/api/v1/bases", headers={"Authorization": header}).status_code == 401


def test_only_the_hash_of_a_token_is_stored(mini: Connection) -> None:
    token = create_token(mini, role="operator", name="Li", bases=["mini"])
    row = mini.execute("SELECT hash, t::text FROM token t").fetchone()
    assert row is not None and row[0] == hash_of(token) and token not in row[1]


def test_revoked_and_expired_tokens_end_within_the_seconds_that_servers_remember_them(mini: Connection,
                                                                                      database_url: str) -> None:
    lasting = create_token(mini, role="operator", name="a", bases=["mini"])
    expired = create_token(mini, role="operator", name="b", bases=["mini"], expires=datetime.now(UTC) - timedelta(seconds=1))

    async def run() -> None:
        now = [100.0]
        async with Store(database_url) as store:
            gate = Gate(store, Limits(), lambda: now[0])
            assert (await gate.admit(lasting, "here")).role == "operator"
            with pytest.raises(Unauthorized):
                await gate.admit(expired, "here")
            revoke_token(mini, list_tokens(mini)[0][0])
            assert (await gate.admit(lasting, "here")).name == "a"  # remembered
            now[0] += 5.1
            with pytest.raises(Unauthorized):
                await gate.admit(lasting, "here")
    asyncio.run(run())


def test_an_address_that_guesses_tokens_is_slowed_down_and_a_valid_token_from_it_is_not(mini: Connection,
                                                                                        database_url: str) -> None:
    token = create_token(mini, role="operator", name="a", bases=["mini"])

    async def run() -> None:
        now = [0.0]
        async with Store(database_url) as store:
            gate = Gate(store, Limits(stranger_rate=1, stranger_burst=5, token_rate=1, token_burst=3), lambda: now[0])
            for i in range(5):
                with pytest.raises(Unauthorized):
                    await gate.admit(f"guess{i}", "there")
            with pytest.raises(TooMany):
                await gate.admit("guess", "there")
            for _ in range(3):
                assert await gate.admit(token, "there")
            with pytest.raises(TooMany):
                await gate.admit(token, "there")
            now[0] += 1.0
            assert await gate.admit(token, "there")
    asyncio.run(run())


def test_a_token_that_asks_too_often_gets_429_with_the_time_to_wait(mini: Connection, database_url: str) -> None:
    token = create_token(mini, role="auditor", name="a")
    with serving(database_url, Limits(token_rate=0.5, token_burst=3)) as (url, _), httpx.Client(base_url=url) as client:
        answers = [client.get("/api/v1/bases", headers={"Authorization": f"Bearer {token}"}) for _ in range(4)]
    assert [a.status_code for a in answers] == [200, 200, 200, 429]
    assert int(answers[3].headers["retry-after"]) >= 1


def test_a_token_that_makes_no_sense_is_not_made(mini: Connection) -> None:
    wrong: list[tuple[dict[str, Any], type[Exception]]] = [
        ({"role": "king", "name": "a"}, InputError), ({"role": "operator", "name": "a"}, InputError),
        ({"role": "operator", "name": " ", "bases": ["mini"]}, InputError),
        ({"role": "operator", "name": "Evaluator", "bases": ["mini"]}, InputError),
        ({"role": "enterprise", "name": "a", "bases": ["mini"]}, InputError),
        ({"role": "enterprise", "name": "a", "bases": ["mini"], "enterprise": "e9"}, NotFound),
        ({"role": "operator", "name": "a", "bases": ["mini"], "enterprise": "e1"}, InputError),
        ({"role": "operator", "name": "a", "bases": ["nowhere"]}, NotFound)]
    for arguments, error in wrong:
        with pytest.raises(error):
            create_token(mini, **arguments)
    assert list_tokens(mini) == []


def test_the_command_prints_a_token_once_and_lists_and_revokes_it(mini: Connection, database_url: str,
                                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    from park.cli import app
    monkeypatch.setenv("PARK_DATABASE_URL", database_url)
    run = CliRunner()
    made = run.invoke(app, ["token", "create", "--role", "contractor", "--name", "Wang Lei", "--base", "mini",
                            "--expires", "2099-01-01"])
    assert made.exit_code == 0 and re.fullmatch(r"park_[A-Za-z0-9_-]{43}\n", made.output)
    listed = run.invoke(app, ["token", "list"])
    assert "valid\tcontractor\tWang Lei\tmini" in listed.output and made.output.strip() not in listed.output
    assert run.invoke(app, ["token", "revoke", listed.output.split("\t", 1)[0]]).exit_code == 0
    assert "revoked" in run.invoke(app, ["token", "list"]).output
    assert isinstance(run.invoke(app, ["token", "revoke", "99"]).exception, NotFound)


ENTRY = {"base": "mini", "kind": "production", "enterprise": "e1", "first_day": "2026-01-01", "last_day": "2026-01-31",
         "value": 5, "unit": "t"}


@pytest.mark.parametrize(("role", "step", "ledger", "seal"), [
    ("operator", 200, 201, 0), ("contractor", 200, 403, 403), ("auditor", 403, 403, 403), ("admin", 200, 201, 0),
    ("enterprise", 403, 201, 403)])
def test_each_role_may_do_its_own_things(service: Service, raise_alert: Callable[..., int], role: str, step: int, ledger: int,
                                         seal: int) -> None:
    alert = raise_alert()
    with service.client(role, enterprise="e1" if role == "enterprise" else None) as client:
        assert client.get("/alerts").status_code == 200
        assert client.post(f"/alerts/{alert}/ack").status_code == step
        assert client.post("/ledger", json=ENTRY).status_code == ledger
        if seal:
            assert client.post("/reports/mini/annual/2025/seal").status_code == seal


def fill(conn: Connection, base: str, prefix: str, gate: str, raise_alert: Callable[..., int]) -> None:
    """A row in every table that routes read, for one base."""
    store_readings(conn, f"{prefix}1.main.kw", [("2026-11-20T00:00:00Z", 77.125, 0)])
    power = (f"{prefix}1.main.kw",)
    conn.execute("INSERT INTO latest SELECT base_id, point_id, now(), 77.125, 0 FROM point WHERE code = %s", power)
    conn.execute("INSERT INTO reading_1h (bucket, sum, n, n_good, n_usable, point_id, base_id) "
                 "SELECT '2026-11-20T00:00Z', 1, 1, 1, 1, point_id, base_id FROM point WHERE code = %s", power)
    for code, amount in ((gate, 100.0), (f"{prefix}1.main.kwh", 60.0), (f"{prefix}2.main.kwh", 30.0)):
        account_day(conn, code, "2026-11-20", amount)
    account_total(conn, base, "2026-11-20", "electricity", 100.0, tce=0.0123)
    account_total(conn, base, "2026-11-20", "electricity", 60.0, enterprise=f"{prefix}1", tce=0.007)
    account_total(conn, base, "2026-11-20", "electricity", 30.0, enterprise=f"{prefix}2", tce=0.004)
    conn.execute("INSERT INTO emission_1h (base_id, unit_id, quantity, ts, n_valid, state, measured, converted, mass_kg) "
                 "SELECT base_id, unit_id, 'so2', '2026-11-20T00:00Z', 60, 'valid', 10, 11, 1.5 FROM unit WHERE code = %s",
                 (f"{prefix}1.stack",))
    conn.execute("INSERT INTO indicator_value (base_id, indicator, period, value, unit, grade) "
                 "SELECT base_id, 'tce_equivalent', '2026', 1, 'tce', 'A' FROM base WHERE code = %s", (base,))
    conn.execute("INSERT INTO report (base_id, kind, year, version, data, hash, as_of, sealed_by) "
                 "SELECT base_id, 'annual', 2025, 1, '{}', 'h', now(), 'x' FROM base WHERE code = %s", (base,))
    conn.execute("INSERT INTO ingest_counter SELECT base_id, '2026-11-20', 'stored', 5 FROM base WHERE code = %s", (base,))
    conn.execute("INSERT INTO pass (base_id, pass) SELECT base_id, 'account' FROM base WHERE code = %s", (base,))
    enterprise = (f"{prefix}1",)
    conn.execute("""INSERT INTO bill (base_id, enterprise_id, month, total, energy_kwh, estimated_kwh, n_expected, n_known,
            complete)
        SELECT base_id, enterprise_id, '2026-11-01', 77.125, 1, 0, 96, 96, true FROM enterprise WHERE code = %s""", enterprise)
    conn.execute("""INSERT INTO ledger (base_id, kind, enterprise_id, item, action, first_day, last_day, value, unit,
            recorded_by)
        SELECT base_id, 'solid_waste', enterprise_id, 'slag', 'generated', '2026-11-20', '2026-11-20', 77.125, 't', 'x'
        FROM enterprise WHERE code = %s""", enterprise)
    conn.execute("INSERT INTO evidence (base_id, enterprise_id, sha256, name, media_type, content, recorded_by) "
                 "SELECT base_id, enterprise_id, sha256(code::bytea), 'x1.csv', 'text/csv', code::bytea, 'x' FROM enterprise "
                 "WHERE code = %s", enterprise)
    alert = raise_alert(f"{prefix}1.stack.so2", base)
    conn.execute("""INSERT INTO pollution_case (base_id, case_id, alert_id, state, handler, opened_by)
        SELECT base_id, alert_id, alert_id, 'dispatched', 'x1', 'x' FROM alert WHERE alert_id = %s""", (alert,))


def tables_with_base(conn: Connection) -> list[str]:
    rows = conn.execute("""SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'base_id'
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm') AND NOT c.relispartition
        ORDER BY 1""").fetchall()
    return [row[0] for row in rows]


def test_a_query_without_where_sees_one_base_only(other: Connection, database_url: str,
                                                  raise_alert: Callable[..., int]) -> None:
    fill(other, "mini", "e", "park.kwh", raise_alert)
    fill(other, "other", "x", "gate.kwh", raise_alert)
    theirs = {row[0] for row in other.execute("SELECT base_id FROM base WHERE code = 'other'")}
    (ours,) = {row[0] for row in other.execute("SELECT base_id FROM base WHERE code = 'mini'")}
    mine = other.execute("SELECT enterprise_id FROM enterprise WHERE code = 'e1'").fetchone()
    assert mine is not None

    async def seen_by(who: Principal) -> dict[str, set[int]]:
        """The bases whose rows each table and view shows."""
        seen: dict[str, set[int]] = {}
        async with Store(database_url) as store:
            for table in tables_with_base(other):
                try:
                    async with store.session(who) as db:
                        await db.execute(sql.SQL("SELECT DISTINCT base_id FROM {}").format(sql.Identifier(table)))
                        seen[table] = {row["base_id"] for row in await db.fetchall()}
                except psycopg.errors.InsufficientPrivilege:
                    seen[table] = set()
        return seen

    for role in ("operator", "contractor", "enterprise", "auditor", "admin"):
        seen = asyncio.run(seen_by(Principal(1, "a", role, (ours,), mine[0] if role == "enterprise" else None)))
        assert not {table for table, bases in seen.items() if bases & theirs}, role
        expected = {"reading_shown", "reading_1h_shown", "latest", "energy_total", "alert", "transition", "point", "unit",
                    "energy_1d"}
        if role != "enterprise":
            expected |= {"report", "indicator_value", "energy_total_1d", "emission_1d", "availability_1d", "balance_1d",
                         "ledger"}
        assert {table for table in expected if ours not in seen[table]} == set(), role


def every_get(service: Service, prefix: str, base: str, alert: int) -> list[str]:
    """Every GET of the schema, aimed at the things of one base."""
    values = {"base": base, "kind": "annual", "year": "2025", "name": "2025.json?version=1", "id": str(alert),
              "panel": "energy",
              "evidence_id": str((service.conn.execute("SELECT max(evidence_id) FROM evidence").fetchone() or (0,))[0])}
    query = {"base": base, "point": f"{prefix}1.main.kw", "outlet": f"{prefix}1.stack", "period": "2026-11-20",
             "figure": f"{base}/2026-11-20/base/electricity/energy", "a": "1", "b": "1", "start": "2026-11-19T00:00:00Z",
             "end": "2026-11-21T00:00:00Z", "resolution": "raw", "parent": "park.kwh" if prefix == "e" else "gate.kwh"}
    schema = httpx.get(f"{service.url}/api/v1/openapi.json").json()
    paths = []
    for path, item in schema["paths"].items():
        if "get" not in item or path.endswith("/stream"):
            continue
        names = {p["name"]: p for p in item["get"].get("parameters", []) if p["in"] == "query"}
        asked = {k: v for k, v in query.items() if k in names and (k != "base" or path != "/api/v1/points")}
        if "resolution" in asked and path != "/api/v1/readings":
            asked["resolution"] = "1h"
        if path == "/api/v1/indicators":
            asked["period"] = "2026-11"
        filled = re.sub(r"\{(\w+)\}", lambda m: values[m[1]], path.removeprefix("/api/v1"))
        paths.append(filled + ("&" if "?" in filled else "?") + str(httpx.QueryParams(asked)))
    return paths


def test_a_token_of_one_base_sees_nothing_of_another_through_any_route(service: Service, other: Connection,
                                                                      raise_alert: Callable[..., int]) -> None:
    fill(other, "mini", "e", "park.kwh", raise_alert)
    fill(other, "other", "x", "gate.kwh", raise_alert)
    theirs = other.execute("SELECT max(alert_id) FROM alert").fetchone()
    ours = other.execute("SELECT min(alert_id) FROM alert").fetchone()
    assert theirs and ours
    leaks = re.compile(r"x1|x2|gate\.kwh|Other base|另一基地|甲厂|Plant A|77\.125")
    with service.client("operator", "mini") as mine, service.client("operator", "other") as neighbour:
        for path in every_get(service, "x", "other", theirs[0]):
            answer = mine.get(path)
            assert answer.status_code in (200, 403, 404), (path, answer.text)
            said = re.sub(r'"(detail|instance)":"[^"]*"', "", answer.text)  # it may repeat what was asked
            if "/points" in path or "/alerts?" in path or answer.status_code == 200:
                said = said.replace('"base":"other"', "")
                assert not leaks.search(said.replace("77.125", "") if "/points" in path else said), (path, said[:500])
        # the same questions do have answers, for the one who may ask
        for path in every_get(service, "x", "other", theirs[0]):
            assert neighbour.get(path).status_code == 200, path
        assert mine.post(f"/alerts/{theirs[0]}/ack").status_code == 404
        assert mine.post("/ledger", json=ENTRY | {"base": "other", "enterprise": "x1"}).status_code == 404
        assert mine.post("/reports/other/annual/2025/seal").status_code == 404


def test_an_enterprise_sees_its_own_points_and_figures_only(service: Service, mini: Connection,
                                                            raise_alert: Callable[..., int]) -> None:
    fill(mini, "mini", "e", "park.kwh", raise_alert)
    with service.client("enterprise", enterprise="e2") as client:
        points = {p["code"] for p in client.get("/points").json()["points"]}
        assert points and all(code.startswith("e2.") for code in points)
        assert {u["enterprise"] for u in client.get("/bases/mini/units").json()["units"]} == {"e2"}
        assert client.get("/readings?point=e1.main.kw").status_code == 404
        assert client.get("/alerts").json()["alerts"] == []
        figures = client.get("/aggregates?base=mini&period=2026-11-20").json()
        assert [(r["enterprise"], r["cells"]["energy"]["value"]) for r in figures["rows"]] == [("e2", 30.0)]
        assert figures["totals"]["tce_calorific"]["value"] == 0.004
        assert {r["enterprise"] for r in client.get("/aggregates?base=mini&period=2026-11-20&by=unit").json()["rows"]} == {"e2"}
        assert client.get("/aggregates?base=mini&period=2026-11-20").json()["emission"] == []
        assert client.get("/emissions?outlet=e1.stack&period=2026").status_code == 404
        for path in ("/trace?figure=mini/2026-11-20/base/electricity/energy", "/balance?base=mini&period=2026",
                     "/reports/mini/annual/2025", "/reports/mini/annual/2025/versions", "/alerts/kpi?base=mini",
                     "/alerts/steps?base=mini&since=2026-01-01T00:00:00Z",
                     "/trace?figure=mini/2026/indicator/co2_t"):
            assert client.get(path).status_code == 403, path
        assert client.get("/trace?figure=mini/2026-11-20/enterprise=e1/electricity/energy").status_code == 404
        assert client.get("/trace?figure=mini/2026-11-20/enterprise=e2/electricity/energy").json()["value"] == 30.0
        assert client.post("/ledger", json=ENTRY).status_code in (403, 422)
        assert client.post("/ledger", json=ENTRY | {"enterprise": None}).status_code == 403


def test_a_login_that_only_has_the_role_park_api_serves_every_route(mini: Connection, database_url: str,
                                                                   raise_alert: Callable[..., int]) -> None:
    fill(mini, "mini", "e", "park.kwh", raise_alert)
    row = mini.execute("SELECT max(alert_id) FROM alert").fetchone()
    assert row is not None
    alert = row[0]
    mini.execute("CREATE ROLE api_login LOGIN IN ROLE park_api")
    try:
        with serving(database_url.replace("park@", "api_login@")) as (url, server):
            service = Service(url, mini, server)
            with service.client("operator") as client:
                for path in every_get(service, "e", "mini", alert):
                    assert client.get(path).status_code == 200, path
                assert client.post(f"/alerts/{alert}/ack").status_code == 200
                assert client.post("/ledger", json=ENTRY).status_code == 201
                assert client.post("/reports/mini/annual/2026/seal").status_code == 201   # `park report` takes the role too
        with psycopg.connect(database_url.replace("park@", "api_login@")) as conn:  # without a role taken it sees no data
            assert conn.execute("SELECT count(*) FROM point").fetchone() == (0,)
    finally:
        mini.execute("DROP ROLE api_login")


