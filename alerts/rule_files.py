"""Rules in catalogue files: the same check as in the database, with file and line of each mistake (`park alert --check-file`),
and candidates for a backtest (`park backtest --rules FILE`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from alerts.rules import Known, mistakes_of
from park.catalogue import catalogue_files, read_catalogue
from park.catalogue_rows import Rule as Row
from park.errors import CatalogueError, Mistake
from park.yaml_lines import Place, message_of, nearest, read_yaml, where


def check_files(files: Sequence[Path]) -> int:
    """Check every rule of a whole catalogue; how many there are, or CatalogueError with all mistakes."""
    c = read_catalogue(files)
    known = Known(frozenset(u.code for u in c.units), {p.code: p.unit for p in c.points})
    return len([row for file in catalogue_files(files) for row in read_rules(file, known)])


def read_rules(file: Path, known: Known, base_id: int = 0) -> list[dict[str, Any]]:
    """The rules of a file as rows of the table `rule`; CatalogueError with file and line of each mistake."""
    raw, lines = read_yaml(file, "a section `rules:`")
    rows, mistakes = [], []
    for i, item in enumerate(raw.get("rules") or []):
        try:
            row = Row.model_validate(item)
        except ValidationError as exc:
            mistakes += [_mistake(file, lines, raw, ("rules", i, *e["loc"]), message_of(e, _KNOWN)) for e in exc.errors()]
            continue
        rows.append({"base_id": base_id, "rule_id": i + 1, "code": row.code, "kind": row.kind, "severity": row.severity,
                     "name_zh": row.name.zh, "name_en": row.name.en, "scope": row.scope, "params": row.params,
                     "enabled": row.enabled})
        mistakes += [_mistake(file, lines, raw, ("rules", i, *m.where.split(".")), m.message)
                     for m in mistakes_of(rows[-1], known)]
    if mistakes:
        raise CatalogueError(mistakes)
    return [r for r in rows if r["enabled"]]


_KNOWN = "known here: " + ", ".join(Row.model_fields)


def _mistake(file: Path, lines: dict[Place, int], raw: dict[str, Any], place: Place, text: str) -> Mistake:
    return Mistake(str(file), nearest(place, lines), where(place, raw), text)
