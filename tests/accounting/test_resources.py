"""Resources: stores of waste that never fall below zero without a mark, exchanges on both sides, the water balance."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from accounting import balance
from accounting.passes import run_pass
from accounting.verify import verify
from park.database import queries
from park.errors import NotFound
from tests.accounting.test_energy_account import NOW, START, add, booked, day  # noqa: F401

Conn = psycopg.Connection[Any]
BALANCE = queries(Path(__file__).parents[2] / "api" / "balance.sql")


def entry(
    park: Conn,
    kind: str,
    item: str,
    action: str,
    value: float,
    enterprise: str,
    other: str | None = None,
    *,
    unit: str = "t",
    month: int = 1,
    until: int | None = None,
) -> int:
    row = park.execute(
        """INSERT INTO ledger (base_id, kind, enterprise_id, counterparty_id, item, action, first_day, last_day, value, unit,
            recorded_by)
        SELECT e.base_id, %s, e.enterprise_id, o.enterprise_id, %s, %s, make_date(2026, %s, 1),
               (make_date(2026, %s, 1) + interval '1 month - 1 day')::date, %s, %s, 'test'
        FROM enterprise e LEFT JOIN enterprise o ON o.base_id = e.base_id AND o.code = %s WHERE e.code = %s RETURNING
        entry_id""",
        (kind, item, action, month, until or month, value, unit, other, enterprise),
    ).fetchone()
    assert row is not None
    return int(row[0])


def waste(park: Conn, first: str, last: str) -> dict[tuple[str, str], dict[str, Any]]:
    with park.cursor(row_factory=psycopg.rows.dict_row) as cursor:
        rows = cursor.execute(
            """SELECT w.*, e.code FROM base b, waste_between(b.base_id, %s, %s) w
            JOIN enterprise e USING (enterprise_id)""",
            (first, last),
        ).fetchall()
    return {(r["code"], r["item"]): r for r in rows}


def test_a_store_s_account_from_opening_to_closing(park: Conn) -> None:
    for action, value, month in (
        ("opening", 5, 1),
        ("generated", 100, 1),
        ("used", 60, 1),
        ("disposed", 20, 1),
        ("stored", 20, 1),
        ("generated", 50, 2),
        ("used_stock", 30, 2),
        ("stored", 15, 2),
    ):
        entry(park, "solid_waste", "slag", action, value, "e1", month=month)
    row = waste(park, "2026-01-01", "2026-01-31")[("e1", "slag")]
    assert (row["opening"], row["generated"], row["used"], row["disposed"], row["closing"]) == (5, 100, 60, 20, 25)
    assert (row["stored_declared"], row["stored_differs"], row["negative_days"]) == (20, 0, None)
    row = waste(park, "2026-02-01", "2026-02-28")[("e1", "slag")]
    assert (row["opening"], row["used"], row["closing"]) == (25, 30, 45)
    assert row["stored_differs"] == -5  # manifests put 20 into the store, 15 are declared
    assert waste(park, "2026-03-01", "2026-03-31")[("e1", "slag")]["closing"] == 45


def test_a_store_below_zero_is_marked_on_the_day(park: Conn) -> None:
    entry(park, "hazardous_waste", "oil", "generated", 500, "e1", unit="kg")
    entry(park, "hazardous_waste", "oil", "disposed", 0.8, "e1", month=2)
    entry(park, "hazardous_waste", "oil", "generated", 1, "e1", month=3)
    row = waste(park, "2026-01-01", "2026-12-31")[("e1", "oil")]
    assert row["closing"] == pytest.approx(0.7) and row["lowest"] == pytest.approx(-0.3)
    assert [f"{d:%m-%d}" for d in row["negative_days"]] == ["02-28"]
    assert park.execute("SELECT count(*) FROM waste_store WHERE stock < -0.0005 AND NOT negative").fetchone() == (0,)


def test_a_correction_moves_the_store_and_what_it_superseded_does_not_count(park: Conn) -> None:
    first = entry(park, "solid_waste", "slag", "generated", 100, "e1")
    second = entry(park, "solid_waste", "slag", "generated", 80, "e1")
    park.execute("UPDATE ledger SET supersedes = %s WHERE entry_id = %s", (first, second))
    assert waste(park, "2026-01-01", "2026-01-31")[("e1", "slag")]["closing"] == 80


@pytest.mark.parametrize("receiver_books", [False, True])
def test_waste_that_moves_is_in_one_store_only(park: Conn, receiver_books: bool) -> None:
    """Whether the receiver has booked it too or not: 30 t leave e1 and 30 t come to e2, once."""
    entry(park, "solid_waste", "slag", "generated", 100, "e1")
    entry(park, "solid_waste", "slag", "moved", 30, "e1", "e2")
    if receiver_books:
        entry(park, "solid_waste", "slag", "received", 30, "e2", "e1")
    entry(park, "solid_waste", "slag", "used", 10, "e2", month=2)
    rows = waste(park, "2026-01-01", "2026-12-31")
    assert (rows[("e1", "slag")]["closing"], rows[("e2", "slag")]["closing"], rows[("e2", "slag")]["received"]) == (70, 20, 30)
    assert park.execute("SELECT sum(stock) FROM waste_store WHERE day = '2026-01-31'").fetchone() == (100,)


def test_every_exchange_is_booked_on_both_sides_and_sums_to_zero(park: Conn) -> None:
    entry(park, "exchange", "scrap", "", 40, "e1", "e2")
    entry(park, "exchange", "scrap", "received", 39, "e2", "e1")  # the same delivery as the receiver weighed it
    entry(park, "exchange", "scrap", "received", 7, "e1", "e2", month=3)  # told by the receiver only
    entry(park, "solid_waste", "slag", "moved", 5000, "e2", "e1", unit="kg", month=4)
    postings = park.execute("""SELECT item, e.code, sum(amount) FROM exchange_posting JOIN enterprise e USING (base_id,
        enterprise_id)
        GROUP BY 1, 2 ORDER BY 1, 2""").fetchall()
    assert postings == [("scrap", "e1", -33), ("scrap", "e2", 33), ("slag", "e1", 5), ("slag", "e2", -5)]
    sums = park.execute("SELECT item, sum(amount) FROM exchange_posting GROUP BY item").fetchall()
    assert {s[1] for s in sums} == {0}
    pair = park.execute(
        "SELECT amount, confirmed_amount FROM exchange_booked WHERE item = 'scrap' AND NOT by_receiver"
    ).fetchall()
    assert pair == [(40, 39)]


def test_the_balance_on_the_command_line_says_what_the_classes_explain(
    park: Conn,
    day: Any,  # noqa: F811
    database_url: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """1000 in, 970 out: 3 % is more than classes 0.5 and 0.5 explain, and less than what an assumed 2 % does."""
    for point, amount in (("park.kwh", 1000.0), ("e1.main.kwh", 970.0), ("e2.main.kwh", 0.0)):
        day(point, amount)
    park.execute("UPDATE point SET accuracy_class = '0.5S' WHERE carrier = 'electricity'")
    run_pass(park, NOW)
    balance.print_balances(database_url, "mini", "2026-03-02", "electricity", "json")
    told = {r["parent"]: r for r in json.loads(capsys.readouterr().out)}["park.kwh"]
    assert (told["unaccounted"], told["significant"], told["assumed"]) == (pytest.approx(30), True, [])
    park.execute("UPDATE point SET accuracy_class = NULL WHERE carrier = 'electricity'")
    balance.print_balances(database_url, "mini", "2026-03-02", None, "table")
    shown = " ".join(capsys.readouterr().out.split())
    assert "park.kwh │ kWh" in shown and "class assumed from GB 17167: e1.furnace.kwh, e1.main.kwh" in shown
    assert "e1.main.kwh: rest of 0 of 1 days" in shown
    with pytest.raises(NotFound, match="no balance of mini in 2020"):
        balance.print_balances(database_url, "mini", "2020", None, "table")


VIRTUAL = """
devices:
  - {code: d.other, protocol: modbus, template: eastron.sdm630, connection: "tcp://127.0.0.1:15021", unit_id: 1,
     accuracy_class: '0.2S'}
