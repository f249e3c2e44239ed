"""What the shadow's allocator did, in order."""

from collections.abc import Iterator
from typing import Any, NamedTuple

Size = Any
"""Bytes: an int, an int64 array or a formula."""

ACTIVATIONS, GRADIENTS = 0, 1


class Event(NamedTuple):
    """One allocation (sign +1) or release (-1) of `size` bytes of a kind, within a piece of the step."""

    piece: tuple[str, str]
    """The pass (`forward`, `after forward`, `before recompute`, `recompute`, `after recompute` or `backward`) and
    the part of the model (`embedding`, `block 0`, ..., `head`, `end`)."""
    name: str
    kind: int
    size: Size
    sign: int


class Tape:
    """The events of one step. A step has thousands but few sorts of tensors, so an event is the number of its sort."""

    def __init__(self) -> None:
        self.piece = ("forward", "")
        """Where the step is."""
        self.recording = True
        self.numbers: list[int] = []
        """The sort of every event, counted from 1; negative for a release."""
        self.pieces: list[tuple[str, str]] = []
        """The piece of every event."""
        self._sorts: dict[tuple[str, int, Size], int] = {}

    def allocate(self, name: str, kind: int, size: Size) -> int:
        """Record an allocation in the present piece; returns the number of its sort."""
        number = self._sorts.setdefault((name, kind, size), len(self._sorts) + 1)
        if self.recording:
            self.numbers.append(number)
            self.pieces.append(self.piece)
        return number

    def release(self, number: int) -> None:
        """Record the release of a tensor of that sort in the present piece."""
        if self.recording:
            self.numbers.append(-number)
            self.pieces.append(self.piece)

    @property
    def sorts(self) -> list[tuple[str, int, Size]]:
        """Name, kind and size of every sort, in the order of their numbers."""
        return list(self._sorts)

    def __iter__(self) -> Iterator[Event]:
        sorts = self.sorts
        for piece, number in zip(self.pieces, self.numbers, strict=True):
            yield Event(piece, *sorts[abs(number) - 1], 1 if number > 0 else -1)
