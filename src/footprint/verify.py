"""Whether a finished experiment repeats: some of its runs measured again in fresh processes, compared byte by byte."""

import random
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from footprint.columns import EXACT, MEASUREMENTS
from footprint.command import lend_interpreter
from footprint.config import Experiment
from footprint.errors import FootprintError
from footprint.experiment import corpus_name, read_experiment
from footprint.gathering import MUST_AGREE, measurements
from footprint.plan import run_json, run_name
from footprint.provenance import REPOSITORY
from footprint.records import read_row, table_text
from footprint.spec import AXES, RunSpec
from footprint.units import format_bytes

ANY_SEED = 10**6
"""Seeds are drawn below this: short enough to be copied from a terminal."""

Line = tuple[str, bool]
"""(what to print, whether it tells of something wrong)"""


def verify(results: Path, name: str, device: str, *, rows: int, seed: int) -> Iterator[Line]:
    """Measure `rows` runs of an experiment in `results` again, chosen by `seed`; yields what was found, line by line.

    Raises FootprintError when there is no such experiment.
    """
    folder = results / name / device
    experiment = read_experiment(folder / "experiment.json")
    yield from _files(experiment, folder)
    kept = [spec for spec in experiment.runs if (folder / "runs" / f"{run_name(spec)}.json").exists()]
    chosen = random.Random(seed).sample(kept, min(rows, len(kept)))
    yield f"measuring {len(chosen)} of {len(experiment.runs)} runs of {folder} again (--seed {seed})", not chosen
    varying = [axis for axis in AXES if len({spec.axes()[axis] for spec in experiment.runs}) > 1]
    for spec in chosen:
        run = ", ".join(f"{axis} {spec.axes()[axis]}" for axis in varying) or spec.model.name
        try:
            before = read_row(folder / "runs" / f"{run_name(spec)}.json", MEASUREMENTS)
            said, wrong = compared(before, again(spec, experiment, results / "corpus"))
        except FootprintError as error:
            said, wrong = str(error), True
        yield f"  {run}: {said}", wrong


def again(spec: RunSpec, experiment: Experiment, texts: Path) -> dict:
    """The row of one run measured now, by the command the workflow uses, in a process and a folder of its own."""
    with TemporaryDirectory(prefix="footprint-verify-") as scratch:
        output = Path(scratch) / "row.json"
        arguments = {
            "run": run_json(spec, experiment.training),
            "corpus": texts / corpus_name(experiment.corpus),
            "held-out": experiment.corpus.validation_fraction,
            "output": output,
            "timeline": output.with_suffix(".csv"),
        }
        lend_interpreter(REPOSITORY)
        options = [f"--{key}={value}" for key, value in arguments.items()]
        done = subprocess.run(
            [sys.executable, REPOSITORY / "scripts" / "measure.py", *options],
            stderr=subprocess.PIPE,
            text=True,
        )
        if done.returncode:
            said = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
            raise FootprintError(f"could not be measured again: {said[-1].removeprefix('error: ')}")
        return read_row(output, MEASUREMENTS)


def compared(before: Mapping, now: Mapping) -> Line:
    """How two rows of one run compare in every column that should repeat, and what may explain a difference."""
    changed = [f"{name} {before[name]} -> {now[name]}" for name in EXACT if before[name] != now[name]]
    outcome = format_bytes(now["peak_bytes"]) if now["status"] == "ok" else now["status"]
    if not changed:
        return f"{outcome}, all {len(EXACT)} columns the same", False
    elsewhere = [f"{name} {before[name]} -> {now[name]}" for name in MUST_AGREE if before[name] != now[name]]
    where = f" (and {', '.join(elsewhere)})" if elsewhere else ""
    return f"DIFFERS in {', '.join(changed)}{where}", True


def _files(experiment: Experiment, folder: Path) -> Iterator[Line]:
    """What is missing, refused or not what the table was gathered from."""
    missing = [spec for spec in experiment.runs if not (folder / "runs" / f"{run_name(spec)}.json").exists()]
    yield from ((f"{folder / 'runs' / run_name(spec)}.json: is missing", True) for spec in missing)
    if missing:
        return
    path = folder / "measurements.csv"
    try:
        gathered = table_text(measurements(experiment, folder / "runs"))
        if gathered != path.read_text(encoding="utf-8"):
            yield f"{path}: is not what its run files say; run the workflow again", True
    except FootprintError as error:
        yield str(error), True
    except OSError as error:
        yield f"{path}: cannot be read ({error.strerror})", True
