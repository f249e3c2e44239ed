"""A run under the recorder: built and trained for its first steps while every allocation is written down."""

import traceback
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor, nn

from footprint.measure.kinds import Held, held, kinds
from footprint.measure.neighbours import Neighbours
from footprint.measure.trace.cpu import CpuRecorder
from footprint.measure.trace.cuda import CudaRecorder
from footprint.measure.trace.reader import Labels, Peak, Trace, TraceError
from footprint.spec.columns import PHASES
from footprint.spec.run import RunSpec
from footprint.spec.timeline import Point, sampled
from footprint.spec.training import TrainingSpec
from footprint.train.loop import StepResult, train
from footprint.train.optimizers import Schedule, build
from footprint.train.regimes import HALF_TYPES, Fill, prepare, trainable

RECORDERS = {"cpu": CpuRecorder, "cuda": CudaRecorder}

Batches = list[tuple[Tensor, Tensor]]
"""(tokens, targets) of each step, both int64 (B, S) on the CPU."""


class RecordedRun:
    """A measurement under way: what was built, which phase it is in, which tensor is what."""

    def __init__(self, spec: RunSpec, training: TrainingSpec) -> None:
        self.spec, self.training = spec, training
        self.recorder = RECORDERS[spec.device]()
        self.neighbours = Neighbours(ranks=spec.gpus > 1)
        self.phase_now = "build"
        self.labels: list[Labels] = []
        self.held: list[Held] = []
        """The parameters as they lie between steps."""

    @property
    def half(self) -> torch.dtype:
        """The half-precision type of this run."""
        return HALF_TYPES[self.training.half]

    @property
    def recorded_steps(self) -> int:
        """Steps under the recorder: the warm-up, then the measured ones."""
        return self.training.warmup_steps + self.training.measured_steps

    def start(self) -> None:
        """Start the recorder, within the memory of the card that is imitated."""
        if self.training.memory_limit is not None:
            self.recorder.limit(self.training.memory_limit)
        self.recorder.start()

    def build(self, *, fill: Fill | None = None, rate: float | None = None, schedule: Schedule | None = None) -> None:
        """Start the recorder, then build model and optimizer; every tensor of the run must come after this."""
        self.start()
        with self.phase("build"):
            self.model = prepare(self.spec, half=self.half, seed=self.training.seed, fill=fill)
            self.begin(self.model)
            self.stepper = build(self.spec, trainable(self.model), rate=rate, schedule=schedule)

    def begin(self, model: nn.Module) -> None:
        """Look at what `model` holds, as it will train: wrapped or sharded, and before its first step."""
        self.held = held(model)

    def record(self, batches: Batches) -> list[StepResult]:
        """Train on `recorded_steps` batches under the recorder and stop it."""
        steps = train(self.model, self.stepper, batches, self.spec, half=self.half, phase=self._train_phase)
        self.trace = Trace(self.recorder.stop(), self.labels)
        return steps

    def go_on(self, batches: Batches) -> list[StepResult]:
        """Train on without the recorder, whose cost the clock would see, and look who else uses the machine."""
        with self.neighbours.watched():
            return train(self.model, self.stepper, batches, self.spec, half=self.half)

    def _train_phase(self, step: int, name: str) -> AbstractContextManager:
        return self.phase(f"{step}/{name}", labelled=True)

    @contextmanager
    def phase(self, name: str, *, labelled: bool = False) -> Iterator[None]:
        """What happens inside is phase `name`; `labelled` ones have their tensors told apart at their end."""
        self.phase_now = name
        with self.recorder.phase(name):
            yield
        # Gradients exist at the end of backward only, optimizer state from the end of the first step on.
        if labelled:
            self.labels.append(Labels(name, dict(kinds(self.held, self.model, self.stepper, self.spec.device))))

    def give_up(self, error: Exception) -> None:
        """Let go of every tensor after `error`: where memory ran out, closing the recorder needs some."""
        self.model = self.stepper = None
        self.held = []
        traceback.clear_frames(error.__traceback__)

    def parameter_counts(self) -> dict[str, int]:
        """Logical parameters (an NF4 weight counts its weights, not its bytes)."""
        return {
            "trainable_parameters": sum(each.elements for each in self.held if each.parameter.requires_grad),
            "total_parameters": sum(each.elements for each in self.held),
        }

    def memory(self) -> dict[str, object]:
        """Peaks of the measured steps and the buckets at the highest."""
        first = self.training.warmup_steps
        peaks = self._peaks(first)
        for step in range(first + 1, first + self.training.measured_steps):
            if [p.kinds for p in self._peaks(step)] != [p.kinds for p in peaks]:
                raise TraceError(f"steps {first} and {step} of {self.spec.axes()} did not peak alike")
        totals = [self.recorder.allocated(peak) for peak in peaks]
        highest = max(zip(totals, peaks, strict=True), key=lambda pair: pair[0])
        return self._peak_columns(peaks, totals) | self._bucket_columns(*highest)

    def timeline(self) -> list[Point]:
        """Live bytes of each bucket through the first measured step."""
        first = self.training.warmup_steps
        points = self.trace.timeline(f"{first}/{name}" for name in PHASES)
        return sampled([Point(phase_name(phase), **sizes) for phase, sizes in points])

    def _peak_columns(self, peaks: list[Peak], totals: list[int]) -> dict[str, object]:
        row = {f"{name}_peak_bytes": total for name, total in zip(PHASES, totals, strict=True)}
        return row | {
            "requested_peak_bytes": max(peak.total for peak in peaks),
            "reserved_peak_bytes": self.recorder.reserved([peak.phase for peak in peaks], totals),
        }

    def _bucket_columns(self, total: int, peak: Peak) -> dict[str, object]:
        """Buckets at the peak; what the allocator adds by rounding is nobody's tensor and counts as activations."""
        row = {"peak_bytes": total, "peak_phase": phase_name(peak.phase)}
        row |= {f"{bucket}_bytes": size for bucket, size in peak.buckets.items()}
        row |= {f"{kind}_bytes": peak.kinds[kind] for kind in ("frozen_base", "adapter", "master")}
        row["activations_bytes"] += total - peak.total
        return row

    def _peaks(self, step: int) -> list[Peak]:
        return [self.trace.peak(f"{step}/{name}") for name in PHASES]

    def over_limit(self) -> dict[str, object] | None:
        """On the CPU a smaller card is imitated from the trace: the columns of the first allocation it had no room for.

        None where everything fits, and on CUDA, whose allocator has refused it already.
        """
        limit = self.training.memory_limit
        if limit is None or self.spec.device == "cuda":
            return None
        event = self.trace.first_over(limit)
        if event is None:
            return None
        return {"status": "oom", "oom_phase": phase_name(event.phase), "oom_requested_bytes": event.delta}


def phase_name(phase: str) -> str:
    """`forward` from `2/forward`."""
    return phase.split("/")[-1]
