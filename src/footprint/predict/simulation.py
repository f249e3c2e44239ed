"""A run on a card, simulated: its tensors in order through the card's allocator, and the peaks that come of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from itertools import groupby
from operator import itemgetter

from footprint.predict.allocator import Allocator, Block, DoesNotFitError
from footprint.predict.collector import paused
from footprint.predict.formula import Evaluation, dimension
from footprint.predict.kernels.cuda import CudaKernels
from footprint.predict.phases import structure_of
from footprint.predict.program import Sizes, Structure
from footprint.predict.sizes import sizes_of
from footprint.predict.tape import Tape
from footprint.predict.whole_run import Recipe, WholeRun
from footprint.spec.columns import BUCKET_OF, PHASES
from footprint.spec.precision import PRECISIONS
from footprint.spec.run import RunSpec
from footprint.spec.training import TrainingSpec

MARK = 7
"""Bytes that the recorder takes and gives back where a phase begins and where it ends (measure/trace/cuda.py)."""

NO_PHASE = "between"

TAPES = 64
"""Structures that are kept for further runs of theirs; that of a large model takes some 10 MB."""

SIMULATIONS = 256
"""Simulations that are kept: a search comes back to what it has tried."""

Watch = Callable[[str, str, Mapping[str, int]], None]


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
    """The run of a structure, with formulas for sizes."""
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
    try:
        replay = _warmed_up(spec, training, kernels, room)
        before, peaks = replay.allocator.layout(), replay.step()
        for _ in range(2 * training.measured_steps - 1):
            if replay.allocator.layout() == before:  # so is it after every further step
                break
            before = replay.allocator.layout()
            replay.step()
    except DoesNotFitError:
        return None
    return Simulation(peaks, replay.allocator.reserved, replay.allocator.retries)


def watched(spec: RunSpec, training: TrainingSpec, kernels: CudaKernels) -> list[tuple[str, str, dict[str, int]]]:
    """(phase, tensor, requested bytes of every kind) after every event of the first measured step."""
    replay, seen = _warmed_up(spec, training, kernels, None), []
    replay.step(lambda phase, tensor, kinds: seen.append((phase, tensor, dict(kinds))))
    return [point for point in seen if point[0] in PHASES]


def _warmed_up(spec: RunSpec, training: TrainingSpec, kernels: CudaKernels, room: int | None) -> "Replay":
    """The run at the start of its first measured step."""
    whole = tape(structure_of(spec, kernels, unrolled=True), recipe_of(spec, training), kernels)
    evaluation = Evaluation(sizes_of(spec))
    sorts = [(evaluation.of(size), kind, name) for name, kind, size in whole.sorts]
    replay = Replay(whole, sorts, Allocator(room))
    replay.build()
    for _ in range(training.warmup_steps):
        replay.step()
    return replay


class Replay:
    """Carries out a tape with an allocator, its step as often as is wanted."""

    def __init__(self, whole: Tape, sorts: Sequence[tuple[int, str, str]], allocator: Allocator) -> None:
        self.allocator = allocator
        self._stretches = [
            (phase, [(number, *sorts[sort]) for number, sort in zip(numbers, of, strict=True) if sorts[sort][0]])
            for phase, numbers, of in _stretches(whole)
        ]
        self._live: dict[int, Block] = {}
        self._requested = 0
        self._kinds = dict.fromkeys(BUCKET_OF, 0)

    def build(self) -> None:
        """Make the model."""
        self._phase(*self._stretches[0])

    def step(self, watch: Watch | None = None) -> list[Peak]:
        """Make one step; what outlived an earlier one exists already.

        After every event `watch` is told the phase, the tensor and the live bytes of every kind.
        """
        peaks = [self._phase(*stretch, watch) for stretch in self._stretches[1:]]
        return [peak for peak in peaks if peak.phase in PHASES]

    def _phase(self, phase: str, events: Sequence[tuple[int, int, str, str]], watch: Watch | None = None) -> Peak:
        """Carry out (tensor, bytes, kind, name) events: a positive tensor is allocated, a negative one released."""
        allocator, live = self.allocator, self._live
        allocate, release = allocator.allocate, allocator.release
        self._mark(phase)
        allocator.reset_peaks()
        requested, kinds = self._requested, self._kinds
        highest, at_highest = requested, dict(kinds)
        for number, size, kind, name in events:
            if number > 0:
                if number in live:
                    continue
                live[number] = allocate(size)
                requested += size
                kinds[kind] += size
                if requested > highest:
                    highest, at_highest = requested, dict(kinds)
            else:
                release(live.pop(-number))
                requested -= size
                kinds[kind] -= size
            if watch is not None:
                watch(phase, name, kinds)
        self._requested = requested
        peak = Peak(phase, allocator.peak_allocated, highest, allocator.peak_reserved, at_highest)
        self._mark(phase)
        return peak

    def _mark(self, phase: str) -> None:
        if phase != NO_PHASE:
            self.allocator.release(self.allocator.allocate(MARK))


@lru_cache(maxsize=TAPES)
def _stretches(whole: Tape) -> list[tuple[str, list[int], list[int]]]:
    """The tape phase by phase: the tensors of its events, and the sorts of those."""
    phases = [PHASE_OF.get(pass_, "backward") for pass_, _ in whole.pieces]
    stretches = []
    for phase, events in groupby(zip(phases, whole.numbers, strict=True), key=itemgetter(0)):
        numbers = [number for _, number in events]
        stretches.append((phase, numbers, [whole.sort_of[abs(number) - 1] for number in numbers]))
    return stretches


PHASE_OF = {name: name for name in ("build", "forward", "step", NO_PHASE)} | {"after forward": "forward"}
"""The phase of each pass that is not one of backward's."""
