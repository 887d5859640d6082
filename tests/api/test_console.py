"""The console in a real browser, over the real application and a database filled as the stages would have filled it."""

from __future__ import annotations

import os
import re
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

HERE = Path(__file__).parent
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
        "--disable-component-update", "--disable-sync"]
# what tests provoke; a missing file would be a 404
WANTED = ("net::ERR_FAILED", *(f"the server responded with a status of {n}" for n in (401, 409, 422)))
Open = Callable[..., Page]
Conn = psycopg.Connection[Any]

pytestmark = pytest.mark.browser


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
        apply(db, read_catalogue([HERE.parent / "data" / "mini.yaml"]))
        apply(db, read_catalogue([HERE / "console_park.yaml"]))
        apply(db, read_catalogue([TABLES / "indicators.yaml"]))
        db.execute("UPDATE base SET timezone = %s", [afternoon_zone(now)])
        psycopg.ClientCursor(db).execute((HERE / "console_seed.sql").read_text(encoding="utf-8").encode(), {"now": now})
    yield name
    databases.drop(name)


@pytest.fixture
def town(db: Conn) -> Conn:
    """A connection to the copy."""
    return db


@pytest.fixture(scope="module")
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
                      **options: Any) -> Page:
            context = browser.new_context(**({"viewport": {"width": 1600, "height": 1000}} | options))
            contexts.append(context)
            page = context.new_page()
            page.set_default_timeout(15_000)
            if own_clock:
                page.clock.install()
            page.on("console", lambda m: faults.append(m.text) if m.type == "error" else None)
            page.on("pageerror", lambda e: faults.append(str(e)))
            page.on("request", lambda r: addresses.append(r.url))
            page.goto(f"http://127.0.0.1:{port}/?{query}" + (f"#token={token}" if signed_in else ""))
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


@pytest.mark.parametrize(("lang", "scheme", "heading"), [("zh", "light", "实时告警"), ("en", "dark", "Live alerts")])
def test_every_panel_shows_its_data(console: Open, tmp_path: Path, lang: str, scheme: str, heading: str) -> None:
    page = console(f"lang={lang}&base=green", color_scheme=scheme)
    expect(page.locator("#alerts h2")).to_have_text(heading)
    expect(page.locator(".alert")).to_have_count(6)
    assert page.locator("#flow .link").count() >= 8
    assert page.locator("#flow .link.lost").count() == 2
    expect(page.locator("#linkage .chain.bad")).to_have_count(1)
    expect(page.locator("#linkage .chain.unknown")).to_have_count(1)
    expect(page.locator("#pollutants tbody tr:not(.group)")).to_have_count(10)
    assert page.title().startswith("(4) ")
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", dark)[:3])) < 200) == (scheme == "dark")
    assert len(keep(page, tmp_path, f"{lang}-{scheme}")) > 100_000


def test_the_address_bar_forgets_the_token_and_a_wrong_one_is_told(console: Open) -> None:
    page = console()
    assert "token" not in page.url
    page.reload()
    settle(page)  # the tab keeps it
    assert "unsafe" not in page.request.get(page.url).headers["content-security-policy"]
    assert page.evaluate("performance.getEntriesByType('resource').every(e => e.name.startsWith(location.origin))")
    stranger = console(signed_in=False, ready=False)
    expect(stranger.locator("#dialog")).to_be_visible()
    stranger.locator("#token").fill("park_wrong")
    stranger.keyboard.press("Enter")
    expect(stranger.locator("#dialog .error")).to_contain_text("令牌")
    assert stranger.evaluate("sessionStorage.length") == 0


def test_an_alert_appears_within_two_seconds_without_a_reload(console: Open, town: Conn) -> None:
    page = console()
    page.evaluate("window.sameDocument = true")
    began = time.monotonic()
    alert = raise_alert(town, "baseline", "steel.kw")
    row = page.locator(f".alert[data-id='{alert}']")
    row.wait_for(timeout=2_000)
    assert time.monotonic() - began < 2
    expect(row).to_contain_text("功率 7,450 kW 高于 7,000 kW。")
    expect(row.locator(".against")).to_have_text("7,450 kW / 限值 7,000 kW")
    expect(page).to_have_title(re.compile(r"^\(5\) "))
    assert page.evaluate("window.sameDocument")


