"""Expressions that users write: what they give, what they refuse and where, and how units are checked."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from park.errors import InputError
from park.expressions import ExpressionError, parse
from park.measures import measure

NAN = float("nan")


@pytest.mark.parametrize(("text", "values", "expected"), [
    ("a + b * 2 - c / 4", {"a": 1, "b": 2, "c": 8}, 3),
    ("-(a - +b)", {"a": 1, "b": 4}, 3),
    ("min(a, b, 5) + max(a, b) + abs(c)", {"a": 7, "b": 9, "c": -2}, 16),
    ("e1.m1.kwh - 'e2-m1.kwh'", {"e1.m1.kwh": 5, "e2-m1.kwh": 2}, 3),
    ("产量 * 2", {"产量": 4}, 8),
    ("a if a > b else b", {"a": 1, "b": 2}, 2),
    ("1 < a <= 3", {"a": 3}, 1),
    ("1 < a < 3", {"a": 3}, 0),
    ("a == 2 and not b != 3 or c", {"a": 2, "b": 3, "c": 0}, 1),
    ("a / b", {"a": 1, "b": 0}, NAN),                        # no figure comes out of a division by zero
    ("a * 1e300 * 1e300", {"a": 1}, NAN),
    ("min(a, b)", {"a": 1, "b": NAN}, NAN),                  # what is not known makes the result not known
    ("max(a, 0)", {"a": NAN}, NAN),
    ("a > 1", {"a": NAN}, NAN),
    ("not a", {"a": NAN}, NAN),
    ("a > 1 and b > 1", {"a": 0, "b": NAN}, 0),              # one side decides
    ("a > 1 or b > 1", {"a": 2, "b": NAN}, 1),
    ("a > 1 and b > 1", {"a": 2, "b": NAN}, NAN),
    ("a if b else c", {"a": 1, "b": NAN, "c": 2}, NAN),
])
def test_an_expression_gives_what_arithmetic_gives(text: str, values: dict[str, float], expected: float) -> None:
    assert parse(text).evaluate(values) == pytest.approx(expected, nan_ok=True)


def test_an_expression_over_arrays_is_the_expression_over_each_element() -> None:
    expression = parse("max(a - b, 0) / c if a > 0.2 or b < 0.1 else -a")
    a, b, c = np.random.default_rng(3).random((3, 500))
    a[::7], b[::11], c[::13] = np.nan, np.nan, 0
    whole = expression.evaluate({"a": a, "b": b, "c": c})
    single = [float(expression.evaluate({"a": x, "b": y, "c": z})) for x, y, z in zip(a, b, c, strict=True)]
    assert expression.names == ("a", "b", "c")
    np.testing.assert_array_equal(whole, single)
    assert np.isnan(whole).any() and np.isfinite(whole).any()


@pytest.mark.parametrize(("text", "position", "word"), [
    ("", 1, "nothing"),
    ("a +", 4, "read"),
    ("a + (b", 5, "read"),
    ("__import__('os')", 1, "called"),
    ("a + open('x')", 5, "called"),
    ("a.b(1)", 1, "called"),
    ("(a).b.c()", 1, "called"),
    ("a[0]", 1, "got 'a[0]'"),
    ("a ** 9", 1, "got 'a ** 9'"),
    ("a % 2", 1, "got"),
    ("[a for a in b]", 1, "got"),
    ("lambda: 1", 1, "got"),
    ("产量 + True", 6, "got 'True'"),
    ("1 + 1e999", 5, "infinite"),
    ("1 + 1" + "0" * 400, 5, "infinite"),
    ("value(1" + "0" * 400 + ", 'kW')", 7, "infinite"),
    ("abs(a, b)", 1, "takes 1 values"),
    ("min()", 1, "takes 1 to 50"),
    ("min(*a)", 1, "called"),
    ("a + ''", 5, "name"),
    ("a is b", 1, "got"),
    ("(1).real + a", 1, "got"),
    ("value(a, 'kW')", 7, "value(5, 'kW')"),
])
def test_what_is_no_expression_is_refused_with_its_place(text: str, position: int, word: str) -> None:
    with pytest.raises(ExpressionError) as raised:
        parse(text)
    assert word in str(raised.value)
    assert raised.value.position == position


@pytest.mark.parametrize("text", [
    "-" * 1900 + "a", "(" * 900 + "a" + ")" * 900, "a+" * 900 + "a", "a" * 3000, "min(" * 100 + "a" + ")" * 100,
])
def test_a_huge_expression_is_refused_and_not_walked(text: str) -> None:
    with pytest.raises(ExpressionError):
        parse(text)


@settings(max_examples=300)
@given(st.text(max_size=40))
def test_any_text_is_an_expression_or_an_error_with_a_place(text: str) -> None:
    try:
        parse(text)
    except ExpressionError as error:
        assert error.position >= 1


@pytest.mark.parametrize(("text", "units", "target", "values", "expected"), [
    ("a + b", {"a": "kWh", "b": "MWh"}, "kWh", {"a": 1, "b": 2}, 2001),
    ("a + b", {"a": "kWh", "b": "GJ"}, "MJ", {"a": 1, "b": 1}, 1003.6),
    ("a - b * 0.5", {"a": "m3", "b": "m3"}, "m3", {"a": 4, "b": 2}, 3),
    ("max(a - b, 0)", {"a": "t", "b": "kg"}, "t", {"a": 1, "b": 5000}, 0),
    ("e / p", {"e": "kWh", "p": "t"}, "kWh/t", {"e": 10, "p": 4}, 2.5),
    ("e / p", {"e": "tce", "p": "CNY"}, "tce/10^4CNY", {"e": 3, "p": 20000}, 1.5),
    ("p * value(2, 'h')", {"p": "kW"}, "kWh", {"p": 3}, 6),
    ("c * f * value(1, 'h')", {"c": "mg/m3", "f": "Nm3/h"}, "kg", {"c": 20, "f": 50000}, 1),
    ("a / b", {"a": "kWh", "b": "MWh"}, "%", {"a": 500, "b": 1}, 50),
    ("a > value(5, 'kW')", {"a": "W"}, "1", {"a": 6000}, 1),
    ("t", {"t": "K"}, "degC", {"t": 300}, 26.85),
])
def test_units_are_converted_on_the_way(
    text: str, units: dict[str, str], target: str, values: dict[str, float], expected: float
) -> None:
    assert float(parse(text).checked(units, target).evaluate(values)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("text", "units", "target"), [
    ("a + b", {"a": "kWh", "b": "t"}, "kWh"),
    ("a + 5", {"a": "kWh"}, "kWh"),
    ("a * b", {"a": "kWh", "b": "kWh"}, "kWh"),
    ("a", {"a": "m3"}, "Nm3"),
    ("min(a, b)", {"a": "kW", "b": "kWh"}, "kW"),
    ("a if a > b else b", {"a": "kW", "b": "kWh"}, "kW"),
    ("a", {"a": "tce"}, "t"),
])
def test_dimensions_that_do_not_fit_are_refused(text: str, units: dict[str, str], target: str) -> None:
    with pytest.raises(ExpressionError):
        parse(text).checked(units, target)


def test_a_unit_that_is_none_and_a_name_without_unit_are_named() -> None:
    with pytest.raises(InputError, match="k W"):
        measure("k W")
    with pytest.raises(InputError, match="units of b"):
        parse("a + b").checked({"a": "kWh"}, "kWh")
    with pytest.raises(InputError, match="needs b"):
        parse("a + b").evaluate({"a": 1})
