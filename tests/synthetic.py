"""Tables as the workflow leaves them, for runs that were never trained: measured is predicted, plus a deviation."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

from footprint.comparison import compare
from footprint.plan import run_name
from footprint.predict import predict_many, timeline
from footprint.records import MEASUREMENTS, PHASE_PEAKS, PREDICTIONS, SHARED, table, write_table
from footprint.spec import PRESETS, RunSpec
from footprint.timeline import thinned, write_timeline

DEVIATION = 1.001
"""Measured phase peaks over predicted ones."""

SMALL = PRESETS["minigpt-3m"]
HOSTILE = replace(SMALL, name="<script>alert(1)</script> a|b *x* $y$ @fig-x [l](javascript:1) `c` :::")
"""A name that no config may give a model, in case one gets into a table all the same."""

PROVENANCE = {
    "threads": 2,
    "device_name": "Test CPU, 2 cores",
    "torch_version": "2.13.0",
    "bitsandbytes_version": "0.50.2",
    "peft_version": "0.21.2",
    "git_commit": "0123456789ab",
    "measured_at": "2026-01-01T00:00:00+00:00",
    "host_driver": "Linux 6",
}


def grid(model=SMALL, **axes: Sequence) -> list[RunSpec]:
    """The product of axis values, without repetitions."""
    cells = (dict(zip(axes, values, strict=True)) for values in product(*axes.values()))
    return list(dict.fromkeys(RunSpec(model=model, **{"seq": 64} | cell) for cell in cells))


ABLATION = grid(
    regime=("full", "lora", "qlora"),
    rank=(2, 8, 32),
    targets=("all-linear", "qv"),
    checkpointing=("none", "block", "sqrt"),
)
"""Every section of the report has something to show of these."""


def measured_row(spec: RunSpec, predicted: dict, status: str) -> dict:
    """A row of measurements.csv; without memory and time unless `status` is ok."""
    row = dict.fromkeys(MEASUREMENTS) | spec.axes() | PROVENANCE | {"status": status}
    if status == "oom":
        return row | {"oom_phase": "backward", "oom_requested_bytes": 2**20}
    if status != "ok":
        return row
    row |= {name: predicted[name] for name in SHARED}
    row |= {name: round(predicted[name] * DEVIATION) for name in PHASE_PEAKS}
    peak = max(row[name] for name in PHASE_PEAKS)
    row["activations_bytes"] += peak - row["peak_bytes"]
    seconds = {"none": 0.10, "block": 0.13, "sqrt": 0.12}[spec.checkpointing]
    return row | {"peak_bytes": peak, "step_seconds": seconds, "tokens_per_second": spec.batch * spec.seq / seconds}


def write_results(
    directory: Path,
    specs: Sequence[RunSpec],
    status: Callable[[RunSpec], str] = lambda spec: "ok",
    **provenance: object,
) -> Path:
    """The three tables for these runs in `directory`, which is returned; `provenance` replaces columns of every row."""
    predicted = predict_many(specs)
    rows = [measured_row(spec, row, status(spec)) | provenance for spec, row in zip(specs, predicted, strict=True)]
    measurements, predictions = table(rows, MEASUREMENTS), table(predicted, PREDICTIONS)
    for name, frame in (
        ("measurements", measurements),
        ("predictions", predictions),
        ("comparison", compare(measurements, predictions)),
    ):
        write_table(directory / f"{name}.csv", frame)
    return directory


def write_experiment(directory: Path, specs: Sequence[RunSpec]) -> None:
    """The resolved configuration of these runs and the timelines of those without checkpointing, as measured."""
    grids = [{axis: value for axis, value in spec.axes().items() if value != "none"} for spec in specs]
    corpus = {"kind": "path", "path": "text.txt", "sha256": "0" * 64}
    config = {"experiment": "trial", "device": "cpu", "grids": grids, "corpus": corpus}
    (directory / "experiment.json").write_text(json.dumps(config))
    for spec in specs:
        if spec.checkpointing == "none":
            write_timeline(directory / "timelines" / f"{run_name(spec)}.csv", thinned(timeline(spec)))
