"""What else would change a peak: decisions nobody measured here, predicted for the runs that stand for regimes."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd

from footprint.errors import FootprintError
from footprint.experiment.resolved import read_experiment
from footprint.predict.prediction import predict_many
from footprint.report.page.empty import NoRunsError
from footprint.report.page.table import Table
from footprint.report.page.words import percent
from footprint.report.reading.results import EXPERIMENT, named
from footprint.report.reading.selection import axis_text, headline, setting
from footprint.spec.handover import run_name
from footprint.spec.model import TARGETS
from footprint.spec.precision import PRECISIONS
from footprint.spec.run import QUANTIZATIONS, RunSpec
from footprint.spec.units import format_bytes


def table(directory: Path, runs: pd.DataFrame) -> Table:
    """From each regime, the single decisions that the experiment in `directory` left out, the most saving first."""
    path = directory / EXPERIMENT
    if not path.exists():
        raise NoRunsError("The configuration was not kept, so no other settings of these models can be predicted.")
    experiment = read_experiment(path)
    measured = {run_name(spec): spec for spec in experiment.runs}
    shown, raw = [], []
    for _, run in headline(runs).iterrows():
        start = measured.get(named(run))
        if start is None:  # the configuration is of other runs than the tables
            continue
        changes = [(change, spec) for change, spec in _changes(start) if run_name(spec) not in measured]
        first, *others = predict_many([start, *(spec for _, spec in changes)], experiment.training)
        found = [(change, row) for (change, _), row in zip(changes, others, strict=True)]
        for change, row in sorted(found, key=lambda pair: pair[1]["peak_bytes"]):
            difference = row["peak_bytes"] / first["peak_bytes"] - 1
            shown.append(
                {
                    "From": f"{setting(run)}, {format_bytes(first['peak_bytes'])}",
                    "Change to": change,
                    "Predicted peak": format_bytes(row["peak_bytes"]),
                    "Difference": percent(difference, signed=True),
                }
            )
            raw.append({"from": setting(run), "change": change, "difference": difference} | row)
    if not shown:
        raise NoRunsError("No decision about these settings is left that was not tried.")
    return Table(shown=pd.DataFrame(shown), raw=pd.DataFrame(raw), words=("Change to",), grouped=True)


def _changes(start: RunSpec) -> Iterator[tuple[str, RunSpec]]:
    """(what changes, the run after it) of every other value that one decision may take."""
    values = {
        "batch": [start.batch // 2],
        "seq": [start.seq // 2],
        "precision": [name for name in PRECISIONS if name != start.precision],
        "targets": [name for name in TARGETS if name != start.targets] if start.regime != "full" else [],
        "quantization": [name for name in QUANTIZATIONS if name != start.quantization] * (start.regime == "qlora"),
    }
    for axis, others in values.items():
        for value in others:
            try:
                yield axis_text(axis, value), replace(start, **{axis: value})
            except FootprintError:  # there is no half of one sequence, or the rank is too high for those Linears
                continue
