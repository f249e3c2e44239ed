"""Peaks of forward, backward and optimizer step of a run, and its unrolled timeline."""

from collections.abc import Iterable, Iterator
from dataclasses import fields
from functools import cache, lru_cache
from operator import itemgetter

from footprint.predict.building import Building
from footprint.predict.collector import paused
from footprint.predict.formula import Evaluation, dimension
from footprint.predict.kernels.device import Kernels
from footprint.predict.parameters import Resident
from footprint.predict.pieces import Recording
from footprint.predict.program import Layout, Program, Sizes, Structure
from footprint.predict.sizes import sizes_of
from footprint.predict.stack import Phases, Stack, explicit, stretches
from footprint.predict.tape import ACTIVATIONS, GRADIENTS, Size, Tape
from footprint.spec.checkpointing import segment_lengths
from footprint.spec.precision import FULL, PRECISIONS
from footprint.spec.run import RunSpec

STEPS = 64
"""Structures of several GPUs that are kept for further runs of theirs."""

DIMENSIONS = tuple(field.name for field in fields(Sizes))


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
        gpus=spec.gpus,
        sharding=spec.sharding,
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
        spread=plain and spec.local_batch > 1 and queries,
        result=queries or (not plain and model.heads > 1),
        queries=queries,
        keys=keys,
        values=keys,
        transposed_keys=plain and spec.seq > 1 and not model.grouped_queries and not model.partly_rotary,
        sequences=spec.local_batch > 1,
    )


@cache
@paused()
def record(structure: Structure, kernels: Kernels) -> Recording:
    """The events of one step of a structure, with formulas for sizes."""
    return Recording(Program(structure, _formulas(), kernels).run())


def _formulas() -> Sizes:
    """Sizes that stand for those of every run of a structure."""
    return Sizes(**{name: dimension(name) for name in DIMENSIONS})


@lru_cache(maxsize=STEPS)
@paused()
def shared_step(structure: Structure, kernels: Kernels) -> Tape:
    """The events of one step of a structure that several GPUs share, every block by itself: the first of which all
    further ones are alike.
    """
    program = Program(structure, _formulas(), kernels)
    tape, building = program.shadow.tape, Building(program)
    tape.recording = False
    building.model()
    program.sharing = building.sharing()
    for _ in range(program.sharing.different_steps - 1):
        program.run()
        program.shadow.gradients.clear()
    tape.recording = True
    return program.run()


def phases(spec: RunSpec, kernels: Kernels) -> Phases:
    """Phase peaks of one run."""
    if spec.gpus > 1:
        return _phases_of(unrolled(spec, kernels))
    profiles = record(structure_of(spec, kernels), kernels).profiles(Evaluation(sizes_of(spec)))
    groups = stretches(spec.model.layers, spec.checkpointing)
    lengths = [[(stretch.length, stretch.repeats) for stretch in group] for group in groups]
    return Stack(profiles, groups, lengths).phases()


def _phases_of(points: Iterable[tuple[str, int, int]]) -> Phases:
    """Phase peaks from what is live after every event."""
    highest = {"forward": (0, 0), "backward": (0, 0)}
    for phase, gradients, activations in points:
        live = gradients + activations
        highest[phase] = max(highest[phase], (live, gradients), key=itemgetter(0))
    return Phases(highest["forward"][0], *highest["backward"], live)


def unrolled(spec: RunSpec, kernels: Kernels) -> Iterator[tuple[str, int, int]]:
    """(phase, gradients, activations) above what is at rest, after every event of forward and backward of one run."""
    structure = structure_of(spec, kernels, unrolled=True)
    tape = Program(structure, _formulas(), kernels).run() if spec.gpus == 1 else shared_step(structure, kernels)
    evaluation = Evaluation(sizes_of(spec))
    live = {GRADIENTS: 0, ACTIVATIONS: 0}
    for event in tape:
        live[event.kind] += event.sign * evaluation.of(event.size)
        yield "forward" if "forward" in event.piece[0] else "backward", live[GRADIENTS], live[ACTIVATIONS]


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
