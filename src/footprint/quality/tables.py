"""The tables of a quality study: their columns, and how they are gathered from one file per run."""

from dataclasses import asdict
from pathlib import Path

import pandas as pd

from footprint.columns import BUCKET_BYTES, PROVENANCE
from footprint.files import unreadable
from footprint.gathering import gather
from footprint.plan import asked
from footprint.predict import predict_many
from footprint.quality.study import Study, TunedRun
from footprint.records import read_table, require_beside
from footprint.spec import AXES, TrainingSpec

LOSSES = ("base_bits_per_byte", "validation_bits_per_byte", "training_bits_per_byte")
"""Held-out loss before the first step and after the last; mean training loss over the last tenth of the steps."""

RESULTS = (
    "steps",
    "peak_bytes",
    "peak_phase",
    *BUCKET_BYTES,
    *LOSSES,
    "step_seconds",
    "forward_seconds",
    "backward_seconds",
    "optimizer_seconds",
    "tokens_per_second",
    "training_seconds",
)
"""What a run leaves only when it ends well; empty where `status` is not `ok`."""

TUNED = (*AXES, "seed", "status", *RESULTS, "learning_rate", "base", "threads", *PROVENANCE)
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
    *(name for name in PROVENANCE if name not in ("peft_version", "host_driver")),
)
"""Columns of `bases.csv`: the base as it is stored, before any fine-tuning."""

_INTEGERS = ("steps", "peak_bytes", "peak_predicted_bytes", *BUCKET_BYTES, "threads", "seed", "rank", "batch", "seq")


def gather_quality(study: Study, training: TrainingSpec, text: str, folder: Path) -> pd.DataFrame:
    """`quality.csv` from the row of every run in `folder`, with the peak as predicted beside the measured one.

    `text` is the file name of the corpus the runs are fine-tuned on.
    """
    rows = gather(folder, {run.name: _asked(study, run, training, text) for run in study.runs}, TUNED)
    predictions = predict_many([run.spec for run in study.runs], training)
    for row, predicted in zip(rows, predictions, strict=True):
        row["peak_predicted_bytes"] = predicted["peak_bytes"]
    frame = pd.DataFrame(rows, columns=list(QUALITY))
    for name in _INTEGERS:
        frame[name] = frame[name].astype("Int64")
    return frame.sort_values([*AXES, "seed"], kind="stable", ignore_index=True)


def _asked(study: Study, run: TunedRun, training: TrainingSpec, text: str) -> dict[str, object]:
    """What the job of a fine-tuning is told."""
    base = f"{study.base_of(run, training)}.safetensors"
    return asked(run.json(training), text, base=base, **asdict(study.finetuning.pace(run.spec.regime)))


def gather_bases(study: Study, training: TrainingSpec, folder: Path) -> pd.DataFrame:
    """`bases.csv` from the rows of every base in `folder`."""
    frames = [_stored(folder / f"{base}.csv") for base in study.bases(training)]
    return pd.concat(frames, ignore_index=True)[list(BASES)]


def _stored(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path, dtype={"base": str})[list(BASES)]
    except (OSError, ValueError, KeyError) as error:
        raise unreadable(path, "table", error) from None


def gather_curves(study: Study, folder: Path) -> pd.DataFrame:
    """`curves.csv` from the points of every run in `folder`."""
    for run in study.runs:
        require_beside(folder / f"{run.name}.json", TUNED, curve=folder / f"{run.name}.csv")
    return pd.concat([read_table(folder / f"{run.name}.csv") for run in study.runs], ignore_index=True)[list(CURVES)]
