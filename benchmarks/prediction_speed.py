"""How fast the predictor is: random runs of every kind, predicted on one core in one fresh process.

python benchmarks/prediction_speed.py [--seed 1] [--specs 10000] [--blocks gpt,llama]

Drawing the runs is not timed; all else is, and nothing was predicted before. What counts is processor time, of which a
busy machine gives less per second. Exit status 1 when the target is missed.
"""

import argparse
import os
import random
import sys
import time
from pathlib import Path

import pandas as pd

from footprint.predict.prediction import predict_many
from footprint.spec.checkpointing import CHECKPOINTING
from footprint.spec.model import BLOCKS, TARGETS, ModelSpec
from footprint.spec.precision import PRECISIONS
from footprint.spec.run import QUANTIZATIONS, REGIMES, RunSpec
from footprint.tables.rows import write_table

OUTPUT = Path("results/bench/prediction_speed.csv")
TARGET = 1.0
"""Seconds of one core for 10,000 runs."""

HEADS = (1, 2, 3, 4, 6, 8, 12, 16)
NARROWEST, WIDEST = 64, 768
CONTEXT = 512


def draw(generator: random.Random, block: str) -> RunSpec:
    """One random run, sizes odd and prime included."""
    model = draw_model(generator, block)
    return RunSpec(
        model=model,
        regime=generator.choice(REGIMES),
        rank=generator.randint(1, min(64, model.kv_width)),
        targets=generator.choice(TARGETS),
        checkpointing=generator.choice(CHECKPOINTING),
        precision=generator.choice(list(PRECISIONS)),
        optimizer=generator.choice(("adamw", "adamw-fused")),
        quantization=generator.choice(QUANTIZATIONS),
        batch=generator.randint(1, 8),
        seq=generator.randint(32, CONTEXT),
    )


def draw_model(generator: random.Random, block: str) -> ModelSpec:
    """A model of 2 to 13 layers; rotary embeddings need an even width per head."""
    heads, even = generator.choice(HEADS), 2 if block == "llama" else 1
    head_width = generator.randrange(-(-NARROWEST // heads // even) * even, WIDEST // heads + 1, even)
    return ModelSpec(
        name="random",
        block=block,
        layers=generator.randint(2, 13),
        width=heads * head_width,
        heads=heads,
        kv_heads=generator.choice([n for n in range(1, heads + 1) if heads % n == 0]) if block == "llama" else heads,
        vocab=generator.randint(96, 50_000),
        context=CONTEXT,
    )


def main() -> int:
    """Draw, predict, print one line; 1 when the target is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--specs", type=int, default=10_000, help="how many runs to draw")
    parser.add_argument("--blocks", default="gpt", help=f"block styles to draw from: {','.join(BLOCKS)}")
    arguments = parser.parse_args()
    generator, blocks = random.Random(arguments.seed), arguments.blocks.split(",")
    specs = [draw(generator, generator.choice(blocks)) for _ in range(arguments.specs)]
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    began, busy = time.perf_counter(), time.process_time()
    rows = predict_many(specs)
    wall_seconds, seconds = time.perf_counter() - began, time.process_time() - busy
    target, rate = TARGET * len(rows) / 10_000, len(rows) / seconds
    times = {"seconds": seconds, "wall_seconds": wall_seconds, "specs_per_second": rate}
    write_table(OUTPUT, pd.DataFrame([{"seed": arguments.seed, "specs": len(rows)} | times]))
    print(
        f"prediction speed: {rate:,.0f} specs per second; {len(rows):,} in {seconds:.2f} s of one core "
        f"(target <= {target:.2f} s; {wall_seconds:.2f} s on the clock) -> {OUTPUT}"
    )
    return int(seconds > target)


if __name__ == "__main__":
    sys.exit(main())
