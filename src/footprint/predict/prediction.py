"""Prediction: bytes of every phase and bucket from a spec alone. Nothing here imports torch or was fitted."""

from collections.abc import Iterable, Mapping, Sequence

from footprint.predict.kernels.choice import kernels_for
from footprint.predict.kernels.cuda import CudaKernels
from footprint.predict.kernels.device import Kernels
from footprint.predict.parameters import resident
from footprint.predict.phases import phases, step_temporaries, unrolled
from footprint.predict.requested import requested
from footprint.predict.simulation import sampled as sampled_on_card
from footprint.predict.simulation import simulate, watched
from footprint.predict.textbook import textbook_bytes
from footprint.spec.columns import BUCKET_OF, PHASES, PREDICTIONS
from footprint.spec.run import AXES, RunSpec
from footprint.spec.timeline import SAMPLES, Point, sampled
from footprint.spec.training import TrainingSpec

ALLOCATOR = ("requested_peak_bytes", "reserved_peak_bytes", "process_peak_bytes")
"""Columns of which the first two are the peak where no allocator rounds or caches, as on the CPU."""


def predict(spec: RunSpec, training: TrainingSpec | None = None, *, room: int | None = None) -> dict[str, object]:
    """The row of `predictions.csv` for one run; `room` as `predict_many` has it."""
    return predict_many([spec], training, room=room)[0]


def predictable(specs: Iterable[RunSpec]) -> list[RunSpec]:
    """The runs that are predicted: those of this project's own loop."""
    return [spec for spec in specs if spec.stack == "minigpt"]


def predict_many(
    specs: Sequence[RunSpec], training: TrainingSpec | None = None, *, room: int | None = None
) -> list[dict[str, object]]:
    """Rows of `predictions.csv`, in order. All runs are on one device: that of the first spec.

    On a GPU every run goes through the card's allocator, one after another; on the CPU thousands are predicted at once.
    `room` is what a card has for segments: a named card's own unless given, else no end of them.
    """
    if not specs:
        return []
    training = training or TrainingSpec()
    kernels = kernels_for(specs[0].device, training, specs[0].card)
    if specs[0].device == "cuda":
        if room is None and specs[0].card is not None:
            room = kernels.card.total - kernels.card.context
        return [_simulated(spec, training, kernels, room) for spec in specs]
    columns = _columns(specs, kernels)
    columns |= dict.fromkeys(("requested_peak_bytes", "reserved_peak_bytes"), columns["peak_bytes"])
    columns["process_peak_bytes"] = [None] * len(specs)
    names = [name for name in PREDICTIONS if name not in AXES]
    rows = zip(*(columns[name] for name in names), strict=True)
    return [spec.axes() | dict(zip(names, row, strict=True)) for spec, row in zip(specs, rows, strict=True)]


def least_peaks(specs: Sequence[RunSpec], training: TrainingSpec | None = None) -> list[int]:
    """Bytes that the tensors of every run take at least at their peak, thousands of runs at once.

    On the CPU that is the peak. On a GPU the allocator adds what it rounds up and what it cannot use.
    """
    if not specs:
        return []
    kernels = kernels_for(specs[0].device, training or TrainingSpec(), specs[0].card)
    return _columns(specs, kernels)["peak_bytes"]


def _columns(specs: Sequence[RunSpec], kernels: Kernels) -> dict[str, list]:
    """The columns of requested bytes, with one entry per run. One run needs no NumPy."""
    if len(specs) == 1:
        columns = {name: [number] for name, number in requested(specs[0], phases(specs[0], kernels), kernels).items()}
    elif any(spec.gpus > 1 for spec in specs):
        return _columns_of_each(specs, kernels)
    else:
        from footprint.predict.many.columns import requested_by_many

        columns = requested_by_many(specs, kernels)
    columns["peak_phase"] = [PHASES[number] for number in columns["peak_phase"]]
    return columns


def _columns_of_each(specs: Sequence[RunSpec], kernels: Kernels) -> dict[str, list]:
    """The same where some runs are on several GPUs: these are taken one by one, those on one GPU together."""
    alone = [spec for spec in specs if spec.gpus == 1]
    together = _columns(alone, kernels) if alone else {}
    places = iter(range(len(alone)))
    found = [({}, next(places)) if spec.gpus == 1 else (_columns([spec], kernels), 0) for spec in specs]
    names = together or found[0][0]
    return {name: [(own or together)[name][place] for own, place in found] for name in names}


def _simulated(spec: RunSpec, training: TrainingSpec, kernels: CudaKernels, room: int | None) -> dict[str, object]:
    """The row of a run on a card, read from its allocator as `measure.recorded_run` reads the real one.

    The allocator empties its cache where it must. What has no room is predicted as if it had, and so takes more.
    """
    simulation = simulate(spec, training, kernels, room) or simulate(spec, training, kernels)
    peaks = simulation.peaks
    highest = max(peaks, key=lambda peak: peak.allocated)
    at_rest = resident(spec)
    row = spec.axes() | {
        "textbook_bytes": textbook_bytes(spec),
        "trainable_parameters": at_rest.trainable,
        "total_parameters": at_rest.total,
        **{f"{peak.phase}_peak_bytes": peak.allocated for peak in peaks},
        "peak_bytes": highest.allocated,
        "peak_phase": highest.phase,
        **{f"{bucket}_bytes": size for bucket, size in _buckets(highest.kinds).items()},
        **{f"{kind}_bytes": highest.kinds[kind] for kind in ("frozen_base", "adapter", "master")},
        "requested_peak_bytes": max(peak.requested for peak in peaks),
        "reserved_peak_bytes": max(peak.reserved for peak in peaks),
        "process_peak_bytes": simulation.reserved + kernels.card.context,
    }
    row["activations_bytes"] += highest.allocated - highest.requested  # what rounding adds is nobody's tensor
    return row


def _buckets(kinds: Mapping[str, int]) -> dict[str, int]:
    """Bytes of each bucket, from those of every kind."""
    sizes = dict.fromkeys(BUCKET_OF.values(), 0)
    for kind, size in kinds.items():
        sizes[BUCKET_OF[kind]] += size
    return sizes


def timeline(spec: RunSpec, training: TrainingSpec | None = None) -> list[Point]:
    """Live bytes through one step of a run, one point per predicted allocator event; on a GPU as requested."""
    training = training or TrainingSpec()
    kernels = kernels_for(spec.device, training, spec.card)
    if spec.device == "cuda":
        return [Point(phase, **_buckets(kinds)) for phase, _, kinds in watched(spec, training, kernels)]
    at_rest = resident(spec)
    points = []
    for phase, gradients, activations in unrolled(spec, kernels):
        points.append(Point(phase, at_rest.weights, gradients, at_rest.optimizer, at_rest.activations + activations))
    after = points[-1].activations
    temporary = step_temporaries(spec, at_rest, kernels)
    for extra in (0, temporary, 0):
        points.append(Point("step", at_rest.weights, at_rest.gradients, at_rest.optimizer, after + extra))
    return points


def sampled_timeline(spec: RunSpec, training: TrainingSpec | None = None, samples: int = SAMPLES) -> list[Point]:
    """So many points of every phase (`spec.timeline.sampled`) of the timeline, without making all of it on a GPU."""
    training = training or TrainingSpec()
    if spec.device == "cpu":
        return sampled(timeline(spec, training), samples)
    kernels = kernels_for(spec.device, training, spec.card)
    return [Point(phase, **_buckets(kinds)) for phase, kinds in sampled_on_card(spec, training, kernels, samples)]
