"""The columns of every CSV, in order. Nothing here needs pandas, which a prediction should not wait for."""

from footprint.spec.run import AXES

PHASES = ("forward", "backward", "step")
"""The phases of a training step, in order."""
PHASE_PEAKS = tuple(f"{phase}_peak_bytes" for phase in PHASES)
BUCKET_BYTES = ("weights_bytes", "gradients_bytes", "optimizer_bytes", "activations_bytes")
"""The four buckets at the instant of the peak; they sum to `peak_bytes`."""

BUCKET_OF = {
    "frozen_base": "weights",
    "adapter": "weights",
    "trained": "weights",
    "master": "weights",
    "gradients": "gradients",
    "optimizer": "optimizer",
    "activations": "activations",
}
"""What a block can be, and the bucket it counts in. `activations` is everything live that is nothing else:
saved tensors, temporaries, the batch, the logits."""

WEIGHT_PARTS = ("frozen_base_bytes", "adapter_bytes", "master_bytes")
"""Parts of `weights_bytes` reported apart."""

SHARED = (
    "trainable_parameters",
    "total_parameters",
    *PHASE_PEAKS,
    "peak_bytes",
    "peak_phase",
    *BUCKET_BYTES,
    *WEIGHT_PARTS,
    "requested_peak_bytes",
    "reserved_peak_bytes",
)
"""Columns that measurements and predictions both have, on every device."""

COMPARED = (*SHARED, "process_peak_bytes")
"""The same and what the device shows as used, which is predicted for a card only."""

TIMES = (
    "timed_steps",
    "step_seconds",
    "lower_step_seconds",
    "upper_step_seconds",
    "forward_seconds",
    "backward_seconds",
    "optimizer_seconds",
    "neighbour_load",
    "tokens_per_second",
)
"""What the clock says of a run: how many steps it timed, their median and quartiles, the medians of their parts, and
the share of this run's processors that something else kept busy meanwhile."""

PROVENANCE = (
    "device_name",
    "torch_version",
    "bitsandbytes_version",
    "peft_version",
    "transformers_version",
    "git_commit",
    "measured_at",
    "host_driver",
)
"""Where and with what a row was measured."""

MEASUREMENTS = (
    *AXES,
    "status",
    *COMPARED,
    "peak_spread_bytes",
    "oom_phase",
    "oom_requested_bytes",
    *TIMES,
    "loss_first",
    "loss_last",
    "threads",
    "source",
    "card",
    *PROVENANCE,
)
PREDICTIONS = (*AXES, "textbook_bytes", *COMPARED)

EXACT = ("status", *SHARED, "peak_spread_bytes", "oom_phase", "oom_requested_bytes")
"""Columns of a measurement that another measurement gives again to the byte: same processor, versions and settings."""

SIMULATIONS = (*AXES, *PHASE_PEAKS, "peak_bytes")
"""Columns of `simulations.csv`."""

SIDES = ("measured", "predicted")

SIMULATED = {name: f"{name}_simulated" for name in (*PHASE_PEAKS, "peak_bytes")}
"""Columns of the third opinion, by their name in simulations.csv; empty where no run was simulated."""

COMPARISON = (
    *AXES,
    "status",
    "textbook_bytes",
    *(f"{name}_{side}" for name in COMPARED for side in SIDES),
    "peak_relative_error",
    "textbook_relative_error",
    *SIMULATED.values(),
)
"""Columns of `comparison.csv`, in order."""

LOSSES = ("base_bits_per_byte", "validation_bits_per_byte", "training_bits_per_byte")
"""Held-out loss before the first step and after the last; mean training loss over the last tenth of the steps."""

TUNED_RESULTS = (
    "steps",
    "peak_bytes",
    "peak_phase",
    *BUCKET_BYTES,
    *LOSSES,
    *TIMES,
    "training_seconds",
)
"""What a run leaves only when it ends well; empty where `status` is not `ok`."""

TUNED = (*AXES, "seed", "status", *TUNED_RESULTS, "learning_rate", "base", "threads", *PROVENANCE)
"""Columns of one fine-tuning's row."""

TUNED_EXACT = ("status", "steps", "peak_bytes", "peak_phase", *BUCKET_BYTES, *LOSSES)
"""Columns that another fine-tuning from the same base gives again to the bit: same processor, versions and settings."""

_PEAK = TUNED.index("peak_bytes") + 1
QUALITY = (*TUNED[:_PEAK], "peak_predicted_bytes", *TUNED[_PEAK:])
"""Columns of `quality.csv`."""

CURVES = (*AXES, "seed", "split", "step", "bits_per_byte")
"""Columns of `curves.csv`: every training loss, and the validations (`split`)."""

BASES = (
    "model",
    "storage",
    "weights_bytes",
    "pretraining_bits_per_byte",
    "finetuning_bits_per_byte",
    "weight_error",
    "base",
    *(name for name in PROVENANCE if name not in ("peft_version", "transformers_version", "host_driver")),
)
"""Columns of `bases.csv`: the base as it is stored, before any fine-tuning."""

INTEGERS = (
    *(column for column in MEASUREMENTS + PREDICTIONS if column.endswith(("_bytes", "_parameters"))),
    "rank",
    "batch",
    "seq",
    "gpus",
    "threads",
    "timed_steps",
)