def test_acknowledging_changes_the_row_here_and_in_the_database(console: Open, town: Conn) -> None:
    page = console()
    other = console()  # a colleague's page
    row = page.locator(".alert.waiting").first
    alert = int(row.get_attribute("data-id") or 0)
    row.get_by_role("button", name="确认", exact=True).click()
    here, there = (p.locator(f".alert[data-id='{alert}']") for p in (page, other))
    expect(here).to_have_class(re.compile("acknowledged"))
    expect(here.locator(".state")).to_have_text("已确认")
    expect(here.get_by_role("button", name="确认", exact=True)).to_have_count(0)
    expect(there).to_have_class(re.compile("acknowledged"))
    expect(page).to_have_title(re.compile(r"^\(3\) "))
    assert one(town, "SELECT acknowledged FROM alert WHERE alert_id = %s", alert) is True
    assert one(town, "SELECT actor FROM transition WHERE alert_id = %s AND change = 'ack'", alert) == "王工"


def test_shelving_asks_for_a_time_and_a_reason(console: Open, town: Conn) -> None:
    page = console()
    row = page.locator(".alert.waiting").nth(1)
    alert = int(row.get_attribute("data-id") or 0)
    row.hover()
    row.get_by_role("button", name="搁置", exact=True).click()
    dialog = page.locator("#dialog")
    dialog.locator("[data-minutes='240']").click()
    dialog.get_by_role("button", name="确定").click()
    expect(dialog).to_be_visible()  # no reason, no shelving
    assert one(town, "SELECT shelved_until FROM alert WHERE alert_id = %s", alert) is None
    dialog.locator("textarea").fill("更换传感器")
    dialog.get_by_role("button", name="确定").click()
    expect(dialog).to_be_hidden()
    expect(page.locator(f".alert[data-id='{alert}']")).to_have_count(0)
    minutes = one(town, "SELECT extract(epoch FROM shelved_until - now()) / 60 FROM alert WHERE alert_id = %s", alert)
    assert 239 < minutes <= 240
    assert one(town, "SELECT note FROM transition WHERE alert_id = %s AND change = 'shelve'", alert) == "更换传感器"
    page.locator("[data-key='state-shelved']").click()
    expect(page.locator(f".alert[data-id='{alert}'] .state")).to_contain_text("搁置至")
    expect(page.locator(f".alert[data-id='{alert}'] .state")).to_contain_text("王工 · 更换传感器")


def test_a_flood_of_one_rule_is_one_row_and_can_be_acknowledged_at_once(console: Open, town: Conn) -> None:
    page = console()
    for point in ("steel.gas", "chem.gas", "chem.steam", "food.steam", "food.water", "chem.water"):
        raise_alert(town, "baseline", point)
    flood = page.locator(".alert.group")
    expect(flood.locator(".count")).to_have_text("× 7")
    expect(page.locator(".alert")).to_have_count(6)
    flood.get_by_role("button", name="展开").click()
    expect(page.locator(".alert.inner")).to_have_count(7)
    flood.get_by_role("button", name="全部确认").click()
    page.locator("#dialog").get_by_role("button", name="确定").click()
    expect(page.locator("#dialog")).to_be_hidden()
    assert one(town, "SELECT count(*) FROM alert JOIN rule USING (base_id, rule_id) "
                     "WHERE code = 'baseline' AND NOT acknowledged") == 0
    assert one(town, "SELECT count(*) FROM transition WHERE change = 'ack' AND actor = '王工'") == 7 + 2  # two were before
    expect(page).to_have_title(re.compile(r"^\(3\) "))


def test_the_keyboard_is_enough(console: Open, town: Conn) -> None:
    page = console()
    first, second = (int(page.locator(".alert").nth(i).get_attribute("data-id") or 0) for i in (0, 1))
    page.locator(".alert").first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("a")
    expect(page.locator(f".alert[data-id='{second}']")).to_have_class(re.compile("acknowledged"))
    assert one(town, "SELECT acknowledged FROM alert WHERE alert_id = %s", first) is False
    page.locator(f".alert[data-id='{first}']").focus()
    page.keyboard.press("c")
    page.keyboard.type("已派人")
    page.locator("#dialog").get_by_role("button", name="确定").click()
    expect(page.locator("#dialog")).to_be_hidden()
    page.locator(f".alert[data-id='{first}']").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#drawer .history")).to_contain_text("已派人")
    page.keyboard.press("Escape")
    expect(page.locator("#drawer")).to_be_hidden()


def test_filters_keep_what_was_asked_for_and_another_base_shows_its_own(console: Open) -> None:
    page = console()
    page.locator("[data-key='severity-critical']").click()
    expect(page.locator(".alert")).to_have_count(4)
    expect(page.locator(".alert.critical")).to_have_count(0)
    page.locator("[data-key='state-unacknowledged']").click()
    expect(page.locator(".alert")).to_have_count(2)
    page.locator("[data-key='state-open']").click()
    page.locator("[data-key='severity-critical']").click()
    page.locator("#base-choice").select_option("mini")
    expect(page.locator("#pollutants")).to_contain_text("缺失")
    expect(page.locator("#alerts .empty")).to_be_visible()
    expect(page.locator("#strip .tile").nth(1).locator(".figure")).to_have_text("–")
    page.locator("[data-key='every-true']").click()
    expect(page.locator(".alert")).to_have_count(6)
    expect(page.locator(".alert .place .base").first).to_have_text("临江绿色产业示范基地")


