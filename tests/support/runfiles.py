"""A finished experiment as the workflow leaves it, for runs that were never trained: configuration and run files."""

import json
from dataclasses import asdict
from pathlib import Path

from synthetic import PROVENANCE, measured_row

from footprint.experiment.config import Experiment
from footprint.experiment.resolved import corpus_name, read_experiment
from footprint.predict.prediction import predict, predict_many
from footprint.spec.columns import MEASUREMENTS, PREDICTIONS
from footprint.spec.handover import asked, run_json, run_name
from footprint.spec.run import RunSpec
from footprint.spec.timeline import write_timeline
from footprint.spec.training import TrainingSpec
from footprint.tables.compare import compare
from footprint.tables.gather import measurements
from footprint.tables.rows import table, write_row, write_table

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
    path, timeline = folder / f"{run_name(spec)}.json", folder.parent / "timelines" / f"{run_name(spec)}.csv"
    write_timeline(timeline, [])
    write_row(path, row, MEASUREMENTS, settings, timeline=timeline)
    return path


def finish(folder: Path, config: dict = CONFIG) -> Experiment:
    """A whole experiment in `folder`: experiment.json, files of every run, the tables."""
    folder.mkdir(parents=True)
    (folder / "experiment.json").write_text(json.dumps(config))
    experiment = read_experiment(folder / "experiment.json")
    for spec in experiment.runs:
        write_run(folder / "runs", spec, experiment)
    measured = measurements(experiment, folder / "runs")
    predicted = table(predict_many(experiment.runs, experiment.training), PREDICTIONS)
    write_table(folder / "measurements.csv", measured)
    write_table(folder / "predictions.csv", predicted)
    write_table(folder / "comparison.csv", compare(measured, predicted))
    return experiment


def other_training(experiment: Experiment, **changes: object) -> TrainingSpec:
    """The experiment's training settings with changes."""
    return TrainingSpec(**asdict(experiment.training) | changes)
