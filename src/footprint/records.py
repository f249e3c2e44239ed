"""The rows every CSV is made of: column names and order, one JSON file per run, gathered into one table."""

import json
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from footprint.errors import FootprintError
from footprint.files import write_atomically
from footprint.spec import AXES

PHASE_PEAKS = ("forward_peak_bytes", "backward_peak_bytes", "step_peak_bytes")
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
    "device_name",
    "torch_version",
    "bitsandbytes_version",
    "peft_version",
    "git_commit",
    "measured_at",
    "host_driver",
)
PREDICTIONS = (*AXES, "textbook_bytes", *SHARED)

INTEGERS = tuple(c for c in MEASUREMENTS + PREDICTIONS if c.endswith(("_bytes", "_parameters"))) + (
    "rank",
    "batch",
    "seq",
    "threads",
)


def write_row(path: Path, row: dict, columns: tuple[str, ...]) -> None:
    """Write one run's row; its keys must be exactly `columns`."""
    if set(row) != set(columns):
        raise ValueError(f"row and columns differ by {sorted(set(row) ^ set(columns))}")
    write_atomically(path, json.dumps({name: row[name] for name in columns}, indent=1) + "\n")


def read_row(path: Path, columns: tuple[str, ...]) -> dict:
    """One run's row; FootprintError when the file is not what `write_row` wrote."""
    try:
        row = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FootprintError(f"{path}: not a readable run file ({error}); delete it and run again") from None
    if not isinstance(row, dict) or set(row) != set(columns):
        raise FootprintError(f"{path}: not a run file with the columns this version writes; delete it and run again")
    return row


def table(rows: Iterable[dict], columns: tuple[str, ...]) -> pd.DataFrame:
    """Rows as a table sorted by the axes, integer columns as nullable integers (an OOM has no peak)."""
    frame = pd.DataFrame(list(rows), columns=list(columns))
    for name in set(columns) & set(INTEGERS):
        frame[name] = frame[name].astype("Int64")
    return frame.sort_values(list(AXES), kind="stable", ignore_index=True)


def write_table(path: Path, frame: pd.DataFrame) -> None:
    """Write a CSV atomically."""
    write_atomically(path, frame.to_csv(index=False, lineterminator="\n"))


def read_table(path: Path) -> pd.DataFrame:
    """Read a CSV of this project; FootprintError when it is missing or lacks the axis columns."""
    try:
        frame = pd.read_csv(path, keep_default_na=False, na_values=[""])
    except (OSError, ValueError) as error:
        raise FootprintError(f"{path}: not a readable table ({error})") from None
    missing = sorted(set(AXES) - set(frame.columns))
    if missing:
        raise FootprintError(f"{path}: lacks the columns {', '.join(missing)}")
    for name in set(frame.columns) & set(INTEGERS):
        frame[name] = frame[name].astype("Int64")
    return frame
