"""Whether a finished experiment's tables are what its run files say: each made again and compared, byte by byte."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd

from footprint.comparison import compare
from footprint.config import Experiment
from footprint.errors import FootprintError
from footprint.experiment import corpus_name
from footprint.gathering import measurements
from footprint.plan import run_name
from footprint.predict import predict_many
from footprint.quality.tables import gather_bases, gather_curves, gather_quality
from footprint.records import MEASUREMENTS, PREDICTIONS, read_table, require_beside, table, table_text


def changed(experiment: Experiment, folder: Path) -> Iterator[str]:
    """A sentence for every table or timeline in `folder` that was changed after it was made."""
    for spec in experiment.runs:
        name = run_name(spec)
        try:
            timeline = folder / "timelines" / f"{name}.csv"
            require_beside(folder / "runs" / f"{name}.json", MEASUREMENTS, timeline=timeline)
        except FootprintError as error:
            yield str(error)
    for path, again in _tables(experiment, folder):
        try:
            if table_text(again()) != path.read_text(encoding="utf-8"):
                yield f"{path}: is not what its run files say; delete it and run the workflow again"
        except FootprintError as error:
            yield str(error)
        except OSError as error:
            yield f"{path}: cannot be read ({error.strerror})"


def _tables(experiment: Experiment, folder: Path) -> Iterator[tuple[Path, Callable[[], pd.DataFrame]]]:
    """Every table and how it is made, those first that others are made from."""
    study, training = experiment.study, experiment.training
    yield folder / "measurements.csv", lambda: measurements(experiment, folder / "runs")
    yield folder / "predictions.csv", lambda: table(predict_many(experiment.runs, training), PREDICTIONS)
    yield folder / "comparison.csv", lambda: _compared(experiment, folder)
    if study is not None:
        text, tuned = corpus_name(experiment.corpus), folder / "finetunings"
        yield folder / "quality.csv", lambda: gather_quality(study, training, text, tuned)
        yield folder / "curves.csv", lambda: gather_curves(study, tuned)
        yield folder / "bases.csv", lambda: gather_bases(study, training, folder / "stored")


def _compared(experiment: Experiment, folder: Path) -> pd.DataFrame:
    simulations = read_table(folder / "simulations.csv") if experiment.third_opinion else None
    return compare(read_table(folder / "measurements.csv"), read_table(folder / "predictions.csv"), simulations)
