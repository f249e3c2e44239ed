"""Sizes that are not known yet: ordinary arithmetic builds a formula, which is evaluated for one run or for many.

The shadow of a structure is run once, with formulas for sizes. One run of that structure then costs a few additions and
products of ints, and thousands cost a few NumPy operations (`many`).
"""

import operator
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, NoReturn


def _operator(function: Callable) -> tuple[Callable, Callable]:
    """A binary operator of formulas, and the same with its operands exchanged."""

    def left(self: "Formula", other: Any) -> "Formula":
        return _formula(Formula, function, self, other)

    def right(self: "Formula", other: Any) -> "Formula":
        return _formula(Formula, function, other, self)

    return left, right


class Formula:
    """A function of formulas and numbers that is yet to be called. Equal ones are the same object."""

    __slots__ = ("arguments", "function")
    __array_ufunc__ = None  # an array leaves the operation to the formula

    def __init__(self, function: Callable | None, arguments: tuple) -> None:
        self.function, self.arguments = function, arguments

    __add__, __radd__ = _operator(operator.add)
    __sub__, __rsub__ = _operator(operator.sub)
    __mul__, __rmul__ = _operator(operator.mul)
    __floordiv__, __rfloordiv__ = _operator(operator.floordiv)
    __mod__, __rmod__ = _operator(operator.mod)
    __and__, __rand__ = _operator(operator.and_)
    __lt__, __gt__ = _operator(operator.lt)
    __le__, __ge__ = _operator(operator.le)

    def __neg__(self) -> "Formula":
        return _formula(Formula, operator.neg, self)

    def __bool__(self) -> NoReturn:
        raise TypeError("a size cannot decide which tensors exist: use `where`, or make it part of the structure")


class Call(Formula):
    """A call of an expensive function: all calls of one function are made as one, where their values are wanted."""

    __slots__ = ()


@cache
def _formula(kind: type[Formula], function: Callable | None, *arguments: Any) -> Formula:
    return kind(function, arguments)


def dimension(name: str) -> Formula:
    """The formula that stands for a dimension of the runs."""
    return _formula(Formula, None, name)


def apply(function: Callable, *arguments: Any) -> Any:
    """`function(*arguments)`, later if there are formulas among the arguments. The function takes ints and arrays."""
    return _applied(Formula, function, arguments)


def call(function: Callable, *arguments: Any) -> Any:
    """The same for an expensive function."""
    return _applied(Call, function, arguments)


def _applied(kind: type[Formula], function: Callable, arguments: tuple) -> Any:
    if any(isinstance(argument, Formula) for argument in arguments):
        return _formula(kind, function, *arguments)
    return function(*arguments)


class Evaluation:
    """The values of formulas where the dimensions are known: ints of one run, or arrays with one entry per run."""

    def __init__(self, dimensions: Mapping[str, Any]) -> None:
        self.known = {dimension(name): values for name, values in dimensions.items()}
        """The values that were found so far."""

    def of(self, size: Any) -> Any:
        """The value of a formula for every run; a number is itself."""
        if not isinstance(size, Formula):
            return size
        known = self.known.get(size)
        if known is None:
            known = self.known[size] = size.function(*map(self.of, size.arguments))
        return known
