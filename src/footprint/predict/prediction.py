"""Prediction: bytes of every phase and bucket from a spec alone. Nothing here imports torch or was fitted."""

from collections.abc import Sequence

import numpy as np

from footprint.predict.alike import Runs, alike
from footprint.predict.kernels import Kernels, kernels_for
from footprint.predict.parameters import resident
from footprint.predict.phases import Phases, phases, step_temporaries, unrolled
from footprint.predict.tape import Size
from footprint.predict.textbook import textbook_bytes
from footprint.spec.columns import PHASE_PEAKS, PHASES, PREDICTIONS
from footprint.spec.run import AXES, RunSpec
from footprint.spec.timeline import Point
from footprint.spec.training import TrainingSpec


def predict(spec: RunSpec, training: TrainingSpec | None = None) -> dict[str, object]:
    """The row of `predictions.csv` for one run."""
    return predict_many([spec], training)[0]


def predict_many(specs: Sequence[RunSpec], training: TrainingSpec | None = None) -> list[dict[str, object]]:
    """Rows of `predictions.csv`, in order. All runs are on one device: that of the first spec."""
    if not specs:
        return []
    training = training or TrainingSpec()
    kernels = kernels_for(specs[0].device, training)
    found = phases(specs, kernels)
    numbers = {name: np.empty(len(specs), dtype=np.int64) for name in PREDICTIONS if name not in AXES}
    for indices, runs in alike(specs):
        for name, values in _numbers(runs, found.of(indices), kernels).items():
            numbers[name][indices] = values
    columns = {name: column.tolist() for name, column in numbers.items()}
    columns["peak_phase"] = [PHASES[number] for number in columns["peak_phase"]]
    rows = zip(*columns.values(), strict=True)
    return [spec.axes() | dict(zip(columns, row, strict=True)) for spec, row in zip(specs, rows, strict=True)]


def _numbers(runs: Runs, found: Phases, kernels: Kernels) -> dict[str, Size]:
    """The columns of runs that are alike; `peak_phase` as a number."""
    at_rest = resident(runs, kernels.granularity)
    floor = at_rest.weights + at_rest.optimizer + at_rest.activations + kernels.held
    in_step = found.after_backward + step_temporaries(runs, at_rest, kernels)
    peaks = floor + np.array([found.forward, found.backward, in_step])
    collected = np.zeros_like(peaks)
    collected[1:] = found.backward_gradients, at_rest.gradients
    highest, run = peaks.argmax(axis=0), np.arange(peaks.shape[1])
    peak, gradients = peaks[highest, run], collected[highest, run]
    return dict(zip(PHASE_PEAKS, peaks, strict=True)) | {
        "textbook_bytes": textbook_bytes(runs),
        "trainable_parameters": at_rest.trainable,
        "total_parameters": at_rest.total,
        "peak_bytes": peak,
        "peak_phase": highest,
        "weights_bytes": at_rest.weights,
        "gradients_bytes": gradients,
        "optimizer_bytes": at_rest.optimizer,
        "activations_bytes": peak - at_rest.weights - at_rest.optimizer - gradients,
        "frozen_base_bytes": at_rest.frozen_base,
        "adapter_bytes": at_rest.adapter,
        "master_bytes": at_rest.master,
    }


def timeline(spec: RunSpec, training: TrainingSpec | None = None) -> list[Point]:
    """Live bytes through one step of a run, one point per predicted allocator event."""
    training = training or TrainingSpec()
    kernels = kernels_for(spec.device, training)
    at_rest = resident(spec, kernels.granularity)
    rest = at_rest.activations + kernels.held
    points = []
    for phase, gradients, activations in unrolled(spec, kernels):
        points.append(Point(phase, at_rest.weights, gradients, at_rest.optimizer, rest + activations))
    after = points[-1].activations
    temporary = step_temporaries(spec, at_rest, kernels)
    for extra in (0, temporary, 0):
        points.append(Point("step", at_rest.weights, at_rest.gradients, at_rest.optimizer, after + extra))
    return points
