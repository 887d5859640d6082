"""YAML into a pydantic model, with file and line of every mistake: catalogues, device templates."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from park.errors import CatalogueError, Mistake

Model = TypeVar("Model", bound=BaseModel)
At = TypeVar("At")
Place = tuple[str | int, ...]
DEEPEST = 60
REPEATED = 1_000_000    # places that aliases may add to those that are written out


def read_yaml(file: Path, expected: str) -> tuple[dict[str, Any], dict[Place, int]]:
    """The mapping of a file and the line of every path in it; an empty file is an empty mapping.

    CatalogueError for a file that cannot be read, is not YAML, is no mapping (`expected` says of what), has a key twice, or
    aliases that grow without bound.
    """
    node: yaml.Node | None = None
    try:
        text = file.read_text(encoding="utf-8-sig")
        node = yaml.compose(text, Loader=yaml.CSafeLoader)
        raw = yaml.load(text, Loader=yaml.CSafeLoader)
    except UnicodeDecodeError as exc:
        at = exc.object[:exc.start].count(b"\n") + 1
        raise CatalogueError([Mistake(str(file), at, "", "is not UTF-8 (perhaps GB18030): save it as UTF-8")]) from exc
    except OSError as exc:
        raise CatalogueError([Mistake(str(file), None, "", f"cannot be read: {exc.strerror or exc}")]) from exc
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        line = mark.line + 1 if mark else None
        raise CatalogueError([Mistake(str(file), line, "", f"not YAML: {exc.problem or exc.context}")]) from exc
    except (yaml.YAMLError, ValueError) as exc:
        raise CatalogueError([Mistake(str(file), *_unmade(node), f"not YAML: {exc}")]) from exc
    if raw is None or node is None:
        return {}, {}
    if not isinstance(raw, dict):
        raise CatalogueError([Mistake(str(file), 1, "", f"expected {expected}")])
    lines: dict[Place, int] = {}
    try:
        double = _note(node, (), lines, len(text) + REPEATED)
    except _TooMuch as exc:
        said = f"nested deeper than {DEEPEST} levels, or aliases (*name) that stand for more than {REPEATED:,} values"
        raise CatalogueError([Mistake(str(file), exc.line, "", said)]) from exc
    if double:
        raise CatalogueError([Mistake(str(file), line, "", f"the key {key!r} stands twice") for key, line in double])
    return raw, lines


def read_model(file: Path, model: type[Model], expected: str, unknown: str) -> Model:
    """A file as `model`; CatalogueError with every mistake and its line. `unknown` is said of unknown fields."""
    raw, lines = read_yaml(file, expected)
    try:
        return model.model_validate(raw)
    except ValidationError as exc:
        raise CatalogueError([
            Mistake(str(file), nearest(tuple(e["loc"]), lines), where(tuple(e["loc"]), raw), message_of(e, unknown))
            for e in exc.errors()]) from exc


def message_of(error: Any, unknown: str) -> str:
    """A pydantic error in our words: what was expected and what came."""
    if error["type"] == "extra_forbidden":
        return f"unknown field; {unknown}"
    message = str(error["msg"]).removeprefix("Value error, ")
    return message if error["type"] in ("value_error", "missing") else f"{message}, got {error['input']!r}"


def nearest(place: Place, lines: Mapping[Place, At]) -> At | None:
    """What `lines` knows of a path, or of the nearest path above it."""
    while place and place not in lines:
        place = place[:-1]
    return lines.get(place)


def where(place: Place, raw: Any) -> str:
    """`points[3] (e1.m1.kwh).unit`: the path, with the code or key of the row where it has one."""
    text, value = "", raw
    for step in place:
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            value = None
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else str(step)
        if isinstance(step, int) and isinstance(value, dict) and ("code" in value or "key" in value):
            text += f" ({value.get('code', value.get('key'))})"
    return text


def _unmade(node: yaml.Node | None) -> tuple[int | None, str]:
    """Line and text of the first scalar that is no value, such as the date 2025-13-01."""
    waiting = [node] if node is not None else []
    seen: set[int] = set()      # an alias leads to the same node again
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, yaml.ScalarNode) and not one.style:
            try:
                yaml.safe_load(one.value)
            except ValueError:
                return one.start_mark.line + 1, one.value
            except yaml.YAMLError:
                continue
        elif isinstance(one, yaml.MappingNode):
            waiting += [part for pair in reversed(one.value) for part in reversed(pair)]
        elif isinstance(one, yaml.SequenceNode):
            waiting += reversed(one.value)
    return None, ""


class _TooMuch(Exception):
    def __init__(self, line: int) -> None:
        self.line = line


def _note(node: yaml.Node, place: Place, lines: dict[Place, int], most: int) -> list[tuple[str, int]]:
    """Fill `lines` with the line of every path, `most` of them; keys that stand twice, with their lines."""
    lines.setdefault(place, node.start_mark.line + 1)
    if len(place) > DEEPEST or len(lines) > most:
        raise _TooMuch(node.start_mark.line + 1)
    double: list[tuple[str, int]] = []
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            line = key.start_mark.line + 1
            if key.value in seen:
                double.append((key.value, line))
            seen.add(key.value)
            lines[(*place, key.value)] = line
            double += _note(value, (*place, key.value), lines, most)
    elif isinstance(node, yaml.SequenceNode):
        for i, item in enumerate(node.value):
            double += _note(item, (*place, i), lines, most)
    return double
