"""Sizes that are not known yet: ordinary arithmetic builds a formula, which is evaluated for many runs at once.

The shadow of a structure is run once, with formulas for sizes; thousands of runs of that structure then cost a few
NumPy operations. A `Formula` obeys NumPy's protocols, so what is written for arrays works on it unchanged.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, NoReturn

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin


class Formula(NDArrayOperatorsMixin):
    """A function of formulas and numbers that is yet to be called. Equal ones are the same object."""

    __slots__ = ("arguments", "function")
    __hash__ = object.__hash__

    def __init__(self, function: Callable | None, arguments: tuple) -> None:
        self.function, self.arguments = function, arguments

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any) -> "Formula":
        return _formula(Formula, ufunc, *inputs)

    def __array_function__(self, function: Callable, types: Any, arguments: tuple, keywords: dict) -> "Formula":
        return _formula(Formula, function, *arguments, *keywords.values())

    def __mul__(self, other: Any) -> "Formula":
        return _formula(Formula, np.multiply, self, other)  # as the mixin does, without its detour: most are products

    __rmul__ = __mul__

    def __bool__(self) -> NoReturn:
        raise TypeError("a size cannot decide which tensors exist: use np.where, or make it part of the structure")


class Call(Formula):
    """A call of an expensive function: all calls of one function are made as one, where their values are wanted."""

    __slots__ = ()


@cache
def _formula(kind: type[Formula], function: Callable | None, *arguments: Any) -> Formula:
    return kind(function, arguments)


def dimension(name: str) -> Formula:
    """The formula that stands for a dimension of the runs."""
    return _formula(Formula, None, name)


def call(function: Callable, *arguments: Any) -> Any:
    """`function(*arguments)`, later if there are formulas among the arguments. The function takes and gives arrays."""
    if any(isinstance(argument, Formula) for argument in arguments):
        return _formula(Call, function, *arguments)
    return function(*arguments)


class Evaluation:
    """The values of formulas for runs whose dimensions are known (arrays with one entry per run)."""

    def __init__(self, dimensions: Mapping[str, np.ndarray]) -> None:
        self._known = {dimension(name): column for name, column in dimensions.items()}
        self._runs = len(next(iter(dimensions.values())))

    def of(self, size: Any) -> np.ndarray:
        """The value of a formula, or a number, for every run."""
        if not isinstance(size, Formula):
            return np.broadcast_to(size, self._runs)
        if size not in self._known:
            self._known[size] = size.function(*(self.of(a) if isinstance(a, Formula) else a for a in size.arguments))
        return self._known[size]

    def prepare(self, wanted: Mapping[Formula, np.ndarray]) -> None:
        """Make the expensive calls among `wanted` for the given indices of runs only; elsewhere their value is 0."""
        together: dict[tuple, list[Formula]] = defaultdict(list)
        for formula in wanted:
            if isinstance(formula, Call):
                numbers = tuple(None if isinstance(a, Formula) else a for a in formula.arguments)
                together[formula.function, numbers].append(formula)
        for (function, numbers), calls in together.items():
            at = [wanted[formula] for formula in calls]
            columns = [self._column(calls, at, i) if number is None else number for i, number in enumerate(numbers)]
            ends = np.cumsum([len(indices) for indices in at])
            for formula, indices, values in zip(calls, at, np.split(function(*columns), ends[:-1]), strict=True):
                self._known[formula] = np.zeros(self._runs, dtype=np.int64)
                self._known[formula][indices] = values

    def _column(self, calls: list[Formula], at: list[np.ndarray], argument: int) -> np.ndarray:
        """One argument of several calls, each at its runs, as one array."""
        return np.concatenate([self.of(f.arguments[argument])[runs] for f, runs in zip(calls, at, strict=True)])
