"""Safe expressions that users write: virtual points, indicators, alert rules. One grammar for all of them.

An expression is arithmetic over names: `+ - * /`, `min() max() abs()`, numbers, comparisons, `and or not`, and
`a if condition else b`. Nothing else is taken: no call of anything, no index, no attribute of an object. A name may have dots
(`e1.m1.kwh`); one that is no plain word is put in quotes (`'e1-m1.kwh'`). A number with a unit is `value(5, 'kW')`.

Values are numbers or numpy arrays of one shape; what is not known is NaN and makes everything NaN that needs it, and so does a
division by zero: no figure comes out of nothing. Comparisons give 1, 0 or NaN; `and` and `or` are three-valued (what one side
decides needs no other side). With units (`Expression.checked`) sums and comparisons need equal dimensions, values are
converted, and the result comes in the unit that is asked for.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from park.errors import InputError
from park.measures import Measure, measure

Values = NDArray[np.float64]

MAX_LENGTH = 2000
MAX_NODES = 400
MAX_DEPTH = 60
MAX_NUMBER = 1e300


class ExpressionError(InputError):
    """What is wrong with an expression; `position` counts characters from 1, the text shows the place."""

    def __init__(self, text: str, position: int, problem: str) -> None:
        self.position = position
        self.problem = problem
        shown = text.replace("\n", " ")
        super().__init__(f"{problem} (at character {position})\n  {shown}\n  {' ' * (position - 1)}^")


@dataclass(frozen=True)
class Expression:
    """A parsed expression; `names` are the figures it needs, each once, in order of appearance."""

    text: str
    names: tuple[str, ...]
    _root: ast.expr

    @property
    def is_arithmetic(self) -> bool:
        """Whether it is made of + - * / alone, without function, comparison or condition."""
        called = {n.func.id for n in ast.walk(self._root) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}
        return called <= {"value"} and not any(isinstance(n, ast.Compare | ast.BoolOp | ast.IfExp | ast.Not)
                                               for n in ast.walk(self._root))

    def evaluate(self, values: Mapping[str, Values | float]) -> Values:
        """The expression over numbers or arrays that broadcast; NaN where it cannot be known. Units are not looked at."""
        missing = [name for name in self.names if name not in values]
        if missing:
            raise InputError(f"the expression {self.text!r} needs {', '.join(missing)}")
        arrays = {name: np.asarray(values[name], dtype=np.float64) for name in self.names}
        with np.errstate(all="ignore"):
            result = np.asarray(_evaluate(self._root, arrays, self.text), dtype=np.float64)
        return np.where(np.isfinite(result), result, np.nan)

    def checked(self, units: Mapping[str, str], target: str) -> Checked:
        """The expression with the unit of each name, giving `target`; ExpressionError where dimensions do not fit."""
        return Checked(self, {name: measure(units[name]) for name in self.names if name in units}, measure(target))


@dataclass(frozen=True)
class Checked:
    """An expression whose units fit: takes values in their own units and gives the target's."""

    expression: Expression
    units: dict[str, Measure]
    target: Measure

    def __post_init__(self) -> None:
        missing = [name for name in self.expression.names if name not in self.units]
        if missing:
            raise InputError(f"the expression {self.expression.text!r} needs the units of {', '.join(missing)}")
        found = _dimension(self.expression._root, self.units, self.expression.text)
        if found is not None and found != self.target.dimensions:
            raise _error(self.expression.text, self.expression._root,
                         f"the result is {show(found)}, and {self.target.code} is {show(self.target.dimensions)}")

    @property
    def moves_zero(self) -> bool:
        """Whether the target counts from a zero of its own (K beside degC) and the expression is no value on that scale, but a
        sum or difference of such: what adds one to each of its temperatures does not add one to it."""
        if not self.target.offset:
            return False
        same = {name for name, unit in self.units.items() if unit.dimensions == self.target.dimensions}
        at = {name: 3.0 + i for i, name in enumerate(self.units)}
        moved = {name: x + self.target.factor / self.units[name].factor if name in same else x for name, x in at.items()}
        return not abs(float(self.evaluate(moved)) - float(self.evaluate(at)) - 1) <= 1e-6

    def evaluate(self, values: Mapping[str, Values | float]) -> Values:
        """As `Expression.evaluate`, every value converted from its unit and the result into the target's."""
        inner = {name: np.asarray(values[name], dtype=np.float64) * unit.factor + unit.offset
                 for name, unit in self.units.items() if name in values}
        return (self.expression.evaluate(inner) - self.target.offset) / self.target.factor


