"""The stack of blocks from a few of them: the profiles of equal segments, repeated and put together."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, reduce
from itertools import accumulate, groupby

from footprint.predict.profile import NOTHING, Bytes, Profile
from footprint.spec.checkpointing import segment_lengths

EXPLICIT = 3
"""Blocks (or segments) of a stack that are run one by one: the first, one for all in the middle, the last."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """A run of equal segments: `repeats` times `length` blocks."""

    length: int
    repeats: int


@dataclass(frozen=True, slots=True)
class Phases:
    """Bytes above weights and optimizer state: of one run, or one entry per run."""

    forward: Bytes
    backward: Bytes
    backward_gradients: Bytes
    """Parameter gradients that exist at the backward peak."""
    after_backward: Bytes
    """What is live when the optimizer starts: gradients, the batch and the loss."""


@cache
def stretches(layers: int, checkpointing: str) -> tuple[tuple[Stretch, ...], ...]:
    """The stack of blocks by the explicit segment that stands for them: the first, those between, the last.

    Without checkpointing the whole stack is one segment.
    """
    lengths = segment_lengths(layers, checkpointing) or (layers,)
    if len(lengths) == 1:
        return ((Stretch(layers, 1),),)
    first, *middle, last = lengths
    between = [Stretch(length, len(list(same))) for length, same in groupby(middle)]
    if not between and explicit(first) == explicit(last):
        between = [Stretch(first, 0)]  # so that few and many segments share a structure
    alike = groupby(between, key=lambda stretch: explicit(stretch.length))
    return ((Stretch(first, 1),), *(tuple(same) for _, same in alike), (Stretch(last, 1),))


def explicit(blocks: int) -> int:
    """How many blocks are run for that many: a single one is first and last at once, the others are repeated."""
    return 1 if blocks == 1 else EXPLICIT


_BACKWARD_PASSES = ("before recompute", "recompute", "after recompute", "backward")
"""What happens to a segment in backward, in order; only the last happens without checkpointing."""


class Stack:
    """Puts the profiles of a few explicit blocks together into those of the whole stack."""

    def __init__(
        self,
        profiles: dict[tuple[str, str], Profile],
        groups: tuple[tuple[Stretch, ...], ...],
        lengths: list[list[tuple[Bytes, Bytes]]],
    ) -> None:
        """`groups` are the stretches of one of the runs, `lengths` (length, repeats) of each stretch of all of them."""
        self._profiles, self._stretches = profiles, lengths
        counts = [explicit(group[0].length) for group in groups]
        starts = accumulate(counts, initial=0)
        self._blocks = [
            [f"block {index}" for index in range(start, start + count)]
            for start, count in zip(starts, counts, strict=False)
        ]

    def phases(self) -> Phases:
        """The highest points of forward and backward."""
        forward = self.sequence(
            [
                self.of("forward", "embedding"),
                self.forward("forward"),
                self.of("forward", "head"),
                self.forward("after forward"),
                self.of("after forward", "head"),
            ]
        )
        backward = self.sequence(
            [
                self.of("backward", "head"),
                self.backward(),
                self.of("backward", "embedding"),
                self.of("backward", "end"),
            ]
        )
        return Phases(
            forward.hump,
            forward.delta + backward.hump,
            backward.gradients_at_hump,
            forward.delta + backward.delta,
        )

    def of(self, pass_: str, part: str) -> Profile:
        """The profile of one part of the model in one pass."""
        return self._profiles.get((pass_, part), NOTHING)

    def sequence(self, parts: Iterable[Profile]) -> Profile:
        """The parts one after another."""
        return reduce(Profile.then, (part for part in parts if part is not NOTHING), NOTHING)

    def forward(self, pass_: str) -> Profile:
        """Every segment's part of a pass, first to last."""
        return self.sequence(
            self._segment(blocks, length, pass_).times(repeats)
            for blocks, stretches_ in zip(self._blocks, self._stretches, strict=True)
            for length, repeats in stretches_
        )

    def backward(self) -> Profile:
        """Every segment recomputed (where checkpointed) and run backward, last to first."""
        return self.sequence(
            self.sequence(self._segment(blocks, length, pass_) for pass_ in _BACKWARD_PASSES).times(repeats)
            for blocks, stretches_ in zip(self._blocks[::-1], self._stretches[::-1], strict=True)
            for length, repeats in stretches_[::-1]
        )

    def _segment(self, blocks: list[str], length: Bytes, pass_: str) -> Profile:
        first, *rest = [self.of(pass_, part) for part in blocks]
        if rest:
            rest[0] = rest[0].times(length - (EXPLICIT - 1))
        order = [first, *rest]
        return self.sequence(order if pass_ != "backward" else order[::-1])
