"""One measurement: build, train a few steps under a recorder, and turn the trace into one row."""

import statistics
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from math import isfinite

import torch
from torch import Tensor, nn

from footprint.errors import FootprintError
from footprint.optimizers import MasterStepper, Stepper, build
from footprint.provenance import provenance
from footprint.records import MEASUREMENTS
from footprint.regimes import prepare, trainable
from footprint.spec import RunSpec, TrainingSpec
from footprint.timeline import Point, thinned
from footprint.trace.cpu import CpuRecorder
from footprint.trace.cuda import CudaRecorder
from footprint.trace.reader import Labels, Peak, Trace, TraceError
from footprint.training import PHASES, StepResult, train

HALF_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
_RECORDERS = {"cpu": CpuRecorder, "cuda": CudaRecorder}

Batches = list[tuple[Tensor, Tensor]]
"""(tokens, targets) of each step, both int64 (B, S) on the CPU."""


def batches_needed(training: TrainingSpec) -> int:
    """Steps of one measurement: warm-up and measured ones under the recorder, then as many again against the clock."""
    return training.warmup_steps + 2 * training.measured_steps


def require_device(device: str) -> None:
    """Raise FootprintError when there is no such device here."""
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


def measure(spec: RunSpec, training: TrainingSpec, batches: Batches) -> Measurement:
    """Measure one run in this process.

    Call it once per fresh process and before any other tensor exists. Running out of memory is a row
    with `status: oom`, a loss that is not a number one with `status: diverged`.
    """
    torch.set_num_threads(training.threads)
    torch.manual_seed(training.seed)
    run = _Run(spec, training)
    row = dict.fromkeys(MEASUREMENTS) | spec.axes() | provenance() | run.recorder.device()
    row |= {"threads": training.threads}
    try:
        steps, timed = run.execute(batches)
    except RuntimeError as error:
        if not _is_out_of_memory(error):
            raise
        requested = run.recorder.requested_at_failure(error)
        row |= {"status": "oom", "oom_phase": _phase_name(run.phase_now), "oom_requested_bytes": requested}
        return Measurement(row, [])
    row |= {"process_peak_bytes": run.recorder.process_peak()} | run.parameter_counts()
    row |= _timing(timed, spec) | _losses(steps + timed)
    if row["status"] is None:
        row |= run.memory()
    return Measurement(row, run.timeline() if row["status"] == "ok" else [])


