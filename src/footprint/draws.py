"""Random runs for benchmarks: every axis of a GPT-style model, sizes odd and prime included. Torch-free."""

from random import Random

from footprint.checkpointing import CHECKPOINTING
from footprint.precision import PRECISIONS
from footprint.spec import QUANTIZATIONS, REGIMES, TARGETS, ModelSpec, RunSpec

HEADS = (1, 2, 3, 4, 6, 8, 12, 16)
WIDTHS = (64, 768)
LAYERS = (2, 13)
VOCABULARIES = (96, 50_000)
CONTEXT = 512


def random_runs(seed: int, count: int) -> list[RunSpec]:
    """`count` runs on the CPU; the same seed draws the same runs."""
    random = Random(seed)
    return [_run(random) for _ in range(count)]


def _run(random: Random) -> RunSpec:
    return RunSpec(
        model=_model(random),
        regime=random.choice(REGIMES),
        rank=random.randint(1, 64),
        targets=random.choice(TARGETS),
        checkpointing=random.choice(CHECKPOINTING),
        precision=random.choice(list(PRECISIONS)),
        optimizer=random.choice(("adamw", "adamw-fused")),
        quantization=random.choice(QUANTIZATIONS),
        batch=random.randint(1, 8),
        seq=random.randint(32, CONTEXT),
    )


def _model(random: Random) -> ModelSpec:
    heads = random.choice(HEADS)
    narrowest, widest = (-(-WIDTHS[0] // heads), WIDTHS[1] // heads)
    return ModelSpec(
        name="random",
        layers=random.randint(*LAYERS),
        width=heads * random.randint(narrowest, widest),
        heads=heads,
        vocab=random.randint(*VOCABULARIES),
        context=CONTEXT,
    )
