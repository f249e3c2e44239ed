"""A run on a card, simulated: its tensors in order through the card's allocator, and the peaks that come of it."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cache, lru_cache, partial

from footprint.predict import events
from footprint.predict.allocator import Allocator, DoesNotFitError, Request
from footprint.predict.collector import paused
from footprint.predict.events import NO_PHASE, Events, Kinds, Sort, Stretch
from footprint.predict.formula import Evaluation, dimension
from footprint.predict.fully_sharded import GATHERED, SCATTERED
from footprint.predict.kernels.cuda import CudaKernels
from footprint.predict.phases import structure_of
from footprint.predict.program import Sizes, Structure
from footprint.predict.sizes import sizes_of
from footprint.predict.tape import Size, Tape
from footprint.predict.unroll import Body, Few, Round, few
from footprint.predict.whole_run import Recipe, WholeRun
from footprint.spec.columns import PHASES
from footprint.spec.precision import PRECISIONS
from footprint.spec.run import RunSpec
from footprint.spec.training import TrainingSpec

MARK = 7
"""Bytes that the recorder takes and gives back where a phase begins and where it ends, three times (`MARK` of
measure/trace/cuda.py); all are rounded to one size, so once stands for them."""

MARKER = -1
"""The number of that tensor; those of a run are not negative."""

STREAM_OF = {GATHERED: 1, SCATTERED: 2}
"""The stream of tensors that are not made in the one that computes, by name."""

STRUCTURES = 256
"""Structures that are kept for further runs of theirs."""

SIMULATIONS = 256
"""Simulations that are kept: a search comes back to what it has tried."""


@dataclass(frozen=True, slots=True)
class Peak:
    """The highest point of one phase of one step. Sizes are bytes."""

    phase: str
    allocated: int
    """`max_memory_allocated`."""
    requested: int
    reserved: int
    """`max_memory_reserved`."""
    kinds: Kinds
    """What was live when requested bytes were highest."""


@dataclass(frozen=True, slots=True)
class Simulation:
    """What a measurement of a run comes to on a card."""

    peaks: list[Peak]
    """Of the first measured step, phase by phase."""
    reserved: int
    """Most bytes that are reserved, from the first to the last."""
    retries: int
    """How often the allocator had to empty its cache."""


@lru_cache(maxsize=STRUCTURES)
@paused()
def events_of(structure: Structure, recipe: Recipe, kernels: CudaKernels) -> tuple[Events, list[tuple[str, str, Size]]]:
    """The run of a structure; name, kind and size of every sort of tensor, with formulas for sizes.

    Equal blocks are run once and repeated.
    """
    shown = shown_of(structure)
    whole = tape(with_few(structure, shown), recipe, kernels)
    return events.events_of(whole, shown), whole.sorts


def shown_of(structure: Structure) -> Few:
    """The blocks that are run for all.

    FSDP2 gathers for a block what its neighbour needs, so two at each end are unlike those between.
    """
    return few(structure.segments or (structure.layers,), ends=2 if structure.sharding == "fsdp" else 1)


def with_few(structure: Structure, shown: Few) -> Structure:
    """The same with no other blocks than those."""
    lengths = {"segments": shown.lengths} if structure.segments else {"layers": sum(shown.lengths)}
    return replace(structure, stands_for=shown.of_all, **lengths)


def tape(structure: Structure, recipe: Recipe, kernels: CudaKernels) -> Tape:
    """The run of a structure, every block by itself, with formulas for sizes."""
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
    happens, sorts = _events_of(spec, training, kernels)
    heights = list(events.requested(happens, sorts, training.warmup_steps))
    if room is not None and max(highest for highest, _ in heights) > room:
        return None
    replay = Replay(happens, sorts, Allocator(room))
    try:
        replay.build()
        for _ in range(training.warmup_steps):
            replay.step()
        peaks = replay.step()
        for _ in range(2 * training.measured_steps - 1):
            if replay.steady:
                break
            replay.step()
    except DoesNotFitError:
        return None
    found = [
        Peak(phase, allocated, highest, reserved, kinds)
        for (phase, allocated, reserved), (highest, kinds) in zip(peaks, heights, strict=True)
        if phase in PHASES
    ]
    return Simulation(found, replay.reserved, replay.allocator.retries)


def watched(spec: RunSpec, training: TrainingSpec, kernels: CudaKernels) -> list[tuple[str, str, Kinds]]:
    """(phase, tensor, requested bytes of every kind) after every event of the first measured step.

    A phase in which nothing happens, as in a fused optimizer's step, is there with how it begins.
    """
    happens, sorts = _events_of(spec, training, kernels)
    kinds, seen = events.before(happens, sorts, training.warmup_steps), []
    for stretch in happens.step(training.warmup_steps):
        before = len(seen)
        for one in stretch.rounds:
            for sort in one.body.sorts * len(one.places):
                size, kind, name = sorts[sort if sort >= 0 else ~sort]
                if size:
                    kinds[kind] += size if sort >= 0 else -size
                    if stretch.phase in PHASES:
                        seen.append((stretch.phase, name, dict(kinds)))
        if stretch.phase in PHASES and len(seen) == before:
            seen.append((stretch.phase, "", dict(kinds)))
    return seen


def sampled(spec: RunSpec, training: TrainingSpec, kernels: CudaKernels, samples: int) -> list[tuple[str, Kinds]]:
    """(phase, requested bytes of every kind) at so many points of every phase of the first measured step."""
    return list(events.sampled(*_events_of(spec, training, kernels), training.warmup_steps, samples))


def _events_of(spec: RunSpec, training: TrainingSpec, kernels: CudaKernels) -> tuple[Events, list[Sort]]:
    """The events of a run, and the sorts of its tensors."""
    happens, sorts = events_of(structure_of(spec, kernels, unrolled=True), recipe_of(spec, training), kernels)
    evaluation = Evaluation(sizes_of(spec))
    return happens, [(evaluation.of(size), kind, name) for name, kind, size in sorts]


Listed = tuple[list[int], list[Request]]
"""The tensor of every event, and what is requested."""


class Replay:
    """Carries out the events of a run with an allocator, a step as often as is wanted."""

    def __init__(self, happens: Events, sorts: Sequence[Sort], allocator: Allocator) -> None:
        self.allocator = allocator
        self.reserved = 0
        """Most bytes that were reserved so far."""
        self.steady = False
        """Whether every further step is like the last: the same blocks serve the same requests."""
        self._events, self._steps = happens, 0
        asked = [(size, STREAM_OF.get(name, 0)) if size else None for size, _, name in sorts]
        made = [one and allocator.request(*one) for one in asked]
        self._requests = [*made, *(one and allocator.release(*one) for one in reversed(asked))]
        self._of_body = cache(partial(_of_body, self._requests))
        self._of_round: dict[Round, tuple[list[int], list[Request], int]] = {}
        """Every event of a round, and how often that happens: a round that gives all back is its body several times."""

    def build(self) -> None:
        """Make the model."""
        self._carry_out(self._events.build)

    def step(self) -> list[tuple[str, int, int]]:
        """Make one step; the phase of every stretch, its peaks of allocated and of reserved bytes."""
        self.allocator.watch()
        stretches = self._events.step(self._steps)
        peaks = [self._carry_out(stretch) for stretch in stretches]
        self._steps += 1
        first = len(self._events.first)
        repeats = self._steps > first or (self._steps == first and self._repeats(stretches))
        self.steady = repeats and self.allocator.alike
        return peaks

    def _repeats(self, stretches: Sequence[Stretch]) -> bool:
        """Whether a step finds in every pool what this one found, once what outlives it was made or given back there.

        DDP's buckets come before all else in their pool, an optimizer's state after much else.
        """
        begun = set()
        rounds = [one for stretch in stretches for one in stretch.rounds]
        for body in (one.body for one in rounds for _ in one.places[:2]):  # what comes again comes after itself
            for sort, lasting in zip(body.sorts, body.lasting, strict=True):
                if request := self._requests[sort]:
                    pool = id(request[-2])
                    if lasting and pool in begun:
                        return False
                    if not lasting:
                        begun.add(pool)
        return True

    def _carry_out(self, stretch: Stretch) -> tuple[str, int, int]:
        allocator = self.allocator
        self._mark(stretch.phase)
        allocator.reset_peaks()
        for one in stretch.rounds:
            numbers, requests, times = self._listed(one)
            for _ in range(times):
                made = allocator.made
                allocator.carry_out(numbers, requests)
                if allocator.made == made:  # all is as it was, and would be once more
                    break
        peaks = allocator.peak_allocated, allocator.peak_reserved
        self.reserved = max(self.reserved, allocator.peak_reserved)
        self._mark(stretch.phase)
        return stretch.phase, *peaks

    def _listed(self, one: Round) -> tuple[list[int], list[Request], int]:
        if one not in self._of_round:
            tensors, requests = self._of_body(one.body)
            times = len(one.places)
            if times > 1 and _gives_all_back(tensors, requests):
                self._of_round[one] = [one.places[0] + tensor for tensor in tensors], requests, times
            else:
                numbers = [place + tensor for place in one.places for tensor in tensors]
                self._of_round[one] = numbers, requests * times, 1
        return self._of_round[one]

    def _mark(self, phase: str) -> None:
        if phase != NO_PHASE:
            self.allocator.carry_out((MARKER, MARKER), (self.allocator.request(MARK), self.allocator.release(MARK)))


def _of_body(requests: Sequence[Request | None], body: Body) -> Listed:
    """Every event of a body, by the requests of each sort: none for a tensor of 0 bytes, to which nothing happens."""
    asked = [(tensor, requests[sort]) for tensor, sort in zip(body.tensors, body.sorts, strict=True) if requests[sort]]
    return [tensor for tensor, _ in asked], [request for _, request in asked]


def _gives_all_back(tensors: Sequence[int], requests: Sequence[Request]) -> bool:
    """Whether all tensors of these events, and no others, are made and given back in them."""
    live = set()
    for tensor, (size, *_) in zip(tensors, requests, strict=True):
        if size:
            live.add(tensor)
        elif tensor in live:
            live.remove(tensor)
        else:
            return False
    return not live
