"""Names as people write them in a form, for the codes that the ledger keeps: 能源账单 for energy_bill, 吨 for t.

The names are those of `tables/ledger_kinds.yaml` and of the base's enterprises. What nobody knows stays as it came, for
`park.ledger.mistakes` to say what was expected.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache

from park.ledger import kinds, table

Enterprises = Mapping[str, Sequence[str]]   # names by code
STATUSES = {"初步": "preliminary", "确定": "final"}


@cache
def _codes(of: str) -> dict[str, str]:
    """Codes by name, in small letters, of `kinds`, `actions` or `carrier_names`."""
    rows = {k.code: (k.zh, k.en) for k in kinds().values()} if of == "kinds" else {
        code: (names["zh"], names["en"]) for code, names in table()[of].items()}
    return {name.lower(): code for code, names in rows.items() for name in (*names, " · ".join(names))}


def _enterprise(text: str, enterprises: Enterprises) -> str:
    """The code of an enterprise by its name; a name that two have is nobody's."""
    spelt = [(name, code) for code, names in enterprises.items() for name in {*names, " · ".join(names)}]
    times = Counter(name for name, _ in spelt)
    return text if text in enterprises or times[text] != 1 else dict(spelt)[text]


def _unit(text: str, units: Sequence[str]) -> str:
    """The unit as the ledger writes it, where the kind or the carrier knows it."""
    same = {u.lower(): u for u in units} | {name: u for name, u in table()["unit_names"].items() if u in units}
    return text if text in units else str(same.get(text.lower()) or same.get(text) or text)


def coded(texts: dict[str, str], enterprises: Enterprises) -> dict[str, str]:
    """The texts of a row, by column, with the codes of what it names."""
    code = _codes("kinds").get(texts["kind"].lower(), texts["kind"])
    kind = kinds().get(code)
    item = texts["item"]
    if kind and kind.item == "carrier":
        item = _codes("carrier_names").get(item.lower(), item)
    return texts | {
        "kind": code,
        "enterprise": _enterprise(texts["enterprise"], enterprises),
        "counterparty": _enterprise(texts["counterparty"], enterprises),
        "item": item,
        "action": _codes("actions").get(texts["action"].lower(), texts["action"]),
        "unit": _unit(texts["unit"], kind.units_for(item) if kind else ()),
        "status": STATUSES.get(texts["status"], texts["status"]),
    }


def known(enterprises: Enterprises, chinese: bool) -> str:
    """The codes of the enterprises, one after the other, in Chinese with their names."""
    return "、".join(f"{code}（{names[0]}）" for code, names in enterprises.items()) if chinese else ", ".join(enterprises)