class _Run:
    """A measurement under way: what was built, which phase it is in, which tensor is what."""

    def __init__(self, spec: RunSpec, training: TrainingSpec) -> None:
        self.spec, self.training = spec, training
        self.recorder = _RECORDERS[spec.device]()
        self.phase_now = "build"
        self.labels: list[Labels] = []

    def execute(self, batches: Batches) -> tuple[list[StepResult], list[StepResult]]:
        """Train under the recorder, then without it for the clock; returns the results of both."""
        spec, half = self.spec, HALF_TYPES[self.training.half]
        recorded = self.training.warmup_steps + self.training.measured_steps
        if self.training.memory_limit is not None:
            self.recorder.limit(self.training.memory_limit)
        self.recorder.start()
        with self._phase("build"):
            self.model = prepare(spec, half=half, seed=self.training.seed)
            self.stepper = build(spec, trainable(self.model))
        steps = train(self.model, self.stepper, batches[:recorded], spec, half=half, phase=self._train_phase)
        self.trace = Trace(self.recorder.stop(), self.labels)
        return steps, train(self.model, self.stepper, batches[recorded:], spec, half=half)

    def _train_phase(self, step: int, name: str) -> AbstractContextManager:
        return self._phase(f"{step}/{name}")

    @contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        self.phase_now = name
        with self.recorder.phase(name):
            yield
        # Gradients exist at the end of backward only, optimizer state from the end of the first step on.
        if name != "build":
            self.labels.append(Labels(name, dict(_kinds(self.model, self.stepper))))

    def parameter_counts(self) -> dict[str, int]:
        """Logical parameters (an NF4 weight counts its weights, not its bytes)."""
        return {
            "trainable_parameters": sum(p.numel() for p in trainable(self.model)),
            "total_parameters": sum(_logical_size(p) for p in self.model.parameters()),
        }

    def memory(self) -> dict[str, object]:
        """Peaks of the measured steps and the buckets at the highest; an exceeded `memory_limit` is an oom."""
        over = self._over_limit()
        if over is not None:
            return over
        first = self.training.warmup_steps
        peaks = self._peaks(first)
        for step in range(first + 1, first + self.training.measured_steps):
            if [p.kinds for p in self._peaks(step)] != [p.kinds for p in peaks]:
                raise TraceError(f"steps {first} and {step} of {self.spec.axes()} did not peak alike")
        highest = max(peaks, key=lambda peak: peak.total)
        totals = [self.recorder.allocated(peak) for peak in peaks]
        highest = max(zip(totals, peaks, strict=True), key=lambda pair: pair[0])
        return {"status": "ok"} | self._peak_columns(peaks, totals) | self._bucket_columns(*highest)

    def timeline(self) -> list[Point]:
        """Live bytes of each bucket through the first measured step."""
        first = self.training.warmup_steps
        points = self.trace.timeline(f"{first}/{name}" for name in PHASES)
        return thinned([Point(_phase_name(phase), **sizes) for phase, sizes in points])

    def _peak_columns(self, peaks: list[Peak], totals: list[int]) -> dict[str, object]:
        reserved = self.recorder.reserved(peak.phase for peak in peaks)
        row = {f"{name}_peak_bytes": total for name, total in zip(PHASES, totals, strict=True)}
        return row | {
            "requested_peak_bytes": max(peak.total for peak in peaks),
            "reserved_peak_bytes": max(totals) if reserved is None else reserved,
        }

    def _bucket_columns(self, total: int, peak: Peak) -> dict[str, object]:
        """Buckets at the peak; what the allocator adds by rounding is nobody's tensor and counts as activations."""
        row = {"peak_bytes": total, "peak_phase": _phase_name(peak.phase)}
        row |= {f"{bucket}_bytes": size for bucket, size in peak.buckets.items()}
        row |= {f"{kind}_bytes": peak.kinds[kind] for kind in ("frozen_base", "adapter", "master")}
        row["activations_bytes"] += total - peak.total
        return row

    def _peaks(self, step: int) -> list[Peak]:
        return [self.trace.peak(f"{step}/{name}") for name in PHASES]

    def _over_limit(self) -> dict[str, object] | None:
        """On the CPU a smaller card is imitated from the trace: the first allocation that would not have fitted."""
        limit = self.training.memory_limit
        if limit is None or self.spec.device == "cuda":
            return None
        event = self.trace.first_over(limit)
        if event is None:
            return None
        return {"status": "oom", "oom_phase": _phase_name(event.phase), "oom_requested_bytes": event.delta}


def _kinds(model: nn.Module, stepper: Stepper | MasterStepper) -> Iterator[tuple[int, str]]:
    """(storage address, kind) of every tensor that is not an activation; later entries win."""
    for tensor in stepper.states():
        yield _address(tensor), "optimizer"
    for tensor in stepper.masters():
        yield _address(tensor), "master"
    adapters = any(not p.requires_grad for p in model.parameters())
    for parameter in model.parameters():
        if not parameter.requires_grad:
            yield from ((_address(part), "frozen_base") for part in _frozen_parts(parameter))
            continue
        yield _address(parameter), "adapter" if adapters else "trained"
        if parameter.grad is not None:
            yield _address(parameter.grad), "gradients"
    yield from ((_address(buffer), "frozen_base") for buffer in model.buffers())


def _frozen_parts(parameter: Tensor) -> Iterator[Tensor]:
    """The tensor itself and, for NF4, its scales and code books."""
    yield parameter
    state = getattr(parameter, "quant_state", None)
    while state is not None:
        yield from (value for value in vars(state).values() if isinstance(value, Tensor))
        state = state.state2


def _logical_size(parameter: Tensor) -> int:
    state = getattr(parameter, "quant_state", None)
    return parameter.numel() if state is None else state.shape.numel()


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _phase_name(phase: str) -> str:
    """`forward` from `2/forward`."""
    return phase.split("/")[-1]


def _losses(steps: list[StepResult]) -> dict[str, object]:
    losses = [step.loss for step in steps]
    if not all(map(isfinite, losses)):
        return {"status": "diverged"}
    return {"loss_first": losses[0], "loss_last": losses[-1]}


def _timing(timed: list[StepResult], spec: RunSpec) -> dict[str, float]:
    """Medians over the steps that ran without the recorder, in seconds."""
    total = statistics.median(sum(step.seconds.values()) for step in timed)
    split = {name: statistics.median(step.seconds[name] for step in timed) for name in PHASES}
    return {
        "step_seconds": total,
        "forward_seconds": split["forward"],
        "backward_seconds": split["backward"],
        "optimizer_seconds": split["step"],
        "tokens_per_second": spec.batch * spec.seq / total,
    }
