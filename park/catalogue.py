"""The catalogue: YAML files that say what a park is made of, read with file and line of every mistake.

`read_catalogue` takes one file or many; the sections add up. The rows are the models of `park/catalogue_rows.py`;
`park catalogue check` prints all mistakes at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from park.catalogue_rows import SECTION_MODELS, Catalogue, Device, Names, Point
from park.errors import CatalogueError, InputError, Mistake, known_names
from park.expressions import Checked, parse
from park.ledger import mistakes
from park.quantities import TABLES, units
from park.tariff_terms import mistakes_of
from park.yaml_lines import Place, message_of, nearest, read_yaml, where

__all__ = ["Catalogue", "Device", "Names", "Point", "catalogue_files", "check_files", "read_catalogue"]

Lines = dict[Place, tuple[str, int]]


def catalogue_files(paths: Iterable[Path]) -> list[Path]:
    """The files of a catalogue: a folder stands for all its YAML files, in the order of their names."""
    return [file for path in paths for file in (sorted(path.glob("*.y*ml")) if path.is_dir() else [path])]


def read_catalogue(files: Iterable[Path]) -> Catalogue:
    """The catalogue of files and folders; CatalogueError with every mistake, each with file and line."""
    files = list(files)
    if not catalogue_files(files):
        raise InputError(f"expected catalogue files, got an empty folder {', '.join(map(str, files))}")
    merged: dict[str, Any] = {}
    lines: Lines = {}
    found: list[Mistake] = []
    for file in catalogue_files(files):
        try:
            found += _merge(file, merged, lines)
        except CatalogueError as exc:
            found += exc.mistakes
    if found:
        raise CatalogueError(found)
    try:
        catalogue = Catalogue.model_validate(merged)
    except ValidationError as exc:
        raise CatalogueError([_mistake(tuple(e["loc"]), message_of(e, _fields_of(e)), lines, merged)
                              for e in exc.errors()]) from exc
    found = [_mistake(place, text, lines, merged) for place, text in _cross_check(catalogue)]
    if found:
        raise CatalogueError(found)
    return catalogue


def _merge(file: Path, merged: dict[str, Any], lines: Lines) -> list[Mistake]:
    """Add a file's sections to `merged`; lists add up, a second base is a mistake."""
    raw, at = read_yaml(file, "sections such as `base:` and `points:`")
    if "base" in raw and "base" in merged:
        return [Mistake(str(file), at[("base",)], "base", "a second base; one catalogue is one base")]
    offsets = {section: len(merged.get(section, [])) for section, value in raw.items() if isinstance(value, list)}
    for section, value in raw.items():
        if isinstance(value, list):
            merged[section] = [*merged.get(section, []), *value]
        elif value is not None:
            merged[section] = value
    for place, line in at.items():
        moved = place
        if len(place) > 1 and place[0] in offsets:
            moved = (place[0], int(place[1]) + offsets[str(place[0])], *place[2:])
        lines.setdefault(moved, (str(file), line))
    return []


def _mistake(place: Place, message: str, lines: Lines, merged: dict[str, Any]) -> Mistake:
    file, line = nearest(place, lines) or ("catalogue", None)
    return Mistake(file, line, where(place, merged), message)


def _fields_of(error: Any) -> str:
    """What to say of an unknown field: those that its section knows, as the catalogue spells them."""
    place = tuple(error["loc"])
    model = SECTION_MODELS.get(str(place[0]), Catalogue) if len(place) > 1 else Catalogue
    return "known here: " + ", ".join(f.alias or n for n, f in model.model_fields.items())


NATIONAL = ("factors", "accuracies", "indicators")       # may stand in a file without a base


def _cross_check(c: Catalogue) -> Iterable[tuple[Place, str]]:
    """Mistakes between rows: double codes, names of things that are not there, trees that bite their tail."""
    for section in ("enterprises", "units", "devices", "points", "rules"):
        seen: dict[str, int] = {}
        for i, row in enumerate(getattr(c, section)):
            if row.code in seen:
                yield (section, i, "code"), f"the code {row.code!r} stands twice (first in {section}[{seen[row.code]}])"
            seen[row.code] = i
    if c.base is None and any(getattr(c, s) for s in Catalogue.model_fields if s not in ("base", *NATIONAL)):
        yield ("base",), "expected a `base:` section with code and name"
    known = {s: {row.code for row in getattr(c, s)} for s in ("enterprises", "units", "devices", "points")}
    for place, section, code in _references(c):
        if code is not None and code not in known[section]:
            yield place, f"there is no {code!r} in {section}"
    parents = {u.code: u.parent for u in c.units}
    for i, unit in enumerate(c.units):
        code, steps = unit.parent, 0
        while code is not None and steps <= len(parents):
            code, steps = parents.get(code), steps + 1
        if code is not None:
            yield ("units", i, "parent"), f"the unit {unit.code!r} is its own ancestor"
    yield from _formulas(c)
    yield from _entries(c)
    yield from _carriers(c)
    yield from _tariffs(c)
    devices = {d.code: d for d in c.devices}
    taken: dict[tuple[str, str], int] = {}
    for i, point in enumerate(c.points):
        if point.source is not None and point.source.device in devices:
            key = (point.source.device, point.source.key)
            if key in taken:
                yield ("points", i, "source"), f"{key[1]!r} of device {key[0]!r} already feeds points[{taken[key]}]"
            taken[key] = i


