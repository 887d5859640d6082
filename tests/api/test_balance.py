"""Balances: the remainder with its uncertainty, per interval, and Sankey data that add up."""

from __future__ import annotations

import math

import httpx
import numpy as np
import pytest

from api.sankey import MICRO, Row, sankey
from tests.api.conftest import Connection, account_day


def adds_up(nodes: list[Row], links: list[Row]) -> None:
    """What comes into a node with children is what leaves it, in millionths."""
    ids = {n["id"]: n for n in nodes}
    assert len(ids) == len(nodes) and all(x["source"] in ids and x["target"] in ids for x in links)
    known = [x for x in links if x["value"] is not None]
    assert all(x["value"] > 0 for x in known if x["kind"] in ("loss", "unaccounted", "surplus", "not_known"))
    for node in nodes:
        out = sum(round(x["value"] * MICRO) for x in known if x["source"] == node["id"])
        given = sum(
            round(x["value"] * MICRO)
            for x in known
            if x["target"] == node["id"]
            and (
                ids[x["source"]].get("kind") in ("surplus", "not_known")
                or ids[x["source"]].get("direction") in ("generation", "export")
            )
        )
        if any(x["source"] == node["id"] for x in links) and node.get("kind") == "meter" and node.get("direction") == "import":
            assert round((node["value"] or 0) * MICRO) + given == out, node["id"]


def meter(code: str, value: float | None, direction: str = "import") -> Row:
    return {"id": code, "carrier": "electricity", "unit": "kWh", "kind": "meter", "direction": direction, "value": value}


def flow(parent: str, child: str, value: float | None, direction: str = "import", kind: str = "sub") -> Row:
    return {
        "parent": parent,
        "child": child,
        "kind": kind,
        "direction": direction,
        "carrier": "electricity",
        "unit": "kWh",
        "value": value,
        "coverage": 1.0,
    }


def balanced(parent: str, rest: float | None, loss: float | None = None, days: int = 1, of: int = 1) -> Row:
    return {"parent": parent, "unaccounted": rest, "loss_expected": loss, "days": of, "days_balanced": days}


def of_kind(links: list[Row]) -> dict[tuple[str, str], float | None]:
    return {(x["source"], x["target"]): x["value"] for x in links}


def test_losses_and_what_nothing_accounts_for_are_links() -> None:
    nodes, links = sankey(
        [meter("p", 100.0), meter("a", 60.0), meter("b", 30.0), meter("pv", 5.0, "generation")],
        [flow("p", "a", 60.0), flow("p", "b", 30.0), flow("p", "pv", 5.0, "generation")],
        [balanced("p", 15.0, loss=2.0)],
    )
    adds_up(nodes, links)
    assert of_kind(links) == {
        ("p", "a"): 60.0,
        ("p", "b"): 30.0,
        ("pv", "p"): 5.0,
        ("p", "loss:p"): 2.0,
        ("p", "unaccounted:p"): 13.0,
    }


def test_children_that_show_more_than_their_parent_are_given_the_difference() -> None:
    nodes, links = sankey([meter("p", 100.0), meter("a", 101.5)], [flow("p", "a", 101.5)], [balanced("p", -1.5, loss=2.0)])
    adds_up(nodes, links)
    assert of_kind(links) == {("p", "a"): 101.5, ("surplus:p", "p"): 1.5}


def test_days_on_which_someone_is_not_known_are_told_apart() -> None:
    nodes, links = sankey(
        [meter("p", 300.0), meter("a", 200.0), meter("b", None)],
        [flow("p", "a", 200.0), flow("p", "b", None)],
        [balanced("p", None, days=0)],
    )
    adds_up(nodes, links)
    assert of_kind(links) == {("p", "a"): 200.0, ("p", "b"): None, ("p", "not_known:p"): 100.0}
    nodes, links = sankey([meter("p", None), meter("a", 200.0)], [flow("p", "a", 200.0)], [balanced("p", None, days=0)])
    adds_up(nodes, links)
    assert of_kind(links)[("not_known:p", "p")] == 200.0


def test_a_meter_that_two_parents_claim_takes_its_amount_once() -> None:
    nodes, links = sankey(
        [meter("p", 100.0), meter("q", 50.0), meter("a", 60.0)],
        [flow("p", "a", 60.0), flow("q", "a", 60.0, kind="exchange")],
        [balanced("p", 40.0)],
    )
    adds_up(nodes, links)
    assert sum(x["value"] for x in links if x["target"] == "a") == 60.0


def test_any_tree_adds_up() -> None:
    dice = np.random.default_rng(7)
    for _ in range(200):
        n = int(dice.integers(2, 25))
        of = [None, *(int(dice.integers(0, i)) for i in range(1, n))]
        value = [None if dice.random() < 0.1 else float(dice.lognormal(3, 2)) for _ in range(n)]
        direction = ["import", *("generation" if dice.random() < 0.1 and i not in of else "import" for i in range(1, n))]
        meters = [meter(f"m{i}", value[i], direction[i]) for i in range(n)]
        flows = [flow(f"m{of[i]}", f"m{i}", value[i], direction[i]) for i in range(1, n)]
        balances = [
            balanced(
                f"m{i}",
                None if dice.random() < 0.2 else float(dice.normal(0, 9)),
                float(dice.random()),
                int(dice.integers(0, 2)),
                1,
            )
            for i in sorted({p for p in of if p is not None})
        ]
        adds_up(*sankey(meters, flows, balances))


