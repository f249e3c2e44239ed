"""The tables of a quality study: their columns, and how they are gathered from one file per run."""

from dataclasses import asdict
from pathlib import Path

import pandas as pd

from footprint.files import unreadable
from footprint.predict.prediction import predict_many
from footprint.quality.study import Study, TunedRun
from footprint.spec.columns import BASES, BUCKET_BYTES, CURVES, QUALITY, TUNED
from footprint.spec.handover import asked
from footprint.spec.run import AXES
from footprint.spec.training import TrainingSpec
from footprint.tables.gather import gather
from footprint.tables.rows import read_table, require_beside

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
