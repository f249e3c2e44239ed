"""Prediction: bytes of every phase and bucket from a spec alone. Nothing here imports torch or was fitted to a measurement."""

from collections.abc import Sequence

from footprint.predict.kernels import kernels_for
from footprint.predict.parameters import Resident, resident
from footprint.predict.phases import Phases, phases, step_temporaries, unrolled
from footprint.predict.textbook import textbook_bytes
from footprint.records import PREDICTIONS
from footprint.spec import RunSpec, TrainingSpec
from footprint.timeline import Point

PHASE_NAMES = ("forward", "backward", "step")

def predict(spec: RunSpec, training: TrainingSpec | None = None) -> dict[str, object]:
    """The row of `predictions.csv` for one run."""
    return predict_many([spec], training)[0]


def predict_many(specs: Sequence[RunSpec], training: TrainingSpec | None = None) -> list[dict[str, object]]:
    """Rows of `predictions.csv`, in order. All runs are on one device: that of the first spec."""
    if not specs:
        return []
    training = training or TrainingSpec()
    found = phases(specs, kernels_for(specs[0].device, training))
    return [_row(spec, resident(spec), found, index) for index, spec in enumerate(specs)]


def _row(spec: RunSpec, at_rest: Resident, found: Phases, index: int) -> dict[str, object]:
    floor = at_rest.weights + at_rest.optimizer + at_rest.activations
    after_backward = int(found.after_backward[index])
    peaks = {
        "forward": (floor + int(found.forward[index]), 0),
        "backward": (floor + int(found.backward[index]), int(found.backward_gradients[index])),
        "step": (
            floor + after_backward + step_temporaries(spec, at_rest.stepped, at_rest.stepped_elements),
            at_rest.gradients,
        ),
    }
    highest = max(PHASE_NAMES, key=lambda name: peaks[name][0])
    peak, gradients = peaks[highest]
    row = dict.fromkeys(PREDICTIONS) | spec.axes()
    row |= {f"{name}_peak_bytes": peaks[name][0] for name in PHASE_NAMES}
    return row | {
        "textbook_bytes": textbook_bytes(spec),
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
    at_rest = resident(spec)
    rest = at_rest.activations
    points = []
    for phase, gradients, activations in unrolled(spec, kernels_for(spec.device, training)):
        points.append(Point(phase, at_rest.weights, gradients, at_rest.optimizer, rest + activations))
    after = points[-1].activations
    temporary = step_temporaries(spec, at_rest.stepped, at_rest.stepped_elements)
    for extra in (0, temporary, 0):
        points.append(Point("step", at_rest.weights, at_rest.gradients, at_rest.optimizer, after + extra))
    return points
