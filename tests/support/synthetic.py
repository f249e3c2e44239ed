"""Tables as the workflow leaves them, for runs that were never trained: measured is predicted, plus a deviation."""

import json
import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import pandas as pd

from footprint.predict.prediction import predict_many, sampled_timeline
from footprint.spec.columns import BASES, BUCKET_BYTES, MEASUREMENTS, PHASE_PEAKS, PREDICTIONS, QUALITY, SHARED
from footprint.spec.handover import run_name
from footprint.spec.presets import PRESETS
from footprint.spec.run import RunSpec
from footprint.spec.timeline import write_timeline
from footprint.tables.compare import compare
from footprint.tables.rows import table, write_table

DEVIATION = 1.001
"""Measured phase peaks over predicted ones."""

SMALL = PRESETS["minigpt-3m"]
HOSTILE = replace(SMALL, name="<script>alert(1)</script> a|b *x* $y$ @fig-x [l](javascript:1) `c` :::")
"""A name that no config may give a model, in case one gets into a table all the same."""

PROVENANCE = {
    "threads": 2,
    "source": "measured",
    "card": None,
    "device_name": "Test CPU, 2 cores",
    "torch_version": "2.13.0",
    "bitsandbytes_version": "0.50.2",
    "peft_version": "0.21.2",
    "transformers_version": "5.23.1",
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
    return row | {"peak_bytes": peak} | times(spec, {"none": 0.06, "block": 0.09, "sqrt": 0.08}[spec.checkpointing])


def times(spec: RunSpec, backward: float, forward: float = 0.03, optimizer: float = 0.01) -> dict:
    """What the clock says of a run on a quiet machine: half of the steps within two hundredths of the median."""
    step = forward + backward + optimizer
    return {
        "timed_steps": 5,
        "step_seconds": step,
        "lower_step_seconds": 0.99 * step,
        "upper_step_seconds": 1.01 * step,
        "forward_seconds": forward,
        "backward_seconds": backward,
        "optimizer_seconds": optimizer,
        "neighbour_load": 0.01,
        "tokens_per_second": spec.batch * spec.seq / step,
    }


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
            write_timeline(directory / "timelines" / f"{run_name(spec)}.csv", sampled_timeline(spec))


STUDY = [
    *((spec, seed) for spec in grid(regime=("full", "lora", "qlora"), precision=("mixed",)) for seed in (0, 1, 2)),
    *((spec, 0) for spec in grid(regime=("lora", "qlora"), rank=(2, 32))),
    *((spec, 0) for spec in grid(regime=("full",), checkpointing=("block", "sqrt"))),
]
"""The runs of a quality study as the published configuration has them: (spec, seed)."""

BASE = "1234567890123456"
"""Which base the runs start from: hexadecimal digits, which now and then look like a number."""

BASE_LOSS = 3.1
"""Bits per byte of the pretrained base on held-out fine-tuning text."""


def final_loss(spec: RunSpec, seed: int) -> float:
    """A loss as studies show it: full fine-tuning lowest, higher ranks lower, quantization a little higher."""
    reached = {"full": 2.2, "lora": 2.32 - 0.01 * math.log2(max(spec.rank, 1)), "qlora": 2.36 - 0.01 * spec.rank**0.5}
    return reached[spec.regime] + 0.004 * (seed - 1)


def write_study(
    directory: Path,
    runs: Sequence[tuple[RunSpec, int]] = STUDY,
    *,
    status: Callable[[RunSpec, int], str] = lambda spec, seed: "ok",
    loss: Callable[[RunSpec, int], float] = final_loss,
    steps: int = 150,
    **columns: object,
) -> Path:
    """The three tables of a quality study in `directory`, which is returned; `columns` replaces columns of each row."""
    specs = [spec for spec, _ in runs]
    predicted = dict(zip(specs, predict_many(specs), strict=True))
    rows = [_study_row(spec, seed, predicted[spec], status(spec, seed), loss(spec, seed), steps) for spec, seed in runs]
    curves = [point for spec, seed in runs for point in _curve(spec, seed, loss(spec, seed), steps)]
    directory.mkdir(parents=True, exist_ok=True)
    quality = pd.DataFrame([row | columns for row in rows])[list(QUALITY)]
    quality.astype({"steps": "Int64", "timed_steps": "Int64"}).to_csv(directory / "quality.csv", index=False)
    pd.DataFrame(curves).to_csv(directory / "curves.csv", index=False)
    models = list(dict.fromkeys(spec.model.name for spec, _ in runs))
    pd.DataFrame(_base_rows(models)).to_csv(directory / "bases.csv", index=False)
    _declare_study(directory / "experiment.json", steps)
    return directory


def _declare_study(described: Path, steps: int) -> None:
    """Let an experiment that is described say that it has a study; its runs are not looked up there."""
    if not described.exists():
        return
    config = json.loads(described.read_text())
    pretraining = {"corpus": config["corpus"], "steps": 9, "batch": 4, "seq": 128, "learning_rate": 0.001}
    rates = dict.fromkeys(("full", "lora", "qlora"), 0.001)
    finetuning = {"steps": steps, "learning_rate": rates, "validate_every": 25, "validation_sequences": 64}
    grids = [{"model": "minigpt-3m", "regime": "full", "seq": 128}]
    config["quality"] = {"pretraining": pretraining, "finetuning": finetuning, "grids": grids}
    described.write_text(json.dumps(config))


def _study_row(spec: RunSpec, seed: int, predicted: dict, status: str, loss: float, steps: int) -> dict:
    forward = {"full": 0.03, "lora": 0.032, "qlora": 0.045}[spec.regime]
    recomputed = {"none": 0.0, "block": 0.9, "sqrt": 0.7}[spec.checkpointing]
    clock = times(spec, forward * (1.9 + recomputed), forward, 0.02 if spec.regime == "full" else 0.002)
    numbers = {
        "steps": steps,
        **{name: predicted[name] for name in ("peak_bytes", "peak_phase", *BUCKET_BYTES)},
        "base_bits_per_byte": BASE_LOSS,
        "validation_bits_per_byte": loss,
        "training_bits_per_byte": loss - 0.05,
        **clock,
        "training_seconds": clock["step_seconds"] * steps,
        "learning_rate": 1e-4 if spec.regime == "full" else 1e-3,
    }
    if status != "ok":
        numbers = dict.fromkeys(numbers)
    known = {"seed": seed, "status": status, "peak_predicted_bytes": predicted["peak_bytes"], "base": BASE}
    return spec.axes() | known | numbers | PROVENANCE


def _curve(spec: RunSpec, seed: int, loss: float, steps: int) -> Iterator[dict]:
    noise = random.Random(seed)
    fall = 5 / steps
    for step in range(steps + 1):
        value = loss + (BASE_LOSS - loss) * math.exp(-fall * step)
        point = spec.axes() | {"seed": seed, "step": step}
        if step < steps:
            yield point | {"split": "training", "bits_per_byte": value + noise.gauss(0, 0.08)}
        if step % max(1, steps // 10) == 0 or step == steps:
            yield point | {"split": "validation", "bits_per_byte": loss if step == steps else value}


def _base_rows(models: Sequence[str]) -> Iterator[dict]:
    storages = {
        "fp32": (4, 0, 0),
        "bf16": (2, 0.0016, 1e-5),
        "nf4": (0.6, 0.073, 0.021),
        "nf4-double": (0.55, 0.075, 0.022),
    }
    for model, (storage, (size, error, worse)) in product(models, storages.items()):
        yield {
            "model": model,
            "storage": storage,
            "weights_bytes": round(3_300_000 * size),
            "pretraining_bits_per_byte": 2.05 + worse,
            "finetuning_bits_per_byte": BASE_LOSS + 1.1 * worse,
            "weight_error": error,
            "base": BASE,
        } | {name: value for name, value in PROVENANCE.items() if name in BASES}