accuracies:
  - {template: eastron.sdm630, quantity: active_energy, accuracy_class: '3', from: 2020-01-01, source: type plates seen on site}
points:
  - {code: rest.kwh, quantity: active_energy, unit: MWh, kind: counter, belongs_to: park, carrier: electricity,
     formula: "park.kwh - e1.main.kwh - twice.kwh"}
  - {code: twice.kwh, quantity: active_energy, unit: kWh, kind: counter, belongs_to: park, carrier: electricity,
     formula: "e2.main.kwh * 2"}
  - {code: least.kwh, quantity: active_energy, unit: kWh, kind: counter, belongs_to: park, carrier: electricity,
     formula: "min(park.kwh, e1.main.kwh)"}
flows:
  - {carrier: electricity, parent: park.kwh, children: [rest.kwh]}
"""


def test_the_error_of_a_virtual_point_is_that_of_the_meters_in_its_formula(
    park: Conn,
    day: Any,  # noqa: F811
    tmp_path: Path,
    database_url: str,
) -> None:
    """Gate 1000, children 600, 100 and the rest 1000 - 600 - 2 x 100 = 200: of the remainder 100 the gate and e1 are on both
    sides and cancel, and e2 is left with 100 - 200: its class alone makes the uncertainty. A class comes from the point, its
    device, the row of the template, the carrier's row, in that order."""
    add(park, tmp_path, VIRTUAL)
    for point, amount in (("park.kwh", 1000.0), ("e1.main.kwh", 600.0), ("e2.main.kwh", 100.0)):
        day(point, amount)
    run_pass(park, NOW)
    parts = park.execute("""SELECT v.code, p.code, coefficient FROM formula_part f JOIN point v ON v.point_id = f.point_id
        JOIN point p ON p.point_id = f.part_id ORDER BY 1, 2""").fetchall()
    assert parts == [("rest.kwh", "e1.main.kwh", pytest.approx(-1e-3)), ("rest.kwh", "e2.main.kwh", pytest.approx(-2e-3)),
                     ("rest.kwh", "park.kwh", pytest.approx(1e-3)), ("twice.kwh", "e2.main.kwh", 2)]

    def gate() -> dict[str, Any]:
        return {r["parent"]: r for r in balance.balances(database_url, "mini", "2026-03-02", "electricity")}["park.kwh"]

    park.execute("UPDATE point SET accuracy_class = '0.5S' WHERE code = 'e2.main.kwh'")
    told = gate()
    assert told["unaccounted"] == pytest.approx(100) and told["assumed"] == ["park.kwh"]
    assert told["uncertainty"] == pytest.approx(2 / 3**0.5 * 0.005 * 100)
    # without the formula's point the classes of gate (2 % of its carrier), e1 (3 % of its template) and e2 stand apart
    park.execute("DELETE FROM flow USING point p WHERE child_id = p.point_id AND p.code = 'rest.kwh'")
    assert gate()["uncertainty"] == pytest.approx(2 / 3**0.5 * (20**2 + 18**2 + 0.5**2) ** 0.5)
    park.execute("""UPDATE point SET device_id = (SELECT device_id FROM device WHERE code = 'd.other')
        WHERE code = 'e1.main.kwh'""")
    assert gate()["uncertainty"] == pytest.approx(2 / 3**0.5 * (20**2 + 1.2**2 + 0.5**2) ** 0.5)
    park.execute("UPDATE point SET attributes = attributes - 'formula' WHERE code IN ('rest.kwh', 'twice.kwh')")
    day("e2.main.kwh", 101.0)
    run_pass(park, NOW)
    assert park.execute("SELECT count(*) FROM formula_part").fetchone() == (0,)


