"""Whether a run fits into a given memory, and the cheapest change that makes it fit.

A change is cheap when it gives up little. From the cheapest (the order of `STEPS`):

- the fused optimizer gives up nothing, checkpointing only time, a smaller batch time per token;
- Adam's moments on the host or in 8 bits, NF4's double quantization, fewer targets, a lower rank and a lower precision
  cost more and more;
- another regime trains something else, and a shorter sequence cuts texts.
"""

from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from footprint.errors import FootprintError
from footprint.predict.capacity import FITS, Capacity
from footprint.predict.prediction import least_peaks, predict
from footprint.spec.checkpointing import CHECKPOINTING
from footprint.spec.columns import BUCKET_BYTES
from footprint.spec.model import TARGETS
from footprint.spec.run import AXIS_DEFAULTS, QUANTIZATIONS, REGIMES, RunSpec
from footprint.spec.training import TrainingSpec

STEPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("optimizer", ("adamw-fused",)),
    ("checkpointing", CHECKPOINTING[1:]),
    ("batch", ()),
    ("optimizer", ("paged-adamw", "adamw-8bit")),
    ("quantization", QUANTIZATIONS[1:]),
    ("targets", TARGETS[1:]),
    ("rank", ()),
    ("precision", ("amp", "mixed", "bf16")),
    ("regime", REGIMES[1:]),
    ("seq", ()),
)
"""What can be given up, the cheapest first: an axis and its values, each less than the last; numbers have none, of them
the largest that fits is searched."""

LOOKED_AT = 64
"""Values of a number that are tried, at most, for one that fits above some that do not."""

COSTS = tuple(dict.fromkeys(axis for axis, _ in STEPS))
"""Axes by what it costs to give something up there, the cheapest first."""

COLLAPSED = {"rank": 0, "targets": "none", "quantization": "none"}
"""Axes that do not apply to every regime, and what they are where they do not."""

UNASKED = dict.fromkeys(("gpu_memory_bytes", "verdict", "fits", "headroom_bytes"))
"""What `Candidate.as_dict` adds to a row, where nobody asked whether it fits."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A run and its row of `predictions.csv`, held against a card."""

    spec: RunSpec
    capacity: Capacity
    training: TrainingSpec
    row: dict[str, object] = field(init=False)
    """The prediction."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "row", predict(self.spec, self.training, room=self.capacity.room))

    @property
    def verdict(self) -> str:
        """`fits` or `does not fit`."""
        return self.capacity.verdict(self.row)

    def as_dict(self) -> dict[str, object]:
        """The row, and whether it fits."""
        return self.row | {
            "gpu_memory_bytes": self.capacity.memory,
            "verdict": self.verdict,
            "fits": self.verdict == FITS,
            "headroom_bytes": self.headroom,
        }

    @property
    def empties_cache(self) -> bool:
        """Whether it fits only because the allocator gives free segments back on the way."""
        return self.verdict == FITS and self.capacity.empties_cache(self.spec, self.training)

    @property
    def headroom(self) -> int:
        """Bytes that nothing ever reserves; negative where the run does not fit."""
        return self.capacity.room - self.capacity.taken(self.row)

    @property
    def largest_bucket(self) -> tuple[str, int]:
        """The bucket that takes most at the peak, and its bytes."""
        name = max(BUCKET_BYTES, key=self.row.__getitem__)
        return name.removesuffix("_bytes"), self.row[name]


@dataclass(frozen=True, slots=True)
class Change:
    """What the search for the cheapest change came to."""

    axis: str | None
    """What to change; None when no single change is enough."""
    changed: Candidate | None
    """The run that then fits."""
    in_vain: tuple[tuple[str, str | int], ...]
    """Cheaper changes that were tried: axis and value; of a number the smallest."""


Found = TypeVar("Found")
Steps = Generator[None, None, Found]
"""A search that stops before each of its predictions; whoever takes no further step has given it up."""


def finished(steps: Steps[Found]) -> Found:
    """What a search finds that nobody gives up."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def cheapest_change(spec: RunSpec, capacity: Capacity, training: TrainingSpec) -> Change:
    """The first change in the order of `STEPS` after which the run fits; of a number the largest value that does."""
    return finished(towards_change(spec, capacity, training))


def towards_change(spec: RunSpec, capacity: Capacity, training: TrainingSpec) -> Steps[Change]:
    """The search for the cheapest change, step by step."""
    in_vain = []
    for axis, values in STEPS:
        for run in less(spec, axis, values):
            if isinstance(getattr(run, axis), int):
                run = (yield from _largest_below(spec, axis, capacity, training)) or run
            yield
            candidate = Candidate(run, capacity, training)
            if candidate.verdict == FITS:
                return Change(axis, candidate, tuple(in_vain))
            in_vain.append((axis, getattr(run, axis)))
    return Change(None, None, tuple(in_vain))


