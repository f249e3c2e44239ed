"""One measurement: build, train a few steps under a recorder, and turn the trace into one row."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite

import torch

from footprint.errors import FootprintError
from footprint.measure.provenance import provenance, rehearsed
from footprint.measure.recorded_run import Batches, RecordedRun, phase_name
from footprint.measure.tensors import Groups, live_at_peak
from footprint.spec.columns import MEASUREMENTS, PHASES
from footprint.spec.run import RunSpec
from footprint.spec.timeline import Point
from footprint.spec.training import TrainingSpec
from footprint.train.loop import StepResult

TIMED_STEPS = 5
"""Fewest steps against the clock: fewer show no spread."""


def random_batches(spec: RunSpec, steps: int, seed: int = 0) -> Batches:
    """`steps` pairs of random tokens and targets, each int64 (B, S); allocation does not depend on what they say."""
    generator = torch.Generator().manual_seed(seed)
    shape = (2, spec.batch, spec.seq)
    return [tuple(torch.randint(0, spec.model.vocab, shape, generator=generator)) for _ in range(steps)]


def batches_needed(training: TrainingSpec) -> int:
    """Steps of one measurement: warm-up and measured ones under the recorder, then those against the clock."""
    return training.warmup_steps + training.measured_steps + _after_the_recorder(training)


def _after_the_recorder(training: TrainingSpec) -> int:
    """As many steps as before, which a prediction of the card's cache counts on; at least TIMED_STEPS for a clock."""
    return training.measured_steps if rehearsed() else max(training.measured_steps, TIMED_STEPS)


def require_device(device: str, card: str | None = None) -> None:
    """Raise FootprintError when there is no such device here, or a pretended one where a real one is wanted."""
    if rehearsed() and card is None:
        raise FootprintError("card: null asks for a real device, and this process has a pretended one; name the card")
    if device == "cuda" and not torch.cuda.is_available():
        raise FootprintError(
            f"device: cuda is not usable here with PyTorch {torch.__version__}; "
            "use device=cpu or install a CUDA build of PyTorch on a machine with a GPU"
        )


@dataclass(frozen=True, slots=True)
class Measurement:
    """What one measured run leaves behind."""

    row: dict[str, object]
    """The row of `measurements.csv`."""
    timeline: list[Point]
    """Live bytes through the first measured step; empty unless `status` is `ok`."""
    live: Groups
    """What was live at the peak; empty unless `status` is `ok`."""


def measure(spec: RunSpec, training: TrainingSpec, batches: Batches) -> Measurement:
    """Measure one run in this process, on `batches_needed(training)` batches.

    Call it once per fresh process and before any other tensor exists. Running out of memory is a row
    with `status: oom`, a loss that is not a number one with `status: diverged`.
    """
    run = RecordedRun(spec, training)

    def train() -> Steps:
        run.build(fill=nothing if rehearsed() else None)
        return run.record(batches[: run.recorded_steps]), run.go_on(batches[run.recorded_steps :])

    return measured(run, train)


def nothing(tensor: torch.Tensor, name: str) -> None:
    """Draws no weights: kernels that do nothing never look at them."""


Steps = tuple[list[StepResult], list[StepResult]]
"""What the steps under the recorder did, and those after it."""


def measured(run: RecordedRun, train: Callable[[], Steps]) -> Measurement:
    """What `train`, which builds the run and trains it, needed."""
    torch.set_num_threads(run.training.threads)
    torch.manual_seed(run.training.seed)
    row = dict.fromkeys(MEASUREMENTS) | run.spec.axes() | provenance() | run.recorder.device()
    row |= {
        "threads": run.training.threads,
        "card": run.spec.card,
        "source": "rehearsed" if rehearsed() else "measured",
    }
    try:
        recorded, timed = train()
    except (RuntimeError, MemoryError) as error:
        if not _is_out_of_memory(error):
            raise
        requested = run.recorder.requested_at_failure(error)
        run.give_up(error)
        row |= {"status": "oom", "oom_phase": phase_name(run.phase_now), "oom_requested_bytes": requested}
        return Measurement(row, [], Groups())
    finally:
        run.recorder.close()
    row |= {"process_peak_bytes": run.recorder.process_peak()} | run.parameter_counts()
    row |= _outcome(run, recorded + timed)
    if row["status"] != "ok":
        return Measurement(row, [], Groups())
    row |= run.memory()
    if timed and not rehearsed():
        row |= _timing(timed, run)
    return Measurement(row, run.timeline(), live_at_peak(run))


_OUT_OF_MEMORY = (
    "can't allocate memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC",
)
"""How others than CUDA's caching allocator say that memory ran out: the CPU's, and libraries that take some past it."""


def _is_out_of_memory(error: Exception) -> bool:
    known = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return known or any(words in str(error) for words in _OUT_OF_MEMORY)


def _outcome(run: RecordedRun, steps: list[StepResult]) -> dict[str, object]:
    """How the run ended, and its losses if it ended well: a card it does not fit would have ended it before any."""
    over = run.over_limit()
    if over is not None:
        return over
    if rehearsed():  # kernels did nothing, so there is no loss
        return {"status": "ok"}
    losses = [step.loss for step in steps]
    if not all(map(isfinite, losses)):
        return {"status": "diverged"}
    return {"status": "ok", "loss_first": losses[0], "loss_last": losses[-1]}


def _timing(timed: list[StepResult], run: RecordedRun) -> dict[str, float | None]:
    """Medians over the steps that ran without the recorder, in seconds, with their quartiles and the neighbours' load.

    Of an even number of steps the lower of the middle two counts, which something else on the machine disturbed less.
    """
    steps = [sum(step.seconds.values()) for step in timed]
    total = statistics.median_low(steps)
    lower, _, upper = statistics.quantiles(steps, n=4, method="inclusive") if len(steps) > 1 else (None, None, None)
    split = {name: statistics.median_low(step.seconds[name] for step in timed) for name in PHASES}
    return {
        "timed_steps": len(steps),
        "step_seconds": total,
        "lower_step_seconds": lower,
        "upper_step_seconds": upper,
        "forward_seconds": split["forward"],
        "backward_seconds": split["backward"],
        "optimizer_seconds": split["step"],
        "neighbour_load": run.neighbours.load,
        "tokens_per_second": run.spec.batch * run.spec.seq / total,
    }
