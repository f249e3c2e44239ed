"""What the pipeline costs over the training itself: its measuring stage against a plain loop over the same runs.

python benchmarks/overhead.py [--configfile config/config.yaml]

The loop is one process that imports everything once and measures run after run; the pipeline makes every run a job of
Snakemake and a process of its own; both do one run at a time. The pipeline's bytes are compared with those of processes
that were started directly, for one run of each regime (in the loop, libraries keep tensors from one run to the next).
Exit status 1 when the target is missed or bytes differ.
"""

import argparse
import gc
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from footprint.experiment import config
from footprint.experiment.resolved import corpus_name
from footprint.spec.columns import MEASUREMENTS
from footprint.spec.handover import run_json, run_name
from footprint.spec.run import RunSpec
from footprint.tables.rows import read_row, write_table

OUTPUT = Path("results/bench/overhead.csv")
TARGET = 1.25
"""Wall seconds of the pipeline's measuring stage over those of the loop."""

PIPELINE = Path("results/overhead-benchmark/cpu/runs")
DIRECT = Path("results/bench/overhead-direct")
BYTES = [name for name in MEASUREMENTS if name.endswith("_bytes") and name != "process_peak_bytes"]
"""Columns that must not depend on how a run was started."""


def seconds_of(command: list[str]) -> float:
    """Wall seconds of a command that must succeed."""
    began = time.perf_counter()
    subprocess.run(command, check=True, env=os.environ | {"KINETO_LOG_LEVEL": "6"})
    return time.perf_counter() - began


def loop(experiment: config.Experiment, runs: Iterable[RunSpec]) -> None:
    """Measure runs in this process, one after the other."""
    from footprint.jobs.tasks import measure_run

    corpus = Path("results/corpus") / corpus_name(experiment.corpus)
    for spec in runs:
        output = DIRECT / f"{run_name(spec)}.json"
        measure_run(run_json(spec, experiment.training), str(corpus), str(output), str(output.with_suffix(".csv")))
        gc.collect()


def bytes_of(folder: Path, spec: RunSpec) -> dict[str, int]:
    """The columns of a measured run that must be the same however it was started."""
    row = read_row(folder / f"{run_name(spec)}.json", MEASUREMENTS)
    return {name: row[name] for name in BYTES}


def compare(experiment: config.Experiment, files: list[str]) -> dict[str, int | float]:
    """Time both ways of measuring all runs, then count the runs whose bytes differ from a direct process's."""
    cores = ["--cores", str(experiment.training.threads), "--quiet", "all"]
    settings = ["--configfile", *files, "--config", "device=cpu", f"experiment={PIPELINE.parts[1]}"]
    snakemake = [sys.executable, "-m", "snakemake", *cores]
    for folder in (PIPELINE.parents[1], DIRECT):
        shutil.rmtree(folder, ignore_errors=True)
    seconds_of([*snakemake, "--until", "corpus", *settings])
    pipeline = seconds_of([*snakemake, "--until", "measure", *settings])
    myself = [sys.executable, __file__, "--configfile", *files, "--loop"]
    plain = seconds_of(myself)
    chosen = {spec.regime: number for number, spec in enumerate(experiment.runs)}.values()
    for number in chosen:
        seconds_of([*myself, str(number)])
    differing = sum(bytes_of(PIPELINE, experiment.runs[n]) != bytes_of(DIRECT, experiment.runs[n]) for n in chosen)
    runs = len(experiment.runs)
    return {"runs": runs, "pipeline_seconds": pipeline, "loop_seconds": plain, "differing_runs": differing}


def main() -> int:
    """Compare, print one ratio; 1 when the target is missed or bytes differ."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--configfile", nargs="+", default=["config/config.yaml"], help="the experiment, for the CPU")
    parser.add_argument("--loop", type=int, nargs="*", help="only measure these runs (none: all) in this process")
    arguments = parser.parse_args()
    experiment = config.parse(config.load(*map(Path, arguments.configfile)) | {"device": "cpu"})
    if arguments.loop is not None:
        loop(experiment, [experiment.runs[number] for number in arguments.loop] or experiment.runs)
        return 0
    row = compare(experiment, arguments.configfile)
    ratio = row["pipeline_seconds"] / row["loop_seconds"]
    write_table(OUTPUT, pd.DataFrame([row | {"ratio": ratio, "target": TARGET}]))
    print(
        f"measuring {row['runs']} runs: {row['pipeline_seconds']:.0f} s by the pipeline, "
        f"{row['loop_seconds']:.0f} s by a loop: {ratio:.3f} (target {TARGET}); "
        f"runs whose bytes differ: {row['differing_runs']}"
    )
    return int(ratio > TARGET or row["differing_runs"] > 0)


if __name__ == "__main__":
    sys.exit(main())
