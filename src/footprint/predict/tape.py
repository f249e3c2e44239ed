"""What the shadow's allocator did, in order."""

from collections.abc import Iterator
from typing import Any, NamedTuple

Size = Any
"""Bytes: an int, an int64 array or a formula."""

ACTIVATIONS, GRADIENTS, OPTIMIZER = "activations", "gradients", "optimizer"
FROZEN_BASE, ADAPTER, TRAINED, MASTER = "frozen_base", "adapter", "trained", "master"
"""What a tensor can be: the kinds of `spec.columns.BUCKET_OF`."""


class Event(NamedTuple):
    """One allocation (sign +1) or release (-1) of `size` bytes of a kind, within a piece of the step."""

    piece: tuple[str, str]
    """The pass (`forward`, `after forward`, `before recompute`, `recompute`, `after recompute` or `backward`) and
    the part of the model (`embedding`, `block 0`, ..., `head`, `end`)."""
    name: str
    kind: str
    size: Size
    sign: int


class Tape:
    """The events of one step, or of a whole run. There are thousands of tensors but few sorts of them."""

    def __init__(self) -> None:
        self.piece = ("forward", "")
        """Where the step is."""
        self.recording = True
        self.steps: list[int] = []
        """Events before each step, where there are steps."""
        self.numbers: list[int] = []
        """The tensor of every event, counted from 1; negative for its release."""
        self.pieces: list[tuple[str, str]] = []
        """The piece of every event."""
        self.sort_of: list[int] = []
        """The sort of every tensor, counted from 0."""
        self._sorts: dict[tuple[str, str, Size], int] = {}

    def begin_step(self) -> None:
        """From here on it is the next step."""
        self.steps.append(len(self.numbers))

    def allocate(self, name: str, kind: str, size: Size) -> int:
        """Record an allocation in the present piece; returns the number of the tensor."""
        self.sort_of.append(self._sorts.setdefault((name, kind, size), len(self._sorts)))
        number = len(self.sort_of)
        if self.recording:
            self.numbers.append(number)
            self.pieces.append(self.piece)
        return number

    def release(self, number: int) -> None:
        """Record the release of a tensor in the present piece."""
        if self.recording:
            self.numbers.append(-number)
            self.pieces.append(self.piece)

    @property
    def sorts(self) -> list[tuple[str, str, Size]]:
        """Name, kind and size of every sort, in the order of their numbers."""
        return list(self._sorts)

    def __iter__(self) -> Iterator[Event]:
        sorts = self.sorts
        for piece, number in zip(self.pieces, self.numbers, strict=True):
            yield Event(piece, *sorts[self.sort_of[abs(number) - 1]], 1 if number > 0 else -1)
