"""The columns of every CSV, in order. Nothing here needs pandas, which a prediction should not wait for."""

from footprint.spec import AXES

PHASES = ("forward", "backward", "step")
"""The phases of a training step, in order."""
PHASE_PEAKS = tuple(f"{phase}_peak_bytes" for phase in PHASES)
BUCKET_BYTES = ("weights_bytes", "gradients_bytes", "optimizer_bytes", "activations_bytes")
"""The four buckets at the instant of the peak; they sum to `peak_bytes`."""

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
)
"""Columns that measurements and predictions both have."""

PROVENANCE = (
    "device_name",
    "torch_version",
    "bitsandbytes_version",
    "peft_version",
    "git_commit",
    "measured_at",
    "host_driver",
)
"""Where and with what a row was measured."""

MEASUREMENTS = (
    *AXES,
    "status",
    *SHARED,
    "requested_peak_bytes",
    "reserved_peak_bytes",
    "process_peak_bytes",
    "oom_phase",
    "oom_requested_bytes",
    "step_seconds",
    "forward_seconds",
    "backward_seconds",
    "optimizer_seconds",
    "tokens_per_second",
    "loss_first",
    "loss_last",
    "threads",
    *PROVENANCE,
)
PREDICTIONS = (*AXES, "textbook_bytes", *SHARED)

EXACT = ("status", *SHARED, "requested_peak_bytes", "reserved_peak_bytes", "oom_phase", "oom_requested_bytes")
"""Columns of a measurement that another measurement gives again to the byte: same processor, versions and settings."""

INTEGERS = (
    *(column for column in MEASUREMENTS + PREDICTIONS if column.endswith(("_bytes", "_parameters"))),
    "rank",
    "batch",
    "seq",
    "threads",
)
