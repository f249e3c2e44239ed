"""Arithmetic on sizes of every kind: ints of one run, formulas, or NumPy arrays with one entry per run.

Ints need no NumPy: one run is predicted where there is none, as in a browser.
"""

from collections.abc import Callable, Iterable
from functools import cache, partial, reduce
from itertools import repeat
from typing import Any

from footprint.predict.formula import apply, call
from footprint.predict.tape import Size


def where(condition: Size, then: Size, otherwise: Size) -> Size:
    """`then` where the condition holds, else the other; both exist."""
    return apply(_where, condition, then, otherwise)


def minimum(first: Size, *others: Size) -> Size:
    """The least of some sizes."""
    return reduce(partial(apply, _minimum), others, first)


def maximum(first: Size, *others: Size) -> Size:
    """The largest of some sizes."""
    return reduce(partial(apply, _maximum), others, first)


def total(sizes: Iterable[Size]) -> Size:
    """The sum of however many sizes: one formula, where `sum` would nest one for each of thousands."""
    return apply(_total, *sizes)


def rounded(size: Any) -> Size:
    """The nearest whole number; of two equally near the even one."""
    if isinstance(size, float):
        return round(size)
    import numpy as np

    return np.rint(size).astype(np.int64)


def call_each(function: Callable, *arguments: Size) -> Size:
    """`function(*arguments)` for each run, later if there are formulas; the function takes ints and gives one."""
    return call(_for_each(function), *arguments)


@cache
def _for_each(function: Callable) -> Callable:
    """The same object for the same function, so that its calls are known to be of one."""
    return partial(_each, function)


def _each(function: Callable, *arguments: Any) -> Any:
    if all(map(is_plain, arguments)):
        return function(*arguments)
    import numpy as np

    columns = (repeat(argument) if is_plain(argument) else argument.tolist() for argument in arguments)
    return np.fromiter(map(function, *columns), dtype=np.int64)


def is_plain(size: Any) -> bool:
    """Whether it is one number, or a name, and no array."""
    return isinstance(size, int | float | str)


def _where(condition: Any, then: Any, otherwise: Any) -> Any:
    if isinstance(condition, int):
        return then if condition else otherwise
    import numpy as np

    return np.where(condition, then, otherwise)


def _total(*sizes: Any) -> Any:
    return sum(sizes)


def _minimum(a: Any, b: Any) -> Any:
    if isinstance(a, int) and isinstance(b, int):
        return min(a, b)
    import numpy as np

    return np.minimum(a, b)


def _maximum(a: Any, b: Any) -> Any:
    if isinstance(a, int) and isinstance(b, int):
        return max(a, b)
    import numpy as np

    return np.maximum(a, b)
