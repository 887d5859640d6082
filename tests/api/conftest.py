"""A real server in a thread over a fresh database, and clients with a token for each role."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from api.access import Limits
from api.server import Server, make_server
from api.tokens import create_token
from park.catalogue import read_catalogue
from park.catalogue_store import apply
from park.settings import Settings

MINI = Path(__file__).parents[1] / "data" / "mini.yaml"
WIDE = Limits(token_rate=10_000, token_burst=10_000, stranger_rate=10_000, stranger_burst=10_000, streams_of_token=2_000)
Connection = psycopg.Connection[Any]


@dataclass
class Service:
    """A running server; `client` gives an httpx client with a fresh token."""

    url: str
    conn: Connection
    server: Server

    def token(self, role: str, *bases: str, enterprise: str | None = None) -> str:
        return create_token(self.conn, role=role, name=f"{role} of the test", bases=bases, enterprise=enterprise)

    def client(self, role: str = "operator", *bases: str, enterprise: str | None = None) -> httpx.Client:
        return self.bearer(self.token(role, *(bases or ("mini",)), enterprise=enterprise))

    def bearer(self, token: str | None) -> httpx.Client:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        return httpx.Client(base_url=f"{self.url}/api/v1", headers=headers, timeout=60)


@contextmanager
def serving(url: str, limits: Limits = WIDE, heartbeat_s: float = 15.0) -> Iterator[tuple[str, Server]]:
    """A server in a thread on a free port; ready when it listens for transitions."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = make_server(Settings(database_url=url, language="zh"), "127.0.0.1", 0, limits=limits, heartbeat_s=heartbeat_s)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        try:
            deadline = time.monotonic() + 20
            while httpx.get(f"{address}/readyz").status_code != 200:
                assert time.monotonic() < deadline, httpx.get(f"{address}/readyz").text
                time.sleep(0.02)
            yield address, server
        finally:
            server.handle_exit(15, None)
            thread.join(15)
            assert not thread.is_alive(), "the server did not stop"


@pytest.fixture
def service(mini: Connection, database_url: str) -> Iterator[Service]:
    """The API over the mini park."""
    with serving(database_url) as (url, server):
        yield Service(url, mini, server)


@pytest.fixture
def operator(service: Service) -> Iterator[httpx.Client]:
    """A client with an operator's token of the mini park."""
    with service.client("operator") as client:
        yield client


@pytest.fixture
def other(mini: Connection, tmp_path: Path) -> Connection:
    """A second base `other` of the same shape, whose codes all differ: x1, x2, gate.kwh."""
    text = MINI.read_text(encoding="utf-8")
    for ours, theirs in (("code: mini", "code: other"), ("Mini base", "Other base"), ("微型示范基地", "另一基地"), ("e1", "x1"),
                         ("e2", "x2"), ("park.kwh", "gate.kwh"), ("code: park,", "code: gate,"),
                         ("belongs_to: park", "belongs_to: gate"), ("永固轧钢", "甲厂"), ("清源污水", "乙厂"),
                         ("Yonggu Re-rolling", "Plant A"), ("Qingyuan Water", "Plant B")):
        text = text.replace(ours, theirs)
    file = tmp_path / "other.yaml"
    file.write_text(text, encoding="utf-8")
    apply(mini, read_catalogue([file]))
    return mini


@pytest.fixture
def raise_alert(mini: Connection) -> Callable[..., int]:
    """A function that stores an open alert of a point with its transition, and returns the alert's id."""
    def store(point: str = "e1.stack.so2", base: str = "mini") -> int:
        row = mini.execute("""
            WITH about AS (SELECT p.base_id, p.point_id, r.rule_id, r.severity FROM point p JOIN base b USING (base_id)
                           JOIN rule r USING (base_id) WHERE b.code = %s AND p.code = %s),
                 raised AS (INSERT INTO alert (base_id, rule_id, point_id, severity, opened_at, value, high, unit)
                            SELECT base_id, rule_id, point_id, severity, now(), 42, 35, 'mg/m3' FROM about
                            RETURNING base_id, alert_id),
                 told AS (INSERT INTO transition (base_id, alert_id, change, actor)
                          SELECT base_id, alert_id, 'raise', 'evaluator' FROM raised)
            SELECT alert_id FROM raised""", (base, point)).fetchone()
        assert row is not None
        return int(row[0])
    return store


def point_id(conn: Connection, code: str) -> int:
    """The id of a point of any base, by its code."""
    row = conn.execute("SELECT point_id FROM point WHERE code = %s", (code,)).fetchone()
    assert row is not None
    return int(row[0])


def store_readings(conn: Connection, code: str, rows: list[tuple[str, float | None, int]]) -> None:
    """Readings (instant, value, quality) of a point, as ingest stores them."""
    conn.execute("SELECT ensure_reading_partitions(%s::timestamptz, %s::timestamptz)",
                 (min(r[0] for r in rows), max(r[0] for r in rows)))
    with conn.cursor() as cur:
        cur.executemany("INSERT INTO reading (ts, value, point_id, base_id, quality) SELECT %s, %s, point_id, base_id, %s "
                        "FROM point WHERE code = %s", [(at, value, quality, code) for at, value, quality in rows])


def account_day(conn: Connection, code: str, day: str, amount: float | None, *, known: int = 96,
                estimated: float = 0.0) -> None:
    """A day of a counter as accounting leaves it in interval_1d (day base-local, Asia/Shanghai)."""
    conn.execute("""INSERT INTO interval_1d (ts, amount, estimated, point_id, n_expected, n_known, n_good, base_id)
        SELECT %s::date::timestamp AT TIME ZONE 'Asia/Shanghai', %s, %s, point_id, 96, %s, %s, base_id
        FROM point WHERE code = %s""", (day, amount, estimated, known, known, code))


def account_total(conn: Connection, base: str, day: str, carrier: str, amount: float | None, *, enterprise: str | None = None,
                  tce: float | None = None, co2: float | None = None, cost: float | None = None, known: int = 96,
                  estimated: float = 0.0, factors: tuple[int, ...] = ()) -> None:
    """A day of a carrier's total as the accounting pass writes it."""
    conn.execute("""INSERT INTO energy_total (base_id, day, enterprise_id, carrier, unit, amount, estimated, n_expected,
                                              n_known, n_good, tce_calorific, tce_equivalent, co2_kg, cost, factor_ids)
        SELECT b.base_id, %(day)s, e.enterprise_id, c.carrier, c.unit, %(amount)s, %(estimated)s, 96, %(known)s, %(known)s,
               %(tce)s, %(tce)s, %(co2)s, %(cost)s, %(factors)s
        FROM base b JOIN carrier c ON c.carrier = %(carrier)s
        LEFT JOIN enterprise e ON e.base_id = b.base_id AND e.code = %(enterprise)s
        WHERE b.code = %(base)s""",
        {"base": base, "day": day, "carrier": carrier, "amount": amount, "enterprise": enterprise, "tce": tce, "co2": co2,
         "cost": cost, "known": known, "estimated": estimated, "factors": list(factors)})
