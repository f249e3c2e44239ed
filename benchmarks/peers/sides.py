"""One side of a comparison under the project's recorder: our own run, or the program that somebody else would write."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from footprint.jobs.fresh import Row
from footprint.measure.measurement import random_batches
from footprint.measure.recorded_run import RecordedRun
from footprint.measure.tensors import live_at_peak
from footprint.measure.trace.reader import Trace
from footprint.spec.run import RunSpec
from footprint.spec.training import TrainingSpec

TheirProgram = Callable[[RecordedRun, list[Tensor]], list[float]]
"""Sets `model` and `stepper` of the run, trains on the tokens of each step in its phases, returns every step's loss."""


def batches_of(spec: RunSpec, steps: int) -> list[tuple[Tensor, Tensor]]:
    """(tokens, targets): each position's target is the next token and the last has none, as transformers shifts."""
    tokens = [tokens for tokens, _ in random_batches(spec, steps)]
    return [(x, nn.functional.pad(x[:, 1:], (0, 1), value=-100)) for x in tokens]


def record_ours(spec: RunSpec, training: TrainingSpec) -> Row:
    """Peaks, parameters, the first loss and what was live at the peak of our run; for a fresh process."""
    run = _started(spec, training)
    batches = batches_of(spec, run.recorded_steps)
    run.build()
    return _found(run, [step.loss for step in run.record(batches)])


def record_theirs(program: TheirProgram, spec: RunSpec, training: TrainingSpec) -> Row:
    """The same of their program; for a fresh process."""
    run = _started(spec, training)
    tokens = [tokens for tokens, _ in batches_of(spec, run.recorded_steps)]
    run.recorder.start()
    losses = program(run, tokens)
    run.trace = Trace(run.recorder.stop(), run.labels)
    return _found(run, losses)


def _started(spec: RunSpec, training: TrainingSpec) -> RecordedRun:
    torch.set_num_threads(training.threads)
    torch.manual_seed(training.seed)
    return RecordedRun(spec, training)


def _found(run: RecordedRun, losses: list[float]) -> Row:
    return run.memory() | run.parameter_counts() | {"loss_first": losses[0], "groups": live_at_peak(run)}
