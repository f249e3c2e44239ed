"""How long Snakemake takes to plan a large sweep, and how much memory: `snakemake -n` on grids of generated runs.

python benchmarks/planning.py [--runs 2000 10000]

Prints one ratio per grid, seconds over the seconds allowed; exit status 1 when a limit is missed.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

from footprint.records import write_table
from footprint.units import format_bytes

OUTPUT = Path("results/bench/planning.csv")
SECONDS = {2000: 10, 10_000: 60}
"""Targets: seconds allowed for that many runs; in between, in proportion to the smaller grid."""
MEMORY = 2**30
"""Target: bytes allowed for 2,000 runs."""

MODEL = {"layers": 2, "width": 64, "heads": 2, "vocab": 256, "context": 2048}
FIXED = {"model": "planned", "regime": "lora", "rank": [1, 2, 4, 8, 16], "batch": [1, 2]}


def overlay(runs: int) -> dict:
    """A config of `runs` runs (a multiple of 10) whose results do not exist."""
    grid = FIXED | {"seq": list(range(1, runs // 10 + 1))}
    return {"experiment": f"planning-{runs}", "models": {"planned": MODEL}, "grids": [grid]}


def plan(runs: int) -> dict[str, int | float]:
    """Plan once; wall seconds and peak resident bytes of Snakemake."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as config:
        json.dump(overlay(runs), config)
        config.flush()
        command = [sys.executable, "-m", "snakemake", "--dry-run", "--configfile", config.name]
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        planned = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
    if status or f"measure    {runs}" not in " ".join(planned.split(" ")).replace("  ", " ").replace("measure ", "measure    "):
        raise SystemExit(f"error: snakemake did not plan {runs} runs")
    return {"runs": runs, "seconds": seconds, "peak_bytes": usage.ru_maxrss * 1024}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, nargs="+", default=list(SECONDS), help="grid sizes, multiples of 10")
