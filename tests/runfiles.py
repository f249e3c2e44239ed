"""A finished experiment as the workflow leaves it, for runs that were never trained: configuration and run files."""

import json
from dataclasses import asdict
from pathlib import Path

from synthetic import PROVENANCE, measured_row

from footprint.config import Experiment
from footprint.experiment import corpus_name, read_experiment
from footprint.gathering import measurements
from footprint.plan import asked, run_json, run_name
from footprint.predict import predict
from footprint.records import MEASUREMENTS, write_row, write_table
from footprint.spec import RunSpec, TrainingSpec

CONFIG = {
    "experiment": "trial",
    "device": "cpu",
    "grids": [{"model": "minigpt-3m", "regime": ["full", "lora", "qlora"], "rank": [2, 8], "seq": 64}],
    "corpus": {"kind": "path", "path": "text.txt", "sha256": "0" * 64},
}


def write_run(folder: Path, spec: RunSpec, experiment: Experiment, told: dict | None = None, **columns: object) -> Path:
    """The file of one run; `told` replaces what its job was told, `columns` what it measured."""
    row = measured_row(spec, predict(spec), "ok") | PROVENANCE | columns
    settings = asked(run_json(spec, experiment.training), corpus_name(experiment.corpus)) if told is None else told
    path = folder / f"{run_name(spec)}.json"
    write_row(path, row, MEASUREMENTS, settings)
    return path


def finish(folder: Path, config: dict = CONFIG) -> Experiment:
    """A whole experiment in `folder`: experiment.json, a file per run, measurements.csv."""
    folder.mkdir(parents=True)
    (folder / "experiment.json").write_text(json.dumps(config))
    experiment = read_experiment(folder / "experiment.json")
    for spec in experiment.runs:
        write_run(folder / "runs", spec, experiment)
    write_table(folder / "measurements.csv", measurements(experiment, folder / "runs"))
    return experiment


def other_training(experiment: Experiment, **changes: object) -> TrainingSpec:
    """The experiment's training settings with changes."""
    return TrainingSpec(**asdict(experiment.training) | changes)
