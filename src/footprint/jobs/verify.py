"""Whether a finished experiment repeats: some of its runs measured again in fresh processes, compared byte by byte."""

import random
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from footprint.errors import FootprintError
from footprint.experiment.config import RESERVED_EXPERIMENTS, Experiment
from footprint.experiment.resolved import corpus_name, read_experiment, texts
from footprint.jobs.start import lend_interpreter
from footprint.measure.provenance import REPOSITORY
from footprint.spec.columns import EXACT, MEASUREMENTS, TUNED, TUNED_EXACT
from footprint.spec.handover import run_json, run_name
from footprint.spec.run import AXES, RunSpec
from footprint.spec.units import format_bytes
from footprint.tables import checksums as report_checksums
from footprint.tables import consistency as regathered
from footprint.tables.gather import MUST_AGREE
from footprint.tables.rows import read_row
from footprint.text.corpus import require_as_prepared

ANY_SEED = 10**6
"""Seeds are drawn below this: short enough to be copied from a terminal."""

Line = tuple[str, bool]
"""(what to print, whether it tells of something wrong)"""


@dataclass(frozen=True, kw_only=True)
class Kept:
    """A finished run or fine-tuning: its file, and the command of the workflow that wrote it."""

    label: str
    file: Path
    columns: tuple[str, ...]
    exact: tuple[str, ...]
    """Columns that another run gives again to the byte."""
    script: str
    options: Mapping[str, object]
    """What the script is told besides where to write."""
    beside: str
    """Option that names the file it writes beside its row."""

    @property
    def row(self) -> dict:
        """What was measured; FootprintError when the file was changed."""
        return read_row(self.file, self.columns)


def verify(results: Path, name: str, device: str, *, rows: int, seed: int) -> Iterator[Line]:
    """Carry out `rows` runs of an experiment in `results` again, chosen by `seed`; yields what was found, line by line.

    Raises FootprintError when there is no such experiment.
    """
    folder = results / name / device
    experiment = read_experiment(_described(results, name, device))
    runs = [*_measured(experiment, results, folder), *_tuned(experiment, results, folder)]
    wrong = _wrong_files(experiment, results, folder)
    yield from ((sentence, True) for sentence in wrong)
    there = [run for run in runs if not _named(run.file, wrong)]
    chosen = random.Random(seed).sample(there, min(rows, len(there)))
    yield f"measuring {len(chosen)} of {len(runs)} runs of {folder} again (--seed {seed})", not chosen
    for run in chosen:
        try:
            said, wrong = compared(run.row, again(run), run.exact)
        except FootprintError as error:
            said, wrong = str(error), True
        yield f"  {run.label}: {said}", wrong


def _described(results: Path, name: str, device: str) -> Path:
    """The file that describes an experiment; FootprintError, which tells what there is, when there is no such one."""
    found = {path.parts[-3:-1]: path for path in sorted(results.glob("*/*/experiment.json"))}
    known = {key: path for key, path in found.items() if key[0] not in RESERVED_EXPERIMENTS}
    if (name, device) not in known:
        others = ", ".join(f"{other} on {there}" for other, there in known)
        hint = f"use {others}" if others else "run the workflow first, for nothing is measured yet"
        raise FootprintError(f"experiment: {name[:60]!r} on {device} was not found in {results}; {hint}")
    return known[name, device]


def _measured(experiment: Experiment, results: Path, folder: Path) -> Iterator[Kept]:
    told = _told(experiment, results)
    for spec, label in _labelled(experiment.runs):
        yield Kept(
            label=label,
            file=folder / "runs" / f"{run_name(spec)}.json",
            columns=MEASUREMENTS,
            exact=EXACT,
            script="measure.py",
            options=told | {"run": run_json(spec, experiment.training)},
            beside="timeline",
        )


