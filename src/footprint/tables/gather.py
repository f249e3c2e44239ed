"""From one file per run to rows that belong together: none measured otherwise, none that contradicts itself."""

from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from pathlib import Path

import pandas as pd

from footprint.errors import FootprintError
from footprint.experiment.config import Experiment
from footprint.experiment.resolved import corpus_name
from footprint.files import MADE_ANEW
from footprint.spec.columns import BUCKET_BYTES, MEASUREMENTS, PHASE_PEAKS, WEIGHT_PARTS
from footprint.spec.handover import asked, run_json, run_name
from footprint.spec.run import AXES
from footprint.tables.rows import read_run, table

MUST_AGREE = {
    "device_name": "devices",
    "host_driver": "kernels or drivers",
    "git_commit": "commits",
    "torch_version": "PyTorch versions",
    "bitsandbytes_version": "bitsandbytes versions",
    "peft_version": "PEFT versions",
    "transformers_version": "Transformers versions",
    "threads": "numbers of threads",
}
"""Columns in which rows that are compared should not differ, and what several values of them are called."""


def measurements(experiment: Experiment, folder: Path) -> pd.DataFrame:
    """The table `measurements.csv` of an experiment from its run files in `folder`."""
    text = corpus_name(experiment.corpus)
    runs = {run_name(spec): asked(run_json(spec, experiment.training), text) for spec in experiment.runs}
    return table(gather(folder, runs, MEASUREMENTS), MEASUREMENTS)


def gather(folder: Path, runs: Mapping[str, Mapping], columns: tuple[str, ...]) -> list[dict]:
    """The row of every run, in order: `runs` says by file name (without suffix) what each job is to be told.

    Raises FootprintError for the first file that is missing, changed, measured under other settings or on another
    device, or whose numbers contradict one another.
    """
    return [_row(folder / f"{name}.json", told, columns) for name, told in runs.items()]


def differing(rows: pd.DataFrame) -> dict[str, list[str]]:
    """What rows must agree in and do not: the values by what they are called (`commits`)."""
    values = {name: rows[name].astype(object).fillna("unknown").astype(str).unique() for name in MUST_AGREE}
    return {MUST_AGREE[name]: sorted(found) for name, found in values.items() if len(found) > 1}


def uncommitted(rows: pd.DataFrame) -> list[str]:
    """Commits that do not tell what ran: `unknown`, and those whose files had been changed (`-dirty`)."""
    commits = rows["git_commit"].astype(object).fillna("unknown").astype(str).unique()
    return sorted(name for name in commits if name == "unknown" or name.endswith("-dirty"))


def remarks(rows: pd.DataFrame) -> list[str]:
    """What whoever quotes these rows must know: a sentence for rows of several places, one for changed sources."""
    parts = [f"{len(values)} {words} ({', '.join(values)})" for words, values in differing(rows).items()]
    found = [f"the rows do not come from one place: {'; '.join(parts)}"] if parts else []
    if changed := uncommitted(rows):
        found.append(f"no commit holds the source that measured some of the rows ({', '.join(changed)})")
    return found


def _row(path: Path, told: Mapping, columns: tuple[str, ...]) -> dict:
    row, claimed = read_run(path, columns)
    if not claimed:
        raise FootprintError(f"{path}: does not say which settings it was measured with; {MADE_ANEW}")
    for key, here, there in _differences(told, claimed):
        raise FootprintError(f"{path}: was measured with {key} {there}, but this experiment has {here}; {MADE_ANEW}")
    axes = told["axes"] | {"model": told["model"]["name"]}
    for axis in AXES:
        if row[axis] != axes[axis]:
            raise FootprintError(f"{path}: holds the row of {axis} {row[axis]!r}, not of {axes[axis]!r}; {MADE_ANEW}")
    source = "rehearsed" if told["card"] else "measured"
    if "source" in row and (row["source"], row["card"]) != (source, told["card"]):
        card = f" on card {told['card']}" if told["card"] else ""
        raise FootprintError(
            f"{path}: was {row['source']}, but runs of this experiment are {source}{card}; {MADE_ANEW}"
        )
    for contradiction in _contradictions(row):
        raise FootprintError(f"{path}: {contradiction}; {MADE_ANEW}")
    return row


def _differences(told: object, claimed: object, key: str = "") -> Iterator[tuple[str, str, str]]:
    """(dotted key, what it should be, what it is) of everything in which two nested settings differ."""
    if isinstance(told, Mapping) and isinstance(claimed, Mapping):
        for name in dict.fromkeys((*told, *claimed)):
            yield from _differences(told.get(name, "nothing"), claimed.get(name, "nothing"), f"{key}.{name}")
    elif told != claimed:
        yield key.removeprefix("."), str(told), str(claimed)


def _contradictions(row: Mapping) -> Iterator[str]:
    """What cannot be true of a measured row. Columns that a table lacks are not looked at."""
    peak = row["peak_bytes"]
    if row["status"] != "ok":
        if peak is not None:
            yield f"has a peak of {peak} bytes although its status is {row['status']}"
        return
    if any(isinstance(value, float) and not isfinite(value) for value in row.values()):
        yield "has a number that is none (nan or inf) although its status is ok"
    total = _sum(row, BUCKET_BYTES)
    if total != peak:
        yield f"its buckets sum to {total} bytes, its peak is {peak}"
    phases = [row[name] for name in PHASE_PEAKS if name in row]
    if phases and max(phases) != peak:
        yield f"its highest phase takes {max(phases)} bytes, its peak is {peak}"
    parts = _sum(row, [name for name in WEIGHT_PARTS if name in row])
    if parts > row["weights_bytes"]:
        yield f"parts of its weights take {parts} bytes, all of them {row['weights_bytes']}"


def _sum(row: Mapping, names: Sequence[str]) -> int:
    return sum(row[name] for name in names)
