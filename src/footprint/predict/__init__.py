"""Prediction: bytes of every phase and bucket from a spec alone. Nothing here imports torch or was fitted to a measurement."""

from collections.abc import Sequence

from footprint.predict.kernels import kernels_for
from footprint.predict.parameters import Resident, resident
from footprint.predict.phases import Phases, phases, step_temporaries
from footprint.predict.textbook import textbook_bytes
from footprint.records import PREDICTIONS
from footprint.spec import RunSpec, TrainingSpec

PHASE_NAMES = ("forward", "backward", "step")

NF4_TABLES, NESTED_TABLES = 15 * 4 + 16 * 8 + 16 * 4, 256 * 4
"""Tables bitsandbytes keeps for the process: NF4's bounds (fp32), their order (int64) and levels (fp32); the levels
of the 8-bit code for nested scales. No tensor of the model refers to them, so they count as activations."""


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
    tables = (spec.regime == "qlora") * NF4_TABLES + (spec.quantization == "nf4-double") * NESTED_TABLES
    floor = at_rest.weights + at_rest.optimizer + tables
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
