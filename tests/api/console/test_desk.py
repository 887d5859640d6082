"""The alert desk in a real browser: cases with evidence, duty, routes, out of service, figures; floods and links to alerts."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from playwright.sync_api import Page, expect

from api.tokens import create_token
from tests.api.console.conftest import Conn, Open, keep, one, settle

pytestmark = pytest.mark.browser


def desk(page: Page, tab: str) -> None:
    if page.locator("#drawer").is_hidden():
        page.locator("#desk").click()
    page.locator(f"[data-key=tab-{tab}]").click()
    expect(page.locator(f"[data-key=tab-{tab}]")).to_have_attribute("aria-selected", "true")


def confirm(page: Page) -> None:
    page.locator("#dialog button.primary").click()
    expect(page.locator("#dialog")).to_be_hidden()


def test_a_case_is_dispatched_from_its_alert_and_carries_the_hash_of_its_evidence(console: Open, town: Conn,
                                                                                tmp_path: Path) -> None:
    alert = one(town, """SELECT a.alert_id FROM alert a JOIN point p USING (base_id, point_id)
        WHERE p.quantity = 'so2' AND a.closed_at IS NULL LIMIT 1""")
    page = console(f"lang=zh&base=green&alert={alert}")             # the link of a message opens the alert
    page.locator("#drawer .chart").first.wait_for()
    keep(page, tmp_path, "alert-link")
    page.locator("#drawer [data-do=dispatch]").click()
    page.locator("#dialog input[name=handler]").fill("永固轧钢环保科")
    confirm(page)
    case = page.locator(".case").first
    expect(case.locator("[aria-current=step]")).to_have_text("已派单")
    case.locator("[data-case-step=accept]").click()
    confirm(page)
    case.locator("[data-case-step=handle]").click()
    page.locator("#dialog textarea[name=note]").fill("更换破损滤袋 12 条")
    confirm(page)
    case.locator("[data-case-step=evidence]").click()
    picture = b"\xff\xd8\xff" + b"picture" * 1000
    (tmp_path / "滤袋.jpg").write_bytes(picture)
    page.locator("#dialog input[type=file]").set_input_files(tmp_path / "滤袋.jpg")
    confirm(page)
    expect(case.locator("[aria-current=step]")).to_have_text("已举证")
    want = hashlib.sha256(picture).hexdigest()
    with page.expect_download() as saved:
        case.locator("[data-document]").click()
    assert saved.value.suggested_filename == "滤袋.jpg" and Path(saved.value.path()).read_bytes() == picture
    assert one(town, "SELECT attachment_hash FROM case_step WHERE step = 'evidence'") == want
    for data in (b"", b"abc", bytes(range(256)) * 5):       # the page's own SHA-256, for where the browser has none
        got = page.evaluate("async (d) => (await import('/js/sha256.js')).plain(new Uint8Array(d))", list(data))
        assert got == hashlib.sha256(data).hexdigest()
    case.locator("[data-case-step=verify]").click()
    page.locator("#dialog textarea[name=note]").fill("ok")
    page.locator("#dialog button.primary").click()
    expect(page.locator("#dialog .error")).to_contain_text("不能验收")     # who handled it
    page.keyboard.press("Escape")
    assert len(keep(page, tmp_path, "desk-cases")) > 50_000
    desk(page, "handover")                                          # the note of the shift has what is left to do
    expect(page.locator("#drawer .handover", has_text="处置单")).to_contain_text("已举证 · 处理人 永固轧钢环保科")
    expect(page.locator("#drawer .handover", has_text="未确认告警").locator("li")).to_have_count(4)


def test_duty_routes_and_what_is_out_of_service_are_kept_in_the_desk(console: Open, town: Conn, tmp_path: Path) -> None:
    page = console("lang=en&base=green", color_scheme="dark")
    desk(page, "duty")
    expect(page.locator("#drawer .text-high")).to_have_text("Nobody is on duty now")
    page.locator("[data-do=add-duty]").click()
    page.locator("#dialog input[name=person]").fill("Wang Lei")
    confirm(page)
    expect(page.locator("#drawer")).to_contain_text("no route")
    keep(page, tmp_path, "desk-duty")
    desk(page, "routes")
    page.locator("[data-do=add-route]").click()
    page.locator("#dialog input[name=name]").fill("night")
    page.locator("#dialog input[name=target]").fill("https://oapi.dingtalk.com/robot/send?access_token=k")
    page.locator("#dialog input[name=person]").fill("Wang Lei")
    page.locator("#dialog input[name=on_duty]").check()
    keep(page, tmp_path, "desk-route-form")
    confirm(page)
    expect(page.locator("[data-route]")).to_contain_text("of Wang Lei · only while on duty")
    page.locator("[data-do=test]").click()
    expect(page.locator("[data-route] [role=status]")).to_contain_text("being sent")
    town.execute("UPDATE route SET tested_at = now(), test_error = 'answer 403'")
    expect(page.locator("[data-route] [role=status]")).to_contain_text("answer 403")
    keep(page, tmp_path, "desk-routes")
    desk(page, "service")
    page.locator("[data-do=take-out]").click()
    page.locator("#dialog input[name=point]").fill("nowhere")
    page.locator("#dialog textarea[name=reason]").fill("analyser sent for repair")
    page.locator("#dialog button.primary").click()
    expect(page.locator("#dialog .error")).to_contain_text("no such")
    point = one(town, "SELECT p.code FROM point p JOIN base b USING (base_id) WHERE b.code = 'green' LIMIT 1")
    page.locator("#dialog input[name=point]").fill(point)
    confirm(page)
    expect(page.locator("#drawer tbody tr")).to_contain_text("analyser sent for repair")
    keep(page, tmp_path, "desk-service")
    desk(page, "figures")
    expect(page.locator(".kpi")).to_have_count(8)
    keep(page, tmp_path, "desk-figures")


def test_a_flood_is_one_row_led_by_what_came_first_and_a_base_wide_alert_is_shown(console: Open, town: Conn,
                                                                               tmp_path: Path) -> None:
    page = console("lang=zh&base=green")
    first = one(town, "SELECT min(alert_id) FROM alert WHERE closed_at IS NULL AND point_id IS NOT NULL")
    town.execute("""INSERT INTO alert (base_id, rule_id, point_id, severity, opened_at, first_out)
        SELECT a.base_id, a.rule_id, p.point_id, 'medium', now(), a.alert_id FROM alert a JOIN point p USING (base_id)
        WHERE a.alert_id = %s AND p.point_id <> a.point_id ORDER BY p.point_id LIMIT 7""", (first,))
    town.execute("""UPDATE alert SET first_out = alert_id, severity = 'medium', acknowledged = false, active = true
        WHERE alert_id = %s""", (first,))
    town.execute("""INSERT INTO alert (base_id, rule_id, severity, opened_at, channel, explanation)
        SELECT base_id, min(rule_id), 'high', now(), 'nothing_heard', '{"zh": "平台未收到任何数据", "en": "nothing"}'
        FROM rule JOIN base USING (base_id) WHERE base.code = 'green' GROUP BY 1""")
    page.reload()
    settle(page)
    row = page.locator(".alert.group")
    expect(row).to_have_count(1)
    expect(row).to_contain_text("首发")
    expect(row).to_contain_text("随后 7 条")
    expect(page.locator("#alerts .list")).to_contain_text("全基地 green")
    keep(page, tmp_path, "flood")


def test_a_token_that_may_only_look_sees_no_button_and_no_routes(console: Open, town: Conn, database_url: str) -> None:
    page = console("lang=en&base=green")
    token = create_token(town, role="auditor", name="auditor", bases=["green"])
    page.evaluate("(t) => sessionStorage.setItem('park.token', t)", token)
    page.reload()
    settle(page)
    expect(page.locator("#alerts .ack")).to_have_count(0)
    page.locator("#desk").click()
    expect(page.locator("[data-key=tab-cases]")).to_be_visible()
    expect(page.locator("[data-key=tab-routes]")).to_have_count(0)
    page.locator("[data-key=tab-service]").click()
    expect(page.locator("[data-do=take-out]")).to_have_count(0)


def test_an_alarm_of_a_spool_is_told_in_the_health_panel(console: Open, town: Conn) -> None:
    town.execute("""INSERT INTO pass (base_id, pass, done_to, detail) SELECT base_id, 'collector:gw1', now(), '{"batches": 900,
        "bytes": 95, "max_bytes": 100, "dropped_readings": 1200, "alarm": "dropping"}' FROM base WHERE code = 'green'""")
    page = console("lang=zh&base=green")
    expect(page.locator("#health [role=alert]")).to_contain_text("gw1 缓存已满，丢弃 1,200 条")


