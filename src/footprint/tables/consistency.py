"""Whether a finished experiment's tables are what its run files say: each made again and compared, byte by byte."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from footprint.errors import FootprintError
from footprint.experiment.config import Experiment
from footprint.experiment.resolved import corpus_name
from footprint.files import MADE_ANEW, read_text
from footprint.predict.prediction import predict_many, predictable
from footprint.spec.columns import MEASUREMENTS, PREDICTIONS, TUNED
from footprint.spec.handover import run_name
from footprint.tables.compare import compare
from footprint.tables.gather import measurements
from footprint.tables.quality import gather_bases, gather_curves, gather_quality
from footprint.tables.rows import read_table, require_beside, table, table_text


@dataclass(frozen=True)
class _Table:
    """A table that can be made again."""

    path: Path
    again: Callable[[], pd.DataFrame]
    sources: tuple[Path, ...] = ()
    """Tables it is made of, besides run files."""


def changed(experiment: Experiment, folder: Path, distrusted: Collection[Path] = ()) -> Iterator[str]:
    """A sentence for every file in `folder` that is missing or was changed after it was made, one for each.

    A table made of another that is wrong is not judged by it, nor by one that is `distrusted` for another reason.
    """
    runs = [*_changed_runs(experiment, folder)]
    yield from dict.fromkeys([*runs, *_changed_tables(experiment, folder, distrusted)])


def require_unchanged(experiment: Experiment, folder: Path) -> None:
    """Raise FootprintError with the first sentence of `changed`, if there is one."""
    for sentence in changed(experiment, folder):
        raise FootprintError(sentence)


def _changed_runs(experiment: Experiment, folder: Path) -> Iterator[str]:
    for name in map(run_name, experiment.runs):
        yield from _refused(
            folder / "runs" / f"{name}.json", MEASUREMENTS, timeline=folder / "timelines" / f"{name}.csv"
        )
    for run in experiment.study.runs if experiment.study else ():
        row = folder / "finetunings" / f"{run.name}.json"
        yield from _refused(row, TUNED, curve=row.with_suffix(".csv"))


def _refused(path: Path, columns: tuple[str, ...], **beside: Path) -> Iterator[str]:
    try:
        require_beside(path, columns, **beside)
    except FootprintError as error:
        yield str(error)


def _changed_tables(experiment: Experiment, folder: Path, distrusted: Collection[Path]) -> Iterator[str]:
    wrong = set(distrusted)
    for made in _tables(experiment, folder):
        if wrong.isdisjoint(made.sources) and (sentence := _changed_table(made)):
            wrong.add(made.path)
            yield sentence


def _changed_table(made: _Table) -> str | None:
    try:
        same = table_text(made.again()) == read_text(made.path, "table")
    except FootprintError as error:
        return str(error)
    return None if same else f"{made.path}: is not what its run files say; {MADE_ANEW}"


def _tables(experiment: Experiment, folder: Path) -> Iterator[_Table]:
    """Every table, those first that others are made from."""
    study, training = experiment.study, experiment.training
    measured, predicted = folder / "measurements.csv", folder / "predictions.csv"
    simulated = folder / "simulations.csv" if experiment.third_opinion else None
    yield _Table(measured, lambda: measurements(experiment, folder / "runs"))
    yield _Table(predicted, lambda: table(predict_many(predictable(experiment.runs), training), PREDICTIONS))
    yield _Table(
        folder / "comparison.csv",
        lambda: compare(read_table(measured), read_table(predicted), simulated and read_table(simulated)),
        sources=tuple(filter(None, (measured, predicted, simulated))),
    )
    if study is not None:
        text, tuned, stored = corpus_name(experiment.corpus), folder / "finetunings", folder / "stored"
        yield _Table(folder / "quality.csv", lambda: gather_quality(study, training, text, tuned))
        yield _Table(folder / "curves.csv", lambda: gather_curves(study, tuned))
        yield _Table(
            folder / "bases.csv",
            lambda: gather_bases(study, training, stored),
            sources=tuple(stored / f"{base}.csv" for base in study.bases(training)),
        )
