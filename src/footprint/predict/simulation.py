"""A run on a card, simulated: its tensors in order through the card's allocator, and the peaks that come of it."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from itertools import accumulate, groupby
from operator import itemgetter

from footprint.predict.allocator import Allocator, DoesNotFitError
from footprint.predict.collector import paused
from footprint.predict.formula import Evaluation, dimension
from footprint.predict.kernels.cuda import CudaKernels
from footprint.predict.phases import structure_of
from footprint.predict.program import Sizes, Structure
from footprint.predict.sizes import sizes_of
from footprint.predict.tape import Tape
from footprint.predict.unroll import few, unroll
from footprint.predict.whole_run import Recipe, WholeRun
from footprint.spec.columns import BUCKET_OF, PHASES
from footprint.spec.precision import PRECISIONS
from footprint.spec.run import RunSpec
from footprint.spec.training import TrainingSpec

MARK = 7
"""Bytes that the recorder takes and gives back where a phase begins and where it ends (measure/trace/cuda.py)."""

MARKER = 2**62
"""The number of that tensor; those of a run are small."""

NO_PHASE = "between"

TAPES = 64
"""Structures that are kept for further runs of theirs; that of a large model takes some 10 MB."""

SIMULATIONS = 256
"""Simulations that are kept: a search comes back to what it has tried."""

Sort = tuple[int, str, str]
"""Bytes, kind and name that some tensors share."""


@dataclass(frozen=True, slots=True)
class Peak:
    """The highest point of one phase of one step. Sizes are bytes."""

    phase: str
    allocated: int
    """`max_memory_allocated`."""
    requested: int
    reserved: int
    """`max_memory_reserved`."""
    kinds: dict[str, int]
    """What was live when requested bytes were highest: bytes of each key of `BUCKET_OF`."""


@dataclass(frozen=True, slots=True)
class Simulation:
    """What a measurement of a run comes to on a card."""

    peaks: list[Peak]
    """Of the first measured step, phase by phase."""
    reserved: int
    """Bytes that are reserved after all steps."""
    retries: int
    """How often the allocator had to empty its cache."""


@lru_cache(maxsize=TAPES)
@paused()
def tape(structure: Structure, recipe: Recipe, kernels: CudaKernels) -> Tape:
    """The run of a structure, with formulas for sizes; equal blocks are run once and repeated."""
    shown = few(structure.segments or (1,) * structure.layers)
    lengths = {"segments": shown.lengths} if structure.segments else {"layers": len(shown.lengths)}
    return unroll(every_block(replace(structure, **lengths), recipe, kernels), shown)


def every_block(structure: Structure, recipe: Recipe, kernels: CudaKernels) -> Tape:
    """The run of a structure, every block by itself."""
    sizes = Sizes(**{field.name: dimension(field.name) for field in fields(Sizes)})
    return WholeRun(structure, recipe, sizes, kernels).run()


def recipe_of(spec: RunSpec, training: TrainingSpec) -> Recipe:
    """How the tensors of a run are stepped."""
    return Recipe(
        optimizer=spec.optimizer,
        stepped=PRECISIONS[spec.precision].stepped,
        scales_loss=training.half == "fp16" and spec.precision != "fp32",
    )


@lru_cache(maxsize=SIMULATIONS)
@paused()
def simulate(spec: RunSpec, training: TrainingSpec, kernels: CudaKernels, room: int | None = None) -> Simulation | None:
    """Build a run and make all its steps where a card has `room` bytes for segments, or no end of them.

    None where that is too little.
    """
    events, sorts = _events_of(spec, training, kernels)
    requested = list(_requested(events, sorts))
    if room is not None and max(highest for highest, _ in requested) > room:
        return None
    replay = Replay(events, [size for size, _, _ in sorts], Allocator(room))
    try:
        replay.build()
        for _ in range(training.warmup_steps):
            replay.step()
        before, peaks = replay.allocator.layout(), replay.step()
        for _ in range(2 * training.measured_steps - 1):
            if replay.allocator.layout() == before:  # so is it after every further step
                break
            before = replay.allocator.layout()
            replay.step()
    except DoesNotFitError:
        return None
    found = [
        Peak(phase, allocated, highest, reserved, kinds)
        for (phase, allocated, reserved), (highest, kinds) in zip(peaks, requested, strict=True)
        if phase in PHASES
    ]
    return Simulation(found, replay.allocator.reserved, replay.allocator.retries)


def watched(spec: RunSpec, training: TrainingSpec, kernels: CudaKernels) -> list[tuple[str, str, dict[str, int]]]:
    """(phase, tensor, requested bytes of every kind) after every event of the first measured step."""
    events, sorts = _events_of(spec, training, kernels)
    kinds, seen = _kept(events, sorts), []
    for stretch in events.later:
        for sort in stretch.sorts:
            size, kind, name = sorts[sort if sort >= 0 else ~sort]
            if size:
                kinds[kind] += size if sort >= 0 else -size
                if stretch.phase in PHASES:
                    seen.append((stretch.phase, name, dict(kinds)))
    return seen


def _events_of(spec: RunSpec, training: TrainingSpec, kernels: CudaKernels) -> tuple["Events", list[Sort]]:
    """The events of a run, and the sorts of its tensors."""
    whole = tape(structure_of(spec, kernels, unrolled=True), recipe_of(spec, training), kernels)
    evaluation = Evaluation(sizes_of(spec))
    return events_on(whole), [(evaluation.of(size), kind, name) for name, kind, size in whole.sorts]


@dataclass(frozen=True, slots=True)
class Stretch:
    """Consecutive events of one phase."""

    phase: str
    numbers: list[int]
    """The tensor that is made, or as a negative number the one that is given back."""
    sorts: list[int]
    """The sort of a tensor that is made; of one that is given back its complement."""


@dataclass(frozen=True, slots=True)
class Events:
    """What happens in a run, stretch by stretch."""

    build: Stretch
    first: list[Stretch]
    """Of the first step."""
    later: list[Stretch]
    """Of every other: what outlived the first exists already."""
    kept: list[int]
    """The sorts of what outlives the first step, the model included."""


@lru_cache(maxsize=TAPES)
def events_on(whole: Tape) -> Events:
    """What a tape holds, phase by phase."""
    given_back = {-number for number in whole.numbers if number < 0}
    lasting = {number for number in whole.numbers if number > 0 and number not in given_back}
    phases = [PHASE_OF.get(pass_, "backward") for pass_, _ in whole.pieces]
    build, *first = [
        _stretch(phase, [number for _, number in events], whole)
        for phase, events in groupby(zip(phases, whole.numbers, strict=True), key=itemgetter(0))
    ]
    later = [_stretch(one.phase, [number for number in one.numbers if number not in lasting], whole) for one in first]
    return Events(build, first, later, [whole.sort_of[number - 1] for number in lasting])


def _stretch(phase: str, numbers: list[int], whole: Tape) -> Stretch:
    sort_of = whole.sort_of
    return Stretch(phase, numbers, [sort_of[n - 1] if n > 0 else ~sort_of[-n - 1] for n in numbers])


def _kept(events: Events, sorts: Sequence[Sort]) -> dict[str, int]:
    """Bytes of each kind between steps."""
    kinds = dict.fromkeys(BUCKET_OF, 0)
    for sort in events.kept:
        size, kind, _ = sorts[sort]
        kinds[kind] += size
    return kinds


def _requested(events: Events, sorts: Sequence[Sort]) -> Iterator[tuple[int, dict[str, int]]]:
    """The highest requested bytes of every stretch of a later step, and those of each kind there."""
    kinds = _kept(events, sorts)
    made = [size for size, _, _ in sorts]
    gained = [*made, *(-size for size in reversed(made))]  # so that complements find theirs
    for stretch in events.later:
        heights = list(accumulate(map(gained.__getitem__, stretch.sorts), initial=sum(kinds.values())))
        highest = max(heights)
        at = heights.index(highest)
        yield highest, _after(kinds, stretch.sorts[:at], sorts)
        kinds = _after(kinds, stretch.sorts, sorts)


def _after(kinds: Mapping[str, int], events: Sequence[int], sorts: Sequence[Sort]) -> dict[str, int]:
    """Bytes of each kind after some events."""
    after = dict(kinds)
    for sort, times in Counter(events).items():
        size, kind, _ = sorts[sort if sort >= 0 else ~sort]
        after[kind] += times * (size if sort >= 0 else -size)
    return after


class Replay:
    """Carries out the events of a run with an allocator, a step as often as is wanted."""

    def __init__(self, events: Events, sizes: Sequence[int], allocator: Allocator) -> None:
        self.allocator = allocator
        self._events, self._steps = events, 0
        self._sizes = [*sizes, *reversed(sizes)]  # so that complements find theirs

    def build(self) -> None:
        """Make the model."""
        self._carry_out(self._events.build)

    def step(self) -> list[tuple[str, int, int]]:
        """Make one step; the phase of every stretch, its peaks of allocated and of reserved bytes."""
        stretches = self._events.later if self._steps else self._events.first
        self._steps += 1
        return [self._carry_out(stretch) for stretch in stretches]

    def _carry_out(self, stretch: Stretch) -> tuple[str, int, int]:
        allocator = self.allocator
        self._mark(stretch.phase)
        allocator.reset_peaks()
        allocator.carry_out(stretch.numbers, map(self._sizes.__getitem__, stretch.sorts))
        peaks = allocator.peak_allocated, allocator.peak_reserved
        self._mark(stretch.phase)
        return stretch.phase, *peaks

    def _mark(self, phase: str) -> None:
        if phase != NO_PHASE:
            self.allocator.carry_out((MARKER, -MARKER), (MARK, MARK))


PHASE_OF = {name: name for name in ("build", "forward", "step", NO_PHASE)} | {"after forward": "forward"}
"""The phase of each pass that is not one of backward's."""