def test_errors_go_through_a_formula_that_is_no_sum(
    park: Conn,
    day: Any,  # noqa: F811
    tmp_path: Path,
    database_url: str,
) -> None:
    """Of a x b / c each meter's percent is a percent of the result; of the smaller of two only the smaller one's; a sum of such
    points has the effects of what is behind it. So over the day, over an hour of it, and after a late day as computed anew."""
    add(
        park,
        tmp_path,
        """points:
  - {code: split.kwh, quantity: active_energy, unit: MWh, kind: counter, belongs_to: park, carrier: electricity,
     formula: "e1.main.kwh * e2.main.kwh / park.kwh"}
  - {code: least.kwh, quantity: active_energy, unit: kWh, kind: counter, belongs_to: park, carrier: electricity,
     formula: "min(park.kwh, 2 * e1.main.kwh) + 3 * split.kwh"}
flows:
  - {carrier: electricity, parent: e1.furnace.kwh, children: [least.kwh]}
""",
    )
    park.execute("UPDATE point SET accuracy_class = '10' WHERE code = 'e1.furnace.kwh'")
    park.execute("UPDATE point SET accuracy_class = '1' WHERE code IN ('e1.main.kwh', 'e2.main.kwh', 'park.kwh')")
    for point, amount in (("park.kwh", 1000.0), ("e1.main.kwh", 300.0), ("e2.main.kwh", 200.0), ("e1.furnace.kwh", 1000.0)):
        day(point, amount)
    run_pass(park, NOW)

    def expected(split: float) -> float:
        # e1: 2 x 300 and 3 splits; e2: 3 splits; park, the greater of the two: less 3 splits
        return float(2 / 3**0.5 * (100**2 + (0.01 * (600 + 3 * split)) ** 2 + 2 * (0.01 * 3 * split) ** 2) ** 0.5)

    def told() -> dict[str, Any]:
        return {r["parent"]: r for r in balance.balances(database_url, "mini", "2026-03-02", "electricity")}["e1.furnace.kwh"]

    assert told()["unaccounted"] == pytest.approx(1000 - 600 - 3 * 60) and told()["uncertainty"] == pytest.approx(expected(60))
    about = {"base": 1, "start": START, "end": START + timedelta(days=1), "step": "1 hour", "last": "2026-03-02"}
    parent = park.execute("SELECT point_id FROM point WHERE code = 'e1.furnace.kwh'").fetchone()
    assert parent is not None
    hours = park.execute(BALANCE["balance_slots"], about | {"parent": parent[0]}).fetchall()
    assert [h[4] for h in hours] == pytest.approx([expected(60) / 24] * 24)
    day("e2.main.kwh", 400.0)
    run_pass(park, NOW)
    assert told()["uncertainty"] == pytest.approx(expected(120)) and verify(park, 1, NOW) == []


