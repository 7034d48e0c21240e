"""Arithmetic written in a file: numbers, names, + - * /, comparisons, min and max, nothing else."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from typing import Any

from tailbound.errors import UsageError

_OPERATIONS: dict[type, Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
LONGEST = 300
"""Characters of a formula."""

_FUNCTIONS: dict[str, Callable[..., float]] = {"min": min, "max": max}


class Expression:
    """A formula over named numbers.

    >>> Expression("(1 - refused) * level / 4", place="x")({"refused": 0, "level": 3})
    0.75

    Raises `UsageError` that begins with `place` for anything but arithmetic and comparisons.
    """

    def __init__(self, text: str, *, place: str) -> None:
        self.text = text
        if len(text) > LONGEST:  # so that neither parser nor evaluation runs out of stack
            raise UsageError(f"{place}: a formula has at most {LONGEST} characters")
        try:
            self._tree: ast.expr = ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            reason = error.msg if isinstance(error, SyntaxError) else "it holds no such characters"
            raise UsageError(f"{place}: {text!r} is not a valid formula: {reason}") from error
        self.names: frozenset[str] = frozenset(self._check(self._tree, place))

    def __call__(self, values: Mapping[str, float]) -> float:
        """The value; raises `ZeroDivisionError` and `OverflowError` as arithmetic does."""
        return float(self._value(self._tree, values))

    def _check(self, node: ast.expr, place: str) -> set[str]:
        match node:
            case ast.Constant(value=int() | float()):
                return set()
            case ast.Name(id=name):
                return {name}
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATIONS:
                return self._check(left, place) | self._check(right, place)
            case ast.UnaryOp(op=op, operand=operand) if type(op) in _OPERATIONS:
                return self._check(operand, place)
            case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in _OPERATIONS:
                return self._check(left, place) | self._check(right, place)
            case ast.Call(func=ast.Name(id=name), args=[_, *_] as args, keywords=[]) if (
                name in _FUNCTIONS
            ):
                return set().union(*(self._check(argument, place) for argument in args))
        raise UsageError(
            f"{place}: {ast.unparse(node)!r} is not allowed in a formula: use numbers, names, "
            "+ - * / and brackets, one comparison, min and max"
        )

    def _value(self, node: ast.expr, values: Mapping[str, float]) -> float:
        match node:
            case ast.Constant(value=int() | float() as value):
                return value
            case ast.Name(id=name):
                return values[name]
            case (
                ast.BinOp(left=left, op=op, right=right)
                | ast.Compare(left=left, ops=[op], comparators=[right])
            ):
                found: float = _OPERATIONS[type(op)](
                    self._value(left, values), self._value(right, values)
                )
                return found
            case ast.UnaryOp(op=op, operand=operand):
                signed: float = _OPERATIONS[type(op)](self._value(operand, values))
                return signed
            case ast.Call(func=ast.Name(id=name), args=args):
                return _FUNCTIONS[name]([self._value(argument, values) for argument in args])
        raise AssertionError("checked before")
