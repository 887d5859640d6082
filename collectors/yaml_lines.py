"""YAML into a pydantic model, with file and line of every mistake; for files that are one mapping (device templates)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from park.errors import CatalogueError, Mistake

Model = TypeVar("Model", bound=BaseModel)
Place = tuple[str | int, ...]


def read_model(path: Path, model: type[Model]) -> Model:
    """The file as `model`; CatalogueError with every mistake and its line."""
    try:
        text = path.read_text(encoding="utf-8")
        node = yaml.compose(text, Loader=yaml.CSafeLoader)
        raw = yaml.load(text, Loader=yaml.CSafeLoader)
    except (OSError, UnicodeDecodeError) as exc:
        raise CatalogueError([Mistake(str(path), None, "", f"cannot be read: {exc}")]) from exc
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        line = mark.line + 1 if mark else None
        raise CatalogueError([Mistake(str(path), line, "", f"not YAML: {exc.problem or exc.context}")]) from exc
    except (yaml.YAMLError, ValueError) as exc:
        raise CatalogueError([Mistake(str(path), None, "", f"not YAML: {exc}")]) from exc
    if not isinstance(raw, dict) or node is None:
        raise CatalogueError([Mistake(str(path), 1, "", "expected fields such as `template:` and `points:`")])
    lines: dict[Place, int] = {}
    double = _note(node, (), lines)
    if double:
        raise CatalogueError([Mistake(str(path), line, "", f"the key {key!r} stands twice") for key, line in double])
    try:
        return model.model_validate(raw)
    except ValidationError as exc:
        raise CatalogueError([_mistake(path, e, lines, raw) for e in exc.errors()]) from exc


def _note(node: yaml.Node, place: Place, lines: dict[Place, int]) -> list[tuple[str, int]]:
    """Fill `lines` with the line of every path; returns keys that stand twice."""
    lines.setdefault(place, node.start_mark.line + 1)
    double: list[tuple[str, int]] = []
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            line = key.start_mark.line + 1
            if key.value in seen:
                double.append((key.value, line))
            seen.add(key.value)
            lines[(*place, key.value)] = line
            double += _note(value, (*place, key.value), lines)
    elif isinstance(node, yaml.SequenceNode):
        for i, item in enumerate(node.value):
            double += _note(item, (*place, i), lines)
    return double


def _mistake(path: Path, error: Any, lines: dict[Place, int], raw: Any) -> Mistake:
    place: Place = tuple(error["loc"])
    message = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        message = "unknown field; see docs/devices.md for the fields of a template"
    elif error["type"] not in ("value_error", "missing"):
        message += f", got {error['input']!r}"
    near = place
    while near and near not in lines:
        near = near[:-1]
    return Mistake(str(path), lines.get(near), _where(place, raw), message)


def _where(place: Place, raw: Any) -> str:
    """`points[3] (active_power).unit`: the path, with the key of the row where it has one."""
    text, value = "", raw
    for step in place:
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            value = None
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else str(step)
        if isinstance(step, int) and isinstance(value, dict) and "key" in value:
            text += f" ({value['key']})"
    return text