def test_the_water_balance_of_base_and_enterprise(park: Conn, day: Any) -> None:  # noqa: F811
    """e1 takes 96 m3 and gets 24 m3 back in the works a day; e2's outlet discharges 2 m3/h for 20 known hours of 24."""
    day("e1.water", 96.0)
    booked(park, "water_recirculated", 744, "m3", enterprise="e1")
    park.execute(
        """INSERT INTO emission_1h (base_id, unit_id, quantity, ts, n_valid, state, flow)
        SELECT base_id, unit_id, q, %s::timestamptz + h * interval '1 hour', 60, 'valid', CASE WHEN h < 20 THEN 2.0 END
        FROM unit, generate_series(0, 23) h, (VALUES ('cod'), ('ammonia')) AS p (q) WHERE code = 'e2.outlet'""",
        (START,),
    )
    run_pass(park, NOW)
    rows = {
        r[0]: r[1:]
        for r in park.execute("""SELECT e.code, w.fresh, w.recirculated, w.discharged, w.hours_due, w.hours_known, w.consumed,
            w.reuse_rate FROM base b, water_between(b.base_id, '2026-03-02', '2026-03-02') w LEFT JOIN enterprise e USING
            (enterprise_id)""")
    }
    assert rows[None] == (pytest.approx(96), 24, 40, 24, 20, pytest.approx(56), pytest.approx(24 / 120))
    assert rows["e1"][:3] == (pytest.approx(96), 24, None) and rows["e1"][5] is None  # no outlet of its own: not zero
    park.execute("UPDATE emission_1h SET flow = 5 * flow")
    said = park.execute("SELECT discharged, consumed FROM base, water_between(base_id, '2026-03-02', '2026-03-02') "
                        "WHERE enterprise_id IS NULL").fetchone()
    assert said == (200, None)  # more out than in: nothing is said of what is consumed
