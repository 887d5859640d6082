"""A Sankey diagram that adds up: what a parent meter shows, and what is given to it, is what leaves it, to a millionth of a
unit.

Meters are nodes; links carry the child's amount from parent to child, and what generates or exports below a parent gives to it.
What the children do not take leaves the parent by links of their own: `loss` (what the way loses by design), `unaccounted`
(on days
on which everyone is known), `not_known` (on days on which someone is not). Where children show more than their parent, nodes of
kind `surplus` or `not_known` give the difference to it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

Row = dict[str, Any]
MICRO = 1_000_000
GIVES = ("generation", "export")
KINDS = ("sub", "cascade", "exchange")
NAMES = {
    "loss": ("设计损耗", "losses by design"),
    "unaccounted": ("未计量与损耗", "losses and unmetered"),
    "surplus": ("分表超出总表", "more below than through"),
    "not_known": ("数据缺失时段", "days not known"),
}


def sankey(meters: Sequence[Row], flows: Sequence[Row], balances: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """(nodes, links). meters: id, carrier, unit, value; flows: parent, child, kind, direction, carrier, unit, value; balances:
    parent, unaccounted, loss_expected, days, days_balanced. A flow without a known amount keeps its link with value None."""
    own = {m["id"]: _micro(m["value"]) for m in meters}
    links = _links(flows, own)
    about = {b["parent"]: b for b in balances}
    nodes = [dict(m) for m in meters]
    for meter in meters:
        mine = [x for x in links if x["parent"] == meter["id"]]
        for kind, amount in _rests(own[meter["id"]], mine, about.get(meter["id"])) if mine else ():
            rest = f"{kind}:{meter['id']}"
            source, target = (meter["id"], rest) if amount > 0 else (rest, meter["id"])
            links.append(
                {
                    "source": source,
                    "target": target,
                    "carrier": meter["carrier"],
                    "kind": kind,
                    "unit": meter["unit"],
                    "coverage": None,
                    "micro": abs(amount),
                    "parent": meter["id"],
                }
            )
            zh, en = NAMES[kind]
            nodes.append(
                {
                    "id": rest,
                    "name_zh": zh,
                    "name_en": en,
                    "carrier": meter["carrier"],
                    "unit": meter["unit"],
                    "kind": kind,
                    "value": abs(amount) / MICRO,
                }
            )
    return nodes, [
        {k: v for k, v in x.items() if k not in ("micro", "parent")}
        | {"value": None if x["micro"] is None else x["micro"] / MICRO}
        for x in links
    ]


def _micro(value: float | None) -> int | None:
    return None if value is None else round(value * MICRO)


def _links(flows: Sequence[Row], own: dict[str, int | None]) -> list[Row]:
    """A link a flow. A child that several parents feed at a time is given no more than it shows: the first one's word
    stands."""
    left = dict(own)
    links = []
    for flow in sorted(flows, key=lambda f: KINDS.index(f["kind"])):
        amount, room = _micro(flow["value"]), left.get(flow["child"])
        if amount is not None and room is not None:
            if amount > 0 and room <= 0:
                continue
            amount = min(amount, room) if amount > 0 else amount
            left[flow["child"]] = room - amount
        gives = flow["direction"] in GIVES
        source, target = (flow["child"], flow["parent"]) if gives else (flow["parent"], flow["child"])
        links.append(
            {
                "source": source,
                "target": target,
                "carrier": flow["carrier"],
                "kind": flow["kind"],
                "unit": flow["unit"],
                "coverage": flow["coverage"],
                "micro": amount,
                "parent": flow["parent"],
            }
        )
    return links


def _rests(shown: int | None, links: Sequence[Row], balance: Row | None) -> Iterator[tuple[str, int]]:
    """(kind, signed amount) of what the links leave over at a parent; negative: more leaves it than comes."""
    rest = shown or 0
    for x in links:
        rest += (x["micro"] or 0) * (1 if x["target"] == x["parent"] else -1)
    whole = shown is not None and all(x["micro"] is not None for x in links)
    if balance is not None and balance["unaccounted"] is not None:
        balanced = rest if whole and balance["days"] == balance["days_balanced"] else _micro(balance["unaccounted"]) or 0
    else:
        balanced = rest if whole and balance is None else 0
    loss = max(0, min(balanced, _micro(balance["loss_expected"]) or 0)) if balance is not None else 0
    for kind, amount in (
        ("loss", loss),
        ("unaccounted" if balanced > 0 else "surplus", balanced - loss),
        ("not_known", rest - balanced),
    ):
        if amount:
            yield kind, amount
