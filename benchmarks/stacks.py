"""The same run by MiniGPT and in Transformers, rehearsed, and again with one switch of the recipe turned at a time.

python benchmarks/stacks.py [--output results/reference/stacks/stacks.csv]
"""

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd
from questions import asked
from shared.command_line import finish, options
from shared.rehearsed import config_files

from footprint.jobs.rehearsals import Rehearsals
from footprint.jobs.trainers import TRAINING
from footprint.spec.cards import find
from footprint.spec.columns import BUCKET_BYTES, PHASE_PEAKS
from footprint.spec.handover import run_json
from footprint.spec.model import ModelSpec
from footprint.spec.published import read_shape
from footprint.spec.recipe import Recipe
from footprint.spec.run import REGIMES, RunSpec
from footprint.spec.units import format_bytes

OUTPUT = Path("results/bench/stacks.csv")
CARD = "a100-80gb"
MODEL = "llama-3.2-3b"
"""Grattafiori et al. 2024 (arXiv:2407.21783); its config.json stands in config/questions.yaml."""

AXES = {"rank": 16, "batch": 1, "seq": 2000, "precision": "amp", "optimizer": "adamw-fused"}

# 2,000 tokens are no size of the model: two shapes so seldom have the same bytes.

Switch = tuple[dict[str, object], dict[str, object]]
"""(axes, fields of the recipe) that are set otherwise."""

SWITCHES: dict[str, Switch] = {
    "precision bf16": ({"precision": "bf16"}, {}),
    "no autocast": ({}, {"autocast": False}),
    "no LoRA dropout": ({}, {"dropout": 0.0}),
    "not prepared": ({}, {"prepared": False}),
    "not prepared, no LoRA dropout": ({}, {"prepared": False, "dropout": 0.0}),
    "no clipping": ({}, {"clipping": 0.0}),
    "checkpointing block": ({"checkpointing": "block"}, {}),
}
"""What people can set otherwise, by what it is called."""

ONLY = {"no LoRA dropout": ("lora", "qlora"), "not prepared": ("qlora",), "not prepared, no LoRA dropout": ("qlora",)}
"""Regimes in which a switch does anything, where that is not all."""


def shape() -> ModelSpec:
    """The shape of MODEL."""
    with config_files(asked()["models"]) as configs:
        return read_shape(configs[MODEL])


def runs(model: ModelSpec) -> Iterator[tuple[str, RunSpec]]:
    """Every run under its name: `minigpt`, `transformers`, and that with each switch."""
    for regime in REGIMES:
        ours = RunSpec(model=model, regime=regime, device="cuda", card=CARD, **AXES)
        theirs = replace(ours, stack="transformers")
        yield "minigpt", ours
        yield "transformers", theirs
        for name, (axes, recipe) in SWITCHES.items():
            if regime in ONLY.get(name, REGIMES):
                yield name, replace(theirs, **axes, recipe=Recipe(**recipe))


def main() -> int:
    """Rehearse every run, write what it takes and, beside it, what was live at its peak."""
    arguments = options(__doc__, OUTPUT).parse_args()
    rows, tensors = [], []
    with Rehearsals(find(CARD), "_run", "transformers") as server:
        for name, spec in runs(shape()):
            answer = server.ask(run_json(spec, TRAINING))
            row = answer["row"]
            found = {column: row[column] for column in ("peak_bytes", "peak_phase", *PHASE_PEAKS, *BUCKET_BYTES)}
            where = {"run": name, "status": row["status"], "card": row["card"]}
            rows.append(spec.axes() | where | found)
            tensors += [
                {"regime": spec.regime, "run": name, "kind": kind, "tensor": tensor, "bytes": size}
                for kind, tensor, size in answer["live"]
            ]
            said = format_bytes(row["peak_bytes"]) if row["status"] == "ok" else row["status"]
            print(f"{spec.regime}, {name}: {said}", flush=True)
    return finish(arguments.output, f"{len(rows)} runs", pd.DataFrame(rows), tensors=pd.DataFrame(tensors))


if __name__ == "__main__":
    sys.exit(main())
