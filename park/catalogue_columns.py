"""Rows of a catalogue as the columns of their tables, codes turned into the ids that the database gave them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from park.catalogue import Catalogue, Point
from park.quantities import quantities


class _Ids:
    """Codes of rows that are already in the database, turned into their ids."""

    def __init__(self, ids: dict[str, dict[str, int]]) -> None:
        self.ids = ids

    def __call__(self, section: str, code: str | None) -> int | None:
        return None if code is None else self.ids[section][code]


def columns_of(section: str, c: Catalogue, ids: dict[str, dict[str, int]], by: str) -> Iterable[dict[str, Any]]:
    """The section's rows as the table's columns."""
    id_of = _Ids(ids)
    if section == "flows":
        return [flow for row in c.flows for flow in _flow_rows(row, id_of)]
    if section == "calendars":
        return [{"code": row.code, "day": day, "class": kind, "source": row.source, "verified": row.verified}
                for row in c.calendars for day, kind in row.days.items()]
    if section == "ledger":
        return [_ledger_row(row, id_of) | {"recorded_by": by} for row in c.ledger]
    return [ROW_OF[section](row, id_of) for row in getattr(c, section)]


def _dated(row: Any) -> dict[str, Any]:
    return {"valid_from": row.valid_from, "valid_to": row.valid_to, "source": row.source, "verified": row.verified}


def _name(name: Any) -> dict[str, str]:
    return {"name_zh": name.zh, "name_en": name.en}


def _enterprise_row(e: Any, id_of: _Ids) -> dict[str, Any]:
    return {"code": e.code, **_name(e.name), "industry": e.industry, "attributes": e.attributes}


def _unit_row(u: Any, id_of: _Ids) -> dict[str, Any]:
    extra = {"treats": u.treats, "outlet_of": u.outlet_of, "medium": u.medium, "o2_reference": u.o2_reference}
    return {"code": u.code, **_name(u.name), "enterprise_id": id_of("enterprises", u.enterprise), "role": u.role,
            "attributes": u.attributes | {k: v for k, v in extra.items() if v not in (None, [])}}


def _device_row(d: Any, id_of: _Ids) -> dict[str, Any]:
    settings = d.model_dump(mode="json", exclude_defaults=True, exclude={"code", "protocol", "template"})
    return {"code": d.code, "protocol": d.protocol, "template": d.template, "settings": settings}


def _point_row(p: Point, id_of: _Ids) -> dict[str, Any]:
    known = quantities()[p.quantity]
    name = {"name_zh": known.zh, "name_en": known.en} if p.name is None else _name(p.name)
    source = p.source
    return {"code": p.code, **name, "quantity": p.quantity, "unit": p.unit, "kind": p.kind,
            "unit_id": id_of("units", p.belongs_to), "device_id": id_of("devices", source.device if source else None),
            "device_key": source.key if source else None,
            "attributes": p.attributes | p.model_dump(include=set(OF_POINT), exclude_none=True),
            **p.model_dump(include={"carrier", "direction", "boundary", "ratio", "rollover", "low", "high", "expected_s",
                                    "accuracy_class"})}


OF_POINT = ("formula", "made_from", "used_as")       # fields of the catalogue that lie in `attributes`


def _meter_row(m: Any, id_of: _Ids) -> dict[str, Any]:
    return {"point_id": id_of("points", m.point), "installed_at": m.installed, "removed_at": m.removed,
            **m.model_dump(include={"serial", "initial_register", "final_register", "ratio", "source"})}


def _flow_rows(f: Any, id_of: _Ids) -> Iterable[dict[str, Any]]:
    for child in f.children:
        yield {"carrier": f.carrier, "kind": f.kind, "parent_id": id_of("points", f.parent),
               "child_id": id_of("points", child), "loss_share": f.loss_share, **_dated(f)}


def _limit_row(row: Any, id_of: _Ids) -> dict[str, Any]:
    return {"unit_id": id_of("units", row.outlet), **_dated(row),
            **row.model_dump(include={"quantity", "statistic", "low", "high", "unit", "rank"})}


def _factor_row(k: Any, id_of: _Ids) -> dict[str, Any]:
    return {**k.model_dump(include={"carrier", "kind", "region", "value", "unit", "edition"}), **_dated(k)}


def _accuracy_row(k: Any, id_of: _Ids) -> dict[str, Any]:
    return {**k.model_dump(include={"template", "quantity", "carrier", "accuracy_class"}), **_dated(k)}


def _setting_row(k: Any, id_of: _Ids) -> dict[str, Any]:
    return {"name": k.name, "value": k.value, **_dated(k)}


def _tariff_row(t: Any, id_of: _Ids) -> dict[str, Any]:
    return {**t.model_dump(include={"code", "carrier", "unit", "terms"}), **_dated(t),
            "enterprise_id": id_of("enterprises", t.enterprise)}


def _indicator_row(row: Any, id_of: _Ids) -> dict[str, Any]:
    return {**row.model_dump(include={"set_code", "code", "formula", "unit", "sense", "threshold", "note"}), **_name(row.name),
            **_dated(row)}


def _named_row(row: Any, id_of: _Ids) -> dict[str, Any]:
    return {**row.model_dump(exclude={"name"}), **_name(row.name)}


def _ledger_row(row: Any, id_of: _Ids) -> dict[str, Any]:
    return {**row.model_dump(exclude={"enterprise", "counterparty"}), "enterprise_id": id_of("enterprises", row.enterprise),
            "counterparty_id": id_of("enterprises", row.counterparty)}


ROW_OF: dict[str, Callable[[Any, _Ids], dict[str, Any]]] = {
    "enterprises": _enterprise_row, "units": _unit_row, "devices": _device_row, "points": _point_row, "meters": _meter_row,
    "limits": _limit_row, "factors": _factor_row, "accuracies": _accuracy_row, "settings": _setting_row, "tariffs": _tariff_row,
    "targets": _named_row, "indicators": _indicator_row,
    "rules": _named_row,
}
