"""A real server in a thread over a fresh database, and clients with a token for each role."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import psycopg
import pytest

from api.access import Limits
from api.server import Server, make_server
from api.tokens import create_token
from park.settings import Settings

WIDE = Limits(token_rate=10_000, token_burst=10_000, stranger_rate=10_000, stranger_burst=10_000, streams_of_token=2_000)


@dataclass
class Service:
    """A running server; `client` gives an httpx client with a fresh token."""

    url: str
    conn: psycopg.Connection[Any]
    server: Server

    def token(self, role: str, *bases: str, enterprise: str | None = None) -> str:
        return create_token(self.conn, role=role, name=f"{role} of the test", bases=bases, enterprise=enterprise)

    def client(self, role: str = "operator", *bases: str, enterprise: str | None = None) -> httpx.Client:
        token = self.token(role, *(bases or ("mini",)), enterprise=enterprise)
        return httpx.Client(base_url=f"{self.url}/api/v1", headers={"Authorization": f"Bearer {token}"}, timeout=20)


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
            server.should_exit = True
            thread.join(15)
            assert not thread.is_alive(), "the server did not stop"


@pytest.fixture
def service(mini: psycopg.Connection[Any], database_url: str) -> Iterator[Service]:
    """The API over the mini park."""
    with serving(database_url) as (url, server):
        yield Service(url, mini, server)


@pytest.fixture
def operator(service: Service) -> Iterator[httpx.Client]:
    """A client with an operator's token of the mini park."""
    with service.client("operator") as client:
        yield client


@pytest.fixture
def raise_alert(mini: psycopg.Connection[Any]) -> Callable[..., int]:
    """A function that stores an open alert of a point's first rule, with its transition, and returns the alert's id."""
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
