"""Prices that vary, losses behind the meter, and the power-factor line of each standard on a bill."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest

from accounting.bill import Month, Terms, bill, cents, losses
from accounting.market import import_prices, read_prices
from accounting.passes import run_pass
from accounting.verify import verify
from park.errors import CatalogueError, InputError, NotFound

Conn = psycopg.Connection[Any]
Feed = Callable[..., None]
ROW = {
    "prices": {"peak": 1.0, "valley": 0.4},
    "power_factor": {"standard": 0.90, "standards": {"e2": 0.85, "e3": 0.80}},
    "additions": [{"code": "system", "price": 0.03}],
}
MONTH = Month(date(2026, 3, 1), "e1", {(7, "peak"): 60_000.0, (7, "valley"): 40_000.0}, 0.0, 2976, 2976, 0.0, 480.0)


def made(month: Month = MONTH, **changes: Any) -> Any:
    return bill(month, Terms({7: ROW | changes}, 7, {7: ("test", True)}))


@pytest.mark.parametrize(
    ("factor", "customer", "percent"),
    [
        (0.97, "e1", -0.75),
        (0.97, "e2", -1.10),
        (0.97, "e3", -1.30),
        (0.90, "e1", 0.0),
        (0.90, "e2", -0.50),
        (0.90, "e3", -1.00),
        (0.86, "e1", 2.0),
        (0.86, "e2", -0.10),
        (0.86, "e3", -0.60),
        (0.78, "e1", 6.0),
        (0.78, "e2", 3.5),
        (0.78, "e3", 1.0),
        (0.62, "e1", 21.0),
        (0.62, "e2", 13.0),
        (0.62, "e3", 9.0),
    ],
)
def test_the_power_factor_line_of_each_standard(factor: float, customer: str, percent: float) -> None:
    """100,000 kWh cost 76,000 and 3,000: the line is the table's percent of 79,000."""
    told = made(replace(MONTH, customer=customer, reactive_kvarh=100_000 * sqrt(1 / factor**2 - 1)))
    assert told.power_factor == factor
    adjusted = next(x for x in told.lines if x.item == "power_factor")
    assert (adjusted.quantity, adjusted.amount) == (79_000.0, cents(79_000 * percent / 100))


def test_losses_behind_the_meter_are_lines_of_their_own() -> None:
    """31 days: iron 2 kW x 744 h + 1 % of 100,000 = 2,488 kWh; line 0.5 % of 102,488; 60 % of both in the peak."""
    told = made(losses={"e1": {"transformer": {"iron_kw": 2, "copper_share": 0.01, "iron_kvar": 10}, "line": {"share": 0.005}}})
    amounts = {x.item: (x.quantity, x.amount) for x in told.lines}
    assert amounts["transformer_loss.peak"] == (1492.8, 1492.8) and amounts["transformer_loss.valley"] == (995.2, 398.08)
    assert amounts["line_loss.peak"] == (307.46, 307.46)
    assert amounts["addition.system"] == (103_000.44, cents(103_000.44 * 0.03))
    assert told.power_factor == 1.0 and told.energy_kwh == 100_000
    assert told.total == cents(sum(x.amount for x in told.lines))
    half = losses(replace(MONTH, hours=372.0), Terms({7: {"losses": {"e1": {"transformer": {"iron_kw": 2}}}}}, 7), 0.0)
    assert half.kwh == 744.0
    wrongs: list[dict[str, Any]] = [{"transformer": {"iron": 2}}, {"line": {"share": -1}}, {"cable": {}}]
    for wrong in wrongs:
        with pytest.raises(InputError, match="losses of e1"):
            made(losses={"e1": wrong})


@pytest.fixture
def market(park: Conn) -> Conn:
    park.execute("UPDATE tariff SET terms = '{\"table\": {}}' WHERE code = 'grid'")
    return park


