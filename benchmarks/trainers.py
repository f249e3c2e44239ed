"""What transformers' Trainer peaks at, set up in the ways people do, beside our prediction: for docs/trainers.md.

python benchmarks/trainers.py [--recipes NAME ...] [--output results/reference/trainers/trainers.csv]

Every recipe trains the same Llama on random tokens by the real Trainer, PEFT and bitsandbytes on the CPU, each in a
fresh process under the project's recorder. The shape is Llama 2 7B with an eighth of its width, its vocabulary and the
tokens, and all of its layers: weights, activations and logits keep their proportions, so a ratio is about that of the
real model at batch 4 x 1,536 with rank 16. Which tensors make the difference goes to trainers_tensors.csv. Bytes have
no noise: one step is warm-up, the second is measured.
"""

import sys
import tempfile
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from peers.sides import record_ours, record_theirs
from peers.tensors import differences
from peers.trainer import Recipe, llama_config, trainer_program
from shared.command_line import finish, options
from transformers import LlamaForCausalLM

from footprint.jobs.fresh import Function, Row, each_fresh
from footprint.measure.provenance import cpu_name, package_version
from footprint.predict.prediction import predict
from footprint.spec.columns import SHARED
from footprint.spec.model import ModelSpec
from footprint.spec.run import RunSpec
from footprint.spec.training import TrainingSpec
from footprint.spec.units import format_bytes

OUTPUT = Path("results/bench/trainers.csv")
PACKAGES = ("torch", "transformers", "peft", "accelerate", "bitsandbytes")

EIGHTH = ModelSpec(
    name="llama-7b-eighth", layers=32, width=512, heads=8, mlp_width=1376, vocab=4000, context=512, block="llama"
)
AXES = {"rank": 2, "batch": 4, "seq": 192}
TRAINING = TrainingSpec(measured_steps=1)

BF16, FP32 = torch.bfloat16, torch.float32
RECIPES = (
    Recipe(name="full-fp32-autocast", regime="full", weights=FP32, autocast=True, nearest="amp"),
    Recipe(name="full-bf16-autocast", regime="full", weights=BF16, autocast=True),
    Recipe(name="full-bf16", regime="full", weights=BF16, autocast=False),
    Recipe(name="lora-fp32-autocast", regime="lora", weights=FP32, autocast=True, nearest="amp"),
    Recipe(name="lora-bf16-autocast", regime="lora", weights=BF16, autocast=True, nearest="amp"),
    Recipe(name="lora-bf16", regime="lora", weights=BF16, autocast=False, nearest="mixed"),
    Recipe(name="lora-bf16-half-adapters", regime="lora", weights=BF16, autocast=False, half_adapters=True),
    Recipe(name="qlora-bf16-autocast", regime="qlora", weights=BF16, autocast=True, nearest="amp"),
    Recipe(
        name="qlora-prepared-autocast",
        regime="qlora",
        weights=BF16,
        autocast=True,
        prepared=True,
        checkpointing=True,
        nearest="amp",
    ),
    Recipe(
        name="qlora-half-adapters-autocast",
        regime="qlora",
        weights=BF16,
        autocast=True,
        half_adapters=True,
        checkpointing=True,
    ),
    Recipe(name="qlora-bf16", regime="qlora", weights=BF16, autocast=False, nearest="mixed"),
)


def compare(recipe: Recipe, folder: str, spec: RunSpec) -> tuple[Row, list[Row]]:
    """The row of one recipe on the checkpoint in `folder` beside `spec`, and the tensors that differ at the peaks."""
    theirs = _fresh(partial(record_theirs, partial(trainer_program, recipe, folder)), spec)
    ours = _fresh(record_ours, spec)
    predicted = predict(spec, TRAINING)["peak_bytes"]
    row = {"recipe": recipe.name, "regime": spec.regime, "precision": spec.precision}
    row |= {"checkpointing": spec.checkpointing, "theirs_to_predicted": theirs["peak_bytes"] / predicted}
    row |= {"predicted_peak_bytes": predicted}
    for part in SHARED:
        row |= {f"theirs_{part}": theirs[part], f"ours_{part}": ours[part]}
    row |= {"cpu": cpu_name()} | {f"{name}_version": package_version(name) for name in PACKAGES}
    tensors = [{"recipe": recipe.name} | tensor for tensor in differences(spec, ours["groups"], theirs["groups"])]
    return row, tensors


def _fresh(function: Function, spec: RunSpec) -> Row:
    return next(each_fresh(function, [spec], TRAINING))


def save_checkpoint(folder: str, model: ModelSpec = EIGHTH) -> None:
    """A Llama of that shape with random weights, in fp32."""
    torch.manual_seed(TRAINING.seed)
    LlamaForCausalLM(llama_config(model)).save_pretrained(folder)


def report(row: Row, tensors: list[Row], shown: int = 6) -> None:
    """One line for the ratio, then the tensors that make most of the difference."""
    print(
        f"{row['recipe']}: {row['theirs_to_predicted']:.3f} of our prediction in {row['precision']}, "
        f"{format_bytes(row['theirs_peak_bytes'])} in {row['theirs_peak_phase']} / "
        f"{format_bytes(row['predicted_peak_bytes'])} in {row['ours_peak_phase']}",
        flush=True,
    )
    for tensor in tensors[:shown]:
        more = -tensor["ours_minus_theirs_bytes"]
        print(
            f"    {'+' if more > 0 else '-'}{format_bytes(abs(more))} {tensor['kind']}, {tensor['tensor']}: "
            f"{format_bytes(tensor['theirs_bytes'])} / {format_bytes(tensor['ours_bytes'])}"
        )


def main() -> int:
    """Measure the recipes, print ratios and reasons, write both tables."""
    parser = options(__doc__, OUTPUT)
    parser.add_argument("--recipes", nargs="+", choices=[recipe.name for recipe in RECIPES])
    arguments = parser.parse_args()
    rows, tensors = [], []
    with tempfile.TemporaryDirectory() as folder:
        save_checkpoint(folder)
        for recipe in RECIPES:
            if arguments.recipes and recipe.name not in arguments.recipes:
                continue
            row, differing = compare(recipe, folder, recipe.ours(EIGHTH, **AXES))
            report(row, differing)
            rows, tensors = [*rows, row], [*tensors, *differing]
    return finish(arguments.output, f"{len(rows)} recipes", pd.DataFrame(rows), tensors=pd.DataFrame(tensors))


if __name__ == "__main__":
    sys.exit(main())
