"""Peaks of forward, backward and optimizer step for any number of runs at once, and the unrolled timeline of one."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cache, reduce
from itertools import accumulate, groupby
from operator import attrgetter

import numpy as np

from footprint.predict.alike import sizes_of
from footprint.predict.collector import paused
from footprint.predict.formula import Evaluation, Formula, dimension
from footprint.predict.kernels.device import Kernels
from footprint.predict.parameters import Resident
from footprint.predict.pieces import Recording
from footprint.predict.profile import Bytes, Profile, nothing
from footprint.predict.program import Layout, Program, Sizes, Structure
from footprint.predict.tape import ACTIVATIONS, GRADIENTS, Size
from footprint.spec.block import CHOICES
from footprint.spec.checkpointing import segment_lengths
from footprint.spec.precision import FULL, PRECISIONS
from footprint.spec.run import RunSpec

EXPLICIT = 3
"""Blocks (or segments) of a stack that are run one by one: the first, one for all in the middle, the last."""

DIMENSIONS = tuple(field.name for field in fields(Sizes))


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

    def of(self, runs: np.ndarray) -> "Phases":
        """The same for some of the runs, by index."""
        return Phases(self.forward[runs], self.backward[runs], self.backward_gradients[runs], self.after_backward[runs])


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


def structure_of(spec: RunSpec, kernels: Kernels, *, unrolled: bool = False) -> Structure:
    """The structure a run shares with its group; `unrolled` keeps every block."""
    model, precision = spec.model, PRECISIONS[spec.precision]
    segments = segment_lengths(model.layers, spec.checkpointing)
    if segments and not unrolled:
        segments = tuple(explicit(group[0].length) for group in stretches(model.layers, spec.checkpointing))
    attention = kernels.attention(spec)
    return Structure(
        block=model.kind,
        partly_rotary=model.partly_rotary,
        regime=spec.regime,
        nested_scales=spec.quantization == "nf4-double",
        adapted=model.adapted(spec.targets),
        autocast=precision.autocast,
        base=precision.base,
        trained=precision.trained,
        tied_head=model.tied_head,
        segments=segments,
        layers=model.layers if unrolled else explicit(model.layers),
        attention=attention,
        layout=_layout(spec, attention, kernels),
    )


def _layout(spec: RunSpec, attention: str, kernels: Kernels) -> Layout:
    """Kernels have tokens before heads, as projections do, unless plain operators, padding or a partial turn reordered
    them. Flash attention leaves its result laid out as its queries were.
    """
    model = spec.model
    if attention not in ("math", "padded"):
        queries, keys = spec.reordered_heads
        follows = queries and attention == "flash"
        kept = follows and kernels.reorders_kept_result
        return Layout(result=follows, kept=kept, queries=queries, keys=keys)
    queries, keys = (spec.many_tokens and heads > 1 for heads in (model.heads, model.kv_heads))
    plain = attention == "math"
    return Layout(
        grouped=model.grouped_queries,
        spread=plain and spec.batch > 1 and queries,
        result=queries or (not plain and model.heads > 1),
        queries=queries,
        keys=keys,
        values=keys,
        transposed_keys=plain and spec.seq > 1 and not model.grouped_queries and not model.partly_rotary,
        sequences=spec.batch > 1,
    )


@cache
@paused()
def record(structure: Structure, kernels: Kernels) -> Recording:
    """The events of one step of a structure, with formulas for sizes."""
    sizes = Sizes(**{name: dimension(name) for name in DIMENSIONS})
    return Recording(Program(structure, sizes, kernels).run())


def phases(specs: Sequence[RunSpec], kernels: Kernels) -> Phases:
    """Phase peaks of every run, in order; runs of equal structure are computed together."""
    groups = _by_structure(specs, kernels)
    recordings = {structure: record(structure, kernels) for structure in groups}
    evaluation = Evaluation(sizes_of(specs))
    users: dict[Formula, list[Bytes]] = defaultdict(list)
    for structure, indices in groups.items():
        for formula in recordings[structure].formulas:
            users[formula].append(indices)
    evaluation.prepare({formula: np.concatenate(runs) for formula, runs in users.items()})
    columns = np.empty((4, len(specs)), dtype=np.int64)
    for structure, indices in groups.items():
        profiles = recordings[structure].profiles(evaluation, indices)
        columns[:, indices] = _peaks(_Stack(profiles, [specs[i] for i in indices.tolist()]))
    return Phases(*columns)


_DECIDES_STRUCTURE = (
    *(f"model.{name}" for name in (*CHOICES, "tied_head", "layers")),
    *("regime", "targets", "checkpointing", "precision", "quantization", "reordered_heads"),
)
_DECIDES_ATTENTION = (
    *(f"model.{name}" for name in ("heads", "kv_heads", "head_width")),
    *("many_tokens", "many_sequences"),
)


def _by_structure(specs: Sequence[RunSpec], kernels: Kernels) -> dict[Structure, np.ndarray]:
    """Indices of the runs of each structure."""
    cells: dict[tuple, list[int]] = defaultdict(list)
    decides = attrgetter(*_DECIDES_STRUCTURE, *(_DECIDES_ATTENTION if kernels.chooses_attention else ()))
    for index, spec in enumerate(specs):
        cells[decides(spec)].append(index)
    groups: dict[Structure, list[int]] = defaultdict(list)
    for indices in cells.values():
        groups[structure_of(specs[indices[0]], kernels)] += indices
    return {structure: np.array(indices) for structure, indices in groups.items()}


def unrolled(spec: RunSpec, kernels: Kernels) -> Iterator[tuple[str, int, int]]:
    """(phase, gradients, activations) above what is at rest, after every event of forward and backward of one run."""
    sizes = Sizes(**{name: dimension(name) for name in DIMENSIONS})
    evaluation = Evaluation(sizes_of([spec]))
    live = {GRADIENTS: 0, ACTIVATIONS: 0}
    for event in Program(structure_of(spec, kernels, unrolled=True), sizes, kernels).run():
        live[event.kind] += event.sign * int(evaluation.of(event.size)[0])
        yield "forward" if "forward" in event.piece[0] else "backward", live[GRADIENTS], live[ACTIVATIONS]


def _peaks(stack: "_Stack") -> tuple[Bytes, ...]:
    forward = stack.sequence(
        [
            stack.of("forward", "embedding"),
            stack.forward("forward"),
            stack.of("forward", "head"),
            stack.forward("after forward"),
            stack.of("after forward", "head"),
        ]
    )
    backward = stack.sequence(
        [
            stack.of("backward", "head"),
            stack.backward(),
            stack.of("backward", "embedding"),
            stack.of("backward", "end"),
        ]
    )
    return (
        forward.hump,
        forward.delta + backward.hump,
        backward.gradients_at_hump,
        forward.delta + backward.delta,
    )


_BACKWARD_PASSES = ("before recompute", "recompute", "after recompute", "backward")
"""What happens to a segment in backward, in order; only the last happens without checkpointing."""


class _Stack:
    """Puts the profiles of a few explicit blocks together into those of the whole stack."""

    def __init__(self, profiles: dict[tuple[str, str], Profile], specs: Sequence[RunSpec]) -> None:
        self._profiles, self._nothing = profiles, nothing(len(specs))
        per_run = [stretches(s.model.layers, s.checkpointing) for s in specs]
        counts = [explicit(group[0].length) for group in per_run[0]]
        starts = accumulate(counts, initial=0)
        self._blocks = [
            [f"block {index}" for index in range(start, start + count)]
            for start, count in zip(starts, counts, strict=False)
        ]
        self._stretches = [_columns(groups) for groups in zip(*per_run, strict=True)]

    def of(self, pass_: str, part: str) -> Profile:
        """The profile of one part of the model in one pass."""
        return self._profiles.get((pass_, part)) or self._nothing

    def sequence(self, parts: Iterable[Profile]) -> Profile:
        """The parts one after another."""
        return reduce(Profile.then, (part for part in parts if part is not self._nothing), self._nothing)

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


def _columns(groups: Sequence[tuple[Stretch, ...]]) -> list[tuple[Bytes, Bytes]]:
    """(length, repeats) of every stretch of a group, with one entry per run; a run may have fewer stretches."""
    most = max(map(len, groups))
    padded = [group + (Stretch(group[0].length, 0),) * (most - len(group)) for group in groups]
    return [
        (np.array([stretch.length for stretch in column]), np.array([stretch.repeats for stretch in column]))
        for column in zip(*padded, strict=True)
    ]


def step_temporaries(spec: RunSpec, at_rest: Resident, kernels: Kernels) -> Size:
    """The most the optimizer allocates beyond its state within a step, in bytes.

    foreach AdamW makes a list of square roots of the second moments, one per stepped tensor; fused kernels and
    bitsandbytes' make none. With master copies each tensor is stepped alone, beside its fp32 gradient. What remains is
    a Python number made into a tensor and cast to the stepped dtype.
    """
    precision = PRECISIONS[spec.precision]
    foreach = spec.optimizer == "adamw"
    number = kernels.number + kernels.number_cast(precision.stepped if foreach else FULL)
    if precision.has_master:
        return at_rest.largest_stepped * FULL * (2 if foreach else 1) + number
    return at_rest.square_roots * foreach + number