def prices_file(folder: Path, days: int, step: int) -> tuple[Path, list[float]]:
    """Prices 0.10 + 0.01 x hour + 0.001 x day."""
    lines, listed = ["start,price"], []
    for i in range(days * 24 * 60 // step):
        at = datetime(2026, 3, 1) + timedelta(minutes=step * i)
        price = 0.1 + 0.01 * at.hour + 0.001 * at.day
        lines.append(f"{at:%Y-%m-%d %H:%M},{price}")
        listed += [price] * (step // 15)
    file = folder / "prices.csv"
    file.write_text("\n".join(lines), encoding="utf-8")
    return file, listed


@pytest.mark.parametrize("step", [15, 30, 60])
def test_market_prices_make_cost_and_bill(market: Conn, feed: Feed, database_url: str, tmp_path: Path, step: int) -> None:
    """The cost of a day is each quarter's energy at its price; the bill has one line at the mean price that reproduces it."""
    file, listed = prices_file(tmp_path, 31, step)
    first = datetime(2026, 2, 28, 16, tzinfo=UTC)
    kwh = 10.0 + np.arange(31 * 96) % 7
    feed("e1.main.kwh", [first + timedelta(minutes=15) * i for i in range(31 * 96 + 1)], np.concatenate([[0], np.cumsum(kwh)]))
    now = first + timedelta(days=31, hours=1)
    run_pass(market, now)
    assert market.execute("SELECT count(*) FROM cost_1d").fetchone() == (0,)  # no price is no cost
    assert "new tariff rows" in import_prices(database_url, "mini", "grid", file)
    assert "already there" in import_prices(database_url, "mini", "grid", file)
    run_pass(market, now)
    cost = float(np.dot(kwh, listed))
    assert market.execute("SELECT min(period), sum(cost) FROM cost_1d").fetchone() == ("market", pytest.approx(cost))
    [(item, quantity, price, amount)] = market.execute(
        "SELECT item, quantity, price, amount FROM bill_line WHERE month = '2026-03-01' AND item LIKE 'energy.%'").fetchall()
    assert (item, quantity, amount) == ("energy.market", pytest.approx(kwh.sum()), pytest.approx(cost, abs=0.01))
    assert amount == cents(quantity * price)
    assert market.execute("SELECT count(*) FROM tariff WHERE code = 'grid'").fetchone() == (2,)
    assert verify(market, 1, now) == []


def test_hours_beside_the_table_keep_peak_and_valley_apart(market: Conn, feed: Feed, database_url: str, tmp_path: Path) -> None:
    market.execute(
        "UPDATE tariff SET terms = %s WHERE code = 'grid'",
        (json.dumps({"table": {}, "hours": [{"period": "peak", "from": "08:00", "to": "12:00"}]}),),
    )
    file, listed = prices_file(tmp_path, 2, 60)
    import_prices(database_url, "mini", "grid", file)
    first = datetime(2026, 2, 28, 16, tzinfo=UTC)
    feed("e1.main.kwh", [first + timedelta(minutes=15) * i for i in range(3 * 96 + 1)], np.arange(3 * 96 + 1.0))
    run_pass(market, first + timedelta(days=4))
    peak = [p for i, p in enumerate(listed) if 32 <= i % 96 < 48]
    assert dict(market.execute("SELECT period, sum(cost) FROM cost_1d GROUP BY 1").fetchall()) == pytest.approx(
        {"peak": sum(peak), "flat": sum(listed) - sum(peak)}
    )
    notes = (market.execute("SELECT notes FROM bill").fetchone() or ((),))[0]
    assert any("no price for 96 slots" in note for note in notes)  # the third day has none


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("at,price\n", "expected the columns start and price"),
        ("start,price\n2026-03-01 00:07,1\n", ":2: expected a base-local start"),
        ("start,price\n2026-03-01 00:00,x\n", ":2: expected"),
        ("start,price\n2026-03-01 00:00,1\n2026-03-01 00:00,2\n", "stands twice"),
        ("start,price\n2026-03-01 00:00,1\n", "2026-03-01 has 1 prices"),
        ("start,price\n", "no prices"),
    ],
)
def test_mistakes_of_a_price_file_name_their_line(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "p.csv"
    file.write_text(text, encoding="utf-8")
    with pytest.raises((CatalogueError, InputError)) as told:
        read_prices(file)
    assert said in str(told.value)


def test_prices_need_a_tariff_that_holds_and_is_not_flat(park: Conn, database_url: str, tmp_path: Path) -> None:
    file, _ = prices_file(tmp_path, 1, 60)
    with pytest.raises(NotFound, match="no tariff 'other'"):
        import_prices(database_url, "mini", "other", file)
    with pytest.raises(InputError, match="is flat"):
        import_prices(database_url, "mini", "grid", file)
