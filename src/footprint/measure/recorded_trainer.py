"""A run under Transformers' Trainer, recorded as any other: the same phases, buckets and row."""

from contextlib import AbstractContextManager
from functools import partial

import torch

from footprint.measure.measurement import Measurement, measured
from footprint.measure.provenance import rehearsed
from footprint.measure.recorded_run import RecordedRun
from footprint.measure.trace.cuda import CudaRecorder
from footprint.measure.trace.reader import Trace
from footprint.spec.training import TrainingSpec
from footprint.spec.transformers_run import TransformersRun
from footprint.train.huggingface import prepare, trainer_of
from footprint.train.loop import StepResult
from footprint.train.minigpt import initialise


class RecordedTrainer(RecordedRun):
    """A run under the recorder whose steps the Trainer makes."""

    def __init__(self, spec: TransformersRun, training: TrainingSpec) -> None:
        super().__init__(spec, training)
        if spec.device == "cuda":
            self.recorder = CudaRecorder({})  # its products take the workspaces that they take for everybody

    def build(self) -> None:
        """Start the recorder, then load the model and make its Trainer."""
        self.start()
        drawn = partial(initialise, generator=torch.Generator().manual_seed(self.training.seed))
        with self.phase("build"):
            self.model = prepare(self.spec, fill=None if rehearsed() else drawn)
            self.stepper = trainer_of(self.model, self.spec, self.recorded_steps, self._step_phase)

    def record(self) -> list[StepResult]:
        """Train for the recorded steps."""
        self.stepper.train()
        self.trace = Trace(self.recorder.stop(), self.labels)
        return [StepResult(loss=loss, seconds={}) for loss in self.stepper.losses]

    def _step_phase(self, step: int, name: str, last: bool) -> AbstractContextManager:
        return self.phase(f"{step}/{name}", labelled=last)


def measure_trainer(run: TransformersRun, training: TrainingSpec) -> Measurement:
    """Measure one run in this process, as `measurement.measure` does; times are not taken."""
    recorded = RecordedTrainer(run, training)

    def train() -> tuple[list[StepResult], list[StepResult]]:
        recorded.build()
        return recorded.record(), []

    return measured(recorded, train)