def _carriers(c: Catalogue) -> Iterable[tuple[Place, str]]:
    """Carriers that there are not: what has one would be stored, and be missing in every figure without a word."""
    known = carriers()
    for section in ("points", "flows", "factors", "accuracies", "tariffs"):
        for i, row in enumerate(getattr(c, section)):
            if row.carrier and row.carrier not in known:
                yield (section, i, "carrier"), f"there is no carrier {row.carrier!r}; {known_names(row.carrier, sorted(known))}"


@cache
def carriers() -> frozenset[str]:
    """Every carrier that there is: each has national factors (tables/factors.yaml)."""
    rows = yaml.load((TABLES / "factors.yaml").read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)["factors"]
    return frozenset(row["carrier"] for row in rows)


def _tariffs(c: Catalogue) -> Iterable[tuple[Place, str]]:
    """Prices that no bill could be made of."""
    for i, tariff in enumerate(c.tariffs):
        money, _, per = tariff.unit.partition("/")
        if money != "CNY" or per not in units():
            yield ("tariffs", i, "unit"), f"expected CNY/ and a unit of measure such as CNY/kWh, got {tariff.unit!r}"
        for path, text in mistakes_of(tariff.terms):
            place = [int(step) if step.isdigit() else step for step in path.split(".")] if path else []
            yield ("tariffs", i, "terms", *place), text


def _entries(c: Catalogue) -> Iterable[tuple[Place, str]]:
    """Ledger entries that no figure could use."""
    for i, e in enumerate(c.ledger):
        for field, text in mistakes(e.kind, **e.model_dump(include={"item", "action", "value", "unit", "first_day", "last_day",
                                                                    "enterprise", "counterparty"})):
            yield ("ledger", i, field), text


def _gauge(p: Point, formula: Checked, parts: Sequence[Point]) -> Iterable[str]:
    """What does not fit between a virtual gauge and the points in its formula: its step and their pace, its zero and theirs."""
    if p.kind != "gauge":
        return
    if formula.moves_zero:
        yield f"a sum or difference has no zero in {p.unit}: give it the unit degC, where a difference of 5 K is 5"
    if p.expected_s % 60 or 3600 % p.expected_s:
        yield f"a gauge with a formula has whole minutes as its step that divide an hour, expected_s: {p.expected_s} are none"
    elif p.expected_s != 900 and (counters := [q.code for q in parts if q.kind == "counter"]):
        yield f"the counter {counters[0]!r} gives an amount a quarter-hour: expected_s must be 900, not {p.expected_s}"
    elif slow := [q for q in parts if q.kind == "gauge" and q.expected_s > p.expected_s]:
        yield f"{slow[0].code!r} comes every {slow[0].expected_s} s: expected_s must be as long at least, not {p.expected_s}"


def _formulas(c: Catalogue) -> Iterable[tuple[Place, str]]:
    """Formulas of virtual points: they can be read, name counters and gauges that are there, and their units fit."""
    points = {p.code: p for p in c.points}
    names: dict[str, tuple[str, ...]] = {}
    for i, p in enumerate(c.points):
        if p.formula is None:
            continue
        place: Place = ("points", i, "formula")
        try:
            parsed = parse(p.formula)
            names[p.code] = parsed.names
            absent = [n for n in parsed.names if n not in points]
            if absent:
                yield place, f"there is no {absent[0]!r} in points"
            elif not parsed.names:
                yield place, "a formula names at least one point"
            elif states := [n for n in parsed.names if points[n].kind == "state"]:
                yield place, f"expected counters and gauges, got the state {states[0]!r}"
            else:
                checked = parsed.checked({n: points[n].unit for n in parsed.names}, p.unit)
                yield from ((place, text) for text in _gauge(p, checked, [points[n] for n in parsed.names]))
        except InputError as exc:
            yield place, str(exc)
    for i, p in enumerate(c.points):
        seen: set[str] = set()
        ahead = list(names.get(p.code, ()))
        while ahead:
            name = ahead.pop()
            if name not in seen:
                seen.add(name)
                ahead += names.get(name, ())
        if p.code in seen:
            yield ("points", i, "formula"), f"the formula of {p.code!r} needs {p.code!r} itself"


def _references(c: Catalogue) -> Iterable[tuple[Place, str, str | None]]:
    for i, u in enumerate(c.units):
        yield ("units", i, "parent"), "units", u.parent
        yield ("units", i, "enterprise"), "enterprises", u.enterprise
        for code in u.treats:
            yield ("units", i, "treats"), "units", code
        for code in u.outlet_of:
            yield ("units", i, "outlet_of"), "units", code
    for i, p in enumerate(c.points):
        yield ("points", i, "belongs_to"), "units", p.belongs_to
        yield ("points", i, "source"), "devices", p.source.device if p.source else None
    for i, m in enumerate(c.meters):
        yield ("meters", i, "point"), "points", m.point
    for i, f in enumerate(c.flows):
        yield ("flows", i, "parent"), "points", f.parent
        for code in f.children:
            yield ("flows", i, "children"), "points", code
    for i, limit in enumerate(c.limits):
        yield ("limits", i, "outlet"), "units", limit.outlet
    for i, t in enumerate(c.tariffs):
        yield ("tariffs", i, "enterprise"), "enterprises", t.enterprise
    for i, e in enumerate(c.ledger):
        yield ("ledger", i, "enterprise"), "enterprises", e.enterprise
        yield ("ledger", i, "counterparty"), "enterprises", e.counterparty


def check_files(files: Iterable[Path]) -> list[str]:
    """Every mistake as a line, for `park catalogue check`; empty when there is none."""
    try:
        read_catalogue(files)
    except CatalogueError as exc:
        return [str(m) for m in exc.mistakes]
    except InputError as exc:
        return [str(exc)]
    return []