@pytest.fixture
def counted(mini: Connection) -> Connection:
    """Two days: gate 1000 of class 0.5S, children 600 of class 1.0 and 380 without a class."""
    mini.execute("UPDATE point SET accuracy_class = '0.5S' WHERE code = 'park.kwh'")
    mini.execute("UPDATE point SET accuracy_class = '1.0' WHERE code = 'e1.main.kwh'")
    for day in ("2026-11-20", "2026-11-21"):
        for code, amount in (("park.kwh", 1000.0), ("e1.main.kwh", 600.0), ("e2.main.kwh", 380.0), ("e1.furnace.kwh", 500.0)):
            account_day(mini, code, day, amount)
    return mini


def test_the_uncertainty_of_the_remainder_comes_from_the_classes(operator: httpx.Client, counted: Connection) -> None:
    """RSS of 0.5 % x 2000, 1 % x 1200, 2 % (assumed) x 760 as limits of rectangular distributions, k = 2."""
    body = operator.get("/balance?base=mini&period=2026-11&carrier=electricity").json()
    gate = next(b for b in body["balances"] if b["parent"] == "park.kwh")
    expected = 2 / math.sqrt(3) * math.hypot(0.005 * 2000, 0.01 * 1200, 0.02 * 760)
    assert gate["unaccounted"] == pytest.approx(40) and gate["uncertainty"] == pytest.approx(expected)
    assert (gate["assumed"], gate["significant"]) == (["e2.main.kwh"], True)
    assert gate["share_uncertainty"] == pytest.approx(expected / 2000)
    counted.execute("UPDATE point SET accuracy_class = '5' WHERE code = 'e2.main.kwh'")
    gate = next(b for b in operator.get("/balance?base=mini&period=2026-11").json()["balances"] if b["parent"] == "park.kwh")
    assert (gate["assumed"], gate["significant"]) == ([], False)
    adds_up(body["nodes"], body["links"])


def test_a_loss_by_design_is_a_link_of_its_own(operator: httpx.Client, counted: Connection) -> None:
    counted.execute("UPDATE flow SET loss_share = 0.015 WHERE parent_id = (SELECT point_id FROM point WHERE code = 'park.kwh')")
    body = operator.get("/balance?base=mini&period=2026-11&carrier=electricity&lang=zh").json()
    adds_up(body["nodes"], body["links"])
    links = of_kind(body["links"])
    assert links[("park.kwh", "loss:park.kwh")] == pytest.approx(30) and links[
        ("park.kwh", "unaccounted:park.kwh")
    ] == pytest.approx(10)
    assert {n["id"]: n["name"] for n in body["nodes"]}["loss:park.kwh"] == "设计损耗"


def test_a_member_without_a_row_leaves_the_remainder_unknown(operator: httpx.Client, counted: Connection) -> None:
    counted.execute("DELETE FROM interval_1d WHERE point_id = (SELECT point_id FROM point WHERE code = 'e2.main.kwh')")
    gate = next(b for b in operator.get("/balance?base=mini&period=2026-11").json()["balances"] if b["parent"] == "park.kwh")
    assert (gate["unaccounted"], gate["uncertainty"], gate["significant"]) == (None, None, None)


def test_the_balance_of_each_interval(operator: httpx.Client, counted: Connection) -> None:
    for code, amount in (("park.kwh", 10.0), ("e1.main.kwh", 6.0), ("e2.main.kwh", 3.5)):
        counted.execute(
            """INSERT INTO interval_15m (ts, amount, point_id, base_id, quality)
            SELECT '2026-11-19 16:00+00'::timestamptz + i * interval '15 minutes',
                   CASE WHEN NOT (%s = 'e2.main.kwh' AND i = 5) THEN %s::float8 END, point_id, base_id, 0
            FROM point, generate_series(0, 7) i WHERE code = %s""",
            (code, amount, code),
        )
    body = operator.get("/balance/series?base=mini&period=2026-11-20&parent=park.kwh").json()
    assert len(body["slots"]) == 96 and body["unit"] == "kWh"
    assert [s["unaccounted"] for s in body["slots"][:9]] == [0.5] * 5 + [None] + [0.5] * 2 + [None]
    # the gate has class 0.5S, e1 1.0, e2 the 2 % of its carrier; errors of a class are the same in every slot of an hour
    one = 2 / math.sqrt(3) * math.sqrt((0.005 * 10) ** 2 + (0.01 * 6) ** 2 + (0.02 * 3.5) ** 2)
    assert [s["uncertainty"] for s in body["slots"][:6]] == [pytest.approx(one)] * 5 + [None]
    hours = operator.get("/balance/series?base=mini&period=2026-11-20&parent=park.kwh&resolution=1h").json()["slots"]
    assert [h["uncertainty"] for h in hours[:2]] == [pytest.approx(4 * one), None]
    assert [h["unaccounted"] for h in hours[:3]] == [2.0, None, None] and len(hours) == 24
    assert operator.get("/balance/series?base=mini&period=2026&parent=park.kwh").status_code == 422
    unknown = operator.get("/balance?base=mini&period=2026&carrier=gold")
    assert unknown.status_code == 422 and "之一" in unknown.text and "natural_gas" in unknown.text
    assert operator.get("/balance?base=mini&period=2026&carrier=natural_gas").status_code == 200
    assert operator.get("/balance/series?base=mini&period=2026-11&parent=nothing").status_code == 404