def _tuned(experiment: Experiment, results: Path, folder: Path) -> Iterator[Kept]:
    study, training = experiment.study, experiment.training
    if study is None:
        return
    labels = dict(_labelled([run.spec for run in study.runs]))
    for run in study.runs:
        base = results / "base" / f"{study.base_of(run, training)}.safetensors"
        pace = {key.replace("_", "-"): value for key, value in asdict(study.finetuning.pace(run.spec.regime)).items()}
        yield Kept(
            label=f"fine-tuning of {labels[run.spec]}, seed {run.seed}",
            file=folder / "finetunings" / f"{run.name}.json",
            columns=TUNED,
            exact=TUNED_EXACT,
            script="finetune.py",
            options=_told(experiment, results) | pace | {"run": run.json(training), "base": base},
            beside="curve",
        )


def _told(experiment: Experiment, results: Path) -> dict[str, object]:
    return {
        "corpus": results / "corpus" / corpus_name(experiment.corpus),
        "held-out": experiment.corpus.validation_fraction,
    }


def _labelled(specs: Iterable[RunSpec]) -> Iterator[tuple[RunSpec, str]]:
    """Runs with the axes in which they differ in words."""
    rows = [(spec, spec.axes()) for spec in specs]
    varying = [axis for axis in AXES if len({axes[axis] for _, axes in rows}) > 1]
    for spec, axes in rows:
        yield spec, ", ".join(f"{axis} {axes[axis]}" for axis in varying) or spec.model.name


def again(run: Kept) -> dict:
    """The row of one run measured now, by the command the workflow uses, in a process and a folder of its own."""
    with TemporaryDirectory(prefix="footprint-verify-") as scratch:
        output = Path(scratch) / "row.json"
        told = run.options | {"output": output, run.beside: output.with_suffix(".csv")}
        lend_interpreter(REPOSITORY)
        done = subprocess.run(
            [sys.executable, REPOSITORY / "scripts" / run.script, *(f"--{key}={value}" for key, value in told.items())],
            stderr=subprocess.PIPE,
            text=True,
        )
        if done.returncode:
            said = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
            raise FootprintError(f"could not be measured again: {said[-1].removeprefix('error: ')}")
        return read_row(output, run.columns)


def compared(before: Mapping, now: Mapping, exact: tuple[str, ...]) -> Line:
    """How two rows of one run compare in every column that should repeat, and what may explain a difference."""
    changed = [f"{name} {before[name]} -> {now[name]}" for name in exact if before[name] != now[name]]
    outcome = format_bytes(now["peak_bytes"]) if now["status"] == "ok" else now["status"]
    if not changed:
        return f"{outcome}, all {len(exact)} columns the same", False
    elsewhere = [f"{name} {before[name]} -> {now[name]}" for name in MUST_AGREE if before[name] != now[name]]
    where = f" (and {', '.join(elsewhere)})" if elsewhere else ""
    return f"DIFFERS in {', '.join(changed)}{where}", True


def _wrong_files(experiment: Experiment, results: Path, folder: Path) -> list[str]:
    """A sentence for every file that is missing or was changed, in the order in which they are made."""
    wrong = [sentence for name in texts(experiment) for sentence in _changed_text(results / "corpus" / name)]
    disagreeing = report_checksums.disagreeing(experiment, folder)
    wrong += regathered.changed(experiment, folder, distrusted=disagreeing)
    # A table that is not what its run files say is not what the report was made from either: once is enough.
    return wrong + [sentence for file, sentence in disagreeing.items() if not _named(file, wrong)]


def _changed_text(path: Path) -> Iterator[str]:
    """One that is missing is missed only by a run that is carried out again."""
    if not path.exists():
        return
    try:
        require_as_prepared(path)
    except FootprintError as error:
        yield str(error)


def _named(path: Path, sentences: Iterable[str]) -> bool:
    """Whether one of the sentences is about this file."""
    return any(sentence.startswith(f"{path}: ") for sentence in sentences)
