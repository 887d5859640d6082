"""The page itself, in a real browser: panels, address, filters, keys, language, theme, and every width of screen."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.api.console.conftest import Conn, Open, keep, one, raise_alert, settle

pytestmark = pytest.mark.browser


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
    for path in ("ledger.html", "figures.html"):            # each page asks for itself, and goes on with a token that is good
        lost = console("lang=zh&base=nowhere", path=path, signed_in=False, ready=False)
        lost.locator("#token").fill(page.evaluate("sessionStorage.getItem('park.token')"))
        lost.keyboard.press("Enter")
        expect(lost.locator(".toast")).to_contain_text("nowhere")   # another base does not pass for it
        expect(lost.locator("#base-choice")).to_have_value("green")
    lost = console("lang=zh&base=green", path="ledger.html", ready=False)
    lost.locator("#lists .empty").wait_for()
    lost.route("**/ledger/audit?**", lambda route: route.abort())
    lost.locator("[data-key=audit]").click()
    expect(lost.locator("#lists .empty")).to_contain_text("读取失败")   # what could not be read is not none
    lost.unroute_all()
    expect(lost.locator("#lists .empty")).to_contain_text("没有记录")


def test_the_keyboard_is_enough(console: Open, town: Conn) -> None:
    page = console()
    first, second = (int(page.locator(".alert").nth(i).get_attribute("data-id") or 0) for i in (0, 1))
    page.keyboard.press("ArrowDown")     # from a page in which nothing has the focus: the first alert
    expect(page.locator(".alert").first).to_be_focused()
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
    page.locator("#indicators tbody tr").first.wait_for()
    expect(page.locator("#indicators")).not_to_contain_text("0.00 %")   # what is not known is not zero
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
    page.locator("#health .devices button").first.click()               # what is ill stands first and says where to look
    expect(page.locator("#drawer .explanation")).to_contain_text("look at")
    page.locator("#drawer tbody tr").first.wait_for()
    page.locator("#base-choice").evaluate("e => { e.hidden = true }")  # other bases keep the names of the catalogue
    left = page.evaluate("""() => [...document.querySelectorAll('body *')]
        .filter(e => e.checkVisibility() && e.id !== 'language')
        .flatMap(e => [...e.childNodes].filter(n => n.nodeType === 3).map(n => n.textContent))
        .filter(text => /[\\u4e00-\\u9fff]/.test(text))""")
    assert left == []


def test_a_gap_is_drawn_as_a_gap_and_its_split_as_an_estimate_not_judged(console: Open, town: Conn, tmp_path: Path) -> None:
    town.execute("UPDATE interval_1h i SET amount = NULL, n_known = 0, n_good = 0 FROM point p WHERE p.code = 'food.pv.kwh' "
                 "AND i.point_id = p.point_id AND i.ts = (SELECT ts FROM interval_1h g JOIN point q USING (base_id, point_id) "
                 "WHERE q.code = 'grid.kwh' AND g.n_known = 0)")
    peak = one(town, "SELECT i.ts FROM interval_1h i JOIN point p USING (base_id, point_id) WHERE p.code = 'grid.kwh' "
                     "ORDER BY i.ts DESC OFFSET 1")          # the seed's hour that stands out by far
    town.execute("UPDATE interval_1h i SET estimated = amount, n_good = 0 FROM point p WHERE i.base_id = p.base_id "
                 "AND i.ts = %s AND i.point_id = p.point_id AND p.code IN ('grid.kwh', 'steel.kwh', 'steel.mill.kwh')", [peak])
    missing = one(town, "SELECT i.ts FROM interval_1h i JOIN point p USING (base_id, point_id) "
                        "WHERE p.code = 'grid.kwh' AND i.n_known = 0")
    page = console()
    keep(page, tmp_path, "estimated")
    expect(page.locator("#energy .bar.estimated")).to_have_count(1)
    expect(page.locator("#energy .chart .attention")).to_have_count(0)
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


def test_a_figure_is_followed_down_to_its_samples_and_saved_as_a_file(console: Open, town: Conn, tmp_path: Path) -> None:
    town.execute("""INSERT INTO reading (base_id, point_id, ts, value, quality)
        SELECT base_id, point_id, d.ts + n * interval '5 minutes', 4711.25 + n, 0
        FROM interval_1d d JOIN point p USING (base_id, point_id), generate_series(0, 2) n WHERE p.code = 'grid.kwh'
        ORDER BY d.ts DESC, n LIMIT 3""")
    town.execute("""INSERT INTO interval_15m (base_id, point_id, ts, amount, quality, method)
        SELECT base_id, point_id, ts, 2.5, 0, 0 FROM interval_1d d JOIN point p USING (base_id, point_id)
        WHERE p.code = 'grid.kwh' ORDER BY ts DESC LIMIT 1""")
    page = console("lang=zh&base=green", path="figures.html", ready=False)
    used = page.locator("#used tbody tr", has_text="电力")
    expect(used).to_contain_text("覆盖")                                  # of a month with a day of data
    with page.expect_download() as told:
        page.locator("[data-key=csv]").click()
    rows = list(csv.reader(Path(told.value.path()).read_text(encoding="utf-8-sig").splitlines()))
    figures = {row[-1]: row for row in rows[2:]}
    used.locator("button").click()
    drawer = page.locator("#drawer")
    expect(drawer.locator(".traced")).to_contain_text("kWh")
    keep(page, tmp_path, "trace")
    figure = next(name for name in figures if name.endswith("/base/electricity/energy"))
    shown = float((drawer.locator(".traced").text_content() or "").split()[0].replace(",", ""))
    assert abs(float(figures[figure][1]) - shown) < 0.01               # the file has what the trace has, in full
    drawer.locator("[data-key='part-grid.kwh']").click()
    drawer.locator("[data-key^=day-]").last.click()
    drawer.locator("[data-key^=samples-]").click()
    expect(drawer.locator("tbody tr")).to_have_count(3)
    expect(drawer.locator("tbody tr").first).to_contain_text("4,711.25")
    page.keyboard.press("Escape")
    expect(drawer).to_be_hidden()
    expect(used.locator("button")).to_be_focused()