def test_the_language_changes_everything_on_the_page(console: Open) -> None:
    page = console()
    page.locator("#language").click()
    expect(page.locator("#alerts h2")).to_have_text("Live alerts")
    expect(page.locator("#energy h2")).to_have_text("Energy today against expected")
    expect(page.locator(".alert").first).to_contain_text("Thermal oxidiser")
    expect(page.locator("html")).to_have_attribute("lang", "en")
    settle(page)
    page.locator("#base-choice").evaluate("e => { e.hidden = true }")  # other bases keep the names of the catalogue
    left = page.evaluate("""() => [...document.querySelectorAll('body *')]
        .filter(e => e.checkVisibility() && e.id !== 'language')
        .flatMap(e => [...e.childNodes].filter(n => n.nodeType === 3).map(n => n.textContent))
        .filter(text => /[\\u4e00-\\u9fff]/.test(text))""")
    assert left == []


def test_a_gap_is_drawn_as_a_gap(console: Open, town: Conn) -> None:
    town.execute("UPDATE interval_1h i SET amount = NULL, n_known = 0, n_good = 0 FROM point p WHERE p.code = 'food.pv.kwh' "
                 "AND i.point_id = p.point_id AND i.ts = (SELECT ts FROM interval_1h g JOIN point q USING (base_id, point_id) "
                 "WHERE q.code = 'grid.kwh' AND g.n_known = 0)")
    missing = one(town, "SELECT i.ts FROM interval_1h i JOIN point p USING (base_id, point_id) "
                        "WHERE p.code = 'grid.kwh' AND i.n_known = 0")
    page = console()
    gaps = page.locator("#energy .gap").evaluate_all("all => all.map(e => Date.parse(e.dataset.gap) / 1000)")
    assert missing.timestamp() in gaps
    whole = page.locator("#energy .bar:not(.partial)").evaluate_all("all => all.map(e => Number(e.getAttribute('height')))")
    assert len(whole) == 14
    assert min(whole) > 20  # no bar of zero stands for what is not known
    expect(page.locator("#energy .bar.partial")).to_have_count(1)
    expect(page.locator("#energy .carriers .coverage").first).to_be_visible()
    alert = raise_alert(town, "baseline", "steel.kw")
    page.locator(f".alert[data-id='{alert}']").click()
    page.locator("#drawer .chart-head button[aria-pressed=true]", has_text="告警时段").wait_for()
    page.locator("#drawer .chart-head button", has_text="24 小时").click()      # beside the alert's own time
    page.locator("#drawer .chart-head button[aria-pressed=true]", has_text="24 小时").wait_for()
    page.locator("#drawer .chart").wait_for()
    holes = page.locator("#drawer .gap").evaluate_all("all => all.map(e => Date.parse(e.dataset.gap) / 1000)")
    # the last reading is as old as this module's tests have been running: from it to now is a hole too, on a slow machine
    last = one(town, "SELECT max(r.ts) FROM reading r JOIN point p USING (base_id, point_id) "
                     "WHERE p.code = 'steel.kw'").timestamp()
    inside = [at for at in holes if at < last - 120]
    assert len(inside) == 1
    assert abs(inside[0] - (last - 9 * 3600)) < 300
    assert page.locator("#drawer .line").count() == 2


def test_indicators_show_target_and_forecast_and_why_one_is_withheld(console: Open, tmp_path: Path) -> None:
    page = console()
    rows = page.locator("#indicators tbody tr")
    expect(rows).to_have_count(4)
    told = {row.locator(".name").inner_text().split("\n")[0]: row for row in rows.all()}
    for name, outlook in {"用电量": "预计达标", "二氧化碳排放量": "▲ 有风险", "可再生能源使用比例": "◆ 预计不达标"}.items():
        expect(told[name].locator(".outlook")).to_have_text(outlook)
        expect(told[name].locator(".forecast .here")).to_have_count(1)
    expect(told["用电量"]).to_contain_text("55,100 MWh")
    expect(told["可再生能源使用比例"]).to_contain_text("≥ 9.00 %")
    withheld = told["单位工业增加值综合能耗"]
    expect(withheld.locator(".why")).to_have_text("台账未填报本期工业增加值")
    expect(withheld.locator(".forecast")).to_have_count(0)     # no bar where nothing is known, and no zero
    expect(withheld).to_contain_text("≤ 0.38 tce/万元")
    mark, tick = (told["可再生能源使用比例"].locator(x).bounding_box() for x in (".here", ".tick.bound"))
    assert mark is not None and tick is not None and mark["x"] < tick["x"]     # what ends too low stands left of its bound
    page.locator("#indicators [data-key=set-zero_carbon_park]").click()
    expect(page.locator("#indicators .note")).to_contain_text("519号")
    expect(page.locator("#indicators tbody tr").first.locator("sup")).to_have_text("?")
    page.locator("#indicators [data-key=year-1]").click()
    expect(page.locator("#indicators .meta")).to_have_text("全年已过 100 %")