def test_times_of_the_desk_are_the_bases_whatever_the_browsers_zone(console: Open, town: Conn, tmp_path: Path) -> None:
    zone = ZoneInfo(one(town, "SELECT timezone FROM base WHERE code = 'green'"))
    page = console("lang=en&base=green", timezone_id="America/St_Johns", locale="en-CA")     # 3 h 30 min behind UTC
    desk(page, "duty")
    page.locator("[data-do=add-duty]").click()
    shown = datetime.fromisoformat(page.locator("#dialog input[name=start]").input_value()).replace(tzinfo=zone)
    assert abs((datetime.now(UTC) - shown).total_seconds()) < 180       # now, by the base's clock
    offset = int((datetime.now(zone).utcoffset() or timedelta()).total_seconds() // 3600)
    expect(page.locator("#dialog [data-zone]").first).to_have_text(f"GMT{offset:+d}" if offset else "GMT")
    keep(page, tmp_path, "desk-zone")
    page.locator("#dialog input[name=person]").fill("Li Min")
    page.locator("#dialog input[name=start]").fill("2026-12-01T08:00")
    page.locator("#dialog input[name=end]").fill("2026-12-01T20:30")
    confirm(page)
    expect(page.locator("#drawer tbody tr")).to_contain_text("08:00")   # as it was written
    rows = town.execute("SELECT starts_at, ends_at FROM duty WHERE person = 'Li Min'").fetchall()
    assert rows == [(datetime(2026, 12, 1, 8, tzinfo=zone), datetime(2026, 12, 1, 20, 30, tzinfo=zone))]
    desk(page, "service")
    page.locator("[data-do=take-out]").click()
    page.locator("#dialog input[name=point]").fill(one(town, """SELECT p.code FROM point p JOIN base b USING (base_id)
        WHERE b.code = 'green' AND quantity = 'so2' LIMIT 1"""))
    until = (datetime.now(zone) + timedelta(days=2)).replace(minute=15, second=0, microsecond=0)
    page.locator("#dialog input[name=until]").fill(until.strftime("%Y-%m-%dT%H:%M"))
    page.locator("#dialog textarea[name=reason]").fill("analyser away for calibration")
    confirm(page)
    assert one(town, "SELECT until FROM out_of_service") == until
