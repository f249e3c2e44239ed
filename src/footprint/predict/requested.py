"""The columns of requested bytes: what is at rest and what each phase adds to it."""

from footprint.predict.arithmetic import maximum, where
from footprint.predict.kernels.device import Kernels
from footprint.predict.parameters import resident
from footprint.predict.phases import step_temporaries
from footprint.predict.stack import Phases
from footprint.predict.tape import Size
from footprint.predict.textbook import textbook_bytes
from footprint.spec.columns import PHASE_PEAKS
from footprint.spec.run import RunSpec


def requested(runs: RunSpec, found: Phases, kernels: Kernels) -> dict[str, Size]:
    """The columns of a run, or of runs that are alike, whose phases are given; `peak_phase` as a number."""
    at_rest = resident(runs)
    floor = at_rest.weights + at_rest.optimizer + at_rest.activations + 2 * kernels.workspace
    in_step = found.after_backward + step_temporaries(runs, at_rest, kernels)
    peaks = [floor + above for above in (found.forward, found.backward, in_step)]
    forward, backward, _ = peaks
    peak = maximum(*peaks)
    highest = where(forward == peak, 0, where(backward == peak, 1, 2))
    gradients = where(highest == 0, 0, where(highest == 1, found.backward_gradients, at_rest.gradients))
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