def parse(text: str) -> Expression:
    """Read an expression; ExpressionError says what is wrong and where."""
    if len(text) > MAX_LENGTH:
        raise ExpressionError(text[:60] + " ...", 1, f"an expression has at most {MAX_LENGTH} characters, not {len(text)}")
    source = " ".join(text.split("\n")).replace("\r", " ").replace("\t", " ").strip()
    if not source:
        raise ExpressionError(text, 1, "an expression is expected, and there is nothing")
    try:
        root = ast.parse(source, mode="eval").body
    except SyntaxError as error:
        place = error.offset if error.lineno == 1 and error.offset else len(source) + 1      # else: at its end
        raise ExpressionError(source, min(place, len(source) + 1), f"cannot be read as an expression: {error.msg}") from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise ExpressionError(source, 1, f"cannot be read as an expression: {error or type(error).__name__}") from error
    names: dict[str, None] = {}
    _check(root, source, names, 0, [0])
    return Expression(source, tuple(names), root)


def show(dimensions: Mapping[str, int]) -> str:
    """Dimensions in words: `energy/mass`, `number` for none."""
    above = [n if p == 1 else f"{n}^{p}" for n, p in sorted(dimensions.items()) if p > 0]
    below = [n if p == -1 else f"{n}^{-p}" for n, p in sorted(dimensions.items()) if p < 0]
    if not above and not below:
        return "number"
    return "/".join(["*".join(above) or "1", *below])


def _error(text: str, node: ast.AST, problem: str) -> ExpressionError:
    before = text.encode()[: getattr(node, "col_offset", 0)]
    return ExpressionError(text, len(before.decode(errors="ignore")) + 1, problem)


def _dotted(node: ast.AST) -> bool:
    while isinstance(node, ast.Attribute):
        node = node.value
    return isinstance(node, ast.Name)