def test_the_balance_of_each_interval_as_it_was_known(operator: httpx.Client, counted: Connection) -> None:
    """Slots of the day before a correction, before its last slots were written, and before a gap in it was filled."""

    def write(code: str, first: int, last: int, amount: float) -> None:
        counted.execute(
            """INSERT INTO interval_15m (ts, amount, point_id, base_id, quality)
            SELECT '2026-11-18 16:00+00'::timestamptz + i * interval '15 minutes', %s + i * 0.001, point_id, base_id, 0
            FROM point, generate_series(%s::integer, %s::integer) i WHERE code = %s
            ON CONFLICT (base_id, point_id, ts) DO UPDATE SET amount = excluded.amount""",
            (amount, first, last, code),
        )
        counted.execute(
            """INSERT INTO interval_1d (ts, amount, estimated, point_id, n_expected, n_known, n_good, base_id)
            SELECT '2026-11-18 16:00+00', sum(i.amount), 0, i.point_id, 96, count(*), count(*), i.base_id
            FROM interval_15m i JOIN point p USING (base_id, point_id) WHERE p.code = %s
              AND i.ts >= '2026-11-18 16:00+00' AND i.ts < '2026-11-19 16:00+00' GROUP BY i.point_id, i.base_id
            ON CONFLICT (base_id, point_id, ts) DO UPDATE SET amount = excluded.amount, n_known = excluded.n_known""",
            (code,),
        )

    def now() -> str:
        row = counted.execute("SELECT to_char(clock_timestamp(), 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')").fetchone()
        assert row is not None
        return str(row[0])

    for code, amount in (("park.kwh", 10.0), ("e1.main.kwh", 6.0)):
        write(code, 0, 95, amount)
    write("e2.main.kwh", 0, 49, 3.5)
    half = now()
    write("e2.main.kwh", 60, 95, 3.5)
    gap = now()
    write("e2.main.kwh", 50, 59, 3.5)
    whole = now()
    write("e1.main.kwh", 3, 3, 5.0)
    path = "/balance/series?base=mini&period=2026-11-19&parent=park.kwh"

    def rest(as_of: str | None = None) -> list[float | None]:
        body = operator.get(f"{path}&as_of={as_of}" if as_of else path).json()
        assert body["as_of"] == as_of and len(body["slots"]) == 96
        told = [s["unaccounted"] for s in body["slots"]]
        return [None if x is None else round(x + 0.001 * i, 6) for i, x in enumerate(told)]

    assert rest() == [0.5] * 3 + [1.5] + [0.5] * 92
    assert rest(whole) == [0.5] * 96
    assert rest(half) == [0.5] * 50 + [None] * 46
    # 86 slots of e2 were known, and which of them nobody can tell
    told = operator.get(f"{path}&as_of={gap}").json()["slots"]
    assert {(s["certain"], s["unaccounted"]) for s in told} == {(False, None)}
    assert told[0]["parent"] == pytest.approx(10) and told[0]["children"] == pytest.approx(6)
    figure = "/trace?figure=mini/2026-11-19/point=e2.main.kwh/electricity/energy"
    for as_of, known in ((half, 50), (whole, 96), (gap, 0)):
        (part,) = operator.get(f"{figure}&as_of={as_of}").json()["parts"]
        assert sum(s["amount"] is not None for s in part["intervals"]) == known


def test_a_balance_as_it_was_known_before_a_correction(operator: httpx.Client, counted: Connection) -> None:
    row = counted.execute("SELECT to_char(clock_timestamp(), 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')").fetchone()
    assert row is not None
    late = "UPDATE interval_1d i SET amount = 700 FROM point p WHERE p.point_id = i.point_id AND p.code = 'e1.main.kwh'"
    counted.execute(late)
    path = "/balance?base=mini&period=2026-11&carrier=electricity"
    for address, children in ((path, 2160), (f"{path}&as_of={row[0]}", 1960)):
        body = operator.get(address).json()
        assert {b["parent"]: b["children_amount"] for b in body["balances"]}["park.kwh"] == pytest.approx(children)
        adds_up(body["nodes"], body["links"])
    for route in ("bills", "energy/account", "resources"):
        told = operator.get(f"/{route}?base=mini&period=2026-11&as_of={row[0]}")
        assert told.status_code == 200 and told.json()["as_of"] == row[0], told.text
