"""Peaks of forward, backward and optimizer step for any number of runs at once, and the unrolled timeline of one."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from itertools import accumulate, groupby

import numpy as np

from footprint.checkpointing import segment_lengths
from footprint.precision import FULL, PRECISIONS
from footprint.predict.kernels import Kernels
from footprint.predict.operators import INT64
from footprint.predict.profile import Bytes, Profile, nothing, profile
from footprint.predict.program import Program, Sizes, Structure
from footprint.predict.shadow import ACTIVATIONS, GRADIENTS, Event
from footprint.spec import RunSpec

EXPLICIT = 3
"""Blocks (or segments) of a stack that are run one by one: the first, one for all in the middle, the last."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """A run of equal segments: `repeats` times `length` blocks."""

    length: int
    repeats: int


@dataclass(frozen=True, slots=True)
class Phases:
    """Bytes above weights and optimizer state, one entry per run."""

    forward: Bytes
    backward: Bytes
    backward_gradients: Bytes
    """Parameter gradients that exist at the backward peak."""
    after_backward: Bytes
    """What is live when the optimizer starts: gradients, the batch and the loss."""


def stretches(layers: int, checkpointing: str) -> tuple[Stretch, ...]:
    """The stack of blocks as its first segment, equal segments between, and its last segment.

    Without checkpointing the whole stack is one segment.
    """
    lengths = segment_lengths(layers, checkpointing) or (layers,)
    first, *between = lengths
    if not between:
        return (Stretch(first, 1),)
    *middle, last = between
    return (
        Stretch(first, 1),
        *(Stretch(length, len(list(same))) for length, same in groupby(middle)),
        Stretch(last, 1),
    )


def structure_of(spec: RunSpec, *, unrolled: bool = False) -> Structure:
    """The structure a run shares with its group; `unrolled` keeps every block."""
    model, precision = spec.model, PRECISIONS[spec.precision]
    checkpointed = spec.checkpointing != "none"
    if unrolled:
        segments = segment_lengths(model.layers, spec.checkpointing)
    else:
        segments = tuple(min(s.length, EXPLICIT) for s in stretches(model.layers, spec.checkpointing))
    return Structure(
        block=model.block,
        regime=spec.regime,
        nested_scales=spec.quantization == "nf4-double",
        adapted=model.adapted(spec.targets),
        autocast=precision.autocast,
        base=precision.base,
        trained=precision.trained,
        tied_head=model.tied_head,
        segments=segments if checkpointed else (),
        layers=model.layers if unrolled else min(model.layers, EXPLICIT),
    )


def sizes_of(specs: Sequence[RunSpec]) -> Sizes:
    """Dimensions of a group of runs as int64 arrays."""

    def column(values: Iterable[int]) -> Bytes:
        return np.fromiter(values, dtype=np.int64, count=len(specs))

    of_model = ("width", "heads", "kv_heads", "mlp_width", "vocab", "context")
    of_run = ("batch", "seq", "rank")
    return Sizes(
        **{name: column(getattr(s.model, name) for s in specs) for name in of_model},
        **{name: column(getattr(s, name) for s in specs) for name in of_run},
    )


def phases(specs: Sequence[RunSpec], kernels: Kernels) -> Phases:
    """Phase peaks of every run, in order; runs of equal structure are computed together."""
    groups: dict[Structure, list[int]] = defaultdict(list)
    for index, spec in enumerate(specs):
        groups[structure_of(spec)].append(index)
    columns = np.empty((4, len(specs)), dtype=np.int64)
    for structure, indices in groups.items():
        columns[:, indices] = _group(structure, [specs[i] for i in indices], kernels)
    return Phases(*columns)


def unrolled(spec: RunSpec, kernels: Kernels) -> Iterator[tuple[str, int, int]]:
    """(phase, gradients, activations) above what is at rest, after every event of forward and backward of one run."""
    live = [0, 0]
    for event in Program(structure_of(spec, unrolled=True), sizes_of([spec]), kernels).run():
        live[event.kind] += event.sign * int(np.asarray(event.size).flat[0])
        yield "forward" if "forward" in event.piece[0] else "backward", live[GRADIENTS], live[ACTIVATIONS]


def _group(structure: Structure, specs: Sequence[RunSpec], kernels: Kernels) -> tuple[Bytes, ...]:
    runs = len(specs)
    pieces: dict[tuple[str, str], list[Event]] = defaultdict(list)
    for event in Program(structure, sizes_of(specs), kernels).run():
        pieces[event.piece].append(event)
    profiles = {piece: profile(events, runs) for piece, events in pieces.items()}
    stack = _Stack(profiles, specs, runs)
    forward = _sequence(
        [
            stack.of("forward", "embedding"),
            stack.forward("forward"),
            stack.of("forward", "head"),
            stack.forward("after forward"),
            stack.of("after forward", "head"),
        ],
        runs,
    )
    backward = _sequence(
        [
            stack.of("backward", "head"),
            stack.backward(),
            stack.of("backward", "embedding"),
            stack.of("backward", "end"),
        ],
        runs,
    )
    return (
        forward.hump,
        forward.delta + backward.hump,
        backward.gradients_at_hump,
        forward.delta + backward.delta,
    )


def _sequence(parts: Iterable[Profile], runs: int) -> Profile:
    return reduce(Profile.then, parts, nothing(runs))


_BACKWARD_PASSES = ("before recompute", "recompute", "after recompute", "backward")
"""What happens to a segment in backward, in order; only the last happens without checkpointing."""


class _Stack:
    """Puts the profiles of a few explicit blocks together into those of the whole stack."""

    def __init__(self, profiles: dict[tuple[str, str], Profile], specs: Sequence[RunSpec], runs: int) -> None:
        self._profiles, self._runs = profiles, runs
        per_run = [stretches(s.model.layers, s.checkpointing) for s in specs]
        self._lengths = [np.array([s[i].length for s in per_run]) for i in range(len(per_run[0]))]
        self._repeats = [np.array([s[i].repeats for s in per_run]) for i in range(len(per_run[0]))]
        explicit = [min(int(lengths[0]), EXPLICIT) for lengths in self._lengths]
        self._blocks = [
            [f"block {index}" for index in range(start, start + count)]
            for start, count in zip(accumulate(explicit, initial=0), explicit, strict=False)
        ]

    def of(self, pass_: str, part: str) -> Profile:
        """The profile of one part of the model in one pass."""
        return self._profiles.get((pass_, part)) or nothing(self._runs)

    def forward(self, pass_: str) -> Profile:
        """Every segment's part of a pass, first to last."""
        segments = range(len(self._blocks))
        return _sequence((self._segment(i, pass_).times(self._repeats[i]) for i in segments), self._runs)

    def backward(self) -> Profile:
        """Every segment recomputed (where checkpointed) and run backward, last to first."""
        segments = reversed(range(len(self._blocks)))
        return _sequence(
            (
                _sequence(map(partial(self._segment, i), _BACKWARD_PASSES), self._runs).times(self._repeats[i])
                for i in segments
            ),
            self._runs,
        )

    def _segment(self, index: int, pass_: str) -> Profile:
        first, *rest = [self.of(pass_, part) for part in self._blocks[index]]
        if len(rest) == EXPLICIT - 1:
            rest[0] = rest[0].times(self._lengths[index] - (EXPLICIT - 1))
        order = [first, *rest]
        return _sequence(order if pass_ != "backward" else order[::-1], self._runs)


def step_temporaries(spec: RunSpec, stepped: tuple[int, ...], stepped_elements: int) -> int:
    """The most the optimizer allocates beyond its state within a step, in bytes.

    foreach AdamW makes a list of square roots of the second moments, one per stepped tensor; the fused kernel makes
    none. With master copies each tensor is stepped alone, beside its fp32 gradient. What remains is a Python number
    made into a tensor (8 bytes) and cast to the stepped dtype.
    """
    precision = PRECISIONS[spec.precision]
    foreach = spec.optimizer == "adamw"
    number = INT64 + (precision.stepped if foreach else FULL)
    if precision.has_master:
        return max(stepped) * FULL * (2 if foreach else 1) + number
    return stepped_elements * precision.stepped * foreach + number
