"""Alerts on the console, in a real browser: they appear, are answered, and outlive a server that is away."""

from __future__ import annotations

import re
import time

import pytest
from playwright.sync_api import Browser, expect

from api.tokens import create_token
from tests.api.console.conftest import Conn, Open, one, raise_alert, running, settle

pytestmark = pytest.mark.browser


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
        page.route("**/api/v1/alerts?**", lambda route: route.abort())
        page.goto(f"http://127.0.0.1:{port}/#token={token}")
        settle(page)
        expect(page.locator("#alerts .empty")).to_have_text("loading…")   # not read is not none
        expect(page.locator("#strip .counts")).to_contain_text("–")
        page.unroute_all()
    expect(page.locator("#link-state")).to_have_attribute("data-state", "lost")
    expect(page.locator("#notice")).to_be_visible(timeout=15_000)
    alert = raise_alert(town, "so2-hour", "steel.stack.nox")
    with running(database_url, port):
        page.locator(f".alert[data-id='{alert}']").wait_for(timeout=20_000)
        expect(page.locator("#link-state")).to_have_attribute("data-state", "live")
        expect(page.locator("#notice")).to_be_hidden()
        page.close()