def test_bills_add_up_and_say_what_they_lack(console: Open) -> None:
    page = console("lang=en&base=green")
    expect(page.locator("#bills .customers tbody tr")).to_have_count(3)
    amounts = page.locator("#bills .lines tbody td:last-child").all_inner_texts()
    total = page.locator("#bills tfoot td").inner_text()
    assert round(sum(float(a.replace(",", "")) for a in amounts), 2) == float(total.replace(",", "")) == 3245.9
    expect(page.locator("#bills .notes")).to_have_count(0)
    page.locator("#bills [data-key=bill-steel]").click()
    expect(page.locator("#bills .notes")).to_have_text("6 of 2976 slots are not known: energy is a lower bound")
    page.locator("#language").click()
    expect(page.locator("#bills .notes")).to_have_text("2976 个时段中有 6 个未知：电量为下限")
    expect(page.locator("#bills .lines tbody tr").nth(2)).to_contain_text("× 0.90")
    page.locator("#bills [data-key=month-0]").click()
    expect(page.locator("#bills .empty")).to_contain_text("没有账单")


def test_the_theme_follows_the_browser_until_one_is_chosen(console: Open) -> None:
    page = console(color_scheme="dark")
    root = page.locator("html")
    expect(root).to_have_attribute("data-theme", "dark")
    page.emulate_media(color_scheme="light")
    expect(root).to_have_attribute("data-theme", "light")
    page.locator("#theme").click()
    page.locator("#theme").click()
    expect(page.locator("#theme")).to_have_text("深色")
    page.emulate_media(color_scheme="light")
    expect(root).to_have_attribute("data-theme", "dark")
    page.reload()
    expect(root).to_have_attribute("data-theme", "dark")


def test_panels_that_cannot_be_read_again_are_marked_as_stale_and_keep_what_they_had(console: Open) -> None:
    page = console(own_clock=True)
    expect(page.locator(".is-stale")).to_have_count(0)
    page.route("**/overview/**", lambda route: route.abort())
    page.clock.run_for(200_000)
    for panel in ("energy", "pollutants", "health", "linkage"):
        expect(page.locator(f"#{panel}")).to_have_class(re.compile("is-stale"))
    expect(page.locator("#health .stale-mark")).to_contain_text("数据陈旧")
    assert page.locator("#energy .bar").count() > 10


def test_what_happened_while_the_server_was_away_is_shown_when_it_is_back(
        town: Conn, database_url: str, browser: Browser) -> None:
    token = create_token(town, role="contractor", name="c", bases=["green"])
    page = browser.new_page()
    with running(database_url) as port:
        page.goto(f"http://127.0.0.1:{port}/#token={token}")
        settle(page)
    expect(page.locator("#link-state")).to_have_attribute("data-state", "lost")
    expect(page.locator("#notice")).to_be_visible(timeout=15_000)
    alert = raise_alert(town, "so2-hour", "steel.stack.nox")
    with running(database_url, port):
        page.locator(f".alert[data-id='{alert}']").wait_for(timeout=20_000)
        expect(page.locator("#link-state")).to_have_attribute("data-state", "live")
        expect(page.locator("#notice")).to_be_hidden()
        page.close()


def test_nothing_runs_out_of_the_page_from_a_phone_to_a_wall(console: Open, tmp_path: Path) -> None:
    page = console("lang=en&base=green")  # the longer words
    for width in (390, 1180, 1280, 1440, 1720, 1920):
        page.set_viewport_size({"width": width, "height": 900})
        page.evaluate("async () => { for (let i = 0; i < 4; i++) await new Promise(requestAnimationFrame) }")
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, width
        outside = page.evaluate("""() => [...document.querySelectorAll('.panel')].flatMap(panel => {
            const edge = panel.getBoundingClientRect().right + 1;
            return innerWidth < 760 ? [] : [...panel.querySelectorAll('td, th, button, .tile, .unit-box, dd, svg text')]
                .filter(e => e.checkVisibility() && e.getBoundingClientRect().right > edge)
                .map(e => `${panel.id}: ${e.textContent}`) })""")
        assert outside == [], width
        keep(page, tmp_path, str(width))