def less(spec: RunSpec, axis: str, values: tuple[str, ...]) -> Iterator[RunSpec]:
    """Every run that gives up something along one axis, the cheapest first; of a number only the least."""
    present, least = getattr(spec, axis), step_of(spec, axis)
    if isinstance(present, int):
        values = (least,) if present > least else ()
    elif axis == "targets":
        adapted = set(spec.model.adapted(present))
        values = tuple(name for name in values if set(spec.model.adapted(name)) < adapted)
    elif present in values:
        values = values[values.index(present) + 1 :]
    # Another regime brings axes to life that this one collapses.
    revived = {other: AXIS_DEFAULTS[other] for other, nothing in COLLAPSED.items() if getattr(spec, other) == nothing}
    for value in values:
        run = possible(spec, (revived if axis == "regime" else {}) | {axis: value})
        if run is not None and run != spec:
            yield run


def step_of(spec: RunSpec, axis: str) -> int:
    """The least value of a number, of which every other is a multiple: GPUs share a batch equally."""
    return spec.gpus if axis == "batch" else 1


def _largest_below(spec: RunSpec, axis: str, capacity: Capacity, training: TrainingSpec) -> Steps[RunSpec | None]:
    """The run with the largest value of a number below its own with which it fits, None if none does."""
    step = step_of(spec, axis)
    least, exceeds = 0, getattr(spec, axis)
    while exceeds - least > step:  # tensors alone, without what an allocator adds
        tried = (least + exceeds) // (2 * step) * step
        yield
        within = least_peaks([replace(spec, **{axis: tried})], training)[0] <= capacity.room
        least, exceeds = (tried, exceeds) if within else (least, tried)
    fitting = yield from largest(spec, axis, least, capacity, training)
    return replace(spec, **{axis: fitting}) if fitting else None


def largest(
    spec: RunSpec, axis: str, most: int, capacity: Capacity, training: TrainingSpec, *, fits: int = 0
) -> Steps[int]:
    """The largest value of a number, `most` at most, with which the run fits and with one more does not; 0 if none.

    With `fits` it is known to. A larger value may fit where a smaller does not: it may suit the allocator's segments
    better. So the range is looked through from above, too, at `LOOKED_AT` values at most.
    """
    if most <= fits:
        return fits
    yield
    row = predict(replace(spec, **{axis: most}), training, room=capacity.room)
    if capacity.taken(row) <= capacity.room:
        return most
    least = step_of(spec, axis)

    def holds(tried: int) -> bool:
        return capacity.holds(replace(spec, **{axis: tried}), training)

    guess = _guess(spec, axis, most, row, capacity, training)
    fits = yield from _edge(holds, fits, most, guess // least * least, least)
    stride = -(-(most - fits) // (LOOKED_AT * least)) * least
    for tried in range(most - stride, fits + least, -stride):
        yield
        if holds(tried):
            return (yield from _edge(holds, tried, tried + stride, tried + least, least))
    return fits


def _edge(holds: Callable[[int], bool], fits: int, exceeds: int, guess: int, least: int) -> Steps[int]:
    """A multiple of `least` that holds although the next does not: between one that does and one that does not.

    It goes away from the guess in steps that double, then by halves.
    """
    tried, step = min(max(guess, fits + least), exceeds - least), least
    while exceeds - fits > least:
        if not fits < tried < exceeds:
            tried = (fits + exceeds) // (2 * least) * least
        yield
        if holds(tried):
            fits, tried = tried, tried + step
        else:
            exceeds, tried = tried, tried - step
        step *= 2
    return fits


def _guess(spec: RunSpec, axis: str, most: int, row: Mapping, capacity: Capacity, training: TrainingSpec) -> int:
    """About the largest value below `most`, whose row is given, if the allocator adds as much for every tensor."""
    at_most, smallest = row["requested_peak_bytes"], step_of(spec, axis)
    least = least_peaks([replace(spec, **{axis: smallest})], training)[0]
    each = (at_most - least) / max(most - smallest, 1)
    excess = at_most - capacity.room * at_most / capacity.taken(row)
    return min(max(int(most - excess / each), 1), most) if each > 0 else most


def possible(spec: RunSpec, axes: Mapping[str, str | int]) -> RunSpec | None:
    """The run with other axes, or None where that combination does not exist (bitsandbytes' optimizers on the CPU)."""
    try:
        return replace(spec, **axes)
    except FootprintError:
        return None


def kept(axis: str, value: str | int) -> int:
    """Sorts the values of an axis from what keeps most to what gives up most."""
    if isinstance(value, int):
        return -value
    if axis == "targets" and value not in TARGETS:
        value = "attention"  # any other set of Linears stands with the set in the middle
    less = [less for step, values in STEPS if step == axis for less in values]
    return less.index(value) + 1 if value in less else 0
