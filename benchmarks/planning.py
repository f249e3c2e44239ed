"""How long Snakemake takes to plan a large sweep, and in how much memory: `snakemake -n` on generated grids.

python benchmarks/planning.py [--runs 2000 10000]

Exit status 1 when a target is missed.
"""

import argparse
import json
import math
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

from footprint.spec.units import format_bytes
from footprint.tables.rows import write_table

OUTPUT = Path("results/bench/planning.csv")
SECONDS = {2_000: 10, 10_000: 60}
"""Targets: wall seconds for a grid of so many runs; other sizes have none."""
BYTES = {2_000: 2**30}
"""Targets: bytes Snakemake may hold at its peak."""

MODEL = {"layers": 2, "width": 64, "heads": 2, "vocab": 256, "context": 2048}
GRID = {"model": "planned", "regime": "lora", "rank": [1, 2, 4, 8, 16], "batch": [1, 2]}


def config_of(runs: int) -> dict:
    """A config of `runs` runs (a multiple of 10) of which there are no results."""
    grid = GRID | {"seq": list(range(1, runs // 10 + 1))}
    return {"experiment": f"planning-{runs}", "models": {"planned": MODEL}, "grids": [grid]}


def plan(runs: int) -> dict[str, int | float]:
    """Plan once; wall seconds and peak resident bytes of Snakemake."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as config, tempfile.TemporaryFile("w+") as printed:
        json.dump(config_of(runs), config)
        config.flush()
        began = time.perf_counter()
        command = [sys.executable, "-m", "snakemake", "--dry-run", "--configfile", config.name]
        process = subprocess.Popen(command, stdout=printed, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        printed.seek(0)
        planned = re.search(r"^measure +(\d+)$", printed.read(), re.M)
    if status or planned is None or int(planned[1]) != runs:
        raise SystemExit(f"error: Snakemake did not plan {runs} runs")
    return {"runs": runs, "seconds": seconds, "peak_bytes": usage.ru_maxrss * 1024}


def main() -> int:
    """Plan each grid, print one ratio per grid and target; 1 when a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, nargs="+", default=list(SECONDS), help="sizes of grids, multiples of 10")
    rows = [plan(runs) for runs in parser.parse_args().runs]
    for row in rows:
        row["seconds_over_target"] = row["seconds"] / SECONDS.get(row["runs"], math.inf)
        row["bytes_over_target"] = row["peak_bytes"] / BYTES.get(row["runs"], math.inf)
        print(
            f"planning {row['runs']} runs: {row['seconds']:.1f} s ({row['seconds_over_target']:.2f} of the target), "
            f"{format_bytes(row['peak_bytes'])} ({row['bytes_over_target']:.2f})"
        )
    write_table(OUTPUT, pd.DataFrame(rows))
    return int(any(row["seconds_over_target"] > 1 or row["bytes_over_target"] > 1 for row in rows))


if __name__ == "__main__":
    sys.exit(main())
