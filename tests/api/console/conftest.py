"""The console in a real browser, over the real application and a database filled as the stages would have filled it."""

from __future__ import annotations

import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from api.server import make_server
from api.tokens import create_token
from park.catalogue import read_catalogue
from park.catalogue_store import apply
from park.database import connect
from park.quantities import TABLES
from park.settings import Settings

DATA = Path(__file__).parents[1]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
        "--disable-component-update", "--disable-sync"]
# what tests provoke; a missing file would be a 404
WANTED = ("net::ERR_FAILED", *(f"the server responded with a status of {n}" for n in (401, 409, 422)))
Open = Callable[..., Page]
expect.set_options(timeout=15_000)  # the page has half a second's work on a quiet machine
Conn = psycopg.Connection[Any]


def afternoon_zone(now: datetime) -> str:
    """A zone in which it is four in the afternoon: the page's day has hours behind it whenever tests run."""
    ahead = (16 - now.hour) % 24
    ahead = ahead if ahead <= 14 else ahead - 24
    return f"Etc/GMT{-ahead:+d}" if ahead else "Etc/GMT"


@pytest.fixture(scope="module")
def template(databases: Any) -> Iterator[str]:
    """A database with the bases `green`, with a day of data up to now, and `mini`, with none."""
    name: str = databases.copy(prefix="seed")
    with connect(databases.url(name), autocommit=True) as db:
        now = datetime.now(UTC)
        apply(db, read_catalogue([DATA.parent / "data" / "mini.yaml"]))
        apply(db, read_catalogue([DATA / "console_park.yaml"]))
        apply(db, read_catalogue([TABLES / "indicators.yaml"]))
        db.execute("UPDATE base SET timezone = %s", [afternoon_zone(now)])
        psycopg.ClientCursor(db).execute((DATA / "console_seed.sql").read_text(encoding="utf-8").encode(), {"now": now})
    yield name
    databases.drop(name)


@pytest.fixture
def town(db: Conn) -> Conn:
    """A connection to the copy."""
    return db


@pytest.fixture(scope="module")   # its event loop would be in the way of other files
def browser() -> Iterator[Browser]:
    """Chromium as the machine has it."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGS)
        yield chromium
        chromium.close()


@contextmanager
def running(url: str, port: int = 0) -> Iterator[int]:
    """The application on a port, gone when the block ends."""
    with socket.create_server(("127.0.0.1", port)) as listening:
        port = listening.getsockname()[1]
        server = make_server(Settings(database_url=url, language="zh"), "127.0.0.1", 0)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            deadline = time.monotonic() + 20
            while not (server.started and server._app.state.stream.listening):
                assert time.monotonic() < deadline, "the server did not start"
                time.sleep(0.02)
            yield port
        finally:
            server.handle_exit(15, None)
            thread.join(15)
            assert not thread.is_alive(), "the server did not stop"


@pytest.fixture
def console(town: Conn, database_url: str, browser: Browser) -> Iterator[Open]:
    """A function that opens the console of `green` as an operator; afterwards no page may have reported an error, and no
    address that a page asked for may hold its token."""
    token = create_token(town, role="operator", name="王工", bases=["green", "mini"])
    faults: list[str] = []
    addresses: list[str] = []
    contexts = []
    with running(database_url) as port:
        def open_page(query: str = "lang=zh&base=green", signed_in: bool = True, ready: bool = True, own_clock: bool = False,
                      path: str = "", **options: Any) -> Page:
            context = browser.new_context(**({"viewport": {"width": 1600, "height": 1000}} | options))
            contexts.append(context)
            page = context.new_page()
            page.set_default_timeout(15_000)
            if own_clock:
                page.clock.install()
            page.on("console", lambda m: faults.append(m.text) if m.type == "error" else None)
            page.on("pageerror", lambda e: faults.append(str(e)))
            page.on("request", lambda r: addresses.append(r.url))
            page.goto(f"http://127.0.0.1:{port}/{path}?{query}" + (f"#token={token}" if signed_in else ""))
            if ready:
                settle(page)
            return page

        yield open_page
        for context in contexts:
            context.close()
    assert [f for f in faults if not any(wanted in f for wanted in WANTED)] == []
    assert [a for a in addresses if token in a.split("#")[0]] == []


def settle(page: Page) -> None:
    """Wait for live data in every panel."""
    expect(page.locator("#link-state")).to_have_attribute("data-state", "live")
    for marker in ("#energy .bar", "#pollutants .meter", "#health .devices tr", "#linkage .chain", "#flow .link",
                   "#indicators .outlook", "#bills .lines", "#strip .figure"):
        page.locator(marker).first.wait_for(state="attached")


def raise_alert(conn: Conn, rule: str, point: str) -> int:
    """What the evaluator does: an alert and its transition in one transaction."""
    row = conn.execute("""
        WITH raised AS (
            INSERT INTO alert (base_id, rule_id, point_id, severity, opened_at, value, high, unit, explanation)
            SELECT base_id, rule_id, point_id, severity, now(), 7450, 7000, 'kW',
                   '{"zh": "功率 7,450 kW 高于 7,000 kW。", "en": "7,450 kW is above 7,000 kW."}'
            FROM rule r JOIN point p USING (base_id) WHERE r.code = %s AND p.code = %s RETURNING base_id, alert_id),
        told AS (INSERT INTO transition (base_id, alert_id, change, actor)
                 SELECT base_id, alert_id, 'raise', 'evaluator' FROM raised)
        SELECT alert_id FROM raised""", (rule, point)).fetchone()
    assert row is not None
    return int(row[0])


def one(conn: Conn, query: str, *parameters: object) -> Any:
    row = conn.execute(query, parameters).fetchone()
    assert row is not None
    return row[0]


def keep(page: Page, tmp_path: Path, name: str) -> bytes:
    """A picture for the eye, in PARK_SCREENSHOTS or the test's own folder."""
    folder = Path(os.environ.get("PARK_SCREENSHOTS", tmp_path))
    return page.screenshot(path=folder / f"console-{name}.png", full_page=True)