def _name(node: ast.expr, text: str) -> str | None:
    """The name that a node stands for as it was written: the parser would fold letters that look alike."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.Name | ast.Attribute) and _dotted(node):
        return "".join((ast.get_source_segment(text, node) or "").split())
    return None


_BINARY: dict[type[ast.operator], Callable[[Values, Values], Values]] = {
    ast.Add: np.add, ast.Sub: np.subtract, ast.Mult: np.multiply,
    ast.Div: lambda a, b: np.where(b == 0, np.nan, a / np.where(b == 0, np.nan, b)),
}
_COMPARE: dict[type[ast.cmpop], Callable[[Values, Values], NDArray[np.bool_]]] = {
    ast.Lt: np.less, ast.LtE: np.less_equal, ast.Gt: np.greater, ast.GtE: np.greater_equal,
    ast.Eq: np.equal, ast.NotEq: np.not_equal,
}
_FUNCTIONS = {"min": (1, 50), "max": (1, 50), "abs": (1, 1), "value": (2, 2)}


def _children(node: ast.expr, text: str) -> list[ast.expr]:
    """The operands of a node; ExpressionError where the node is none that an expression may have."""
    if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
        return [node.left, node.right]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd | ast.Not):
        return [node.operand]
    if isinstance(node, ast.BoolOp):
        return node.values
    if isinstance(node, ast.Compare) and all(type(op) in _COMPARE for op in node.ops):
        return [node.left, *node.comparators]
    if isinstance(node, ast.IfExp):
        return [node.test, node.body, node.orelse]
    if isinstance(node, ast.Call):
        return _arguments(node, text)
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
        if not abs(node.value) <= MAX_NUMBER:       # an integer may have any number of digits
            raise _error(text, node, "a number is expected, and this one is infinite")
        return []
    what = ast.get_source_segment(text, node) or type(node).__name__
    raise _error(text, node, f"expected + - * /, min(), max(), abs(), comparisons, and, or, not, names, numbers; got {what!r}")


def _arguments(node: ast.Call, text: str) -> list[ast.expr]:
    called = node.func.id if isinstance(node.func, ast.Name) else ""
    if called not in _FUNCTIONS or node.keywords or any(isinstance(a, ast.Starred) for a in node.args):
        raise _error(text, node, f"only {', '.join(f'{f}()' for f in _FUNCTIONS)} can be called")
    least, most = _FUNCTIONS[called]
    if not least <= len(node.args) <= most:
        due = str(least) if least == most else f"{least} to {most}"
        raise _error(text, node, f"{called}() takes {due} values, and got {len(node.args)}")
    if called != "value":
        return node.args
    number, unit = node.args
    plain = number.operand if isinstance(number, ast.UnaryOp) else number
    for part, kind in ((plain, int | float), (unit, str)):
        if not isinstance(part, ast.Constant) or not isinstance(part.value, kind):
            raise _error(text, part, "value() is a number and a unit in quotes: value(5, 'kW')")
    return [number]


def _check(node: ast.expr, text: str, names: dict[str, None], depth: int, count: list[int]) -> None:
    count[0] += 1
    if depth > MAX_DEPTH or count[0] > MAX_NODES:
        raise _error(text, node, f"an expression is at most {MAX_DEPTH} deep and has at most {MAX_NODES} parts")
    name = _name(node, text)
    if name is not None:
        if not name:
            raise _error(text, node, "a name is expected between the quotes")
        names.setdefault(name)
        return
    for child in _children(node, text):
        _check(child, text, names, depth + 1, count)


def _evaluate(node: ast.expr, values: Mapping[str, Values], text: str) -> Values:
    name = _name(node, text)
    if name is not None:
        return values[name]
    if isinstance(node, ast.Constant):
        return np.float64(node.value)  # type: ignore[arg-type, return-value]
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return _call(node.func.id, node.args, values, text)
    parts = [_evaluate(child, values, text) for child in _children(node, text)]
    if isinstance(node, ast.BinOp):
        return _BINARY[type(node.op)](parts[0], parts[1])
    if isinstance(node, ast.UnaryOp):
        if isinstance(node.op, ast.Not):
            return np.where(np.isnan(parts[0]), np.nan, parts[0] == 0)
        return -parts[0] if isinstance(node.op, ast.USub) else parts[0]
    if isinstance(node, ast.Compare):
        pairs = zip(node.ops, parts, parts[1:], strict=False)
        return _all([np.where(np.isnan(a) | np.isnan(b), np.nan, _COMPARE[type(op)](a, b)) for op, a, b in pairs])
    if isinstance(node, ast.BoolOp):
        return _all(parts) if isinstance(node.op, ast.And) else 1 - _all([1 - _truth(p) for p in parts])
    test, body, other = parts                        # IfExp: _children lets nothing else through
    return np.where(np.isnan(test), np.nan, np.where(test != 0, body, other))


def _truth(value: Values) -> Values:
    return np.where(np.isnan(value), np.nan, (value != 0).astype(np.float64))


def _all(parts: list[Values]) -> Values:
    """Three-valued `and`: 0 where one is 0, else NaN where one is not known, else 1."""
    result: Values = np.float64(1)  # type: ignore[assignment]
    for part in map(_truth, parts):
        result = np.where((result == 0) | (part == 0), 0.0, result * part)
    return result


def _call(called: str, arguments: list[ast.expr], values: Mapping[str, Values], text: str) -> Values:
    if called == "value":
        unit = measure(str(arguments[1].value))  # type: ignore[attr-defined]
        return _evaluate(arguments[0], values, text) * unit.factor + unit.offset
    parts = [_evaluate(argument, values, text) for argument in arguments]
    if called == "abs":
        return np.abs(parts[0])
    join = np.minimum if called == "min" else np.maximum       # both carry NaN on
    result = parts[0]
    for part in parts[1:]:
        result = join(result, part)
    return result


def _dimension(node: ast.expr, units: Mapping[str, Measure], text: str) -> dict[str, int] | None:
    """Dimensions of a node ({}: a number); None for a zero, which fits every dimension."""
    name = _name(node, text)
    if name is not None:
        return units[name].dimensions
    if isinstance(node, ast.Constant):
        return None if node.value == 0 else {}
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "value":
        return measure(str(node.args[1].value)).dimensions  # type: ignore[attr-defined]
    parts = [_dimension(child, units, text) for child in _children(node, text)]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult | ast.Div):
        return _product(parts[0], parts[1], 1 if isinstance(node.op, ast.Mult) else -1)
    if isinstance(node, ast.BoolOp) or (isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not)):
        return {}
    if isinstance(node, ast.IfExp):
        return _same(parts[1:], node, text)
    found = _same(parts, node, text)
    return {} if isinstance(node, ast.Compare) else found


def _product(a: dict[str, int] | None, b: dict[str, int] | None, sign: int) -> dict[str, int] | None:
    if a is None:
        return None
    powers = dict(a)
    for name, power in (b or {}).items():
        powers[name] = powers.get(name, 0) + sign * power
    return {name: power for name, power in powers.items() if power}


def _same(parts: list[dict[str, int] | None], node: ast.expr, text: str) -> dict[str, int] | None:
    known = [part for part in parts if part is not None]
    for part in known[1:]:
        if part != known[0]:
            raise _error(text, node, f"{show(known[0])} and {show(part)} cannot be added or compared "
                                     f"(a number with a unit is written value(5, 'kW'))")
    return known[0] if known else None
