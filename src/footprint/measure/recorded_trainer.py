"""A run under Transformers' Trainer, recorded as any other: the same phases, buckets and row."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial

import torch

from footprint.measure.measurement import Measurement, Steps, batches_needed, measured
from footprint.measure.provenance import rehearsed
from footprint.measure.recorded_run import Batches, RecordedRun
from footprint.measure.trace.cuda import CudaRecorder
from footprint.measure.trace.reader import Trace
from footprint.spec.columns import PHASES
from footprint.spec.run import RunSpec
from footprint.spec.training import TrainingSpec
from footprint.train.huggingface import examples, prepare, trainer_of
from footprint.train.loop import Clock, StepResult
from footprint.train.minigpt import initialise


class RecordedTrainer(RecordedRun):
    """A run under the recorder whose steps the Trainer makes; the recorder stops before those that are timed."""

    def __init__(self, spec: RunSpec, training: TrainingSpec, batches: Batches | None) -> None:
        super().__init__(spec, training)
        if spec.device == "cuda":
            self.recorder = CudaRecorder({})  # its products take the workspaces that they take for everybody
        # What is there before the recorder starts is not counted: the data, which on a GPU stay on the host.
        self._data = None if batches is None else examples(spec, (row for tokens, _ in batches for row in tokens))
        self.trace: Trace | None = None
        self._steps = self.recorded_steps if rehearsed() else batches_needed(training)
        self._seconds = [dict.fromkeys(PHASES, 0.0) for _ in range(self._steps)]

    def build(self) -> None:
        """Start the recorder, then load the model and make its Trainer."""
        self.start()
        torch.manual_seed(self.training.seed)
        drawn = partial(initialise, generator=torch.Generator().manual_seed(self.training.seed))
        with self.phase("build"):
            self.model = prepare(self.spec, fill=None if rehearsed() else drawn)
            told = (self.model, self.spec, self._steps, self._data)
            self.stepper = trainer_of(*told, phase=self._step_phase, begun=self.begin)

    def train(self) -> Steps:
        """Train for the recorded steps, then for the timed ones, of which a rehearsal has none."""
        self.stepper.train()
        self._stop()
        batches = self.spec.recipe.accumulation
        losses = [sum(self.stepper.losses[batches * step :][:batches]) for step in range(self._steps)]
        steps = [StepResult(loss=loss, seconds=taken) for loss, taken in zip(losses, self._seconds, strict=True)]
        return steps[: self.recorded_steps], steps[self.recorded_steps :]

    def _stop(self) -> None:
        if self.trace is None:
            self.trace = Trace(self.recorder.stop(), self.labels)

    def _step_phase(self, step: int, name: str, last: bool) -> AbstractContextManager:
        if step < self.recorded_steps:
            return self.phase(f"{step}/{name}", labelled=last)
        self._stop()
        return self._timed(step, name)

    @contextmanager
    def _timed(self, step: int, name: str) -> Iterator[None]:
        with self.neighbours.watched():
            clock = Clock(self.spec.device)
            yield
            clock.lap(name)
        self._seconds[step][name] += clock.laps[name]


def measure_trainer(spec: RunSpec, training: TrainingSpec, batches: Batches | None = None) -> Measurement:
    """Measure one run in this process, as `measurement.measure` does, on `batches` for every step or random tokens."""
    run = RecordedTrainer(spec, training, batches)

    def train() -> Steps:
        run.build()
        return run.train()

    return measured(run, train)
