"""The metric math that our dashboard uses: arithmetic over series, FILL, PERIOD and SUM.

Source: CloudWatch User Guide, "Using math expressions with CloudWatch metrics".
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping

#: Epoch seconds at which a period begins -> value.
Series = dict[float, float]
Value = float | Series

_OPERATORS: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


class MathInvalid(Exception):
    """The expression is none, or not among what is understood here."""


def calculate(
    expression: str, series: Mapping[str, Series], periods: Mapping[str, int], times: list[float]
) -> Series:
    """The series of an expression over others by id; `times`: every period in view.

    A time at which one part has no value has none in the result, as in CloudWatch: FILL it.
    """
    value = _of(ast.parse(expression, mode="eval").body, series, periods, times)
    return value if isinstance(value, dict) else dict.fromkeys(times, value)


def _of(
    node: ast.expr, series: Mapping[str, Series], periods: Mapping[str, int], times: list[float]
) -> Value:
    def inner(part: ast.expr) -> Value:
        return _of(part, series, periods, times)

    match node:
        case ast.Constant(value=int() | float() as number):
            return float(number)
        case ast.Name(id=name) if name in series:
            return series[name]
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return _combined(_OPERATORS[type(op)], inner(left), inner(right))
        case ast.Call(func=ast.Name(id="PERIOD"), args=[ast.Name(id=name)]):
            return float(periods[name])
        case ast.Call(func=ast.Name(id="FILL"), args=[part, ast.Constant(value=filling)]):
            known = inner(part)
            if not isinstance(known, dict) or not isinstance(filling, (int, float)):
                raise MathInvalid("FILL takes a series and a number")
            return {at: known.get(at, float(filling)) for at in times}
    raise MathInvalid(f"not understood: {ast.unparse(node)}")


def _combined(apply: Callable[[float, float], float], left: Value, right: Value) -> Value:
    if isinstance(left, dict) and isinstance(right, dict):
        return {at: apply(left[at], right[at]) for at in left.keys() & right.keys()}
    if isinstance(left, dict):
        assert not isinstance(right, dict)
        return {at: apply(value, right) for at, value in left.items()}
    if isinstance(right, dict):
        return {at: apply(left, value) for at, value in right.items()}
    return apply(left, right)
